//! What keeps a pod from running, in words that say what to change. The kubelet tells it in Events long before a Job's
//! deadline ends: a Secret that is not there, a volume that is held by another node. Of the rest the pod's own status tells.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use kube::ResourceExt;

/// Reasons of Events that are about a pod's volumes and so about what an Environment names.
pub const OF_VOLUMES: [&str; 2] = ["FailedMount", "FailedAttachVolume"];

/// An Event's reason and message, with what mends it where that is known.
pub fn words(reason: &str, message: &str) -> String {
    let told = format!("{reason}: {}", message.split_whitespace().collect::<Vec<_>>().join(" "));
    let told: String = told.chars().take(700).collect();
    let mend = if let Some(name) = quoted(message, "secret \"") {
        format!("Secret {name} is missing, or a key of it: make it, or name another in the Environment")
    } else if let Some(name) = quoted(message, "configmap \"") {
        format!("ConfigMap {name} is missing: make it, or name another in the Environment")
    } else if message.contains("references non-existent secret key") {
        "the Secret lacks a key that is wanted: add it, or name another Secret in the Environment".to_owned()
    } else if message.contains("Multi-Attach")
        || message.contains("already used by pod")
        || message.contains("exclusively attached")
    {
        "the volume is in use on another node, and its access mode allows one only: use a claim with ReadWriteMany, or see to it that what mounts it runs on one node".to_owned()
    } else if let Some(name) = quoted(message, "persistentvolumeclaim \"") {
        format!("PersistentVolumeClaim {name} is missing: make it, or name another in the Environment")
    } else {
        return told;
    };
    format!("{mend} ({told})")
}

/// What stands in quotes after these words.
fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    let rest = &message[message.find(before)? + before.len()..];
    rest.split('"').next().filter(|name| !name.is_empty())
}

/// Of what a node or a registry says, so much is repeated.
const REPEATED: usize = 300;

/// Why the first of these pods that is not ready is not, as far as pods tell it themselves. What keeps one from running comes
/// before a probe, which may only want time.
pub fn of_pods(pods: &[&Pod]) -> Option<String> {
    pods.iter().find_map(|p| held_up(p)).or_else(|| pods.iter().find_map(|p| unready(p)))
}

/// What keeps a pod from running.
fn held_up(pod: &Pod) -> Option<String> {
    let (status, name) = (pod.status.as_ref()?, pod.name_any());
    let cut = |text: &Option<String>| text.iter().flat_map(|t| t.chars()).take(REPEATED).collect::<String>();
    if let Some(c) = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False") {
        return Some(format!("pod {name}: {}: {}", c.reason.as_deref().unwrap_or("Unschedulable"), cut(&c.message)));
    }
    let mut containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    containers.find_map(|container| {
        let said = format!("container {} of pod {name}", container.name);
        let state = container.state.as_ref()?;
        let ended = state.terminated.as_ref().or_else(|| container.last_state.as_ref()?.terminated.as_ref());
        let exit = ended.map(|t| format!("exit code {}, {}", t.exit_code, t.reason.as_deref().unwrap_or("no reason given")));
        match (&state.waiting, &state.terminated) {
            (Some(waiting), _) => match waiting.reason.as_deref().unwrap_or_default() {
                "" | "ContainerCreating" | "PodInitializing" => None,
                // Its message tells how long the kubelet waits, which is another each time.
                reason @ "CrashLoopBackOff" => Some(format!("{said}: {reason} ({})", exit.unwrap_or_default())),
                reason => Some(format!("{said}: {reason}: {}", cut(&waiting.message))),
            },
            // One that is to end, and has ended well, keeps nothing up.
            (None, Some(ended)) if ended.exit_code != 0 => Some(format!("{said} has ended ({})", exit.unwrap_or_default())),
            _ => None,
        }
    })
}

