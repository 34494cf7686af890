//! What the operator knows of a run: how far it is, what it has made, what was done step by step.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApprovalsStatus, Change, Check, InterventionAction, Phase};
use crate::api::{Coverage, common::*};

/// The status of a Promotion.
pub type PromotionStatus = RunStatus;

/// What the operator knows of a run, whichever its kind: one engine drives them all. What a kind does not use is not in its
/// schema ([`crate::api::crds`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// How far it is.
    #[serde(default)]
    pub phase: Phase,
    /// The step that is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub step: Option<String>,
    /// What comes next, or what is waited for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub next: Option<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What an approval binds to: release, source, modules, schedule, steps, the Environment's fields that they use, the target's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub plan_hash: Option<String>,
    /// How the requester's right to ask was seen: by name, so that its loss is noticed, or only through a group, which a later
    /// check cannot see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// The exact thing: digests and configuration, captured from the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// What the target ran when the run began: what a rollback brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Release>,
    /// The snapshot whose data comes: of a backup, or masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotStatus>,
    /// The time of the data that comes back: writes made after it are lost. spec.acknowledgeDataLossSince must name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub taken_at: Option<Timestamp>,
    /// What changes for the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub changelog: Vec<Change>,
    /// What was checked before anyone is locked out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub preflight: Vec<Check>,
    /// When the checks last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub preflight_at: Option<Timestamp>,
    /// How many times the checks ran.
    #[serde(default)]
    pub preflight_attempt: i32,
    /// How many approvals count, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalsStatus>,
    /// What was done and what is to do, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub steps: Vec<Step>,
    /// The DownAlignment made before the change. Once it has completed, what it left is what a rollback brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<LocalRef>,
    /// The backup made before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<LocalRef>,
    /// Where the run's data was when users were locked out. It works there and nowhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub data: Vec<DataPlace>,
    /// Databases kept aside, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub undo: Vec<UndoStatus>,
    /// Changes of others that were put right while the environment was locked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub reverts: Vec<Revert>,
    /// The epoch of the lock that this run took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The least epoch that the data's control databases accept from a new lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_epoch: Option<i64>,
    /// When users were locked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub locked_at: Option<Timestamp>,
    /// When users came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub unlocked_at: Option<Timestamp>,
    /// Hash of the spec as it was first seen, without what people add later. By it the Environment knows the run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub spec_hash: Option<String>,
    /// Since when enough people have approved today's plan: the run's place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub validated_at: Option<Timestamp>,
    /// Everyone who has changed the run. Each counts as requester.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub modifiers: Vec<String>,
    /// What a person decided about the failed rollback, as far as the operator has acted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervention: Option<InterventionStatus>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub finished_at: Option<Timestamp>,
    /// The first cause of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Fields of newer versions.
    #[serde(flatten)]
    #[schemars(skip)]
    pub remainder: Remainder,
}

/// A snapshot whose data comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// Its id in the repository, as `restic snapshots` names it.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Of a masked one: the hash of the MaskingPolicy by which each value was masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub masking_policy_hash: Option<String>,
    /// Rows in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Of a masked one: the data that are volumes and of which it holds the files that may leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub volumes: Vec<String>,
    /// Files in it, of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
    /// Bytes in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// When the data was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub at: Option<Timestamp>,
    /// Of a masked one: for each database, how many columns it had when it was read, and how many of them the policy named. Were they not as many, nothing would have left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub coverage: Vec<Coverage>,
}

impl SnapshotStatus {
    /// A snapshot of which no more than the id is known.
    pub fn named(id: String) -> Self {
        Self { id, ..Self::default() }
    }
}

/// An object that somebody else changed while it had to stay as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revert {
    /// Kind of the object.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Who changed it last, as the object's managed fields say.
    #[schemars(length(max = 256))]
    pub manager: String,
    /// How many times it was put right.
    pub times: i32,
    /// The version of the object that was put right last.
    #[schemars(length(max = 64))]
    pub resource_version: String,
}

/// An intervention that the operator has acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterventionStatus {
    /// What was done.
    pub action: InterventionAction,
    /// Who decided it.
    #[schemars(length(max = 256))]
    pub username: String,
    /// Why.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The generation of the spec that asked for it: what is asked again, in a later one, is done again.
    pub generation: i64,
    /// When the operator acted on it.
    #[schemars(schema_with = "timestamp_schema")]
    pub at: Timestamp,
    /// After Unlock: what is left for people to put right, one thing a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 1024)))]
    pub left: Vec<String>,
}

/// How a right was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Grant {
    /// The person has it by name.
    ByName,
    /// Admission allowed it, and by name alone it is not there: through a group.
    ByGroup,
}

/// States of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// Not begun.
    #[default]
    Pending,
    /// Begun.
    Running,
    /// Done.
    Succeeded,
    /// Ended without success.
    Failed,
    /// Not needed.
    Skipped,
}

/// One step of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name of the step; steps of a module or a check carry its name after a slash.
    #[schemars(length(max = 128))]
    pub name: String,
    /// How far it is.
    #[serde(default)]
    pub state: StepState,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub finished_at: Option<Timestamp>,
    /// Which attempt this is, from 0.
    #[serde(default)]
    pub attempt: i32,
    /// How far it is, of a step that moves data. It stays as it was when the step ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// What was done or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// Where data is, as its Environment names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlace {
    /// Name of the data.
    #[schemars(length(max = 63))]
    pub data: String,
    /// Its claim, where it is a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim: Option<String>,
    /// The Secret with the application's connection, where it is a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub connection_secret: Option<String>,
    /// The Secret with the admin role's connection, where it is one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub admin_secret: Option<String>,
    /// What told its database from every other when the run was checked: a hash of server and name. No step works on another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub mark: Option<String>,
}

/// A database kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UndoStatus {
    /// Name of the data.
    #[schemars(length(max = 63))]
    pub data: String,
    /// How it was made.
    #[schemars(length(max = 16))]
    pub method: String,
    /// Name of the database on the data's server. Empty where a snapshot is kept instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub database: String,
    /// Snapshot in the repository, where the method is Backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub snapshot: Option<String>,
    /// When it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub until: Option<Timestamp>,
}
