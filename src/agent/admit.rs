//! Lets the application in again, once the migrations that had a role of their own are over: its role may connect beside
//! theirs, so that the new workloads can start. Everyone else stays out until `release`.

use super::{
    Context,
    error::{AgentError, OfData},
    lock::Guarded,
};
use crate::{data::postgres::control::State, manifest::task::Outcome};

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    for access in context.accesses()? {
        let guarded = Guarded::ensure(context, access).await?;
        let migrations = migration_roles(context, &guarded)?;
        let row = guarded.begin_held().await?;
        if row.state != State::Open {
            return Err(guarded.state_error(row.state, "it must be open for the run"));
        }
        if migrations.is_empty() {
            guarded.run("giving the row back", "ROLLBACK").await?;
            continue;
        }
        let now = guarded.found(&row.database).await?;
        let application = &guarded.access.connection.user;
        let mut roles: Vec<&str> = migrations.iter().map(String::as_str).collect();
        roles.extend([now.owner.as_str(), application.as_str()]);
        guarded.run("letting the application in", &now.leave_connect_to(&row.database, &roles)).await?;
        guarded.commit(&row).await?;
        outcome.notes.push(format!("{}: role {application} may connect again", guarded.data()));
    }
    Ok(())
}

/// The roles that migrations of a data have of their own.
pub fn migration_roles(context: &Context<'_>, guarded: &Guarded<'_>) -> Result<Vec<String>, AgentError> {
    let task = context.task.data.iter().find(|d| d.name == guarded.data());
    let secrets = task.iter().flat_map(|t| &t.migrations);
    secrets
        .map(|m| guarded.access.migration(&context.paths.secrets, &m.secret).map(|endpoint| endpoint.user).of(guarded.data()))
        .collect()
}
