//! Values that look real and are not. What has an issuer is of a range that nobody is given: addresses at `example.org` and
//! its like, telephone numbers kept for plays and films, cards of test ranges, IBANs of no bank, documentation networks.

mod words;

use super::prf::Bits;
use crate::api::{FakeKind, Locale};

/// Digits to the base 32 that nobody mistakes for each other.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Domains that are reserved, and have no mail.
const DOMAINS: [&str; 3] = ["example.org", "example.com", "example.net"];

/// A form of a kind, chosen by the room that all columns of a domain have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it looks like.
    pub kind: FakeKind,
    /// Its language.
    pub locale: Locale,
    /// How many characters there are. What may be cut, is.
    pub room: usize,
}

impl FakeKind {
    /// Whether different values are sure to get different substitutes: a permutation, or so many bits that no two of 2^32 values
    /// will meet.
    pub fn is_injective(self) -> bool {
        matches!(self, Self::Username | Self::Email | Self::Uuid | Self::Url | Self::Shape)
    }

    /// Whether substitutes of different values stay different where case does not count.
    pub fn is_injective_folded(self) -> bool {
        matches!(self, Self::Username | Self::Email | Self::Uuid | Self::Url)
    }

    /// The least number of characters that a column needs. What is cut where there is less has 1.
    pub fn least_room(self) -> usize {
        match self {
            Self::Username => 16,
            Self::Email => 29,
            Self::Url => 36,
            Self::Uuid => 36,
            Self::Phone => 16,
            Self::Postcode => 7,
            Self::Iban => 24,
            Self::Card => 16,
            Self::Ip => 39,
            _ => 1,
        }
    }

    /// The word of a policy.
    pub fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// The longest form of an address: first.last.13 digits@example.org.
const LONG_EMAIL: usize = 11 + 1 + 12 + 1 + 13 + 1 + 11;
/// The longest form of a name to log in with: first.13 digits.
const LONG_USERNAME: usize = 11 + 1 + 13;

impl Form {
    /// Appends the substitute that these bits stand for. `value` is looked at for its length and its family alone.
    pub fn write(self, bits: &Bits, value: &[u8], out: &mut Vec<u8>) {
        let Self { kind, locale, room } = self;
        let words = words::of(locale);
        let begun = out.len();
        let put = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
        match kind {
            FakeKind::FirstName => put(out, bits.pick(0, words.first)),
            FakeKind::LastName => put(out, last(bits, words)),
            FakeKind::FullName => {
                put(out, bits.pick(0, words.first));
                out.push(b' ');
                put(out, last(bits, words));
            }
            FakeKind::Username if room >= LONG_USERNAME => {
                ascii(bits.pick(0, words.first), out);
                out.push(b'.');
                token(bits, 13, out);
            }
            FakeKind::Username => token(bits, 16, out),
            FakeKind::Email => {
                if room >= LONG_EMAIL {
                    ascii(bits.pick(0, words.first), out);
                    out.push(b'.');
                    ascii(bits.pick(1, words.last), out);
                    out.push(b'.');
                    token(bits, 13, out);
                } else {
                    out.push(b'u');
                    token(bits, 16, out);
                }
                out.push(b'@');
                put(out, if room >= LONG_EMAIL { bits.pick(2, &DOMAINS) } else { DOMAINS[0] });
            }
            FakeKind::Url => {
                put(out, "https://example.org/");
                token(bits, 16, out);
            }
            FakeKind::Uuid => uuid(bits, out),
            FakeKind::Phone => phone(bits, locale, out),
            FakeKind::Street => {
                let number = 1 + bits.below(1, 180);
                let width = 1 + usize::from(number > 9) + usize::from(number > 99);
                let street = bits.pick(0, words.streets);
                if words.number_last {
                    put(out, street);
                    put(out, ", ");
                    digits(number, width, out);
                } else {
                    digits(number, width, out);
                    out.push(b' ');
                    put(out, street);
                }
            }
            FakeKind::City => put(out, bits.pick(0, words.cities)),
            FakeKind::Postcode => match locale {
                // ZZ is the area of no post town.
                Locale::En => {
                    put(out, &format!("ZZ{} {}", bits.below(0, 9) + 1, bits.below(1, 10)));
                    out.extend([bits.below(2, 26), bits.below(3, 26)].map(|n| b'A' + n as u8));
                }
                Locale::Es => put(out, &format!("{:02}{:03}", 1 + bits.below(0, 52), bits.below(1, 1000))),
                Locale::Ca => {
                    put(out, &format!("{}{:03}", ["08", "17", "25", "43"][bits.below(0, 4) as usize], bits.below(1, 1000)))
                }
            },
            FakeKind::Company => {
                put(out, bits.pick(0, words.trades));
                out.push(b' ');
                put(out, bits.pick(1, words.forms));
            }
            FakeKind::Iban => iban(bits, locale, out),
            FakeKind::Card => card(bits, out),
            FakeKind::Ip => ip(bits, value, out),
            FakeKind::Text => text(bits, words.text, value.len().min(room).max(1), out),
            // A permutation is no choice; it is made elsewhere.
            FakeKind::Shape => {}
        }
        cut(out, begun, room);
    }
}

/// Leaves at most so many characters after `from`, and no space at the end.
fn cut(out: &mut Vec<u8>, from: usize, room: usize) {
    if out.len() - from > room {
        let end = out[from..].iter().enumerate().filter(|(_, b)| **b & 0xc0 != 0x80).nth(room).map(|(at, _)| from + at);
        if let Some(end) = end {
            out.truncate(end);
            while out.len() > from + 1 && out.last() == Some(&b' ') {
                out.pop();
            }
        }
    }
}

fn last<'a>(bits: &Bits, words: &'a words::Words) -> &'a str {
    bits.pick(1, words.last)
}

