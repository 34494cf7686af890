//! Makes the undo points, then opens the databases for the run alone.
//!
//! 1. For each data, while its row is locked: what a killed attempt left of the clone is dropped, the database is cloned,
//!    the row names the clone. A clone counts only once the row names it.
//! 2. Data that is not cloned, because its method is Backup or, with Auto, because the server does not do it: one snapshot of
//!    them all goes into the repository, read by the admin role from databases that nobody else may connect to but their
//!    owner; each row names the snapshot. Where no repository is mounted, they are left to a pod that has one.
//!    Volumes go into that snapshot too; it is their only undo point, and so it is read back.
//! 3. When every data has its undo point, for each data in one transaction: CONNECT is left to the owner, or to the roles
//!    that migrations have of their own and to nobody else until [`super::admit`], and the database opens. Nothing is changed anywhere before that.

use std::time::Instant;

use super::{
    Context, Row, admit, backup,
    error::{AgentError, OfData},
    lock::Guarded,
    volumes::{self, UndoPoint},
};
use crate::{
    api::UndoMethod,
    data::postgres::{
        Pace, Session, catalog,
        control::{Files, State, snapshot_of},
        quote::{Purpose, ident, made_database},
    },
    manifest::task::{Aside, Outcome},
};

/// Up to this size a clone by write-ahead log is faster: it needs no checkpoint (2.2 against 3.4 s for 1.2 GB).
const WAL_LOG_LIMIT: i64 = 2 << 30;
/// The same where the file system may clone files in no time.
const WAL_LOG_LIMIT_CLONING: i64 = 64 << 20;

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut all = Vec::new();
    for (access, task) in context.accesses()?.into_iter().zip(&context.task.data) {
        all.push((Guarded::ensure(context, access).await?, task.undo));
    }
    let mut by_backup = Vec::new();
    // Nothing is changed while one of them is not open.
    let mut unchanged = false;
    for (guarded, method) in &all {
        let row = guarded.begin_held().await?;
        unchanged |= row.state != State::Open;
        match row.state {
            State::Fenced if *method != UndoMethod::Backup => {
                if !clone_or_say(context, guarded, row, *method, outcome).await? {
                    by_backup.push(guarded);
                    continue;
                }
            }
            State::Fenced => {
                guarded.run("giving the row back", "ROLLBACK").await?;
                by_backup.push(guarded);
                continue;
            }
            State::Undone | State::Open => guarded.run("giving the row back", "ROLLBACK").await?,
            state => return Err(guarded.state_error(state, "it must be fenced first")),
        }
        made(guarded, outcome).await?;
    }
    let files = !context.task.volumes.is_empty();
    if (files || !by_backup.is_empty()) && !context.task.repository {
        return Ok(());
    }
    if by_backup.is_empty() {
        if let Some(point) = volumes::undo(context, unchanged, outcome).await?.filter(|_| unchanged) {
            volumes::prove_undo(context, point, unchanged, outcome).await?;
        }
    } else {
        let snapshot = into_repository(context, &by_backup, outcome).await?;
        outcome.aside.extend(volumes::aside(context, &snapshot));
    }
    for guarded in by_backup {
        made(guarded, outcome).await?;
    }
    for (guarded, _) in &all {
        open(context, guarded).await?;
    }
    Ok(())
}

/// Tells the undo point that is there now.
async fn made(guarded: &Guarded<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let row = guarded.begin_held().await?;
    guarded.run("giving the row back", "ROLLBACK").await?;
    outcome.aside.extend(aside(guarded, row.undo.as_deref()).await?);
    Ok(())
}

/// What is kept aside for a data, by what its row names. None: nothing is.
pub async fn aside(guarded: &Guarded<'_>, undo: Option<&str>) -> Result<Option<Aside>, AgentError> {
    let Some(name) = undo else { return Ok(None) };
    let data = guarded.data().to_owned();
    if let Some(snapshot) = snapshot_of(name) {
        let snapshot = Some(snapshot.to_owned());
        return Ok(Some(Aside { data, database: String::new(), snapshot, method: "Backup".into() }));
    }
    let there = catalog::exists(&guarded.control.session, name).await.of(&data)?;
    Ok(there.then(|| Aside { data, database: name.to_owned(), snapshot: None, method: "Clone".into() }))
}

/// Clones; with Auto, where the server does not, says why and leaves it to a backup. Whether there is a clone.
async fn clone_or_say(
    context: &Context<'_>,
    guarded: &Guarded<'_>,
    row: Row,
    method: UndoMethod,
    outcome: &mut Outcome,
) -> Result<bool, AgentError> {
    // An earlier attempt came to reading it for a backup, and was killed.
    if method == UndoMethod::Auto && context.task.repository && guarded.database(&row.database).await?.allow_connections {
        guarded.run("giving the row back", "ROLLBACK").await?;
        return Ok(false);
    }
    match clone(context, guarded, row, outcome).await? {
        None => Ok(true),
        Some(refusal) if method == UndoMethod::Auto && is_impossible(&refusal) => {
            outcome.notes.push(format!("{}: by backup, because it cannot be cloned: {refusal}", guarded.data()));
            guarded.run("giving the row back", "ROLLBACK").await?;
            super::prove::drop_made(&guarded.access, &undo_name(context, guarded)).await?;
            Ok(false)
        }
        Some(refusal) => Err(refusal),
    }
}

