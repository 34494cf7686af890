//! Runs as records and what people decide of them: the queue, the ledger, modification, a rollback that failed, history.

use std::collections::BTreeMap;

use lockkeeper::{
    api::{Environment, EnvironmentBackup, EnvironmentRestore, InterventionAction, Phase, Promotion, conditions, reasons},
    manifest::task::exit,
    plan::{
        Decision, Effect, Resource,
        environment::{self, World},
        history, intervention, ledger,
        queue::Waiting,
    },
};
use serde_json::json;

use super::{
    fixture::{Seen, of, production, promotion},
    walk::{Change, settle},
};

/// Goes on well, with approvals, until `there`.
fn until(seen: &mut Seen, there: impl Fn(&Seen) -> bool) {
    for _ in 0..80 {
        settle(seen).unwrap();
        if there(seen) {
            return;
        }
        Change::Approve { who: "bob", today: true }.happen(seen);
        Change::Good.happen(seen);
    }
    panic!("it never comes there: {:#?}", seen.status());
}

fn ready(status: &lockkeeper::api::PromotionStatus) -> (&str, &str) {
    let ready = status.conditions.iter().find(|c| c.type_ == conditions::READY).unwrap();
    (&ready.status, &ready.reason)
}

/// A run whose rollback fails again and again until a person is called.
fn needs_human() -> Seen {
    let mut seen = Seen::new();
    until(&mut seen, |s| s.status().step.as_deref() == Some("verify/health"));
    Change::Cancel.happen(&mut seen);
    for _ in 0..400 {
        settle(&mut seen).unwrap();
        if seen.status().phase == Phase::NeedsHuman {
            return seen;
        }
        let back = seen.status().step.as_deref().is_some_and(|s| s == "rollback-data");
        if back { Change::JobsFail { code: exit::PERMANENT, says: true } } else { Change::Good }.happen(&mut seen);
    }
    panic!("no person is called: {:#?}", seen.status());
}

fn intervene(seen: &mut Seen, action: &'static str) {
    Change::Intervene(action).happen(seen);
}

// ---- A rollback that failed ----

#[test]
fn a_rollback_that_failed_is_tried_again_by_itself_and_stays_where_a_person_finds_it() {
    let mut seen = needs_human();
    let attempt = |s: &Seen| s.status().steps.iter().find(|s| s.name == "rollback-data").unwrap().attempt;
    let before = attempt(&seen);
    let Decision::Wait(Some(at)) = seen.plan() else { panic!("it waits for a time") };
    assert!(at > seen.now);
    Change::Seconds(120).happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::NeedsHuman, "while it tries");
    Change::JobsFail { code: exit::PERMANENT, says: true }.happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!((seen.status().phase, attempt(&seen)), (Phase::NeedsHuman, before + 1));
    Change::Seconds(120).happen(&mut seen);
    until(&mut seen, |s| s.status().phase == Phase::RolledBack);
}

#[test]
fn resume_tries_again_at_once_and_once_for_each_time_it_is_asked() {
    let mut seen = needs_human();
    intervene(&mut seen, "Resume");
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::RollingBack);
    assert_eq!(seen.status().intervention.unwrap().username, "olga");
    Change::JobsFail { code: exit::PERMANENT, says: true }.happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::NeedsHuman, "what was asked is done once");
    intervene(&mut seen, "Resume");
    until(&mut seen, |s| s.status().phase == Phase::RolledBack);
    assert_eq!(seen.status().failure.unwrap().reason, "Cancelled", "the first cause stays");
}

