//! What an EnvironmentRestore has of its own. Everything else it shares with a Promotion: approvals, slot, lock, page, checks,
//! rollback.
//!
//! 1. **Scheduled**: what comes back is looked up: a backup, a snapshot, or what a completed run kept aside. Its time is told;
//!    nothing starts until the requester has named it.
//! 2. **Validated**: with the slot, preflight again and the page's pod; users still work. There is no backup of today's data:
//!    today's database itself is kept.
//! 3. **Locked**: as a Promotion, up to the fence.
//! 4. **Loading**: the data goes beside the live database and is compared with what was backed up; then both change names in
//!    one transaction. What was live is the undo point. Undoing a run brings its prior images and configuration too.
//! 5. **Verifying**, **RollingBack**: as a Promotion.

use kube::ResourceExt;
use serde_json::json;

use super::{
    Decision, Effect, Progress, Resource, alignment, graph,
    prepare::{self, Plan, no_environment, policies_message},
    promotion::{advance, stalled},
    release::{self, Content, Reading},
    steps,
    world::{Run, World},
};
use crate::{
    api::{
        BackupPhase, Data, Environment, EnvironmentRestoreSpec, EnvironmentSpec, Grant, Module, Phase, Release, RunRef,
        RunStatus, SnapshotStatus, Timestamp, environment::Kept, promotion::UndoStatus, reasons,
    },
    manifest::{
        Owner, patch,
        task::{BackupOutcome, DropTask, Task},
    },
};

/// What comes back.
#[derive(Clone, Debug, Default, PartialEq)]
struct Origin {
    /// The snapshot, where data comes from the repository.
    snapshot: Option<String>,
    /// The databases aside that become live again.
    databases: Vec<DropTask>,
    /// The time of the data, to the second. None until the snapshot was looked at.
    taken_at: Option<Timestamp>,
    /// When its backup began; as good a name for its time.
    begun_at: Option<Timestamp>,
    /// The release that comes back with the data; no module where only data does.
    release: Release,
}

/// An instant without fractions: what people read in a status is what they write in a spec.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The data that a run works on: of a restore or a DownAlignment, what it names; of one that undoes a run, what that run changed.
pub fn data<'a>(world: &World<'_>, target: &'a EnvironmentSpec) -> Vec<&'a Data> {
    // What it has locked it works on to its end.
    let locked = world.run.status().map(|s| s.data.as_slice()).unwrap_or_default();
    if !locked.is_empty() {
        return target.data.iter().filter(|d| locked.iter().any(|l| l.data == *d.name)).collect();
    }
    let names = world.run.restore().and_then(|r| r.data.names.as_ref());
    let undoes = world.run.restore().is_some_and(|r| r.from.undo_of.is_some());
    let undone = world.undone.filter(|_| undoes).and_then(|run| run.status());
    let changed = |d: &&Data| undone.is_none_or(|u| u.undo.iter().any(|u| u.data == *d.name));
    let aligned = world.run.alignment();
    let named = |d: &&Data| names.is_none_or(|n| n.contains(&d.name));
    let goes = |d: &&Data| aligned.is_none_or(|a| a.include.data.takes(&d.name) && alignment::goes(world, d));
    target.data.iter().filter(named).filter(changed).filter(goes).collect()
}

/// What to do next, before the start.
pub fn plan(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let Some(spec) = world.run.restore() else { return Decision::Wait(None) };
    if !world.missing_policies.is_empty() {
        return stalled(world, "PoliciesMissing", &policies_message(world.missing_policies), now);
    }
    let invalid = |message: &str| stalled(world, reasons::INVALID, message, now);
    let Some(target) = world.target else {
        return invalid(&no_environment(world.run.environment(), world.run.namespace()));
    };
    if let Some(message) = graph::target_problem(world, target) {
        return invalid(&message);
    }
    let origin = match origin(world, spec, target, &status) {
        Ok(origin) => origin,
        Err(message) => return invalid(&message),
    };
    status.grant.get_or_insert(if world.requester_may_promote { Grant::ByName } else { Grant::ByGroup });
    status.snapshot = origin.snapshot.clone().map(SnapshotStatus::named);
    status.taken_at = origin.taken_at;
    // A bare snapshot is looked at first: what it is, and of when, is what people say yes to.
    if status.taken_at.is_none() {
        return match prepare::preflighted(world, status, now) {
            Ok(status) => advance(world, status, now),
            Err(decision) => *decision,
        };
    }
    status.release = Some(origin.release.clone());
    let plan = match todays_plan(world, spec, target, &status) {
        Ok(plan) => plan,
        Err(message) => return invalid(&message),
    };
    if status.plan_hash.as_deref() != Some(&plan.hash) {
        prepare::renew(&mut status, &plan, changelog(world, target, &origin.release, &plan.prior));
    }
    prepare::admit(world, status, &plan, now)
}

