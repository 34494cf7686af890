//! What to do next for a MaskingPolicy: its hash at once; then, by a Job on the catalog, whether it names all there is.
//!
//! 1. A changed spec gets its hash, and what was known of its coverage goes.
//! 2. A copy for the Job, the Job, and what it says. Again each day, and after each run, because runs change schemas.
//! 3. Job and copy go.
//!
//! While a run works in the environment nothing is asked of its data.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::{
    Decision, Effect, Progress, Resource, after,
    jobs::{JobProgress, look},
    millis,
    world::{JobView, Settings},
};
use crate::{
    api::{Data, Environment, MaskingPolicy, MaskingPolicyStatus, Timestamp, conditions, reasons},
    data::mask,
    manifest::{
        Owner, job, masking,
        task::{Outcome, Task, Verb},
    },
};

/// A schema may change without a run.
const DAILY: Duration = Duration::from_secs(86_400);
/// Reading the catalog takes a second; a table that is locked may hold it up.
const DEADLINE: Duration = Duration::from_secs(600);

/// All that a MaskingPolicy's decision rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct World<'a> {
    /// What the operator was told at its start.
    pub settings: &'a Settings,
    /// The policy, read in this turn.
    pub policy: &'a MaskingPolicy,
    /// The Environment of its namespace, read in this turn.
    pub environment: Option<&'a Environment>,
    /// Jobs made for it.
    pub jobs: &'a BTreeMap<String, JobView>,
    /// Copies made for them.
    pub copies: &'a [ConfigMap],
    /// Admission policies or bindings that are missing.
    pub missing_policies: &'a [String],
    /// What the operator was refused in the namespace, with what mends it.
    pub refused: Option<&'a str>,
}

fn owner<'a>(world: &World<'a>) -> Owner<'a> {
    Owner::of("MaskingPolicy", &world.policy.metadata)
}

/// What to do next.
pub fn plan(world: &World<'_>, now: Timestamp) -> Decision<MaskingPolicyStatus> {
    let policy = world.policy;
    if policy.metadata.deletion_timestamp.is_some() {
        return Decision::Wait(None);
    }
    let mut status = policy.status.clone().unwrap_or_default();
    let hash = mask::hash(&policy.spec);
    if status.hash.as_ref() != Some(&hash) || status.observed_generation != policy.metadata.generation {
        status.hash = Some(hash);
        status.observed_generation = policy.metadata.generation;
        status.classified_at = None;
        status.coverage = Vec::new();
        return advance(world, status, State::Looking, now);
    }
    if let Some(refused) = world.refused {
        return advance(world, status, State::Held(reasons::BLOCKED, refused.to_owned()), now);
    }
    if !world.missing_policies.is_empty() {
        let message = super::prepare::policies_message(world.missing_policies);
        return advance(world, status, State::Held("PoliciesMissing", message), now);
    }
    let Some(environment) = world.environment else {
        let message = "its namespace has no Environment; a MaskingPolicy belongs where the Environment with the data is";
        return advance(world, status, State::Held(reasons::BLOCKED, message.into()), now);
    };
    let data = match named(policy, environment) {
        Ok(data) => data,
        Err(message) => return advance(world, status, State::Held(reasons::INVALID, message), now),
    };
    match due(environment, &status) {
        Some(at) if at > now => tidy(world).unwrap_or(Decision::Wait(Some(at))),
        Some(_) => classify(world, environment, &data, status, now),
        None => Decision::Wait(None),
    }
}

/// The data of the Environment that the policy names.
fn named<'a>(policy: &MaskingPolicy, environment: &'a Environment) -> Result<Vec<&'a Data>, String> {
    let find = |name: &str| environment.spec.data.iter().find(|d| *d.name == *name);
    let missing = |name: &str| {
        format!("data {name} is not in Environment {}; correct its name, or remove it from the policy", environment.name_any())
    };
    let mut out = Vec::new();
    for said in &policy.spec.data {
        let data = find(&said.name).ok_or_else(|| missing(&said.name))?;
        mask::files::fits(said, data.volume.is_some())?;
        out.push(data);
    }
    Ok(out)
}

/// What is said of the Environment's volumes beside the columns.
fn of_volumes(policy: &MaskingPolicy, environment: &Environment) -> String {
    let volumes = environment.spec.data.iter().filter(|d| d.volume.is_some());
    let said = volumes.map(|d| format!("; {}", mask::files::said(&policy.spec, &d.name)));
    said.collect()
}

