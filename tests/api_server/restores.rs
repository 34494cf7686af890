//! EnvironmentRestores: who makes them, in whose name, what may change, who says yes.

use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use super::*;

fn restore(name: &str, requester: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentRestore", "metadata": {"name": name},
        "spec": {"environment": {"name": "production"}, "from": {"backup": {"name": "b"}}, "requestedBy": {"username": requester}}
    }))
}

fn restores(world: &World, user: &str) -> kube::Api<DynamicObject> {
    api(&world.user(user), &world.production, "EnvironmentRestore")
}

async fn planned(world: &World, name: &str, phase: &str) {
    let operator = api(&world.operator(), &world.production, "EnvironmentRestore");
    let mut read = operator.get(name).await.unwrap();
    read.data["status"] = json!({"phase": phase, "planHash": PLAN, "takenAt": "2026-11-25T21:04:11Z"});
    operator.replace_status(name, &post(), &read).await.unwrap();
}

#[tokio::test]
async fn who_has_the_verb_restore_asks_in_his_own_name_and_everything_applies() {
    let world = World::new("restores").await;
    let mut whole = restore("whole", "olga");
    whole.data["spec"]["data"] = json!({"names": ["flags-db"]});
    whole.data["spec"]["acknowledgeDataLossSince"] = json!("2026-11-25T21:04:11Z");
    let made = restores(&world, "olga").patch("whole", &apply_as("olga"), &Patch::Apply(&whole)).await.unwrap();
    assert_eq!(made.data["spec"], whole.data["spec"]);
    refused(restores(&world, "olga").create(&post(), &restore("p", "alice")).await, 403, "nobody asks in the name of alice");
    refused(restores(&world, WRITER).create(&post(), &restore("p", WRITER)).await, 403, "for the verb restore on it");
    refused(restores(&world, "alice").create(&post(), &restore("p", "alice")).await, 403, "cannot create resource");
    let approved = with(restore("p", "olga"), "spec.approvals", json!([approval("bob", PLAN)]));
    refused(restores(&world, "olga").create(&post(), &approved).await, 403, "approvals: leave them out");
    let cancelled = with(restore("p", "olga"), "spec.cancel", json!({"username": "olga", "reason": "x"}));
    refused(restores(&world, "olga").create(&post(), &cancelled).await, 403, "cancel: leave it out");
}

#[tokio::test]
async fn exactly_one_source_and_a_run_is_undone_as_a_whole() {
    let world = World::new("sources").await;
    let olga = restores(&world, "olga");
    let from = |value: Value| with(restore("p", "olga"), "spec.from", value);
    for good in [
        json!({"backup": {"name": "b"}}),
        json!({"snapshot": {"id": "0123456789ab"}}),
        json!({"undoOf": {"kind": "Promotion", "name": "r-12"}}),
        json!({"undoOf": {"kind": "EnvironmentRestore", "name": "back"}}),
    ] {
        olga.create(&dry(), &from(good)).await.unwrap();
    }
    for (bad, words) in [
        (json!({}), "from: exactly one of: backup, snapshot, undoOf"),
        (json!({"backup": {"name": "b"}, "snapshot": {"id": "0123456789ab"}}), "from: exactly one of"),
        (json!({"snapshot": {"id": "latest"}}), "should be at least 8 chars long"),
        (json!({"snapshot": {"id": "../../etc/passwd"}}), "should match"),
        (json!({"undoOf": {"kind": "EnvironmentBackup", "name": "x"}}), "Unsupported value"),
        (json!({"undoOf": {"kind": "Promotion"}}), "Required value"),
    ] {
        refused(olga.create(&dry(), &from(bad)).await, 422, words);
    }
    let partly = with(from(json!({"undoOf": {"kind": "Promotion", "name": "r"}})), "spec.data", json!({"names": ["flags-db"]}));
    refused(olga.create(&dry(), &partly).await, 422, "a run is undone as a whole");
    let soon = with(restore("p", "olga"), "spec.acknowledgeDataLossSince", json!("yesterday"));
    refused(olga.create(&dry(), &soon).await, 422, "must be of type date-time");
}

