//! What in a literal of a schema looks like a secret of somebody's. Code speaks of passwords all the time, so only what stands
//! between quotes counts, in the body of a function too.

use super::screen::statements;

/// A key of digits and letters `a` to `f` has as many characters at least: an MD5, of which schemas have some, has fewer.
const HEX: usize = 40;
/// Another key has as many.
const KEY: usize = 32;
/// What a password is called in a connection string or a header.
const NAMES: &[&str] = &["password", "passwd", "pwd", "secret", "token", "apikey", "api_key", "access_key"];
/// How keys of well-known services begin.
const BEGINNINGS: &[&str] =
    &["AKIA", "ghp_", "gho_", "github_pat_", "glpat-", "sk_live_", "rk_live_", "xoxb-", "xoxp-", "eyJhbGci"];

/// What a literal has in it that looks like a secret; code between dollars is looked through for its own literals.
pub fn looks(literal: &str) -> Option<&'static str> {
    if literal.contains("://") && literal.split("://").skip(1).any(has_credentials) {
        return Some("a password in an address");
    }
    if is_code(literal) {
        return statements(literal).iter().flat_map(|s| &s.literals).find_map(|inner| looks(inner));
    }
    if assigns_a_password(literal) {
        return Some("a password");
    }
    let words = literal.split(|c: char| !(c.is_ascii_alphanumeric() || "+/_-=".contains(c)));
    words.into_iter().any(is_key).then_some("a secret key")
}

/// Whether text has quoted text in it, as a function's body does and a plain value does not.
fn is_code(text: &str) -> bool {
    text.contains('\'') || text.contains(';')
}

/// `user:password@host`, after `://`. A password that is put in later is none.
fn has_credentials(rest: &str) -> bool {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"' | '?')).unwrap_or(rest.len());
    let Some((credentials, _)) = rest[..end].rsplit_once('@') else { return false };
    credentials.split_once(':').is_some_and(|(_, password)| is_value(password))
}

/// `password=…`, as connection strings have it.
fn assigns_a_password(text: &str) -> bool {
    let lower = text.to_lowercase();
    NAMES.iter().any(|name| {
        lower.match_indices(name).any(|(at, _)| {
            let rest = lower[at + name.len()..].trim_start();
            let Some(rest) = rest.strip_prefix('=') else { return false };
            let value = rest.trim_start();
            let end = value.find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',')).unwrap_or(value.len());
            is_value(&value[..end])
        })
    })
}

/// Whether it is a value, and not a place for one: `%s`, `$1`, `{password}`, `<password>`, `***`.
fn is_value(text: &str) -> bool {
    text.len() >= 4 && text.starts_with(|c: char| c.is_alphanumeric()) && !text.contains(['%', '{', '<', '*'])
}

/// Whether a word is a key that a machine has made: long, of all kinds of characters, and in no order.
fn is_key(word: &str) -> bool {
    let word = word.trim_matches(['-', '_', '=', '/']);
    let count = |is: fn(&char) -> bool| word.chars().filter(is).count();
    let (digits, upper, lower) = (count(char::is_ascii_digit), count(char::is_ascii_uppercase), count(char::is_ascii_lowercase));
    if BEGINNINGS.iter().any(|b| word.len() >= b.len() + 12 && word.starts_with(b)) {
        return digits > 0;
    }
    let hex = word.len() >= HEX && word.bytes().all(|b| b.is_ascii_hexdigit()) && digits > 0 && upper + lower > 0;
    let mixed = word.len() >= KEY && digits >= 3 && upper >= 3 && lower >= 3;
    (hex || mixed) && !repeats(word)
}

/// Whether characters follow each other as in an alphabet, or few of them come again and again.
fn repeats(word: &str) -> bool {
    let bytes = word.as_bytes();
    let steps = bytes.windows(2).filter(|w| w[1] == w[0] || w[1] == w[0].wrapping_add(1)).count();
    let kinds: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
    steps * 3 > bytes.len() || kinds.len() < 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_the_words_of_code() {
        for secret in [
            "host=prod dbname=shop user=app password=hunter2",
            "postgres://app:hunter2@prod/shop",
            "https://api.shop.cat/v1?token=abcd1234",
            "AKIAIOSFODNN7EXAMPLE12",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1234",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            " BEGIN PERFORM dblink_connect('host=prod password=hunter2'); RETURN NEW; END ",
            " SELECT http_get($q$https://bot:s3cr3tword@shop.cat/$q$, 'x'); ",
        ] {
            assert!(looks(secret).is_some(), "{secret}");
        }
        for word in [
            " BEGIN NEW.password = crypt(NEW.password, gen_salt('bf')); IF NEW.token=OLD.token THEN RETURN NULL; END IF; END ",
            "password=%s",
            "postgres://%s:%s@%s/%s",
            "https://shop.cat/a:b",
            "https://shop.cat/@someone",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d41d8cd98f00b204e9800998ecf8427e",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "0000000000000000000000000000000000000000",
            "some_Very_long_function_name_of_2_parts_and_more",
            "the password must have 8 characters",
            "nextval",
        ] {
            assert_eq!(looks(word), None, "{word}");
        }
    }
}
