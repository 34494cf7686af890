//! Putting the environment back as it was. Works from what was recorded, whatever else failed, and is never blocked by a
//! window, an approval or a revoked grant.
//!
//! 1. Stop the new workloads and whatever Jobs of the run still work, the migration first of all.
//! 2. Fence and swap the undo points in; the failed databases are kept aside.
//! 3. Put the configuration back.
//! 4. Give the databases back, start the earlier workloads and wait until they are ready.
//! 5. Give back Services, integrations and the lock; remove what was made for the run.

use std::{collections::BTreeSet, time::Duration};

use kube::ResourceExt;
use serde_json::json;

use super::{
    Decision, Effect, Progress, Resource, after, agents, foreign, forward, maintenance, millis, moved, prepare,
    promotion::{advance, drive, owner},
    release::Content,
    restore, steps,
    steps::name,
    volumes,
    world::{JobState, Run, World},
};
use crate::{
    api::{
        Data, EnvironmentSpec, Failure, Phase, Release, RunStatus, Step, StepState, Timestamp, WorkloadRef, promotion::DataPlace,
    },
    manifest::{
        Owner, patch,
        task::{SECRET_CHANGED, Verb},
    },
};

/// How often a step of the rollback is tried before a person is called.
const ATTEMPTS: i32 = 5;
/// After this, a pod of the agent that does not end is deleted without waiting for its node.
const FORCE_AFTER: Duration = Duration::from_secs(60);
/// After this, a pod that does not end is for a person to look at.
const END_PATIENCE: Duration = Duration::from_secs(300);
/// How long a rollback that is stuck waits before it tries again by itself.
const PAUSE: Duration = Duration::from_secs(120);

/// Enters the rollback: the cause is written first, and stays.
pub fn begin(world: &World<'_>, mut status: RunStatus, failure: Failure, now: Timestamp) -> Decision<RunStatus> {
    if let Some(step) = steps::current(&status.steps).map(|s: &crate::api::Step| s.name.clone())
        && failure.step == step
    {
        steps::end(&mut status.steps, &step, StepState::Failed, Some(failure.message.clone()), now);
    }
    let mut back = steps::backward(&status.steps);
    // The first Job of the fence has seen that the Secrets lead elsewhere, before it closed anything.
    let first = |s: &Step| s.name == failure.step && steps::kind(&s.name) == name::FENCE && s.attempt == 0;
    if failure.reason == SECRET_CHANGED && status.steps.iter().any(first) {
        back.retain(|s| !matches!(steps::kind(s), name::BACK_DATA | name::BACK_RELEASE));
    }
    for step in status.steps.iter_mut().filter(|s| matches!(s.state, StepState::Pending | StepState::Running)) {
        step.state = if step.state == StepState::Running { StepState::Failed } else { StepState::Skipped };
        step.finished_at = step.started_at.map(|_| millis(now));
    }
    status.steps.extend(steps::pending(&back));
    status.failure.get_or_insert(failure);
    status.phase = Phase::RollingBack;
    status.step = None;
    status.next = None;
    advance(world, status, now)
}

/// A step of the rollback failed: tried again, and after that a person is called. The lock is held, the page stays up.
pub fn stuck(world: &World<'_>, mut status: RunStatus, step: &Step, failure: Failure, now: Timestamp) -> Decision<RunStatus> {
    if let Some(known) = status.steps.iter_mut().find(|s| s.name == step.name) {
        known.attempt += 1;
        known.progress = None;
        known.message = Some(format!("attempt {}: {}", known.attempt, failure.message).chars().take(4000).collect());
    }
    if step.attempt + 1 >= ATTEMPTS {
        status.phase = Phase::NeedsHuman;
        if let Some(known) = status.steps.iter_mut().find(|s| s.name == step.name) {
            known.finished_at = Some(millis(now));
        }
        status.next = Some(
            format!(
                "the rollback itself failed in {}: {}. The lock is held and the page stays up. Mend it; it is tried again every {} s, or at once by: kubectl lockkeeper resume",
                step.name,
                failure.message,
                PAUSE.as_secs()
            )
            .chars()
            .take(1000)
            .collect(),
        );
    }
    advance(world, status, now)
}

/// A stuck rollback tries again by itself after a pause: a server that was away may be back. It stays in its phase until the
/// step has succeeded, so that a person is called once and finds it there.
pub fn again(world: &World<'_>, status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    match steps::current(&status.steps).and_then(|s| s.finished_at).map(|at| after(at, PAUSE)) {
        Some(pause) if now < pause => Decision::Wait(Some(pause)),
        _ => drive(world, status, now),
    }
}