/// When the catalog is to be looked at. `None`: not while a run works here.
fn due(environment: &Environment, status: &MaskingPolicyStatus) -> Option<Timestamp> {
    let there = environment.status.as_ref();
    if there.is_some_and(|s| s.active.is_some() || s.lock.as_ref().is_some_and(|l| l.holder.is_some())) {
        return None;
    }
    let Some(last) = status.classified_at else { return Some(Timestamp::MIN) };
    let ended = there.into_iter().flat_map(|s| &s.finished).map(|f| f.at).max();
    Some(ended.filter(|at| *at > last).unwrap_or_else(|| after(last, DAILY)))
}

fn classify(
    world: &World<'_>,
    environment: &Environment,
    data: &[&Data],
    mut status: MaskingPolicyStatus,
    now: Timestamp,
) -> Decision<MaskingPolicyStatus> {
    let owner = owner(world);
    let hash = status.hash.clone().unwrap_or_default();
    let copy = masking::name(owner, &hash);
    if !world.copies.iter().any(|c| c.name_any() == copy) {
        return match masking::config_map(owner, &copy, &world.policy.spec) {
            Ok(effect) => Decision::Perform(effect),
            Err(message) => advance(world, status, State::Held(reasons::INVALID, message), now),
        };
    }
    // One attempt an hour: a server that is away must not be asked without end.
    let hour = now.as_second() / 3600;
    let step = format!("{}-{}", Verb::Classify.as_str(), masking::short(&hash));
    let name = owner.object_name(&step, i32::try_from(hour % 1_000_000).unwrap_or(0));
    let mut task = Task::new(Verb::Classify, owner, (environment.uid().unwrap_or_default(), &environment.name_any()));
    task.data = Task::data_of(data.iter().copied());
    task.policy = Some(copy);
    let make = || job::agent(owner, world.settings, (&name, &step), &task, (data, None), &[], DEADLINE);
    if let Some(old) = world.jobs.values().find(|j| j.name != name && !j.deleting) {
        return delete(Resource::Job, old.name.clone(), old.uid.clone());
    }
    match look(world.jobs, &name, true, now, make) {
        JobProgress::Going(Progress::Do(effect)) => Decision::Perform(effect),
        JobProgress::Going(Progress::Waiting { until, .. }) => Decision::Wait(until),
        JobProgress::Going(_) => Decision::Wait(None),
        JobProgress::Failed(failure) => {
            let again = Timestamp::from_second((hour + 1) * 3600).ok();
            match advance(world, status, State::Held("CatalogUnread", failure.message), now) {
                Decision::Wait(_) => Decision::Wait(again),
                other => other,
            }
        }
        JobProgress::Succeeded(outcome) => {
            let Outcome { coverage, notes, .. } = outcome.unwrap_or_default();
            status.classified_at = Some(millis(now));
            status.coverage = coverage;
            advance(world, status, State::Known(notes), now)
        }
    }
}

/// What is no longer needed of an answer that is in the status.
fn tidy(world: &World<'_>) -> Option<Decision<MaskingPolicyStatus>> {
    if let Some(job) = world.jobs.values().find(|j| !j.deleting) {
        return Some(delete(Resource::Job, job.name.clone(), job.uid.clone()));
    }
    let copy = world.copies.iter().find(|c| c.metadata.deletion_timestamp.is_none())?;
    Some(delete(Resource::ConfigMap, copy.name_any(), copy.uid().unwrap_or_default()))
}

fn delete(resource: Resource, name: String, uid: String) -> Decision<MaskingPolicyStatus> {
    Decision::Perform(Effect::Delete { resource, name, uid, grace: None })
}

/// How a policy stands.
enum State {
    /// Its catalog has not been looked at yet.
    Looking,
    /// Something outside must change first.
    Held(&'static str, String),
    /// It has been; and what is wrong.
    Known(Vec<String>),
}

fn advance(world: &World<'_>, mut status: MaskingPolicyStatus, state: State, now: Timestamp) -> Decision<MaskingPolicyStatus> {
    let generation = world.policy.metadata.generation.unwrap_or(0);
    let (ready, reason, message) = match &state {
        State::Looking => (false, reasons::PROGRESSING, "the catalog is looked at".to_owned()),
        State::Held(reason, message) => (false, *reason, message.clone()),
        State::Known(problems) if problems.is_empty() => {
            let files = world.environment.map(|e| of_volumes(world.policy, e)).unwrap_or_default();
            (true, reasons::READY, format!("every column is named{files}"))
        }
        State::Known(problems) => (false, "Incomplete", problems.join("; ")),
    };
    let looking = matches!(state, State::Looking);
    let list = &mut status.conditions;
    conditions::set(list, conditions::READY, ready, reason, &message, generation, now);
    conditions::set(list, conditions::RECONCILING, looking, reason, "", generation, now);
    conditions::set(list, conditions::STALLED, !ready && !looking, reason, &message, generation, now);
    if world.policy.status.as_ref() == Some(&status) { Decision::Wait(None) } else { Decision::Advance(Box::new(status)) }
}
