//! (m) The repository is full: before the lock nobody is locked out, under it the run is rolled back, and what was written
//! half stands in nobody's way afterwards.

use std::{fs, path::PathBuf, process::Command};

use kube::api::PostParams;
use lockkeeper::api::{EnvironmentBackup, Phase, Promotion};
use serde_json::json;

use super::{
    cluster::{self, eventually, kubectl, wait},
    outcome::{self, Before},
    users::Users,
    world::{PATIENCE, World},
};

/// A file system of a few MiB in the place of the directory behind the claim of the repository.
struct Small {
    directory: PathBuf,
}

impl Small {
    fn of(world: &World) -> Self {
        let volume = eventually("the claim is bound", PATIENCE, || {
            let of_claim = ["-n", &world.production, "get", "pvc", "backups", "-o", "jsonpath={.spec.volumeName}"];
            kubectl(&of_claim).and_then(|name| if name.is_empty() { Err("not yet".into()) } else { Ok(name) })
        });
        let path = ["get", "pv", &volume, "-o", "jsonpath={.spec.hostPath.path}"];
        let directory = PathBuf::from(kubectl(&path).expect("a directory of this machine"));
        cluster::run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs"]).arg(&directory), "")
            .expect("a small file system");
        Self { directory }
    }

    /// Takes all space but so many KiB.
    fn fill(&self, left: u64) {
        let filler = fs::File::create(self.directory.join("filler")).expect("a file");
        let free = rustix::fs::statvfs(&self.directory).expect("its space");
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, free.f_bavail * free.f_frsize - (left << 10))
            .expect("the space is taken");
    }

    fn free(&self) {
        fs::remove_file(self.directory.join("filler")).expect("the filler goes");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}

fn changed(world: &World, change: serde_json::Value) {
    let change = json!({"spec": change}).to_string();
    kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=merge", "-p", &change]).expect("a patch");
}

#[test]
fn story_a_full_repository_locks_nobody_out_and_under_the_lock_everything_goes_back() {
    let world = World::new("full", "2");
    let volume = Small::of(&world);
    volume.fill(32);
    let users = Users::of(&world, "before", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("before"));
    let said = world.record.until(("Promotion", "before"), "preflight says that there is no space", PATIENCE, |seen| {
        let status = seen.read::<Promotion>().status?;
        status.preflight.into_iter().find(|c| c.name == "repository: space" && !c.passed).map(|c| c.message)
    });
    assert!(said.contains("MiB are needed: make its volume larger"), "{said}");
    // Who trusts in deduplication may go on.
    changed(&world, json!({"preflight": {"minimumFreeFactor": 0}}));
    world.approve("before");
    let run = world.reaches("before", &[Phase::Failed]);
    outcome::untouched(&world, &run, &before, &users.heard());
    let failure = run.status.and_then(|s| s.failure).expect("a failure");
    assert_eq!((failure.step.as_str(), failure.reason.as_str()), ("backup", "BackupFailed"), "{failure:?}");
    assert!(failure.message.contains("its volume is full; make it larger"), "{failure:?}");
    volume.free();

    // The repository fills up once the first backup is in it: the undo point, the second, finds no room.
    let undo = json!([{"op": "add", "path": "/spec/data/0/undo", "value": {"method": "Backup"}}]).to_string();
    kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=json", "-p", &undo]).expect("a patch");
    let first = 10_000_001;
    let mut users = Users::of(&world, "under", "*/*", first);
    let before = Before::of(&world, &users, first);
    world.ask(&world.promotion("under"));
    world.approve("under");
    world.begins("under", "page");
    volume.fill(0);
    users.rush();
    let run = world.reaches("under", &[Phase::RolledBack]);
    outcome::as_before(&world, &run, &before, &users.heard(), ("undo", &["its volume is full"]));

    volume.free();
    let spec = json!({"environment": {"name": "production"}, "reason": "there is room again"});
    let backup = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentBackup",
        "metadata": {"name": "again", "namespace": world.production}, "spec": spec,
    });
    let backup: EnvironmentBackup = serde_json::from_value(backup).expect("a backup");
    wait(world.api::<EnvironmentBackup>(None).create(&PostParams::default(), &backup)).expect("one may back up");
    world.record.until(("EnvironmentBackup", "again"), "it is proven", PATIENCE, |seen| {
        seen.read::<EnvironmentBackup>().status?.proven_at
    });
}
