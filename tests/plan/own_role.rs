//! Tables: a migration with a role of its own.

use lockkeeper::{
    api::EnvironmentSpec,
    manifest::{
        Owner, job,
        task::{Task, Verb},
    },
    plan::{Effect, migration, preflight, steps, workload::Workload},
};
use serde_json::{Value, json};

use super::{
    fixture::{NAMESPACE, Seen, UID, deployment, of, production},
    tables::release_of,
};

/// The pod of `web`: its container, and volumes.
fn reads(seen: &mut Seen, container: Value, volumes: Value) {
    let mut whole = json!({"name": "web", "image": "r.example/web:1"});
    whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let web = seen.target_side.deployments.iter_mut().find(|d| d.metadata.name.as_deref() == Some("web")).unwrap();
    let mut changed = serde_json::to_value(&*web).unwrap();
    changed["spec"]["template"]["spec"] = json!({"containers": [whole], "volumes": volumes});
    *web = of(changed);
}

fn env(name: &str, secret: &str, key: &str) -> Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
}

/// Two data, and a module whose migration has a role of its own; perhaps another module that migrates as the application.
fn target(other: bool) -> EnvironmentSpec {
    let mut spec = serde_json::to_value(production().spec).unwrap();
    spec["modules"][0]["migration"]["connectionSecret"] = json!({"name": "migrator"});
    if other {
        spec["modules"][1]["migration"] = json!({"command": ["m"]});
    }
    spec["data"] = json!([
        {"name": "db", "postgres": {"connectionSecret": {"name": "db"}}},
        {"name": "files", "postgres": {"connectionSecret": {"name": "files"}}},
    ]);
    of(spec)
}

fn seen(target: &EnvironmentSpec, modules: &[&str]) -> Seen {
    let mut seen = Seen::new();
    seen.target.as_mut().unwrap().spec = target.clone();
    seen.run.status = Some(of(json!({"release": release_of(modules)})));
    seen
}

#[test]
fn the_application_is_admitted_before_the_first_workload_starts_and_only_where_a_migration_was_alone() {
    let all = steps::forward(&target(false), &release_of(&["flags"])).join(" ");
    assert!(all.contains("undo configuration/flags migration/flags admit workloads/flags others verify/health"), "{all}");
    let both = steps::forward(&target(true), &release_of(&["flags", "metrics"])).join(" ");
    assert!(both.contains("migration/flags admit workloads/flags migration/metrics workloads/metrics"), "{both}");
    for not in [
        steps::forward(&target(false), &release_of(&["metrics"])),
        steps::forward(&production().spec, &release_of(&["flags"])),
        steps::restoring(&target(false), &release_of(&["flags"])),
    ] {
        assert!(!not.iter().any(|s| s == "admit"), "{not:?}");
    }
}

#[test]
fn a_role_of_its_own_is_for_the_one_data_whose_secret_the_container_reads() {
    let spec = target(false);
    let mounted = json!([
        {"name": "v", "secret": {"secretName": "db", "items": [{"key": "password", "path": "p"}]}},
        {"name": "unread", "secret": {"secretName": "files"}},
    ]);
    let projected = json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}]}}]);
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    for (container, volumes, keys) in [
        (json!({"env": [env("H", "db", "host"), env("T", "token", "t")]}), json!([]), json!(["host"])),
        (json!({"envFrom": [{"secretRef": {"name": "db"}}, {"configMapRef": {"name": "c"}}]}), json!([]), json!([])),
        (json!({"volumeMounts": mount}), mounted, json!(["password"])),
        (json!({"volumeMounts": mount}), projected, json!([])),
    ] {
        let mut seen = seen(&spec, &["flags"]);
        reads(&mut seen, container, volumes);
        let world = seen.world();
        assert_eq!(migration::problems(&world, &spec, &release_of(&["flags"])), Vec::<String>::new());
        let mut task = Task::new(Verb::Undo, owner(), ("e".into(), "production"));
        task.data = Task::data_of(&spec.data);
        migration::fill(&world, &spec, &mut task);
        let mut wanted = json!([{"secret": "migrator", "keys": keys}]);
        if keys == json!([]) {
            wanted = json!([{"secret": "migrator"}]);
        }
        assert_eq!(serde_json::to_value(&task.data[0].migrations).unwrap(), wanted);
        assert!(task.data[1].migrations.is_empty());
    }
}

