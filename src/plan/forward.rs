//! The steps of a promotion from its backup to its end, each as a function of what is seen: what it needs next, or that it
//! is done. A step is resumed, never repeated blindly: each first looks whether its work is there already.

mod deliver;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::json;

pub use self::deliver::{Images, different, image, images_of, workloads};
use self::deliver::{module_workloads, other_workloads};
use super::{
    Effect, Progress, Resource, after, agents, alignment, foreign,
    jobs::{JobProgress, look},
    lock, maintenance, migration, millis, moved,
    preflight::{self, Preflight},
    prepare,
    promotion::{ATTEMPTS, owner, reference},
    release, restore, steps,
    steps::name,
    volumes,
    world::World,
};
use crate::{
    api::{
        API_VERSION, BackupPhase, EnvironmentSpec, LocalRef, Release, ReleaseContainer, RunStatus, Step, Timestamp,
        promotion::UndoStatus,
    },
    manifest::{
        Owner, job, page, patch,
        task::{Aside, Outcome, Verb},
    },
};

/// A proven backup older than this is made again before the lock is taken.
const BACKUP_AGE: Duration = Duration::from_secs(3600);
/// When a Job of another run that has no pod yet is looked at again.
const READER_PAUSE: Duration = Duration::from_secs(1);

/// What a step needs next. While it waits, the pod of a later step is started: users wait for each second under the lock.
pub fn step(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus, step: &Step, now: Timestamp) -> Progress {
    match this_step(world, target, status, step, now) {
        // First the status says what is waited for: a migration's Job that is gone is known by that.
        Progress::Waiting { what, until } if status.next.as_deref() == Some(&what) => {
            match agents::ahead(world, target, status, step) {
                Some(effect) => Progress::Do(effect),
                None => Progress::Waiting { what, until },
            }
        }
        other => other,
    }
}

fn this_step(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus, step: &Step, now: Timestamp) -> Progress {
    let owner = owner(world);
    let release = status.release.clone().unwrap_or_default();
    let epoch = status.epoch.unwrap_or(0);
    let begun = step.started_at.unwrap_or(now);
    match steps::kind(&step.name) {
        name::PREFLIGHT => again(world, owner, target, &release, step, now),
        name::BACKUP => backup(world, owner, step, now),
        name::ALIGN => alignment::before_promotion(world, target, owner, step),
        name::SNAPSHOT => alignment::snapshot(world, owner, step, now),
        name::RECEIVE => alignment::receive(world, target, owner, step, now),
        name::PAGE => page_pod(world, owner),
        name::LOCK => take_lock(world, status, now),
        name::RECORD => record(world, owner, status),
        name::PAUSE => maintenance::pause(world, target, owner, epoch),
        name::CLOSE => maintenance::close(world, target, owner, epoch),
        name::STOP => stop(world, target, owner, epoch, status, begun, now),
        name::FENCE => agents::data_job(world, target, owner, step, (Verb::Fence, epoch), now),
        // The fence's pod has made the undo points too, if its outcome names them; else a pod of this step makes them.
        name::UNDO if fenced_outcome(world, status).is_none_or(|o| o.aside.len() != target.data.len()) => {
            agents::data_job(world, target, owner, step, (Verb::Undo, epoch), now)
        }
        name::UNDO => Progress::Done(None),
        name::LOAD if world.run.alignment().is_some() && target.is_protected() => {
            Progress::failed("Protected", "the Environment is protected by now: no other environment's data is ever put here")
        }
        name::LOAD => agents::data_job(world, target, owner, step, (Verb::Restore, epoch), now),
        name::CONFIGURATION => configuration(world, target, owner, steps::subject(&step.name)),
        name::MIGRATION => migrate(world, target, owner, status, step, now),
        name::ADMIT => agents::data_job(world, target, owner, step, (Verb::Admit, epoch), now),
        name::WORKLOADS => {
            let module = steps::subject(&step.name);
            let images = images_of(release.modules.iter().filter(|m| m.name == module), image(world));
            workloads(world, &images, &module_workloads(target, module), begun, now)
        }
        name::OTHERS => workloads(world, &BTreeMap::new(), &other_workloads(target, &release), begun, now),
        name::VERIFY => match foreign::rolled_out(world, target, status, begun, now) {
            Progress::Done(_) => agents::verify(world, target, owner, step, epoch, now),
            other => other,
        },
        name::RELEASE => agents::data_job(world, target, owner, step, (Verb::Release, epoch), now),
        name::OPEN => maintenance::open(world, owner),
        name::RESUME => maintenance::resume(world, owner),
        name::UNLOCK => unlock(world, owner),
        name::TIDY => tidy(world, owner, status, now),
        other => Progress::failed("UnknownStep", format!("this version of Lockkeeper does not know the step {other}")),
    }
}

