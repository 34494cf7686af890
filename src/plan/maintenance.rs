//! Locking users out and letting them in: which workloads go down, which Services lead to the page, what each needs next.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{ConfigMap, ContainerStatus, Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;

use super::{
    Effect, Progress, Resource, after, alignment, prepare, scalers, trouble,
    workload::Workload,
    world::{Side, World, has_ended},
};
use crate::{
    api::{EnvironmentSpec, Phase, Timestamp, WorkloadRef, labels},
    manifest::{
        Owner,
        found::{Found, FoundService, FoundWorkload},
        page, patch,
    },
};

/// After a Service's endpoints have changed, kube-proxy needs up to its least sync period, a second by default, to follow.
pub const SETTLE: Duration = Duration::from_millis(1500);

/// How long the page stays after the Services lead elsewhere: connections on their way to it are still answered.
pub const LINGER: Duration = Duration::from_secs(5);

/// Workloads that go down while locked: all of all modules but those excluded.
pub fn workloads_down(spec: &EnvironmentSpec) -> Vec<WorkloadRef> {
    spec.modules.iter().flat_map(|m| m.workloads.clone()).filter(|w| !spec.maintenance.exclude.contains(w)).collect()
}

/// The Services that lead to the page while locked: those named, or all that select pods of workloads that go down.
/// Services that lead to the page already count by what was found on them.
pub fn services<'a>(spec: &EnvironmentSpec, side: &'a Side) -> Vec<&'a Service> {
    let pods: Vec<BTreeMap<String, String>> =
        workloads_down(spec).iter().filter_map(|w| side.find(w)).map(Workload::pod_labels).collect();
    // By a StatefulSet's governing Service its pods call each other by name: no user enters by it.
    let governing: Vec<&str> = side.stateful_sets.iter().filter_map(|s| s.spec.as_ref()?.service_name.as_deref()).collect();
    let only_governs = |s: &Service| is_headless(s) && governing.contains(&s.name_any().as_str());
    side.services
        .iter()
        .filter(|s| !s.annotations().contains_key(page::TWIN_OF))
        .filter(|s| match &spec.maintenance.services.names {
            Some(names) => names.iter().any(|n| **n == s.name_any()),
            None => {
                let selector = selector(s);
                !only_governs(s)
                    && !selector.is_empty()
                    && pods.iter().any(|labels| selector.iter().all(|(k, v)| labels.get(k) == Some(v)))
            }
        })
        .collect()
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

/// What a Service selects when it is not closed.
fn selector(service: &Service) -> BTreeMap<String, String> {
    match found_service(service) {
        Some(found) => found.values.selector,
        None => service.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default(),
    }
}

/// Whether a Service leads to the page of a run, and to nothing else.
pub fn leads_to_page(service: &Service, uid: &str) -> bool {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_ref());
    spec.and_then(|s| s.selector.as_ref()).is_some_and(|s| s.len() == 1 && s.get(labels::PAGE).is_some_and(|v| v == uid))
        && ports.is_some_and(|p| p.iter().all(|p| p.target_port == Some(IntOrString::Int(page::PORT.into()))))
}

/// What was found on a Service that is closed.
pub fn found_service(service: &Service) -> Option<Found<FoundService>> {
    Found::read(service.annotations())
}

/// What was found on a workload that is stopped.
pub fn found_workload(workload: Workload<'_>) -> Option<Found<FoundWorkload>> {
    Found::read(workload.annotations())
}

/// Why a Service cannot lead to the page. `None`: it can.
pub fn refuse_service(service: &Service) -> Option<String> {
    let name = service.name_any();
    let spec = service.spec.as_ref()?;
    let why = if spec.type_.as_deref() == Some("ExternalName") {
        "is of type ExternalName"
    } else if is_headless(service) {
        "is headless: clients keep addresses of pods, which no page can answer for"
    } else if selector(service).is_empty() {
        "has no selector"
    } else if spec.internal_traffic_policy.as_deref() == Some("Local") || spec.external_traffic_policy.as_deref() == Some("Local")
    {
        "has a traffic policy Local: on nodes without the page's pod it would refuse connections"
    } else {
        return None;
    };
    Some(format!(
        "Service {name} {why}; name the Services by which users enter under maintenance.services.names, without this one"
    ))
}

fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_ref())
            .is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Whether the page's pod answers.
pub fn page_is_ready(side: &Side, uid: &str) -> bool {
    page_pods(side, uid).any(is_ready)
}

/// The page's pods.
fn page_pods<'a>(side: &'a Side, uid: &str) -> impl Iterator<Item = &'a Pod> {
    side.pods.iter().filter(move |p| p.labels().get(labels::PAGE).is_some_and(|v| v == uid))
}

/// Why the page's pod does not answer, where that is known.
pub fn page_trouble(side: &Side, uid: &str) -> Option<String> {
    trouble::of_pods(&page_pods(side, uid).collect::<Vec<_>>())
}

/// Pausing: integrations make nothing new. What they have begun is waited for with the workloads.
pub fn pause(world: &World<'_>, spec: &EnvironmentSpec, owner: Owner<'_>, epoch: i64) -> Progress {
    let paused = spec.maintenance.pause.iter().filter_map(|w| world.target_side.find(w));
    for workload in paused {
        if found_workload(workload).is_none_or(|f| f.run != owner.uid) {
            return Progress::Do(patch::stop(workload, owner, epoch));
        }
    }
    Progress::Done(None)
}

/// Resuming: whatever this run stopped and has not started is put back as it was found. What somebody has changed meanwhile
/// stays as he wants it.
pub fn resume(world: &World<'_>, owner: Owner<'_>) -> Progress {
    for workload in world.target_side.workloads() {
        if let Some(found) = found_workload(workload).filter(|f| f.run == owner.uid) {
            return Progress::Do(patch::put_back(workload, workload.is_stopped().then_some(found.values)));
        }
    }
    Progress::Done(None)
}

/// Closing: every Service leads to the page, has a twin, and its endpoints have followed.
pub fn close(world: &World<'_>, spec: &EnvironmentSpec, owner: Owner<'_>, epoch: i64) -> Progress {
    let side = world.target_side;
    let pages: Vec<String> = page_pods(side, owner.uid).map(ResourceExt::name_any).collect();
    for service in services(spec, side) {
        let name = service.name_any();
        match found_service(service) {
            Some(found) if found.run == owner.uid => {
                if side.service(&page::twin_name(owner, &name)).is_none() {
                    return Progress::Do(page::twin(owner, service, &found.values));
                }
                let targets = side.endpoints.get(&name).cloned().unwrap_or_default();
                if targets.is_empty() || !targets.iter().all(|t| pages.contains(t)) {
                    return Progress::waiting(format!("Service {name} to lead to the page"));
                }
            }
            _ => return Progress::Do(patch::close_service(service, owner, epoch)),
        }
    }
    Progress::Done(None)
}

/// Stopping: every workload and integration is scaled to nothing or suspended, and its pods are gone. Pods that take longer than `drain` are ended.
pub fn stop(
    world: &World<'_>,
    spec: &EnvironmentSpec,
    owner: Owner<'_>,
    epoch: i64,
    begun: Timestamp,
    now: Timestamp,
) -> Progress {
    let drained = after(begun, spec.maintenance.drain.or(Duration::from_secs(30)));
    let mut all = workloads_down(spec);
    all.extend(spec.maintenance.pause.iter().cloned());
    if let Some(effect) = scalers::rest(world.target_side, &all, owner, epoch) {
        return Progress::Do(effect);
    }
    stop_all(world.target_side, &all, &spec.maintenance.pause, owner, epoch, drained, now)
}

