//! Approving: whose yes, to which plan, and how it is taken back.

use super::*;

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
