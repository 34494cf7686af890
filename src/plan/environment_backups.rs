//! What an Environment does about backups by itself: makes those of its schedule, and lets go what retention does not keep.

use std::{collections::BTreeSet, time::Duration};

use kube::ResourceExt;
use serde_json::json;

use super::{
    Decision, Effect, Progress, Resource, after,
    cron::Cron,
    environment::{World, agent_job},
    jobs::JobProgress,
    millis,
};
use crate::{
    api::{API_VERSION, EnvironmentBackup, EnvironmentStatus, Timestamp, labels},
    manifest::task::Verb,
};

/// Retention is carried out after each new backup, and else as often: what was only marked goes with a later time.
const DAILY: Duration = Duration::from_secs(86_400);

/// What the schedule wants next. None: nothing now.
pub fn scheduled(world: &World<'_>, status: &EnvironmentStatus, now: Timestamp) -> Option<Decision<EnvironmentStatus>> {
    let mut status = status.clone();
    let text = world.environment.spec.backups.as_ref().and_then(|b| b.schedule.as_ref());
    let cron = text.and_then(|t| Cron::parse(t).ok());
    let advance = |status| Some(Decision::Advance(Box::new(status)));
    let (Some(text), Some(cron)) = (text, cron) else {
        return status.last_scheduled_backup.take().and_then(|_| advance(status));
    };
    // Times count from when the schedule is first seen.
    let Some(last) = status.last_scheduled_backup else {
        status.last_scheduled_backup = Some(millis(now));
        return advance(status);
    };
    // However many were missed, the last one is made up for.
    let due = cron.latest(now).filter(|at| *at > last)?;
    let name = name(&world.environment.name_any(), due);
    if world.backups.iter().any(|b| b.name_any() == name) {
        status.last_scheduled_backup = Some(due);
        return advance(status);
    }
    // Nobody owns it: it outlives a recreated Environment, as its snapshot does.
    let manifest = json!({
        "apiVersion": API_VERSION, "kind": "EnvironmentBackup",
        "metadata": {
            "name": name, "namespace": world.environment.namespace().unwrap_or_default(),
            "labels": {labels::MANAGED_BY: labels::MANAGER},
        },
        "spec": {
            "environment": {"name": world.environment.name_any()}, "data": {"all": {}}, "reason": format!("schedule {text}"),
            "keep": false,
        },
    });
    Some(Decision::Perform(Effect::Create { resource: Resource::EnvironmentBackup, manifest: Box::new(manifest) }))
}

/// The name of a scheduled backup: the Environment's, and the time in UTC.
pub fn name(environment: &str, at: Timestamp) -> String {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    format!("{environment}-{}", at.strftime("%Y%m%d-%H%M"))
}

/// When there is something to look at again.
pub fn next(world: &World<'_>, status: &EnvironmentStatus) -> Option<Timestamp> {
    let backups = world.environment.spec.backups.as_ref()?;
    let schedule = backups.schedule.as_ref().and_then(|s| Cron::parse(s).ok());
    let scheduled = schedule.zip(status.last_scheduled_backup).and_then(|(cron, last)| cron.next(last));
    let prune = backups.retention.as_ref().and(status.last_backup.as_ref()).and(status.pruned_at).map(|at| after(at, DAILY));
    scheduled.into_iter().chain(prune).min()
}

/// What of a schedule is wrong, in words.
pub fn problem(world: &World<'_>) -> Option<String> {
    let schedule = world.environment.spec.backups.as_ref()?.schedule.as_ref()?;
    Cron::parse(schedule).err().map(|why| format!("backups.schedule: {why}"))
}

