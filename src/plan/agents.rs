//! The agent's Jobs of a run: on its data, and its checks by HTTP. Some are made before their turn, and their pods wait at a
//! gate; a pod's start costs more than most of what they do, and users wait.

use std::{collections::BTreeSet, time::Duration};

use kube::ResourceExt;

use super::{
    Effect, Progress, alignment, forward,
    jobs::{JobProgress, look},
    maintenance, migration, moved, preflight,
    promotion::{ATTEMPTS, owner},
    restore, rollback, steps,
    steps::name,
    volumes,
    world::World,
};
use crate::{
    api::{Data, EnvironmentSpec, Exchange, HttpCheck, RunStatus, Step, Timestamp, UndoMethod, Verification, labels},
    manifest::{
        Owner, job, patch,
        task::{OwnTask, S3Task, Task, Verb},
        volume,
    },
};

/// How long the agent's work under the lock may take.
pub const DATA_DEADLINE: Duration = Duration::from_secs(3600);
/// The same where data goes into the repository or comes out of it.
const REPOSITORY_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// Makes Jobs of the agent before their turn, in steps that take their time; they wait at their gates. The fence's while
/// users still work, the checks' and the last one's while the migration runs and the new workloads start.
pub fn ahead(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus, step: &Step) -> Option<Effect> {
    let owner = owner(world);
    let wanted: &[&str] = match steps::kind(&step.name) {
        name::PAGE => &[name::FENCE],
        name::MIGRATION => &[name::ADMIT, name::VERIFY, name::RELEASE],
        name::LOAD | name::WORKLOADS | name::OTHERS | name::VERIFY => &[name::VERIFY, name::RELEASE],
        _ => return None,
    };
    let later = status.steps.iter().skip_while(|s| s.name != step.name).skip(1);
    later.filter(|s| wanted.contains(&steps::kind(&s.name))).find_map(|next| {
        if world.jobs.contains_key(&owner.object_name(&next.name, next.attempt)) {
            return None;
        }
        match steps::kind(&next.name) {
            name::FENCE => Some(make_data_job(world, target, owner, next, (Verb::Fence, None), Vec::new())),
            name::ADMIT => Some(make_data_job(world, target, owner, next, (Verb::Admit, None), Vec::new())),
            name::RELEASE => Some(make_data_job(world, target, owner, next, (Verb::Release, None), Vec::new())),
            _ => {
                let check = target.verification.iter().find(|v| *v.name == *steps::subject(&next.name))?;
                Some(http_check(world, owner, next, (check, check.http.as_ref()?), true))
            }
        }
    })
}

/// The gate of a step's Job, where its pod waits for its turn: to be opened.
fn opens(world: &World<'_>, job: &str, epoch: i64, addresses: &[String]) -> Option<Progress> {
    let gate = world.jobs.get(job)?.gate.as_ref().filter(|g| !g.open)?;
    Some(Progress::Do(patch::open_gate(gate, epoch, addresses)))
}

/// A Job of the agent on all data of the environment, under the run's epoch.
pub fn data_job(
    world: &World<'_>,
    target: &EnvironmentSpec,
    owner: Owner<'_>,
    step: &Step,
    (verb, epoch): (Verb, i64),
    now: Timestamp,
) -> Progress {
    let name = owner.object_name(&step.name, step.attempt);
    let addresses = if steps::kind(&step.name) == name::RELEASE { own_addresses(world, target, owner) } else { Vec::new() };
    if let Some(opening) = opens(world, &name, epoch, &addresses) {
        return opening;
    }
    let make = || make_data_job(world, target, owner, step, (verb, Some(epoch)), addresses);
    match look(world.jobs, &name, true, now, make) {
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(outcome) => {
            let notes = outcome.map(|o| o.notes).unwrap_or_default();
            Progress::Done((!notes.is_empty()).then(|| notes.join("; ")))
        }
        JobProgress::Failed(failure) => failure.into_progress(step.attempt, ATTEMPTS),
    }
}

