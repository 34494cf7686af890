//! The condition of `rows`. It belongs to the data's owner, who may write what he likes in it; but it is one expression, put
//! between parentheses, and must not be able to be more.

/// Looks whether a condition stays between its parentheses.
///
/// # Errors
/// In words, what it may not have.
pub fn check(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("the condition {why}; write one SQL expression over the table's columns"));
    if text.trim().is_empty() {
        return wrong("is empty");
    }
    let bytes = text.as_bytes();
    let mut depth = 0_i32;
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                // In E'…' a backslash hides a quote from whoever does not know it.
                if quote == b'\'' && at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !is_name(bytes, at.checked_sub(2)) {
                    return wrong("has text with escapes, E'…'");
                }
                let Some(end) = memchr::memchr(quote, &bytes[at + 1..]) else { return wrong("has a quote without an end") };
                // A doubled quote is two strings that touch, as far as this is concerned.
                at += end + 1;
            }
            b';' => return wrong("has a semicolon"),
            b'-' if next == Some(b'-') => return wrong("has a comment"),
            b'/' if next == Some(b'*') => return wrong("has a comment"),
            b'$' if !is_name(bytes, at.checked_sub(1)) => return wrong("has a dollar sign"),
            0 => return wrong("has a zero byte"),
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return wrong("closes a parenthesis that it did not open");
        }
        at += 1;
    }
    if depth == 0 { Ok(()) } else { wrong("leaves a parenthesis open") }
}

fn is_name(bytes: &[u8], at: Option<usize>) -> bool {
    at.is_some_and(|at| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_taken() {
        for text in [
            "created_at > now() - interval '30 days'",
            "name = 'it''s (not) ; -- a comment'",
            "\"Strange )(\" IN (SELECT id FROM other)",
            "type = 'a' AND a$b > 1",
            "(a OR b) AND tree'x' IS NULL",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_would_be_more_than_one_expression_is_refused() {
        for text in [
            "",
            " ",
            "true) UNION SELECT * FROM secrets WHERE (true",
            "true; DROP TABLE users",
            "true -- ",
            "true /* ",
            "a = 'x",
            "a = E'\\' OR true) --'",
            "a = $$x$$",
            "(true",
            "a = \"x",
            "true)",
            "a > $1",
            "e'x'",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
