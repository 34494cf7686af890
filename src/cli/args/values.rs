//! Values as they are typed, refused here with a sentence before anything is asked of a cluster.

use crate::api::{EnvironmentRef, Period};

/// A name as Kubernetes takes it. Checked here, because a name becomes part of a URL.
pub(super) fn object_name(value: &str) -> Result<String, String> {
    let part = |p: &str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !p.starts_with('-')
            && !p.ends_with('-')
    };
    if value.len() <= 253 && value.split('.').all(part) {
        Ok(value.to_owned())
    } else {
        Err("a name has lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit".into())
    }
}

pub(super) fn snapshot_id(value: &str) -> Result<String, String> {
    let fits = (8..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if fits { Ok(value.to_owned()) } else { Err("8 to 64 digits of 0-9 and a-f, as `restic snapshots` gives them".into()) }
}

pub(super) fn environment_ref(value: &str) -> Result<EnvironmentRef, String> {
    let (namespace, name) = value.split_once('/').ok_or("write it as NAMESPACE/NAME")?;
    if namespace.contains('.') {
        return Err("a namespace's name has no '.'".into());
    }
    Ok(EnvironmentRef { namespace: object_name(namespace)?.into(), name: object_name(name)?.into() })
}

pub(super) fn period(value: &str) -> Result<Period, String> {
    let period = Period::from(value);
    let written = value.bytes().next().is_some_and(|b| b.is_ascii_digit()) && value.ends_with(['s', 'm', 'h']);
    if written && value.len() <= 24 && period.get().is_some() {
        Ok(period)
    } else {
        Err("write a duration as 90s, 15m or 2h".into())
    }
}

pub(super) fn line(value: &str) -> Result<String, String> {
    if value.chars().count() > 1024 {
        return Err("at most 1024 characters".into());
    }
    if value.chars().any(crate::cli::text::is_unprintable) {
        return Err("one line, without control characters".into());
    }
    Ok(value.to_owned())
}

pub(super) fn reason(value: &str) -> Result<String, String> {
    if value.trim().is_empty() {
        return Err("say why, in words".into());
    }
    line(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_written_as_namespace_and_name() {
        let parsed = environment_ref("shop-staging/staging").unwrap();
        assert_eq!((&*parsed.namespace, &*parsed.name), ("shop-staging", "staging"));
        for wrong in ["staging", "/", "a/", "/b", "A/b", "a.b/c", "a/b/c", "a/../b"] {
            assert!(environment_ref(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_is_written_as_in_the_api() {
        for right in ["90s", "15m", "1h30m", "0s"] {
            assert!(period(right).is_ok(), "{right}");
        }
        for wrong in ["", "15", "-1m", "soon", "1d", "+5m"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_with_control_characters_or_turned_letters_is_refused() {
        assert!(line("Flags 7.4, año").is_ok());
        for wrong in ["a\nb", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(1025)] {
            assert!(line(wrong).is_err(), "{wrong:?}");
        }
        assert!(reason("  ").is_err());
    }
}
