//! What to do next for an Environment: say whether it is ready and what runs in it, drop databases whose time is over, and
//! free a slot whose run is gone.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::{
    Decision, Effect, Progress, environment_backups, environment_grants, graph,
    history::{self, Record},
    intervention,
    jobs::{JobProgress, look},
    ledger, lock, maintenance, modules,
    release::{self, Reading},
    volumes,
    world::{JobState, JobView, Settings, Side},
};
use crate::{
    api::{
        ENVIRONMENT_FINALIZER, Environment, EnvironmentBackup, EnvironmentRestore, EnvironmentStatus, MaskingPolicy, Module,
        Release, Timestamp, conditions, environment::Kept, labels, reasons,
    },
    delivery,
    manifest::{
        Owner, job,
        task::{DropTask, Task, Verb},
    },
};

/// How long dropping databases may take.
const DROP_DEADLINE: Duration = Duration::from_secs(600);

/// All that an Environment's decision rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct World<'a> {
    /// What the operator was told at its start.
    pub settings: &'a Settings,
    /// The Environment, read in this turn.
    pub environment: &'a Environment,
    /// The other Environments of its namespace.
    pub others: &'a [String],
    /// Objects of its namespace.
    pub side: &'a Side,
    /// Jobs made for it.
    pub jobs: &'a BTreeMap<String, JobView>,
    /// UIDs of the runs that exist in its namespace, of every kind for which something is made: asked after all else here.
    pub runs: &'a [String],
    /// The backups of its namespace.
    pub backups: &'a [EnvironmentBackup],
    /// The restores of its namespace.
    pub restores: &'a [EnvironmentRestore],
    /// The MaskingPolicies of its namespace.
    pub policies: &'a [MaskingPolicy],
    /// Copies of configuration from before runs, which undoing one would bring back.
    pub copies: &'a [ConfigMap],
    /// What is there that was made for some run.
    pub made: &'a [Made],
    /// Those of them that have ended, and may go.
    pub records: &'a [Record],
    /// Admission policies or bindings that are missing.
    pub missing_policies: &'a [String],
    /// What the operator was refused in the namespace, with what mends it.
    pub refused: Option<&'a str>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
}

/// An object that was made for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its resource.
    pub resource: super::Resource,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UID of the run.
    pub run: String,
}

/// What a run has left that went without its finalizer: nothing else takes it away. As long as such a run holds the lock, its
/// page and its copies are what a person puts the environment right with.
fn stray<'a>(world: &World<'a>, status: &EnvironmentStatus) -> Option<&'a Made> {
    let gone = |uid: &String| !world.runs.contains(uid);
    if status.lock.as_ref().and_then(|l| l.holder.as_ref()).is_some_and(|h| gone(&h.uid)) {
        return None;
    }
    world.made.iter().find(|m| gone(&m.run) && m.run != owner(world).uid)
}

fn owner<'a>(world: &World<'a>) -> Owner<'a> {
    Owner::of("Environment", &world.environment.metadata)
}

