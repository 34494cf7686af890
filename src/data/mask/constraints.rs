//! What CHECK constraints say of values. PostgreSQL prints them; the part of its language that such constraints mostly are
//! written in is understood here, and what a mask gives is tried on it. What is not understood is said, not guessed.

use regex::{Regex, RegexBuilder};

/// A value while an expression is looked at.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Text(String),
    Number(f64),
    Truth(bool),
    List(Vec<Value>),
}

/// An expression is not one that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood;

type Said<T> = Result<T, NotUnderstood>;

/// A word of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A word, in small letters.
    Name(String),
    /// A name in quotation marks.
    Quoted(String),
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// Anything else.
    Sign(String),
}

/// Whether a constraint takes a value of its one column. `None` for NULL. What SQL does not decide counts as taken.
///
/// # Errors
/// Where the constraint is not understood.
pub fn takes(definition: &str, column: &str, value: Option<&str>) -> Said<bool> {
    let body = definition.strip_prefix("CHECK").ok_or(NotUnderstood)?.trim();
    let body = body.strip_suffix("NOT VALID").unwrap_or(body).trim();
    let body = body.strip_suffix("NO INHERIT").unwrap_or(body).trim();
    let value = value.map_or(Value::Null, |text| Value::Text(text.to_owned()));
    let mut parser = Parser { tokens: tokens(body)?, at: 0, column, value };
    let result = parser.or()?;
    if parser.at != parser.tokens.len() {
        return Err(NotUnderstood);
    }
    match result {
        Value::Truth(truth) => Ok(truth),
        Value::Null => Ok(true),
        _ => Err(NotUnderstood),
    }
}

/// The words of an expression.
///
/// # Errors
/// Where it is written in a way that is not understood.
pub fn tokens(text: &str) -> Said<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = &rest[c.len_utf8()..];
        } else if c == '\'' || c == '"' {
            let mut value = String::new();
            rest = &rest[1..];
            loop {
                let end = rest.find(c).ok_or(NotUnderstood)?;
                value.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                if !rest.starts_with(c) {
                    break;
                }
                value.push(c);
                rest = &rest[1..];
            }
            out.push(if c == '"' { Token::Quoted(value) } else { Token::Text(value) });
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            if rest[end..].starts_with('\'') {
                return Err(NotUnderstood);
            }
            out.push(Token::Name(rest[..end].to_lowercase()));
            rest = &rest[end..];
        } else if c.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            out.push(Token::Number(rest[..end].parse().map_err(|_| NotUnderstood)?));
            rest = &rest[end..];
        } else {
            const SIGNS: [&str; 22] = [
                "!~~*", "!~~", "~~*", "!~*", "::", "<=", ">=", "<>", "~~", "~*", "!~", "||", "(", ")", "[", "]", ",", "=", "<",
                ">", "~", ".",
            ];
            let sign = SIGNS.into_iter().chain(["-"]).find(|s| rest.starts_with(s)).ok_or(NotUnderstood)?;
            out.push(Token::Sign(sign.to_owned()));
            rest = &rest[sign.len()..];
        }
    }
    Ok(out)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    column: &'a str,
    value: Value,
}

