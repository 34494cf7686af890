//! How a run ends: before its lock, by a person's word, by a write that is refused, or after its last step; and what the
//! Environment remembers of it.

use std::time::Duration;

use kube::ResourceExt;

use super::{advance, owner, reference, stalled};
use crate::{
    api::{EnvironmentStatus, Failure, Kept, LastPromotion, Phase, RunStatus, Step, StepState, Timestamp, conditions},
    plan::{
        Decision, Progress, after, alignment, intervention, ledger, lock, maintenance, millis, prepare, restore, rollback, steps,
        world::{Run, World},
    },
};

/// Why a run that has locked must be put back: a person's word, or its own deletion. Once the data has been given back to
/// users, what they write may not be undone: the run then finishes.
pub(super) fn rollback_cause(world: &World<'_>, status: &RunStatus) -> Option<Failure> {
    let given_back =
        |s: &Step| matches!(steps::kind(&s.name), steps::name::RELEASE | steps::name::OPEN) && s.state != StepState::Pending;
    if status.steps.iter().any(given_back) {
        return None;
    }
    let step = status.step.clone().unwrap_or_default();
    if let Some(cancel) = world.run.cancel() {
        return Some(Failure {
            step,
            reason: "Cancelled".into(),
            message: format!("{} cancelled: {}", cancel.username, cancel.reason),
        });
    }
    world.run.is_leaving().then(|| Failure {
        step,
        reason: "Deleted".into(),
        message: format!("the {} was deleted while it held the lock", world.run.kind()),
    })
}

/// The end that a run before its lock comes to, if it does.
pub(super) fn ending(world: &World<'_>, status: &RunStatus, now: Timestamp) -> Option<(Phase, Failure)> {
    let step = status.step.clone().unwrap_or_else(|| status.phase.to_string());
    if let Some(failure) = &status.failure {
        let phase = match failure.reason.as_str() {
            "Cancelled" | "Deleted" => Phase::Cancelled,
            "StartDeadlinePassed" => Phase::Expired,
            _ => Phase::Failed,
        };
        return Some((phase, failure.clone()));
    }
    if let Some(cancel) = world.run.cancel() {
        let message = format!("{} cancelled: {}", cancel.username, cancel.reason);
        return Some((Phase::Cancelled, Failure { step, reason: "Cancelled".into(), message }));
    }
    if world.run.is_leaving() {
        let message = format!("the {} was deleted before it started", world.run.kind());
        return Some((Phase::Cancelled, Failure { step, reason: "Deleted".into(), message }));
    }
    let deadline = prepare::deadline(world.run)?;
    (status.phase.is_before_start() && now >= deadline).then(|| {
        // One that was asked for too late has waited for nothing yet.
        let waited = status.next.as_deref().map_or(String::new(), |next| format!(": {next}"));
        let message = format!("it could not start before {deadline}{waited}");
        (Phase::Expired, Failure { step, reason: "StartDeadlinePassed".into(), message })
    })
}

/// Ends a run that never locked: the cause first, then all that was made for it, the slot, and the phase last.
pub(super) fn before_lock(
    world: &World<'_>,
    mut status: RunStatus,
    (phase, failure): (Phase, Failure),
    now: Timestamp,
) -> Decision<RunStatus> {
    let owner = owner(world);
    if status.failure.is_none() {
        if let Some(step) = steps::current(&status.steps).filter(|s| s.state == StepState::Running).map(|s: &Step| s.name.clone())
        {
            steps::end(&mut status.steps, &step, StepState::Failed, Some(failure.message.clone()), now);
        }
        status.failure = Some(failure);
        return advance(world, status, now);
    }
    // What the Promotion has begun ends first: it may hold the lock, and then puts everything back.
    match alignment::call_off(world) {
        Some(Progress::Do(effect)) => return Decision::Perform(effect),
        Some(_) => return Decision::Wait(None),
        None => {}
    }
    if let Some(effect) = maintenance::leftovers(world, owner) {
        return Decision::Perform(effect);
    }
    if maintenance::still_leaving(world, owner) {
        return Decision::Wait(None);
    }
    if let Some(effect) = world.target.and_then(|t| lock::give_back_slot(t, owner.uid)) {
        return Decision::Perform(effect);
    }
    finish(world, status, phase, now)
}

