//! How far a step is: words in the status, and nothing that a run depends on.

use jiff::Timestamp;
use lockkeeper::{
    api::{EnvironmentBackup, PromotionStatus, RunStatus, Step},
    manifest::task::{BYTES, Outcome, Progress, exit},
    plan::{
        Decision, backup,
        progress::told,
        world::{JobState, JobView},
    },
};
use proptest::{prelude::*, test_runner::TestCaseError};
use serde_json::{Value, json};

use super::{
    alignments::{asked, promoted_to_staging},
    fixture::{NAMESPACE, Seen, of},
    walk::{Change, settle},
};

pub fn said(done: u64, total: Option<u64>, (since, at): (Timestamp, Timestamp)) -> Progress {
    let (rows, total_rows) = (Some(done / 100), total.map(|t| t / 100));
    Progress { doing: "backing up db".into(), done, total, unit: BYTES.into(), rows, total_rows, since, at }
}

fn without(status: &PromotionStatus) -> PromotionStatus {
    let mut status = status.clone();
    status.steps.iter_mut().for_each(|s| s.progress = None);
    status
}

/// Where nothing can be learnt of how far agents are, the same is done and the same is written, but for those words.
pub fn is_only_words(seen: &Seen, decision: &Decision<PromotionStatus>) -> Result<(), TestCaseError> {
    let mut blind = seen.clone();
    blind.jobs.values_mut().chain(blind.elsewhere.jobs.values_mut()).for_each(|j| j.progress = None);
    if let Some(status) = blind.backup.as_mut().and_then(|b| b.status.as_mut()) {
        status.progress = None;
    }
    match (decision, blind.plan()) {
        (Decision::Advance(new), Decision::Advance(old)) => prop_assert_eq!(without(new), without(&old)),
        (Decision::Advance(new), Decision::Wait(_)) => prop_assert_eq!(without(new), without(&seen.status()), "only words"),
        (decision, blind) => prop_assert_eq!(decision, &blind),
    }
    Ok(())
}

fn at(second: i64) -> Timestamp {
    "2026-11-22T21:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second)
}

/// Walks until the step begins.
fn until(seen: &mut Seen, step: &str) {
    super::alignments::until(seen, step);
}

fn step(status: &RunStatus, name: &str) -> Step {
    status.steps.iter().find(|s| s.name == name).unwrap().clone()
}

fn done(seen: &Seen, name: &str) -> Option<i64> {
    step(&seen.status(), name).progress.map(|p| p.done)
}

#[test]
fn a_rate_is_the_mean_since_it_began_and_what_is_left_follows_from_it() {
    let told = |said: &Progress| told(said, at(60));
    let all = told(&said(300, Some(1000), (at(0), at(10)))).unwrap();
    assert_eq!((all.done, all.total, all.rows, all.total_rows), (300, Some(1000), Some(3), Some(10)));
    assert_eq!((all.rate, all.seconds_left), (Some(30), Some(24)), "23.3 s");
    let open = told(&said(300, None, (at(0), at(10)))).unwrap();
    assert_eq!((open.rate, open.seconds_left), (Some(30), None), "nobody knows how much there is");
    for (done, since, now) in [(0, 0, 10), (5, 10, 10)] {
        let early = told(&said(done, Some(10), (at(since), at(now)))).unwrap();
        assert_eq!((early.rate, early.seconds_left), (None, None), "too early to tell");
    }
    let more = told(&said(u64::MAX, Some(10), (at(0), at(10)))).unwrap();
    assert_eq!(
        (more.done, more.seconds_left),
        ((1 << 53) - 1, Some(0)),
        "never less than nothing, nor more than a status may say"
    );
    assert_eq!(told(&said(5, Some(10), (at(10), at(0)))), None, "it ends before it begins");
    for hours in [-25, 25] {
        let astray = at(60) + jiff::SignedDuration::from_hours(hours);
        assert_eq!(told(&said(5, Some(10), (astray, astray))), None, "a clock that is a day away");
    }
    let odd = Progress { doing: format!("a\n{}", "b".repeat(300)), ..said(1, None, (at(0), at(1))) };
    assert_eq!(told(&odd).unwrap().doing, format!("a{}", "b".repeat(99)));
    assert_eq!(told(&Progress { unit: "attempts".into(), ..odd }), None, "it moves no data");
}

#[test]
fn a_step_says_how_far_it_is_every_few_seconds_and_keeps_its_last_word() {
    let mut seen = asked();
    until(&mut seen, "load");
    let tell = |seen: &mut Seen, bytes, second| {
        seen.jobs.values_mut().for_each(|j| j.progress = Some(said(bytes, Some(100), (at(0), at(second)))));
        settle(seen).unwrap();
        done(seen, "load")
    };
    settle(&mut seen).unwrap();
    assert_eq!(done(&seen, "load"), None);
    assert_eq!(tell(&mut seen, 10, 0), Some(10));
    assert_eq!(tell(&mut seen, 20, 4), Some(10), "too soon");
    assert_eq!(tell(&mut seen, 30, 5), Some(30));
    seen.jobs.values_mut().for_each(|j| j.progress = None);
    settle(&mut seen).unwrap();
    assert_eq!(done(&seen, "load"), Some(30), "what cannot be read takes nothing back");
    for job in seen.jobs.values_mut().filter(|j| j.step == "load") {
        job.progress = Some(said(100, Some(100), (at(0), at(6))));
        job.state = JobState::Succeeded;
        job.exit_code = Some(exit::DONE);
        job.outcome = Some(Outcome::default());
    }
    settle(&mut seen).unwrap();
    assert_ne!(seen.status().step.as_deref(), Some("load"));
    assert_eq!(done(&seen, "load"), Some(100), "its end is told at once");
}