/// A name as it stands in an address: small letters without accents.
fn ascii(word: &str, out: &mut Vec<u8>) {
    if word.bytes().all(|b| b.is_ascii_alphabetic()) {
        let begun = out.len();
        out.extend_from_slice(word.as_bytes());
        out[begun..].make_ascii_lowercase();
        return;
    }
    for c in word.chars() {
        let plain = match c {
            'á' | 'à' | 'Á' | 'À' => 'a',
            'é' | 'è' | 'É' | 'È' => 'e',
            'í' | 'ï' | 'Í' => 'i',
            'ó' | 'ò' | 'Ó' | 'Ò' => 'o',
            'ú' | 'ü' | 'Ú' => 'u',
            'ñ' => 'n',
            'ç' => 'c',
            _ => c.to_ascii_lowercase(),
        };
        if plain.is_ascii_lowercase() {
            out.push(plain as u8);
        }
    }
}

/// A number with so many digits, the first of them zeros where it has fewer.
fn digits(mut number: u32, width: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 10];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[10 - width..]);
}

/// Up to 16 digits to the base 32, from bits that no word is chosen by.
fn token(bits: &Bits, digits: usize, out: &mut Vec<u8>) {
    let mut text = [0; 16];
    for (half, mut from) in text.chunks_mut(12).zip([bits.long(2), bits.long(3)]) {
        for digit in half {
            *digit = DIGITS[(from & 31) as usize];
            from >>= 5;
        }
    }
    out.extend_from_slice(&text[..digits]);
}

fn uuid(bits: &Bits, out: &mut Vec<u8>) {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&bits.0[16..]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    hex(&bytes[..4], out);
    for range in [4..6, 6..8, 8..10, 10..16] {
        out.push(b'-');
        hex(&bytes[range], out);
    }
}

/// Appends bytes as hexadecimal digits.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]));
}

fn phone(bits: &Bits, locale: Locale, out: &mut Vec<u8>) {
    match locale {
        // Kept by Ofcom for plays and films.
        Locale::En => {
            out.extend_from_slice(b"+44 7700 900");
            digits(bits.below(0, 1000), 3, out);
        }
        // No series of Spain's plan begins so.
        Locale::Es | Locale::Ca => {
            out.extend_from_slice(b"+34 555 ");
            digits(bits.below(0, 1000), 3, out);
            out.push(b' ');
            digits(bits.below(1, 1000), 3, out);
        }
    }
}

