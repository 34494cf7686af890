//! `show`: a run from head to foot, whatever its phase.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    args::{Global, ShowArgs},
    error::{CliError, Exit},
    restoring,
    session::Session,
    show::{self, section},
    text::{clean, instant},
    view,
};
use crate::{
    api::{EnvironmentRestore, Promotion, RunStatus},
    plan::world::Run,
};

/// Runs the subcommand. The code is that of the command, not of the run: `watch` and `-o json` tell scripts of that.
pub async fn run(global: &Global, args: ShowArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    if let Some(restore) = restoring::instead(&session, &args.name).await? {
        session.printer.say(restored(&restore, Timestamp::now(), &TimeZone::system()));
        session.printer.object(&restore)?;
        return Ok(Exit::Done);
    }
    let promotion: Promotion = session.get(&args.name).await?;
    session.printer.say(rendered(&promotion, Timestamp::now(), &TimeZone::system()));
    session.printer.object(&promotion)?;
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
    let Some(status) = status else { return parts };
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
