//! Tables: DownAlignments by themselves; those before a Promotion are in a file of their own.

#[path = "before_promotion.rs"]
mod before_promotion;

pub use self::before_promotion::promoted_to_staging;
use lockkeeper::{
    api::{Check, DownAlignment, Environment, Phase},
    manifest::task::{Outcome, Task, Verb},
    plan::{
        Decision, Effect, Resource, alignment,
        world::{JobState, PolicyView},
    },
};
use serde_json::{Value, json};

use super::{
    fixture::{NAMESPACE, Seen, of},
    volumes::{jobs_of, opens_the_repository},
    walk::{Change, settle},
};

const CHILD_UID: &str = "99999999-2222-3333-4444-555555555555";

fn hash() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

fn place(claim: &str) -> Value {
    json!({"repository": {"volume": {"claim": {"name": claim}}}, "passwordSecret": {"name": "exchange-key"}})
}

fn changed(environment: &mut Option<Environment>, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::to_value(environment.take().unwrap()).unwrap();
    change(&mut value["spec"]);
    *environment = Some(of(value));
}

/// A lower environment, which a person wants to be a mirror of a higher one that lets it.
pub fn asked() -> Seen {
    let mut seen = Seen::new();
    changed(&mut seen.target, |spec| {
        spec["tier"] = json!("Development");
        spec["alignsFrom"] = json!([{"namespace": "shop-staging", "name": "staging"}]);
        spec["exchange"] = place("exchange");
    });
    changed(&mut seen.source, |spec| {
        spec["tier"] = json!("Production");
        spec["data"] = json!([{"name": "db", "postgres": {"connectionSecret": {"name": "their-db"}}}]);
        spec["backups"] = json!({"repository": {"volume": {"claim": {"name": "b"}}}, "passwordSecret": {"name": "k"}});
        spec["exchange"] = place("their-exchange");
        spec["grants"] = json!([{
            "to": {"namespace": NAMESPACE, "name": "production"}, "data": {"all": {}},
            "maskingPolicy": {"name": "shop", "hash": hash()},
        }]);
    });
    // Nothing that the target would not know.
    seen.source_side.config_maps[0].data.as_mut().unwrap().remove("NEW");
    seen.policy = Some(PolicyView {
        name: "shop".into(),
        hash: hash(),
        spec: of(json!({"keySecret": {"name": "masking-key"}, "data": []})),
    });
    seen.alignment = Some(alignment(json!({})));
    seen
}

fn alignment(include: Value) -> DownAlignment {
    of(json!({
        "metadata": {"name": "mirror", "namespace": NAMESPACE, "uid": CHILD_UID, "resourceVersion": "1", "generation": 1},
        "spec": {
            "environment": {"name": "production"}, "from": {"namespace": "shop-staging", "name": "staging"},
            "requestedBy": {"username": "alice"}, "include": include,
        },
    }))
}

/// What it waits for.
fn next(seen: &mut Seen) -> String {
    settle(seen).unwrap();
    seen.status().next.unwrap_or_default()
}

pub fn until(seen: &mut Seen, step: &str) {
    for _ in 0..40 {
        settle(seen).unwrap();
        if seen.status().step.as_deref() == Some(step) {
            return;
        }
        Change::Approve { who: "bob", today: true }.happen(seen);
        Change::Good.happen(seen);
    }
    panic!("{step} never begins: {:?}", seen.status());
}

fn to_the_end(seen: &mut Seen) -> Phase {
    for _ in 0..80 {
        settle(seen).unwrap();
        if seen.status().phase.is_terminal() {
            break;
        }
        Change::Approve { who: "bob", today: true }.happen(seen);
        Change::Good.happen(seen);
    }
    seen.status().phase
}

