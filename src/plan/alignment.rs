//! What a DownAlignment has of its own. Everything else it shares with a Promotion: slot, lock, page, checks, rollback.
//!
//! 1. **Scheduled**, **Validated**: both sides' consent is looked up: the target's `alignsFrom`, the source's `grants` with the
//!    hash of a MaskingPolicy, and that neither side is asked for what it never gives. The source's release is captured as a
//!    Promotion captures it. Nobody approves: what each side allows stands in its Environment.
//! 2. **Snapshotting**: preflight again; then a Job in the *source's* namespace, with the source's credentials and key, masks the
//!    data into the exchange, and one in the target's opens it there. Users of the target still work.
//! 3. **Locked**: as a Promotion, up to the fence.
//! 4. **Loading**: a Job in the *target's* namespace, with the target's credentials, loads the masked data beside the live database
//!    and compares it; then both change names in one transaction. What was live is the undo point. Configuration and images
//!    follow.
//! 5. **Verifying**, **RollingBack**: as a Promotion.
//!
//! Files of a volume go along where the policy lists patterns of their paths and the grant covers the volume; they are not masked,
//! and no other file leaves. From the snapshot on its own list of volumes counts: a rollback asks neither policy nor grant.
//!
//! Neither side's Jobs ever see the other's Secrets: each mounts its own, and the exchange by its own claim.

mod before_promotion;
mod consent;
mod handover;

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::json;

pub use before_promotion::{aligned, before_promotion, call_off, changed_since, child_name, unsaid};
pub use consent::{consent, goes, policy_name};
pub use handover::{left_elsewhere, receive, snapshot, snapshotted};

use super::{
    Decision, graph,
    prepare::{self, Plan, no_environment, policies_message},
    promotion::{advance, owner, stalled},
    release::{self, Content, Reading},
    restore, steps,
    world::World,
};
use crate::{
    api::{DownAlignmentSpec, Environment, EnvironmentSpec, Grant, Module, RunStatus, Timestamp, reasons},
    manifest::task::Task,
};

/// What to do next, before the start.
pub fn plan(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let Some(spec) = world.run.alignment() else { return Decision::Wait(None) };
    if !world.missing_policies.is_empty() {
        return stalled(world, "PoliciesMissing", &policies_message(world.missing_policies), now);
    }
    let invalid = |message: &str| stalled(world, reasons::INVALID, message, now);
    let Some(target) = world.target else {
        return invalid(&no_environment(world.run.environment(), world.run.namespace()));
    };
    if let Some(message) = graph::target_problem(world, target) {
        return invalid(&message);
    }
    if let Err(message) = consent(world) {
        return invalid(&message);
    }
    let Some(source) = world.source else { return Decision::Wait(None) };
    status.grant.get_or_insert(if world.requester_may_promote { Grant::ByName } else { Grant::ByGroup });
    if status.release.is_none() {
        let modules = match shared(spec, &source.spec, &target.spec) {
            Ok(modules) => modules,
            Err(message) => return invalid(&message),
        };
        let side = world.source_side;
        let release = match release::read(&spec.from.namespace, &source.spec, side, &modules, &[&target.spec], Reading::Exact) {
            Ok(release) => release,
            Err(message) => return stalled(world, "SourceNotReady", &message, now),
        };
        if let Some(message) = unlisted(world, &modules, &source.spec, &target.spec) {
            return invalid(&message);
        }
        if let Some(effect) = prepare::copy_configuration(world, owner(world), &modules) {
            return Decision::Perform(effect);
        }
        if let Err(message) = prepare::copies_agree(world, owner(world), &release) {
            return stalled(world, "SourceChanging", &message, now);
        }
        status.release = Some(release);
        status.preflight.clear();
        status.preflight_at = None;
        return advance(world, status, now);
    }
    let plan = match todays_plan(world, spec, target, &status) {
        Ok(plan) => plan,
        Err(message) => return invalid(&message),
    };
    if status.plan_hash.as_deref() != Some(&plan.hash) {
        let captured = status.release.clone().unwrap_or_default();
        let run = owner(world);
        let fresh = |_: &str, name: &str| prepare::copied(world, run, prepare::RELEASE, name).unwrap_or_default();
        let old = |module: &str, name: &str| {
            let keep = release::kept_keys(module, name, &[&target.spec, &source.spec]);
            world.target_side.config_map(name).map(|c| Content::of(c, &keep)).unwrap_or_default()
        };
        prepare::renew(&mut status, &plan, release::changelog(&captured, &plan.prior, &fresh, &old));
    }
    prepare::admit(world, status, &plan, now)
}

