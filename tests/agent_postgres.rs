//! The agent's verbs on a real PostgreSQL, as an admin role that is no superuser.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "agent_postgres/alignments.rs"]
mod alignments;
#[path = "agent_postgres/away.rs"]
mod away;
#[path = "agent_postgres/bad_input.rs"]
mod bad_input;
#[path = "support/bad_input.rs"]
mod bad_input_entries;
#[path = "agent_postgres/leaving.rs"]
mod leaving;
#[path = "agent_postgres/own_role.rs"]
mod own_role;
mod postgres;
#[path = "agent_postgres/progress.rs"]
mod progress;
#[path = "agent_postgres/proof.rs"]
mod proof;
#[path = "agent_postgres/s3.rs"]
mod s3;
#[path = "agent_postgres/volumes.rs"]
mod volumes;

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
async fn a_backup_is_proven_by_a_restore_and_made_once() {
    let world = World::new("kept").await;
    // Users go on working meanwhile.
    let going = Arc::new(AtomicBool::new(true));
    let (app, on) = (world.as_app().await, going.clone());
    let writer = tokio::spawn(async move {
        while on.load(Ordering::SeqCst) {
            app.batch_execute("INSERT INTO orders (customer, amount) VALUES ('x', 1); SELECT nextval('used')").await.unwrap();
        }
    });
    let first = world.ok("backup", 0).await.backup.unwrap();
    going.store(false, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(first.rows >= 2000 && first.stored_bytes > 0 && first.contents[0].tables == 8, "{first:?}");
    let second = world.ok("backup", 0).await.backup.unwrap();
    assert_eq!((second.snapshot.as_str(), second.contents), (first.snapshot.as_str(), first.contents));
    let prove = world.task_with("prove", json!({"snapshot": first.snapshot}));
    let notes = world.done(&prove).await.notes.join("\n");
    assert!(notes.contains("restored and compared 8 tables"), "{notes}");
    world.done(&prove).await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
    assert!(files_below(&world.paths.scratch).is_empty());
    // Nothing of it is readable without the password.
    for file in files_below(&world.paths.repository) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(8).any(|w| w == b"Customer"), "{file:?}");
    }
    let foreign = json!({"environment": "ffffffff-0000-0000-0000-000000000000", "snapshot": first.snapshot});
    world.refused(&world.task_with("prove", foreign.clone()), exit::PERMANENT, "RepositoryForeign").await;
    world.refused(&world.task_with("backup", foreign), exit::PERMANENT, "RepositoryForeign").await;
}

#[tokio::test]
async fn a_proof_catches_a_backup_that_is_not_what_it_says() {
    let world = World::new("proof").await;
    let snapshot = world.ok("backup", 0).await.backup.unwrap().snapshot;
    let out = world.directory.path().join("out");
    let repository = Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment).unwrap();
    repository.restore(&snapshot, &out).unwrap();
    let path = out.join("store/manifest.json");
    let honest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (run, pointer, value, part) in [
        ("r1", "/content/tables/0/rows", json!(1), "has 3 rows instead of 1"),
        ("r2", "/content/tables/3/checksum", json!("1"), "table public.orders has other values"),
        ("r3", "/content/sequences/0/before", json!(99), "stands elsewhere"),
        ("r4", "/content/objects/relation public.orders", json!("x"), "relation public.orders is defined otherwise"),
    ] {
        let mut forged = honest.clone();
        *forged.pointer_mut(pointer).unwrap() = value.clone();
        if pointer.ends_with("before") {
            *forged.pointer_mut("/content/sequences/0/after").unwrap() = value;
        }
        fs::write(&path, serde_json::to_vec(&forged).unwrap()).unwrap();
        let stored = repository.store(&out, run, "shop/production", None).unwrap();
        let task = world.task_with("prove", json!({"snapshot": stored.snapshot}));
        let error = world.refused(&task, exit::PERMANENT, "ProofFailed").await.error.unwrap();
        assert!(error.message.contains(part), "{}", error.message);
    }
    for pack in files_below(&world.paths.repository.join("data")) {
        let mut bytes = fs::read(&pack).unwrap();
        bytes[40] ^= 1;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    let task = world.task_with("prove", json!({"snapshot": snapshot}));
    world.refused(&task, exit::PERMANENT, "RepositoryDamaged").await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
    assert!(files_below(&world.paths.scratch).is_empty());
}

