//! The operator at size, on a real API server: 200 Environments, 2,000 finished Promotions, 10,000 pods in the namespaces
//! that it watches. Not part of `make test`: `make scale` runs it, and prints what it measured.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)] // what the tests of the API server use beside this
#[path = "support/server.rs"]
mod server;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    rbac::v1::ClusterRoleBinding,
};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use server::*;

const ENVIRONMENTS: usize = 200;
const PROMOTIONS_EACH: usize = 10;
const PODS_EACH: usize = 50;
/// How long nothing may be written; `LOCKKEEPER_SCALE_IDLE`, in seconds, for a quick look.
fn idle() -> Duration {
    let said = std::env::var("LOCKKEEPER_SCALE_IDLE").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(said.unwrap_or(300))
}
/// RSS that the design grants, in KiB.
const RSS: u64 = 64 * 1024;
/// How long after their installation every API server knows the kinds.
const KNOWN_AFTER: Duration = Duration::from_secs(40);
/// How soon the operator must be ready.
const READY: Duration = Duration::from_secs(5);

struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

fn namespace(i: usize) -> String {
    format!("scale-{i:03}")
}

/// A record as a run leaves it.
fn finished(name: &str) -> Value {
    let at = "2026-11-20T20:00:00Z";
    let steps: Vec<Value> = [
        "preflight", "backup", "page", "lock", "close", "record", "stop", "fence", "undo", "configuration/flags", "migration/flags",
        "workloads/flags", "verify/health", "verify/login", "release-data", "open", "unlock", "tidy",
    ]
    .iter()
    .map(|s| json!({"name": s, "state": "Succeeded", "startedAt": at, "finishedAt": at, "attempt": 0, "message": "as it was to be expected"}))
    .collect();
    let checks: Vec<Value> = (0..20)
        .map(|i| json!({"name": format!("check {i}"), "passed": true, "message": "is as it must be, and nothing is to be done about it"}))
        .collect();
    json!({
        "phase": "Completed", "planHash": PLAN, "steps": steps, "preflight": checks, "finishedAt": at, "lockedAt": at, "unlockedAt": at,
        "observedGeneration": 1, "backup": {"name": format!("{name}-backup")},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": at}],
    })
}

async fn fill(world: &World) {
    let admin = world.admin();
    let post = PostParams::default();
    let operator = world.operator();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "scale"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lockkeeper-environment"},
        "subjects": [{"kind": "ServiceAccount", "namespace": OPERATOR.0, "name": OPERATOR.1}],
    }))
    .unwrap();
    Api::all(admin.clone()).create(&post, &binding).await.unwrap();
    let one = async |i: usize| {
        let ns = namespace(i);
        let made: Namespace = serde_json::from_value(json!({"metadata": {"name": ns}})).unwrap();
        Api::all(admin.clone()).create(&post, &made).await.unwrap();
        api(&admin, &ns, "Environment").create(&post, &environment("production", &ns, "elsewhere")).await.unwrap();
        let promotions = api(&admin, &ns, "Promotion");
        for n in 0..PROMOTIONS_EACH {
            let name = format!("r-{n}");
            let mut made =
                promotions.create(&post, &promotion(&name, "production", ("elsewhere", "staging"), "admin")).await.unwrap();
            made.data["status"] = finished(&name);
            api(&operator, &ns, "Promotion").replace_status(&name, &post, &made).await.unwrap();
        }
        let pods: Api<Pod> = Api::namespaced(admin.clone(), &ns);
        for n in 0..PODS_EACH {
            let pod = json!({
                "metadata": {"name": format!("web-{n}"), "labels": {"app": "web"}},
                "spec": {"automountServiceAccountToken": false, "containers": [{"name": "web", "image": "web:1"}]},
            });
            pods.create(&post, &serde_json::from_value(pod).unwrap()).await.unwrap();
        }
    };
    stream::iter(0..ENVIRONMENTS).for_each_concurrent(12, one).await;
}

