//! Bounds of values, and the rules beside the fields: each lets good through, and refuses bad with a sentence.

use super::*;

#[tokio::test]
async fn values_out_of_bounds_are_refused_by_name() {
    let world = World::new("bounds").await;
    let empty = world.empty().await;
    let environments = api(&world.admin(), &empty, "Environment");
    let good = || environment("other", &empty, &world.staging);
    environments.create(&dry(), &good()).await.expect("the smallest is well");
    let long = "a".repeat(254);
    for (path, value, words) in [
        ("spec.tier", json!("production"), "spec.tier: Unsupported value"),
        ("spec.tier", json!(1), "spec.tier"),
        ("spec.protected", json!("true"), "must be of type boolean"),
        ("spec.modules", json!([]), "spec.modules in body should have at least 1 items"),
        ("spec.modules.0.name", json!("Flags"), "spec.modules[0].name in body should match"),
        ("spec.modules.0.name", json!("a".repeat(41)), "spec.modules[0].name: Too long"),
        ("spec.modules.0.workloads", json!([]), "should have at least 1 items"),
        ("spec.modules.0.workloads.0.name", json!(long), "Too long"),
        ("spec.modules.0.workloads.0.name", json!("../x"), "should match"),
        ("spec.modules.0.workloads.0.kind", json!("DaemonSet"), "a DaemonSet has no number of pods by which it could be stopped"),
        ("spec.modules.0.migration.command", json!([]), "should have at least 1 items"),
        ("spec.modules.0.migration.timeout", json!("-1s"), "should match"),
        ("spec.modules.0.migration.timeout", json!("soon"), "should match"),
        ("spec.modules.0.migration.timeout", json!("99999999h"), "should match"),
        ("spec.promotesFrom.0.namespace", json!("a.b"), "should match"),
        ("spec.approvals", json!({"required": -1}), "should be greater than or equal to 0"),
        ("spec.approvals", json!({"required": 17}), "should be less than or equal to 16"),
        ("spec.approvals", json!({"required": "1"}), "must be of type integer"),
        ("spec.preflight", json!({"minimumFreeFactor": -0.1}), "should be greater than or equal to 0"),
        ("spec.data.0.undo", json!({"method": "Magic"}), "Unsupported value"),
        ("spec.verification", json!([{"name": "h", "http": {"url": "file:///etc/passwd"}}]), "should match"),
        ("spec.verification", json!([{"name": "h", "http": {"url": "http://a/\nb"}}]), "should match"),
        (
            "spec.verification",
            json!([{"name": "h", "http": {"url": "http://a", "expectStatus": 99}}]),
            "should be greater than or equal to 100",
        ),
        ("spec.maintenance", json!({"exclude": vec![json!({"kind": "Deployment", "name": "a"}); 2]}), "Duplicate value"),
        ("spec.maintenance", json!({"services": {"names": []}}), "should have at least 1 items"),
    ] {
        refused(environments.create(&dry(), &with(good(), path, value)).await, 422, words);
    }
    let many: Vec<Value> = (0..10_000)
        .map(|i| json!({"name": format!("m{i}"), "workloads": [{"kind": "Deployment", "name": format!("w{i}")}]}))
        .collect();
    refused(environments.create(&dry(), &with(good(), "spec.modules", json!(many))).await, 422, "Too many");
    let huge = "x".repeat(1 << 20);
    refused(environments.create(&dry(), &with(good(), "spec.modules.0.migration.command", json!([huge]))).await, 422, "Too long");
    let twice = json!([{"name": "a", "workloads": [{"kind": "Deployment", "name": "x"}]}, {"name": "a", "workloads": [{"kind": "Deployment", "name": "y"}]}]);
    refused(environments.create(&dry(), &with(good(), "spec.modules", twice)).await, 422, "Duplicate value");

    let promotions = world.promotions("alice");
    for (path, value, words) in [
        ("spec.modules", json!([]), "should have at least 1 items"),
        ("spec.modules", json!(["flags", "flags"]), "Duplicate value"),
        ("spec.schedule", json!({"notBefore": "tomorrow"}), "must be of type date-time"),
        ("spec.schedule", json!({"notBefore": "2027-02-30T00:00:00Z"}), "must be of type date-time"),
        ("spec.schedule", json!({"startDeadline": "2 hours"}), "should match"),
        ("spec.description", json!("two\nlines"), "should match"),
        ("spec.description", json!("right-to-left \u{202e}"), "should match"),
        ("spec.description", json!("nul \u{0}"), "should match"),
        ("spec.description", json!("x".repeat(1025)), "Too long"),
        ("spec.requestedBy", json!({"username": ""}), "should be at least 1 chars long"),
        ("spec.requestedBy", json!({"username": "al\u{200b}ice"}), "should match"),
        ("spec.requestedBy", json!({}), "spec.requestedBy.username: Required value"),
        ("spec.environment", json!({"name": "Production"}), "should match"),
        ("spec.approvals", json!([{"username": "bob", "planHash": "latest"}]), "should match"),
    ] {
        refused(promotions.create(&dry(), &with(world.promotion("p", "alice"), path, value)).await, 422, words);
    }
    for path in ["spec.environment", "spec.from", "spec.requestedBy"] {
        refused(promotions.create(&dry(), &without(world.promotion("p", "alice"), path)).await, 422, "Required value");
    }
    let fine = with(world.promotion("p", "alice"), "spec.description", json!("Größe, señor, 中文"));
    promotions.create(&dry(), &fine).await.expect("people write their own language");
}

