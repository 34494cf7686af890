//! Tables: what is decided, by input.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use lockkeeper::{
    api::{Environment, EnvironmentSpec, Promotion, PromotionSpec, Release, RunRef, Step, StepState},
    plan::{
        Decision, Effect, Progress, approval, lock,
        maintenance::{refuse_service, rollout},
        prepare::deadline,
        release::{Content, Reading, changelog, plan_hash, read},
        steps,
        workload::Workload,
        world::Side,
    },
};
use serde_json::{Value, json};

use super::{
    fixture::{Seen, UID, config_map, deployment, digest, of, pod, production, promotion},
    walk::{Change, settle},
};

fn set(object: &mut Value, path: &str, value: Value) {
    *object.pointer_mut(path).unwrap_or_else(|| panic!("{path} is there")) = value;
}

// ---- The plan's hash ----

fn hashed(run: &PromotionSpec, release: &Release, prior: &Release, target: &EnvironmentSpec) -> String {
    plan_hash(run, release, prior, &steps::forward(target, release), target)
}

fn releases() -> (Release, Release) {
    let seen = Seen::new();
    let (source, target) = (seen.source.as_ref().unwrap(), seen.target.as_ref().unwrap());
    let from: Vec<_> = source.spec.modules.iter().collect();
    let to: Vec<_> = target.spec.modules.iter().filter(|m| &*m.name == "flags").collect();
    let release = read("shop-staging", &source.spec, &seen.source_side, &from, &[&target.spec], Reading::Exact).unwrap();
    let prior = read("shop-production", &target.spec, &seen.target_side, &to, &[], Reading::Loose).unwrap();
    (release, prior)
}

#[test]
fn a_plans_hash_changes_with_everything_that_it_covers() {
    let (release, prior) = releases();
    let (run, target) = (promotion().spec, production().spec);
    let plan = hashed(&run, &release, &prior, &target);
    assert!(plan.starts_with("v1:") && plan.len() == 67, "{plan}");

    let mut seen = std::collections::BTreeSet::from([plan.clone()]);
    let mut must_change = |what: &str, hash: String| assert!(seen.insert(hash), "{what} is not covered");
    let other_run = |path: &str, value: Value| -> PromotionSpec {
        let mut spec = serde_json::to_value(&run).unwrap();
        spec["schedule"] = json!({"notBefore": "2026-12-01T00:00:00Z", "startDeadline": "1h"});
        set(&mut spec, path, value);
        of(spec)
    };
    for (path, value) in [
        ("/from/namespace", json!("elsewhere")),
        ("/from/name", json!("other")),
        ("/modules", json!(["flags", "metrics"])),
        ("/schedule/notBefore", json!("2026-12-02T00:00:00Z")),
        ("/schedule/startDeadline", json!("2h")),
    ] {
        must_change(path, hashed(&other_run(path, value), &release, &prior, &target));
    }
    let other_target = |path: &str, value: Value| -> EnvironmentSpec {
        let mut spec = serde_json::to_value(&target).unwrap();
        set(&mut spec, path, value);
        of(spec)
    };
    for (path, value) in [
        ("/modules/0/migration/command", json!(["other"])),
        ("/modules/0/migration", json!({"command": ["migrate"], "connectionSecret": {"name": "migrator"}})),
        ("/modules/0/configuration/0/keep", json!([])),
        ("/data/0/postgres/connectionSecret/name", json!("other")),
        ("/data/0/undo/keepFor", json!("1h")),
        ("/preflight/maxTransactionAge", json!("1m")),
        ("/maintenance/drain", json!("1s")),
        ("/maintenance/services", json!({"names": ["web"]})),
        ("/verification/0/http/url", json!("http://other")),
        ("/verification", json!([])),
        ("/backups/passwordSecret/name", json!("other")),
    ] {
        must_change(path, hashed(&run, &release, &prior, &other_target(path, value)));
    }
    let changed = |release: &Release, path: &str, value: Value| -> Release {
        let mut changed = serde_json::to_value(release).unwrap();
        set(&mut changed, path, value);
        of(changed)
    };
    must_change("the release", hashed(&run, &changed(&release, "/hash", json!("sha256:00")), &prior, &target));
    for (path, value) in [
        ("/modules/0/workloads/0/containers/0/image", json!("r.example/web:by-hand")),
        ("/modules/0/configuration/0/hash", json!("sha256:00")),
    ] {
        must_change(path, hashed(&run, &release, &changed(&prior, path, value), &target));
    }
}

