//! Bad input that admission cannot see: each entry ends in a sentence, and nothing is done for it.

use std::collections::{BTreeMap, BTreeSet};

use lockkeeper::{
    api::{Environment, Phase},
    manifest::Owner,
    plan::{
        Decision, Effect,
        environment::{self, World},
        forward, trouble,
        world::{JobState, Run},
    },
};
use serde_json::{Value, json};

use super::{
    bad_input_entries::are_all_shown_by,
    fixture::{NAMESPACE, Seen, UID, of, pod, service},
    walk::{Change, settle},
};

type Spoil = fn(&mut Seen);

fn edit<T: serde::Serialize + serde::de::DeserializeOwned>(object: &mut T, path: &str, value: Value) {
    let mut all = serde_json::to_value(&*object).unwrap();
    let (parent, key) = path.rsplit_once('/').unwrap();
    all.pointer_mut(parent).unwrap_or_else(|| panic!("{path}"))[key] = value;
    *object = of(all);
}

fn source(seen: &mut Seen) -> &mut Environment {
    seen.source.as_mut().unwrap()
}

fn target(seen: &mut Seen) -> &mut Environment {
    seen.target.as_mut().unwrap()
}

/// Rows of a Promotion: what is wrong, and words of the sentence.
const RUNS: &[(&str, Spoil, &str)] = &[
    (
        "Graph: self-source",
        |s| edit(&mut s.run, "/spec/from/namespace", json!(NAMESPACE)),
        "the source is the environment itself: name another",
    ),
    (
        "Graph: cycles",
        |s| {
            // Each takes from the other; of the two edges this one goes down.
            edit(source(s), "/spec/promotesFrom", json!([{"namespace": NAMESPACE, "name": "production"}]));
            edit(source(s), "/spec/tier", json!("Production"));
            edit(target(s), "/spec/tier", json!("Staging"));
        },
        "releases go up",
    ),
    (
        "Graph: skipped stage",
        |s| {
            edit(&mut s.run, "/spec/from", json!({"namespace": "shop-development", "name": "development"}));
            edit(source(s), "/spec/tier", json!("Development"));
        },
        "takes nothing from shop-development/development: its owner adds",
    ),
    (
        "Graph: reversed edge",
        |s| edit(target(s), "/spec/tier", json!("Development")),
        "is Staging while shop-production/production is Development: promote from an environment",
    ),
    ("Graph: missing Environment", |s| s.target = None, "Environment shop-production/production does not exist: apply it"),
    ("Graph: missing Environment", |s| s.source = None, "the source Environment shop-staging/staging does not exist"),
    ("Namespaces: missing", |s| s.source = None, "the source Environment shop-staging/staging does not exist"),
    (
        "Namespaces: terminating",
        |s| edit(target(s), "/metadata/deletionTimestamp", json!("2026-11-22T20:00:00Z")),
        "Environment shop-production/production is being deleted",
    ),
    (
        "Namespaces: terminating",
        |s| edit(source(s), "/metadata/deletionTimestamp", json!("2026-11-22T20:00:00Z")),
        "the source Environment shop-staging/staging is being deleted",
    ),
    (
        "Namespaces: two Environments in one",
        |s| s.others = vec!["second".into()],
        "has several Environments, production and second: one namespace is one environment",
    ),
    ("Namespaces: no grant", |s| s.refused = Some("the operator may not work in namespace x. Apply there".into()), "Apply there"),
    (
        "Namespaces: empty selector",
        |s| {
            let mut open = service("web");
            open.spec.as_mut().unwrap().selector = Some(BTreeMap::new());
            s.target_side.services[0] = open;
            edit(target(s), "/spec/maintenance/services", json!({"names": ["web"]}));
        },
        "Service web has no selector; name the Services",
    ),
    (
        "Modules: unknown",
        |s| edit(&mut s.run, "/spec/modules", json!(["nothing"])),
        "module nothing is not in the source Environment: name one of flags",
    ),
    (
        "Modules: unknown",
        |s| edit(target(s), "/spec/modules/0/name", json!("other")),
        "module flags is not in the target Environment: add it there",
    ),
    (
        "Modules: cyclic requires",
        |s| {
            edit(target(s), "/spec/modules/0/requires", json!(["metrics"]));
            edit(target(s), "/spec/modules/1/requires", json!(["flags"]));
        },
        "modules require each other in a circle: flags requires metrics requires flags",
    ),
    (
        "Modules: workload missing",
        |s| s.source_side.deployments.clear(),
        "Deployment shop-staging/web does not exist: make it, or take it out",
    ),
    (
        "Modules: workload missing",
        |s| s.target_side.deployments.retain(|d| d.metadata.name.as_deref() != Some("metrics")),
        "Deployment metrics does not exist",
    ),
    (
        "Modules: container missing",
        |s| edit(target(s), "/spec/modules/0/migration/container", json!("nobody")),
        "migration.container names nobody, which Deployment web does not have; it has web",
    ),
    (
        "Modules: container missing",
        |s| edit(&mut s.target_side.deployments[0], "/spec/template/spec/containers/0/name", json!("other")),
        "Deployment web, container web is in the release, but the target has no such container",
    ),
    (
        "Modules: tag without digest",
        |s| {
            let mut imported = pod("web-1", "web", "r.example/web:2", true);
            edit(&mut imported, "/status/containerStatuses/0/imageID", json!("sha256:0123"));
            s.source_side.pods = vec![imported];
        },
        "does not run with an image from a registry, so nothing says which digest was tested",
    ),
    (
        "References: PVC missing",
        |s| s.target_side.claims.clear(),
        "PersistentVolumeClaim backups of backups.repository does not exist",
    ),
    ("References: Secret missing", |_| {}, "Secret db is missing, or a key of it: make it, or name another in the Environment"),
    ("References: PVC mounted elsewhere", |_| {}, "the volume is in use on another node"),
];

