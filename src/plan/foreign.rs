//! Foreign hands: programs and people that change, while the environment is locked, what the lock needs as it is.
//!
//! 1. What was led away, scaled up, or given another image or configuration is put right again. Each time is counted in the
//!    status first, with the manager that the API server names, and then done.
//! 2. Who does it again and again cannot be outdone: beyond a bound the run is rolled back, and its failure names him.
//! 3. A rollback goes on all the same, and counts on the fence where pods of his will not go.
//! 4. What was paused and is changed meanwhile is somebody's wish: it stays, and the step that would have put it back says so.

use std::time::Duration;

use kube::{ResourceExt, api::ObjectMeta};

use super::{
    Decision, Effect, Progress, after, forward, maintenance,
    promotion::{advance, owner},
    rollback, steps,
    steps::name,
    workload::Workload,
    world::World,
};
use crate::{
    api::{EnvironmentSpec, FIELD_MANAGER, Failure, Phase, Revert, RunStatus, Step, StepState, Timestamp, WorkloadKind},
    manifest::patch,
};

/// So often somebody's change is put right before the run gives up.
pub const BOUND: i32 = 5;
/// A rollback waits so much longer than the drain for pods that somebody starts again and again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Something that is not as the lock needs it.
struct Deviation<'a> {
    kind: &'static str,
    metadata: &'a ObjectMeta,
    /// What of it was changed, in words.
    what: &'static str,
    /// What puts it right.
    effect: Effect,
}

/// Looks for foreign hands before a step is gone on with. `None`: there are none.
pub fn guard(
    world: &World<'_>,
    target: &EnvironmentSpec,
    status: &RunStatus,
    step: &Step,
    now: Timestamp,
) -> Option<Decision<RunStatus>> {
    if let Some(said) = kept_wishes(world, step) {
        let mut status = status.clone();
        if let Some(step) = status.steps.iter_mut().find(|s| s.name == step.name) {
            step.message = Some(said);
        }
        return Some(advance(world, status, now));
    }
    let deviation = deviation(world, target, status)?;
    let (metadata, what) = (deviation.metadata, deviation.what);
    let name = metadata.name.clone().unwrap_or_default();
    // Controllers write status, which is a new resourceVersion and no new hand; only what has no generation is known by that.
    let version =
        metadata.generation.map_or_else(|| metadata.resource_version.clone().unwrap_or_default(), |g| format!("generation {g}"));
    let known = status.reverts.iter().find(|r| r.kind == deviation.kind && r.name == name);
    if known.is_some_and(|r| r.resource_version == version) {
        return Some(Decision::Perform(deviation.effect));
    }
    let mut status = status.clone();
    let manager = manager(metadata);
    let times = known.map_or(0, |r| r.times) + 1;
    let forth = !is_back(&status);
    if forth && times > BOUND {
        let message = format!(
            "{} {name}: {manager} changed {what} again and again while the environment was locked, {BOUND} times put right: {}",
            deviation.kind,
            remedy(&manager)
        );
        let failure = Failure { step: step.name.clone(), reason: "ForeignHands".into(), message };
        return Some(rollback::begin(world, status, failure, now));
    }
    let fresh =
        Revert { kind: deviation.kind.into(), name: name.clone(), manager: manager.clone(), times, resource_version: version };
    match status.reverts.iter_mut().find(|r| r.kind == fresh.kind && r.name == name) {
        Some(known) => *known = fresh,
        None => status.reverts.push(fresh),
    }
    status.reverts.truncate(64);
    status.next = Some(format!("{} {name}: {manager} changed {what}; it is put right", deviation.kind));
    Some(advance(world, status, now))
}

/// Whether the run puts things back: a rollback that is stuck still does.
fn is_back(status: &RunStatus) -> bool {
    matches!(status.phase, Phase::RollingBack | Phase::NeedsHuman)
}

/// Who changed an object last, but for this operator and the controllers that only report.
fn manager(metadata: &ObjectMeta) -> String {
    let others = metadata.managed_fields.iter().flatten().filter(|m| m.subresource.as_deref() != Some("status"));
    let others = others.filter(|m| m.manager.as_deref() != Some(FIELD_MANAGER));
    let last = others.max_by_key(|m| m.time.as_ref().map(|t| t.0));
    last.and_then(|m| m.manager.clone()).map_or_else(|| "somebody".to_owned(), |m| format!("the manager {m}"))
}