#[test]
fn unlock_gives_lock_page_and_slot_back_touches_nothing_else_and_lists_what_is_left() {
    let mut seen = needs_human();
    let stopped = seen.target_side.deployment("web").unwrap().clone();
    intervene(&mut seen, "Unlock");
    until(&mut seen, |s| s.status().phase == Phase::Abandoned);
    let status = seen.status();
    let environment = seen.target.as_ref().unwrap().status.clone().unwrap();
    assert_eq!((environment.active, environment.lock.unwrap().holder), (None, None));
    assert!(environment.kept.is_empty(), "an undo point that may be the only good copy is nobody's to drop");
    let web = seen.target_side.deployment("web").unwrap();
    assert_eq!(web.spec.as_ref().unwrap().replicas, stopped.spec.as_ref().unwrap().replicas, "nothing starts by itself");
    let done = status.intervention.clone().unwrap();
    assert_eq!(done.action, InterventionAction::Unlock);
    for words in [
        "database db_fence is data db as it was when users were locked out",
        "data db: its database may be closed",
        "Deployment web is stopped; it had 2 pods: kubectl -n shop-production scale deployment web --replicas=2",
        "Deployment web, container web, has the image r.example/web@sha256:",
        "ConfigMap web-config is not what it was; the earlier content is in ConfigMap lk-",
    ] {
        assert!(done.left.iter().any(|l| l.contains(words)), "{words}: {:#?}", done.left);
    }
    assert_eq!(ready(&status), ("False", reasons::ABANDONED));
    let message = &status.conditions.iter().find(|c| c.type_ == conditions::STALLED).unwrap().message;
    assert!(message.starts_with("olga gave the rollback up: enough. To be put right by hand: "), "{message}");
    assert!(message.contains("db_fence") && message.contains("It began with"), "{message}");
    let copies = |s: &Seen| s.target_side.config_maps.iter().filter(|c| lockkeeper::plan::prepare::is_prior(c)).count();
    assert_eq!(copies(&seen), 1, "the earlier configuration is not thrown away");
    Change::Delete.happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!((copies(&seen), seen.run.metadata.finalizers.clone()), (0, Some(vec![])), "it goes with the run");
}

#[test]
fn a_namespace_that_goes_while_locked_leaves_words_for_whoever_must_act() {
    let mut seen = needs_human();
    assert_eq!(intervention::farewell(&seen.world()), None);
    seen.terminating = true;
    let text = intervention::farewell(&seen.world()).unwrap();
    for words in ["namespace shop-production was deleted while Promotion r-1 was NeedsHuman", "db_fence (db)", "ALTER DATABASE"] {
        assert!(text.contains(words), "{text}");
    }
    Change::Delete.happen(&mut seen);
    assert_eq!(seen.plan(), Decision::Perform(Effect::RemoveFinalizer));
    seen.run.status.as_mut().unwrap().phase = Phase::Validated;
    assert_eq!(intervention::farewell(&seen.world()), None, "nothing was changed there");
}

// ---- Modification ----

#[test]
fn who_changed_a_run_does_not_approve_it_even_when_another_changed_it_later() {
    let mut seen = Seen::new();
    for who in ["bob", "carol"] {
        Change::Modify(who).happen(&mut seen);
        settle(&mut seen).unwrap();
        Change::JobsEnd.happen(&mut seen);
        settle(&mut seen).unwrap();
    }
    assert_eq!(seen.status().modifiers, ["bob", "carol"]);
    Change::Approve { who: "bob", today: true }.happen(&mut seen);
    settle(&mut seen).unwrap();
    let approvals = seen.status().approvals.unwrap();
    assert_eq!((approvals.given.len(), approvals.void[0].username.as_str()), (0, "bob"));
    assert!(approvals.void[0].reason.contains("or changed it"));
}

// ---- The queue ----

#[test]
fn who_was_validated_first_is_served_first_and_the_others_say_behind_whom() {
    let mut seen = Seen::new();
    Change::Ahead(true).happen(&mut seen);
    until(&mut seen, |s| s.status().phase == Phase::Validated && s.status().preflight_at.is_some());
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().next.as_deref(), Some("behind Promotion earlier"), "the slot is free, and is another's");
    let at = seen.status().validated_at.unwrap();
    Change::SlotOf(Some("at-work")).happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().next.as_deref(), Some("behind Promotion at-work, Promotion earlier"));
    assert_eq!(seen.status().validated_at, Some(at), "the place is kept");
    // One that was validated later does not stand in the way.
    Change::SlotOf(None).happen(&mut seen);
    seen.queue = vec![Waiting { since: at + jiff::SignedDuration::from_secs(1), ..seen.queue[0].clone() }];
    settle(&mut seen).unwrap();
    assert_eq!(seen.status().phase, Phase::BackingUp);
}

