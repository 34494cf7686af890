//! `show`: a run from head to foot, whatever its phase.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    args::{Global, ShowArgs},
    error::{CliError, Exit},
    found::Found,
    session::Session,
    show::{self, section},
    text::{clean, instant},
    view,
};
use crate::{
    api::{DownAlignment, EnvironmentRestore, Promotion, RunStatus},
    plan::world::Run,
};

/// Runs the subcommand. The code is that of the command, not of the run: `watch` and `-o json` tell scripts of that.
pub async fn run(global: &Global, args: ShowArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    match Found::of(&session, &args.name).await? {
        Found::Promotion(run) => {
            session.printer.say(rendered(&run, now, &zone));
            session.printer.object(&run)?;
        }
        Found::Restore(run) => {
            session.printer.say(restored(&run, now, &zone));
            session.printer.object(&run)?;
        }
        Found::Alignment(run) => {
            session.printer.say(aligned(&run, now, &zone));
            session.printer.object(&run)?;
        }
    }
    Ok(Exit::Done)
}

fn rendered(promotion: &Promotion, now: Timestamp, zone: &TimeZone) -> String {
    let status = promotion.status.clone().unwrap_or_default();
    let mut parts = vec![show::head(promotion, now, zone)];
    if let Some(by) = &promotion.spec.modified_by {
        parts.push(section("Changed", &format!("{}: {}", clean(&by.username), clean(&by.reason))));
    }
    parts.extend(body(promotion.status.as_ref(), now));
    if let Some(by) = &status.intervention {
        let left: String = by.left.iter().map(|l| format!("\n- {}", clean(l))).collect();
        parts.push(section("Intervention", &format!("{:?} by {}: {}{left}", by.action, clean(&by.username), clean(&by.reason))));
    }
    if status.phase.is_terminal() {
        parts.push(section("End", &view::summary(Run::Promotion(promotion), zone)));
    }
    parts.join("\n")
}

/// What runs of both kinds have: what was decided, what was done, what comes next.
fn body(status: Option<&RunStatus>, now: Timestamp) -> Vec<String> {
    let mut parts = vec![show::decided(status)];
    parts.extend(status.into_iter().flat_map(|status| done(status, now)));
    parts
}

/// What was done, what comes next.
fn done(status: &RunStatus, now: Timestamp) -> Vec<String> {
    let mut parts = Vec::new();
    if !status.phase.is_before_start() {
        parts.push(section("Steps", &view::steps(status, now)));
    }
    if let Some(why) = show::waiting_for(status).filter(|_| !status.phase.is_terminal()) {
        parts.push(section("Next", &why));
    }
    parts
}

/// An EnvironmentRestore from head to foot.
fn restored(restore: &EnvironmentRestore, now: Timestamp, zone: &TimeZone) -> String {
    let (spec, meta) = (&restore.spec, &restore.metadata);
    let status = restore.status.clone().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let what = match (&spec.from.backup, &spec.from.snapshot, &spec.from.undo_of) {
        (Some(backup), ..) => format!("EnvironmentBackup {}", backup.name),
        (None, Some(snapshot), _) => format!("snapshot {}", &*snapshot.id),
        (None, None, Some(run)) => format!("what was before {:?} {}", run.kind, run.name),
        (None, None, None) => String::new(),
    };
    let mut rows = vec![
        ("EnvironmentRestore", format!("{name} in namespace {}", meta.namespace.as_deref().unwrap_or_default())),
        ("Phase", status.phase.to_string()),
        ("Asked by", spec.requested_by.username.to_string()),
        ("Brings back", what),
    ];
    rows.extend(status.taken_at.map(|at| ("Lost", format!("what was written since {}", instant(at, zone)))));
    let mut parts = vec![show::pairs(&rows)];
    parts.extend(body(restore.status.as_ref(), now));
    if status.phase.is_terminal() {
        parts.push(section("End", &view::summary(Run::Restore(restore), zone)));
    }
    parts.join("\n")
}

/// A DownAlignment from head to foot.
fn aligned(alignment: &DownAlignment, now: Timestamp, zone: &TimeZone) -> String {
    let (spec, run) = (&alignment.spec, Run::Alignment(alignment));
    let status = alignment.status.clone().unwrap_or_default();
    let data = match (&spec.include.data.names, &spec.include.data.none) {
        (_, Some(_)) => "none".to_owned(),
        (Some(names), _) => names.iter().map(|n| clean(n)).collect::<Vec<_>>().join(", "),
        (None, None) => "all".to_owned(),
    };
    let mut rows = vec![
        ("DownAlignment", format!("{} in namespace {}", run.name(), run.namespace())),
        ("Phase", status.phase.to_string()),
        ("Asked by", clean(&spec.requested_by.username)),
        ("Mirrors", format!("{}/{}", spec.from.namespace, spec.from.name)),
        ("Configuration", if spec.include.configuration { "yes" } else { "no" }.to_owned()),
        ("Data", data),
    ];
    if let Some(snapshot) = &status.snapshot {
        let by = snapshot.masking_policy_hash.as_deref().unwrap_or_default();
        rows.push(("Masked", format!("{} rows, by a policy with hash {by}", snapshot.rows.unwrap_or_default())));
    }
    let mut parts = vec![show::pairs(&rows)];
    // Approved by nobody: both owners have consented beforehand.
    parts.push(section("Changelog", &show::changelog(&status.changelog)));
    parts.push(section("Preflight", &show::preflight(&status.preflight)));
    parts.extend(done(&status, now));
    if status.phase.is_terminal() {
        parts.push(section("End", &view::summary(run, zone)));
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_says_whose_what_of_it_and_by_which_policy() {
        let alignment: DownAlignment = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "mirror", "namespace": "shop-staging"},
            "spec": {
                "environment": {"name": "staging"}, "from": {"namespace": "shop-production", "name": "production"},
                "include": {"configuration": false, "data": {"names": ["flags-db"]}}, "requestedBy": {"username": "alice"},
            },
            "status": {
                "phase": "Completed", "snapshot": {"id": "0123456789abcdef", "maskingPolicyHash": "sha256:aa", "rows": 12, "at": "2026-11-25T20:00:00Z"},
                "lockedAt": "2026-11-25T20:00:00Z", "unlockedAt": "2026-11-25T20:00:09Z",
            },
        }))
        .unwrap();
        insta::assert_snapshot!(aligned(&alignment, Timestamp::UNIX_EPOCH, &TimeZone::UTC), @r"
        DownAlignment  mirror in namespace shop-staging
        Phase          Completed
        Asked by       alice
        Mirrors        shop-production/production
        Configuration  no
        Data           flags-db
        Masked         12 rows, by a policy with hash sha256:aa

        Changelog
          nothing changes: source and target run the same

        Preflight
          0 of 0 checks passed

        Steps


        End
          mirror Completed: the environment is a mirror, users are back.
          Users were locked out for 9.0s.
          Masked: 12 rows, by the policy with hash sha256:aa
        ");
    }
}
