//! `history`: what has run in an environment, and what became of it: the runs that are still there, and those that only the
//! ledger knows.

use jiff::{Timestamp, tz::TimeZone};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{
    args::{Global, HistoryArgs},
    error::{CliError, Exit},
    session::Session,
    text::{clean, instant, table},
};
use crate::{
    api::{DownAlignment, Environment, EnvironmentRestore, Promotion},
    plan::world::Run,
};

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    ended: Option<Timestamp>,
    kind: String,
    name: String,
    phase: String,
    reason: String,
    requested_by: String,
    there: bool,
}

/// Runs the subcommand.
pub async fn run(global: &Global, args: HistoryArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let environment = session.environment(args.environment.as_deref()).await?;
    let doing = format!("listing the runs of namespace {}", session.namespace);
    let promotions = session.ask(&doing, session.api::<Promotion>().list(&ListParams::default())).await?.items;
    let restores = session.ask(&doing, session.api::<EnvironmentRestore>().list(&ListParams::default())).await?.items;
    let alignments = session.ask(&doing, session.api::<DownAlignment>().list(&ListParams::default())).await?.items;
    let runs = promotions.iter().map(Run::Promotion).chain(restores.iter().map(Run::Restore));
    let runs: Vec<Run<'_>> = runs.chain(alignments.iter().map(Run::Alignment)).collect();
    let lines = lines(&environment, &runs);
    session.printer.say(rendered(&lines, &TimeZone::system()));
    let items: Vec<Value> = lines
        .iter()
        .map(|l| {
            json!({
                "kind": l.kind, "name": l.name, "phase": l.phase, "reason": l.reason, "requestedBy": l.requested_by,
                "endedAt": l.ended, "recorded": l.there,
            })
        })
        .collect();
    session.printer.object(&json!({"environment": environment.name_any(), "namespace": session.namespace, "runs": items}))?;
    Ok(Exit::Done)
}

/// The newest last; what goes on at the end.
fn lines(environment: &Environment, runs: &[Run<'_>]) -> Vec<Line> {
    let mut lines: Vec<Line> = runs
        .iter()
        .filter(|r| r.environment() == environment.name_any())
        .map(|run| {
            let status = run.status().cloned().unwrap_or_default();
            Line {
                ended: status.finished_at,
                kind: run.kind().into(),
                name: run.name().into(),
                phase: status.phase.to_string(),
                reason: status.failure.map(|f| f.reason).unwrap_or_default(),
                requested_by: run.requester().to_owned(),
                there: true,
            }
        })
        .collect();
    for entry in environment.status.iter().flat_map(|s| &s.finished) {
        if !lines.iter().any(|l| l.kind == entry.kind && l.name == entry.name && (l.there || l.ended == Some(entry.at))) {
            lines.push(Line {
                ended: Some(entry.at),
                kind: entry.kind.clone(),
                name: entry.name.clone(),
                phase: entry.phase.clone(),
                reason: String::new(),
                requested_by: String::new(),
                there: false,
            });
        }
    }
    lines.sort_by_key(|l| (l.ended.is_none(), l.ended));
    lines
}

fn rendered(lines: &[Line], zone: &TimeZone) -> String {
    if lines.is_empty() {
        return "nothing has run here".into();
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|l| {
            vec![
                l.ended.map_or_else(|| "-".into(), |at| instant(at, zone)),
                l.kind.clone(),
                clean(&l.name),
                l.phase.clone(),
                clean(&l.reason),
                clean(&l.requested_by),
                if l.there { "yes" } else { "no" }.into(),
            ]
        })
        .collect();
    table(&["ENDED", "KIND", "NAME", "PHASE", "REASON", "ASKED BY", "STILL THERE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_are_there_and_runs_that_only_the_ledger_knows_are_one_history() {
        let environment: Environment = serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "production"},
            "spec": {"tier": "Production", "modules": [{"name": "a", "workloads": [{"kind": "Deployment", "name": "a"}]}]},
            "status": {"finished": [
                {"kind": "Promotion", "name": "gone", "specHash": "a", "at": "2026-11-20T20:00:00Z", "phase": "Completed"},
                {"kind": "Promotion", "name": "gone", "specHash": "b", "at": "2026-11-20T20:00:00Z", "phase": "Completed"},
                {"kind": "Promotion", "name": "there", "specHash": "c", "at": "2026-11-21T20:00:00Z", "phase": "RolledBack"},
            ]},
        }))
        .unwrap();
        let run = |name: &str, status: Value| -> Promotion {
            serde_json::from_value(json!({
                "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": name},
                "spec": {"environment": {"name": "production"}, "from": {"namespace": "s", "name": "s"}, "requestedBy": {"username": "alice"}},
                "status": status,
            }))
            .unwrap()
        };
        let failure = json!({"step": "migration/a", "reason": "MigrationFailed", "message": "x"});
        let runs = [
            run("going", json!({"phase": "Promoting"})),
            run("there", json!({"phase": "RolledBack", "finishedAt": "2026-11-21T20:00:00Z", "failure": failure})),
        ];
        let restore: EnvironmentRestore = serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentRestore", "metadata": {"name": "back"},
            "spec": {"environment": {"name": "production"}, "from": {"backup": {"name": "b"}}, "requestedBy": {"username": "olga"}},
            "status": {"phase": "Completed", "finishedAt": "2026-11-22T20:00:00Z"},
        }))
        .unwrap();
        let runs: Vec<Run<'_>> = runs.iter().map(Run::Promotion).chain([Run::Restore(&restore)]).collect();
        insta::assert_snapshot!(rendered(&lines(&environment, &runs), &TimeZone::UTC), @r"
        ENDED                        KIND                NAME   PHASE       REASON           ASKED BY  STILL THERE
        Fri 2026-11-20 20:00:00 UTC  Promotion           gone   Completed                              no
        Sat 2026-11-21 20:00:00 UTC  Promotion           there  RolledBack  MigrationFailed  alice     yes
        Sun 2026-11-22 20:00:00 UTC  EnvironmentRestore  back   Completed                    olga      yes
        -                            Promotion           going  Promoting                    alice     yes
        ");
        assert_eq!(rendered(&[], &TimeZone::UTC), "nothing has run here");
    }
}