#[test]
fn a_plans_hash_stays_with_what_is_only_said_of_it() {
    let (release, prior) = releases();
    let (run, target) = (promotion().spec, production().spec);
    let plan = hashed(&run, &release, &prior, &target);
    let with = |field: &str, value: Value| -> PromotionSpec {
        let mut spec = serde_json::to_value(&run).unwrap();
        spec[field] = value;
        of(spec)
    };
    for (field, value) in [
        ("description", json!("flags 7.4")),
        ("approvals", json!([{"username": "bob", "planHash": plan}])),
        ("cancel", json!({"username": "carol", "reason": "no"})),
    ] {
        assert_eq!(hashed(&with(field, value), &release, &prior, &target), plan, "{field}");
    }
    // The digest that runs in the target is only shown: pods come and go, the specs say what a rollback brings back.
    let mut without_pods = prior.clone();
    without_pods.modules[0].workloads[0].containers[0].digest = String::new();
    assert_eq!(hashed(&run, &release, &without_pods, &target), plan);
}

// ---- Approvals ----

#[test]
fn approvals_count_by_person_and_plan() {
    let hash = "v1:aa";
    for (required, approvals, summary, enough) in [
        (0, vec![], "0/0", true),
        (1, vec![("bob", hash)], "1/1", true),
        (2, vec![("bob", hash)], "1/2", false),
        (2, vec![("bob", hash), ("alice", hash)], "1/2", false),
        (2, vec![("bob", hash), ("dora", hash)], "2/2", true),
        (2, vec![("bob", hash), ("dora", "v1:bb")], "1/2", false),
        (1, vec![("eve", hash)], "0/1", false),
    ] {
        let mut spec = promotion().spec;
        spec.approvals = approvals.iter().map(|(u, h)| of(json!({"username": u, "planHash": h}))).collect();
        let policy = of(json!({"required": required}));
        let may = BTreeMap::from([("bob".into(), true), ("alice".into(), true), ("dora".into(), true), ("eve".into(), false)]);
        let counted = approval::count(&spec, &approval::askers(&spec, &[]), &policy, hash, &may);
        assert_eq!((counted.summary.as_str(), approval::enough(&counted)), (summary, enough), "{approvals:?}");
        assert_eq!(counted.given.len() + counted.void.len(), approvals.len(), "each is shown");
    }
}

#[test]
fn a_hand_change_after_the_approval_voids_it() {
    let mut seen = Seen::new();
    for _ in 0..2 {
        settle(&mut seen).unwrap();
        Change::JobsEnd.happen(&mut seen);
    }
    Change::Approve { who: "bob", today: true }.happen(&mut seen);
    Change::EditByHand.happen(&mut seen);
    settle(&mut seen).unwrap();
    let status = seen.status();
    assert_eq!(status.phase, lockkeeper::api::Phase::Scheduled);
    assert!(status.approvals.unwrap().void[0].reason.contains("another plan"));
}

// ---- The changelog ----

#[test]
fn a_changelog_names_images_and_keys_and_shows_no_value() {
    let (release, prior) = releases();
    let new = |_: &str, _: &str| Content::of(&config_map("c", json!({"LEVEL": "debug", "NEW": "secret"})), &Default::default());
    let old = |_: &str, _: &str| Content::of(&config_map("c", json!({"LEVEL": "info", "SAME": "x"})), &Default::default());
    let lines = changelog(&release, &prior, &new, &old);
    let shown: Vec<String> = lines.iter().map(|c| format!("{}: {:?} -> {:?}", c.name, c.from, c.to)).collect();
    let (before, after) = (digest("r.example/web:1"), digest("r.example/web:2"));
    assert_eq!(
        shown,
        [
            format!(
                "Deployment web, container web: Some(\"r.example/web:1 ({})\") -> Some(\"r.example/web:2 ({})\")",
                &before[..19],
                &after[..19]
            ),
            "ConfigMap web-config, key LEVEL: Some(\"4 bytes\") -> Some(\"5 bytes\")".to_owned(),
            "ConfigMap web-config, key NEW: None -> Some(\"6 bytes\")".to_owned(),
            "ConfigMap web-config, key SAME: Some(\"1 bytes\") -> None".to_owned(),
        ]
    );
    assert!(changelog(&prior, &prior, &old, &old).is_empty(), "what runs already is no change");
}