/// Stops these workloads; what they have begun may go on until `drained`. An integration that somebody has started again
/// stays as he wants it, and is not waited for.
pub fn stop_all(
    side: &Side,
    workloads: &[WorkloadRef],
    integrations: &[WorkloadRef],
    owner: Owner<'_>,
    epoch: i64,
    drained: Timestamp,
    now: Timestamp,
) -> Progress {
    for workload in workloads.iter().filter_map(|w| side.find(w)) {
        if found_workload(workload).is_none_or(|f| f.run != owner.uid) {
            return Progress::Do(patch::stop(workload, owner, epoch));
        }
    }
    let mut left = Vec::new();
    let wished = |w: &Workload<'_>| !w.is_stopped() && integrations.contains(&w.reference());
    for workload in workloads.iter().filter_map(|w| side.find(w)).filter(|w| !wished(w)) {
        if !workload.is_observed() {
            left.push(format!("{} to be observed", workload.reference()));
        }
        if let Workload::CronJob(cron_job) = workload {
            for run in side.runs_of(cron_job).into_iter().filter(|j| !has_ended(j)) {
                if now >= drained && run.metadata.deletion_timestamp.is_none() {
                    return Progress::Do(Effect::Delete {
                        resource: Resource::Job,
                        name: run.name_any(),
                        uid: run.uid().unwrap_or_default(),
                        grace: None,
                    });
                }
                left.push(format!("Job {}", run.name_any()));
            }
        }
        for pod in side.pods_of(workload) {
            if is_over(pod) {
                continue;
            }
            let stuck = pod.metadata.deletion_grace_period_seconds != Some(0);
            if now >= drained && stuck && pod.metadata.deletion_timestamp.is_some() {
                return Progress::Do(Effect::Delete {
                    resource: Resource::Pod,
                    name: pod.name_any(),
                    uid: pod.uid().unwrap_or_default(),
                    grace: Some(0),
                });
            }
            left.push(format!("pod {}", pod.name_any()));
        }
    }
    if left.is_empty() {
        return Progress::Done(None);
    }
    left.sort();
    Progress::Waiting { what: format!("{} to end", left.join(", ")), until: (now < drained).then_some(drained) }
}

/// Whether a pod's containers have all ended for good.
pub fn is_over(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed")
}

/// Opening: every Service leads where it led before, and its endpoints have followed; the twins are gone.
pub fn open(world: &World<'_>, owner: Owner<'_>) -> Progress {
    match open_services(world, owner) {
        Progress::Done(said) => scalers::go_on(world.target_side, owner).map_or(Progress::Done(said), Progress::Do),
        other => other,
    }
}

/// The Services alone: what scales workloads by itself stays at rest.
pub fn open_services(world: &World<'_>, owner: Owner<'_>) -> Progress {
    let side = world.target_side;
    let pages: Vec<String> = page_pods(side, owner.uid).map(ResourceExt::name_any).collect();
    for service in &side.services {
        let name = service.name_any();
        if let Some(found) = found_service(service).filter(|f| f.run == owner.uid) {
            if !leads_to_page(service, owner.uid) {
                return Progress::Do(patch::open_service(service, &as_wished(service, &found.values)));
            }
            return Progress::Do(patch::open_service(service, &found.values));
        }
        let targets = side.endpoints.get(&name).cloned().unwrap_or_default();
        if targets.iter().any(|t| pages.contains(t)) {
            return Progress::waiting(format!("Service {name} to lead to the workloads"));
        }
    }
    Progress::Done(None)
}

/// Where a closed Service is to lead that somebody has changed meanwhile: what he wrote stays, what is ours goes.
pub fn as_wished(service: &Service, found: &FoundService) -> FoundService {
    let spec = service.spec.clone().unwrap_or_default();
    let mut selector = spec.selector.unwrap_or_default();
    selector.remove(labels::PAGE);
    let to_page = Some(IntOrString::Int(page::PORT.into()));
    let mut ports = spec.ports.unwrap_or_default();
    for port in ports.iter_mut().filter(|p| p.target_port == to_page) {
        let before = found.ports.iter().find(|p| p.port == port.port && p.protocol == port.protocol);
        port.target_port = before.map_or_else(|| port.target_port.clone(), |p| p.target_port.clone());
    }
    FoundService { selector: if selector.is_empty() { found.selector.clone() } else { selector }, ports }
}

