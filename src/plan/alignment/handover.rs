//! Masked data goes into the exchange in the source's namespace, and is opened in the target's, before anyone is locked out.

use std::time::Duration;

use kube::ResourceExt;

use super::super::{
    Effect, Progress, Resource,
    jobs::{JobProgress, look},
    lock, millis,
    opening::Opening,
    preflight,
    promotion::ATTEMPTS,
    release::{self, Reading},
    restore, volumes,
    world::World,
};
use super::{consent, fill};
use crate::{
    api::{Data, Environment, EnvironmentSpec, Exchange, Module, Period, Release, RunStatus, SnapshotStatus, Step, Timestamp},
    manifest::{
        Owner, job, masking,
        task::{Task, Verb},
        volume,
    },
};

/// How long masking may take.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// How long a look into the exchange may take, its volume's way to the node included.
const LOOK: Duration = Duration::from_secs(600);

/// The run as owner of what is made in the source's namespace.
fn there<'a>(world: &World<'a>, owner: Owner<'a>) -> Owner<'a> {
    let namespace = world.run.alignment().map_or(owner.namespace, |a| &*a.from.namespace);
    Owner { namespace, ..owner }
}

/// The step that masks the source's data into the exchange.
pub fn snapshot(world: &World<'_>, owner: Owner<'_>, step: &Step, now: Timestamp) -> Progress {
    let there = there(world, owner);
    // Data leaves under a grant that stands when the step begins, not under one that stood when it was asked for.
    if let Err(message) = consent(world) {
        return Progress::failed("GrantRevoked", message);
    }
    let (Some(source), Some(target), Some(policy), Some(made)) = (world.source, world.target, world.policy, world.elsewhere)
    else {
        return Progress::waiting("the source Environment");
    };
    // What stands half changed over there may be put back in a moment, and then it never was.
    if let Some(holder) = lock::status(source).lock.and_then(|l| l.holder) {
        return Progress::waiting(format!("{} {}, which holds the lock of the source", holder.kind, holder.name));
    }
    if let Some(moved) = moved_on(world, source, target) {
        return Progress::failed("SourceChanged", moved);
    }
    let Some(place) = source.spec.exchange.as_ref().map(Exchange::place) else {
        return Progress::failed("GrantRevoked", "the source names no exchange any more");
    };
    let at_home = |effect| Progress::Do(Effect::In { namespace: there.namespace.to_owned(), effect: Box::new(effect) });
    let copy = masking::name(there, &policy.hash);
    if !made.config_maps.iter().any(|c| c.name_any() == copy) {
        return match masking::config_map(there, &copy, &policy.spec) {
            Ok(effect) => at_home(effect),
            Err(why) => Progress::failed("PolicyTooLarge", format!("MaskingPolicy {}/{}: {why}", there.namespace, policy.name)),
        };
    }
    let name = owner.object_name(&step.name, step.attempt);
    let wanted: Vec<&Data> = {
        let names: Vec<&str> = restore::data(world, &target.spec).iter().map(|d| -> &str { &d.name }).collect();
        source.spec.data.iter().filter(|d| names.contains(&&*d.name)).collect()
    };
    if let Some(missing) = volumes::missing(&wanted, world.source_side).into_iter().next() {
        return Progress::failed("ClaimMissing", format!("the source Environment: {missing}"));
    }
    let mut task = Task::new(Verb::Snapshot, there, (source.uid().unwrap_or_default(), &source.name_any()));
    task.run_name = format!("{} {}/{}", owner.kind, owner.namespace, owner.name);
    task.data = Task::data_of(wanted.iter().copied());
    task.volumes = Task::volumes_of(wanted.iter().copied());
    task.repository = true;
    task.masking_policy_hash = Some(policy.hash.clone());
    task.policy = Some(copy);
    task.retention = place.retention.clone();
    if let Some(within) = source.spec.exchange.as_ref().and_then(|e| e.reuse_within.as_ref()).and_then(Period::get) {
        task.reuse_within_seconds = Some(within.as_secs());
    }
    task.release = running(world, source);
    let mounts = volumes::mounts(&source.spec, &wanted, world.source_side, false);
    let opening = Opening { owner: there, settings: world.settings, jobs: &made.jobs, step: (&step.name, step.attempt) };
    let make = || {
        let job = job::snapshot(
            there,
            world.settings,
            (&name, &step.name),
            &task,
            (&wanted, &place),
            (&policy.name, policy.key_secret()),
            DEADLINE,
        );
        volume::mount(job, &mounts)
    };
    let opened = opening.first(&task, Some(&place), &mounts, now);
    match opened.unwrap_or_else(|| look(&made.jobs, &name, true, now, make)) {
        JobProgress::Going(Progress::Do(effect)) => at_home(effect),
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(outcome) => match outcome.and_then(|o| Some((o.backup?, o.notes))) {
            Some((done, notes)) => {
                let mut said = vec![format!("{} rows, masked by policy {} ({})", done.rows, policy.name, short(&policy.hash))];
                let files = done.contents.iter().filter_map(|c| Some((&c.data, c.files?)));
                said.extend(files.map(|(data, files)| format!("{data}: {files} files that it lets out, as they are")));
                said.extend(notes);
                Progress::Done(Some(said.join("; ")))
            }
            None => Progress::failed("OutcomeLost", "the Job that masks the data said nothing of what it wrote"),
        },
        JobProgress::Failed(failure) => failure.into_progress(step.attempt, ATTEMPTS),
    }
}

