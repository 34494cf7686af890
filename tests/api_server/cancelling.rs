//! Cancelling and deleting, by whom and until when.

use super::*;

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
