//! How fast rows are masked, on one core: `cargo bench --bench mask`. The codec alone, then masks as a table of users has them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{env, hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use lockkeeper::{
    api::MaskingData,
    data::{
        mask::{Key, codec, compile},
        postgres::{
            tables::Table,
            transform::{Leaving, Transform, Transforms},
        },
    },
};
use serde_json::{Value, json};

const ROWS: usize = 1_000;
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

fn table() -> Table {
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
    serde_json::from_value(json!({
        "oid": 1, "schema": "public", "name": "users", "kind": "Ordinary", "pages": 1, "parents": [], "columns": columns,
        "unique": [["id"], ["email"]], "foreignKeys": [], "checks": [],
    }))
    .unwrap()
}

type Masks = Vec<(&'static str, Value)>;

fn all() -> Vec<(&'static str, Masks)> {
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
    vec![
        ("hashed-1", hash(&["email"])),
        ("hashed-5", hash(&["email", "first_name", "last_name", "phone", "city"])),
        ("realistic-5", realistic),
        ("wide-8", wide),
        ("shape-1", vec![fake("email", "shape")]),
    ]
}

fn masker(masks: &Masks) -> Box<dyn Transform> {
    let table = table();
    let mut named: serde_json::Map<String, Value> =
        COLUMNS.iter().map(|(name, _)| ((*name).to_owned(), json!({"keep": {"reason": "measured"}}))).collect();
    named.extend(masks.iter().map(|(name, mask)| ((*name).to_owned(), mask.clone())));
    let policy: MaskingData =
        serde_json::from_value(json!({"name": "bench", "tables": [{"table": "public.users", "columns": named}]})).unwrap();
    let masking = compile(&policy, std::slice::from_ref(&table), &Key::random().unwrap()).unwrap();
    match masking.of(&table).unwrap() {
        Leaving::Rows { change: Some(change), .. } => change(),
        _ => panic!("nothing is masked"),
    }
}

/// Splits rows into fields, and no more.
fn split(rows: &[u8], ends: &mut Vec<usize>) -> usize {
    let mut fields = 0;
    codec::rows::<codec::Unended>(rows, ends, |_, ends| {
        fields += ends.len();
        Ok(())
    })
    .ok();
    fields
}

type Case = (&'static str, &'static str, Box<dyn FnMut()>);

/// Everything that is measured, by group and name; each does all rows once.
fn cases(rows: &[u8]) -> Vec<Case> {
    let whole = rows.to_vec();
    let mut ends = Vec::new();
    let mut cases: Vec<Case> = vec![(
        "codec",
        "split",
        Box::new(move || {
            black_box(split(&whole, &mut ends));
        }),
    )];
    let words: Vec<Vec<u8>> = rows.split(|b| *b == b'\t').map(<[u8]>::to_vec).collect();
    let (of_decode, mut out) = (words.clone(), Vec::new());
    cases.push((
        "codec",
        "encode",
        Box::new(move || {
            out.clear();
            words.iter().for_each(|w| codec::encode(w, &mut out));
            black_box(&out);
        }),
    ));
    cases.push((
        "codec",
        "decode",
        Box::new(move || {
            black_box(of_decode.iter().map(|w| codec::decode(w).len()).sum::<usize>());
        }),
    ));
    for (name, masks) in all() {
        let (rows, mut change, mut out) = (rows.to_vec(), masker(&masks), Vec::new());
        cases.push((
            "mask",
            name,
            Box::new(move || {
                out.clear();
                change.rows(&rows, &mut out).unwrap();
                black_box(&out);
            }),
        ));
    }
    cases
}

/// `LOCKKEEPER_BENCH_ONCE="mask/realistic-5 10"`: only that, so often, and no clock. hack/instructions.sh counts what it takes.
fn once(said: &str, cases: &mut [Case]) {
    let (name, times) = said.split_once(' ').unwrap();
    let case = cases.iter_mut().find(|(group, case, _)| format!("{group}/{case}") == name).unwrap();
    (0..times.parse().unwrap()).for_each(|_: u32| (case.2)());
}

fn main() {
    let rows = rows();
    let mut cases = cases(&rows);
    if let Ok(said) = env::var("LOCKKEEPER_BENCH_ONCE") {
        return once(&said, &mut cases);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(60)
        .configure_from_args();
    for (name, of) in cases.chunk_by_mut(|a, b| a.0 == b.0).map(|of| (of[0].0, of)) {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(rows.len() as u64));
        for (_, name, case) in of {
            group.bench_function(*name, |b| b.iter(&mut *case));
        }
        group.finish();
    }
    criterion.final_summary();
}