/// Addresses of the pods whose sessions belong in the databases: of the modules' workloads, and of the run's own Jobs.
fn own_addresses(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>) -> Vec<String> {
    let side = world.target_side;
    let workloads = target.modules.iter().flat_map(|m| &m.workloads).filter_map(|w| side.find(w));
    let of_run = side.pods.iter().filter(|p| p.labels().get(labels::RUN).is_some_and(|v| v == owner.uid));
    let all = workloads.flat_map(|w| side.pods_of(w)).chain(of_run);
    all.filter_map(|p| p.status.as_ref()?.pod_ip.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Without an epoch the Job waits at its gate, where it is told.
fn make_data_job(
    world: &World<'_>,
    target: &EnvironmentSpec,
    owner: Owner<'_>,
    step: &Step,
    (verb, epoch): (Verb, Option<i64>),
    addresses: Vec<String>,
) -> Effect {
    let data = if verb == Verb::Rollback { rollback::data(world, target) } else { restore::data(world, target) };
    // What undoes an alignment is this environment's own: in its own repository, and never in the exchange.
    let takes = world.run.alignment().is_some() && verb != Verb::Rollback;
    let exchange = target.exchange.as_ref().filter(|_| takes).map(Exchange::place);
    let backups = exchange.as_ref().or(target.backups.as_ref()).filter(|_| needs_repository(world, target, (verb, &data)));
    let own = target.backups.as_ref().filter(|_| takes && verb == Verb::Restore && data.iter().any(|d| d.volume.is_some()));
    let mut task = preflight::task(world, owner, verb);
    task.covered_addresses = addresses;
    task.data = Task::data_of(data.iter().copied());
    task.volumes = Task::volumes_of(data.iter().copied());
    moved::mark(&world.status(), &mut task);
    if matches!(verb, Verb::Fence | Verb::Undo | Verb::Admit) {
        migration::fill(world, target, &mut task);
    }
    task.epoch = epoch;
    task.gated = epoch.is_none();
    task.then = (verb == Verb::Fence && world.run.promotion().is_some()).then_some(Verb::Undo);
    task.repository = backups.is_some();
    task.own = own.map(|place| OwnTask { s3: place.repository.s3.as_ref().map(S3Task::of) });
    match verb {
        Verb::Restore => {
            restore::fill(world, &mut task);
            alignment::fill(world, &mut task);
        }
        Verb::Rollback => {
            // What it had taken from aside goes aside again.
            task.databases = restore::taken(world);
            let undo = world.status().undo;
            for volume in &mut task.volumes {
                volume.undo = undo.iter().find(|u| u.data == volume.name).and_then(|u| u.snapshot.clone());
            }
        }
        _ => {}
    }
    let deadline = if task.repository { REPOSITORY_DEADLINE } else { DATA_DEADLINE };
    let name = owner.object_name(&step.name, step.attempt);
    let mounts = match verb {
        Verb::Undo | Verb::Restore | Verb::Rollback => volumes::mounts(target, &data, world.target_side, verb != Verb::Undo),
        _ => volume::Mounts::default(),
    };
    let mut job = job::agent(owner, world.settings, (&name, &step.name), &task, (&data, backups), &[], deadline);
    if let Some(own) = own {
        job = job::with_own_repository(job, own);
    }
    volume::mount(job, &mounts)
}

/// The Job that asks a URL. `gated`: it waits for its turn.
fn http_check(
    world: &World<'_>,
    owner: Owner<'_>,
    step: &Step,
    (check, http): (&Verification, &HttpCheck),
    gated: bool,
) -> Effect {
    let mut task = preflight::task(world, owner, Verb::Http);
    task.data = Vec::new();
    task.repository = false;
    task.gated = gated;
    task.url = Some(http.url.to_string());
    task.expect_status = Some(http.expect_status);
    task.timeout_seconds = Some(check.timeout().as_secs());
    // The agent ends by itself at the timeout; the Job's deadline only catches a pod that hangs.
    let deadline = check.timeout() + if gated { DATA_DEADLINE } else { Duration::from_secs(30) };
    let aliases = maintenance::aliases(world, owner);
    let name = owner.object_name(&step.name, step.attempt);
    job::agent(owner, world.settings, (&name, &step.name), &task, (&[], None), &aliases, deadline)
}

/// Whether a Job under the lock reads or writes the repository. Its volume is not mounted needlessly: a pod may have to wait for
/// one, and so would users.
fn needs_repository(world: &World<'_>, target: &EnvironmentSpec, (verb, data): (Verb, &[&Data])) -> bool {
    let status = world.status();
    let cloned = |d: &Data| {
        d.undo.method == UndoMethod::Clone
            || status.undo.iter().any(|u| u.data == *d.name && u.snapshot.is_none())
            // What the fence's pod cloned, while volumes still waited for theirs.
            || forward::fenced_outcome(world, &status)
                .is_some_and(|o| o.aside.iter().any(|a| a.data == *d.name && a.snapshot.is_none()))
    };
    let only_clones = target.data.iter().filter(|d| d.postgres.is_some()).all(cloned);
    // The undo point of a volume is a snapshot, whatever the run.
    let volumes = data.iter().any(|d| d.volume.is_some());
    match verb {
        Verb::Undo | Verb::Restore | Verb::Rollback if volumes => true,
        Verb::Restore => status.snapshot.is_some(),
        Verb::Undo => target.data.iter().any(|d| d.undo.method != UndoMethod::Clone),
        // What undoes a restore is today's database, aside.
        Verb::Rollback => world.run.promotion().is_some() && !only_clones,
        _ => false,
    }
}

/// What a check of the environment has come to.
pub fn verify(
    world: &World<'_>,
    target: &EnvironmentSpec,
    owner: Owner<'_>,
    step: &Step,
    epoch: i64,
    now: Timestamp,
) -> Progress {
    let Some(check) = target.verification.iter().find(|v| *v.name == *steps::subject(&step.name)) else {
        return Progress::Done(None);
    };
    let name = owner.object_name(&step.name, step.attempt);
    let aliases = maintenance::aliases(world, owner);
    let Verification { job: by_job, http, .. } = check;
    let timeout = check.timeout();
    let (made, agent) = match (by_job, http) {
        (Some(by_job), _) => match job::check(owner, (&name, &step.name), &by_job.template, &aliases, timeout) {
            Ok(made) => (made, false),
            Err(why) => {
                return Progress::failed(
                    "CheckInvalid",
                    format!("verification {}: its template is not a pod's: {why}", check.name),
                );
            }
        },
        (None, Some(http)) => {
            if let Some(opening) = opens(world, &name, epoch, &[]) {
                return opening;
            }
            (http_check(world, owner, step, (check, http), false), true)
        }
        (None, None) => return Progress::Done(None),
    };
    match look(world.jobs, &name, agent, now, || made) {
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(_) => Progress::Done(None),
        // Of the agent's own check something outside was in the way where it said nothing: evicted, or no room beside the
        // migration's pod when it was made ahead.
        JobProgress::Failed(failure) if agent && failure.outcome.is_none() && step.attempt + 1 < ATTEMPTS => {
            Progress::Retry(failure.message)
        }
        JobProgress::Failed(failure) => {
            Progress::failed("VerificationFailed", format!("check {}: {}", check.name, failure.message))
        }
    }
}
