//! The slot and the lock of an Environment: who may take them, and what the status is then. Both are taken and given
//! back by compare and swap on the Environment's status.

use kube::ResourceExt;

use super::{Effect, millis};
use crate::api::{Environment, EnvironmentStatus, Lock, RunRef, Timestamp};

/// A write of the Environment's status, guarded by the resourceVersion that was read.
pub fn set(environment: &Environment, status: EnvironmentStatus) -> Effect {
    Effect::SetEnvironment {
        name: environment.name_any(),
        resource_version: environment.resource_version().unwrap_or_default(),
        status: Box::new(status),
    }
}

/// The Environment's status as read.
pub fn status(environment: &Environment) -> EnvironmentStatus {
    environment.status.clone().unwrap_or_default()
}

/// Whether this run has the slot.
pub fn has_slot(environment: &Environment, uid: &str) -> bool {
    status(environment).active.is_some_and(|a| a.uid == uid)
}

/// Whether this run holds the lock with this epoch.
pub fn holds(environment: &Environment, uid: &str, epoch: i64) -> bool {
    status(environment).lock.is_some_and(|l| l.epoch == epoch && l.holder.is_some_and(|h| h.uid == uid))
}

/// Takes the slot where it is free. `Err`: who has it.
pub fn take_slot(environment: &Environment, run: &RunRef) -> Result<Effect, RunRef> {
    let mut status = status(environment);
    match &status.active {
        Some(other) if other.uid != run.uid => Err(other.clone()),
        _ => {
            status.active = Some(run.clone());
            Ok(set(environment, status))
        }
    }
}

/// The epoch that the next lock takes: one more than any seen, here or in the data's control databases.
pub fn next_epoch(environment: &Environment, minimum: Option<i64>) -> i64 {
    let here = status(environment).lock.map_or(0, |l| l.epoch);
    here.max(minimum.unwrap_or(0)) + 1
}

/// Takes the lock where it is free. `Err`: who holds it.
pub fn take(environment: &Environment, run: &RunRef, epoch: i64, now: Timestamp) -> Result<Effect, RunRef> {
    let mut status = status(environment);
    if let Some(other) = status.lock.as_ref().and_then(|l| l.holder.as_ref()).filter(|h| h.uid != run.uid) {
        return Err(other.clone());
    }
    status.lock = Some(Lock { epoch, holder: Some(run.clone()), since: Some(millis(now)) });
    Ok(set(environment, status))
}

/// Gives the lock back; the epoch stays. `None`: this run does not hold it, so there is nothing to give.
pub fn give_back(environment: &Environment, uid: &str) -> Option<Effect> {
    let mut status = status(environment);
    let lock = status.lock.as_mut()?;
    if lock.holder.as_ref().is_none_or(|h| h.uid != uid) {
        return None;
    }
    lock.holder = None;
    lock.since = None;
    Some(set(environment, status))
}

/// Gives the slot back. `None`: this run does not have it.
pub fn give_back_slot(environment: &Environment, uid: &str) -> Option<Effect> {
    let mut status = status(environment);
    if status.active.as_ref().is_none_or(|a| a.uid != uid) {
        return None;
    }
    status.active = None;
    Some(set(environment, status))
}