fn remedy(manager: &str) -> String {
    let known = [
        ("argocd", "turn the Application's automated sync off"),
        ("kustomize-controller", "flux suspend kustomization"),
        ("helm-controller", "flux suspend helmrelease"),
        ("kube-controller-manager", "look for an autoscaler that starts at nothing"),
    ];
    let how = known.iter().find(|(name, _)| manager.contains(name)).map(|(_, how)| format!(" ({how})")).unwrap_or_default();
    format!("suspend it for as long as a run takes{how}, then make the Promotion again")
}

/// What the step says of objects that somebody has changed since they were paused or closed. `None`: nothing, or all is said.
fn kept_wishes(world: &World<'_>, step: &Step) -> Option<String> {
    let (side, uid) = (world.target_side, world.uid());
    let said = step.message.clone().unwrap_or_default();
    let new: Vec<String> = match steps::kind(&step.name) {
        name::RESUME | name::BACK_RESUME => {
            let ours = |w: &Workload<'_>| maintenance::found_workload(*w).is_some_and(|f| f.run == uid) && !w.is_stopped();
            let names = side.workloads().filter(ours).map(|w| w.reference().to_string());
            names.map(|n| format!("{n} was started by {}, and stays as it is", by(side, &n))).collect()
        }
        name::OPEN | name::BACK_OPEN => {
            let ours = |s: &&k8s_openapi::api::core::v1::Service| {
                let found = maintenance::found_service(s).filter(|f| f.run == uid);
                found.is_some_and(|f| !maintenance::leads_to_page(s, &uid) && maintenance::as_wished(s, &f.values) != f.values)
            };
            let names = side.services.iter().filter(ours).map(ResourceExt::name_any);
            names.map(|n| format!("Service {n} was led elsewhere meanwhile, and stays so")).collect()
        }
        _ => return None,
    };
    let fresh: Vec<String> = new.into_iter().filter(|n| !said.contains(n.as_str())).collect();
    if fresh.is_empty() {
        return None;
    }
    let all = std::iter::once(said).chain(fresh).filter(|s| !s.is_empty()).collect::<Vec<_>>().join("; ");
    Some(all.chars().take(4000).collect())
}

fn by(side: &super::world::Side, reference: &str) -> String {
    let found = side.workloads().find(|w| w.reference().to_string() == reference);
    found.map_or_else(|| "somebody".to_owned(), |w| manager(w.metadata()))
}

/// How far the run is, as far as it matters here.
struct Stage<'a> {
    steps: &'a [Step],
    back: bool,
}

impl Stage<'_> {
    fn began(&self, kind: &str) -> bool {
        self.steps.iter().any(|s| steps::kind(&s.name) == kind && s.state != StepState::Pending && s.started_at.is_some())
    }

    fn done(&self, step: &str) -> bool {
        self.steps.iter().any(|s| s.name == step && s.state == StepState::Succeeded)
    }

    fn step_began(&self, step: &str) -> bool {
        self.steps.iter().any(|s| s.name == step && s.started_at.is_some())
    }
}

/// The first thing that is not as the lock needs it.
fn deviation<'a>(world: &World<'a>, target: &EnvironmentSpec, status: &RunStatus) -> Option<Deviation<'a>> {
    let stage = Stage { steps: &status.steps, back: is_back(status) };
    status.epoch?;
    led_away(world, target, status, &stage)
        .or_else(|| started(world, target, status, &stage))
        .or_else(|| otherwise(world, target, status, &stage))
}

/// A Service that was closed and does not lead to the page.
fn led_away<'a>(world: &World<'a>, target: &EnvironmentSpec, status: &RunStatus, stage: &Stage<'_>) -> Option<Deviation<'a>> {
    if !stage.began(name::CLOSE) || stage.began(name::OPEN) || stage.began(name::BACK_OPEN) {
        return None;
    }
    let owner = owner(world);
    let closed = |s: &&k8s_openapi::api::core::v1::Service| match maintenance::found_service(s) {
        Some(found) if found.run == owner.uid => maintenance::leads_to_page(s, owner.uid),
        _ => !stage.done(name::CLOSE),
    };
    let service = maintenance::services(target, world.target_side).into_iter().find(|s| !closed(s))?;
    Some(Deviation {
        kind: "Service",
        metadata: &service.metadata,
        what: "where it leads",
        effect: patch::close_service(service, owner, status.epoch.unwrap_or(0)),
    })
}