/// What a pod of preflight is told to wait for.
fn event(row: &str) -> Option<String> {
    Some(match row {
        "References: Secret missing" => {
            trouble::words("FailedMount", "MountVolume.SetUp failed for volume \"data-0-connection\" : secret \"db\" not found")
        }
        "References: PVC mounted elsewhere" => trouble::words("FailedAttachVolume", "Multi-Attach error for volume \"pvc-1\""),
        _ => return None,
    })
}

fn stalled(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    conditions.iter().find(|c| c.type_ == "Stalled" && c.status == "True").map(|c| c.message.clone()).unwrap_or_default()
}

/// Rows of an Environment: what is wrong, where, and words of the sentence.
fn environments() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    vec![
        (
            "Graph: self-source",
            "/spec/promotesFrom",
            json!([{"namespace": NAMESPACE, "name": "x"}]),
            "promotesFrom names this Environment's own namespace shop-production: take it out",
        ),
        ("Namespaces: kube-system", "/metadata/namespace", json!("kube-system"), "is no place for an Environment"),
        ("Namespaces: the operator's own", "/metadata/namespace", json!("lockkeeper"), "is no place for an Environment"),
        ("Modules: cyclic requires", "/spec/modules/0/requires", json!(["flags"]), "modules require each other in a circle"),
        (
            "Modules: workload missing",
            "/spec/modules/0/workloads/0/name",
            json!("gone"),
            "Deployment shop-production/gone does not exist",
        ),
        (
            "References: PVC missing",
            "/spec/backups/repository/volume/claim/name",
            json!("gone"),
            "PersistentVolumeClaim gone of backups.repository does not exist: make it",
        ),
        (
            "Namespaces: two Environments in one",
            "/metadata/name",
            json!("production"),
            "one namespace is one environment, but second is here as well",
        ),
    ]
}

