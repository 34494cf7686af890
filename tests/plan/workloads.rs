//! Tables: workloads of every kind, the order of modules, integrations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{Pod, Service},
};
use kube::{ResourceExt, core::DynamicObject};
use lockkeeper::{
    api::{EnvironmentSpec, StepState, WorkloadRef, annotations::FOUND},
    manifest::{Owner, patch},
    plan::{
        Effect, Progress, Resource,
        maintenance::{resume, rollout, services, stop_all},
        modules::in_order,
        release::{Reading, lacking, read},
        scalers, steps,
        workload::Workload,
        world::Side,
    },
};
use serde_json::{Value, json};

use super::{
    fixture::{Seen, UID, deployment, digest, of, pod, production, service},
    tables::release_of,
};

// ---- Rollouts ----

#[test]
fn a_stateful_set_is_rolled_out_by_its_own_counts_and_not_waited_for_without_end() {
    let begun: Timestamp = "2026-11-22T20:00:00Z".parse().unwrap();
    let later = |seconds: i64| begun + jiff::SignedDuration::from_secs(seconds);
    let rolled = |status: Value, now: Timestamp| {
        let set: StatefulSet = of(json!({
            "metadata": {"name": "store", "generation": 2},
            "spec": {"replicas": 2, "serviceName": "store", "selector": {"matchLabels": {"app": "store"}}, "template": {}},
            "status": status,
        }));
        rollout(&Side::default(), Workload::StatefulSet(&set), begun, now)
    };
    let status = |observed: i64, all: i32, updated: i32, available: i32| json!({"observedGeneration": observed, "replicas": all, "updatedReplicas": updated, "availableReplicas": available});
    assert_eq!(rolled(status(1, 2, 2, 2), begun), Progress::waiting("StatefulSet store to be observed"));
    assert_eq!(rolled(status(2, 2, 2, 2), begun), Progress::Done(None));
    for short in [status(2, 1, 1, 1), status(2, 2, 1, 2), status(2, 2, 2, 1)] {
        let Progress::Waiting { until, .. } = rolled(short.clone(), begun) else { panic!("{short} is rolled out") };
        assert_eq!(until, Some(later(600)));
        assert!(matches!(rolled(short, later(600)), Progress::Failed { reason, .. } if reason == "RolloutFailed"));
    }
}

// ---- StatefulSets and CronJobs ----

fn cron_job(image: &str) -> CronJob {
    of(json!({
        "metadata": {"name": "sync", "uid": "uid-sync", "resourceVersion": "7"},
        "spec": {"schedule": "0 3 * * *", "suspend": false, "jobTemplate": {"spec": {"template": {"spec": {
            "initContainers": [{"name": "init", "image": "r.example/init@sha256:22"}], "containers": [{"name": "sync", "image": image}],
        }}}}},
    }))
}

fn cron_run(name: &str, image: &str, made: &str, ended: bool) -> Job {
    of(json!({
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "creationTimestamp": made,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "sync", "uid": "uid-sync"}],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "sync", "image": image}]}}},
        "status": if ended { json!({"conditions": [{"type": "Complete", "status": "True"}]}) } else { json!({}) },
    }))
}

fn cron_pod(run: &str, digest: &str, phase: &str) -> Pod {
    of(json!({
        "metadata": {
            "name": format!("{run}-x"), "uid": format!("uid-{run}-x"),
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": run, "uid": format!("uid-{run}")}],
        },
        "status": {"phase": phase, "containerStatuses": [{
            "name": "sync", "image": "", "imageID": format!("r.example/sync@sha256:{digest}"), "ready": false, "restartCount": 0,
        }]},
    }))
}

