//! What is done to a field. All of it is decided when a policy is compiled; here is only the work on each row.

use md5::Md5;
use sha2::{Digest, Sha256};

use super::{
    codec::{NULL, Row, decode, encode},
    date::Amount,
    json::{self, Tree},
    number::Noise,
    prf::Prf,
    shape::{Room, Shape},
    substitutes::{Form, hex},
};

/// Room that a stream keeps from row to row.
#[derive(Default)]
pub struct Scratch {
    room: Room,
    word: String,
    raw: Vec<u8>,
    pub(super) json: Vec<u8>,
    pub(super) document: Vec<u8>,
}

/// What is done to a value that stands alone: of a column, or of a path in JSON.
#[derive(Clone)]
pub enum Plain {
    /// It stays.
    Keep,
    /// NULL.
    Null,
    /// The neutral value of its type.
    Redact,
    /// A keyed hash: so many hexadecimal digits of text, a permutation of whole numbers.
    Hash(Prf, Shape, usize),
    /// A substitute.
    Fake(Prf, Form),
    /// A permutation of values of its shape.
    Shape(Shape),
    /// Changed by some percent.
    Noise(Noise),
}

impl Plain {
    /// Whether values stay.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Appends what becomes of text. `None`: nothing does.
    pub fn text(&self, value: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Keep => out.extend_from_slice(value),
            Self::Hash(prf, _, digits) => {
                let begun = out.len();
                hex(&prf.of(value).0, out);
                out.truncate(begun + digits);
            }
            Self::Fake(prf, form) => form.write(&prf.of(value), value, out),
            Self::Shape(shape) => {
                scratch.word.clear();
                shape.text(&String::from_utf8_lossy(value), &mut scratch.room, &mut scratch.word);
                out.extend_from_slice(scratch.word.as_bytes());
            }
            Self::Null | Self::Redact | Self::Noise(_) => return None,
        }
        Some(())
    }

    /// Appends what becomes of a number, whole ones at most `limit`. `None`: nothing does.
    pub fn number(&self, value: &[u8], limit: Option<u64>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Keep => out.extend_from_slice(value),
            Self::Hash(_, shape, _) | Self::Shape(shape) => {
                let masked = shape.number(value, limit.unwrap_or(i64::MAX as u64), &mut scratch.room)?;
                out.extend_from_slice(masked.as_bytes());
            }
            Self::Noise(noise) => noise.write(value, limit, out)?,
            Self::Null | Self::Redact | Self::Fake(..) => return None,
        }
        Some(())
    }
}

/// What is computed from another column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    /// SHA-256, hexadecimal.
    Sha256,
    /// MD5, hexadecimal.
    Md5,
    /// Lower case.
    Lower,
    /// The same.
    Copy,
}

/// A part of a template.
#[derive(Clone)]
pub enum Part {
    /// As it stands.
    Literal(Vec<u8>),
    /// The masked value of another column.
    Column(usize, Box<Op>),
}

/// What is done to a column's field.
#[derive(Clone)]
pub enum Op {
    /// It stays.
    Keep,
    /// NULL, also in place of an empty value.
    Null,
    /// One value for all, as a field.
    Fixed(Vec<u8>),
    /// Text. `fold`: equal without regard to case, `trim`: spaces at the end do not count; as the column's type has it.
    Text {
        /// What is done.
        plain: Plain,
        /// Whether case counts for nothing.
        fold: bool,
        /// Whether spaces at the end count for nothing.
        trim: bool,
    },
    /// A number.
    Number(Plain, Option<u64>),
    /// Bytes, replaced by 32 others.
    Bytes(Prf),
    /// A date, moved by the amount of the subject in another column.
    Shift(usize, Amount),
    /// JSON.
    Json(Tree),
    /// Computed from the masked value of another column, cut to so many characters.
    Derived(Derived, usize, Box<Op>, usize, bool),
    /// Made of other columns. With a room also of what paths lead to, of which some may lead nowhere: then spaces are put in order, and
    /// so many characters are taken.
    Template(Vec<Part>, Option<usize>),
    /// What a path of names leads to in JSON that is left by something: its text, its number, or nothing.
    Path(Box<Op>, Vec<String>),
}