/// A person has asked to try again: at once.
pub fn resume(status: &mut RunStatus) {
    status.phase = Phase::RollingBack;
    status.next = None;
    if let Some(name) = steps::current(&status.steps).map(|s: &crate::api::Step| s.name.clone())
        && let Some(step) = status.steps.iter_mut().find(|s| s.name == name)
    {
        step.finished_at = None;
    }
}

/// What a step of the rollback needs next.
pub fn step(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus, step: &Step, now: Timestamp) -> Progress {
    let owner = owner(world);
    let epoch = status.epoch.unwrap_or(0);
    let begun = step.started_at.unwrap_or(now);
    match steps::kind(&step.name) {
        name::BACK_STOP => match end_jobs(world, owner, false, begun, now) {
            Some(progress) => progress,
            None => {
                let stopped = maintenance::stop(world, target, owner, epoch, begun, now);
                match (foreign::stopped_enough(stopped, target, status, begun, now), moved(world, target, status)) {
                    (Progress::Done(_), Some(moved)) => moved,
                    (Progress::Done(_), None) => volumes::unused(&data(world, target), world.target_side, begun, now),
                    (other, _) => other,
                }
            }
        },
        name::BACK_DATA | name::BACK_RELEASE => match moved(world, target, status) {
            Some(moved) => moved,
            None => {
                let verb = if steps::kind(&step.name) == name::BACK_DATA { Verb::Rollback } else { Verb::Release };
                agents::data_job(world, target, owner, step, (verb, epoch), now)
            }
        },
        name::BACK_CONFIGURATION => configuration(world, owner, status),
        name::BACK_WORKLOADS => {
            let prior = status.prior.clone().unwrap_or_default();
            let all: Vec<WorkloadRef> = target.modules.iter().flat_map(|m| m.workloads.clone()).collect();
            forward::workloads(world, &prior_images(&prior), &all, begun, now)
        }
        name::BACK_OPEN => maintenance::open(world, owner),
        name::BACK_RESUME => maintenance::resume(world, owner),
        name::BACK_UNLOCK => forward::unlock(world, owner),
        name::BACK_TIDY => forward::tidy(world, owner, status, now),
        other => Progress::failed("UnknownStep", format!("this version of Lockkeeper does not know the step {other}")),
    }
}

/// The data that the rollback puts back. Files are changed only once the status names their undo point; in a run whose load
/// makes both, once that has begun. Until then neither claim nor repository is asked for: they may be what is in the way.
pub fn data<'a>(world: &World<'_>, target: &'a EnvironmentSpec) -> Vec<&'a Data> {
    let status = world.status();
    let mut all = restore::data(world, target);
    all.retain(|d| d.volume.is_none() || may_have_changed(world, &status, &d.name));
    all
}

/// Whether the run may have changed the files of a volume.
fn may_have_changed(world: &World<'_>, status: &RunStatus, data: &str) -> bool {
    match world.run {
        Run::Promotion(_) => status.undo.iter().any(|u| u.data == data),
        Run::Restore(_) | Run::Alignment(_) => begun(status, name::LOAD),
    }
}

fn begun(status: &RunStatus, kind: &str) -> bool {
    status.steps.iter().any(|s| steps::kind(&s.name) == kind && !matches!(s.state, StepState::Pending | StepState::Skipped))
}

/// That data which the run has closed, or may have changed, is not where it was. What is there now is another's.
fn moved(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus) -> Option<Progress> {
    if !begun(status, name::FENCE) {
        return None;
    }
    let concerns = |place: &&DataPlace| place.claim.is_none() || may_have_changed(world, status, &place.data);
    status.data.iter().filter(concerns).find_map(|place| moved::from(place, target))
}

/// What a finished step of the rollback leaves in the status.
pub fn after_step(world: &World<'_>, status: &mut RunStatus, step: &Step, now: Timestamp) {
    if steps::kind(&step.name) == name::BACK_DATA {
        // What was the undo point is live again; what is aside now is the failed database, where there is one.
        status.undo.clear();
        forward::keep(world, status, step, Some(now));
    }
}

