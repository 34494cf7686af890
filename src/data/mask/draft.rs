//! A policy proposed for data that has none: by names, types, a sample of values, and the rules of PostgreSQL Anonymizer where
//! the database has them. Each proposal says why, and never what was seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Key,
    columns::Type,
    personal::{Look, fake, hash, is_unique, keep, look, look_of_path, null, propose, redact, scalar, told_by, yaml},
    policy::compile,
    rows,
};
use crate::{
    api::{Empty, FakeKind, JsonMask, JsonPathMask, Keep, Locale, Mask, MaskingData, MaskingTable, Noise, Rows, Shift, Template},
    data::postgres::tables::{Column, Table, TableKind},
};

/// Tables in which tools keep the migrations that have run. Masked, the application would run them again.
const LEDGERS: [&str; 14] = [
    "_prisma_migrations",
    "__efmigrationshistory",
    "alembic_version",
    "ar_internal_metadata",
    "databasechangelog",
    "databasechangeloglock",
    "django_migrations",
    "flyway_schema_history",
    "goose_db_version",
    "knex_migrations",
    "migrations",
    "schema_migrations",
    "schema_version",
    "typeorm_migrations",
];

/// Values by table and column, without NULL and empty ones.
pub type Samples = BTreeMap<(u32, String), Vec<String>>;

/// With fewer values nothing is concluded.
const FEW: usize = 5;
/// With fewer values, that some are the same says nothing.
const MANY: usize = 20;
/// So many values of a hundred must be of a kind.
const MOST: usize = 60;

/// Whether values of a column say more than its name and type.
pub fn is_sampled(column: &Column) -> bool {
    !column.generated && matches!(Type::of(column), Type::Text | Type::Json)
}

/// The lines before the data.
pub fn head(namespace: &str, environment: &str, date: &str) -> String {
    format!(
        "# A draft of {date}, from names, types and a sample of Environment {namespace}/{environment}. Read every line: a proposal is a guess.\n\
         # Without keySecret each snapshot has a key of its own; name a Secret there if substitutes are to stay the same.\n\
         apiVersion: lockkeeper.dev/v1alpha1\nkind: MaskingPolicy\nmetadata: {{name: {}, namespace: {}}}\nspec:\n  data:",
        scalar(environment),
        scalar(namespace)
    )
}

/// The policy of one data, as YAML below `spec.data`.
pub fn data(name: &str, tables: &[Table], samples: &Samples, labels: &BTreeMap<(u32, String), String>, locale: Locale) -> String {
    let mut out = format!("  - name: {}\n    tables:\n", scalar(name));
    let mut policy = MaskingData { name: name.into(), ..MaskingData::default() };
    let mut children: BTreeMap<u32, Vec<&Table>> = BTreeMap::new();
    for table in tables {
        table.parents.iter().for_each(|parent| children.entry(*parent).or_default().push(table));
    }
    let empty = rows::empty(tables);
    for table in tables.iter().filter(|t| t.kind != TableKind::Foreign && t.parents.is_empty()) {
        let mut entry = MaskingTable { table: table.full_name().into(), ..MaskingTable::default() };
        out.push_str(&format!("    - table: {}\n", scalar(&table.full_name())));
        if let Some(why) = empty.get(&table.oid) {
            out.push_str(&format!("      rows: {{none: {{}}}} # {why}\n"));
            entry.rows = Some(Rows { none: Some(Empty {}), ..Rows::default() });
            policy.tables.push(entry);
            continue;
        }
        if let Some(choice) = rows::choice(table) {
            out.push_str(&format!("      # {choice}\n"));
        }
        out.push_str("      columns:\n");
        let follow = own_of_children(table, &children);
        for (of, column) in table.written().map(|column| (table, column)).chain(follow) {
            let (mask, why) = one(of, column, samples, labels, locale);
            out.push_str(&format!("        {}: {} # {why}\n", scalar(&column.name), yaml(&mask)));
            entry.columns.insert(column.name.clone(), mask);
        }
        if entry.columns.is_empty() {
            out.truncate(out.trim_end_matches("      columns:\n").len());
        }
        policy.tables.push(entry);
    }
    if policy.tables.is_empty() {
        return format!("  - name: {}", scalar(name));
    }
    // What it proposes is held against the catalog as any policy is: what does not fit yet is for a person to decide.
    let problems = Key::random().ok().and_then(|key| compile(&policy, tables, &key).err()).unwrap_or_default();
    for problem in problems {
        out.push_str(&format!("    # To decide: {problem}\n"));
    }
    out.trim_end().to_owned()
}

