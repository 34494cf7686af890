//! (c) The new image crashes at its start.

use lockkeeper::api::Phase;

use super::{
    outcome::{self, Before},
    users::Users,
    world::World,
};

#[test]
fn story_a_release_that_crashes_at_its_start_is_undone() {
    let world = World::new("crash", "2-crashloop");
    let mut users = Users::of(&world, "crash", "*/*", 1);
    let before = Before::of(&world, &users, 1);

    world.ask(&world.promotion("crash"));
    world.approve("crash");
    world.begins("crash", "page");
    users.rush();
    let run = world.reaches("crash", &[Phase::RolledBack]);
    let testimony = users.heard();

    // The application's own words, from its log.
    let words = ["container tiny", "crashes again and again", "its configuration parser rejects every configuration"];
    outcome::as_before(&world, &run, &before, &testimony, ("workloads/tiny", &words));
}