#[test]
fn each_entry_ends_in_a_sentence_and_nothing_is_made_for_it() {
    let mut rows: Vec<&str> = RUNS.iter().map(|(row, ..)| *row).collect();
    for (row, spoil, words) in RUNS {
        let mut seen = Seen::new();
        spoil(&mut seen);
        for _ in 0..6 {
            settle(&mut seen).unwrap_or_else(|e| panic!("{row}: {e}"));
            Change::Approve { who: "bob", today: true }.happen(&mut seen);
            match event(row) {
                // The kubelet holds the agent's pod up; images can be pulled.
                Some(told) => {
                    for job in seen.jobs.values_mut() {
                        let pulls = job.step.contains("pull");
                        job.trouble = (!pulls).then(|| told.clone());
                        job.pulled.values_mut().for_each(|there| *there = true);
                    }
                    Change::Seconds(61).happen(&mut seen);
                }
                None => Change::Good.happen(&mut seen),
            }
        }
        let status = seen.status();
        let said = stalled(&status.conditions);
        assert!(said.contains(words), "{row}: {said} {:?}", status.preflight);
        assert!(status.phase.is_before_start() && status.epoch.is_none(), "{row}: {}", status.phase);
        assert!(
            seen.target.as_ref().is_none_or(|t| t.status.as_ref().is_none_or(|s| s.lock.is_none())),
            "{row}: nobody is locked out"
        );
        // Settled: the same look once more changes nothing, and asks for another look at a time to come.
        match seen.plan() {
            Decision::Wait(until) => assert!(until.is_none_or(|at| at > seen.now), "{row}: a hot loop"),
            Decision::Perform(Effect::Create { manifest, .. }) => {
                assert_eq!(manifest["kind"], "Job", "{row}: only checks are asked again");
            }
            other => assert!(event(row).is_some(), "{row}: {other:?}"),
        }
    }
    for (row, path, value, words) in environments() {
        rows.push(row);
        let seen = Seen::new();
        let mut environment = seen.target.clone().unwrap();
        edit(&mut environment, path, value);
        environment.metadata.finalizers = Some(vec![lockkeeper::api::ENVIRONMENT_FINALIZER.into()]);
        let (jobs, others) = (BTreeMap::new(), vec!["second".to_owned()]);
        let crowded = row.ends_with("two Environments in one");
        let world = World {
            settings: &seen.settings,
            environment: &environment,
            others: if crowded { &others } else { &[] },
            side: &seen.target_side,
            jobs: &jobs,
            runs: &[],
            backups: &[],
            restores: &[],
            policies: &[],
            copies: &[],
            made: &[],
            records: &[],
            missing_policies: &[],
            refused: None,
            terminating: false,
        };
        let Decision::Advance(status) = environment::plan(&world, seen.now) else { panic!("{row}: it says so") };
        assert!(stalled(&status.conditions).contains(words), "{row}: {}", stalled(&status.conditions));
        assert!(status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "False"), "{row}");
    }
    rows.extend(["Graph: recreated Environment", "Size: 253-character names", "Size: names equal after truncation"]);
    are_all_shown_by("plan", &rows);
}

#[test]
fn a_recreated_environment_is_not_worked_on_by_the_run_of_the_earlier_one() {
    let mut seen = Seen::new();
    for _ in 0..60 {
        settle(&mut seen).unwrap();
        if seen.status().phase == Phase::Locked {
            break;
        }
        Change::Approve { who: "bob", today: true }.happen(&mut seen);
        Change::Good.happen(&mut seen);
    }
    assert_eq!(seen.status().phase, Phase::Locked);
    // Made again: another UID, and a status that knows nothing of the lock.
    let fresh = Seen::new().target.unwrap();
    let version = seen.target.as_ref().unwrap().metadata.resource_version.clone();
    seen.target = Some(Environment {
        metadata: kube::api::ObjectMeta { uid: Some("uid-again".into()), resource_version: version, ..fresh.metadata.clone() },
        ..fresh
    });
    settle(&mut seen).unwrap();
    let status = seen.status();
    let said = stalled(&status.conditions);
    assert!(said.contains("was taken from this run; nobody holds it now") && said.contains("then set status.lock"), "{said}");
    assert!(status.phase.may_hold_lock(), "it neither goes on nor claims to have put anything back");
}

#[test]
fn names_of_253_characters_become_names_that_fit_and_differ_where_they_are_cut() {
    let long = |end: &str| format!("{}.{end}", "a".repeat(251));
    let (one, two) = (long("x"), long("y"));
    let owner = |name: &'static str, uid: &'static str| Owner { kind: "Promotion", name, uid, namespace: "n" };
    let (one, two): (&'static str, &'static str) = (one.leak(), two.leak());
    let names: BTreeSet<String> = [owner(one, UID), owner(two, "22222222-2222-3333-4444-555555555555")]
        .iter()
        .map(|o| forward::backup_name(*o, 0))
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        assert!(name.len() <= 253 && name.chars().all(allowed) && !name.contains(".-") && !name.contains("--"), "{name}");
    }
    let mut seen = Seen::new();
    seen.run.metadata.name = Some(one.into());
    seen.run.spec.environment.name = "production".into();
    for _ in 0..60 {
        settle(&mut seen).unwrap();
        for job in seen.jobs.values() {
            assert!(job.name.len() <= 63, "{}", job.name);
        }
        Change::Approve { who: "bob", today: true }.happen(&mut seen);
        Change::Good.happen(&mut seen);
    }
    assert_eq!(seen.status().phase, Phase::Completed, "{:#?}", seen.status());
    // Steps are named after modules and checks of up to 40 characters each.
    let owner = owner(one, UID);
    let step = |end: &str| owner.object_name(&format!("preflight-early-pull/set-{}{end}", "b".repeat(252)), 12);
    assert!(step("x").len() <= 63 && step("x") != step("y"), "{}", step("x"));
}

