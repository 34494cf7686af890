//! Drops what is not needed any more: databases kept aside, and with the Environment its control databases and what killed proofs
//! left, which else the next proof, or the next preflight, would drop.

use super::{
    Context,
    error::{AgentError, OfData},
    proof::{self, ProofServer},
};
use crate::{
    data::postgres::{
        Access, Pace, PgError, Session, catalog,
        control::{self, Control, State},
        quote::{control_database, ident, is_made_database},
    },
    manifest::task::{DropTask, Outcome},
};

/// Drops databases that were made beside the data, never one that is live or still needed to undo.
pub async fn drop_databases(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    for DropTask { data, database } in &context.task.databases {
        let access = context.access(data)?;
        if !is_made_database(access.database(), database) {
            return Err(AgentError::Refused(format!(
                "data {data}: database {database} is not one that was made beside {}; it is not dropped",
                access.database()
            )));
        }
        drop_one(context, &access, database, outcome).await?;
    }
    Ok(())
}

async fn drop_one(context: &Context<'_>, access: &Access, name: &str, outcome: &mut Outcome) -> Result<(), AgentError> {
    let data = &access.data;
    let control = Control::open(&access.admin, &context.task.environment, Pace::Short, &context.stop).await.of(data)?;
    if let Some(control) = &control {
        // Locked until the database is gone: a swap that begins meanwhile waits.
        control.begin(data).await.of(data)?;
        for row in control.all().await.of(data)? {
            let undo = row.undo.as_deref() == Some(name) && !matches!(row.state, State::Free | State::RolledBack);
            if row.database == name || undo {
                return Err(AgentError::Refused(format!(
                    "data {}: database {name} is in use by a run in state {}; it is not dropped",
                    row.data, row.state
                )));
            }
        }
    }
    let session = control::maintenance(&access.admin, &context.stop).await.of(data)?;
    if catalog::exists(&session, name).await.of(data)? {
        session
            .run("dropping a database that was kept aside", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name)))
            .await
            .of(data)?;
        outcome.notes.push(format!("{data}: dropped {name}"));
    }
    match control {
        Some(control) => control.abandon().await.of(data),
        None => Ok(()),
    }
}

/// Drops the control databases. The Environment is being deleted.
pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    for access in context.accesses()? {
        let data = &access.data;
        if let Some(control) =
            Control::open(&access.admin, &context.task.environment, Pace::Short, &context.stop).await.of(data)?
        {
            let held = control.all().await.of(data)?.into_iter().filter(|row| row.state != State::Free);
            outcome.notes.extend(held.map(|row| format!("{}: it was {} when its row was dropped", row.data, row.state)));
        }
        let session: Session = control::maintenance(&access.admin, &context.stop).await.of(data)?;
        let name = control_database(&context.task.environment);
        session
            .run("dropping the control database", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(&name)))
            .await
            .of(data)?;
        // What cannot be dropped any more keeps no Environment from going.
        for (place, swept) in [
            (data.clone(), proof::sweep(&session, access.database(), None).await),
            (proof::said(data), swept_elsewhere(context, &access).await),
        ] {
            outcome.notes.push(match swept {
                Ok(dropped) if dropped.is_empty() => continue,
                Ok(dropped) => format!("{place}: dropped {}", dropped.join(", ")),
                Err(error) => format!("{place}: scratch databases of proofs, if there are any, stay: {error}"),
            });
        }
    }
    Ok(())
}

async fn swept_elsewhere(context: &Context<'_>, access: &Access) -> Result<Vec<String>, PgError> {
    let Some(endpoint) = ProofServer::endpoint(context)? else { return Ok(Vec::new()) };
    let server = ProofServer::enter(endpoint, &context.stop).await?;
    proof::sweep(&server.session, access.database(), None).await
}
