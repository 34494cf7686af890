//! (i) Workloads of every kind: a StatefulSet with volumes, an init container, an autoscaler and a disruption budget, a
//! CronJob, integrations that pause, a Service with two ports, and a page of the environment's own.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    core::v1::{PersistentVolumeClaim, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, ResourceExt, api::ListParams};
use lockkeeper::api::Phase;
use serde_json::{Value, json};

use super::{
    cluster::{self, apply, cluster, eventually, kubectl, wait},
    outcome,
    world::{PATIENCE, World, filled},
};

/// A manifest of this story for one of its namespaces.
fn manifest(text: &str, namespace: &str, release: &str) -> String {
    let key = |name: &str, key: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "tiny-db", "key": key}}});
    let env = [("PGHOST", "host"), ("PGPORT", "port"), ("PGDATABASE", "dbname"), ("PGUSER", "user"), ("PGPASSWORD", "password")];
    let env = json!(env.map(|(name, of)| key(name, of))).to_string();
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}).to_string();
    let drop_all = json!({"drop": ["ALL"]});
    let security =
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": drop_all}).to_string();
    let image = cluster().image(&format!("tiny:{release}"));
    let values = [("NAMESPACE", namespace), ("TINY", image), ("ENV", &env), ("RESOURCES", &resources), ("SECURITY", &security)];
    filled(text, &values)
}

