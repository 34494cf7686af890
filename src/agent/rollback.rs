//! Puts the databases back to what they were at the lock.
//!
//! 1. For each data that was open for the run: the undo point must be there before anything is changed. Nobody may connect any
//!    more, the row says `rolling-back`. What was never opened is as it was, whatever became of its undo point, which goes.
//! 2. Sessions are ended and observed to be gone.
//! 3. The files of volumes are put back in place ([`super::volumes`]).
//! 4. An undo point that is a snapshot is restored beside the live database and compared; from then on it is a database as
//!    others.
//! 5. In one transaction: the live database is renamed aside, the undo point takes its name, and what a clone does not
//!    have (settings, comment, connection limit) is put on it; the failed one goes to the admin role. What a restore had
//!    taken from a database aside goes back under that name instead: it can be asked for again. The row says `rolled-back`,
//!    and the owner alone may connect until `release`.

use std::time::Instant;

use super::{
    Context, Row, backup,
    error::{AgentError, OfData},
    lock::Guarded,
    prove, volumes,
};
use crate::{
    data::postgres::{
        catalog,
        control::{Files, State},
        quote::{Purpose, ident, made_database},
        tools::Rights,
    },
    manifest::task::{Aside, Outcome},
};

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut all = Vec::new();
    for access in context.accesses()? {
        all.push(Guarded::ensure(context, access).await?);
    }
    // Every data is looked at before one is touched.
    let mut untouched = true;
    for guarded in &all {
        let row = guarded.begin().await?.filter(|r| r.epoch == context.task.epoch.unwrap_or_default());
        untouched &= row.as_ref().is_none_or(|r| r.files == Files::Untouched);
        if let Some(row) = row.filter(needs_swap) {
            undo_point(context, guarded, &row).await?;
        }
        guarded.run("giving the row back", "ROLLBACK").await?;
    }
    let points = volumes::undo_points(context, untouched, outcome).await?;
    for guarded in &all {
        close(context, guarded, outcome).await?;
    }
    volumes::roll_back(context, all.first(), &points, outcome).await?;
    from_snapshot(context, &all, outcome).await?;
    let began = Instant::now();
    for guarded in &all {
        // What a restore loaded and never swapped in goes.
        prove::drop_made(&guarded.access, &made_database(guarded.access.database(), Purpose::Load, &context.task.run)).await?;
        swap(context, guarded, began, outcome).await?;
        let failed = goes_aside_as(context, guarded);
        if catalog::exists(&guarded.control.session, &failed).await.of(guarded.data())? {
            outcome.aside.push(Aside {
                data: guarded.data().to_owned(),
                database: failed,
                snapshot: None,
                method: "Swap".into(),
            });
        }
    }
    Ok(())
}

/// The name that what is live now is kept under: where a restore took it from a database aside, that database's.
fn goes_aside_as(context: &Context<'_>, guarded: &Guarded<'_>) -> String {
    let taken = context.task.databases.iter().find(|d| d.data == guarded.data());
    taken.map_or_else(|| made_database(guarded.access.database(), Purpose::Failed, &context.task.run), |d| d.database.clone())
}

fn needs_swap(row: &Row) -> bool {
    row.holder.is_some() && matches!(row.state, State::Open | State::RollingBack)
}

/// Loads the undo points that are snapshots. Each row then names the database.
async fn from_snapshot(context: &Context<'_>, all: &[Guarded<'_>], outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut opened = None;
    for guarded in all {
        let row = guarded.begin().await?;
        guarded.run("giving the row back", "ROLLBACK").await?;
        let Some(row) = row.filter(|r| r.state == State::RollingBack) else { continue };
        let Some(snapshot) = row.undo_snapshot().map(str::to_owned) else { continue };
        let reader = match opened.take() {
            Some((of, reader)) if of == snapshot => reader,
            _ => prove::open(context, &snapshot).await?,
        };
        let name = made_database(guarded.access.database(), Purpose::Undo, &context.task.run);
        prove::restore_and_compare(context, &guarded.access, (&name, Rights::Kept), &reader, outcome).await?;
        opened = Some((snapshot, reader));
        let row = guarded.begin_held().await?;
        guarded.commit(&Row { undo: Some(name), ..row }).await?;
    }
    Ok(())
}

async fn undo_point(context: &Context<'_>, guarded: &Guarded<'_>, row: &Row) -> Result<String, AgentError> {
    let name = row.undo.clone().unwrap_or_default();
    if let Some(snapshot) = row.undo_snapshot() {
        let repository = backup::open(context).await?;
        let snapshot = snapshot.to_owned();
        backup::blocking(move || repository.find(&snapshot)).await?;
        return Ok(name);
    }
    if catalog::exists(&guarded.control.session, &name).await.of(guarded.data())? {
        return Ok(name);
    }
    Err(AgentError::UndoPointMissing {
        data: guarded.data().to_owned(),
        database: name,
        server: guarded.control.session.server().to_owned(),
    })
}