/// Writes the terminal phase.
pub fn finish(world: &World<'_>, mut status: RunStatus, phase: Phase, now: Timestamp) -> Decision<RunStatus> {
    let at = millis(now);
    if let Some(effect) = world.target.and_then(|t| ledger::record(t, world, &status, phase, at)) {
        return Decision::Perform(effect);
    }
    if phase == Phase::Abandoned {
        let left = intervention::left(world, &status);
        status.intervention.iter_mut().for_each(|i| i.left = left.clone());
    }
    status.phase = phase;
    status.step = None;
    status.next = None;
    status.finished_at = Some(at);
    for step in status.steps.iter_mut().filter(|s| matches!(s.state, StepState::Pending | StepState::Running)) {
        step.state = StepState::Skipped;
    }
    advance(world, status, now)
}

/// How long a write that is refused is tried again before the run gives it up.
const REFUSED_PATIENCE: Duration = Duration::from_secs(30);

/// What a write comes to that the API server refuses for what it is, by a quota, a policy, a right: said first; after a
/// while the run fails, or is put back, or calls for a person. Users must not be locked out behind a request that is made
/// again and again.
pub fn refused(world: &World<'_>, message: &str, now: Timestamp) -> Decision<RunStatus> {
    const REASON: &str = "Refused";
    let status = world.status();
    let said = status.conditions.iter().find(|c| c.type_ == conditions::STALLED && c.status == "True" && c.reason == REASON);
    let due = said.is_some_and(|c| after(c.last_transition_time.0, REFUSED_PATIENCE) <= now);
    let step = steps::current(&status.steps).filter(|s| s.state == StepState::Running).cloned();
    let (true, Some(step)) = (due, step) else { return stalled(world, REASON, message, now) };
    let failure = Failure { step: step.name.clone(), reason: REASON.into(), message: message.chars().take(4000).collect() };
    match status.phase {
        Phase::RollingBack => rollback::stuck(world, status, &step, failure, now),
        phase if phase.may_hold_lock() && phase != Phase::NeedsHuman => rollback::begin(world, status, failure, now),
        Phase::Aligning | Phase::BackingUp | Phase::Snapshotting => before_lock(world, status, (Phase::Failed, failure), now),
        _ => stalled(world, REASON, message, now),
    }
}

/// Before the terminal phase: what the Environment must remember, then the slot.
pub(super) fn record_end(world: &World<'_>, status: RunStatus, phase: Phase, now: Timestamp) -> Decision<RunStatus> {
    if let Some(target) = world.target {
        let mut wanted = lock::status(target);
        let at = status.unlocked_at.unwrap_or_else(|| millis(now));
        if let Run::Promotion(run) = world.run {
            let release = status.release.as_ref().map(|r| r.hash.clone()).unwrap_or_default();
            wanted.last_promotion = Some(LastPromotion { name: run.name_any(), phase: phase.to_string(), release, at });
        }
        // What an abandoned run leaves aside may be the only good copy: nobody drops it but a person.
        if phase != Phase::Abandoned {
            keep(world, &status, &mut wanted, (phase, at));
        }
        if lock::has_slot(target, &world.uid()) {
            wanted.active = None;
            return Decision::Perform(lock::set(target, wanted));
        }
        // One that works in the turn of a Promotion leaves that to it.
        if wanted.kept != lock::status(target).kept {
            return Decision::Perform(lock::set(target, wanted));
        }
    }
    finish(world, status, phase, now)
}

/// What this run leaves aside, the Environment keeps until its time; what earlier runs left of the same data goes, so that
/// there is one at most.
fn keep(world: &World<'_>, status: &RunStatus, wanted: &mut EnvironmentStatus, (phase, at): (Phase, Timestamp)) {
    for undo in &status.undo {
        let same = |k: &Kept| k.database == undo.database && k.snapshot == undo.snapshot;
        for earlier in wanted.kept.iter_mut().filter(|k| k.data == undo.data) {
            if same(earlier) {
                earlier.until = undo.until.map_or(earlier.until, |until| earlier.until.max(until));
            } else if !restore::gave_up_undoing(world, phase, &earlier.run) {
                earlier.until = earlier.until.min(at);
            }
        }
        if !wanted.kept.iter().any(|k| k.data == undo.data && same(k)) {
            wanted.kept.push(Kept {
                data: undo.data.clone(),
                database: undo.database.clone(),
                snapshot: undo.snapshot.clone(),
                run: reference(world),
                until: undo.until.unwrap_or(after(at, Duration::from_secs(86_400))),
            });
        }
    }
}
