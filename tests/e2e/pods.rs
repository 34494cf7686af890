//! Pods and their node: a Job's pod is evicted, deleted, ended for want of memory; the node's kubelet is killed and comes back.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams},
};
use lockkeeper::api::Phase;

use super::{
    cluster::{self, Kubelet, eventually, processes, wait},
    outcome::{self, Before},
    users::Users,
    world::{PATIENCE, World},
};

#[test]
fn story_a_migration_that_takes_more_memory_than_it_may_is_undone_and_the_cause_says_so() {
    let world = World::new("hungry", "2-hungry");
    let mut users = Users::of(&world, "hungry", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("hungry"));
    world.approve("hungry");
    world.begins("hungry", "page");
    users.rush();
    let run = world.reaches("hungry", &[Phase::RolledBack]);
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &["needed more memory than its limit"]));
}

#[test]
fn story_pods_of_a_run_are_evicted_and_deleted_and_its_nodes_kubelet_is_killed() {
    let mut world = World::alone("pods", "2-slow");
    world.slow_for("8s");
    // The migration's: what it did is undone, and the cause names who ended it.
    let before = Before::quiet(&world);
    world.ask(&world.promotion("evicted"));
    world.approve("evicted");
    world.begins("evicted", "migration/tiny");
    half_is_committed(&world);
    let pods: Api<Pod> = Api::namespaced(cluster::client(None), &world.production);
    let pod = eventually("the kubelet has told that its pod runs", PATIENCE, || at_work(&pods, "migration.tiny", &["Running"]));
    wait(pods.evict(&pod, &EvictParams::default())).expect("an administrator may evict");
    let run = world.reaches("evicted", &[Phase::RolledBack]);
    let failure = run.status.as_ref().and_then(|s| s.failure.clone()).expect("a cause");
    assert_eq!((failure.step.as_str(), failure.reason.as_str()), ("migration/tiny", "MigrationFailed"));
    assert!(failure.message.contains("its pod was ended from outside (EvictionByEvictionAPI"), "{}", failure.message);
    outcome::unchanged(&world, &before);
    outcome::nothing_left(&world, &run, &before);

    // The agent's: each is made again. And the kubelet dies while the migration works, and is back when that has ended.
    let before = Before::quiet(&world);
    world.ask(&world.promotion("carried-on"));
    world.approve("carried-on");
    let delete = |step: &str| {
        // A backup of little ends before the kubelet has told that it began.
        let pod = eventually(&format!("the pod of {step}"), PATIENCE, || at_work(&pods, step, &["Pending", "Running"]));
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        wait(pods.delete(&pod, &at_once)).expect("an administrator may delete a pod");
        println!("pod {pod} is deleted");
    };
    // The second and the third wait for their turn at a gate.
    delete("backup");
    delete("fence");
    world.begins("carried-on", "migration/tiny");
    half_is_committed(&world);
    delete("verify.health");
    let kubelet = Kubelet::killed();
    eventually("the migration ends, of which nobody tells the API server", PATIENCE, || match processes("/tiny\0migrate\0") {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    });
    let at = world.record.promotion("carried-on").status.and_then(|s| s.step);
    assert_eq!(at.as_deref(), Some("migration/tiny"), "without a kubelet nothing goes on");
    drop(kubelet);
    let run = world.reaches("carried-on", &[Phase::Completed]);
    outcome::delivered(&world, &run, &before);
    outcome::nothing_left(&world, &run, &before);
}

/// Waits until a slow migration is in the middle of its work.
pub fn half_is_committed(world: &World) {
    eventually("half of the migration is committed", PATIENCE, || {
        world.database.query("tiny", "SELECT count(digits) FROM writes").map(drop)
    });
}

/// A step's pod in one of these phases.
fn at_work(pods: &Api<Pod>, step: &str, phases: &[&str]) -> Result<String, String> {
    let all =
        wait(pods.list(&ListParams::default().labels(&format!("lockkeeper.dev/step={step}")))).map_err(|e| e.to_string())?;
    let runs = |p: &&Pod| {
        let phase = p.status.as_ref().and_then(|s| s.phase.as_deref());
        p.metadata.deletion_timestamp.is_none() && phase.is_some_and(|phase| phases.contains(&phase))
    };
    all.items.iter().find(runs).map(ResourceExt::name_any).ok_or_else(|| format!("{} pods, none at work", all.items.len()))
}