/// An IBAN of a bank that there is not, with the check digits of its country and its own.
fn iban(bits: &Bits, locale: Locale, out: &mut Vec<u8>) {
    let (country, account) = match locale {
        Locale::En => ("GB", format!("TEST{:06}{:08}", bits.below(0, 1_000_000), bits.below(1, 100_000_000))),
        Locale::Es | Locale::Ca => {
            let account = format!("{:05}{:05}", bits.below(0, 100_000), bits.below(1, 100_000));
            ("ES", format!("00000000{}{}{account}", control("0000000000"), control(&account)))
        }
    };
    let digits: String = format!("{account}{country}00").chars().filter_map(|c| c.to_digit(36)).map(|n| n.to_string()).collect();
    let rest = digits.bytes().fold(0, |rest, d| (rest * 10 + u32::from(d - b'0')) % 97);
    out.extend_from_slice(format!("{country}{:02}{account}", 98 - rest).as_bytes());
}

/// A control digit of a Spanish account.
fn control(digits: &str) -> u32 {
    const WEIGHTS: [u32; 10] = [1, 2, 4, 8, 5, 10, 9, 7, 3, 6];
    let sum: u32 = digits.bytes().zip(WEIGHTS).map(|(d, w)| u32::from(d - b'0') * w).sum();
    match 11 - sum % 11 {
        11 => 0,
        10 => 1,
        digit => digit,
    }
}

/// A card of the range that processors keep for tests, with its check digit.
fn card(bits: &Bits, out: &mut Vec<u8>) {
    let body = format!("400000{:09}", bits.below(0, 1_000_000_000));
    out.extend_from_slice(body.as_bytes());
    out.push(b'0' + luhn(body.as_bytes()));
}

/// The digit that makes what stands before it right.
fn luhn(body: &[u8]) -> u8 {
    let sum: u32 = body
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            match (at % 2, digit * 2) {
                (0, twice @ 10..) => twice - 9,
                (0, twice) => twice,
                _ => digit,
            }
        })
        .sum();
    ((10 - sum % 10) % 10) as u8
}

/// An address of the documentation networks, of the family of the value, with the length of its network where it says one.
fn ip(bits: &Bits, value: &[u8], out: &mut Vec<u8>) {
    let (address, network) = value.iter().position(|b| *b == b'/').map_or((value, &b""[..]), |at| value.split_at(at));
    // A network has no bits beneath its length: one address alone is always right.
    if address.contains(&b':') {
        let text = format!(
            "2001:db8:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}",
            bits.word(0) >> 16,
            bits.word(0) & 0xffff,
            bits.word(1) >> 16,
            bits.word(1) & 0xffff,
            bits.word(2) >> 16,
            bits.word(2) & 0xffff
        );
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(if network.is_empty() { b"" } else { b"/128" });
    } else {
        let net = ["192.0.2", "198.51.100", "203.0.113"][bits.below(0, 3) as usize];
        out.extend_from_slice(format!("{net}.{}", 1 + bits.below(1, 254)).as_bytes());
        out.extend_from_slice(if network.is_empty() { b"" } else { b"/32" });
    }
}

