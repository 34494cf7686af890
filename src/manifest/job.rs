//! Jobs: the agent's, which run under `restricted`, and the customer's own, which inherit their workload's context.
//!
//! Every Job has `backoffLimit: 0` and `podReplacementPolicy: Failed`: attempts are counted in the run's status, and a
//! migration is never tried twice. None has a TTL: its outcome must be in the status before it goes.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use super::{
    Owner,
    task::{
        GATE_PATH, MASKING_KEY_DIR, MIGRATIONS, MigrationTask, OWN_CREDENTIALS, OWN_DIR, OWN_PASSWORD, OWN_REPOSITORY,
        POLICY_DIR, PROOF_DIR, REPOSITORY_CREDENTIALS_DIR, REPOSITORY_DIR, REPOSITORY_PASSWORD_DIR, S3Task, SECRETS_DIR,
        TASK_ENV, Task, Verb,
    },
};
use crate::{
    api::{Backups, Data, Repository, annotations, labels},
    plan::{Effect, Resource, workload::Workload, world::Settings},
};

/// The volume of a pod that waits for its turn. The kubelet follows a change of the pod's own annotations within a fraction
/// of a second, and the pod needs no right to read anything.
pub const GATE_VOLUME: &str = "gate";

/// The volume with a MaskingPolicy's key.
pub const MASKING_KEY_VOLUME: &str = "masking-key";

/// The user and the group of all pods of ours, but for those that mount a volume of data.
pub const USER: u32 = 65_532;

/// A container of the agent.
pub fn agent_container(settings: &Settings, task: &Task, mounts: &[Value]) -> Value {
    let mut all = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
    all.extend_from_slice(mounts);
    json!({
        "name": "agent",
        "image": settings.agent_image,
        "args": ["agent", task.verb.as_str()],
        "env": [{"name": TASK_ENV, "value": serde_json::to_string(task).unwrap_or_default()}, {"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "384Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": all,
    })
}

/// A pod under `restricted`, without an API token.
pub fn restricted_pod(containers: Vec<Value>, volumes: Vec<Value>, restart: &str) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        "volumes": volumes,
    })
}

/// The Secrets of roles that migrations have of their own, each with the name of its volume and its place.
fn migration_secrets(task: &Task) -> Vec<(String, String, &str)> {
    let mut out = Vec::new();
    for (i, data) in task.data.iter().enumerate() {
        for (j, MigrationTask { secret, keys: _ }) in data.migrations.iter().enumerate() {
            let path = format!("{SECRETS_DIR}/{}/{MIGRATIONS}/{secret}", data.name);
            out.push((format!("data-{i}-migration-{j}"), path, secret.as_str()));
        }
    }
    out
}

/// Mounts an environment's own repository beside the exchange in a Job of the agent.
pub fn with_own_repository(mut effect: Effect, own: &Backups) -> Effect {
    let Effect::Create { manifest, .. } = &mut effect else { return effect };
    let pod = &mut manifest["spec"]["template"]["spec"];
    for (part, mut volume) in [OWN_REPOSITORY, OWN_CREDENTIALS, OWN_PASSWORD].iter().zip(of_repository(own)) {
        let Some(volume) = &mut volume else { continue };
        let name = format!("own-{part}");
        volume["name"] = json!(name);
        // A repository is written; Secrets are not.
        let mount = json!({"name": name, "mountPath": format!("{OWN_DIR}/{part}"), "readOnly": volume.get("secret").is_some()});
        pod["containers"][0]["volumeMounts"].as_array_mut().into_iter().for_each(|m| m.push(mount.clone()));
        pod["volumes"].as_array_mut().into_iter().for_each(|v| v.push(volume.clone()));
    }
    effect
}

/// The volumes of a repository: its own, that of its credentials, that of its password.
fn of_repository(backups: &Backups) -> [Option<Value>; 3] {
    let Repository { volume, s3 } = &backups.repository;
    [
        volume.as_ref().map(|v| json!({"name": "repository", "persistentVolumeClaim": {"claimName": v.claim.name}})),
        s3.as_ref().map(|s3| json!({"name": "repository-credentials", "secret": secret(&s3.credentials_secret.name)})),
        Some(json!({"name": "repository-password", "secret": secret(&backups.password_secret.name)})),
    ]
}