#[test]
fn a_cron_jobs_digest_is_that_of_its_last_run_or_of_its_own_image_and_otherwise_it_blocks_by_name() {
    let spec: EnvironmentSpec = of(json!({
        "tier": "Staging", "modules": [{"name": "m", "workloads": [{"kind": "CronJob", "name": "sync"}]}],
    }));
    let module: Vec<_> = spec.modules.iter().collect();
    let digest = |image: &str, runs: Vec<Job>, pods: Vec<Pod>| {
        let side = Side { cron_jobs: vec![cron_job(image)], cron_runs: runs, pods, ..Side::default() };
        read("shop", &spec, &side, &module, &[], Reading::Exact).map(|r| {
            let containers = &r.modules[0].workloads[0].containers;
            assert_eq!((containers[0].name.as_str(), containers[0].digest.as_str()), ("init", "sha256:22"));
            containers[1].digest.clone()
        })
    };
    let two = "r.example/sync:2";
    let old = cron_run("sync-1", "r.example/sync:1", "2026-11-20T03:00:00Z", true);
    let (first, last) =
        (cron_run("sync-2", two, "2026-11-21T03:00:00Z", true), cron_run("sync-3", two, "2026-11-22T03:00:00Z", true));
    let pods =
        || vec![cron_pod("sync-1", "11", "Succeeded"), cron_pod("sync-2", "aa", "Succeeded"), cron_pod("sync-3", "bb", "Failed")];
    assert_eq!(digest("r.example/sync@sha256:33", vec![], vec![]).unwrap(), "sha256:33");
    assert_eq!(digest(two, vec![old.clone(), first.clone(), last.clone()], pods()).unwrap(), "sha256:bb");
    assert_eq!(
        digest(two, vec![last, first], vec![cron_pod("sync-2", "aa", "Succeeded")]).unwrap(),
        "sha256:aa",
        "its pod is gone"
    );
    for (runs, pods) in [(vec![], vec![]), (vec![old], pods())] {
        let why = digest(two, runs, pods).unwrap_err();
        assert!(why.contains("container sync of CronJob shop/sync has not run with the image r.example/sync:2"), "{why}");
        assert!(why.contains("kubectl create job"), "{why}");
    }
}

#[test]
fn what_a_cron_job_has_begun_is_waited_for_and_then_ended() {
    let now: Timestamp = "2026-11-22T20:00:00Z".parse().unwrap();
    let drained = now + jiff::SignedDuration::from_secs(30);
    let us = Owner { kind: "Promotion", name: "r-1", uid: UID, namespace: "shop" };
    let reference: WorkloadRef = of(json!({"kind": "CronJob", "name": "sync"}));
    let going = cron_run("sync-2", "r.example/sync:2", "2026-11-22T19:59:00Z", false);
    let mut side = Side {
        cron_jobs: vec![cron_job("r.example/sync:2")],
        cron_runs: vec![cron_run("sync-1", "r.example/sync:2", "2026-11-21T19:59:00Z", true), going],
        pods: vec![cron_pod("sync-1", "aa", "Succeeded"), cron_pod("sync-2", "aa", "Running")],
        ..Side::default()
    };
    let stop = |side: &Side, now: Timestamp| stop_all(side, std::slice::from_ref(&reference), &[], us, 3, drained, now);
    let Progress::Do(Effect::Patch { resource: Resource::CronJob, name, patch, .. }) = stop(&side, now) else {
        panic!("it is suspended")
    };
    assert_eq!(
        (name.as_str(), &patch["spec"], &patch["metadata"]["resourceVersion"]),
        ("sync", &json!({"suspend": true}), &json!("7"))
    );
    side.cron_jobs[0].metadata.annotations = of(patch["metadata"]["annotations"].clone());
    side.cron_jobs[0].spec.as_mut().unwrap().suspend = Some(true);
    let waits = Progress::Waiting { what: "Job sync-2, pod sync-2-x to end".into(), until: Some(drained) };
    assert_eq!(stop(&side, now), waits, "what has begun may end, what has ended does not count");
    let Progress::Do(Effect::Delete { resource: Resource::Job, name, uid, .. }) = stop(&side, drained) else {
        panic!("then it is ended")
    };
    assert_eq!((name.as_str(), uid.as_str()), ("sync-2", "uid-sync-2"));
    side.cron_runs.pop();
    side.pods.pop();
    assert_eq!(stop(&side, drained), Progress::Done(None));
    // And back, as it was found.
    let mut seen = Seen::new();
    seen.target_side = side;
    let Progress::Do(Effect::Patch { patch, .. }) = resume(&seen.world(), us) else { panic!("it goes on") };
    assert_eq!(patch["spec"], json!({"suspend": false}));
    assert!(patch["metadata"]["annotations"]["lockkeeper.dev/found"].is_null());
    // Somebody has started it meanwhile, and found it suspended before: his wish stays.
    seen.target_side.cron_jobs[0].spec.as_mut().unwrap().suspend = Some(false);
    let Progress::Do(Effect::Patch { patch, .. }) = resume(&seen.world(), us) else { panic!("the record goes") };
    assert_eq!(patch.get("spec"), None);
}

