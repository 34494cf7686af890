//! What a person decides about a run whose rollback failed. Resume tries the failed step again at once. Unlock breaks glass:
//!
//! 1. What Jobs of the run still do is ended.
//! 2. Services lead to the workloads again, whatever these are now.
//! 3. The lock and the slot are given back; the page and what was made for the run go.
//!
//! Nothing else is touched: workloads that are stopped stay so, with what was found on them in their annotation; databases stay
//! as they are, and their undo points are nobody's to drop any more; copies of the earlier configuration stay until the run is
//! deleted. All of that is listed, for a person to put right.

use super::{
    Decision, Progress, after, forward, maintenance, millis, prepare,
    promotion::{advance, owner},
    release::Content,
    rollback, steps,
    steps::name,
    workload::Workload,
    world::World,
};
use crate::{
    api::{EnvironmentSpec, InterventionAction, InterventionStatus, RunStatus, Step, StepState, Timestamp, annotations},
    manifest::found::FoundWorkload,
};

/// Whether the run is being given up.
pub fn gives_up(status: &RunStatus) -> bool {
    status.intervention.as_ref().is_some_and(|i| i.action == InterventionAction::Unlock)
}

/// What a person has asked for since the operator last acted on it. It is written down before it is done.
pub fn asked(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Option<Decision<RunStatus>> {
    let asked = world.run.intervention()?;
    let generation = world.run.metadata().generation.unwrap_or(0);
    if gives_up(&status) || status.intervention.as_ref().is_some_and(|done| done.generation >= generation) {
        return None;
    }
    status.intervention = Some(InterventionStatus {
        action: asked.action,
        username: asked.username.to_string(),
        reason: asked.reason.to_string(),
        generation,
        at: millis(now),
        left: Vec::new(),
    });
    match asked.action {
        InterventionAction::Resume => rollback::resume(&mut status),
        InterventionAction::Unlock => {
            for step in status.steps.iter_mut().filter(|s| matches!(s.state, StepState::Pending | StepState::Running)) {
                step.state = if step.state == StepState::Running { StepState::Failed } else { StepState::Skipped };
                step.finished_at = step.started_at.map(|_| millis(now));
            }
            status.steps.extend(steps::pending(&steps::give_up()));
            status.step = None;
            status.next = Some(format!("{} unlocks: {}", asked.username, asked.reason));
        }
    }
    Some(advance(world, status, now))
}

/// How long giving up waits for Jobs that do not end.
const GIVE_UP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a step of giving up needs next.
pub fn step(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus, step: &Step, now: Timestamp) -> Progress {
    let owner = owner(world);
    let begun = step.started_at.unwrap_or(now);
    match steps::kind(&step.name) {
        // Who breaks the glass gets out, also where a node that is gone holds a pod for ever.
        name::GIVE_UP_JOBS => match rollback::end_jobs(world, owner, true, begun, now) {
            Some(Progress::Waiting { what, .. } | Progress::Failed { message: what, .. })
                if now >= after(begun, GIVE_UP_PATIENCE) =>
            {
                Progress::Done(Some(format!("given up waiting for {what}")))
            }
            Some(Progress::Waiting { what, .. }) => Progress::Waiting { what, until: Some(after(begun, GIVE_UP_PATIENCE)) },
            other => other.unwrap_or(Progress::Done(None)),
        },
        name::GIVE_UP_OPEN => maintenance::open_services(world, owner),
        name::GIVE_UP_UNLOCK => forward::unlock(world, owner),
        name::GIVE_UP_TIDY => forward::tidy_but(world, owner, status, now, &prepare::is_prior),
        _ => rollback::step(world, target, status, step, now),
    }
}

/// What is left for people to put right, one thing a line.
pub fn left(world: &World<'_>, status: &RunStatus) -> Vec<String> {
    let owner = owner(world);
    let namespace = owner.namespace;
    let mut out = Vec::new();
    for undo in &status.undo {
        let what = match &undo.snapshot {
            Some(snapshot) => format!("snapshot {snapshot} of the repository"),
            None => format!("database {}", undo.database),
        };
        out.push(format!("{what} is data {} as it was when users were locked out; nothing drops it any more", undo.data));
    }
    for data in world.target.iter().flat_map(|t| &t.spec.data) {
        out.push(match data.claim() {
            Some(claim) => format!("data {}: the files of claim {claim} may hold part of the new release's changes", data.name),
            None => format!(
                "data {}: its database may be closed to the application, and may hold part of the new release's changes",
                data.name
            ),
        });
    }
    let side = world.target_side;
    for workload in side.workloads() {
        let Some(found) = maintenance::found_workload(workload).filter(|f| f.run == owner.uid) else { continue };
        out.push(stopped(workload, found.values, namespace));
    }
    let prior = status.prior.clone().unwrap_or_default();
    for workload in prior.modules.iter().flat_map(|m| &m.workloads) {
        let Some(here) = side.workload(workload.kind, &workload.name) else { continue };
        for (container, image) in here.all_containers().filter_map(|c| Some((c.name.as_str(), c.image.as_deref()?))) {
            let before = workload.containers.iter().find(|c| c.name == container).map(|c| c.image.as_str());
            if let Some(before) = before.filter(|b| *b != image) {
                let kind = workload.kind;
                out.push(format!("{kind} {}, container {container}, has the image {image}; it was {before}", workload.name));
            }
        }
    }
    for entry in status.release.iter().flat_map(|r| &r.modules).flat_map(|m| &m.configuration) {
        let copy = prepare::copy_name(owner, prepare::PRIOR, &entry.config_map);
        let Some(earlier) = side.config_map(&copy) else { continue };
        let none = Default::default();
        let same = side.config_map(&entry.config_map).is_some_and(|c| Content::of(c, &none) == Content::of(earlier, &none));
        if !same {
            out.push(format!("ConfigMap {} is not what it was; the earlier content is in ConfigMap {copy}", entry.config_map));
        }
    }
    out.into_iter().take(128).map(|line| line.chars().take(1000).collect()).collect()
}

/// That a workload is stopped, what it was, and what puts it back.
pub fn stopped(workload: Workload<'_>, found: FoundWorkload, namespace: &str) -> String {
    let (kind, name) = (workload.kind(), workload.name());
    let small = kind.to_string().to_ascii_lowercase();
    let (what, back) = match found {
        FoundWorkload::Replicas(n) => {
            (format!("is stopped; it had {n} pods"), format!("kubectl -n {namespace} scale {small} {name} --replicas={n}"))
        }
        FoundWorkload::Suspend(before) => (
            format!("is suspended; it was {}", if before { "so before" } else { "not" }),
            format!("kubectl -n {namespace} patch {small} {name} -p '{{\"spec\":{{\"suspend\":{before}}}}}'"),
        ),
    };
    format!("{kind} {name} {what}: {back}; kubectl -n {namespace} annotate {small} {name} {}-", annotations::FOUND)
}

/// What a person must know of a run whose namespace goes while it is locked: nothing can be put back there, and what remains
/// elsewhere is on the database servers.
pub fn farewell(world: &World<'_>) -> Option<String> {
    let status = world.status();
    if !world.terminating || !status.phase.may_hold_lock() {
        return None;
    }
    let owner = owner(world);
    let aside: Vec<String> = status.undo.iter().map(|u| format!("{} ({})", u.database, u.data)).collect();
    let data = if aside.is_empty() { "none yet".to_owned() } else { aside.join(", ") };
    let text = format!(
        "namespace {ns} was deleted while {kind} {name} was {phase} there. Nothing can be put back in it. On the database server: undo points {data}. To go back by hand, as the owner of the server: \
         ALTER DATABASE <live> RENAME TO <live>_failed; ALTER DATABASE <undo point> RENAME TO <live>; ALTER DATABASE <live> ALLOW_CONNECTIONS true; GRANT CONNECT ON DATABASE <live> TO PUBLIC. \
         Backup: {backup}, in the repository as far as its volume remains. README.md, \"Going on by hand\"",
        ns = owner.namespace,
        kind = owner.kind,
        name = owner.name,
        phase = status.phase,
        backup = status.backup.as_ref().map_or("none", |b| &*b.name),
    );
    Some(text.chars().take(1000).collect())
}
