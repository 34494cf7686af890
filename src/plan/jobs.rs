//! What a Job of a run has come to: made, waited for, its outcome taken, its failure said in words.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Effect, Progress, after,
    world::{JobState, JobView},
};
use crate::{
    api::Timestamp,
    manifest::task::{Outcome, exit},
};

/// How long an image that cannot be pulled, or a pod that cannot be placed, is waited for.
const TROUBLE_PATIENCE: Duration = Duration::from_secs(60);

/// What a Job has come to, before anyone says what that means.
#[derive(Clone, Debug, PartialEq)]
pub enum JobProgress {
    /// Not there yet, or not ended.
    Going(Progress),
    /// The agent ended well.
    Succeeded(Option<Outcome>),
    /// It ended otherwise.
    Failed(JobFailure),
}

/// Why a Job failed.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFailure {
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// What the agent wrote.
    pub outcome: Option<Outcome>,
}

impl JobFailure {
    /// As the end of a step: another attempt where that may help and some are left.
    pub fn into_progress(self, attempt: i32, attempts: i32) -> Progress {
        if self.retryable && attempt + 1 < attempts {
            Progress::Retry(self.message)
        } else {
            Progress::Failed { reason: self.reason, message: self.message }
        }
    }
}

/// Looks at the Job of that name; makes it where it is not there. `agent`: whether an outcome is expected.
pub fn look(
    jobs: &BTreeMap<String, JobView>,
    name: &str,
    agent: bool,
    now: Timestamp,
    make: impl FnOnce() -> Effect,
) -> JobProgress {
    let Some(job) = jobs.get(name) else { return JobProgress::Going(Progress::Do(make())) };
    match &job.state {
        JobState::Running => match &job.trouble {
            Some(trouble) if job.created_at.is_some_and(|at| after(at, TROUBLE_PATIENCE) <= now) => {
                JobProgress::Failed(JobFailure {
                    reason: "PodCannotStart".into(),
                    message: format!("Job {name}: its pod cannot start: {trouble}"),
                    retryable: false,
                    outcome: None,
                })
            }
            trouble => JobProgress::Going(Progress::Waiting {
                what: match trouble {
                    Some(trouble) => format!("Job {name}: {trouble}"),
                    None => format!("Job {name}"),
                },
                until: trouble.as_ref().and(job.created_at).map(|at| after(at, TROUBLE_PATIENCE)),
            }),
        },
        // A Job can be Complete with its outcome gone, its pod deleted: the agent's verbs derive it again.
        JobState::Succeeded if agent && job.outcome.is_none() => JobProgress::Failed(JobFailure {
            reason: "OutcomeLost".into(),
            message: format!("Job {name} completed, but its pod and with it the outcome is gone"),
            retryable: true,
            outcome: None,
        }),
        JobState::Succeeded => JobProgress::Succeeded(job.outcome.clone()),
        JobState::Failed(condition) => JobProgress::Failed(failure(job, condition)),
    }
}

fn failure(job: &JobView, condition: &str) -> JobFailure {
    let name = &job.name;
    let outside = job.disruption.as_deref();
    if let Some(error) = job.outcome.as_ref().and_then(|o| o.error.clone()) {
        return JobFailure {
            reason: error.reason,
            message: match outside {
                Some(outside) => format!("Job {name}: {outside}: {}", error.message),
                None => error.message,
            },
            retryable: job.exit_code == Some(exit::RETRYABLE),
            outcome: job.outcome.clone(),
        };
    }
    let why = match (condition, job.exit_code, job.exit_reason.as_deref()) {
        ("DeadlineExceeded", _, _) => "took longer than it may".to_owned(),
        (_, _, Some("OOMKilled")) => "was ended because it needed more memory than its limit".to_owned(),
        (_, Some(code), _) => format!("ended with exit code {code}"),
        _ if outside.is_some() => "failed".to_owned(),
        _ => format!("failed ({condition}), and its pod was gone before anyone could see how it ended"),
    };
    let why = outside.map_or(why.clone(), |outside| format!("{why}: {outside}"));
    let reason = if condition == "DeadlineExceeded" { "DeadlineExceeded" } else { "JobFailed" };
    let log = job.log_tail.as_ref().map(|l| format!("; its last lines: {l}")).unwrap_or_default();
    // Without a permanent verdict of the agent the pod died of something outside: evicted, killed, out of memory.
    JobFailure {
        reason: reason.into(),
        message: format!("Job {name} {why}{log}"),
        retryable: job.exit_code != Some(exit::PERMANENT),
        outcome: None,
    }
}
