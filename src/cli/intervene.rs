//! `resume` and `unlock`: what a person decides about a run whose rollback failed.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{
    args::{Global, InterveneArgs},
    error::{CliError, Exit},
    found::{Found, Kind},
    session::Session,
    show, text,
};
use crate::api::{InterventionAction, Phase};

/// Runs the subcommand, on a run of any kind.
pub async fn run(global: &Global, args: InterveneArgs, action: InterventionAction) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    match Found::of(&session, &args.name).await? {
        Found::Promotion(run) => intervene(&session, &*run, run.spec.intervention.is_some(), &args, action).await,
        Found::Restore(run) => intervene(&session, &*run, run.spec.intervention.is_some(), &args, action).await,
        Found::Alignment(run) => intervene(&session, &*run, run.spec.intervention.is_some(), &args, action).await,
    }
}

async fn intervene<K: Kind>(
    session: &Session,
    found: &K,
    asked_before: bool,
    args: &InterveneArgs,
    action: InterventionAction,
) -> Result<Exit, CliError> {
    let kind = K::kind(&());
    let status = found.run().status().cloned().unwrap_or_default();
    if status.phase != Phase::NeedsHuman {
        return Err(CliError::Error(format!(
            "{kind} {} is {}; only one whose rollback failed (phase NeedsHuman) is resumed or unlocked",
            args.name, status.phase
        )));
    }
    let identity = session.identity().await?;
    if action == InterventionAction::Unlock {
        session.printer.say(show::waiting_for(&status).unwrap_or_default());
        session.printer.say(WARNING);
        if !session.printer.confirm(&format!("Give the rollback of {} up?", args.name), args.yes)? {
            session.printer.say("Nothing was written.");
            return Ok(Exit::Error);
        }
    }
    let wanted = json!({"action": action, "username": identity.username, "reason": args.reason});
    let params = PatchParams { field_manager: Some("kubectl-lockkeeper-intervene".into()), ..PatchParams::default() };
    let doing = format!("intervening in {kind} {} in namespace {}", args.name, session.namespace);
    let api = session.api::<K>();
    // The same words once more would change nothing, and so ask for nothing: what was asked before goes first.
    if asked_before {
        let gone = json!({"spec": {"intervention": null}});
        session.ask(&doing, api.patch(&args.name, &params, &Patch::Merge(&gone))).await?;
    }
    let patch = json!({"spec": {"intervention": wanted}});
    let after = session.ask(&doing, api.patch(&args.name, &params, &Patch::Merge(&patch))).await?;
    let what = match action {
        InterventionAction::Resume => "the step that failed is tried again",
        InterventionAction::Unlock => "users are let in; what is left will be listed",
    };
    session.printer.say(format!(
        "{kind} {}: {what}.\nTo follow it: {}",
        text::clean(&args.name),
        session.command(&format!("watch {}", args.name))
    ));
    session.printer.object(&after)?;
    Ok(Exit::Done)
}

const WARNING: &str = "
Unlocking gives up: the page goes, Services lead to the workloads again, and the lock is free. Nothing else is put back.
Workloads that are stopped stay stopped, and databases stay as they are now, perhaps closed, perhaps half migrated.
What is left is listed in the run's status, for you to put right by hand (README.md, \"Going on by hand\").";