fn task(job: &Value) -> Task {
    let text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_consent_that_is_missing_is_named_with_what_its_owner_writes() {
    type Spoil = fn(&mut Seen);
    let table: [(&str, Spoil); 9] = [
        ("is protected: no other environment's data is ever put here", |s| {
            changed(&mut s.target, |spec| spec["tier"] = json!("Production"));
        }),
        ("is protected", |s| changed(&mut s.target, |spec| spec["protected"] = json!(true))),
        ("adds {namespace: shop-staging, name: staging} to spec.alignsFrom", |s| {
            changed(&mut s.target, |spec| spec["alignsFrom"] = json!([]));
        }),
        ("lets shop-production/production take nothing from it: its owner adds {to:", |s| {
            changed(&mut s.source, |spec| spec["grants"] = json!([]));
        }),
        ("take other data, not all of this", |s| {
            changed(&mut s.source, |spec| spec["grants"][0]["data"] = json!({"names": ["other"]}));
        }),
        ("MaskingPolicy shop-staging/shop, which the grant of Environment shop-staging/staging names, does not exist", |s| {
            s.policy = None;
        }),
        ("has changed since Environment shop-staging/staging granted it", |s| {
            s.policy.as_mut().unwrap().hash = "sha256:other".into();
        }),
        ("Environment shop-staging/staging, the source, names no exchange", |s| {
            changed(&mut s.source, |spec| spec["exchange"] = Value::Null);
        }),
        ("Environment shop-production/production, the target, names no exchange", |s| {
            changed(&mut s.target, |spec| spec["exchange"] = Value::Null);
        }),
    ];
    for (sentence, spoil) in table {
        let mut seen = asked();
        spoil(&mut seen);
        let said = next(&mut seen);
        assert!(said.contains(sentence), "{sentence:?} is not in {said:?}");
        assert_eq!(seen.status().phase, Phase::Scheduled);
        assert!(seen.elsewhere.jobs.is_empty() && seen.jobs.is_empty(), "nothing was begun");
    }
}

#[test]
fn a_key_of_configuration_that_nobody_has_spoken_of_stops_the_run_and_is_named() {
    let mut seen = asked();
    seen.source_side.config_maps[0].data.as_mut().unwrap().insert("SMTP_PASSWORD".into(), "p".into());
    let said = next(&mut seen);
    assert!(said.contains("ConfigMap web-config") && said.contains("SMTP_PASSWORD") && said.contains("`keep`"), "{said}");
    assert!(!said.contains(" p"), "{said}");
}

#[test]
fn data_is_masked_where_it_belongs_with_its_owners_secrets_and_loaded_with_the_targets() {
    let mut seen = asked();
    until(&mut seen, "snapshot");
    assert_eq!(seen.status().phase, Phase::Snapshotting);
    assert!(seen.status().approvals.is_none(), "nobody approves an alignment");
    let Some(Effect::In { namespace, effect }) = first_job(&mut seen) else { panic!("a Job in the source") };
    assert_eq!(namespace, "shop-staging");
    let Effect::Create { resource: Resource::Job, manifest } = *effect else { panic!("a Job") };
    assert_eq!(manifest["metadata"]["annotations"]["lockkeeper.dev/masking-policy"], "shop");
    let masking = task(&manifest);
    assert_eq!((masking.verb, masking.environment.as_str()), (Verb::Snapshot, "uid-staging"));
    assert_eq!(masking.masking_policy_hash, Some(hash()));
    let text = manifest.to_string();
    for secret in ["their-db", "exchange-key", "their-exchange", "masking-key"] {
        assert!(text.contains(&format!("\"{secret}\"")), "{secret} is mounted: {text}");
    }
    assert!(!text.contains("\"k\"") && !text.contains("claimName\":\"b\""), "the backups stay where they are");

    until(&mut seen, "load");
    let status = seen.status();
    assert_eq!(status.phase, Phase::Loading);
    let snapshot = status.snapshot.clone().unwrap();
    assert_eq!((snapshot.rows, snapshot.masking_policy_hash.as_deref()), (Some(3), Some(hash().as_str())));
    let Some(Effect::Create { manifest, .. }) = first_job(&mut seen) else { panic!("a Job at home") };
    let loading = task(&manifest);
    assert_eq!(
        (loading.verb, loading.origin.as_deref(), loading.snapshot),
        (Verb::Restore, Some("uid-staging"), Some(snapshot.id))
    );
    let text = manifest.to_string();
    assert!(text.contains("claimName\":\"exchange\"") && !text.contains("their") && !text.contains("masking-key"), "{text}");

    assert_eq!(to_the_end(&mut seen), Phase::Completed);
    assert!(seen.elsewhere.jobs.is_empty() && seen.elsewhere.config_maps.is_empty(), "nothing is left in the source");
    assert_eq!(seen.target.unwrap().status.unwrap().kept.len(), 1, "what was there before is kept for a while");
}

#[test]
fn a_cancelled_mirror_ends_once_the_pod_that_masks_is_gone_even_where_its_job_is_gone_before() {
    let mut seen = asked();
    until(&mut seen, "snapshot");
    // Someone over there deleted the Job and let its pod go on.
    seen.elsewhere.jobs.clear();
    let pod = |name: &str, phase: &str| {
        let labels = json!({"lockkeeper.dev/run": CHILD_UID, "lockkeeper.dev/step": "snapshot"});
        of(json!({"metadata": {"name": name, "namespace": "shop-staging", "labels": labels}, "status": {"phase": phase}}))
    };
    let before = seen.source_side.pods.len();
    seen.source_side.pods.extend([pod("over", "Succeeded"), pod("goes-on", "Running")]);
    seen.alignment.as_mut().unwrap().spec.cancel = Some(of(json!({"username": "carol", "reason": "no"})));
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::Snapshotting, "it waits for what may still write");
    seen.source_side.pods.truncate(before + 1);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::Cancelled);
}

