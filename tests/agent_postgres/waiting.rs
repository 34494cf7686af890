//! Locks of others that are in the way: for whom it was waited is said, after a time that is bounded.

use std::time::{Duration, Instant};

use lockkeeper::{
    data::{postgres::quote::ident, repository::Repository},
    manifest::task::{Outcome, exit},
};
use serde_json::json;
use tokio_postgres::Client;

use super::postgres::{World, files_below, wait_until};

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

async fn refused_for_a_lock(world: &World, verb: serde_json::Value) -> Outcome {
    let began = Instant::now();
    let task = world.task_with(verb["verb"].as_str().unwrap(), verb.clone());
    let outcome = world.refused(&task, exit::RETRYABLE, "LockWait").await;
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    outcome
}

#[tokio::test]
async fn a_backup_waits_for_a_locked_table_so_long_and_says_for_whom() {
    // One is held for good. In the other someone waits to change a table that another reads.
    let (held, queued) = tokio::join!(World::new("held"), World::new("queued"));
    let migration = held.as_app().await;
    migration
        .batch_execute("SET application_name = 'long migration'; BEGIN; LOCK TABLE orders; SELECT 'n0t sh0wn'")
        .await
        .unwrap();
    let reader = queued.as_app().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM orders").await.unwrap();
    let altering = queued.as_app().await;
    let (holds, reads, alters) = (pid(&migration).await, pid(&reader).await, pid(&altering).await);
    let altered = tokio::spawn(async move { altering.batch_execute("ALTER TABLE orders ADD COLUMN more int").await });
    let boss = queued.server.boss("postgres").await;
    let waits = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1";
    wait_until(async || boss.query_one(waits, &[&alters]).await.unwrap().get::<_, Option<bool>>(0) == Some(true)).await;

    let backup = json!({"verb": "backup"});
    let (first, second) = tokio::join!(refused_for_a_lock(&held, backup.clone()), refused_for_a_lock(&queued, backup));
    let (first, second) = (first.error.unwrap().message, second.error.unwrap().message);
    for part in [
        "data store: ",
        &format!("a lock on table public.orders, behind role {} (long migration), pid {holds}, in its", held.app),
    ] {
        assert!(first.contains(part), "{part} is missing in: {first}");
    }
    assert!(!first.contains("sh0wn"), "{first}");
    assert!(
        second.contains(&format!("pid {alters}")) && second.contains(&format!("which itself waits for pid {reads}")),
        "{second}"
    );
    for world in [&held, &queued] {
        let repository = Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment);
        assert_eq!(repository.unwrap().known().unwrap(), []);
        assert_eq!(files_below(&world.paths.scratch), Vec::<std::path::PathBuf>::new());
    }
    migration.batch_execute("ROLLBACK").await.unwrap();
    reader.batch_execute("ROLLBACK").await.unwrap();
    altered.await.unwrap().unwrap();
    for world in [&held, &queued] {
        world.ok("backup", 0).await;
    }
}

#[tokio::test]
async fn a_swap_waits_for_whoever_has_the_database_locked_and_says_so_and_tables_that_are_locked_hold_up_nobody() {
    let world = World::new("swap_waits").await;
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let rows = world.rows().await;
    let inside = world.as_app().await;
    inside.batch_execute("BEGIN; LOCK TABLE orders; DELETE FROM orders").await.unwrap();
    let fenced = world.ok("fence", 1).await;
    assert!(fenced.notes.iter().any(|n| n.contains(&format!("role {}", world.app))), "{fenced:?}");

    let boss = world.server.boss("postgres").await;
    let comment = format!("BEGIN; COMMENT ON DATABASE {} IS 'n0t sh0wn'", ident(&world.database));
    boss.batch_execute(&comment).await.unwrap();
    let restore = json!({"verb": "restore", "epoch": 1, "snapshot": backup.snapshot});
    let said = refused_for_a_lock(&world, restore.clone()).await.error.unwrap().message;
    let holds = pid(&boss).await;
    assert!(
        said.contains("swapping what was loaded in") && said.contains(&format!("role postgres (test), pid {holds}")),
        "{said}"
    );
    assert!(!said.contains("sh0wn"), "{said}");
    assert_eq!(world.state().await.0, "fenced");

    boss.batch_execute("ROLLBACK").await.unwrap();
    world.done(&world.task_with("restore", restore)).await;
    world.ok("release", 1).await;
    assert_eq!(world.rows().await, rows);
}