#[tokio::test]
async fn a_rollback_gives_back_every_acknowledged_row_and_everything_beside_the_rows() {
    let world = World::new("shop \"Ä\" a very long name of a database, nearly too ").await;
    let acknowledged = Arc::new(AtomicI64::new(0));
    let (app, count) = (world.as_app().await, acknowledged.clone());
    let writer = tokio::spawn(async move {
        while app.execute("INSERT INTO orders (customer, amount) VALUES ('w', 1)", &[]).await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let settings = world.server.everything(&world.database).await.lines().last().unwrap().to_owned();
    world.done(&world.task_with("preflight", json!({}))).await;
    while acknowledged.load(Ordering::SeqCst) < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let fence = world.ok("fence", 1).await;
    writer.await.unwrap();
    assert!(fence.notes.iter().any(|n| n.contains("ended 1 ×") && n.contains("App")), "{:?}", fence.notes);
    for role in [&world.app, &world.reporter, &world.admin] {
        assert!(world.server.connect(role, &world.database).await.is_err(), "{role} got in");
    }
    let undo = world.ok("undo", 1).await;
    assert_eq!((undo.aside.len(), undo.aside[0].data.as_str(), undo.aside[0].method.as_str()), (1, "store", "Clone"));
    let text = world.server.connect(&world.reporter, &world.database).await.unwrap_err();
    assert!(text.as_db_error().unwrap().message().contains("permission denied"));
    assert_eq!(world.rows().await, 2000 + acknowledged.load(Ordering::SeqCst));
    let before = world.server.everything(&world.database).await;
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    let (name, app) = (ident(&world.database), ident(&world.app));
    let role_settings = format!(
        "ALTER DATABASE {name} SET work_mem = '1MB'; ALTER DATABASE {name} RESET statement_timeout; \
        ALTER ROLE {app} IN DATABASE {name} RESET ALL; COMMENT ON DATABASE {name} IS 'changed'; ALTER DATABASE {name} CONNECTION LIMIT 3"
    );
    world.as_app().await.batch_execute(&role_settings).await.unwrap();
    let stays = world.as_app().await;

    let rollback = world.ok("rollback", 1).await;
    assert!(stays.query("SELECT 1", &[]).await.is_err());
    let text = world.server.connect(&world.reporter, &world.database).await.unwrap_err();
    assert!(text.as_db_error().unwrap().message().contains("permission denied"));
    let release = world.ok("release", 1).await;
    assert!(release.aside.is_empty());
    let after = world.server.everything(&world.database).await;
    let rows =
        |text: &str| text.lines().rev().skip(1).map(str::to_owned).filter(|l| !l.contains(" DATABASE ")).collect::<Vec<_>>();
    assert_eq!(rows(&after), rows(&before));
    assert_eq!(after.lines().last().unwrap(), settings);
    assert_eq!(world.rows().await, 2000 + acknowledged.load(Ordering::SeqCst));

    // What was written after the lock can still be read, by the admin role alone.
    let aside = &rollback.aside[0].database;
    assert!(aside.len() <= 63 && aside.contains("__failed_11111111"), "{aside}");
    let failed = world.server.connect(&world.admin, aside).await.unwrap();
    assert!(failed.query("SELECT half FROM public.orders", &[]).await.is_ok());
    for role in [&world.app, &world.reporter] {
        assert!(world.server.connect(role, aside).await.is_err(), "{role} got in");
    }
    assert_eq!(world.databases().await.len(), 1 + usize::from(aside.starts_with(&world.database)));
    world.done(&world.task_with("drop", json!({"databases": [{"data": "store", "database": aside}]}))).await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
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
async fn a_rollback_before_anything_changed_leaves_the_database_as_it_is() {
    let world = World::new("early").await;
    let before = world.server.everything(&world.database).await;
    world.ok("rollback", 1).await;
    world.ok("release", 1).await;
    world.ok("fence", 2).await;
    assert!(world.ok("rollback", 2).await.aside.is_empty());
    world.ok("rollback", 2).await;
    world.ok("release", 2).await;
    assert_eq!(world.server.everything(&world.database).await, before);
    assert_eq!(world.databases().await.len(), 1);
}

#[tokio::test]
async fn a_rollback_without_its_undo_point_changes_nothing() {
    let world = World::new("lost").await;
    world.ok("fence", 1).await;
    let undo = world.ok("undo", 1).await.aside[0].database.clone();
    let boss = world.server.boss("postgres").await;
    boss.batch_execute(&format!("DROP DATABASE {}", ident(&undo))).await.unwrap();
    let before = (world.server.everything(&world.database).await, world.state().await);
    let error = world.refused(&world.task("rollback", 1), exit::PERMANENT, "UndoPointMissing").await.error.unwrap();
    assert!(error.message.contains(&undo), "{}", error.message);
    assert_eq!((world.server.everything(&world.database).await, world.state().await), before);
}

#[tokio::test]
async fn a_rollback_works_when_the_migration_dropped_the_database_itself() {
    let world = World::new("gone").await;
    world.ok("fence", 1).await;
    world.ok("undo", 1).await;
    let boss = world.server.boss("postgres").await;
    boss.batch_execute(&format!("DROP DATABASE {}", ident(&world.database))).await.unwrap();
    world.ok("rollback", 1).await;
    world.ok("release", 1).await;
    assert_eq!(world.rows().await, 2000);
}

#[tokio::test]
async fn two_data_are_all_fenced_and_all_cloned_before_either_opens_and_undone_as_one() {
    let world = World::new("two").await;
    let boss = world.server.boss("postgres").await;
    let second = format!("second {}", world.database);
    boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&second), ident(&world.app))).await.unwrap();
    world.secret("media", "connection", &world.app, &second);
    world.secret("media", "admin", &world.admin, &second);
    let task = |verb: &str| world.task_with(verb, json!({"epoch": 1, "data": [{"name": "store"}, {"name": "media"}]}));
    let backup = world.done(&task("backup")).await.backup.unwrap();
    assert_eq!(backup.contents.len(), 2);
    let mut prove = task("prove");
    prove.snapshot = Some(backup.snapshot);
    world.done(&prove).await;
    world.done(&task("fence")).await;
    // The second cannot be cloned: a name is in the way, and does not belong to the admin role.
    let blocked = format!("{second}__undo_11111111");
    boss.batch_execute(&format!("CREATE DATABASE {}", ident(&blocked))).await.unwrap();
    let (code, outcome) = world.perform(&task("undo")).await;
    assert_ne!(code, exit::DONE);
    assert_eq!(outcome.aside.len(), 1);
    for database in [&world.database, &second] {
        assert!(world.server.connect(&world.app, database).await.is_err(), "{database} is open");
    }
    boss.batch_execute(&format!("DROP DATABASE {}", ident(&blocked))).await.unwrap();
    assert_eq!(world.done(&task("undo")).await.aside.len(), 2);
    for database in [&world.database, &second] {
        let app = world.server.connect(&world.app, database).await.unwrap();
        app.batch_execute("CREATE TABLE after_the_lock (id int)").await.unwrap();
    }
    // They are undone as one: while an undo point is missing, neither is touched.
    let hidden = format!("{second} hidden");
    boss.batch_execute(&format!("ALTER DATABASE {} RENAME TO {}", ident(&blocked), ident(&hidden))).await.unwrap();
    let (code, _) = world.perform(&task("rollback")).await;
    assert_ne!(code, exit::DONE);
    let written = "SELECT count(*) FROM pg_class WHERE relname = 'after_the_lock'";
    for database in [&world.database, &second] {
        let app = world.server.connect(&world.app, database).await.unwrap();
        assert_eq!(app.query_one(written, &[]).await.unwrap().get::<_, i64>(0), 1, "{database} was touched");
    }
    boss.batch_execute(&format!("ALTER DATABASE {} RENAME TO {}", ident(&hidden), ident(&blocked))).await.unwrap();
    assert_eq!(world.done(&task("rollback")).await.aside.len(), 2);
    for database in [&world.database, &second] {
        let app = world.server.connect(&world.app, database).await.unwrap();
        assert_eq!(app.query_one(written, &[]).await.unwrap().get::<_, i64>(0), 0, "{database} is not what it was");
    }
    world.done(&task("release")).await;
    for database in [&world.database, &second] {
        assert!(world.server.connect(&world.app, database).await.is_ok(), "{database} is closed");
    }
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

// ------------------------------------------------------------------------------------------------ putting data back

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
async fn a_backup_is_put_back_with_all_that_it_had_and_today_is_kept() {
    let world = World::new("back \"Ä\" ").await;
    grant_some(&world).await;
    let backup = world.ok("backup", 0).await.backup.unwrap();
    assert!(backup.taken_at.is_some());
    let then = world.server.everything(&world.database).await;
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    let today = world.server.everything(&world.database).await;
    // A restore is looked at first, by the beginning of its id.
    let looked = world.done(&world.task_with("preflight", json!({"snapshot": backup.snapshot[..10]}))).await;
    assert_eq!(failed(&looked), []);
    assert_eq!(looked.backup.as_ref().map(|b| (&b.snapshot, b.taken_at)), Some((&backup.snapshot, backup.taken_at)));
    let missing = world.done(&world.task_with("preflight", json!({"snapshot": "0123456789"}))).await;
    assert!(failed(&missing).iter().any(|(n, m)| *n == "snapshot" && m.contains("is not in it")), "{missing:?}");

    let restore = world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}));
    world.refused(&restore, exit::PERMANENT, "WrongState").await;
    world.ok("fence", 1).await;
    let done = world.done(&restore).await;
    assert_eq!(world.done(&restore).await.aside, done.aside, "done twice is done once");
    assert!(world.server.connect(&world.reporter, &world.database).await.is_err(), "users are still locked out");
    assert_eq!(world.rows().await, 2000);
    let released = world.ok("release", 1).await;
    assert_eq!(released.aside[0].database, done.aside[0].database);
    assert_eq!(alike(&world.server.everything(&world.database).await), alike(&then));
    assert_eq!(world.databases().await.len(), 2, "live, and today's aside: {:?}", world.databases().await);

    // The restore itself is undone: what it put aside becomes live again, by name alone.
    let aside = json!([{"data": "store", "database": done.aside[0].database}]);
    let other = |verb: &str, more: Value| {
        let mut task = world.task_with(verb, json!({"epoch": 2, "run": OTHER_RUN}));
        task.databases = serde_json::from_value(more).unwrap();
        task
    };
    world.done(&other("fence", json!([]))).await;
    world.done(&other("restore", aside)).await;
    world.done(&other("release", json!([]))).await;
    assert_eq!(world.server.everything(&world.database).await, today);
}

