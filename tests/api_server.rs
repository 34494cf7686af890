//! The definitions, the rules beside their fields, and the admission policies, as a real API server (etcd and kube-apiserver
//! of Kubernetes 1.35) holds them: by different users, in every way a request can come. Each test has namespaces of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "api_server/alignments.rs"]
mod alignments;
#[path = "api_server/bad_input.rs"]
mod bad_input;
#[path = "support/bad_input.rs"]
mod bad_input_entries;
#[path = "api_server/bounds.rs"]
mod bounds;
#[path = "api_server/repositories.rs"]
mod repositories;
#[path = "api_server/restores.rs"]
mod restores;
#[path = "support/server.rs"]
mod server;
mod support;

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, ValidationDirective},
};
use serde_json::{Value, json};
use server::*;

fn post() -> PostParams {
    PostParams::default()
}

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn plain() -> PatchParams {
    PatchParams::default()
}

fn merge(value: Value) -> Patch<Value> {
    Patch::Merge(value)
}

/// Server-side apply under a field manager, unknown fields refused.
fn apply_as(manager: &str) -> PatchParams {
    PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(manager) }
}

/// An object with a value put at a path of keys and numbers.
fn with(mut object: DynamicObject, path: &str, value: Value) -> DynamicObject {
    let mut at = &mut object.data;
    for key in path.split('.') {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
    object
}

fn without(mut object: DynamicObject, path: &str) -> DynamicObject {
    let (parent, key) = path.rsplit_once('.').unwrap();
    let pointer = format!("/{}", parent.replace('.', "/"));
    object.data.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    object
}

fn approval(name: &str, plan: &str) -> Value {
    json!({"username": name, "groups": groups(), "planHash": plan})
}

fn approvals(entries: &[Value]) -> Value {
    json!({"spec": {"approvals": entries}})
}

fn cancelled_by(name: &str) -> Value {
    json!({"spec": {"cancel": {"username": name, "reason": "not today"}}})
}

fn approvers(promotion: &DynamicObject) -> Vec<&str> {
    let entries = promotion.data["spec"]["approvals"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry["username"].as_str().unwrap()).collect()
}

// ------------------------------------------------------------------------------------------------ the definitions

#[tokio::test]
async fn the_smallest_environment_gets_the_safe_defaults() {
    let world = World::new("smallest").await;
    let environment = api(&world.admin(), &world.production, "Environment").get("production").await.unwrap();
    let spec = &environment.data["spec"];
    assert_eq!(spec["approvals"], json!({"required": 1, "requesterMayApprove": false}));
    assert_eq!(spec["history"], json!({"keep": 20, "keepWithin": "2160h"}));
    assert_eq!(spec["preflight"], json!({"maxTransactionAge": "5m", "minimumFreeFactor": 1.2}));
    assert_eq!(spec["maintenance"], json!({"mode": "Unavailable", "drain": "30s"}));
    assert_eq!(spec["data"][0]["undo"], json!({"method": "Auto", "keepFor": "24h"}));
    assert_eq!(spec["modules"][0]["migration"]["timeout"], "30m");
    let read: lockkeeper::api::Environment = serde_json::from_value(serde_json::to_value(&environment).unwrap()).unwrap();
    assert_eq!(read.spec.maintenance.services, lockkeeper::api::environment::Services::default());
    assert_eq!(read.spec.modules[0].delivery, lockkeeper::api::environment::Delivery::default());
}

#[tokio::test]
async fn an_environment_with_every_field_applies_as_written() {
    let world = World::new("every-field").await;
    let spec = json!({
        "tier": "Production",
        "protected": true,
        "promotesFrom": [{"namespace": world.staging, "name": "staging"}],
        "modules": [{
            "name": "flags",
            "workloads": [{"kind": "Deployment", "name": "unleash"}, {"kind": "Deployment", "name": "metrics"}],
            "configuration": [{"configMap": {"name": "unleash-config"}, "keep": ["BASE_URL"]}],
            "migration": {"workload": {"kind": "Deployment", "name": "unleash"}, "container": "unleash", "command": ["node", "migrate.mjs"], "connectionSecret": {"name": "migrator"}, "timeout": "30m"},
            "delivery": {"direct": {}}
        }],
        "data": [{
            "name": "flags-db",
            "postgres": {"connectionSecret": {"name": "unleash-db"}, "adminSecret": {"name": "unleash-db-admin"}},
            "undo": {"method": "Clone", "keepFor": "1h30m"}
        }, {
            "name": "uploads", "volume": {"claim": {"name": "uploads"}}, "undo": {"method": "Backup", "keepFor": "24h"}
        }],
        "preflight": {"maxTransactionAge": "5m", "minimumFreeFactor": 1.5},
        "maintenance": {
            "mode": "Unavailable", "services": {"names": ["unleash"]}, "drain": "30s",
            "exclude": [{"kind": "Deployment", "name": "metrics"}]
        },
        "verification": [
            {"name": "login", "timeout": "2m", "job": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "check", "image": "check:1"}], "restartPolicy": "Never"}}}},
            {"name": "health", "timeout": "2m", "http": {"url": "http://unleash/health", "expectStatus": 200}}
        ],
        "backups": {"repository": {"volume": {"claim": {"name": "backups"}}}, "passwordSecret": {"name": "backup-key"}},
        "approvals": {"required": 2, "requesterMayApprove": false},
        "history": {"keep": 5, "keepWithin": "720h"}
    });
    let wanted = object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "production"}, "spec": spec
    }));
    // The administrator of the test made the object in another way: the team takes it over.
    let applied = api(&world.user("olga"), &world.production, "Environment")
        .patch("production", &apply_as("team").force(), &Patch::Apply(&wanted))
        .await
        .unwrap();
    assert_eq!(applied.data["spec"], spec, "nothing is pruned and nothing added");
    let read: lockkeeper::api::Environment = serde_json::from_value(serde_json::to_value(&applied).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&read.spec).unwrap()["verification"], spec["verification"]);
}

#[tokio::test]
async fn runs_with_every_field_apply() {
    let world = World::new("runs").await;
    let mut run = world.promotion("flags-7-4", "alice");
    run.data["spec"]["modules"] = json!(["flags"]);
    run.data["spec"]["schedule"] = json!({"notBefore": "2026-11-25T21:00:00+01:00", "startDeadline": "2h"});
    run.data["spec"]["description"] = json!("Flags 7.4");
    let made = world.promotions("alice").patch("flags-7-4", &apply_as("alice"), &Patch::Apply(&run)).await.unwrap();
    assert_eq!(made.data["spec"], run.data["spec"]);
    world.in_phase("flags-7-4", "Scheduled").await;
    let mut entry = approval("bob", PLAN);
    entry["comment"] = json!("fine");
    world.promotions("bob").patch("flags-7-4", &plain(), &merge(approvals(&[entry]))).await.unwrap();
    world.promotions("carol").patch("flags-7-4", &plain(), &merge(cancelled_by("carol"))).await.unwrap();

    let backups = api(&world.user("olga"), &world.production, "EnvironmentBackup");
    let made = backups
        .patch(
            "b",
            &apply_as("olga"),
            &Patch::Apply(&with(backup("b", "production"), "spec.data", json!({"names": ["flags-db"]}))),
        )
        .await
        .unwrap();
    assert_eq!(made.data["spec"]["keep"], false);
}

