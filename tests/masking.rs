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

use futures::{SinkExt, StreamExt};
use lockkeeper::{
    api::MaskingData,
    data::{
        mask::{Key, Masking, Problem, compile},
        postgres::{
            Access, Pace, Session,
            quote::ident,
            tables::{self, Table},
            transform::{Leaving, Transforms},
        },
        stop::Stop,
    },
};
use postgres::World;
use tokio_postgres::Client;

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

/// What the agent reads of a database.
async fn catalog(world: &World) -> Vec<Table> {
    let access = Access::read(&world.paths.secrets, "store").unwrap();
    let session = Session::open(&access.admin, access.database(), Pace::Short, &Stop::never()).await.unwrap();
    tables::read(&session).await.unwrap()
}

/// Takes the rows of a table, masks them, and loads them elsewhere.
async fn moved(table: &Table, leaving: Leaving, from: &Client, to: &Client) -> Result<(), String> {
    let Leaving::Rows { condition, change } = leaving else { return Ok(()) };
    let columns = table.written().map(|c| ident(&c.name)).collect::<Vec<_>>().join(", ");
    if columns.is_empty() {
        return Ok(());
    }
    let name = format!("{}.{}", ident(&table.schema), ident(&table.name));
    let condition = condition.map(|c| format!(" WHERE ({c})")).unwrap_or_default();
    let out = from.copy_out(&format!("COPY (SELECT {columns} FROM ONLY {name}{condition}) TO STDOUT")).await.unwrap();
    let mut rows = Vec::new();
    let mut out = std::pin::pin!(out);
    while let Some(piece) = out.next().await {
        rows.extend_from_slice(&piece.unwrap());
    }
    let mut masked = Vec::new();
    match change {
        Some(change) => change().rows(&rows, &mut masked).map_err(|e| e.to_string())?,
        None => masked = rows,
    }
    let text = String::from_utf8_lossy(&masked);
    if text.to_lowercase().contains("canary") {
        return Err(format!("a canary is in {text}"));
    }
    let sink = to.copy_in(&format!("COPY {name} ({columns}) FROM STDIN")).await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(std::io::Cursor::new(masked)).await.map_err(|e| format!("{e:?}"))?;
    sink.finish().await.map(drop).map_err(|e| format!("{e:?}"))
}
