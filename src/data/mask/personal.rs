//! Which columns look as if people were in them, and what is proposed for them. By name, type and the table's name alone; in
//! English, Spanish and Catalan.

use crate::{
    api::{Domain, Empty, Fake, FakeKind, HashMask, JsonMask, Keep, Locale, Mask, Noise, Shift},
    data::postgres::tables::{Column, Table},
};

use super::columns::Type;

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
        }
    }
}

/// The words of a name: `lastName2`, `last_name`, `LASTName` are `last`, `name`.
fn words(name: &str) -> Vec<String> {
    let mut out: Vec<String> = vec![String::new()];
    let chars: Vec<char> = name.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|b| chars[b]);
        let after = chars.get(at + 1);
        let begins = c.is_uppercase()
            && before.is_some_and(|b| b.is_lowercase() || (b.is_uppercase() && after.is_some_and(|a| a.is_lowercase())));
        if begins || !c.is_alphabetic() {
            out.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = out.last_mut()
        {
            word.extend(c.to_lowercase().map(|c| match c {
                'á' | 'à' => 'a',
                'é' | 'è' => 'e',
                'í' | 'ï' => 'i',
                'ó' | 'ò' => 'o',
                'ú' | 'ü' => 'u',
                'ç' => 'c',
                c => c,
            }));
        }
    }
    out.retain(|w| !w.is_empty());
    out
}

/// Words of which one is enough. Where a name has several, the first of this list counts: `attendee_email` is an address, and
/// `address_zip` a postcode.
const WORDS: &[(&[&str], Look)] = &[
    (&["email", "emails", "mail", "correo", "correu", "mailto"], Look::Fake(FakeKind::Email)),
    (
        &["phone", "telephone", "telefono", "telefon", "mobile", "movil", "mobil", "fax", "msisdn", "cellphone", "tel"],
        Look::Fake(FakeKind::Phone),
    ),
    (&["zip", "zipcode", "postcode", "postal", "codipostal"], Look::Fake(FakeKind::Postcode)),
    (&["ip", "ipaddress", "ipaddr"], Look::Fake(FakeKind::Ip)),
    (&["street", "address", "direccion", "domicilio", "calle", "adreca", "carrer"], Look::Fake(FakeKind::Street)),
    (&["surname", "surnames", "lastname", "apellido", "apellidos", "cognom", "cognoms"], Look::Fake(FakeKind::LastName)),
    (&["firstname", "forename", "givenname"], Look::Fake(FakeKind::FirstName)),
    (&["fullname", "realname", "displayname", "attendee", "cardholder"], Look::Fake(FakeKind::FullName)),
    (&["username", "login", "nickname", "usuario", "usuari"], Look::Fake(FakeKind::Username)),
    (&["iban", "bic", "swift"], Look::Fake(FakeKind::Iban)),
    (&["pan", "cardnumber", "creditcard"], Look::Fake(FakeKind::Card)),
    (&["dob", "birthday", "birthdate", "birth", "nacimiento", "naixement"], Look::Birth),
    (&["ssn", "dni", "nif", "nie", "passport", "pasaporte", "passaport", "vatid", "taxid"], Look::Identity),
    (&["password", "passwd", "pwd", "secret", "apikey", "contrasena", "contrasenya"], Look::Secret),
    (&["avatar", "photo", "foto", "selfie"], Look::Picture),
    (&["latitude", "longitude", "geolocation"], Look::Place),
    (&["salary", "salario", "salari", "income", "sueldo", "sou"], Look::Income),
    (&["gender", "sexo", "sexe", "religion", "ethnicity", "diagnosis", "disability"], Look::Trait),
];

/// Words that must stand side by side.
const PAIRS: &[(&[&str], &[&str], Look)] = &[
    (&["first", "given", "middle"], &["name"], Look::Fake(FakeKind::FirstName)),
    (&["last", "family"], &["name"], Look::Fake(FakeKind::LastName)),
    (
        &["full", "display", "real", "contact", "customer", "person", "attendee", "holder"],
        &["name"],
        Look::Fake(FakeKind::FullName),
    ),
    (&["user", "login", "nick"], &["name"], Look::Fake(FakeKind::Username)),
    (&["postal", "post", "zip"], &["code"], Look::Fake(FakeKind::Postcode)),
    (&["card"], &["number"], Look::Fake(FakeKind::Card)),
    (&["tax", "vat", "national", "social"], &["id", "number", "security"], Look::Identity),
    (&["image", "picture"], &["url", "uri", "path"], Look::Picture),
    (&["api", "private", "access", "session", "reset", "refresh"], &["key", "token"], Look::Secret),
    (&["remote"], &["addr"], Look::Fake(FakeKind::Ip)),
];

/// Words that say it where they are the last: `reset_token`, and not `token_name`.
const LAST: &[(&[&str], Look)] = &[(&["token", "tokens", "secrets"], Look::Secret)];

/// Words of what says little of who somebody is, and does not go as it is all the same.
const AROUND: &[(&[&str], FakeKind)] = &[
    (&["city", "town", "ciudad", "poblacion", "localidad", "ciutat", "poblacio"], FakeKind::City),
    (&["company", "employer", "empresa"], FakeKind::Company),
];

