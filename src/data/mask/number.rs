//! Numbers changed by some percent. Sign, scale and number of digits stay, so the type and its precision still take them.

use super::prf::Prf;

/// Changes numbers.
#[derive(Clone)]
pub struct Noise {
    prf: Prf,
    percent: i32,
}

/// More digits than this are not told apart: those after them become 0.
const DIGITS: usize = 27;

impl Noise {
    /// By at most so many percent in either direction.
    pub fn new(prf: Prf, percent: i32) -> Self {
        Self { prf, percent: percent.clamp(1, 100) }
    }

    /// Appends the number, changed, at most `limit` whatever its sign. Zero, NaN and infinities stay. `None`: it is no number.
    pub fn write(&self, value: &[u8], limit: Option<u64>, out: &mut Vec<u8>) -> Option<()> {
        let text = std::str::from_utf8(value).ok()?;
        if matches!(text, "NaN" | "Infinity" | "-Infinity") {
            out.extend_from_slice(value);
            return Some(());
        }
        // From -1 to 1 in steps of 2^-31.
        let turn = i64::from(self.prf.of(value).word(0)) - (1 << 31);
        if text.contains(['e', 'E']) {
            let number: f64 = text.parse().ok()?;
            let changed = number * (1.0 + f64::from(self.percent) / 100.0 * turn as f64 / 2_147_483_648.0);
            out.extend_from_slice(format!("{:e}", if changed.is_finite() { changed } else { number }).as_bytes());
            return Some(());
        }
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
        let all: String = [whole, fraction.unwrap_or("")].concat();
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let kept = all.len().min(DIGITS);
        let number: i128 = all[..kept].parse().ok()?;
        let changed = number + number * i128::from(self.percent) * i128::from(turn) / (100 << 31);
        // So many digits before the point as there were, and a number that was there stays one.
        let places = kept - all.bytes().take(kept).take_while(|b| *b == b'0').count();
        let most = 10_i128.pow(u32::try_from(places).ok()?) - 1;
        let most = limit.filter(|_| fraction.is_none()).map_or(most, |limit| most.min(i128::from(limit)));
        let changed = changed.clamp(i128::from(number > 0).min(most), most.max(0));
        let mut padded = format!("{changed:0kept$}");
        padded.extend(std::iter::repeat_n('0', all.len() - kept));
        out.extend_from_slice(sign.as_bytes());
        out.extend_from_slice(&padded.as_bytes()[..whole.len()]);
        if fraction.is_some() {
            out.push(b'.');
            out.extend_from_slice(&padded.as_bytes()[whole.len()..]);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::mask::Key;

    fn changed(value: &str, limit: Option<u64>) -> Option<String> {
        let noise = Noise::new(Key::from_secret(b"0123456789abcdef").unwrap().domain("value", "n"), 10);
        let mut out = Vec::new();
        noise.write(value.as_bytes(), limit, &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_no_number_is_not_guessed_at() {
        for value in ["", "-", ".", "12a", "0x10", "1 000"] {
            assert_eq!(changed(value, None), None, "{value}");
        }
        for value in ["NaN", "-Infinity", "0", "0.00"] {
            assert_eq!(changed(value, None).as_deref(), Some(value));
        }
    }

    proptest! {
        #[test]
        fn sign_scale_and_digits_stay_and_the_type_still_takes_it(value in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,12})?") {
            let after = changed(&value, None).unwrap();
            prop_assert_eq!(after.len(), value.len());
            prop_assert_eq!(after.starts_with('-'), value.starts_with('-'));
            prop_assert_eq!(after.find('.'), value.find('.'));
            let (a, b): (f64, f64) = (value.parse().unwrap(), after.parse().unwrap());
            prop_assert!((a - b).abs() <= a.abs() * 0.1000001 + 1e-12, "{} {}", value, after);
        }

        #[test]
        fn whole_numbers_stay_in_their_type(value in any::<i32>()) {
            let after: i64 = changed(&value.to_string(), Some(i32::MAX as u64)).unwrap().parse().unwrap();
            prop_assert!(i32::try_from(after).is_ok());
            prop_assert_eq!(after == 0, value == 0);
        }
    }
}
