//! Making a Promotion: in whose name, by whose consent.

use super::*;

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
