//! Data that is a volume: as whom and where Jobs mount it, and who else does.
//!
//! A volume has no fence: while locked nothing may mount it, so what mounts it must go down, and is looked at once more when
//! the workloads are down.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, Pod, PodSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use serde_json::{Map, Value};

use super::{Progress, after, maintenance, world::Side};
use crate::{
    api::{Data, EnvironmentSpec, Timestamp, labels},
    manifest::volume::{Mounts, OF_CONTAINERS, OF_PODS},
};

/// How long a pod that mounts a volume may still take to go, once the workloads are down.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What must be the same of all that mount volumes of an environment: one Job works on them all.
const OF_ALL: [&str; 2] = ["runAsUser", "runAsGroup"];

/// The claims of data, by name of the data.
fn claims<'a>(data: impl IntoIterator<Item = &'a Data>) -> Vec<(&'a str, &'a str)> {
    data.into_iter().filter_map(|d| Some((&*d.name, d.claim()?))).collect()
}

/// The name of the pod's volume with that claim.
fn volume_of<'a>(pod: &'a PodSpec, claim: &str) -> Option<&'a str> {
    let named =
        |v: &&k8s_openapi::api::core::v1::Volume| v.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == claim);
    pod.volumes.iter().flatten().find(named).map(|v| v.name.as_str())
}

/// The pods that are not over and mount a claim.
fn all_with<'a>(side: &'a Side, claim: &str) -> impl Iterator<Item = &'a Pod> {
    let mounts = move |p: &&Pod| p.spec.as_ref().is_some_and(|s| volume_of(s, claim).is_some());
    side.pods.iter().filter(|p| !maintenance::is_over(p)).filter(mounts)
}

/// The same, pods of the agent left out.
fn pods_with<'a>(side: &'a Side, claim: &str) -> impl Iterator<Item = &'a Pod> {
    all_with(side, claim).filter(|p| !p.labels().contains_key(labels::AGENT))
}

/// The pod of the agent, or the Job that is about to have one, that reads a volume for another run: a backup that was begun before
/// the lock. What changes meanwhile would be half of the one and half of the other in it.
pub fn read_for_another(data: &[&Data], side: &Side, run: &str) -> Option<String> {
    let of_another = |o: &ObjectMeta| o.labels.as_ref().and_then(|l| l.get(labels::RUN)).is_none_or(|r| r != run);
    let reads = |p: &&Pod| p.labels().contains_key(labels::AGENT) && of_another(&p.metadata);
    let mounts =
        |j: &&Job, claim| j.spec.as_ref().and_then(|s| s.template.spec.as_ref()).is_some_and(|p| volume_of(p, claim).is_some());
    claims(data.iter().copied()).into_iter().find_map(|(_, claim)| {
        let pod = all_with(side, claim).find(reads).map(|p| format!("pod {}", p.name_any()));
        let job = || side.starting.iter().filter(|j| of_another(&j.metadata)).find(|j| mounts(j, claim));
        pod.or_else(|| job().map(|j| format!("Job {}", j.name_any())))
    })
}