/// The plan from what comes back and what the target is now. `Err`: in words, why there is none.
pub fn todays_plan(
    world: &World<'_>,
    spec: &EnvironmentRestoreSpec,
    target: &Environment,
    status: &RunStatus,
) -> Result<Plan, String> {
    let origin = origin(world, spec, target, status)?;
    let chosen: Vec<&Module> =
        target.spec.modules.iter().filter(|m| origin.release.modules.iter().any(|r| r.name == *m.name)).collect();
    let prior = release::read(world.run.namespace(), &target.spec, world.target_side, &chosen, &[], Reading::Loose)?;
    let steps = steps::restoring(&target.spec, &origin.release);
    let what = json!({
        "from": spec.from, "data": spec.data, "snapshot": origin.snapshot, "databases": origin.databases,
        "takenAt": origin.taken_at, "release": origin.release.hash,
    });
    let hash = release::hash_of_plan(what, &prior, &steps, &target.spec, &chosen);
    Ok(Plan { hash, prior, steps })
}

/// Why the loss of what was written meanwhile is not accepted yet, and how it is. `None`: it is, or nothing is restored.
pub fn unacknowledged(world: &World<'_>, status: &RunStatus) -> Option<String> {
    let spec = world.run.restore()?;
    let taken = status.taken_at?;
    let begun = world.target.and_then(|t| origin(world, spec, t, status).ok()).and_then(|o| o.begun_at).unwrap_or(taken);
    let begun = begun.min(taken);
    let named = spec.acknowledge_data_loss_since.map(second);
    if named.is_some_and(|at| begun <= at && at <= taken) {
        return None;
    }
    let wrong = named.map(|at| format!(" It names {at}.")).unwrap_or_default();
    Some(format!(
        "what comes back is of {taken}: everything written since then is lost.{wrong} Whoever asked accepts that by naming this \
         time: kubectl -n {} patch environmentrestore {} --type merge -p '{{\"spec\":{{\"acknowledgeDataLossSince\":\"{taken}\"}}}}'",
        world.run.namespace(),
        world.run.name(),
    ))
}

/// Writes down what preflight found out about the snapshot.
pub fn found(world: &World<'_>, status: &mut RunStatus, snapshot: Option<BackupOutcome>) {
    if let (Run::Restore(_), Some(snapshot)) = (world.run, snapshot) {
        status.snapshot = Some(SnapshotStatus::named(snapshot.snapshot));
        status.taken_at = status.taken_at.or(snapshot.taken_at.map(second));
    }
}

/// What the task of a restore's check or load is about.
pub fn fill(world: &World<'_>, task: &mut Task) {
    let Some((spec, target)) = world.run.restore().zip(world.target) else { return };
    let status = world.status();
    if let Ok(origin) = origin(world, spec, target, &status) {
        let named = spec.from.snapshot.as_ref().map(|s| s.id.to_string());
        task.snapshot = origin.snapshot.or(named);
        task.databases = origin.databases;
    }
}

/// The databases that a restore takes from aside.
pub fn taken(world: &World<'_>) -> Vec<DropTask> {
    let asked = world.run.restore().zip(world.target);
    let origin = asked.and_then(|(spec, target)| origin(world, spec, target, &world.status()).ok());
    origin.map(|o| o.databases).unwrap_or_default()
}

/// Whether this restore was to undo the run, and was itself put back: what the run keeps stays, to be asked for again.
pub fn gave_up_undoing(world: &World<'_>, phase: Phase, run: &RunRef) -> bool {
    let undo = world.run.restore().and_then(|spec| spec.from.undo_of.as_ref());
    phase == Phase::RolledBack && undo.is_some_and(|u| format!("{:?}", u.kind) == run.kind && *u.name == *run.name)
}

