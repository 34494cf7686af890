//! (k) A writer with direct access to the database, whom no page keeps out. Where the migration has a role of its own he
//! stays out while it runs; where it has not, he is ended and named. What was acknowledged to him is there either way.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use k8s_openapi::api::core::v1::Service;
use lockkeeper::api::{Phase, Promotion, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::{
    cluster::{apply, cluster, eventually, kubectl, wait},
    outcome::{self, Before},
    users::{Testimony, Users},
    world::{PATIENCE, World},
};

/// One line of the writer's file.
#[derive(Deserialize)]
struct Attempt {
    time: Timestamp,
    n: Option<i64>,
    error: Option<String>,
}

/// A writer as the application's own role, from outside the cluster.
struct Direct {
    from: i64,
    out: PathBuf,
    process: Child,
}

impl Direct {
    fn of(world: &World, name: &str, from: i64) -> Self {
        let out = world.directory().join(format!("{name}.direct"));
        let server = wait(world.api::<Service>(None).get("postgres")).expect("the server's Service");
        let address = server.spec.and_then(|s| s.cluster_ip).expect("a clusterIP");
        let url = format!("postgres://tiny:tiny-of-a-story@{address}/tiny?application_name=direct");
        let process = Command::new(&cluster().tiny)
            .args(["direct", "--url", &url, "--from", &from.to_string(), "--out"])
            .arg(&out)
            .spawn()
            .expect("the writer starts");
        Self { from, out, process }
    }

    /// He stops. Every attempt, and what he was promised goes to the testimony.
    fn heard(mut self, testimony: &mut Testimony) -> Vec<Attempt> {
        super::users::stop(&self.process);
        self.process.wait().expect("the writer ends");
        let text = fs::read_to_string(&self.out).expect("his file");
        let attempts: Vec<Attempt> = text.lines().map(|l| serde_json::from_str(l).expect("an attempt")).collect();
        testimony.acknowledged.extend(attempts.iter().filter_map(|a| a.n));
        // What was under way when he was cut off may be there or not.
        testimony.sent.push((self.from, 5_000_000));
        attempts
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A run with users and the writer at work. He comes once the checks are over that would have named him.
fn run(world: &World, name: &str, first: i64) -> (Promotion, Vec<Attempt>) {
    let mut users = Users::of(world, name, "*/*", first);
    let before = Before::of(world, &users, first);
    world.ask(&world.promotion(name));
    world.approve(name);
    world.begins(name, "page");
    let direct = Direct::of(world, name, first + 50_000_000);
    users.rush();
    let run = world.reaches(name, &[Phase::Completed]);
    let mut testimony = users.heard();
    let attempts = direct.heard(&mut testimony);
    outcome::completed(world, &run, &before, &testimony);
    let message = step(&run, "release-data").2;
    assert!(message.contains("ended role tiny (direct) at "), "he is named: {message}");
    (run, attempts)
}

/// When a step began and ended, and what it said.
fn step(run: &Promotion, name: &str) -> (Timestamp, Timestamp, String) {
    let steps = &run.status.as_ref().expect("a status").steps;
    let step = steps.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("there is no step {name}"));
    (step.started_at.expect("it began"), step.finished_at.expect("it ended"), step.message.clone().unwrap_or_default())
}

/// How many writes were acknowledged between two instants, and how often he was refused the connection.
fn between(attempts: &[Attempt], from: Timestamp, to: Timestamp) -> (usize, usize) {
    let within = || attempts.iter().filter(|a| a.time > from && a.time < to);
    let refused = |a: &&Attempt| a.error.as_deref().is_some_and(|e| e.contains("permission denied for database"));
    (within().filter(|a| a.n.is_some()).count(), within().filter(refused).count())
}

#[test]
fn story_a_writer_past_the_service_stays_out_of_a_migration_with_a_role_of_its_own_and_is_named_otherwise() {
    let world = World::new("direct", "2-slow");
    // As the README says.
    let role = "CREATE ROLE tiny_migration LOGIN PASSWORD 'migration-of-a-story'; GRANT tiny TO tiny_migration; \
                GRANT tiny_migration TO tiny_admin; ALTER ROLE tiny_migration IN DATABASE tiny SET role = tiny";
    for statement in role.split("; ") {
        world.database.query("postgres", statement).expect("the owner of the server may");
    }
    let data = json!({
        "host": format!("postgres.{}.svc", world.production), "port": "5432", "dbname": "tiny", "user": "tiny_migration",
        "password": "migration-of-a-story",
    });
    let metadata = json!({"name": "tiny-db-migration", "namespace": world.production});
    apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}).to_string())
        .expect("a Secret");
    let own = |change: serde_json::Value| {
        let change = json!([change]).to_string();
        kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=json", "-p", &change]).expect("a patch");
    };
    let path = "/spec/modules/0/migration/connectionSecret";
    own(json!({"op": "add", "path": path, "value": {"name": "tiny-db-migration"}}));

    let (run_with, attempts) = run(&world, "with", 1);
    let (alone, admitted) = (step(&run_with, "undo").1, step(&run_with, "admit").0);
    let (written, refused) = between(&attempts, alone, admitted);
    assert_eq!(written, 0, "nobody else writes while the migration has the database for itself");
    assert!(refused > 20, "he tried: {refused} times");
    println!("with a role of its own: {refused} times refused from {alone} to {admitted}");
    let log = world.database.log();
    log.assert_said("tiny_migration@tiny ", "ALTER TABLE writes ADD COLUMN digits");
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'releases_seen'";
    assert_eq!(world.database.query("tiny", owner).expect("an owner").trim(), "tiny", "what it makes is the owner's");

    own(json!({"op": "remove", "path": path}));
    let next = cluster().image("tiny:2");
    kubectl(&["-n", &world.staging, "set", "image", "deployment/tiny", &format!("tiny={next}")]).expect("Staging gets it");
    let digest = next.split_once('@').map(|(_, digest)| digest.to_owned()).unwrap_or_default();
    eventually("Staging runs it", PATIENCE, || {
        let runs = world.digests(&world.staging);
        if runs == [digest.clone()] { Ok(()) } else { Err(format!("{runs:?}")) }
    });
    let (run_without, attempts) = run(&world, "without", 100_000_001);
    let (written, refused) = between(&attempts, step(&run_without, "undo").1, step(&run_without, "release-data").0);
    assert!(written > 0 && refused == 0, "without one the application's role gets in: {written} {refused}");
}
