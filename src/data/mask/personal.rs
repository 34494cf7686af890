//! Which columns look as if people were in them, and what is proposed for them: by name, type and the table alone.

use crate::{
    api::{Derive, Domain, Empty, Fake, FakeKind, HashMask, JsonMask, Keep, Locale, Mask, Noise, Shift},
    data::postgres::tables::{Column, Table},
};

use super::{columns::Type, names};

/// What a column looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What a substitute of that kind stands for.
    Fake(FakeKind),
    /// A date of birth.
    Birth,
    /// A number of an identity card, a passport, a patient.
    Identity,
    /// A password, a token, a key.
    Secret,
    /// A picture of somebody.
    Picture,
    /// Where somebody is.
    Place,
    /// What somebody earns.
    Income,
    /// Sex, faith, health.
    Trait,
    /// A bank of somebody.
    Bank,
    /// Words of other columns, for a search.
    Copy,
}

impl Look {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fake(kind) => match kind {
                FakeKind::FirstName => "a first name",
                FakeKind::LastName => "a last name",
                FakeKind::FullName => "a name of a person",
                FakeKind::Username => "a name to log in with",
                FakeKind::Email => "an email address",
                FakeKind::Phone => "a telephone number",
                FakeKind::Street => "a postal address",
                FakeKind::City => "a city",
                FakeKind::Postcode => "a postcode",
                FakeKind::Company => "a company",
                FakeKind::Iban => "a bank account",
                FakeKind::Card => "a card number",
                FakeKind::Ip => "a network address",
                _ => "text of a person",
            },
            Self::Birth => "a date of birth",
            Self::Identity => "a number that identifies a person",
            Self::Secret => "a secret",
            Self::Picture => "a picture of a person",
            Self::Place => "where a person is",
            Self::Income => "what a person earns",
            Self::Trait => "what a person is",
            Self::Bank => "the code of a bank",
            Self::Copy => "a copy of other columns' words",
        }
    }
}

/// What a column looks like. `None`: not as if somebody were in it.
pub fn look(table: &Table, column: &Column) -> Option<Look> {
    let kind = Type::of(column);
    // A flag or one of a few labels says nothing of who; nor does a whole number that counts or refers.
    if column.base_type == "bool" || column.category == 'E' || column.generated {
        return None;
    }
    if kind == Type::Address {
        return Some(Look::Fake(FakeKind::Ip));
    }
    if column.base_type == "tsvector" {
        return Some(Look::Copy);
    }
    if column.base_type.starts_with("macaddr") {
        return Some(Look::Identity);
    }
    // Whole numbers that refer are masked where what they refer to is.
    if matches!(kind, Type::Whole(_)) && table.foreign_keys.iter().any(|k| k.columns.contains(&column.name)) {
        return None;
    }
    let look = named(table, column)?;
    let whole = |look| {
        matches!(look, Look::Identity | Look::Income | Look::Birth | Look::Secret | Look::Fake(FakeKind::Phone | FakeKind::Card))
    };
    match (kind, look) {
        (Type::Date, Look::Birth) => Some(look),
        // A number that is a key or refers to one is not what it refers to.
        (Type::Whole(_), _) if names::last(&names::words(&column.name), "id") => None,
        (Type::Whole(_), look) if whole(look) => Some(look),
        (Type::Decimal, Look::Income | Look::Place) => Some(look),
        // Whom a UUID stands for is said elsewhere; but it may be the token itself.
        (Type::Uuid, Look::Secret) if !names::last(&names::words(&column.name), "id") => Some(look),
        (Type::Date | Type::Whole(_) | Type::Decimal | Type::Uuid, _) => None,
        _ => Some(look),
    }
}

