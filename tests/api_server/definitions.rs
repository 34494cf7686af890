//! The definitions: what applies as written, what is filled in, what never changes.

use super::*;

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
