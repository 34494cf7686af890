//! Scheduled and Validated: the release is captured, the plan computed and shown, approvals counted, and the run waits,
//! holding nothing, for its time and its turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use serde_json::json;

use super::{
    Decision, Effect, Progress, Resource, after, alignment, approval, graph, lock, maintenance, millis, modules,
    preflight::{self, Preflight},
    promotion::{advance, enter, owner, reference, stalled, stalled_with},
    queue::{self, Waiting},
    release::{self, Content, Reading},
    restore, steps,
    world::{Run, World},
};
use crate::{
    api::{Change, Grant, Module, Phase, Promotion, PromotionSpec, Release, RunStatus, Timestamp, labels, reasons},
    manifest::Owner,
};

/// How long failed checks are left before they are asked again.
const RECHECK: Duration = Duration::from_secs(60);
/// So many runs of an environment are checked at the same time, or a few more: their pods are the environment's node's to start.
const CHECKED_AT_ONCE: usize = 4;
/// What the runs wait for that are more than that.
pub const OTHERS_CHECKS: &str = "checks of other runs";
/// A passed `notBefore` without `startDeadline` expires after this.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(86_400);
/// On a copy of configuration: which side it is of, [`RELEASE`] or [`PRIOR`].
pub const SIDE: &str = "lockkeeper.dev/copy";
/// On a copy of configuration: the name of the ConfigMap that it is a copy of.
pub const COPY_OF: &str = "lockkeeper.dev/copy-of";
/// On a copy of configuration: that the ConfigMap did not exist.
pub const ABSENT: &str = "lockkeeper.dev/absent";
/// The side of what the source ran.
pub const RELEASE: &str = "release";
/// The side of what the target ran.
pub const PRIOR: &str = "prior";

/// When a run that has not started expires.
pub fn deadline(run: Run<'_>) -> Option<Timestamp> {
    let schedule = run.schedule()?;
    let from = schedule.not_before.or_else(|| run.metadata().creation_timestamp.as_ref().map(|t| t.0))?;
    match (&schedule.start_deadline, schedule.not_before) {
        (Some(span), _) => Some(after(from, span.or(DEFAULT_DEADLINE))),
        (None, Some(_)) => Some(after(from, DEFAULT_DEADLINE)),
        (None, None) => None,
    }
}

/// Whether the requester still has the right that admission saw. One that came through a group cannot be looked up later.
pub fn granted(world: &World<'_>, status: &RunStatus) -> bool {
    // What a Promotion needs first is asked for by the environment's own word, not by a person.
    world.requester_may_promote || world.slot() != world.uid() || status.grant == Some(Grant::ByGroup)
}

/// What is missing, in words.
pub fn policies_message(missing: &[String]) -> String {
    format!(
        "nothing starts while admission policies are missing or do not deny: {}; install the chart lockkeeper again (helm upgrade --install)",
        missing.join(", ")
    )
}

/// The plan as it is today.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its hash.
    pub hash: String,
    /// What the target runs.
    pub prior: Release,
    /// Names of the steps.
    pub steps: Vec<String>,
}

/// The plan from what was captured and what the target is now. `Err`: in words, why there is none.
pub fn todays_plan(world: &World<'_>, status: &RunStatus) -> Result<Plan, String> {
    let namespace = world.run.namespace();
    let target = world.target.ok_or_else(|| no_environment(world.run.environment(), namespace))?;
    let run = match world.run {
        Run::Promotion(run) => &run.spec,
        Run::Restore(run) => return restore::todays_plan(world, &run.spec, target, status),
        Run::Alignment(run) => return alignment::todays_plan(world, &run.spec, target, status),
    };
    let captured = status.release.as_ref().ok_or("the release is not captured yet")?;
    let chosen: Vec<&Module> =
        target.spec.modules.iter().filter(|m| captured.modules.iter().any(|r| r.name == *m.name)).collect();
    let prior = release::read(namespace, &target.spec, world.target_side, &chosen, &[], Reading::Loose)?;
    let steps = steps::forward(&target.spec, captured);
    // Where the environment becomes a mirror of another first, what it runs today is not what the release replaces.
    let (replaced, mut hashed) = (Release::default(), steps.clone());
    let replaced = match steps::aligned_from(&target.spec) {
        None => &prior,
        Some(from) => {
            hashed.push(format!("{} {}/{}", steps::name::ALIGN, from.namespace, from.name));
            &replaced
        }
    };
    let hash = release::plan_hash(run, captured, replaced, &hashed, &target.spec);
    Ok(Plan { hash, prior, steps })
}