#[test]
fn another_attempt_begins_without_the_figures_of_the_last() {
    let mut seen = asked();
    until(&mut seen, "load");
    settle(&mut seen).unwrap();
    seen.jobs.values_mut().for_each(|j| j.progress = Some(said(90, Some(100), (at(0), at(10)))));
    settle(&mut seen).unwrap();
    assert_eq!(done(&seen, "load"), Some(90));
    Change::JobsFail { code: 1, says: true }.happen(&mut seen);
    settle(&mut seen).unwrap();
    assert_eq!((step(&seen.status(), "load").attempt, done(&seen, "load")), (1, None));
}

#[test]
fn a_mask_is_told_of_from_where_it_works() {
    let mut seen = asked();
    until(&mut seen, "snapshot");
    settle(&mut seen).unwrap();
    seen.elsewhere.jobs.values_mut().for_each(|j| j.progress = Some(said(7, Some(100), (at(0), at(1)))));
    settle(&mut seen).unwrap();
    assert_eq!(done(&seen, "snapshot"), Some(7));
}

#[test]
fn a_promotion_tells_of_its_backup_and_of_the_alignment_before_it() {
    let progress = |bytes: u64, second| json!(told(&said(bytes, Some(100), (at(0), at(second))), at(second)).unwrap());
    let mut seen = promoted_to_staging();
    until(&mut seen, "align");
    settle(&mut seen).unwrap();
    let child = |seen: &mut Seen, phase: &str, steps: Value| {
        seen.child.as_mut().unwrap().status =
            Some(of(json!({"phase": phase, "steps": steps, "snapshot": {"id": "a", "rows": 7}})));
        settle(seen).unwrap();
    };
    let masking = json!({"name": "snapshot", "state": "Running", "progress": progress(3, 1)});
    child(&mut seen, "Snapshotting", json!([masking]));
    assert_eq!(done(&seen, "align"), Some(3));
    child(
        &mut seen,
        "Completed",
        json!([
            {"name": "snapshot", "state": "Succeeded", "progress": progress(40, 9)},
            {"name": "load", "state": "Succeeded", "progress": progress(50, 19)}, {"name": "tidy", "state": "Succeeded"},
        ]),
    );
    assert_eq!(done(&seen, "align"), Some(50), "the last that moved data");
    until(&mut seen, "backup");
    settle(&mut seen).unwrap();
    for (phase, bytes, second) in [("Running", 9, 1), ("Completed", 80, 3)] {
        let proven = seen.now;
        seen.backup.as_mut().unwrap().status =
            Some(of(json!({"phase": phase, "provenAt": proven, "progress": progress(bytes, second)})));
        settle(&mut seen).unwrap();
        assert_eq!(done(&seen, "backup"), Some(i64::try_from(bytes).unwrap()));
    }
}

#[test]
fn a_backup_tells_how_far_it_is_by_itself() {
    let seen = Seen::new();
    let mut backup: EnvironmentBackup = of(json!({
        "metadata": {"name": "b", "namespace": NAMESPACE, "uid": "uid-b", "generation": 1, "finalizers": ["lockkeeper.dev/run"]},
        "spec": {"environment": {"name": "production"}, "data": {"all": {}}, "reason": "", "keep": false},
        "status": {"phase": "Running"},
    }));
    let mut jobs = std::collections::BTreeMap::new();
    let decide = |backup: &EnvironmentBackup, jobs: &std::collections::BTreeMap<String, JobView>| {
        let (settings, environment, side) = (&seen.settings, seen.target.as_ref(), &seen.target_side);
        let world = backup::World { settings, backup, environment, jobs, side, missing_policies: &[], refused: None };
        backup::plan(&world, seen.now)
    };
    let Decision::Perform(effect) = decide(&backup, &jobs) else { panic!("its Job is made") };
    let mut made = Seen::new();
    made.carry_out(&Decision::Perform(effect));
    jobs.extend(made.jobs);
    // Without a word, with one, with one that comes too soon, and with none again.
    for (word, expected) in
        [(None, None), (Some((10, 0)), Some(10)), (Some((20, 3)), Some(10)), (Some((30, 5)), Some(30)), (None, Some(30))]
    {
        jobs.values_mut().for_each(|j| j.progress = word.map(|(bytes, second)| said(bytes, Some(100), (at(0), at(second)))));
        for _ in 0..3 {
            if let Decision::Advance(status) = decide(&backup, &jobs) {
                backup.status = Some(*status);
            }
        }
        assert!(matches!(decide(&backup, &jobs), Decision::Wait(_)), "and that is all");
        assert_eq!(backup.status.as_ref().unwrap().progress.as_ref().map(|p| p.done), expected);
    }
    let job = jobs.values_mut().next().unwrap();
    (job.state, job.exit_code) = (JobState::Succeeded, Some(exit::DONE));
    let written = json!({"snapshot": "a1", "bytes": 9, "storedBytes": 5, "rows": 3, "contents": []});
    job.outcome = Some(of(json!({"backup": written, "progress": said(100, Some(100), (at(0), at(6)))})));
    let Decision::Advance(status) = decide(&backup, &jobs) else { panic!("it goes on") };
    assert_eq!(status.progress.as_ref().map(|p| p.done), Some(100), "its end is told at once");
    assert_eq!((status.bytes, status.size.as_deref()), (Some(9), Some("9 B")), "for programs, and for people");
}