#[tokio::test]
async fn what_it_brings_is_fixed_and_only_who_asked_accepts_what_it_loses() {
    let world = World::new("erst-frozen").await;
    let olga = restores(&world, "olga");
    olga.create(&post(), &restore("p", "olga")).await.unwrap();
    planned(&world, "p", "Scheduled").await;
    for change in [
        json!({"from": {"backup": {"name": "other"}}}),
        json!({"environment": {"name": "other"}}),
        json!({"data": {"names": ["flags-db"]}}),
        json!({"requestedBy": {"username": "bob"}}),
    ] {
        let changed = olga.patch("p", &plain(), &merge(json!({"spec": change}))).await;
        refused(changed, 422, "are fixed once an EnvironmentRestore is made");
    }
    let accepts = merge(json!({"spec": {"acknowledgeDataLossSince": "2026-11-25T21:04:11Z"}}));
    refused(restores(&world, "bob").patch("p", &plain(), &accepts).await, 403, "for the verb restore on it");
    world.bind(&world.production, "owner", &["oscar"]).await;
    refused(
        restores(&world, "oscar").patch("p", &plain(), &accepts).await,
        403,
        "only olga, who asked for this EnvironmentRestore",
    );
    olga.patch("p", &plain(), &accepts).await.unwrap();
    planned(&world, "p", "Locked").await;
    let later = merge(json!({"spec": {"acknowledgeDataLossSince": "2026-11-25T22:00:00Z"}}));
    refused(olga.patch("p", &plain(), &later).await, 403, "has started no longer changes");
}

#[tokio::test]
async fn another_person_approves_the_plan_he_saw_and_cancels_in_his_own_name() {
    let world = World::new("erst-approves").await;
    let (olga, bob) = (restores(&world, "olga"), restores(&world, "bob"));
    olga.create(&post(), &restore("p", "olga")).await.unwrap();
    let entry = |who: &str, plan: &str| merge(approvals(&[approval(who, plan)]));
    refused(bob.patch("p", &plain(), &entry("bob", PLAN)).await, 403, "there is no plan yet");
    planned(&world, "p", "Scheduled").await;
    let old = "v1:0000000000000000000000000000000000000000000000000000000000000000";
    refused(bob.patch("p", &plain(), &entry("bob", old)).await, 403, "planHash is not that of");
    refused(bob.patch("p", &plain(), &entry("carol", PLAN)).await, 403, "nobody approves for another");
    refused(
        restores(&world, WRITER).patch("p", &plain(), &entry(WRITER, PLAN)).await,
        403,
        "may not approve EnvironmentRestores",
    );
    world.bind(&world.production, "approver", &["olga"]).await;
    refused(olga.patch("p", &plain(), &entry("olga", PLAN)).await, 403, "who asks does not approve");
    bob.patch("p", &plain(), &entry("bob", PLAN)).await.unwrap();
    refused(bob.patch("p", &plain(), &merge(cancelled_by("carol"))).await, 403, "nobody cancels in the name of another");
    refused(
        restores(&world, WRITER).patch("p", &plain(), &merge(cancelled_by(WRITER))).await,
        403,
        "may not cancel EnvironmentRestores",
    );
    refused(
        restores(&world, WRITER).delete("p", &DeleteParams::default()).await,
        403,
        "deleting an EnvironmentRestore that has not ended",
    );
    bob.patch("p", &plain(), &merge(cancelled_by("bob"))).await.unwrap();
    planned(&world, "p", "Cancelled").await;
    refused(olga.patch("p", &plain(), &merge(json!({"spec": {"cancel": null}}))).await, 422, "stays cancelled");
}

