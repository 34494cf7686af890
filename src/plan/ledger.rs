//! The ledger of an Environment: runs that have ended in it. A run that is made again with the same name and spec, by a tool
//! that applies what is in git or by a restore of the cluster, does not run again.

use serde::Serialize;
use serde_json::Value;

use super::{
    Decision, Effect, lock, millis, release,
    world::{Run, World},
};
use crate::api::{Environment, EnvironmentStatus, Failure, Finished, Phase, RunStatus, Timestamp, conditions, reasons};

/// How many runs the ledger remembers. The first written go first.
const ROOM: usize = 256;

/// Fields that people add to a run later. What is applied again does not have them.
const ADDED_LATER: [&str; 5] = ["acknowledgeDataLossSince", "approvals", "cancel", "intervention", "modifiedBy"];

/// Hash of a run's spec without what people add to it later.
pub fn spec_hash(spec: &impl Serialize) -> String {
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, _| !ADDED_LATER.contains(&name.as_str()));
    }
    release::sha256(&value)
}

/// The same of a run of either kind.
pub fn hash_of(run: Run<'_>) -> String {
    match run {
        Run::Promotion(run) => spec_hash(&run.spec),
        Run::Restore(run) => spec_hash(&run.spec),
        Run::Alignment(run) => spec_hash(&run.spec),
    }
}

/// What the ledger says of a run.
pub fn entry<'a>(status: &'a EnvironmentStatus, (kind, name): (&str, &str), hash: &str) -> Option<&'a Finished> {
    status.finished.iter().rev().find(|f| f.kind == kind && f.name == name && f.spec_hash == hash)
}

/// Writes a run into the ledger, under each of its hashes. A run that was modified is known by what was asked first as well:
/// that is what stands in git.
pub fn write(status: &mut EnvironmentStatus, run: (&str, &str), hashes: [&str; 2], phase: &str, at: Timestamp) {
    for hash in hashes {
        if entry(status, run, hash).is_none() {
            let (kind, name) = (run.0.to_owned(), run.1.to_owned());
            status.finished.push(Finished { kind, name, spec_hash: hash.to_owned(), at, phase: phase.to_owned() });
        }
    }
    let surplus = status.finished.len().saturating_sub(ROOM);
    status.finished.drain(..surplus);
}

/// The write that puts a Promotion into the ledger. `None`: it is there. Nobody but this run can have written what it was
/// first asked for: it would have ended at once.
pub fn record(target: &Environment, world: &World<'_>, status: &RunStatus, phase: Phase, at: Timestamp) -> Option<Effect> {
    let (kind, name) = (world.run.kind(), world.run.name());
    let last = hash_of(world.run);
    let first = status.spec_hash.as_deref().unwrap_or(&last);
    let mut wanted = lock::status(target);
    if entry(&wanted, (kind, name), first).is_some() {
        return None;
    }
    write(&mut wanted, (kind, name), [first, &last], &phase.to_string(), at);
    Some(lock::set(target, wanted))
}

/// The end of a Promotion that has ended here before: the phase is the recorded one, so that what waits for it, a pipeline or a
/// GitOps tool, sees what became of it; the reason says that nothing was done. `None`: it is new here.
pub fn already_ran(world: &World<'_>, now: Timestamp) -> Option<Decision<RunStatus>> {
    let mut status = world.status();
    // From its plan on a run is known to be new; a failure on record is its own way to an end.
    if status.plan_hash.is_some() || status.failure.is_some() || status.phase != Phase::Scheduled {
        return None;
    }
    let (kind, name) = (world.run.kind(), world.run.name());
    let environment = world.target_status();
    let known = entry(&environment, (kind, name), &hash_of(world.run))?;
    status.phase = serde_json::from_value(Value::from(known.phase.clone())).unwrap_or(Phase::Cancelled);
    let message = format!(
        "{kind} {name} with this spec ended {} at {} in Environment {}; it does not run again. To bring the release once more, make another under a new name",
        known.phase,
        known.at,
        world.run.environment()
    );
    if status.phase != Phase::Completed {
        let (step, reason) = ("ledger".to_owned(), reasons::ALREADY_RAN.to_owned());
        status.failure = Some(Failure { step, reason, message: message.clone() });
    }
    (status.step, status.next) = (None, None);
    status.finished_at = Some(millis(known.at));
    let generation = world.run.metadata().generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    let completed = status.phase == Phase::Completed;
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, completed, reasons::ALREADY_RAN, &message, generation, now);
    conditions::set(list, conditions::RECONCILING, false, reasons::ALREADY_RAN, "", generation, now);
    conditions::set(list, conditions::STALLED, !completed, reasons::ALREADY_RAN, &message, generation, now);
    Some(Decision::Advance(Box::new(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_add_later_does_not_make_another_run() {
        let asked = serde_json::json!({"from": "a", "modules": ["x"]});
        let ended = serde_json::json!({"from": "a", "modules": ["x"], "approvals": [1], "cancel": {}, "intervention": {}, "modifiedBy": {}});
        assert_eq!(spec_hash(&asked), spec_hash(&ended));
        assert_ne!(spec_hash(&asked), spec_hash(&serde_json::json!({"from": "a"})));
    }

    #[test]
    fn the_ledger_forgets_the_oldest_and_knows_a_modified_run_by_both_its_specs() {
        let mut status = EnvironmentStatus::default();
        for i in 0..ROOM {
            write(&mut status, ("Promotion", &format!("r-{i}")), ["a", "a"], "Completed", Timestamp::UNIX_EPOCH);
        }
        assert_eq!(status.finished.len(), ROOM, "one entry where nothing was modified");
        write(&mut status, ("Promotion", "modified"), ["asked", "changed"], "Completed", Timestamp::UNIX_EPOCH);
        assert_eq!(status.finished.len(), ROOM);
        assert!(entry(&status, ("Promotion", "r-1"), "a").is_none() && entry(&status, ("Promotion", "r-2"), "a").is_some());
        assert!(["asked", "changed"].iter().all(|h| entry(&status, ("Promotion", "modified"), h).is_some()));
        assert!(entry(&status, ("EnvironmentRestore", "modified"), "asked").is_none());
    }
}