#[test]
fn who_is_not_ready_stands_in_nobodys_way() {
    let mut seen = Seen::new();
    until(&mut seen, |s| s.status().phase == Phase::Validated);
    let now = seen.now;
    let waits = |change: &dyn Fn(&mut lockkeeper::api::Promotion)| {
        let mut run = seen.run.clone();
        change(&mut run);
        lockkeeper::plan::queue::waiting(lockkeeper::plan::world::Run::Promotion(&run), now).is_some()
    };
    assert!(waits(&|_| {}));
    assert!(!waits(&|r| r.spec.schedule = Some(of(json!({"notBefore": "2030-01-01T00:00:00Z"})))), "its time has not come");
    assert!(!waits(&|r| r.spec.cancel = Some(of(json!({"username": "a", "reason": "b"})))), "it ends");
    assert!(!waits(&|r| r.metadata.deletion_timestamp = Some(of(json!("2026-11-22T20:30:00Z")))), "it goes");
    assert!(!waits(&|r| r.status.as_mut().unwrap().phase = Phase::Scheduled), "it is not approved");
    assert!(
        !waits(&|r| conditions::set(&mut r.status.as_mut().unwrap().conditions, conditions::STALLED, true, "X", "", 1, now)),
        "it is stalled"
    );
}

// ---- The ledger ----

#[test]
fn a_run_that_is_made_again_ends_at_once_as_it_ended_before() {
    let mut seen = Seen::new();
    until(&mut seen, |s| s.status().phase == Phase::Completed);
    let ended = seen.target.clone().unwrap().status.unwrap();
    let entry = &ended.finished[0];
    assert_eq!((entry.kind.as_str(), entry.name.as_str(), entry.phase.as_str()), ("Promotion", "r-1", "Completed"));
    assert_eq!(ended.finished.len(), 1);

    let target = seen.target.clone();
    let again = |change: &dyn Fn(&mut Seen)| {
        let mut seen = Seen::new();
        seen.target = target.clone();
        change(&mut seen);
        settle(&mut seen).unwrap();
        seen
    };
    let same = again(&|_| {});
    assert_eq!(same.status().phase, Phase::Completed);
    assert_eq!(ready(&same.status()), ("True", reasons::ALREADY_RAN));
    assert!(same.jobs.is_empty() && same.run.metadata.finalizers.is_none(), "nothing was done");
    assert_eq!(same.target.unwrap().status.unwrap().finished.len(), 1);

    let other = again(&|s| s.run.spec.description = Some("another".into()));
    assert_eq!(other.status().phase, Phase::Scheduled, "another spec is another run");
    let failed = again(&|s| s.target.as_mut().unwrap().status.as_mut().unwrap().finished[0].phase = "RolledBack".into());
    assert_eq!(failed.status().phase, Phase::RolledBack);
    assert_eq!(ready(&failed.status()), ("False", reasons::ALREADY_RAN));
    assert!(failed.status().failure.unwrap().message.contains("make another under a new name"));
}

#[test]
fn every_end_is_in_the_ledger_before_it_is_one() {
    for (change, phase) in [(Change::Cancel, Phase::Cancelled), (Change::Delete, Phase::Cancelled)] {
        let mut seen = Seen::new();
        settle(&mut seen).unwrap();
        change.happen(&mut seen);
        for _ in 0..5 {
            settle(&mut seen).unwrap();
            Change::Good.happen(&mut seen);
        }
        assert_eq!(seen.status().phase, phase);
        assert_eq!(seen.target.unwrap().status.unwrap().finished[0].phase, phase.to_string());
    }
}

// ---- History ----

