//! What a run's status tells: its conditions, and in words how it goes on, or why it does not.

use crate::{
    api::{Phase, RunStatus, Timestamp, conditions, reasons},
    plan::{
        Decision, ledger,
        world::{Run, World},
    },
};

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
