//! Tables: DownAlignments before a Promotion, in its own turn.

use super::*;

/// A Promotion to a Staging that wants to be a mirror of Production first.
pub fn promoted_to_staging() -> Seen {
    let mut seen = Seen::new();
    changed(&mut seen.target, |spec| {
        spec["tier"] = json!("Staging");
        spec["alignBeforePromotion"] = json!({"from": {"namespace": "shop", "name": "live"}});
    });
    seen
}

fn child(seen: &mut Seen, status: Value) {
    seen.child.as_mut().unwrap().status = Some(of(status));
}

#[test]
fn a_staging_says_whether_it_is_aligned_before_anything_is_promoted_to_it() {
    let mut seen = promoted_to_staging();
    changed(&mut seen.target, |spec| spec["alignBeforePromotion"] = Value::Null);
    assert!(next(&mut seen).contains("does not say what it is aligned with before a promotion"), "{:?}", seen.status().next);
    changed(&mut seen.target, |spec| spec["alignBeforePromotion"] = json!({"disabled": {"reason": "no data here"}}));
    assert_eq!(to_the_end(&mut seen), Phase::Completed);
    assert!(seen.child.is_none());
}

#[test]
fn a_promotion_aligns_first_in_its_own_turn_and_a_rollback_brings_back_what_that_left() {
    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    assert_eq!(seen.status().phase, Phase::Aligning);
    let made = seen.child.clone().unwrap();
    assert_eq!(made.metadata.labels.as_ref().unwrap()["lockkeeper.dev/run"], seen.run.metadata.uid.clone().unwrap());
    assert_eq!(serde_json::to_value(&made.spec.from).unwrap(), json!({"namespace": "shop", "name": "live"}));
    Change::Good.happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::Aligning, "until it has ended");

    // The mirror brings other images; that is what a rollback goes back to.
    let aligned = "r.example/web:live";
    seen.target_side.deployments[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image =
        Some(aligned.into());
    child(&mut seen, json!({"phase": "Completed", "snapshot": {"id": "a", "rows": 7}}));
    until(&mut seen, "preflight");
    assert!(seen.status().steps[0].message.as_ref().unwrap().contains("7 masked rows"));
    assert_eq!(seen.status().prior.unwrap().modules[0].workloads[0].containers[0].image, aligned);
    until(&mut seen, "migration/flags");
    Change::JobsFail { code: 1, says: false }.happen(&mut seen);
    assert_eq!(to_the_end(&mut seen), Phase::RolledBack);
    let ready = seen.status().conditions.iter().find(|c| c.type_ == "Ready").unwrap().message.clone();
    assert!(ready.contains("aligned, not promoted"), "{ready}");
}

#[test]
fn an_alignment_that_fails_ends_the_promotion_and_a_cancelled_promotion_takes_it_along() {
    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    child(&mut seen, json!({"phase": "Failed", "failure": {"step": "snapshot", "reason": "Broken", "message": "no room"}}));
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    assert!(seen.status().failure.unwrap().message.contains("no room"));

    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    child(&mut seen, json!({"phase": "Loading"}));
    Change::Cancel.happen(&mut seen);
    let decided = seen.plan();
    seen.carry_out(&decided);
    settle(&mut seen).unwrap();
    assert!(seen.child.is_none(), "it is deleted, and so puts everything back");
    assert_eq!(to_the_end(&mut seen), Phase::Cancelled);
}

#[test]
fn an_alignment_for_a_promotion_needs_no_right_of_a_person_and_leaves_the_turn_to_it() {
    let mut seen = asked();
    seen.may_promote = false;
    let run = seen.alignment.as_mut().unwrap();
    run.metadata.labels = Some([("lockkeeper.dev/run".to_owned(), "the-promotion".to_owned())].into());
    changed(&mut seen.target, |_| {});
    let status = json!({"active": {"kind": "Promotion", "name": "r", "uid": "the-promotion"}});
    seen.target.as_mut().unwrap().status = Some(of(status));
    assert_eq!(to_the_end(&mut seen), Phase::Completed, "{:?}", seen.status());
    let left = seen.target.unwrap().status.unwrap();
    assert_eq!(left.active.unwrap().uid, "the-promotion");
    assert_eq!(left.kept.len(), 1, "what was aside is in the Environment's keeping");
    assert!(left.lock.unwrap().holder.is_none());
    assert!(
        alignment::child_name(lockkeeper::manifest::Owner { kind: "Promotion", name: "r", uid: "abcdef0123", namespace: "n" }, 1)
            .ends_with("-align-1")
    );
}

#[test]
fn only_what_the_operator_made_for_it_counts_as_a_promotions_alignment() {
    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    assert_eq!(seen.child.as_ref().unwrap().spec.schedule.as_ref().unwrap().start_deadline.as_ref().unwrap().to_string(), "1h");
    seen.child.as_mut().unwrap().metadata.labels = None;
    child(&mut seen, json!({"phase": "Completed"}));
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    assert!(seen.status().failure.unwrap().message.contains("made by somebody else"));
    assert!(seen.child.is_some(), "what is another's is left alone");

    // Switched off while it works: it is waited for all the same.
    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    child(&mut seen, json!({"phase": "Loading"}));
    changed(&mut seen.target, |spec| spec["alignBeforePromotion"] = json!({"disabled": {"reason": "later"}}));
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().step.as_deref(), Some("align"));
}

#[test]
fn a_hand_change_between_the_alignment_and_the_lock_is_noticed_at_the_door() {
    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    child(&mut seen, json!({"phase": "Completed"}));
    until(&mut seen, "page");
    let containers = &mut seen.target_side.deployments[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers;
    containers[0].image = Some("r.example/web:by-hand".into());
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    assert_eq!(seen.status().failure.unwrap().reason, "PlanChanged");
}