#[test]
fn modules_changed_after_the_sources_configuration_changed_are_captured_anew() {
    let mut seen = Seen::new();
    settle(&mut seen).unwrap();
    Change::Good.happen(&mut seen);
    settle(&mut seen).unwrap();
    let first = seen.status().release.unwrap();
    // The source's ConfigMap changes, then the modules: what is copied, hashed and delivered is of one instant again.
    let changed = seen.source_side.config_maps.iter_mut().find(|c| c.metadata.name.as_deref() == Some("web-config")).unwrap();
    changed.data.as_mut().unwrap().insert("LEVEL".into(), "trace".into());
    let metrics = json!({"name": "metrics", "workloads": [{"kind": "Deployment", "name": "metrics"}]});
    source(&mut seen).spec.modules.push(of(metrics));
    for modules in [json!(["flags", "metrics"]), json!(["flags"])] {
        edit(&mut seen.run, "/spec/modules", modules);
        edit(&mut seen.run, "/spec/modifiedBy", json!({"username": "alice", "reason": "more"}));
        settle(&mut seen).unwrap();
        Change::Good.happen(&mut seen);
        settle(&mut seen).unwrap();
    }
    let status = seen.status();
    let hash = |release: &lockkeeper::api::Release| release.modules[0].configuration[0].hash.clone();
    assert_ne!(hash(&status.release.clone().unwrap()), hash(&first), "{:?}", status.next);
    let owner = Owner { kind: "Promotion", name: "r-1", uid: UID, namespace: NAMESPACE };
    let mut world = seen.world();
    world.run = Run::Promotion(&seen.run);
    let copy = lockkeeper::plan::prepare::copied(&world, owner, lockkeeper::plan::prepare::RELEASE, "web-config").unwrap();
    assert_eq!(copy.data["LEVEL"], "trace");
    assert_eq!(copy.hash(), hash(&status.release.unwrap()));
}

#[test]
fn a_prune_that_failed_is_tried_again_under_another_name_and_never_twice_at_once() {
    let mut seen = Seen::new();
    let environment = target(&mut seen).clone();
    let go = |seen: &Seen, now: &str| {
        let world = World {
            settings: &seen.settings,
            environment: &environment,
            others: &[],
            side: &seen.target_side,
            jobs: &seen.jobs,
            runs: &[],
            backups: &[],
            restores: &[],
            policies: &[],
            copies: &[],
            made: &[],
            records: &[],
            missing_policies: &[],
            refused: None,
            terminating: false,
        };
        let verb = (lockkeeper::manifest::task::Verb::Prune, "prune-7");
        environment::agent_job(&world, verb, now.parse().unwrap(), |_| {})
    };
    let made = |progress| match progress {
        lockkeeper::plan::jobs::JobProgress::Going(lockkeeper::plan::Progress::Do(effect)) => effect,
        other => panic!("{other:?}"),
    };
    let first = made(go(&seen, "2026-11-22T10:59:59Z"));
    seen.carry_out(&Decision::Perform(first.clone()));
    let waits =
        |progress| matches!(progress, lockkeeper::plan::jobs::JobProgress::Going(lockkeeper::plan::Progress::Waiting { .. }));
    assert!(waits(go(&seen, "2026-11-22T11:00:01Z")), "the one of the earlier hour still works");
    seen.jobs.values_mut().for_each(|j| j.state = JobState::Failed("BackoffLimitExceeded".into()));
    assert!(!waits(go(&seen, "2026-11-22T10:59:59Z")), "it has failed");
    let second = made(go(&seen, "2026-11-22T11:00:01Z"));
    assert_ne!(first.describe(), second.describe());
}
