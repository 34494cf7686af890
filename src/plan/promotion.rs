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

use kube::ResourceExt;

use super::{
    Decision, Effect, Progress, after, alignment, approval, foreign, forward, intervention, ledger, lock, maintenance, millis,
    prepare, progress, restore, rollback, steps,
    world::{Run, World},
};
use crate::{
    api::{
        Environment, EnvironmentSpec, EnvironmentStatus, FINALIZER, Failure, Kept, LastPromotion, Phase, RunRef, RunStatus, Step,
        StepState, Timestamp, conditions, reasons,
    },
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

/// Why a run that has locked must be put back: a person's word, or its own deletion. Once the data has been given back to
/// users, what they write may not be undone: the run then finishes.
fn rollback_cause(world: &World<'_>, status: &RunStatus) -> Option<Failure> {
    let given_back = |s: &crate::api::Step| {
        matches!(steps::kind(&s.name), steps::name::RELEASE | steps::name::OPEN) && s.state != StepState::Pending
    };
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
fn ending(world: &World<'_>, status: &RunStatus, now: Timestamp) -> Option<(Phase, Failure)> {
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
        let message = format!("it could not start before {deadline}: {}", status.next.clone().unwrap_or_default());
        (Phase::Expired, Failure { step, reason: "StartDeadlinePassed".into(), message })
    })
}

