//! Restores proven on a server of its own: a second real server, and a role that may make databases there and nothing else.

use std::{fs, path::PathBuf, sync::Arc};

use lockkeeper::{
    data::postgres::quote::{Purpose, ident, made_database},
    manifest::task::{Outcome, Task, exit},
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{
    OTHER_RUN, failed,
    postgres::{self, RUN, Server, World, wait_until},
};

const ROLE: &str = "Prov\"er";
const THIRD_RUN: &str = "33333333-aaaa-4bbb-8ccc-dddddddddddd";

/// A role without any right.
async fn role(server: &Server, password: &str) -> Client {
    let boss = server.boss("postgres").await;
    let password = password.replace('\'', "''");
    boss.batch_execute(&format!("CREATE ROLE {} LOGIN PASSWORD '{password}'", ident(ROLE))).await.unwrap();
    boss
}

fn task(world: &World, verb: &str, mut more: Value) -> Task {
    more["proof"] = json!(true);
    world.task_with(verb, more)
}

/// What a preflight finds wrong about the proof.
fn wrong(outcome: &Outcome) -> String {
    let of_proof = failed(outcome).into_iter().filter(|(name, _)| *name == "store: proof");
    of_proof.map(|(_, message)| message).collect::<Vec<_>>().join("\n")
}

async fn left(boss: &Client) -> Vec<String> {
    let sql = "SELECT datname::text FROM pg_database WHERE datname LIKE '%\\_\\_proof\\_%' ORDER BY 1";
    boss.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn restores_are_proven_on_a_server_of_their_own_by_a_role_that_may_make_databases_and_nothing_else() {
    let world = World::new("Proven \"else").await;
    let other = Server::another();
    let boss = role(&other, "old").await;
    world.proven_on(&other, ROLE, "old");
    // Not in the database: a superuser there stands in the way of the fence.
    let (source, app) = (world.server.boss("postgres").await, world.as_app().await);
    let (place, named) = (world.directory.path().join("space"), format!("auditor{}", other.port));
    fs::create_dir(&place).unwrap();
    assert!(std::process::Command::new("chmod").arg("a+rwx").args([world.directory.path(), &place]).status().unwrap().success());
    // Roles and tablespaces that only the data's server has.
    source.batch_execute(&format!("CREATE ROLE {named}")).await.unwrap();
    app.batch_execute(&format!("CREATE POLICY audit ON parent TO {named} USING (true)")).await.unwrap();
    let space = own_directory(&place).then(|| format!("space{}", other.port));
    if let Some(space) = &space {
        source.batch_execute(&format!("CREATE TABLESPACE {space} LOCATION '{}'", place.display())).await.unwrap();
        source.batch_execute(&format!("GRANT CREATE ON TABLESPACE {space} TO PUBLIC")).await.unwrap();
        app.batch_execute(&format!("CREATE TABLE apart (a int) TABLESPACE {space}; INSERT INTO apart VALUES (1)")).await.unwrap();
    }
    // Preflight names what is missing, and the SQL that mends it.
    let preflight = task(&world, "preflight", json!({"maxTransactionAgeSeconds": 600}));
    let said = wrong(&world.done(&preflight).await);
    assert!(said.contains("may not make databases") && said.contains("row security"), "{said}");
    for begin in ["ALTER ROLE ", "CREATE ROLE "] {
        let at = said.find(begin).unwrap_or_else(|| panic!("{begin}: {said}"));
        boss.batch_execute(said[at..].split_inclusive(';').next().unwrap()).await.unwrap();
    }
    let outcome = world.done(&preflight).await;
    assert!(failed(&outcome).is_empty(), "{outcome:?}");
    let fine = &outcome.checks.iter().find(|c| c.name == "store: proof").unwrap().message;
    assert!(fine.contains(&other.port.to_string()), "{fine}");

    // Beside the data it could not be proven: the role there may not make databases any more.
    let backup = world.ok("backup", 0).await.backup.unwrap();
    source.batch_execute(&format!("ALTER ROLE {} NOCREATEDB", ident(&world.admin))).await.unwrap();
    let prove = task(&world, "prove", json!({"snapshot": backup.snapshot}));
    let notes = world.done(&prove).await.notes.join("\n");
    assert!(notes.contains("restored and compared"), "{notes}");
    assert_eq!(left(&boss).await, Vec::<String>::new());
    let beside = world.task_with("prove", json!({"snapshot": backup.snapshot}));
    world.refused(&beside, exit::PERMANENT, "RightMissing").await;

    // A password that changed in between is the Secret's of the next attempt.
    boss.batch_execute(&format!("ALTER ROLE {} PASSWORD 'new'", ident(ROLE))).await.unwrap();
    let outcome = world.refused(&prove, exit::RETRYABLE, "ServerUnreachable").await;
    let said = outcome.error.unwrap().message;
    assert!(said.contains("the server of backups.proof") && !said.contains("old"), "{said}");
    world.proven_on(&other, ROLE, "new");
    world.done(&prove).await;

    // A backup on demand has no preflight: the proof says it.
    boss.batch_execute(&format!("ALTER ROLE {} NOCREATEDB", ident(ROLE))).await.unwrap();
    let said = world.refused(&prove, exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains(&format!("ALTER ROLE {} CREATEDB;", ident(ROLE))), "{said}");
    fs::remove_file(world.paths.proof.join("password")).unwrap();
    let said = world.refused(&prove, exit::PERMANENT, "SecretInvalid").await.error.unwrap().message;
    assert!(said.contains("Secret of backups.proof: key password is missing"), "{said}");
    assert!(wrong(&world.done(&preflight).await).contains("key password is missing"));
    if let Some(space) = &space {
        app.batch_execute("DROP TABLE apart").await.unwrap();
        source.batch_execute(&format!("DROP TABLESPACE {space}")).await.unwrap();
    }
}

/// Gives a directory to the user that the server runs as, where that is another than this one.
fn own_directory(directory: &std::path::Path) -> bool {
    std::process::Command::new("chown").arg("postgres").arg(directory).status().is_ok_and(|s| s.success())
}

#[tokio::test]
async fn collations_and_extensions_that_the_other_server_lacks_are_named_before_and_by_the_proof() {
    let world = World::new("lacking").await;
    let other = Server::another();
    let boss = role(&other, "p").await;
    boss.batch_execute(&format!("ALTER ROLE {} CREATEDB", ident(ROLE))).await.unwrap();
    world.proven_on(&other, ROLE, "p");
    let preflight = task(&world, "preflight", json!({"maxTransactionAgeSeconds": 600}));
    let app = world.as_app().await;
    app.batch_execute("CREATE TABLE words (w text COLLATE \"ucs_basic\")").await.unwrap();
    // As on a server that was built, or set up, with less. The catalogs of template0 are what every new database has.
    boss.batch_execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true").await.unwrap();
    let template = other.boss("template0").await;
    let lose = "SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'ucs_basic'";
    template.batch_execute(lose).await.unwrap();
    drop(template);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template0'";
    wait_until(async || boss.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    let said = wrong(&world.done(&preflight).await);
    assert!(said.contains("collation ucs_basic, which columns have, is not there"), "{said}");
    assert_eq!(left(&boss).await, Vec::<String>::new());
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let prove = task(&world, "prove", json!({"snapshot": backup.snapshot}));
    let (code, outcome) = world.perform(&prove).await;
    let said = outcome.error.unwrap().message;
    assert!(code != 0 && said.contains("ucs_basic") && said.contains("backups.proof"), "{said}");
    assert_eq!(left(&boss).await, Vec::<String>::new());
    app.batch_execute("DROP TABLE words").await.unwrap();
    assert_eq!(wrong(&world.done(&preflight).await), "");

    let source = world.server.boss(&world.database).await;
    let rename = "SET allow_system_table_mods = on; UPDATE pg_extension SET extname = 'only_here' WHERE extname = 'citext'";
    source.batch_execute(rename).await.unwrap();
    let said = wrong(&world.done(&preflight).await);
    assert!(said.contains("extension only_here is not there") && said.contains("install its package"), "{said}");
}

#[tokio::test]
async fn what_a_killed_proof_left_goes_with_the_next_one_and_what_another_is_at_work_on_stays() {
    let world = World::new("orphan").await;
    let other = Server::another();
    let boss = role(&other, "p").await;
    boss.batch_execute(&format!("ALTER ROLE {} CREATEDB", ident(ROLE))).await.unwrap();
    world.proven_on(&other, ROLE, "p");
    let app = world.as_app().await;
    app.batch_execute("CREATE TABLE much AS SELECT i, repeat(md5(i::text), 20) AS t FROM generate_series(1, 150000) i")
        .await
        .unwrap();
    let snapshot = world.ok("backup", 0).await.backup.unwrap().snapshot;
    // Both where the data is and elsewhere.
    for (elsewhere, boss) in [(true, &boss), (false, &world.server.boss("postgres").await)] {
        let prove = |run: &str| world.task_with("prove", json!({"snapshot": snapshot, "proof": elsewhere, "run": run}));
        let ours = async || left(boss).await.into_iter().filter(|name| name.starts_with(&world.database)).collect::<Vec<_>>();
        let mut command = world.agent_with(&prove(RUN));
        let mut killed = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let name = made_database(&world.database, Purpose::Proof, RUN);
        wait_until(async || ours().await.contains(&name)).await;
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(ours().await, std::slice::from_ref(&name), "it was killed in the middle");
        // One of a third run, which somebody is at work on who entered the server by another database.
        let held = made_database(&world.database, Purpose::Proof, THIRD_RUN);
        let door = format!("{} \"door", world.database);
        boss.batch_execute(&format!("CREATE DATABASE {}", ident(&door))).await.unwrap();
        let worker = if elsewhere { other.boss(&door).await } else { world.server.boss(&door).await };
        let owner = if elsewhere { ROLE } else { &world.app };
        boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&held), ident(owner))).await.unwrap();
        let lock = "SELECT pg_try_advisory_lock(hashtextextended('lockkeeper ' || $1, 0))";
        assert!(worker.query_one(lock, &[&held]).await.unwrap().get::<_, bool>(0));
        // The server notices a moment later that the killed one's sessions are dead.
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lockkeeper' AND usename = $1";
        let role = if elsewhere { ROLE } else { &world.admin };
        wait_until(async || boss.query_one(sessions, &[&role]).await.unwrap().get::<_, i64>(0) == 0).await;
        world.done(&prove(OTHER_RUN)).await;
        assert_eq!(ours().await, std::slice::from_ref(&held));
        // Nor by a later attempt of the third run: it waits until the earlier one is really dead.
        let said = world.refused(&prove(THIRD_RUN), exit::RETRYABLE, "ScratchInUse").await.error.unwrap().message;
        assert!(said.contains(&held) && said.contains(&format!("connected to database {door}")), "{said}");
        assert_eq!(ours().await, std::slice::from_ref(&held));
        worker.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
        world.done(&prove(OTHER_RUN)).await;
        assert_eq!(ours().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_no_later_proof_drops_goes_with_a_preflight_or_with_the_environment() {
    let world = World::new("afterwards").await;
    let other = Server::another();
    let (boss, at_home) = (role(&other, "p").await, world.server.boss("postgres").await);
    world.proven_on(&other, ROLE, "p");
    let name = made_database(&world.database, Purpose::Proof, RUN);
    let leave = async |boss: &Client, owner: &str| {
        boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&name), ident(owner))).await.unwrap();
    };
    leave(&boss, ROLE).await;
    // Also one after which no proof can follow: the role may not make databases any more.
    let preflight = world.task_with("preflight", json!({"proof": true, "run": OTHER_RUN, "maxTransactionAgeSeconds": 600}));
    assert!(wrong(&world.done(&preflight).await).contains("may not make databases"));
    assert_eq!(left(&boss).await, Vec::<String>::new());

    leave(&boss, ROLE).await;
    leave(&at_home, &world.app).await;
    let notes = world.done(&task(&world, "forget", json!({}))).await.notes.join("\n");
    assert!(notes.contains(&format!("store: dropped {name}")), "{notes}");
    assert!(notes.contains(&format!("store, on the server of backups.proof: dropped {name}")), "{notes}");
    assert_eq!(left(&boss).await, Vec::<String>::new());
    assert!(!left(&at_home).await.contains(&name));
    // What is gone before the Environment does not keep it.
    fs::remove_dir_all(&world.paths.proof).unwrap();
    fs::create_dir(&world.paths.proof).unwrap();
    let notes = world.done(&task(&world, "forget", json!({}))).await.notes.join("\n");
    assert!(notes.contains("stay: Secret of backups.proof: key host is missing"), "{notes}");
}