/// What to do next.
pub fn plan(world: &World<'_>, now: Timestamp) -> Decision<EnvironmentStatus> {
    let environment = world.environment;
    let deleting = environment.metadata.deletion_timestamp.is_some();
    let finalizer = environment.finalizers().iter().any(|f| f == ENVIRONMENT_FINALIZER);
    if deleting {
        return leave(world, finalizer, now);
    }
    if world.refused.is_none() && !finalizer && !environment.spec.data.is_empty() {
        return Decision::Perform(Effect::AddFinalizer);
    }
    let mut status = lock::status(environment);
    // What goes on beside must not keep conditions, history and the rest from going on.
    let mut beside = None;
    if world.refused.is_none() {
        if let Some(active) = &status.active
            && !world.runs.contains(&active.uid)
            && status.lock.as_ref().is_none_or(|l| l.holder.is_none())
        {
            status.active = None;
            return Decision::Advance(Box::new(status));
        }
        match drop_kept(world, &status, now) {
            Some(Ok(progress)) => match progress {
                Progress::Do(effect) => return Decision::Perform(effect),
                Progress::Waiting { until, .. } => beside = until,
                _ => {}
            },
            Some(Err(dropped)) => {
                status.kept.retain(|k| !dropped.contains(k));
                return Decision::Advance(Box::new(status));
            }
            None => {
                if let Some(effect) = needless_copy(world, &status) {
                    return Decision::Perform(effect);
                }
                let wanted = environment_backups::scheduled(world, &status, now);
                let mut at_work = false;
                match wanted.or_else(|| environment_backups::retained(world, &status, now)) {
                    Some(Decision::Wait(until)) => (at_work, beside) = (true, until),
                    Some(decision) => return decision,
                    None => {}
                }
                if let Some(left) = world.jobs.values().find(|j| !at_work && !j.deleting) {
                    return Decision::Perform(Effect::Delete {
                        resource: super::Resource::Job,
                        name: left.name.clone(),
                        uid: left.uid.clone(),
                        grace: None,
                    });
                }
            }
        }
        if let Some(stray) = stray(world, &status) {
            let (name, uid) = (stray.name.clone(), stray.uid.clone());
            return Decision::Perform(Effect::Delete { resource: stray.resource, name, uid, grace: None });
        }
    }
    let modules: Vec<&Module> = environment.spec.modules.iter().collect();
    // While locked workloads are down on purpose: what ran before stays on record until users are back.
    let locked = status.lock.as_ref().is_some_and(|l| l.holder.is_some());
    let read = release::read(owner(world).namespace, &environment.spec, world.side, &modules, &[], Reading::Exact);
    if let (Ok(release), false) = (&read, locked) {
        status.release = Some(release.clone());
    }
    status.short_release = status.release.as_ref().map(Release::short);
    let problems = problems(world, &status, read.err());
    let generation = environment.metadata.generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    let (reason, message) = match problems.first() {
        None => (reasons::READY.to_owned(), "nothing is missing".to_owned()),
        Some((reason, _)) => (reason.clone(), problems.iter().map(|(_, m)| m.as_str()).collect::<Vec<_>>().join("; ")),
    };
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, problems.is_empty(), &reason, &message, generation, now);
    conditions::set(list, conditions::RECONCILING, false, reasons::READY, "", generation, now);
    conditions::set(
        list,
        conditions::STALLED,
        !problems.is_empty(),
        &reason,
        if problems.is_empty() { "" } else { &message },
        generation,
        now,
    );
    environment_grants::tell(world, &mut status, generation, now);
    let history = &environment.spec.history;
    // While a run is at work, a backup that failed is its to read.
    let failed = if status.active.is_none() { history::failed_backups(world.backups) } else { Vec::new() };
    let surplus = history::surplus(world.records, history, now).or_else(|| history::surplus(&failed, history, now));
    if let Some(record) = surplus
        && let Some([first, last]) = &record.hashes
    {
        // What a tool applies again must be known before it goes.
        ledger::write(&mut status, (record.kind, &record.name), [first, last], &record.phase, record.ended);
    }
    if environment.status.as_ref() != Some(&status) {
        return Decision::Advance(Box::new(status));
    }
    match surplus {
        Some(record) => Decision::Perform(history::delete(record)),
        None => Decision::Wait(
            status
                .kept
                .iter()
                .map(|k| k.until)
                .filter(|at| *at > now)
                .chain(beside)
                .chain(history::next(world.records, history))
                .chain(history::next(&failed, history))
                .chain(environment_backups::next(world, &status))
                .min(),
        ),
    }
}