#[tokio::test]
async fn a_restore_that_is_rolled_back_or_never_came_so_far_leaves_today_as_it_was() {
    let world = World::new("today").await;
    let backup = world.ok("backup", 0).await.backup.unwrap();
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    let today = world.server.everything(&world.database).await;
    world.ok("fence", 1).await;
    world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}))).await;
    let rolled_back = world.ok("rollback", 1).await;
    world.ok("release", 1).await;
    assert_eq!(world.server.everything(&world.database).await, today);
    assert!(rolled_back.aside[0].database.contains("__failed_"), "{rolled_back:?}");

    // A snapshot that cannot be read: nothing is swapped, and nothing is left beside.
    world.ok("fence", 2).await;
    for file in files_below(&world.paths.repository.join("data")) {
        let mut bytes = fs::read(&file).unwrap();
        bytes[30] ^= 1;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&file, bytes).unwrap();
    }
    let broken = world.task_with("restore", json!({"epoch": 2, "snapshot": backup.snapshot}));
    world.refused(&broken, exit::PERMANENT, "RepositoryDamaged").await;
    world.ok("rollback", 2).await;
    world.ok("release", 2).await;
    assert_eq!(world.server.everything(&world.database).await, today);
    assert!(!world.databases().await.iter().any(|d| d.contains("__load_")), "{:?}", world.databases().await);
}

