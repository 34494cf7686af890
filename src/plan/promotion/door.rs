//! The door: what must still hold when the lock is about to be taken, and that it is held afterwards.

use kube::ResourceExt;

use crate::{
    api::{Environment, EnvironmentSpec, Failure, RunStatus, Step},
    plan::{
        alignment, approval, intervention, lock, prepare, restore, steps,
        world::{Run, World},
    },
};

/// That a run which took the lock does not hold it any more: somebody took it away by hand, or the Environment was made
/// again. Another run may work here by now, so this one changes nothing until it holds the lock again.
pub(super) fn lock_lost(world: &World<'_>, target: &Environment, status: &RunStatus, step: &Step) -> Option<String> {
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

/// What must still hold when the lock is about to be taken.
pub(super) fn door(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus) -> Result<(), Failure> {
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
