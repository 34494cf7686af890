//! (h) People try what they may not: each time 403, and a sentence that says why and whom to ask.

use kube::api::{Patch, PatchParams, PostParams};
use lockkeeper::api::{Phase, Promotion};
use serde_json::{Value, json};

use super::{
    cluster::{kubectl, wait},
    world::{ALICE, BOB, PATIENCE, World, approval},
};

#[test]
fn story_nobody_asks_and_approves_alone_nor_for_another_nor_a_stale_plan_nor_writes_status() {
    let world = World::new("people", "2");
    world.ask(&world.promotion("asked"));
    let plan = world.planned("asked");
    let approvals = |entries: Value| json!({"spec": {"approvals": entries}});
    let change = |person: &str, change: Value| world.patch(person, "asked", &change);

    // Alice may ask, and has been given the right to approve as well: still not what she asked for herself.
    kubectl(&[
        "-n",
        &world.production,
        "create",
        "rolebinding",
        "alice-approves-too",
        "--clusterrole=lockkeeper-approver",
        "--user=alice",
    ])
    .expect("alice gets the right");
    forbidden("alone", change(ALICE, approvals(json!([approval(ALICE, &plan)]))), "who asks does not approve");
    forbidden("for another", change(ALICE, approvals(json!([approval(BOB, &plan)]))), "nobody approves for another");
    forbidden("for another", change(BOB, approvals(json!([approval("carol", &plan)]))), "nobody approves for another");
    let stale = format!("{}0", &plan[..plan.len() - 1]);
    let stale = if stale == plan { format!("{}1", &plan[..plan.len() - 1]) } else { stale };
    forbidden("stale plan", change(BOB, approvals(json!([approval(BOB, &stale)]))), "not that of the plan as it is now");
    let mut other_groups = approval(BOB, &plan);
    other_groups["groups"] = json!(["system:authenticated", "directors"]);
    forbidden("other groups", change(BOB, approvals(json!([other_groups]))), "exactly those of your request");

    // In another's name.
    let mut forged = world.promotion("forged");
    forged.metadata.resource_version = None;
    let made = wait(world.api::<Promotion>(Some("mallory")).create(&PostParams::default(), &forged));
    forbidden("a stranger", made, "cannot create resource");
    kubectl(&[
        "-n",
        &world.production,
        "create",
        "rolebinding",
        "mallory-asks",
        "--clusterrole=lockkeeper-requester",
        "--user=mallory",
    ])
    .expect("mallory gets a right");
    let made = wait(world.api::<Promotion>(Some("mallory")).create(&PostParams::default(), &forged));
    forbidden("in another's name", made, "nobody asks in the name of alice");
    let mut own = forged.clone();
    own.spec.requested_by = serde_json::from_value(json!({"username": "mallory"})).expect("a name");
    let made = wait(world.api::<Promotion>(Some("mallory")).create(&PostParams::default(), &own));
    forbidden("without consent of the source", made, "may not take releases from Environment");
    let cancelled = change(BOB, json!({"spec": {"cancel": {"username": ALICE, "reason": "she said so"}}}));
    forbidden("cancelled in another's name", cancelled, "nobody cancels in the name of another");

    // Status is what the operator saw, whoever else could write it: the cluster's administrator could, by RBAC.
    let written = json!({"status": {"phase": "Completed"}});
    for person in [Some(ALICE), None] {
        let api = world.api::<Promotion>(person);
        let result = wait(api.patch_status("asked", &PatchParams::default(), &Patch::Merge(&written)));
        let words = if person.is_some() { "cannot patch resource \"promotions/status\"" } else { "status is written by" };
        forbidden("writes status", result, words);
    }

    // Nothing of that left a mark, and what is right goes through: bob approves, then thinks again.
    let asked = world.record.promotion("asked");
    assert!(asked.spec.approvals.is_empty() && asked.spec.cancel.is_none(), "{:?}", asked.spec);
    assert_eq!(asked.status.map(|s| s.phase), Some(Phase::Scheduled));
    let later = json!({"spec": {"schedule": {"notBefore": "2999-01-01T00:00:00Z"}}});
    change(ALICE, later).expect("alice may put it off");
    let plan_now = world.record.until(("Promotion", "asked"), "the plan is another", PATIENCE, |seen| {
        seen.read::<Promotion>().status?.plan_hash.filter(|hash| *hash != plan)
    });
    forbidden("the plan from before", change(BOB, approvals(json!([approval(BOB, &plan)]))), "not that of the plan as it is now");
    change(BOB, approvals(json!([approval(BOB, &plan_now)]))).expect("bob may approve");
    world.reaches("asked", &[Phase::Validated]);
}

/// 403, and a sentence for the person.
fn forbidden(what: &str, result: Result<Promotion, kube::Error>, words: &str) {
    match result {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403, "{what}: {}", status.message);
            assert!(status.message.contains(words), "{what}: not {words:?} but: {}", status.message);
            println!("{what}: {}", status.message);
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what}: it was let through"),
    }
}