impl Op {
    /// Appends what becomes of field `at` of a row.
    ///
    /// # Errors
    /// In words, where the field is not what its type promises.
    pub fn write(&self, row: Row<'_>, at: usize, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let field = row.field(at);
        if let Self::Null = self {
            out.extend_from_slice(NULL);
            return Ok(());
        }
        if field.is_empty() || field == NULL {
            out.extend_from_slice(field);
            return Ok(());
        }
        match self {
            Self::Keep => out.extend_from_slice(field),
            Self::Null => {}
            Self::Fixed(value) => out.extend_from_slice(value),
            Self::Text { plain, fold, trim } => text(plain, (*fold, *trim), field, scratch, out)?,
            Self::Number(plain, limit) => {
                plain.number(field, *limit, scratch, out).ok_or("a value is not a number as this mask takes it")?;
            }
            Self::Bytes(prf) => {
                out.extend_from_slice(b"\\\\x");
                hex(&prf.of(field).0, out);
            }
            Self::Shift(subject, amount) => {
                let subject = decode(row.field(*subject));
                amount.write(&subject, field, out).ok_or("a value is not a date in the ISO style")?;
            }
            Self::Json(tree) => json::field(tree, field, scratch, out),
            Self::Derived(how, source, op, room, bytes) => {
                let value = op.value(row, *source, scratch)?;
                let mut digits = Vec::with_capacity(64);
                match how {
                    Derived::Sha256 => hex(&Sha256::digest(&value), &mut digits),
                    Derived::Md5 => hex(&Md5::digest(&value), &mut digits),
                    Derived::Lower => digits = String::from_utf8_lossy(&value).to_lowercase().into_bytes(),
                    Derived::Copy => digits = value,
                }
                if *bytes {
                    out.extend_from_slice(b"\\\\x");
                }
                let text = String::from_utf8_lossy(&digits);
                let end = text.char_indices().nth(*room).map_or(text.len(), |(end, _)| end);
                encode(&text.as_bytes()[..end], out);
            }
            Self::Template(parts, room) => {
                let mut made = Vec::new();
                for part in parts {
                    match part {
                        Part::Literal(text) => made.extend_from_slice(text),
                        Part::Column(source, op) => made.extend_from_slice(&op.value(row, *source, scratch)?),
                    }
                }
                if let Some(room) = room {
                    let text = String::from_utf8_lossy(&made).split_whitespace().collect::<Vec<_>>().join(" ");
                    made = text.chars().take(*room).collect::<String>().trim_end().into();
                }
                encode(&made, out);
            }
            Self::Path(op, names) => encode(json::at(&op.value(row, at, scratch)?, names).as_bytes(), out),
        }
        Ok(())
    }

    /// The value that another column leaves with, for what is computed from it; empty for NULL.
    fn value(&self, row: Row<'_>, at: usize, scratch: &mut Scratch) -> Result<Vec<u8>, &'static str> {
        let mut field = Vec::new();
        self.write(row, at, scratch, &mut field)?;
        Ok(if field == NULL { Vec::new() } else { decode(&field).into_owned() })
    }

    /// The value of a field of one column, for looking at what a mask gives. `None`: it needs more than the field.
    pub fn sample(&self, value: &[u8]) -> Option<String> {
        let mut line = Vec::new();
        encode(value, &mut line);
        let end = line.len();
        line.push(b'\n');
        let row = Row { line: &line, ends: &[end] };
        let alone = match self {
            Self::Shift(..) | Self::Template(..) | Self::Path(..) => return None,
            // A sample is no JSON that a path could lead into.
            Self::Derived(_, _, op, ..) if matches!(**op, Self::Path(..)) => return None,
            Self::Derived(how, _, op, room, bytes) => &Self::Derived(*how, 0, op.clone(), *room, *bytes),
            other => other,
        };
        String::from_utf8(alone.value(row, 0, &mut Scratch::default()).ok()?).ok()
    }
}

fn text(
    plain: &Plain,
    (fold, trim): (bool, bool),
    field: &[u8],
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let decoded = decode(field);
    let mut value: &[u8] = &decoded;
    while trim && let [rest @ .., b' '] = value {
        value = rest;
    }
    let folded;
    if fold {
        folded = String::from_utf8_lossy(value).to_lowercase();
        value = folded.as_bytes();
    }
    if let Plain::Shape(_) = plain {
        // Its other characters stay, and so may have to be escaped.
        let mut raw = std::mem::take(&mut scratch.raw);
        raw.clear();
        plain.text(value, scratch, &mut raw);
        encode(&raw, out);
        scratch.raw = raw;
        return Ok(());
    }
    plain.text(value, scratch, out).ok_or("this mask is not for text")
}
