//! The agent's verbs on a real PostgreSQL, as an admin role that is no superuser.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "agent_postgres/alignments.rs"]
mod alignments;
#[path = "agent_postgres/away.rs"]
mod away;
#[path = "agent_postgres/backups.rs"]
mod backups;
#[path = "agent_postgres/bad_input.rs"]
mod bad_input;
#[path = "support/bad_input.rs"]
mod bad_input_entries;
#[path = "agent_postgres/full.rs"]
mod full;
#[path = "agent_postgres/killed.rs"]
mod killed;
#[path = "agent_postgres/leaving.rs"]
mod leaving;
#[path = "agent_postgres/own_role.rs"]
mod own_role;
#[path = "agent_postgres/owners.rs"]
mod owners;
#[path = "agent_postgres/pooler.rs"]
mod pooler;
mod postgres;
#[path = "agent_postgres/progress.rs"]
mod progress;
#[path = "agent_postgres/proof.rs"]
mod proof;
#[path = "agent_postgres/restoring.rs"]
mod restoring;
#[path = "agent_postgres/s3.rs"]
mod s3;
#[path = "agent_postgres/undoing.rs"]
mod undoing;
#[path = "agent_postgres/volumes.rs"]
mod volumes;
#[path = "agent_postgres/waiting.rs"]
mod waiting;

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use lockkeeper::{
    agent,
    data::{postgres::quote::ident, repository::Repository, stop},
    manifest::task::{Outcome, exit},
};
use postgres::{RUN, World, files_below, wait_until};
use serde_json::{Value, json};

const OTHER_RUN: &str = "22222222-aaaa-4bbb-8ccc-dddddddddddd";
/// What a broken migration does: it commits half of its work.
const MIGRATION: &str = "ALTER TABLE orders ADD COLUMN half int; DELETE FROM orders WHERE id % 2 = 0; DROP TABLE child";

fn failed(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome.checks.iter().filter(|c| !c.passed).map(|c| (c.name.as_str(), c.message.as_str())).collect()
}

/// Rights of others on tables, which a restore must give back too.
async fn grant_some(world: &World) {
    let reporter = ident(&world.reporter);
    let sql = format!(
        "GRANT SELECT ON orders TO {reporter}; GRANT USAGE ON SCHEMA \"Odd \"\"one\" TO {reporter}; REVOKE ALL ON parted FROM PUBLIC"
    );
    world.as_app().await.batch_execute(&sql).await.unwrap();
}

/// The lines of a dump. A constraint that PostgreSQL reads back in another spelling than it was given is left out.
fn alike(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.contains("CONSTRAINT orders_status_check")).collect()
}

#[tokio::test]
async fn a_server_that_takes_only_tls_is_worked_on_and_is_verified_where_a_ca_is_given() {
    let world = World::new("tls").await;
    let boss = world.server.boss("postgres").await;
    let _ = boss.batch_execute("CREATE ROLE tls_only").await;
    boss.batch_execute(&format!("GRANT tls_only TO {}, {}", ident(&world.app), ident(&world.admin))).await.unwrap();
    let secrets = |mode: &str, ca: Option<&std::path::Path>| {
        for (which, role) in [("connection", &world.app), ("admin", &world.admin)] {
            world.secret("store", which, role, &world.database);
            let directory = world.paths.secrets.join("store").join(which);
            let uri = fs::read_to_string(directory.join("uri")).unwrap();
            fs::write(directory.join("uri"), format!("{}{mode}", uri.trim_end())).unwrap();
            let _ = fs::remove_file(directory.join("ca.crt"));
            ca.map(|ca| fs::copy(ca, directory.join("ca.crt")).unwrap());
        }
    };
    let own = world.server.certificate("own");
    let server = own.with_file_name("server.crt");
    let preflight = world.task_with("preflight", json!({"maxTransactionAgeSeconds": 600}));
    for (mode, ca, sentence) in [("?sslmode=disable", None, "no encryption"), ("?sslmode=verify-full", Some(&own), "certificate")]
    {
        secrets(mode, ca.map(|p| p.as_path()));
        let outcome = world.perform(&preflight).await.1;
        let said = format!("{outcome:?}");
        assert!(said.contains(sentence) && !said.contains("p/w"), "{mode}: {said}");
        assert!(!outcome.checks.iter().all(|c| c.passed) || outcome.error.is_some(), "{mode}");
    }
    for (mode, ca) in [("", None), ("?sslmode=require", None), ("?sslmode=verify-full", Some(server.as_path()))] {
        secrets(mode, ca);
        let outcome = world.done(&preflight).await;
        assert!(failed(&outcome).is_empty(), "{mode}: {outcome:?}");
    }
    // The tools that dump and restore go the same way.
    let backup = world.ok("backup", 1).await.backup.unwrap();
    world.done(&world.task_with("prove", json!({"snapshot": backup.snapshot}))).await;
    for verb in ["fence", "undo", "release"] {
        world.ok(verb, 1).await;
    }
}

