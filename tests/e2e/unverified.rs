//! (e) The new release starts, calls itself healthy, and cannot be used.

use lockkeeper::api::{Phase, StepState};

use super::{
    outcome::{self, Before},
    users::Users,
    world::World,
};

#[test]
fn story_a_release_that_fails_its_checks_is_undone() {
    let world = World::new("unverified", "2-unverified");
    let mut users = Users::of(&world, "unverified", "*/*", 1);
    let before = Before::of(&world, &users, 1);

    world.ask(&world.promotion("unverified"));
    world.approve("unverified");
    world.begins("unverified", "page");
    users.rush();
    let run = world.reaches("unverified", &[Phase::RolledBack]);
    let testimony = users.heard();

    // The application's own words, from the log of the check.
    let words = ["check use", "GET http://tiny/ answered 500"];
    outcome::as_before(&world, &run, &before, &testimony, ("verify/use", &words));
    let steps = run.status.expect("a status").steps;
    let state = |name: &str| steps.iter().find(|s| s.name == name).map(|s| s.state);
    assert_eq!(state("verify/health"), Some(StepState::Succeeded), "health alone lied");
    // Nobody but the checks ever reached it.
    assert!(testimony.answers.iter().all(|a| a.release != "2-unverified"), "users reached a release that was never verified");
}
