//! Puts data back under the lock, with today's database kept aside.
//!
//! 1. Every data must be fenced, and what comes back must be there: a snapshot, or a database aside.
//! 2. For each data from a snapshot: it is loaded into a database beside the live one, with owners and grants, and compared
//!    with what its manifest says. A killed attempt's half is made anew. What comes from another environment gets the grants of the
//!    live one instead: the admin role alone is let in there to read them.
//! 3. Volumes: what they hold goes into a snapshot, which undoes it, and is read back; then their files become those of the
//!    snapshot that comes back ([`super::volumes`]). A row says before the first of them that they may be others from now on.
//! 4. For each data, in one transaction: the live database takes the undo point's name, what was loaded takes its name, with
//!    settings, comment and connection limit; the row says `open` and names the undo point. The owner and the application
//!    alone may connect until `release`.

use std::time::Instant;

use super::{
    Context, Row,
    error::{AgentError, OfData},
    lock::Guarded,
    prove, snapshot, volumes,
};
use crate::{
    data::postgres::{
        Pace, Session, catalog,
        control::{Files, State},
        quote::{Purpose, ident, made_database},
        rights,
        tools::Rights,
    },
    manifest::task::{Aside, Outcome},
};

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let (mut all, mut untouched) = (Vec::new(), true);
    for access in context.accesses()? {
        let guarded = Guarded::ensure(context, access).await?;
        let row = guarded.begin_held().await?;
        guarded.run("giving the row back", "ROLLBACK").await?;
        untouched &= row.files == Files::Untouched;
        match row.state {
            State::Fenced => all.push((guarded, false)),
            State::Open => all.push((guarded, true)),
            state => return Err(guarded.state_error(state, "it must be fenced first")),
        }
    }
    let loaded = load_all(context, &all, outcome).await;
    if loaded.is_err() {
        // What was loaded in vain is in nobody's way.
        for (guarded, _) in &all {
            let name = loaded_name(context, guarded);
            if let Err(error) = prove::drop_made(&guarded.access, &name).await {
                let data = guarded.data();
                outcome.notes.push(format!("{data}: {name} stays until the rollback, or the next attempt: {error}"));
            }
        }
    }
    // The first cause counts, also where cleaning up failed as well.
    loaded?;
    files(context, &all, untouched, outcome).await?;
    for (guarded, _) in &all {
        let row = swap(context, guarded, outcome).await?;
        let database = row.undo.unwrap_or_default();
        outcome.aside.push(Aside { data: guarded.data().to_owned(), database, snapshot: None, method: "Swap".into() });
    }
    Ok(())
}

/// Volumes. Once one of the databases is live all of them are done.
async fn files(
    context: &Context<'_>,
    all: &[(Guarded<'_>, bool)],
    untouched: bool,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let unchanged = all.iter().all(|(_, done)| !done);
    let Some(point) = volumes::undo(context, unchanged, outcome).await?.filter(|_| unchanged) else { return Ok(()) };
    volumes::prove_undo(context, point, untouched, outcome).await?;
    let Some(snapshot) = &context.task.snapshot else {
        return Err(AgentError::Task("verb restore names no snapshot for volumes".into()));
    };
    let repository = super::backup::open(context).await?;
    let guard = all.first().map(|(guarded, _)| guarded);
    if let Some(guarded) = guard {
        let row = guarded.begin_held().await?;
        guarded.commit(&Row { files: Files::Changed, ..row }).await?;
    }
    volumes::put_back(context, guard, (&repository, snapshot), &context.volumes(), outcome).await
}

fn loaded_name(context: &Context<'_>, guarded: &Guarded<'_>) -> String {
    made_database(guarded.access.database(), Purpose::Load, &context.task.run)
}

/// The database aside that becomes live again, where the data does not come from a snapshot.
fn aside<'a>(context: &'a Context<'_>, data: &str) -> Option<&'a str> {
    context.task.databases.iter().find(|d| d.data == data).map(|d| d.database.as_str())
}

async fn load_all(context: &Context<'_>, all: &[(Guarded<'_>, bool)], outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut opened = None;
    for (guarded, done) in all {
        let data = guarded.data();
        if *done {
            continue;
        }
        if let Some(database) = aside(context, data) {
            if !catalog::exists(&guarded.control.session, database).await.of(data)? {
                return Err(AgentError::Refused(format!(
                    "data {data}: database {database}, which was kept aside, is not on the server {} any more; restore a backup instead",
                    guarded.control.session.server()
                )));
            }
            continue;
        }
        let Some(snapshot) = &context.task.snapshot else {
            return Err(AgentError::Task(format!("verb restore names neither snapshot nor database for data {data}")));
        };
        let reader = match opened.take() {
            Some(reader) => reader,
            None => prove::open(context, snapshot).await?,
        };
        let name = loaded_name(context, guarded);
        // What comes from another environment knows other roles and tablespaces: here everything is the owner's, and the application
        // may use it.
        let rights = if context.task.origin.is_some() { Rights::Elsewhere } else { Rights::Kept };
        prove::restore_and_compare(context, &guarded.access, (&name, rights), &reader, outcome).await?;
        if context.task.origin.is_some() {
            snapshot::let_the_application_in(context, &guarded.access, &name).await?;
            grants_of_today(context, guarded, &name, outcome).await?;
        }
        opened = Some(reader);
    }
    Ok(())
}

