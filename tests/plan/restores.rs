//! Tables: restores, backups by schedule, what retention keeps, what grants let out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lockkeeper::{
    api::{DownAlignment, Environment, EnvironmentBackup, EnvironmentRestore, MaskingPolicy, Promotion, Retention, conditions},
    data::mask,
    manifest::task::{Outcome, Task, Verb},
    plan::{
        Decision, Effect, Resource,
        cron::Cron,
        environment::{self, World},
        environment_backups, restore,
        retention::{Known, beyond},
        steps,
        world::{Run, Side},
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{NAMESPACE, Seen, of, production};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

// ---- Cron ----

#[test]
fn five_fields_say_when_and_anything_else_is_refused_with_how_it_is_written() {
    for (text, after, next) in [
        ("0 3 * * *", "2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z"),
        ("*/15 * * * *", "2026-11-22T03:07:30Z", "2026-11-22T03:15:00Z"),
        ("30 22 * * Mon-Fri", "2026-11-20T22:30:00Z", "2026-11-23T22:30:00Z"),
        ("0 0 1 jan,jul *", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 0 29 2 *", "2026-11-22T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 * * 7", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
        // Day and weekday both named: either is enough.
        ("0 0 13 * 5", "2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z"),
        ("5-59/20 1 * * *", "2026-11-22T01:25:00Z", "2026-11-22T01:45:00Z"),
    ] {
        let cron = Cron::parse(text).unwrap();
        assert_eq!(cron.next(at(after)), Some(at(next)), "{text}");
        assert_eq!(cron.latest(at(next)), Some(at(next)), "{text}");
    }
    for (text, words) in [
        ("0 0 3 * * *", "has 6 fields; five are wanted"),
        ("0 3 * *", "has 4 fields"),
        ("60 3 * * *", "minute \"60\""),
        ("0 24 * * *", "hour \"24\""),
        ("0 3 0 * *", "day of the month \"0\""),
        ("0 3 * 13 *", "month \"13\""),
        ("0 3 * * 8", "weekday \"8\""),
        ("0 5-3 * * *", "hour \"5-3\""),
        ("*/0 3 * * *", "minute \"*/0\""),
        ("0 3 , * *", "day of the month \",\""),
        ("0 0 30 2 *", "it would never come"),
        ("@daily", "has 1 fields"),
    ] {
        let why = Cron::parse(text).unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
    }
}

// ---- Retention ----

fn policy(last: Option<u32>, within: Option<&str>) -> Retention {
    Retention { keep_last: last, keep_within: within.map(Into::into) }
}

#[test]
fn retention_lets_go_what_neither_rule_keeps_and_nothing_that_is_kept() {
    let now = at("2026-11-22T00:00:00Z");
    let daily = |kept: &[usize]| -> Vec<Known> {
        let day = |n: usize| now - jiff::SignedDuration::from_hours(24 * i64::try_from(n).unwrap());
        (0..6).map(|n| Known { id: n.to_string(), at: day(n), kept: kept.contains(&n) }).collect()
    };
    for (policy, kept, gone) in [
        (policy(Some(2), None), &[][..], &["5", "4", "3", "2"][..]),
        (policy(None, Some("72h")), &[], &["5", "4"]),
        (policy(Some(5), Some("1h")), &[], &["5"]),
        (policy(Some(1), None), &[5, 3], &["4", "2", "1"]),
        (policy(Some(9), None), &[], &[]),
        // The newest stays, also where only an age is named and it is too old.
        (policy(None, Some("0s")), &[], &["5", "4", "3", "2", "1"]),
    ] {
        assert_eq!(beyond(&daily(kept), &policy, now), gone, "{policy:?} {kept:?}");
    }
    assert_eq!(beyond(&[], &policy(Some(1), None), now), Vec::<String>::new());
}

proptest! {
    #[test]
    fn retention_never_takes_the_newest_nor_a_kept_one(
        ages in prop::collection::vec((0i64..1_000_000, any::<bool>()), 0..40), last in 1u32..5, hours in 0u32..300,
    ) {
        let now = at("2026-11-22T00:00:00Z");
        let all: Vec<Known> = ages.iter().enumerate()
            .map(|(i, (age, kept))| Known { id: i.to_string(), at: now - jiff::SignedDuration::from_secs(*age), kept: *kept }).collect();
        let gone = beyond(&all, &policy(Some(last), Some(&format!("{hours}h"))), now);
        let newest = all.iter().map(|k| k.at).max();
        for known in all.iter().filter(|k| gone.contains(&k.id)) {
            prop_assert!(!known.kept);
            prop_assert!(all.len() - gone.len() >= 1 && (Some(known.at) != newest || all.iter().filter(|k| k.at == known.at).count() > 1));
        }
    }
}

// ---- What an Environment does by itself ----

struct Own {
    seen: Seen,
    environment: Environment,
    backups: Vec<EnvironmentBackup>,
    restores: Vec<EnvironmentRestore>,
    policies: Vec<MaskingPolicy>,
    runs: Vec<String>,
}

impl Own {
    fn new(more: Value) -> Self {
        let mut value = serde_json::to_value(production()).unwrap();
        value["metadata"]["finalizers"] = json!(["lockkeeper.dev/environment"]);
        for (key, field) in more.as_object().unwrap() {
            value["spec"]["backups"][key] = field.clone();
        }
        let (backups, restores, policies, runs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { seen: Seen::new(), environment: of(value), backups, restores, policies, runs }
    }

    fn world(&self) -> World<'_> {
        World {
            settings: &self.seen.settings,
            environment: &self.environment,
            others: &[],
            side: &self.seen.target_side,
            jobs: &self.seen.jobs,
            runs: &self.runs,
            backups: &self.backups,
            restores: &self.restores,
            policies: &self.policies,
            copies: &[],
            made: &[],
            records: &[],
            missing_policies: &[],
            refused: None,
            terminating: false,
        }
    }

    /// Carries decisions out until there is nothing to do; gives what was made.
    fn settle(&mut self, now: &str) -> Vec<Effect> {
        let mut made = Vec::new();
        for _ in 0..20 {
            match environment::plan(&self.world(), at(now)) {
                Decision::Wait(_) => return made,
                Decision::Advance(status) => self.environment.status = Some(*status),
                Decision::Perform(effect) => {
                    if let Effect::Create { resource: Resource::EnvironmentBackup, manifest } = &effect {
                        self.backups.push(of((**manifest).clone()));
                    }
                    let job = matches!(effect, Effect::Create { resource: Resource::Job, .. });
                    made.push(effect);
                    if job {
                        return made;
                    }
                }
            }
        }
        panic!("it goes round in circles");
    }
}

#[test]
fn what_runs_here_is_told_by_its_hash_and_for_people_by_twelve_digits_of_it() {
    let mut own = Own::new(json!({}));
    own.settle("2026-11-22T20:00:00Z");
    let status = own.environment.status.unwrap();
    let (hash, short) = (status.release.unwrap().hash, status.short_release.unwrap());
    assert!(short.len() == 12 && hash.starts_with(&format!("sha256:{short}")), "{short} {hash}");
}

#[test]
fn a_grant_by_a_policy_that_lets_nothing_out_is_told_before_anyone_asks_and_keeps_nothing_from_being_ready() {
    let mut own = Own::new(json!({}));
    let policy = |status: Value| -> MaskingPolicy {
        let table = json!({"table": "public.users", "columns": {"id": {"keep": {}}}});
        of(json!({
            "metadata": {"name": "shop", "namespace": NAMESPACE, "generation": 1},
            "spec": {"data": [{"name": "db", "tables": [table]}]}, "status": status,
        }))
    };
    let ready = |status: &str, message: &str| json!([{"type": "Ready", "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-11-22T20:00:00Z"}]);
    let hash = mask::hash(&policy(json!({})).spec);
    let told = |own: &mut Own, grants: Value| {
        own.environment.spec.grants = of(grants);
        own.settle("2026-11-22T20:00:00Z");
        let list = &own.environment.status.as_ref().unwrap().conditions;
        let of_type = |type_: &str| list.iter().find(|c| c.type_ == type_).map(|c| (c.reason.clone(), c.message.clone()));
        let (_, message) = of_type(conditions::READY).unwrap();
        assert!(message.is_empty() || !message.contains("MaskingPolicy"), "promotions go on: {message}");
        let good = conditions::is_true(list, conditions::GRANTS_READY);
        of_type(conditions::GRANTS_READY).map(|(reason, message)| (good, reason, message))
    };
    let by = |hash: &str, more: Value| {
        let mut grant = json!({"to": {"namespace": "low", "name": "staging"}, "maskingPolicy": {"name": "shop", "hash": hash}});
        grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        grant
    };
    let all = json!([by(&hash, json!({})), by(&hash, json!({"to": {"namespace": "low", "name": "development"}}))]);
    let says = |own: &mut Own, grants: &Value, reason: &str, words: &[&str]| {
        let (good, told_reason, message) = told(own, grants.clone()).unwrap();
        assert_eq!((good, told_reason.as_str()), (reason == "Ready", reason), "{message}");
        words.iter().for_each(|word| assert!(message.contains(word), "{word} is not in: {message}"));
    };
    assert_eq!(told(&mut own, json!([])), None, "nothing to say where nothing is granted");
    says(
        &mut own,
        &all,
        "PolicyMissing",
        &["MaskingPolicy shop, by which low/staging, low/development may take data, does not exist"],
    );

    let unknown = ["public.users.email", "public.users.phone", "public.users.iban", "public.users.note"];
    let coverage = json!([{"data": "db", "columns": 9, "classified": 5, "unknown": unknown}, {"data": "more", "columns": 1, "classified": 0, "unknown": ["a.b.c"]}]);
    own.policies = vec![policy(json!({"conditions": ready("False", "x"), "coverage": coverage}))];
    let count = "4 of 9 columns of data db unclassified (public.users.email, public.users.phone, public.users.iban, …)";
    says(
        &mut own,
        &all,
        "PolicyIncomplete",
        &["MaskingPolicy shop leaves", count, "1 of 1 column of data more", "masking check shop"],
    );
    let some = json!([by(&hash, json!({"data": {"names": ["db"]}}))]);
    says(&mut own, &some, "PolicyIncomplete", &[count]);
    assert!(!told(&mut own, some.clone()).unwrap().2.contains("data more"), "of what is not granted nothing is said");
    let other = mask::hash(&MaskingPolicy::new("x", Default::default()).spec);
    says(&mut own, &json!([by(&other, json!({}))]), "PolicyChanged", &["its hash of today", &hash]);

    own.policies = vec![policy(json!({"conditions": ready("False", "table public.users: no such table")}))];
    says(&mut own, &some, "PolicyNotReady", &["is not Ready: table public.users: no such table"]);
    own.policies = vec![policy(json!({}))];
    says(&mut own, &some, "PolicyNotReady", &["has not looked at it yet"]);
    own.policies = vec![policy(json!({"conditions": ready("True", "every column is named")}))];
    says(&mut own, &some, "Ready", &[]);
    assert_eq!(told(&mut own, json!([])), None, "and what was said goes with the last grant");
}

fn names(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(Effect::describe).collect()
}

#[test]
fn a_schedule_makes_a_backup_at_its_time_and_makes_up_for_missed_ones_once() {
    let mut own = Own::new(json!({"schedule": "0 3 * * *"}));
    assert_eq!(names(&own.settle("2026-11-22T20:00:00Z")), Vec::<String>::new(), "times count from when it is first seen");
    let Decision::Wait(until) = environment::plan(&own.world(), at("2026-11-22T20:00:00Z")) else { panic!("it waits") };
    assert_eq!(until, Some(at("2026-11-23T03:00:00Z")));
    assert_eq!(names(&own.settle("2026-11-23T02:59:59Z")), Vec::<String>::new());
    assert_eq!(names(&own.settle("2026-11-23T03:00:00Z")), ["create EnvironmentBackup production-20261123-0300"]);
    assert_eq!(own.backups[0].spec.reason.to_string(), "schedule 0 3 * * *");
    assert_eq!(names(&own.settle("2026-11-23T03:00:01Z")), Vec::<String>::new(), "once");
    assert_eq!(names(&own.settle("2026-11-27T12:00:00Z")), ["create EnvironmentBackup production-20261127-0300"]);
    let mut wrong = Own::new(json!({"schedule": "61 3 * * *"}));
    wrong.settle("2026-11-22T20:00:00Z");
    let conditions = wrong.environment.status.unwrap().conditions;
    assert!(
        conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True" && c.message.contains("backups.schedule: minute"))
    );
}

fn backup(name: &str, snapshot: &str, taken: &str, more: Value) -> EnvironmentBackup {
    let mut value = json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}")},
        "spec": {"environment": {"name": "production"}, "data": {"all": {}}, "reason": "", "keep": false},
        "status": {
            "phase": "Completed", "snapshot": snapshot, "startedAt": taken, "takenAt": taken, "provenAt": taken,
            "contents": [{"data": "db", "tables": 1, "rows": 1, "bytes": 1}],
        },
    });
    for (key, field) in more.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    of(value)
}

