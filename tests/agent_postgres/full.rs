//! No space left: on the server, while something is loaded there, and in the repository.

use std::{fs, path::PathBuf, process::Command};

use lockkeeper::{
    data::postgres::quote::ident,
    manifest::task::{Outcome, exit},
};
use serde_json::json;

use super::postgres::{Server, World, files_below};

/// A file system of its own in memory.
struct Small(PathBuf);

impl Small {
    /// None where that may not be made: only root may.
    fn new(mebibytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap().keep();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0777"), "tmpfs"])
            .arg(&directory)
            .status();
        if mounted.is_ok_and(|m| m.success()) {
            return Some(Self(directory));
        }
        eprintln!("a full disk is not tried: no file system can be mounted here");
        fs::remove_dir(directory).unwrap();
        None
    }

    /// Takes all space but so many MiB.
    fn fill(&self, left: u64) {
        let filler = fs::File::create(self.0.join("filler")).unwrap();
        let bytes = self.free().checked_sub(left << 20).unwrap();
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    }

    fn free(&self) -> u64 {
        let free = rustix::fs::statvfs(&self.0).unwrap();
        free.f_bavail * free.f_frsize
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Twenty MiB and more of rows, and an index that takes as much again.
const MUCH: &str = "CREATE TABLE much (id int PRIMARY KEY, body text); \
    INSERT INTO much SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 80000) i; CREATE INDEX ON much (body)";

#[tokio::test]
async fn a_restore_for_which_the_server_has_no_room_says_so_and_leaves_nothing_behind() {
    let Some(small) = Small::new(200) else { return };
    let world = World::on(Server::another(), "crowded").await;
    let boss = world.server.boss("postgres").await;
    let (space, admin, database) = (small.0.join("space"), ident(&world.admin), ident(&world.database));
    fs::create_dir(&space).unwrap();
    world.server.give(&space);
    boss.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).await.unwrap();
    boss.batch_execute(&format!("GRANT CREATE ON TABLESPACE small TO {admin}")).await.unwrap();
    boss.batch_execute(&format!("ALTER DATABASE {database} SET TABLESPACE small")).await.unwrap();
    world.as_app().await.batch_execute(MUCH).await.unwrap();
    let backup = world.ok("backup", 0).await.backup.unwrap();
    boss.batch_execute("CHECKPOINT").await.unwrap();
    let before = world.server.everything(&world.database).await;
    // First there is no room for the rows, then none for the indexes, then not even for an empty database.
    for (epoch, left) in [(1, 20), (2, 48), (3, 1)] {
        small.fill(left);
        let free = small.free();
        world.ok("fence", epoch).await;
        let restore = world.task_with("restore", json!({"epoch": epoch, "snapshot": backup.snapshot}));
        let outcome: Outcome = world.refused(&restore, exit::PERMANENT, "ServerDiskFull").await;
        let said = &outcome.error.as_ref().unwrap().message;
        for part in [
            "data store: there is no room on the server for database crowded",
            "the PostgreSQL server's own disk is full",
            "Its rows alone are 2",
            "Make room there",
        ] {
            assert!(said.contains(part), "{left}: {part} is missing in: {said}");
        }
        assert_eq!(outcome.notes, Vec::<String>::new());
        assert_eq!(world.databases().await, std::slice::from_ref(&world.database), "{left}");
        boss.batch_execute("CHECKPOINT").await.unwrap();
        assert!(free.abs_diff(small.free()) < 1 << 20, "{left}: {free} bytes were free, now {}", small.free());
        world.ok("rollback", epoch).await;
        world.ok("release", epoch).await;
        assert_eq!(world.server.everything(&world.database).await, before, "{left}");
        small.empty();
    }
    // With room again it goes.
    world.ok("fence", 4).await;
    world.done(&world.task_with("restore", json!({"epoch": 4, "snapshot": backup.snapshot}))).await;
    world.ok("release", 4).await;
}

/// To drop a database the server makes a checkpoint, and where it cannot even write that, it ends all sessions.
#[tokio::test]
async fn where_a_load_takes_the_whole_server_s_last_space_nobody_else_there_notices() {
    let Some(small) = Small::new(400) else { return };
    let world = World::on(Server::below(&small.0), "brim").await;
    world.as_app().await.batch_execute(MUCH).await.unwrap();
    let backup = world.ok("backup", 0).await.backup.unwrap();
    let before = world.server.everything(&world.database).await;
    let other = world.server.boss("postgres").await;
    other.batch_execute("CHECKPOINT").await.unwrap();
    for (epoch, verb, left) in [(1, "restore", 24), (2, "prove", 24), (3, "restore", 48)] {
        small.fill(left);
        world.ok("fence", epoch).await;
        let task = world.task_with(verb, json!({"epoch": epoch, "snapshot": backup.snapshot}));
        let outcome = world.refused(&task, exit::PERMANENT, "ServerDiskFull").await;
        assert_eq!(outcome.notes, Vec::<String>::new());
        other.batch_execute("CHECKPOINT").await.expect("the server never went away");
        assert_eq!(world.databases().await, std::slice::from_ref(&world.database), "{verb}");
        world.ok("rollback", epoch).await;
        world.ok("release", epoch).await;
        small.empty();
        assert_eq!(world.server.everything(&world.database).await, before, "{verb}");
    }
}

#[tokio::test]
async fn a_full_repository_takes_nothing_half_and_goes_on_once_there_is_room() {
    let Some(small) = Small::new(96) else { return };
    let mut world = World::new("stuffed").await;
    world.paths.repository = small.0.join("repository");
    let app = world.as_app().await;
    let much = "CREATE TABLE IF NOT EXISTS much (body text); TRUNCATE much; INSERT INTO much SELECT \
        (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 8) j) FROM generate_series(1, 60000) i";
    let backup = |run: &str| world.task_with("backup", json!({"run": run}));
    let mut stored = Vec::new();
    for run in ["a", "b"] {
        app.batch_execute(much).await.unwrap();
        stored.push(world.done(&backup(run)).await.backup.unwrap().snapshot);
    }
    app.batch_execute(much).await.unwrap();
    let used = || files_below(&world.paths.repository).iter().map(|f| fs::metadata(f).unwrap().len()).sum::<u64>();
    let (before, prune) = (used(), json!({"retention": {"keepLast": 1}, "data": []}));
    small.fill(3);
    for _ in 0..2 {
        let said = world.refused(&backup("c"), exit::PERMANENT, "RepositoryFull").await.error.unwrap().message;
        assert!(said.contains("its volume is full; make it larger"), "{said}");
        assert!(used() - before < 64 << 10, "{} bytes of it are left", used() - before);
    }
    // What retention lets go goes, although hardly anything can be written, and what it keeps is whole.
    assert_eq!(world.done(&world.task_with("prune", prune.clone())).await.removed, stored[..1]);
    world.done(&world.task_with("prove", json!({"snapshot": stored[1]}))).await;
    small.empty();
    stored.push(world.done(&backup("c")).await.backup.unwrap().snapshot);
    world.done(&world.task_with("prove", json!({"snapshot": stored[2]}))).await;
    assert_eq!(world.done(&world.task_with("prune", prune)).await.removed, stored[1..2]);
}
