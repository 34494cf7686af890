//! Backups: made, proven, taken for an undo point, removed by retention.

use super::*;

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

#[tokio::test]
async fn a_changed_password_and_another_environment_s_repository_are_told_and_nothing_is_written_there() {
    let world = World::new("locked_out").await;
    let first = world.ok("backup", 0).await.backup.unwrap().snapshot;
    let content = || {
        let files = files_below(&world.paths.repository).into_iter();
        let mut all: Vec<_> = files.map(|f| (fs::read(&f).unwrap(), fs::metadata(&f).unwrap().modified().unwrap(), f)).collect();
        all.sort();
        all
    };
    let before = content();
    let every = |more: Value| {
        let with = |verb: &str| {
            let mut task = json!({"run": OTHER_RUN, "snapshot": first});
            task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.task_with(verb, task)
        };
        ["preflight", "backup", "prove", "prune"].map(with)
    };
    let password = world.paths.repository_password.join("password");
    let locked_out = ["RepositoryPasswordWrong", "the Secret that passwordSecret names does not open it"];
    let foreign = ["RepositoryForeign", "give each environment a volume, or a bucket and prefix, of its own"];
    let theirs = json!({"environment": "ffffffff-0000-0000-0000-000000000000", "data": []});
    for (right, more, [reason, sentence]) in [("wrong horse\n", json!({}), locked_out), ("correct horse\n", theirs, foreign)] {
        fs::write(&password, right).unwrap();
        for task in every(more) {
            let said = if task.verb.as_str() == "preflight" {
                let looked = world.done(&task).await;
                let said = failed(&looked).into_iter().find(|(name, _)| *name == "repository").map(|(_, said)| said.to_owned());
                said.unwrap_or_else(|| panic!("{looked:?}"))
            } else {
                world.refused(&task, exit::PERMANENT, reason).await.error.unwrap().message
            };
            assert!(said.contains(sentence) && !said.contains("horse"), "{}: {said}", task.verb.as_str());
        }
        assert!(content() == before, "{reason}: something was written");
    }
    world.done(&world.task_with("prove", json!({"snapshot": first}))).await;
}