fn restoring(name: &str, from: Value, status: Value) -> EnvironmentRestore {
    let mut restore: EnvironmentRestore = of(json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"), "generation": 1, "finalizers": ["lockkeeper.dev/run"]},
        "spec": {"environment": {"name": "production"}, "from": from, "data": {"all": {}}, "requestedBy": {"username": "olga"}},
    }));
    restore.status = Some(of(status));
    restore
}

#[test]
fn retention_is_a_job_that_is_told_what_stays_and_the_objects_follow_the_snapshots() {
    let mut own = Own::new(json!({"retention": {"keepLast": 1}}));
    own.backups = vec![
        backup("old", "aaaa", "2026-11-01T00:00:00Z", json!({})),
        backup("marked", "bbbb", "2026-11-02T00:00:00Z", json!({"keep": true})),
        backup("wanted", "cccc", "2026-11-03T00:00:00Z", json!({})),
        backup("newest", "dddd", "2026-11-21T00:00:00Z", json!({})),
    ];
    own.restores = vec![
        restoring("going", json!({"backup": {"name": "wanted"}}), json!({"phase": "Scheduled"})),
        restoring("ended", json!({"backup": {"name": "old"}}), json!({"phase": "Completed", "snapshot": {"id": "aaaa"}})),
        restoring("bare", json!({"snapshot": {"id": "eeeeeeee"}}), json!({"phase": "Validated"})),
    ];
    let mut status = own.environment.status.clone().unwrap_or_default();
    status.last_backup = Some(of(json!({"name": "newest", "snapshot": "dddd", "provenAt": "2026-11-21T00:00:00Z"})));
    status.kept = vec![of(
        json!({"data": "db", "snapshot": "ffff", "run": {"kind": "Promotion", "name": "r", "uid": "u"}, "until": "2026-12-01T00:00:00Z"}),
    )];
    let kept = environment_backups::kept(&own.world(), &status);
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["bbbb", "cccc", "dddd", "eeeeeeee", "ffff"]);

    // Not while somebody works here, nor while a backup is written.
    for busy in [true, false] {
        own.environment.status = Some(status.clone());
        let mut going = own.backups.clone();
        if busy {
            own.environment.status.as_mut().unwrap().active = Some(of(json!({"kind": "Promotion", "name": "r", "uid": "u"})));
            own.runs = vec!["u".into()];
        } else {
            own.environment.status.as_mut().unwrap().active = None;
            going[0].status.as_mut().unwrap().phase = lockkeeper::api::BackupPhase::Running;
        }
        std::mem::swap(&mut going, &mut own.backups);
        assert_eq!(names(&own.settle("2026-11-22T00:00:00Z")), Vec::<String>::new());
        own.backups = going;
    }
    own.environment.status = Some(status);
    let made = own.settle("2026-11-22T00:00:00Z");
    let [Effect::Create { resource: Resource::Job, manifest }] = &made[..] else { panic!("{made:?}") };
    let text = manifest["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap();
    let task: Task = serde_json::from_str(text).unwrap();
    assert_eq!((task.verb, task.retention), (Verb::Prune, Some(policy(Some(1), None))));
    assert!(task.keep.contains(&"bbbb".to_owned()) && !task.keep.contains(&"aaaa".to_owned()));

    let mut job = own.seen.jobs.values().next().cloned().unwrap_or_else(|| {
        let mut seen = Seen::new();
        seen.carry_out(&Decision::Perform(made[0].clone()));
        seen.jobs.into_values().next().unwrap()
    });
    job.state = lockkeeper::plan::world::JobState::Succeeded;
    job.outcome = Some(Outcome { removed: vec!["aaaa".into()], ..Outcome::default() });
    own.seen.jobs = BTreeMap::from([(job.name.clone(), job)]);
    let decision = environment::plan(&own.world(), at("2026-11-22T00:00:05Z"));
    let Decision::Perform(effect) = decision else { panic!("{decision:?}") };
    assert_eq!(effect.describe(), "delete EnvironmentBackup old");
    own.backups.remove(0);
    let Decision::Advance(after) = environment::plan(&own.world(), at("2026-11-22T00:00:06Z")) else {
        panic!("it writes that down")
    };
    assert_eq!(after.pruned_at, Some(at("2026-11-22T00:00:06Z")));
}

