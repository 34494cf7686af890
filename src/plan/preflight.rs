//! What is checked before anyone is locked out. Part of it is read from objects here; what needs a database, a repository
//! or a node is asked by two Jobs: one of the agent, and one for each workload that only pulls images.

use std::{collections::BTreeMap, time::Duration};

use kube::ResourceExt;

use super::{
    Progress, after,
    jobs::{JobProgress, look},
    maintenance, migration, modules,
    opening::Opening,
    release, restore, volumes,
    workload::Workload,
    world::{JobState, World},
};
use crate::{
    api::{Check, EnvironmentSpec, Release, Timestamp, WorkloadKind, WorkloadRef},
    delivery,
    manifest::{
        Owner, job, page,
        task::{BackupOutcome, Task, Verb},
        volume,
    },
};

/// How long the agent's checks may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// The same where every file of a volume is looked at.
const FILES_DEADLINE: Duration = Duration::from_secs(900);
/// How long images may take to be pulled.
const PULL_DEADLINE: Duration = Duration::from_secs(600);

/// What preflight has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Preflight {
    /// Not ended.
    Going(Progress),
    /// All was asked.
    Ended {
        /// The answers.
        checks: Vec<Check>,
        /// The greatest epoch in the control databases.
        control_epoch: Option<i64>,
        /// By data, what tells its database from others.
        marks: BTreeMap<String, String>,
        /// Of a restore from the repository: the snapshot as it was found.
        snapshot: Option<BackupOutcome>,
    },
}

/// A task with what every verb needs.
pub fn task(world: &World<'_>, owner: Owner<'_>, verb: Verb) -> Task {
    let (uid, name) = world.target.map(|t| (t.uid().unwrap_or_default(), t.name_any())).unwrap_or_default();
    let mut task = Task::new(verb, owner, (uid, &name));
    task.data = world.target.map(|t| Task::data_of(&t.spec.data)).unwrap_or_default();
    task.repository = world.target.is_some_and(|t| t.spec.backups.is_some());
    task
}

