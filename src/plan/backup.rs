//! What to do next for an EnvironmentBackup: dump into the repository, then prove it by a restore. Users work meanwhile.

use std::{collections::BTreeMap, time::Duration};

use kube::ResourceExt;

use super::{
    Decision, Effect, Progress,
    jobs::{JobFailure, JobProgress, look},
    lock, millis,
    opening::Opening,
    progress, volumes,
    world::{JobState, JobView, Settings, Side},
};
use crate::{
    api::{
        BackupPhase, Data, Environment, EnvironmentBackup, EnvironmentBackupStatus, FINALIZER, Failure, Timestamp, conditions,
        environment::LastBackup, reasons, size,
    },
    manifest::{
        Owner, job,
        task::{Task, Verb},
        volume,
    },
};

/// How long a dump or its proof may take.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);
/// How many times each is tried.
const ATTEMPTS: i32 = 3;

/// All that an EnvironmentBackup's decision rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct World<'a> {
    /// What the operator was told at its start.
    pub settings: &'a Settings,
    /// The backup, read in this turn.
    pub backup: &'a EnvironmentBackup,
    /// Its Environment, read in this turn.
    pub environment: Option<&'a Environment>,
    /// Jobs made for it.
    pub jobs: &'a BTreeMap<String, JobView>,
    /// Workloads, pods and claims of its namespace, where a volume is to be mounted.
    pub side: &'a Side,
    /// Admission policies or bindings that are missing.
    pub missing_policies: &'a [String],
    /// What the operator was refused in the namespace, with what mends it.
    pub refused: Option<&'a str>,
}

fn owner<'a>(world: &World<'a>) -> Owner<'a> {
    Owner::of("EnvironmentBackup", &world.backup.metadata)
}