#[tokio::test]
async fn a_field_of_a_later_version_is_refused_and_never_dropped_in_silence() {
    let world = World::new("later").await;
    for (field, value) in
        [("calendar", json!({"timeZone": "Europe/Madrid"})), ("freeze", json!({"username": "dave"})), ("customer", json!("ACME"))]
    {
        let wanted = with(environment("production", &world.production, &world.staging), &format!("spec.{field}"), value);
        let applied = api(&world.admin(), &world.production, "Environment")
            .patch("production", &apply_as("t").force(), &Patch::Apply(&wanted))
            .await;
        refused(applied, 500, &format!(".spec.{field}: field not declared in schema"));
    }
    let wanted = with(world.promotion("p", "alice"), "spec.overrideWindow", json!({"username": "alice"})).data;
    let input = json!({"apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": "p", "namespace": world.production}, "spec": wanted["spec"]});
    let refusal = kubectl(&["create", "--validate=strict", "-f", "-"], &input.to_string()).unwrap_err();
    assert!(refusal.contains(r#"unknown field "spec.overrideWindow""#), "{refusal}");
}

#[tokio::test]
async fn values_out_of_bounds_are_refused_by_name() {
    let world = World::new("bounds").await;
    let empty = world.empty().await;
    let environments = api(&world.admin(), &empty, "Environment");
    let good = || environment("other", &empty, &world.staging);
    environments.create(&dry(), &good()).await.expect("the smallest is well");
    let long = "a".repeat(254);
    for (path, value, words) in [
        ("spec.tier", json!("production"), "spec.tier: Unsupported value"),
        ("spec.tier", json!(1), "spec.tier"),
        ("spec.protected", json!("true"), "must be of type boolean"),
        ("spec.modules", json!([]), "spec.modules in body should have at least 1 items"),
        ("spec.modules.0.name", json!("Flags"), "spec.modules[0].name in body should match"),
        ("spec.modules.0.name", json!("a".repeat(41)), "spec.modules[0].name: Too long"),
        ("spec.modules.0.workloads", json!([]), "should have at least 1 items"),
        ("spec.modules.0.workloads.0.name", json!(long), "Too long"),
        ("spec.modules.0.workloads.0.name", json!("../x"), "should match"),
        ("spec.modules.0.workloads.0.kind", json!("DaemonSet"), "a DaemonSet has no number of pods by which it could be stopped"),
        ("spec.modules.0.migration.command", json!([]), "should have at least 1 items"),
        ("spec.modules.0.migration.timeout", json!("-1s"), "should match"),
        ("spec.modules.0.migration.timeout", json!("soon"), "should match"),
        ("spec.modules.0.migration.timeout", json!("99999999h"), "should match"),
        ("spec.promotesFrom.0.namespace", json!("a.b"), "should match"),
        ("spec.approvals", json!({"required": -1}), "should be greater than or equal to 0"),
        ("spec.approvals", json!({"required": 17}), "should be less than or equal to 16"),
        ("spec.approvals", json!({"required": "1"}), "must be of type integer"),
        ("spec.preflight", json!({"minimumFreeFactor": -0.1}), "should be greater than or equal to 0"),
        ("spec.data.0.undo", json!({"method": "Magic"}), "Unsupported value"),
        ("spec.verification", json!([{"name": "h", "http": {"url": "file:///etc/passwd"}}]), "should match"),
        ("spec.verification", json!([{"name": "h", "http": {"url": "http://a/\nb"}}]), "should match"),
        (
            "spec.verification",
            json!([{"name": "h", "http": {"url": "http://a", "expectStatus": 99}}]),
            "should be greater than or equal to 100",
        ),
        ("spec.maintenance", json!({"exclude": vec![json!({"kind": "Deployment", "name": "a"}); 2]}), "Duplicate value"),
        ("spec.maintenance", json!({"services": {"names": []}}), "should have at least 1 items"),
    ] {
        refused(environments.create(&dry(), &with(good(), path, value)).await, 422, words);
    }
    let many: Vec<Value> = (0..10_000)
        .map(|i| json!({"name": format!("m{i}"), "workloads": [{"kind": "Deployment", "name": format!("w{i}")}]}))
        .collect();
    refused(environments.create(&dry(), &with(good(), "spec.modules", json!(many))).await, 422, "Too many");
    let huge = "x".repeat(1 << 20);
    refused(environments.create(&dry(), &with(good(), "spec.modules.0.migration.command", json!([huge]))).await, 422, "Too long");
    let twice = json!([{"name": "a", "workloads": [{"kind": "Deployment", "name": "x"}]}, {"name": "a", "workloads": [{"kind": "Deployment", "name": "y"}]}]);
    refused(environments.create(&dry(), &with(good(), "spec.modules", twice)).await, 422, "Duplicate value");

    let promotions = world.promotions("alice");
    for (path, value, words) in [
        ("spec.modules", json!([]), "should have at least 1 items"),
        ("spec.modules", json!(["flags", "flags"]), "Duplicate value"),
        ("spec.schedule", json!({"notBefore": "tomorrow"}), "must be of type date-time"),
        ("spec.schedule", json!({"notBefore": "2027-02-30T00:00:00Z"}), "must be of type date-time"),
        ("spec.schedule", json!({"startDeadline": "2 hours"}), "should match"),
        ("spec.description", json!("two\nlines"), "should match"),
        ("spec.description", json!("right-to-left \u{202e}"), "should match"),
        ("spec.description", json!("nul \u{0}"), "should match"),
        ("spec.description", json!("x".repeat(1025)), "Too long"),
        ("spec.requestedBy", json!({"username": ""}), "should be at least 1 chars long"),
        ("spec.requestedBy", json!({"username": "al\u{200b}ice"}), "should match"),
        ("spec.requestedBy", json!({}), "spec.requestedBy.username: Required value"),
        ("spec.environment", json!({"name": "Production"}), "should match"),
        ("spec.approvals", json!([{"username": "bob", "planHash": "latest"}]), "should match"),
    ] {
        refused(promotions.create(&dry(), &with(world.promotion("p", "alice"), path, value)).await, 422, words);
    }
    for path in ["spec.environment", "spec.from", "spec.requestedBy"] {
        refused(promotions.create(&dry(), &without(world.promotion("p", "alice"), path)).await, 422, "Required value");
    }
    let fine = with(world.promotion("p", "alice"), "spec.description", json!("Größe, señor, 中文"));
    promotions.create(&dry(), &fine).await.expect("people write their own language");
}

#[tokio::test]
async fn each_rule_beside_the_fields_lets_good_through_and_refuses_bad_with_a_sentence() {
    let world = World::new("rules").await;
    let empty = world.empty().await;
    let environments = api(&world.admin(), &empty, "Environment");
    let base = || environment("other", &empty, &world.staging);
    let module = |name: &str, workloads: &[&str]| {
        let workloads: Vec<Value> = workloads.iter().map(|w| json!({"kind": "Deployment", "name": w})).collect();
        json!({"name": name, "workloads": workloads})
    };
    let requiring = |name: &str, requires: &[&str]| {
        let mut module = module(name, &[name]);
        module["requires"] = json!(requires);
        module
    };
    let migrating = |workloads: &[&str], workload: Option<&str>| {
        let mut module = module("flags", workloads);
        module["migration"] = json!({"command": ["true"]});
        if let Some(name) = workload {
            module["migration"]["workload"] = json!({"kind": "Deployment", "name": name});
        }
        json!([module])
    };
    let good = [
        without(without(base(), "spec.data"), "spec.backups"),
        with(base(), "spec.protected", json!(true)),
        with(with(base(), "spec.tier", json!("Staging")), "spec.protected", json!(false)),
        with(base(), "spec.modules", json!([module("a", &["x", "y"]), module("b", &["z"])])),
        with(base(), "spec.modules", migrating(&["a"], None)),
        with(base(), "spec.modules", migrating(&["a", "b"], Some("b"))),
        with(base(), "spec.modules.0.delivery", json!({"direct": {}})),
        with(base(), "spec.modules.0.migration.connectionSecret", json!({"name": "migrator"})),
        with(base(), "spec.modules", json!([module("a", &["x"]), requiring("b", &["a"])])),
        with(base(), "spec.modules.0.workloads.0.kind", json!("StatefulSet")),
        with(base(), "spec.modules.0.workloads.0.kind", json!("CronJob")),
        with(
            base(),
            "spec.maintenance",
            json!({"pause": [{"kind": "CronJob", "name": "sync"}, {"kind": "Deployment", "name": "hooks"}]}),
        ),
        with(base(), "spec.maintenance", json!({"page": {"configMap": {"name": "page"}}})),
        with(base(), "spec.maintenance", json!({"services": {"all": {}}})),
        with(base(), "spec.maintenance", json!({"services": {"names": ["unleash"]}})),
        with(base(), "spec.verification", json!([{"name": "h", "http": {"url": "http://a/"}}])),
    ];
    for (index, environment) in good.iter().enumerate() {
        environments.create(&dry(), environment).await.unwrap_or_else(|e| panic!("good {index}: {e}"));
    }
    let mut long = base();
    long.metadata.name = Some("a".repeat(64));
    for (environment, sentence) in [
        (without(base(), "spec.backups"), "backups: an environment with data needs a repository"),
        (
            with(base(), "spec.modules.0.migration.connectionSecret", json!({"name": "unleash-db"})),
            "modules.migration.connectionSecret: a Secret of the data itself",
        ),
        (
            without(with(base(), "spec.modules.0.migration.connectionSecret", json!({"name": "migrator"})), "spec.data"),
            "modules.migration.connectionSecret: there is no data",
        ),
        (with(base(), "spec.protected", json!(false)), "an environment of tier Production is always protected"),
        (
            with(base(), "spec.modules", json!([module("a", &["x", "y"]), module("b", &["y"])])),
            "a workload belongs to one module",
        ),
        (with(base(), "spec.modules", migrating(&["a", "b"], None)), "name the one whose image carries the migration"),
        (with(base(), "spec.modules", migrating(&["a", "b"], Some("c"))), "must be one of the module's workloads"),
        (
            with(base(), "spec.modules", json!([module("a", &["x"]), requiring("b", &["c"])])),
            "modules.requires: names another module of this Environment",
        ),
        (
            with(base(), "spec.modules", json!([requiring("b", &["b"])])),
            "modules.requires: names another module of this Environment",
        ),
        (
            with(base(), "spec.maintenance", json!({"pause": [{"kind": "Deployment", "name": "unleash"}]})),
            "maintenance.pause: a module's own workload goes down anyway",
        ),
        (
            with(base(), "spec.maintenance", json!({"pause": [{"kind": "DaemonSet", "name": "agent"}]})),
            "kind: one of Deployment, StatefulSet, CronJob; a DaemonSet has no number of pods",
        ),
        (with(base(), "spec.modules.0.delivery", json!({})), "delivery: exactly one of"),
        (with(base(), "spec.maintenance", json!({"services": {}})), "maintenance.services: exactly one of"),
        (
            with(base(), "spec.maintenance", json!({"services": {"all": {}, "names": ["a"]}})),
            "maintenance.services: exactly one of",
        ),
        (with(base(), "spec.verification", json!([{"name": "h"}])), "verification: exactly one of"),
        (
            with(base(), "spec.verification", json!([{"name": "h", "http": {"url": "http://a/"}, "job": {"template": {}}}])),
            "verification: exactly one of",
        ),
        (with(base(), "spec.backups.repository", json!({})), "repository: exactly one of"),
        (with(base(), "spec.data", json!([{"name": "d"}])), "data: exactly one of: postgres, volume"),
        (
            with(
                base(),
                "spec.data",
                json!([{"name": "d", "postgres": {"connectionSecret": {"name": "s"}}, "volume": files("c", "Auto")["volume"]}]),
            ),
            "data: exactly one of: postgres, volume",
        ),
        (with(base(), "spec.data", json!([files("c", "Auto")])), "a volume is guarded by the epoch of a database beside it"),
        (with(base(), "spec.data", json!([database("db"), files("c", "Clone")])), "data.undo.method: a volume is not cloned"),
        (
            with(base(), "spec.data", json!([database("db"), files("backups", "Auto")])),
            "data.volume.claim: named once, and never that of a repository",
        ),
        (
            with(
                base(),
                "spec.data",
                json!([database("db"), files("c", "Auto"), {"name": "again", "volume": {"claim": {"name": "c"}}}]),
            ),
            "data.volume.claim: named once",
        ),
        (
            with(base(), "spec.data", json!([database("volumes"), files("c", "Auto")])),
            "under the name volumes; name the data otherwise",
        ),
        (long, "metadata.name: at most 63 characters"),
    ] {
        refused(environments.create(&dry(), &environment).await, 422, sentence);
    }
}

fn database(name: &str) -> Value {
    json!({"name": name, "postgres": {"connectionSecret": {"name": "s"}}})
}

fn files(claim: &str, method: &str) -> Value {
    json!({"name": "uploads", "volume": {"claim": {"name": claim}}, "undo": {"method": method, "keepFor": "24h"}})
}

#[tokio::test]
async fn a_member_of_a_union_can_be_named_later_because_no_default_stands_in_its_way() {
    let world = World::new("union").await;
    let environments = api(&world.user("olga"), &world.production, "Environment");
    let changed = environments
        .patch("production", &plain(), &merge(json!({"spec": {"maintenance": {"services": {"names": ["unleash"]}}}})))
        .await
        .unwrap();
    assert_eq!(changed.data["spec"]["maintenance"]["services"], json!({"names": ["unleash"]}));
}

#[tokio::test]
async fn null_means_absent() {
    let world = World::new("null").await;
    let made = world
        .promotions("alice")
        .create(&post(), &with(with(world.promotion("p", "alice"), "spec.schedule", Value::Null), "spec.modules", Value::Null))
        .await
        .unwrap();
    assert!(made.data["spec"].get("schedule").is_none() && made.data["spec"].get("modules").is_none(), "{}", made.data);
}

#[tokio::test]
async fn what_a_run_is_never_changes_once_it_is_made() {
    let world = World::new("frozen").await;
    world.planned("p").await;
    // Even for the administrator, whom no verb holds.
    let admin = api(&world.admin(), &world.production, "Promotion");
    for (field, value) in [
        ("environment", json!({"name": "other"})),
        ("from", json!({"namespace": world.staging, "name": "other"})),
        ("requestedBy", json!({"username": "admin"})),
    ] {
        refused(
            admin.patch("p", &plain(), &merge(json!({"spec": {field: value}}))).await,
            422,
            "environment, from and requestedBy are fixed",
        );
    }
    let backups = api(&world.admin(), &world.production, "EnvironmentBackup");
    backups.create(&post(), &backup("b", "production")).await.unwrap();
    refused(
        backups.patch("b", &plain(), &merge(json!({"spec": {"keep": true}}))).await,
        422,
        "an EnvironmentBackup is made once",
    );
}

#[tokio::test]
async fn kubectl_get_shows_a_run_in_one_line_and_explain_has_words() {
    let world = World::new("columns").await;
    world.planned("p").await;
    for arguments in [
        vec!["get", "promo,env,ebk", "-n", &world.production],
        vec!["get", "lockkeeper", "-n", &world.production],
        vec!["explain", "environment.spec.modules.migration"],
    ] {
        kubectl(&arguments, "").unwrap();
    }
}

// ------------------------------------------------------------------------------------------------ making a Promotion

#[tokio::test]
async fn alice_asks_in_her_own_name() {
    let world = World::new("ask").await;
    world.promotions("alice").create(&post(), &world.promotion("own", "alice")).await.unwrap();
    world
        .promotions("alice")
        .patch("applied", &apply_as("alice"), &Patch::Apply(world.promotion("applied", "alice")))
        .await
        .unwrap();
    let mut generated = world.promotion("x", "alice");
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("flags-".into());
    world.promotions("alice").create(&post(), &generated).await.unwrap();
    assert_eq!(world.names("Promotion").await.len(), 3);
}

#[tokio::test]
async fn alice_does_not_ask_in_bobs_name_by_whatever_way() {
    let world = World::new("forge").await;
    let sentence = "requestedBy.username: write alice, the name under which this request comes; nobody asks in the name of bob";
    let forged = world.promotion("forged", "bob");
    refused(world.promotions("alice").create(&post(), &forged).await, 403, sentence);
    refused(world.promotions("alice").patch("forged", &apply_as("alice"), &Patch::Apply(&forged)).await, 403, sentence);
    let mut generated = forged.clone();
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("flags-".into());
    refused(world.promotions("alice").create(&post(), &generated).await, 403, sentence);
    // A name that only looks the same is another name.
    refused(
        world.promotions("alice").create(&post(), &world.promotion("p", "аlice")).await,
        403,
        "requestedBy.username: write alice",
    );
    assert!(world.names("Promotion").await.is_empty());
}

#[tokio::test]
async fn the_source_consents_by_the_verb_promote() {
    let world = World::new("consent").await;
    world.bind(&world.production, "requester", &["erin"]).await;
    let sentence =
        format!("erin may not take releases from Environment {}/staging; ask its owner for the verb promote", world.staging);
    refused(world.promotions("erin").create(&post(), &world.promotion("p", "erin")).await, 403, &sentence);
    // The verb on the target, or on another source, is not the verb on this source.
    world.bind(&world.production, "promoter", &["erin"]).await;
    refused(world.promotions("erin").create(&post(), &world.promotion("p", "erin")).await, 403, &sentence);
    world.bind(&world.staging, "promoter", &["erin"]).await;
    world.promotions("erin").create(&post(), &world.promotion("p", "erin")).await.unwrap();
}

#[tokio::test]
async fn a_promotion_is_made_without_approvals_and_without_cancel() {
    let world = World::new("bare").await;
    let approved = with(world.promotion("p", "alice"), "spec.approvals", json!([approval("bob", PLAN)]));
    refused(
        world.promotions("alice").create(&post(), &approved).await,
        403,
        "approvals: leave them out when you make a Promotion",
    );
    let cancelled = with(world.promotion("p", "alice"), "spec.cancel", json!({"username": "alice", "reason": "x"}));
    refused(world.promotions("alice").create(&post(), &cancelled).await, 403, "cancel: leave it out when you make a Promotion");
    for (field, value) in [
        ("intervention", json!({"action": "Unlock", "username": "alice", "reason": "x"})),
        ("modifiedBy", json!({"username": "alice", "reason": "x"})),
    ] {
        let early = with(world.promotion("p", "alice"), &format!("spec.{field}"), value);
        let sentence = format!("{field}: leave it out when you make a Promotion");
        refused(world.promotions("alice").create(&post(), &early).await, 403, &sentence);
    }
    // A status that comes along is dropped, not believed.
    let mut believed = world.promotion("p", "alice");
    believed.data["status"] = json!({"phase": "Completed", "planHash": PLAN});
    let made = world.promotions("alice").create(&post(), &believed).await.unwrap();
    assert!(made.data.get("status").is_none_or(Value::is_null), "{}", made.data);
}

#[tokio::test]
async fn who_may_only_look_makes_nothing() {
    let world = World::new("looker").await;
    refused(world.promotions("dave").create(&post(), &world.promotion("p", "dave")).await, 403, "cannot create resource");
    world.promotions("dave").list(&ListParams::default()).await.unwrap();
}

// ------------------------------------------------------------------------------------------------ changing one

#[tokio::test]
async fn the_requester_changes_schedule_modules_and_description_until_it_starts() {
    let world = World::new("modify").await;
    world.planned("p").await;
    let alice = world.promotions("alice");
    for change in [
        json!({"schedule": {"notBefore": "2030-01-01T00:00:00Z"}}),
        json!({"modules": ["flags"]}),
        json!({"modules": null}),
        json!({"description": "later"}),
    ] {
        alice.patch("p", &plain(), &merge(json!({"spec": change}))).await.unwrap();
    }
    world.in_phase("p", "Validated").await;
    alice.patch("p", &plain(), &merge(json!({"spec": {"description": "still"}}))).await.unwrap();
    for phase in ["BackingUp", "Locked", "Promoting", "Verifying", "RollingBack", "NeedsHuman", "Completed", "Expired"] {
        world.in_phase("p", phase).await;
        let late = alice.patch("p", &plain(), &merge(json!({"spec": {"description": "too late"}}))).await;
        refused(late, 403, &format!("this Promotion is {phase} and no longer changes"));
    }
}

#[tokio::test]
async fn another_changes_a_promotion_under_his_own_name_and_counts_as_who_asks_from_then_on() {
    let world = World::new("others").await;
    world.planned("p").await;
    let change = json!({"spec": {"schedule": {"notBefore": "2030-01-01T00:00:00Z"}}});
    for user in ["bob", "olga", WRITER] {
        refused(
            world.promotions(user).patch("p", &plain(), &merge(change.clone())).await,
            403,
            "spec: sign the change: set modifiedBy to {username:",
        );
    }
    let admin = api(&world.admin(), &world.production, "Promotion");
    refused(
        admin.patch("p", &plain(), &merge(change.clone())).await,
        403,
        "who changes what alice asked for counts as requester",
    );

    let signed = |who: &str, more: Value| {
        let mut patch = json!({"spec": {"modifiedBy": {"username": who, "reason": "customer asked"}}});
        patch["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        merge(patch)
    };
    let later = json!({"schedule": {"notBefore": "2030-01-01T00:00:00Z"}});
    refused(
        world.promotions("bob").patch("p", &plain(), &signed("bob", later.clone())).await,
        403,
        "bob may not change Promotions",
    );
    world.bind(&world.production, "requester", &["bob", "dave"]).await;
    let bob = world.promotions("bob");
    refused(bob.patch("p", &plain(), &signed("alice", later.clone())).await, 403, "modifiedBy.username: write bob");
    let modules = json!({"modules": ["flags"]});
    refused(bob.patch("p", &plain(), &signed("bob", modules)).await, 403, "modules: bob may not take releases from Environment");
    let mut with_approval = later.clone();
    with_approval["approvals"] = json!([approval("bob", PLAN)]);
    refused(bob.patch("p", &plain(), &signed("bob", with_approval)).await, 403, "");
    bob.patch("p", &plain(), &signed("bob", later.clone())).await.unwrap();
    // Who has changed it stays named, and does not approve it.
    refused(bob.patch("p", &plain(), &merge(json!({"spec": {"modifiedBy": null}}))).await, 403, "who changed it stays named");
    let own = || merge(approvals(&[approval("bob", PLAN)]));
    refused(bob.patch("p", &plain(), &own()).await, 403, "nor does who changed it");
    // The next one waits until the operator has noted the one before.
    let dave = world.promotions("dave");
    let words = json!({"description": "dave was here"});
    refused(dave.patch("p", &plain(), &signed("dave", words.clone())).await, 403, "has not noted the change before yours");
    world.with_status("p", json!({"phase": "Scheduled", "planHash": PLAN, "modifiers": ["bob"]})).await;
    dave.patch("p", &plain(), &signed("dave", words)).await.unwrap();
    refused(bob.patch("p", &plain(), &own()).await, 403, "nor does who changed it");
}

// ------------------------------------------------------------------------------------------------ a rollback that failed

#[tokio::test]
async fn a_rollback_that_failed_is_resumed_or_given_up_in_ones_own_name_by_whom_the_owner_lets() {
    let world = World::new("intervention").await;
    world.planned("p").await;
    let asks = |action: &str, who: &str| {
        merge(json!({"spec": {"intervention": {"action": action, "username": who, "reason": "enough"}}}))
    };
    for phase in ["Scheduled", "Locked", "RollingBack", "RolledBack"] {
        world.in_phase("p", phase).await;
        let early = world.promotions("olga").patch("p", &plain(), &asks("Unlock", "olga")).await;
        refused(early, 403, &format!("intervention: this Promotion is {phase}; only one whose rollback failed"));
    }
    world.in_phase("p", "NeedsHuman").await;
    for user in ["alice", "pipeline", WRITER] {
        refused(world.promotions(user).patch("p", &plain(), &asks("Unlock", user)).await, 403, "may not unlock Environment");
        refused(world.promotions(user).patch("p", &plain(), &asks("Resume", user)).await, 403, "may not resume runs");
    }
    let (bob, olga) = (world.promotions("bob"), world.promotions("olga"));
    refused(bob.patch("p", &plain(), &asks("Unlock", "bob")).await, 403, "bob may not unlock Environment");
    refused(bob.patch("p", &plain(), &asks("Resume", "olga")).await, 403, "intervention.username: write bob");
    refused(bob.patch("p", &plain(), &asks("Give up", "bob")).await, 422, "Unsupported value");
    bob.patch("p", &plain(), &asks("Resume", "bob")).await.unwrap();
    refused(olga.patch("p", &plain(), &asks("Unlock", "bob")).await, 403, "intervention.username: write olga");
    let mut more = json!({"spec": {"intervention": {"action": "Unlock", "username": "olga", "reason": "x"}}});
    more["spec"]["cancel"] = json!({"username": "olga", "reason": "x"});
    refused(olga.patch("p", &plain(), &merge(more)).await, 403, "a request of its own that changes nothing else");
    olga.patch("p", &plain(), &asks("Unlock", "olga")).await.unwrap();
    world.in_phase("p", "Abandoned").await;
    refused(olga.patch("p", &plain(), &merge(cancelled_by("olga"))).await, 403, "this Promotion has ended");
}

#[tokio::test]
async fn changing_needs_the_verb_modify_too() {
    let world = World::new("modify-verb").await;
    world.bind(&world.staging, "promoter", &[WRITER]).await;
    let mallory = world.promotions(WRITER);
    mallory.create(&post(), &world.promotion("p", WRITER)).await.unwrap();
    let change = json!({"spec": {"description": "x"}});
    refused(mallory.patch("p", &plain(), &merge(change.clone())).await, 403, "may not change Promotions to Environment");
    world.bind(&world.production, "requester", &[WRITER]).await;
    mallory.patch("p", &plain(), &merge(change)).await.unwrap();
}

#[tokio::test]
async fn a_pipeline_applies_the_same_yaml_again_whoever_made_it() {
    let world = World::new("gitops").await;
    let yaml = with(world.promotion("p", "alice"), "spec.description", json!("Flags 7.4"));
    world.promotions("alice").patch("p", &apply_as("alice"), &Patch::Apply(&yaml)).await.unwrap();
    world.in_phase("p", "Scheduled").await;
    world.promotions("bob").patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await.unwrap();
    let mut labelled = yaml.clone();
    labelled.labels_mut().insert("team".into(), "flags".into());
    labelled.annotations_mut().insert("note".into(), "free".into());
    for phase in ["Scheduled", "Promoting", "Completed"] {
        world.in_phase("p", phase).await;
        let again = world.promotions("pipeline").patch("p", &apply_as("pipeline"), &Patch::Apply(&labelled)).await.unwrap();
        assert_eq!(approvers(&again), ["bob"], "a re-apply takes no approval away");
    }
    // What it does not pass is a change.
    let other = with(yaml, "spec.description", json!("Flags 7.5"));
    world.in_phase("p", "Scheduled").await;
    refused(
        world.promotions("pipeline").patch("p", &apply_as("pipeline").force(), &Patch::Apply(&other)).await,
        403,
        "sign the change",
    );
}

// ------------------------------------------------------------------------------------------------ approving

#[tokio::test]
async fn bob_approves_the_plan_he_saw_and_may_withdraw() {
    let world = World::new("approve").await;
    world.planned("p").await;
    let bob = world.promotions("bob");
    let approved = bob.patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await.unwrap();
    assert_eq!(approvers(&approved), ["bob"]);
    let mut commented = approval("bob", PLAN);
    commented["comment"] = json!("looks well");
    bob.patch("p", &plain(), &merge(approvals(&[commented]))).await.unwrap();
    let withdrawn = bob.patch("p", &plain(), &merge(approvals(&[]))).await.unwrap();
    assert!(approvers(&withdrawn).is_empty());
}

#[tokio::test]
async fn two_people_approve_by_server_side_apply_and_both_entries_stay() {
    let world = World::new("ssa").await;
    world.planned("p").await;
    for user in ["bob", "carol"] {
        let entry = json!({"apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": "p"}, "spec": {"approvals": [approval(user, PLAN)]}});
        // An apply carries what the manager owns and nothing else; required fields are there already.
        let applied =
            world.promotions(user).patch("p", &apply_as(&format!("lockkeeper-{user}")), &Patch::Apply(&entry)).await.unwrap();
        assert!(approvers(&applied).contains(&user));
    }
    let mut both: Vec<String> =
        approvers(&world.promotions("dave").get("p").await.unwrap()).iter().map(|s| (*s).to_owned()).collect();
    both.sort();
    assert_eq!(both, ["bob", "carol"]);
    // With one shared manager the second would drop the first's entry: that is refused, not done in silence.
    let entry = json!({"apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": "p"}, "spec": {"approvals": [approval("carol", PLAN)]}});
    refused(
        world.promotions("carol").patch("p", &apply_as("lockkeeper-bob"), &Patch::Apply(&entry)).await,
        403,
        "your own entry only",
    );
}

