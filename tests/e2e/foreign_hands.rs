//! (j) Another program applies its own manifests every second while Production is locked, and does not rest.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use lockkeeper::api::Phase;
use serde_json::json;

use super::{
    cluster::{cluster, run},
    world::World,
};

#[test]
fn story_a_program_that_applies_its_own_manifests_every_second_ends_in_a_rollback_that_names_it() {
    let world = World::new("foreign", "2");
    let (service, deployment, configuration) = (world.service(), world.deployment().spec.expect("a spec"), world.configuration());
    let shape = world.database.shape();
    let source = world.source();
    let image = cluster().image("tiny:1").to_owned();
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "tiny", "namespace": world.production},
            "spec": {"selector": {"app": "tiny"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "tiny", "namespace": world.production},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "tiny"}},
                "template": {"metadata": {"labels": {"app": "tiny"}}, "spec": {"containers": [{"name": "tiny", "image": image}]}},
            },
        },
    ]})
    .to_string();
    let rests = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager=shop-sync", "-f", "-"];
            while !rests.load(Ordering::Relaxed) {
                // It does not give up when it comes at the same moment as the operator.
                let _ = run(std::process::Command::new(super::support::tool("kubectl")).args(arguments), &manifest);
                thread::sleep(Duration::from_secs(1));
            }
        });
        world.ask(&world.promotion("foreign"));
        world.approve("foreign");
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.reaches("foreign", &[Phase::RolledBack])));
        rests.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });

    let status = ended.status.as_ref().expect("a status");
    let failure = status.failure.as_ref().expect("a failure");
    assert_eq!(failure.reason, "ForeignHands", "{failure:?}");
    for word in ["tiny", "the manager shop-sync", "suspend it"] {
        assert!(failure.message.contains(word), "{word} is not in {}", failure.message);
    }
    println!("{}: {:?}", failure.message, status.reverts);
    assert_eq!(world.service(), service, "the Service leads where it led");
    assert_eq!(world.deployment().spec.expect("a spec"), deployment, "the workload is what it was");
    assert_eq!(world.configuration(), configuration);
    assert_eq!(world.source(), source);
    let now = world.database.shape();
    assert!(now == shape, "the database is not what it was:\n{}", shape.difference(&now));
    let environment = world.record.environment("production").status.unwrap_or_default();
    assert!(environment.lock.and_then(|l| l.holder).is_none() && environment.active.is_none(), "lock and turn are given back");
}
