//! Changing a Promotion: before it starts, and once its rollback has failed.

use super::*;

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