/// The columns that tables which inherit have besides: they are named with those of the table that these follow.
fn own_of_children<'a>(table: &Table, children: &BTreeMap<u32, Vec<&'a Table>>) -> Vec<(&'a Table, &'a Column)> {
    let mut out: Vec<(&Table, &Column)> = Vec::new();
    let mut next = children.get(&table.oid).cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    while let Some(child) = next.pop() {
        if !seen.insert(child.oid) || child.kind == TableKind::Foreign {
            continue;
        }
        next.extend(children.get(&child.oid).into_iter().flatten());
        for column in child.written() {
            let known = table.columns.iter().chain(out.iter().map(|(_, c)| *c)).any(|c| c.name == column.name);
            if !known {
                out.push((child, column));
            }
        }
    }
    out
}

fn one(
    table: &Table,
    column: &Column,
    samples: &Samples,
    labels: &BTreeMap<(u32, String), String>,
    locale: Locale,
) -> (Mask, String) {
    let key = (table.oid, column.name.clone());
    if let Some(label) = labels.get(&key) {
        return match anonymizer(label, table, column, locale) {
            Some(mask) => (mask, "by its security label for anon".into()),
            None => {
                let (mask, why) = propose(table, column, locale);
                (mask, format!("{why}; its security label for anon has a rule that is not known here"))
            }
        };
    }
    let nobody = look(table, column).is_none();
    if nobody && LEDGERS.contains(&table.name.to_ascii_lowercase().as_str()) {
        return (keep(None), "a record of migrations, which would run again without it".into());
    }
    let values = samples.get(&key).map(Vec::as_slice).unwrap_or_default();
    if Type::of(column) == Type::Json {
        return json(values, locale);
    }
    // Of values of unlike kinds, most may be of one.
    if nobody && told_by(table, column).is_some() {
        return propose(table, column, locale);
    }
    // Applications keep JSON in text too, and what is not JSON any more would break them.
    if nobody && Type::of(column) == Type::Text && super::columns::room(column) == usize::MAX {
        let objects =
            values.iter().filter(|v| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(v).is_ok()).count();
        if values.len() >= FEW && objects * 100 >= values.len() * MOST {
            let (mask, why) = json(values, locale);
            return (mask, format!("JSON in text: {why}"));
        }
    }
    if let Some(found) = cached(table, column, samples, locale) {
        return found;
    }
    let (mask, why) = propose(table, column, locale);
    let Some((kind, share)) = seen(values).filter(|_| nobody) else {
        let hint = few(values).filter(|_| nobody && mask.redact.is_some()).unwrap_or_default();
        return (mask, format!("{why}{hint}"));
    };
    let unique = is_unique(table, column);
    let looks = match kind {
        FakeKind::Email => "email addresses",
        FakeKind::Phone => "telephone numbers",
        FakeKind::Iban => "bank accounts",
        FakeKind::Card => "card numbers",
        FakeKind::Ip => "network addresses",
        _ => "names of persons",
    };
    let fits = super::columns::room(column) >= kind.least_room() && (!unique || kind.is_injective());
    (
        fake(if fits { kind } else { FakeKind::Shape }, locale),
        format!("{share} of 100 values that were looked at look like {looks}"),
    )
}

