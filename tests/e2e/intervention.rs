//! A rollback that fails: a person is called, and resumes it or gives it up. Broken on purpose: the admin role loses its
//! membership in the database's owner while the migration runs, so that it may no longer rename the databases.

use lockkeeper::api::{Phase, Promotion};
use serde_json::json;

use super::{
    cluster::{eventually, kubectl},
    outcome::{self, Before},
    users::Users,
    world::{ALICE, BOB, PATIENCE, World},
};

/// A run that is cancelled in its migration and cannot be rolled back.
fn stuck(world: &World, users: Option<&mut Users>, name: &str) {
    world.ask(&world.promotion(name));
    world.approve(name);
    world.begins(name, "page");
    if let Some(users) = users {
        users.rush();
    }
    world.begins(name, "migration/tiny");
    eventually("half of the migration is committed", PATIENCE, || {
        world.database.query("tiny", "SELECT count(digits) FROM writes").map(drop)
    });
    world.database.query("postgres", "REVOKE tiny FROM tiny_admin").expect("the right is taken away");
    cancel(world, name);
    let run = world.reaches(name, &[Phase::NeedsHuman]);
    let next = run.status.and_then(|s| s.next).unwrap_or_default();
    assert!(next.contains("the rollback itself failed in rollback-") && next.contains("kubectl lockkeeper resume"), "{next}");
    let lock = world.record.environment("production").status.and_then(|s| s.lock).and_then(|l| l.holder);
    assert_eq!(lock.map(|h| h.name).as_deref(), Some(name), "the lock is held");
}

/// Waits for a phase that follows on NeedsHuman.
fn comes_to(world: &World, name: &str, phase: Phase) -> Promotion {
    world.record.until(("Promotion", name), &format!("it is {phase}"), PATIENCE, |seen| {
        let promotion: Promotion = seen.read();
        (promotion.status.as_ref()?.phase == phase).then_some(promotion)
    })
}

fn cancel(world: &World, name: &str) {
    let change = json!({"spec": {"cancel": {"username": BOB, "reason": "no"}}});
    let _: Promotion = world.patch(BOB, name, &change).expect("bob may cancel");
}

fn intervene(world: &World, person: &str, name: &str, action: &str) -> Result<Promotion, kube::Error> {
    world.patch(person, name, &json!({"spec": {"intervention": {"action": action, "username": person, "reason": "mended"}}}))
}

#[test]
fn story_a_rollback_that_failed_is_resumed_once_its_cause_is_mended_and_puts_everything_back() {
    let world = World::new("resume", "2-slow");
    let mut users = Users::of(&world, "resume", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    stuck(&world, Some(&mut users), "stuck");
    world.database.query("postgres", "GRANT tiny TO tiny_admin").expect("the right is given back");
    intervene(&world, ALICE, "stuck", "Resume").expect_err("who asked may not by that alone");
    intervene(&world, BOB, "stuck", "Resume").expect("who may cancel may resume");
    let run = comes_to(&world, "stuck", Phase::RolledBack);
    assert_eq!(run.status.as_ref().and_then(|s| s.intervention.clone()).map(|i| i.username).as_deref(), Some(BOB));
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &["bob cancelled: no"]));
}

#[test]
fn story_a_rollback_that_is_given_up_lists_what_is_left_and_by_that_list_a_person_puts_it_right() {
    let world = World::new("unlock", "2-slow");
    let rows = world.database.query("tiny", "SELECT count(*) FROM writes").expect("rows");
    let images = world.digests(&world.production);
    stuck(&world, None, "stuck");
    intervene(&world, BOB, "stuck", "Unlock").expect_err("the verb unlock is not an approver's");
    kubectl(&["-n", &world.production, "create", "rolebinding", "olga", "--clusterrole=lockkeeper-owner", "--user=olga"])
        .expect("olga is the owner");
    eventually("olga may unlock", PATIENCE, || intervene(&world, "olga", "stuck", "Unlock").map(drop).map_err(|e| e.to_string()));
    let run = comes_to(&world, "stuck", Phase::Abandoned);
    let status = run.status.clone().expect("a status");
    let left = status.intervention.expect("it is recorded").left;
    println!("left:\n{}", left.join("\n"));
    let environment = world.record.environment("production").status.expect("a status");
    assert_eq!((environment.active, environment.lock.and_then(|l| l.holder)), (None, None), "lock and slot are free");
    let undo = &status.undo[0].database;
    assert!(
        left.iter().any(|l| l.contains(undo)) && left.iter().any(|l| l.starts_with("Deployment tiny is stopped")),
        "{left:?}"
    );
    let events = kubectl(&[
        "-n",
        &world.production,
        "get",
        "events",
        "--field-selector=reason=Abandoned",
        "-o",
        "jsonpath={.items[*].message}",
    ]);
    assert!(events.as_ref().is_ok_and(|e| e.contains(undo)), "{events:?}");
    let pages = kubectl(&["-n", &world.production, "get", "deployments", "-l", "lockkeeper.dev/run", "-o", "name"]);
    assert_eq!(pages.as_deref(), Ok(""), "the page is gone");
    assert!(world.database.made().contains(undo), "the undo point is there");

    // By hand, as README.md says.
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('tiny', '{undo}'); ALTER DATABASE tiny RENAME TO tiny_failed"
    );
    eventually("the failed database is put aside", PATIENCE, || {
        for statement in sql.split("; ") {
            world.database.query("postgres", statement)?;
        }
        Ok(())
    });
    for statement in [
        format!("ALTER DATABASE \"{undo}\" RENAME TO tiny"),
        "ALTER DATABASE tiny ALLOW_CONNECTIONS true".into(),
        "GRANT CONNECT ON DATABASE tiny TO PUBLIC".into(),
        "GRANT tiny TO tiny_admin".into(),
    ] {
        world.database.query("postgres", &statement).expect("the owner of the server may");
    }
    let deployment = serde_json::to_value(&status.prior).expect("the prior release");
    let image = deployment["modules"][0]["workloads"][0]["containers"][0]["image"].as_str().expect("an image").to_owned();
    let namespace = world.production.as_str();
    for command in [
        vec!["-n", namespace, "set", "image", "deployment/tiny", &format!("*={image}")],
        vec!["-n", namespace, "scale", "deployment", "tiny", "--replicas=1"],
        vec!["-n", namespace, "annotate", "deployment", "tiny", "lockkeeper.dev/found-"],
        vec!["-n", namespace, "rollout", "status", "deployment/tiny", "--timeout=120s"],
    ] {
        kubectl(&command).expect("a person puts it right");
    }
    assert_eq!(world.digests(namespace), images);
    let now = world.database.query("tiny", "SELECT count(*) FROM writes").expect("rows");
    assert!(now.parse::<i64>().ok() >= rows.parse::<i64>().ok(), "{now} rows, {rows} before");

    // And the environment serves again: the next run brings the release.
    world.patch(ALICE, "stuck", &json!({"metadata": {"labels": {"put": "right"}}})).expect("records may be labelled");
    kubectl(&["-n", namespace, "delete", "promotion", "stuck", "--timeout=60s"]).expect("the record goes, and its copies");
    let copies = kubectl(&["-n", namespace, "get", "configmaps", "-l", "lockkeeper.dev/run", "-o", "name"]);
    assert_eq!(copies.as_deref(), Ok(""));
    world.ask(&world.promotion("again"));
    world.planned("again");
}