// ---- What a restore is refused for ----

fn refusal(
    seen: &Seen,
    restore: &EnvironmentRestore,
    named: Option<&EnvironmentBackup>,
    undone: Option<&Promotion>,
) -> (String, String) {
    let mut world = seen.world();
    world.run = Run::Restore(restore);
    world.backup = named;
    world.undone = undone.map(Run::Promotion);
    let decision = restore::plan(&world, restore.status.clone().unwrap_or_default(), seen.now);
    let Decision::Advance(status) = decision else { panic!("{decision:?}") };
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    (stalled.reason.clone(), stalled.message.clone())
}

#[test]
fn a_restore_of_what_cannot_come_back_says_why_and_what_to_do() {
    let seen = Seen::new();
    let asks = |from: Value| restoring("back", from, json!({}));
    let of_backup = asks(json!({"backup": {"name": "b"}}));
    let good = backup("b", "aaaa", "2026-11-01T00:00:00Z", json!({}));
    let mut failed = good.clone();
    failed.status.as_mut().unwrap().phase = lockkeeper::api::BackupPhase::Failed;
    let mut other = good.clone();
    other.spec.environment.name = "staging".into();
    let mut less = good.clone();
    less.status.as_mut().unwrap().contents[0].data = "media".into();
    for (named, words) in [
        (None, "EnvironmentBackup b does not exist; name another"),
        (Some(&failed), "is Failed; only one that is Completed"),
        (Some(&other), "is of Environment staging, not of production"),
        (Some(&less), "it does not hold data db; it holds media"),
    ] {
        let (reason, message) = refusal(&seen, &of_backup, named, None);
        assert!(reason == "Invalid" && message.contains(words), "{reason}: {message}");
    }
    let mut strange = of_backup.clone();
    strange.spec.data = of(json!({"names": ["nothing"]}));
    assert!(refusal(&seen, &strange, Some(&good), None).1.contains("data nothing is not in Environment production"));

    let of_undo = asks(json!({"undoOf": {"kind": "Promotion", "name": "r-1"}}));
    let mut run = seen.run.clone();
    assert!(refusal(&seen, &of_undo, None, None).1.contains("Promotion r-1 does not exist"));
    run.status = Some(of(json!({"phase": "RolledBack"})));
    assert!(refusal(&seen, &of_undo, None, Some(&run)).1.contains("is RolledBack; only a run that Completed is undone"));
    let mut completed = json!({"phase": "Completed", "backup": {"name": "r-1-b"}, "lockedAt": "2026-11-22T20:00:00Z"});
    run.status = Some(of(completed.clone()));
    assert!(refusal(&seen, &of_undo, None, Some(&run)).1.contains("keeps no undo point, because it changed no data"));
    completed["undo"] = json!([{"data": "db", "method": "Clone", "database": "db_undo"}]);
    run.status = Some(of(completed));
    let (_, message) = refusal(&seen, &of_undo, None, Some(&run));
    assert!(message.contains("is not kept any more") && message.contains("from: {backup: {name: r-1-b}}"), "{message}");
}