/// Tables of people: a bare name there is a person's.
const PEOPLE: &[&str] = &[
    "user",
    "users",
    "person",
    "persons",
    "people",
    "customer",
    "customers",
    "contact",
    "contacts",
    "member",
    "members",
    "employee",
    "employees",
    "attendee",
    "attendees",
    "patient",
    "patients",
    "usuario",
    "usuarios",
    "cliente",
    "clientes",
    "persona",
    "personas",
    "usuari",
    "usuaris",
    "client",
    "clients",
    "student",
    "students",
    "author",
    "authors",
];

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
    let words = words(&column.name);
    let (single, pair) = (single_of(&words), pair_of(&words));
    // A copy of what is kept in parts elsewhere.
    let bare: Vec<&str> = words.iter().map(String::as_str).filter(|w| !["cached", "cache"].contains(w)).collect();
    let people = self::words(&table.name).iter().any(|w| PEOPLE.contains(&w.as_str()));
    let bare = (people && matches!(bare.as_slice(), ["name" | "nombre" | "nom"])).then_some(Look::Fake(FakeKind::FullName));
    let look = pair.or(single).or(bare)?;
    match (kind, look) {
        (Type::Date, Look::Birth) => Some(look),
        (Type::Date, _) => None,
        (Type::Whole(_), Look::Identity | Look::Income | Look::Fake(FakeKind::Phone | FakeKind::Card)) => Some(look),
        (Type::Whole(_), _) => None,
        (Type::Decimal, Look::Income | Look::Place) => Some(look),
        (Type::Decimal, _) => None,
        _ => Some(look),
    }
}

fn single_of(words: &[String]) -> Option<Look> {
    let single = WORDS.iter().find(|(names, _)| words.iter().any(|w| names.contains(&w.as_str())));
    let last = || LAST.iter().find(|(names, _)| words.last().is_some_and(|w| names.contains(&w.as_str())));
    single.or_else(last).map(|(_, look)| *look)
}

fn pair_of(words: &[String]) -> Option<Look> {
    words.windows(2).find_map(|pair| {
        PAIRS.iter().find(|(a, b, _)| a.contains(&pair[0].as_str()) && b.contains(&pair[1].as_str())).map(|(.., look)| *look)
    })
}

/// What the last name of a path in JSON looks like.
pub fn look_of_path(path: &str) -> Option<Look> {
    let name = path.rsplit(['.', '\'']).find(|part| part.chars().any(char::is_alphabetic))?;
    let words = words(name);
    single_of(&words).or_else(|| pair_of(&words))
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

/// What is proposed for a column that looks like nothing in particular, by its type, or like something; with the reason.
pub fn propose(table: &Table, column: &Column, locale: Locale) -> (Mask, String) {
    let unique = table.unique.iter().chain(&table.unique_partly).any(|set| set.contains(&column.name));
    if let Some(look) = look(table, column) {
        return (for_look(table, column, look, (unique, locale)), format!("looks like {}", look.words()));
    }
    let comment = column.comment.as_ref().map(|_| "; its comment may say more").unwrap_or_default();
    let key = |name: &String| *name == column.name;
    if table.foreign_keys.iter().any(|k| k.columns.iter().any(key)) {
        return (keep(None), "refers to another table".into());
    }
    match Type::of(column) {
        Type::Json => (
            Mask { json: Some(JsonMask::default()), ..Mask::default() },
            format!("may hold anything: name the paths that may leave{comment}"),
        ),
        Type::Bytes if !unique => (if column.not_null { redact() } else { null() }, "bytes may be anything".into()),
        Type::Text if unique && column.base_type != "bpchar" => {
            (keep(None), format!("text that is unique, perhaps a key: look whether it names a person{comment}"))
        }
        Type::Text if column.max_length.is_none_or(|n| n > 64) => {
            let words = words(&column.name);
            let around = AROUND.iter().find(|(names, _)| words.iter().any(|w| names.contains(&w.as_str())));
            if let Some((_, kind)) = around {
                return (fake(*kind, locale), format!("by its name {}{comment}", Look::Fake(*kind).words()));
            }
            (redact(), format!("free text may hold anything: keep it where it does not{comment}"))
        }
        _ => (keep(None), format!("{} that looks like nothing personal{comment}", column.type_name)),
    }
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
        (Look::Fake(fake_kind), Type::Text) if super::columns::room(column) >= fake_kind.least_room() => {
            if unique && !fake_kind.is_injective() { fake(FakeKind::Shape, locale) } else { fake(fake_kind, locale) }
        }
        (Look::Fake(_), Type::Text) => fake(FakeKind::Shape, locale),
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
    fn of_several_words_the_one_that_says_most_counts() {
        for (name, looks) in [
            ("attendee_email", FakeKind::Email),
            ("attendee", FakeKind::FullName),
            ("address_zip", FakeKind::Postcode),
            ("ip_address", FakeKind::Ip),
            ("invoice_address_street", FakeKind::Street),
        ] {
            assert_eq!(single_of(&words(name)), Some(Look::Fake(looks)), "{name}");
        }
    }

    #[test]
    fn a_token_is_a_secret_and_what_is_said_of_one_is_not() {
        for (name, looks) in [("token", true), ("notifications_token", true), ("token_name", false), ("tokenCount", false)] {
            assert_eq!(single_of(&words(name)) == Some(Look::Secret), looks, "{name}");
        }
    }

    #[test]
    fn names_of_any_style_are_taken_apart() {
        assert_eq!(words("lastName2"), ["last", "name"]);
        assert_eq!(words("customer_EMAILAddress"), ["customer", "email", "address"]);
        assert_eq!(words("DIRECCIÓN"), ["direccion"]);
    }

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
