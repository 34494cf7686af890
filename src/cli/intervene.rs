//! `resume` and `unlock`: what a person decides about a run whose rollback failed.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    args::{Global, InterveneArgs},
    error::{CliError, Exit},
    restoring,
    session::Session,
    show, text,
};
use crate::api::{EnvironmentRestore, InterventionAction, Phase, Promotion, RunStatus};

/// Runs the subcommand, on a Promotion or, where there is none of that name, on an EnvironmentRestore.
pub async fn run(global: &Global, args: InterveneArgs, action: InterventionAction) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    if let Some(restore) = restoring::instead(&session, &args.name).await? {
        let asked_before = restore.spec.intervention.is_some();
        return intervene::<EnvironmentRestore>(&session, (restore.status.as_ref(), asked_before), &args, action).await;
    }
    let promotion: Promotion = session.get(&args.name).await?;
    let asked_before = promotion.spec.intervention.is_some();
    intervene::<Promotion>(&session, (promotion.status.as_ref(), asked_before), &args, action).await
}

async fn intervene<K>(
    session: &Session,
    (status, asked_before): (Option<&RunStatus>, bool),
    args: &InterveneArgs,
    action: InterventionAction,
) -> Result<Exit, CliError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let kind = K::kind(&());
    let status = status.cloned().unwrap_or_default();
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