/// `name_cached` beside `name_parts` in JSON: a copy of the parts of a name.
fn cached(table: &Table, column: &Column, samples: &Samples, locale: Locale) -> Option<(Mask, String)> {
    let stem = column.name.strip_suffix("_cached").filter(|_| Type::of(column) == Type::Text && !is_unique(table, column))?;
    let parts = table.written().find(|c| c.name == format!("{stem}_parts") && Type::of(c) == Type::Json)?;
    let values = samples.get(&(table.oid, parts.name.clone()))?;
    let paths = json(values, locale).0.json?.paths;
    let order = [FakeKind::FullName, FakeKind::FirstName, FakeKind::LastName];
    let of = |kind| paths.iter().filter(move |(_, mask)| mask.fake.as_ref().is_some_and(|f| f.kind == kind));
    let named: Vec<String> = order.into_iter().flat_map(of).map(|(path, _)| format!("{{{}{path}}}", parts.name)).collect();
    let template = Template { text: named.join(" ").as_str().into() };
    let why = format!("by its name a copy of what is in {}: look whether these are its parts, in their order", parts.name);
    (!named.is_empty()).then(|| (Mask { template: Some(template), ..Mask::default() }, why))
}

/// Of states and kinds there are few, and an application may not run without them: what helps to tell them from other text.
fn few(values: &[String]) -> Option<String> {
    let different = values.iter().collect::<BTreeSet<_>>().len();
    let some = values.len() >= MANY && different * 10 <= values.len();
    some.then(|| format!("; only {different} different in {} that were looked at, perhaps states or kinds", values.len()))
}

/// What most values look like, and how many of a hundred.
fn seen(values: &[String]) -> Option<(FakeKind, usize)> {
    if values.len() < FEW {
        return None;
    }
    type Is = fn(&str) -> bool;
    let kinds: [(FakeKind, Is); 5] = [
        (FakeKind::Email, is_email),
        (FakeKind::Iban, is_iban),
        (FakeKind::Card, is_card),
        (FakeKind::Ip, |v| v.parse::<std::net::IpAddr>().is_ok()),
        (FakeKind::Phone, is_phone),
    ];
    kinds.into_iter().find_map(|(kind, is)| {
        let share = values.iter().filter(|v| is(v.trim())).count() * 100 / values.len();
        (share >= MOST).then_some((kind, share))
    })
}

/// Whether text is an address of a mailbox.
pub fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.split_once('@') else { return false };
    let plain = |c: char| c.is_alphanumeric() || "._%+-'".contains(c);
    !local.is_empty()
        && local.chars().all(plain)
        && domain.contains('.')
        && domain.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '-'))
}

/// Whether text is an IBAN with right check digits.
pub fn is_iban(value: &str) -> bool {
    let plain: String = value.chars().filter(|c| *c != ' ').collect();
    if !(15..=34).contains(&plain.len()) || !plain.is_ascii() || !plain[..2].bytes().all(|b| b.is_ascii_uppercase()) {
        return false;
    }
    let digits: Option<Vec<u32>> = plain[4..].chars().chain(plain[..4].chars()).map(|c| c.to_digit(36)).collect();
    digits.is_some_and(|d| d.iter().fold(0, |rest, n| (rest * if *n > 9 { 100 } else { 10 } + n) % 97) == 1)
}

/// Whether text is a card number with the right check digit.
pub fn is_card(value: &str) -> bool {
    let plain: Vec<u32> = value.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_digit(10).unwrap_or(99)).collect();
    let sum = |(at, n): (usize, &u32)| if at % 2 == 1 { n * 2 / 10 + n * 2 % 10 } else { *n };
    (13..=19).contains(&plain.len())
        && plain.iter().all(|n| *n < 10)
        && plain.iter().rev().enumerate().map(sum).sum::<u32>() % 10 == 0
}

/// Whether text is by its form somebody's: an address of mail or of a network, an account, a card, a telephone number.
pub fn is_of_a_person(value: &str) -> bool {
    is_email(value) || is_iban(value) || is_card(value) || is_phone(value) || value.parse::<std::net::IpAddr>().is_ok()
}