#[tokio::test]
async fn a_database_aside_that_was_taken_in_vain_is_aside_again_under_its_name() {
    let world = World::new("again").await;
    for verb in ["fence", "undo"] {
        world.ok(verb, 1).await;
    }
    let aside = world.ok("release", 1).await.aside[0].database.clone();
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    let today = world.server.everything(&world.database).await;
    let databases = json!([{"data": "store", "database": aside}]);
    let of_other = |verb: &str, epoch: i64, databases: &Value| {
        world.task_with(verb, json!({"epoch": epoch, "run": OTHER_RUN, "databases": databases}))
    };
    for (epoch, swapped) in [(2, false), (3, true)] {
        world.done(&of_other("fence", epoch, &json!([]))).await;
        if swapped {
            world.done(&of_other("restore", epoch, &databases)).await;
        }
        let back = world.done(&of_other("rollback", epoch, &databases)).await;
        assert!(back.aside.iter().all(|a| a.database == aside), "{back:?}");
        world.done(&of_other("release", epoch, &json!([]))).await;
        assert_eq!(world.server.everything(&world.database).await, today, "today is as it was");
        assert_eq!(world.databases().await, [world.database.clone(), aside.clone()], "swapped: {swapped}");
        assert!(world.server.connect(&world.app, &aside).await.is_err(), "nobody works in it");
    }
    // Asked for once more, it comes.
    for (verb, databases) in [("fence", json!([])), ("restore", databases), ("release", json!([]))] {
        world.done(&of_other(verb, 4, &databases)).await;
    }
    assert_eq!(world.rows().await, 2000);
}