/// What keeps the Environment from being ready: reason and sentence.
fn problems(world: &World<'_>, status: &EnvironmentStatus, unread: Option<String>) -> Vec<(String, String)> {
    let environment = world.environment;
    let mut out: Vec<(String, String)> = Vec::new();
    let mut add = |reason: &str, message: String| out.push((reason.to_owned(), message));
    if let Some(refused) = world.refused {
        add("RightsMissing", refused.to_owned());
        return out;
    }
    if !world.missing_policies.is_empty() {
        add("PoliciesMissing", super::prepare::policies_message(world.missing_policies));
    }
    if !world.others.is_empty() {
        add(
            reasons::INVALID,
            format!("one namespace is one environment, but {} is here as well: delete one", world.others.join(", ")),
        );
    }
    if let Some(holder) = status.lock.as_ref().and_then(|l| l.holder.as_ref()).filter(|h| !world.runs.contains(&h.uid)) {
        add(
            "LockHolderGone",
            format!(
                "{} {} held the lock and is gone: put workloads and Services back from their annotation {}, then clear status.lock.holder and status.active (README.md, \"Going on by hand\")",
                holder.kind,
                holder.name,
                crate::api::annotations::FOUND
            ),
        );
    }
    if let Some(claim) = environment.spec.backups.as_ref().and_then(|b| b.repository.volume.as_ref()).map(|v| &v.claim.name)
        && !world.side.claims.iter().any(|c| *c == **claim)
    {
        add("ClaimMissing", format!("PersistentVolumeClaim {claim} of backups.repository does not exist: make it"));
    }
    let data: Vec<_> = environment.spec.data.iter().collect();
    for missing in volumes::missing(&data, world.side) {
        add("ClaimMissing", missing);
    }
    for problem in graph::problems(environment, &world.settings.namespace) {
        add(reasons::INVALID, problem);
    }
    if let Err(message) = modules::in_order(&environment.spec) {
        add(reasons::INVALID, message);
    }
    if let Some(problem) = environment_backups::problem(world) {
        add(reasons::INVALID, problem);
    }
    for workload in environment.spec.modules.iter().flat_map(|m| &m.workloads) {
        let Some(found) = world.side.find(workload) else { continue };
        for refusal in found.refuse().into_iter().chain(delivery::direct::refuse(found, &world.side.owners)) {
            add("WorkloadRefused", refusal);
        }
    }
    for refusal in maintenance::services(&environment.spec, world.side).into_iter().filter_map(maintenance::refuse_service) {
        add("ServiceRefused", refusal);
    }
    let locked = status.lock.as_ref().is_some_and(|l| l.holder.is_some());
    for workload in world.side.workloads().filter(|_| !locked) {
        if let Some(found) = maintenance::found_workload(workload) {
            let what = intervention::stopped(workload, found.values, owner(world).namespace);
            add("LeftStopped", format!("a run that was given up or lost has left this: {what}"));
        }
    }
    if let (Some(unread), false) = (unread, locked) {
        add("ReleaseUnknown", unread);
    }
    out
}

/// Drops the databases and snapshots aside whose time is over. `Ok`: on its way; `Err`: these are gone.
fn drop_kept(world: &World<'_>, status: &EnvironmentStatus, now: Timestamp) -> Option<Result<Progress, Vec<Kept>>> {
    let due: Vec<_> = status.kept.iter().filter(|k| k.until <= now).collect();
    let at = due.first()?.until.as_second();
    // A run that holds the lock may still need them.
    if status.lock.as_ref().is_some_and(|l| l.holder.is_some()) {
        return None;
    }
    let (databases, snapshots): (Vec<Kept>, Vec<Kept>) = due.into_iter().cloned().partition(|k| k.snapshot.is_none());
    let (gone, job) = if databases.is_empty() {
        let remove = snapshots.iter().filter_map(|k| k.snapshot.clone()).collect();
        let edit = |task: &mut Task| {
            task.repository = true;
            task.data = Vec::new();
            task.remove = remove;
        };
        let job = agent_job(world, (Verb::Prune, &format!("drop-snapshots-{at}")), now, edit);
        (snapshots, job)
    } else {
        let aside = databases.iter().map(|k| DropTask { data: k.data.clone(), database: k.database.clone() }).collect();
        let job = agent_job(world, (Verb::Drop, &format!("drop-{at}")), now, |task| task.databases = aside);
        (databases, job)
    };
    Some(match job {
        JobProgress::Going(progress) => Ok(progress),
        JobProgress::Succeeded(_) => Err(gone),
        JobProgress::Failed(failure) => Ok(next_hour(failure.message, now)),
    })
}

