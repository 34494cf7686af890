//! The volumes of data in a Job of the agent, and the user as whom it works on their files.
//!
//! A pod of ours has no rights over files but their owner's. So it runs as the user and the groups of the workload that mounts
//! the claim, and with that workload's `fsGroup`: another one would make the kubelet give all files to another group.

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
    /// The node on which a pod uses a claim that only one node may mount, and what that pod tolerates.
    pub node: Option<(String, Vec<Value>)>,
}

/// What of a pod's `securityContext` says as whom it works on files, and how its volumes are prepared.
pub const OF_PODS: [&str; 7] = [
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "fsGroupChangePolicy",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxOptions",
];
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
    } else if let Some(group) = mounts.user.get("fsGroup") {
        context["fsGroup"] = group.clone();
    } else {
        context["fsGroup"] = Value::Null;
    }
    // The repository belongs to the group of all other pods of ours.
    let mut groups = mounts.user.get("supplementalGroups").and_then(Value::as_array).cloned().unwrap_or_default();
    groups.push(json!(USER));
    context["supplementalGroups"] = json!(groups);
    if context["fsGroup"].is_null() {
        for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
            // Nobody else is in the pod, and no group reads for it.
            if let Some(secret) = volume.get_mut("secret") {
                secret["defaultMode"] = json!(0o444);
            }
        }
    } else {
        context["fsGroupChangePolicy"] = json!("OnRootMismatch");
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
