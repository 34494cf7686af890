//! An environment that has all it needs, and what is found when something is taken away.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod, Service},
    rbac::v1::RoleBinding,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::EnvironmentRef,
    cli::doctor::{State, seen::SeenWorkload},
};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(name: &str, spec: Value) -> Service {
    let mut base = json!({"clusterIP": "10.0.0.1", "selector": {"app": "unleash"}});
    base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object(json!({"metadata": {"name": name}, "spec": base}))
}

fn pod(image_id: &str) -> Pod {
    object(json!({
        "metadata": {"name": "p", "labels": {"app": "unleash", "pod-template-hash": "1"}},
        "status": {"containerStatuses": [{"name": "unleash", "image": "x", "imageID": image_id, "ready": true, "restartCount": 0}]},
    }))
}

fn healthy() -> EnvironmentSeen {
    let environment: Environment = object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment",
        "metadata": {"name": "production", "namespace": "shop", "generation": 3},
        "spec": {
            "tier": "Production",
            "promotesFrom": [{"namespace": "shop-staging", "name": "staging"}],
            "modules": [{
                "name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}],
                "configuration": [{"configMap": {"name": "unleash-config"}, "keep": ["BASE_URL"]}],
                "migration": {"command": ["node", "migrate.mjs"]},
            }],
            "data": [{"name": "flags-db", "postgres": {"connectionSecret": {"name": "db"}, "adminSecret": {"name": "db-admin"}}}],
            "backups": {"repository": {"volume": {"claim": {"name": "backups"}}}, "passwordSecret": {"name": "backup-key"}},
        },
        "status": {
            "observedGeneration": 3,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "nothing is missing", "lastTransitionTime": "2026-11-25T20:00:00Z"}],
        },
    }));
    let deployment: Deployment = object(json!({
        "metadata": {"name": "unleash"},
        "spec": {
            "selector": {"matchLabels": {"app": "unleash"}},
            "template": {"metadata": {"labels": {"app": "unleash"}}, "spec": {"containers": [{"name": "unleash", "image": "x"}]}},
        },
    }));
    let binding: RoleBinding = object(json!({
        "metadata": {"name": "lockkeeper"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lockkeeper-environment"},
        "subjects": [{"kind": "ServiceAccount", "name": "lockkeeper", "namespace": "lockkeeper-system"}],
    }));
    let claim: PersistentVolumeClaim = object(json!({"metadata": {"name": "backups"}, "status": {"phase": "Bound"}}));
    EnvironmentSeen {
        role_bindings: Visible::Found(vec![binding]),
        workloads: vec![(environment.spec.modules[0].workloads[0].clone(), Visible::Found(SeenWorkload::Deployment(deployment)))],
        autoscalers: Visible::Found(vec![]),
        pods: Visible::Found(vec![pod("registry/unleash@sha256:00")]),
        services: Visible::Found(vec![
            service("unleash", json!({})),
            service("other", json!({"selector": {"app": "x"}, "clusterIP": "None"})),
        ]),
        config_maps: [("unleash-config".into(), Visible::Found(object(json!({"data": {"BASE_URL": "x"}}))))].into(),
        secrets: ["db", "db-admin", "backup-key"].map(|n| (n.to_owned(), Visible::Found(()))).into(),
        claim: Some(("backups".into(), Visible::Found(claim))),
        sources: vec![(
            EnvironmentRef { namespace: "shop-staging".into(), name: "staging".into() },
            Visible::Found(environment.clone()),
            true,
        )],
        may_approve: false,
        environment,
    }
}

/// All that is not good, as `state check: message`.
fn complaints(seen: &EnvironmentSeen) -> Vec<String> {
    let bad = findings(seen).into_iter().filter(|f| f.state != State::Good);
    bad.map(|f| format!("{:?} {}: {}", f.state, f.check, f.message)).collect()
}

/// What is found after a change to the healthy environment: exactly one complaint, which begins and contains this.
fn one(change: impl FnOnce(&mut EnvironmentSeen), begins: &str, contains: &str) {
    let mut seen = healthy();
    change(&mut seen);
    let said = complaints(&seen);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with(begins) && said[0].contains(contains), "{said:#?}");
}

#[test]
fn an_environment_with_all_it_needs_has_no_complaint() {
    assert_eq!(complaints(&healthy()), Vec::<String>::new());
}

#[test]
fn a_grant_that_lets_nothing_out_is_a_note_because_nothing_here_waits_for_it() {
    let said = |status: &str| {
        object(json!({
            "type": "GrantsReady", "status": status, "reason": "PolicyIncomplete",
            "message": "MaskingPolicy shop leaves 3 of 15 columns of data flags-db unclassified", "lastTransitionTime": "2026-11-25T20:00:00Z",
        }))
    };
    let told = |s: &mut EnvironmentSeen, status: &str| s.environment.status.as_mut().unwrap().conditions.push(said(status));
    one(|s| told(s, "False"), "Note grants: MaskingPolicy shop leaves 3 of 15", "columns");
    let mut seen = healthy();
    told(&mut seen, "True");
    assert_eq!(complaints(&seen), Vec::<String>::new());
}