/// What retention wants next. None: nothing now.
pub fn retained(world: &World<'_>, status: &EnvironmentStatus, now: Timestamp) -> Option<Decision<EnvironmentStatus>> {
    let backups = world.environment.spec.backups.as_ref()?;
    let policy = backups.retention.as_ref()?;
    let last = status.last_backup.as_ref()?;
    let fresh = status.pruned_at.is_none_or(|at| last.proven_at > at || after(at, DAILY) <= now);
    // While somebody works here, or a backup is written, nothing is removed.
    let ended = |b: &EnvironmentBackup| b.status.as_ref().is_some_and(|s| s.phase.is_terminal());
    if !fresh || status.active.is_some() || lock_held(status) || !world.backups.iter().all(ended) {
        return None;
    }
    let step = format!("prune-{}", last.proven_at.max(status.pruned_at.unwrap_or(last.proven_at)).as_second());
    let job = agent_job(world, (Verb::Prune, &step), now, |task| {
        task.repository = true;
        task.data = Vec::new();
        task.retention = Some(policy.clone());
        task.keep = kept(world, status).into_iter().collect();
    });
    let outcome = match job {
        JobProgress::Going(Progress::Do(effect)) => return Some(Decision::Perform(effect)),
        JobProgress::Going(Progress::Waiting { until, .. }) => return Some(Decision::Wait(until)),
        JobProgress::Going(_) => return Some(Decision::Wait(None)),
        // Tried again with the next hour's name; nothing depends on it meanwhile.
        JobProgress::Failed(_) => return Some(Decision::Wait(Timestamp::from_second((now.as_second() / 3600 + 1) * 3600).ok())),
        JobProgress::Succeeded(outcome) => outcome.unwrap_or_default(),
    };
    let gone = |b: &&EnvironmentBackup| snapshot(b).is_some_and(|s| outcome.removed.iter().any(|r| r == s));
    if let Some(backup) = world.backups.iter().filter(|b| b.metadata.deletion_timestamp.is_none()).find(gone) {
        return Some(Decision::Perform(Effect::Delete {
            resource: Resource::EnvironmentBackup,
            name: backup.name_any(),
            uid: backup.uid().unwrap_or_default(),
            grace: None,
        }));
    }
    let mut status = status.clone();
    status.pruned_at = Some(millis(now));
    Some(Decision::Advance(Box::new(status)))
}

fn lock_held(status: &EnvironmentStatus) -> bool {
    status.lock.as_ref().is_some_and(|l| l.holder.is_some())
}

fn snapshot(backup: &EnvironmentBackup) -> Option<&str> {
    backup.status.as_ref()?.snapshot.as_deref()
}

/// Snapshots that stay whatever retention says: the newest proven one, those marked `keep`, those that a restore which has not
/// ended refers to, and undo points.
pub fn kept(world: &World<'_>, status: &EnvironmentStatus) -> BTreeSet<String> {
    let newest = world
        .backups
        .iter()
        .filter_map(|b| Some((b.status.as_ref()?.proven_at?, snapshot(b)?)))
        .max_by_key(|(at, _)| *at)
        .map(|(_, s)| s.to_owned());
    let marked = world.backups.iter().filter(|b| b.spec.keep).filter_map(snapshot).map(str::to_owned);
    let going = || world.restores.iter().filter(|r| r.status.as_ref().is_none_or(|s| !s.phase.is_terminal()));
    let named = going().filter_map(|r| {
        let name = &r.spec.from.backup.as_ref()?.name;
        snapshot(world.backups.iter().find(|b| b.name_any() == **name)?).map(str::to_owned)
    });
    let bare = going().flat_map(|r| {
        let id = r.spec.from.snapshot.as_ref().map(|s| s.id.to_string());
        id.into_iter().chain(r.status.as_ref().and_then(|s| s.snapshot.clone()).map(|s| s.id))
    });
    let undo = status.kept.iter().filter_map(|k| k.snapshot.clone());
    let last = status.last_backup.iter().map(|b| b.snapshot.clone());
    newest.into_iter().chain(marked).chain(named).chain(bare).chain(undo).chain(last).collect()
}
