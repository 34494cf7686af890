//! Dates moved by whole days. The time of the day stays, and so do intervals between dates of one subject.

use super::prf::{Bits, Prf};

/// By how much dates of each subject move.
#[derive(Clone)]
pub struct Amount {
    prf: Prf,
    days: i32,
}

impl Amount {
    /// At most `days` in either direction, and never none.
    pub fn new(prf: Prf, days: i32) -> Self {
        Self { prf, days: days.clamp(1, 36500) }
    }

    fn of(&self, subject: &[u8]) -> i64 {
        let bits: Bits = self.prf.of(subject);
        let size = 1 + i64::from(bits.below(0, self.days.unsigned_abs()));
        if bits.word(1) & 1 == 0 { size } else { -size }
    }

    /// Appends the date or timestamp, moved. `infinity` stays. `None`: it is not written as the ISO style has it.
    pub fn write(&self, subject: &[u8], value: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if value == b"infinity" || value == b"-infinity" {
            out.extend_from_slice(value);
            return Some(());
        }
        let (text, before) = value.strip_suffix(b" BC").map_or((value, false), |text| (text, true));
        let mut parts = text.splitn(3, |b| *b == b'-');
        let year = number(parts.next()?)?;
        let month = number(parts.next()?)?;
        let rest = parts.next()?;
        let day = number(rest.get(..2)?)?;
        let year = if before { 1 - year } else { year };
        // Within the first and the last year that PostgreSQL has.
        let moved = (days(year, month, day) + self.of(subject)).clamp(days(-4712, 1, 1), days(5_874_896, 12, 31));
        let (year, month, day) = civil(moved);
        let (shown, before) = if year < 1 { (1 - year, true) } else { (year, false) };
        out.extend_from_slice(format!("{shown:04}-{month:02}-{day:02}").as_bytes());
        out.extend_from_slice(&rest[2..]);
        if before {
            out.extend_from_slice(b" BC");
        }
        Some(())
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::mask::Key;

    fn moved(subject: &str, value: &str) -> String {
        let amount = Amount::new(Key::from_secret(b"0123456789abcdef").unwrap().domain("shift", ""), 90);
        let mut out = Vec::new();
        amount.write(subject.as_bytes(), value.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_of_a_subject_keep_their_distance_and_their_time_of_day() {
        let days_of = |text: &str| {
            let part = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
            days(part(0..4), part(5..7), part(8..10))
        };
        let (first, second) = (moved("7", "2024-02-28"), moved("7", "2024-03-01 12:34:56.789+00"));
        assert_eq!(days_of(&second) - days_of(&first), 2);
        assert!(second.ends_with(" 12:34:56.789+00"));
        assert_ne!(first, "2024-02-28");
        assert!((0..50).any(|n| moved(&n.to_string(), "2024-02-28") != first));
        assert_eq!(moved("7", "infinity"), "infinity");
        assert!(moved("7", "0044-03-15 BC").ends_with(" BC"));
    }

    proptest! {
        #[test]
        fn the_calendar_comes_back_to_itself(day in -1_721_000_i64..2_100_000_000) {
            let (y, m, d) = civil(day);
            prop_assert_eq!(days(y, m, d), day);
            prop_assert!((1..=12).contains(&m) && (1..=31).contains(&d));
        }
    }
}