#[tokio::test]
async fn preflight_names_each_missing_right_and_the_sql_that_mends_it() {
    let world = World::without_rights("Shop \"A\" ").await;
    let boss = world.server.boss("postgres").await;
    let (database, reporter) = (ident(&world.database), ident(&world.reporter));
    boss.batch_execute(&format!(
        "ALTER DATABASE {database} SET log_min_duration_statement = 100; ALTER ROLE {reporter} IN DATABASE {database} SET work_mem = '9MB'"
    ))
    .await
    .unwrap();
    let task = world.task_with("preflight", json!({"maxTransactionAgeSeconds": 600}));
    for round in 0..4 {
        let outcome = world.done(&task).await;
        let failed = failed(&outcome);
        if failed.is_empty() {
            assert!(round > 0, "nothing was missing: {outcome:?}");
            assert_eq!(outcome.control_epoch, Some(0));
            assert!(outcome.checks.len() > 12, "{outcome:?}");
            return;
        }
        for (_, message) in failed {
            for begin in ["GRANT ", "ALTER ROLE "] {
                for statement in message.match_indices(begin).filter_map(|(at, _)| message[at..].split_inclusive(';').next()) {
                    boss.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
                }
            }
        }
    }
    panic!("the SQL of the messages does not mend it");
}