/// That the Environment is not there, in words.
pub fn no_environment(name: &str, namespace: &str) -> String {
    format!("Environment {namespace}/{name} does not exist: apply it, or correct spec.environment")
}

/// What to do next for a Promotion, before the start.
pub fn plan(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let Some(run) = world.run.promotion() else { return Decision::Wait(None) };
    let invalid = |message: &str| stalled(world, reasons::INVALID, message, now);
    if !world.missing_policies.is_empty() {
        return stalled(world, "PoliciesMissing", &policies_message(world.missing_policies), now);
    }
    let namespace = world.run.namespace();
    let Some(target) = world.target else { return invalid(&no_environment(world.run.environment(), namespace)) };
    let from = &run.from;
    let Some(source) = world.source else {
        return invalid(&format!(
            "the source Environment {}/{} does not exist: apply it, or make another Promotion",
            from.namespace, from.name
        ));
    };
    if let Some(message) = graph::target_problem(world, target) {
        return invalid(&message);
    }
    if let Err(message) = graph::edge(world, from, source, target) {
        return invalid(&message);
    }
    if let Some(message) = alignment::unsaid(target) {
        return invalid(&message);
    }
    if let Err(message) = modules::in_order(&target.spec) {
        return invalid(&message);
    }
    let owner = owner(world);

    let modules = match release::selected(run, &source.spec, &target.spec) {
        Ok(modules) => modules,
        Err(message) => return invalid(&message),
    };
    let names: Vec<&str> = modules.iter().map(|m| &*m.name).collect();
    let captured = status.release.as_ref().is_some_and(|r| r.modules.iter().map(|m| m.name.as_str()).eq(names.iter().copied()));
    if !captured {
        let release =
            match release::read(&from.namespace, &source.spec, world.source_side, &modules, &[&target.spec], Reading::Exact) {
                Ok(release) => release,
                Err(message) => return stalled(world, "SourceNotReady", &message, now),
            };
        if let Some(effect) = copy_configuration(world, owner, &modules) {
            return Decision::Perform(effect);
        }
        if let Err(message) = copies_agree(world, owner, &release) {
            return stalled(world, "SourceChanging", &message, now);
        }
        status.release = Some(release);
        status.grant.get_or_insert(if world.requester_may_promote { Grant::ByName } else { Grant::ByGroup });
        status.preflight.clear();
        status.preflight_at = None;
        return advance(world, status, now);
    }
    let plan = match todays_plan(world, &status) {
        Ok(plan) => plan,
        Err(message) => return invalid(&message),
    };
    if status.plan_hash.as_deref() != Some(&plan.hash) {
        let captured = status.release.clone().unwrap_or_default();
        let fresh = |_: &str, name: &str| copied(world, owner, RELEASE, name).unwrap_or_default();
        let old = |module: &str, name: &str| {
            let keep = release::kept_keys(module, name, &[&target.spec, &source.spec]);
            world.target_side.config_map(name).map(|c| Content::of(c, &keep)).unwrap_or_default()
        };
        renew(&mut status, &plan, release::changelog(&captured, &plan.prior, &fresh, &old));
    }
    if let Some(by) = run.modified_by.as_ref().map(|m| m.username.to_string())
        && !status.modifiers.contains(&by)
    {
        status.modifiers.push(by);
    }
    admit(world, status, &plan, now)
}

