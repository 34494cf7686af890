//! The two environments of all scenarios: staging, where a release was tested, and production, whose data is at stake.
//!
//! Three modules: `flags` with a migration, which has a role of its own, and a ConfigMap of which one key stays; `edge`,
//! whose ConfigMap production does not have yet, with an init container, a StatefulSet and a CronJob; and `metrics`, which
//! only production has and which goes down and up with the others. Production has integrations beside them, which pause.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lockkeeper::{api::policies, data::mask};
use serde_json::{Value, json};

use super::{
    actors,
    cluster::{Cluster, key},
    people::{Kind, Script},
};

pub const NAMESPACE: &str = "shop-production";
pub const SOURCE: &str = "shop-staging";
pub const RUN: &str = "flags-7-4";
pub const RESTORE: &str = "back-again";
pub const ALIGNMENT: &str = "mirror";

/// The digest of an image of the simulated registry.
pub fn digest(image: &str) -> String {
    let hash = blake3::hash(image.as_bytes()).to_hex();
    format!("sha256:{hash}")
}

fn deployment(name: &str, image: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image, "env": [{"name": "A", "value": "1"}]}]},
            },
        },
    })
}

/// The same with a container that runs first.
fn with_init(mut deployment: Value, image: &str) -> Value {
    deployment["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "warm", "image": image}]);
    deployment
}

fn stateful_set(name: &str, image: &str, replicas: i32) -> Value {
    let mut set = deployment(name, image, replicas);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!(format!("{name}-pods"));
    set
}

fn cron_job(name: &str, image: &str, suspend: bool) -> Value {
    let pod = json!({"metadata": {"labels": {"job": name}}, "spec": {"containers": [{"name": name, "image": image}]}});
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": "* * * * *", "suspend": suspend, "jobTemplate": {"spec": {"template": pod}}},
    })
}

/// The integrations of production, and whether each is found suspended.
pub const INTEGRATIONS: [(&str, bool); 2] = [("nightly-sync", false), ("yearly-sync", true)];

/// A Service of either environment, as it is found.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "type": "ClusterIP", "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}, {"name": "admin", "port": 81, "protocol": "TCP", "targetPort": 4243}],
        },
    })
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn modules(with_metrics: bool) -> Value {
    let mut modules = json!([
        {
            "name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}],
            "configuration": [{"configMap": {"name": "unleash-config"}, "keep": ["BASE_URL"]}],
            "migration": {"command": ["node", "migrate.mjs"]},
        },
        {"name": "edge", "workloads": [
            {"kind": "Deployment", "name": "edge"}, {"kind": "StatefulSet", "name": "store"}, {"kind": "CronJob", "name": "digest"},
        ], "configuration": [{"configMap": {"name": "edge-config"}}]},
    ]);
    if let (true, Some(list)) = (with_metrics, modules.as_array_mut()) {
        list[0]["migration"]["connectionSecret"] = json!({"name": "migrator"});
        list.push(json!({"name": "metrics", "workloads": [{"kind": "Deployment", "name": "metrics"}]}));
    }
    modules
}

fn environment(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": name}, "spec": spec})
}

/// Both environments at rest, and a Promotion just asked for.
pub fn cluster(script: Script) -> Cluster {
    let start: Timestamp = "2026-11-22T20:00:00Z".parse().expect("a time");
    let mut cluster = Cluster::new(start, script);
    let mut make = |resource: &str, namespace: &str, object: Value| {
        cluster.create(resource, namespace, object).expect("the fixture's names differ");
    };
    for name in [NAMESPACE, SOURCE] {
        make("namespaces", "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    for name in policies::NAMES {
        let labels = BTreeMap::from([(policies::VERSION_LABEL, policies::VERSION)]);
        let metadata = json!({"name": name, "labels": labels});
        let policy = json!({"metadata": metadata, "spec": {"failurePolicy": "Fail"}});
        let binding = json!({"metadata": metadata, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        make("validatingadmissionpolicies", "", policy);
        make("validatingadmissionpolicybindings", "", binding);
    }
    for (namespace, version, replicas) in [(SOURCE, "7.4.1", 1), (NAMESPACE, "6.3.0", 2)] {
        for name in ["unleash", "edge"] {
            let mut plain = deployment(name, &format!("registry.example/{name}:{version}"), replicas);
            let uri = json!({"name": "DB", "valueFrom": {"secretKeyRef": {"name": "unleash-db", "key": "uri"}}});
            plain["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().expect("a list").push(uri);
            let init = format!("registry.example/warm:{version}");
            make("deployments", namespace, if name == "edge" { with_init(plain, &init) } else { plain });
            make("services", namespace, service(name));
        }
        make("statefulsets", namespace, stateful_set("store", &format!("registry.example/store:{version}"), replicas));
        make("services", namespace, service("store"));
        let mut governing = service("store");
        governing["metadata"]["name"] = json!("store-pods");
        governing["spec"]["clusterIP"] = json!("None");
        make("services", namespace, governing);
        make("cronjobs", namespace, cron_job("digest", &format!("registry.example/digest:{version}"), false));
        let url = format!("https://{namespace}.example");
        let level = if namespace == SOURCE { "debug" } else { "info" };
        let mut data = json!({"BASE_URL": url, "LOG_LEVEL": level});
        data[if namespace == SOURCE { "NEW" } else { "OLD" }] = json!("1");
        make("configmaps", namespace, config_map("unleash-config", data));
    }
    make("configmaps", SOURCE, config_map("edge-config", json!({"routes": "all"})));
    make("deployments", NAMESPACE, deployment("metrics", "registry.example/metrics:1", 1));
    make("services", NAMESPACE, service("metrics"));
    for (name, suspend) in INTEGRATIONS {
        make("cronjobs", NAMESPACE, cron_job(name, "registry.example/sync:1", suspend));
    }
    make("deployments", NAMESPACE, deployment("webhooks", "registry.example/webhooks:1", 1));
    let target = json!({"scaleTargetRef": {"name": "unleash"}, "minReplicaCount": 0});
    make(
        "scaledobjects",
        NAMESPACE,
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "unleash"}, "spec": target,
        }),
    );
    make("persistentvolumeclaims", NAMESPACE, json!({"metadata": {"name": "backups"}, "spec": {}}));
    make("environments", SOURCE, environment("staging", json!({"tier": "Staging", "modules": modules(false)})));
    let check = json!({"spec": {"containers": [{"name": "check", "image": "registry.example/check:1"}]}});
    let production = json!({
        "tier": "Production", "promotesFrom": [{"namespace": SOURCE, "name": "staging"}], "modules": modules(true),
        "data": [{"name": "flags-db", "postgres": {"connectionSecret": {"name": "unleash-db"}}}],
        "backups": {"repository": {"volume": {"claim": {"name": "backups"}}}, "passwordSecret": {"name": "backup-key"}},
        "maintenance": {"pause": [
            {"kind": "CronJob", "name": "nightly-sync"}, {"kind": "CronJob", "name": "yearly-sync"},
            {"kind": "Deployment", "name": "webhooks"},
        ]},
        "verification": [
            {"name": "health", "http": {"url": "http://unleash/health"}},
            {"name": "login", "job": {"template": check}},
        ],
    });
    make("environments", NAMESPACE, environment("production", production));
    // Both have been running for a while.
    for _ in 0..12 {
        actors::step(&mut cluster);
    }
    let run = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": RUN},
        "spec": {
            "environment": {"name": "production"}, "from": {"namespace": SOURCE, "name": "staging"},
            "requestedBy": {"username": "alice"}, "approvals": [], "modules": ["flags", "edge"],
        },
    });
    cluster.create("promotions", NAMESPACE, run).expect("there is no other");
    cluster.data.acknowledged = 0;
    cluster.data.live().rows.retain(|r| !r.starts_with("user-"));
    cluster
}