#[tokio::test]
async fn where_the_live_database_is_lost_the_statement_that_is_told_makes_room_for_the_restore() {
    let world = World::new("lost").await;
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let boss = world.server.boss("postgres").await;
    boss.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", ident(&world.database))).await.unwrap();
    let task = world.task_with("preflight", json!({"snapshot": backup.snapshot}));
    let looked = world.done(&task).await;
    let failures = failed(&looked);
    let (_, message) = failures.iter().find(|(name, _)| *name == "store: database").unwrap_or_else(|| panic!("{looked:?}"));
    let statement = &message[message.find("CREATE DATABASE").expect(message)..];
    boss.batch_execute(statement).await.unwrap();
    assert_eq!(failed(&world.done(&task).await), []);
    world.ok("fence", 1).await;
    world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}))).await;
    world.ok("release", 1).await;
    assert_eq!(world.rows().await, 2000);
}

#[tokio::test]
async fn another_environments_snapshot_is_refused() {
    let world = World::new("mine").await;
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let before = world.server.everything(&world.database).await;
    world.ok("fence", 1).await;
    let mut task = world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}));
    let own = std::mem::replace(&mut task.environment, format!("ffff{}", &world.environment[4..]));
    world
        .perform(&{
            let mut fence = world.task("fence", 1);
            fence.environment = task.environment.clone();
            fence
        })
        .await;
    world.refused(&task, exit::PERMANENT, "RepositoryForeign").await;
    task.environment = own;
    for verb in ["rollback", "release"] {
        world.ok(verb, 1).await;
    }
    assert_eq!(world.server.everything(&world.database).await, before);
}