/// What to do next.
pub fn plan(world: &World<'_>, now: Timestamp) -> Decision<EnvironmentBackupStatus> {
    let backup = world.backup;
    let mut status = backup.status.clone().unwrap_or_default();
    let finalizer = backup.finalizers().iter().any(|f| f == FINALIZER);
    let deleting = backup.metadata.deletion_timestamp.is_some();
    if deleting {
        if !finalizer {
            return Decision::Wait(None);
        }
        return match world.jobs.values().find(|j| !j.deleting) {
            Some(left) if world.refused.is_none() => Decision::Perform(delete(left)),
            _ => Decision::Perform(Effect::RemoveFinalizer),
        };
    }
    if status.phase.is_terminal() {
        return match world.jobs.values().find(|j| !j.deleting) {
            Some(left) => Decision::Perform(delete(left)),
            None if finalizer && world.jobs.is_empty() => Decision::Perform(Effect::RemoveFinalizer),
            None => Decision::Wait(None),
        };
    }
    if !finalizer {
        return Decision::Perform(Effect::AddFinalizer);
    }
    if let Some(refused) = world.refused {
        return hold(world, status, reasons::BLOCKED, refused, now);
    }
    if !world.missing_policies.is_empty() {
        return hold(world, status, "PoliciesMissing", &super::prepare::policies_message(world.missing_policies), now);
    }
    let Some(environment) = world.environment else {
        return hold(
            world,
            status,
            reasons::INVALID,
            &format!("Environment {} does not exist: apply it, or correct spec.environment", backup.spec.environment.name),
            now,
        );
    };
    let data = match chosen(environment, backup) {
        Ok(data) => data,
        Err(message) => {
            return fail(world, status, Failure { step: "backup".into(), reason: reasons::INVALID.into(), message }, now);
        }
    };
    let missing = if status.phase == BackupPhase::Pending { volumes::missing(&data, world.side) } else { Vec::new() };
    if let Some(missing) = missing.first() {
        return hold(world, status, reasons::BLOCKED, missing, now);
    }
    let Some(_) = &environment.spec.backups else {
        let message = format!("Environment {} names no repository: add spec.backups", environment.name_any());
        return fail(world, status, Failure { step: "backup".into(), reason: reasons::INVALID.into(), message }, now);
    };
    let begun = match status.phase {
        BackupPhase::Pending => false,
        // A Job that reads a view took it before the lock, or what it reads is refused by the fence. A Job that failed reads no
        // more, and kept nobody from the lock: the next one would read what a migration has half done, and waits as the first did.
        BackupPhase::Running => world
            .jobs
            .values()
            .any(|j| j.step == Verb::Backup.as_str() && matches!(j.state, JobState::Running | JobState::Succeeded)),
        _ => true,
    };
    if let (false, Some(holder)) = (begun, lock::status(environment).lock.and_then(|l| l.holder)) {
        let message =
            format!("waits for {} {}, which holds the lock: what is half changed is no backup", holder.kind, holder.name);
        return hold(world, status, "Locked", &message, now);
    }
    match status.phase {
        BackupPhase::Pending => {
            status.phase = BackupPhase::Running;
            status.started_at = Some(millis(now));
            advance(world, status, now)
        }
        BackupPhase::Running => match attempt(world, environment, &data, Verb::Backup, &status, now) {
            Ok(progress) => going(world, status, progress, now),
            Err(End::Failed(failure)) => fail(world, status, *failure, now),
            Err(End::Succeeded(outcome)) => {
                status.progress = outcome.progress.as_ref().and_then(|said| progress::told(said, now)).or(status.progress);
                let Some(done) = outcome.backup else {
                    let message = "the backup's Job said nothing of what it wrote".into();
                    return fail(world, status, Failure { step: "backup".into(), reason: "OutcomeLost".into(), message }, now);
                };
                status.snapshot = Some(done.snapshot);
                status.bytes = Some(done.bytes);
                status.size = Some(size::bytes(done.bytes));
                status.stored_bytes = Some(done.stored_bytes);
                status.rows = Some(done.rows);
                status.contents = done.contents;
                status.taken_at = done.taken_at.map(millis);
                status.phase = BackupPhase::Proving;
                advance(world, status, now)
            }
        },
        BackupPhase::Proving => match attempt(world, environment, &data, Verb::Prove, &status, now) {
            Ok(progress) => going(world, status, progress, now),
            Err(End::Failed(failure)) => fail(world, status, *failure, now),
            Err(End::Succeeded(outcome)) => {
                let at = millis(now);
                let snapshot = status.snapshot.clone().unwrap_or_default();
                let known = lock::status(environment);
                if known.last_backup.as_ref().is_none_or(|b| b.snapshot != snapshot) {
                    let mut wanted = known;
                    wanted.last_backup = Some(LastBackup { name: backup.name_any(), snapshot, proven_at: at });
                    return Decision::Perform(lock::set(environment, wanted));
                }
                status.progress = outcome.progress.as_ref().and_then(|said| progress::told(said, now)).or(status.progress);
                status.proven_at = known.last_backup.map(|b| b.proven_at);
                status.finished_at = Some(at);
                status.phase = BackupPhase::Completed;
                advance(world, status, now)
            }
        },
        BackupPhase::Completed | BackupPhase::Failed => Decision::Wait(None),
    }
}

fn delete(job: &JobView) -> Effect {
    Effect::Delete { resource: super::Resource::Job, name: job.name.clone(), uid: job.uid.clone(), grace: None }
}

fn chosen<'a>(environment: &'a Environment, backup: &EnvironmentBackup) -> Result<Vec<&'a Data>, String> {
    let all = &environment.spec.data;
    if all.is_empty() {
        return Err(format!("Environment {} has no data to back up", environment.name_any()));
    }
    match &backup.spec.data.names {
        None => Ok(all.iter().collect()),
        Some(names) => names
            .iter()
            .map(|n| {
                all.iter()
                    .find(|d| d.name == *n)
                    .ok_or_else(|| format!("data {n} is not in Environment {}", environment.name_any()))
            })
            .collect(),
    }
}

enum End {
    Succeeded(Box<crate::manifest::task::Outcome>),
    Failed(Box<Failure>),
}

