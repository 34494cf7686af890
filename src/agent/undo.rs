//! Makes the undo points, then opens the databases for the run alone.
//!
//! 1. For each data, while its row is locked: what a killed attempt left of the clone is dropped, the database is cloned,
//!    the row names the clone. A clone counts only once the row names it.
//! 2. When every data has its undo point, for each data in one transaction: CONNECT is left to the owner, the database
//!    opens. Nothing is changed anywhere before that.

use std::time::Instant;

use super::{
    Context, Row,
    error::{AgentError, OfData},
    lock::Guarded,
};
use crate::{
    data::postgres::{
        Pace, Session, catalog,
        control::State,
        quote::{Made, ident, made_database},
    },
    manifest::task::{Aside, Outcome},
};

/// Up to this size a clone by write-ahead log is faster: it needs no checkpoint (2.2 against 3.4 s for 1.2 GB).
const WAL_LOG_LIMIT: i64 = 2 << 30;
/// The same where the file system may clone files in no time.
const WAL_LOG_LIMIT_CLONING: i64 = 64 << 20;

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut all = Vec::new();
    for access in context.accesses()? {
        all.push(Guarded::ensure(context, access).await?);
    }
    for guarded in &all {
        let row = guarded.begin_held().await?;
        let row = match row.state {
            State::Fenced => clone(context, guarded, row, outcome).await?,
            State::Undone | State::Open => {
                guarded.run("giving the row back", "ROLLBACK").await?;
                row
            }
            state => return Err(guarded.state_error(state, "it must be fenced first")),
        };
        let database = row.undo.unwrap_or_default();
        outcome.aside.push(Aside { data: guarded.data().to_owned(), database, method: "Clone".into() });
    }
    for guarded in &all {
        open(guarded).await?;
    }
    Ok(())
}

async fn clone(context: &Context<'_>, guarded: &Guarded<'_>, row: Row, outcome: &mut Outcome) -> Result<Row, AgentError> {
    let began = Instant::now();
    outcome.notes.extend(guarded.end_sessions(&row.database, began).await?);
    let source = guarded.database(&row.database).await?;
    if source.allow_connections {
        return Err(guarded.state_error(row.state, "someone opened the database again; find out who before anything else"));
    }
    let name = made_database(&row.database, Made::Undo, &context.task.run);
    // The row stays locked by the guard's session while this one clones.
    let session =
        Session::open(&guarded.access.admin, &guarded.control_database(), Pace::Long, &context.stop).await.of(guarded.data())?;
    let major = catalog::major(&session).await.of(guarded.data())?;
    let strategy = strategy(&session, major, source.size).await;
    let sql = format!(
        "CREATE DATABASE {} TEMPLATE {} OWNER {}{strategy} ALLOW_CONNECTIONS false",
        ident(&name),
        ident(&row.database),
        ident(&source.owner)
    );
    super::progress("cloning", 0, u64::try_from(source.size).ok(), "bytes");
    loop {
        session
            .run("dropping a half-made undo point", &format!("DROP DATABASE IF EXISTS {}", ident(&name)))
            .await
            .of(guarded.data())?;
        match session.run("cloning the database", &sql).await.of(guarded.data()) {
            Ok(()) => break,
            Err(error) if guarded.may_repeat(&error, began) => {
                outcome.notes.extend(guarded.end_sessions(&row.database, began).await?);
            }
            Err(error) => return Err(error),
        }
    }
    let row = Row { state: State::Undone, undo: Some(name.clone()), ..row };
    guarded.commit(&row).await?;
    outcome.notes.push(format!(
        "{}: cloned {} MiB to {name} in {:.2} s",
        guarded.data(),
        source.size >> 20,
        began.elapsed().as_secs_f64()
    ));
    Ok(row)
}

/// The quickest way of copying that the server knows.
async fn strategy(session: &Session, major: u32, size: i64) -> &'static str {
    if major < 15 {
        return "";
    }
    // Fails where the server was built without it, or is older.
    let cloning = major >= 18 && session.run("cloning files", "SET file_copy_method = 'clone'").await.is_ok();
    let limit = if cloning { WAL_LOG_LIMIT_CLONING } else { WAL_LOG_LIMIT };
    if size <= limit { " STRATEGY WAL_LOG" } else { " STRATEGY FILE_COPY" }
}

async fn open(guarded: &Guarded<'_>) -> Result<(), AgentError> {
    let row = guarded.begin_held().await?;
    if row.state == State::Open {
        return guarded.run("giving the row back", "ROLLBACK").await;
    }
    if row.state != State::Undone {
        return Err(guarded.state_error(row.state, "its undo point must be whole first"));
    }
    let now = guarded.found(&row.database).await?;
    let sql = format!(
        "{}ALTER DATABASE {} ALLOW_CONNECTIONS true",
        now.close_to_others(&row.database, &guarded.access.connection.user),
        ident(&row.database)
    );
    guarded.run("opening the database for the run", &sql).await?;
    guarded.commit(&Row { state: State::Open, ..row }).await
}
