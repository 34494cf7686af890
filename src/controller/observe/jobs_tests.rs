//! What a Job's pod says, as the API server shows it.

use serde_json::json;

use super::*;
use crate::plan::jobs::{JobProgress, look};

/// What is said of a Job that failed.
fn failed(conditions: serde_json::Value, pods: &[serde_json::Value]) -> String {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "lk-1-migration-0", "uid": "j"}, "status": {"conditions": conditions},
    }))
    .unwrap();
    let pods: Vec<Pod> = pods.iter().map(|p| serde_json::from_value(p.clone()).unwrap()).collect();
    let seen = BTreeMap::from([(job.name_any(), view(&job, &pods))]);
    match look(&seen, "lk-1-migration-0", false, Timestamp::UNIX_EPOCH, || unreachable!("it is there")) {
        JobProgress::Failed(failure) => failure.message,
        other => panic!("{other:?}"),
    }
}

/// A pod that has ended, and what else its object says.
fn ended(terminated: serde_json::Value, more: serde_json::Value, status: serde_json::Value) -> serde_json::Value {
    let mut pod = json!({
        "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j"}]},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]},
        "status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": {"terminated": terminated}}]},
    });
    for (part, more) in [("metadata", more), ("status", status)] {
        pod[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    pod
}

#[test]
fn how_a_pod_was_ended_from_outside_is_said() {
    let leaving = json!({"deletionTimestamp": "2026-11-23T00:00:00Z"});
    let evicted = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}]);
    let exit = json!({"exitCode": 1, "reason": "Error"});
    let none = json!([]);
    for (said, pod) in [
        (
            "ended with exit code 1: its pod was ended from outside (EvictionByEvictionAPI: Eviction API: evicting)",
            ended(exit.clone(), leaving.clone(), json!({"conditions": evicted})),
        ),
        ("ended with exit code 1: its pod was deleted", ended(exit.clone(), leaving.clone(), json!({}))),
        (
            "its pod was ended by its node (Evicted: The node was low on resource: memory)",
            ended(
                exit.clone(),
                json!({}),
                json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory"}),
            ),
        ),
        (
            "needed more memory than its limit",
            ended(json!({"exitCode": 137, "reason": "OOMKilled"}), json!({}), json!({"phase": "Failed"})),
        ),
    ] {
        let message = failed(none.clone(), &[pod]);
        assert!(message.contains(said), "not {said:?} but: {message}");
    }
}

#[test]
fn a_pod_that_its_jobs_deadline_deletes_is_the_deadlines_and_one_that_nobody_saw_says_so() {
    let leaving = json!({"deletionTimestamp": "2026-11-23T00:00:00Z"});
    let condition = |type_: &str, reason: &str| json!({"type": type_, "status": "True", "reason": reason});
    let both = json!([condition("FailureTarget", "DeadlineExceeded"), condition("Failed", "DeadlineExceeded")]);
    let message = failed(both, &[ended(json!({"exitCode": 143}), leaving, json!({}))]);
    assert_eq!(message, "Job lk-1-migration-0 took longer than it may");
    let message = failed(json!([condition("Failed", "BackoffLimitExceeded")]), &[]);
    assert!(message.ends_with("its pod was gone before anyone could see how it ended"), "{message}");
}
