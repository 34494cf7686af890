//! Finished runs are records. So many stay, for so long; beyond that the Environment's controller deletes them, the oldest
//! first. Backups that failed and left nothing in the repository are records as well, counted apart: what fails every hour
//! must not push out what people did.

use kube::ResourceExt;

use super::{Effect, Resource, after, ledger, world::Run};
use crate::api::{
    BackupPhase, DownAlignment, EnvironmentBackup, EnvironmentRestore, History, Phase, Promotion, Timestamp, UndoableKind,
    conditions, reasons,
};

/// A run that has ended and is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its resource.
    pub resource: Resource,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Hash of its spec ([`ledger::spec_hash`]), as asked first and as it is. None: the ledger does not know its kind.
    pub hashes: Option<[String; 2]>,
    /// The phase in which it ended.
    pub phase: String,
    /// When it ended.
    pub ended: Timestamp,
}

/// The runs of a namespace that are records. Not among them: what a restore that has not ended is to undo.
pub fn records(promotions: &[Promotion], restores: &[EnvironmentRestore], alignments: &[DownAlignment]) -> Vec<Record> {
    let going = restores.iter().filter(|r| r.status.as_ref().is_none_or(|s| !s.phase.is_terminal()));
    let needed: Vec<(&str, &str)> = going
        .filter_map(|r| r.spec.from.undo_of.as_ref())
        .map(|undo| {
            let kind = match undo.kind {
                UndoableKind::Promotion => "Promotion",
                UndoableKind::EnvironmentRestore => "EnvironmentRestore",
                UndoableKind::DownAlignment => "DownAlignment",
            };
            (kind, &*undo.name)
        })
        .collect();
    let runs = promotions.iter().map(Run::Promotion).chain(restores.iter().map(Run::Restore));
    let runs = runs.chain(alignments.iter().map(Run::Alignment));
    runs.filter(|run| !needed.contains(&(run.kind(), run.name()))).filter_map(record).collect()
}

/// A run as a record. `None`: it has not ended, goes already, or stays until a person deletes it: an abandoned one says
/// what is to be put right, and one that was applied again would only be applied once more.
pub fn record(run: Run<'_>) -> Option<Record> {
    let status = run.status().filter(|s| s.phase.is_terminal() && s.phase != Phase::Abandoned)?;
    let applied_again = status.conditions.iter().any(|c| c.type_ == conditions::READY && c.reason == reasons::ALREADY_RAN);
    if applied_again || run.is_leaving() {
        return None;
    }
    let hash = ledger::hash_of(run);
    Some(Record {
        resource: match run {
            Run::Promotion(_) => Resource::Promotion,
            Run::Restore(_) => Resource::EnvironmentRestore,
            Run::Alignment(_) => Resource::DownAlignment,
        },
        kind: run.kind(),
        name: run.name().to_owned(),
        uid: run.uid().to_owned(),
        hashes: Some([status.spec_hash.clone().unwrap_or_else(|| hash.clone()), hash]),
        phase: status.phase.to_string(),
        ended: status.finished_at.or_else(|| run.metadata().creation_timestamp.as_ref().map(|t| t.0))?,
    })
}

/// The backups that failed and left no snapshot. One that did leave one goes with it, by `backups.retention`.
pub fn failed_backups(backups: &[EnvironmentBackup]) -> Vec<Record> {
    let failed = |b: &&EnvironmentBackup| {
        let nothing_left = b.status.as_ref().is_some_and(|s| s.phase == BackupPhase::Failed && s.snapshot.is_none());
        nothing_left && !b.spec.keep && b.metadata.deletion_timestamp.is_none()
    };
    let one = |b: &EnvironmentBackup| {
        let status = b.status.as_ref()?;
        Some(Record {
            resource: Resource::EnvironmentBackup,
            kind: "EnvironmentBackup",
            name: b.name_any(),
            uid: b.uid().unwrap_or_default(),
            hashes: None,
            phase: format!("{:?}", status.phase),
            ended: status.finished_at.or_else(|| b.creation_timestamp().map(|t| t.0))?,
        })
    };
    backups.iter().filter(failed).filter_map(one).collect()
}

/// The oldest record beyond the bounds.
pub fn surplus<'a>(records: &'a [Record], history: &History, now: Timestamp) -> Option<&'a Record> {
    let oldest = records.iter().min_by(|a, b| (a.ended, &a.name).cmp(&(b.ended, &b.name)))?;
    let too_many = records.len() > history.keep as usize;
    (too_many || leaves_at(oldest, history) <= now).then_some(oldest)
}

/// When the next record becomes too old.
pub fn next(records: &[Record], history: &History) -> Option<Timestamp> {
    records.iter().map(|r| leaves_at(r, history)).min()
}

fn leaves_at(record: &Record, history: &History) -> Timestamp {
    after(record.ended, history.keep_within.or(std::time::Duration::from_secs(2160 * 3600)))
}

/// The deletion of a record.
pub fn delete(record: &Record) -> Effect {
    Effect::Delete { resource: record.resource, name: record.name.clone(), uid: record.uid.clone(), grace: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, second: i64) -> Record {
        Record {
            resource: Resource::Promotion,
            kind: "Promotion",
            name: name.into(),
            uid: name.into(),
            hashes: Some(["h".into(), "h".into()]),
            phase: "Completed".into(),
            ended: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn beyond_either_bound_the_oldest_goes_first() {
        let records = [record("b", 20), record("a", 10), record("c", 30)];
        let at = |second| Timestamp::from_second(second).unwrap();
        let bounds = |keep, within: &str| History { keep, keep_within: within.into() };
        for (history, now, gone) in [
            (bounds(3, "1h"), 40, None),
            (bounds(2, "1h"), 40, Some("a")),
            (bounds(0, "1h"), 40, Some("a")),
            (bounds(20, "31s"), 40, None),
            (bounds(20, "30s"), 40, Some("a")),
        ] {
            assert_eq!(surplus(&records, &history, at(now)).map(|r| r.name.as_str()), gone, "{history:?}");
        }
        assert_eq!(next(&records, &bounds(3, "1h")), Some(at(3610)));
        assert_eq!(surplus(&[], &bounds(0, "0s"), at(1)), None);
    }
}