#[test]
fn what_the_target_cannot_open_ends_the_run_before_anyone_is_locked_out() {
    let mut seen = asked();
    until(&mut seen, "receive");
    assert_eq!(seen.status().phase, Phase::Snapshotting);
    let Some(Effect::Create { manifest, .. }) = first_job(&mut seen) else { panic!("a Job at home") };
    let looking = task(&manifest);
    assert_eq!((looking.verb, looking.data.len(), looking.origin.as_deref()), (Verb::Preflight, 1, Some("uid-staging")));
    let text = manifest.to_string();
    assert!(looking.snapshot.is_some() && text.contains("claimName\":\"exchange\"") && !text.contains("their"), "{text}");
    let made = Effect::Create { resource: Resource::Job, manifest };
    seen.carry_out(&lockkeeper::plan::Decision::Perform(made));
    for job in seen.jobs.values_mut() {
        let closed = Check { name: "repository".into(), passed: false, message: "the password is another".into() };
        job.state = JobState::Succeeded;
        job.outcome = Some(Outcome { checks: vec![closed], ..Outcome::default() });
    }
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    let (status, failure) = (seen.status(), seen.status().failure.unwrap());
    assert_eq!((failure.step.as_str(), failure.reason.as_str()), ("receive", "ExchangeUnreadable"));
    assert!(failure.message.contains("the password is another") && status.locked_at.is_none(), "{failure:?}");
}

/// The next Job that is decided on, carried out with all that comes before it.
fn first_job(seen: &mut Seen) -> Option<Effect> {
    seen.elsewhere.jobs.clear();
    seen.jobs.clear();
    for _ in 0..50 {
        let decision = seen.plan();
        if let lockkeeper::plan::Decision::Perform(effect) = &decision
            && effect.describe().contains("create Job")
        {
            return Some(effect.clone());
        }
        seen.carry_out(&decision);
    }
    None
}