#[tokio::test]
async fn preflight_names_what_stands_in_the_way() {
    let world = World::new("busy").await;
    let boss = world.server.boss(&world.database).await;
    boss.batch_execute(
        "CREATE EXTENSION file_fdw; CREATE PUBLICATION every FOR ALL TABLES; CREATE TABLE bosses (a int); \
         CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
         CREATE EVENT TRIGGER sees ON ddl_command_end EXECUTE FUNCTION e()",
    )
    .await
    .unwrap();
    boss.batch_execute("SELECT pg_create_logical_replication_slot('slot_busy', 'pgoutput')").await.unwrap();
    let app = world.as_app().await;
    app.batch_execute("BEGIN; INSERT INTO parted VALUES (1, 'x'); PREPARE TRANSACTION 'held'").await.unwrap();
    app.batch_execute("BEGIN; SELECT 'n0t sh0wn'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    world.secret("alias", "connection", &world.app, &world.database);
    world.secret("alias", "admin", &world.admin, &world.database);
    let data = json!([{"name": "store"}, {"name": "alias"}, {"name": "none"}]);
    let outcome = world.done(&world.task_with("preflight", json!({"maxTransactionAgeSeconds": 1, "data": data}))).await;
    let all: Vec<String> = failed(&outcome).iter().map(|(n, m)| format!("{n}: {m}")).collect();
    let text = all.join("\n");
    for part in [
        "store: prepared transactions: transaction held",
        "logical slot slot_busy",
        "role postgres (test) is a superuser's session",
        "(test) has been in a transaction for",
        "extension file_fdw",
        "event trigger sees",
        "publication every (FOR ALL TABLES)",
        "public.bosses cannot be read",
        "data store and data alias are one database",
        "none: Secret: Secret data none, connection: it is not mounted",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains("n0t sh0wn"));
    app.batch_execute("ROLLBACK").await.unwrap();
    app.batch_execute("ROLLBACK PREPARED 'held'").await.unwrap();
    boss.batch_execute("SELECT pg_drop_replication_slot('slot_busy')").await.unwrap();
}

#[tokio::test]
async fn a_release_gives_the_database_back_as_found_and_keeps_the_undo_point() {
    let world = World::new("given").await;
    let before = world.server.everything(&world.database).await;
    for (epoch, verbs) in [(1, &["fence"][..]), (2, &["fence", "undo"]), (3, &["fence", "undo", "undo"])] {
        for verb in verbs {
            world.ok(verb, epoch).await;
        }
        let release = world.ok("release", epoch).await;
        assert_eq!(release.aside.len(), usize::from(verbs.len() > 1));
        assert_eq!(world.ok("release", epoch).await.aside, release.aside);
        assert_eq!(world.server.everything(&world.database).await, before);
        assert_eq!(world.state().await, ("free".into(), epoch, None));
        // What comes late from this run is refused.
        let late = world.refused(&world.task("fence", epoch), exit::FENCED, "Fenced").await;
        assert_eq!(late.control_epoch, Some(epoch));
        world.refused(&world.task("rollback", epoch), exit::FENCED, "Fenced").await;
        world.refused(&world.task("undo", epoch), exit::PERMANENT, "WrongState").await;
    }
    assert_eq!(world.databases().await.len(), 2);
    assert_eq!(world.done(&world.task_with("preflight", json!({}))).await.control_epoch, Some(3));
}

#[tokio::test]
async fn a_session_that_came_while_only_the_run_may_work_there_is_ended_and_named() {
    let world = World::new("stranger").await;
    for (epoch, covered, ended) in [(1, json!([]), false), (2, json!(["127.0.0.1"]), false), (3, json!(["10.0.0.9"]), true)] {
        for verb in ["fence", "undo"] {
            world.ok(verb, epoch).await;
        }
        let stranger = world.as_app().await;
        let release = world.done(&world.task_with("release", json!({"epoch": epoch, "coveredAddresses": covered}))).await;
        let named = release.notes.iter().any(|n| n.contains("ended role") && n.contains("at 127.0.0.1, which came while"));
        assert_eq!(named, ended, "{covered}: {release:?}");
        assert_eq!(stranger.query_one("SELECT 1", &[]).await.is_err(), ended, "{covered}");
    }
}

#[tokio::test]
async fn an_older_epoch_and_another_run_are_refused_and_change_nothing() {
    let world = World::new("epochs").await;
    world.ok("fence", 7).await;
    world.ok("undo", 7).await;
    let before = (world.server.everything(&world.database).await, world.databases().await, world.state().await);
    for verb in ["fence", "undo", "release", "rollback"] {
        let older = world.refused(&world.task(verb, 6), exit::FENCED, "Fenced").await;
        assert_eq!(older.control_epoch, Some(7));
        world.refused(&world.task_with(verb, json!({"epoch": 7, "run": OTHER_RUN})), exit::FENCED, "Fenced").await;
        world.refused(&world.task_with(verb, json!({})), exit::PERMANENT, "TaskInvalid").await;
    }
    let after = (world.server.everything(&world.database).await, world.databases().await, world.state().await);
    assert_eq!(before, after);
    // A newer lock takes over what was left, and the found values of the first one count.
    let next = |verb: &str| world.task_with(verb, json!({"epoch": 8, "run": OTHER_RUN}));
    world.done(&next("fence")).await;
    world.refused(&world.task("rollback", 7), exit::FENCED, "Fenced").await;
    world.done(&next("release")).await;
    assert!(world.server.connect(&world.reporter, &world.database).await.is_ok());
}

#[tokio::test]
async fn a_verb_that_was_killed_at_any_statement_is_taken_up_again() {
    let world = World::new("killed").await;
    let before = world.server.everything(&world.database).await;
    let undo = format!("{}__undo_11111111", world.database);
    let boss = world.server.boss("postgres").await;
    world.ok("fence", 1).await;
    // Killed after the database was closed, before it was observed to be empty.
    world.set_state("fencing").await;
    world.refused(&world.task("undo", 1), exit::PERMANENT, "WrongState").await;
    world.ok("fence", 1).await;
    world.ok("fence", 1).await;
    // Killed while cloning: what is there is no undo point.
    boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&undo), ident(&world.app))).await.unwrap();
    world.ok("undo", 1).await;
    // Killed before the database was opened.
    world.set_state("undone").await;
    boss.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&world.database))).await.unwrap();
    let again = world.ok("undo", 1).await;
    assert_eq!((again.aside[0].database.clone(), again.notes.len()), (undo.clone(), 0));
    assert_eq!(world.ok("fence", 1).await.notes, Vec::<String>::new());
    assert_eq!(world.state().await.0, "open");
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    // Killed after it was closed for the rollback, before the swap.
    boss.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&world.database))).await.unwrap();
    world.set_state("rolling-back").await;
    world.refused(&world.task("release", 1), exit::PERMANENT, "WrongState").await;
    world.refused(&world.task("fence", 1), exit::PERMANENT, "WrongState").await;
    let aside = world.ok("rollback", 1).await.aside;
    assert_eq!(world.ok("rollback", 1).await.aside, aside);
    world.refused(&world.task("undo", 1), exit::PERMANENT, "WrongState").await;
    world.ok("release", 1).await;
    world.ok("release", 1).await;
    assert_eq!(world.server.everything(&world.database).await, before);
    let drop = world.task_with("drop", json!({"databases": [{"data": "store", "database": aside[0].database}]}));
    world.done(&drop).await;
    world.done(&drop).await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
}

