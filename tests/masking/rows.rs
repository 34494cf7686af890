//! What becomes of rows, whatever is in them.

use std::collections::BTreeSet;

use lockkeeper::data::{
    mask::{Key, codec, compile},
    postgres::tables::Table,
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    compiled, masked,
    policies::{column, table},
    policy,
};

fn subject() -> Table {
    table(
        1,
        "t",
        vec![
            column("id", "int4", None, true),
            column("email", "text", None, true),
            column("code", "text", None, false),
            column("note", "varchar", Some(40), false),
            column("person", "text", None, false),
            column("doc", "jsonb", None, false),
            column("digest", "text", None, false),
            column("label", "text", None, false),
        ],
        json!({"unique": [["id"], ["email"], ["code"]]}),
    )
}

const POLICY: &str = r#"
name: d
tables:
- table: public.t
  columns:
    id: {fake: {kind: shape, domain: id}}
    email: {fake: {kind: email, domain: email, locale: ca}}
    code: {fake: {kind: shape}}
    note: {fake: {kind: text, locale: es}}
    person: {hash: {domain: person}}
    doc: {json: {paths: {"$.kept": {keep: {}}, "$.who": {hash: {domain: person}}, "$.list[*].email": {fake: {kind: email, domain: email, locale: ca}}}}}
    digest: {derive: {sha256Of: email}}
    label: {template: {text: "user {id}: {person}"}}
"#;

/// A row of fields, as COPY writes them; `None` is NULL.
fn row(fields: &[Option<&str>]) -> String {
    let mut out = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        match field {
            Some(text) => codec::encode(text.as_bytes(), &mut out),
            None => out.extend_from_slice(codec::NULL),
        }
    }
    out.push(b'\n');
    String::from_utf8(out).unwrap()
}

fn fields(line: &str) -> Vec<Option<String>> {
    let field = |f: &str| (f != "\\N").then(|| String::from_utf8(codec::decode(f.as_bytes()).into_owned()).unwrap());
    line.strip_suffix('\n').unwrap().split('\t').map(field).collect()
}

#[test]
fn equal_values_of_a_domain_stay_equal_wherever_they_are_and_derived_columns_follow() {
    use sha2::Digest;
    let masking = compiled(POLICY, &[subject()]).unwrap();
    let doc = r#"{"kept": [1, "a\tb"], "who": "ana", "list": [{"email": "ana@shop.cat", "canary": "canary"}], "canary": {"canary": 1}}"#;
    let out = masked(
        &masking,
        &subject(),
        &row(&[Some("7"), Some("ana@shop.cat"), None, Some("canary canary"), Some("ana"), Some(doc), Some("x"), Some("canary")]),
    );
    let out = fields(&out).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    let doc: serde_json::Value = serde_json::from_str(&out[5]).unwrap();
    assert_eq!(doc["kept"], json!([1, "a\tb"]));
    assert_eq!(doc["who"], out[4].as_str());
    assert_eq!(doc["list"], json!([{"email": out[1]}]));
    assert_eq!(doc.as_object().unwrap().len(), 3);
    assert_eq!(out[6], hex::encode(sha2::Sha256::digest(&out[1])));
    assert_eq!(out[7], format!("user {}: {}", out[0], out[4]));
    assert!(!out.join(" ").contains("canary") && !out.join(" ").contains("ana@"), "{out:?}");
}

#[test]
fn a_row_that_is_not_the_tables_is_an_error_without_its_values() {
    use lockkeeper::data::postgres::transform::{Leaving, Transforms};
    let masking = compiled(POLICY, &[subject()]).unwrap();
    let Leaving::Rows { change: Some(change), .. } = masking.of(&subject()).unwrap() else { panic!() };
    for rows in ["canary\n".to_owned(), "canary".to_owned(), row(&[Some("canary"), None, None, None, None, None, None, None])] {
        let error = change().rows(rows.as_bytes(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("table public.t: ") && !error.contains("canary"), "{error}");
    }
    // A column that came after the policy was held against the catalog.
    let mut wider = subject();
    wider.columns.push(wider.columns[0].clone());
    assert!(masking.of(&wider).err().unwrap().why.contains("have changed"));
}

proptest! {
    #[test]
    fn rows_stay_rows_null_and_empty_stay_and_keys_never_meet(
        values in prop::collection::vec((any::<i32>(), "\\PC{0,20}|[\t\n\\\\\u{8}a]{0,6}", prop::option::of("[\t\\\\a-f0-9]{0,5}"), prop::option::of("\\PC{0,60}")), 1..12),
    ) {
        let rows: String = values.iter().map(|(id, email, code, note)| {
            row(&[Some(&id.to_string()), Some(email), code.as_deref(), note.as_deref(), note.as_deref(), Some("{}"), code.as_deref(), Some("")])
        }).collect();
        let masking = compiled(POLICY, &[subject()]).unwrap();
        let out = masked(&masking, &subject(), &rows);
        prop_assert_eq!(out.matches('\n').count(), values.len());
        let lines: Vec<Vec<Option<String>>> = out.split_inclusive('\n').map(fields).collect();
        for (line, (id, email, code, note)) in lines.iter().zip(&values) {
            prop_assert_eq!(line.len(), 8);
            prop_assert!(line[0].as_ref().unwrap().parse::<i32>().is_ok(), "{} {:?}", id, line[0]);
            for (after, before) in [(&line[1], Some(email)), (&line[2], code.as_ref()), (&line[3], note.as_ref()), (&line[6], code.as_ref())] {
                prop_assert_eq!(after.is_none(), before.is_none());
                prop_assert_eq!(after.as_ref().is_some_and(String::is_empty), before.is_some_and(String::is_empty));
            }
            prop_assert!(line[3].as_ref().is_none_or(|n| n.chars().count() <= 40));
            prop_assert_eq!(line[7].as_deref(), Some(""));
        }
        for at in [0, 1, 2] {
            let distinct = |values: Vec<Option<String>>| values.into_iter().flatten().collect::<BTreeSet<_>>().len();
            let before: Vec<_> = rows.split_inclusive('\n').map(|l| fields(l)[at].clone()).collect();
            let after: Vec<_> = lines.iter().map(|l| l[at].clone()).collect();
            prop_assert_eq!(distinct(before), distinct(after));
        }
        // The same again, in other buffers; another key gives others.
        prop_assert_eq!(&rows.split_inclusive('\n').map(|l| masked(&masking, &subject(), l)).collect::<String>(), &out);
        let other = compile(&policy(POLICY), &[subject()], &Key::random().unwrap()).unwrap();
        if values.iter().any(|(_, email, ..)| !email.is_empty()) {
            prop_assert_ne!(&masked(&other, &subject(), &rows), &out);
        }
    }
}