/// The next copy of configuration that no undo point needs any more, of a run that has ended.
fn needless_copy(world: &World<'_>, status: &EnvironmentStatus) -> Option<Effect> {
    let holder = status.lock.as_ref().and_then(|l| l.holder.as_ref());
    let needed =
        |uid: &str| status.kept.iter().map(|k| &k.run).chain(status.active.as_ref()).chain(holder).any(|run| run.uid == *uid);
    let of = |c: &ConfigMap| c.labels().get(labels::RUN).cloned().unwrap_or_default();
    let copy = world.copies.iter().find(|c| c.metadata.deletion_timestamp.is_none() && !needed(&of(c)))?;
    Some(Effect::Delete {
        resource: super::Resource::ConfigMap,
        name: copy.name_any(),
        uid: copy.uid().unwrap_or_default(),
        grace: None,
    })
}

fn next_hour(what: String, now: Timestamp) -> Progress {
    Progress::Waiting { what, until: Timestamp::from_second((now.as_second() / 3600 + 1) * 3600).ok() }
}

/// A Job of the agent for the Environment itself. The repository is mounted where the task says so.
pub fn agent_job(world: &World<'_>, (verb, step): (Verb, &str), now: Timestamp, edit: impl FnOnce(&mut Task)) -> JobProgress {
    let owner = owner(world);
    let spec = &world.environment.spec;
    // One attempt an hour: a server that is away must not be asked without end.
    let hour = now.as_second() / 3600 % 1_000_000;
    let attempt = i32::try_from(hour).unwrap_or(0);
    // One of an earlier hour that has not failed is still the one to look at: two at once would be in each other's way.
    let label = owner.labels(step).remove(labels::STEP);
    let known = world.jobs.values().find(|j| Some(&j.step) == label.as_ref() && !matches!(j.state, JobState::Failed(_)));
    let name = known.map_or_else(|| owner.object_name(step, attempt), |j| j.name.clone());
    let mut task = Task::new(verb, owner, (owner.uid.to_owned(), owner.name));
    task.data = Task::data_of(&spec.data);
    edit(&mut task);
    let data: Vec<_> = spec.data.iter().filter(|d| task.data.iter().any(|t| t.name == *d.name)).collect();
    let backups = spec.backups.as_ref().filter(|_| task.repository || task.proof);
    let make = || job::agent(owner, world.settings, (&name, step), &task, (&data, backups), &[], DROP_DEADLINE);
    look(world.jobs, &name, true, now, make)
}

/// The Environment is being deleted: its control databases go with it, where that is still possible.
fn leave(world: &World<'_>, finalizer: bool, now: Timestamp) -> Decision<EnvironmentStatus> {
    if !finalizer {
        return Decision::Wait(None);
    }
    let status = lock::status(world.environment);
    if let Some(holder) = status.lock.as_ref().and_then(|l| l.holder.as_ref())
        && world.runs.contains(&holder.uid)
        && !world.terminating
    {
        return Decision::Wait(None);
    }
    if world.terminating || world.refused.is_some() || world.environment.spec.data.is_empty() {
        return Decision::Perform(Effect::RemoveFinalizer);
    }
    let aside = status.kept.iter().filter(|k| k.snapshot.is_none());
    let aside = aside.map(|k| DropTask { data: k.data.clone(), database: k.database.clone() }).collect();
    let edit = |task: &mut Task| (task.databases, task.proof) = (aside, true);
    match agent_job(world, (Verb::Forget, "forget"), now, edit) {
        JobProgress::Going(Progress::Do(effect)) => Decision::Perform(effect),
        JobProgress::Going(_) => Decision::Wait(None),
        // Whether done or not possible: an Environment whose server is gone must not stay for ever.
        JobProgress::Succeeded(_) | JobProgress::Failed(_) => Decision::Perform(Effect::RemoveFinalizer),
    }
}
