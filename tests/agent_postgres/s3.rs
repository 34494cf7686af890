//! A repository on S3, on a real server of it.

use std::path::{Path, PathBuf};

use lockkeeper::{
    data::{
        repository::{Repository, RepositoryError},
        s3::{Bucket, Location},
    },
    manifest::task::Task,
};

use super::*;

#[path = "../support/gateway.rs"]
mod gateway;
use gateway::{BUCKET, Gateway, KEY, SECRET, credentials};

const PREFIX: &str = "shop/production";

/// What a task says of the place.
fn said(endpoint: &str) -> Value {
    json!({"endpoint": endpoint, "region": "us-east-1", "bucket": BUCKET, "prefix": PREFIX})
}

async fn world(name: &str) -> World {
    let mut world = World::new(name).await;
    credentials(&world.paths.repository_credentials, KEY, SECRET);
    // Nothing of it is on a volume.
    world.paths.repository = PathBuf::from("/nowhere");
    world
}

fn task(world: &World, gateway: &Gateway, verb: &str, more: Value) -> Task {
    let mut task = world.task_with(verb, more);
    task.s3 = Some(serde_json::from_value(said(&gateway.endpoint())).unwrap());
    task
}

fn bucket(gateway: &Gateway, credentials: &Path) -> Bucket {
    let (endpoint, prefix) = (gateway.endpoint(), PREFIX.to_owned());
    Bucket::new(Location { endpoint, region: "us-east-1".into(), bucket: BUCKET.into(), prefix }, credentials).unwrap()
}

/// A repository without a database: a directory with its password and credentials.
struct Bare {
    gateway: Gateway,
    directory: tempfile::TempDir,
}

impl Bare {
    fn new() -> Self {
        let bare = Self { gateway: Gateway::start(), directory: tempfile::tempdir().unwrap() };
        for part in ["password", "in"] {
            fs::create_dir_all(bare.path(part)).unwrap();
        }
        fs::write(bare.path("password/password"), "correct horse").unwrap();
        credentials(&bare.path("credentials"), KEY, SECRET);
        // Chunks and trees in several packs, of bytes that do not compress.
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        fs::write(bare.path("in/rows.copy"), noise.take(20 << 20).collect::<Vec<_>>()).unwrap();
        bare
    }

    fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    fn open(&self, environment: &str) -> Result<Repository, RepositoryError> {
        Repository::open(bucket(&self.gateway, &self.path("credentials")), &self.path("password"), environment)
    }

    fn store(&self, run: &str) -> String {
        self.open("env-a").unwrap().store(&self.path("in"), run, "shop/production", None).unwrap().snapshot
    }

    fn read(&self, snapshot: &str) -> Result<(), RepositoryError> {
        let place = bucket(&self.gateway, &self.path("credentials"));
        let repository = Repository::open_to_read(place, &self.path("password"), "env-a")?;
        let out = tempfile::tempdir().unwrap();
        repository.restore(snapshot, out.path())?;
        assert!(fs::read(out.path().join("rows.copy")).unwrap() == fs::read(self.path("in/rows.copy")).unwrap());
        Ok(())
    }

    fn objects(&self, below: &str) -> Vec<PathBuf> {
        files_below(&self.gateway.bucket().join(PREFIX).join(below))
    }
}