fn start(world: &World, port: u16) -> (Operator, Instant) {
    let dir = tempfile::tempdir().unwrap().keep();
    let (url, token) = address();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "s", "cluster": {"server": url, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {
            "token": token, "as": world.operator_name(),
            "as-groups": ["system:serviceaccounts", format!("system:serviceaccounts:{}", OPERATOR.0)],
        }}],
        "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
    });
    let file = dir.join("kubeconfig");
    fs::write(&file, config.to_string()).unwrap();
    let log = fs::File::create(dir.join("log")).unwrap();
    println!("the operator's log: {}", dir.join("log").display());
    let begun = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["controller", "--image", "lockkeeper:0.1.0", "--namespace", OPERATOR.0, "--service-account", OPERATOR.1])
        .args(["--identity", "scale", "--listen", &format!("127.0.0.1:{port}")])
        .env("KUBECONFIG", file)
        .env("RUST_LOG", "info")
        // As the chart has it.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    (Operator(child), begun)
}

async fn ask(port: u16, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.starts_with("HTTP/1.0 200").then_some(answer)
}

/// Writes that the API server has served so far, by resource: all but Leases, and but questions, which leave nothing behind.
async fn writes(client: &Client) -> BTreeMap<String, u64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let label = |line: &str, name: &str| -> String {
        let at = line.find(&format!("{name}=\"")).map(|i| i + name.len() + 2);
        at.map(|i| line[i..].split('"').next().unwrap_or_default().to_owned()).unwrap_or_default()
    };
    let mut out = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("apiserver_request_total{")) {
        let (verb, resource) = (label(line, "verb"), label(line, "resource"));
        let reads = ["GET", "LIST", "WATCH", "CONNECT"].contains(&verb.as_str());
        let other = resource.is_empty() || resource == "leases" || resource.ends_with("reviews");
        if reads || other {
            continue;
        }
        let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        *out.entry(format!("{verb} {resource}/{}", label(line, "subresource"))).or_default() += count as u64;
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes and is not about right or wrong alone: make scale"]
async fn the_operator_is_small_quick_and_quiet_at_size() {
    let begun = Instant::now();
    let world = World::new("scale").await;
    fill(&world).await;
    println!(
        "{ENVIRONMENTS} Environments, {} finished Promotions, {} pods in {:.0} s",
        ENVIRONMENTS * PROMOTIONS_EACH,
        ENVIRONMENTS * PODS_EACH,
        begun.elapsed().as_secs_f64()
    );
    // Kinds that were installed a moment ago are waited for (src/controller/readiness.rs); that is another second start than this.
    tokio::time::sleep(KNOWN_AFTER.saturating_sub(begun.elapsed())).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (operator, begun) = start(&world, port);
    while ask(port, "/readyz").await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the operator is not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ready = begun.elapsed();
    println!("ready after {:.2} s", ready.as_secs_f64());

    let admin = world.admin();
    let (mut last, mut since) = (writes(&admin).await, Instant::now());
    while since.elapsed() < Duration::from_secs(70) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = writes(&admin).await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(begun.elapsed() < Duration::from_secs(900), "it does not come to rest: {last:?}");
    }
    println!("at rest after {:.0} s, with {:.1} s of CPU", (since - begun).as_secs_f64(), operator.cpu_seconds());
    let (before, cpu) = (last, operator.cpu_seconds());
    let idle = idle();
    tokio::time::sleep(idle).await;
    let after = writes(&admin).await;
    let (rss, peak) = (operator.memory("VmRSS"), operator.memory("VmHWM"));
    println!(
        "{} s idle: {} writes, {:.1} % of one core; RSS {} MiB, at most {} MiB",
        idle.as_secs(),
        after.iter().map(|(k, v)| v - before.get(k).unwrap_or(&0)).sum::<u64>(),
        (operator.cpu_seconds() - cpu) / idle.as_secs_f64() * 100.0,
        rss / 1024,
        peak / 1024
    );
    assert_eq!(before, after, "nothing is written when idle but the Lease");
    assert!(peak <= RSS, "{peak} KiB of {RSS}");
    assert!(ready <= READY, "{ready:?} of {READY:?}");
}