async fn close(context: &Context<'_>, guarded: &Guarded<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let row = guarded.begin().await?;
    let taken = row.as_ref().filter(|r| r.epoch == context.task.epoch.unwrap_or_default());
    let Some(taken) = taken else {
        // The fence never came so far. The epoch is taken, so that it cannot come late.
        let found = guarded.found(guarded.access.database()).await?;
        let row = guarded.take(row, Some(found), State::RolledBack);
        outcome.notes.push(format!("{}: it was not fenced yet; nothing to put back", guarded.data()));
        return guarded.commit(&row).await;
    };
    if taken.holder.is_none() {
        return Err(guarded.fenced(taken));
    }
    let live = catalog::exists(&guarded.control.session, &taken.database).await.of(guarded.data())?;
    match taken.state {
        State::Fencing | State::Fenced | State::Undone if live || taken.undo.is_none() => {
            outcome.notes.push(format!("{}: nothing was changed yet; nothing to put back", guarded.data()));
            guarded.commit(&Row { state: State::RolledBack, undo: None, ..taken.clone() }).await
        }
        State::Fencing | State::Fenced | State::Undone | State::Open => {
            undo_point(context, guarded, taken).await?;
            // A migration may have done away with the database itself.
            if live {
                let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&taken.database));
                guarded.run("closing the database", &sql).await?;
            }
            guarded.commit(&Row { state: State::RollingBack, ..taken.clone() }).await
        }
        State::Free | State::RollingBack | State::RolledBack => guarded.run("giving the row back", "ROLLBACK").await,
    }
}

async fn swap(context: &Context<'_>, guarded: &Guarded<'_>, began: Instant, outcome: &mut Outcome) -> Result<(), AgentError> {
    loop {
        let row = guarded.begin_held().await?;
        if row.state != State::RollingBack {
            guarded.run("giving the row back", "ROLLBACK").await?;
            return drop_unused(context, guarded, &row, outcome).await;
        }
        let live = catalog::exists(&guarded.control.session, &row.database).await.of(guarded.data())?;
        if live {
            outcome.notes.extend(guarded.end_sessions(&row.database, began).await?);
        }
        let at = Instant::now();
        let sql = statements(context, guarded, &row, live).await?;
        match guarded.run("swapping the undo point in", &sql).await {
            Ok(()) => {
                guarded.commit(&Row { state: State::RolledBack, undo: None, ..row }).await?;
                outcome.notes.push(format!("{}: swapped in {:.3} s", guarded.data(), at.elapsed().as_secs_f64()));
                return Ok(());
            }
            Err(error) if guarded.may_repeat(&error, began) => {
                guarded.run("giving the row back", "ROLLBACK").await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// An undo point that was not swapped in, whole or half made, is of no more use. One that stays is told, and keeps nobody out.
async fn drop_unused(context: &Context<'_>, guarded: &Guarded<'_>, row: &Row, outcome: &mut Outcome) -> Result<(), AgentError> {
    let name = made_database(&row.database, Purpose::Undo, &context.task.run);
    for database in [&name, &row.database] {
        if !catalog::exists(&guarded.control.session, database).await.of(guarded.data())? {
            return Ok(());
        }
    }
    match prove::drop_made(&guarded.access, &name).await {
        Err(error) if error.is_server_away() => Err(error),
        Err(error) => {
            outcome.notes.push(format!("{}: {name} is of no more use and stays: {error}", guarded.data()));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn statements(context: &Context<'_>, guarded: &Guarded<'_>, row: &Row, live: bool) -> Result<String, AgentError> {
    let undo = undo_point(context, guarded, row).await?;
    let (name, failed) = (&row.database, goes_aside_as(context, guarded));
    let taken = failed != made_database(name, Purpose::Failed, &context.task.run);
    let roles = catalog::roles(&guarded.control.session).await.of(guarded.data())?;
    let mut sql = String::new();
    if live && taken {
        sql += &format!("ALTER DATABASE {} RENAME TO {};\n", ident(name), ident(&failed));
    } else if live {
        let now = guarded.found(name).await?;
        sql += &format!("ALTER DATABASE {} RENAME TO {};\n", ident(name), ident(&failed));
        sql += &now.revoke_all(&failed, &now.owner);
        sql += &format!("ALTER DATABASE {} OWNER TO {};\n", ident(&failed), ident(&guarded.access.admin.user));
        sql += &format!("GRANT ALL ON DATABASE {0} TO {1};\n", ident(&failed), ident(&guarded.access.admin.user));
        // What was written there can still be read, by the admin role alone.
        sql += &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;\n", ident(&failed));
    }
    sql += &format!("ALTER DATABASE {} RENAME TO {};\n", ident(&undo), ident(name));
    if let Some(found) = &row.found {
        sql += &found.restore_rest(name, &roles);
    }
    let fresh = guarded.found(&undo).await?;
    sql += &fresh.close_to_others(name, &guarded.access.connection.user);
    sql += &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(name));
    Ok(sql)
}
