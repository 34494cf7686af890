//! What constraints of a table mean for its masks: unique columns, keys that refer, and CHECK.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    columns::Type,
    compile::{Built, domain_of},
    constraints,
    kinds::{Derived, Op, Part, Plain},
    made,
    pattern::asks_only_for_a_shape,
    policy::Named,
    presence,
};
use crate::{
    api::Mask,
    data::postgres::{
        quote::ident,
        tables::{Check, Column, ForeignKey, MadeKind, Table},
    },
};

/// Values that are tried on a constraint.
const SAMPLES: usize = 256;

/// With fewer digits than this, two hashes may meet.
const DIGITS: usize = 24;

type Found<'a> = Vec<(Option<&'a str>, String)>;

/// What is wrong, by column.
pub fn problems<'a>(named: &Named<'_>, table: &'a Table, built: &Built, all: &BTreeMap<u32, Arc<Built>>) -> Found<'a> {
    if built.nothing {
        return Vec::new();
    }
    let mut out = unique(table, built);
    out.extend(table.foreign_keys.iter().filter_map(|key| refers(named, table, key, built, all)));
    out.extend(table.checks.iter().filter_map(|check| checked(check, table, built)));
    out.extend(made::problems(named, table, built, |name| {
        built.column(name).is_none_or(|(c, m, op)| injective(built, c, m, op, true) || numbered(table, op))
    }));
    out
}

/// The columns that a column is computed from; itself, where it is not.
fn sources<'a>(table: &'a Table, column: &'a String) -> &'a [String] {
    let computed = table.made_of.iter().find(|m| m.what == MadeKind::Column && m.name == *column);
    computed.map_or(std::slice::from_ref(column), |m| &m.columns)
}

/// Whether different values are sure to leave different. `folded`: also where case does not count.
fn injective(built: &Built, column: &Column, mask: &Mask, op: &Op, folded: bool) -> bool {
    match op {
        Op::Keep | Op::Null | Op::Bytes(_) => true,
        Op::Number(Plain::Hash(..) | Plain::Shape(_), _) => true,
        Op::Text { plain: Plain::Hash(_, _, digits), .. } => *digits >= DIGITS,
        Op::Text { plain: Plain::Fake(_, form), .. } => form.kind.is_injective(),
        Op::Text { plain: Plain::Shape(_), fold, .. } => !folded || *fold,
        Op::Derived(how, ..) => {
            let source = mask.derive.as_ref().and_then(|d| {
                let name = d.sha256_of.as_ref().or(d.md5_of.as_ref()).or(d.lower_of.as_ref()).or(d.copy_of.as_ref())?;
                built.column(name)
            });
            let folded = folded || *how == Derived::Lower;
            // Of a source that is kept nothing is known; where it is unique, so is what was computed from it.
            source.is_some_and(|(c, m, o)| c.name != column.name && injective(built, c, m, o, folded))
        }
        _ => false,
    }
}

/// Whether a mask is a text around one whole number that no two rows share: `user{id}@shop.example`.
fn numbered(table: &Table, op: &Op) -> bool {
    let Op::Template(parts, _) = op else { return false };
    let mut columns = parts.iter().filter_map(|part| match part {
        Part::Column(at, op) => table.written().nth(*at).map(|column| (column, op)),
        Part::Literal(_) => None,
    });
    let (Some((column, op)), None) = (columns.next(), columns.next()) else { return false };
    matches!(Type::of(column), Type::Whole(_))
        && column.not_null
        && table.unique.iter().any(|set| *set == [column.name.as_str()])
        && matches!(**op, Op::Keep | Op::Number(Plain::Hash(..) | Plain::Shape(_), _))
}