/// Words, about as many bytes as are wanted.
fn text(bits: &Bits, words: &[&str], length: usize, out: &mut Vec<u8>) {
    // The words follow from the hash of the value, and say no more than it does.
    let mut state = bits.long(0) | 1;
    let begun = out.len();
    loop {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = words[(((state >> 32) * words.len() as u64) >> 32) as usize];
        if out.len() > begun {
            if out.len() - begun + 1 + word.len() > length {
                break;
            }
            out.push(b' ');
        }
        out.extend_from_slice(word.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::data::mask::{Key, prf::Prf};

    fn prf() -> Prf {
        Key::from_secret(b"0123456789abcdef").unwrap().domain("value", "t")
    }

    fn all(kind: FakeKind, locale: Locale, room: usize) -> Vec<String> {
        (0..2000)
            .map(|n: u32| {
                let value = format!("a value of some length {n}");
                let mut out = Vec::new();
                Form { kind, locale, room }.write(&prf().of(value.as_bytes()), value.as_bytes(), &mut out);
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    const KINDS: [FakeKind; 16] = [
        FakeKind::FirstName,
        FakeKind::LastName,
        FakeKind::FullName,
        FakeKind::Username,
        FakeKind::Email,
        FakeKind::Phone,
        FakeKind::Street,
        FakeKind::City,
        FakeKind::Postcode,
        FakeKind::Company,
        FakeKind::Iban,
        FakeKind::Card,
        FakeKind::Ip,
        FakeKind::Uuid,
        FakeKind::Url,
        FakeKind::Text,
    ];

    #[test]
    fn every_kind_fits_the_least_room_it_asks_for_and_any_more() {
        for kind in KINDS {
            for locale in [Locale::En, Locale::Es, Locale::Ca] {
                for room in
                    [kind.least_room(), kind.least_room() + 1, 20, 40, 200].into_iter().filter(|r| *r >= kind.least_room())
                {
                    let values = all(kind, locale, room);
                    assert!(values.iter().all(|v| !v.is_empty() && v.chars().count() <= room), "{kind:?} {locale:?} {room}");
                    if kind.is_injective() {
                        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len(), "{kind:?} {room}");
                        assert!(values.iter().all(|v| *v == v.to_lowercase()), "{kind:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_kept_key_gives_the_substitutes_that_it_gave_before() {
        // Who keeps a key counts on it from one version to the next. Where words are added, this number changes, and the notes of
        // the release have to say so.
        let mut hash = blake3::Hasher::new();
        for kind in KINDS {
            for locale in [Locale::En, Locale::Es, Locale::Ca] {
                for room in [kind.least_room(), 30, 200].into_iter().filter(|r| *r >= kind.least_room()) {
                    for value in all(kind, locale, room) {
                        hash.update(value.as_bytes());
                        hash.update(b"\n");
                    }
                }
            }
        }
        assert_eq!(&hash.finalize().to_hex()[..16], "e0a87fc94a35b278");
    }

    #[test]
    fn cards_and_ibans_have_right_check_digits() {
        for card in all(FakeKind::Card, Locale::En, 16) {
            assert_eq!(luhn(&card.as_bytes()[..15]), card.as_bytes()[15] - b'0');
        }
        assert_eq!(luhn(b"424242424242424"), 2);
        for locale in [Locale::En, Locale::Es] {
            for iban in all(FakeKind::Iban, locale, 34) {
                let turned: String =
                    format!("{}{}", &iban[4..], &iban[..4]).chars().map(|c| c.to_digit(36).unwrap().to_string()).collect();
                assert_eq!(turned.bytes().fold(0, |rest, d| (rest * 10 + u32::from(d - b'0')) % 97), 1, "{iban}");
            }
        }
        // The example of Spain's own documentation: ES91 2100 0418 45 0200051332.
        assert_eq!((control("0021000418"), control("0200051332")), (4, 5));
    }

    #[test]
    fn what_has_an_issuer_is_of_a_range_that_nobody_is_given() {
        for (kind, begins) in [
            (FakeKind::Phone, &["+44 7700 900"][..]),
            (FakeKind::Card, &["400000"]),
            (FakeKind::Ip, &["192.0.2.", "198.51.100.", "203.0.113."]),
            (FakeKind::Url, &["https://example.org/"]),
            (FakeKind::Postcode, &["ZZ"]),
        ] {
            assert!(all(kind, Locale::En, 60).iter().all(|v| begins.iter().any(|b| v.starts_with(b))), "{kind:?}");
        }
        assert!(all(FakeKind::Email, Locale::Es, 60).iter().all(|v| DOMAINS.iter().any(|d| v.ends_with(&format!("@{d}")))));
    }

    #[test]
    fn a_network_of_the_sixth_version_stays_one() {
        let mut out = Vec::new();
        Form { kind: FakeKind::Ip, locale: Locale::En, room: 50 }.write(&prf().of(b"x"), b"fe80::1/64", &mut out);
        assert!(out.starts_with(b"2001:db8:") && out.ends_with(b"/128"));
    }
}