/// What of a run's objects is still there: the page, twins, Jobs, copies. In the order in which it goes.
pub fn leftovers(world: &World<'_>, owner: Owner<'_>) -> Option<Effect> {
    leftovers_but(world, owner, &|_| false)
}

/// The same, but for copies of configuration that are kept.
pub fn leftovers_but(world: &World<'_>, owner: Owner<'_>, keep: &dyn Fn(&ConfigMap) -> bool) -> Option<Effect> {
    let ours = |labels_: &BTreeMap<String, String>| labels_.get(labels::RUN).is_some_and(|v| v == owner.uid);
    let side = world.target_side;
    let delete = |resource, name: String, uid: Option<String>| Effect::Delete {
        resource,
        name,
        uid: uid.unwrap_or_default(),
        grace: None,
    };
    if let Some(twin) = side.services.iter().find(|s| ours(s.labels()) && s.metadata.deletion_timestamp.is_none()) {
        return Some(delete(Resource::Service, twin.name_any(), twin.uid()));
    }
    if let Some(page) = side.deployments.iter().find(|d| ours(d.labels()) && d.metadata.deletion_timestamp.is_none()) {
        return Some(delete(Resource::Deployment, page.name_any(), page.uid()));
    }
    if let Some(job) = world.jobs.values().find(|j| !j.deleting) {
        return Some(delete(Resource::Job, job.name.clone(), Some(job.uid.clone())));
    }
    if let Some(left) = alignment::left_elsewhere(world) {
        return Some(left);
    }
    // What was there before a run that keeps undo points is needed to undo it; the Environment removes it with them.
    let status = world.status();
    let keeps = status.phase == Phase::Verifying && !status.undo.is_empty();
    let prior = |c: &ConfigMap| keeps && c.annotations().get(prepare::SIDE).is_some_and(|side| side == prepare::PRIOR);
    let goes = |c: &&ConfigMap| ours(c.labels()) && c.metadata.deletion_timestamp.is_none() && !keep(c) && !prior(c);
    if let Some(copy) = side.config_maps.iter().find(goes) {
        return Some(delete(Resource::ConfigMap, copy.name_any(), copy.uid()));
    }
    None
}

/// Whether pods or Jobs of the run are still on their way out, in the source's namespace too: a Job that someone deleted there may
/// be gone before its pod, which still holds credentials and a lock of the repository.
pub fn still_leaving(world: &World<'_>, owner: Owner<'_>) -> bool {
    let of_run = |p: &Pod| p.labels().get(labels::RUN).is_some_and(|v| v == owner.uid);
    !world.jobs.is_empty()
        || world.elsewhere.is_some_and(|e| !e.jobs.is_empty())
        || world.target_side.pods.iter().any(of_run)
        || (world.elsewhere.is_some() && world.source_side.pods.iter().filter(|p| !is_over(p)).any(of_run))
        || world.target_side.deployments.iter().any(|d| d.labels().get(labels::RUN).is_some_and(|v| v == owner.uid))
}

/// Aliases by which a check reaches the real pods under the Services' own names.
pub fn aliases(world: &World<'_>, owner: Owner<'_>) -> Vec<serde_json::Value> {
    world
        .target_side
        .services
        .iter()
        .filter(|s| s.labels().get(labels::RUN).is_some_and(|v| v == owner.uid))
        .filter_map(|twin| {
            let of = twin.annotations().get(page::TWIN_OF)?;
            Some(page::alias(of, owner.namespace, twin.spec.as_ref()?.cluster_ip.as_deref()?))
        })
        .collect()
}

/// A StatefulSet has no deadline of its own; it gets the one that a Deployment has where nobody says another. And a Deployment's
/// own is over once a release has been rolled out: the pods of one that was stopped and starts again as it was, as in a rollback
/// or a mirror of the same release, could be waited for without end, while users see the page.
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(600);