#[test]
fn without_data_nothing_is_masked_or_fenced_and_without_configuration_no_image_changes() {
    let mut seen = asked();
    seen.alignment = Some(alignment(json!({"configuration": true, "data": {"none": {}}})));
    seen.policy = None;
    assert_eq!(to_the_end(&mut seen), Phase::Completed, "{:?}", seen.status());
    let steps: Vec<String> = seen.status().steps.iter().map(|s| s.name.clone()).collect();
    assert!(!steps.iter().any(|s| ["snapshot", "fence", "load", "release-data", "backup"].contains(&s.as_str())), "{steps:?}");
    let image = |seen: &Seen| {
        serde_json::to_value(&seen.target_side.deployments[0]).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"]
            .clone()
    };
    assert!(image(&seen).as_str().unwrap().contains("@sha256:"), "the source's image by its digest");

    let mut seen = asked();
    let before = image(&seen);
    seen.alignment = Some(alignment(json!({"configuration": false, "data": {"all": {}}})));
    assert_eq!(to_the_end(&mut seen), Phase::Completed, "{:?}", seen.status());
    assert_eq!(image(&seen), before);
}

#[test]
fn masking_that_fails_leaves_the_target_alone_and_loading_that_fails_puts_it_back() {
    let mut seen = asked();
    until(&mut seen, "snapshot");
    for _ in 0..5 {
        Change::JobsFail { code: 2, says: true }.happen(&mut seen);
        settle(&mut seen).unwrap();
    }
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    assert!(seen.status().locked_at.is_none() && seen.elsewhere.jobs.is_empty());
    assert_eq!(seen.status().failure.unwrap().step, "snapshot");

    let mut seen = asked();
    until(&mut seen, "load");
    Change::JobsFail { code: 2, says: true }.happen(&mut seen);
    assert_eq!(to_the_end(&mut seen), Phase::RolledBack);
    assert_eq!(seen.status().failure.unwrap().step, "load");
    assert!(seen.elsewhere.config_maps.is_empty());
}

#[test]
fn a_grant_that_goes_before_the_lock_stops_the_run_and_after_it_no_more() {
    let mut seen = asked();
    until(&mut seen, "page");
    changed(&mut seen.source, |spec| spec["grants"] = json!([]));
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    assert_eq!(seen.status().failure.unwrap().reason, "GrantRevoked");

    let mut seen = asked();
    until(&mut seen, "stop");
    changed(&mut seen.source, |spec| spec["grants"] = json!([]));
    assert_eq!(to_the_end(&mut seen), Phase::Completed);
}

#[test]
fn nothing_goes_up_by_an_alignment_and_a_source_that_leaves_gives_nothing() {
    let mut seen = asked();
    changed(&mut seen.source, |spec| spec["tier"] = json!("Development"));
    changed(&mut seen.target, |spec| spec["tier"] = json!("Staging"));
    assert!(next(&mut seen).contains("do not go up by an alignment"), "{:?}", seen.status().next);
    let mut seen = asked();
    seen.source.as_mut().unwrap().metadata.deletion_timestamp = Some(of(json!("2026-11-22T20:00:00Z")));
    assert!(next(&mut seen).contains("is being deleted"), "{:?}", seen.status().next);
}

