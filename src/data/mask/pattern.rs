//! Whether a CHECK constraint takes all values of a shape or none: then a permutation of values of a shape, which leaves lengths,
//! signs and the case of letters alone, cannot break it.

use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

use super::constraints::{Token, tokens};

/// What may stand beside the column: what is the same for all values of a shape.
const NAMES: &str = "value and or not is null text character varying bpchar citext length char_length character_length btrim ltrim rtrim trim \
    both leading trailing from lower upper position strpos in any array";

/// Whether a constraint asks no more of text than its shape.
pub fn asks_only_for_a_shape(definition: &str, column: &str) -> bool {
    let body = definition.strip_prefix("CHECK").unwrap_or(definition);
    let Ok(tokens) = tokens(body) else { return false };
    let mut before: Option<&str> = None;
    for token in &tokens {
        let fine = match token {
            Token::Name(name) => name == column || NAMES.split_whitespace().any(|n| n == name),
            Token::Quoted(name) => name == column,
            Token::Number(_) => true,
            Token::Sign(sign) => {
                before = Some(sign);
                true
            }
            Token::Text(text) => match before {
                Some("~" | "!~") => is_closed(text, false),
                Some("~*" | "!~*") => is_closed(text, true),
                // Of LIKE and of comparisons: no letter and no digit of it could be met or missed.
                _ => text.chars().all(|c| c.is_ascii() && !c.is_ascii_alphanumeric()),
            },
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Whether each class of a pattern has all letters of a case or none, all digits or none, and all that is not ASCII or none.
fn is_closed(pattern: &str, fold: bool) -> bool {
    let parsed = ParserBuilder::new().unicode(false).utf8(false).case_insensitive(fold).build().parse(pattern);
    parsed.is_ok_and(|hir| closed(&hir))
}

fn closed(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|b| b.is_ascii() && !b.is_ascii_alphanumeric()),
        HirKind::Class(class) => {
            let has = |byte: u8| match class {
                Class::Bytes(bytes) => bytes.ranges().iter().any(|r| (r.start()..=r.end()).contains(&byte)),
                Class::Unicode(chars) => chars.ranges().iter().any(|r| (r.start()..=r.end()).contains(&char::from(byte))),
            };
            let wide = |class: &Class| matches!(class, Class::Unicode(c) if !c.is_ascii());
            let runs = [b'a'..=b'z', b'A'..=b'Z', b'0'..=b'9', 0x80..=0xff];
            !wide(class) && runs.into_iter().all(|mut run| run.clone().all(has) || !run.any(has))
        }
        HirKind::Repetition(repetition) => closed(&repetition.sub),
        HirKind::Capture(capture) => closed(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_told_from_what_looks_at_letters_and_digits() {
        for (check, only) in [
            (r"CHECK ((phone ~ '^\+?[0-9 ]{6,15}$'::text))", true),
            (r"CHECK (((phone)::text ~ '^\d{3}-\d+$'::text))", true),
            ("CHECK ((phone ~* '^[a-z0-9]+@[^@]+$'::text))", true),
            ("CHECK ((phone ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{4,}$'::text))", true),
            ("CHECK ((length(phone) > 3))", true),
            ("CHECK (((phone <> ''::text) AND (phone = lower(phone))))", true),
            ("CHECK ((phone ~~ '%@%'::text))", true),
            (r"CHECK ((phone ~ '^\+34[0-9]{9}$'::text))", false),
            ("CHECK ((phone ~ '^[a-f0-9]{40}$'::text))", false),
            ("CHECK ((phone ~ '^[A-Za-z]+$'::text) OR (other > 1))", false),
            ("CHECK ((phone ~ '^[a-zñ]+$'::text))", false),
            ("CHECK ((phone <> 'nobody'::text))", false),
            ("CHECK ((phone ~~ '+34%'::text))", false),
            ("CHECK (is_phone(phone))", false),
            ("CHECK ((phone ~ '(a)\\1'::text))", false),
        ] {
            assert_eq!(asks_only_for_a_shape(check, "phone"), only, "{check}");
        }
    }
}