/// Asks everything, as the given attempt.
pub fn run(
    world: &World<'_>,
    owner: Owner<'_>,
    spec: &EnvironmentSpec,
    wanted: &Release,
    (step, attempt): (&str, i32),
    now: Timestamp,
) -> Preflight {
    let mut checks = objects(world, spec, wanted);
    let (mut control_epoch, mut marks, mut snapshot) = (None, BTreeMap::new(), None);
    if !spec.data.is_empty() {
        let name = owner.object_name(step, attempt);
        let mut task = task(world, owner, Verb::Preflight);
        task.max_transaction_age_seconds = spec.preflight.max_transaction_age.get().map(|d| d.as_secs());
        task.minimum_free_factor = Some(spec.preflight.minimum_free_factor);
        task.covered_addresses = covered_addresses(world, spec);
        // Of these runs a Promotion alone makes a backup first.
        task.proof = world.run.promotion().is_some();
        migration::fill(world, spec, &mut task);
        restore::fill(world, &mut task);
        let data: Vec<_> = spec.data.iter().collect();
        let chosen = restore::data(world, spec);
        task.volumes = Task::volumes_of(chosen.iter().copied());
        let mounts = volumes::mounts(spec, &chosen, world.target_side, false);
        let deadline = if mounts.claims.is_empty() { DEADLINE } else { FILES_DEADLINE };
        let opening = Opening { owner, settings: world.settings, jobs: world.jobs, step: (step, attempt) };
        let opened = opening.first(&task, spec.backups.as_ref(), &mounts, now);
        if let Some(JobProgress::Failed(failure)) = opened {
            checks.push(failed("repository", failure.message));
            return Preflight::Ended { checks, control_epoch, marks, snapshot };
        }
        let make = || {
            let job = job::agent(owner, world.settings, (&name, step), &task, (&data, spec.backups.as_ref()), &[], deadline);
            volume::mount(job, &mounts)
        };
        match opened.unwrap_or_else(|| look(world.jobs, &name, true, now, make)) {
            JobProgress::Going(progress) => return Preflight::Going(progress),
            JobProgress::Succeeded(outcome) => {
                let outcome = outcome.unwrap_or_default();
                control_epoch = outcome.control_epoch;
                marks = outcome.marks;
                checks.extend(outcome.checks);
                if let Some(found) = &outcome.backup {
                    let aside = task.databases.iter().map(|d| d.data.as_str());
                    let held: Vec<&str> = found.contents.iter().map(|c| c.data.as_str()).chain(aside).collect();
                    let lacking = restore::lacking(world, spec, &held).into_iter().collect();
                    checks.push(verdict("snapshot", lacking, &format!("snapshot {} can be read", found.snapshot)));
                }
                snapshot = outcome.backup;
            }
            JobProgress::Failed(failure) => checks.push(failed("data", failure.message)),
        }
    }
    for (workload, images) in pulls(world, spec, wanted) {
        let Some(like) = world.target_side.find(&workload) else { continue };
        let kind = match workload.kind {
            WorkloadKind::Deployment => "",
            WorkloadKind::StatefulSet => "set-",
            WorkloadKind::CronJob => "cron-",
        };
        let step = format!("{step}-pull/{kind}{}", workload.name);
        let name = owner.object_name(&step, attempt);
        let Some(pull) = world.jobs.get(&name) else {
            return Preflight::Going(Progress::Do(job::pull(owner, (&name, &step), like, &images, PULL_DEADLINE)));
        };
        let missing: Vec<&String> =
            images.iter().filter(|(c, _)| !pull.pulled.get(*c).copied().unwrap_or(false)).map(|(_, i)| i).collect();
        let waited = pull.created_at.is_some_and(|at| after(at, Duration::from_secs(45)) <= now);
        match (&pull.state, &pull.trouble) {
            _ if missing.is_empty() => {
                checks.push(passed(&format!("images: {workload}"), format!("{} can be pulled", count(images.len()))))
            }
            (JobState::Running, None) => {
                return Preflight::Going(Progress::waiting(format!("images of {workload} to be pulled")));
            }
            (JobState::Running, Some(_)) if !waited => {
                let until = pull.created_at.map(|at| after(at, Duration::from_secs(45)));
                return Preflight::Going(Progress::Waiting { what: format!("images of {workload} to be pulled"), until });
            }
            (_, trouble) => {
                let images = missing.iter().map(|i| i.as_str()).collect::<Vec<_>>().join(", ");
                let why = trouble.clone().unwrap_or_else(|| "its pod ended before the image was there".into());
                checks.push(failed(
                    &format!("images: {workload}"),
                    format!(
                        "{images} cannot be pulled in namespace {}: {why}: push it, or give the workload an imagePullSecret",
                        owner.namespace
                    ),
                ));
            }
        }
    }
    checks.truncate(120);
    Preflight::Ended { checks, control_epoch, marks, snapshot }
}

fn count(images: usize) -> String {
    if images == 1 { "1 image".into() } else { format!("{images} images") }
}

fn passed(name: &str, message: impl Into<String>) -> Check {
    Check { name: name.into(), passed: true, message: message.into() }
}

fn failed(name: &str, message: impl Into<String>) -> Check {
    Check { name: name.into(), passed: false, message: message.into().chars().take(4000).collect() }
}

