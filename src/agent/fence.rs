//! Takes the epoch and closes the databases.
//!
//! 1. For each data, in one transaction: the row is taken, what was found is written there, nobody may connect any more.
//! 2. For each data: sessions are ended until none is left, and no prepared transaction. Then the row says `fenced`.

use std::time::Instant;

use super::{Context, error::AgentError, lock::Guarded};
use crate::{
    data::postgres::{control::State, quote::ident},
    manifest::task::Outcome,
};

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let mut all = Vec::new();
    for access in context.accesses()? {
        all.push(Guarded::ensure(context, access).await.map_err(|error| match error {
            // Every data is looked at before one is closed.
            AgentError::Elsewhere { data, .. } => AgentError::Elsewhere { data, closed: false },
            error => error,
        })?);
    }
    // Nothing is closed while any of the data belongs to another lock.
    for guarded in &all {
        guarded.begin().await?;
        guarded.run("giving the row back", "ROLLBACK").await?;
    }
    for guarded in &all {
        close(context, guarded).await?;
    }
    let began = Instant::now();
    for guarded in &all {
        let row = guarded.begin_held().await?;
        if row.state == State::Fencing {
            outcome.notes.extend(guarded.end_sessions(&row.database, began).await?);
            guarded.commit(&super::Row { state: State::Fenced, ..row }).await?;
        } else {
            guarded.run("giving the row back", "ROLLBACK").await?;
        }
    }
    Ok(())
}

async fn close(context: &Context<'_>, guarded: &Guarded<'_>) -> Result<(), AgentError> {
    let row = guarded.begin().await?;
    if let Some(row) = row.as_ref().filter(|r| r.epoch == context.task.epoch.unwrap_or_default()) {
        match (row.state, &row.holder) {
            // Already closed by an earlier attempt, or further on: nothing to do again.
            (State::Fencing | State::Fenced | State::Undone | State::Open, Some(_)) => {
                return guarded.run("giving the row back", "ROLLBACK").await;
            }
            // This epoch is spent: a late attempt of a run that has given the data back.
            (_, None) => return Err(guarded.fenced(row)),
            (state, Some(_)) => return Err(guarded.state_error(state, "this run is rolling back and does not fence again")),
        }
    }
    let name = guarded.access.database().to_owned();
    let found = guarded.found(&name).await?;
    let row = guarded.take(row, Some(found), State::Fencing);
    guarded.run("closing the database", &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&name))).await?;
    guarded.commit(&row).await
}