/// Writes another plan than the one that stood there: it is checked anew, and approved anew.
pub fn renew(status: &mut RunStatus, plan: &Plan, mut changelog: Vec<Change>) {
    changelog.truncate(1000);
    status.changelog = changelog;
    status.steps = steps::pending(&plan.steps);
    status.prior = Some(plan.prior.clone());
    status.plan_hash = Some(plan.hash.clone());
    status.preflight_at = None;
    status.phase = Phase::Scheduled;
}

/// The last part before the start, the same for each kind of run: approvals, checks, right, time, turn.
pub fn admit(world: &World<'_>, mut status: RunStatus, plan: &Plan, now: Timestamp) -> Decision<RunStatus> {
    let Some(target) = world.target else { return Decision::Wait(None) };
    let namespace = world.run.namespace();
    let approvals = approval::count_of(world.run, &status.modifiers, &target.spec.approvals, &plan.hash, world.approvers);
    let enough = approval::enough(&approvals);
    // Who is approved keeps the place in the queue; who must be approved anew stands at its end again.
    status.validated_at = enough.then(|| status.validated_at.unwrap_or(millis(now)));
    // Nobody approves a DownAlignment: each side's consent stands in its Environment.
    status.approvals = world.run.alignment().is_none().then(|| approvals.clone());
    status.phase = if enough { Phase::Validated } else { Phase::Scheduled };
    status.next = Some(match status.phase {
        Phase::Scheduled => format!("{} of {} approvals in {namespace}", approvals.given.len(), approvals.required),
        _ => "its turn".to_owned(),
    });
    if world.run.status() != Some(&status) && world.run.status().and_then(|s| s.plan_hash.as_deref()) != Some(&plan.hash) {
        return advance(world, status, now);
    }
    status = match preflighted(world, status, now) {
        Ok(status) => status,
        Err(decision) => return *decision,
    };
    if let Some(message) = restore::unacknowledged(world, &status) {
        return stalled_with(world, status, "DataLossNotAcknowledged", &message, now);
    }
    if !enough {
        return or_wait(advance(world, status, now), expires(world));
    }
    if !granted(world, &status) {
        let who = world.run.requester();
        let message = match world.run {
            Run::Promotion(Promotion { spec: PromotionSpec { from, .. }, .. }) => format!(
                "{who} may not promote from {}/{}: whoever owns it grants the verb promote on environments.lockkeeper.dev there",
                from.namespace, from.name
            ),
            Run::Alignment(run) => format!(
                "{who} may not align others with {}/{}: whoever owns it grants the verb align on environments.lockkeeper.dev there",
                run.spec.from.namespace, run.spec.from.name
            ),
            Run::Restore(_) => format!(
                "{who} may not restore Environment {namespace}/{}: whoever owns it grants the verb restore on it (ClusterRole lockkeeper-owner)",
                world.run.environment()
            ),
        };
        return stalled_with(world, status, "NotGranted", &message, now);
    }
    if let Some(start) = world.run.schedule().and_then(|s| s.not_before).filter(|at| *at > now) {
        status.next = Some(format!("starts at {start}"));
        return or_wait(advance(world, status, now), Some(start));
    }
    take_turn(world, status, now)
}

/// When a run that has not started expires, if it does.
fn expires(world: &World<'_>) -> Option<Timestamp> {
    deadline(world.run)
}

