//! The rest of a cluster, as one deterministic move: garbage collector, Job and Deployment controllers, kubelet, endpoints,
//! and people. Each move is a second.

use std::collections::HashSet;

use jiff::Timestamp;
use lockkeeper::manifest::task::{TASK_ENV, Task, Verb, exit};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, Key, key, seconds, text},
    data::{Door, State},
    fixture::{NAMESPACE, SOURCE, digest},
    people::{self, Image},
};

/// After so many moves nothing more happens to a pod.
const OLD: u32 = 6;
/// A Deployment's default `progressDeadlineSeconds`.
const PROGRESS_DEADLINE: i64 = 600;

/// One move of everybody. Whether anything changed or is under way.
pub fn step(cluster: &mut Cluster) -> bool {
    let before = cluster.version;
    collect_garbage(cluster);
    let mut moving = false;
    for namespace in [SOURCE, NAMESPACE] {
        jobs(cluster, namespace);
        moving |= deployments(cluster, namespace);
        stateful_sets(cluster, namespace);
        cron_jobs(cluster, namespace);
        moving |= pods(cluster, namespace);
        endpoints(cluster, namespace);
    }
    people::step(cluster);
    moving || cluster.version != before
}

/// What belongs to an owner that is gone goes too.
fn collect_garbage(cluster: &mut Cluster) {
    let alive: HashSet<&str> = cluster.objects.values().map(|o| text(o, "/metadata/uid")).collect();
    let orphaned: Vec<Key> = cluster
        .objects
        .iter()
        .filter(|(_, o)| {
            let owners = o["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
            !owners.is_empty() && !owners.iter().any(|w| alive.contains(text(w, "/uid")))
        })
        .map(|(k, _)| k.clone())
        .collect();
    for key in orphaned {
        let _ = cluster.delete(&key, &Value::Null);
    }
}

fn is_leaving(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn owned_by(cluster: &Cluster, namespace: &str, uid: &str) -> Vec<Value> {
    let owned = |p: &&std::sync::Arc<Value>| text(p, "/metadata/ownerReferences/0/uid") == uid;
    cluster.all("pods", namespace).filter(owned).map(|p| (**p).clone()).collect()
}

fn make_pod(cluster: &mut Cluster, namespace: &str, (kind, owner): (&str, &Value), base: &str, hash: Option<&str>) {
    let counter = cluster.incarnation(&key("pod names", namespace, base));
    let mut metadata = owner["spec"]["template"]["metadata"].clone();
    metadata["name"] = json!(format!("{base}-{counter}"));
    let reference = json!({
        "apiVersion": "v1", "kind": kind, "name": base, "uid": owner["metadata"]["uid"], "controller": true,
    });
    metadata["ownerReferences"] = json!([reference]);
    if let Some(hash) = hash {
        metadata["labels"]["pod-template-hash"] = json!(hash);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": owner["spec"]["template"]["spec"]});
    let _ = cluster.create("pods", namespace, pod);
}

// ---- Jobs ----

fn jobs(cluster: &mut Cluster, namespace: &str) {
    for name in cluster.names("jobs", namespace) {
        let key = key("jobs", namespace, &name);
        let job = (*cluster.objects[&key]).clone();
        if job["status"]["conditions"].is_array() {
            continue;
        }
        let pods = owned_by(cluster, namespace, text(&job, "/metadata/uid"));
        let now = json!(seconds(cluster.now));
        let mut end = |type_: &str, reason: &str| {
            let condition = json!({"type": type_, "status": "True", "reason": reason, "lastTransitionTime": now});
            cluster.edit(&key, |o| o["status"]["conditions"] = json!([condition]));
        };
        match pods.first() {
            None if job["status"]["startTime"].is_null() => {
                make_pod(cluster, namespace, ("Job", &job), &name, None);
                cluster.edit(&key, |o| o["status"]["startTime"] = now);
            }
            Some(pod) if text(pod, "/status/phase") == "Succeeded" => end("Complete", "CompletionsReached"),
            Some(pod) if text(pod, "/status/phase") == "Failed" => end("Failed", "BackoffLimitExceeded"),
            None => end("Failed", "BackoffLimitExceeded"),
            Some(_) => {}
        }
    }
}

/// The container of a Job's pod has ended: its exit code and what it left.
fn ended(cluster: &mut Cluster, pod: &Value) -> (i32, String) {
    let container = &pod["spec"]["containers"][0];
    let step = text(pod, "/metadata/labels/lockkeeper.dev~1step").to_owned();
    if text(container, "/command/0").starts_with("/lockkeeper-only-pulls") {
        return (128, String::new());
    }
    let variables = container["env"].as_array().cloned().unwrap_or_default();
    if let Some(task) = variables.iter().find(|e| e["name"] == TASK_ENV) {
        let mut task: Task = serde_json::from_str(text(task, "/value")).expect("the operator writes tasks");
        if task.gated {
            task.epoch = text(pod, "/metadata/annotations/lockkeeper.dev~1gate").split(' ').next().and_then(|e| e.parse().ok());
        }
        let fails = cluster.script.backup_fails;
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let exchange = volumes.iter().any(|v| v["name"] == "repository" && v["persistentVolumeClaim"]["claimName"] == "exchange");
        let (code, outcome) = match task.verb {
            Verb::Rollback if cluster.script.rollback_fails => super::data::refused(exit::PERMANENT, "Rights", "no right to"),
            Verb::Fence | Verb::Undo if cluster.script.undo_fails => cluster.data.undo_point_unsound(&task),
            Verb::Restore if cluster.script.load_fails => super::data::refused(exit::PERMANENT, "ProofFailed", "it differs"),
            _ => cluster.data.perform(&task, fails, exchange),
        };
        return (code, serde_json::to_string(&outcome).unwrap_or_default());
    }
    if step.is_empty() {
        return (0, String::new()); // a CronJob's
    }
    if step.starts_with("migration") {
        let fails = cluster.script.migration_fails;
        if !fails {
            cluster.data.live().rows.push("migrated-second-half".into());
        }
        return (i32::from(fails), String::new());
    }
    (i32::from(cluster.script.check_fails), String::new())
}

/// A migration begins: half of its work is done at once. Nothing fences it but its place in the order.
fn migration_begins(cluster: &mut Cluster) {
    cluster.data.migrations += 1;
    let row = cluster.data.row.clone();
    if cluster.data.migrations > 1 {
        cluster.violations.push("S10: the migration ran twice".into());
    }
    if !row.is_some_and(|r| r.state == State::Open && r.holder.is_some() && r.undo.is_some()) {
        cluster.violations.push("S2: the migration ran without an undo point under the lock".into());
    }
    let stands = |o: &std::sync::Arc<Value>| o["spec"]["suspend"] == true || o["spec"]["replicas"] == 0;
    let integrations = cluster.all("cronjobs", NAMESPACE).chain(cluster.get("deployments", NAMESPACE, "webhooks"));
    let going: Vec<String> = integrations.filter(|o| !stands(o)).map(|o| text(o, "/metadata/name").to_owned()).collect();
    let scaler = cluster.get("scaledobjects", NAMESPACE, "unleash").cloned().unwrap_or_default();
    if scaler["metadata"]["annotations"]["autoscaling.keda.sh/paused"] != "true" {
        cluster.violations.push("S3: the migration ran while an autoscaler could start the application".into());
    }
    if !going.is_empty() {
        cluster.violations.push(format!("S3: the migration ran while integrations went on: {going:?}"));
    }
    cluster.data.live().rows.push("migrated-first-half".into());
}

// ---- CronJobs ----

/// A CronJob runs once with each template that it gets, as soon as it is not suspended: by the clock, two states that differ
/// in time alone would not be equal.
fn cron_jobs(cluster: &mut Cluster, namespace: &str) {
    for name in cluster.names("cronjobs", namespace) {
        let Some(cron_job) = cluster.get("cronjobs", namespace, &name).cloned() else { continue };
        let spec = cron_job["spec"]["jobTemplate"]["spec"].clone();
        let run = format!("{name}-{}", &blake3::hash(spec.to_string().as_bytes()).to_hex()[..8]);
        if cron_job["spec"]["suspend"] == true || cluster.get("jobs", namespace, &run).is_some() {
            continue;
        }
        let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": cron_job["metadata"]["uid"], "controller": true});
        let job =
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": run, "ownerReferences": [owner]}, "spec": spec});
        let _ = cluster.create("jobs", namespace, job);
    }
}

// ---- StatefulSets ----

/// One pod after the other, upwards; and downwards the same way.
fn stateful_sets(cluster: &mut Cluster, namespace: &str) {
    for name in cluster.names("statefulsets", namespace) {
        let key = key("statefulsets", namespace, &name);
        let set = (*cluster.objects[&key]).clone();
        let wanted = set["spec"]["replicas"].as_u64().unwrap_or(1);
        let hash = blake3::hash(set["spec"]["template"].to_string().as_bytes()).to_hex()[..8].to_owned();
        let pods = owned_by(cluster, namespace, text(&set, "/metadata/uid"));
        let of = |ordinal: u64| pods.iter().find(|p| text(p, "/metadata/name") == format!("{name}-{ordinal}"));
        let current = |p: &Value| p["metadata"]["labels"]["controller-revision-hash"] == *hash;
        let steady = !pods.iter().any(is_leaving);
        let waiting = (0..wanted).find(|o| !of(*o).is_some_and(ready));
        if let Some(ordinal) = waiting.filter(|o| of(*o).is_none()) {
            let mut metadata = set["spec"]["template"]["metadata"].clone();
            metadata["name"] = json!(format!("{name}-{ordinal}"));
            metadata["labels"]["controller-revision-hash"] = json!(hash);
            metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": set["metadata"]["uid"], "controller": true}]);
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": set["spec"]["template"]["spec"]});
            let _ = cluster.create("pods", namespace, pod);
        }
        let last = (0..8).rev().find(|o| of(*o).is_some_and(|p| *o >= wanted || (waiting.is_none() && !current(p))));
        if let Some(ordinal) = last.filter(|_| steady) {
            let _ = cluster.delete(&super::cluster::key("pods", namespace, &format!("{name}-{ordinal}")), &Value::Null);
        }
        let here: Vec<&Value> = pods.iter().filter(|p| !is_leaving(p)).collect();
        let (updated, available) = (here.iter().filter(|p| current(p)).count(), here.iter().filter(|p| ready(p)).count());
        let observed = set["metadata"]["generation"].clone();
        cluster.edit(&key, |o| {
            o["status"] = json!({
                "observedGeneration": observed, "replicas": pods.len(), "updatedReplicas": updated, "readyReplicas": available,
                "availableReplicas": available,
            });
        });
    }
}

// ---- Deployments ----

fn ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True" && !is_leaving(pod)
}

fn deployments(cluster: &mut Cluster, namespace: &str) -> bool {
    let mut moving = false;
    for name in cluster.names("deployments", namespace) {
        let key = key("deployments", namespace, &name);
        let deployment = (*cluster.objects[&key]).clone();
        let wanted = usize::try_from(deployment["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or(0);
        let hash = blake3::hash(deployment["spec"]["template"].to_string().as_bytes()).to_hex()[..8].to_owned();
        let pods = owned_by(cluster, namespace, text(&deployment, "/metadata/uid"));
        let here: Vec<&Value> = pods.iter().filter(|p| !is_leaving(p)).collect();
        let (new, old): (Vec<&Value>, Vec<&Value>) =
            here.iter().partition(|p| p["metadata"]["labels"]["pod-template-hash"] == *hash);
        let new_ready = new.iter().filter(|p| ready(p)).count();
        for _ in new.len()..wanted {
            make_pod(cluster, namespace, ("ReplicaSet", &deployment), &format!("{name}-{hash}"), Some(&hash));
        }
        let mut leaving: Vec<&Value> = new.iter().skip(wanted).copied().collect();
        if new_ready >= wanted {
            leaving.extend(&old);
        }
        for pod in &leaving {
            let _ = cluster.delete(&super::cluster::key("pods", namespace, text(pod, "/metadata/name")), &Value::Null);
        }
        let available = here.iter().filter(|p| ready(p)).count();
        let now = cluster.now;
        let observed = deployment["metadata"]["generation"].clone();
        let fresh = deployment["status"]["observedGeneration"] == observed;
        let counts = (here.len(), new.len(), available);
        let condition = progressing(&deployment["status"], fresh, wanted, counts, now);
        moving |= condition["reason"] == "ReplicaSetUpdated";
        cluster.edit(&key, |o| {
            o["status"] = json!({
                "observedGeneration": observed, "replicas": counts.0, "updatedReplicas": counts.1, "readyReplicas": counts.2,
                "availableReplicas": counts.2, "conditions": [condition],
            });
        });
    }
    moving
}

/// The condition Progressing. As in the real controller it stays what it was in the first look at a new generation.
fn progressing(
    status: &Value,
    fresh: bool,
    wanted: usize,
    (all, updated, available): (usize, usize, usize),
    now: Timestamp,
) -> Value {
    let old = status["conditions"][0].clone();
    let is = |value: &str, reason: &str, updated_at: Value| {
        let since = if old["status"] == value { old["lastTransitionTime"].clone() } else { json!(seconds(now)) };
        json!({
            "type": "Progressing", "status": value, "reason": reason, "message": reason, "lastTransitionTime": since,
            "lastUpdateTime": updated_at,
        })
    };
    let count = |field: &str| usize::try_from(status[field].as_u64().unwrap_or(0)).unwrap_or(0);
    if !fresh && !old.is_null() {
        return old;
    }
    if all == wanted && updated == wanted && available == wanted {
        let at = if old["reason"] == "NewReplicaSetAvailable" { old["lastUpdateTime"].clone() } else { json!(seconds(now)) };
        return is("True", "NewReplicaSetAvailable", at);
    }
    if updated > count("updatedReplicas") || available > count("readyReplicas") || all < count("replicas") || old.is_null() {
        return is("True", "ReplicaSetUpdated", json!(seconds(now)));
    }
    let since: Timestamp = text(&old, "/lastUpdateTime").parse().unwrap_or(now);
    if old["reason"] == "ReplicaSetUpdated" && now.duration_since(since).as_secs() > PROGRESS_DEADLINE {
        return is("False", "ProgressDeadlineExceeded", json!(seconds(now)));
    }
    old
}

// ---- Pods ----

fn pods(cluster: &mut Cluster, namespace: &str) -> bool {
    let mut moving = false;
    for name in cluster.names("pods", namespace) {
        let key = key("pods", namespace, &name);
        let pod = (*cluster.objects[&key]).clone();
        let uid = text(&pod, "/metadata/uid").to_owned();
        let of_job = text(&pod, "/metadata/ownerReferences/0/kind") == "Job";
        if is_leaving(&pod) {
            // A second to end, and then it is gone.
            let mark = format!("{uid} leaving");
            if cluster.ages.insert(mark.clone(), 1).is_some() {
                cluster.ages.remove(&mark);
                cluster.ages.remove(&uid);
                cluster.remove(&key);
            }
            moving = true;
            continue;
        }
        if matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
            continue;
        }
        let age = cluster.ages.get(&uid).copied().unwrap_or(0);
        if age < OLD {
            cluster.ages.insert(uid, age + 1);
            moving = true;
        }
        let status = if of_job { job_pod(cluster, &pod, age) } else { application_pod(cluster, namespace, &pod, age) };
        cluster.edit(&key, |o| o["status"] = status);
    }
    moving
}

fn image_id(image: &str) -> String {
    let (repository, named) = image.rsplit_once('@').map_or((image, None), |(r, d)| (r, Some(d.to_owned())));
    let repository = repository.rsplit_once(':').map_or(repository, |(r, _)| r);
    format!("{repository}@{}", named.unwrap_or_else(|| digest(image)))
}

pub fn waits_at_its_gate(pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    volumes.iter().any(|v| v["name"] == "gate") && text(pod, "/metadata/annotations/lockkeeper.dev~1gate").is_empty()
}

fn job_pod(cluster: &mut Cluster, pod: &Value, age: u32) -> Value {
    let containers = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let statuses = |state: &Value| -> Vec<Value> {
        let one = |c: &Value| {
            json!({
                "name": c["name"], "image": c["image"], "imageID": image_id(text(c, "/image")), "ready": false, "restartCount": 0,
                "state": state,
            })
        };
        containers.iter().map(one).collect()
    };
    match age {
        0 => json!({"phase": "Pending", "containerStatuses": statuses(&json!({"waiting": {"reason": "ContainerCreating"}}))}),
        1 => {
            if text(pod, "/metadata/labels/lockkeeper.dev~1step").starts_with("migration") {
                migration_begins(cluster);
            }
            json!({"phase": "Running", "podIP": "10.1.0.9", "containerStatuses": statuses(&json!({"running": {}}))})
        }
        // It waits for its turn: until then it runs, however old it is.
        _ if waits_at_its_gate(pod) => {
            json!({"phase": "Running", "podIP": "10.1.0.9", "containerStatuses": statuses(&json!({"running": {}}))})
        }
        _ => {
            let (code, message) = ended(cluster, pod);
            let reason = if code == 0 { "Completed" } else { "Error" };
            let state = json!({"terminated": {"exitCode": code, "reason": reason, "message": message}});
            json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": statuses(&state)})
        }
    }
}

/// Why a pod of the application does not become ready, if it does not.
fn trouble(cluster: &mut Cluster, namespace: &str, pod: &Value) -> Image {
    let image = text(pod, "/spec/containers/0/image");
    if namespace != NAMESPACE || text(pod, "/metadata/labels/app") != "unleash" {
        return Image::Good;
    }
    // It does not come up without its database.
    if matches!(cluster.data.live().door, Door::Closed | Door::MigrationOnly) {
        return Image::Crashes;
    }
    if image.contains(&digest("registry.example/unleash:7.4.1")) { cluster.script.image } else { Image::Good }
}

fn application_pod(cluster: &mut Cluster, namespace: &str, pod: &Value, age: u32) -> Value {
    let container = &pod["spec"]["containers"][0];
    let first = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let ran: Vec<Value> = first
        .iter()
        .map(|c| {
            json!({
                "name": c["name"], "image": c["image"], "imageID": image_id(text(c, "/image")), "ready": true, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
            })
        })
        .collect();
    let trouble = if age >= 2 { trouble(cluster, namespace, pod) } else { Image::Good };
    let good = age >= 2 && trouble == Image::Good;
    let running = json!({"running": {"startedAt": pod["metadata"]["creationTimestamp"]}});
    let (state, restarts) = match (age, trouble) {
        (0, _) => (json!({"waiting": {"reason": "ContainerCreating"}}), 0),
        (2.., Image::Crashes) => {
            (json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}), age - 1)
        }
        _ => (running, 0),
    };
    json!({
        "phase": if age == 0 { "Pending" } else { "Running" }, "podIP": "10.1.0.1",
        "conditions": [{"type": "Ready", "status": if good { "True" } else { "False" }}], "initContainerStatuses": ran,
        "containerStatuses": [{
            "name": container["name"], "image": container["image"], "imageID": image_id(text(container, "/image")), "ready": good,
            "restartCount": restarts, "state": state,
            "lastState": if restarts > 0 { json!({"terminated": {"exitCode": 1, "reason": "Error"}}) } else { json!({}) },
        }],
    })
}

// ---- Endpoints ----

fn endpoints(cluster: &mut Cluster, namespace: &str) {
    for name in cluster.names("endpointslices", namespace) {
        if cluster.get("services", namespace, &name).is_none() {
            cluster.remove(&key("endpointslices", namespace, &name));
        }
    }
    for name in cluster.names("services", namespace) {
        let Some(service) = cluster.get("services", namespace, &name).cloned() else { continue };
        let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
        let selected = |p: &&std::sync::Arc<Value>| {
            !selector.is_empty()
                && selector.iter().all(|(k, v)| p["metadata"]["labels"][k] == *v)
                && p["status"]["podIP"].is_string()
        };
        let ends: Vec<Value> = cluster
            .all("pods", namespace)
            .filter(selected)
            .map(|p| {
                let target = json!({"kind": "Pod", "name": p["metadata"]["name"], "namespace": namespace});
                json!({"addresses": [p["status"]["podIP"]], "conditions": {"ready": ready(p)}, "targetRef": target})
            })
            .collect();
        let key = key("endpointslices", namespace, &name);
        if !cluster.objects.contains_key(&key) {
            let metadata = json!({"name": name, "labels": {"kubernetes.io/service-name": name}});
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": metadata,
                "endpoints": [],
            });
            let _ = cluster.create("endpointslices", namespace, slice);
        }
        cluster.edit(&key, |o| o["endpoints"] = json!(ends));
    }
}