impl Parser<'_> {
    fn name(&mut self, name: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some(Token::Name(n)) if n == name);
        self.at += usize::from(is);
        is
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if s == sign);
        self.at += usize::from(is);
        is
    }

    fn must(&mut self, sign: &str) -> Said<()> {
        if self.sign(sign) { Ok(()) } else { Err(NotUnderstood) }
    }

    fn or(&mut self) -> Said<Value> {
        let mut value = self.and()?;
        while self.name("or") {
            let other = self.and()?;
            value = match (truth(value)?, truth(other)?) {
                (Some(true), _) | (_, Some(true)) => Value::Truth(true),
                (Some(false), Some(false)) => Value::Truth(false),
                _ => Value::Null,
            };
        }
        Ok(value)
    }

    fn and(&mut self) -> Said<Value> {
        let mut value = self.not()?;
        while self.name("and") {
            let other = self.not()?;
            value = match (truth(value)?, truth(other)?) {
                (Some(false), _) | (_, Some(false)) => Value::Truth(false),
                (Some(true), Some(true)) => Value::Truth(true),
                _ => Value::Null,
            };
        }
        Ok(value)
    }

    fn not(&mut self) -> Said<Value> {
        if self.name("not") {
            return Ok(truth(self.not()?)?.map_or(Value::Null, |t| Value::Truth(!t)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Said<Value> {
        let left = self.term()?;
        if self.name("is") {
            let not = self.name("not");
            return if self.name("null") { Ok(Value::Truth((left == Value::Null) != not)) } else { Err(NotUnderstood) };
        }
        let named = self.name("operator");
        if named {
            // `OPERATOR(public.~)`: of an extension that is not in the search path.
            self.must("(")?;
            self.at += 1;
            self.must(".")?;
        }
        let Some(Token::Sign(sign)) = self.tokens.get(self.at).cloned() else { return Ok(left) };
        if matches!(sign.as_str(), ")" | "]" | ",") {
            return Ok(left);
        }
        self.at += 1;
        if named {
            self.must(")")?;
        } else if self.name("any") || self.name("some") {
            self.must("(")?;
            let list = self.or()?;
            self.must(")")?;
            let Value::List(list) = list else { return Err(NotUnderstood) };
            let mut any = if list.contains(&Value::Null) { Value::Null } else { Value::Truth(false) };
            for one in list {
                if compare(&sign, &left, &one)? == Value::Truth(true) {
                    any = Value::Truth(true);
                }
            }
            return Ok(any);
        }
        let right = self.term()?;
        // citext's operators do not see case. Of other extensions' operators nothing is known.
        match self.tokens.get(self.at - 1) {
            Some(Token::Name(kind)) if kind == "citext" => compare(&folded(&sign), &lower(left), &lower(right)),
            _ if named => Err(NotUnderstood),
            _ => compare(&sign, &left, &right),
        }
    }

    fn term(&mut self) -> Said<Value> {
        let token = self.tokens.get(self.at).cloned().ok_or(NotUnderstood)?;
        self.at += 1;
        let mut value = match token {
            Token::Text(text) => Value::Text(text),
            Token::Number(number) => Value::Number(number),
            Token::Sign(sign) if sign == "-" => match self.term()? {
                Value::Number(number) => Value::Number(-number),
                _ => return Err(NotUnderstood),
            },
            Token::Sign(sign) if sign == "(" => {
                let value = self.or()?;
                self.must(")")?;
                value
            }
            Token::Name(name) if name == "array" && self.sign("[") => {
                let mut list = Vec::new();
                while !self.sign("]") {
                    list.push(self.or()?);
                    self.sign(",");
                }
                Value::List(list)
            }
            Token::Name(name) if name == "true" || name == "false" => Value::Truth(name == "true"),
            Token::Name(name) if name == "null" => Value::Null,
            Token::Name(name) if self.sign("(") => self.function(&name)?,
            Token::Name(name) if name == self.column || name == "value" => self.value.clone(),
            Token::Quoted(name) if name == self.column => self.value.clone(),
            _ => return Err(NotUnderstood),
        };
        while self.sign("::") {
            value = self.cast(value)?;
        }
        Ok(value)
    }

    fn cast(&mut self, value: Value) -> Said<Value> {
        let Some(Token::Name(kind)) = self.tokens.get(self.at).cloned() else { return Err(NotUnderstood) };
        self.at += 1;
        let kind = match self.tokens.get(self.at + 1).cloned() {
            Some(Token::Name(own)) if self.sign(".") => {
                self.at += 1;
                // Nothing is known of types of that name that are not the extension's.
                if own == "citext" { own } else { return Err(NotUnderstood) }
            }
            _ => kind,
        };
        while ["varying", "precision", "with", "without", "time", "zone"].iter().any(|w| self.name(w)) {}
        if self.sign("(") {
            while !self.sign(")") {
                self.at += 1;
                (self.at < self.tokens.len()).then_some(()).ok_or(NotUnderstood)?;
            }
        }
        let list = self.sign("[") && self.sign("]");
        Ok(match (kind.as_str(), value) {
            (_, value @ (Value::List(_) | Value::Null)) => value,
            ("numeric" | "integer" | "bigint" | "smallint" | "double" | "real", Value::Text(text)) if !list => {
                Value::Number(text.parse().map_err(|_| NotUnderstood)?)
            }
            ("text" | "character" | "bpchar" | "citext" | "jsonb" | "json", value) if !list => value,
            ("date", Value::Text(text)) if !list && is_date(&text) => Value::Text(text),
            ("numeric" | "integer" | "bigint" | "smallint" | "double" | "real", value @ Value::Number(_)) if !list => value,
            _ => return Err(NotUnderstood),
        })
    }

    fn function(&mut self, name: &str) -> Said<Value> {
        let mut arguments = Vec::new();
        if name == "trim" {
            let _ = self.name("both") || self.name("leading") || self.name("trailing");
            let _ = self.name("from");
        }
        while !self.sign(")") {
            arguments.push(self.or()?);
            if !self.sign(",") {
                self.name("in");
            }
        }
        if arguments.contains(&Value::Null) {
            return Ok(Value::Null);
        }
        let texts: Option<Vec<&str>> =
            arguments.iter().map(|a| if let Value::Text(text) = a { Some(text.as_str()) } else { None }).collect();
        let count = |n: usize| Value::Number(n as f64);
        Ok(match (name, texts.ok_or(NotUnderstood)?.as_slice()) {
            ("length" | "char_length" | "character_length", [text]) => count(text.chars().count()),
            ("octet_length", [text]) => count(text.len()),
            ("lower", [text]) => Value::Text(text.to_lowercase()),
            ("upper", [text]) => Value::Text(text.to_uppercase()),
            ("btrim" | "trim", [text]) => Value::Text(text.trim_matches(' ').to_owned()),
            ("ltrim", [text]) => Value::Text(text.trim_start_matches(' ').to_owned()),
            ("rtrim", [text]) => Value::Text(text.trim_end_matches(' ').to_owned()),
            ("position", [part, text]) | ("strpos", [text, part]) => {
                count(text.find(part).map_or(0, |at| text[..at].chars().count() + 1))
            }
            ("jsonb_typeof" | "json_typeof", [text]) => Value::Text(
                match text.trim_start().chars().next() {
                    Some('{') => "object",
                    Some('[') => "array",
                    Some('"') => "string",
                    Some('t' | 'f') => "boolean",
                    Some('n') => "null",
                    _ => "number",
                }
                .to_owned(),
            ),
            _ => return Err(NotUnderstood),
        })
    }
}

/// `2026-11-25`, and no year before 1 or after 9999.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() })
}

/// The operator that does not see case.
fn folded(sign: &str) -> String {
    if matches!(sign, "~" | "!~" | "~~" | "!~~") { format!("{sign}*") } else { sign.to_owned() }
}

fn lower(value: Value) -> Value {
    if let Value::Text(text) = value { Value::Text(text.to_lowercase()) } else { value }
}

fn truth(value: Value) -> Said<Option<bool>> {
    match value {
        Value::Truth(truth) => Ok(Some(truth)),
        Value::Null => Ok(None),
        _ => Err(NotUnderstood),
    }
}

fn compare(sign: &str, left: &Value, right: &Value) -> Said<Value> {
    let (left, right) = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(Value::Null),
        (Value::Text(text), Value::Number(number)) => {
            (Value::Number(text.parse().map_err(|_| NotUnderstood)?), Value::Number(*number))
        }
        (Value::Number(number), Value::Text(text)) => {
            (Value::Number(*number), Value::Number(text.parse().map_err(|_| NotUnderstood)?))
        }
        (left, right) => (left.clone(), right.clone()),
    };
    let is = match (sign, &left, &right) {
        ("=", _, _) => left == right,
        ("<>", _, _) => left != right,
        // In the ISO style dates are in the order of their texts.
        ("<", Value::Text(a), Value::Text(b)) if is_date(a) && is_date(b) => a < b,
        (">", Value::Text(a), Value::Text(b)) if is_date(a) && is_date(b) => a > b,
        ("<=", Value::Text(a), Value::Text(b)) if is_date(a) && is_date(b) => a <= b,
        (">=", Value::Text(a), Value::Text(b)) if is_date(a) && is_date(b) => a >= b,
        ("<", Value::Number(a), Value::Number(b)) => a < b,
        (">", Value::Number(a), Value::Number(b)) => a > b,
        ("<=", Value::Number(a), Value::Number(b)) => a <= b,
        (">=", Value::Number(a), Value::Number(b)) => a >= b,
        (sign, Value::Text(text), Value::Text(pattern)) => {
            let (not, plain) = sign.strip_prefix('!').map_or((false, sign), |plain| (true, plain));
            let regex = match plain {
                "~" => regex(pattern, false)?,
                "~*" => regex(pattern, true)?,
                "~~" => like(pattern, false)?,
                "~~*" => like(pattern, true)?,
                _ => return Err(NotUnderstood),
            };
            regex.is_match(text) != not
        }
        _ => return Err(NotUnderstood),
    };
    Ok(Value::Truth(is))
}

/// PostgreSQL's regular expressions and ours agree on what constraints mostly have; where ours cannot read one, it is not
/// understood. Back references and the like are among these.
fn regex(pattern: &str, fold: bool) -> Said<Regex> {
    RegexBuilder::new(pattern).case_insensitive(fold).size_limit(1 << 20).build().map_err(|_| NotUnderstood)
}

fn like(pattern: &str, fold: bool) -> Said<Regex> {
    let mut text = String::from("(?s)^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => text.push_str(".*"),
            '_' => text.push('.'),
            '\\' => text.push_str(&regex::escape(&chars.next().ok_or(NotUnderstood)?.to_string())),
            c => text.push_str(&regex::escape(&c.to_string())),
        }
    }
    text.push('$');
    regex(&text, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_as_postgresql_prints_them_are_understood() {
        for (check, column, good, bad) in [
            ("CHECK ((char_length((name)::text) <= 5))", "name", Some("abc"), Some("abcdef")),
            ("CHECK (((name)::text <> ''::text)) NOT VALID", "name", Some("a"), Some("")),
            ("CHECK ((price > (0)::numeric))", "price", Some("0.5"), Some("0")),
            ("CHECK (((price >= ('-5'::integer)::numeric) AND (price < 10.5)))", "price", Some("-5"), Some("11")),
            (
                "CHECK (((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
                "kind",
                Some("b"),
                Some("c"),
            ),
            ("CHECK ((email ~~ '%@%'::text))", "email", Some("a@b"), Some("ab")),
            ("CHECK ((email ~* '^[a-z0-9._%-]+@[a-z0-9.-]+[.][a-z]+$'::text))", "email", Some("Ab@x.org"), Some("ab@x")),
            ("CHECK ((\"Mail\" !~ '[A-Z]'::text))", "Mail", Some("a"), Some("A")),
            ("CHECK ((POSITION(('@'::text) IN (email)) > 1))", "email", Some("a@b"), Some("@b")),
            ("CHECK (((email)::text = lower((email)::text)))", "email", Some("a"), Some("A")),
            ("CHECK ((VALUE ~ '^[0-9]{5}$'::text))", "zip", Some("12345"), Some("1234")),
            ("CHECK ((name IS NOT NULL))", "name", Some(""), None),
            ("CHECK (((code IS NULL) OR (length(code) = 3)))", "code", None, Some("ab")),
            ("CHECK ((NOT (code = 'x'::text)))", "code", Some("y"), Some("x")),
            ("CHECK ((jsonb_typeof(data) = 'object'::text))", "data", Some("{}"), Some("[]")),
            ("CHECK ((born < '2015-01-01'::date))", "born", Some("2000-01-01"), Some("2015-01-01")),
            ("CHECK ((VALUE OPERATOR(public.~) '^[A-Z]+@'::public.citext))", "mail", Some("a@b"), Some("ab")),
            ("CHECK ((email OPERATOR(public.=) 'A@B'::public.citext))", "email", Some("a@b"), Some("ab")),
            ("CHECK ((length(TRIM(BOTH FROM name)) > 0))", "name", Some(" a"), Some("  ")),
        ] {
            assert_eq!(takes(check, column, good), Ok(true), "{check}");
            assert_eq!(takes(check, column, bad), Ok(false), "{check}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for check in [
            "CHECK ((starts < ends))",
            "CHECK (is_valid(name))",
            "CHECK ((name ~ '(a)\\1'::text))",
            "CHECK ((name > 'a'::text))",
            "CHECK ((name = E'\\x'::text))",
            "CHECK (((a + b) > 1))",
            "CHECK ((name OPERATOR(public.%) 'x'::text))",
            "CHECK ((name OPERATOR(shop.=) 'x'::text))",
            "CHECK ((name = 'x'::shop.mood))",
            "nonsense",
        ] {
            assert_eq!(takes(check, "name", Some("x")), Err(NotUnderstood), "{check}");
        }
    }
}