/// Olga asks for a restore in an environment at rest.
pub fn restore(cluster: &mut Cluster, from: Value, script: Script) {
    let run = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentRestore", "metadata": {"name": RESTORE},
        "spec": {"environment": {"name": "production"}, "from": from, "requestedBy": {"username": "olga"}, "approvals": []},
    });
    cluster.create("environmentrestores", NAMESPACE, run).expect("there is no other");
    cluster.script = Script { kind: Kind::Restore, ..script };
}

/// Both environments at rest, with the tiers the other way round, and a DownAlignment just asked for.
pub fn alignment(script: Script) -> Cluster {
    let mut cluster = cluster(Script { kind: Kind::Alignment, ..script });
    cluster.remove(&Kind::Promotion.key());
    let place = json!({"repository": {"volume": {"claim": {"name": "exchange"}}}, "passwordSecret": {"name": "exchange-key"}});
    let columns = json!({"id": {"keep": {}}, "email": {"fake": {"kind": "email", "domain": "email"}}});
    let tables = json!([{"table": "public.users", "columns": columns}]);
    let policy = json!({"keySecret": {"name": "masking-key"}, "data": [{"name": "flags-db", "tables": tables}]});
    let hash = mask::hash(&serde_json::from_value(policy.clone()).expect("a policy"));
    let policy = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "MaskingPolicy", "metadata": {"name": "shop"}, "spec": policy,
    });
    cluster.create("maskingpolicies", SOURCE, policy).expect("there is no other");
    cluster.edit(&key("environments", SOURCE, "staging"), |o| {
        let spec = &mut o["spec"];
        spec["tier"] = json!("Production");
        spec["data"] = json!([{"name": "flags-db", "postgres": {"connectionSecret": {"name": "their-db"}}}]);
        spec["backups"] = json!({"repository": {"volume": {"claim": {"name": "theirs"}}}, "passwordSecret": {"name": "their-key"}});
        spec["exchange"] = place.clone();
        spec["grants"] = json!([{
            "to": {"namespace": NAMESPACE, "name": "production"}, "data": {"all": {}}, "maskingPolicy": {"name": "shop", "hash": hash},
        }]);
    });
    cluster.edit(&key("environments", NAMESPACE, "production"), |o| {
        let spec = &mut o["spec"];
        spec["tier"] = json!("Development");
        spec["alignsFrom"] = json!([{"namespace": SOURCE, "name": "staging"}]);
        spec["exchange"] = place;
    });
    // Nothing comes that the target would not know.
    cluster.edit(&key("configmaps", SOURCE, "unleash-config"), |o| {
        o["data"].as_object_mut().expect("its data").remove("NEW");
    });
    cluster.create("configmaps", NAMESPACE, config_map("edge-config", json!({"routes": "none"}))).expect("there is no other");
    let run = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "DownAlignment", "metadata": {"name": ALIGNMENT},
        "spec": {
            "environment": {"name": "production"}, "from": {"namespace": SOURCE, "name": "staging"}, "requestedBy": {"username": "alice"},
        },
    });
    cluster.create("downalignments", NAMESPACE, run).expect("there is no other");
    cluster
}
