//! Data at size: databases of 4, 16 and 50 million rows (the last of 20 GB), one of 10,000 tables, and a volume of 100,000
//! files, backed up, put back, and mirrored masked, by Jobs that may hold 384 MiB. What a GB takes and what memory is held must
//! not grow with the size. Not part of `make test`: `make scale` runs it, and prints what it measured.
//!
//! `LOCKKEEPER_SCALE_ROWS` names other sizes, in millions of rows, such as `1,4`; `LOCKKEEPER_SCALE_TABLES` another number of
//! tables, `LOCKKEEPER_SCALE_FILES` of files; 0 for none. Rows that were read are taken off the disk before they are put back:
//! 50 million want 30 GB of it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code)]
#[path = "bench/cost.rs"]
mod cost;
#[allow(dead_code)]
#[path = "bench/place.rs"]
mod place;
#[allow(dead_code)]
mod postgres;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use cost::{Cost, timed};
use lockkeeper::manifest::task::Task;
use place::{Place, SMALL_TABLES};
use postgres::{World, files_below};
use serde_json::{Value, json};

/// What a Job may hold, the files that the kernel keeps for it included.
const LIMIT_MIB: u64 = 384;
/// What the design grants of it to our own processes.
const HELD_MIB: f64 = 256.0;
/// How much more a GB may take at the largest size than at the smallest, for both to be called the same.
const FLAT: f64 = 1.25;

/// A memory cgroup, as a kubelet makes one for a Job.
struct Limit(PathBuf);

