//! `modify`: changes when a promotion starts, what it brings, or what is said of it, until it starts. The change is signed: who
//! makes it counts as requester from then on.

use jiff::{Timestamp, tz::TimeZone};
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::{
    args::{Global, ModifyArgs},
    error::{CliError, Exit},
    session::{Identity, Session},
    show, time,
};
use crate::api::Promotion;

/// Runs the subcommand.
pub async fn run(global: &Global, args: ModifyArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let zone = TimeZone::system();
    let at = args
        .at
        .as_deref()
        .map(|t| time::parse(t, Timestamp::now(), &zone))
        .transpose()
        .map_err(|e| CliError::Usage(format!("--at: {e}")))?;
    let promotion: Promotion = session.get(&args.name).await?;
    let phase = promotion.status.as_ref().map(|s| s.phase).unwrap_or_default();
    if !phase.is_before_start() {
        return Err(CliError::Error(format!("Promotion {} is {phase}; it no longer changes", args.name)));
    }
    let identity = session.identity().await?;
    let patch = patch(&promotion, &args, at, &identity);
    let mut after = promotion.clone();
    after.spec = changed(&promotion, &patch)?;
    if promotion.spec == after.spec {
        return Err(CliError::Usage(
            "nothing is to change; say --at, --now, --deadline, --modules, --all-modules or --description".into(),
        ));
    }
    session.printer.say(show::pairs(&show::route(&after.spec, &session.namespace, &zone)));
    let question = format!(
        "Change Promotion {}? Approvals of the earlier plan count no longer, and you count as requester from then on.",
        args.name
    );
    if !session.printer.confirm(&question, args.yes)? {
        session.printer.say("Nothing was written.");
        return Ok(Exit::Error);
    }
    let params = PatchParams { field_manager: Some("kubectl-lockkeeper-modify".into()), ..PatchParams::default() };
    let doing = format!("changing Promotion {} in namespace {}", args.name, session.namespace);
    let after = session.ask(&doing, session.api::<Promotion>().patch(&args.name, &params, &Patch::Merge(&patch))).await?;
    session.printer.say(format!(
        "Promotion {} is changed; the operator plans it anew.\nTo look at it: {}",
        args.name,
        session.command(&format!("show {}", args.name))
    ));
    session.printer.object(&after)?;
    Ok(Exit::Done)
}

/// What is written: what the flags say and the signature, guarded by what was read.
fn patch(promotion: &Promotion, args: &ModifyArgs, at: Option<Timestamp>, identity: &Identity) -> Value {
    let mut spec = Map::new();
    let mut schedule = Map::new();
    if let Some(at) = at {
        schedule.insert("notBefore".into(), json!(at));
    }
    if args.now {
        schedule.insert("notBefore".into(), Value::Null);
    }
    if let Some(deadline) = &args.deadline {
        schedule.insert("startDeadline".into(), json!(deadline));
    }
    if !schedule.is_empty() {
        spec.insert("schedule".into(), Value::Object(schedule));
    }
    if let Some(modules) = &args.modules {
        spec.insert("modules".into(), json!(modules));
    }
    if args.all_modules {
        spec.insert("modules".into(), Value::Null);
    }
    if let Some(description) = &args.description {
        spec.insert("description".into(), json!(description));
    }
    if !spec.is_empty() {
        spec.insert("modifiedBy".into(), json!({"username": identity.username, "reason": args.reason}));
    }
    json!({"metadata": {"resourceVersion": promotion.metadata.resource_version}, "spec": spec})
}

/// The spec as it will be.
fn changed(promotion: &Promotion, patch: &Value) -> Result<crate::api::PromotionSpec, CliError> {
    let mut spec = serde_json::to_value(&promotion.spec).map_err(CliError::other)?;
    merge(&mut spec, &patch["spec"]);
    serde_json::from_value(spec).map_err(CliError::other)
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|t| t.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(change: impl FnOnce(&mut ModifyArgs)) -> ModifyArgs {
        let mut args = ModifyArgs {
            name: "p".into(),
            at: None,
            now: false,
            deadline: None,
            modules: None,
            all_modules: false,
            description: None,
            reason: "customer asked".into(),
            yes: false,
        };
        change(&mut args);
        args
    }

    #[test]
    fn what_is_written_is_what_the_flags_say_and_the_signature() {
        let promotion: Promotion = serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": "p", "resourceVersion": "7"},
            "spec": {
                "environment": {"name": "p"}, "from": {"namespace": "s", "name": "s"}, "requestedBy": {"username": "alice"},
                "modules": ["a"], "schedule": {"notBefore": "2026-11-25T20:00:00Z", "startDeadline": "2h"},
            },
        }))
        .unwrap();
        let me = Identity { username: "carol".into(), groups: Vec::new() };
        let signed = json!({"username": "carol", "reason": "customer asked"});
        let written = patch(&promotion, &args(|a| a.all_modules = true), None, &me);
        assert_eq!(written["spec"], json!({"modules": null, "modifiedBy": signed}));
        assert_eq!(written["metadata"]["resourceVersion"], "7");
        assert_eq!(changed(&promotion, &written).unwrap().modules, None);
        let written = patch(&promotion, &args(|a| a.now = true), None, &me);
        let schedule = changed(&promotion, &written).unwrap().schedule.unwrap();
        assert_eq!((schedule.not_before, schedule.start_deadline), (None, Some("2h".into())));
        let nothing = patch(&promotion, &args(|_| {}), None, &me);
        assert_eq!(changed(&promotion, &nothing).unwrap(), promotion.spec);
    }
}