/// Names of chosen data that are not among these.
pub fn lacking(world: &World<'_>, target: &EnvironmentSpec, held: &[&str]) -> Option<String> {
    let lacking: Vec<&str> = data(world, target).into_iter().map(|d| -> &str { &d.name }).filter(|n| !held.contains(n)).collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "it does not hold data {}; it holds {}: name what is to come back under data.names",
            lacking.join(", "),
            held.join(", ")
        )
    })
}

/// Looks up what comes back. `Err`: why it cannot, and what to do.
fn origin(world: &World<'_>, spec: &EnvironmentRestoreSpec, target: &Environment, status: &RunStatus) -> Result<Origin, String> {
    let environment = target.name_any();
    if target.spec.data.is_empty() {
        return Err(format!("Environment {environment} has no data to restore"));
    }
    for name in spec.data.names.iter().flatten() {
        if !target.spec.data.iter().any(|d| d.name == *name) {
            return Err(format!("data {name} is not in Environment {environment}: correct data.names"));
        }
    }
    if let Some(undo) = &spec.from.undo_of {
        return of_undo(world, &format!("{:?} {}", undo.kind, undo.name), target);
    }
    if data(world, &target.spec).iter().all(|d| d.volume.is_some()) {
        let databases: Vec<&str> = target.spec.data.iter().filter(|d| d.postgres.is_some()).map(|d| &*d.name).collect();
        return Err(format!(
            "a volume goes back together with a database, whose epoch guards it: name one of {} too under data.names",
            databases.join(", ")
        ));
    }
    if let Some(reference) = &spec.from.backup {
        return of_backup(world, &reference.name, target);
    }
    if target.spec.backups.is_none() {
        return Err(format!("Environment {environment} names no repository: add spec.backups"));
    }
    Ok(Origin { snapshot: status.snapshot.clone().map(|s| s.id), taken_at: status.taken_at, ..Origin::default() })
}

fn of_backup(world: &World<'_>, name: &str, target: &Environment) -> Result<Origin, String> {
    let Some(backup) = world.backup.filter(|b| b.name_any() == name) else {
        return Err(format!(
            "EnvironmentBackup {name} does not exist; name another (kubectl get ebk). If only the object is lost, name its snapshot: \
             from: {{snapshot: {{id: …}}}}"
        ));
    };
    if *backup.spec.environment.name != target.name_any() {
        return Err(format!(
            "EnvironmentBackup {name} is of Environment {}, not of {}: a backup only goes back to where it was made",
            backup.spec.environment.name,
            target.name_any()
        ));
    }
    let known = backup.status.clone().unwrap_or_default();
    if known.phase != BackupPhase::Completed {
        return Err(format!(
            "EnvironmentBackup {name} is {:?}; only one that is Completed, and so proven, goes back",
            known.phase
        ));
    }
    let held: Vec<&str> = known.contents.iter().map(|c| c.data.as_str()).collect();
    if let Some(lacking) = lacking(world, &target.spec, &held) {
        return Err(format!("EnvironmentBackup {name}: {lacking}"));
    }
    Ok(Origin {
        snapshot: known.snapshot,
        taken_at: known.taken_at.or(known.started_at).map(second),
        begun_at: known.started_at.map(second),
        ..Origin::default()
    })
}