#[tokio::test]
async fn drop_refuses_what_is_live_needed_or_not_ours_and_forget_leaves_no_control_database() {
    let world = World::new("drops").await;
    world.ok("fence", 1).await;
    let undo = world.ok("undo", 1).await.aside[0].database.clone();
    let drop = |name: &str| world.task_with("drop", json!({"databases": [{"data": "store", "database": name}]}));
    for name in [world.database.as_str(), "postgres", "template1", "other__undo_11111111", undo.as_str(), &world.control()] {
        world.refused(&drop(name), exit::PERMANENT, "Refused").await;
    }
    world.ok("release", 1).await;
    world.refused(&drop(&world.database), exit::PERMANENT, "Refused").await;
    world.done(&drop(&undo)).await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
    world.done(&world.task_with("forget", json!({}))).await;
    world.done(&world.task_with("forget", json!({}))).await;
    assert!(world.server.connect("postgres", &world.control()).await.is_err());
    // Only the admin role could have connected there.
    world.done(&world.task_with("preflight", json!({}))).await;
    assert!(world.server.connect(&world.app, &world.control()).await.is_err());
}

#[tokio::test]
async fn a_signal_ends_what_runs_on_the_server() {
    let world = World::new("stopped").await;
    let app = world.as_app().await;
    app.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let (stopper, stop) = stop::channel();
    let task = world.task("backup", 0);
    let (paths, began) = (world.paths.clone(), Instant::now());
    let running = tokio::spawn(async move { agent::perform(&task, &paths, stop).await });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stopper.stop();
    let (code, outcome) = running.await.unwrap();
    assert_eq!((code, outcome.error.unwrap().reason.as_str()), (exit::RETRYABLE, "Stopped"));
    assert!(began.elapsed() < Duration::from_secs(6));
    let boss = world.server.boss("postgres").await;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'lockkeeper'";
    wait_until(async || boss.query_one(left, &[&world.database]).await.unwrap().get::<_, i64>(0) == 0).await;
    assert!(files_below(&world.paths.scratch).is_empty());
}

#[tokio::test]
async fn the_program_writes_its_outcome_and_ends_with_its_code() {
    let world = World::new("program").await;
    let run = |verb: &str, task: Option<&lockkeeper::manifest::task::Task>| {
        let mut command = world.agent(verb);
        if let Some(task) = task {
            command.env("LOCKKEEPER_TASK", serde_json::to_string(task).unwrap());
        }
        let output = command.output().unwrap();
        let outcome: Outcome = serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap();
        (output.status.code().unwrap(), outcome, String::from_utf8(output.stdout).unwrap())
    };
    let (code, outcome, stdout) = run("backup", Some(&world.task("backup", 0)));
    assert_eq!(code, exit::DONE, "{outcome:?}");
    assert!(stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && !stdout.is_empty(), "{stdout}");
    assert!(outcome.finished_at >= outcome.started_at && outcome.started_at.is_some());
    let (code, outcome, _) = run("fence", Some(&world.task("backup", 0)));
    assert_eq!((code, outcome.error.unwrap().reason.as_str()), (exit::PERMANENT, "TaskInvalid"));
    assert_eq!(run("fence", None).0, exit::PERMANENT);
    assert_eq!(run("fence", Some(&world.task_with("fence", json!({"epoch": 3})))).0, exit::DONE);
    assert_eq!(run("fence", Some(&world.task_with("fence", json!({"epoch": 2})))).0, exit::FENCED);
    assert_eq!(world.state().await, ("fenced".into(), 3, Some(RUN.to_owned())));
}
