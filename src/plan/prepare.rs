//! Scheduled and Validated: the release is captured, the plan computed and shown, approvals counted, and the run waits,
//! holding nothing, for its time and its turn.

mod checks;
mod copies;

use std::time::Duration;

pub use self::{checks::*, copies::*};
use super::{
    Decision, after, alignment, approval, graph, lock, millis, modules,
    promotion::{advance, enter, owner, reference, stalled, stalled_with},
    queue::{self, Waiting},
    release::{self, Content, Reading},
    restore, steps,
    world::{Run, World},
};
use crate::api::{Change, Grant, Module, Phase, Promotion, PromotionSpec, Release, RunStatus, Timestamp, reasons};

/// A passed `notBefore` without `startDeadline` expires after this.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(86_400);

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