/// Mounts of the Secrets of data and of the repository.
pub fn agent_mounts(data: &[&Data], backups: Option<&Backups>) -> Vec<Value> {
    let mut out = Vec::new();
    for (i, d) in data.iter().filter(|d| d.postgres.is_some()).enumerate() {
        out.push(json!({"name": format!("data-{i}-connection"), "mountPath": format!("{SECRETS_DIR}/{}/connection", d.name), "readOnly": true}));
        out.push(
            json!({"name": format!("data-{i}-admin"), "mountPath": format!("{SECRETS_DIR}/{}/admin", d.name), "readOnly": true}),
        );
    }
    if let Some(backups) = backups {
        let Repository { volume, s3 } = &backups.repository;
        if volume.is_some() {
            out.push(json!({"name": "repository", "mountPath": REPOSITORY_DIR}));
        }
        if s3.is_some() {
            out.push(json!({"name": "repository-credentials", "mountPath": REPOSITORY_CREDENTIALS_DIR, "readOnly": true}));
        }
        out.push(json!({"name": "repository-password", "mountPath": REPOSITORY_PASSWORD_DIR, "readOnly": true}));
    }
    out
}

fn secret(name: &str) -> Value {
    json!({"secretName": name, "defaultMode": 0o440})
}

/// The volumes of [`agent_mounts`], and scratch space.
pub fn agent_volumes(data: &[&Data], backups: Option<&Backups>) -> Vec<Value> {
    let mut out = vec![json!({"name": "tmp", "emptyDir": {}})];
    for (i, postgres) in data.iter().filter_map(|d| d.postgres.as_ref()).enumerate() {
        let connection = &postgres.connection_secret.name;
        let admin = postgres.admin_secret.as_ref().map_or(connection, |s| &s.name);
        out.push(json!({"name": format!("data-{i}-connection"), "secret": secret(connection)}));
        out.push(json!({"name": format!("data-{i}-admin"), "secret": secret(admin)}));
    }
    out.extend(backups.into_iter().flat_map(of_repository).flatten());
    out
}

fn job(owner: Owner<'_>, name: &str, step: &str, deadline: Duration, template: Value) -> Effect {
    let manifest = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": owner.metadata(name, step),
        "spec": {
            "backoffLimit": 0, "podReplacementPolicy": "Failed", "activeDeadlineSeconds": deadline.as_secs().max(1), "template": template,
        },
    });
    Effect::Create { resource: Resource::Job, manifest: Box::new(manifest) }
}

/// A Job of the agent.
pub fn agent(
    owner: Owner<'_>,
    settings: &Settings,
    names: (&str, &str),
    task: &Task,
    (data, backups): (&[&Data], Option<&Backups>),
    aliases: &[Value],
    deadline: Duration,
) -> Effect {
    // An Environment that goes leaves its repository as it is, and what else is gone already must not keep it.
    let goes = task.verb == Verb::Forget;
    let repository = backups.filter(|_| !goes);
    let (mut mounts, mut volumes) = (agent_mounts(data, repository), agent_volumes(data, repository));
    let s3 = repository.and_then(|b| b.repository.s3.as_ref()).map(S3Task::of);
    // Whoever proves nothing has no business with that server.
    let proof = backups.and_then(|b| b.proof.as_ref()).filter(|_| task.proof && !task.data.is_empty());
    let task = &Task { s3, proof: proof.is_some(), ..task.clone() };
    if let Some(proof) = proof {
        mounts.push(json!({"name": "proof", "mountPath": PROOF_DIR, "readOnly": true}));
        let mut secret = secret(&proof.connection_secret.name);
        if goes {
            secret["optional"] = json!(true);
        }
        volumes.push(json!({"name": "proof", "secret": secret}));
    }
    for (volume, path, name) in migration_secrets(task) {
        mounts.push(json!({"name": volume, "mountPath": path, "readOnly": true}));
        volumes.push(json!({"name": volume, "secret": secret(name)}));
    }
    if task.gated {
        let path = GATE_PATH.rsplit_once('/');
        mounts.push(json!({"name": GATE_VOLUME, "mountPath": path.map_or(GATE_PATH, |(dir, _)| dir), "readOnly": true}));
        let item = json!({
            "path": path.map_or(GATE_PATH, |(_, file)| file),
            "fieldRef": {"fieldPath": format!("metadata.annotations['{}']", annotations::GATE)},
        });
        volumes.push(json!({"name": GATE_VOLUME, "downwardAPI": {"items": [item]}}));
    }
    if let Some(policy) = &task.policy {
        mounts.push(json!({"name": "policy", "mountPath": POLICY_DIR, "readOnly": true}));
        volumes.push(json!({"name": "policy", "configMap": {"name": policy}}));
    }
    job(owner, names.0, names.1, deadline, agent_template(owner, settings, names.1, task, (&mounts, volumes), aliases))
}

