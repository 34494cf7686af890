//! What a Job says of its work: progress while it goes on, and the outcome at its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{BackupContent, Check, Coverage, Timestamp};

/// What came of a task. Written on failure too, so that the operator can say why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Why it failed: one word in CamelCase, and a sentence that says which object, what is wrong, what to do. No secret, no row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OutcomeError>,
    /// Preflight: the checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Preflight and a refused fence: the greatest epoch in the control databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_epoch: Option<i64>,
    /// Preflight: by data, what tells its database from others. Later steps of the run work on no other one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, String>,
    /// Prune: the snapshots that were removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Backup: what was written. Preflight of a restore: what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupOutcome>,
    /// Undo, Release and Rollback: the databases aside. Release: the undo points. Rollback: the failed databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<Aside>,
    /// Classify: how much of each data the policy names. What else is wrong with it is in the notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Coverage>,
    /// What a person may want to know: sessions that were ended, what a clone took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The last line of progress: a run that was quicker than it could be asked has moved something, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// When the verb's own work began and ended: what a pod's start took is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// See [`Self::started_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeError {
    /// One word, in CamelCase.
    pub reason: String,
    /// Which object, what is wrong, what to do.
    pub message: String,
}

/// What a backup wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupOutcome {
    /// The snapshot's id in the repository.
    pub snapshot: String,
    /// Bytes read from the dumps.
    pub bytes: i64,
    /// Bytes that the repository grew by.
    pub stored_bytes: i64,
    /// Rows in all tables.
    pub rows: i64,
    /// For each data.
    pub contents: Vec<BackupContent>,
    /// When the data was read: what was written later is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// Of masked databases: how many columns each had, and how many the policy named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Coverage>,
}

/// A database aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Aside {
    /// Name of the data.
    pub data: String,
    /// Name of the database; empty where a snapshot stands for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// Snapshot in the repository, where the method is Backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// How it was made: `Clone`, `Backup`, or `Swap` where the database itself was put aside.
    pub method: String,
}

/// One line of progress on stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is being done, and with which data: `restoring flags-db`.
    pub doing: String,
    /// How much is done. Never less than in an earlier line of the same.
    pub done: u64,
    /// How much there is, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// [`BYTES`], or what else is counted.
    pub unit: String,
    /// How many rows are done, where rows are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many rows there are, where that is known or can be estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_rows: Option<u64>,
    /// When this began.
    pub since: Timestamp,
    /// When it was said.
    pub at: Timestamp,
}

/// The unit of what moves data.
pub const BYTES: &str = "bytes";
