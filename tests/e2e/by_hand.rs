//! The operator is gone while an environment is locked. A person puts it back by kubectl and psql, as README.md says, to the
//! letter.

use lockkeeper::api::Promotion;
use serde_json::{Value, json};

use super::{
    cluster::{OPERATOR_NAMESPACE, eventually, kubectl},
    world::{PATIENCE, World},
};

/// The operator comes back, however the story ends.
struct Gone;

impl Gone {
    fn scale(replicas: &str) -> Result<String, String> {
        kubectl(&["-n", OPERATOR_NAMESPACE, "scale", "deployment", "lockkeeper", &format!("--replicas={replicas}")])
    }

    fn new() -> Self {
        let gone = Self;
        Self::scale("0").expect("the operator is taken away");
        eventually("no operator is left", PATIENCE, || {
            let pods =
                kubectl(&["-n", OPERATOR_NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=lockkeeper", "-o", "name"])?;
            if pods.is_empty() { Ok(()) } else { Err(pods) }
        });
        gone
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = Self::scale("1");
    }
}

/// The query of README.md that writes what puts databases back.
fn query() -> &'static str {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<<'SQL'\n").expect("README.md has the query");
    rest.split_once("\nSQL\n").expect("an end of it").0
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&kubectl(&[arguments, &["-o", "json"]].concat()).expect("kubectl answers")).expect("JSON")
}

#[test]
fn story_with_the_operator_gone_a_person_puts_a_locked_environment_back_to_the_letter() {
    let world = World::alone("byhand", "2-slow");
    let ns = world.production.as_str();
    let before = (world.service(), world.configuration(), world.database.shape(), world.digests(ns));
    let replicas = world.deployment().spec.and_then(|s| s.replicas).expect("replicas");
    let rows = world.database.numbers();
    world.ask(&world.promotion("left"));
    world.approve("left");
    world.begins("left", "migration/tiny");
    eventually("half of the migration is committed", PATIENCE, || {
        world.database.query("tiny", "SELECT count(digits) FROM writes").map(drop)
    });
    let gone = Gone::new();

    // 1. Nobody at work.
    kubectl(&["-n", ns, "delete", "jobs", "-l", "lockkeeper.dev/run"]).expect("Jobs end");
    // 2. The databases.
    let control = world
        .database
        .query("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'lockkeeper\\_%'")
        .expect("it is there");
    let back = world.database.query(control.trim(), query()).expect("the query runs");
    println!("{back}");
    for statement in back.lines() {
        world.database.query("postgres", statement).unwrap_or_else(|why| panic!("{statement}: {why}"));
    }
    let free = "UPDATE fence SET state = 'free', holder = NULL, undo_database = NULL";
    world.database.query(control.trim(), free).expect("the row is free");
    // 3. Configuration.
    let copies = json_of(&["-n", ns, "get", "configmaps", "-l", "lockkeeper.dev/step=prior"]);
    for copy in copies["items"].as_array().expect("copies") {
        let name = copy["metadata"]["annotations"]["lockkeeper.dev/copy-of"].as_str().expect("it names its original");
        let patch = json!([{"op": "replace", "path": "/data", "value": copy["data"]}]).to_string();
        kubectl(&["-n", ns, "patch", "configmap", name, "--type", "json", "-p", &patch]).expect("it is put back");
    }
    // 4. Workloads.
    let run = json_of(&["-n", ns, "get", "promotion", "left"]);
    let image = run["status"]["prior"]["modules"][0]["workloads"][0]["containers"][0]["image"].as_str().expect("an image");
    let tiny = json_of(&["-n", ns, "get", "deployment", "tiny"]);
    let found: Value =
        serde_json::from_str(tiny["metadata"]["annotations"]["lockkeeper.dev/found"].as_str().expect("found")).expect("JSON");
    for command in [
        vec!["set", "image", "deployment/tiny", &format!("*={image}")],
        vec!["scale", "deployment", "tiny", &format!("--replicas={}", found["replicas"])],
        vec!["annotate", "deployment", "tiny", "lockkeeper.dev/found-"],
        vec!["rollout", "status", "deployment/tiny", "--timeout=120s"],
    ] {
        kubectl(&[&["-n", ns][..], &command].concat()).expect("the workload comes back");
    }
    // 5. Services.
    let service = json_of(&["-n", ns, "get", "service", "tiny"]);
    let found: Value =
        serde_json::from_str(service["metadata"]["annotations"]["lockkeeper.dev/found"].as_str().expect("found")).expect("JSON");
    let patch = json!([
        {"op": "replace", "path": "/spec/selector", "value": found["selector"]},
        {"op": "replace", "path": "/spec/ports", "value": found["ports"]},
        {"op": "remove", "path": "/metadata/annotations/lockkeeper.dev~1found"},
    ]);
    kubectl(&["-n", ns, "patch", "service", "tiny", "--type", "json", "-p", &patch.to_string()]).expect("users come back");
    kubectl(&["-n", ns, "delete", "services,deployments", "-l", "lockkeeper.dev/run"]).expect("the page goes");
    // 6. The records.
    let op = "--as=system:serviceaccount:lockkeeper-system:lockkeeper";
    kubectl(&["-n", ns, "patch", "promotion", "left", op, "--type", "merge", "-p", r#"{"metadata":{"finalizers":null}}"#])
        .expect("it is let go");
    kubectl(&["-n", ns, "delete", "promotion", "left"]).expect("it goes");
    let mut environment = json_of(&["-n", ns, "get", "environment", "production"]);
    let status = environment["status"].as_object_mut().expect("a status");
    status.remove("active");
    status.get_mut("lock").and_then(Value::as_object_mut).expect("a lock").remove("holder");
    let file = world.directory().join("environment.json");
    std::fs::write(&file, environment.to_string()).expect("a file");
    kubectl(&["replace", op, "--subresource", "status", "-f", &file.to_string_lossy()]).expect("the lock is free");

    let (service, configuration, shape, digests) =
        (world.service(), world.configuration(), world.database.shape(), world.digests(ns));
    assert_eq!((service, configuration, digests), (before.0, before.1, before.3));
    assert_eq!(before.2.difference(&shape), "", "the database is what it was, to the letter");
    assert!(world.database.numbers().is_superset(&rows), "no row is lost");
    assert_eq!(world.deployment().spec.and_then(|s| s.replicas), Some(replicas));

    // The operator comes back to an environment at rest, and takes away what is left of the run.
    drop(gone);
    eventually("copies of the run are gone", PATIENCE, || {
        let left = kubectl(&["-n", ns, "get", "configmaps,jobs,deployments,services", "-l", "lockkeeper.dev/run", "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let other: Promotion = world.promotion("next");
    world.ask(&other);
    world.planned("next");
}
