//! The function that substitutes come from: BLAKE3 keyed, over (domain, value). Whoever has not the key can neither compute a
//! substitute nor find a value for one; whoever has it can try values, so with a kept key substitutes are pseudonyms.

use std::fmt;

/// The key of a snapshot.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A key shorter than this can be tried out.
const SHORTEST: usize = 16;

impl Key {
    /// From the bytes of a Secret's key. The newline that editors leave at the end is not part of it.
    ///
    /// # Errors
    /// Where it is too short to be one.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.len() < SHORTEST {
            return Err(format!(
                "the masking key has {} bytes; put at least {SHORTEST} random ones into key `key` of the Secret, for example \
                 by `head -c 32 /dev/urandom | base64`",
                bytes.len()
            ));
        }
        Ok(Self(blake3::derive_key("lockkeeper.dev masking key v1", bytes)))
    }

    /// A key that is known nowhere, for one snapshot.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn random() -> Result<Self, String> {
        let mut key = [0; 32];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut key).map_err(|_| "the system gives no random bytes for a masking key".to_owned())?;
        Ok(Self(key))
    }

    /// The function of one domain. `purpose` keeps functions of different use apart.
    pub fn domain(&self, purpose: &str, domain: &str) -> Prf {
        let mut name = Vec::with_capacity(purpose.len() + domain.len() + 1);
        name.extend_from_slice(purpose.as_bytes());
        name.push(0);
        name.extend_from_slice(domain.as_bytes());
        Prf(*blake3::keyed_hash(&self.0, &name).as_bytes())
    }
}

/// The function of one domain.
#[derive(Clone)]
pub struct Prf([u8; 32]);

impl Prf {
    /// 256 bits for a value.
    pub fn of(&self, value: &[u8]) -> Bits {
        Bits(*blake3::keyed_hash(&self.0, value).as_bytes())
    }

    /// As many bytes as are wanted, for a value in parts.
    pub fn fill(&self, parts: &[&[u8]], out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize_xof().fill(out);
    }
}

/// 256 bits.
#[derive(Clone, Copy)]
pub struct Bits(pub [u8; 32]);

impl Bits {
    /// The `n`th 32 of them, 0 to 7.
    pub fn word(&self, n: usize) -> u32 {
        let at = n % 8 * 4;
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// The `n`th 64 of them, 0 to 3.
    pub fn long(&self, n: usize) -> u64 {
        u64::from(self.word(n * 2)) | u64::from(self.word(n * 2 + 1)) << 32
    }

    /// A number below `limit`, from the `n`th 32 bits.
    pub fn below(&self, n: usize, limit: u32) -> u32 {
        ((u64::from(self.word(n)) * u64::from(limit)) >> 32) as u32
    }

    /// One of a list, by the `n`th 32 bits.
    pub fn pick<'a>(&self, n: usize, list: &[&'a str]) -> &'a str {
        list[self.below(n, list.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_is_refused_and_a_last_newline_does_not_count() {
        assert!(Key::from_secret(b"short\n").unwrap_err().contains("at least 16"));
        let (a, b) = (Key::from_secret(b"0123456789abcdef").unwrap(), Key::from_secret(b"0123456789abcdef\r\n").unwrap());
        assert_eq!(a, b);
        assert_ne!(Key::random().unwrap(), Key::random().unwrap());
        assert!(!format!("{a:?}").contains("Key(["));
    }

    #[test]
    fn key_purpose_domain_and_value_each_make_another_substitute() {
        let key = Key::from_secret(b"0123456789abcdef").unwrap();
        let other = Key::from_secret(b"0123456789abcdeF").unwrap();
        let base = key.domain("value", "person").of(b"x").0;
        assert_eq!(base, key.domain("value", "person").of(b"x").0);
        for different in [
            other.domain("value", "person").of(b"x").0,
            key.domain("shift", "person").of(b"x").0,
            key.domain("value", "people").of(b"x").0,
            key.domain("value", "person").of(b"y").0,
        ] {
            assert_ne!(base, different);
        }
    }
}