/// How a Job mounts the volumes among these data. Nothing, where there are none.
pub fn mounts(spec: &EnvironmentSpec, data: &[&Data], side: &Side, writable: bool) -> Mounts {
    let claims = claims(data.iter().copied());
    let users: Vec<User> = claims.iter().filter_map(|(_, claim)| user(spec, side, claim)).collect();
    // One Job is in the groups of all: its pod has no fsGroup, so no file of one volume is given to the group of another.
    let mut groups: Vec<i64> = Vec::new();
    for group in users.iter().flat_map(|u| &u.groups) {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let user = users.into_iter().next().unwrap_or_default().fields;
    let node =
        claims.iter().filter(|(_, claim)| side.volume(claim).is_none_or(of_one_node)).find_map(|(_, claim)| node(side, claim));
    Mounts { claims: claims.into_iter().map(|(d, c)| (d.to_owned(), c.to_owned())).collect(), writable, user, groups, node }
}

/// Whether only pods of one node mount a claim at the same time.
fn of_one_node(claim: &PersistentVolumeClaim) -> bool {
    !modes(claim).contains("ReadWriteMany")
}

fn modes(claim: &PersistentVolumeClaim) -> BTreeSet<&str> {
    claim.spec.iter().flat_map(|s| s.access_modes.iter().flatten()).map(String::as_str).collect()
}

/// As whom a workload works on a claim.
#[derive(Default)]
struct User {
    /// Of its pod's and its container's `securityContext`, what concerns files.
    fields: Map<String, Value>,
    /// Its groups besides, `fsGroup` among them: the kubelet has given it the files when the workload's pods mounted them.
    groups: Vec<i64>,
}

/// As whom a module's workload works on a claim; where none of them mounts it, another workload.
fn user(spec: &EnvironmentSpec, side: &Side, claim: &str) -> Option<User> {
    let modules = spec.modules.iter().flat_map(|m| &m.workloads).filter_map(|w| side.find(w));
    modules.chain(side.workloads()).find_map(|workload| {
        let pod = workload.template()?.spec.as_ref()?;
        // The claims of a StatefulSet's own pods are named after them.
        let own = workload.claims_of_pods().find(|template| claim.starts_with(&format!("{template}-{}-", workload.name())));
        let volume = volume_of(pod, claim).map(str::to_owned).or(own)?;
        let container = pod.containers.iter().find(|c| c.volume_mounts.iter().flatten().any(|m| m.name == volume))?;
        let fields = |context: Option<Value>, names: &[&str]| {
            let all = context.and_then(|c| c.as_object().cloned()).unwrap_or_default();
            all.into_iter().filter(|(name, value)| names.contains(&name.as_str()) && !value.is_null()).collect::<Map<_, _>>()
        };
        let mut out = fields(pod.security_context.as_ref().and_then(|c| serde_json::to_value(c).ok()), &OF_PODS);
        out.extend(fields(container.security_context.as_ref().and_then(|c| serde_json::to_value(c).ok()), &OF_CONTAINERS));
        let context = pod.security_context.as_ref();
        let named = context.and_then(|c| c.supplemental_groups.clone()).unwrap_or_default();
        let groups = named.into_iter().chain(context.and_then(|c| c.fs_group)).collect();
        Some(User { fields: out, groups })
    })
}

/// The node of a pod that uses a claim, and what the pod tolerates.
fn node(side: &Side, claim: &str) -> Option<(String, Vec<Value>)> {
    pods_with(side, claim).find_map(|pod| {
        let spec = pod.spec.as_ref()?;
        let tolerations = spec.tolerations.iter().flatten().filter_map(|t| serde_json::to_value(t).ok()).collect();
        Some((spec.node_name.clone()?, tolerations))
    })
}

/// What keeps the volumes among these data from being backed up and put back, by what objects say.
pub fn problems(spec: &EnvironmentSpec, data: &[&Data], side: &Side) -> Vec<String> {
    let mut out = missing(data, side);
    let all: Vec<_> =
        claims(data.iter().copied()).into_iter().filter_map(|(d, claim)| Some((d, user(spec, side, claim)?.fields))).collect();
    if let Some((first, one)) = all.first() {
        let said = |user: &Map<String, Value>, field| user.get(field).map_or("nothing".to_owned(), Value::to_string);
        out.extend(all.iter().flat_map(|(other, user)| OF_ALL.map(|field| (other, field, said(one, field), said(user, field)))).filter(
            |(_, _, a, b)| a != b,
        ).map(|(other, field, a, b)| {
            format!(
                "data {first} and data {other}: of the workloads that mount them one says {field} {a}, the other {b}; one Job works on \
                 the files of both: let them say the same"
            )
        }));
    }
    for (data, name) in claims(data.iter().copied()) {
        let Some(claim) = side.volume(name) else { continue };
        let of = format!("data {data}: PersistentVolumeClaim {name}");
        let modes = modes(claim);
        if modes.contains("ReadWriteOncePod") {
            out.push(format!(
                "{of} is ReadWriteOncePod: no Job could read it while a pod uses it; make a claim that is ReadWriteOnce"
            ));
        } else if !modes.contains("ReadWriteOnce") && !modes.contains("ReadWriteMany") {
            out.push(format!("{of} cannot be written, so nothing could be put back there: make one that is ReadWriteOnce"));
        }
        if claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref()) == Some("Block") {
            out.push(format!("{of} is a block device without files: name a claim of volumeMode Filesystem"));
        }
        out.extend(staying(spec, side, name).into_iter().map(|who| {
            format!(
                "{of}: {who} mounts it and stays up while locked: make its workload one of a module's, or name it under maintenance.pause, and not under maintenance.exclude"
            )
        }));
    }
    out
}

/// The claims that are not there.
pub fn missing(data: &[&Data], side: &Side) -> Vec<String> {
    let missing = claims(data.iter().copied()).into_iter().filter(|(_, claim)| side.volume(claim).is_none());
    missing.map(|(data, claim)| format!("data {data}: PersistentVolumeClaim {claim} does not exist: make it")).collect()
}

/// What mounts a claim and does not go down with the lock.
fn staying(spec: &EnvironmentSpec, side: &Side, claim: &str) -> Vec<String> {
    let down = maintenance::workloads_down(spec);
    let goes = |w: &crate::api::WorkloadRef| down.contains(w) || spec.maintenance.pause.contains(w);
    let mounts = |pod: Option<&PodSpec>| pod.is_some_and(|p| volume_of(p, claim).is_some());
    let (mut out, mut known) = (Vec::new(), BTreeSet::new());
    for workload in side.workloads() {
        let of_it = side.pods_of(workload);
        known.extend(of_it.iter().map(|p| p.name_any()));
        if !goes(&workload.reference()) && mounts(workload.template().and_then(|t| t.spec.as_ref())) {
            out.push(workload.reference().to_string());
        }
    }
    out.extend(pods_with(side, claim).map(ResourceExt::name_any).filter(|p| !known.contains(p)).map(|p| format!("pod {p}")));
    out
}

/// Waits until nothing mounts a volume among these data any more; fails, by name, where something stays.
pub fn unused(data: &[&Data], side: &Side, begun: Timestamp, now: Timestamp) -> Progress {
    let used = claims(data.iter().copied())
        .into_iter()
        .find_map(|(data, claim)| Some((data, claim, pods_with(side, claim).next()?.name_any())));
    let Some((data, claim, pod)) = used else { return Progress::Done(None) };
    let until = after(begun, PATIENCE);
    if now < until {
        return Progress::Waiting { what: format!("pod {pod} to let go of claim {claim}"), until: Some(until) };
    }
    Progress::failed(
        "VolumeInUse",
        format!(
            "data {data}: pod {pod} mounts claim {claim} while it must be at rest: end it, and make it go down with the others"
        ),
    )
}

/// What a plan says of volumes that an alignment leaves as they are; of those that it takes along, where there are none.
pub fn left_out(spec: &EnvironmentSpec, taken: &[&Data]) -> String {
    let all = claims(&spec.data).into_iter().map(|(data, _)| data);
    let names: Vec<&str> = all.filter(|data| !taken.iter().any(|t| *t.name == **data)).collect();
    match names.as_slice() {
        [] => "nothing mounts the volumes while locked".into(),
        [one] => format!("{one}: it stays as it is; policy and grant let no file of it leave the source"),
        more => format!("{}: they stay as they are; policy and grant let no file of them leave the source", more.join(", ")),
    }
}
