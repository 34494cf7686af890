//! What to do next for a run. The flow of a Promotion, phase by phase (an EnvironmentRestore differs in 1 and 5, see
//! [`super::restore`], and a DownAlignment in 3 and 5, see [`super::alignment`]; neither makes a backup):
//!
//! 1. **Scheduled**: capture the source's release and copy its configuration; compute the plan; ask preflight; count approvals.
//! 2. **Validated**: wait, holding nothing, for the time and for the environment's slot.
//! 3. **BackingUp**: preflight again, a proven backup, the page's pod. Users still work. Check once more at the door.
//! 4. **Locked**: the lock, integrations paused, Services to the page, the record of what is, workloads down, databases fenced, undo
//!    points.
//! 5. **Promoting**: module by module: configuration, migration, workloads.
//! 6. **Verifying**: the environment's checks; then databases, Services, integrations and lock go back.
//! 7. **RollingBack**, from 4 to 6 on any failure, cancel or deletion: [`super::rollback`].
//!
//! Phases 3 to 7 are a list of steps in the status; [`drive`] does the first that is not over.
//! Here they are driven; how they end, what they tell and the door before the lock have files of their own.

mod door;
mod ending;
mod telling;

use self::{
    door::{door, lock_lost},
    ending::{before_lock, ending, record_end, rollback_cause},
};
pub use self::{
    ending::{finish, refused},
    telling::{advance, stalled, stalled_with},
};
use super::{
    Decision, Effect, Progress, alignment, foreign, forward, intervention, ledger, maintenance, moved, prepare, progress,
    restore, rollback, steps, world::World,
};
use crate::{
    api::{FINALIZER, Failure, Phase, RunRef, RunStatus, StepState, Timestamp, reasons},
    manifest::Owner,
};

/// How many times a step is tried where trying again may help.
pub const ATTEMPTS: i32 = 3;

/// Who the run is, for all that is made for it.
pub fn owner<'a>(world: &World<'a>) -> Owner<'a> {
    let run = world.run;
    Owner { kind: run.kind(), name: run.name(), uid: run.uid(), namespace: run.namespace() }
}

/// The run, as the Environment's status names it.
pub fn reference(world: &World<'_>) -> RunRef {
    RunRef { kind: world.run.kind().into(), name: world.run.name().into(), uid: world.uid() }
}

/// What to do next.
pub fn plan(world: &World<'_>, now: Timestamp) -> Decision<RunStatus> {
    let status = world.status();
    let deleting = world.run.is_leaving();
    let has_finalizer = world.run.metadata().finalizers.iter().flatten().any(|f| f == FINALIZER);
    if deleting && !has_finalizer {
        return Decision::Wait(None);
    }
    if status.phase.is_terminal() {
        // An abandoned run has left copies of the earlier configuration: they go with it.
        let left = maintenance::leftovers(world, owner(world)).filter(|_| !world.terminating && world.refused.is_none());
        return match deleting {
            true => Decision::Perform(left.unwrap_or(Effect::RemoveFinalizer)),
            false => Decision::Wait(None),
        };
    }
    if !deleting && let Some(end) = ledger::already_ran(world, now) {
        return end;
    }
    if deleting && world.terminating {
        // A terminating namespace admits no Job: nothing can be put back, and holding the finalizer would hold the namespace.
        return Decision::Perform(Effect::RemoveFinalizer);
    }
    if let Some(refused) = world.refused {
        return stalled(world, reasons::BLOCKED, refused, now);
    }
    if !has_finalizer && !deleting {
        return Decision::Perform(Effect::AddFinalizer);
    }
    match status.phase {
        Phase::Scheduled | Phase::Validated | Phase::Aligning | Phase::BackingUp | Phase::Snapshotting => {
            match ending(world, &status, now) {
                Some(end) => before_lock(world, status, end, now),
                None if status.step.is_some() || status.phase == Phase::BackingUp => drive(world, status, now),
                None if world.run.restore().is_some() => restore::plan(world, status, now),
                None if world.run.alignment().is_some() => alignment::plan(world, status, now),
                None => prepare::plan(world, status, now),
            }
        }
        Phase::Locked | Phase::Promoting | Phase::Loading | Phase::Verifying => match rollback_cause(world, &status) {
            Some(failure) => rollback::begin(world, status, failure, now),
            None => drive(world, status, now),
        },
        Phase::RollingBack => drive(world, status, now),
        Phase::NeedsHuman => match intervention::asked(world, status.clone(), now) {
            Some(decision) => decision,
            None if intervention::gives_up(&status) => drive(world, status, now),
            None => rollback::again(world, status, now),
        },
        Phase::Completed | Phase::RolledBack | Phase::Failed | Phase::Cancelled | Phase::Expired | Phase::Abandoned => {
            Decision::Wait(None)
        }
    }
}

