//! Rows of COPY's text format, in blocks: counted, and summed up so that two tables with the same rows give the same,
//! whatever their order.

use std::hash::Hasher;

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

/// Sums up rows that come in blocks, one after another. A row may go on in the next block.
#[derive(Default)]
pub struct Summing {
    begun: Option<Box<XxHash3_64>>,
}

impl Summing {
    /// Of the next block: all its bytes, and the rows that end in it.
    pub fn block(&mut self, rows: &[u8]) -> Sum {
        let mut sum = Sum { bytes: rows.len() as u64, ..Sum::default() };
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', rows) {
            let row = &rows[start..end];
            let hash = match self.begun.take() {
                None => XxHash3_64::oneshot(row),
                Some(mut begun) => {
                    begun.write(row);
                    begun.finish()
                }
            };
            sum.rows += 1;
            sum.hash = sum.hash.wrapping_add(hash);
            start = end + 1;
        }
        if start < rows.len() {
            self.begun.get_or_insert_default().write(&rows[start..]);
        }
        sum
    }
}

impl Sum {
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
        let sum = |rows: &str| Summing::default().block(rows.as_bytes());
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
    #[test]
    fn rows_that_are_cut_into_blocks_anywhere_have_the_same_sum() {
        let rows: Vec<u8> =
            (0..2000_u32).map(|i| if i % 701 == 700 { b'\n' } else { b'a' + (i % 19) as u8 }).chain([b'\n']).collect();
        let whole = Summing::default().block(&rows);
        for at_once in [1, 2, 300, 700, 701, 702, 1999] {
            let (mut summing, mut sum) = (Summing::default(), Sum::default());
            rows.chunks(at_once).for_each(|block| sum.add(summing.block(block)));
            assert_eq!(sum, whole, "{at_once}");
        }
    }
}