/// Gives what was loaded the grants that the fenced database has, as far as roles and objects are there.
async fn grants_of_today(
    context: &Context<'_>,
    guarded: &Guarded<'_>,
    loaded: &str,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let (data, admin) = (guarded.data(), &guarded.access.admin);
    let row = guarded.begin_held().await?;
    let (name, now) = (row.database.clone(), guarded.found(&row.database).await?);
    let alone = now.leave_connect_to(&name, &[&admin.user]);
    guarded
        .run("letting the admin role alone in", &format!("{alone}ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(&name)))
        .await?;
    guarded.commit(&row).await?;
    let live = Session::open(admin, &name, Pace::Short, &context.stop).await.of(data)?;
    let given = rights::read(&live, &now.owner).await.of(data)?;
    drop(live);
    let row = guarded.begin_held().await?;
    guarded.run("closing the database", &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&name))).await?;
    guarded.commit(&row).await?;
    let session = Session::open(admin, loaded, Pace::Long, &context.stop).await.of(data)?;
    let count = rights::grant_again(&session, &given, &now.owner).await.of(data)?;
    if count > 0 {
        outcome.notes.push(format!("{data}: {count} grants of today's database were given again"));
    }
    Ok(())
}

/// Swaps one in; a row that is open was swapped by an earlier attempt.
async fn swap(context: &Context<'_>, guarded: &Guarded<'_>, outcome: &mut Outcome) -> Result<Row, AgentError> {
    let began = Instant::now();
    let data = guarded.data();
    loop {
        let row = guarded.begin_held().await?;
        if row.state == State::Open {
            guarded.run("giving the row back", "ROLLBACK").await?;
            return Ok(row);
        }
        let name = &row.database;
        let next = aside(context, data).map_or_else(|| loaded_name(context, guarded), str::to_owned);
        let undo = made_database(name, Purpose::Undo, &context.task.run);
        for database in [name, &next] {
            // Nobody may connect to either; a session that was still closing is waited for here.
            guarded.run("closing the database", &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(database))).await?;
            outcome.notes.extend(guarded.end_sessions(database, began).await?);
        }
        let at = Instant::now();
        let roles = catalog::roles(&guarded.control.session).await.of(data)?;
        let fresh = guarded.found(&next).await?;
        let mut sql = format!(
            "ALTER DATABASE {0} RENAME TO {1};\nALTER DATABASE {2} RENAME TO {0};\n",
            ident(name),
            ident(&undo),
            ident(&next)
        );
        if let Some(found) = &row.found {
            sql += &found.restore_rest(name, &roles);
        }
        sql += &fresh.close_to_others(name, &guarded.access.connection.user);
        sql += &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(name));
        match guarded.run("swapping what was loaded in", &sql).await {
            Ok(()) => {
                let row = Row { state: State::Open, undo: Some(undo), ..row };
                guarded.commit(&row).await?;
                outcome
                    .notes
                    .push(format!("{data}: swapped in {:.3} s; today's database is kept aside", at.elapsed().as_secs_f64()));
                return Ok(row);
            }
            Err(error) if guarded.may_repeat(&error, began) => guarded.run("giving the row back", "ROLLBACK").await?,
            Err(error) => return Err(error),
        }
    }
}
