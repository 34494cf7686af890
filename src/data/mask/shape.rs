//! Substitutes of the value's own shape: a permutation of all values that have a shape.
//!
//! Each character that is a letter or a digit is a digit to the base of its class; the rest of the value is its shape. A Feistel
//! network over the two halves adds to each half a keyed function of the other, position by position, modulo the class.
//! Every round can be undone, so two values never meet. Where the column's type takes fewer values than the shape has (a
//! whole number of ten digits), the permutation is walked until it comes to one that the type takes.

use super::prf::Prf;

/// Rounds. Four make a pseudorandom permutation of long values; short ones need more.
const ROUNDS: u8 = 10;

/// A permutation of values of a shape.
#[derive(Clone)]
pub struct Shape(Prf);

/// Room for one value.
#[derive(Default)]
pub struct Room {
    classes: Vec<Class>,
    digits: Vec<u32>,
    shape: Vec<u8>,
    half: Vec<u8>,
    stream: Vec<u8>,
}

/// The letters among which a character stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It stays.
    Fixed(char),
    /// One of so many that follow a first.
    Run { first: u32, count: u32 },
    /// One of the letters of 128 code points, either upper case or not.
    Block { first: u32, upper: bool, count: u32 },
}

fn letters(first: u32, upper: bool) -> impl Iterator<Item = char> {
    (first..first + 128).filter_map(char::from_u32).filter(move |c| c.is_alphanumeric() && c.is_uppercase() == upper)
}

impl Class {
    fn of(c: char) -> (Self, u32) {
        let run = |first: char, count| (Self::Run { first: first.into(), count }, u32::from(c) - u32::from(first));
        match c {
            'a'..='z' => run('a', 26),
            'A'..='Z' => run('A', 26),
            '0'..='9' => run('0', 10),
            _ if c.is_ascii() || !c.is_alphanumeric() => (Self::Fixed(c), 0),
            // Hangul and the ideographs are one run each.
            '\u{4e00}'..='\u{9fff}' => run('\u{4e00}', 0x5200),
            '\u{ac00}'..='\u{d7a3}' => run('\u{ac00}', 11172),
            _ => {
                let (first, upper) = (u32::from(c) & !0x7f, c.is_uppercase());
                let count = letters(first, upper).count() as u32;
                let at = letters(first, upper).position(|l| l == c).unwrap_or(0) as u32;
                (Self::Block { first, upper, count }, at)
            }
        }
    }

    fn count(self) -> u32 {
        match self {
            Self::Fixed(_) => 1,
            Self::Run { count, .. } | Self::Block { count, .. } => count.max(1),
        }
    }

    fn char(self, digit: u32) -> char {
        match self {
            Self::Fixed(c) => c,
            Self::Run { first, .. } => char::from_u32(first + digit).unwrap_or('x'),
            Self::Block { first, upper, .. } => letters(first, upper).nth(digit as usize).unwrap_or('x'),
        }
    }
}

impl Shape {
    /// A permutation of a domain.
    pub fn new(prf: Prf) -> Self {
        Self(prf)
    }

    /// The substitute of a text.
    pub fn text(&self, value: &str, room: &mut Room, out: &mut String) {
        room.classes.clear();
        room.digits.clear();
        for c in value.chars() {
            let (class, digit) = Class::of(c);
            room.classes.push(class);
            if class.count() > 1 {
                room.digits.push(digit);
            }
        }
        self.permute(room);
        write(room, out);
    }

    /// The substitute of a whole number up to `limit`, or down to one below its negative. `None`: the value is no such number.
    pub fn number(&self, value: &[u8], limit: u64, room: &mut Room) -> Option<String> {
        let digits = value.strip_prefix(b"-").unwrap_or(value);
        let negative = value.len() > digits.len();
        let limit = limit + u64::from(negative);
        let size = std::str::from_utf8(digits).ok()?.parse::<u64>().ok().filter(|n| *n <= limit)?;
        let mut out = String::from(if negative { "-" } else { "" });
        if size == 0 || digits[0] == b'0' {
            return (digits == b"0").then(|| "0".to_owned());
        }
        room.classes.clear();
        room.classes.push(Class::Run { first: '1'.into(), count: 9 });
        room.classes.resize(digits.len(), Class::Run { first: '0'.into(), count: 10 });
        room.digits.clear();
        room.digits.extend(digits.iter().map(|d| u32::from(d - b'0')));
        room.digits[0] -= 1;
        // Of numbers of so many digits, more than one in ten are taken: the walk is short, and comes back to the value at last.
        loop {
            self.permute(room);
            let mut walked = String::with_capacity(20);
            write(room, &mut walked);
            if walked.parse::<u64>().is_ok_and(|n| n <= limit) {
                out.push_str(&walked);
                return Some(out);
            }
        }
    }

