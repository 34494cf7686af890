//! Staging becomes a mirror of Production: each value masked before it leaves Production's namespace; and before a promotion
//! that happens by itself.

use std::path::PathBuf;

use lockkeeper::{
    api::{DownAlignment, Environment, MaskingPolicy, Phase, RunStatus},
    data::mask,
};
use serde_json::{Value, json};

use super::{
    canaries::Canaries,
    cluster::{self, apply, eventually, kubectl, wait},
    database::Database,
    files::Files,
    gateway::{BUCKET, Gateway, KEY, SECRET},
    world::{ALICE, PATIENCE, World, filled},
};

/// The node, as its pods reach it.
const NODE: &str = "10.99.0.1";
/// So many values must not be found anywhere but in Production's own database.
const CANARIES: usize = 1000;

fn patch(namespace: &str, kind: &str, name: &str, patch: &Value) -> Result<String, String> {
    kubectl(&["-n", namespace, "patch", kind, name, "--type=merge", "-p", &patch.to_string()])
}

/// The volume that Production's claim is bound to, for a lower environment's claim as well. Its directory on this machine.
pub fn share(production: &str, lower: &str) -> PathBuf {
    let volume = eventually("the exchange has a volume", PATIENCE, || {
        let name = kubectl(&["-n", production, "get", "pvc", "exchange", "-o", "jsonpath={.spec.volumeName}"])?;
        if name.is_empty() { Err("it is not bound".into()) } else { Ok(name) }
    });
    let path = kubectl(&["get", "pv", &volume, "-o", "jsonpath={.spec.hostPath.path}"]).expect("a directory of the node");
    let second = format!("{lower}-exchange");
    // One that a story which was cut off has left leads elsewhere.
    kubectl(&["delete", "pv", &second, "--ignore-not-found", "--timeout=60s"]).expect("the name is free");
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": second}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": path}, "claimRef": {"namespace": lower, "name": "exchange"}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "exchange", "namespace": lower}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "", "volumeName": second}},
    ]});
    apply(&objects.to_string()).expect("the same directory for the lower environment");
    path.into()
}

fn alignment(world: &World, name: &str) -> DownAlignment {
    serde_json::from_value(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "DownAlignment", "metadata": {"name": name, "namespace": world.staging},
        "spec": {
            "environment": {"name": "staging"}, "from": {"namespace": world.production, "name": "production"},
            "requestedBy": {"username": ALICE},
        },
    }))
    .expect("a DownAlignment")
}

fn status(namespace: &str, name: &str) -> RunStatus {
    let api: kube::Api<DownAlignment> = kube::Api::namespaced(cluster::client(None), namespace);
    wait(api.get(name)).expect("the DownAlignment").status.unwrap_or_default()
}

/// The hash of a policy as it is now, once the operator has said it.
pub fn hash(namespace: &str, policy: &str) -> String {
    eventually("the policy has a hash", PATIENCE, || {
        let seen = kubectl(&["-n", namespace, "get", "mask", policy, "-o", "json"])?;
        let policy: MaskingPolicy = serde_json::from_str(&seen).map_err(|e| e.to_string())?;
        let hash = policy.status.unwrap_or_default().hash.filter(|hash| *hash == mask::hash(&policy.spec));
        hash.ok_or_else(|| "not yet".into())
    })
}

/// Waits for the end of a DownAlignment.
pub fn ends(namespace: &str, name: &str) -> RunStatus {
    eventually(&format!("{name} ends"), PATIENCE, || {
        let status = status(namespace, name);
        if status.phase.is_terminal() { Ok(status) } else { Err(format!("{} {:?} {:?}", status.phase, status.step, status.next)) }
    })
}

/// Lets Production's restores be proven on Staging's server.
fn proven_below(world: &World) -> Value {
    let role = "CREATE ROLE prover LOGIN CREATEDB PASSWORD 'of-proofs'";
    Database::of(&world.staging).query("postgres", role).expect("a role that may make databases");
    let (host, namespace) = (format!("--from-literal=host=postgres.{}.svc", world.staging), &world.production);
    let (user, password) = ("--from-literal=user=prover", "--from-literal=password=of-proofs");
    kubectl(&["-n", namespace, "create", "secret", "generic", "prover", &host, user, password]).expect("a Secret");
    json!({"connectionSecret": {"name": "prover"}})
}

