//! `backups`: what could be put back, the newest first.

use jiff::tz::TimeZone;
use kube::api::ListParams;

use super::{
    args::{BackupsArgs, Global},
    error::{CliError, Exit},
    session::Session,
    text,
};
use crate::api::EnvironmentBackup;

/// Runs the subcommand.
pub async fn run(global: &Global, args: BackupsArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let doing = format!("listing EnvironmentBackups in namespace {}", session.namespace);
    let mut list = session.ask(&doing, session.api::<EnvironmentBackup>().list(&ListParams::default())).await?;
    list.items.retain(|b| args.environment.as_ref().is_none_or(|e| *b.spec.environment.name == **e));
    list.items.sort_by_key(|b| std::cmp::Reverse(b.status.as_ref().and_then(|s| s.taken_at.or(s.started_at))));
    let rows: Vec<Vec<String>> = list.items.iter().map(|b| row(b, &TimeZone::system())).collect();
    if rows.is_empty() {
        session.printer.say(format!(
            "Namespace {} has no backups. To make one: {}",
            session.namespace,
            session.command("backup")
        ));
    } else {
        session.printer.say(text::table(&["NAME", "OF", "PHASE", "ROWS", "SNAPSHOT", "KEEP", "REASON"], &rows));
    }
    session.printer.object(&list)?;
    Ok(Exit::Done)
}

fn row(backup: &EnvironmentBackup, zone: &TimeZone) -> Vec<String> {
    let status = backup.status.clone().unwrap_or_default();
    let at = status.taken_at.or(status.started_at).map(|at| text::instant(at, zone)).unwrap_or_default();
    vec![
        backup.metadata.name.clone().unwrap_or_default(),
        at,
        format!("{:?}", status.phase),
        status.rows.map(|r| r.to_string()).unwrap_or_default(),
        status.snapshot.map(|s| s.chars().take(12).collect()).unwrap_or_default(),
        if backup.spec.keep { "yes".into() } else { String::new() },
        text::clean(&backup.spec.reason),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_what_is_needed_to_choose_one() {
        let backup: EnvironmentBackup = serde_json::from_value(serde_json::json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentBackup", "metadata": {"name": "nightly"},
            "spec": {"environment": {"name": "production"}, "data": {"all": {}}, "reason": "schedule", "keep": true},
            "status": {"phase": "Completed", "takenAt": "2026-11-25T03:00:00Z", "rows": 12, "snapshot": "0123456789abcdef"},
        }))
        .unwrap();
        let row = row(&backup, &TimeZone::UTC);
        assert_eq!(row[0], "nightly");
        assert!(row[1].contains("2026-11-25 03:00:00"), "{}", row[1]);
        assert_eq!(row[2..], ["Completed", "12", "0123456789ab", "yes", "schedule"]);
    }
}