/// What a rollout that began then has come to.
pub fn rollout(side: &Side, workload: Workload<'_>, begun: Timestamp, now: Timestamp) -> Progress {
    let name = workload.reference();
    let FoundWorkload::Replicas(wanted) = workload.scale() else {
        // A CronJob starts nothing by being delivered.
        return Progress::Done(None);
    };
    if !workload.is_observed() {
        return Progress::waiting(format!("{name} to be observed"));
    }
    let pods: Vec<&Pod> = side.pods_of(workload).into_iter().filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
    if let Some((pod, trouble)) = pods.iter().find_map(|p| Some((p, hopeless(p)?))) {
        let said = side.crashes.get(&pod.name_any()).map(|log| format!("; its last lines: {log}")).unwrap_or_default();
        return Progress::failed("RolloutFailed", format!("{name}: {trouble}{said}"));
    }
    let (counts, failed, refused, deadline) = match workload {
        Workload::Deployment(deployment) => {
            let status = deployment.status.clone().unwrap_or_default();
            let condition = |type_: &str, value: &str| {
                let found = status.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == value);
                found.map(|c| c.message.clone().unwrap_or_default())
            };
            let counts = (status.updated_replicas, status.available_replicas, status.replicas);
            let progressing = status.conditions.iter().flatten().find(|c| c.type_ == "Progressing");
            let own = deployment.spec.as_ref().and_then(|s| s.progress_deadline_seconds).and_then(|s| u64::try_from(s).ok());
            let over = progressing.is_some_and(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
            let deadline = over.then(|| after(begun, own.map_or(ROLLOUT_DEADLINE, Duration::from_secs)));
            (counts, condition("Progressing", "False"), condition("ReplicaFailure", "True"), deadline)
        }
        Workload::StatefulSet(set) => {
            let status = set.status.clone().unwrap_or_default();
            let counts = (status.updated_replicas, status.available_replicas, Some(status.replicas));
            (counts, None, None, Some(after(begun, ROLLOUT_DEADLINE)))
        }
        Workload::CronJob(_) => return Progress::Done(None),
    };
    let why = trouble::of_pods(&pods);
    let because = |said: Option<String>| said.map(|said| format!(": {said}")).unwrap_or_default();
    if let Some(failed) = failed {
        return Progress::failed("RolloutFailed", format!("{name}: {failed}{}", because(why)));
    }
    let (updated, available, all) = (counts.0.unwrap_or(0), counts.1.unwrap_or(0), counts.2.unwrap_or(0));
    if updated == wanted && available >= wanted && all == wanted {
        return Progress::Done(None);
    }
    if let Some(late) = deadline.filter(|d| *d <= now) {
        return Progress::failed(
            "RolloutFailed",
            format!("{name}: {available} of {wanted} pods ready at {late}{}", because(why)),
        );
    }
    Progress::Waiting { what: format!("{name}: {available} of {wanted} pods ready{}", because(refused.or(why))), until: deadline }
}

/// Restarts after which a container is held to crash for good: Kubernetes has waited 10 and 20 seconds between them.
const HOPELESS_RESTARTS: i32 = 2;

/// The container of a pod that crashes again and again, if one does.
pub fn crashing(pod: &Pod) -> Option<&ContainerStatus> {
    let status = pod.status.as_ref()?;
    let mut all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.find(|c| {
        let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        waiting == Some("CrashLoopBackOff") && c.restart_count >= HOPELESS_RESTARTS
    })
}

/// Why a pod will not become ready by waiting.
fn hopeless(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    for container in status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()) {
        let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
        let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
        let said = waiting.and_then(|w| w.message.clone()).unwrap_or_default();
        let ended = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        match reason {
            "CrashLoopBackOff" if container.restart_count >= HOPELESS_RESTARTS => {
                let why = ended
                    .map(|t| format!("exit code {}, {}", t.exit_code, t.reason.clone().unwrap_or_default()))
                    .unwrap_or_default();
                return Some(format!("container {} of pod {} crashes again and again ({why})", container.name, pod.name_any()));
            }
            "ImagePullBackOff" | "InvalidImageName" | "CreateContainerConfigError" | "ErrImageNeverPull" => {
                return Some(format!("container {} of pod {} cannot start: {reason}: {said}", container.name, pod.name_any()));
            }
            _ => {}
        }
    }
    None
}
