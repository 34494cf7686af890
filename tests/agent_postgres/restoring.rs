//! Putting data back: from a backup, or a database aside.

use super::*;

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