/// Ends a run that never locked: the cause first, then all that was made for it, the slot, and the phase last.
fn before_lock(
    world: &World<'_>,
    mut status: RunStatus,
    (phase, failure): (Phase, Failure),
    now: Timestamp,
) -> Decision<RunStatus> {
    let owner = owner(world);
    if status.failure.is_none() {
        if let Some(step) =
            steps::current(&status.steps).filter(|s| s.state == StepState::Running).map(|s: &crate::api::Step| s.name.clone())
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

fn in_place(run: Run<'_>) -> &'static str {
    match run {
        Run::Promotion(_) => "the release is in place",
        Run::Restore(_) => "what was asked for is back",
        Run::Alignment(_) => "it is a mirror of its source",
    }
}

/// Writes a status with the conditions that follow from it; what does not change is not written.
pub fn advance(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let generation = world.run.metadata().generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    let (reason, message) = match (&status.failure, status.phase) {
        (_, Phase::Completed) => ("Completed".to_owned(), format!("{}, and users are back", in_place(world.run))),
        (_, Phase::Abandoned) => (reasons::ABANDONED.to_owned(), abandoned(&status)),
        (Some(failure), Phase::NeedsHuman) => {
            let stuck = status.next.clone().unwrap_or_default();
            ("RollbackFailed".to_owned(), format!("{stuck}. It began with {}: {}", failure.step, failure.message))
        }
        (Some(failure), phase) => {
            let aligned = status
                .alignment
                .as_ref()
                .filter(|_| phase.is_terminal())
                .map(|a| format!("; aligned, not promoted: what is there now is what DownAlignment {} brought", a.name));
            let message = format!("{phase}, because of {}: {}{}", failure.step, failure.message, aligned.unwrap_or_default());
            (failure.reason.clone(), message)
        }
        (None, phase) => (phase.to_string(), status.next.clone().unwrap_or_default()),
    };
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, status.phase == Phase::Completed, &reason, &message, generation, now);
    conditions::set(list, conditions::RECONCILING, !status.phase.is_terminal(), &status.phase.to_string(), "", generation, now);
    let stalled = status.phase == Phase::NeedsHuman || (status.phase.is_terminal() && status.phase != Phase::Completed);
    conditions::set(list, conditions::STALLED, stalled, &reason, if stalled { &message } else { "" }, generation, now);
    changed(world, status)
}

/// What is said of a run that was given up: who did it, what is left, and what began it.
fn abandoned(status: &RunStatus) -> String {
    let Some(by) = &status.intervention else { return String::new() };
    let left = if by.left.is_empty() { "nothing that is known".to_owned() } else { by.left.join("; ") };
    let cause = status.failure.as_ref().map(|f| format!(". It began with {}: {}", f.step, f.message)).unwrap_or_default();
    format!("{} gave the rollback up: {}. To be put right by hand: {left}{cause}", by.username, by.reason)
}

/// How long a write that is refused is tried again before the run gives it up.
const REFUSED_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

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

/// A status that says why nothing goes on, and the wait for that to change.
pub fn stalled(world: &World<'_>, reason: &str, message: &str, now: Timestamp) -> Decision<RunStatus> {
    stalled_with(world, world.status(), reason, message, now)
}

/// The same, with what else is new in the status.
pub fn stalled_with(
    world: &World<'_>,
    mut status: RunStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Decision<RunStatus> {
    let generation = world.run.metadata().generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    status.next = Some(message.chars().take(1000).collect());
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, false, reason, message, generation, now);
    conditions::set(list, conditions::RECONCILING, true, &status.phase.to_string(), "", generation, now);
    conditions::set(list, conditions::STALLED, true, reason, message, generation, now);
    changed(world, status)
}

fn changed(world: &World<'_>, mut status: RunStatus) -> Decision<RunStatus> {
    status.spec_hash.get_or_insert_with(|| ledger::hash_of(world.run));
    if world.run.status() == Some(&status) { Decision::Wait(None) } else { Decision::Advance(Box::new(status)) }
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
    let came_to = match steps::phase(&step.name) {
        Phase::RollingBack => rollback::step(world, &target.spec, &status, &step, now),
        Phase::NeedsHuman => intervention::step(world, &target.spec, &status, &step, now),
        _ => forward::step(world, &target.spec, &status, &step, now),
    };
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

/// That a run which took the lock does not hold it any more: somebody took it away by hand, or the Environment was made
/// again. Another run may work here by now, so this one changes nothing until it holds the lock again.
fn lock_lost(world: &World<'_>, target: &Environment, status: &RunStatus, step: &Step) -> Option<String> {
    let epoch = status.epoch?;
    let giving_up = intervention::gives_up(status)
        || [steps::name::UNLOCK, steps::name::TIDY, steps::name::BACK_UNLOCK, steps::name::BACK_TIDY]
            .contains(&steps::kind(&step.name));
    if giving_up || lock::holds(target, &world.uid(), epoch) {
        return None;
    }
    let holder =
        lock::status(target).lock.and_then(|l| l.holder).map_or("nobody".to_owned(), |h| format!("{} {}", h.kind, h.name));
    Some(format!(
        "the lock of epoch {epoch} was taken from this run; {holder} holds it now. Make sure that nothing else works here, then set \
         status.lock of Environment {} to {{epoch: {epoch}, holder: {{kind: {}, name: {}, uid: {}}}}}",
        target.name_any(),
        world.run.kind(),
        world.run.name(),
        world.uid()
    ))
}

/// Begins a step.
pub fn enter(world: &World<'_>, status: &mut RunStatus, step: &str, now: Timestamp) {
    steps::begin(&mut status.steps, step, now);
    status.phase = steps::phase_of(world.run, step);
    status.step = Some(step.to_owned());
    status.next = None;
}

/// What must still hold when the lock is about to be taken.
fn door(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus) -> Result<(), Failure> {
    let fail = |reason: &str, message: String| Err(Failure { step: steps::name::LOCK.into(), reason: reason.into(), message });
    let today = prepare::todays_plan(world, status).map_err(|message| Failure {
        step: steps::name::LOCK.into(),
        reason: "PlanChanged".into(),
        message,
    })?;
    if status.plan_hash.as_deref() != Some(&today.hash) {
        return fail(
            "PlanChanged",
            format!(
                "what runs in the target, or its Environment, has changed since this was approved: make the {} again",
                world.run.kind()
            ),
        );
    }
    if let Err(message) = alignment::consent(world) {
        return fail("GrantRevoked", message);
    }
    if let Some(message) = alignment::changed_since(status, &today.prior) {
        return fail("PlanChanged", message);
    }
    if let Some(message) = restore::unacknowledged(world, status) {
        return fail("DataLossNotAcknowledged", message);
    }
    if !prepare::granted(world, status) {
        return fail(
            "GrantRevoked",
            match world.run {
                Run::Promotion(_) => format!("{} no longer has the verb promote on the source", world.run.requester()),
                Run::Restore(_) => format!("{} no longer has the verb restore on this Environment", world.run.requester()),
                Run::Alignment(_) => format!("{} no longer has the verb align on the source", world.run.requester()),
            },
        );
    }
    if !approval::enough(&approval::count_of(world.run, &status.modifiers, &target.approvals, &today.hash, world.approvers)) {
        return fail("ApprovalWithdrawn", "approvals that counted do not count any more".into());
    }
    Ok(())
}

/// Before the terminal phase: what the Environment must remember, then the slot.
fn record_end(world: &World<'_>, status: RunStatus, phase: Phase, now: Timestamp) -> Decision<RunStatus> {
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
                until: undo.until.unwrap_or(after(at, std::time::Duration::from_secs(86_400))),
            });
        }
    }
}