#[test]
fn what_is_masked_is_of_the_captured_release_and_of_a_source_at_rest() {
    let mut seen = asked();
    until(&mut seen, "preflight");
    let lock = json!({"lock": {"epoch": 3, "holder": {"kind": "Promotion", "name": "up", "uid": "u"}}});
    seen.source.as_mut().unwrap().status = Some(of(lock));
    for _ in 0..6 {
        Change::Good.happen(&mut seen);
        settle(&mut seen).unwrap();
    }
    assert!(seen.status().next.unwrap().contains("Promotion up, which holds the lock of the source"), "{:?}", seen.status().step);
    assert!(seen.elsewhere.jobs.is_empty(), "nothing is read meanwhile");
    // It has brought another release.
    seen.source.as_mut().unwrap().status = None;
    let containers = &mut seen.source_side.deployments[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers;
    containers[0].image = Some("r.example/web:9".into());
    assert_eq!(to_the_end(&mut seen), Phase::Failed);
    assert_eq!(seen.status().failure.unwrap().reason, "SourceChanged");
}

#[test]
fn an_environment_that_becomes_protected_while_locked_gets_nothing() {
    let mut seen = asked();
    until(&mut seen, "fence");
    changed(&mut seen.target, |spec| spec["protected"] = json!(true));
    assert_eq!(to_the_end(&mut seen), Phase::RolledBack);
    assert_eq!(seen.status().failure.unwrap().reason, "Protected");
}

/// Both sides have a volume of one name, and the target's claim is there.
fn with_files() -> Seen {
    let mut seen = asked();
    for side in [&mut seen.target, &mut seen.source] {
        changed(side, |spec| {
            spec["data"].as_array_mut().unwrap().push(json!({"name": "uploads", "volume": {"claim": {"name": "uploads"}}}));
        });
    }
    for side in [&mut seen.target_side, &mut seen.source_side] {
        side.volumes = vec![of(
            json!({"metadata": {"name": "uploads"}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}}),
        )];
    }
    seen
}

/// The policy lists which of its files may leave.
fn listed(seen: &mut Seen) {
    seen.policy.as_mut().unwrap().spec =
        of(json!({"keySecret": {"name": "masking-key"}, "data": [{"name": "uploads", "files": {"include": ["public/**"]}}]}));
}

fn include(seen: &mut Seen, names: &[&str]) {
    seen.alignment = Some(alignment(json!({"data": {"names": names}})));
}

#[test]
fn a_volume_stays_where_it_is_and_the_plan_says_so() {
    let mut seen = with_files();
    assert_eq!(to_the_end(&mut seen), Phase::Completed, "{:?}", seen.status());
    let check = seen.status().preflight.iter().find(|c| c.name == "volumes").cloned().unwrap();
    assert!(
        check.passed && check.message.contains("uploads: it stays as it is; policy and grant let no file of it leave"),
        "{check:?}"
    );
    assert_eq!(seen.status().snapshot.unwrap().volumes, [""; 0]);
}

#[test]
fn files_that_are_asked_for_by_name_and_may_not_go_are_a_sentence_with_what_lets_them() {
    type Spoil = fn(&mut Seen);
    let table: [(&str, Spoil); 7] = [
        (
            "lists none of its files: nothing of it leaves until it says which may, data: [{name: uploads, files: {include:",
            |_| {},
        ),
        ("name one of db too under include.data.names", |s| include(s, &["uploads"])),
        ("data uploads is a volume in Environment shop-staging/staging and a database in shop-production/production", |s| {
            changed(&mut s.target, |spec| {
                spec["data"][1] = json!({"name": "uploads", "postgres": {"connectionSecret": {"name": "u"}}})
            });
        }),
        ("data uploads is a database in Environment shop-staging/staging and a volume in shop-production/production", |s| {
            listed(s);
            changed(&mut s.source, |spec| {
                spec["data"][1] = json!({"name": "uploads", "postgres": {"connectionSecret": {"name": "u"}}})
            });
        }),
        ("data uploads is not in the source Environment", |s| {
            changed(&mut s.source, |spec| drop(spec["data"].as_array_mut().unwrap().pop()));
        }),
        ("data uploads is not in Environment shop-production/production", |s| {
            changed(&mut s.target, |spec| drop(spec["data"].as_array_mut().unwrap().pop()));
        }),
        ("take other data, not all of this", |s| {
            listed(s);
            changed(&mut s.source, |spec| spec["grants"][0]["data"] = json!({"names": ["db"]}));
        }),
    ];
    for (sentence, spoil) in table {
        let mut seen = with_files();
        include(&mut seen, &["db", "uploads"]);
        spoil(&mut seen);
        let said = next(&mut seen);
        assert!(said.contains(sentence), "{sentence:?} is not in {said:?}");
        assert!(seen.elsewhere.jobs.is_empty() && seen.jobs.is_empty(), "nothing was begun");
    }
    // With all data it is left where it is, and the rest goes.
    let mut partly = with_files();
    listed(&mut partly);
    changed(&mut partly.source, |spec| spec["grants"][0]["data"] = json!({"names": ["db"]}));
    until(&mut partly, "page");
    assert_eq!(partly.status().snapshot.unwrap().volumes, [""; 0]);
}