/// What a finished step leaves in the status beside its own state.
pub fn after_step(world: &World<'_>, status: &mut RunStatus, step: &Step, now: Timestamp) {
    let owner = owner(world);
    match steps::kind(&step.name) {
        name::ALIGN => alignment::aligned(world, owner, status, step),
        name::SNAPSHOT => alignment::snapshotted(world, owner, status, step),
        name::BACKUP => status.backup = Some(LocalRef { name: backup_name(owner, step.attempt).into() }),
        name::PREFLIGHT => {
            let release = status.release.clone().unwrap_or_default();
            let Some(target) = world.target else { return };
            if let Preflight::Ended { checks, control_epoch, marks, .. } =
                preflight::run(world, owner, &target.spec, &release, (&step.name, step.attempt), now)
            {
                status.preflight = checks;
                status.preflight_at = Some(millis(now));
                status.minimum_epoch = control_epoch.or(status.minimum_epoch);
                status.data = moved::checked(world, &target.spec, &marks);
            }
        }
        name::LOCK => {
            let lock = world.target_status().lock.unwrap_or_default();
            status.epoch = Some(lock.epoch);
            status.locked_at = lock.since.or(Some(millis(now)));
        }
        name::UNDO => {
            let aside = fenced_outcome(world, status).map(|o| o.aside).unwrap_or_default();
            keep_aside(world, status, aside, None);
            keep(world, status, step, None);
        }
        name::LOAD => keep(world, status, step, None),
        name::RELEASE => {
            keep(world, status, step, Some(now));
            keep_files(world, status, now);
        }
        name::OPEN | name::BACK_OPEN | name::GIVE_UP_OPEN => status.unlocked_at = Some(millis(now)),
        _ => {}
    }
}

/// Writes down which databases are aside, by the outcome of a step's Job, and until when once that is known.
pub fn keep(world: &World<'_>, status: &mut RunStatus, step: &Step, from: Option<Timestamp>) {
    let owner = owner(world);
    let Some(outcome) = world.jobs.get(&owner.object_name(&step.name, step.attempt)).and_then(|j| j.outcome.clone()) else {
        return;
    };
    keep_aside(world, status, outcome.aside, from);
}

/// Until when the undo points of volumes are kept: of them no server tells.
fn keep_files(world: &World<'_>, status: &mut RunStatus, now: Timestamp) {
    let volumes: Vec<&str> =
        world.target.iter().flat_map(|t| &t.spec.data).filter(|d| d.volume.is_some()).map(|d| &*d.name).collect();
    let of_volumes = status.undo.iter().filter(|u| volumes.contains(&u.data.as_str())).cloned();
    let all = of_volumes.map(|u| Aside { data: u.data, database: u.database, snapshot: u.snapshot, method: u.method }).collect();
    keep_aside(world, status, all, Some(now));
}

/// What the fence's pod said, by the attempt that ended well.
pub fn fenced_outcome(world: &World<'_>, status: &RunStatus) -> Option<Outcome> {
    let step = status.steps.iter().find(|s| s.name == name::FENCE)?;
    world.jobs.get(&owner(world).object_name(&step.name, step.attempt))?.outcome.clone()
}

