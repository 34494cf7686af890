//! Many runs at one target: one works at a time, the others say behind whom they wait, and who was validated first comes first.
//! And two environments that promote to each other at the same time.

use std::{collections::BTreeMap, thread, time::Duration};

use lockkeeper::api::{Environment, Phase, Promotion, StepState, Timestamp};
use serde_json::json;

use super::{
    cluster::{self, eventually, helm, kubectl, wait},
    outcome::{self, Before},
    record::Record,
    world::{ALICE, BOB, PATIENCE as OF_ONE, World},
};

/// How many ask.
const ASKED: usize = 50;
/// How many of them are let run at least. Each is undone, so that the target stays what all were approved for.
const RUN: usize = 3;
/// So many make each wait for the checks of others.
const PATIENCE: Duration = OF_ONE.saturating_mul(3);

#[test]
fn story_of_fifty_promotions_at_one_target_one_works_at_a_time_in_the_order_of_validation() {
    // Alone: so many make all others slow.
    let world = World::alone("queue", "2-broken");
    let before = Before::quiet(&world);
    let names: Vec<String> = (0..ASKED).map(|i| format!("r-{i:02}")).collect();
    names.iter().for_each(|name| world.ask(&world.promotion(name)));
    // A person's word need not wait for the checks.
    let approve = |name: &str| {
        let plan = world
            .record
            .until(("Promotion", name), "there is a plan", PATIENCE, |seen| seen.read::<Promotion>().status?.plan_hash);
        world.patch(BOB, name, &json!({"spec": {"approvals": [super::world::approval(BOB, &plan)]}})).expect("bob may approve");
    };
    // Two of them first, at the same time; then the rest, from behind.
    thread::scope(|scope| {
        for name in &names[..2] {
            let approve = &approve;
            scope.spawn(move || approve(name));
        }
    });
    names[2..].iter().rev().for_each(|name| approve(name));
    let status = |name: &str| world.record.promotion(name).status.unwrap_or_default();
    for name in &names {
        world.record.until(("Promotion", name), "it is validated, and says for whom it waits", PATIENCE, |seen| {
            let status = seen.read::<Promotion>().status.filter(|s| s.validated_at.is_some())?;
            // Who was not checked yet waits for the checks of others, or for the environment to be open.
            let waits = |n: &str| n.contains("Promotion r-") || n.starts_with("preflight: ");
            (status.locked_at.is_some() || status.phase.is_terminal() || status.next.as_deref().is_some_and(waits)).then_some(())
        });
    }
    let place: BTreeMap<(Timestamp, &str), &str> =
        names.iter().map(|name| ((status(name).validated_at.expect("it is validated"), name.as_str()), name.as_str())).collect();
    let order: Vec<&str> = place.into_values().collect();
    // From behind, so that nobody is called off before somebody who is let run; one or another may be at work by now.
    for name in order[RUN..].iter().rev() {
        let change = json!({"spec": {"cancel": {"username": BOB, "reason": "too many"}}});
        match world.patch(BOB, name, &change) {
            Err(refused) if !status(name).phase.is_terminal() => panic!("{name}: {refused}"),
            _ => {}
        }
    }
    let mut worked = Vec::new();
    for name in &order {
        let run = world.reaches(name, &[Phase::RolledBack, Phase::Cancelled]);
        let now = run.status.expect("a status");
        if let Some(failure) = now.failure.filter(|f| f.step == "migration/tiny") {
            assert_eq!((now.phase, failure.reason.as_str()), (Phase::RolledBack, "MigrationFailed"), "{name}");
            worked.push(*name);
        }
    }
    assert!((RUN..ASKED / 2).contains(&worked.len()), "{} of {ASKED} worked", worked.len());
    // What the judge's watcher saw of turn and lock, in order.
    let all = world.record.all();
    let mut turns: Vec<(u64, String)> = Vec::new();
    for seen in all.iter().filter(|s| s.kind == "Environment") {
        let status = seen.read::<Environment>().status.unwrap_or_default();
        let turn = status.active.map(|a| a.name);
        if let Some(holder) = status.lock.and_then(|l| l.holder) {
            assert_eq!(turn.as_ref(), Some(&holder.name), "who holds the lock has the turn");
        }
        if let Some(turn) = turn.filter(|t| turns.last().map(|(_, last)| last) != Some(t)) {
            turns.push((seen.version, turn));
        }
    }
    let had: Vec<&str> = turns.iter().map(|(_, name)| name.as_str()).collect();
    assert!(
        had.len() >= worked.len() && had.iter().enumerate().all(|(i, name)| !had[..i].contains(name)),
        "nobody twice: the turns were {had:?}, {worked:?} worked"
    );
    // A run that can not go on stands in nobody's way: one whose checks fail, or that is called off. And whose plan was another one
    // for a while, stands at the end again.
    for (turn, (version, name)) in turns.iter().enumerate() {
        let place = |run: &Promotion| run.status.as_ref().and_then(|s| s.validated_at);
        let own = all.iter().rfind(|s| s.kind == "Promotion" && s.name == *name && s.version < *version);
        let own = own.and_then(|s| place(&s.read()));
        for earlier in order.iter().take_while(|o| *o != name).filter(|o| !had[..turn].contains(o)) {
            let before = all.iter().filter(|s| s.kind == "Promotion" && s.name == **earlier && s.version < *version);
            // The last but one too: the operator may have decided before it saw the last.
            let mut late = before.rev().take(2).map(|s| s.read::<Promotion>());
            let unready = |run: Promotion| {
                let later = place(&run) > own;
                let status = run.status.unwrap_or_default();
                let stalled = status.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True");
                run.spec.cancel.is_some() || stalled || later || status.validated_at.is_none()
            };
            assert!(
                late.any(unready),
                "{name} had its turn before {earlier}, which was ready and validated before it: the turns were {had:?}, they were validated as {order:?}"
            );
        }
    }
    let last = world.record.promotion(had[had.len() - 1]);
    outcome::unchanged(&world, &before);
    outcome::nothing_left(&world, &last, &before);

    crossing(&world);
}

