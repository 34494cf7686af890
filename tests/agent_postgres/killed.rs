//! Jobs that are killed at random points, by bytes that they have read and written: nothing half done is ever seen, the next
//! attempt ends the same, and nothing is left.

use std::{fs, process::Stdio, time::Duration};

use lockkeeper::{data::repository::Repository, manifest::task::Task};
use serde_json::{Value, json};

use super::{
    alignments::Pair,
    postgres::{World, files_below, wait_until},
};

/// Another seed, other points. `LOCKKEEPER_SEED` says one.
const SEED: u64 = 20_261_123;
/// So often each is killed.
const KILLS: usize = 5;

struct Points(u64);

impl Points {
    fn new() -> Self {
        let said = std::env::var("LOCKKEEPER_SEED").ok().and_then(|s| s.parse().ok());
        Self(said.unwrap_or(SEED))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

/// Runs the agent, and kills it once it has read and written so many bytes. How many it had when it was last seen, and whether
/// it was killed.
fn killed(world: &World, task: &Task, at: u64) -> (u64, bool) {
    let mut child = world.agent_with(task).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let io = format!("/proc/{}/io", child.id());
    let mut moved = 0;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{}", fs::read_to_string(&world.paths.result).unwrap_or_default());
            return (moved, false);
        }
        let text = fs::read_to_string(&io).unwrap_or_default();
        let seen = text.lines().filter(|l| l.starts_with("rchar") || l.starts_with("wchar"));
        moved = seen.filter_map(|l| l.split(": ").nth(1)?.parse::<u64>().ok()).sum::<u64>().max(moved);
        if moved >= at {
            child.kill().unwrap();
            child.wait().unwrap();
            return (moved, true);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn killed_at_any_byte_a_snapshot_counts_whole_or_not_at_all_and_a_target_is_untouched_or_swapped_whole() {
    let mut points = Points::new();
    let mut pair = Pair::new("killed").await;
    let hash = pair.policy(|p| {
        p["data"][0]["tables"].as_array_mut().unwrap().push(json!({"table": "public.papers", "columns": {
            "id": {"keep": {}}, "body": {"hash": {}},
        }}));
    });
    let Pair { production, development } = &pair;
    let app = production.server.connect(&production.app, &format!("{}_people", production.database)).await.unwrap();
    app.batch_execute(
        "CREATE TABLE papers (id int PRIMARY KEY, body text); \
         INSERT INTO papers SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 60000) i; CREATE INDEX ON papers (body)",
    )
    .await
    .unwrap();
    let runs = std::cell::Cell::new(0);
    let task = |verb: &str, more: Value| {
        runs.set(runs.get() + 1);
        let mut task = json!({"run": format!("{:08}-aaaa-4bbb-8ccc-dddddddddddd", runs.get())});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        production.task_with(verb, task)
    };
    let repository = || {
        Repository::open(&production.paths.repository, &production.paths.repository_password, &production.environment).unwrap()
    };
    let mut stored = Vec::new();
    for (verb, more) in [("backup", json!({})), ("snapshot", json!({"maskingPolicyHash": hash, "policy": "copy"}))] {
        let (all, _) = killed(production, &task(verb, more.clone()), u64::MAX);
        let before = repository().known().unwrap().len();
        let task = task(verb, more);
        for _ in 0..KILLS {
            let (_, was) = killed(production, &task, points.below(all));
            let more = repository().known().unwrap().len() - before;
            assert!(more <= 1 && (was || more == 1), "{verb}: seed {SEED}");
        }
        stored.push(production.done(&task).await.backup.unwrap());
        assert_eq!(repository().known().unwrap().len(), before + 1, "{verb}");
    }
    let masked = &stored[1];
    assert_eq!(masked.rows, 60_800);

    // How much a load reads and writes, by another environment.
    let mut another = World::new("killed_other").await;
    another.paths.repository = production.paths.repository.clone();
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": production.environment});
    another.ok("fence", 1).await;
    let (all, _) = killed(&another, &another.task_with("restore", load), u64::MAX);
    another.ok("release", 1).await;

    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": production.environment});
    let load = development.task_with("restore", load);
    let boss = development.server.boss("postgres").await;
    let oid = async || {
        let sql = "SELECT oid FROM pg_database WHERE datname = $1";
        boss.query_one(sql, &[&development.database]).await.unwrap().get::<_, u32>(0)
    };
    let (untouched, before) = (oid().await, development.databases().await);
    let (mut swapped, mut kills) = (false, 0);
    for _ in 0..KILLS {
        let (_, was) = killed(development, &load, points.below(all));
        (swapped, kills) = (swapped || !was, kills + usize::from(was));
        assert!(swapped || oid().await == untouched || development.databases().await.len() > before.len(), "seed {SEED}");
    }
    assert!(kills > 1, "seed {SEED}: {kills} of {all} bytes");
    development.done(&load).await;
    development.ok("release", 1).await;
    let rows = "SELECT (SELECT count(*) FROM papers), (SELECT count(*) FROM users), (SELECT count(*) FROM pg_indexes WHERE tablename = 'papers')";
    let row = development.as_app().await.query_one(rows, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (60_000, 400, 2));
    let left = development.databases().await;
    assert!(left.len() == before.len() + 1 && left.iter().all(|d| before.contains(d) || d.contains("__undo_")), "{left:?}");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lockkeeper' AND datname LIKE 'killed%'";
    wait_until(async || boss.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    assert_eq!(files_below(&production.paths.repository.join("locks")), Vec::<std::path::PathBuf>::new());
    for world in [production, development] {
        let left = files_below(&world.paths.scratch);
        assert!(left.is_empty(), "{left:?}");
    }
}