fn keep_aside(world: &World<'_>, status: &mut RunStatus, all: Vec<Aside>, from: Option<Timestamp>) {
    for aside in all {
        let keep_for =
            world.target.and_then(|t| t.spec.data.iter().find(|d| *d.name == *aside.data).map(|d| d.undo.keep_for.clone()));
        let until = from.map(|at| millis(after(at, keep_for.and_then(|k| k.get()).unwrap_or(Duration::from_secs(86_400)))));
        let Aside { data, database, snapshot, method } = aside;
        let fresh = UndoStatus { data, method, database, snapshot, until };
        match status.undo.iter_mut().find(|u| u.data == fresh.data) {
            // How it was made is known better by the step that made it.
            Some(known) if known.database == fresh.database && known.snapshot == fresh.snapshot => known.until = fresh.until,
            Some(known) => *known = fresh,
            None => status.undo.push(fresh),
        }
    }
}

fn again(
    world: &World<'_>,
    owner: Owner<'_>,
    target: &EnvironmentSpec,
    release: &Release,
    step: &Step,
    now: Timestamp,
) -> Progress {
    match preflight::run(world, owner, target, release, (&step.name, step.attempt), now) {
        Preflight::Going(progress) => progress,
        Preflight::Ended { checks, .. } => {
            let failing: Vec<String> =
                checks.iter().filter(|c| !c.passed).map(|c| format!("{}: {}", c.name, c.message)).collect();
            match failing.join("; ") {
                none if none.is_empty() => Progress::Done(None),
                // A session or a transaction that was there for a moment must not end a run that people have approved. An
                // image that cannot be pulled has been waited for already.
                some if step.attempt + 1 < ATTEMPTS && !failing.iter().any(|f| f.starts_with("images")) => Progress::Retry(some),
                some => Progress::failed("PreflightFailed", some),
            }
        }
    }
}

/// With what names of objects begin that are made for a run and live beside it.
pub fn child_name(owner: Owner<'_>) -> String {
    // The end tells runs apart whose names are equal where they are cut.
    let name: String = owner.name.chars().take(230).collect();
    format!("{}-{}", name.trim_end_matches(['-', '.']), &owner.id()[..6.min(owner.id().len())])
}

/// Name of the backup made for a run.
pub fn backup_name(owner: Owner<'_>, attempt: i32) -> String {
    let base = child_name(owner);
    if attempt == 0 { base } else { format!("{base}-{attempt}") }
}

fn backup(world: &World<'_>, owner: Owner<'_>, step: &Step, now: Timestamp) -> Progress {
    let name = backup_name(owner, step.attempt);
    let Some(backup) = world.backup.filter(|b| b.name_any() == name) else {
        let manifest = json!({
            "apiVersion": API_VERSION, "kind": "EnvironmentBackup", "metadata": owner.metadata(&name, name::BACKUP),
            "spec": {"environment": {"name": world.run.environment()}, "data": {"all": {}}, "reason": format!("before {}", owner.name), "keep": false},
        });
        return Progress::Do(Effect::Create { resource: Resource::EnvironmentBackup, manifest: Box::new(manifest) });
    };
    let status = backup.status.clone().unwrap_or_default();
    match status.phase {
        BackupPhase::Completed if status.proven_at.is_some_and(|at| after(at, BACKUP_AGE) > now) => {
            Progress::Done(Some(format!("EnvironmentBackup {name}, proven by a restore")))
        }
        BackupPhase::Completed => Progress::Retry(format!("EnvironmentBackup {name} is too old by now")),
        BackupPhase::Failed => {
            let failure = status.failure.map(|f| f.message).unwrap_or_else(|| "it says no reason".into());
            Progress::failed("BackupFailed", format!("EnvironmentBackup {name}: {failure}"))
        }
        phase => Progress::waiting(format!("EnvironmentBackup {name}: {phase:?}")),
    }
}

