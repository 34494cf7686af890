//! Jobs, and what their pods say of them: how far they are, what holds them up, and how they ended.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStatus, Event, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, LogParams},
};

use super::list;
use crate::{
    api::{Timestamp, annotations, labels},
    controller::api::call,
    error::Result,
    manifest::{job::GATE_VOLUME, task::Outcome},
    plan::{
        after, trouble,
        world::{Gate, JobState, JobView},
    },
};

/// How much of a failed container's log is taken.
const LOG_LINES: i64 = 20;

/// The Jobs made for a run, by name, each with what its pod says.
pub async fn jobs(client: &Client, namespace: &str, run: &str, pods: &[Pod]) -> Result<BTreeMap<String, JobView>> {
    let ours = ListParams::default().labels(&format!("{}={run}", labels::RUN));
    let jobs: Vec<Job> = list(client, namespace, &ours).await?;
    let mut out = BTreeMap::new();
    for job in &jobs {
        let mut view = view(job, pods);
        if view.outcome.is_none()
            && matches!(view.state, JobState::Failed(_))
            && let Some(pod) = pod_of(job, pods)
        {
            let container = pod.spec.as_ref().and_then(|s| s.containers.first()).map(|c| c.name.as_str()).unwrap_or_default();
            view.log_tail = log_tail(client, namespace, pod, container).await;
        }
        if let Some(pod) = pod_of(job, pods).filter(|p| view.trouble.is_none() && is_held_up(p)) {
            view.trouble = volume_trouble(client, namespace, pod).await;
        }
        out.insert(view.name.clone(), view);
    }
    Ok(out)
}

/// How long a pod's volumes may take before its Events are asked for.
const MOUNTING: Duration = Duration::from_secs(10);

/// Whether a pod was placed a while ago and none of its containers has begun.
fn is_held_up(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let placed = status.and_then(|s| s.start_time.as_ref()).map(|t| after(t.0, MOUNTING));
    let creating = |c: &ContainerStatus| {
        let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        matches!(waiting, Some("ContainerCreating" | "PodInitializing"))
    };
    let mut containers = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    placed.is_some_and(|at| at <= Timestamp::now()) && containers.any(creating)
}

/// What the kubelet says of a pod's volumes. An Event that cannot be read says nothing.
async fn volume_trouble(client: &Client, namespace: &str, pod: &Pod) -> Option<String> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let of_pod = ListParams::default().fields(&format!("involvedObject.uid={},type=Warning", pod.uid()?));
    let events = call(format!("list Events of pod {}", pod.name_any()), api.list(&of_pod)).await.ok()?.items;
    let about = |e: &&Event| e.reason.as_deref().is_some_and(|r| trouble::OF_VOLUMES.contains(&r));
    let last = events.iter().filter(about).max_by_key(|e| e.last_timestamp.as_ref().map(|t| t.0))?;
    Some(trouble::words(last.reason.as_deref()?, last.message.as_deref()?))
}

pub(super) fn pod_of<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a Pod> {
    pod_of_uid(&job.uid()?, pods)
}

/// The pod of the Job with that UID.
pub(in crate::controller) fn pod_of_uid<'a>(job: &str, pods: &'a [Pod]) -> Option<&'a Pod> {
    pods.iter().find(|p| p.owner_references().iter().any(|o| o.uid == job))
}

/// Whether all containers of a pod that restarts none ended well. `None`: not all have ended. The kubelet says so a second
/// before the pod's phase does, because that waits until the pod's sandbox is gone too.
fn exits(pod: &Pod) -> Option<bool> {
    let spec = pod.spec.as_ref().filter(|s| s.restart_policy.as_deref() == Some("Never"))?;
    let statuses = pod.status.as_ref()?.container_statuses.as_ref().filter(|s| s.len() == spec.containers.len())?;
    let codes = statuses.iter().map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.exit_code)).collect::<Option<Vec<i32>>>()?;
    Some(codes.iter().all(|code| *code == 0))
}

/// Who or what ends a pod from outside. `None`: nobody, or nobody who says so.
fn disruption(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let said = |reason: Option<&String>, message: Option<&String>| {
        let all: Vec<&str> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        all.join(": ")
    };
    let named = status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    match (named, &status.reason, &pod.metadata.deletion_timestamp) {
        (Some(c), ..) => Some(format!("its pod was ended from outside ({})", said(c.reason.as_ref(), c.message.as_ref()))),
        (None, Some(_), _) => {
            Some(format!("its pod was ended by its node ({})", said(status.reason.as_ref(), status.message.as_ref())))
        }
        (None, None, Some(_)) => Some("its pod was deleted".to_owned()),
        (None, None, None) => None,
    }
}

