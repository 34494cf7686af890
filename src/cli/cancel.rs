//! `cancel`: ends a run. Before Locked it just ends; from then on the environment is put back as it was.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{
    args::{CancelArgs, Global},
    error::{CliError, Exit},
    found::{Found, Kind},
    session::Session,
    text,
};
use crate::api::Phase;

/// Runs the subcommand.
pub async fn run(global: &Global, args: CancelArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    match Found::of(&session, &args.name).await? {
        Found::Promotion(run) => cancel(&session, &*run, args).await,
        Found::Restore(run) => cancel(&session, &*run, args).await,
        Found::Alignment(run) => cancel(&session, &*run, args).await,
    }
}

async fn cancel<K: Kind>(session: &Session, found: &K, args: CancelArgs) -> Result<Exit, CliError> {
    let (kind, run) = (K::kind(&()), found.run());
    let phase = run.status().map(|s| s.phase).unwrap_or_default();
    if let Some(cancel) = run.cancel() {
        return Err(CliError::Error(format!(
            "{kind} {} was cancelled by {} already: {}",
            args.name,
            text::clean(&cancel.username),
            text::clean(&cancel.reason)
        )));
    }
    if phase.is_terminal() {
        return Err(CliError::Error(format!("{kind} {} has ended: {phase}", args.name)));
    }
    let identity = session.identity().await?;
    let what = consequence(phase);
    if phase.may_hold_lock() && !session.printer.confirm(&format!("{} is {phase}: {what}. Cancel?", args.name), args.yes)? {
        session.printer.say("Nothing was written.");
        return Ok(Exit::Error);
    }
    let patch = json!({"spec": {"cancel": {"username": identity.username, "reason": args.reason}}});
    let params = PatchParams { field_manager: Some("kubectl-lockkeeper-cancel".into()), ..PatchParams::default() };
    let doing = format!("cancelling {kind} {} in namespace {}", args.name, session.namespace);
    let after = session.ask(&doing, session.api::<K>().patch(&args.name, &params, &Patch::Merge(&patch))).await?;
    session.printer.say(format!(
        "{kind} {} is cancelled ({phase}): {what}.\nTo follow it: {}",
        args.name,
        session.command(&format!("watch {}", args.name))
    ));
    session.printer.object(&after)?;
    Ok(Exit::Done)
}

/// What a cancel means in a phase.
pub fn consequence(phase: Phase) -> &'static str {
    match phase {
        Phase::RollingBack | Phase::NeedsHuman => "the environment is being put back already; that goes on",
        phase if phase.may_hold_lock() => "users are locked out, and the environment will be put back as it was",
        _ => "it ends, and nothing in the environment has changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_locked_on_a_cancel_puts_the_environment_back() {
        for (phase, words) in [
            (Phase::Scheduled, "nothing in the environment has changed"),
            (Phase::BackingUp, "nothing in the environment has changed"),
            (Phase::Locked, "will be put back"),
            (Phase::Verifying, "will be put back"),
            (Phase::RollingBack, "being put back already"),
        ] {
            assert!(consequence(phase).contains(words), "{phase}");
        }
    }
}