#[tokio::test]
async fn nobody_approves_for_another() {
    let world = World::new("for-another").await;
    world.planned("p").await;
    let sentence = "add, change or withdraw your own entry only, the one with username bob; nobody approves for another";
    let bob = world.promotions("bob");
    refused(bob.patch("p", &plain(), &merge(approvals(&[approval("carol", PLAN)]))).await, 403, sentence);
    refused(bob.patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN), approval("carol", PLAN)]))).await, 403, sentence);
    world.promotions("carol").patch("p", &plain(), &merge(approvals(&[approval("carol", PLAN)]))).await.unwrap();
    // Nor takes one away, nor changes one, in whatever way.
    let mut changed = approval("carol", PLAN);
    changed["comment"] = json!("not hers");
    for entries in [vec![], vec![approval("bob", PLAN)], vec![changed]] {
        refused(bob.patch("p", &plain(), &merge(approvals(&entries))).await, 403, sentence);
    }
    let removed = Patch::Json::<()>(serde_json::from_value(json!([{"op": "remove", "path": "/spec/approvals/0"}])).unwrap());
    refused(bob.patch("p", &plain(), &removed).await, 403, sentence);
    let mut whole = bob.get("p").await.unwrap();
    whole.data["spec"]["approvals"] = json!([approval("bob", PLAN)]);
    refused(bob.replace("p", &post(), &whole).await, 403, sentence);
    // The administrator neither.
    let admin = api(&world.admin(), &world.production, "Promotion");
    refused(
        admin.patch("p", &plain(), &merge(approvals(&[approval("carol", PLAN), approval("bob", PLAN)]))).await,
        403,
        "nobody approves for another",
    );
}

