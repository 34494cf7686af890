//! What the operator knows of an environment: its lock, its release, the ledger of what has ended here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::*;

/// What the operator knows of an environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// Ready, Reconciling, Stalled; where there are grants, GrantsReady: whether what they let others take can leave. Written by the Environment's controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The run whose turn it is. No outage yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<RunRef>,
    /// The lock. The epoch stays when the holder goes, and only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// What runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The first twelve digits of its hash: enough for people to tell releases apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    pub short_release: Option<String>,
    /// The last promotion that changed this environment, or tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_promotion: Option<LastPromotion>,
    /// The last proven backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// The last time of backups.schedule for which a backup was made, or from which on times count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub last_scheduled_backup: Option<Timestamp>,
    /// When backups.retention was last carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub pruned_at: Option<Timestamp>,
    /// Databases kept aside, and until when. This environment deletes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kept: Vec<Kept>,
    /// The ledger: runs that have ended here, the newest last. A run made again with the same name and spec does not run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub finished: Vec<Finished>,
    /// Fields of newer versions.
    #[serde(flatten)]
    #[schemars(skip)]
    pub remainder: Remainder,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// Kind of the run.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the run.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Hash of its spec, without what people add later (approvals, cancel, intervention).
    #[schemars(length(max = 80))]
    pub spec_hash: String,
    /// When it ended.
    #[schemars(schema_with = "timestamp_schema")]
    pub at: Timestamp,
    /// The phase in which it ended.
    #[schemars(length(max = 32))]
    pub phase: String,
}

/// Who holds an environment locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// Counts the locks. What carries an older epoch may no longer write.
    pub epoch: i64,
    /// The run that holds the lock. None: users are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<RunRef>,
    /// When the lock was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub since: Option<Timestamp>,
}

/// How the last promotion ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPromotion {
    /// Name of the Promotion.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The phase in which it ended.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// Hash of the release that it brought, or tried to bring.
    #[schemars(length(max = 80))]
    pub release: String,
    /// When it ended.
    #[schemars(schema_with = "timestamp_schema")]
    pub at: Timestamp,
}

/// The last proven backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Name of the EnvironmentBackup.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Snapshot in the repository.
    #[schemars(length(max = 128))]
    pub snapshot: String,
    /// When it was proven by a restore.
    #[schemars(schema_with = "timestamp_schema")]
    pub proven_at: Timestamp,
}

/// A database kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Name of the data.
    #[schemars(length(max = 63))]
    pub data: String,
    /// Name of the database on the data's server. Empty where a snapshot is kept instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub database: String,
    /// Snapshot in the repository, where that is the undo point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub snapshot: Option<String>,
    /// The run that left it.
    pub run: RunRef,
    /// When it is deleted.
    #[schemars(schema_with = "timestamp_schema")]
    pub until: Timestamp,
}