#[tokio::test]
async fn undo_by_backup_takes_a_second_backup_behind_the_fence_and_gives_everything_back() {
    let world = World::new("slow").await;
    grant_some(&world).await;
    world.ok("backup", 0).await;
    let before = world.server.everything(&world.database).await;
    let by_backup = |verb: &str, epoch: i64, repository: bool| {
        let data = json!([{"name": "store", "undo": "Backup"}]);
        world.task_with(verb, json!({"epoch": epoch, "data": data, "repository": repository, "then": null}))
    };
    let looked = world.done(&by_backup("preflight", 1, true)).await;
    let said = looked.checks.iter().find(|c| c.name == "store: undo point").unwrap();
    assert!(said.passed && said.message.contains("a second backup under the lock, because undo.method says so"), "{said:?}");

    world.done(&by_backup("fence", 1, false)).await;
    // A pod without the repository leaves it to one that has it.
    assert_eq!(world.done(&by_backup("undo", 1, false)).await.aside, []);
    assert!(world.as_app_is_out().await, "it is not open before there is an undo point");
    let undo = world.done(&by_backup("undo", 1, true)).await;
    assert_eq!((undo.aside[0].method.as_str(), undo.aside[0].database.as_str()), ("Backup", ""));
    assert!(undo.aside[0].snapshot.is_some() && undo.notes.iter().any(|n| n.contains("backed up")), "{undo:?}");
    assert_eq!(world.done(&by_backup("undo", 1, true)).await.aside, undo.aside);
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();

    world.done(&by_backup("rollback", 1, true)).await;
    world.done(&by_backup("release", 1, false)).await;
    assert_eq!(alike(&world.server.everything(&world.database).await), alike(&before));

    // Kept after a good end, and named.
    for verb in ["fence", "undo"] {
        world.done(&by_backup(verb, 2, true)).await;
    }
    assert!(world.done(&by_backup("release", 2, false)).await.aside[0].snapshot.is_some());
}

#[tokio::test]
async fn auto_falls_back_to_a_backup_where_the_server_does_not_clone_and_says_so_before_and_after() {
    let world = World::new("auto").await;
    let boss = world.server.boss("postgres").await;
    boss.execute("UPDATE pg_database SET datcollversion = '0.1' WHERE datname = $1", &[&world.database]).await.unwrap();
    let with = |verb: &str, method: &str| {
        let data = json!([{"name": "store", "undo": method}]);
        world.task_with(verb, json!({"epoch": 1, "data": data}))
    };
    let said = |outcome: &Outcome| outcome.checks.iter().find(|c| c.name == "store: undo point").cloned().unwrap();
    let clone = said(&world.done(&with("preflight", "Clone")).await);
    assert!(!clone.passed && clone.message.contains("REFRESH COLLATION VERSION"), "{clone:?}");
    let auto = said(&world.done(&with("preflight", "Auto")).await);
    assert!(auto.passed && auto.message.contains("a second backup under the lock, because it cannot be cloned"), "{auto:?}");
    world.done(&with("fence", "Auto")).await;
    let undo = world.done(&with("undo", "Auto")).await;
    assert_eq!(undo.aside[0].method, "Backup");
    assert!(undo.notes.iter().any(|n| n.contains("by backup, because it cannot be cloned")), "{undo:?}");
    let before = world.rows().await;
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    world.done(&with("rollback", "Auto")).await;
    world.done(&with("release", "Auto")).await;
    assert_eq!(world.rows().await, before);
}

#[tokio::test]
async fn retention_removes_what_it_lets_go_and_no_more() {
    let world = World::new("many").await;
    let mut snapshots = Vec::new();
    for run in ["a", "b", "c", "d"] {
        world.as_app().await.batch_execute("INSERT INTO orders (customer, amount) VALUES ('x', 1)").await.unwrap();
        snapshots.push(world.done(&world.task_with("backup", json!({"run": run}))).await.backup.unwrap().snapshot);
    }
    let prune = json!({"retention": {"keepLast": 1}, "keep": [snapshots[0][..12]], "data": []});
    let outcome = world.done(&world.task_with("prune", prune.clone())).await;
    assert_eq!(outcome.removed, snapshots[1..3]);
    assert_eq!(world.done(&world.task_with("prune", prune)).await.removed, Vec::<String>::new());
    for (n, snapshot) in snapshots.iter().enumerate() {
        let prove = world.task_with("prove", json!({"snapshot": snapshot}));
        if [1, 2].contains(&n) {
            world.refused(&prove, exit::PERMANENT, "SnapshotMissing").await;
        } else {
            world.done(&prove).await;
        }
    }
    let named = world.task_with("prune", json!({"remove": [snapshots[0]], "data": []}));
    assert_eq!(world.done(&named).await.removed, snapshots[..1]);
    world.done(&world.task_with("prove", json!({"snapshot": snapshots[3]}))).await;
}
