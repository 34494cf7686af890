//! Rollbacks: every row that was acknowledged comes back, or nothing is changed.

use super::*;
use crate::postgres::Server;

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
async fn before_a_database_opens_a_rollback_needs_no_undo_point_and_leaves_none() {
    for lost in [false, true] {
        let world = World::new("unneeded").await;
        let before = world.server.everything(&world.database).await;
        world.ok("fence", 1).await;
        let undo = world.ok("undo", 1).await.aside[0].database.clone();
        // As it is when the next data's undo point cannot be made: this one is whole, and nothing opens.
        let boss = world.server.boss("postgres").await;
        boss.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&world.database))).await.unwrap();
        world.set_state("undone").await;
        if lost {
            boss.batch_execute(&format!("DROP DATABASE {}", ident(&undo))).await.unwrap();
        }
        assert!(world.ok("rollback", 1).await.aside.is_empty());
        world.ok("rollback", 1).await;
        world.ok("release", 1).await;
        assert_eq!(world.server.everything(&world.database).await, before);
        assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
    }
}

#[tokio::test]
async fn a_database_that_is_gone_behind_the_fence_comes_back_from_its_undo_point() {
    let world = World::new("vanished").await;
    world.ok("fence", 1).await;
    world.ok("undo", 1).await;
    world.set_state("undone").await;
    let boss = world.server.boss("postgres").await;
    boss.batch_execute(&format!("DROP DATABASE {}", ident(&world.database))).await.unwrap();
    world.ok("rollback", 1).await;
    world.ok("release", 1).await;
    assert_eq!(world.rows().await, 2000);
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
async fn secrets_that_lead_elsewhere_under_the_lock_stop_every_step_and_nothing_is_done_there() {
    let world = World::new("led").await;
    let before = world.server.everything(&world.database).await;
    let mark = world.done(&world.task_with("preflight", json!({}))).await.marks["store"].clone();
    let task = |verb: &str| world.task_with(verb, json!({"epoch": 1, "data": [{"name": "store", "mark": mark}]}));
    for verb in ["fence", "undo"] {
        world.done(&task(verb)).await;
    }
    world.as_app().await.batch_execute("DELETE FROM orders WHERE id % 2 = 0").await.unwrap();
    let state = world.state().await;

    // Another database of the server, and one of the same name on another server, whose roles and passwords are its own.
    let boss = world.server.boss("postgres").await;
    let named = format!("{} two", world.database);
    boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&named), ident(&world.app))).await.unwrap();
    let elsewhere = World::on(Server::another(), "led").await;
    let there = elsewhere.server.boss("postgres").await;
    let rename = format!("ALTER DATABASE {} RENAME TO {}", ident(&elsewhere.database), ident(&world.database));
    there.batch_execute(&rename).await.unwrap();
    let secrets = |of: &World| -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let root = &of.paths.secrets;
        files_below(root).into_iter().map(|f| (f.strip_prefix(root).unwrap().to_owned(), std::fs::read(&f).unwrap())).collect()
    };
    let say = |all: &[(std::path::PathBuf, Vec<u8>)]| {
        all.iter().for_each(|(path, bytes)| std::fs::write(world.paths.secrets.join(path), bytes).unwrap());
    };
    let own = secrets(&world);
    for server in [&world, &elsewhere] {
        let database = if server.server.port == world.server.port { &named } else { &world.database };
        server.secret("store", "connection", &server.app, database);
        server.secret("store", "admin", &server.admin, database);
        say(&secrets(server));
        for verb in ["fence", "undo", "admit", "restore", "rollback", "release"] {
            // Of a fence that comes first it is known by its reason that it closed nothing.
            let reason = if verb == "fence" { "SecretChanged" } else { "DataMoved" };
            let error = world.refused(&task(verb), exit::PERMANENT, reason).await.error.unwrap();
            assert!(error.message.contains("name the earlier one again"), "{verb}: {error:?}");
        }
    }
    let made =
        "SELECT count(*) FROM pg_database WHERE starts_with(datname, 'lockkeeper_') OR NOT datallowconn AND NOT datistemplate";
    assert_eq!(there.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0, "no control database there, and nothing closed");
    assert_eq!(world.state().await, state, "and at home all is as it was");
    say(&own);
    world.done(&task("rollback")).await;
    world.done(&task("release")).await;
    assert_eq!(world.server.everything(&world.database).await, before);
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
