//! How far the step at work is: what the agent has said of it last, as the status tells it.
//!
//! It only ever adds words to a status. What is not known leaves what was told before, so that nothing that goes wrong on the
//! way here can hold up a run, fail it, or take figures back. Written no more often than [`PAUSE`], counted by the agent's own
//! times, which stand in the status: an operator that is restarted goes on in the same way.

use std::time::Duration;

use kube::ResourceExt;

use super::{
    after, alignment, forward, millis, steps,
    steps::name,
    world::{JobView, World},
};
use crate::{
    api::{EnvironmentBackup, RunStatus, Step, StepProgress, StepState, Timestamp, crds::GREATEST_INTEGER},
    manifest::{
        Owner,
        task::{BYTES, Progress},
    },
};

/// The least time between two writes. Each wakes whoever watches.
pub const PAUSE: Duration = Duration::from_secs(5);
/// No rate is told before so much time has passed.
const SETTLED: f64 = 1.0;
/// So far a node's clock may be from ours: times further away say nothing.
const CLOCKS: Duration = Duration::from_secs(24 * 3600);
/// What of its words is kept, in characters.
const WORDS: usize = 100;

/// What the agent said, with rate and time left. `None`: it does not move data, or its times make no sense.
pub fn told(said: &Progress, now: Timestamp) -> Option<StepProgress> {
    let Progress { doing, done, total, unit, rows, total_rows, since, at } = said;
    if unit != BYTES || at < since || *at > after(now, CLOCKS) || after(*at, CLOCKS) < now {
        return None;
    }
    // A status with a greater one would be refused, and with it all else that it says.
    let fit = |n: i64| n.clamp(0, GREATEST_INTEGER);
    let whole = |n: u64| fit(i64::try_from(n).unwrap_or(i64::MAX));
    let took = at.duration_since(*since).as_secs_f64();
    let rate = (took >= SETTLED && *done > 0).then(|| *done as f64 / took);
    let left = total.zip(rate).map(|(total, rate)| total.saturating_sub(*done) as f64 / rate);
    Some(StepProgress {
        doing: doing.chars().filter(|c| !c.is_control()).take(WORDS).collect(),
        done: whole(*done),
        total: total.map(whole),
        unit: unit.clone(),
        rows: rows.map(whole),
        total_rows: total_rows.map(whole),
        rate: rate.map(|r| fit(r as i64)),
        seconds_left: left.map(|l| fit(l.ceil() as i64)),
        at: millis(*at),
    })
}

/// What the status is to say, if that is to be written now.
fn due(before: Option<&StepProgress>, now: Option<StepProgress>) -> Option<StepProgress> {
    // What begins is told by another pod, perhaps on another node with a clock of its own.
    now.filter(|now| before.is_none_or(|before| before.doing != now.doing || after(before.at, PAUSE) <= now.at))
}

/// What is known of the step's Job, of the backup or of the DownAlignment that it waits for. `over`: of all of it, not only of
/// what is at work.
fn known(world: &World<'_>, owner: Owner<'_>, step: &Step, over: bool, now: Timestamp) -> Option<StepProgress> {
    match steps::kind(&step.name) {
        name::BACKUP => {
            let made = forward::backup_name(owner, step.attempt);
            let backup: &EnvironmentBackup = world.backup.filter(|b| b.name_any() == made)?;
            backup.status.as_ref()?.progress.clone()
        }
        name::ALIGN => {
            let made = alignment::child_name(owner, step.attempt);
            let steps = &world.child.filter(|c| c.name_any() == made)?.status.as_ref()?.steps;
            let at_work = |s: &&Step| over || s.state == StepState::Running;
            steps.iter().rev().filter(at_work).find_map(|s| s.progress.clone())
        }
        _ => {
            let name = owner.object_name(&step.name, step.attempt);
            let here = world.jobs.get(&name);
            of_job(here.or_else(|| world.elsewhere?.jobs.get(&name)), now)
        }
    }
}

/// What is known of a Job.
pub fn of_job(job: Option<&JobView>, now: Timestamp) -> Option<StepProgress> {
    job?.progress.as_ref().and_then(|said| told(said, now))
}

/// Tells how far the step at work is, where it is time to.
pub fn tell(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, step: &Step, now: Timestamp) {
    write(status, step, due(step.progress.as_ref(), known(world, owner, step, false, now)));
}

/// Tells how far a step came that is over.
pub fn end(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, step: &Step, now: Timestamp) {
    write(status, step, known(world, owner, step, true, now));
}

fn write(status: &mut RunStatus, step: &Step, new: Option<StepProgress>) {
    if let (Some(step), Some(new)) = (status.steps.iter_mut().find(|s| s.name == step.name), new) {
        step.progress = Some(new);
    }
}

/// The same of a backup by itself.
pub fn of_backup(before: Option<&StepProgress>, job: Option<&JobView>, now: Timestamp) -> Option<StepProgress> {
    due(before, of_job(job, now))
}