/// The same with Production's backups and the exchange on S3, each side with a Secret of its own.
fn over_s3(world: &World, hash: &str) -> Gateway {
    let gateway = Gateway::start_with(NODE, &[]);
    for namespace in [&world.production, &world.staging] {
        let (key, secret) = (format!("--from-literal=accessKeyId={KEY}"), format!("--from-literal=secretAccessKey={SECRET}"));
        kubectl(&["-n", namespace, "create", "secret", "generic", "s3", &key, &secret]).expect("a Secret");
    }
    let place = |prefix: &str, password: &str| {
        let s3 = json!({"endpoint": gateway.endpoint(), "bucket": BUCKET, "prefix": prefix, "credentialsSecret": {"name": "s3"}});
        json!({"repository": {"s3": s3, "volume": null}, "passwordSecret": {"name": password}})
    };
    let exchange = place("exchange", "exchange-key");
    let mut backups = place("production", "backup-key");
    backups["proof"] = proven_below(world);
    let both = json!({"spec": {"exchange": exchange, "backups": backups}});
    patch(&world.production, "environment", "production", &both).expect("Production's places");
    patch(&world.staging, "environment", "staging", &json!({"spec": {"exchange": exchange}})).expect("Staging's exchange");
    let backup = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentBackup", "metadata": {"name": "on-s3", "namespace": world.production},
        "spec": {"environment": {"name": "production"}, "reason": "on S3"},
    });
    apply(&backup.to_string()).expect("a backup");
    let api: kube::Api<DownAlignment> = kube::Api::namespaced(cluster::client(Some(ALICE)), &world.staging);
    wait(api.create(&kube::api::PostParams::default(), &alignment(world, "over-s3"))).expect("alice may ask");
    let status = ends(&world.staging, "over-s3");
    assert_eq!(status.phase, Phase::Completed, "{:?} {:?}", status.failure, status.next);
    assert_eq!(status.snapshot.as_ref().and_then(|s| s.masking_policy_hash.as_deref()), Some(hash));
    // Production's owner lets it serve once more.
    let reuse = json!({"spec": {"exchange": {"reuseWithin": "1h"}}});
    patch(&world.production, "environment", "production", &reuse).expect("Production's exchange");
    wait(api.create(&kube::api::PostParams::default(), &alignment(world, "over-s3-again"))).expect("alice may ask");
    let again = ends(&world.staging, "over-s3-again");
    assert_eq!(again.phase, Phase::Completed, "{:?} {:?}", again.failure, again.next);
    assert_eq!(again.snapshot, status.snapshot, "the same one, of the same time");
    let said: Vec<String> = again.steps.iter().filter_map(|s| s.message.clone()).collect();
    assert!(said.iter().any(|m| m.contains("over-s3 of the data at") && m.contains("again to")), "{said:?}");
    eventually("the backup on S3 is proven", PATIENCE, || {
        let phase =
            kubectl(&["-n", &world.production, "get", "ebk", "on-s3", "-o", "jsonpath={.status.phase} {.status.failure}"])?;
        if phase.trim() == "Completed" { Ok(()) } else { Err(phase) }
    });
    Database::of(&world.staging).log().assert_said("prover@tiny__proof_", "CREATE TABLE public.writes");
    for prefix in ["exchange", "production"] {
        assert!(gateway.bucket().join(prefix).join("config").is_file(), "{prefix} is on S3");
    }
    for namespace in [&world.production, &world.staging] {
        let seen = kubectl(&["-n", namespace, "get", "events,jobs,pods,environments", "-o", "yaml"]).expect("it can be read");
        assert!(!seen.contains(SECRET), "the credentials are in what the operator writes");
    }
    gateway
}

