//! (q) Backups by themselves: a schedule makes them, retention removes the oldest and never the newest proven one. (r) When
//! their objects are lost, a snapshot goes back by its id.

use std::time::Duration;

use kube::{Api, ResourceExt, api::ListParams};
use lockkeeper::api::{EnvironmentBackup, Phase};
use serde_json::json;

use super::{
    cluster::{self, eventually, kubectl, wait},
    restored::{accept_and_approve, ask, own, reaches},
    world::{PATIENCE, World},
};

/// The proven backups, the oldest first.
fn proven(world: &World) -> Vec<EnvironmentBackup> {
    let api: Api<EnvironmentBackup> = Api::namespaced(cluster::client(None), &world.production);
    let mut all = wait(api.list(&ListParams::default())).expect("backups").items;
    all.retain(|b| b.status.as_ref().is_some_and(|s| s.proven_at.is_some()));
    all.sort_by_key(|b| b.status.as_ref().and_then(|s| s.proven_at));
    all
}

fn backups(world: &World, change: serde_json::Value) {
    let change = json!({"spec": {"backups": change}}).to_string();
    kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=merge", "-p", &change]).expect("a patch");
}

#[test]
fn story_backups_come_by_themselves_the_oldest_go_and_a_bare_snapshot_goes_back() {
    let world = World::new("scheduled", "2");
    own(&world);
    let write =
        |n: i64| world.database.query("tiny", &format!("INSERT INTO writes (n, release) VALUES ({n}, '1')")).expect("a write");
    write(1_000_001);
    backups(&world, json!({"schedule": "* * * * *", "retention": {"keepLast": 1}}));
    let patience = Duration::from_secs(300);
    let first = eventually("a backup is made by itself", patience, || proven(&world).into_iter().next().ok_or("none".into()));
    // Where a backup takes about a minute, there may be one more before the oldest is gone.
    let second = eventually("another follows, and the oldest goes", patience, || {
        let there = proven(&world);
        let gone = there.iter().all(|b| b.name_any() != first.name_any());
        let names = || format!("{:?}", there.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
        there.first().filter(|_| gone).cloned().ok_or_else(names)
    });
    backups(&world, json!({"schedule": null, "retention": null}));
    let at = |b: &EnvironmentBackup| b.status.as_ref().and_then(|s| s.taken_at).expect("a time");
    assert!(at(&second) > at(&first), "what stays is the newer one");
    let made = first.spec.reason.to_string();
    assert!(made.contains("schedule"), "it says whence it comes: {made}");
    judge(&world);

    // A third may be under way; it is the newest then.
    eventually("none is under way", patience, || {
        let api: Api<EnvironmentBackup> = Api::namespaced(cluster::client(None), &world.production);
        let all = wait(api.list(&ListParams::default())).map_err(|e| e.to_string())?;
        let over = |b: &EnvironmentBackup| b.status.as_ref().is_some_and(|s| s.phase.is_terminal());
        if all.iter().all(over) { Ok(()) } else { Err("one is".into()) }
    });
    let last = proven(&world).pop().expect("the newest");
    let snapshot = last.status.and_then(|s| s.snapshot).expect("a snapshot");
    kubectl(&["-n", &world.production, "delete", "environmentbackups", "--all", "--timeout=60s"]).expect("the objects are lost");
    write(1_000_002);
    ask(&world, "bare", json!({"snapshot": {"id": snapshot}}));
    accept_and_approve(&world, "bare");
    let run = reaches(&world, "bare", Phase::Completed);
    let numbers = world.database.numbers();
    assert!(numbers.contains(&1_000_001) && !numbers.contains(&1_000_002), "what the snapshot held is back");
    let status = run.status.expect("a status");
    assert!(status.undo.iter().any(|u| u.until.is_some()), "today's data is kept aside: {:?}", status.undo);
    let environment = world.record.environment("production").status.unwrap_or_default();
    assert!(environment.lock.and_then(|l| l.holder).is_none() && environment.active.is_none());
    eventually("users are served", PATIENCE, || {
        let url = format!("http://{}", world.address());
        cluster::run(std::process::Command::new(&cluster::cluster().tiny).args(["check", "--url", &url]), "").map(drop)
    });
}

/// At no instant did the newest proven backup go.
fn judge(world: &World) {
    let mut there: Vec<(lockkeeper::api::Timestamp, String)> = Vec::new();
    for seen in world.record.all().into_iter().filter(|s| s.kind == "EnvironmentBackup") {
        let backup: EnvironmentBackup = seen.read();
        let Some(at) = backup.status.and_then(|s| s.proven_at) else { continue };
        there.retain(|(_, name)| *name != seen.name);
        if seen.gone {
            assert!(there.iter().any(|(newer, _)| *newer > at), "{} was the newest proven backup, and went", seen.name);
        } else {
            there.push((at, seen.name.clone()));
        }
    }
}
