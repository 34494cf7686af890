//! (g) The operator is killed, again and again: each run ends as it would have.

use lockkeeper::api::Phase;

use super::{
    cluster::{cluster, eventually, kill_operator, kubectl},
    outcome::{self, Before},
    users::Users,
    world::{PATIENCE, World},
};

#[test]
fn story_an_operator_that_is_killed_in_any_phase_carries_on_where_it_was() {
    let world = World::alone("killed", "2-broken");
    let mut users = Users::of(&world, "back", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("back"));
    world.approve("back");
    world.begins("back", "page");
    users.rush();
    killed_during(&world, "back", "rollback-data", Phase::RollingBack);
    let run = world.reaches("back", &[Phase::RolledBack]);
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &["half of the writes"]));

    // The next release is slow but good, and the operator has no better day.
    let slow = cluster().image("tiny:2-slow");
    kubectl(&["-n", &world.staging, "set", "image", "deployment/tiny", &format!("tiny={slow}")]).expect("Staging gets it");
    let digest = slow.split_once('@').map(|(_, digest)| digest.to_owned()).unwrap_or_default();
    eventually("Staging runs it", PATIENCE, || {
        let runs = world.digests(&world.staging);
        if runs == [digest.clone()] { Ok(()) } else { Err(format!("{runs:?}")) }
    });
    let first = 10_000_001;
    let mut users = Users::of(&world, "forth", "*/*", first);
    let before = Before::of(&world, &users, first);
    world.ask(&world.promotion("forth"));
    world.approve("forth");
    killed_during(&world, "forth", "backup", Phase::BackingUp);
    world.begins("forth", "page");
    users.rush();
    killed_during(&world, "forth", "fence", Phase::Locked);
    killed_during(&world, "forth", "migration/tiny", Phase::Promoting);
    let run = world.reaches("forth", &[Phase::Completed]);
    outcome::completed(&world, &run, &before, &users.heard());
}

fn killed_during(world: &World, name: &str, step: &str, phase: Phase) {
    world.begins(name, step);
    kill_operator();
    let there = world.record.promotion(name).status.map(|s| s.phase);
    assert_eq!(there, Some(phase), "the operator was to be killed in {phase}");
    println!("{name}: killed during {step}");
}