/// What a column looks like by its name, in its table.
fn named(table: &Table, column: &Column) -> Option<Look> {
    let words = names::words(&column.name);
    let people = names::is_of_people(&table.name);
    match names::look(&words) {
        // Events and shops have places too.
        Some(Look::Place) if names::any(&words, "lat lng lon") && !people && !beside_a_person(table) => return None,
        Some(look) => return Some(look),
        None => {}
    }
    // A copy of what is kept elsewhere in parts or in another spelling.
    let copies = ["cached", "cache", "lower", "normalized", "canonical", "pretty"];
    let bare: Vec<&str> = words.iter().map(String::as_str).filter(|w| !copies.contains(w)).collect();
    match bare.as_slice() {
        ["name" | "nombre" | "nom"] if people || beside_a_person(table) => Some(Look::Fake(FakeKind::FullName)),
        ["website" | "homepage" | "url"] | ["website" | "homepage", "url"] if people => Some(Look::Fake(FakeKind::Url)),
        ["user", "url"] => Some(Look::Fake(FakeKind::Url)),
        ["uid" | "subject"] if table.columns.iter().any(|c| c.name == "provider") => Some(Look::Identity),
        ["pin"] if people => Some(Look::Secret),
        _ => None,
    }
}

/// What stands beside an address, a telephone number or somebody's number is a person's.
fn beside_a_person(table: &Table) -> bool {
    table.columns.iter().any(|c| {
        let words = names::words(&c.name);
        let reaches = matches!(names::look(&words), Some(Look::Fake(FakeKind::Email | FakeKind::Phone)));
        let refers = words.len() == 2 && names::last(&words, "id") && names::is_of_people(&words[0]);
        (reaches && Type::of(c) == Type::Text) || refers
    })
}

/// What the last name of a path in JSON looks like.
pub fn look_of_path(path: &str) -> Option<Look> {
    let name = path.rsplit(['.', '\'']).find(|part| part.chars().any(char::is_alphabetic))?;
    names::look(&names::words(name))
}

fn domain(name: &str) -> Option<Domain> {
    Some(name.into())
}

/// A substitute, in the domain of its kind.
pub fn fake(kind: FakeKind, locale: Locale) -> Mask {
    let name = match kind {
        FakeKind::FirstName | FakeKind::LastName | FakeKind::FullName | FakeKind::Username => "person".to_owned(),
        other => other.word(),
    };
    Mask { fake: Some(Fake { kind, domain: domain(&name), locale }), ..Mask::default() }
}

/// The value as it is, for a reason where one is said.
pub fn keep(reason: Option<&str>) -> Mask {
    Mask { keep: Some(Keep { reason: reason.map(Into::into) }), ..Mask::default() }
}

/// The neutral value.
pub fn redact() -> Mask {
    Mask { redact: Some(Empty {}), ..Mask::default() }
}

/// NULL.
pub fn null() -> Mask {
    Mask { null: Some(Empty {}), ..Mask::default() }
}

/// A keyed hash in a domain.
pub fn hash(name: Option<&str>) -> Mask {
    Mask { hash: Some(HashMask { domain: name.and_then(domain) }), ..Mask::default() }
}

/// Whether a column's values, alone or with others, are unique, and not because fewer columns already are.
pub fn is_unique(table: &Table, column: &Column) -> bool {
    let least = |set: &Vec<String>| !table.unique.iter().any(|u| u.len() < set.len() && u.iter().all(|c| set.contains(c)));
    table.unique.iter().chain(&table.unique_partly).any(|set| set.contains(&column.name) && least(set))
}