#[test]
fn what_a_run_left_alone_stays_when_the_run_is_undone() {
    let mut seen = Seen::new();
    let mut target = serde_json::to_value(seen.target.take().unwrap()).unwrap();
    target["spec"]["data"].as_array_mut().unwrap().push(json!({"name": "uploads", "volume": {"claim": {"name": "uploads"}}}));
    let kept = |data: &str| {
        json!({
            "data": data, "database": "db_undo", "run": {"kind": "DownAlignment", "name": "mirror", "uid": "uid-mirror"},
            "until": "2026-12-01T00:00:00Z",
        })
    };
    target["status"] = json!({"kept": [kept("db")]});
    seen.target = Some(of(target));
    let mut mirror: DownAlignment = of(json!({
        "metadata": {"name": "mirror", "namespace": NAMESPACE, "uid": "uid-mirror"},
        "spec": {
            "environment": {"name": "production"}, "from": {"namespace": "shop-staging", "name": "staging"},
            "requestedBy": {"username": "alice"},
        },
        "status": {
            "phase": "Completed", "lockedAt": "2026-11-22T20:00:00Z",
            "undo": [{"data": "db", "method": "Swap", "database": "db_undo"}],
        },
    }));
    let back = restoring("back", json!({"undoOf": {"kind": "DownAlignment", "name": "mirror"}}), json!({}));
    let decide = |seen: &Seen, mirror: &DownAlignment| {
        let world =
            lockkeeper::plan::world::World { run: Run::Restore(&back), undone: Some(Run::Alignment(mirror)), ..seen.world() };
        let names: Vec<String> =
            restore::data(&world, &seen.target.as_ref().unwrap().spec).iter().map(|d| d.name.to_string()).collect();
        let Decision::Advance(status) = restore::plan(&world, Default::default(), seen.now) else { panic!("it is written") };
        (names, *status)
    };
    let (names, status) = decide(&seen, &mirror);
    assert_eq!(names, ["db"]);
    assert_eq!(status.taken_at, Some(at("2026-11-22T20:00:00Z")), "{status:?}");
    // One that took the files along undoes them too, and nothing less.
    mirror.status.as_mut().unwrap().undo.push(of(json!({"data": "uploads", "method": "Backup", "snapshot": "aa"})));
    let (names, status) = decide(&seen, &mirror);
    assert_eq!(names, ["db", "uploads"]);
    let refused = |status: &lockkeeper::api::RunStatus| status.next.clone().unwrap_or_default();
    assert!(refused(&status).contains("for data uploads is not kept any more"), "{status:?}");
    let environment = seen.target.as_mut().unwrap();
    environment.status.as_mut().unwrap().kept.push(of(kept("uploads")));
    environment.spec.data.pop();
    let (_, status) = decide(&seen, &mirror);
    assert!(refused(&status).contains("add data uploads again as it was"), "{status:?}");
}