/// A workload that was stopped and is not.
fn started<'a>(world: &World<'a>, target: &EnvironmentSpec, status: &RunStatus, stage: &Stage<'_>) -> Option<Deviation<'a>> {
    let owner = owner(world);
    let (begun, over) = if stage.back { (name::BACK_STOP, name::BACK_WORKLOADS) } else { (name::STOP, name::OPEN) };
    if !stage.began(begun) || stage.began(over) {
        return None;
    }
    let promoted = |module: &str| status.release.iter().flat_map(|r| &r.modules).any(|m| m.name == module);
    for module in &target.modules {
        let starts =
            if promoted(&module.name) { format!("{}/{}", name::WORKLOADS, module.name) } else { name::OTHERS.to_owned() };
        for reference in module.workloads.iter().filter(|w| !target.maintenance.exclude.contains(w)) {
            let is_started = !stage.back && stage.step_began(&starts) && reference.kind != WorkloadKind::CronJob;
            let Some(workload) = world.target_side.find(reference).filter(|_| !is_started) else { continue };
            let stopped = match maintenance::found_workload(workload) {
                Some(found) if found.run == owner.uid => workload.is_stopped(),
                _ => !stage.done(begun),
            };
            if !stopped {
                let effect = patch::stop(workload, owner, status.epoch.unwrap_or(0));
                let what = "how many pods it makes";
                return Some(Deviation { kind: kind(workload), metadata: workload.metadata(), what, effect });
            }
        }
    }
    None
}

fn kind(workload: Workload<'_>) -> &'static str {
    match workload.kind() {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
        WorkloadKind::CronJob => "CronJob",
    }
}

/// A delivered workload or ConfigMap that is not what was delivered.
fn otherwise<'a>(world: &World<'a>, target: &EnvironmentSpec, status: &RunStatus, stage: &Stage<'_>) -> Option<Deviation<'a>> {
    if stage.back || stage.began(name::RELEASE) || stage.began(name::OPEN) {
        return None;
    }
    let (side, owner) = (world.target_side, owner(world));
    for module in status.release.iter().flat_map(|r| &r.modules) {
        if stage.done(&format!("{}/{}", name::CONFIGURATION, module.name))
            && let Progress::Do(effect) = forward::configuration(world, target, owner, &module.name)
            && let Effect::Patch { name, .. } = &effect
            && let Some(map) = side.config_map(name)
        {
            return Some(Deviation { kind: "ConfigMap", metadata: &map.metadata, what: "its content", effect });
        }
        let step = format!("{}/{}", name::WORKLOADS, module.name);
        for (reference, images) in forward::images_of([module], forward::image(world)) {
            let Some(workload) = side.find(&reference) else { continue };
            // While the step is going on, what was stopped and is not any more has got its images.
            let down = !target.maintenance.exclude.contains(&reference) && reference.kind != WorkloadKind::CronJob;
            let has_them =
                stage.step_began(&step) && down && maintenance::found_workload(workload).is_none_or(|f| f.run != owner.uid);
            let different = forward::different(workload, &images);
            if (stage.done(&step) || has_them) && !different.is_empty() {
                let effect = patch::deliver(workload, &different, None);
                return Some(Deviation { kind: kind(workload), metadata: workload.metadata(), what: "its images", effect });
            }
        }
    }
    None
}

/// Before a check, where somebody had to be put right: the pods must be the release's again.
pub fn rolled_out(world: &World<'_>, target: &EnvironmentSpec, status: &RunStatus, begun: Timestamp, now: Timestamp) -> Progress {
    if status.reverts.is_empty() {
        return Progress::Done(None);
    }
    let all = target.modules.iter().flat_map(|m| &m.workloads).filter_map(|w| world.target_side.find(w));
    all.map(|w| maintenance::rollout(world.target_side, w, begun, now))
        .find(|p| !matches!(p, Progress::Done(_)))
        .unwrap_or(Progress::Done(None))
}

/// A rollback does not wait for ever for pods that somebody starts again and again: the fence keeps them from the data.
pub fn stopped_enough(
    progress: Progress,
    target: &EnvironmentSpec,
    status: &RunStatus,
    begun: Timestamp,
    now: Timestamp,
) -> Progress {
    let enough = after(begun, target.maintenance.drain.or(Duration::from_secs(30)) + PATIENCE);
    match progress {
        Progress::Waiting { what, .. } if now >= enough && !status.reverts.is_empty() => {
            Progress::Done(Some(format!("not waited for any longer, because somebody starts them again: {what}")))
        }
        other => other,
    }
}