fn of_undo(world: &World<'_>, named: &str, target: &Environment) -> Result<Origin, String> {
    let Some(run) = world.undone else { return Err(format!("{named} does not exist: name another run under from.undoOf")) };
    let status = run.status().cloned().unwrap_or_default();
    if status.phase != Phase::Completed {
        return Err(format!("{named} is {}; only a run that Completed is undone", status.phase));
    }
    let kept: Vec<Kept> = target.status.iter().flat_map(|s| &s.kept).filter(|k| k.run.uid == run.uid()).cloned().collect();
    if status.undo.is_empty() {
        return Err(format!(
            "{named} keeps no undo point, because it changed no data: bring images and configuration back by hand, or by another run"
        ));
    }
    // What the run left alone has no undo point, and stays as it is now too.
    for UndoStatus { data, .. } in &status.undo {
        if !kept.iter().any(|k| k.data == *data) {
            return Err(not_kept(named, data, &status));
        }
        if !target.spec.data.iter().any(|d| *d.name == *data) {
            return Err(format!(
                "{named} changed data {data}, which Environment {} does not name any more, and a run is undone as a whole: add data \
                 {data} again as it was",
                target.name_any()
            ));
        }
    }
    let modules = |r: &Release| r.modules.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    let brought = status.release.as_ref().map(modules).unwrap_or_default();
    let mut prior = status.prior.clone().unwrap_or_default();
    prior.modules.retain(|m| brought.contains(&m.name) && target.spec.module(&m.name).is_some());
    for entry in prior.modules.iter().flat_map(|m| &m.configuration) {
        if copy(world, &entry.config_map).is_none() {
            return Err(format!(
                "the copy of ConfigMap {} from before {named} is gone, so the release of then cannot come back whole; restore the \
                 backup of then, and bring images and configuration back by hand",
                entry.config_map
            ));
        }
    }
    let snapshot = kept.iter().find_map(|k| k.snapshot.clone());
    let databases = kept.into_iter().filter(|k| k.snapshot.is_none());
    Ok(Origin {
        snapshot,
        databases: databases.map(|k| DropTask { data: k.data, database: k.database }).collect(),
        taken_at: status.locked_at.map(second),
        begun_at: None,
        release: prior,
    })
}

/// What is said of a run whose undo point for a data the Environment does not keep any more.
pub fn not_kept(named: &str, data: &str, status: &RunStatus) -> String {
    let backup = status.backup.as_ref().map(|b| format!(" Its backup is still there: from: {{backup: {{name: {}}}}}", b.name));
    format!(
        "the undo point of {named} for data {data} is not kept any more: the run was undone already, its time was over, or a later run \
         replaced it.{}",
        backup.unwrap_or_default()
    )
}

/// The copy of a ConfigMap from before the run that is undone.
fn copy<'a>(world: &World<'a>, name: &str) -> Option<&'a k8s_openapi::api::core::v1::ConfigMap> {
    let run = world.undone?;
    let owner = Owner { kind: run.kind(), name: run.name(), uid: run.uid(), namespace: run.namespace() };
    world.target_side.config_map(&prepare::copy_name(owner, prepare::PRIOR, name))
}

fn changelog(world: &World<'_>, target: &Environment, release: &Release, today: &Release) -> Vec<crate::api::Change> {
    let keep = |module: &str, name: &str| release::kept_keys(module, name, &[&target.spec]);
    let fresh = |module: &str, name: &str| copy(world, name).map(|c| Content::of(c, &keep(module, name))).unwrap_or_default();
    let old = |module: &str, name: &str| {
        world.target_side.config_map(name).map(|c| Content::of(c, &keep(module, name))).unwrap_or_default()
    };
    release::changelog(release, today, &fresh, &old)
}

/// Brings a module's configuration back to what it was before the run that is undone. Keys that the environment keeps as its
/// own stay.
pub fn configuration(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>, module: &str) -> Progress {
    let Some(module) = target.module(module) else { return Progress::Done(None) };
    for entry in &module.configuration {
        let name = &*entry.config_map.name;
        let Some(copy) = copy(world, name) else {
            return Progress::failed(
                "CopyMissing",
                format!("the copy of ConfigMap {name} from before the run that is undone is gone"),
            );
        };
        let here = world.target_side.config_map(name);
        let keep = release::kept_keys(&module.name, name, &[target]);
        let content = Content::of(copy, &keep);
        let effect = match here {
            Some(here) if copy.annotations().contains_key(prepare::ABSENT) => Effect::Delete {
                resource: Resource::ConfigMap,
                name: name.to_owned(),
                uid: here.uid().unwrap_or_default(),
                grace: None,
            },
            None if copy.annotations().contains_key(prepare::ABSENT) => continue,
            Some(here) if Content::of(here, &keep) == content => continue,
            Some(here) => patch::configure(here, &content, &|k| keep.contains(k)),
            None => {
                let manifest = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": owner.namespace},
                    "data": content.data, "binaryData": content.binary_data,
                });
                Effect::Create { resource: Resource::ConfigMap, manifest: Box::new(manifest) }
            }
        };
        return Progress::Do(effect);
    }
    Progress::Done(None)
}