#[test]
fn what_is_lost_must_be_named_by_its_time() {
    let seen = Seen::new();
    let mut status = lockkeeper::api::RunStatus { taken_at: Some(at("2026-11-22T19:00:05Z")), ..Default::default() };
    let mut good = backup("b", "aaaa", "2026-11-22T19:00:00Z", json!({}));
    good.status.as_mut().unwrap().taken_at = Some(at("2026-11-22T19:00:05.7Z"));
    for (named, fine) in [
        (None, false),
        (Some("2026-11-22T18:59:59Z"), false),
        // When the backup began, and when it read.
        (Some("2026-11-22T19:00:00Z"), true),
        (Some("2026-11-22T19:00:05Z"), true),
        (Some("2026-11-22T19:00:05.7Z"), true),
        (Some("2026-11-22T19:00:06Z"), false),
    ] {
        let mut restore = restoring("back", json!({"backup": {"name": "b"}}), json!({}));
        restore.spec.acknowledge_data_loss_since = named.map(at);
        let mut world = seen.world();
        world.run = Run::Restore(&restore);
        world.backup = Some(&good);
        let why = restore::unacknowledged(&world, &status);
        assert_eq!(why.is_none(), fine, "{named:?}: {why:?}");
        if let Some(why) = why {
            assert!(why.contains("\"acknowledgeDataLossSince\":\"2026-11-22T19:00:05Z\""), "{why}");
        }
    }
    status.taken_at = None;
    assert_eq!(restore::unacknowledged(&seen.world(), &status), None, "a promotion loses nothing");
}