fn get<K>(namespace: &str, name: &str) -> K
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    wait(Api::<K>::namespaced(cluster::client(None), namespace).get(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn suspended(namespace: &str, name: &str) -> bool {
    get::<CronJob>(namespace, name).spec.and_then(|s| s.suspend).unwrap_or(false)
}

fn wanted(namespace: &str, name: &str) -> Option<i32> {
    get::<Deployment>(namespace, name).spec.and_then(|s| s.replicas)
}

/// All images of a workload's template, in order.
fn images(template: &Value) -> Vec<String> {
    let of = |list: &str| template["spec"][list].as_array().cloned().unwrap_or_default();
    let all = of("initContainers").into_iter().chain(of("containers"));
    all.map(|c| c["image"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What must be after a run as it was before, but for images.
fn standing(namespace: &str) -> Value {
    let client = cluster::client(None);
    let claims = wait(Api::<PersistentVolumeClaim>::namespaced(client, namespace).list(&ListParams::default())).expect("claims");
    let claims: Vec<Value> =
        claims.iter().filter(|c| c.name_any() != "backups").map(|c| json!([c.name_any(), c.uid()])).collect();
    let without_images = |mut spec: Value| {
        for at in ["/template/spec", "/jobTemplate/spec/template/spec"] {
            let Some(pod) = spec.pointer_mut(at) else { continue };
            for list in ["initContainers", "containers"] {
                for container in pod[list].as_array_mut().into_iter().flatten() {
                    container["image"] = json!("");
                }
            }
        }
        spec
    };
    let cron_jobs = ["digest", "nightly-sync", "yearly-sync"].map(|n| without_images(json!(get::<CronJob>(namespace, n).spec)));
    let services = ["store", "store-pods"].map(|n| json!(get::<Service>(namespace, n).spec));
    json!([
        claims,
        cron_jobs,
        services,
        without_images(json!(get::<StatefulSet>(namespace, "store").spec)),
        get::<Deployment>(namespace, "webhooks").spec,
        get::<HorizontalPodAutoscaler>(namespace, "store").spec,
        get::<PodDisruptionBudget>(namespace, "store").spec,
    ])
}

/// What a port of a Service answers.
fn asked(address: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: store\r\nAccept: text/html\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until all pods of the store are ready, and each CronJob has run once, so that it has a digest.
fn settled(namespace: &str) {
    kubectl(&["-n", namespace, "rollout", "status", "statefulset/store", "--timeout=180s"]).expect("the store starts");
    kubectl(&["-n", namespace, "create", "job", "digest-first", "--from=cronjob/digest"]).expect("a first run");
    kubectl(&["-n", namespace, "wait", "--for=condition=complete", "job/digest-first", "--timeout=120s"]).expect("it completes");
}

#[test]
fn story_workloads_of_every_kind_go_down_and_come_back_as_they_were_found() {
    let world = World::new("kinds", "2");
    let production = world.production.as_str();
    for (namespace, release) in [(&world.staging, "2"), (&world.production, "1")] {
        apply(&manifest(include_str!("manifests/workloads.yaml"), namespace, release)).expect("the workloads apply");
    }
    apply(&manifest(include_str!("manifests/integrations.yaml"), production, "1")).expect("the integrations apply");
    settled(&world.staging);
    settled(production);
    // Listed before the module that it requires.
    let store = json!({"name": "store", "requires": ["tiny"], "workloads": [{"kind": "StatefulSet", "name": "store"}, {"kind": "CronJob", "name": "digest"}]});
    for (namespace, environment) in [(&world.staging, "staging"), (&world.production, "production")] {
        let modules = json!(get::<lockkeeper::api::Environment>(namespace, environment).spec.modules);
        let both = json!([store, modules[0]]);
        let pause = json!([{"kind": "CronJob", "name": "nightly-sync"}, {"kind": "CronJob", "name": "yearly-sync"}, {"kind": "Deployment", "name": "webhooks"}]);
        let maintenance = json!({"pause": pause, "page": {"configMap": {"name": "maintenance-page"}}});
        let change = match environment {
            "production" => json!({"spec": {"modules": both, "maintenance": maintenance}}),
            _ => json!({"spec": {"modules": both}}),
        };
        kubectl(&["-n", namespace, "patch", "environment", environment, "--type=merge", "-p", &change.to_string()])
            .expect("the Environment takes it");
    }
    // An integration at work, which would never end by itself.
    kubectl(&["-n", production, "create", "job", "nightly-now", "--from=cronjob/nightly-sync"]).expect("the integration works");
    kubectl(&["-n", production, "wait", "--for=jsonpath={.status.ready}=1", "job/nightly-now", "--timeout=60s"])
        .expect("it works");
    eventually("the autoscaler is content", PATIENCE, || {
        let replicas = get::<StatefulSet>(production, "store").status.and_then(|s| s.ready_replicas);
        if replicas == Some(2) { Ok(()) } else { Err(format!("{replicas:?}")) }
    });
    let before = standing(production);
    let address = get::<Service>(production, "store").spec.and_then(|s| s.cluster_ip).expect("an address");

    world.ask(&world.promotion("kinds"));
    world.approve("kinds");
    world.begins("kinds", "fence");
    assert!(["digest", "nightly-sync", "yearly-sync"].iter().all(|n| suspended(production, n)), "CronJobs stand still");
    assert_eq!(wanted(production, "webhooks"), Some(0), "an integration stands still");
    for port in [80, 81] {
        let answer = asked(&address, port).unwrap_or_else(|e| panic!("port {port}: {e}"));
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("<h1>Volvemos pronto</h1>"), "port {port}: {answer}");
    }
    let gone = wait(Api::<Job>::namespaced(cluster::client(None), production).get_opt("nightly-now")).expect("an answer");
    assert!(gone.is_none(), "what the integration had begun was ended");
    let run = world.reaches("kinds", &[Phase::Completed]);

    assert_eq!(standing(production), before, "all is as it was found, but for images");
    assert!(!suspended(production, "nightly-sync") && suspended(production, "yearly-sync") && !suspended(production, "digest"));
    let digest = cluster().image("tiny:2").split_once('@').map(|(_, d)| d.to_owned()).unwrap_or_default();
    let set = get::<StatefulSet>(production, "store").spec.expect("a spec");
    let cron_job = get::<CronJob>(production, "digest").spec.and_then(|s| s.job_template.spec).expect("a spec");
    for template in [json!(set.template), json!(cron_job.template)] {
        let images = images(&template);
        assert!(!images.is_empty() && images.iter().all(|i| i.ends_with(&digest)), "{images:?}");
    }
    let answer = asked(&address, 81).expect("the store answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let steps: Vec<String> = run.status.iter().flat_map(|s| &s.steps).map(|s| s.name.clone()).collect();
    let at = |name: &str| steps.iter().position(|s| s == name).unwrap_or_else(|| panic!("{name} is not in {steps:?}"));
    assert!(at("workloads/tiny") < at("workloads/store") && at("pause") < at("close") && at("open") < at("resume"));
    assert!(run.status.as_ref().is_some_and(|s| s.reverts.is_empty()), "nobody fought: {:?}", run.status);
    outcome::breakdown(run.status.as_ref().expect("a status"));
}