#[test]
fn story_staging_becomes_a_mirror_of_production_and_no_value_of_production_leaves_it() {
    let mut world = World::new("mirror", "2");
    apply(&filled(include_str!("manifests/alignment.yaml"), &[("PRODUCTION", &world.production), ("STAGING", &world.staging)]))
        .expect("what an exchange needs applies");
    let exchange = share(&world.production, &world.staging);
    let canaries = Canaries::of(&["canary-"], &[&world.production, &world.staging]);
    for (role, namespace) in [("lockkeeper-aligner", &world.production), ("lockkeeper-requester", &world.staging)] {
        kubectl(&["-n", namespace, "create", "rolebinding", role, &format!("--clusterrole={role}"), "--user=alice"])
            .expect("alice may");
    }
    let place = json!({"repository": {"volume": {"claim": {"name": "exchange"}}}, "passwordSecret": {"name": "exchange-key"}});
    // Of its files the policy lists some; Staging has others under the same name.
    let (above, files_below) = (Files::of(&mut world), Files::mounted(&world.staging));
    above.add("canary-of-a-person");
    files_below.use_them(0);
    let listed = json!({"name": "uploads", "files": {"include": ["deep/{1?,7}", "deep/er/**", "linked", "outside"]}});
    let listed = json!([{"op": "add", "path": "/spec/data/-", "value": listed}]);
    kubectl(&["-n", &world.production, "patch", "maskingpolicy", "tiny", "--type=json", "-p", &listed.to_string()])
        .expect("the policy lists files");
    let hash = hash(&world.production, "tiny");
    let consent = |hash: &str| {
        let grant = json!({"to": {"namespace": world.staging, "name": "staging"}, "data": {"all": {}}, "maskingPolicy": {"name": "tiny", "hash": hash}});
        patch(&world.production, "environment", "production", &json!({"spec": {"exchange": place, "grants": [grant]}}))
            .expect("Production's owner lets it");
    };
    consent(&hash);
    let staging = json!({"spec": {
        "alignsFrom": [{"namespace": world.production, "name": "production"}], "exchange": place,
        "data": [
            {"name": "tiny-db", "postgres": {"connectionSecret": {"name": "tiny-db"}, "adminSecret": {"name": "tiny-db-admin"}}},
            {"name": "uploads", "volume": {"claim": {"name": "uploads"}}},
        ],
        "backups": {"repository": {"volume": {"claim": {"name": "backups"}}}, "passwordSecret": {"name": "backup-key"}},
        "maintenance": {"drain": "2s"}, "verification": [{"name": "health", "http": {"url": "http://tiny/health"}}],
    }});
    patch(&world.staging, "environment", "staging", &staging).expect("Staging's owner wants it");
    world
        .database
        .query("tiny", &format!("INSERT INTO writes (n, release, note) SELECT 5000000 + i, '1', 'canary-' || i FROM generate_series(1, {CANARIES}) i"))
        .expect("values that must stay");
    let below = Database::of(&world.staging);
    below.query("tiny", "INSERT INTO writes (n, release, note) VALUES (77, '2', 'of staging')").expect("Staging has its own");

    // Production's image serves the data of Production; a key that only Production has is spoken of.
    patch(&world.staging, "configmap", "tiny-config", &json!({"data": {"DROPPED": "known here"}})).expect("it is known");
    let api: kube::Api<DownAlignment> = kube::Api::namespaced(cluster::client(Some(ALICE)), &world.staging);
    wait(api.create(&kube::api::PostParams::default(), &alignment(&world, "mirror"))).expect("alice may ask");
    let status = ends(&world.staging, "mirror");
    assert_eq!(status.phase, Phase::Completed, "{:?} {:?}", status.failure, status.next);
    let snapshot = status.snapshot.expect("what was masked");
    assert_eq!(snapshot.masking_policy_hash.as_deref(), Some(hash.as_str()));
    let leaves = |line: &String| {
        let path = line.split(" mode=").next().unwrap_or_default();
        let one = path.strip_prefix("deep/1").is_some_and(|rest| rest.len() == 1);
        one || ["deep", "deep/7", "linked"].contains(&path) || path.starts_with("deep/er")
    };
    let expected: Vec<String> = above.listing().into_iter().filter(leaves).collect();
    assert_eq!(files_below.listing(), expected, "the files that the policy lists are there, as they are, and no other");
    assert_eq!((snapshot.volumes, snapshot.files), (vec!["uploads".to_owned()], Some(13)));
    let of = |database: &Database, sql: &str| database.query("tiny", sql).expect("an answer").trim().to_owned();
    let rows = "SELECT count(*), sum(n) FROM writes";
    assert_eq!(of(&below, rows), of(&world.database, rows), "the same rows are there");
    assert_eq!(of(&below, "SELECT count(*) FROM writes WHERE note LIKE 'canary%'"), "0");
    assert_eq!(of(&world.database, "SELECT count(*) FROM writes WHERE note LIKE 'canary%'"), CANARIES.to_string());
    assert_eq!(world.digests(&world.staging), world.digests(&world.production), "Production's image serves on it");
    let uid = kubectl(&["-n", &world.production, "get", "environment", "production", "-o", "jsonpath={.metadata.uid}"]);
    canaries.not_on_server(&world.staging, "schema_version");
    canaries.not_in_repository(&exchange, "exchange-of-a-story", &uid.expect("Production"), "schema_version");
    canaries.not_in_cluster(&[&world.production, &world.staging], &world.staging, &["-snapshot-", "-load-"]);
    let left = kubectl(&["-n", &world.production, "get", "jobs,configmaps", "-l", "lockkeeper.dev/step=snapshot", "-o", "name"]);
    assert_eq!(left.as_deref().map(str::trim), Ok(""), "nothing of it is left in Production");

    let _gateway = over_s3(&world, &hash);

    // A column that nobody has classified: nothing leaves, and Staging is not touched.
    world.database.query("tiny", "ALTER TABLE writes ADD COLUMN phone text DEFAULT 'canary-phone'").expect("a new column");
    wait(api.create(&kube::api::PostParams::default(), &alignment(&world, "again"))).expect("alice may ask");
    let refused = ends(&world.staging, "again");
    assert_eq!(refused.phase, Phase::Failed, "{:?}", refused.next);
    let failure = refused.failure.expect("why");
    assert!(failure.message.contains("public.writes, column phone") && failure.message.contains("phone: {"), "{failure:?}");
    assert!(refused.locked_at.is_none() && !failure.message.contains("canary"), "{failure:?}");

    // Never into a protected environment, whatever its owner writes.
    let api: kube::Api<Environment> = kube::Api::namespaced(cluster::client(None), &world.production);
    assert!(wait(api.get("production")).expect("Production").spec.is_protected());
    kubectl(&["delete", "pv", &format!("{}-exchange", world.staging), "--wait=false"])
        .expect("the second name of the volume goes");
}