// ---- Steps ----

pub fn release_of(names: &[&str]) -> Release {
    let modules: Vec<Value> = names.iter().map(|n| json!({"name": n, "workloads": []})).collect();
    of(json!({"hash": "h", "modules": modules}))
}

#[test]
fn steps_follow_the_modules_of_the_environment() {
    let target = production().spec;
    let steps = steps::forward(&target, &release_of(&["flags"])).join(" ");
    assert_eq!(
        steps,
        "preflight backup page lock close record stop fence undo configuration/flags migration/flags workloads/flags others \
         verify/health release-data open unlock tidy"
    );
    let all = steps::forward(&target, &release_of(&["metrics", "flags"])).join(" ");
    assert!(all.contains("undo configuration/flags migration/flags workloads/flags workloads/metrics verify/health"), "{all}");
    let mut bare = target;
    bare.data.clear();
    let bare = steps::forward(&bare, &release_of(&["flags"])).join(" ");
    assert!(["backup", "fence", "undo", "release-data"].iter().all(|s| !bare.split(' ').any(|b| b == *s)), "{bare}");
}

#[test]
fn a_failure_at_each_step_is_undone_by_what_had_begun() {
    let names = steps::forward(&production().spec, &release_of(&["flags"]));
    let rest = "rollback-unlock rollback-tidy";
    let open = format!("rollback-open {rest}");
    let work = format!("rollback-workloads {open}");
    let data = format!("rollback-release-data {work}");
    for (at, expected) in [
        ("lock", rest.to_owned()),
        ("close", open.clone()),
        ("record", open.clone()),
        ("stop", format!("rollback-stop {work}")),
        ("fence", format!("rollback-stop rollback-data {data}")),
        ("undo", format!("rollback-stop rollback-data {data}")),
        ("configuration/flags", format!("rollback-stop rollback-data rollback-configuration {data}")),
        ("migration/flags", format!("rollback-stop rollback-data rollback-configuration {data}")),
        ("verify/health", format!("rollback-stop rollback-data rollback-configuration {data}")),
    ] {
        let mut list: Vec<Step> = steps::pending(&names);
        for step in list.iter_mut() {
            if step.name == at {
                step.state = StepState::Failed;
                break;
            }
            step.state = StepState::Succeeded;
        }
        assert_eq!(steps::backward(&list).join(" "), expected, "failed at {at}");
        assert!(steps::backward(&list).iter().all(|s| steps::phase(s) == lockkeeper::api::Phase::RollingBack));
    }
}

// ---- The lock ----

fn locked(active: Option<&str>, holder: Option<&str>, epoch: i64) -> Environment {
    let mut environment = production();
    let run = |uid: &str| json!({"kind": "Promotion", "name": uid, "uid": uid});
    environment.status = Some(of(json!({"active": active.map(run), "lock": {"epoch": epoch, "holder": holder.map(run)}})));
    environment
}

