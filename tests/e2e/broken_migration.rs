//! (b) A migration commits half of its work, spoils files, and fails.

use lockkeeper::api::Phase;

use super::{
    files::Files,
    outcome::{self, Before},
    users::Users,
    world::World,
};

/// Catches: rollback forgets configuration.
#[test]
fn story_a_migration_that_fails_half_way_is_undone_data_included() {
    let mut world = World::new("broken", "2-broken");
    let files = Files::of(&mut world);
    let (world, uploaded) = (world, files.listing());
    let mut users = Users::of(&world, "broken", "application/json", 1);
    let before = Before::of(&world, &users, 1);

    world.ask(&world.promotion("broken"));
    world.approve("broken");
    world.begins("broken", "page");
    users.rush();
    let run = world.reaches("broken", &[Phase::RolledBack]);
    let testimony = users.heard();

    outcome::as_before(
        &world,
        &run,
        &before,
        &testimony,
        ("migration/tiny", &["half of the writes and the column note are gone"]),
    );
    let pages = testimony.answers.iter().filter(|a| a.status == 503);
    assert!(pages.clone().all(|a| a.content_type.starts_with("application/json")), "programs get JSON");

    // The failed database is kept aside, where one can see what the migration did: it is the evidence.
    let status = run.status.expect("a status");
    assert_eq!(status.failure.map(|f| f.reason).as_deref(), Some("MigrationFailed"));
    assert_eq!(files.listing(), uploaded, "every file is what it was when users were locked out, and none came since");
    let [aside] = &status.undo[..] else { panic!("one database is aside: {:?}", status.undo) };
    assert!(aside.until.is_some(), "and it says until when: {aside:?}");
    let even = world.database.query(&aside.database, "SELECT count(*) FROM writes WHERE n % 2 = 0").expect("it can be read");
    assert_eq!(even.trim(), "0", "it is the one in which the migration ran");
    let uid = run.metadata.uid.unwrap_or_default();
    world.database.log().assert_order(&uid, "ALTER TABLE writes DROP COLUMN note");
}
