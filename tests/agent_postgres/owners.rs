//! Who owns what after a restore, and who may use it.

use lockkeeper::data::postgres::quote::ident;
use serde_json::json;

use super::{alignments::Pair, failed, postgres::World};

/// What belongs to a superuser, to a role that the owner cannot become, and what someone else granted.
async fn strange(world: &World) -> String {
    let boss = world.server.boss(&world.database).await;
    let (app, reporter, gone) = (ident(&world.app), ident(&world.reporter), format!("gone{}", world.reporter));
    boss.batch_execute(&format!(
        "ALTER SCHEMA public OWNER TO postgres; GRANT CREATE ON SCHEMA public TO PUBLIC; \
         CREATE TABLE bosses (a int); INSERT INTO bosses VALUES (1); GRANT ALL ON bosses TO {app}; GRANT SELECT ON bosses TO {reporter}; \
         GRANT SELECT ON bosses TO {admin}; \
         CREATE TABLE theirs (a int); ALTER TABLE theirs OWNER TO {reporter}; GRANT SELECT ON theirs TO {admin}; \
         GRANT SELECT ON parted TO {reporter} WITH GRANT OPTION; SET SESSION AUTHORIZATION {reporter}; GRANT SELECT ON parted TO PUBLIC; \
         RESET SESSION AUTHORIZATION; CREATE ROLE {gone}; GRANT SELECT ON parent TO {gone}; \
         GRANT SELECT (amount), UPDATE (amount) ON orders TO {reporter}; REVOKE EXECUTE ON FUNCTION bump() FROM PUBLIC; \
         GRANT USAGE ON SEQUENCE used TO {reporter}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {app} GRANT SELECT ON TABLES TO {reporter}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {app} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        admin = ident(&world.admin),
    ))
    .await
    .unwrap();
    gone
}

async fn true_of(world: &World, question: &str) -> bool {
    world.server.boss(&world.database).await.query_one(&format!("SELECT {question}"), &[]).await.unwrap().get(0)
}

async fn lose(world: &World, role: &str) {
    // In every database: the one that is kept aside still names it.
    for database in world.databases().await {
        world.server.boss(&database).await.batch_execute(&format!("DROP OWNED BY {role}")).await.unwrap();
    }
    world.server.boss("postgres").await.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_restore_gives_back_what_it_can_and_names_owners_and_grants_that_it_cannot_give() {
    let world = World::new("owners").await;
    let gone = strange(&world).await;
    let looked = world.done(&world.task_with("preflight", json!({}))).await;
    let told = &looked.checks.iter().find(|c| c.name == "store: owners").unwrap().message;
    let (app, admin) = (ident(&world.app), ident(&world.admin));
    for mend in [format!("ALTER TABLE public.bosses OWNER TO {app};"), format!("GRANT \"{}\" TO {admin};", world.reporter)] {
        assert!(told.contains(&mend), "{mend} is missing in: {told}");
    }
    assert!(!told.contains("SCHEMA public") && failed(&looked).is_empty(), "{looked:?}");
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let notes = world.done(&world.task_with("prove", json!({"snapshot": backup.snapshot}))).await.notes.join("\n");
    assert!(notes.contains("ALTER TABLE public.bosses OWNER TO \"postgres\""), "the proof is as the restore will be: {notes}");
    lose(&world, &gone).await;
    world.ok("fence", 1).await;
    let done = world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}))).await;
    world.ok("release", 1).await;
    let notes = done.notes.join("\n");
    for named in ["ALTER TABLE public.bosses OWNER TO \"postgres\"", &format!("ON TABLE public.parent TO \"{gone}\"")] {
        assert!(notes.contains(named), "{named} is missing in: {notes}");
    }
    assert!(!notes.contains("SCHEMA public"), "that a superuser had it is normal: {notes}");
    let (app, reporter) = (format!("'{}'", world.app), format!("'{}'", world.reporter));
    for question in [
        format!("has_table_privilege({app}, 'bosses', 'SELECT, INSERT, UPDATE, DELETE')"),
        format!(
            "has_table_privilege({reporter}, 'bosses', 'SELECT') AND NOT has_table_privilege({reporter}, 'bosses', 'INSERT')"
        ),
        // Whose it could not be may do with it what he could.
        format!("has_table_privilege({reporter}, 'theirs', 'SELECT, INSERT, TRUNCATE')"),
        format!("has_table_privilege({reporter}, 'parted', 'SELECT WITH GRANT OPTION')"),
        "has_table_privilege('public', 'parted', 'SELECT') AND NOT has_table_privilege('public', 'orders', 'SELECT')".into(),
        format!("has_column_privilege({reporter}, 'orders', 'amount', 'SELECT, UPDATE')"),
        format!("NOT has_column_privilege({reporter}, 'orders', 'customer', 'SELECT')"),
        format!(
            "NOT has_function_privilege({reporter}, 'bump()', 'EXECUTE') AND has_function_privilege({app}, 'bump()', 'EXECUTE')"
        ),
        format!("has_sequence_privilege({reporter}, 'used', 'USAGE')"),
        "has_schema_privilege('public', 'public', 'CREATE')".into(),
    ] {
        assert!(true_of(&world, &question).await, "{question}");
    }
    let app = world.as_app().await;
    app.batch_execute("CREATE TABLE made_later (a int); CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .await
        .unwrap();
    assert!(true_of(&world, &format!("has_table_privilege({reporter}, 'made_later', 'SELECT')")).await, "default privileges");
    assert!(true_of(&world, &format!("NOT has_function_privilege({reporter}, 'later()', 'EXECUTE')")).await);
    app.batch_execute("ALTER TABLE bosses ADD COLUMN b int").await.unwrap();
}