#[tokio::test]
async fn approving_needs_the_verb_on_the_target() {
    let world = World::new("approve-verb").await;
    world.planned("p").await;
    let sentence = format!("{WRITER} may not approve Promotions to Environment {}/production", world.production);
    let entry = || merge(approvals(&[approval(WRITER, PLAN)]));
    refused(world.promotions(WRITER).patch("p", &plain(), &entry()).await, 403, &sentence);
    world.bind(&world.staging, "approver", &[WRITER]).await;
    refused(world.promotions(WRITER).patch("p", &plain(), &entry()).await, 403, &sentence);
    world.bind(&world.production, "approver", &[WRITER]).await;
    world.promotions(WRITER).patch("p", &plain(), &entry()).await.unwrap();
}

#[tokio::test]
async fn an_approval_names_the_plan_as_it_is_now() {
    let world = World::new("stale").await;
    world.promotions("alice").create(&post(), &world.promotion("p", "alice")).await.unwrap();
    let bob = world.promotions("bob");
    refused(
        bob.patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await,
        403,
        "there is no plan yet to say yes to",
    );
    world.in_phase("p", "Scheduled").await;
    let stale = bob.patch("p", &plain(), &merge(approvals(&[approval("bob", OTHER_PLAN)]))).await;
    refused(stale, 403, &format!("planHash is not that of the plan as it is now; look at the plan again, then approve {PLAN}"));
    bob.patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await.unwrap();
}

