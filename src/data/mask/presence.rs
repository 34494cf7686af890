//! Constraints that ask of a column only whether there is something in it: "either a file or a link", "a question has a
//! title". Whatever a mask makes of values, it leaves NULL, empty text and JSON's null what they are and makes none of them, so
//! such a constraint says the same of a masked row.

use super::{
    columns::Type,
    constraints::{Token, tokens},
    kinds::{Op, Part},
};
use crate::data::postgres::tables::Column;

/// What a constraint asks of a column, besides whether it is NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    /// Whether it is the empty text.
    empty: bool,
    /// Whether it is JSON's null.
    json_null: bool,
}

/// Whether a masked value answers all that a constraint asks of its column as the value itself did.
pub fn stays(expression: &str, column: &Column, op: &Op) -> bool {
    if matches!(op, Op::Keep) {
        return true;
    }
    let Some(asked) = asked(expression, &column.name) else { return false };
    !matches!(op, Op::Null)
        && (!asked.empty || Type::of(column) == Type::Text && never_empties(op))
        && (!asked.json_null || Type::of(column) == Type::Json && keeps_json_null(op))
}

fn never_empties(op: &Op) -> bool {
    match op {
        // Where paths lead nowhere, spaces alone are put in order.
        Op::Template(parts, room) => parts.iter().any(|part| match part {
            Part::Literal(text) => !text.is_empty() && (room.is_none() || !text.trim_ascii().is_empty()),
            Part::Column(..) => false,
        }),
        // What is made of another column is empty where that is.
        Op::Derived(..) => false,
        op => ["a", "A value", "7", "é@x.example"].iter().all(|v| op.sample(v.as_bytes()).is_some_and(|s| !s.is_empty())),
    }
}

fn keeps_json_null(op: &Op) -> bool {
    let null_from = |text: &str| op.sample(text.as_bytes()).map(|masked| masked == "null");
    null_from("null") == Some(true)
        && ["{\"a\": 1}", "{}", "[1]", "\"a\"", "1", "true"].iter().all(|text| null_from(text) == Some(false))
}

/// `None`: it asks more, or is not understood.
fn asked(expression: &str, column: &str) -> Option<Asked> {
    let tokens = tokens(expression).ok()?;
    let sign = |at: Option<usize>, signs: &[&str]| matches!(at.and_then(|at| tokens.get(at)), Some(Token::Sign(s)) if signs.contains(&s.as_str()));
    let mut asked = None;
    for (at, token) in tokens.iter().enumerate() {
        let named = matches!(token, Token::Name(n) | Token::Quoted(n) if n == column);
        // Of the same name: a type, a schema and what is in it, a function.
        if !named || sign(at.checked_sub(1), &["::", "."]) || sign(Some(at + 1), &[".", "("]) {
            continue;
        }
        let all = asked.get_or_insert_with(Asked::default);
        let this = question(&tokens, at)?;
        all.empty |= this.empty;
        all.json_null |= this.json_null;
    }
    asked
}

fn question(tokens: &[Token], column: usize) -> Option<Asked> {
    let is = |at: usize, sign: &str| matches!(tokens.get(at), Some(Token::Sign(s)) if s == sign);
    let word = |at: usize, words: &[&str]| matches!(tokens.get(at), Some(Token::Name(n)) if words.contains(&n.as_str()));
    let opens = |at: usize| {
        is(at, "(")
            && at.checked_sub(1).is_none_or(|b| {
                !matches!(tokens.get(b), Some(Token::Name(_) | Token::Quoted(_)))
                    || word(b, &["check", "and", "or", "not", "when"])
            })
    };
    let (mut first, mut next) = (column, column + 1);
    loop {
        let inside = first.checked_sub(1).filter(|before| opens(*before) && is(next, ")"));
        if let Some(before) = inside {
            (first, next) = (before, next + 1);
        } else if is(next, "::") {
            next = cast(tokens, next)?;
        } else {
            break;
        }
    }
    // Nothing may stand before it that would take it first: `a || b IS NULL`.
    let before = first.checked_sub(1)?;
    if !is(before, "(") && !word(before, &["and", "or", "not", "when"]) {
        return None;
    }
    if word(next, &["is"]) {
        let next = next + 1 + usize::from(word(next + 1, &["not"]));
        return word(next, &["null"]).then(Asked::default);
    }
    if !is(next, "=") && !is(next, "<>") {
        return None;
    }
    let Some(Token::Text(text)) = tokens.get(next + 1) else { return None };
    let asked = match text.as_str() {
        "" => Asked { empty: true, json_null: false },
        "null" => Asked { empty: false, json_null: true },
        _ => return None,
    };
    let mut end = next + 2;
    while is(end, "::") {
        end = cast(tokens, end)?;
    }
    (is(end, ")") || word(end, &["and", "or", "then"])).then_some(asked)
}

