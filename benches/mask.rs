//! How fast rows are masked: `cargo bench --bench mask`. Twelve columns, as a table of users has them; codec and masks on one
//! core, in passes of which the best is printed, because the machine is not ours alone.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use lockkeeper::{
    api::MaskingData,
    data::{
        mask::{Key, compile},
        postgres::{
            tables::Table,
            transform::{Leaving, Transforms},
        },
    },
};
use serde_json::json;

/// Short passes, so that some are not interrupted.
const PASSES: usize = 600;
const ROWS: usize = 2_000;
const COLUMNS: [(&str, &str); 12] = [
    ("id", "int8"),
    ("email", "text"),
    ("first_name", "text"),
    ("last_name", "text"),
    ("phone", "text"),
    ("city", "text"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
    ("status", "text"),
    ("amount", "numeric"),
    ("note", "text"),
    ("data", "jsonb"),
];

fn rows() -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..ROWS {
        let note = "words that somebody wrote about an order, and then a few more of them ".repeat(1 + n % 2);
        out.extend_from_slice(
            format!(
                "{n}\tperson{n}@shop.test\tFirst{n}\tLast{n}\t+34 600 {n:06}\tCity {}\t2024-01-01 00:00:00.{n:06}+00\t\
                 2024-06-01 00:00:00+00\tactive\t{}.50\t{note}\t{{\"theme\": \"dark\", \"n\": {n}}}\n",
                n % 100,
                n % 1000
            )
            .as_bytes(),
        );
    }
    out
}

fn main() {
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|(name, base)| {
            let category = if *base == "text" { "S" } else { "N" };
            json!({
                "name": name, "typeName": base, "baseType": base, "category": category, "maxLength": null, "notNull": false,
                "generated": false, "identity": false, "labels": [], "comment": null,
            })
        })
        .collect();
    let table: Table = serde_json::from_value(json!({
        "oid": 1, "schema": "public", "name": "users", "kind": "Ordinary", "pages": 1, "parents": [], "columns": columns,
        "unique": [["id"], ["email"]], "foreignKeys": [], "checks": [],
    }))
    .unwrap();
    let rows = rows();
    println!("{} rows of {} bytes", ROWS, rows.len() / ROWS);
    let hash = |columns: &[&'static str]| columns.iter().map(|c| (*c, json!({"hash": {}}))).collect::<Vec<_>>();
    let fake = |column: &'static str, kind: &str| (column, json!({"fake": {"kind": kind, "domain": kind}}));
    let realistic = vec![
        fake("email", "email"),
        fake("first_name", "firstName"),
        fake("last_name", "lastName"),
        fake("phone", "phone"),
        fake("city", "city"),
    ];
    let mut wide = realistic.clone();
    wide.push(fake("note", "text"));
    wide.push(("data", json!({"json": {"paths": {"$.theme": {"keep": {}}}}})));
    wide.push(("created_at", json!({"shift": {"subject": "id"}})));
    for (what, masks) in [
        ("1 column hashed", hash(&["email"])),
        ("5 columns hashed", hash(&["email", "first_name", "last_name", "phone", "city"])),
        ("5 columns realistic", realistic),
        ("8 columns, text, JSON and a date among them", wide),
        ("1 column by its shape", vec![fake("email", "shape")]),
    ] {
        let mut named: serde_json::Map<String, serde_json::Value> =
            COLUMNS.iter().map(|(name, _)| ((*name).to_owned(), json!({"keep": {"reason": "measured"}}))).collect();
        named.extend(masks.into_iter().map(|(name, mask)| (name.to_owned(), mask)));
        let policy: MaskingData =
            serde_json::from_value(json!({"name": "bench", "tables": [{"table": "public.users", "columns": named}]})).unwrap();
        let masking = compile(&policy, std::slice::from_ref(&table), &Key::random().unwrap()).unwrap();
        let Leaving::Rows { change: Some(change), .. } = masking.of(&table).unwrap() else { continue };
        let (mut change, mut out) = (change(), Vec::new());
        let seconds = (0..PASSES).map(|_| {
            out.clear();
            let begun = Instant::now();
            change.rows(&rows, &mut out).unwrap();
            begun.elapsed().as_secs_f64()
        });
        let best = seconds.fold(f64::INFINITY, f64::min);
        println!("{what:45} {:6.0} MB/s of rows", rows.len() as f64 / best / 1e6);
    }
}