fn unique<'a>(table: &'a Table, built: &Built) -> Found<'a> {
    let safe = |name: &String, folded: bool| {
        built.column(name).is_none_or(|(c, m, op)| injective(built, c, m, op, folded) || numbered(table, op))
    };
    // Of a column that is computed, what it is computed from decides; how is not known.
    let computed = |set: &&Vec<String>| set.iter().any(|c| sources(table, c) != std::slice::from_ref(c));
    let whole = |set: &'a Vec<String>| set.iter().flat_map(|c| sources(table, c)).collect::<Vec<_>>();
    let sets = table.unique.iter().map(|set| (whole(set), computed(&set)));
    let sets = sets.chain(table.unique_partly.iter().map(|set| (whole(set), true)));
    let mut out = Vec::new();
    for (set, folded) in sets {
        // What is unique by fewer of its columns, all of them safe, is unique by all.
        let plain = table.unique.iter().filter(|u| !computed(u));
        let covered = plain.into_iter().any(|u| u.iter().all(|c| set.contains(&c) && safe(c, false)));
        if covered {
            continue;
        }
        for name in set.iter().filter(|name| !safe(name, folded)) {
            let what = if set.len() == 1 {
                "the column is unique".to_owned()
            } else {
                format!("({}) are unique together", set.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(", "))
            };
            out.push((
                Some(name.as_str()),
                format!(
                    "{what}, and this mask gives different values the same substitute; use one that never does: hash, or fake with \
                     kind username, email, url, uuid or shape{}, or a template around one number that is unique by itself",
                    if folded { " (shape not where the index ignores case)" } else { "" }
                ),
            ));
        }
    }
    out
}

/// Whether two columns of masks get the same substitute for the same value.
fn agree((a, of_a): (&Mask, &Column), (b, of_b): (&Mask, &Column)) -> bool {
    if a.keep.is_some() && b.keep.is_some() {
        return true;
    }
    let family = |column: &Column| match Type::of(column) {
        Type::Whole(_) => Type::Whole(0),
        other => other,
    };
    let locale = |mask: &Mask| mask.fake.as_ref().map(|f| f.locale);
    domain_of(a).is_some() && domain_of(a) == domain_of(b) && locale(a) == locale(b) && family(of_a) == family(of_b)
}

fn refers<'a>(
    named: &Named<'_>,
    table: &'a Table,
    key: &'a ForeignKey,
    built: &Built,
    all: &BTreeMap<u32, Arc<Built>>,
) -> Option<(Option<&'a str>, String)> {
    let there = all.get(&named.table(&key.schema, &key.table)?.oid)?;
    let other = format!("{}.{}", key.schema, key.table);
    let pairs: Vec<_> = key.columns.iter().zip(&key.references).collect();
    let first = key.columns.first().map(String::as_str);
    // With one NULL in it, a key refers to nothing.
    let nulls = pairs.iter().filter(|(c, _)| built.column(c).is_some_and(|(.., op)| matches!(op, Op::Null))).count();
    if nulls > 0 {
        let mixed = key.full && nulls < pairs.len();
        let why =
            format!("of key {} all columns are NULL or none is (MATCH FULL); use null for all of them, or for none", key.name);
        return mixed.then_some((first, why));
    }
    // Which rows refer to those that stay behind is known to the data alone, and to who writes conditions.
    let theirs = named.table(&key.schema, &key.table)?;
    if named.has_condition(theirs) && built.condition.is_none() && theirs.full_name() != table.full_name() {
        let list = |columns: &[String]| columns.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", ");
        let why = format!(
            "refers to {other}, of which only some rows leave, and what refers to the others could not be loaded; add rows: {{where: \
             \"({}) IN (SELECT {} FROM {}.{} WHERE …)\"}} with that condition, or rows: {{where: \"true\"}} where nothing refers to them",
            list(&key.columns),
            list(&key.references),
            ident(&key.schema),
            ident(&key.table)
        );
        return Some((None, why));
    }
    if there.nothing && there.table != table.full_name() {
        let why = format!("refers to {other}, of which no row leaves; let none of this table leave either, or use null here");
        return Some((first, why));
    }
    let (column, theirs) = pairs.into_iter().find(|(c, r)| match (built.column(c), there.column(r)) {
        (Some((a_column, a, _)), Some((b_column, b, _))) => !agree((a, a_column), (b, b_column)),
        _ => false,
    })?;
    let why = format!(
        "refers to {other}.{theirs}, and the two are masked each in its own way; give both the same mask with the same domain, or \
         keep both"
    );
    Some((Some(column), why))
}