/// The plan from what was captured, what the grant says and what the target is now. `Err`: in words, why there is none.
pub fn todays_plan(
    world: &World<'_>,
    spec: &DownAlignmentSpec,
    target: &Environment,
    status: &RunStatus,
) -> Result<Plan, String> {
    let captured = status.release.as_ref().ok_or("the release is not captured yet")?;
    let chosen: Vec<&Module> =
        target.spec.modules.iter().filter(|m| captured.modules.iter().any(|r| r.name == *m.name)).collect();
    let prior = release::read(world.run.namespace(), &target.spec, world.target_side, &chosen, &[], Reading::Loose)?;
    let data = restore::data(world, &target.spec);
    let steps = steps::aligning(&target.spec, captured, !data.is_empty());
    let mut what = json!({
        "from": spec.from, "include": spec.include, "release": captured.hash, "schedule": spec.schedule,
        "maskingPolicy": world.policy.map(|p| &p.hash), "exchange": target.spec.exchange,
    });
    let files: Vec<&str> = data.iter().filter(|d| d.volume.is_some()).map(|d| &*d.name).collect();
    if !files.is_empty() {
        what["volumes"] = json!(files);
    }
    let hash = release::hash_of_plan(what, &prior, &steps, &target.spec, &chosen);
    Ok(Plan { hash, prior, steps })
}

/// The modules that come, as the source has them: those that both sides have.
fn shared<'a>(
    spec: &DownAlignmentSpec,
    source: &'a EnvironmentSpec,
    target: &EnvironmentSpec,
) -> Result<Vec<&'a Module>, String> {
    if !spec.include.configuration {
        return Ok(Vec::new());
    }
    let mut modules = Vec::new();
    for (to, from) in target.modules.iter().filter_map(|m| Some((m, source.module(&m.name)?))) {
        release::fits(from, to)?;
        modules.push(from);
    }
    if modules.is_empty() {
        return Err("source and target have no module in common: name them alike, or set include.configuration to false".into());
    }
    Ok(modules)
}

/// The first key of the source's configuration that the target neither has nor keeps as its own, in words. Nobody has said what
/// it means in a lower environment.
fn unlisted(world: &World<'_>, modules: &[&Module], source: &EnvironmentSpec, target: &EnvironmentSpec) -> Option<String> {
    for module in modules {
        for entry in &module.configuration {
            let name = &*entry.config_map.name;
            let keep = release::kept_keys(&module.name, name, &[source, target]);
            let keys = |content: Content| -> BTreeSet<String> {
                content.data.into_keys().chain(content.binary_data.into_keys()).collect()
            };
            let theirs = world.source_side.config_map(name).map(|c| keys(Content::of(c, &keep))).unwrap_or_default();
            let ours = world.target_side.config_map(name).map(|c| keys(Content::of(c, &keep))).unwrap_or_default();
            let strange: Vec<&String> = theirs.difference(&ours).take(16).collect();
            if let Some(first) = strange.first() {
                let all = strange.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", ");
                return Some(format!(
                    "ConfigMap {name} of the source has keys that the target does not know: {all}. Add {first} to the target's ConfigMap \
                     if the source's value may come, or to `keep` of module {} if it may not",
                    module.name
                ));
            }
        }
    }
    None
}

/// What the task of a DownAlignment's load is about: the snapshot, and whose it must be.
pub fn fill(world: &World<'_>, task: &mut Task) {
    if world.run.alignment().is_none() {
        return;
    }
    task.snapshot = world.status().snapshot.map(|s| s.id);
    task.origin = world.source.and_then(|s| s.uid());
}