/// The Job of a step, once it is made, and its task.
fn made(jobs: &[Value], step: &str) -> (Value, Task) {
    let of_step = |j: &&Value| j["metadata"]["labels"]["lockkeeper.dev/step"] == step;
    let job = jobs.iter().find(of_step).unwrap_or_else(|| panic!("no Job of {step}"));
    (job["spec"]["template"]["spec"].clone(), task(job))
}

#[test]
fn listed_files_are_masked_into_the_exchange_and_undone_from_the_targets_own_repository() {
    let mut seen = with_files();
    listed(&mut seen);
    include(&mut seen, &["db", "uploads"]);
    let mut jobs: Vec<Value> = Vec::new();
    for _ in 0..80 {
        for _ in 0..200 {
            let decision = seen.plan();
            let inner = |effect: &Effect| match effect {
                Effect::In { effect, .. } => (**effect).clone(),
                other => other.clone(),
            };
            if let Decision::Perform(effect) = &decision
                && let Effect::Create { resource: Resource::Job, manifest } = inner(effect)
            {
                jobs.push(*manifest);
            }
            if !seen.carry_out(&decision) {
                break;
            }
        }
        if seen.status().phase.is_terminal() {
            break;
        }
        if seen.status().step.as_deref() == Some("load") {
            // While locked neither policy nor grant is asked any more, and what is put back is what was taken.
            seen.policy = None;
            seen.source = None;
            Change::JobsFail { code: 2, says: true }.happen(&mut seen);
        } else {
            Change::Good.happen(&mut seen);
            let written = of(
                json!([{"data": "db", "tables": 1, "rows": 3, "bytes": 7}, {"data": "uploads", "tables": 0, "rows": 0, "bytes": 2, "files": 2}]),
            );
            let outcomes = seen.elsewhere.jobs.values_mut().filter_map(|j| j.outcome.as_mut()?.backup.as_mut());
            outcomes.for_each(|backup| backup.contents = Clone::clone(&written));
        }
    }
    assert_eq!(seen.status().phase, Phase::RolledBack, "{:?}", seen.status());
    let snapshot = seen.status().snapshot.unwrap();
    assert_eq!((snapshot.volumes, snapshot.files), (vec!["uploads".to_owned()], Some(2)));
    let message = seen.status().steps.iter().find(|s| s.name == "snapshot").unwrap().message.clone().unwrap();
    assert!(message.contains("uploads: 2 files that it lets out, as they are"), "{message}");

    let volumes = |pod: &Value| -> Vec<String> {
        let claims = pod["volumes"].as_array().unwrap().iter();
        let named = |v: &Value| Some(format!("{}={}", v["name"].as_str()?, v["persistentVolumeClaim"]["claimName"].as_str()?));
        claims.filter_map(named).collect()
    };
    // Each repository is opened by a pod that has no data beside it, before one that has.
    for step in ["preflight", "snapshot", "receive"] {
        let of_step = |j: &Value, step: &str| j["metadata"]["labels"]["lockkeeper.dev/step"] == step;
        let first = jobs.iter().position(|j| of_step(j, &format!("{step}-open"))).unwrap();
        assert!(first < jobs.iter().position(|j| of_step(j, step)).unwrap(), "{step}");
        opens_the_repository(&jobs[first], &format!("{step}-open"));
        let there = if step == "snapshot" { "shop-staging" } else { NAMESPACE };
        assert_eq!(jobs[first]["metadata"]["namespace"], there);
    }
    for (step, expected) in [
        ("preflight", &["repository=backups", "files-0=uploads"][..]),
        ("snapshot", &["repository=their-exchange", "files-0=uploads"]),
        ("receive", &["repository=exchange", "files-0=uploads"]),
        ("load", &["repository=exchange", "own-repository=backups", "files-0=uploads"]),
        ("rollback-data", &["repository=backups", "files-0=uploads"]),
    ] {
        let (pod, task) = made(&jobs, step);
        assert_eq!(volumes(&pod), expected, "{step}");
        assert_eq!(task.volumes.len(), 1, "{step}");
        assert_eq!((task.own.is_some(), task.origin.is_some()), (step == "load", ["receive", "load"].contains(&step)), "{step}");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let of = |name: &str| mounts.iter().find(|m| m["name"] == name).cloned().unwrap_or_default();
        let writes = ["load", "rollback-data"].contains(&step);
        assert_eq!(of("files-0")["readOnly"] == false, writes, "{step}");
        if step == "load" {
            assert_eq!(of("own-repository-password")["mountPath"], "/lockkeeper/own/repository-password");
        }
    }
}