/// Goes on once all checks have been asked and passed; before that, gives what is to be done for it.
pub fn preflighted(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Result<RunStatus, Box<Decision<RunStatus>>> {
    let stop = |decision| Err(Box::new(decision));
    match checked(world, owner(world), &mut status, now) {
        Checked::Going(Progress::Do(effect)) => return stop(Decision::Perform(effect)),
        Checked::Going(Progress::Waiting { until, what }) => {
            status.next = Some(format!("preflight: {what}"));
            return stop(or_wait(advance(world, status, now), until));
        }
        Checked::Going(_) => return stop(or_wait(advance(world, status, now), None)),
        Checked::Fresh => return stop(advance(world, status, now)),
        // Their answers stand in the status. Failing checks are asked again and again: their Jobs must not pile up.
        Checked::Known => {
            if let Some(asked) = world.jobs.values().find(|j| !j.deleting) {
                let (name, uid) = (asked.name.clone(), asked.uid.clone());
                return stop(Decision::Perform(Effect::Delete { resource: Resource::Job, name, uid, grace: None }));
            }
        }
    }
    let failing: Vec<String> =
        status.preflight.iter().filter(|c| !c.passed).map(|c| format!("{}: {}", c.name, c.message)).collect();
    if failing.is_empty() {
        return Ok(status);
    }
    let message = format!("preflight: {}", failing.join("; "));
    let until = status.preflight_at.map(|at| after(at, RECHECK));
    stop(or_wait(stalled_with(world, status, "PreflightFailed", &message, now), until))
}

/// The slot, then the phase.
fn take_turn(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let Some(target) = world.target else { return Decision::Wait(None) };
    // A run approved at its first sight has passed through Validated all the same: the record shows every phase.
    if world.run.status().map(|s| s.phase) != Some(Phase::Validated) {
        return advance(world, status, now);
    }
    if lock::has_slot(target, &world.slot()) || lock::has_slot(target, &world.uid()) {
        let first = steps::current(&status.steps).map(|s| s.name.clone()).unwrap_or_default();
        enter(world, &mut status, &first, now);
        return advance(world, status, now);
    }
    let me = Waiting {
        run: reference(world),
        environment: world.run.environment().to_owned(),
        since: status.validated_at.unwrap_or(now),
    };
    let ahead = queue::ahead(world.queue, &me);
    let at_work = match lock::take_slot(target, &me.run) {
        Ok(effect) if ahead.is_empty() => return Decision::Perform(effect),
        Ok(_) => None,
        Err(other) => Some(other),
    };
    status.next = Some(queue::behind(at_work.as_ref(), &ahead));
    or_wait(advance(world, status, now), expires(world))
}

fn or_wait(decision: Decision<RunStatus>, until: Option<Timestamp>) -> Decision<RunStatus> {
    match decision {
        Decision::Wait(None) => Decision::Wait(until),
        other => other,
    }
}

enum Checked {
    /// Jobs are under way.
    Going(Progress),
    /// New answers stand in the status, which is to be written.
    Fresh,
    /// The answers in the status count.
    Known,
}

fn checked(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, now: Timestamp) -> Checked {
    let Some(target) = world.target else { return Checked::Known };
    let failing = status.preflight.iter().any(|c| !c.passed);
    let due = status.preflight_at.is_none_or(|at| failing && after(at, RECHECK) <= now);
    if !due {
        return Checked::Known;
    }
    let release = status.release.clone().unwrap_or_default();
    let step = "preflight-early";
    let begun = world.jobs.values().any(|j| !j.deleting && j.step.starts_with(step));
    if !begun {
        // Of an environment that is locked nothing can be learned: its workloads are down and its databases closed.
        if let Some(holder) = lock::status(target).lock.and_then(|l| l.holder).filter(|h| h.uid != world.uid()) {
            return Checked::Going(Progress::waiting(format!("{} {} to give the lock back", holder.kind, holder.name)));
        }
        if checked_now(world, step) >= CHECKED_AT_ONCE {
            return Checked::Going(Progress::waiting(OTHERS_CHECKS));
        }
    }
    match preflight::run(world, owner, &target.spec, &release, (step, status.preflight_attempt), now) {
        Preflight::Going(progress) => Checked::Going(progress),
        Preflight::Ended { checks, control_epoch, snapshot } => {
            restore::found(world, status, snapshot);
            status.preflight = checks;
            status.minimum_epoch = control_epoch;
            status.preflight_at = Some(millis(now));
            status.preflight_attempt += 1;
            Checked::Fresh
        }
    }
}

/// How many other runs are being checked in the namespace.
fn checked_now(world: &World<'_>, step: &str) -> usize {
    let of = |pod: &Pod| {
        let labels_ = pod.labels();
        let checks = labels_.get(labels::STEP).is_some_and(|s| s.starts_with(step)) && !maintenance::is_over(pod);
        labels_.get(labels::RUN).filter(|run| checks && **run != world.uid()).cloned()
    };
    world.target_side.pods.iter().filter_map(of).collect::<BTreeSet<_>>().len()
}

/// Name of a copy of configuration.
pub fn copy_name(owner: Owner<'_>, side: &str, config_map: &str) -> String {
    format!("lk-{}-{side}-{}", owner.id(), &blake3::hash(config_map.as_bytes()).to_hex()[..10])
}

/// An immutable copy of a ConfigMap's content, in the target's namespace.
pub fn copy(owner: Owner<'_>, side: &str, config_map: &str, content: Option<&Content>) -> Effect {
    let mut metadata = owner.metadata(&copy_name(owner, side, config_map), side);
    let mut annotations = BTreeMap::from([(SIDE.to_owned(), side.to_owned()), (COPY_OF.to_owned(), config_map.to_owned())]);
    if content.is_none() {
        annotations.insert(ABSENT.to_owned(), "true".to_owned());
    }
    metadata["annotations"] = json!(annotations);
    let content = content.cloned().unwrap_or_default();
    let manifest = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": true,
        "data": content.data, "binaryData": content.binary_data,
    });
    Effect::Create { resource: Resource::ConfigMap, manifest: Box::new(manifest) }
}