/// What is proposed for a column that looks like nothing in particular, by its type, or like something; with the reason.
pub fn propose(table: &Table, column: &Column, locale: Locale) -> (Mask, String) {
    let unique = is_unique(table, column);
    if let Some(look) = look(table, column) {
        if let Some((mask, of)) = computed(table, column) {
            return (mask, format!("by its name what {of} gives"));
        }
        return (for_look(table, column, look, (unique, locale)), format!("looks like {}", look.words()));
    }
    let comment = column.comment.as_ref().map(|_| "; its comment may say more").unwrap_or_default();
    let key = |name: &String| *name == column.name;
    if table.foreign_keys.iter().any(|k| k.columns.iter().any(key)) {
        return (keep(None), "refers to another table".into());
    }
    let nothing = || if column.not_null { redact() } else { null() };
    let words = names::words(&column.name);
    if let (false, Some(key)) = (unique, told_by(table, column)) {
        let why = format!(
            "values of unlike kinds, told apart by {key}, and one mask must do for all; what the program needs can stay: say which rows \
             leave (rows: {{where: \"{key} IN (…)\"}}), and keep with that as the reason"
        );
        return (redact(), why);
    }
    let around = names::AROUND.iter().find(|(list, _)| names::any(&words, list)).map(|(_, kind)| *kind);
    match Type::of(column) {
        Type::Json => (
            Mask { json: Some(JsonMask::default()), ..Mask::default() },
            format!("may hold anything: name the paths that may leave{comment}"),
        ),
        Type::Bytes if !unique => (nothing(), "bytes may be anything".into()),
        Type::Text if names::is_worth_money(&table.name, &words) => {
            (fake(FakeKind::Shape, locale), "by the names of table and column a code that is worth something".into())
        }
        Type::Text if unique && column.base_type != "bpchar" => {
            (keep(None), format!("text that is unique, perhaps a key: look whether it names a person{comment}"))
        }
        Type::Text if around.is_some_and(|kind| super::columns::room(column) >= kind.least_room()) => {
            let kind = around.unwrap_or(FakeKind::Text);
            (fake(kind, locale), format!("by its name {}{comment}", Look::Fake(kind).words()))
        }
        Type::Text if names::plain(&table.name, &words).is_some() => {
            (keep(None), format!("{}{comment}", names::plain(&table.name, &words).unwrap_or_default()))
        }
        Type::Text if column.max_length.is_none_or(|n| n > 64) || names::last(&words, names::FREE) => {
            (redact(), format!("free text may hold anything: keep it where it does not{comment}"))
        }
        Type::Array if !is_plain(column.base_type.trim_start_matches('_')) => {
            (nothing(), format!("a list may hold anything: keep it where it does not{comment}"))
        }
        Type::Other if !is_plain(&column.base_type) && !matches!(column.category, 'E' | 'B' | 'R') => {
            (nothing(), format!("{} may hold anything: keep it where it does not{comment}", column.type_name))
        }
        _ => (keep(None), format!("{} that looks like nothing personal{comment}", column.type_name)),
    }
}

/// The column that tells which kind of value stands in a column of text, where there are values of many.
pub fn told_by<'a>(table: &'a Table, column: &Column) -> Option<&'a str> {
    let others = table.columns.iter().map(|c| c.name.as_str()).filter(|name| *name != column.name);
    (Type::of(column) == Type::Text).then(|| names::told_by(&names::words(&column.name), others)).flatten()
}

/// Types whose values are numbers, times and the like, and no text.
fn is_plain(base: &str) -> bool {
    const PLAIN: [&str; 24] = [
        "bool",
        "int2",
        "int4",
        "int8",
        "numeric",
        "float4",
        "float8",
        "money",
        "date",
        "timestamp",
        "timestamptz",
        "time",
        "timetz",
        "interval",
        "uuid",
        "oid",
        "bit",
        "varbit",
        "pg_lsn",
        "xid",
        "xid8",
        "tid",
        "regclass",
        "regproc",
    ];
    PLAIN.contains(&base)
}