/// Does the first step that is not over; after the last, ends the run.
pub fn drive(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let Some(step) = steps::current(&status.steps).cloned() else {
        let phase = match status.phase {
            _ if intervention::gives_up(&status) => Phase::Abandoned,
            Phase::RollingBack | Phase::NeedsHuman => Phase::RolledBack,
            _ => Phase::Completed,
        };
        return record_end(world, status, phase, now);
    };
    if step.state == StepState::Pending {
        enter(world, &mut status, &step.name, now);
        return advance(world, status, now);
    }
    let Some(target) = world.target else {
        return stalled(
            world,
            reasons::BLOCKED,
            &format!("Environment {} does not exist any more: apply it again", world.run.environment()),
            now,
        );
    };
    if let Some(message) = lock_lost(world, target, &status, &step) {
        return stalled(world, "LockLost", &message, now);
    }
    if steps::phase(&step.name) != Phase::NeedsHuman
        && let Some(decision) = foreign::guard(world, &target.spec, &status, &step, now)
    {
        return decision;
    }
    let came_to = moved::before(&step, &target.spec, &status).unwrap_or_else(|| match steps::phase(&step.name) {
        Phase::RollingBack => rollback::step(world, &target.spec, &status, &step, now),
        Phase::NeedsHuman => intervention::step(world, &target.spec, &status, &step, now),
        _ => forward::step(world, &target.spec, &status, &step, now),
    });
    match came_to {
        Progress::Do(effect) => Decision::Perform(effect),
        Progress::Waiting { what, until } => {
            // Whoever is called reads why, also while it is tried again.
            if status.phase != Phase::NeedsHuman || intervention::gives_up(&status) {
                status.next = Some(what.chars().take(1000).collect());
            }
            progress::tell(world, owner(world), &mut status, &step, now);
            match advance(world, status, now) {
                Decision::Wait(_) => Decision::Wait(until),
                other => other,
            }
        }
        Progress::Done(message) => {
            forward::after_step(world, &mut status, &step, now);
            rollback::after_step(world, &mut status, &step, now);
            // What a first attempt has said of foreign hands stays said.
            let message = message.or_else(|| step.message.clone().filter(|_| step.attempt == 0));
            progress::end(world, owner(world), &mut status, &step, now);
            steps::end(&mut status.steps, &step.name, StepState::Succeeded, message, now);
            // What was stuck goes on by itself again.
            if status.phase == Phase::NeedsHuman {
                status.phase = steps::phase(&step.name);
            }
            if let Some(next) = steps::current(&status.steps).map(|s: &crate::api::Step| s.name.clone()) {
                // The door: what was checked before is checked again on quorum reads, and only then the phase says Locked.
                if steps::kind(&next) == steps::name::LOCK {
                    // An upgrade brings policies a moment before the operator that wants them: users work, so it waits.
                    if !world.missing_policies.is_empty() {
                        return stalled(world, "PoliciesMissing", &prepare::policies_message(world.missing_policies), now);
                    }
                    if let Err(failure) = door(world, &target.spec, &status) {
                        status.failure = Some(failure);
                        return advance(world, status, now);
                    }
                    status.data = moved::places(world, &target.spec);
                }
                enter(world, &mut status, &next, now);
            }
            advance(world, status, now)
        }
        Progress::Retry(message) => {
            if let Some(step) = status.steps.iter_mut().find(|s| s.name == step.name) {
                step.attempt += 1;
                step.progress = None;
                step.message = Some(format!("attempt {} failed: {message}", step.attempt).chars().take(4000).collect());
            }
            advance(world, status, now)
        }
        Progress::Failed { reason, message } => {
            let failure = Failure { step: step.name.clone(), reason, message: message.chars().take(4000).collect() };
            match status.phase {
                Phase::Aligning | Phase::BackingUp | Phase::Snapshotting | Phase::Validated => {
                    steps::end(&mut status.steps, &step.name, StepState::Failed, Some(failure.message.clone()), now);
                    status.failure = Some(failure);
                    advance(world, status, now)
                }
                Phase::RollingBack | Phase::NeedsHuman => rollback::stuck(world, status, &step, failure, now),
                _ => rollback::begin(world, status, failure, now),
            }
        }
    }
}

/// Begins a step.
pub fn enter(world: &World<'_>, status: &mut RunStatus, step: &str, now: Timestamp) {
    steps::begin(&mut status.steps, step, now);
    status.phase = steps::phase_of(world.run, step);
    status.step = Some(step.to_owned());
    status.next = None;
}
