//! `backup`: a backup on demand, and its proof. Users work meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use kube::{api::PostParams, core::ObjectMeta};

use super::{
    args::{BackupArgs, Global},
    error::{CliError, Exit},
    progress::Lines,
    session::Session,
    text,
};
use crate::api::{
    BackupPhase, EnvironmentBackup, EnvironmentBackupSpec, EnvironmentBackupStatus, LocalRef, backup::DataSelection,
};

const PAUSE: Duration = Duration::from_millis(500);

/// Runs the subcommand.
pub async fn run(global: &Global, args: BackupArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let environment = session.environment(args.environment.as_deref()).await?.metadata.name.unwrap_or_default();
    let now = Timestamp::now();
    let name = args.name.unwrap_or_else(|| format!("{environment}-{}", now.strftime("%Y%m%d-%H%M%S")));
    let backup = EnvironmentBackup {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(session.namespace.clone()), ..ObjectMeta::default() },
        spec: EnvironmentBackupSpec {
            environment: LocalRef { name: environment.as_str().into() },
            data: match &args.data {
                Some(names) => DataSelection { all: None, names: Some(names.iter().map(|n| n.as_str().into()).collect()) },
                None => DataSelection::default(),
            },
            reason: args.reason.as_str().into(),
            keep: args.keep,
        },
        status: None,
    };
    let params = PostParams { field_manager: Some("kubectl-lockkeeper".into()), ..PostParams::default() };
    let doing = format!("making EnvironmentBackup {name} in namespace {}", session.namespace);
    let mut made = session.ask(&doing, session.api::<EnvironmentBackup>().create(&params, &backup)).await?;
    session.printer.say(format!("EnvironmentBackup {name} is made."));
    let (mut phase, mut lines) = (BackupPhase::Pending, Lines::default());
    while !args.no_wait && !phase.is_terminal() {
        tokio::time::sleep(PAUSE).await;
        made = session.get(&name).await?;
        let status = made.status.clone().unwrap_or_default();
        if status.phase != phase {
            phase = status.phase;
            session.printer.say(said(phase, &status));
        }
        if let Some(line) = status.progress.as_ref().filter(|_| !phase.is_terminal()).and_then(|p| lines.of(p)) {
            session.printer.say(format!("  {line}"));
        }
    }
    session.printer.object(&made)?;
    Ok(if phase == BackupPhase::Failed { Exit::EndedOtherwise } else { Exit::Done })
}

fn said(phase: BackupPhase, status: &EnvironmentBackupStatus) -> String {
    match phase {
        BackupPhase::Failed => {
            let why = status.failure.as_ref().map(|f| f.message.clone()).unwrap_or_default();
            format!("Failed: {}", text::clean(&why))
        }
        BackupPhase::Completed => format!(
            "Completed: snapshot {}, {} rows; a restore of it equalled the original",
            status.snapshot.clone().unwrap_or_default(),
            status.rows.unwrap_or(0)
        ),
        other => format!("{other:?}"),
    }
}