fn page_pod(world: &World<'_>, owner: Owner<'_>) -> Progress {
    if world.target_side.deployment(&page::name(owner)).is_none() {
        let task = page::task(preflight::task(world, owner, Verb::Page));
        let own = world.target.and_then(|t| t.spec.maintenance.page.as_ref()).map(|p| &*p.config_map.name);
        return Progress::Do(page::deployment(owner, world.settings, &task, own));
    }
    if maintenance::page_is_ready(world.target_side, owner.uid) {
        return Progress::Done(None);
    }
    let why = maintenance::page_trouble(world.target_side, owner.uid).map(|why| format!(": {why}")).unwrap_or_default();
    Progress::waiting(format!("the maintenance page to answer{why}"))
}

fn take_lock(world: &World<'_>, status: &RunStatus, now: Timestamp) -> Progress {
    let Some(target) = world.target else { return Progress::waiting("the Environment") };
    let held = lock::status(target).lock;
    if held.as_ref().and_then(|l| l.holder.as_ref()).is_some_and(|h| h.uid == world.uid()) {
        return Progress::Done(held.map(|l| format!("epoch {}", l.epoch)));
    }
    if let Some(reader) = volumes::read_for_another(&restore::data(world, &target.spec), world.target_side, world.run.uid()) {
        // Of a Job's end nobody tells this run; of its pod's somebody does.
        let until = reader.starts_with("Job ").then(|| after(now, READER_PAUSE));
        return Progress::Waiting { what: format!("{reader}, which reads a volume for a backup"), until };
    }
    match lock::take(target, &reference(world), lock::next_epoch(target, status.minimum_epoch), now) {
        Ok(effect) => Progress::Do(effect),
        Err(other) => Progress::waiting(format!("the lock that {} {} holds", other.kind, other.name)),
    }
}

/// What a rollback needs, copied before anything changes: the target's configuration. Images stand in the status.
fn record(world: &World<'_>, owner: Owner<'_>, status: &RunStatus) -> Progress {
    let chosen = status.release.as_ref().map(|r| r.modules.clone()).unwrap_or_default();
    for entry in chosen.iter().flat_map(|m| &m.configuration) {
        if world.target_side.config_map(&prepare::copy_name(owner, prepare::PRIOR, &entry.config_map)).is_none() {
            let content = world.target_side.config_map(&entry.config_map).map(|c| release::Content::of(c, &Default::default()));
            return Progress::Do(prepare::copy(owner, prepare::PRIOR, &entry.config_map, content.as_ref()));
        }
    }
    Progress::Done(None)
}

fn stop(
    world: &World<'_>,
    target: &EnvironmentSpec,
    owner: Owner<'_>,
    epoch: i64,
    status: &RunStatus,
    begun: Timestamp,
    now: Timestamp,
) -> Progress {
    // Stopping a pod while kube-proxy still leads to it refuses connections.
    let closed = status.steps.iter().find(|s| s.name == name::CLOSE).and_then(|s| s.finished_at).unwrap_or(begun);
    let settled = after(closed, maintenance::SETTLE);
    if now < settled {
        return Progress::Waiting { what: "the Services' new endpoints to be in use".into(), until: Some(settled) };
    }
    match maintenance::stop(world, target, owner, epoch, begun, now) {
        Progress::Done(_) => volumes::unused(&restore::data(world, target), world.target_side, begun, now),
        other => other,
    }
}

/// Brings a module's configuration.
pub fn configuration(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>, module: &str) -> Progress {
    if world.run.restore().is_some() {
        return restore::configuration(world, target, owner, module);
    }
    let Some(module) = target.module(module) else { return Progress::Done(None) };
    for entry in &module.configuration {
        let name = &*entry.config_map.name;
        let Some(content) = prepare::copied(world, owner, prepare::RELEASE, name) else {
            return Progress::failed(
                "CopyMissing",
                format!("the copy of ConfigMap {name} that was captured from the source is gone"),
            );
        };
        let sources: Vec<&EnvironmentSpec> = [Some(target), world.source.map(|s| &s.spec)].into_iter().flatten().collect();
        let keep = release::kept_keys(&module.name, name, &sources);
        match world.target_side.config_map(name) {
            Some(here) if release::Content::of(here, &keep) == content => {}
            Some(here) => return Progress::Do(patch::configure(here, &content, &|k| keep.contains(k))),
            None => {
                let manifest = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": owner.namespace},
                    "data": content.data, "binaryData": content.binary_data,
                });
                return Progress::Do(Effect::Create { resource: Resource::ConfigMap, manifest: Box::new(manifest) });
            }
        }
    }
    Progress::Done(None)
}