fn agent_template(
    owner: Owner<'_>,
    settings: &Settings,
    step: &str,
    task: &Task,
    (mounts, volumes): (&[Value], Vec<Value>),
    aliases: &[Value],
) -> Value {
    let container = agent_container(settings, task, mounts);
    let mut pod = restricted_pod(vec![container], volumes, "Never");
    if !aliases.is_empty() {
        pod["hostAliases"] = json!(aliases);
    }
    let mut labels_ = owner.labels(step);
    labels_.insert(labels::AGENT.to_owned(), task.verb.as_str().to_owned());
    json!({"metadata": {"labels": labels_}, "spec": pod})
}

/// The Job that masks data into the exchange, in the namespace that owns it: a Job of the agent, with the Secret of a
/// MaskingPolicy's key where it keeps one. The policy's name stands on the Job, so that admission can hold the Secret against it.
pub fn snapshot(
    owner: Owner<'_>,
    settings: &Settings,
    names: (&str, &str),
    task: &Task,
    (data, exchange): (&[&Data], &Backups),
    (policy, key): (&str, Option<&str>),
    deadline: Duration,
) -> Effect {
    let mut effect = agent(owner, settings, names, task, (data, Some(exchange)), &[], deadline);
    let Effect::Create { manifest, .. } = &mut effect else { return effect };
    manifest["metadata"]["annotations"] = json!({annotations::MASKING_POLICY: policy});
    if let Some(secret) = key {
        let pod = &mut manifest["spec"]["template"]["spec"];
        let mount = json!({"name": MASKING_KEY_VOLUME, "mountPath": MASKING_KEY_DIR, "readOnly": true});
        let volume = json!({"name": MASKING_KEY_VOLUME, "secret": {"secretName": secret, "defaultMode": 0o440}});
        pod["containers"][0]["volumeMounts"].as_array_mut().into_iter().for_each(|m| m.push(mount.clone()));
        pod["volumes"].as_array_mut().into_iter().for_each(|v| v.push(volume.clone()));
    }
    effect
}