#[test]
fn what_is_unclear_about_a_migrations_role_blocks_before_anyone_is_locked_out() {
    let env_of = |secrets: &[&str]| json!({"env": secrets.iter().map(|s| env(s, s, "uri")).collect::<Vec<_>>()});
    for (other, container, sentence) in [
        (false, json!({}), "refers to the connectionSecret of none of the data (db, files)"),
        (false, env_of(&["token"]), "container web of Deployment web refers to the connectionSecret of none"),
        (false, env_of(&["db", "files"]), "connects to several data (db, files), and Secret migrator can stand for one only"),
        (true, env_of(&["db"]), "connects to data db as the application"),
    ] {
        let spec = target(other);
        let modules: &[&str] = if other { &["flags", "metrics"] } else { &["flags"] };
        let mut seen = seen(&spec, modules);
        let mut metrics = serde_json::to_value(deployment("metrics", "r.example/metrics:1")).unwrap();
        metrics["spec"]["template"]["spec"]["containers"][0]["env"] = json!([env("U", "db", "uri")]);
        *seen.target_side.deployments.last_mut().unwrap() = of(metrics);
        reads(&mut seen, container, json!([]));
        let problems = migration::problems(&seen.world(), &spec, &release_of(modules)).join("; ");
        assert!(problems.contains(sentence), "{problems}");
        seen.target.as_mut().unwrap().spec.data.clear();
        let mut bare = spec.clone();
        bare.data.clear();
        let preflight::Preflight::Ended { checks, .. } = preflight::run(
            &seen.world(),
            owner(),
            &bare,
            &of(json!({"hash": "h", "modules": [{"name": "flags", "workloads": []}]})),
            ("preflight", 0),
            seen.now,
        ) else {
            panic!("nothing is to be asked")
        };
        assert!(checks.iter().any(|c| c.name == "migrations" && !c.passed), "{checks:?}");
    }
}

fn owner() -> Owner<'static> {
    Owner { kind: "Promotion", name: "r-1", uid: UID, namespace: NAMESPACE }
}

#[test]
fn the_migrations_pod_reads_its_own_secret_wherever_the_workload_reads_the_datas() {
    let mut seen = Seen::new();
    let container = json!({
        "env": [env("H", "db", "host"), env("T", "token", "t"), {"name": "PLAIN", "value": "db"}],
        "envFrom": [{"secretRef": {"name": "db"}}],
        "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}],
    });
    let sources = json!([{"secret": {"name": "db"}}, {"secret": {"name": "token"}}]);
    let volumes = json!([{"name": "a", "secret": {"secretName": "db"}}, {"name": "b", "projected": {"sources": sources}}]);
    reads(&mut seen, container, volumes);
    let web = seen.target_side.deployment("web").unwrap();
    let made = |connection| {
        let names = ("lk-migration", "migration/flags");
        let image = ("web", "r.example/web@sha256:1");
        let deadline = std::time::Duration::from_secs(60);
        match job::migration(owner(), names, Workload::Deployment(web), image, &["m".into()], connection, deadline) {
            Some(Effect::Create { manifest, .. }) => manifest["spec"]["template"]["spec"].to_string(),
            other => panic!("{other:?}"),
        }
    };
    let (own, plain) = (made(Some(("db", "migrator"))), made(None));
    let named = |text: &str, secret: &str| text.matches(&format!("ame\":\"{secret}\"")).count();
    assert_eq!((named(&plain, "db"), named(&plain, "token")), (4, 2), "{plain}");
    assert_eq!((named(&own, "db"), named(&own, "migrator"), named(&own, "token")), (0, 4, 2), "{own}");
    assert!(own.contains(r#"{"name":"PLAIN","value":"db"}"#), "{own}");
}