pub(super) fn view(job: &Job, pods: &[Pod]) -> JobView {
    let condition =
        |type_: &str| job.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_ && c.status == "True").cloned();
    let state = if condition("Complete").is_some() {
        JobState::Succeeded
    } else if let Some(failed) = condition("Failed") {
        JobState::Failed(failed.reason.unwrap_or_default())
    } else {
        // With `backoffLimit: 0` the pod's end is the Job's, and the pod says so up to a second earlier. A pod that the Job's
        // own deadline deletes is left to the Job.
        let pod = pod_of(job, pods).filter(|p| p.metadata.deletion_timestamp.is_none() || condition("FailureTarget").is_none());
        match pod.and_then(|p| p.status.as_ref()).and_then(|s| s.phase.as_deref()) {
            Some("Succeeded") => JobState::Succeeded,
            Some("Failed") => JobState::Failed("PodFailed".into()),
            _ => match pod.and_then(exits) {
                Some(true) => JobState::Succeeded,
                Some(false) => JobState::Failed("PodFailed".into()),
                None => JobState::Running,
            },
        }
    };
    let pod = pod_of(job, pods);
    let status = pod.and_then(|p| p.status.as_ref());
    let containers = status.and_then(|s| s.container_statuses.as_ref()).cloned().unwrap_or_default();
    let terminated = containers.iter().find_map(|c| c.state.as_ref()?.terminated.as_ref());
    let trouble = containers.iter().find_map(|c| {
        let waiting = c.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().unwrap_or_default();
        let harmless = matches!(reason.as_str(), "ContainerCreating" | "PodInitializing" | "");
        (!harmless).then(|| format!("{reason}: {}", waiting.message.clone().unwrap_or_default()))
    });
    let unscheduled = || {
        let conditions = status?.conditions.as_ref()?;
        let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        Some(format!("Unschedulable: {}", scheduled.message.clone().unwrap_or_default()))
    };
    // An image that is there makes its container run, end, or fail to be made: its command does not exist on purpose.
    let pulled = containers
        .iter()
        .map(|c| {
            let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
            let there = c.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some())
                || matches!(waiting, Some("CreateContainerError" | "RunContainerError" | "CrashLoopBackOff" | "StartError"));
            (c.name.clone(), there)
        })
        .collect();
    let gate =
        pod.filter(|p| p.spec.as_ref().is_some_and(|s| s.volumes.iter().flatten().any(|v| v.name == GATE_VOLUME))).map(|p| {
            Gate {
                pod: p.name_any(),
                resource_version: p.resource_version().unwrap_or_default(),
                open: p.annotations().contains_key(annotations::GATE),
            }
        });
    let outcome = terminated.and_then(|t| serde_json::from_str::<Outcome>(t.message.as_deref()?).ok());
    JobView {
        gate,
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        step: job.labels().get(labels::STEP).cloned().unwrap_or_default(),
        state: state.clone(),
        created_at: job.creation_timestamp().map(|t| t.0),
        deleting: job.metadata.deletion_timestamp.is_some(),
        exit_code: terminated.map(|t| t.exit_code),
        exit_reason: terminated.and_then(|t| t.reason.clone()),
        disruption: pod.filter(|_| condition("FailureTarget").is_none()).and_then(disruption),
        progress: outcome.as_ref().and_then(|o| o.progress.clone()),
        outcome,
        trouble: trouble.or_else(unscheduled).or_else(|| {
            let none = pod.is_none() && state == JobState::Running;
            none.then(|| {
                format!("no pod was made for it (a quota, a PodSecurity level): kubectl describe job {}", job.name_any())
            })
        }),
        pulled,
        log_tail: None,
    }
}

/// The last lines of a container's log. Lines in which PostgreSQL quotes rows are left out: they would stand in the status.
pub(super) async fn log_tail(client: &Client, namespace: &str, pod: &Pod, container: &str) -> Option<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = LogParams { container: Some(container.to_owned()), tail_lines: Some(LOG_LINES), ..LogParams::default() };
    let text = call("read a log", api.logs(&pod.name_any(), &params)).await.ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !quotes_rows(l)).collect();
    let last = lines.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join(" | ");
    let printable: String = last.chars().filter(|c| !c.is_control()).take(600).collect();
    (!printable.is_empty()).then_some(printable)
}

fn quotes_rows(line: &str) -> bool {
    let upper = line.to_ascii_uppercase();
    ["DETAIL", "CONTEXT", "KEY (", "FAILING ROW", "HINT:", "PASSWORD"].iter().any(|w| upper.contains(w))
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