#[tokio::test]
async fn a_restore_whose_rollback_failed_is_resumed_or_given_up_in_ones_own_name() {
    let world = World::new("erst-intervention").await;
    let (olga, bob) = (restores(&world, "olga"), restores(&world, "bob"));
    let asks = |action: &str, who: &str| {
        merge(json!({"spec": {"intervention": {"action": action, "username": who, "reason": "enough"}}}))
    };
    let early = with(restore("p", "olga"), "spec.intervention", json!({"action": "Unlock", "username": "olga", "reason": "x"}));
    refused(olga.create(&post(), &early).await, 403, "intervention: leave it out when you make an EnvironmentRestore");
    olga.create(&post(), &restore("p", "olga")).await.unwrap();
    for phase in ["Scheduled", "Loading", "RollingBack"] {
        planned(&world, "p", phase).await;
        let early = olga.patch("p", &plain(), &asks("Resume", "olga")).await;
        refused(early, 403, &format!("this EnvironmentRestore is {phase}; only one whose rollback failed"));
    }
    planned(&world, "p", "NeedsHuman").await;
    refused(restores(&world, WRITER).patch("p", &plain(), &asks("Unlock", WRITER)).await, 403, "may not unlock Environment");
    refused(restores(&world, WRITER).patch("p", &plain(), &asks("Resume", WRITER)).await, 403, "may not resume runs");
    refused(bob.patch("p", &plain(), &asks("Unlock", "bob")).await, 403, "bob may not unlock Environment");
    refused(bob.patch("p", &plain(), &asks("Resume", "olga")).await, 403, "intervention.username: write bob");
    bob.patch("p", &plain(), &asks("Resume", "bob")).await.unwrap();
    let mut more = json!({"spec": {"intervention": {"action": "Unlock", "username": "olga", "reason": "x"}}});
    more["spec"]["cancel"] = json!({"username": "olga", "reason": "x"});
    refused(olga.patch("p", &plain(), &merge(more)).await, 403, "a request of its own that changes nothing else");
    olga.patch("p", &plain(), &asks("Unlock", "olga")).await.unwrap();
    planned(&world, "p", "Abandoned").await;
    refused(olga.patch("p", &plain(), &merge(cancelled_by("olga"))).await, 403, "this EnvironmentRestore has ended");
}

#[tokio::test]
async fn status_is_the_operators_and_kubectl_knows_the_short_name() {
    let world = World::new("erst-status").await;
    let writer = api(&world.user(WRITER), &world.production, "EnvironmentRestore");
    restores(&world, "olga").create(&post(), &restore("p", "olga")).await.unwrap();
    let mut read = writer.get("p").await.unwrap();
    read.data["status"] = json!({"phase": "Completed"});
    refused(writer.replace_status("p", &post(), &read).await, 403, "status is written by");
    planned(&world, "p", "Scheduled").await;
    for arguments in [["get", "erst", "-n", &world.production], ["get", "lockkeeper", "-n", &world.production]] {
        kubectl(&arguments, "").unwrap();
    }
}

#[tokio::test]
async fn a_schedule_has_five_fields_and_what_is_kept_or_used_again_has_bounds() {
    let world = World::new("schedules").await;
    let empty = world.empty().await;
    let environments = api(&world.admin(), &empty, "Environment");
    let exchange = json!({"repository": {"volume": {"claim": {"name": "exchange"}}}, "passwordSecret": {"name": "exchange-key"}});
    let base = || with(environment("other", &empty, &world.staging), "spec.exchange", exchange.clone());
    for (path, value) in [
        ("spec.exchange.reuseWithin", json!("90m")),
        ("spec.exchange.reuseWithin", json!("8784h")),
        ("spec.exchange.keepWithin", json!("1h30m")),
        ("spec.backups.schedule", json!("0 3 * * *")),
        ("spec.backups.schedule", json!("*/5 0-6 1,15 Jan-Mar Mon")),
        ("spec.backups.retention", json!({"keepLast": 10, "keepWithin": "720h"})),
        ("spec.data.0.undo", json!({"method": "Backup", "keepFor": "1h"})),
    ] {
        environments.create(&dry(), &with(base(), path, value)).await.unwrap();
    }
    for (path, value, words) in [
        ("spec.backups.schedule", json!("0 0 3 * * *"), "should match"),
        ("spec.backups.schedule", json!("@daily"), "should"),
        ("spec.backups.schedule", json!("0 3 * * * ; rm"), "should match"),
        ("spec.backups.retention", json!({}), "retention: name keepLast, keepWithin or both"),
        ("spec.backups.retention", json!({"keepLast": 0}), "should be greater than or equal to 1"),
        ("spec.backups.retention", json!({"keepWithin": "30d"}), "should match"),
        ("spec.exchange.reuseWithin", json!(""), "at least 2 chars long"),
        ("spec.exchange.reuseWithin", json!("1d"), "should match"),
        ("spec.exchange.reuseWithin", json!("-1h"), "should match"),
        ("spec.exchange.reuseWithin", json!("99999999h"), "should match"),
        ("spec.exchange.reuseWithin", json!("1h".repeat(13)), "may not be more than 24"),
        ("spec.exchange.reuseWithin", json!(3600), "must be of type string"),
        ("spec.exchange.keepWithin", json!("-168h"), "should match"),
    ] {
        refused(environments.create(&dry(), &with(base(), path, value)).await, 422, words);
    }
}
