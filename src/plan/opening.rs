//! Who opens a repository on a volume first.
//!
//! The pods that mount data work as the user of its workload, and say no `fsGroup`: a fresh claim that belongs to root would be closed
//! to them. The pods of all other Jobs of ours do say theirs, so that the kubelet gives a claim they mount to our group. Hence
//! a Job that opens the repository, or makes it, and nothing else, goes before each that mounts it beside data: before a run's checks, a
//! backup, masking, and the look into the exchange. What follows within the same run finds the claim so.

use std::{collections::BTreeMap, time::Duration};

use super::{
    jobs::{JobFailure, JobProgress, look},
    world::{JobView, Settings},
};
use crate::{
    api::{Backups, Timestamp},
    manifest::{
        Owner, job,
        task::{Task, Verb},
        volume::Mounts,
    },
};

/// How long it may take, the volume's way to its node included.
const DEADLINE: Duration = Duration::from_secs(600);

/// For whom a repository is opened.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// The run.
    pub owner: Owner<'a>,
    /// What the operator was told at its start.
    pub settings: &'a Settings,
    /// The run's Jobs where the repository is.
    pub jobs: &'a BTreeMap<String, JobView>,
    /// The step whose Job mounts the repository beside data, and its attempt.
    pub step: (&'a str, i32),
}

impl Opening<'_> {
    /// Opens the place that a Job with these data volumes and this task mounts, and says what that has come to as that Job's own
    /// progress: going, or failed. None: it is open, or nobody has to.
    pub fn first(self, task: &Task, place: Option<&Backups>, mounts: &Mounts, now: Timestamp) -> Option<JobProgress> {
        let place = place.filter(|p| p.repository.volume.is_some() && !mounts.claims.is_empty())?;
        let Self { owner, settings, jobs, step: (step, attempt) } = self;
        let step = format!("{step}-open");
        let name = owner.object_name(&step, attempt);
        let environment = (task.environment.clone(), task.environment_name.rsplit('/').next().unwrap_or_default());
        let mut asks = Task::new(Verb::Preflight, owner, environment);
        asks.repository = true;
        asks.origin.clone_from(&task.origin);
        let make = || job::agent(owner, settings, (&name, &step), &asks, (&[], Some(place)), &[], DEADLINE);
        let outcome = match look(jobs, &name, true, now, make) {
            JobProgress::Succeeded(outcome) => outcome,
            other => return Some(other),
        };
        let checks = outcome.map(|o| o.checks).unwrap_or_default();
        let wrong: Vec<String> = checks.into_iter().filter(|c| !c.passed).map(|c| c.message).collect();
        let (reason, message) = ("RepositoryClosed".into(), wrong.join("; "));
        (!wrong.is_empty()).then_some(JobProgress::Failed(JobFailure { reason, message, retryable: false, outcome: None }))
    }
}