/// The hash of all that the source runs now: by it one that was masked earlier is known to fit. None: that cannot be said.
fn running(world: &World<'_>, source: &Environment) -> Option<String> {
    let modules: Vec<&Module> = source.spec.modules.iter().collect();
    let namespace = &world.run.alignment()?.from.namespace;
    let release = release::read(namespace, &source.spec, world.source_side, &modules, &[], Reading::Exact).ok()?;
    Some(release.hash)
}

fn short(hash: &str) -> String {
    hash.chars().take("sha256:".len() + 12).collect()
}

/// That the source runs another release by now than was captured, in words: its data would not fit.
fn moved_on(world: &World<'_>, source: &Environment, target: &Environment) -> Option<String> {
    let captured = world.run.status()?.release.as_ref().filter(|r| !r.modules.is_empty())?;
    let chosen: Vec<&Module> =
        source.spec.modules.iter().filter(|m| captured.modules.iter().any(|r| r.name == *m.name)).collect();
    let (namespace, side) = (&world.run.alignment()?.from.namespace, world.source_side);
    let today = release::read(namespace, &source.spec, side, &chosen, &[&target.spec], Reading::Loose).ok()?;
    let named = |release: &Release| {
        let containers = release.modules.iter().flat_map(|m| &m.workloads).flat_map(|w| &w.containers);
        let mut images: Vec<String> = containers.map(|c| c.image.clone()).collect();
        images.sort();
        images
    };
    (named(captured) != named(&today)).then(|| {
        "the source runs another release by now than when this was asked for, and its data may not fit the captured one: make the \
         DownAlignment again"
            .to_owned()
    })
}

/// What the finished snapshot leaves in the status.
pub fn snapshotted(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, step: &Step) {
    let job = world.elsewhere.and_then(|e| e.jobs.get(&owner.object_name(&step.name, step.attempt)));
    let Some(done) = job.and_then(|j| j.outcome.clone()).and_then(|o| o.backup) else { return };
    let files: Vec<(&String, i64)> = done.contents.iter().filter_map(|c| Some((&c.data, c.files?))).collect();
    status.snapshot = Some(SnapshotStatus {
        volumes: files.iter().map(|(data, _)| (*data).clone()).collect(),
        files: (!files.is_empty()).then(|| files.iter().map(|(_, n)| n).sum()),
        id: done.snapshot,
        masking_policy_hash: world.policy.map(|p| p.hash.clone()),
        rows: Some(done.rows),
        bytes: Some(done.bytes),
        at: done.taken_at.map(millis),
        coverage: done.coverage,
    });
}

/// The step that opens what was handed over from the target's side, before anyone is locked out: another password, a volume that
/// is not the same on both sides, a claim that is not bound; a server that lacks what the data needs.
pub fn receive(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>, step: &Step, now: Timestamp) -> Progress {
    let Some(place) = target.exchange.as_ref().map(Exchange::place) else {
        return Progress::failed("ExchangeMissing", "the target names no exchange any more: add spec.exchange, and ask again");
    };
    let name = owner.object_name(&step.name, step.attempt);
    let mut task = preflight::task(world, owner, Verb::Preflight);
    let data = restore::data(world, target);
    task.data = Task::data_of(data.iter().copied());
    task.volumes = Task::volumes_of(data.iter().copied());
    let mounts = volumes::mounts(target, &data, world.target_side, false);
    task.repository = true;
    fill(world, &mut task);
    let opening = Opening { owner, settings: world.settings, jobs: world.jobs, step: (&step.name, step.attempt) };
    let make = || {
        let job = job::agent(owner, world.settings, (&name, &step.name), &task, (&data, Some(&place)), &[], LOOK);
        volume::mount(job, &mounts)
    };
    let opened = opening.first(&task, Some(&place), &mounts, now);
    match opened.unwrap_or_else(|| look(world.jobs, &name, true, now, make)) {
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(outcome) => {
            let outcome = outcome.unwrap_or_default();
            let wrong: Vec<&str> = outcome.checks.iter().filter(|c| !c.passed).map(|c| c.message.as_str()).collect();
            let found = outcome.backup.is_some();
            match wrong.as_slice() {
                [] if found => Progress::Done(None),
                [] => Progress::failed("OutcomeLost", "the Job that opens the exchange said nothing of what is there"),
                wrong if found => Progress::failed("TargetUnfit", wrong.join("; ")),
                wrong => Progress::failed("ExchangeUnreadable", format!("the target's exchange: {}", wrong.join("; "))),
            }
        }
        JobProgress::Failed(failure) => failure.into_progress(step.attempt, ATTEMPTS),
    }
}

/// What is still there of a DownAlignment in the source's namespace, to be deleted.
pub fn left_elsewhere(world: &World<'_>) -> Option<Effect> {
    let (spec, made) = (world.run.alignment()?, world.elsewhere?);
    let job = made.jobs.values().find(|j| !j.deleting).map(|j| (Resource::Job, j.name.clone(), j.uid.clone()));
    let map = || {
        let left = made.config_maps.iter().find(|c| c.metadata.deletion_timestamp.is_none())?;
        Some((Resource::ConfigMap, left.name_any(), left.uid().unwrap_or_default()))
    };
    let (resource, name, uid) = job.or_else(map)?;
    let effect = Effect::Delete { resource, name, uid, grace: None };
    Some(Effect::In { namespace: spec.from.namespace.to_string(), effect: Box::new(effect) })
}
