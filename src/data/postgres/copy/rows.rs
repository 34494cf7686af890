//! Rows of COPY's text format, in blocks: counted, and summed up so that two tables with the same rows give the same,
//! whatever their order.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// What identifies the rows of a table or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// The bytes of their text, ends of rows included.
    pub bytes: u64,
    /// The sum, modulo 2⁶⁴, of XXH3-64 of each row's text without its end.
    pub hash: u64,
}

impl Sum {
    /// Of whole rows, each ended by a newline.
    pub fn of(rows: &[u8]) -> Self {
        let mut sum = Self { bytes: rows.len() as u64, ..Self::default() };
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', rows) {
            sum.rows += 1;
            sum.hash = sum.hash.wrapping_add(XxHash3_64::oneshot(&rows[start..end]));
            start = end + 1;
        }
        sum
    }

    /// Adds another's rows.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_knows_rows_in_any_order_and_tells_changed_missing_and_empty_ones_apart() {
        let sum = |rows: &str| Sum::of(rows.as_bytes());
        assert_eq!(sum("a\tb\nc\t\\N\n"), sum("c\t\\N\na\tb\n"));
        let mut parts = sum("a\tb\n");
        parts.add(sum("c\t\\N\n"));
        assert_eq!(parts, sum("a\tb\nc\t\\N\n"));
        for other in ["a\tb\nc\t\n", "a\tb\n", "b\ta\nc\t\\N\n", "a\tb\nc\t\\N\n\n", "a\tb\na\tb\n"] {
            assert_ne!(sum(other), sum("a\tb\nc\t\\N\n"), "{other:?}");
        }
        assert_eq!(sum("\n\n").rows, 2);
        assert_eq!(sum(""), Sum::default());
    }
}