/// A hash or another spelling of a sibling: `email_hash` of `email`, `lower_name` of `name`.
fn computed(table: &Table, column: &Column) -> Option<(Mask, String)> {
    let words = names::words(&column.name);
    let how = |word: &str| match word {
        "hash" | "sha" | "md" | "digest" if column.max_length == Some(32) || word == "md" => Some("md5Of"),
        "hash" | "sha" | "digest" if column.max_length.is_none_or(|n| n >= 64) => Some("sha256Of"),
        "lower" | "canonical" => Some("lowerOf"),
        _ => None,
    };
    let (at, word) = words.iter().enumerate().find_map(|(at, word)| Some((at, how(word)?)))?;
    let rest: Vec<String> = words.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, w)| w.clone()).collect();
    let source = table.written().find(|c| c.name != column.name && names::words(&c.name) == rest && Type::of(c) == Type::Text)?;
    // What is secret is not hashed as people hash addresses.
    if rest.is_empty() || Type::of(column) != Type::Text || look(table, source) == Some(Look::Secret) {
        return None;
    }
    let (name, mut derive) = (source.name.as_str().into(), Derive::default());
    match word {
        "md5Of" => derive.md5_of = Some(name),
        "sha256Of" => derive.sha256_of = Some(name),
        _ => derive.lower_of = Some(name),
    }
    Some((Mask { derive: Some(derive), ..Mask::default() }, format!("{word} {}", source.name)))
}

fn for_look(table: &Table, column: &Column, look: Look, (unique, locale): (bool, Locale)) -> Mask {
    let kind = Type::of(column);
    let safe = || match kind {
        _ if unique && matches!(kind, Type::Text | Type::Whole(_)) => fake(FakeKind::Shape, locale),
        _ if unique => hash(None),
        _ if column.not_null => redact(),
        _ => null(),
    };
    match (look, kind) {
        (Look::Fake(FakeKind::Ip), Type::Address) if !unique => fake(FakeKind::Ip, locale),
        (Look::Fake(FakeKind::Text), _) => safe(),
        (Look::Fake(fake_kind), Type::Text) if super::columns::room(column) >= fake_kind.least_room() => {
            match fake_kind {
                _ if !unique || fake_kind.is_injective() => fake(fake_kind, locale),
                // A name that nobody else has is one to log in with.
                FakeKind::FullName if super::columns::room(column) >= FakeKind::Username.least_room() => {
                    fake(FakeKind::Username, locale)
                }
                _ => fake(FakeKind::Shape, locale),
            }
        }
        (Look::Fake(_) | Look::Bank, Type::Text) => fake(FakeKind::Shape, locale),
        (Look::Fake(_) | Look::Identity, Type::Whole(_)) => fake(FakeKind::Shape, locale),
        (Look::Identity, Type::Text) => fake(FakeKind::Shape, locale),
        (Look::Birth, Type::Date) if !unique => {
            let subject = table.unique.first().and_then(|set| set.first()).filter(|s| **s != column.name);
            subject.map_or_else(safe, |s| Mask { shift: Some(Shift { subject: s.as_str().into(), days: 90 }), ..Mask::default() })
        }
        (Look::Income, Type::Whole(_) | Type::Decimal) if !unique => {
            Mask { noise: Some(Noise { percent: 10 }), ..Mask::default() }
        }
        _ => safe(),
    }
}

/// A mask as a policy says it, on one line.
pub fn yaml(mask: &Mask) -> String {
    serde_json::to_value(mask).map(|value| flow(&value)).unwrap_or_default()
}

/// A value in YAML's flow style.
fn flow(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", scalar(k), flow(v))).collect();
            format!("{{{}}}", members.join(", "))
        }
        serde_json::Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        serde_json::Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Text in YAML, quoted where it would be read as something else.
pub fn scalar(text: &str) -> String {
    let plain = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ' '))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"].contains(&text.to_lowercase().as_str());
    // `null` is the name of a mask, and the one such word that may stand as a key.
    if plain { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proposed_is_yaml_that_reads_back_as_the_same() {
        for mask in [
            fake(FakeKind::Email, Locale::Es),
            keep(Some("public: \"yes\"")),
            redact(),
            null(),
            hash(Some("person")),
            Mask { shift: Some(Shift { subject: "Strange \"name\": {".into(), days: 3 }), ..Mask::default() },
        ] {
            let text = yaml(&mask);
            let read: Mask = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read, mask, "{text}");
        }
    }
}