#[test]
fn each_thing_that_is_missing_is_named() {
    one(|s| s.role_bindings = Visible::Found(vec![]), "Bad operator's rights", "lockkeeper-environment");
    one(
        |s| s.secrets.insert("db-admin".into(), Visible::Missing).map_or((), |_| ()),
        "Bad secret: db-admin",
        "admin role of flags-db",
    );
    one(|s| s.claim = Some(("backups".into(), Visible::Missing)), "Bad backups", "backups is not there");
    one(
        |s| s.config_maps = [("unleash-config".into(), Visible::Missing)].into(),
        "Bad configuration",
        "unleash-config is not there",
    );
    one(|s| s.sources[0].1 = Visible::Missing, "Bad sources", "shop-staging/staging is not there");
    one(|s| s.sources[0].2 = false, "Note sources", "you may not promote");
    one(|s| s.pods = Visible::Found(vec![]), "Bad image digest", "runs no pod");
    one(|s| s.pods = Visible::Found(vec![pod("sha256:00")]), "Bad image digest", "without a repository's digest");
    one(|s| s.environment.metadata.generation = Some(4), "Bad environment", "earlier spec");
    one(|s| s.environment.status = None, "Bad environment", "has not looked at it yet");
}

#[test]
fn a_repository_on_s3_is_named_with_the_secret_that_it_needs() {
    let on_s3 = |s: &mut EnvironmentSeen| {
        let spec = json!({
            "repository": {"s3": {"endpoint": "https://s3.example.org", "bucket": "backups", "prefix": "shop", "credentialsSecret": {"name": "s3"}}},
            "passwordSecret": {"name": "backup-key"},
        });
        (s.environment.spec.backups, s.claim) = (serde_json::from_value(spec).unwrap(), None);
    };
    one(on_s3, "Bad secret: s3 is not there", "S3 credentials of the backups");
    let mut seen = healthy();
    on_s3(&mut seen);
    let told: Vec<String> = findings(&seen).into_iter().map(|f| format!("{}: {}", f.check, f.message)).collect();
    assert!(told.iter().any(|t| t.contains("backups: bucket backups at https://s3.example.org, below shop")), "{told:#?}");
    let mend = findings(&seen).into_iter().find_map(|f| f.mend).unwrap();
    assert!(mend.contains("secretAccessKey"), "{mend}");
}

#[test]
fn a_server_for_proofs_is_among_the_secrets_with_the_sql_that_makes_its_role() {
    let proof = |s: &mut EnvironmentSeen| {
        s.environment.spec.backups.as_mut().unwrap().proof = Some(object(json!({"connectionSecret": {"name": "prover"}})));
    };
    one(proof, "Bad secret: prover is not there", "server of backups.proof");
    let mut seen = healthy();
    proof(&mut seen);
    let mend = findings(&seen).into_iter().find_map(|f| f.mend).unwrap();
    assert!(mend.contains("CREATE ROLE lockkeeper_proof LOGIN CREATEDB") && mend.contains("GRANT CONNECT"), "{mend}");
    seen.secrets.insert("prover".into(), Visible::Found(()));
    assert!(findings(&seen).iter().all(|f| f.mend.is_none()));
}

#[test]
fn what_may_not_be_read_is_neither_there_nor_missing() {
    one(|s| s.secrets.insert("db".into(), Visible::Hidden).map_or((), |_| ()), "Hidden secret: cannot see db", "");
    one(|s| s.services = Visible::Hidden, "Hidden services", "");
    one(|s| s.role_bindings = Visible::Hidden, "Hidden operator's rights", "");
    one(|s| s.pods = Visible::Hidden, "Hidden image digest", "");
}

#[test]
fn services_that_cannot_show_the_page_are_refused_by_name() {
    for (spec, why) in [
        (json!({"clusterIP": "None"}), "is headless"),
        (json!({"type": "ExternalName"}), "is an ExternalName"),
        (json!({"externalTrafficPolicy": "Local"}), "trafficPolicy Local"),
        (json!({"internalTrafficPolicy": "Local"}), "trafficPolicy Local"),
    ] {
        let refused = service("second", spec);
        one(|s| s.services = Visible::Found(vec![service("unleash", json!({})), refused]), "Bad services: Service second", why);
    }
}

#[test]
fn entry_services_that_are_named_must_be_there() {
    one(
        |s| s.environment.spec.maintenance.services = object(json!({"names": ["unleash", "gone"]})),
        "Bad services: Service gone",
        "maintenance.services.names",
    );
}

#[test]
fn a_migration_needs_a_clear_container() {
    let containers = |names: &[&str]| {
        let list: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": "x"})).collect();
        Visible::Found(SeenWorkload::Deployment(object(json!({
            "metadata": {"name": "unleash"},
            "spec": {
                "selector": {"matchLabels": {"app": "unleash"}},
                "template": {"metadata": {"labels": {"app": "unleash"}}, "spec": {"containers": list}},
            },
        }))))
    };
    one(|s| s.workloads[0].1 = containers(&["a", "b"]), "Bad migration", "one of: a, b");
    let named = |s: &mut EnvironmentSeen, name: &str| {
        s.environment.spec.modules[0].migration.as_mut().unwrap().container = Some(name.into());
    };
    one(|s| named(s, "gone"), "Bad migration", "has no container gone");
}

#[test]
fn an_immutable_config_map_and_another_tools_hand_are_said() {
    let map: k8s_openapi::api::core::v1::ConfigMap = object(json!({"immutable": true, "data": {"BASE_URL": "x"}}));
    one(|s| s.config_maps = [("unleash-config".into(), Visible::Found(map))].into(), "Bad configuration", "immutable");
    one(
        |s| {
            let Visible::Found(SeenWorkload::Deployment(deployment)) = &mut s.workloads[0].1 else { panic!() };
            deployment.metadata.managed_fields = Some(vec![object(json!({"manager": "argocd-application-controller"}))]);
        },
        "Note workload",
        "Argo CD",
    );
}
