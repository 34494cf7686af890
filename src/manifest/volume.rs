//! The volumes of data in a Job of the agent, and the user as whom it works on their files.
//!
//! A pod of ours has no rights over files but their owner's. So it runs as the user and in the groups of the workload that mounts
//! the claim. Its `fsGroup` is one of these groups, and no pod of ours with such a claim says one: the kubelet would give all files
//! of all its volumes to that group, the repository's too. The files carry theirs already, since the workload's own pods had them,
//! and the repository ours, since a Job without them has opened it first ([`crate::plan::opening`]).

use serde_json::{Map, Value, json};

use super::{job::USER, task::VOLUMES_DIR};
use crate::plan::Effect;

/// The volumes of a Job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounts {
    /// By name of the data: its claim.
    pub claims: Vec<(String, String)>,
    /// Whether files are written.
    pub writable: bool,
    /// As whom the workload's container works on them: of a pod's and a container's `securityContext`, what concerns files.
    pub user: Map<String, Value>,
    /// The groups that files may belong to besides: `supplementalGroups` and `fsGroup` of the workloads.
    pub groups: Vec<i64>,
    /// The node on which a pod uses a claim that only one node may mount, and what that pod tolerates.
    pub node: Option<(String, Vec<Value>)>,
}

/// What of a pod's `securityContext` says as whom it works on files.
pub const OF_PODS: [&str; 4] = ["runAsUser", "runAsGroup", "supplementalGroupsPolicy", "seLinuxOptions"];
/// The same of a container's, which says it over again.
pub const OF_CONTAINERS: [&str; 3] = ["runAsUser", "runAsGroup", "seLinuxOptions"];

/// Mounts the volumes in a Job of the agent.
pub fn mount(mut effect: Effect, mounts: &Mounts) -> Effect {
    let Effect::Create { manifest, .. } = &mut effect else { return effect };
    if mounts.claims.is_empty() {
        return effect;
    }
    let pod = &mut manifest["spec"]["template"]["spec"];
    for (i, (data, claim)) in mounts.claims.iter().enumerate() {
        let name = format!("files-{i}");
        let mount = json!({"name": name, "mountPath": format!("{VOLUMES_DIR}/{data}"), "readOnly": !mounts.writable});
        pod["containers"][0]["volumeMounts"].as_array_mut().into_iter().for_each(|m| m.push(mount.clone()));
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
        pod["volumes"].as_array_mut().into_iter().for_each(|v| v.push(volume.clone()));
    }
    // Root is refused by `restricted`; then the files are found to be somebody else's.
    let user = mounts.user.get("runAsUser").and_then(Value::as_i64).filter(|u| *u != 0);
    let context = &mut pod["securityContext"];
    if user.is_some() {
        // A group that is not said is the image's word, and of most images the system's.
        for field in OF_PODS {
            context[field] = mounts.user.get(field).cloned().unwrap_or_default();
        }
    }
    for field in ["fsGroup", "fsGroupChangePolicy"] {
        context[field] = Value::Null;
    }
    // The repository belongs to the group of all other pods of ours.
    let groups: Vec<i64> = mounts.groups.iter().copied().chain([i64::from(USER)]).collect();
    context["supplementalGroups"] = json!(groups);
    for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
        // Nobody else is in the pod, and no group reads for it.
        if let Some(secret) = volume.get_mut("secret") {
            secret["defaultMode"] = json!(0o444);
        }
    }
    if let Some(context) = pod["securityContext"].as_object_mut() {
        context.retain(|_, value| !value.is_null());
    }
    if let Some((node, tolerations)) = &mounts.node {
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
        pod["affinity"] =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        if !tolerations.is_empty() {
            pod["tolerations"] = json!(tolerations);
        }
    }
    effect
}