fn is_phone(value: &str) -> bool {
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let signs = value.chars().any(|c| matches!(c, '+' | '(' | ' ' | '-' | '/'));
    (7..=15).contains(&digits) && signs && value.chars().all(|c| c.is_ascii_digit() || "+()-/. ".contains(c)) && !is_date(value)
}

fn is_date(value: &str) -> bool {
    value.get(..10).is_some_and(|d| d.parse::<jiff::civil::Date>().is_ok())
}

/// Proposes paths. Names are proposed where they are names of a program's making: plain words that most values have. Others may
/// be data themselves.
fn json(values: &[String], locale: Locale) -> (Mask, String) {
    let mut found: BTreeMap<String, (usize, BTreeSet<&'static str>)> = BTreeMap::new();
    let read: Vec<serde_json::Value> = values.iter().filter_map(|v| serde_json::from_str(v).ok()).collect();
    for value in &read {
        let mut paths = BTreeMap::new();
        walk("$", value, 0, &mut paths);
        for (path, kinds) in paths {
            let entry = found.entry(path).or_default();
            entry.0 += 1;
            entry.1.extend(kinds);
        }
    }
    let mut mask = JsonMask::default();
    for (path, (count, kinds)) in found {
        if count * 2 < read.len() || mask.paths.len() >= 64 {
            continue;
        }
        // Numbers and flags that look like nobody's leave. Text that looks like somebody's gets the substitute that a column of
        // that name would, so that the two agree; all else stays with its author.
        let plain = kinds.iter().all(|k| matches!(*k, "number" | "bool" | "null"));
        let text = kinds.contains("text") && kinds.iter().all(|k| matches!(*k, "text" | "null"));
        let one = match look_of_path(&path) {
            None if plain => JsonPathMask { keep: Some(Keep::default()), ..JsonPathMask::default() },
            Some(Look::Fake(kind)) if text => JsonPathMask { fake: fake(kind, locale).fake, ..JsonPathMask::default() },
            _ => JsonPathMask { redact: Some(Empty {}), ..JsonPathMask::default() },
        };
        mask.paths.insert(path, one);
    }
    let why = if mask.paths.is_empty() {
        "may hold anything: name the paths that may leave"
    } else {
        "paths that most values have; what is not named is redacted"
    };
    (Mask { json: Some(mask), ..Mask::default() }, why.into())
}

fn walk(path: &str, value: &serde_json::Value, depth: usize, out: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let mut leaf = |kind| {
        out.entry(path.to_owned()).or_default().insert(kind);
    };
    match value {
        serde_json::Value::Object(map) if depth < 4 => {
            for (name, value) in map.iter().filter(|(name, _)| is_word(name)) {
                walk(&format!("{path}.{name}"), value, depth + 1, out);
            }
        }
        serde_json::Value::Array(list) if depth < 4 => {
            list.iter().take(16).for_each(|value| walk(&format!("{path}[*]"), value, depth + 1, out));
        }
        serde_json::Value::Object(_) | serde_json::Value::Array(_) => leaf("container"),
        serde_json::Value::Number(_) => leaf("number"),
        serde_json::Value::Bool(_) => leaf("bool"),
        serde_json::Value::Null => leaf("null"),
        serde_json::Value::String(_) => leaf("text"),
    }
}

fn is_word(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_')
}

/// The mask that says what a rule of PostgreSQL Anonymizer does. `None`: a rule that has no like here.
pub fn anonymizer(label: &str, table: &Table, column: &Column, locale: Locale) -> Option<Mask> {
    let label = label.trim();
    if label.eq_ignore_ascii_case("NOT MASKED") {
        return Some(keep(Some("NOT MASKED in its security label")));
    }
    let upper = label.to_uppercase();
    if upper.starts_with("MASKED WITH VALUE") {
        let value = label["MASKED WITH VALUE".len()..].trim();
        return Some(if value.eq_ignore_ascii_case("NULL") && !column.not_null { null() } else { redact() });
    }
    if !upper.starts_with("MASKED WITH FUNCTION") {
        return None;
    }
    let call = label["MASKED WITH FUNCTION".len()..].trim();
    let (name, arguments) = call.split_once('(')?;
    let name = name.trim().rsplit('.').next()?.to_lowercase();
    let plain = ["fake_", "dummy_", "pseudo_", "random_", "partial_", "lorem_"]
        .iter()
        .find_map(|p| name.strip_prefix(p))
        .unwrap_or(&name);
    let kind = match plain {
        "first_name" => FakeKind::FirstName,
        "last_name" => FakeKind::LastName,
        "name" | "full_name" => FakeKind::FullName,
        "username" | "user_name" => FakeKind::Username,
        "email" | "safe_email" | "free_email" => FakeKind::Email,
        "phone" | "phone_number" | "cell_number" => FakeKind::Phone,
        "address" | "street_name" | "street_address" => FakeKind::Street,
        "city" | "city_name" => FakeKind::City,
        "postcode" | "zip" | "zip_code" => FakeKind::Postcode,
        "company" | "company_name" => FakeKind::Company,
        "iban" => FakeKind::Iban,
        "siret" | "siren" | "string" | "partial" => FakeKind::Shape,
        "credit_card_number" => FakeKind::Card,
        "ip" | "ipv4" | "ipv6" => FakeKind::Ip,
        "uuid" | "uuidv4" => FakeKind::Uuid,
        "url" | "domain_name" => FakeKind::Url,
        "ipsum" | "sentence" | "paragraph" | "words" => FakeKind::Text,
        "hash" | "digest" | "md5" => return Some(hash(None)),
        "noise" => {
            let ratio = arguments.trim_end_matches(')').rsplit(',').next()?.trim().parse::<f64>().ok()?;
            let percent = ((ratio * 100.0) as i32).clamp(1, 100);
            return Some(Mask { noise: Some(Noise { percent }), ..Mask::default() });
        }
        "dnoise" | "date" => {
            let subject = table.unique.first()?.first()?.as_str().into();
            return Some(Mask { shift: Some(Shift { subject, days: 90 }), ..Mask::default() });
        }
        _ => return None,
    };
    Some(fake(kind, locale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_by_their_own_check_digits() {
        for (is, good, bad) in [
            (is_email as fn(&str) -> bool, "ana.o'neil@shop.example", "ana@shop"),
            (is_iban, "ES91 2100 0418 4502 0005 1332", "ES92 2100 0418 4502 0005 1332"),
            (is_card, "4242-4242-4242-4242", "4242-4242-4242-4243"),
            (is_phone, "+34 600 000 000", "2024-01-01 10:00"),
        ] {
            assert!(is(good), "{good}");
            assert!(!is(bad), "{bad}");
        }
    }

    #[test]
    fn names_in_json_that_may_be_data_are_not_proposed() {
        let values: Vec<String> = (0..9)
            .map(|n| format!(r#"{{"count": {n}, "on": true, "note": "x", "email": "a@b.c", "u{n}@shop.test": 1, "key{n}": 2}}"#))
            .collect();
        let text = yaml(&json(&values, Locale::Es).0);
        assert_eq!(
            text,
            "{json: {paths: {\"$.count\": {keep: {}}, \"$.email\": {fake: {domain: email, kind: email, locale: es}}, \
             \"$.note\": {redact: {}}, \"$.on\": {keep: {}}}}}"
        );
    }

    #[test]
    fn of_free_text_it_is_said_where_it_may_be_a_state() {
        let of = |different: usize| few(&(0..40).map(|n| format!("value {}", n % different)).collect::<Vec<_>>());
        let said = of(3).unwrap();
        assert!(said.contains("3 different in 40") && !said.contains("value"), "{said}");
        assert_eq!(of(30), None);
        assert_eq!(few(&vec!["paid".to_owned(); 9]), None);
    }
}