#[test]
fn a_stateful_set_that_would_lose_its_volumes_or_keep_old_pods_is_refused() {
    let refused = |spec: Value| {
        let mut all = json!({"serviceName": "store", "selector": {}, "template": {}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let set: StatefulSet = of(json!({"metadata": {"name": "store"}, "spec": all}));
        Workload::StatefulSet(&set).refuse()
    };
    assert_eq!(refused(json!({})), None);
    assert_eq!(refused(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain", "whenDeleted": "Delete"}})), None);
    let scaled = refused(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}})).unwrap();
    assert!(scaled.contains("StatefulSet store") && scaled.contains("set whenScaled to Retain"), "{scaled}");
    assert_eq!(refused(json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}})), None);
    let part = refused(json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}})).unwrap();
    assert!(part.contains("set partition to 0"), "{part}");
}

#[test]
fn the_headless_service_that_governs_a_stateful_set_is_neither_closed_nor_in_the_way() {
    let mut spec = production().spec;
    spec.modules = of(json!([{"name": "m", "workloads": [{"kind": "StatefulSet", "name": "web"}]}]));
    let mut set = serde_json::to_value(deployment("web", "r.example/web:1")).unwrap();
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!("web-pods");
    let headless = |name: &str| -> Service {
        of(json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}}))
    };
    let mut side = Side { stateful_sets: vec![of(set)], services: vec![service("web"), headless("web-pods")], ..Side::default() };
    let names = |side: &Side| services(&spec, side).into_iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!(names(&side), ["web"]);
    side.services.push(headless("other"));
    assert_eq!(names(&side), ["web", "other"], "another is, and is refused");
}

#[test]
fn init_containers_travel_and_injected_containers_do_not() {
    let mut web = serde_json::to_value(deployment("web", "r.example/web:2")).unwrap();
    web["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "init", "image": "r.example/init:2"}]);
    let mut running = serde_json::to_value(pod("web-1", "web", "r.example/web:2", true)).unwrap();
    let state = |name: &str| json!({"name": name, "image": "", "imageID": format!("r.example/{name}@{}", digest(name)), "ready": true, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}});
    running["status"]["initContainerStatuses"] = json!([state("init"), state("injected-init")]);
    let mut proxy = state("injected-proxy");
    proxy["state"] = json!({"running": {}});
    running["status"]["containerStatuses"].as_array_mut().unwrap().push(proxy);
    let side = Side { deployments: vec![of(web.clone())], pods: vec![of(running)], ..Side::default() };
    let seen = Seen::new();
    let source = &seen.source.as_ref().unwrap().spec;
    let mut module = source.modules[0].clone();
    module.configuration.clear();
    let release = read("staging", source, &side, &[&module], &[], Reading::Exact).unwrap();
    let found: Vec<_> = release.modules[0].workloads[0].containers.iter().map(|c| (c.name.as_str(), c.digest.as_str())).collect();
    let (init, main) = (digest("init"), digest("r.example/web:2"));
    assert_eq!(found, [("init", init.as_str()), ("web", main.as_str())]);
    // Each goes to its own list.
    let web: Deployment = of(web);
    let images = BTreeMap::from([
        ("init".to_owned(), "i".to_owned()),
        ("web".to_owned(), "w".to_owned()),
        ("gone".to_owned(), "g".to_owned()),
    ]);
    let Effect::Patch { patch, .. } = patch::deliver(Workload::Deployment(&web), &images, None) else { panic!("a patch") };
    let pod = json!({"initContainers": [{"name": "init", "image": "i"}], "containers": [{"name": "web", "image": "w"}]});
    assert_eq!(patch["spec"], json!({"template": {"spec": pod}}));
    // What the target lacks is named.
    assert_eq!(lacking(&release, &seen.target_side), ["Deployment web, container init"]);
}

// ---- Modules ----

