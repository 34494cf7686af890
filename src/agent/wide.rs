//! Rows that are too large to be masked, looked for before time is spent on the others.
//!
//! Nothing is read that a row keeps outside of itself: how long a text or a `bytea` is, its pointer tells. Of other types it only
//! tells how much room is taken, packed; only where that is suspiciously much, the text itself is measured. Where a table takes too
//! long, nothing is said of it: masking finds such a row too, later.

use std::time::{Duration, Instant};

use super::{
    Context,
    error::{AgentError, OfData},
    outcome::named,
};
use crate::data::{
    mask::Masking,
    postgres::{
        Access, Pace, PgError, Session,
        copy::{LARGEST, too_large},
        quote::ident,
        tables::{Column, Table},
        transform::{Leaving, Transforms},
    },
};

/// What is outside of rows is seldom packed to less than an eighth.
const PACKED: usize = 8;
/// So many tables are named.
const NAMED: usize = 6;
/// How long one table may take, and all together.
const PATIENCE: &str = "5s";
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(30);

/// The tables that keep so much outside of their rows that one could be too large, and their columns that may lie there.
const OUTSIDE: &str = "SELECT c.oid, ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
      AND NOT a.attisdropped AND a.attlen = -1 AND a.attstorage <> 'p' AND a.attgenerated = '') \
    FROM pg_class c WHERE c.oid = ANY($1) AND c.reltoastrelid <> 0 AND pg_relation_size(c.reltoastrelid) >= $2 ORDER BY c.oid";

/// That there is none, before anything leaves.
pub async fn refuse(context: &Context<'_>, access: &Access, tables: &[Table], masking: &Masking) -> Result<(), AgentError> {
    let said = rows(context, access, tables, masking).await?;
    if said.is_empty() {
        return Ok(());
    }
    Err(AgentError::Refused(format!("nothing has left. data {}: {}", access.data, named(said, NAMED).join("; "))))
}

/// What is said of each table of which a row that is too large would be masked.
pub async fn rows(
    context: &Context<'_>,
    access: &Access,
    tables: &[Table],
    masking: &Masking,
) -> Result<Vec<String>, AgentError> {
    let data = &access.data;
    // Not in a view of the data: a statement that takes too long would end it.
    let session = Session::open(&access.admin, access.database(), Pace::Short, &context.stop).await.of(data)?;
    session.run("bounding statements", &format!("SET statement_timeout = '{PATIENCE}'")).await.of(data)?;
    let (begun, mut said) = (Instant::now(), Vec::new());
    let oids: Vec<u32> = tables.iter().filter(|t| t.kind.has_rows()).map(|t| t.oid).collect();
    let least = i64::try_from(LARGEST / PACKED).unwrap_or(i64::MAX);
    for row in session.query("reading what is outside of rows", OUTSIDE, &[&oids, &least]).await.of(data)? {
        let (oid, outside): (u32, Vec<String>) = (row.get(0), row.get(1));
        let Some(table) = tables.iter().find(|t| t.oid == oid) else { continue };
        // What leaves as it is, is not held.
        let Ok(Leaving::Rows { condition, change: Some(_) }) = masking.of(table) else { continue };
        if begun.elapsed() > PATIENCE_FOR_ALL {
            break;
        }
        let columns: Vec<&Column> = table.written().filter(|c| outside.contains(&c.name)).collect();
        let largest = session.one("looking for large rows", &measuring(table, &columns, condition.as_deref()), &[]).await;
        match largest.map(|row| row.get::<_, Option<i64>>(0)) {
            Ok(Some(bytes)) if usize::try_from(bytes).is_ok_and(|b| b > LARGEST) => {
                said.push(format!("table {}: {}", table.full_name(), too_large(&format!("at least {}", bytes / 1_000_000))));
            }
            Ok(_) => {}
            Err(PgError::Stopped(stopped)) => return Err(stopped.into()),
            Err(error) => tracing::info!(table = table.full_name(), %error, "it is not known how large its rows are"),
        }
    }
    Ok(said)
}

/// The statement that gives the size of the largest row among those that may be too large. COPY never writes less.
fn measuring(table: &Table, columns: &[&Column], condition: Option<&str>) -> String {
    let (mut cheap, mut whole) = (Vec::new(), Vec::new());
    for column in columns {
        let name = ident(&column.name);
        let (guess, size) = match column.base_type.as_str() {
            "text" | "varchar" | "bpchar" => {
                let size = format!("octet_length({name})::bigint");
                (size.clone(), size)
            }
            "bytea" => {
                let size = format!("2 * octet_length({name})::bigint");
                (size.clone(), size)
            }
            _ => (format!("{PACKED} * pg_column_size({name})::bigint"), format!("octet_length({name}::text)::bigint")),
        };
        cheap.push(format!("coalesce({guess}, 0)"));
        whole.push(format!("coalesce({size}, 0)"));
    }
    let of = |sizes: &[String]| if sizes.is_empty() { "0".to_owned() } else { sizes.join(" + ") };
    let condition = condition.map(|c| format!(" WHERE ({c})")).unwrap_or_default();
    format!(
        "SELECT max(CASE WHEN {} > {LARGEST} THEN {} END)::bigint FROM ONLY {}.{}{condition}",
        of(&cheap),
        of(&whole),
        ident(&table.schema),
        ident(&table.name)
    )
}
