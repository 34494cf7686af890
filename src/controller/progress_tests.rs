//! Logs that are read, and logs that cannot be.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::client::{Body, Client};
use serde_json::json;

use super::*;

const LINE: &str = r#"{"doing":"backing up flags-db","done":10,"total":40,"unit":"bytes","rows":3,"since":"2026-11-25T20:00:00Z","at":"2026-11-25T20:00:05Z"}"#;

fn pod(verb: &str, state: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "p", "namespace": "shop", "uid": "p", "labels": {labels::AGENT: verb, labels::RUN: "r"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j"}],
        },
        "status": {"containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {state: {}}}]},
    }))
    .unwrap()
}

fn jobs() -> BTreeMap<String, JobView> {
    let view = JobView {
        name: "j".into(),
        uid: "j".into(),
        step: "backup".into(),
        state: JobState::Running,
        created_at: None,
        deleting: false,
        exit_code: None,
        exit_reason: None,
        disruption: None,
        outcome: None,
        progress: None,
        trouble: None,
        gate: None,
        pulled: BTreeMap::new(),
        log_tail: None,
    };
    BTreeMap::from([("j".to_owned(), view)])
}

/// A server that answers each request for a log like this, and how often it was asked.
fn server(code: u16, text: &'static str) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        let log = request.uri().path() == "/api/v1/namespaces/shop/pods/p/log";
        let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Forbidden", "code": code});
        let body = if code == 200 && log { text.to_owned() } else { refusal.to_string() };
        async move { Ok::<_, std::io::Error>(Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap()) }
    });
    (Client::new(service, "default"), asked)
}

/// What a turn is told, once what it had read has come, and whose turn that woke.
async fn told(client: &Client, pod: Pod) -> (Option<Progress>, Option<Heard>) {
    let (news, mut heard) = futures::channel::mpsc::unbounded();
    let (logs, mut jobs) = (Logs::new(news), jobs());
    logs.tell(client, std::slice::from_ref(&pod), &mut jobs);
    assert_eq!(jobs["j"].progress, None, "a turn does not wait for a log");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    logs.tell(client, &[pod], &mut jobs);
    (jobs["j"].progress.clone(), heard.try_recv().ok())
}

#[tokio::test]
async fn news_wake_the_run_whose_they_are_and_turns_do_not_make_a_log_be_read_more_often() {
    let (client, asked) = server(200, Box::leak(format!("a warning\n{LINE}\n{{\"doing\": 1}}\n").into_boxed_str()));
    let (progress, heard) = told(&client, pod("backup", "running")).await;
    let progress = progress.unwrap();
    assert_eq!((progress.done, progress.total, progress.rows), (10, Some(40), Some(3)));
    assert_eq!(heard, Some(Heard { namespace: "shop".into(), run: Some("r".into()), progress: true }));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_log_is_read_on_as_long_as_turns_ask_for_it_and_then_forgotten() {
    let (client, _) = server(200, LINE);
    let (logs, api) = (Logs::default(), Api::namespaced(client.clone(), "shop"));
    let heard = Heard { namespace: "shop".into(), run: None, progress: true };
    let look = async || logs.look(&api, "p", "p", &heard).await;
    assert_eq!(look().await, None, "nobody has asked");
    logs.tell(&client, &[pod("backup", "running")], &mut jobs());
    assert_eq!(look().await, Some(PAUSE));
    logs.all.lock().unwrap().get_mut("p").unwrap().asked -= MEMORY;
    assert_eq!(look().await, None);
    assert!(logs.all.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_read_or_says_nothing_is_absent() {
    for (code, text) in [(403, ""), (200, ""), (200, "no progress\n"), (200, "{\"doing\":\"x\""), (500, "")] {
        let (client, _) = server(code, text);
        assert_eq!(told(&client, pod("backup", "running")).await, (None, None), "{code} {text}");
    }
}

#[tokio::test]
async fn only_of_agents_that_move_data_and_run_is_a_log_read() {
    for (verb, state) in [("page", "running"), ("http", "running"), ("backup", "waiting"), ("backup", "terminated")] {
        let (client, asked) = server(200, LINE);
        let (mut pod, value) =
            (pod(verb, "running"), json!({state: if state == "terminated" { json!({"exitCode": 0}) } else { json!({}) }}));
        let statuses = pod.status.as_mut().and_then(|s| s.container_statuses.as_mut()).unwrap();
        statuses[0].state = Some(serde_json::from_value::<k8s_openapi::api::core::v1::ContainerState>(value).unwrap());
        assert_eq!(told(&client, pod).await, (None, None));
        assert_eq!(asked.load(Ordering::SeqCst), 0, "{verb} {state}");
    }
}
