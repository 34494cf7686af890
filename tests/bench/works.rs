//! What is done in each round: ours, and each peer's.

use std::{env, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::{
    cost::{Cost, timed},
    place::Place,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Backup, proof of it, a second backup of the same.
    Backup,
    /// Masked into the exchange, and from there into Development, whose database is swapped.
    Mirror,
    /// An empty run: locked, undo point, given back.
    Lock,
    /// pg_dump as its users call it, and pg_restore.
    Dump,
    /// pg_dump with a quicker compression than its own.
    DumpQuick,
    /// pgcopydb, which copies as it is, and leaves nothing in between.
    Pgcopydb,
    /// Greenmask with realistic substitutes in the columns that ours masks.
    GreenmaskSame,
    /// Greenmask with realistic substitutes in half of them: those for which it gives the same for the same, as ours does.
    Greenmask,
    /// Greenmask at its quickest: hashes, which are no names.
    GreenmaskHashed,
}

type Costs = Vec<(&'static str, Cost)>;

fn program(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|p| !p.is_empty()).map(PathBuf::from).filter(|p| p.exists())
}

impl Work {
    /// All that can be done here, and a sentence for each that cannot.
    pub fn all() -> (Vec<Self>, Vec<String>) {
        let mut works = vec![Self::Backup, Self::Dump, Self::Mirror, Self::DumpQuick, Self::Lock];
        let mut left_out = Vec::new();
        let mut peer = |name: &str, peers: &[Self]| match program(name) {
            Some(_) => works.extend(peers),
            None => left_out.push(format!("{peers:?}: {name} names no program; hack/bench.sh installs it")),
        };
        peer("LOCKKEEPER_BENCH_PGCOPYDB", &[Self::Pgcopydb]);
        peer("LOCKKEEPER_BENCH_GREENMASK", &[Self::GreenmaskSame, Self::Greenmask, Self::GreenmaskHashed]);
        let only = env::var("LOCKKEEPER_BENCH_ONLY").unwrap_or_default();
        if !only.is_empty() {
            works.retain(|w| only.split(',').any(|o| o == format!("{w:?}")));
        }
        (works, left_out)
    }

    pub async fn run(self, place: &mut Place, round: u64) -> Costs {
        place.settle().await;
        match self {
            Self::Backup => backup(place, round),
            Self::Mirror => mirror(place, round).await,
            Self::Lock => lock(place, round).await,
            Self::Dump => dump(place, ["pg_dump -Fd -j2", "pg_restore -j2"], None).await,
            Self::DumpQuick => {
                dump(place, ["pg_dump -Fd -j2 --compress=1", "pg_restore -j2, of --compress=1"], Some("--compress=1")).await
            }
            Self::Pgcopydb => pgcopydb(place).await,
            Self::GreenmaskSame => {
                greenmask(
                    place,
                    self,
                    ["Greenmask dump, the same columns", "Greenmask restore, the same columns", "Greenmask, the same columns"],
                )
                .await
            }
            Self::Greenmask => {
                greenmask(
                    place,
                    self,
                    ["Greenmask dump, names and emails", "Greenmask restore, names and emails", "Greenmask, names and emails"],
                )
                .await
            }
            Self::GreenmaskHashed => {
                greenmask(place, self, ["Greenmask dump, hashed", "Greenmask restore, hashed", "Greenmask, hashed"]).await
            }
        }
    }
}

fn snapshot_of(outcome: &Value) -> &Value {
    &outcome["backup"]["snapshot"]
}

fn backup(place: &Place, round: u64) -> Costs {
    let world = &place.production;
    let _ = fs::remove_dir_all(&world.paths.repository);
    let stored = |outcome: &Value| outcome["backup"]["storedBytes"].as_f64();
    let task = world.task_with("backup", json!({"run": format!("backup {round}")}));
    let (_, mut first, outcome) = place.agent(world, &task, None);
    first.counted = stored(&outcome);
    let prove = world.task_with("prove", json!({"run": format!("proof {round}"), "snapshot": snapshot_of(&outcome)}));
    let (restore, proof, _) = place.agent(world, &prove, Some("comparing"));
    let task = world.task_with("backup", json!({"run": format!("again {round}")}));
    let (_, mut second, outcome) = place.agent(world, &task, None);
    second.counted = stored(&outcome);
    vec![("backup", first), ("restore", restore), ("restore, compared", proof), ("second backup", second)]
}

async fn mirror(place: &mut Place, round: u64) -> Costs {
    let (from, to) = (&place.production, &place.development);
    let _ = fs::remove_dir_all(&from.paths.repository);
    let run = format!("mirror{round}");
    let task = json!({"run": run, "maskingPolicyHash": place.policy_hash, "policy": "copy"});
    let (_, snapshot, outcome) = place.agent(from, &from.task_with("snapshot", task), None);
    place.epoch += 1;
    let locked = |verb: &str, more: Value| {
        let mut task = json!({"run": run, "epoch": place.epoch});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        to.task_with(verb, task)
    };
    place.agent(to, &locked("fence", json!({})), None);
    let load = locked("restore", json!({"snapshot": snapshot_of(&outcome), "origin": from.environment}));
    let (loaded, whole, outcome) = place.agent(to, &load, Some("comparing"));
    place.agent(to, &locked("release", json!({})), None);
    let swap = outcome["notes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .find_map(|note| note.split_once("swapped in ")?.1.split_once(" s;")?.0.parse::<f64>().ok());
    for database in outcome["aside"].as_array().unwrap() {
        place.drop_database(database["database"].as_str().unwrap()).await;
    }
    let swap = Cost { seconds: swap.unwrap(), ..Cost::default() };
    vec![
        ("mirror: mask", snapshot),
        ("mirror: load", loaded),
        ("mirror", snapshot.then(loaded)),
        ("mirror, compared", snapshot.then(whole)),
        ("swap", swap),
    ]
}

async fn lock(place: &mut Place, round: u64) -> Costs {
    place.epoch += 1;
    let world = &place.production;
    let mut all = Cost::default();
    for verb in ["fence", "undo", "release"] {
        let task = world.task_with(verb, json!({"run": format!("lock{round}"), "epoch": place.epoch}));
        let (_, cost, outcome) = place.agent(world, &task, None);
        all = all.then(cost);
        for database in outcome["aside"].as_array().into_iter().flatten().filter(|_| verb == "release") {
            place.drop_database(database["database"].as_str().unwrap()).await;
        }
    }
    vec![("lock of an empty run", all)]
}

async fn dump(place: &Place, names: [&'static str; 2], more: Option<&str>) -> Costs {
    let directory = place.fresh("dump");
    let mut program = place.tool("pg_dump");
    program.args(["--format=directory", "--jobs=2", "--file"]).arg(&directory).args(more).arg(&place.database);
    let dumped = timed(place.server_pid, &mut program, None).1;
    let mut program = place.tool("pg_restore");
    program.args(["--jobs=2", "--no-owner", "--dbname=bench_peer"]).arg(&directory);
    let loaded = create(place).then(timed(place.server_pid, &mut program, None).1);
    whole(place).await;
    let _ = fs::remove_dir_all(&directory);
    vec![(names[0], dumped), (names[1], loaded)]
}

/// A program that looks for the server's own clients, with the server's password.
fn foreign(place: &Place, name: &str) -> Command {
    let mut command = Command::new(program(name).unwrap());
    let path = format!("{}:{}", place.production.server.bin().display(), env::var("PATH").unwrap());
    command.env("PATH", path).env("PGPASSWORD", place.production.password()).env("PGSSLMODE", "disable");
    command
}

async fn pgcopydb(place: &Place) -> Costs {
    let directory = place.fresh("pgcopydb");
    let made = create(place);
    let mut program = foreign(place, "LOCKKEEPER_BENCH_PGCOPYDB");
    program.args(["clone", "--table-jobs=2", "--index-jobs=2", "--no-owner", "--no-acl", "--dir"]).arg(&directory);
    program.args(["--source", &place.conninfo(&place.database), "--target", &place.conninfo("bench_peer")]);
    let cost = timed(place.server_pid, &mut program, None).1;
    whole(place).await;
    let _ = fs::remove_dir_all(&directory);
    vec![("pgcopydb clone, unmasked", made.then(cost))]
}

/// Greenmask's masks. Where it has one that gives the same for the same, as ours do, that one.
fn masks(work: Work) -> Value {
    let one = |name: &str, params: Value| json!({"name": name, "params": params});
    let columns = |of: &[(&str, &str)]| -> Value { of.iter().map(|(name, is)| json!({"name": name, "template": is})).collect() };
    let person = columns(&[("first_name", "{{ .FirstName }}"), ("last_name", "{{ .LastName }}")]);
    let some = [
        one("RandomEmail", json!({"column": "email", "engine": "hash"})),
        one("RandomPerson", json!({"engine": "hash", "columns": person})),
    ];
    let rest = [
        one("RandomE164PhoneNumber", json!({"column": "phone"})),
        one("RealAddress", json!({"columns": columns(&[("street", "{{ .Address }}"), ("city", "{{ .City }}")])})),
    ];
    match work {
        Work::GreenmaskHashed => ["email", "first_name", "last_name", "phone", "street", "city"]
            .iter()
            .map(|c| one("Hash", json!({"column": c})))
            .collect(),
        Work::GreenmaskSame => some.into_iter().chain(rest).collect(),
        _ => some.into_iter().collect(),
    }
}

async fn greenmask(place: &Place, work: Work, names: [&'static str; 3]) -> Costs {
    let directory = place.fresh("greenmask");
    let storage = directory.join("storage");
    fs::create_dir_all(&storage).unwrap();
    let options = |database: &str| json!({"dbname": place.conninfo(database), "jobs": 2, "pgzip": true});
    let configuration = json!({
        "common": {"pg_bin_path": place.production.server.bin(), "tmp_dir": directory},
        "log": {"level": "warn"},
        "storage": {"type": "directory", "directory": {"path": storage}},
        "dump": {
            "pg_dump_options": options(&place.database),
            "transformation": [{"schema": "public", "name": "users", "transformers": masks(work)}],
        },
        "restore": {"pg_restore_options": options("bench_peer")},
    });
    let file = directory.join("greenmask.yml");
    fs::write(&file, configuration.to_string()).unwrap();
    let program = || {
        let mut program = foreign(place, "LOCKKEEPER_BENCH_GREENMASK");
        program.arg("--config").arg(&file).env("GREENMASK_GLOBAL_SALT", "0123456789abcdef0123456789abcdef");
        program
    };
    let dumped = timed(place.server_pid, program().arg("dump"), None).1;
    let made = create(place);
    let loaded = made.then(timed(place.server_pid, program().args(["restore", "latest"]), None).1);
    whole(place).await;
    let _ = fs::remove_dir_all(&directory);
    vec![(names[0], dumped), (names[1], loaded), (names[2], dumped.then(loaded))]
}

fn create(place: &Place) -> Cost {
    timed(place.server_pid, place.tool("createdb").args(["--template=template0", "bench_peer"]), None).1
}

/// Sees that a peer did it all, and drops what it made.
async fn whole(place: &Place) {
    let boss = place.production.server.boss("bench_peer").await;
    let sql = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM pg_indexes WHERE tablename = 'users')";
    let row = boss.query_one(sql, &[]).await.unwrap();
    let rows = i64::try_from(place.rows).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (rows, 2), "a peer left rows or indexes out");
    drop(boss);
    place.drop_database("bench_peer").await;
}
