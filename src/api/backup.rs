//! EnvironmentBackup: one backup of an environment's data, proven by a restore.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::*;

/// What to back up. Made once, driven to an end, kept as a record.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lockkeeper.dev",
    version = "v1alpha1",
    kind = "EnvironmentBackup",
    plural = "environmentbackups",
    shortname = "ebk",
    category = "lockkeeper",
    namespaced,
    status = "EnvironmentBackupStatus",
    derive = "PartialEq",
    doc = "A backup of an environment's data: written to the environment's repository and proven by restoring it.",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Proven","type":"date","jsonPath":".status.provenAt"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("spec: an EnvironmentBackup is made once; make another"))]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentBackupSpec {
    /// The Environment, in the same namespace.
    pub environment: LocalRef,
    /// Which data. Default: all.
    #[serde(default)]
    pub data: DataSelection,
    /// Why, in words.
    #[serde(default)]
    pub reason: Line,
    /// Whether retention leaves this backup alone. Default false.
    #[serde(default)]
    pub keep: bool,
}

/// Which data of an environment: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.all) != has(self.names)").message("data: exactly one of: all, names"))]
pub struct DataSelection {
    /// All data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Empty>,
    /// The data of these names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub names: Option<Vec<ShortName>>,
}

impl Default for DataSelection {
    fn default() -> Self {
        Self { all: Some(Empty {}), names: None }
    }
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// Not begun.
    #[default]
    Pending,
    /// Data goes to the repository.
    Running,
    /// What was written is restored beside the data and compared.
    Proving,
    /// Written and proven.
    Completed,
    /// Ended without a proven backup.
    Failed,
}

impl BackupPhase {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// What became of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentBackupStatus {
    /// How far it is.
    #[serde(default)]
    pub phase: BackupPhase,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Snapshot in the repository, as `restic snapshots` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot: Option<String>,
    /// When the data was read: what was written later is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub taken_at: Option<Timestamp>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub finished_at: Option<Timestamp>,
    /// Bytes backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The same as people read it: `1.2 GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub size: Option<String>,
    /// Bytes that the repository grew by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,
    /// Rows backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// When a restore of it equalled the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub proven_at: Option<Timestamp>,
    /// How far it is. It stays as it was when the backup ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub contents: Vec<BackupContent>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Fields of newer versions.
    #[serde(flatten)]
    #[schemars(skip)]
    pub remainder: Remainder,
}

/// One data in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupContent {
    /// Name of the data.
    #[schemars(length(max = 63))]
    pub data: String,
    /// Its tables.
    pub tables: i64,
    /// Its rows.
    pub rows: i64,
    /// Its bytes in the backup.
    pub bytes: i64,
    /// The files of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
}