/// Whether the server does not clone this database, however often it is asked: no space, no right, a collation of another
/// version.
fn is_impossible(error: &AgentError) -> bool {
    let AgentError::Postgres { source, .. } = error else { return false };
    matches!(source.code(), Some("53100" | "42501" | "22023" | "0A000" | "XX000"))
}

fn undo_name(context: &Context<'_>, guarded: &Guarded<'_>) -> String {
    made_database(guarded.access.database(), Purpose::Undo, &context.task.run)
}

/// Clones. Gives the server's refusal of just that, where there is one; the row is still locked then.
async fn clone(
    context: &Context<'_>,
    guarded: &Guarded<'_>,
    row: Row,
    outcome: &mut Outcome,
) -> Result<Option<AgentError>, AgentError> {
    let began = Instant::now();
    outcome.notes.extend(guarded.end_sessions(&row.database, began).await?);
    let source = guarded.database(&row.database).await?;
    if source.allow_connections {
        return Err(guarded.state_error(row.state, "someone opened the database again; find out who before anything else"));
    }
    let name = undo_name(context, guarded);
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
            Err(error) => return Ok(Some(error)),
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
    Ok(None)
}

/// One snapshot of all these, as they are behind the fence.
async fn into_repository(context: &Context<'_>, all: &[&Guarded<'_>], outcome: &mut Outcome) -> Result<String, AgentError> {
    let began = Instant::now();
    for guarded in all {
        let row = guarded.begin_held().await?;
        let name = ident(&row.database);
        // Who came in while an earlier attempt read is ended first: what he wrote is after the fence, and not in any promise.
        guarded.run("closing the database", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await?;
        outcome.notes.extend(guarded.end_sessions(&row.database, began).await?);
        let now = guarded.found(&row.database).await?;
        let sql = format!(
            "{}ALTER DATABASE {name} ALLOW_CONNECTIONS true",
            now.close_to_others(&row.database, &guarded.access.admin.user)
        );
        guarded.run("opening the database for its backup", &sql).await?;
        guarded.commit(&row).await?;
    }
    let repository = backup::open(context).await?;
    let accesses: Vec<_> = all.iter().map(|g| &g.access).collect();
    let backup::Written { stored, manifests, volumes, notes: _ } = backup::store(context, &repository, &accesses, None).await?;
    let files: u64 = volumes.iter().map(|v| v.total.bytes).sum();
    let bytes = manifests.iter().map(|m| m.bytes).sum::<i64>() + i64::try_from(files).unwrap_or(0);
    if !context.task.volumes.is_empty() {
        let point = UndoPoint { repository, snapshot: stored.snapshot.clone(), fresh: true };
        volumes::prove_undo(context, point, true, outcome).await?;
    }
    for guarded in all {
        let row = guarded.begin_held().await?;
        guarded.commit(&Row { state: State::Undone, undo: Some(Row::of_snapshot(&stored.snapshot)), ..row }).await?;
    }
    let names: Vec<&str> = all.iter().map(|g| g.data()).chain(volumes.iter().map(|v| v.head.data.as_str())).collect();
    outcome.notes.push(format!(
        "{}: backed up {} MiB to snapshot {}, {} MiB of it new, in {:.2} s",
        names.join(", "),
        bytes >> 20,
        &stored.snapshot[..8.min(stored.snapshot.len())],
        stored.stored_bytes >> 20,
        began.elapsed().as_secs_f64()
    ));
    Ok(stored.snapshot)
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

async fn open(context: &Context<'_>, guarded: &Guarded<'_>) -> Result<(), AgentError> {
    let row = guarded.begin_held().await?;
    if row.state == State::Open {
        return guarded.run("giving the row back", "ROLLBACK").await;
    }
    if row.state != State::Undone {
        return Err(guarded.state_error(row.state, "its undo point must be whole first"));
    }
    let now = guarded.found(&row.database).await?;
    let migrations = admit::migration_roles(context, guarded)?;
    let closed = match migrations.as_slice() {
        [] => now.close_to_others(&row.database, &guarded.access.connection.user),
        alone => now.leave_connect_to(&row.database, &alone.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    let sql = format!("{closed}ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(&row.database));
    guarded.run("opening the database for the run", &sql).await?;
    guarded.commit(&Row { state: State::Open, files: Files::Changed, ..row }).await
}