#[tokio::test]
async fn a_backup_on_s3_is_proven_restored_and_pruned_and_stock_restic_reads_it() {
    let (world, gateway) = (world("bucket").await, Gateway::start());
    let looked = world.done(&task(&world, &gateway, "preflight", json!({"minimumFreeFactor": 1e9}))).await;
    assert_eq!(failed(&looked), [], "a bucket has no size");
    let told = looked.checks.iter().find(|c| c.name == "repository").unwrap();
    assert!(told.message.contains(&format!("bucket {BUCKET} at {}, below {PREFIX}", gateway.endpoint())), "{}", told.message);

    let first = world.done(&task(&world, &gateway, "backup", json!({}))).await.backup.unwrap();
    let again = world.done(&task(&world, &gateway, "backup", json!({}))).await.backup.unwrap();
    assert_eq!((&again.snapshot, first.rows >= 2000), (&first.snapshot, true), "once, and all of it: {first:?}");
    let second = task(&world, &gateway, "backup", json!({"run": OTHER_RUN}));
    let second = world.done(&second).await.backup.unwrap();
    assert!(second.stored_bytes < first.stored_bytes / 3, "what is there is not stored again: {second:?}");
    let notes = world.done(&task(&world, &gateway, "prove", json!({"snapshot": first.snapshot}))).await.notes.join("\n");
    assert!(notes.contains("restored and compared 8 tables"), "{notes}");
    for file in files_below(&gateway.bucket()) {
        assert!(!fs::read(&file).unwrap().windows(8).any(|w| w == b"Customer"), "{file:?}");
        assert!(file.starts_with(gateway.bucket().join(PREFIX)), "{file:?} is outside of the prefix");
    }

    // Put back.
    world.as_app().await.batch_execute("DELETE FROM orders WHERE id > 5").await.unwrap();
    world.ok("fence", 1).await;
    world.done(&task(&world, &gateway, "restore", json!({"epoch": 1, "snapshot": first.snapshot}))).await;
    world.ok("release", 1).await;
    assert_eq!(world.rows().await, 2000);

    // An undo point by backup, and a rollback from it.
    let by_backup = json!({"epoch": 2, "data": [{"name": "store", "undo": "Backup"}]});
    world.ok("fence", 2).await;
    let undo = world.done(&task(&world, &gateway, "undo", by_backup.clone())).await;
    assert!(undo.aside[0].snapshot.is_some() && undo.aside[0].method == "Backup", "{undo:?}");
    world.as_app().await.batch_execute(MIGRATION).await.unwrap();
    world.done(&task(&world, &gateway, "rollback", by_backup)).await;
    assert_eq!(world.rows().await, 2000);

    let environment = json!({"environment": "ffffffff-0000-0000-0000-000000000000"});
    let theirs = task(&world, &gateway, "backup", environment);
    let error = world.refused(&theirs, exit::PERMANENT, "RepositoryForeign").await.error.unwrap();
    assert!(error.message.contains("a bucket and prefix, of its own"), "{}", error.message);

    let gone = json!({"data": [], "remove": [second.snapshot], "keep": [first.snapshot]});
    assert_eq!(world.done(&task(&world, &gateway, "prune", gone)).await.removed, std::slice::from_ref(&second.snapshot));
    world
        .refused(&task(&world, &gateway, "prove", json!({"snapshot": second.snapshot})), exit::PERMANENT, "SnapshotMissing")
        .await;
    world.done(&task(&world, &gateway, "prove", json!({"snapshot": first.snapshot}))).await;

    let out = world.directory.path().join("out");
    let restic = |words: &[&str]| {
        Command::new("restic")
            .arg("-r")
            .arg(format!("s3:{}/{BUCKET}/{PREFIX}", gateway.endpoint()))
            .arg("--password-file")
            .arg(world.paths.repository_password.join("password"))
            .args(["--no-cache"])
            .args(words)
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .output()
    };
    let target = out.to_str().unwrap();
    for words in [&["check", "--read-data"][..], &["restore", &first.snapshot, "--target", target]] {
        match restic(words) {
            Ok(done) => assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr)),
            Err(_) => return eprintln!("restic is not installed"),
        }
    }
    assert!(out.join("store/manifest.json").is_file());
}