#[test]
fn slot_and_lock_are_taken_where_they_are_free_and_given_back_by_their_holder() {
    let us = RunRef { kind: "Promotion".into(), name: "r-1".into(), uid: UID.into() };
    let now: Timestamp = "2026-11-22T20:00:00Z".parse().unwrap();
    let written = |effect: Effect| match effect {
        Effect::SetEnvironment { status, resource_version, .. } => {
            assert_eq!(resource_version, "1", "guarded by what was read");
            *status
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(written(lock::take_slot(&locked(None, None, 3), &us).unwrap()).active, Some(us.clone()));
    assert_eq!(lock::take_slot(&locked(Some("other"), None, 3), &us).unwrap_err().uid, "other");
    assert_eq!(lock::take(&locked(None, Some("other"), 3), &us, 4, now).unwrap_err().uid, "other");
    let taken = written(lock::take(&locked(Some(UID), None, 3), &us, 4, now).unwrap()).lock.unwrap();
    assert_eq!((taken.epoch, taken.holder.as_ref()), (4, Some(&us)));

    assert_eq!(lock::give_back(&locked(None, Some("other"), 3), UID), None, "only the holder unlocks");
    assert_eq!(lock::give_back(&locked(None, None, 3), UID), None);
    let given = written(lock::give_back(&locked(None, Some(UID), 3), UID).unwrap()).lock.unwrap();
    assert_eq!((given.epoch, given.holder, given.since), (3, None, None), "the epoch stays");
    assert_eq!(lock::give_back_slot(&locked(Some("other"), None, 3), UID), None);
    assert_eq!(written(lock::give_back_slot(&locked(Some(UID), None, 3), UID).unwrap()).active, None);

    for (here, control, next) in [(3, None, 4), (3, Some(9), 10), (9, Some(3), 10)] {
        assert_eq!(lock::next_epoch(&locked(None, None, here), control), next);
    }
    assert!(lock::holds(&locked(None, Some(UID), 3), UID, 3));
    assert!(!lock::holds(&locked(None, Some(UID), 4), UID, 3), "an older epoch holds nothing");
}

// ---- Rollouts ----

fn rolling(change: impl FnOnce(&mut Value), pods: Vec<Value>) -> Progress {
    let mut web = serde_json::to_value(deployment("web", "r.example/web:2")).unwrap();
    change(&mut web);
    let web: Deployment = of(web);
    let mut side = Side { deployments: vec![web.clone()], ..Side::default() };
    for (i, state) in pods.into_iter().enumerate() {
        let mut value = serde_json::to_value(pod(&format!("web-{i}"), "web", "r.example/web:2", false)).unwrap();
        value["status"]["containerStatuses"] = json!([state]);
        side.pods.push(of(value));
    }
    let now: Timestamp = "2026-11-22T20:00:00Z".parse().unwrap();
    rollout(&side, Workload::Deployment(&web), now, now)
}

fn container(reason: &str, restarts: i32) -> Value {
    json!({
        "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": "the reason in words"}},
        "lastState": {"terminated": {"exitCode": 7, "reason": "Error"}},
    })
}

#[test]
fn a_rollout_ends_well_or_fails_with_its_real_reason() {
    let short = |d: &mut Value| d["status"]["availableReplicas"] = json!(1);
    let condition = |type_: &str, status: &str| json!([{"type": type_, "status": status, "message": "quota exceeded"}]);
    assert_eq!(rolling(|_| {}, vec![]), Progress::Done(None));
    assert_eq!(rolling(|d| d["metadata"]["generation"] = json!(2), vec![]), Progress::waiting("Deployment web to be observed"));
    assert_eq!(rolling(short, vec![]), Progress::waiting("Deployment web: 1 of 2 pods ready"));
    let surplus = rolling(|d| d["status"]["replicas"] = json!(3), vec![]);
    assert!(matches!(surplus, Progress::Waiting { .. }), "an old pod is still there");
    let refused = |d: &mut Value| {
        short(d);
        d["status"]["conditions"] = condition("ReplicaFailure", "True");
    };
    assert_eq!(rolling(refused, vec![]), Progress::waiting("Deployment web: 1 of 2 pods ready: quota exceeded"));
    let why = "container web of pod web-0: CrashLoopBackOff (exit code 7, Error)";
    let once = Progress::waiting(format!("Deployment web: 1 of 2 pods ready: {why}"));
    assert_eq!(rolling(short, vec![container("CrashLoopBackOff", 1)]), once, "once may be chance");
    for (reason, restarts, words) in [
        ("CrashLoopBackOff", 2, "crashes again and again (exit code 7, Error)"),
        ("ImagePullBackOff", 0, "cannot start: ImagePullBackOff: the reason in words"),
        ("InvalidImageName", 0, "cannot start: InvalidImageName"),
        ("CreateContainerConfigError", 0, "cannot start: CreateContainerConfigError"),
    ] {
        let Progress::Failed { reason: class, message } = rolling(short, vec![container(reason, restarts)]) else {
            panic!("{reason} is no failure");
        };
        assert_eq!(class, "RolloutFailed");
        assert!(message.starts_with("Deployment web: container web of pod web-0") && message.contains(words), "{message}");
    }
    let late = |d: &mut Value| {
        short(d);
        d["status"]["conditions"] = condition("Progressing", "False");
    };
    assert_eq!(rolling(late, vec![]), Progress::failed("RolloutFailed", "Deployment web: quota exceeded"));
    let failed = format!("Deployment web: quota exceeded: {why}");
    assert_eq!(rolling(late, vec![container("CrashLoopBackOff", 1)]), Progress::failed("RolloutFailed", failed));

    // Stopped and started as it was, Kubernetes watches no deadline over it any more.
    let again = |reason: &'static str, seconds: u64| {
        move |d: &mut Value| {
            short(d);
            d["spec"]["progressDeadlineSeconds"] = json!(seconds);
            d["status"]["conditions"] = json!([{"type": "Progressing", "status": "True", "reason": reason}]);
        }
    };
    let over = rolling(again("NewReplicaSetAvailable", 0), vec![container("ErrImagePull", 0)]);
    let (late, why) = ("1 of 2 pods ready at", "container web of pod web-0: ErrImagePull: the reason in words");
    assert!(matches!(&over, Progress::Failed { message, .. } if message.contains(late) && message.ends_with(why)), "{over:?}");
    assert!(matches!(rolling(again("NewReplicaSetAvailable", 60), vec![]), Progress::Waiting { until: Some(_), .. }));
    assert!(matches!(rolling(again("ReplicaSetUpdated", 0), vec![]), Progress::Waiting { until: None, .. }));
}

