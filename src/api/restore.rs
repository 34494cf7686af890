//! EnvironmentRestore: put a backup, or what a completed run kept aside, back in place of today's data.
//!
//! It goes the way of a Promotion and shares its status ([`RunStatus`]); what is done is in [`crate::plan::restore`].

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    backup::DataSelection,
    common::*,
    promotion::{Approval, Intervention, Requester, RunStatus},
};

/// What to put back. Made once, driven to an end, kept as a record.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lockkeeper.dev",
    version = "v1alpha1",
    kind = "EnvironmentRestore",
    plural = "environmentrestores",
    shortname = "erst",
    category = "lockkeeper",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    doc = "Puts an environment's data back to a backup, or data and release to what they were before a completed run.",
    printcolumn = r#"{"name":"From","type":"string","jsonPath":".spec.from.*['name','id']"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Approvals","type":"string","jsonPath":".status.approvals.summary"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.next"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("self.environment == oldSelf.environment && self.from == oldSelf.from && self.requestedBy == oldSelf.requestedBy && has(self.data) == has(oldSelf.data) && (!has(self.data) || self.data == oldSelf.data)")
        .message("spec: environment, from, data and requestedBy are fixed once an EnvironmentRestore is made; make another"),
    validation = Rule::new("!has(oldSelf.cancel) || (has(self.cancel) && self.cancel == oldSelf.cancel)")
        .message("cancel: a cancelled EnvironmentRestore stays cancelled; make another"),
    validation = Rule::new("!has(self.from.undoOf) || !has(self.data) || has(self.data.all)")
        .message("data: a run is undone as a whole, release and all data; leave data out")
)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentRestoreSpec {
    /// The Environment that changes, in the same namespace.
    pub environment: LocalRef,
    /// What comes back.
    pub from: RestoreSource,
    /// Which data. Default: all that the Environment has. Other data stays as it is; users are locked out of all.
    #[serde(default)]
    pub data: DataSelection,
    /// Who asks. Must be the author of the request that makes the EnvironmentRestore.
    pub requested_by: Requester,
    /// The time of the data that comes back, as status.takenAt tells it: that writes made after it are lost is known and wanted. Nothing starts without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub acknowledge_data_loss_since: Option<Timestamp>,
    /// Who said yes, to which plan. Each person adds his own entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["username"]))]
    pub approvals: Vec<Approval>,
    /// Ends the run: before Locked it just ends, from then on the environment is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Author>,
    /// What becomes of a run whose rollback failed (phase NeedsHuman): tried again at once, or left for people to put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervention: Option<Intervention>,
}

/// What comes back: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.backup), has(self.snapshot), has(self.undoOf)].exists_one(m, m)")
    .message("from: exactly one of: backup, snapshot, undoOf"))]
pub struct RestoreSource {
    /// A completed EnvironmentBackup of the same environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<LocalRef>,
    /// A snapshot of the environment's repository, where the object that told of it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotRef>,
    /// A completed run: data and release become what they were before it, as long as its undo points are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_of: Option<UndoOf>,
}

/// A snapshot of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRef {
    /// Its id, as `restic snapshots` names it: at least the first 8 of its 64 digits.
    pub id: SnapshotId,
}

/// A completed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UndoOf {
    /// Kind of the run.
    pub kind: UndoableKind,
    /// Name of the run, in the same namespace.
    pub name: ObjectName,
}

/// Kinds of runs that keep undo points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UndoableKind {
    /// A Promotion.
    Promotion,
    /// An EnvironmentRestore.
    EnvironmentRestore,
    /// A DownAlignment.
    DownAlignment,
}