/// The Job of a verb, tried again where that may help. Attempts are counted by the Jobs that are there: none goes before
/// the end.
fn attempt(
    world: &World<'_>,
    environment: &Environment,
    data: &[&Data],
    verb: Verb,
    status: &EnvironmentBackupStatus,
    now: Timestamp,
) -> Result<Progress, End> {
    let owner = owner(world);
    let step = verb.as_str();
    let mut task = Task::new(verb, owner, (environment.uid().unwrap_or_default(), &environment.name_any()));
    task.data = Task::data_of(data.iter().copied());
    task.volumes = Task::volumes_of(data.iter().copied());
    task.repository = true;
    task.snapshot = Some(world.backup.spec.reason.to_string());
    if verb == Verb::Prove {
        task.snapshot = status.snapshot.clone();
        task.proof = true;
    }
    // What is proven is what the repository holds.
    let mounts = match verb {
        Verb::Backup => volumes::mounts(&environment.spec, data, world.side, false),
        _ => volume::Mounts::default(),
    };
    let mut last: Option<JobFailure> = None;
    for attempt in 0..ATTEMPTS {
        let name = owner.object_name(step, attempt);
        let backups = environment.spec.backups.as_ref();
        let opening = Opening { owner, settings: world.settings, jobs: world.jobs, step: (step, attempt) };
        let make =
            || volume::mount(job::agent(owner, world.settings, (&name, step), &task, (data, backups), &[], DEADLINE), &mounts);
        let opened = opening.first(&task, backups, &mounts, now);
        match opened.unwrap_or_else(|| look(world.jobs, &name, true, now, make)) {
            JobProgress::Going(progress) => return Ok(progress),
            JobProgress::Succeeded(outcome) => return Err(End::Succeeded(Box::new(outcome.unwrap_or_default()))),
            JobProgress::Failed(failure) if failure.retryable => last = Some(failure),
            JobProgress::Failed(failure) => {
                last = Some(failure);
                break;
            }
        }
    }
    let last = last.unwrap_or(JobFailure {
        reason: "JobFailed".into(),
        message: "no attempt was made".into(),
        retryable: false,
        outcome: None,
    });
    Err(End::Failed(Box::new(Failure { step: step.to_owned(), reason: last.reason, message: last.message })))
}

/// While a Job is at work the status says how far it is.
fn going(
    world: &World<'_>,
    mut status: EnvironmentBackupStatus,
    progress: Progress,
    now: Timestamp,
) -> Decision<EnvironmentBackupStatus> {
    match progress {
        Progress::Do(effect) => Decision::Perform(effect),
        Progress::Waiting { until, .. } => {
            let at_work = world.jobs.values().find(|j| j.state == JobState::Running);
            match progress::of_backup(status.progress.as_ref(), at_work, now) {
                None => Decision::Wait(until),
                told => {
                    status.progress = told;
                    advance(world, status, now)
                }
            }
        }
        Progress::Done(_) | Progress::Retry(_) | Progress::Failed { .. } => Decision::Wait(None),
    }
}

fn fail(
    world: &World<'_>,
    mut status: EnvironmentBackupStatus,
    failure: Failure,
    now: Timestamp,
) -> Decision<EnvironmentBackupStatus> {
    status.phase = BackupPhase::Failed;
    status.finished_at = Some(millis(now));
    status.failure.get_or_insert(failure);
    advance(world, status, now)
}

fn advance(world: &World<'_>, mut status: EnvironmentBackupStatus, now: Timestamp) -> Decision<EnvironmentBackupStatus> {
    let generation = world.backup.metadata.generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    let (reason, message) = match (&status.failure, status.phase) {
        (Some(failure), _) => (failure.reason.clone(), failure.message.clone()),
        (None, BackupPhase::Completed) => ("Completed".into(), "a restore of it equalled the original".into()),
        (None, phase) => (format!("{phase:?}"), String::new()),
    };
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, status.phase == BackupPhase::Completed, &reason, &message, generation, now);
    conditions::set(
        list,
        conditions::RECONCILING,
        !status.phase.is_terminal(),
        &format!("{:?}", status.phase),
        "",
        generation,
        now,
    );
    conditions::set(list, conditions::STALLED, status.phase == BackupPhase::Failed, &reason, &message, generation, now);
    if world.backup.status.as_ref() == Some(&status) { Decision::Wait(None) } else { Decision::Advance(Box::new(status)) }
}

fn hold(
    world: &World<'_>,
    mut status: EnvironmentBackupStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Decision<EnvironmentBackupStatus> {
    let generation = world.backup.metadata.generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, false, reason, message, generation, now);
    conditions::set(list, conditions::RECONCILING, true, &format!("{:?}", status.phase), "", generation, now);
    conditions::set(list, conditions::STALLED, true, reason, message, generation, now);
    if world.backup.status.as_ref() == Some(&status) { Decision::Wait(None) } else { Decision::Advance(Box::new(status)) }
}