/// The migration's Job: the workload's pod with the new image, one container, another command. Its labels are ours alone,
/// so that no Service leads to it. `connection`: a Secret that the workload reads, and the one that stands in its place here.
pub fn migration(
    owner: Owner<'_>,
    (name, step): (&str, &str),
    workload: Workload<'_>,
    (container, image): (&str, &str),
    command: &[String],
    connection: Option<(&str, &str)>,
    deadline: Duration,
) -> Option<Effect> {
    let mut pod = serde_json::to_value(workload.template()?.spec.as_ref()?).ok()?;
    let mut chosen = pod["containers"].as_array()?.iter().find(|c| c["name"] == container)?.clone();
    // Volumes that a StatefulSet makes for each of its pods are not the migration's.
    let volumes = pod["volumes"].as_array().cloned().unwrap_or_default();
    for field in ["volumeMounts", "volumeDevices"] {
        if let Some(mounts) = chosen.get_mut(field).and_then(Value::as_array_mut) {
            mounts.retain(|m| volumes.iter().any(|v| v["name"] == m["name"]));
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports", "args"] {
        chosen.as_object_mut()?.remove(field);
    }
    chosen["image"] = json!(image);
    chosen["command"] = json!(command);
    pod["containers"] = json!([chosen]);
    if let Some((from, to)) = connection {
        point_at(&mut pod, from, to);
    }
    pod["restartPolicy"] = json!("Never");
    pod["terminationGracePeriodSeconds"] = json!(10);
    for field in ["initContainers", "topologySpreadConstraints", "readinessGates", "hostname", "subdomain"] {
        pod.as_object_mut()?.remove(field);
    }
    Some(job(owner, name, step, deadline, json!({"metadata": {"labels": owner.labels(step)}, "spec": pod})))
}

/// Lets the containers of a pod read one Secret instead of another, key by key.
fn point_at(pod: &mut Value, from: &str, to: &str) {
    fn each(list: &mut Value) -> impl Iterator<Item = &mut Value> {
        list.as_array_mut().into_iter().flatten()
    }
    let point = |name: Option<&mut Value>| {
        if let Some(name) = name.filter(|n| **n == from) {
            *name = json!(to);
        }
    };
    for container in each(&mut pod["containers"]) {
        if let Some(env) = container.get_mut("env") {
            each(env).for_each(|e| point(e.pointer_mut("/valueFrom/secretKeyRef/name")));
        }
        if let Some(sources) = container.get_mut("envFrom") {
            each(sources).for_each(|e| point(e.pointer_mut("/secretRef/name")));
        }
    }
    for volume in pod.get_mut("volumes").into_iter().flat_map(each) {
        point(volume.pointer_mut("/secret/secretName"));
        if let Some(sources) = volume.pointer_mut("/projected/sources") {
            each(sources).for_each(|s| point(s.pointer_mut("/secret/name")));
        }
    }
}

/// The Job of a check that the customer wrote. `Err`: the template is not a pod's.
pub fn check(
    owner: Owner<'_>,
    (name, step): (&str, &str),
    template: &Value,
    aliases: &[Value],
    deadline: Duration,
) -> Result<Effect, String> {
    let _: PodTemplateSpec = serde_json::from_value(template.clone()).map_err(|e| e.to_string())?;
    let mut template = template.clone();
    if !template["spec"]["containers"].is_array() {
        return Err("spec.containers is missing".into());
    }
    template["spec"]["restartPolicy"] = json!("Never");
    let mut all = template["spec"]["hostAliases"].as_array().cloned().unwrap_or_default();
    all.extend_from_slice(aliases);
    template["spec"]["hostAliases"] = json!(all);
    // Labels of the customer's could make a Service lead to the check's pod.
    template["metadata"] = json!({"labels": owner.labels(step), "annotations": template["metadata"]["annotations"]});
    Ok(job(owner, name, step, deadline, template))
}

/// A command that no image has: a container with it is pulled, cannot start, and touches nothing.
const NO_COMMAND: &str = "/lockkeeper-only-pulls-this-image";

/// A Job whose only use is that its node pulls the images. It cannot succeed; that each image was pulled is read from its pod.
pub fn pull(
    owner: Owner<'_>,
    (name, step): (&str, &str),
    like: Workload<'_>,
    images: &BTreeMap<String, String>,
    deadline: Duration,
) -> Effect {
    let containers: Vec<Value> = images
        .iter()
        .map(|(name, image)| {
            json!({
                "name": name, "image": image, "command": [NO_COMMAND], "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            })
        })
        .collect();
    let mut pod = restricted_pod(containers, Vec::new(), "Never");
    if let Some(spec) = like.template().and_then(|t| t.spec.as_ref()) {
        for (field, value) in [
            ("imagePullSecrets", serde_json::to_value(&spec.image_pull_secrets)),
            ("nodeSelector", serde_json::to_value(&spec.node_selector)),
            ("tolerations", serde_json::to_value(&spec.tolerations)),
            ("serviceAccountName", serde_json::to_value(&spec.service_account_name)),
        ] {
            if let Some(value) = value.ok().filter(|v| !v.is_null()) {
                pod[field] = value;
            }
        }
    }
    job(owner, name, step, deadline, json!({"metadata": {"labels": owner.labels(step)}, "spec": pod}))
}