#[tokio::test]
async fn a_rollback_by_a_backup_comes_to_its_end_although_a_superuser_owns_the_schema_and_a_table() {
    let world = World::new("owners back").await;
    strange(&world).await;
    world.ok("fence", 1).await;
    let data = json!([{"name": "store", "undo": "Backup"}]);
    world.done(&world.task_with("undo", json!({"epoch": 1, "data": data}))).await;
    world.as_app().await.batch_execute("DROP TABLE child").await.unwrap();
    let back = world.done(&world.task_with("rollback", json!({"epoch": 1, "data": data}))).await;
    assert!(back.notes.join("\n").contains("ALTER TABLE public.bosses OWNER TO"), "{back:?}");
    world.ok("release", 1).await;
    assert_eq!(world.rows().await, 2000);
}

#[tokio::test]
async fn a_superuser_as_admin_role_gives_every_owner_and_grant_back() {
    let world = World::new("owners all").await;
    strange(&world).await;
    world.secret("store", "admin", "postgres", &world.database);
    world.server.boss(&world.database).await.batch_execute("CREATE EXTENSION file_fdw").await.unwrap();
    let lines = |text: String| -> Vec<String> {
        let known = |l: &&str| l.contains("OWNER TO") || l.starts_with("GRANT ") || l.starts_with("REVOKE ");
        text.lines().filter(known).map(str::to_owned).collect()
    };
    let before = lines(world.server.everything(&world.database).await);
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let proven = world.done(&world.task_with("prove", json!({"snapshot": backup.snapshot}))).await;
    assert!(!proven.notes.join("\n").contains("could not be given"), "{proven:?}");
    world.ok("fence", 1).await;
    world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}))).await;
    world.ok("release", 1).await;
    assert_eq!(lines(world.server.everything(&world.database).await), before);
}

#[tokio::test]
async fn a_mirror_that_a_superuser_loads_belongs_to_the_owner_of_the_database() {
    let mut pair = Pair::new("owners_mirror").await;
    let database = format!("{}_people", pair.production.database);
    let boss = pair.production.server.boss(&database).await;
    // Only a superuser makes these again.
    boss.batch_execute(
        "CREATE EXTENSION file_fdw; CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
         CREATE EVENT TRIGGER sees ON ddl_command_end EXECUTE FUNCTION seen(); CREATE TYPE mood AS ENUM ('glad'); CREATE SCHEMA more; \
         CREATE SEQUENCE more.numbers",
    )
    .await
    .unwrap();
    drop(boss);
    pair.production.secret("store", "admin", "postgres", &database);
    pair.development.secret("store", "admin", "postgres", &pair.development.database);
    let hash = pair.policy(|_| {});
    let task = pair.production.task_with("snapshot", json!({"maskingPolicyHash": hash, "policy": "copy"}));
    let masked = pair.production.done(&task).await.backup.unwrap();
    let development = &pair.development;
    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": pair.production.environment});
    development.done(&development.task_with("restore", load)).await;
    development.ok("release", 1).await;
    let app = development.as_app().await;
    app.batch_execute(
        "SELECT count(*) FROM users; INSERT INTO users (username, email, email_hash) VALUES ('n', 'n@example.org', 'h'); \
         ALTER TABLE users ADD COLUMN later int; ALTER TYPE mood ADD VALUE 'sad'; SELECT nextval('more.numbers'); \
         CREATE TABLE more.made (a int); REFRESH MATERIALIZED VIEW known; DROP VIEW totals; ALTER TABLE \"Orders\" RENAME TO orders",
    )
    .await
    .unwrap();
    assert!(
        true_of(
            development,
            "EXISTS (SELECT FROM pg_event_trigger) AND EXISTS (SELECT FROM pg_extension WHERE extname = 'file_fdw')"
        )
        .await
    );
    assert_eq!(failed(&development.done(&development.task_with("preflight", json!({"repository": false}))).await), []);
}

