//! (l) The database server crashes while an environment is locked, and comes back: in the migration, and at the fence.

use lockkeeper::api::Phase;

use super::{
    cluster::{eventually, kubectl},
    outcome::{self, Before},
    users::Users,
    world::{PATIENCE, World},
};

/// Ends the server at once, as a crash would; its container starts again on the same files.
fn crash(world: &World) {
    let begun = "SELECT pg_postmaster_start_time()";
    let before = world.database.query("postgres", begun).expect("the server runs");
    // The connection goes with the server: what kubectl says of that is of no interest.
    let _ = kubectl(&["-n", &world.production, "exec", "deployment/postgres", "--", "sh", "-c", "kill -QUIT 1"]);
    let namespace = world.production.clone();
    let database = world.database.clone();
    std::thread::spawn(move || {
        eventually(&format!("the server of {namespace} is back"), PATIENCE, || match database.query("postgres", begun) {
            Ok(now) if now != before => Ok(()),
            other => Err(format!("{other:?}")),
        });
    })
    .join()
    .expect("it comes back");
}

#[test]
fn story_a_database_server_that_crashes_while_locked_loses_nothing_and_no_page_stays() {
    let world = World::new("restarted", "2-slow");
    let mut users = Users::of(&world, "migrating", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("migrating"));
    world.approve("migrating");
    world.begins("migrating", "page");
    users.rush();
    world.begins("migrating", "migration/tiny");
    eventually("half of the migration is committed", PATIENCE, || {
        world.database.query("tiny", "SELECT count(digits) FROM writes").map(drop)
    });
    crash(&world);
    let run = world.reaches("migrating", &[Phase::RolledBack]);
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &["ended with exit code 1"]));

    let first = 10_000_001;
    let mut users = Users::of(&world, "fencing", "*/*", first);
    let before = Before::of(&world, &users, first);
    world.ask(&world.promotion("fencing"));
    world.approve("fencing");
    world.begins("fencing", "page");
    users.rush();
    world.begins("fencing", "fence");
    crash(&world);
    // Mostly the fence waits for the server. Where the machine was slow the crash has met the migration.
    let run = world.reaches("fencing", &[Phase::Completed, Phase::RolledBack]);
    let status = run.status.clone().expect("a status");
    println!("crashed at the fence: {}", status.phase);
    match status.phase {
        Phase::Completed => outcome::completed(&world, &run, &before, &users.heard()),
        _ => outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &[])),
    }
}
