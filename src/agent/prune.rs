//! Removes snapshots that retention lets go, and those that are named. What retention lets go is decided by
//! [`crate::plan::retention`], here with all that the repository holds: also snapshots whose object is lost.

use super::{Context, backup, error::AgentError};
use crate::{
    api::Timestamp,
    manifest::task::Outcome,
    plan::retention::{self, Known},
};

/// So many go at once: their names must fit into the outcome.
const AT_ONCE: usize = 40;

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let repository = backup::open(context).await?;
    let task = context.task.clone();
    let now = Timestamp::now();
    let removed = backup::blocking(move || {
        let all = repository.known()?;
        let kept = |id: &str| task.keep.iter().any(|k| id.starts_with(k.as_str()));
        let named = |id: &str| task.remove.iter().any(|r| r == id);
        let known: Vec<Known> =
            all.iter().filter(|(id, _)| !named(id)).map(|(id, at)| Known { id: id.clone(), at: *at, kept: kept(id) }).collect();
        let mut gone: Vec<String> = all.iter().map(|(id, _)| id.clone()).filter(|id| named(id)).collect();
        if let Some(policy) = &task.retention {
            gone.extend(retention::beyond(&known, policy, now));
        }
        gone.truncate(AT_ONCE);
        repository.remove(&gone)?;
        Ok(gone)
    })
    .await?;
    outcome.notes.push(format!("removed {} snapshots", removed.len()));
    outcome.removed = removed;
    Ok(())
}