#[test]
fn a_restore_locks_fences_and_loads_and_neither_backs_up_nor_migrates() {
    let target = production().spec;
    let (seen, none) = (Seen::new(), lockkeeper::api::Release::default());
    let of_data = steps::restoring(&target, &none);
    assert_eq!(
        of_data,
        [
            "preflight",
            "page",
            "lock",
            "close",
            "record",
            "stop",
            "fence",
            "load",
            "others",
            "verify/health",
            "release-data",
            "open",
            "unlock",
            "tidy"
        ]
    );
    let restore = restoring("back", json!({"backup": {"name": "b"}}), json!({}));
    let phases: Vec<String> = of_data.iter().map(|s| steps::phase_of(Run::Restore(&restore), s).to_string()).collect();
    assert_eq!(phases[..3], ["Validated", "Validated", "Locked"]);
    assert_eq!(phases[7..10], ["Loading", "Loading", "Verifying"]);
    let modules: Vec<_> = target.modules.iter().filter(|m| &*m.name == "flags").collect();
    let release = lockkeeper::plan::release::read(
        NAMESPACE,
        &target,
        &Side { ..seen.target_side.clone() },
        &modules,
        &[],
        lockkeeper::plan::release::Reading::Loose,
    )
    .unwrap();
    let with_release = steps::restoring(&target, &release);
    assert!(with_release.contains(&"configuration/flags".to_owned()) && with_release.contains(&"workloads/flags".to_owned()));
    assert!(!with_release.iter().any(|s| s.starts_with("migration") || s == "backup" || s == "undo"));
}

