//! How tables are cut into parts, and how the files of their rows are named.

use twox_hash::XxHash3_64;

/// Bytes on the server's disk that one part reads.
const PART: u64 = 16 << 20;
/// More parts than this a table is not cut into.
const MOST: u64 = 1 << 14;
/// A directory's name may have 255 bytes.
const NAME_BYTES: usize = 200;

/// What a table takes on the server's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Pages of its main fork; none for what is not stored as a heap.
    pub pages: Option<u64>,
    /// Bytes, with what lies beside it because it is large.
    pub bytes: u64,
    /// Rows, as the planner would guess. None: nobody has looked yet.
    pub rows: Option<u64>,
}

/// Pages `from..to` of a table; the last part has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub from: u64,
    /// The page after the last.
    pub to: Option<u64>,
}

impl Range {
    /// The condition on a row's place, if the part is not the whole table.
    pub fn condition(self) -> Option<String> {
        match (self.from, self.to) {
            (0, None) => None,
            (from, None) => Some(format!("ctid >= '({from},0)'::tid")),
            (from, Some(to)) => Some(format!("ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid")),
        }
    }
}

/// Cuts a table. Lengths are powers of two, so that a table that grew a little is cut where it was cut before.
pub fn cut(size: Size) -> Vec<Range> {
    let Some(pages) = size.pages else { return vec![Range { from: 0, to: None }] };
    if pages == 0 {
        return Vec::new();
    }
    let wanted = (size.bytes / PART).clamp(1, MOST).min(pages);
    let step = pages.div_ceil(wanted).next_power_of_two();
    let mut parts: Vec<Range> = (0..pages)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(|from| Range { from, to: Some(from + step) })
        .collect();
    if let Some(last) = parts.last_mut() {
        last.to = None;
    }
    parts
}

/// The directory of a table's rows, which any file system takes, and different for each table.
pub fn directory(schema: &str, table: &str) -> String {
    let name = format!("{}.{}", escaped(schema), escaped(table));
    if name.len() <= NAME_BYTES {
        return name;
    }
    let mut end = NAME_BYTES - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:016x}", &name[..end], XxHash3_64::oneshot(name.as_bytes()))
}

/// Letters, digits, `_`, `-` and all beyond ASCII stay; the rest is written as `%` and two digits.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || !c.is_ascii() && !c.is_control() {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out += &format!("%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(pages: u64, bytes: u64) -> Size {
        Size { pages: Some(pages), bytes, rows: None }
    }

    #[test]
    fn parts_cover_every_page_once_and_stay_where_they_were_when_a_table_grows() {
        for pages in [1_u64, 2, 3, 1000, 2047, 2048, 2049, 4096, 150_000, 10_000_000] {
            for width in [8192, 100_000, 50_000_000] {
                let parts = cut(sized(pages, pages * width));
                assert_eq!(parts[0].from, 0);
                assert_eq!(parts.last().unwrap().to, None);
                assert!(parts.windows(2).all(|w| w[0].to == Some(w[1].from)), "{pages}");
                assert!(parts.len() <= 1 << 14);
            }
        }
        let (before, after) = (cut(sized(140_000, 140_000 * 8192)), cut(sized(141_000, 141_000 * 8192)));
        assert!(before.len() > 30, "{}", before.len());
        assert_eq!(before[..30], after[..30]);
        assert!(cut(sized(0, 0)).is_empty());
        assert_eq!(cut(Size { bytes: 1 << 40, ..Size::default() }).len(), 1);
        assert_eq!(cut(sized(1, 8192))[0].condition(), None);
    }

    #[test]
    fn a_directory_s_name_is_a_name_and_no_two_tables_share_one() {
        assert_eq!(directory("public", "orders"), "public.orders");
        assert_eq!(directory("a.b", "c"), "a%2Eb.c");
        assert_eq!(directory("Odd \"one", "../T"), "Odd%20%22one.%2E%2E%2FT");
        assert_eq!(directory("ä", "%"), "ä.%25");
        let long = |c: &str| directory(&"/".repeat(63), &format!("{}{c}", "/".repeat(62)));
        assert!(long("a").len() <= 255 && long("a") != long("b"));
        assert_ne!(directory("a", "b.c"), directory("a.b", "c"));
    }
}
