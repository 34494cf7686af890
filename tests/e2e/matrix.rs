//! A run is deleted in each phase, in each of the ways in which Kubernetes deletes, and mostly the operator is killed in the
//! same breath: between two instructions, or as a Job of the run ends. Run after run; after each, all is as it was.

use std::{thread, time::Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PropagationPolicy};
use lockkeeper::api::{Phase, Promotion};
use serde_json::json;

use super::{
    cluster::{crash_operator, eventually, kubectl, wait},
    outcome::{self, Before},
    turn,
    users::Users,
    world::{ALICE, BOB, PATIENCE, World},
};

/// Where a run is when it is deleted.
#[derive(Clone, Copy, Debug)]
enum At {
    /// It waits for approval.
    Planned,
    /// It is approved, for tomorrow.
    Approved,
    /// A step has begun.
    Step(&'static str),
    /// The container of a step's Job has ended this moment. Of a run that is cancelled during its migration where the step is
    /// one of the rollback.
    EndOf(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Lives,
    IsKilled,
}

/// Whether people use the application meanwhile. A run without is quicker.
#[derive(Clone, Copy, Debug, PartialEq)]
enum People {
    AtWork,
    Asleep,
}

use At::{Approved, EndOf, Planned, Step};
use Operator::{IsKilled, Lives};
use People::{Asleep, AtWork};
use PropagationPolicy::{Background, Foreground, Orphan};

/// Where it is; how it is deleted; what becomes of the operator; who is there; how it must end before it goes.
const CASES: [(At, PropagationPolicy, Operator, People, Phase); 14] = [
    (Planned, Foreground, IsKilled, Asleep, Phase::Cancelled),
    (Approved, Orphan, IsKilled, Asleep, Phase::Cancelled),
    (Step("preflight"), Background, Lives, AtWork, Phase::Cancelled),
    (EndOf("backup"), Foreground, IsKilled, Asleep, Phase::Cancelled),
    (EndOf("prove"), Orphan, IsKilled, Asleep, Phase::Cancelled),
    (Step("close"), Background, IsKilled, Asleep, Phase::RolledBack),
    (EndOf("fence"), Orphan, IsKilled, AtWork, Phase::RolledBack),
    (Step("migration/tiny"), Foreground, IsKilled, AtWork, Phase::RolledBack),
    (EndOf("migration/tiny"), Background, IsKilled, AtWork, Phase::RolledBack),
    (Step("workloads/tiny"), Orphan, Lives, Asleep, Phase::RolledBack),
    (EndOf("verify/use"), Foreground, IsKilled, Asleep, Phase::RolledBack),
    (EndOf("rollback-data"), Background, IsKilled, Asleep, Phase::RolledBack),
    (EndOf("rollback-release-data"), Orphan, IsKilled, Asleep, Phase::RolledBack),
    // From here on users may write: it is not undone any more. The last one, because there is nothing to promote after it.
    (EndOf("release-data"), Foreground, IsKilled, Asleep, Phase::Completed),
];

#[test]
fn story_a_run_that_is_deleted_in_any_phase_and_in_any_way_while_the_operator_is_killed_leaves_all_as_it_was() {
    let turn = turn::alone();
    // In two worlds at once, which share the operator: what dies under one run dies under another that is elsewhere.
    thread::scope(|scope| {
        for (story, odd) in [("matrix-odd", true), ("matrix-even", false)] {
            let turn = &turn;
            scope.spawn(move || {
                let mut world = World::beside(story, "2-slow", turn);
                world.slow_for("3s");
                for (number, case) in (1..).zip(&CASES).filter(|(number, _)| (number % 2 == 1) == odd) {
                    let begun = Instant::now();
                    deleted(&world, number, case);
                    println!("{case:?}: {:.1} s", begun.elapsed().as_secs_f64());
                }
            });
        }
    });
}

fn deleted(world: &World, number: i64, (at, cascade, operator, people, ends): &(At, PropagationPolicy, Operator, People, Phase)) {
    let name = format!("deleted-{number}");
    let first = number * 10_000_000 + 1;
    let mut users = (*people == AtWork).then(|| Users::of(world, &name, "*/*", first));
    let before = users.as_ref().map_or_else(|| Before::quiet(world), |users| Before::of(world, users, first));
    let since = world.record.latest();
    let mut promotion = world.promotion(&name);
    if let Approved = at {
        let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
        promotion.spec.schedule = serde_json::from_value(json!({"notBefore": tomorrow.to_string()})).ok();
    }
    world.ask(&promotion);
    world.planned(&name);
    if !matches!(at, Planned) {
        world.approve(&name);
    }
    if let (Some(users), Phase::RolledBack) = (&mut users, ends) {
        world.begins(&name, "page");
        users.rush();
    }
    match at {
        Planned => {}
        Approved => drop(world.reaches(&name, &[Phase::Validated])),
        Step(step) => world.begins(&name, step),
        EndOf(step) => {
            if step.starts_with("rollback") {
                world.begins(&name, "migration/tiny");
                let change = json!({"spec": {"cancel": {"username": BOB, "reason": "no"}}});
                world.patch(BOB, &name, &change).expect("bob may cancel");
            }
            job_ends(world, step, since);
        }
    }
    if *operator == IsKilled {
        crash_operator();
    }
    let how = DeleteParams { propagation_policy: Some(cascade.clone()), ..DeleteParams::default() };
    wait(world.api::<Promotion>(Some(ALICE)).delete(&name, &how)).expect("alice may delete what she asked for");
    let run = world.record.until(("Promotion", &name), "it goes, its finalizer taken away", PATIENCE, |seen| {
        seen.gone.then(|| seen.read::<Promotion>())
    });
    let phase = run.status.as_ref().map(|s| s.phase);
    assert_eq!(phase, Some(*ends), "{at:?}: how it ended before it went: {:?}", run.status.and_then(|s| s.failure));
    backups_are_over(world);
    match (users.map(Users::heard), ends) {
        (Some(testimony), Phase::Cancelled) => outcome::untouched(world, &run, &before, &testimony),
        (Some(testimony), _) => {
            let step = run.status.as_ref().and_then(|s| s.failure.as_ref()).map(|f| f.step.clone()).unwrap_or_default();
            outcome::as_before(world, &run, &before, &testimony, (&step, &["deleted while it held the lock"]));
        }
        (None, Phase::Completed) => {
            outcome::delivered(world, &run, &before);
            outcome::nothing_left(world, &run, &before);
        }
        (None, _) => {
            outcome::unchanged(world, &before);
            outcome::nothing_left(world, &run, &before);
        }
    }
}

/// Waits until a container of a Job of this step has ended: nobody has looked at it by then but the node.
fn job_ends(world: &World, step: &str, since: u64) {
    let label = step.replace('/', ".");
    world.record.sees(&format!("the Job of {step} ends"), since, PATIENCE, |seen| {
        if seen.kind != "Pod" || seen.object["metadata"]["labels"]["lockkeeper.dev/step"] != label.as_str() {
            return None;
        }
        let statuses = seen.read::<Pod>().status?.container_statuses?;
        statuses.iter().any(|c| c.state.as_ref().is_some_and(|s| s.terminated.is_some())).then_some(())
    });
}

/// A backup that a run has begun goes on to its own end, and lets go of its Jobs.
fn backups_are_over(world: &World) {
    eventually("backups have ended", PATIENCE, || {
        let asked = ["get", "environmentbackups", "-o", "jsonpath={.items[*].metadata.finalizers}"];
        let left = kubectl(&[&["-n", world.production.as_str()][..], &asked].concat())?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
