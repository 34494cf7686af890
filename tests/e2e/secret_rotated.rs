//! (n) Passwords change while a run is at work: the admin role's during the backup, both roles' during the migration. What
//! starts afterwards reads the new Secrets; what had been started ahead of its turn is started again.

use lockkeeper::api::Phase;
use serde_json::json;

use super::{
    cluster::kubectl,
    outcome::{self, Before},
    pods::half_is_committed,
    users::Users,
    world::World,
};

/// Another password for a role, on the server and in its Secret.
fn rotate(world: &World, role: &str, secret: &str, password: &str) {
    world.database.query("postgres", &format!("ALTER ROLE {role} PASSWORD '{password}'")).expect("the server knows it");
    let change = json!({"stringData": {"password": password}}).to_string();
    kubectl(&["-n", &world.production, "patch", "secret", secret, "--type=merge", "-p", &change]).expect("the Secret says it");
}

#[test]
fn story_passwords_that_change_in_the_middle_of_a_run_do_not_stop_it() {
    let world = World::new("rotated", "2-slow");
    let mut users = Users::of(&world, "rotated", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("rotated"));
    world.approve("rotated");
    world.begins("rotated", "backup");
    rotate(&world, "tiny_admin", "tiny-db-admin", "second-of-a-story");
    world.begins("rotated", "page");
    users.rush();
    world.begins("rotated", "migration/tiny");
    // A pod that has begun and not connected yet would have the password of before.
    half_is_committed(&world);
    rotate(&world, "tiny_admin", "tiny-db-admin", "third-of-a-story");
    rotate(&world, "tiny", "tiny-db", "other-of-a-story");
    let run = world.reaches("rotated", &[Phase::Completed]);
    outcome::completed(&world, &run, &before, &users.heard());
    let steps = run.status.expect("a status").steps;
    let again: Vec<String> = steps.iter().filter(|s| s.attempt > 0).map(|s| format!("{} ({})", s.name, s.attempt)).collect();
    println!("tried again: {}", again.join(", "));
}