// ---- Services ----

#[test]
fn a_service_that_cannot_lead_to_the_page_is_refused_with_what_to_do() {
    let ways_out = "name the Services by which users enter under maintenance.services.names, without this one";
    for (spec, words) in [
        (json!({"type": "ExternalName", "externalName": "x"}), "is of type ExternalName"),
        (json!({"clusterIP": "None", "selector": {"a": "b"}}), "is headless"),
        (json!({"clusterIP": "10.0.0.1"}), "has no selector"),
        (json!({"selector": {"a": "b"}, "internalTrafficPolicy": "Local"}), "traffic policy Local"),
        (json!({"selector": {"a": "b"}, "externalTrafficPolicy": "Local"}), "traffic policy Local"),
    ] {
        let service: Service = of(json!({"metadata": {"name": "web"}, "spec": spec}));
        let refusal = refuse_service(&service).unwrap_or_else(|| panic!("{words} is not refused"));
        assert!(refusal.starts_with("Service web ") && refusal.contains(words) && refusal.ends_with(ways_out), "{refusal}");
    }
    let fine: Service = of(json!({"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "clusterIP": "10.0.0.1"}}));
    assert_eq!(refuse_service(&fine), None);
}

// ---- Time ----

#[test]
fn a_run_that_has_not_started_expires_at_its_deadline_and_not_before() {
    let made = "2026-11-22T20:00:00Z";
    for (schedule, expected) in [
        (json!(null), None),
        (json!({}), None),
        (json!({"startDeadline": "2h"}), Some("2026-11-22T22:00:00Z")),
        (json!({"notBefore": "2026-11-23T00:00:00Z"}), Some("2026-11-24T00:00:00Z")),
        (json!({"notBefore": "2026-11-23T00:00:00Z", "startDeadline": "90m"}), Some("2026-11-23T01:30:00Z")),
        (json!({"notBefore": "9999-12-30T00:00:00Z", "startDeadline": "8784h"}), Some("9999-12-30T22:00:00.999999999Z")),
    ] {
        let mut value = serde_json::to_value(promotion()).unwrap();
        value["spec"]["schedule"] = schedule.clone();
        value["metadata"]["creationTimestamp"] = json!(made);
        let run: Promotion = of(value);
        assert_eq!(deadline(lockkeeper::plan::world::Run::Promotion(&run)), expected.map(|t| t.parse().unwrap()), "{schedule}");
    }
    let mut seen = Seen::new();
    seen.run.spec.schedule = Some(of(json!({"startDeadline": "1h"})));
    for _ in 0..3 {
        settle(&mut seen).unwrap();
        Change::JobsEnd.happen(&mut seen);
    }
    let Decision::Wait(until) = seen.plan() else { panic!("it waits for an approval") };
    assert_eq!(until, Some("2026-11-22T21:00:00Z".parse().unwrap()), "and not for ever");
    Change::Seconds(3589).happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, lockkeeper::api::Phase::Scheduled);
    Change::Seconds(1).happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, lockkeeper::api::Phase::Expired);
    assert!(
        seen.status().failure.unwrap().message.contains("could not start before 2026-11-22T21:00:00Z: "),
        "with what it waited for"
    );

    let mut late = Seen::new();
    late.run.spec.schedule = Some(of(json!({"notBefore": "2020-01-01T00:00:00Z", "startDeadline": "5m"})));
    settle(&mut late).unwrap();
    let message = late.status().failure.expect("it expired").message;
    assert!(!message.ends_with(": "), "{message}");
}

#[test]
fn a_start_in_the_future_is_waited_for_by_the_clock() {
    let mut seen = Seen::new();
    seen.run.spec.schedule = Some(of(json!({"notBefore": "2026-11-22T23:00:00Z"})));
    for _ in 0..3 {
        settle(&mut seen).unwrap();
        Change::JobsEnd.happen(&mut seen);
        Change::Approve { who: "bob", today: true }.happen(&mut seen);
    }
    settle(&mut seen).unwrap();
    assert_eq!(seen.plan(), Decision::Wait(Some("2026-11-22T23:00:00Z".parse().unwrap())));
    assert_eq!(seen.target.unwrap().status.unwrap_or_default().active, None, "and holds nothing meanwhile");
}

#[test]
fn policies_that_an_upgrade_replaces_are_waited_for_at_the_door_while_users_work() {
    let mut seen = Seen::new();
    let until = |seen: &mut Seen, what: &str, there: &dyn Fn(&Seen) -> bool| {
        for _ in 0..60 {
            settle(seen).unwrap();
            if there(seen) {
                return;
            }
            Change::Approve { who: "bob", today: true }.happen(seen);
            Change::Good.happen(seen);
        }
        panic!("{what}: {:#?}", seen.status());
    };
    until(&mut seen, "the page", &|seen| seen.status().step.as_deref() == Some("page"));
    Change::Policies(false).happen(&mut seen);
    for _ in 0..5 {
        Change::Good.happen(&mut seen);
        settle(&mut seen).unwrap();
    }
    let status = seen.status();
    assert_eq!((status.phase.to_string().as_str(), status.failure), ("BackingUp", None));
    let said = status.conditions.iter().find(|c| c.type_ == "Stalled").map(|c| (c.status.as_str(), c.reason.as_str()));
    assert_eq!(said, Some(("True", "PoliciesMissing")));
    Change::Policies(true).happen(&mut seen);
    until(&mut seen, "the end", &|seen| seen.status().phase.to_string() == "Completed");
}

// ---- Refused writes ----

#[test]
fn a_write_that_is_refused_is_said_and_then_ends_in_a_rollback_or_calls_for_a_person() {
    use lockkeeper::plan::{Decision, promotion::refused};
    let mut seen = Seen::new();
    let status = |phase: &str, step: &str| {
        of(
            json!({"phase": phase, "epoch": 1, "step": step, "steps": [{"name": "lock", "state": "Succeeded"}, {"name": step, "state": "Running"}]}),
        )
    };
    let answer = |seen: &Seen| match refused(&seen.world(), "quota exceeded", seen.now) {
        Decision::Advance(status) => *status,
        other => panic!("{other:?}"),
    };
    for (phase, step, then) in [
        ("Locked", "fence", "RollingBack"),
        ("BackingUp", "backup", "BackingUp"),
        ("RollingBack", "rollback-data", "RollingBack"),
    ] {
        seen.run.status = Some(status(phase, step));
        let first = answer(&seen);
        assert_eq!(first.phase.to_string(), phase, "first it is only said");
        assert_eq!(first.next.as_deref(), Some("quota exceeded"));
        seen.run.status = Some(first);
        assert!(matches!(refused(&seen.world(), "quota exceeded", seen.now), Decision::Wait(_)), "and said once");
        let before = seen.now;
        seen.now += jiff::SignedDuration::from_secs(31);
        let last = answer(&seen);
        assert_eq!(last.phase.to_string(), then);
        if phase == "RollingBack" {
            assert_eq!(last.steps[1].attempt, 1, "counted, so that a person is called in the end");
        } else {
            let failure = last.failure.expect("a cause");
            assert_eq!(
                (failure.step.as_str(), failure.reason.as_str(), failure.message.as_str()),
                (step, "Refused", "quota exceeded")
            );
        }
        seen.now = before;
    }
}

// ---- Many runs ----

#[test]
fn a_run_is_checked_when_few_others_are() {
    let mut seen = Seen::new();
    settle(&mut seen).unwrap();
    seen.jobs.clear();
    seen.run.status.as_mut().unwrap().preflight_at = None;
    let checks = |run: &str, phase: &str| {
        of(json!({
            "metadata": {"name": run, "labels": {"lockkeeper.dev/run": run, "lockkeeper.dev/step": "preflight-early"}},
            "status": {"phase": phase},
        }))
    };
    let makes = |seen: &Seen| matches!(seen.plan(), Decision::Perform(Effect::Create { .. }));
    assert!(makes(&seen), "{:?}", seen.plan());
    seen.target_side.pods.extend(["a", "b", "c"].map(|run| checks(run, "Running")));
    seen.target_side.pods.push(checks("c", "Pending"));
    assert!(makes(&seen), "three others");
    seen.target_side.pods.push(checks("d", "Running"));
    assert!(!makes(&seen), "four: it waits");
    let last = seen.target_side.pods.len() - 1;
    seen.target_side.pods[last] = checks("d", "Succeeded");
    assert!(makes(&seen), "and goes on when one has ended");
    let mut holder = |name: &str| {
        let uid = format!("uid-of-{name}");
        seen.target.as_mut().unwrap().status =
            Some(of(json!({"lock": {"epoch": 3, "holder": {"kind": "Promotion", "name": name, "uid": uid}}})));
        seen.plan()
    };
    let Decision::Advance(said) = holder("other") else { panic!("of a locked environment nothing is asked") };
    assert_eq!(said.next.as_deref(), Some("preflight: Promotion other to give the lock back"));
}

// ---- Other versions ----

#[test]
fn a_status_of_another_version_is_gone_on_with_and_keeps_what_this_one_does_not_know() {
    for (phase, step) in [
        ("Scheduled", None),
        ("BackingUp", Some("backup")),
        ("Locked", Some("stop")),
        ("Promoting", Some("workloads/flags")),
        ("Verifying", Some("open")),
        ("RollingBack", Some("rollback-stop")),
    ] {
        let mut seen = Seen::new();
        seen.run.metadata.finalizers = Some(vec![lockkeeper::api::FINALIZER.into()]);
        // An earlier version wrote no more than this, and a later one a field that nobody here has heard of.
        let steps: Vec<Value> = step.iter().map(|name| json!({"name": name, "state": "Running"})).collect();
        seen.run.status = Some(of(json!({"phase": phase, "step": step, "steps": steps, "epoch": 1, "later": {"said": [1, 2]}})));
        if matches!(phase, "Locked" | "Promoting" | "Verifying" | "RollingBack") {
            seen.target.as_mut().unwrap().status = locked(Some(UID), Some(UID), 1).status;
        }
        let mut written = 0;
        for _ in 0..20 {
            match seen.plan() {
                Decision::Advance(new) => {
                    assert_eq!(serde_json::to_value(&new).unwrap()["later"], json!({"said": [1, 2]}), "{phase}");
                    assert_eq!(new.failure, None, "{phase}");
                    seen.run.status = Some(*new);
                    written += 1;
                }
                Decision::Perform(effect) => {
                    assert_ne!(effect, Effect::RemoveFinalizer, "{phase}");
                    break;
                }
                Decision::Wait(_) => break,
            }
        }
        assert!(written < 20, "{phase}: it comes to rest");
    }
}