    fn permute(&self, room: &mut Room) {
        let Room { classes, digits, shape, half, stream } = room;
        shape.clear();
        for class in classes.iter() {
            let tag = match class {
                Class::Fixed(c) => [0, u32::from(*c)],
                Class::Run { first, .. } => [1, *first],
                Class::Block { first, upper, .. } => [2 + u32::from(*upper), *first],
            };
            shape.extend(tag.iter().flat_map(|t| t.to_le_bytes()));
        }
        let counts: Vec<u32> = classes.iter().map(|c| c.count()).filter(|c| *c > 1).collect();
        let middle = digits.len() / 2;
        for round in 0..ROUNDS {
            let (left, right) = digits.split_at_mut(middle);
            let (changed, other, counts) =
                if round % 2 == 0 { (right, left, &counts[middle..]) } else { (left, right, &counts[..middle]) };
            half.clear();
            half.extend(other.iter().flat_map(|d| d.to_le_bytes()));
            stream.resize(changed.len() * 4, 0);
            self.0.fill(&[&[round], shape, half], stream);
            for ((digit, count), word) in changed.iter_mut().zip(counts).zip(stream.chunks_exact(4)) {
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                *digit = ((u64::from(*digit) + u64::from(word)) % u64::from(*count)) as u32;
            }
        }
    }
}

fn write(room: &Room, out: &mut String) {
    let mut digits = room.digits.iter();
    for class in &room.classes {
        let digit = if class.count() > 1 { digits.next().copied().unwrap_or(0) } else { 0 };
        out.push(class.char(digit));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::data::mask::Key;

    fn shape() -> Shape {
        Shape::new(Key::from_secret(b"0123456789abcdef").unwrap().domain("shape", "t"))
    }

    fn text(value: &str) -> String {
        let mut out = String::new();
        shape().text(value, &mut Room::default(), &mut out);
        out
    }

    #[test]
    fn all_values_of_a_short_shape_are_met_once() {
        let all: BTreeSet<String> = (0..26 * 10 * 26)
            .map(|n: u32| {
                let letter = |n: u32| char::from(b'a' + n as u8);
                text(&format!("{}-{}{}", letter(n / 260), n / 26 % 10, letter(n % 26).to_ascii_uppercase()))
            })
            .collect();
        assert_eq!(all.len(), 6760);
        assert!(all.iter().all(|v| v.len() == 4 && v.as_bytes()[1] == b'-' && v.as_bytes()[3].is_ascii_uppercase()));
    }

    #[test]
    fn whole_numbers_of_a_type_are_permuted_within_it() {
        let mut room = Room::default();
        let number = |n: i64, room: &mut Room| shape().number(n.to_string().as_bytes(), 32767, room).unwrap();
        let all: BTreeSet<String> = (-32768..=32767).map(|n| number(n, &mut room)).collect();
        assert_eq!(all.len(), 65536);
        assert!(all.iter().all(|n| n.parse::<i16>().is_ok()));
        assert_eq!(shape().number(b"1.5", 32767, &mut room), None);
        assert_eq!(shape().number(b"NaN", 32767, &mut room), None);
    }

    #[test]
    fn letters_of_other_scripts_do_not_stay() {
        for value in ["Мария", "ñandú", "東京", "서울특별시", "Ελλάδα"] {
            let masked = text(value);
            assert_eq!(masked.chars().count(), value.chars().count());
            assert_ne!(masked, value);
        }
    }

    proptest! {
        #[test]
        fn two_values_never_meet(a in "[a-zA-Z0-9ñÑж .@-]{1,12}", b in "[a-zA-Z0-9ñÑж .@-]{1,12}") {
            prop_assert_eq!(a == b, text(&a) == text(&b));
            prop_assert_eq!(text(&a).chars().count(), a.chars().count());
        }
    }
}