/// The newest other server that there is, with its directory.
fn newer() -> Option<(Arc<Server>, PathBuf)> {
    let bin = postgres::others().into_iter().next_back()?;
    Some((Arc::new(Server::start(bin.clone())), bin))
}

/// Does a task with client programs of another version.
fn with_clients(world: &World, bin: &std::path::Path, task: &Task) -> Outcome {
    let mut command = world.agent_with(task);
    command.env("LOCKKEEPER_PG_BIN", bin).stdout(std::process::Stdio::null());
    let _ = fs::remove_file(&world.paths.result);
    command.status().unwrap();
    serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap()
}

#[tokio::test]
async fn a_newer_server_proves_what_an_older_one_had_and_the_other_way_round_is_refused_with_both_named() {
    let Some((newer, bin)) = newer() else {
        eprintln!("there is one version of PostgreSQL here: nothing to try");
        return;
    };
    let major = async |server: &Server| -> i32 {
        let sql = "SELECT current_setting('server_version_num')::int / 10000";
        server.boss("postgres").await.query_one(sql, &[]).await.unwrap().get(0)
    };
    for up in [true, false] {
        let (from, to) = if up { (Server::shared(), newer.clone()) } else { (newer.clone(), Server::another()) };
        let world = World::on(from, if up { "up" } else { "down" }).await;
        let boss = role(&to, "p").await;
        boss.batch_execute(&format!("ALTER ROLE {} CREATEDB", ident(ROLE))).await.unwrap();
        world.proven_on(&to, ROLE, "p");
        let (theirs, ours) = (major(&to).await, major(&world.server).await);
        let preflight = task(&world, "preflight", json!({"maxTransactionAgeSeconds": 600}));
        let mut outcome = with_clients(&world, &bin, &preflight);
        if wrong(&outcome).contains("extension pgcrypto is not there") {
            // This server was built without it.
            world.as_app().await.batch_execute("DROP EXTENSION pgcrypto").await.unwrap();
            outcome = with_clients(&world, &bin, &preflight);
        }
        let snapshot = with_clients(&world, &bin, &world.task("backup", 0)).backup.unwrap().snapshot;
        let proven = with_clients(&world, &bin, &task(&world, "prove", json!({"snapshot": snapshot})));
        if ours <= theirs {
            assert_eq!((wrong(&outcome), &proven.error), (String::new(), &None));
            assert!(proven.notes.iter().any(|n| n.contains("restored and compared")), "{proven:?}");
        } else {
            for said in [wrong(&outcome), proven.error.unwrap().message] {
                assert!(
                    said.contains(&format!("is PostgreSQL {theirs}")) && said.contains(&format!("of PostgreSQL {ours}")),
                    "{said}"
                );
            }
        }
        assert_eq!(left(&boss).await, Vec::<String>::new());
    }
}