#[test]
fn a_restore_whose_rollback_failed_is_resumed_at_once_or_given_up_step_by_step() {
    for (action, phase) in [("Resume", "RollingBack"), ("Unlock", "NeedsHuman")] {
        let mut seen = Seen::new();
        let target = seen.target.as_mut().unwrap();
        let lock = json!({"epoch": 3, "holder": {"kind": "EnvironmentRestore", "name": "back", "uid": "uid-back"}});
        target.status = Some(of(json!({"lock": lock, "active": lock["holder"]})));
        let stuck = json!({
            "phase": "NeedsHuman", "epoch": 3, "planHash": "v1:aa", "lockedAt": "2026-11-22T19:00:00Z",
            "failure": {"step": "load", "reason": "Broken", "message": "the disk is full"},
            "steps": [
                {"name": "load", "state": "Failed"},
                {"name": "rollback-data", "state": "Running", "attempt": 5, "finishedAt": "2026-11-22T20:00:09Z"},
                {"name": "rollback-unlock", "state": "Pending"},
            ],
        });
        let mut restore = restoring("back", json!({"backup": {"name": "b"}}), stuck);
        let plan = |seen: &Seen, restore: &EnvironmentRestore| {
            let mut world = seen.world();
            world.run = Run::Restore(restore);
            lockkeeper::plan::promotion::plan(&world, seen.now)
        };
        assert!(matches!(plan(&seen, &restore), Decision::Wait(Some(_))), "by itself it waits a while");
        restore.metadata.generation = Some(2);
        restore.spec.intervention = Some(of(json!({"action": action, "username": "olga", "reason": "enough"})));
        let Decision::Advance(status) = plan(&seen, &restore) else { panic!("it is written down first") };
        assert_eq!((status.phase.to_string().as_str(), status.intervention.unwrap().username), (phase, "olga".into()));
        if action == "Resume" {
            assert_eq!(status.steps[1].finished_at, None, "nothing is waited for any more");
            continue;
        }
        restore.status = Some(lockkeeper::api::RunStatus { intervention: None, ..restore.status.clone().unwrap() });
        for _ in 0..40 {
            seen.now = seen.now.checked_add(jiff::SignedDuration::from_secs(10)).unwrap();
            match plan(&seen, &restore) {
                Decision::Advance(status) => restore.status = Some(*status),
                Decision::Wait(_) => {}
                Decision::Perform(effect) => drop(seen.carry_out(&Decision::Perform(effect))),
            }
        }
        let status = restore.status.unwrap();
        assert_eq!(status.phase.to_string(), "Abandoned", "{status:#?}");
        assert!(!status.intervention.unwrap().left.is_empty(), "what is left is listed");
        let environment = seen.target.unwrap().status.unwrap();
        assert!(environment.lock.unwrap().holder.is_none() && environment.active.is_none(), "the lock is free");
    }
}

