//! (f) A person calls it off: before the start, and while it is going on.

use lockkeeper::api::{Phase, Promotion};
use serde_json::json;

use super::{
    cluster::eventually,
    outcome::{self, Before},
    users::Users,
    world::{ALICE, BOB, PATIENCE, World},
};

/// Catches: unlock by another run. Another run waits its turn meanwhile and is called off: nothing that is the first one's
/// may be given back with it.
#[test]
fn story_a_promotion_that_is_cancelled_ends_and_leaves_everything_as_it_was() {
    let world = World::new("cancelled", "2-slow");
    let users = Users::of(&world, "early", "*/*", 1);
    let before = Before::of(&world, &users, 1);

    // Before the start: approved, for tomorrow.
    let mut later = world.promotion("early");
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    later.spec.schedule = serde_json::from_value(json!({"notBefore": tomorrow.to_string()})).ok();
    world.ask(&later);
    world.approve("early");
    world.reaches("early", &[Phase::Validated]);
    cancel(&world, BOB, "early", "not this week");
    let run = world.reaches("early", &[Phase::Cancelled]);
    outcome::untouched(&world, &run, &before, &users.heard());
    let failure = run.status.and_then(|s| s.failure).expect("a reason");
    assert!(failure.message.contains("bob cancelled: not this week"), "{failure:?}");

    // While Promoting: half of the migration is committed by then.
    let first = 10_000_001;
    let mut users = Users::of(&world, "late", "*/*", first);
    let before = Before::of(&world, &users, first);
    world.ask(&world.promotion("late"));
    world.ask(&world.promotion("queued"));
    world.planned("queued");
    world.approve("late");
    world.reaches("late", &[Phase::BackingUp]);
    world.approve("queued");
    world.record.until(("Promotion", "queued"), "it says behind whom it waits", PATIENCE, |seen| {
        let next = seen.read::<Promotion>().status?.next?;
        (next == "behind Promotion late").then_some(())
    });
    world.begins("late", "page");
    users.rush();
    world.begins("late", "migration/tiny");
    cancel(&world, ALICE, "queued", "the other one is quicker");
    world.reaches("queued", &[Phase::Cancelled]);
    eventually("half of the migration is committed", PATIENCE, || {
        world.database.query("tiny", "SELECT count(digits) FROM writes").map(drop)
    });
    let held = world.record.environment("production").status.and_then(|s| s.lock).and_then(|l| l.holder).map(|h| h.name);
    assert_eq!(held.as_deref(), Some("late"), "the lock is the first run's");
    cancel(&world, BOB, "late", "the manager is on the phone");
    let run = world.reaches("late", &[Phase::RolledBack]);
    let words = ["bob cancelled: the manager is on the phone"];
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &words));
    outcome::breakdown(&run.status.expect("a status"));
}

fn cancel(world: &World, person: &str, name: &str, reason: &str) {
    let change = json!({"spec": {"cancel": {"username": person, "reason": reason}}});
    let _: Promotion = world.patch(person, name, &change).expect("he may cancel");
}
