//! Masking as a whole: policies against catalogs, and rows of a real PostgreSQL out, masked, and into tables with the same
//! constraints.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, dead_code)]

mod postgres;

#[path = "masking/policies.rs"]
mod policies;
#[path = "masking/rows.rs"]
mod rows;
#[path = "masking/schemas.rs"]
mod schemas;
#[path = "masking/server.rs"]
mod server;
#[path = "masking/traps.rs"]
mod traps;

use lockkeeper::{
    api::MaskingData,
    data::{
        mask::{Key, Masking, Problem, compile},
        postgres::{
            tables::Table,
            transform::{Leaving, Transforms},
        },
    },
};

fn key() -> Key {
    Key::from_secret(b"0123456789abcdef0123456789abcdef").unwrap()
}

fn policy(yaml: &str) -> MaskingData {
    serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"))
}

fn compiled(yaml: &str, tables: &[Table]) -> Result<Masking, Vec<Problem>> {
    compile(&policy(yaml), tables, &key())
}

/// What leaves of rows of COPY text.
fn masked(masking: &Masking, table: &Table, rows: &str) -> String {
    let mut out = Vec::new();
    match masking.of(table).unwrap() {
        Leaving::Nothing => {}
        Leaving::Rows { change: Some(change), .. } => change().rows(rows.as_bytes(), &mut out).unwrap(),
        Leaving::Rows { change: None, .. } => out.extend_from_slice(rows.as_bytes()),
    }
    String::from_utf8(out).unwrap()
}
