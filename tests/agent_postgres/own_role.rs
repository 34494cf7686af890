//! Migrations with a role of their own.

use std::fs;

use lockkeeper::{data::postgres::quote::ident, manifest::task::Task};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{failed, postgres::World};

/// A world with a Secret `own` of a role that migrations have of their own. The role itself is made by the test.
async fn world(name: &str) -> (World, String) {
    let world = World::new(name).await;
    let role = format!("Mig \"{}", world.reporter);
    world.secret("store", "migrations/own", &role, &world.database);
    (world, role)
}

fn task(world: &World, verb: &str, more: Value) -> Task {
    let data = json!([{"name": "store", "migrations": [{"secret": "own", "keys": ["uri"]}]}]);
    let mut all = json!({"epoch": 1, "data": data});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.task_with(verb, all)
}

/// What the README says that whoever owns the server runs once.
async fn made(world: &World, role: &str) {
    let boss = world.server.boss("postgres").await;
    let (own, app, admin) = (ident(role), ident(&world.app), ident(&world.admin));
    boss.batch_execute(&format!(
        "CREATE ROLE {own} LOGIN PASSWORD '{}'; GRANT {app} TO {own}; GRANT {own} TO {admin}; \
         ALTER ROLE {own} IN DATABASE {} SET role = {app}",
        world.password().replace('\'', "''"),
        ident(&world.database)
    ))
    .await
    .unwrap();
}

/// Who may connect of application, reporter and migration.
async fn inside(world: &World, role: &str) -> [bool; 3] {
    let mut out = [false; 3];
    for (is, who) in out.iter_mut().zip([world.app.as_str(), world.reporter.as_str(), role]) {
        *is = world.server.connect(who, &world.database).await.is_ok();
    }
    out
}

/// Owner, grants, settings, comment and connection limit of the database.
async fn beside_the_rows(world: &World) -> String {
    world.server.everything(&world.database).await.lines().last().unwrap().to_owned()
}

async fn owner_of(client: &Client, table: &str) -> String {
    let sql = "SELECT tableowner::text FROM pg_tables WHERE tablename = $1";
    client.query_one(sql, &[&table]).await.unwrap().get(0)
}

#[tokio::test]
async fn while_a_migration_has_a_role_of_its_own_nobody_else_connects_and_what_it_makes_is_the_owners() {
    for (method, name) in [("Clone", "own-clone"), ("Backup", "own-backup")] {
        let (world, role) = world(name).await;
        made(&world, &role).await;
        let before = beside_the_rows(&world).await;
        let data = json!([{"name": "store", "undo": method, "migrations": [{"secret": "own", "keys": ["uri"]}]}]);
        let preflight = world.done(&task(&world, "preflight", json!({"maxTransactionAgeSeconds": 600}))).await;
        assert!(failed(&preflight).is_empty(), "{preflight:?}");
        for verb in ["fence", "undo"] {
            world.done(&task(&world, verb, json!({"data": data}))).await;
        }
        assert_eq!(inside(&world, &role).await, [false, false, true], "{method}: the migration alone");
        let migration = world.server.connect(&role, &world.database).await.unwrap();
        migration.batch_execute("CREATE TABLE made (a int); ALTER TABLE orders ADD COLUMN more int").await.unwrap();
        assert_eq!(owner_of(&migration, "made").await, world.app);
        drop(migration);
        for _ in 0..2 {
            world.done(&task(&world, "admit", json!({}))).await;
            assert_eq!(inside(&world, &role).await, [true, false, true], "{method}: the application too");
        }
        world.as_app().await.batch_execute("INSERT INTO made VALUES (1)").await.unwrap();

        world.done(&task(&world, "rollback", json!({"data": [{"name": "store", "undo": method}]}))).await;
        assert!(!world.as_app_is_out().await, "{method}: the earlier workloads start on what was");
        world.done(&task(&world, "release", json!({"data": [{"name": "store"}]}))).await;
        assert_eq!(beside_the_rows(&world).await, before, "{method}: grants and the role's own setting are what they were");
        assert_eq!(world.rows().await, 2000);
    }
}

#[tokio::test]
async fn a_run_with_a_role_of_its_own_gives_everything_back_and_admits_nobody_before_its_time() {
    let (world, role) = world("own-release").await;
    made(&world, &role).await;
    let before = beside_the_rows(&world).await;
    world.refused(&task(&world, "admit", json!({})), 2, "WrongState").await;
    world.done(&task(&world, "fence", json!({}))).await;
    world.refused(&task(&world, "admit", json!({})), 2, "WrongState").await;
    assert_eq!(inside(&world, &role).await, [false; 3]);
    world.done(&task(&world, "undo", json!({}))).await;
    world.refused(&task(&world, "admit", json!({"epoch": 0})), 3, "Fenced").await;
    assert_eq!(inside(&world, &role).await, [false, false, true]);
    world.done(&task(&world, "admit", json!({}))).await;
    world.done(&task(&world, "release", json!({}))).await;
    assert_eq!(inside(&world, &role).await, [true; 3]);
    assert_eq!(beside_the_rows(&world).await, before);
}

#[tokio::test]
async fn preflight_says_what_a_migrations_role_lacks_with_the_sql_that_mends_it() {
    let (world, role) = world("own-lacks").await;
    let boss = world.server.boss("postgres").await;
    let preflight = task(&world, "preflight", json!({"maxTransactionAgeSeconds": 600}));
    let said = async || {
        let outcome = world.done(&preflight).await;
        failed(&outcome).iter().map(|(name, message)| format!("{name}: {message}")).collect::<Vec<_>>().join("\n")
    };
    let own = ident(&role);
    let missing = said().await;
    assert!(
        missing.starts_with("store: migration role of Secret own: ") && missing.contains(&format!("CREATE ROLE {own} LOGIN"))
    );
    let password = world.password().replace('\'', "''");
    boss.batch_execute(&format!("CREATE ROLE {own} NOLOGIN PASSWORD '{password}'; GRANT {own} TO {}", ident(&world.reporter)))
        .await
        .unwrap();
    let all = said().await;
    for part in ["cannot log in", "is no member of the owner", "would not belong to the owner", "would not be shut out"] {
        assert!(all.contains(part), "{part} is missing in: {all}");
    }
    for begin in ["GRANT ", "ALTER ROLE ", "REVOKE "] {
        for statement in all.match_indices(begin).filter_map(|(at, _)| all[at..].split_inclusive(';').next()) {
            boss.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }
    assert_eq!(said().await, "");

    let lacks = json!({"data": [{"name": "store", "migrations": [{"secret": "own", "keys": ["uri", "password"]}]}]});
    let outcome = world.done(&task(&world, "preflight", lacks)).await;
    assert!(failed(&outcome)[0].1.contains("Secret own has no key password"), "{outcome:?}");
    world.secret("store", "migrations/own", &role, "postgres");
    assert!(said().await.contains("it names database postgres"));
    world.secret("store", "migrations/own", &world.app, &world.database);
    assert!(said().await.contains("nobody would be shut out"));
    world.secret("store", "migrations/own", &role, &world.database);
    world.secret("store", "admin", &world.app, &world.database);
    assert!(said().await.contains("give the data an adminSecret"));
    world.secret("store", "admin", &world.admin, &world.database);
    fs::remove_dir_all(world.paths.secrets.join("store/migrations/own")).unwrap();
    assert!(said().await.contains("Secret own (data store, migration): it is not mounted"));
}