/// Jobs of the forward steps that still work must end before anything is put back: a migration checks no epoch. `all`: those
/// of the rollback too.
pub fn end_jobs(world: &World<'_>, owner: Owner<'_>, all: bool, begun: Timestamp, now: Timestamp) -> Option<Progress> {
    let concerns = |step: &str| all || !step.starts_with("rollback-");
    let going: Vec<_> = world.jobs.values().filter(|j| j.state == JobState::Running && concerns(&j.step)).collect();
    if let Some(job) = going.iter().find(|j| !j.deleting) {
        return Some(Progress::Do(Effect::Delete {
            resource: Resource::Job,
            name: job.name.clone(),
            uid: job.uid.clone(),
            grace: None,
        }));
    }
    let labelled = |p: &&k8s_openapi::api::core::v1::Pod| {
        let step = p.labels().get(crate::api::labels::STEP).map(String::as_str).unwrap_or_default();
        p.labels().get(crate::api::labels::RUN).is_some_and(|v| v == owner.uid)
            && !maintenance::is_over(p)
            && step != crate::manifest::page::STEP
            && concerns(step)
    };
    let left = world.target_side.pods.iter().find(labelled)?;
    let name = left.name_any();
    // What the agent does is fenced by its epoch, so its pod need not be seen to end; a migration's must be, and one that writes
    // the files of a volume, which knows no epoch.
    let force = if fenced(world) { after(begun, FORCE_AFTER) } else { after(begun, END_PATIENCE) };
    let stuck = left.metadata.deletion_timestamp.is_some() && left.metadata.deletion_grace_period_seconds != Some(0);
    if fenced(world) && now >= force && stuck && left.labels().contains_key(crate::api::labels::AGENT) {
        let uid = left.uid().unwrap_or_default();
        return Some(Progress::Do(Effect::Delete { resource: Resource::Pod, name, uid, grace: Some(0) }));
    }
    let given_up = after(begun, END_PATIENCE);
    if now >= given_up {
        let message = format!(
            "pod {name} does not end: its node may be gone. What it did to the data can only be undone once it is known to be over: \
             make sure of that, then kubectl delete pod {name} --force"
        );
        return Some(Progress::failed("PodDoesNotEnd", message));
    }
    let until = if now < force { force } else { given_up };
    Some(Progress::Waiting { what: format!("pod {name} to end"), until: Some(until) })
}

/// Whether a fence stands before all that the agent writes.
fn fenced(world: &World<'_>) -> bool {
    world.target.is_none_or(|t| t.spec.data.iter().all(|d| d.volume.is_none()))
}

fn configuration(world: &World<'_>, owner: Owner<'_>, status: &RunStatus) -> Progress {
    let modules = status.release.as_ref().map(|r| r.modules.clone()).unwrap_or_default();
    for entry in modules.iter().flat_map(|m| &m.configuration) {
        if let Some(effect) = put_back(world, owner, &entry.config_map) {
            return Progress::Do(effect);
        }
        if world.target_side.config_map(&prepare::copy_name(owner, prepare::PRIOR, &entry.config_map)).is_none() {
            return Progress::failed(
                "CopyMissing",
                format!("the copy of ConfigMap {} from before the run is gone: put it back by hand", entry.config_map),
            );
        }
    }
    Progress::Done(None)
}

/// What brings a ConfigMap back to its copy. `None`: it is as it was, or there is no copy.
fn put_back(world: &World<'_>, owner: Owner<'_>, name: &str) -> Option<Effect> {
    let copy = world.target_side.config_map(&prepare::copy_name(owner, prepare::PRIOR, name))?;
    let here = world.target_side.config_map(name);
    if copy.annotations().contains_key(prepare::ABSENT) {
        let here = here?;
        return Some(Effect::Delete {
            resource: Resource::ConfigMap,
            name: name.to_owned(),
            uid: here.uid().unwrap_or_default(),
            grace: None,
        });
    }
    let content = Content::of(copy, &BTreeSet::new());
    match here {
        Some(here) if Content::of(here, &BTreeSet::new()) == content => None,
        Some(here) => Some(patch::configure(here, &content, &|_| false)),
        None => {
            let manifest = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": owner.namespace},
                "data": content.data, "binaryData": content.binary_data,
            });
            Some(Effect::Create { resource: Resource::ConfigMap, manifest: Box::new(manifest) })
        }
    }
}

/// Images as the earlier specs named them: what was there before comes back to the letter.
fn prior_images(prior: &Release) -> forward::Images {
    forward::images_of(&prior.modules, |c| c.image.clone())
}
