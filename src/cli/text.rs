//! Text for a terminal: tables, durations, and names that cannot do harm. Pure.

use jiff::{Timestamp, tz::TimeZone};
use kube::core::Status;
use unicode_width::UnicodeWidthStr;

/// Whether a character could move the cursor, hide text or turn its order: escape sequences, zero-width and
/// bidirectional marks.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Text of others on one line, with what is unprintable written out. What is in the cluster is never trusted with a terminal.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if is_unprintable(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// [`clean`], but lines stay lines: for messages that carry YAML or SQL.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(line).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Puts spaces before every line but empty ones.
pub fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    text.lines().map(|l| if l.is_empty() { String::new() } else { format!("{pad}{l}") }).collect::<Vec<_>>().join("\n")
}

/// A table with columns as wide as their widest cell, two spaces between, nothing at the end of lines.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.width()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width()) + 2));
        }
        out.trim_end().to_owned()
    };
    let mut lines = Vec::with_capacity(rows.len() + 1);
    if header.iter().any(|h| !h.is_empty()) {
        lines.push(line(&mut header.iter().copied()));
    }
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// A span between two instants: `350ms`, `4.2s`, `1m32s`, `2h05m`, `3d4h`. Never negative.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    span(std::time::Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// A span of time, as short as is useful.
pub fn span(duration: std::time::Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{millis}ms"),
        1..10 => format!("{seconds}.{}s", millis / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// An instant in a zone, with its name, for people: `Wed 2026-11-25 21:00:00 CET`.
pub fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Digests cut to twelve digits, where a table shows them. What an approval covers is always shown in full.
pub fn shorten(text: &str) -> String {
    const MARK: &str = "sha256:";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, digits) = rest.split_at(at + MARK.len());
        out.push_str(before);
        let length = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        if length > 12 {
            out.push_str(&digits[..12]);
            out.push('…');
        } else {
            out.push_str(&digits[..length]);
        }
        rest = &digits[length..];
    }
    out + rest
}

/// The sentence of an API server's answer, without the wrapping of admission plugins and of Go's error values.
pub fn strip_go_noise(status: &Status) -> String {
    let message = status.message.trim();
    for mark in ["denied request: ", "denied the request: "] {
        if let Some(at) = message.find(mark) {
            return message[at + mark.len()..].trim().to_owned();
        }
    }
    let causes: Vec<String> = status
        .details
        .iter()
        .flat_map(|d| &d.causes)
        .filter(|c| !c.message.is_empty())
        .map(|c| {
            let said = after_value(&c.message);
            if c.field.is_empty() || said.starts_with(&c.field) { said } else { format!("{}: {said}", c.field) }
        })
        .collect();
    if !causes.is_empty() {
        return causes.join("; ");
    }
    match message.split_once("is forbidden: ") {
        Some((_, said)) => said.to_owned(),
        None if message.is_empty() => format!("the API server answered {} {}", status.code, status.reason).trim_end().to_owned(),
        None => message.to_owned(),
    }
}

/// `Invalid value: "object": sentence` → `sentence`; the value of an object is just that word.
fn after_value(message: &str) -> String {
    ["Invalid value: \"object\": ", "Invalid value: \"array\": ", "Invalid value: null: "]
        .iter()
        .find_map(|p| message.strip_prefix(p))
        .unwrap_or(message)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::{
        Status,
        response::{StatusCause, StatusDetails},
    };

    use super::*;

    #[test]
    fn text_of_others_cannot_move_the_cursor_or_turn_letters() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb c\\u{202e}d");
        assert_eq!(clean_lines("a  \nb\u{7}"), "a\nb\\u{7}");
    }

    #[test]
    fn columns_are_as_wide_as_a_terminal_shows_them() {
        let rows = vec![vec!["名前".into(), "x".into()], vec!["año".into(), "y".into()]];
        assert_eq!(table(&["A", "B"], &rows), "A     B\n名前  x\naño   y");
        assert_eq!(table(&["", ""], &[vec!["a".into(), "b".into()]]), "a  b");
    }

    #[test]
    fn spans_are_short_and_never_negative() {
        for (millis, expected) in [
            (0, "0ms"),
            (350, "350ms"),
            (4_250, "4.2s"),
            (59_999, "59s"),
            (92_000, "1m32s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected);
        }
        let now = Timestamp::from_second(100).unwrap();
        assert_eq!(between(now, Timestamp::from_second(90).unwrap()), "0ms");
    }

    #[test]
    fn digests_are_cut_and_the_rest_is_kept() {
        let digest = "a1b2c3d4e5f6".to_owned() + &"0".repeat(52);
        assert_eq!(shorten(&format!("r:5000/x:1@sha256:{digest}, y")), "r:5000/x:1@sha256:a1b2c3d4e5f6…, y");
        assert_eq!(shorten("sha256:abc"), "sha256:abc");
        assert_eq!(shorten("none"), "none");
    }

    #[test]
    fn causes_are_said_with_their_fields() {
        let cause =
            |field: &str, message: &str| StatusCause { reason: String::new(), message: message.into(), field: field.into() };
        let status = Status {
            code: 422,
            message: "Promotion.lockkeeper.dev \"x\" is invalid: …".into(),
            details: Some(StatusDetails {
                causes: vec![
                    cause("spec", "Invalid value: \"object\": cancel: a cancelled Promotion stays cancelled; make another"),
                    cause("spec.modules", "Invalid value: 0: spec.modules in body should have at least 1 items"),
                ],
                ..serde_json::from_str("{}").unwrap()
            }),
            ..Status::default()
        };
        assert_eq!(
            strip_go_noise(&status),
            "spec: cancel: a cancelled Promotion stays cancelled; make another; \
             spec.modules: Invalid value: 0: spec.modules in body should have at least 1 items"
        );
    }
}