#[test]
fn an_alignment_makes_no_backup_and_so_has_no_business_with_a_server_for_proofs() {
    let mut seen = asked();
    changed(&mut seen.target, |spec| spec["backups"]["proof"] = json!({"connectionSecret": {"name": "prover"}}));
    let jobs = jobs_of(&mut seen, |_| {});
    assert_eq!(seen.status().phase, Phase::Completed, "{:?}", seen.status());
    assert!(jobs.len() > 3 && jobs.values().all(|job| !job.to_string().contains("prover")), "{:?}", jobs.keys());
}

#[test]
fn a_masked_snapshot_serves_again_where_the_sources_owner_says_so_and_stays_as_long_as_it_is_needed() {
    let asks = |exchange: Value, spoil: fn(&mut Seen)| {
        let mut seen = asked();
        changed(&mut seen.source, |spec| spec["exchange"].as_object_mut().unwrap().extend(exchange.as_object().unwrap().clone()));
        // What the target says of its own exchange is for those who take from the target.
        changed(&mut seen.target, |spec| spec["exchange"]["reuseWithin"] = json!("1h"));
        until(&mut seen, "snapshot");
        spoil(&mut seen);
        let Some(Effect::In { effect, .. }) = first_job(&mut seen) else { panic!("a Job in the source") };
        let Effect::Create { manifest, .. } = *effect else { panic!("a Job") };
        let task = task(&manifest);
        let kept = task.retention.unwrap().keep_within.unwrap().to_string();
        (task.reuse_within_seconds, task.release, kept)
    };
    let (reuse, release, kept) = asks(json!({}), |_| {});
    assert_eq!((reuse, kept.as_str()), (None, "168h"));
    assert!(release.is_some(), "what is written says of which release it is");
    let (reuse, same, kept) = asks(json!({"reuseWithin": "2h"}), |_| {});
    assert_eq!((reuse, same, kept.as_str()), (Some(7200), release.clone(), "168h"));
    let (reuse, _, kept) = asks(json!({"reuseWithin": "2h", "keepWithin": "1h"}), |_| {});
    assert_eq!(
        (reuse, kept.as_str()),
        (Some(7200), "93600s"),
        "two hours, and a day for whoever was handed it in the last minute"
    );
    let configured = |seen: &mut Seen| {
        let data = seen.source_side.config_maps[0].data.as_mut().unwrap();
        data.values_mut().for_each(|value| value.push('x'));
    };
    assert_ne!(asks(json!({"reuseWithin": "2h"}), configured).1, release, "what the source runs has changed");
    let unknown = |seen: &mut Seen| seen.source_side.pods.clear();
    assert_eq!(asks(json!({"reuseWithin": "2h"}), unknown).1, None, "what cannot be said fits nothing");
}