#[test]
fn modules_are_delivered_after_those_that_they_require() {
    let spec = |modules: Value| -> EnvironmentSpec {
        let all: Vec<Value> = modules
            .as_array()
            .unwrap()
            .iter()
            .map(|m| json!({"name": m[0], "requires": m[1], "workloads": [{"kind": "Deployment", "name": m[0]}]}))
            .collect();
        of(json!({"tier": "Staging", "modules": all}))
    };
    for (modules, expected) in [
        (json!([["a", []], ["b", []]]), Ok("a b")),
        (json!([["a", ["c"]], ["b", []], ["c", []]]), Ok("b c a")),
        (json!([["a", ["b", "c"]], ["b", ["c"]], ["c", []]]), Ok("c b a")),
        (json!([["a", ["b"]], ["b", ["c"]], ["c", ["b"]]]), Err("b requires c requires b")),
        (json!([["a", ["a"]]]), Err("a requires a")),
        (json!([["a", ["x"]]]), Err("module a requires x, which is no module")),
    ] {
        let spec = spec(modules);
        let order = in_order(&spec).map(|l| l.iter().map(|m| m.name.to_string()).collect::<Vec<_>>().join(" "));
        match expected {
            Ok(names) => assert_eq!(order.as_deref(), Ok(names)),
            Err(words) => assert!(order.as_ref().is_err_and(|why| why.contains(words)), "{order:?}"),
        }
    }
    let mut target = production().spec;
    target.modules[0].requires = vec!["metrics".into()];
    let steps = steps::forward(&target, &release_of(&["flags", "metrics"])).join(" ");
    assert!(steps.contains("workloads/metrics configuration/flags migration/flags workloads/flags"), "{steps}");
}

#[test]
fn integrations_pause_before_users_are_led_away_and_go_on_after_they_are_back() {
    let mut target = production().spec;
    target.maintenance.pause = of(json!([{"kind": "CronJob", "name": "sync"}]));
    let names = steps::forward(&target, &release_of(&["flags"]));
    let all = names.join(" ");
    assert!(all.contains("lock pause close record stop") && all.ends_with("open resume unlock tidy"), "{all}");
    let mut list = steps::pending(&names);
    for step in list.iter_mut().take_while(|s| s.name != "close") {
        step.state = StepState::Succeeded;
    }
    assert_eq!(steps::backward(&list).join(" "), "rollback-resume rollback-unlock rollback-tidy");
}

// ---- Autoscalers ----

#[test]
fn keda_rests_while_its_workload_is_stopped_and_goes_on_as_it_was_found() {
    let us = Owner { kind: "Promotion", name: "r-1", uid: UID, namespace: "shop" };
    let workloads: Vec<WorkloadRef> =
        of(json!([{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "store"}]));
    let scaler = |target: Value, annotations: Value| -> DynamicObject {
        of(json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "s", "resourceVersion": "5", "annotations": annotations}, "spec": {"scaleTargetRef": target},
        }))
    };
    let side = |scaler: DynamicObject| Side { scalers: vec![scaler], ..Side::default() };
    let patched = |effect: Option<Effect>| match effect {
        Some(Effect::Patch { resource: Resource::ScaledObject, patch, .. }) => Some(*patch),
        None => None,
        other => panic!("{other:?}"),
    };
    for (target, rests) in [
        (json!({"name": "web"}), true),
        (json!({"kind": "Deployment", "name": "web"}), true),
        (json!({"kind": "StatefulSet", "name": "store"}), true),
        (json!({"name": "store"}), false),
        (json!({"name": "other"}), false),
    ] {
        let patch = patched(scalers::rest(&side(scaler(target.clone(), json!({}))), &workloads, us, 3));
        assert_eq!(patch.is_some(), rests, "{target}");
        assert!(
            patch.is_none_or(
                |p| p["metadata"]["resourceVersion"] == "5" && p["metadata"]["annotations"][scalers::PAUSED] == "true"
            )
        );
    }
    for (before, back) in [(json!({}), Value::Null), (json!({scalers::PAUSED: "false"}), json!("false"))] {
        let at_work = scaler(json!({"name": "web"}), before);
        let patch = patched(scalers::rest(&side(at_work), &workloads, us, 3)).unwrap();
        let at_rest = side(scaler(json!({"name": "web"}), patch["metadata"]["annotations"].clone()));
        assert_eq!(scalers::rest(&at_rest, &workloads, us, 3), None, "once is enough");
        let patch = patched(scalers::go_on(&at_rest, us)).unwrap();
        assert_eq!(patch["metadata"]["annotations"], json!({FOUND: null, scalers::PAUSED: back}));
    }
}