#[test]
fn what_a_run_keeps_outlives_a_restore_that_was_to_undo_it_and_was_put_back() {
    for (phase, stays) in [("RollingBack", true), ("Verifying", false)] {
        let mut seen = Seen::new();
        let (of, me) = (
            json!({"kind": "Promotion", "name": "r-0", "uid": "uid-r-0"}),
            json!({"kind": "EnvironmentRestore", "name": "back", "uid": "uid-back"}),
        );
        seen.target.as_mut().unwrap().status = Some(super::fixture::of(json!({
            "active": me, "lock": {"epoch": 3},
            "kept": [{"data": "db", "snapshot": "ffff", "run": of, "until": "2026-12-01T00:00:00Z"}],
        })));
        let ended = json!({
            "phase": phase, "epoch": 3, "planHash": "v1:aa", "lockedAt": "2026-11-22T19:00:00Z", "unlockedAt": "2026-11-22T20:00:00Z",
            "failure": {"step": "load", "reason": "Broken", "message": "the disk is full"},
            "steps": [{"name": "load", "state": "Failed"}, {"name": "rollback-tidy", "state": "Succeeded"}],
            "undo": [{"data": "db", "method": "Swap", "database": "db__failed_x", "until": "2026-11-23T20:00:00Z"}],
        });
        let mut world = seen.world();
        let restore = restoring("back", json!({"undoOf": {"kind": "Promotion", "name": "r-0"}}), ended);
        world.run = Run::Restore(&restore);
        let decision = lockkeeper::plan::promotion::plan(&world, seen.now);
        let Decision::Perform(Effect::SetEnvironment { status, .. }) = decision else { panic!("{decision:?}") };
        let first = &status.kept[0];
        assert_eq!((first.until == at("2026-12-01T00:00:00Z"), status.kept.len()), (stays, 2), "{phase}: {:?}", status.kept);
    }
}