#[tokio::test]
async fn each_way_in_which_s3_does_not_let_one_in_is_told_with_what_mends_it() {
    let (world, mut gateway) = (world("lockedout").await, Gateway::start());
    let place = world.paths.repository_credentials.clone();
    let told = async |more: Value, words: &str| {
        let mut task = task(&world, &gateway, "preflight", json!({"data": []}));
        let mut s3 = said(&gateway.endpoint());
        s3.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task.s3 = Some(serde_json::from_value(s3).unwrap());
        let looked = world.done(&task).await;
        let all = failed(&looked);
        let [("repository", message)] = all.as_slice() else { panic!("{words}: {all:?}") };
        assert!(message.contains(words) && !message.contains(SECRET), "{words}: {message}");
    };
    credentials(&place, "AKIDNOBODYHASTHIS", SECRET);
    told(json!({}), "knows no such access key: correct accessKeyId").await;
    credentials(&place, KEY, "wrong");
    told(json!({}), "correct secretAccessKey in the Secret").await;
    fs::remove_file(place.join("secretAccessKey")).unwrap();
    told(json!({}), "has no key secretAccessKey (or AWS_SECRET_ACCESS_KEY)").await;
    fs::remove_file(place.join("accessKeyId")).unwrap();
    fs::write(place.join("AWS_ACCESS_KEY_ID"), KEY).unwrap();
    fs::write(place.join("AWS_SECRET_ACCESS_KEY"), format!("{SECRET}\n")).unwrap();
    told(json!({"bucket": "not-there"}), "bucket not-there at").await;
    told(json!({"region": "eu-south-2"}), "is in another region (us-east-1)").await;
    told(json!({"endpoint": "http://127.0.0.1:9"}), "http://127.0.0.1:9 does not answer").await;
    told(json!({"endpoint": "http://169.254.169.254"}), "where clouds give credentials away").await;
    told(json!({"endpoint": format!("https://{}", gateway.address())}), "does not answer").await;
    assert!(files_below(&gateway.bucket()).is_empty(), "nothing was written");

    // Reading is enough for who puts back, and for nobody else.
    let backup = world.done(&task(&world, &gateway, "backup", json!({}))).await.backup.unwrap();
    gateway.restart(&["--readonly"]);
    let told_of = world.done(&task(&world, &gateway, "preflight", json!({"data": []}))).await;
    let said = failed(&told_of)[0].1;
    assert!(said.contains("writing to it") && said.contains("s3:PutObject"), "{said}");
    world.done(&task(&world, &gateway, "prove", json!({"snapshot": backup.snapshot}))).await;
    let looked = world.done(&task(&world, &gateway, "preflight", json!({"snapshot": backup.snapshot}))).await;
    assert_eq!(failed(&looked), []);
    let elsewhere =
        json!({"snapshot": backup.snapshot, "s3": {"endpoint": gateway.endpoint(), "region": "us-east-1", "bucket": BUCKET}});
    world.refused(&world.task_with("prove", elsewhere), exit::PERMANENT, "RepositoryMissing").await;
}

#[tokio::test]
async fn tls_is_verified_by_the_authority_of_the_credentials_secret() {
    let world = world("tlsbucket").await;
    let certificate = world.server.certificate("bucket");
    let key = certificate.with_extension("key");
    let flags = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let gateway = Gateway::start_with("127.0.0.1", &flags);
    let mut backup = task(&world, &gateway, "backup", json!({}));
    backup.s3.as_mut().unwrap().endpoint = format!("https://{}", gateway.address());
    let error = world.refused(&backup, exit::PERMANENT, "S3CertificateUntrusted").await.error.unwrap();
    assert!(error.message.contains("into the key ca.crt"), "{}", error.message);
    fs::copy(certificate, world.paths.repository_credentials.join("ca.crt")).unwrap();
    world.done(&backup).await;
    // Another's certificate is not enough.
    fs::copy(world.server.certificate("other"), world.paths.repository_credentials.join("ca.crt")).unwrap();
    world.refused(&backup, exit::PERMANENT, "S3CertificateUntrusted").await;
}