/// Where a cast to text or JSON ends.
fn cast(tokens: &[Token], at: usize) -> Option<usize> {
    let words: Vec<&str> =
        tokens[at + 1..].iter().map_while(|t| if let Token::Name(n) = t { Some(n.as_str()) } else { None }).collect();
    let length = match words.as_slice() {
        ["character", "varying", ..] => 2,
        ["text" | "json" | "jsonb", ..] => 1,
        _ => return None,
    };
    let end = at + 1 + length;
    // One with a length cuts; an array is none of these.
    (!matches!(tokens.get(end), Some(Token::Sign(s)) if s == "(" || s == "[")).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: Option<Asked> = Some(Asked { empty: false, json_null: false });
    const EMPTY: Option<Asked> = Some(Asked { empty: true, json_null: false });
    const JSON: Option<Asked> = Some(Asked { empty: false, json_null: true });

    #[test]
    fn what_a_constraint_asks_is_told_from_what_it_says_of_values() {
        for (expression, column, expected) in [
            ("CHECK (((link IS NULL) OR (file IS NULL)))", "link", NULL),
            ("CHECK (((type = 3) = (link IS NOT NULL)))", "link", NULL),
            ("CHECK (((a IS NULL) <> (b IS NULL))) NOT VALID", "b", NULL),
            ("CHECK (((type <> 1) OR ((email IS NULL) AND (\"Group\" IS NULL))))", "Group", NULL),
            ("CHECK (((pending) OR ((name)::text <> ''::text)))", "name", EMPTY),
            ("CHECK (((room IS NULL) OR (((venue)::text = ''::text) AND (address = ''::text))))", "venue", EMPTY),
            ("CHECK (((room IS NULL) OR ((name = ''::text) AND (name IS NOT NULL))))", "name", EMPTY),
            ("CHECK (((icon IS NULL) = ((metadata)::text = 'null'::text)))", "metadata", JSON),
            ("CHECK (((text IS NULL) OR ((other)::text = ''::text)))", "text", NULL),
            // More than that, or more than is understood.
            ("CHECK (((a IS NULL) OR (length(a) > 3)))", "a", None),
            ("CHECK (((a IS NULL) OR (a = b)))", "a", None),
            ("CHECK (((a = 'x'::text) OR (b IS NULL)))", "a", None),
            ("CHECK (((a)::character varying(1) = ''::text))", "a", None),
            ("CHECK ((((a || b) = ''::text) OR (b IS NULL)))", "a", None),
            ("CHECK (((b || a = ''::text) OR (c IS NULL)))", "a", None),
            ("CHECK (((a = '' || b) OR (c IS NULL)))", "a", None),
            ("CHECK (((COALESCE(a, b)) IS NOT NULL))", "a", None),
            ("CHECK ((num_nonnulls(a, b) = 1))", "a", None),
            ("CHECK (((f(a) IS NULL) OR (b IS NULL)))", "a", None),
            ("CHECK (((a IS NOT DISTINCT FROM b)))", "a", None),
            ("CHECK (((t.*) IS NOT NULL))", "a", None),
        ] {
            assert_eq!(asked(expression, column), expected, "{expression}: {column}");
        }
    }
}