fn migrate(
    world: &World<'_>,
    target: &EnvironmentSpec,
    owner: Owner<'_>,
    status: &RunStatus,
    step: &Step,
    now: Timestamp,
) -> Progress {
    let Some(module) = target.module(steps::subject(&step.name)) else { return Progress::Done(None) };
    let (Some(migration), Some(workload)) = (&module.migration, module.migration_workload()) else { return Progress::Done(None) };
    let Some(found) = world.target_side.find(workload) else {
        return Progress::failed("WorkloadMissing", format!("{workload} does not exist any more"));
    };
    let container = match migration::container(module, migration, found) {
        Ok(container) => container,
        Err(message) => return Progress::failed("ContainerUnclear", message),
    };
    let own_role = match migration::own_role(world, target, module) {
        Ok(own_role) => own_role,
        Err(message) => return Progress::failed("RoleUnclear", message),
    };
    let connection = own_role.as_ref().and_then(|r| Some((&*r.data.postgres.as_ref()?.connection_secret.name, r.secret)));
    let released = status
        .release
        .iter()
        .flat_map(|r| &r.modules)
        .filter(|m| m.name == *module.name)
        .flat_map(|m| &m.workloads)
        .filter(|w| w.kind == workload.kind && w.name == *workload.name)
        .flat_map(|w| &w.containers)
        .find(|c| c.name == container);
    let Some(image) = released.map(ReleaseContainer::pinned) else {
        return Progress::failed("ContainerMissing", format!("the release has no container {container} of {workload}"));
    };
    let command: Vec<String> = migration.command.iter().map(ToString::to_string).collect();
    // A migration is never retried: how much of it took effect is not known. Its attempt is always the first.
    let name = owner.object_name(&step.name, 0);
    let Some(made) =
        job::migration(owner, (&name, &step.name), found, (&container, &image), &command, connection, migration.timeout())
    else {
        return Progress::failed("ContainerMissing", format!("{workload} has no container {container}"));
    };
    let waited_for = status.next.as_deref().is_some_and(|n| n.starts_with(&format!("Job {name}")));
    if waited_for && !world.jobs.contains_key(&name) {
        return Progress::failed(
            "MigrationFailed",
            format!("Job {name} was deleted while it worked, so nobody knows how much of the migration took effect"),
        );
    }
    match look(world.jobs, &name, false, now, || made) {
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(_) => Progress::Done(None),
        JobProgress::Failed(failure) => Progress::failed("MigrationFailed", failure.message),
    }
}

/// Gives the lock back.
pub fn unlock(world: &World<'_>, owner: Owner<'_>) -> Progress {
    match world.target.and_then(|t| lock::give_back(t, owner.uid)) {
        Some(effect) => Progress::Do(effect),
        None => Progress::Done(None),
    }
}

/// Removes all that was made for the run, the page after its connections have ended.
pub fn tidy(world: &World<'_>, owner: Owner<'_>, status: &RunStatus, now: Timestamp) -> Progress {
    tidy_but(world, owner, status, now, &|_| false)
}

/// The same, but for copies of configuration that are kept.
pub fn tidy_but(
    world: &World<'_>,
    owner: Owner<'_>,
    status: &RunStatus,
    now: Timestamp,
    keep: &dyn Fn(&ConfigMap) -> bool,
) -> Progress {
    let page_gone = status.unlocked_at.map(|at| after(at, maintenance::LINGER)).filter(|at| now < *at);
    if let Some(at) = page_gone {
        return Progress::Waiting { what: "connections to the page to end".into(), until: Some(at) };
    }
    if let Some(effect) = maintenance::leftovers_but(world, owner, keep) {
        return Progress::Do(effect);
    }
    if maintenance::still_leaving(world, owner) {
        return Progress::waiting("Jobs and the page to be gone");
    }
    Progress::Done(None)
}
