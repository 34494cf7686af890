//! What a draft proposes for columns as applications have them.

use std::collections::BTreeMap;

use lockkeeper::{
    api::{FakeKind, Locale, Mask, MaskingData},
    data::{mask::draft, postgres::tables::Table},
};
use serde_json::{Value, json};

use super::policies::{column, table};

struct Said<'a> {
    table: &'a str,
    none: bool,
    columns: Vec<(&'a str, &'a str, &'a str)>,
}

fn said() -> Vec<Said<'static>> {
    let mut out: Vec<Said<'static>> = Vec::new();
    for line in include_str!("schemas.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["table", name] => out.push(Said { table: name, none: false, columns: Vec::new() }),
            ["table", name, "none"] => out.push(Said { table: name, none: true, columns: Vec::new() }),
            [name, kind, verdict] => out.last_mut().unwrap().columns.push((name, kind, verdict)),
            _ => panic!("{line}"),
        }
    }
    out
}

fn of(said: &Said<'_>, oid: u32) -> Table {
    let mut unique = Vec::new();
    let columns: Vec<Value> = said
        .columns
        .iter()
        .map(|(name, kind, _)| {
            let base = kind.trim_end_matches('!');
            if base != *kind {
                unique.push(json!([name]));
            }
            let text = base.trim_end_matches(|c: char| c.is_ascii_digit());
            let length = if text == "varchar" { base[text.len()..].parse().ok() } else { None };
            let mut made = column(name, if length.is_some() { text } else { base }, length, false);
            made["category"] = match base {
                "macaddr" | "hstore" | "xml" | "tsvector" => json!("U"),
                "_int4" | "_text" => json!("A"),
                "point" => json!("G"),
                _ => made["category"].clone(),
            };
            made
        })
        .collect();
    table(oid, said.table, columns, json!({"unique": unique}))
}

fn kind(mask: &Mask) -> String {
    let of = |kind: FakeKind| serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned();
    let named = json!(mask).as_object().unwrap().keys().next().unwrap().clone();
    mask.fake.as_ref().map_or(named, |f| of(f.kind))
}

#[test]
fn columns_as_applications_have_them_are_drafted_for_what_they_are() {
    let all = said();
    let tables: Vec<Table> = all.iter().zip(1..).map(|(s, oid)| of(s, oid)).collect();
    let text = draft::data("store", &tables, &BTreeMap::new(), &BTreeMap::new(), Locale::En);
    assert!(!text.contains("To decide"), "{text}");
    let read: Vec<MaskingData> = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let (mut leaks, mut others, mut for_nothing, mut plain, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    for (said, drafted) in all.iter().zip(&read[0].tables) {
        assert_eq!(*drafted.table, *format!("public.{}", said.table));
        if said.none != drafted.rows.is_some() {
            others.push(format!("{}: rows {:?}", said.table, drafted.rows));
        }
        for (name, _, verdict) in said.columns.iter().filter(|_| !said.none && drafted.rows.is_none()) {
            count += 1;
            let kind = kind(&drafted.columns[*name]);
            let what = format!("{}.{name}: {kind} and not {verdict}", said.table);
            match (*verdict, kind.as_str()) {
                ("keep", "keep") => plain += 1,
                ("keep", _) => for_nothing.push(what),
                // Nothing tells what it is but that somebody knows; at least it is not said to be nobody's without a look.
                ("mask?", _) => {}
                (_, "keep") => leaks.push(what),
                ("free", "redact" | "null" | "json") => {}
                ("mask", _) => {}
                (verdict, kind) if verdict == kind => {}
                (_, "shape") if !["free", "mask"].contains(verdict) => {}
                _ => others.push(what),
            }
        }
    }
    println!(
        "{count} columns: {} leak, {plain} plain ones stay, {} masked for nothing, {} otherwise",
        leaks.len(),
        for_nothing.len(),
        others.len()
    );
    assert_eq!((leaks.as_slice(), others.as_slice()), (&[] as &[String], &[] as &[String]));
    assert!(count > 300 && for_nothing.len() * 50 <= plain, "{for_nothing:#?}");
}