/// Staging to Production and Production to Staging, at the same time.
fn crossing(world: &World) {
    let (staging, production) = (world.staging.as_str(), world.production.as_str());
    for (namespace, people) in [
        (staging, format!("people={{\"promoters\":[\"{ALICE}\"],\"requesters\":[\"{ALICE}\"],\"approvers\":[\"{BOB}\"]}}")),
        (production, format!("people.promoters=[\"{ALICE}\"]")),
    ] {
        let arguments = ["upgrade", "tiny", "charts/lockkeeper-environment", "-n", namespace, "--reuse-values", "--set-json"];
        helm(&[&arguments[..], &[&people]].concat()).expect("the rights are given");
    }
    // Releases go up, or from side to side.
    let consent =
        json!({"spec": {"tier": "Production", "promotesFrom": [{"namespace": production, "name": "production"}]}}).to_string();
    kubectl(&["-n", staging, "patch", "environment", "staging", "--type=merge", "-p", &consent])
        .expect("Staging takes from Production");
    let forth = world.promotion("forth");
    let mut back = world.promotion("back");
    back.metadata.namespace = Some(staging.to_owned());
    back.spec = serde_json::from_value(json!({
        "environment": {"name": "staging"}, "from": {"namespace": production, "name": "production"}, "requestedBy": {"username": ALICE},
    }))
    .expect("a Promotion");
    let record = Record::of(staging);
    let there = |person: &str| kube::Api::<Promotion>::namespaced(cluster::client(Some(person)), staging);
    eventually("alice may ask in Staging", PATIENCE, || {
        wait(there(ALICE).create(&Default::default(), &back)).map(drop).map_err(|e| e.to_string())
    });
    world.ask(&forth);
    let plan = record.until(("Promotion", "back"), "there is a plan, and nothing is missing but approval", PATIENCE, |seen| {
        let status = seen.read::<Promotion>().status?;
        let waits = status.next.as_deref().is_some_and(|n| n.contains("of 1 approvals"));
        status.plan_hash.filter(|_| waits)
    });
    world.planned("forth");
    let yes = json!({"spec": {"approvals": [super::world::approval(BOB, &plan)]}});
    world.approve("forth");
    wait(there(BOB).patch("back", &Default::default(), &kube::api::Patch::Merge(&yes))).expect("bob may approve");
    // Staging has no database and its own release told by its environment: what comes back works there.
    let ended = record.until(("Promotion", "back"), "it ends", PATIENCE, |seen| {
        let run: Promotion = seen.read();
        run.status.as_ref()?.phase.is_terminal().then_some(run)
    });
    let status = ended.status.expect("a status");
    assert_eq!(status.phase, Phase::Completed, "{:?}", status.failure);
    assert!(status.steps.iter().all(|s| s.state == StepState::Succeeded), "{:?}", status.steps);
    world.reaches("forth", &[Phase::RolledBack]);
    let (back, forth) = (status, world.record.promotion("forth").status.expect("a status"));
    assert!(back.locked_at < forth.unlocked_at && forth.validated_at < back.finished_at, "they were under way at the same time");
    for (name, environment) in
        [("staging", record.environment("staging")), ("production", world.record.environment("production"))]
    {
        let status = environment.status.unwrap_or_default();
        assert!(status.active.is_none() && status.lock.is_none_or(|l| l.holder.is_none()), "{name} is free");
    }
}
