//! Tables: what a database is known by. A Secret may lead elsewhere at any time, and only Jobs can see that.

use std::collections::BTreeMap;

use lockkeeper::{
    api::Phase,
    manifest::task::{Outcome, OutcomeError, SECRET_CHANGED, exit},
    plan::world::{JobState, JobView},
};
use serde_json::{Value, json};

use super::{
    fixture::Seen,
    volumes::{jobs_of, task, with_files},
};

/// Preflight knows the database by this, and one step's Jobs end for that reason.
fn ran(seen: &mut Seen, step: &str, reason: &str) -> BTreeMap<String, Value> {
    jobs_of(seen, |seen| {
        let of = |job: &JobView, step: &str| job.step == step && job.state != JobState::Running;
        for job in seen.jobs.values_mut() {
            if of(job, "preflight") {
                job.outcome.get_or_insert_default().marks.insert("db".into(), "known".into());
            }
            if of(job, step) {
                job.state = JobState::Failed("PodFailed".into());
                job.exit_code = Some(exit::PERMANENT);
                let error = Some(OutcomeError { reason: reason.into(), message: "it leads elsewhere".into() });
                job.outcome = Some(Outcome { error, ..Outcome::default() });
            }
        }
    })
}

#[test]
fn each_job_under_the_lock_is_told_what_its_database_was_known_by_when_the_run_was_checked() {
    let mut seen = with_files(&json!({}));
    let jobs = ran(&mut seen, "", "");
    assert_eq!(seen.status().phase, Phase::Completed, "{:?}", seen.status());
    for step in ["fence", "undo", "release-data"] {
        assert_eq!(task(&jobs[step]).data[0].mark.as_deref(), Some("known"), "{step}");
    }
    assert_eq!(seen.status().data[0].mark.as_deref(), Some("known"));
}

#[test]
fn a_fence_that_was_led_elsewhere_before_it_closed_anything_needs_nobody() {
    let mut seen = with_files(&json!({}));
    let jobs = ran(&mut seen, "fence", SECRET_CHANGED);
    let status = seen.status();
    assert_eq!((status.phase, status.failure.unwrap().reason.as_str()), (Phase::RolledBack, SECRET_CHANGED));
    assert!(!jobs.keys().any(|step| step.starts_with("rollback-")), "what is there now is not touched: {:?}", jobs.keys());
}

#[test]
fn what_was_led_elsewhere_later_is_undone_once_the_secrets_lead_back() {
    for step in ["fence", "undo", "release-data"] {
        let mut seen = with_files(&json!({}));
        let jobs = ran(&mut seen, step, "DataMoved");
        assert_eq!(seen.status().phase, Phase::RolledBack, "{step}: {:?}", seen.status());
        assert_eq!(task(&jobs["rollback-data"]).data[0].mark.as_deref(), Some("known"), "{step}");
    }
    let mut stuck = with_files(&json!({}));
    let mut led_back = false;
    jobs_of(&mut stuck, |seen| {
        for job in seen.jobs.values_mut().filter(|j| !led_back && ["undo", "rollback-data"].contains(&j.step.as_str())) {
            job.state = JobState::Failed("PodFailed".into());
            job.exit_code = Some(exit::PERMANENT);
            let error = Some(OutcomeError { reason: "DataMoved".into(), message: "let them lead back".into() });
            job.outcome = Some(Outcome { error, ..Outcome::default() });
        }
        if seen.status().phase == Phase::NeedsHuman {
            assert!(seen.status().next.unwrap().contains("let them lead back"));
            led_back = true;
            seen.now += jiff::SignedDuration::from_secs(60);
        }
    });
    assert!(led_back);
    assert_eq!(stuck.status().phase, Phase::RolledBack, "{:?}", stuck.status());
}
