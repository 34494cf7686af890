//! A Promotion is deleted while it is going on.

use kube::api::DeleteParams;
use lockkeeper::api::{Phase, Promotion};

use super::{
    cluster::{eventually, wait},
    outcome::{self, Before},
    users::Users,
    world::{ALICE, PATIENCE, World},
};

#[test]
fn story_a_promotion_that_is_deleted_while_promoting_puts_everything_back_and_then_goes() {
    let world = World::new("deleted", "2-slow");
    let mut users = Users::of(&world, "deleted", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("deleted"));
    world.approve("deleted");
    world.begins("deleted", "page");
    users.rush();
    world.begins("deleted", "migration/tiny");
    eventually("half of the migration is committed", PATIENCE, || {
        world.database.query("tiny", "SELECT count(digits) FROM writes").map(drop)
    });
    let promotions = world.api::<Promotion>(Some(ALICE));
    wait(promotions.delete("deleted", &DeleteParams::background())).expect("alice may delete what she asked for");
    let gone = world.record.until(("Promotion", "deleted"), "it goes, its finalizer taken away", PATIENCE, |seen| {
        seen.gone.then(|| seen.read::<Promotion>())
    });
    let testimony = users.heard();
    assert_eq!(gone.status.as_ref().map(|s| s.phase), Some(Phase::RolledBack), "it went only after everything was back");
    outcome::as_before(&world, &gone, &before, &testimony, ("migration/tiny", &["deleted while it held the lock"]));
}