#[tokio::test]
async fn each_rule_beside_the_fields_lets_good_through_and_refuses_bad_with_a_sentence() {
    let world = World::new("rules").await;
    let empty = world.empty().await;
    let environments = api(&world.admin(), &empty, "Environment");
    let base = || environment("other", &empty, &world.staging);
    let module = |name: &str, workloads: &[&str]| {
        let workloads: Vec<Value> = workloads.iter().map(|w| json!({"kind": "Deployment", "name": w})).collect();
        json!({"name": name, "workloads": workloads})
    };
    let requiring = |name: &str, requires: &[&str]| {
        let mut module = module(name, &[name]);
        module["requires"] = json!(requires);
        module
    };
    let migrating = |workloads: &[&str], workload: Option<&str>| {
        let mut module = module("flags", workloads);
        module["migration"] = json!({"command": ["true"]});
        if let Some(name) = workload {
            module["migration"]["workload"] = json!({"kind": "Deployment", "name": name});
        }
        json!([module])
    };
    let good = [
        without(without(base(), "spec.data"), "spec.backups"),
        with(base(), "spec.protected", json!(true)),
        with(with(base(), "spec.tier", json!("Staging")), "spec.protected", json!(false)),
        with(base(), "spec.modules", json!([module("a", &["x", "y"]), module("b", &["z"])])),
        with(base(), "spec.modules", migrating(&["a"], None)),
        with(base(), "spec.modules", migrating(&["a", "b"], Some("b"))),
        with(base(), "spec.modules.0.delivery", json!({"direct": {}})),
        with(base(), "spec.modules.0.migration.connectionSecret", json!({"name": "migrator"})),
        with(base(), "spec.modules", json!([module("a", &["x"]), requiring("b", &["a"])])),
        with(base(), "spec.modules.0.workloads.0.kind", json!("StatefulSet")),
        with(base(), "spec.modules.0.workloads.0.kind", json!("CronJob")),
        with(
            base(),
            "spec.maintenance",
            json!({"pause": [{"kind": "CronJob", "name": "sync"}, {"kind": "Deployment", "name": "hooks"}]}),
        ),
        with(base(), "spec.maintenance", json!({"page": {"configMap": {"name": "page"}}})),
        with(base(), "spec.maintenance", json!({"services": {"all": {}}})),
        with(base(), "spec.maintenance", json!({"services": {"names": ["unleash"]}})),
        with(base(), "spec.verification", json!([{"name": "h", "http": {"url": "http://a/"}}])),
    ];
    for (index, environment) in good.iter().enumerate() {
        environments.create(&dry(), environment).await.unwrap_or_else(|e| panic!("good {index}: {e}"));
    }
    let mut long = base();
    long.metadata.name = Some("a".repeat(64));
    for (environment, sentence) in [
        (without(base(), "spec.backups"), "backups: an environment with data needs a repository"),
        (
            with(base(), "spec.modules.0.migration.connectionSecret", json!({"name": "unleash-db"})),
            "modules.migration.connectionSecret: a Secret of the data itself",
        ),
        (
            without(with(base(), "spec.modules.0.migration.connectionSecret", json!({"name": "migrator"})), "spec.data"),
            "modules.migration.connectionSecret: there is no data",
        ),
        (with(base(), "spec.protected", json!(false)), "an environment of tier Production is always protected"),
        (
            with(base(), "spec.modules", json!([module("a", &["x", "y"]), module("b", &["y"])])),
            "a workload belongs to one module",
        ),
        (with(base(), "spec.modules", migrating(&["a", "b"], None)), "name the one whose image carries the migration"),
        (with(base(), "spec.modules", migrating(&["a", "b"], Some("c"))), "must be one of the module's workloads"),
        (
            with(base(), "spec.modules", json!([module("a", &["x"]), requiring("b", &["c"])])),
            "modules.requires: names another module of this Environment",
        ),
        (
            with(base(), "spec.modules", json!([requiring("b", &["b"])])),
            "modules.requires: names another module of this Environment",
        ),
        (
            with(base(), "spec.maintenance", json!({"pause": [{"kind": "Deployment", "name": "unleash"}]})),
            "maintenance.pause: a module's own workload goes down anyway",
        ),
        (
            with(base(), "spec.maintenance", json!({"pause": [{"kind": "DaemonSet", "name": "agent"}]})),
            "kind: one of Deployment, StatefulSet, CronJob; a DaemonSet has no number of pods",
        ),
        (with(base(), "spec.modules.0.delivery", json!({})), "delivery: exactly one of"),
        (with(base(), "spec.maintenance", json!({"services": {}})), "maintenance.services: exactly one of"),
        (
            with(base(), "spec.maintenance", json!({"services": {"all": {}, "names": ["a"]}})),
            "maintenance.services: exactly one of",
        ),
        (with(base(), "spec.verification", json!([{"name": "h"}])), "verification: exactly one of"),
        (
            with(base(), "spec.verification", json!([{"name": "h", "http": {"url": "http://a/"}, "job": {"template": {}}}])),
            "verification: exactly one of",
        ),
        (with(base(), "spec.backups.repository", json!({})), "repository: exactly one of"),
        (with(base(), "spec.data", json!([{"name": "d"}])), "data: exactly one of: postgres, volume"),
        (
            with(
                base(),
                "spec.data",
                json!([{"name": "d", "postgres": {"connectionSecret": {"name": "s"}}, "volume": files("c", "Auto")["volume"]}]),
            ),
            "data: exactly one of: postgres, volume",
        ),
        (with(base(), "spec.data", json!([files("c", "Auto")])), "a volume is guarded by the epoch of a database beside it"),
        (with(base(), "spec.data", json!([database("db"), files("c", "Clone")])), "data.undo.method: a volume is not cloned"),
        (
            with(base(), "spec.data", json!([database("db"), files("backups", "Auto")])),
            "data.volume.claim: named once, and never that of a repository",
        ),
        (
            with(
                base(),
                "spec.data",
                json!([database("db"), files("c", "Auto"), {"name": "again", "volume": {"claim": {"name": "c"}}}]),
            ),
            "data.volume.claim: named once",
        ),
        (
            with(base(), "spec.data", json!([database("volumes"), files("c", "Auto")])),
            "under the name volumes; name the data otherwise",
        ),
        (long, "metadata.name: at most 63 characters"),
    ] {
        refused(environments.create(&dry(), &environment).await, 422, sentence);
    }
}

fn database(name: &str) -> Value {
    json!({"name": name, "postgres": {"connectionSecret": {"name": "s"}}})
}

fn files(claim: &str, method: &str) -> Value {
    json!({"name": "uploads", "volume": {"claim": {"name": claim}}, "undo": {"method": method, "keepFor": "24h"}})
}
