//! `restore`: a backup, or a bare snapshot, goes back in place of today's data.

use super::{
    args::{Global, RestoreArgs},
    error::{CliError, Exit},
    restoring::{self, Wanted},
    session::Session,
};
use crate::api::{BackupPhase, EnvironmentBackup, LocalRef, RestoreSource, SnapshotRef, Timestamp};

/// Runs the subcommand.
pub async fn run(global: &Global, args: RestoreArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let RestoreArgs { backup, snapshot, data, restoring } = args;
    let (from, what, taken_at) = match (backup, snapshot) {
        (Some(name), _) => {
            let found: EnvironmentBackup = session.get(&name).await?;
            let status = found.status.unwrap_or_default();
            if status.phase != BackupPhase::Completed {
                return Err(CliError::Error(format!(
                    "EnvironmentBackup {name} is {:?}; only one that is Completed, and so proven, goes back: {}",
                    status.phase,
                    session.command("backups")
                )));
            }
            let at = status.taken_at.or(status.started_at).and_then(|at| Timestamp::from_second(at.as_second()).ok());
            let from = RestoreSource { backup: Some(LocalRef { name: name.as_str().into() }), snapshot: None, undo_of: None };
            (from, format!("backup {name}"), at)
        }
        (None, Some(id)) => {
            let from = RestoreSource { backup: None, snapshot: Some(SnapshotRef { id: id.as_str().into() }), undo_of: None };
            (from, format!("snapshot {id}"), None)
        }
        (None, None) => return Err(CliError::Usage("name a backup, or a snapshot with --snapshot".into())),
    };
    restoring::ask(&session, Wanted { from, data, what, taken_at, also: " Images and configuration stay." }, restoring).await
}