#[tokio::test]
async fn a_restored_database_is_in_its_tablespace_once_more() {
    let world = World::new("spaced").await;
    let (boss, name) = (world.server.boss("postgres").await, ident(&world.database));
    let (place, space) = (world.directory.path().join("space"), format!("space{}", world.reporter));
    std::fs::create_dir(&place).unwrap();
    let ours = std::process::Command::new("chmod").arg("a+rwx").args([world.directory.path(), &place]).status().unwrap();
    // Where these tests run as the user of the server itself, it is his already.
    let _ = std::process::Command::new("chown").arg("postgres").arg(&place).status();
    assert!(ours.success());
    boss.batch_execute(&format!("CREATE TABLESPACE {space} LOCATION '{}'", place.display())).await.unwrap();
    boss.batch_execute(&format!("ALTER DATABASE {name} SET TABLESPACE {space}")).await.unwrap();
    let looked = world.done(&world.task_with("preflight", json!({}))).await;
    let said = failed(&looked).iter().map(|(_, message)| *message).collect::<String>();
    let grant = said.find("GRANT CREATE ON TABLESPACE").unwrap_or_else(|| panic!("{looked:?}"));
    boss.batch_execute(said[grant..].split_inclusive(';').next().unwrap()).await.unwrap();
    assert_eq!(failed(&world.done(&world.task_with("preflight", json!({}))).await), []);
    let backup = world.ok("backup", 0).await.backup.unwrap();
    world.ok("fence", 1).await;
    world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}))).await;
    world.ok("release", 1).await;
    let sql = "SELECT spcname::text FROM pg_tablespace t JOIN pg_database d ON d.dattablespace = t.oid WHERE datname = $1";
    assert_eq!(boss.query_one(sql, &[&world.database]).await.unwrap().get::<_, String>(0), space);
    for database in world.databases().await {
        boss.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", ident(&database))).await.unwrap();
    }
    boss.batch_execute(&format!("DROP TABLESPACE {space}")).await.unwrap();
}

#[tokio::test]
async fn limits_of_server_role_and_database_on_time_end_no_backup_and_no_restore() {
    let world = World::new("timeouts").await;
    let boss = world.server.boss("postgres").await;
    let mut limits = vec!["statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"];
    let known = "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'transaction_timeout')";
    if boss.query_one(known, &[]).await.unwrap().get(0) {
        limits.push("transaction_timeout");
    }
    for limit in limits {
        let (admin, database) = (ident(&world.admin), ident(&world.database));
        boss.batch_execute(&format!(
            "ALTER ROLE {admin} SET {limit} = '200ms'; ALTER ROLE {admin} IN DATABASE {database} SET {limit} = '200ms'"
        ))
        .await
        .unwrap();
    }
    // What takes longer than that, in a transaction, in a statement and between two.
    let app = world.as_app().await;
    app.batch_execute(
        "CREATE FUNCTION slow(i bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN i; END'; \
         CREATE TABLE waits (a bigint); INSERT INTO waits VALUES (1); CREATE INDEX ON waits (slow(a)); \
         CREATE TABLE many AS SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i",
    )
    .await
    .unwrap();
    let backup = world.ok("backup", 0).await.backup.unwrap();
    world.done(&world.task_with("prove", json!({"snapshot": backup.snapshot}))).await;
}