fn checked<'a>(check: &'a Check, table: &'a Table, built: &Built) -> Option<(Option<&'a str>, String)> {
    // These let rows in that they would not take.
    if check.expression.ends_with("NOT VALID") || check.expression.ends_with("NOT ENFORCED") {
        return None;
    }
    let columns: Vec<&String> = check.columns.iter().flat_map(|c| sources(table, c)).collect();
    let computed = columns.iter().any(|c| !check.columns.contains(c));
    // Of what is computed from it, whether a value is there says nothing.
    let stays =
        |column: &Column, op: &Op| matches!(op, Op::Keep) || (!computed && presence::stays(&check.expression, column, op));
    let touched: Vec<_> = columns.iter().filter_map(|c| built.column(c)).filter(|(column, _, op)| !stays(column, op)).collect();
    let (column, _, op) = touched.first()?;
    let name = columns.iter().find(|c| ***c == column.name).map(|c| c.as_str());
    let unsure = || {
        let why = format!(
            "constraint {} ({}) may not take what this mask gives; use keep with a reason, null, or a mask that it is known to take",
            check.name, check.expression
        );
        Some((name, why))
    };
    if computed {
        return unsure();
    }
    if let [_, _, ..] = columns.as_slice() {
        // Dates of one subject keep their order.
        let subjects: Vec<_> = check.columns.iter().map(|c| built.column(c).and_then(|(_, m, _)| m.shift.as_ref())).collect();
        let together = subjects.iter().all(|s| s.is_some() && *s == subjects[0]);
        let nulls =
            touched.iter().all(|(.., op)| matches!(op, Op::Null)) && !check.expression.to_uppercase().contains("NOT NULL");
        return if together || nulls { None } else { unsure() };
    }
    let taken = |value: Option<&str>| constraints::takes(&check.expression, &column.name, value);
    let fits = match op {
        Op::Null => taken(None) != Ok(false),
        Op::Shift(..) => taken(None) != Ok(true) && taken(Some("2000-01-01")) == Ok(true),
        Op::Number(Plain::Noise(_), _) => signs_only(&check.expression, &column.name),
        Op::Text { plain: Plain::Shape(_), .. } | Op::Number(..) => shape_only(&check.expression, &column.name, column),
        Op::Json(_) => [("{\"a\": 1}", "{}"), ("[1]", "[]"), ("\"a\"", "\"redacted\""), ("1", "0"), ("true", "false")]
            .iter()
            .all(|(before, after)| taken(Some(before)).is_ok_and(|was| !was || taken(Some(after)) == Ok(true))),
        op => (0..SAMPLES).all(|n| {
            // Values of all lengths, so that what is cut or follows the length is seen.
            let value = format!("{n} {}", "value ".repeat(n % 40));
            op.sample(value.as_bytes()).is_some_and(|masked| taken(Some(&masked)) == Ok(true))
        }),
    };
    if fits { None } else { unsure() }
}

/// Whether a constraint asks no more of a number than its sign: then it takes every number of a sign or none.
fn signs_only(expression: &str, column: &str) -> bool {
    let sizes = ["1", "2", "7", "10", "99", "1000", "30000"];
    let all_alike = |prefix: &str| {
        let said: Vec<_> = sizes.iter().map(|n| constraints::takes(expression, column, Some(&format!("{prefix}{n}")))).collect();
        said[0].is_ok() && said.iter().all(|s| *s == said[0])
    };
    all_alike("") && all_alike("-")
}

/// Whether a constraint takes all values of a shape or none.
fn shape_only(expression: &str, name: &str, column: &Column) -> bool {
    if Type::of(column) == Type::Text { asks_only_for_a_shape(expression, name) } else { signs_only(expression, name) }
}
