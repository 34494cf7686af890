//! The copy engine beside pg_dump and pg_restore, in alternating order. `make bench` runs it in a release build; it prints
//! ratios with their spread and writes `target/bench.json`.
//!
//! `LOCKKEEPER_BENCH_ROWS` (4,000,000) rows of about 300 bytes and 200 small tables; `LOCKKEEPER_BENCH_ROUNDS` (3). The server
//! is the tests' own, without fsync; times are of the clients, CPU seconds without the server's. A restore of ours ends where
//! its comparison, which pg_restore does not have, begins.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code)]
mod postgres;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{data::postgres::quote::ident, manifest::task::Task};
use postgres::World;
use serde_json::{Value, json};

#[derive(Clone, Copy, Default)]
struct Cost {
    seconds: f64,
    cpu: f64,
    rss: u64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The largest memory of a process and its children, while it runs.
fn watched(pid: u32, ended: &AtomicBool, peak: &AtomicU64) {
    while !ended.load(Ordering::SeqCst) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let pids = [pid.to_string()].into_iter().chain(children.split_whitespace().map(str::to_owned));
        let resident = |pid: String| -> Option<u64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse().ok()
        };
        peak.fetch_max(pids.filter_map(resident).sum(), Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a program; `until` ends the time that counts at a line of its output.
fn timed(program: &mut Command, until: Option<&str>) -> Cost {
    let name = format!("{program:?}");
    let (began, mut counted) = (Instant::now(), None);
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (ended, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watch = {
        let (ended, peak, pid) = (ended.clone(), peak.clone(), child.id());
        thread::spawn(move || watched(pid, &ended, &peak))
    };
    let cpu = || {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<f64> = stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // The times of children that were waited for, in hundredths of a second.
        (fields[12] + fields[13]) / 100.0
    };
    let before = cpu();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if until.is_some_and(|text| line.contains(text)) && counted.is_none() {
            counted = Some(began.elapsed());
        }
    }
    let status = child.wait().unwrap();
    let seconds = counted.unwrap_or_else(|| began.elapsed()).as_secs_f64();
    ended.store(true, Ordering::SeqCst);
    watch.join().unwrap();
    assert!(status.success(), "{name}: {status}");
    Cost { seconds, cpu: cpu() - before, rss: peak.load(Ordering::SeqCst) >> 10 }
}

fn agent(world: &World, task: &Task) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    command
        .args(["agent", task.verb.as_str()])
        .env("LOCKKEEPER_SECRETS_DIR", &world.paths.secrets)
        .env("LOCKKEEPER_REPOSITORY_DIR", &world.paths.repository)
        .env("LOCKKEEPER_REPOSITORY_PASSWORD_DIR", &world.paths.repository_password)
        .env("LOCKKEEPER_SCRATCH_DIR", &world.paths.scratch)
        .env("LOCKKEEPER_RESULT_PATH", &world.paths.result)
        .env("LOCKKEEPER_TASK", serde_json::to_string(task).unwrap());
    command
}

async fn fill(world: &World, rows: u64) {
    let app = world.as_app().await;
    app.batch_execute(&format!(
        "CREATE TABLE users (id bigint, username text, email text, first text, last text, phone text, street text, city text, born date, \
           at timestamptz, balance numeric(12,2), settings jsonb); \
         INSERT INTO users SELECT i, 'user' || i, 'user' || i || '@' || substr(md5(i::text), 1, 8) || '.example.com', initcap(substr(md5('f' || i), 1, 7)), \
           initcap(substr(md5('l' || i), 1, 9)), '+34 6' || lpad((i * 7919 % 100000000)::text, 8, '0'), 'Calle ' || substr(md5('s' || i), 1, 12) || ', ' || i % 200, \
           (ARRAY['Girona', 'Madrid', 'Sevilla', 'Bilbao', 'Vigo'])[1 + i % 5], '1950-01-01'::date + (i * 31 % 20000)::int, \
           '2020-01-01'::timestamptz + i * interval '37 seconds', (i * 977 % 1000000) / 100.0, \
           jsonb_build_object('theme', (ARRAY['dark', 'light'])[1 + i % 2], 'seen', i % 1000, 'token', md5('t' || i)) FROM generate_series(1::bigint, {rows}) i; \
         ALTER TABLE users ADD PRIMARY KEY (id); CREATE INDEX ON users (email)"
    ))
    .await
    .unwrap();
    for n in 0..200 {
        app.batch_execute(&format!(
            "CREATE TABLE small_{n} AS SELECT i AS id, md5(i::text) AS v FROM generate_series(1, 500) i; ALTER TABLE small_{n} ADD PRIMARY KEY (id)"
        ))
        .await
        .unwrap();
    }
    app.batch_execute("VACUUM ANALYZE").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; make bench"]
async fn bench_backup_and_restore_beside_pg_dump() {
    let (rows, rounds) = (number("LOCKKEEPER_BENCH_ROWS", 4_000_000), number("LOCKKEEPER_BENCH_ROUNDS", 3));
    let world = World::new("bench").await;
    fill(&world, rows).await;
    let boss = world.server.boss("postgres").await;
    let dump = world.directory.path().join("dump");
    let peer = |tool: &str| {
        let mut command = world.server.tool(tool);
        command.args(["--jobs=2", "--host=127.0.0.1", "--username=postgres"]).arg(format!("--port={}", world.server.port));
        command
    };
    let (mut taken, mut stored) = (Vec::new(), Value::Null);
    for round in 0..rounds {
        let ours = || {
            let task = world.task_with("backup", json!({"run": format!("round {round}")}));
            let _ = fs::remove_dir_all(&world.paths.repository);
            let backup = timed(&mut agent(&world, &task), None);
            let outcome: Value = serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap();
            let prove = world.task_with("prove", json!({"snapshot": outcome["backup"]["snapshot"]}));
            let restore = timed(&mut agent(&world, &prove), Some("comparing"));
            let again = timed(&mut agent(&world, &world.task_with("backup", json!({"run": format!("again {round}")}))), None);
            let second: Value = serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap();
            let stored = json!({"bytes": outcome["backup"]["bytes"], "first": outcome["backup"]["storedBytes"], "second": second["backup"]["storedBytes"]});
            (backup, restore, again, stored)
        };
        let theirs = || {
            let _ = fs::remove_dir_all(&dump);
            let backup = timed(peer("pg_dump").args(["--format=directory", "--file"]).arg(&dump).arg(&world.database), None);
            timed(
                world
                    .server
                    .tool("createdb")
                    .args(["--host=127.0.0.1", "--username=postgres", "--template=template0", "peer"])
                    .arg(format!("--port={}", world.server.port)),
                None,
            );
            let restore = timed(peer("pg_restore").args(["--dbname=peer", "--no-owner"]).arg(&dump), None);
            (backup, restore)
        };
        let (mine, other) = if round % 2 == 0 {
            let mine = ours();
            (mine, theirs())
        } else {
            let other = theirs();
            (ours(), other)
        };
        boss.batch_execute(&format!("DROP DATABASE {}", ident("peer"))).await.unwrap();
        stored = mine.3;
        taken.push([mine.0, mine.1, mine.2, other.0, other.1]);
    }
    let names = ["backup", "restore", "second backup", "pg_dump -Fd -j2", "pg_restore -j2"];
    let figures: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let all: Vec<Cost> = taken.iter().map(|t| t[n]).collect();
            let seconds: Vec<f64> = all.iter().map(|c| (c.seconds * 100.0).round() / 100.0).collect();
            json!({"what": name, "seconds": seconds, "cpuSeconds": all.iter().map(|c| (c.cpu * 100.0).round() / 100.0).collect::<Vec<_>>(),
                "peakMiB": all.iter().map(|c| c.rss).max()})
        })
        .collect();
    let ratio = |theirs: usize, ours: usize| -> Vec<f64> {
        taken.iter().map(|t| (t[theirs].seconds / t[ours].seconds * 100.0).round() / 100.0).collect()
    };
    let report = json!({"rows": rows, "figures": figures, "stored": stored, "ratios": {
        "backup, times as fast as pg_dump": ratio(3, 0), "restore, times as fast as pg_restore": ratio(4, 1)}});
    let text = serde_json::to_string_pretty(&report).unwrap();
    println!("{text}");
    fs::write("target/bench.json", text).unwrap();
}
