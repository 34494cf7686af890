//! Fields of COPY's text format.
//!
//! In that format a tab or a newline is always the end of a field or a row: those in values are written `\t` and `\n`. So
//! rows are split without looking at what is in them, and only a field that a mask looks into is decoded.

use std::borrow::Cow;

/// How COPY writes NULL.
pub const NULL: &[u8] = b"\\N";

/// Calls `row` with each row of `rows`: its bytes with the newline, and where each of its fields ends.
///
/// # Errors
/// What `row` says, or that the last row has no end.
pub fn rows<E: From<Unended>>(
    rows: &[u8],
    ends: &mut Vec<usize>,
    mut row: impl FnMut(&[u8], &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    let mut start = 0;
    ends.clear();
    for at in memchr::memchr2_iter(b'\t', b'\n', rows) {
        ends.push(at - start);
        if rows[at] == b'\n' {
            row(&rows[start..=at], ends)?;
            start = at + 1;
            ends.clear();
        }
    }
    if start == rows.len() { Ok(()) } else { Err(Unended.into()) }
}

/// The last row has no newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unended;

/// One row, split.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its bytes with the newline.
    pub line: &'a [u8],
    /// Where each field ends.
    pub ends: &'a [usize],
}

impl<'a> Row<'a> {
    /// Where a field begins.
    pub fn start(&self, field: usize) -> usize {
        if field == 0 { 0 } else { self.ends[field - 1] + 1 }
    }

    /// A field as it is written.
    pub fn field(&self, field: usize) -> &'a [u8] {
        &self.line[self.start(field)..self.ends[field]]
    }
}

/// The value of a field.
pub fn decode(field: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', field) else { return Cow::Borrowed(field) };
    let mut out = Vec::with_capacity(field.len());
    out.extend_from_slice(&field[..first]);
    let mut rest = &field[first..];
    while let [byte, tail @ ..] = rest {
        if *byte != b'\\' {
            out.push(*byte);
            rest = tail;
            continue;
        }
        let [escaped, tail @ ..] = tail else {
            out.push(b'\\');
            break;
        };
        rest = tail;
        out.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => {
                let mut value = u32::from(escaped - b'0');
                for _ in 0..2 {
                    let [digit @ b'0'..=b'7', tail @ ..] = rest else { break };
                    value = value * 8 + u32::from(digit - b'0');
                    rest = tail;
                }
                value as u8
            }
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                let mut value = 0;
                for _ in 0..2 {
                    let [digit, tail @ ..] = rest else { break };
                    let Some(digit) = char::from(*digit).to_digit(16) else { break };
                    value = value * 16 + digit;
                    rest = tail;
                }
                value as u8
            }
            other => *other,
        });
    }
    Cow::Owned(out)
}

/// Appends a value as a field.
pub fn encode(value: &[u8], out: &mut Vec<u8>) {
    out.reserve(value.len());
    let mut from = 0;
    for (at, byte) in value.iter().enumerate() {
        let escaped = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            _ => continue,
        };
        out.extend_from_slice(&value[from..at]);
        out.extend_from_slice(&[b'\\', escaped]);
        from = at + 1;
    }
    out.extend_from_slice(&value[from..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_escapes_of_copy_are_read() {
        assert_eq!(&*decode(b"a\\tb\\nc\\\\d\\r\\b\\f\\v\\101\\x41\\q"), b"a\tb\nc\\d\r\x08\x0c\x0bAAq");
        assert!(matches!(decode(b"plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_row_without_an_end_is_an_error() {
        let mut seen = 0;
        let result = rows::<Unended>(b"a\tb\nc", &mut Vec::new(), |_, _| {
            seen += 1;
            Ok(())
        });
        assert_eq!((result, seen), (Err(Unended), 1));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_never_ends_a_field(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut field = Vec::new();
            encode(&value, &mut field);
            prop_assert!(!field.contains(&b'\t') && !field.contains(&b'\n'));
            prop_assert_eq!(&*decode(&field), &*value);
        }
    }
}
