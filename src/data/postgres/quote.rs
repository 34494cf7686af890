//! Names and literals in SQL, and the names of databases that are made.

/// PostgreSQL cuts identifiers to so many bytes.
const NAME_BYTES: usize = 63;

/// What a database that was made is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The undo point: the database as it was at the lock.
    Undo,
    /// The failed database, kept after a rollback.
    Failed,
    /// The scratch database of a proof.
    Proof,
    /// What a restore loads, until it becomes live.
    Load,
}

impl Purpose {
    /// The word in the name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Undo => "undo",
            Self::Failed => "failed",
            Self::Proof => "proof",
            Self::Load => "load",
        }
    }
}

/// An identifier, quoted.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal, quoted for `standard_conforming_strings = on`, which each session pins.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The first digits of a UID, without dashes.
pub fn digits(uid: &str, count: usize) -> String {
    uid.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).take(count).collect()
}

/// Name of the control database of an environment.
pub fn control_database(environment: &str) -> String {
    format!("lockkeeper_{}", digits(environment, 16))
}

/// Name of a database that is made beside `database` for the run.
pub fn made_database(database: &str, purpose: Purpose, run: &str) -> String {
    let suffix = format!("__{}_{}", purpose.word(), digits(run, 8));
    if database.len() + suffix.len() <= NAME_BYTES {
        return format!("{database}{suffix}");
    }
    // Databases whose names are equal where they are cut must not take each other's undo points.
    let suffix = format!("_{}{suffix}", &blake3::hash(database.as_bytes()).to_hex()[..6]);
    let mut end = NAME_BYTES - suffix.len();
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &database[..end])
}

/// Whether the name is one that [`made_database`] makes beside `database`, whichever the run.
pub fn is_made_database(database: &str, name: &str) -> bool {
    [Purpose::Undo, Purpose::Failed, Purpose::Proof, Purpose::Load].into_iter().any(|made| is_made(database, made, name))
}

/// The same of one kind.
pub fn is_made(database: &str, purpose: Purpose, name: &str) -> bool {
    name.len() >= 8
        && name.is_char_boundary(name.len() - 8)
        && name[name.len() - 8..].chars().all(|c| c.is_ascii_alphanumeric())
        && name == made_database(database, purpose, &name[name.len() - 8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("Shop \"A\""), "\"Shop \"\"A\"\"\"");
        assert_eq!(literal("it's \\"), "'it''s \\'");
    }

    #[test]
    fn a_made_name_fits_63_bytes_and_is_known_again() {
        let run = "12AB34cd-0000-0000-0000-000000000000";
        assert_eq!(made_database("shop", Purpose::Undo, run), "shop__undo_12ab34cd");
        for database in ["shop", &"x".repeat(63), &"ä".repeat(31), "Shop \"A\""] {
            for made in [Purpose::Undo, Purpose::Failed, Purpose::Proof, Purpose::Load] {
                let name = made_database(database, made, run);
                assert!(name.len() <= 63, "{name}");
                assert!(is_made_database(database, &name), "{name}");
            }
            assert!(!is_made_database(database, database));
            assert!(!is_made_database(database, "other__undo_12ab34cd"));
            assert!(!is_made_database(database, "postgres"));
        }
        let twin = |end: &str| made_database(&("x".repeat(62) + end), Purpose::Undo, run);
        assert_ne!(twin("a"), twin("b"), "names equal where they are cut");
        assert_eq!(control_database("01234567-89ab-cdef-0123-456789abcdef"), "lockkeeper_0123456789abcdef");
    }
}
