//! The checks before the start: asked by Jobs, a few runs at a time, and asked again while they fail.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::or_wait;
use crate::{
    api::{RunStatus, Timestamp, labels},
    manifest::Owner,
    plan::{
        Decision, Effect, Progress, Resource, after, lock, maintenance, millis,
        preflight::{self, Preflight},
        promotion::{advance, owner, stalled_with},
        restore,
        world::World,
    },
};

/// How long failed checks are left before they are asked again.
const RECHECK: Duration = Duration::from_secs(60);
/// So many runs of an environment are checked at the same time, or a few more: their pods are the environment's node's to start.
const CHECKED_AT_ONCE: usize = 4;
/// What the runs wait for that are more than that.
pub const OTHERS_CHECKS: &str = "checks of other runs";

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
        Preflight::Ended { checks, control_epoch, marks: _, snapshot } => {
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