#[tokio::test]
async fn an_approval_carries_the_groups_of_its_request() {
    let world = World::new("groups").await;
    world.planned("p").await;
    for wrong in [json!([]), json!(["team"]), json!(["team", "system:authenticated", "acme-managers"])] {
        let mut entry = approval("bob", PLAN);
        entry["groups"] = wrong;
        let sentence = "groups must be exactly those of your request: team, system:authenticated";
        refused(world.promotions("bob").patch("p", &plain(), &merge(approvals(&[entry]))).await, 403, sentence);
    }
    let mut reordered = approval("bob", PLAN);
    reordered["groups"] = json!(["system:authenticated", "team"]);
    world.promotions("bob").patch("p", &plain(), &merge(approvals(&[reordered]))).await.unwrap();
}

#[tokio::test]
async fn a_crowd_of_approvers_with_many_groups_each_stays_within_the_rules_budget() {
    let world = World::new("crowd").await;
    world.planned("p").await;
    let names: Vec<String> = (0..32).map(|i| format!("approver-{i:02}")).collect();
    world.bind(&world.production, "approver", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let groups: Vec<String> =
        (0..128).map(|i| format!("cn=group-{i:03},ou=groups,ou=a-department-with-a-long-name,dc=example,dc=com")).collect();
    for name in &names {
        let client = world.user_in(name, &groups.iter().map(String::as_str).collect::<Vec<_>>());
        let promotions = api(&client, &world.production, "Promotion");
        let mut all: Vec<Value> =
            promotions.get("p").await.unwrap().data["spec"]["approvals"].as_array().cloned().unwrap_or_default();
        let mut given = groups.clone();
        given.push("system:authenticated".into());
        all.push(json!({"username": name, "groups": given, "planHash": PLAN}));
        promotions.patch("p", &plain(), &merge(approvals(&all))).await.unwrap();
    }
    assert_eq!(approvers(&world.promotions("dave").get("p").await.unwrap()).len(), 32);
}

#[tokio::test]
async fn who_asks_does_not_approve_unless_the_environment_says_so() {
    let world = World::new("self").await;
    world.bind(&world.production, "approver", &["alice"]).await;
    world.planned("p").await;
    let alice = world.promotions("alice");
    let own = || merge(approvals(&[approval("alice", PLAN)]));
    refused(
        alice.patch("p", &plain(), &own()).await,
        403,
        "who asks does not approve, nor does who changed it; ask another person",
    );
    let entry = json!({"apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": "p"}, "spec": {"approvals": [approval("alice", PLAN)]}});
    refused(alice.patch("p", &apply_as("lockkeeper-alice"), &Patch::Apply(&entry)).await, 403, "who asks does not approve");
    let allow = json!({"spec": {"approvals": {"requesterMayApprove": true}}});
    api(&world.user("olga"), &world.production, "Environment").patch("production", &plain(), &merge(allow)).await.unwrap();
    // The policy sees the Environment a moment later.
    for attempt in 0.. {
        match alice.patch("p", &plain(), &own()).await {
            Ok(_) => break,
            Err(error) => assert!(attempt < 100, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_approval_changes_nothing_else() {
    let world = World::new("alone").await;
    world.bind(&world.production, "approver", &["alice"]).await;
    world.planned("p").await;
    let mut both = approvals(&[approval("bob", PLAN)]);
    both["spec"]["cancel"] = json!({"username": "bob", "reason": "and cancel"});
    refused(
        world.promotions("bob").patch("p", &plain(), &merge(both)).await,
        403,
        "request of its own that changes nothing else",
    );
    // Two policies refuse this; which of them speaks is the API server's choice.
    let mut both = approvals(&[approval("alice", PLAN)]);
    both["spec"]["description"] = json!("and this");
    refused(world.promotions("alice").patch("p", &plain(), &merge(both)).await, 403, "approvals");
}

#[tokio::test]
async fn approvals_stay_as_they_were_once_the_environment_has_changed() {
    let world = World::new("record").await;
    world.planned("p").await;
    world.promotions("bob").patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await.unwrap();
    for phase in ["Locked", "Promoting", "Completed", "Cancelled"] {
        world.in_phase("p", phase).await;
        refused(world.promotions("bob").patch("p", &plain(), &merge(approvals(&[]))).await, 403, "approvals stay as they were");
    }
    world.in_phase("p", "BackingUp").await;
    world.promotions("bob").patch("p", &plain(), &merge(approvals(&[]))).await.expect("until then one may think again");
}

#[tokio::test]
async fn who_lost_the_right_may_still_withdraw() {
    let world = World::new("withdraw").await;
    world.planned("p").await;
    world.bind(&world.production, "approver", &[WRITER]).await;
    let mallory = world.promotions(WRITER);
    mallory.patch("p", &plain(), &merge(approvals(&[approval(WRITER, PLAN)]))).await.unwrap();
    let bindings: kube::Api<k8s_openapi::api::rbac::v1::RoleBinding> = kube::Api::namespaced(world.admin(), &world.production);
    bindings.delete(&format!("approver-{WRITER}"), &DeleteParams::default()).await.unwrap();
    let mut again = approval(WRITER, PLAN);
    again["comment"] = json!("once more");
    let sentence = "may not approve Promotions";
    for attempt in 0.. {
        match mallory.patch("p", &PatchParams { dry_run: true, ..plain() }, &merge(approvals(&[again.clone()]))).await {
            Ok(_) => assert!(attempt < 100, "the right is still there"),
            refusal => {
                refused(refusal, 403, sentence);
                break;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    mallory.patch("p", &plain(), &merge(approvals(&[]))).await.unwrap();
}

#[tokio::test]
async fn an_approval_where_there_is_no_environment_is_refused_and_the_operator_can_still_let_go() {
    let world = World::new("orphaned").await;
    world.bind(&world.production, "approver", &["alice"]).await;
    world.promotions("alice").create(&post(), &world.promotion("p", "alice")).await.unwrap();
    world.hold("p").await;
    api(&world.admin(), &world.production, "Environment").delete("production", &DeleteParams::default()).await.unwrap();
    for user in ["alice", "bob"] {
        let approved = world.promotions(user).patch("p", &plain(), &merge(approvals(&[approval(user, PLAN)]))).await;
        refused(approved, 403, if user == "alice" { "" } else { "there is no plan yet to say yes to" });
    }
    world.promotions("alice").delete("p", &DeleteParams::default()).await.unwrap();
    let free = json!({"metadata": {"finalizers": null}});
    api(&world.operator(), &world.production, "Promotion").patch("p", &plain(), &merge(free)).await.unwrap();
    assert!(world.names("Promotion").await.is_empty());
}

// ------------------------------------------------------------------------------------------------ cancelling, deleting

#[tokio::test]
async fn the_requester_and_who_has_the_verb_cancel_in_their_own_name() {
    let world = World::new("cancel").await;
    for (name, user) in [("a", "alice"), ("b", "bob"), ("c", "olga")] {
        world.planned(name).await;
        world.promotions(user).patch(name, &plain(), &merge(cancelled_by(user))).await.unwrap();
    }
    world.planned("p").await;
    refused(world.promotions("bob").patch("p", &plain(), &merge(cancelled_by("alice"))).await, 403, "cancel.username: write bob");
    let sentence = "may not cancel Promotions to Environment";
    refused(world.promotions(WRITER).patch("p", &plain(), &merge(cancelled_by(WRITER))).await, 403, sentence);
    refused(world.promotions("pipeline").patch("p", &plain(), &merge(cancelled_by("pipeline"))).await, 403, sentence);
    let mut more = cancelled_by("alice");
    more["spec"]["description"] = json!("and this");
    refused(world.promotions("alice").patch("p", &plain(), &merge(more)).await, 403, "without approvals and cancel");
    world.in_phase("p", "Promoting").await;
    world.promotions("alice").patch("p", &plain(), &merge(cancelled_by("alice"))).await.expect("at any time until it ends");
}

#[tokio::test]
async fn a_cancelled_promotion_stays_cancelled() {
    let world = World::new("uncancel").await;
    world.planned("p").await;
    world.promotions("bob").patch("p", &plain(), &merge(cancelled_by("bob"))).await.unwrap();
    let sentence = "a cancelled Promotion stays cancelled";
    for user in ["bob", "alice"] {
        refused(world.promotions(user).patch("p", &plain(), &merge(json!({"spec": {"cancel": null}}))).await, 422, sentence);
        refused(
            world.promotions(user).patch("p", &plain(), &merge(json!({"spec": {"cancel": {"reason": "other"}}}))).await,
            422,
            sentence,
        );
    }
    refused(world.promotions("alice").patch("p", &plain(), &merge(cancelled_by("alice"))).await, 422, sentence);
}

#[tokio::test]
async fn what_has_ended_is_not_cancelled() {
    let world = World::new("ended").await;
    world.planned("p").await;
    for phase in ["Completed", "RolledBack", "Failed", "Expired"] {
        world.in_phase("p", phase).await;
        refused(
            world.promotions("alice").patch("p", &plain(), &merge(cancelled_by("alice"))).await,
            403,
            "this Promotion has ended",
        );
    }
}

#[tokio::test]
async fn deleting_a_run_that_has_not_ended_is_cancelling_it() {
    let world = World::new("delete").await;
    world.planned("p").await;
    let sentence = format!(
        "deleting a Promotion that has not ended cancels it, and {WRITER} may not; ask alice, who asked for it, or the owner of Environment {}/production",
        world.production
    );
    for phase in ["Scheduled", "Validated", "BackingUp", "Locked", "Promoting", "Verifying", "RollingBack", "NeedsHuman"] {
        world.in_phase("p", phase).await;
        for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground, PropagationPolicy::Orphan] {
            let how = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
            refused(world.promotions(WRITER).delete("p", &how).await, 403, &sentence);
        }
        let all = world.promotions(WRITER).delete_collection(&DeleteParams::default(), &ListParams::default()).await;
        refused(all.map(|_| ()), 403, &sentence);
    }
    assert_eq!(world.names("Promotion").await, ["p"]);
    // The requester may, and so may who has the verb; held by its finalizer it goes on rolling back.
    world.hold("p").await;
    world.promotions("alice").delete("p", &DeleteParams::default()).await.unwrap();
    let going = world.promotions("dave").get("p").await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    world.promotions("alice").delete("p", &DeleteParams::default()).await.expect("again is no harm");
    world.planned("q").await;
    world.promotions("olga").delete("q", &DeleteParams::default()).await.unwrap();
    // A record may be deleted by whom RBAC lets.
    world.planned("r").await;
    world.in_phase("r", "Completed").await;
    world.promotions(WRITER).delete("r", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn kubernetes_own_controllers_empty_a_namespace() {
    let world = World::new("emptied").await;
    world.planned("p").await;
    world.planned("q").await;
    world.in_phase("q", "Promoting").await;
    for (name, user) in [("p", "generic-garbage-collector"), ("q", "namespace-controller")] {
        world
            .promotions(&format!("system:serviceaccount:kube-system:{user}"))
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    // A deletion that orphans leaves a finalizer of Kubernetes' own, which the garbage collector takes away.
    world.planned("r").await;
    let how = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.promotions("alice").delete("r", &how).await.unwrap();
    assert_eq!(world.promotions("dave").get("r").await.unwrap().finalizers(), ["orphan"]);
    let collector = world.promotions("system:serviceaccount:kube-system:generic-garbage-collector");
    collector.patch("r", &plain(), &merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
    assert!(world.names("Promotion").await.is_empty());
}

// ------------------------------------------------------------------------------------------------ backups

#[tokio::test]
async fn a_backup_needs_the_verb_and_the_operator_makes_its_own() {
    let world = World::new("backup").await;
    let backups = |client| api(&client, &world.production, "EnvironmentBackup");
    let sentence =
        format!("{WRITER} may not back up Environment {}/production; ask its owner for the verb backup", world.production);
    refused(backups(world.user(WRITER)).create(&post(), &backup("m", "production")).await, 403, &sentence);
    refused(backups(world.user("alice")).create(&post(), &backup("a", "production")).await, 403, "cannot create resource");
    backups(world.user("olga")).create(&post(), &backup("o", "production")).await.unwrap();
    let mut owned = backup("r", "production");
    owned.metadata.finalizers = Some(vec!["lockkeeper.dev/run".into()]);
    let run = world.planned("p").await;
    owned.metadata.owner_references = Some(vec![
        serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "name": "p", "uid": run.uid().unwrap()
        }))
        .unwrap(),
    ]);
    backups(world.operator()).create(&post(), &owned).await.unwrap();
}

// ------------------------------------------------------------------------------------------------ status, finalizers, owners

#[tokio::test]
async fn status_is_the_operators_alone() {
    let world = World::new("status").await;
    world.planned("p").await;
    api(&world.admin(), &world.production, "EnvironmentBackup").create(&post(), &backup("b", "production")).await.unwrap();
    let sentence = format!("status is written by {} alone; say what you want in spec", world.operator_name());
    for (kind, name, status) in [
        ("Promotion", "p", json!({"status": {"phase": "Completed"}})),
        ("Environment", "production", json!({"status": {"lock": {"epoch": 9}}})),
        ("EnvironmentBackup", "b", json!({"status": {"phase": "Completed"}})),
    ] {
        for client in [world.admin(), world.user(WRITER)] {
            let objects = api(&client, &world.production, kind);
            refused(objects.patch_status(name, &plain(), &merge(status.clone())).await, 403, &sentence);
            let mut read = objects.get(name).await.unwrap();
            read.data["status"] = status["status"].clone();
            refused(objects.replace_status(name, &post(), &read).await, 403, &sentence);
            let mut applied = read.clone();
            applied.metadata = kube::core::ObjectMeta { name: Some(name.into()), ..Default::default() };
            refused(objects.patch_status(name, &apply_as("mine").force(), &Patch::Apply(&applied)).await, 403, &sentence);
            // By the object itself it is ignored.
            let ignored = objects.replace(name, &post(), &read).await.unwrap();
            assert_ne!(ignored.data["status"], read.data["status"]);
        }
        refused(
            api(&world.user("alice"), &world.production, kind).patch_status(name, &plain(), &merge(status)).await,
            403,
            "cannot patch resource",
        );
    }
}

#[tokio::test]
async fn finalizers_and_owners_are_not_for_people() {
    let world = World::new("metadata").await;
    world.planned("p").await;
    world.hold("p").await;
    let (fin, own) = ("metadata.finalizers: leave them as they are", "metadata.ownerReferences: leave them as they are");
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
    for client in [world.user("alice"), world.user(WRITER), world.admin()] {
        let promotions = api(&client, &world.production, "Promotion");
        for value in [json!(null), json!([]), json!(["lockkeeper.dev/run", "example.com/mine"])] {
            refused(promotions.patch("p", &plain(), &merge(json!({"metadata": {"finalizers": value}}))).await, 403, fin);
        }
        refused(promotions.patch("p", &plain(), &merge(json!({"metadata": {"ownerReferences": owner}}))).await, 403, own);
    }
    let mut held = world.promotion("held", "alice");
    held.metadata.finalizers = Some(vec!["example.com/mine".into()]);
    refused(world.promotions("alice").create(&post(), &held).await, 403, fin);
    let mut owned = world.promotion("owned", "alice");
    owned.metadata.owner_references = serde_json::from_value(owner.clone()).unwrap();
    refused(world.promotions("alice").create(&post(), &owned).await, 403, own);
    let environments = api(&world.user("olga"), &world.production, "Environment");
    refused(environments.patch("production", &plain(), &merge(json!({"metadata": {"finalizers": ["a.b/c"]}}))).await, 403, fin);
    // The operator takes its own away.
    let operator = api(&world.operator(), &world.production, "Promotion");
    operator.patch("p", &plain(), &merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
}

#[tokio::test]
async fn the_operators_own_hand_is_bound_too() {
    let world = World::new("hand").await;
    world.planned("p").await;
    let operator = api(&world.operator(), &world.production, "Promotion");
    refused(operator.create(&post(), &world.promotion("x", "alice")).await, 403, "cannot create resource");
    refused(operator.delete("p", &DeleteParams::default()).await, 403, "deleting a Promotion that has not ended cancels it");
    refused(operator.patch("p", &plain(), &merge(json!({"spec": {"description": "x"}}))).await, 403, "sign the change");
    refused(operator.patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await, 403, "nobody approves for another");
    refused(
        operator.patch_status("p", &plain(), &merge(json!({"status": {"phase": "Validated"}}))).await,
        403,
        "cannot patch resource",
    );
}

#[tokio::test]
async fn a_status_written_from_a_stale_reading_conflicts() {
    let world = World::new("swap").await;
    world.planned("p").await;
    let operator = api(&world.operator(), &world.production, "Promotion");
    let (mut first, mut second) = (operator.get("p").await.unwrap(), operator.get("p").await.unwrap());
    first.data["status"]["phase"] = json!("Validated");
    second.data["status"]["phase"] = json!("Expired");
    operator.replace_status("p", &post(), &first).await.unwrap();
    refused(operator.replace_status("p", &post(), &second).await, 409, "the object has been modified");
    assert_eq!(operator.get("p").await.unwrap().data["status"]["phase"], "Validated");

    let environments = api(&world.operator(), &world.production, "Environment");
    let free = environments.get("production").await.unwrap();
    let mut won = 0;
    for name in ["one", "two", "three"] {
        let mut mine = free.clone();
        mine.data["status"] = json!({"lock": {"epoch": 1, "holder": {"kind": "Promotion", "name": name, "uid": name}}});
        won += usize::from(environments.replace_status("production", &post(), &mine).await.is_ok());
    }
    assert_eq!(won, 1, "one lock, one holder");
}

#[tokio::test]
async fn fields_of_a_newer_version_do_not_reach_a_status() {
    let world = World::new("newer").await;
    world.planned("p").await;
    let operator = api(&world.operator(), &world.production, "Promotion");
    let mut read = operator.get("p").await.unwrap();
    read.data["status"]["phase"] = json!("Notifying");
    refused(operator.replace_status("p", &post(), &read).await, 422, "status.phase: Unsupported value");
}

// ------------------------------------------------------------------------------------------------ the charts

#[tokio::test]
async fn the_environment_chart_gives_an_environment_all_it_needs() {
    let world = World::new("chart").await;
    let values = tempfile::NamedTempFile::new().unwrap();
    let production = environment("production", &world.production, &world.staging);
    std::fs::write(
        values.path(),
        json!({
            "operator": {"namespace": OPERATOR.0, "serviceAccount": OPERATOR.1},
            "people": {"requesters": ["rita"], "promoters": ["rita"], "aligners": ["rita"], "approvers": [{"kind": "Group", "name": "team"}], "owners": [{"kind": "ServiceAccount", "name": "argo"}]},
            "environment": {"name": "production", "spec": production.data["spec"]}
        })
        .to_string(),
    )
    .unwrap();
    let rendered = support::rendered(
        "charts/lockkeeper-environment",
        "shop",
        &world.production,
        &["--values", values.path().to_str().unwrap()],
    );
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &rendered).unwrap();

    let may = async |user: &str, group: &str, resource: &str, verb: &str| {
        world.may(user, &world.production, group, resource, verb).await
    };
    let operator = world.operator_name();
    eventually(async || may(&operator, "", "resourcequotas", "list").await.then_some(()).ok_or("the rights are not there yet"))
        .await;
    let argo = format!("system:serviceaccount:{}:argo", world.production);
    eventually(async || may(&argo, "lockkeeper.dev", "environments", "update").await.then_some(()).ok_or("nor these")).await;
    for right in lockkeeper::api::rights::ENVIRONMENT {
        for resource in right.resources {
            for verb in right.verbs {
                assert!(may(&operator, right.group, resource, verb).await, "{verb} {resource}");
            }
        }
    }
    assert!(!may(&operator, "", "secrets", "get").await);
    assert!(!may(&operator, "", "pods/exec", "create").await);
    assert!(may("rita", "lockkeeper.dev", "environments", "modify").await);
    assert!(may("rita", "lockkeeper.dev", "environments", "promote").await);
    assert!(!may("rita", "lockkeeper.dev", "environments", "backup").await);
    assert!(may("anyone-of-the-team", "lockkeeper.dev", "environments", "approve").await);
}

#[tokio::test]
async fn the_operator_finds_its_policies_by_name_and_may_not_touch_them() {
    use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
    use lockkeeper::api::policies;
    let world = World::new("policies").await;
    let (all, bindings) = (
        kube::Api::<ValidatingAdmissionPolicy>::all(world.operator()),
        kube::Api::<ValidatingAdmissionPolicyBinding>::all(world.operator()),
    );
    for name in policies::NAMES {
        let policy = all.get(name).await.unwrap();
        assert_eq!(policy.labels()[policies::VERSION_LABEL], policies::VERSION);
        assert_eq!(policy.spec.unwrap().failure_policy.as_deref(), Some(policies::FAILURE_POLICY));
        let warnings = policy.status.and_then(|status| status.type_checking).and_then(|checked| checked.expression_warnings);
        assert!(warnings.unwrap_or_default().is_empty(), "{name}: the API server warns of an expression");
        let binding = bindings.get(name).await.unwrap().spec.unwrap();
        assert_eq!(binding.validation_actions, Some(vec![policies::VALIDATION_ACTION.to_owned()]));
        refused(all.delete(name, &DeleteParams::default()).await.map(|_| ()), 403, "cannot delete resource");
    }
}
