//! `rollback`: a completed run is undone. Its undo point becomes live again, and of a Promotion images and configuration too.

use super::{
    args::{Global, RollbackArgs},
    error::{CliError, Exit},
    restoring::{self, Wanted},
    session::Session,
};
use crate::{
    api::{
        DownAlignment, EnvironmentRestore, Phase, Promotion, RestoreSource, RunStatus, Timestamp, UndoOf, UndoableKind,
        environment::Kept,
    },
    plan::restore::not_kept,
};

/// Runs the subcommand.
pub async fn run(global: &Global, args: RollbackArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let RollbackArgs { run, restore, alignment, restoring } = args;
    let (kind, metadata, status) = if restore {
        let found: EnvironmentRestore = session.get(&run).await?;
        (UndoableKind::EnvironmentRestore, found.metadata, found.status)
    } else if alignment {
        let found: DownAlignment = session.get(&run).await?;
        (UndoableKind::DownAlignment, found.metadata, found.status)
    } else {
        let found: Promotion = session.get(&run).await?;
        (UndoableKind::Promotion, found.metadata, found.status)
    };
    let (named, status) = (format!("{kind:?} {run}"), status.unwrap_or_default());
    let taken_at = undoable(&named, &status)?;
    let environment = session.environment(restoring.environment.as_deref()).await?;
    let kept = environment.status.map(|s| s.kept).unwrap_or_default();
    still_kept(&named, metadata.uid.as_deref().unwrap_or_default(), &status, &kept)?;
    let what = format!("what was before {kind:?} {run}");
    let from = RestoreSource { backup: None, snapshot: None, undo_of: Some(UndoOf { kind, name: run.as_str().into() }) };
    let also = " Images and configuration that it brought go back as well.";
    restoring::ask(&session, Wanted { from, data: None, what, taken_at: Some(taken_at), also }, restoring).await
}

/// The time to which a run can be undone, or why it cannot.
fn undoable(named: &str, status: &RunStatus) -> Result<Timestamp, CliError> {
    if status.phase != Phase::Completed {
        return Err(CliError::Error(format!(
            "{named} is {}; only a run that Completed is undone. One that is under way is cancelled: kubectl lockkeeper cancel",
            status.phase
        )));
    }
    let locked = status.locked_at.and_then(|at| Timestamp::from_second(at.as_second()).ok());
    locked.filter(|_| !status.undo.is_empty()).ok_or_else(|| {
        CliError::Error(format!(
            "{named} kept no undo point, because it changed no data: bring images and configuration back by hand, or by another run"
        ))
    })
}

/// Whether the Environment still keeps what the run left aside. The operator would say the same of the EnvironmentRestore, and
/// that would stay there, asked for and of no use.
fn still_kept(named: &str, uid: &str, status: &RunStatus, kept: &[Kept]) -> Result<(), CliError> {
    let gone = status.undo.iter().find(|u| !kept.iter().any(|k| k.run.uid == uid && k.data == u.data));
    gone.map_or(Ok(()), |u| Err(CliError::Error(not_kept(named, &u.data, status))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::promotion::UndoStatus;

    #[test]
    fn only_a_completed_run_with_an_undo_point_is_undone_and_to_the_second() {
        let mut status = RunStatus { phase: Phase::RolledBack, ..RunStatus::default() };
        assert!(undoable("Promotion r", &status).unwrap_err().to_string().contains("only a run that Completed"));
        status.phase = Phase::Completed;
        status.locked_at = Some("2026-11-25T20:00:05.250Z".parse().unwrap());
        assert!(undoable("Promotion r", &status).unwrap_err().to_string().contains("kept no undo point"));
        let undo = UndoStatus { data: "d".into(), method: "Clone".into(), database: "x".into(), snapshot: None, until: None };
        status.undo.push(undo);
        assert_eq!(undoable("Promotion r", &status).unwrap().to_string(), "2026-11-25T20:00:05Z");
    }
}
