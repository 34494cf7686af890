//! DownAlignments: who makes them, in whose name, what never changes, whose mark they bear.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::*;

pub fn alignment(world: &World, name: &str, requester: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "DownAlignment", "metadata": {"name": name},
        "spec": {
            "environment": {"name": "production"}, "from": {"namespace": world.staging, "name": "staging"},
            "requestedBy": {"username": requester},
        },
    }))
}

fn alignments(world: &World, user: &str) -> kube::Api<DynamicObject> {
    api(&world.user(user), &world.production, "DownAlignment")
}

/// Alice may have others aligned with the source.
pub async fn asked(name: &str) -> World {
    let world = World::new(name).await;
    refused(alignments(&world, "alice").create(&post(), &alignment(&world, "p", "alice")).await, 403, "for the verb align on it");
    world.bind(&world.staging, "aligner", &["alice"]).await;
    eventually(async || {
        let may = world.may("alice", &world.staging, "lockkeeper.dev", "environments", "align").await;
        may.then_some(()).ok_or("alice may not align yet")
    })
    .await;
    world
}

#[tokio::test]
async fn who_has_the_verb_align_on_the_source_asks_in_his_own_name_and_nothing_changes_later() {
    let world = asked("aligns").await;
    let alice = alignments(&world, "alice");
    refused(alice.create(&post(), &alignment(&world, "p", "bob")).await, 403, "nobody asks in the name of bob");
    let cancelled = with(alignment(&world, "p", "alice"), "spec.cancel", json!({"username": "alice", "reason": "x"}));
    refused(alice.create(&post(), &cancelled).await, 403, "cancel: leave it out");
    let none = json!({"configuration": false, "data": {"none": {}}});
    refused(
        alice.create(&post(), &with(alignment(&world, "p", "alice"), "spec.include", none)).await,
        422,
        "there would be nothing to do",
    );
    let two = json!({"data": {"all": {}, "none": {}}});
    refused(
        alice.create(&post(), &with(alignment(&world, "p", "alice"), "spec.include", two)).await,
        422,
        "exactly one of: all, names, none",
    );
    let mut marked = alignment(&world, "p", "alice");
    marked.metadata.labels = Some([("lockkeeper.dev/run".to_owned(), "anothers-turn".to_owned())].into());
    refused(alice.create(&post(), &marked).await, 403, "lockkeeper.dev/run is set by");

    let made = alice.create(&post(), &alignment(&world, "p", "alice")).await.unwrap();
    assert_eq!(made.data["spec"]["include"], json!({"configuration": true}), "and all data, which no schema says");
    let change = |spec: Value| Patch::Merge(json!({"spec": spec}));
    let fixed = alice.patch("p", &PatchParams::default(), &change(json!({"include": {"configuration": false}}))).await;
    refused(fixed, 422, "are fixed once a DownAlignment is made");
    let bob = alignments(&world, "bob");
    let cancel = |who: &str| change(json!({"cancel": {"username": who, "reason": "no"}}));
    alice.create(&post(), &alignment(&world, "q", "alice")).await.unwrap();
    refused(bob.patch("q", &PatchParams::default(), &cancel("alice")).await, 403, "nobody cancels in the name of another");
    bob.patch("q", &PatchParams::default(), &cancel("bob")).await.unwrap();
    refused(alignments(&world, "dave").patch("q", &PatchParams::default(), &cancel("dave")).await, 403, "cannot patch resource");
    let mut read = alice.get("q").await.unwrap();
    read.data["status"] = json!({"phase": "Completed"});
    let mine = api(&world.user(WRITER), &world.production, "DownAlignment");
    refused(mine.replace_status("q", &post(), &read).await, 403, "status is written by");
}