#[test]
fn the_environment_deletes_finished_runs_beyond_its_history_once_the_ledger_knows_them() {
    let seen = Seen::new();
    let ended = |name: &str, second: i64| {
        let mut run = promotion();
        run.metadata.name = Some(name.into());
        run.metadata.uid = Some(name.into());
        let status = run.status.get_or_insert_default();
        status.phase = Phase::Completed;
        status.finished_at = Some(jiff::Timestamp::from_second(1_790_000_000 + second).unwrap());
        run
    };
    let mut abandoned = ended("abandoned", 0);
    abandoned.status.as_mut().unwrap().phase = Phase::Abandoned;
    let going = Seen::new().run;
    let runs = [ended("second", 20), ended("first", 10), abandoned, going];
    let restore = |name: &str, more: serde_json::Value| -> EnvironmentRestore {
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "namespace": "shop-production"},
            "spec": {"environment": {"name": "production"}, "from": {"backup": {"name": "b"}}, "requestedBy": {"username": "olga"}},
        });
        super::merge::merge(&mut value, &more, false);
        of(value)
    };
    let restores = [
        restore("third", json!({"status": {"phase": "RolledBack", "finishedAt": "2026-11-22T19:00:00Z"}})),
        restore("undoing", json!({"spec": {"from": {"backup": null, "undoOf": {"kind": "Promotion", "name": "named"}}}})),
    ];
    let runs: Vec<Promotion> = runs.into_iter().chain([ended("named", 5)]).collect();
    let mut records = history::records(&runs, &restores, &[]);
    assert_eq!(records.len(), 3, "neither what goes on nor what was given up nor what is about to be undone");
    let backup = |name: &str, status: serde_json::Value| -> EnvironmentBackup {
        of(json!({
            "metadata": {"name": name, "uid": name}, "spec": {"environment": {"name": "production"}, "reason": ""}, "status": status,
        }))
    };
    let mut backups = vec![
        backup("written", json!({"phase": "Failed", "snapshot": "abc", "finishedAt": "2026-11-22T18:00:00Z"})),
        backup("nothing", json!({"phase": "Failed", "finishedAt": "2026-11-22T18:00:00Z"})),
        backup("good", json!({"phase": "Completed", "snapshot": "def", "finishedAt": "2026-11-22T18:00:00Z"})),
    ];
    let mut environment: Environment = production();
    environment.metadata.finalizers = Some(vec![lockkeeper::api::ENVIRONMENT_FINALIZER.into()]);
    environment.spec.history = of(json!({"keep": 0}));
    let mut deleted = Vec::new();
    for _ in 0..10 {
        let (jobs, none) = (BTreeMap::new(), Vec::new());
        let world = World {
            settings: &seen.settings,
            environment: &environment,
            others: &none,
            side: &seen.target_side,
            jobs: &jobs,
            runs: &none,
            made: &[],
            backups: &backups,
            restores: &restores,
            policies: &[],
            copies: &[],
            records: &records,
            missing_policies: &none,
            refused: None,
            terminating: false,
        };
        match environment::plan(&world, seen.now) {
            Decision::Advance(status) => environment.status = Some(*status),
            Decision::Perform(Effect::Delete { resource: Resource::EnvironmentBackup, name, uid, .. }) => {
                backups.retain(|b| b.metadata.uid.as_deref() != Some(&*uid));
                deleted.push(name);
            }
            Decision::Perform(Effect::Delete { resource, name, uid, .. }) => {
                let status = environment.status.clone().unwrap_or_default();
                let (kind, hash) = match resource {
                    Resource::Promotion => ("Promotion", ledger::spec_hash(&promotion().spec)),
                    _ => ("EnvironmentRestore", ledger::spec_hash(&restores[0].spec)),
                };
                assert!(ledger::entry(&status, (kind, &name), &hash).is_some(), "{name} is known before it goes");
                records.retain(|r| r.uid != uid);
                deleted.push(name);
            }
            Decision::Wait(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(deleted, ["first", "second", "third", "nothing"], "the oldest first");
}

#[test]
fn what_a_run_without_a_finalizer_left_goes_unless_it_still_holds_the_lock() {
    let seen = Seen::new();
    let made = |name: &str, run: &str| environment::Made {
        resource: Resource::ConfigMap,
        name: name.into(),
        uid: format!("uid-{name}"),
        run: run.into(),
    };
    let all = [made("mine", "alive"), made("own", "uid-production"), made("left", "gone")];
    let (jobs, none, runs) = (BTreeMap::new(), Vec::new(), vec!["alive".to_owned()]);
    let planned = |status: serde_json::Value| {
        let mut environment: Environment = production();
        environment.metadata.finalizers = Some(vec![lockkeeper::api::ENVIRONMENT_FINALIZER.into()]);
        environment.status = Some(of(status));
        environment::plan(
            &World {
                settings: &seen.settings,
                environment: &environment,
                others: &none,
                side: &seen.target_side,
                jobs: &jobs,
                runs: &runs,
                made: &all,
                backups: &[],
                restores: &[],
                policies: &[],
                copies: &[],
                records: &[],
                missing_policies: &none,
                refused: None,
                terminating: false,
            },
            seen.now,
        )
    };
    let gone = |decision: Decision<lockkeeper::api::EnvironmentStatus>| match decision {
        Decision::Perform(Effect::Delete { name, uid, .. }) => {
            assert_eq!(uid, format!("uid-{name}"));
            Some(name)
        }
        _ => None,
    };
    assert_eq!(gone(planned(json!({}))).as_deref(), Some("left"));
    let holder = |uid: &str| json!({"lock": {"epoch": 3, "holder": {"kind": "Promotion", "name": "r", "uid": uid}}});
    assert_eq!(gone(planned(holder("alive"))).as_deref(), Some("left"));
    assert_eq!(gone(planned(holder("gone"))), None, "its page and its copies are what a person needs");
}