#[tokio::test]
async fn a_server_that_goes_in_the_middle_is_waited_for_and_what_a_killed_job_left_is_in_nobodys_way() {
    let (world, gateway) = (world("gone").await, Gateway::start());
    let app = world.as_app().await;
    app.batch_execute("CREATE TABLE noise AS SELECT i, gen_random_bytes(1024) AS b FROM generate_series(1, 60000) i")
        .await
        .unwrap();
    let program = |task: &Task| {
        let mut command = world.agent_with(task);
        command.stdout(std::process::Stdio::null());
        Running(command.spawn().unwrap())
    };
    let packs = |gateway: &Gateway| files_below(&gateway.bucket().join(PREFIX).join("data")).len();
    let backup = task(&world, &gateway, "backup", json!({}));
    // Killed with some of it written.
    let mut killed = program(&backup);
    patiently(|| packs(&gateway) > 0).await;
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    // Made again, and the server is away for a while.
    let mut gateway = gateway;
    let before = packs(&gateway);
    let mut running = program(&backup);
    patiently(|| packs(&gateway) > before).await;
    gateway.stop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(running.0.try_wait().unwrap().is_none(), "it waits");
    gateway.restart(&[]);
    assert!(running.0.wait().unwrap().success());
    let outcome: Outcome = serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap();
    let snapshot = outcome.backup.unwrap().snapshot;
    world.done(&task(&world, &gateway, "prove", json!({"snapshot": snapshot}))).await;
    // A server that is away before anything began is not waited for so long.
    gateway.stop();
    let began = Instant::now();
    world.refused(&task(&world, &gateway, "prove", json!({"snapshot": snapshot})), exit::RETRYABLE, "S3Unreachable").await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// A program that does not outlive its test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Deriving a key takes its time, and more of it where others are at work.
async fn patiently(fine: impl Fn() -> bool) {
    let began = Instant::now();
    while !fine() {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not come true within 60 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn of_many_that_make_a_repository_at_once_one_decides_and_all_can_write() {
    let bare = Bare::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| bare.open("env-a").map(drop))).collect();
        for one in all {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(bare.objects("keys").len(), 1, "one key");
    // Two at once, as the first of each run.
    let snapshots: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = ["r1", "r2"].into_iter().map(|run| scope.spawn(|| bare.store(run))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for snapshot in snapshots {
        bare.read(&snapshot).unwrap();
    }
    // Another password, when there is one already.
    fs::write(bare.path("password/password"), "another").unwrap();
    assert_eq!(bare.open("env-a").err().unwrap().reason(), "RepositoryPasswordWrong");
}

#[test]
fn who_was_killed_while_making_a_repository_is_carried_on_from_whatever_object() {
    let bare = Bare::new();
    bare.open("env-a").unwrap();
    // Killed before the last object, and before the key; a key that opens nothing lies about.
    for gone in [&["config"][..], &["config", "keys"]] {
        for part in gone {
            let path = bare.gateway.bucket().join(PREFIX).join(part);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        fs::create_dir_all(bare.gateway.bucket().join(PREFIX).join("keys")).unwrap();
        fs::write(bare.gateway.bucket().join(PREFIX).join("keys").join("0".repeat(64)), "{}").unwrap();
        bare.open("env-a").unwrap();
        assert_eq!(bare.objects("keys").len(), 1);
    }
    let snapshot = bare.store("r1");
    bare.read(&snapshot).unwrap();
    // What was a repository is never made anew over what lies there.
    for part in ["config", ".making"] {
        fs::remove_file(bare.gateway.bucket().join(PREFIX).join(part)).unwrap();
    }
    let error = bare.open("env-a").err().unwrap();
    assert_eq!(error.reason(), "RepositoryDamaged", "{error}");
}

#[test]
fn a_flipped_bit_a_cut_end_and_a_lost_object_of_each_kind_are_found() {
    let bare = Bare::new();
    let snapshot = bare.store("r1");
    let damage = |path: &Path, how: &str| {
        let mut bytes = fs::read(path).unwrap();
        match how {
            "flipped" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            "cut" => bytes.truncate(bytes.len() / 3),
            _ => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    };
    for kind in ["data", "index", "snapshots", "config"] {
        for how in ["flipped", "cut", "lost"] {
            let at = bare.gateway.bucket().join(PREFIX).join(kind);
            let files = if at.is_file() { vec![at] } else { bare.objects(kind) };
            for path in files {
                let whole = fs::read(&path).unwrap();
                damage(&path, how);
                let error = bare.read(&snapshot).expect_err(&format!("{kind} {how}: {}", path.display()));
                let expected: &[&str] = match (kind, how) {
                    ("snapshots", "lost") => &["SnapshotMissing"],
                    ("config", "lost") => &["RepositoryMissing"],
                    // Without its index a pack is unknown.
                    ("index", "lost") => &["RepositoryFailed", "RepositoryDamaged"],
                    _ => &["RepositoryDamaged"],
                };
                assert!(expected.contains(&error.reason()), "{kind} {how}: {}: {error}", error.reason());
                fs::write(&path, whole).unwrap();
            }
        }
    }
    bare.read(&snapshot).unwrap();
}

#[test]
fn a_listing_of_many_pages_is_whole() {
    let bare = Bare::new();
    let bucket = bucket(&bare.gateway, &bare.path("credentials"));
    let at = bare.gateway.bucket().join(PREFIX).join("many");
    fs::create_dir_all(&at).unwrap();
    for i in 0..2345 {
        fs::write(at.join(format!("{i:05}")), "x").unwrap();
    }
    let all = bucket.list("many/").unwrap();
    assert_eq!((all.len(), all[2344].clone()), (2345, ("many/02344".to_owned(), 1)));
}