/// What a pod that runs waits for: containers that go before the others, or a probe.
fn unready(pod: &Pod) -> Option<String> {
    let (spec, status, name) = (pod.spec.as_ref()?, pod.status.as_ref()?, pod.name_any());
    let runs = |c: &&ContainerStatus| c.state.as_ref().is_some_and(|s| s.running.is_some());
    let of = |list: &[Container], name: &str| list.iter().find(|c| c.name == name).cloned();
    let first = status.init_container_statuses.iter().flatten().filter(runs).find(|c| {
        let spec = of(spec.init_containers.as_deref().unwrap_or_default(), &c.name);
        // One that is started again for ever runs beside the others.
        spec.is_some_and(|s| s.restart_policy.as_deref() != Some("Always"))
    });
    if let Some(first) = first {
        return Some(format!("init container {} of pod {name} still runs", first.name));
    }
    status.container_statuses.iter().flatten().filter(runs).filter(|c| !c.ready).find_map(|c| {
        let container = of(&spec.containers, &c.name)?;
        let starting = container.startup_probe.is_some() && c.started == Some(false);
        let probe = if starting {
            "startup"
        } else {
            container.readiness_probe.as_ref()?;
            "readiness"
        };
        Some(format!("container {} of pod {name} runs, and its {probe} probe has not succeeded", c.name))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: Value) -> Pod {
        let probe = json!({"httpGet": {"path": "/", "port": 80}});
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "initContainers": [{"name": "schema"}, {"name": "proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "web", "startupProbe": probe, "readinessProbe": probe}, {"name": "plain"}],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn container(name: &str, state: Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "started": true, "state": state})
    }

    fn running() -> Value {
        json!({"running": {"startedAt": "2026-11-22T20:00:00Z"}})
    }

    #[test]
    fn why_a_pod_is_not_ready_is_told_of_the_pod_and_container_that_know_it() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "in words"}});
        let ended = |code: i32| json!({"terminated": {"exitCode": code, "reason": "Error"}});
        let web = |state: Value| json!({"containerStatuses": [container("web", state)]});
        let init = |name: &str, state: Value| json!({"initContainerStatuses": [container(name, state)]});
        let mut crashed = web(waiting("CrashLoopBackOff"));
        crashed["containerStatuses"][0]["lastState"] = ended(7);
        let mut starts = web(running());
        starts["containerStatuses"][0]["started"] = json!(false);
        let mut ready = web(running());
        ready["containerStatuses"][0]["ready"] = json!(true);
        let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]);
        for (status, words) in [
            (json!({"conditions": unscheduled}), Some("pod p: Unschedulable: 0/3 nodes")),
            (crashed, Some("container web of pod p: CrashLoopBackOff (exit code 7, Error)")),
            (web(waiting("ErrImagePull")), Some("container web of pod p: ErrImagePull: in words")),
            (web(waiting("ContainerCreating")), None),
            (web(ended(3)), Some("container web of pod p has ended (exit code 3, Error)")),
            (init("schema", ended(0)), None),
            (init("schema", ended(1)), Some("container schema of pod p has ended (exit code 1, Error)")),
            (init("schema", running()), Some("init container schema of pod p still runs")),
            (init("proxy", running()), None),
            (web(running()), Some("container web of pod p runs, and its readiness probe has not succeeded")),
            (starts, Some("container web of pod p runs, and its startup probe has not succeeded")),
            (json!({"containerStatuses": [container("plain", running())]}), None),
            (ready, None),
        ] {
            assert_eq!(of_pods(&[&pod("p", status.clone())]).as_deref(), words, "{status}");
        }
        let (slow, stuck) = (pod("slow", web(running())), pod("stuck", web(waiting("ErrImagePull"))));
        let said = of_pods(&[&slow, &stuck]).unwrap();
        assert!(said.starts_with("container web of pod stuck"), "what will not pass by itself comes first: {said}");
    }

    #[test]
    fn what_the_kubelet_tells_becomes_what_is_to_be_changed() {
        for (message, words_) in [
            (
                "MountVolume.SetUp failed for volume \"data-0-connection\" : secret \"unleash-db\" not found",
                "Secret unleash-db is missing",
            ),
            ("MountVolume.SetUp failed for volume \"x\" : configmap \"page\" not found", "ConfigMap page is missing"),
            ("references non-existent secret key: uri", "the Secret lacks a key"),
            (
                "Multi-Attach error for volume \"pvc-1\" Volume is already exclusively attached to one node and can't be attached to another",
                "ReadWriteMany",
            ),
            ("persistentvolumeclaim \"backups\" not found", "PersistentVolumeClaim backups is missing"),
        ] {
            let said = words("FailedMount", message);
            assert!(said.contains(words_) && said.contains("(FailedMount: "), "{said}");
        }
        let unknown = words("FailedMount", &format!("line\none \u{0}{}", "x".repeat(2000)));
        assert!(unknown.starts_with("FailedMount: line one") && unknown.chars().count() <= 700, "{unknown}");
    }
}