/// Whether a ConfigMap is a copy of what the target had before a run.
pub fn is_prior(copy: &ConfigMap) -> bool {
    copy.annotations().get(SIDE).is_some_and(|side| side == PRIOR)
}

/// The content of a copy. `None`: there is no copy, or the ConfigMap did not exist.
pub fn copied(world: &World<'_>, owner: Owner<'_>, side: &str, config_map: &str) -> Option<Content> {
    let copy = world.target_side.config_map(&copy_name(owner, side, config_map))?;
    (!copy.annotations().contains_key(ABSENT)).then(|| Content::of(copy, &Default::default()))
}

/// The next ConfigMap of the source that has no copy yet.
pub fn copy_configuration(world: &World<'_>, owner: Owner<'_>, modules: &[&Module]) -> Option<Effect> {
    let (source, target) = (world.source?, world.target?);
    modules.iter().flat_map(|m| m.configuration.iter().map(move |c| (m, c))).find_map(|(module, entry)| {
        let keep = release::kept_keys(&module.name, &entry.config_map.name, &[&source.spec, &target.spec]);
        let content = Content::of(world.source_side.config_map(&entry.config_map.name)?, &keep);
        if let Some(copy) = world.target_side.config_map(&copy_name(owner, RELEASE, &entry.config_map.name)) {
            // An earlier look that was not taken up: modules were changed since, and the source's ConfigMap too.
            let (name, uid) = (copy.name_any(), copy.uid().unwrap_or_default());
            let stale = Content::of(copy, &Default::default()) != content && copy.metadata.deletion_timestamp.is_none();
            return stale.then_some(Effect::Delete { resource: Resource::ConfigMap, name, uid, grace: None });
        }
        Some(copy(owner, RELEASE, &entry.config_map.name, Some(&content)))
    })
}

/// The copies and the captured hashes must be of one instant.
pub fn copies_agree(world: &World<'_>, owner: Owner<'_>, release: &Release) -> Result<(), String> {
    for entry in release.modules.iter().flat_map(|m| &m.configuration) {
        let hash = copied(world, owner, RELEASE, &entry.config_map).map(|c| c.hash());
        if hash.as_deref() != Some(entry.hash.as_str()) {
            return Err(format!(
                "ConfigMap {} of the source changed while it was captured: make the Promotion again when the source is at rest",
                entry.config_map
            ));
        }
    }
    Ok(())
}
