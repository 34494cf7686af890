//! Delivery: which image each workload gets, how many pods, and the wait for its rollout.

use std::collections::BTreeMap;

use crate::{
    api::{EnvironmentSpec, Release, ReleaseContainer, ReleaseModule, Timestamp, WorkloadRef},
    manifest::{found::FoundWorkload, patch},
    plan::{
        Progress, maintenance,
        workload::Workload,
        world::{Run, World},
    },
};

/// By workload: an image for each container.
pub type Images = BTreeMap<WorkloadRef, BTreeMap<String, String>>;

/// The images of a release's modules, as `image` names them.
pub fn images_of<'a>(
    modules: impl IntoIterator<Item = &'a ReleaseModule>,
    image: impl Fn(&ReleaseContainer) -> String,
) -> Images {
    let workloads = modules.into_iter().flat_map(|m| &m.workloads);
    workloads
        .map(|w| {
            let reference = WorkloadRef { kind: w.kind, name: w.name.as_str().into() };
            (reference, w.containers.iter().map(|c| (c.name.clone(), image(c))).collect())
        })
        .collect()
}

/// How a run names an image: a release by its digest; what a restore brings back, as the specs named it then.
pub fn image(world: &World<'_>) -> fn(&ReleaseContainer) -> String {
    match world.run {
        Run::Promotion(_) | Run::Alignment(_) => ReleaseContainer::pinned,
        Run::Restore(_) => |container| container.image.clone(),
    }
}

pub(super) fn module_workloads(target: &EnvironmentSpec, module: &str) -> Vec<WorkloadRef> {
    target.module(module).map(|m| m.workloads.clone()).unwrap_or_default()
}

pub(super) fn other_workloads(target: &EnvironmentSpec, release: &Release) -> Vec<WorkloadRef> {
    let promoted = |name: &str| release.modules.iter().any(|m| m.name == name);
    target.modules.iter().filter(|m| !promoted(&m.name)).flat_map(|m| m.workloads.clone()).collect()
}

/// Which of these images a workload does not have yet. A container that it lacks was refused before, or is not its own.
pub fn different(workload: Workload<'_>, wanted: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let here = workload.all_containers().filter_map(|c| Some((c, wanted.get(&c.name)?)));
    here.filter(|(c, image)| c.image.as_ref() != Some(image)).map(|(c, image)| (c.name.clone(), image.clone())).collect()
}

/// Sets images and pod counts, then waits for the rollouts. A CronJob stays suspended until users are back.
pub fn workloads(world: &World<'_>, images: &Images, workloads: &[WorkloadRef], begun: Timestamp, now: Timestamp) -> Progress {
    let side = world.target_side;
    let uid = world.uid();
    let none = BTreeMap::new();
    for reference in workloads {
        let Some(workload) = side.find(reference) else {
            return Progress::failed("WorkloadMissing", format!("{reference} does not exist any more"));
        };
        let stopped = maintenance::found_workload(workload).filter(|f| f.run == uid).map(|f| f.values);
        let start = stopped.filter(|found| matches!(found, FoundWorkload::Replicas(_)));
        let images = different(workload, images.get(reference).unwrap_or(&none));
        if start.is_some() || !images.is_empty() {
            return Progress::Do(patch::deliver(workload, &images, start));
        }
    }
    for workload in workloads.iter().filter_map(|w| side.find(w)) {
        match maintenance::rollout(side, workload, begun, now) {
            Progress::Done(_) => {}
            other => return other,
        }
    }
    Progress::Done(None)
}