impl Limit {
    fn new() -> Result<Self, String> {
        let name = format!("lockkeeper-scale-{}", std::process::id());
        let old = Path::new("/sys/fs/cgroup/memory");
        let (directory, file) = if old.is_dir() {
            (old.join(name), "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "memory.max")
        };
        fs::create_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let limit = Self(directory);
        let path = limit.0.join(file);
        fs::write(&path, (LIMIT_MIB << 20).to_string()).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(limit)
    }

    /// Where none can be made, what is measured is measured without.
    fn or_said() -> Option<Self> {
        Self::new().map_err(|why| println!("not limited to {LIMIT_MIB} MiB: {why}")).ok()
    }

    /// The same program, in here.
    fn inside(&self, program: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", r#"echo $$ >"$0/cgroup.procs" && exec "$@""#]).arg(&self.0);
        inside.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Does a task as a Job does, and gives what it cost, and its outcome.
fn job(limit: Option<&Limit>, server: u32, world: &World, task: &Task) -> (Cost, Value) {
    let mut program = world.agent_with(task);
    if let Some(limit) = limit {
        program = limit.inside(&program);
    }
    let cost = timed(server, &mut program, None).1;
    (cost, serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap())
}

/// A volume of so many small files: kept as an undo point, half of it lost, put back.
async fn files(count: usize) -> Vec<(&'static str, Cost)> {
    let world = World::new("files").await;
    let limit = Limit::or_said();
    let root = world.paths.volumes.join("uploads");
    let directory = |number: usize| root.join(format!("{number:03}"));
    for number in 0..count {
        fs::create_dir_all(directory(number % 500)).unwrap();
        fs::write(directory(number % 500).join(number.to_string()), format!("file {number}\n").repeat(1 + number % 300)).unwrap();
    }
    let whole = || {
        let mut found: Vec<_> = files_below(&root).into_iter().map(|f| (fs::read(&f).unwrap(), f)).collect();
        found.sort_unstable();
        found
    };
    let before = whole();
    let done = |verb: &str| {
        let task = world.task_with(verb, json!({"volumes": [{"name": "uploads"}], "epoch": 1}));
        job(limit.as_ref(), world.server.pid(), &world, &task).0
    };
    done("fence");
    let kept = done("undo");
    for number in 0..250 {
        fs::remove_dir_all(directory(number)).unwrap();
    }
    let back = done("rollback");
    assert!(whole() == before, "the volume is not what it was");
    vec![("files kept", kept), ("half of them put back", back)]
}

struct Scale {
    place: Place,
    limit: Option<Limit>,
}

impl Scale {
    async fn new(rows: u64, tables: usize) -> Self {
        Self { place: Place::new(rows, tables).await, limit: Limit::or_said() }
    }

    fn job(&self, world: &World, task: &Task) -> (Cost, Value) {
        job(self.limit.as_ref(), self.place.server_pid, world, task)
    }

    /// All that is done with the data, and what each costs.
    async fn measure(&mut self) -> Vec<(&'static str, Cost)> {
        let (from, to) = (&self.place.production, &self.place.development);
        self.place.settle().await;
        let (backup, outcome) = self.job(from, &from.task_with("backup", json!({"run": "backup"})));
        let kept = outcome["backup"]["snapshot"].clone();
        let task = json!({"run": "mirror", "maskingPolicyHash": self.place.policy_hash, "policy": "copy"});
        let (mask, outcome) = self.job(from, &from.task_with("snapshot", task));
        let masked = outcome["backup"]["snapshot"].clone();
        from.server.boss(&self.place.database).await.batch_execute("TRUNCATE users; CHECKPOINT").await.unwrap();
        let (prove, _) = self.job(from, &from.task_with("prove", json!({"run": "proof", "snapshot": kept})));
        self.place.settle().await;
        let locked = |verb: &str, more: Value| {
            let mut task = json!({"run": "mirror", "epoch": 1});
            task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            to.task_with(verb, task)
        };
        self.job(to, &locked("fence", json!({})));
        let (load, _) = self.job(to, &locked("restore", json!({"snapshot": masked, "origin": from.environment})));
        self.job(to, &locked("release", json!({})));
        let rows = to.as_app().await.query_one("SELECT count(*), count(DISTINCT email) FROM users", &[]).await.unwrap();
        let rows: (i64, i64) = (rows.get(0), rows.get(1));
        let all = i64::try_from(self.place.rows).unwrap();
        assert_eq!(rows, (all, all), "the mirror lacks rows");
        vec![("backup", backup), ("restored and compared", prove), ("masked", mask), ("mirrored and compared", load)]
    }
}

fn numbers(name: &str, default: &str) -> Vec<f64> {
    let said = env::var(name).unwrap_or_else(|_| default.to_owned());
    said.split(',').filter(|n| !n.is_empty()).map(|n| n.trim().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; make scale"]
async fn data_at_size() {
    let mut all: Vec<(f64, Vec<(&str, Cost)>)> = Vec::new();
    for millions in numbers("LOCKKEEPER_SCALE_ROWS", "4,16,50") {
        let mut scale = Scale::new((millions * 1e6) as u64, SMALL_TABLES).await;
        let boss = scale.place.production.server.boss("postgres").await;
        let size: i64 = boss.query_one("SELECT pg_database_size($1)", &[&scale.place.database]).await.unwrap().get(0);
        let gb = size as f64 / 1e9;
        println!("\n{millions} million rows, {gb:.1} GB");
        let costs = scale.measure().await;
        for (what, cost) in &costs {
            println!("  {what:22} {:6.1} s a GB; {}", cost.seconds / gb, cost.line());
        }
        all.push((gb, costs));
    }
    if let ([(small, first), .., (large, last)], true) = (&all[..], all.len() > 1) {
        println!("\nfrom {small:.1} to {large:.1} GB");
        for ((what, first), (_, last)) in first.iter().zip(last) {
            let (time, memory) = ((last.seconds / large) / (first.seconds / small), last.peak_mib / first.peak_mib);
            let said = if time <= FLAT && memory <= FLAT { "flat" } else { "NOT FLAT" };
            println!("  {what:22} time a GB x {time:.2}, memory x {memory:.2}: {said}");
        }
    }
    for tables in numbers("LOCKKEEPER_SCALE_TABLES", "10000").into_iter().filter(|n| *n > 0.0) {
        println!("\n{tables} tables");
        let mut scale = Scale::new(1_000, tables as usize).await;
        // Any program that reads so many at once wants this, pg_dump too; the preflight says so.
        scale.place.production.server.set("max_locks_per_transaction", "256").await;
        scale.place.server_pid = scale.place.production.server.pid();
        let costs = scale.measure().await;
        for (what, cost) in &costs {
            println!("  {what:22} {}", cost.line());
        }
        all.push((0.0, costs));
    }
    for count in numbers("LOCKKEEPER_SCALE_FILES", "100000").into_iter().filter(|n| *n > 0.0) {
        println!("\n{count} files");
        let costs = files(count as usize).await;
        for (what, cost) in &costs {
            println!("  {what:22} {}", cost.line());
        }
        all.push((0.0, costs));
    }
    let most = all.iter().flat_map(|(_, costs)| costs).map(|(_, cost)| cost.peak_mib).fold(0.0, f64::max);
    println!("\nmost memory of our processes: {most:.0} MiB ({HELD_MIB} at most)");
    assert!(most <= HELD_MIB, "{most:.0} MiB");
}
