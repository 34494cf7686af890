//! Gives the databases back as they were found: grants, connection limit, connections. The epoch stays in the row, so that
//! what comes late from this run is refused.

use super::{
    Context, Row,
    error::{AgentError, OfData},
    lock::Guarded,
    undo,
};
use crate::{
    data::postgres::{catalog, control::State, quote::ident, sessions},
    manifest::task::Outcome,
};

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut all = Vec::new();
    for access in context.accesses()? {
        match Guarded::open(context, access).await? {
            Some(guarded) => all.push(guarded),
            None => outcome.notes.push("nothing was ever fenced on a server; there is nothing to give back".into()),
        }
    }
    for guarded in &all {
        guarded.begin().await?;
        guarded.run("giving the row back", "ROLLBACK").await?;
    }
    for guarded in &all {
        let undo = give_back(context, guarded, outcome).await?;
        outcome.aside.extend(undo::aside(guarded, undo.as_deref()).await?);
    }
    Ok(())
}

/// Ends and names the sessions of others that came while the database was open for the run alone: they had the right to
/// connect, and what they wrote is in nobody's plan.
async fn end_strangers(
    context: &Context<'_>,
    guarded: &Guarded<'_>,
    database: &str,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let session = &guarded.control.session;
    let oid = guarded.database(database).await?.oid;
    let covered = &context.task.covered_addresses;
    let stranger = |s: &sessions::Seen| s.address.as_ref().is_some_and(|a| !covered.contains(a)) && !s.superuser;
    let strangers: Vec<_> = sessions::list(session, oid).await.of(guarded.data())?.into_iter().filter(stranger).collect();
    let pids: Vec<i32> = strangers.iter().map(|s| s.pid).collect();
    sessions::terminate(session, oid, &pids).await.of(guarded.data())?;
    outcome.notes.extend(strangers.iter().take(20).map(|s| {
        let address = s.address.as_deref().unwrap_or_default();
        format!("{}: ended {} at {address}, which came while only the run may work there", guarded.data(), s.who())
    }));
    Ok(())
}

/// Gives one back; returns its undo point.
async fn give_back(context: &Context<'_>, guarded: &Guarded<'_>, outcome: &mut Outcome) -> Result<Option<String>, AgentError> {
    let row = guarded.begin().await?.filter(|row| row.epoch == context.task.epoch.unwrap_or_default());
    let Some(row) = row else {
        outcome.notes.push(format!("{}: it was not fenced for this run; nothing to give back", guarded.data()));
        guarded.run("giving the row back", "ROLLBACK").await?;
        return Ok(None);
    };
    if row.holder.is_none() {
        // Given back by an earlier attempt.
        guarded.run("giving the row back", "ROLLBACK").await?;
        return Ok(row.undo);
    }
    if row.state == State::RollingBack {
        return Err(guarded.state_error(row.state, "the rollback must be completed first"));
    }
    if row.state == State::Open && !context.task.covered_addresses.is_empty() {
        end_strangers(context, guarded, &row.database, outcome).await?;
    }
    if let Some(found) = &row.found {
        let now = guarded.found(&row.database).await?;
        let roles = catalog::roles(&guarded.control.session).await.of(guarded.data())?;
        let name = ident(&row.database);
        let sql = format!(
            "{}ALTER DATABASE {name} CONNECTION LIMIT {};\nALTER DATABASE {name} ALLOW_CONNECTIONS {}",
            found.restore_grants(&row.database, &now, &roles),
            found.connection_limit,
            found.allow_connections
        );
        guarded.run("giving the database back as it was found", &sql).await?;
        let gone = found.grants.iter().flatten().filter_map(|g| g.to.as_ref()).filter(|r| !roles.contains(*r));
        outcome.notes.extend(gone.map(|role| format!("{}: role {role} is gone, and its grants with it", guarded.data())));
    }
    let undo = row.undo.clone();
    guarded.commit(&Row { state: State::Free, holder: None, ..row }).await?;
    Ok(undo)
}