/// What objects alone say.
fn objects(world: &World<'_>, spec: &EnvironmentSpec, wanted: &Release) -> Vec<Check> {
    let side = world.target_side;
    let mut checks = Vec::new();
    let refused: Vec<String> = maintenance::services(spec, side).into_iter().filter_map(maintenance::refuse_service).collect();
    checks.push(verdict("services", refused, "every Service that users enter by can lead to the page"));
    let mut names = Vec::new();
    for name in spec.maintenance.services.names.iter().flatten() {
        if side.service(name).is_none() {
            names.push(format!("Service {name} of maintenance.services.names does not exist"));
        }
    }
    let mut workloads = names;
    for paused in &spec.maintenance.pause {
        match side.find(paused) {
            None => workloads.push(format!("{paused} of maintenance.pause does not exist: make it, or take it out")),
            Some(found) => workloads.extend(found.refuse()),
        }
    }
    for workload in spec.modules.iter().flat_map(|m| &m.workloads) {
        match side.find(workload) {
            None => workloads.push(format!("{workload} does not exist")),
            Some(found) => workloads.extend(found.refuse().into_iter().chain(delivery::direct::refuse(found, &side.owners))),
        }
    }
    workloads.extend(
        release::lacking(wanted, side)
            .into_iter()
            .map(|c| format!("{c} is in the release, but the target has no such container: add it there first")),
    );
    if world.run.promotion().is_some() {
        let promoted = |name: &str| wanted.modules.iter().any(|m| m.name == name);
        workloads.extend(modules::unclear_migrations(spec, side, &promoted));
    }
    for entry in spec.modules.iter().flat_map(|m| &m.configuration) {
        if side.config_map(&entry.config_map.name).is_some_and(|c| c.immutable == Some(true)) {
            workloads.push(format!("ConfigMap {} is immutable: make it again without immutable", entry.config_map.name));
        }
    }
    if let Some(page) = &spec.maintenance.page {
        let name = &page.config_map.name;
        let missing = match side.config_map(name) {
            None => Some(format!("ConfigMap {name} of maintenance.page does not exist")),
            Some(map) => {
                let there = map.data.as_ref().is_some_and(|d| d.contains_key(page::INDEX))
                    || map.binary_data.as_ref().is_some_and(|d| d.contains_key(page::INDEX));
                (!there).then(|| format!("ConfigMap {name} of maintenance.page has no key {}: the page goes there", page::INDEX))
            }
        };
        checks.push(verdict("page", missing.into_iter().collect(), "the maintenance page is there"));
    }
    checks.push(verdict("workloads", workloads, "every workload can be delivered"));
    if world.run.promotion().is_some()
        && spec.modules.iter().any(|m| m.migration.as_ref().is_some_and(|m| m.connection_secret.is_some()))
    {
        let problems = migration::problems(world, spec, wanted);
        checks.push(verdict("migrations", problems, "each migration connects by the Secret that is meant for it"));
    }
    if spec.data.iter().any(|d| d.volume.is_some()) {
        let taken = restore::data(world, spec);
        let fine = match world.run.alignment() {
            Some(_) => volumes::left_out(spec, &taken),
            None => "nothing mounts the volumes while locked".into(),
        };
        checks.push(verdict("volumes", volumes::problems(spec, &taken, side), &fine));
    }
    if let Some(claim) = spec.backups.as_ref().and_then(|b| b.repository.volume.as_ref()).map(|v| &v.claim.name) {
        let missing = (!side.claims.iter().any(|c| *c == **claim))
            .then(|| format!("PersistentVolumeClaim {claim} of backups.repository does not exist"));
        checks.push(verdict("repository volume", missing.into_iter().collect(), "the repository's volume exists"));
    }
    checks
}

fn verdict(name: &str, problems: Vec<String>, fine: &str) -> Check {
    if problems.is_empty() { passed(name, fine) } else { failed(name, problems.join("; ")) }
}

/// Addresses of the pods that go down or stand still while locked.
fn covered_addresses(world: &World<'_>, spec: &EnvironmentSpec) -> Vec<String> {
    let side = world.target_side;
    maintenance::workloads_down(spec)
        .iter()
        .chain(&spec.maintenance.pause)
        .filter_map(|w| side.find(w))
        .flat_map(|w| side.pods_of(w))
        .filter_map(|p| p.status.as_ref()?.pod_ip.clone())
        .collect()
}

/// By workload: the images that must be there, new and old, by a name for their container.
fn pulls(world: &World<'_>, spec: &EnvironmentSpec, wanted: &Release) -> Vec<(WorkloadRef, BTreeMap<String, String>)> {
    let mut out = Vec::new();
    for module in &wanted.modules {
        for workload in &module.workloads {
            let named = |w: &&WorkloadRef| w.kind == workload.kind && *w.name == *workload.name;
            let Some(reference) = spec.module(&module.name).and_then(|m| m.workloads.iter().find(named)) else { continue };
            let mut images: Vec<String> = workload.containers.iter().map(crate::api::ReleaseContainer::pinned).collect();
            let here = world.target_side.find(reference);
            images.extend(here.into_iter().flat_map(Workload::all_containers).filter_map(|c| c.image.clone()));
            images.sort();
            images.dedup();
            let named = images.into_iter().enumerate().map(|(i, image)| (format!("image-{i}"), image)).collect();
            out.push((reference.clone(), named));
        }
    }
    out
}
