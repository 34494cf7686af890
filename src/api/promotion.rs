//! Promotion: bring the release that was tested in one environment to another.
//!
//! The phases, and what may follow what, are in [`Phase::may_become`]; what is done in each is in [`crate::plan::promotion`].

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::*;

/// What to bring, from where, when, asked by whom. Made once, driven to an end, kept as a record.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lockkeeper.dev",
    version = "v1alpha1",
    kind = "Promotion",
    plural = "promotions",
    shortname = "promo",
    category = "lockkeeper",
    namespaced,
    status = "PromotionStatus",
    derive = "PartialEq",
    doc = "Brings the release that was tested in the source environment to the environment of this namespace.",
    printcolumn = r#"{"name":"From","type":"string","jsonPath":".spec.from.namespace"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Approvals","type":"string","jsonPath":".status.approvals.summary"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.next"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("self.environment == oldSelf.environment && self.from == oldSelf.from && self.requestedBy == oldSelf.requestedBy")
        .message("spec: environment, from and requestedBy are fixed once a Promotion is made; make another"),
    validation = Rule::new("!has(oldSelf.cancel) || (has(self.cancel) && self.cancel == oldSelf.cancel)")
        .message("cancel: a cancelled Promotion stays cancelled; make another")
)]
#[serde(rename_all = "camelCase")]
pub struct PromotionSpec {
    /// The Environment that changes, in the same namespace.
    pub environment: LocalRef,
    /// The Environment whose release is brought.
    pub from: EnvironmentRef,
    /// Which modules. Absent: all that the source has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub modules: Option<Vec<ShortName>>,
    /// When. Absent: as soon as it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Who asks. Must be the author of the request that makes the Promotion.
    pub requested_by: Requester,
    /// What this is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
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
    /// Who last changed schedule, modules or description. Counts as requester from then on, beside requestedBy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_by: Option<Author>,
}

/// What a person decides about a run whose rollback failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intervention {
    /// Resume: try the failed step again at once. Unlock: break glass; users come back to whatever is there.
    pub action: InterventionAction,
    /// Name of the person, as `kubectl auth whoami` gives it. Must be the author of the request that writes it.
    pub username: Username,
    /// Reason, in words.
    pub reason: Line,
}

/// What can be done about a run whose rollback failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InterventionAction {
    /// The step that failed is tried again at once.
    Resume,
    /// The rollback is given up: page, lock and slot are given back, everything else is left as it is, and listed.
    Unlock,
}

/// When a run may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub not_before: Option<Timestamp>,
    /// How long after notBefore (or, without it, after the Promotion was made) it may still start; then it expires. Without it, a passed notBefore expires after 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deadline: Option<Period>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// Name of the person, as `kubectl auth whoami` gives it.
    pub username: Username,
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Name of the person, as `kubectl auth whoami` gives it.
    pub username: Username,
    /// The person's groups, exactly as in the request that writes this. They are needed to check later that the right still stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub groups: Vec<Username>,
    /// The plan that the yes is for: `status.planHash` as the person saw it. An approval of another plan counts for nothing.
    pub plan_hash: PlanHash,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Line>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The release is captured; approvals are awaited.
    #[default]
    Scheduled,
    /// Approved. Waits, holding nothing, for its time and its turn.
    Validated,
    /// Users still work at first. The environment becomes a mirror of another, by a DownAlignment of its own.
    Aligning,
    /// Users still work. Checked again, backed up, the backup proven.
    BackingUp,
    /// Users still work. Checked again; the source's data is masked, in its own namespace, into the exchange.
    Snapshotting,
    /// Users see the page. Workloads stop, the database is fenced, the undo point is made.
    Locked,
    /// The release goes in.
    Promoting,
    /// A restore's data goes in, and the workloads start.
    Loading,
    /// Checks run against the new release, still locked.
    Verifying,
    /// All done, users are back.
    Completed,
    /// The environment is being put back as it was.
    RollingBack,
    /// The environment is what it was before.
    RolledBack,
    /// Ended before anything in the target had changed.
    Failed,
    /// Ended by a person before anything in the target had changed.
    Cancelled,
    /// Its time passed before it could start.
    Expired,
    /// The rollback itself failed. The lock is held, the page stays up, a person must act.
    NeedsHuman,
    /// A person has given the rollback up. Users are let in; what is left to put right by hand is listed in the status.
    Abandoned,
}

impl Phase {
    /// Every phase, in the order of the flow.
    pub const ALL: [Self; 17] = [
        Self::Scheduled,
        Self::Validated,
        Self::Aligning,
        Self::BackingUp,
        Self::Snapshotting,
        Self::Locked,
        Self::Promoting,
        Self::Loading,
        Self::Verifying,
        Self::Completed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::NeedsHuman,
        Self::Abandoned,
    ];

    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Failed | Self::Cancelled | Self::Expired | Self::Abandoned)
    }

    /// Whether the run may hold the lock in this phase.
    pub fn may_hold_lock(self) -> bool {
        matches!(self, Self::Locked | Self::Promoting | Self::Loading | Self::Verifying | Self::RollingBack | Self::NeedsHuman)
    }

    /// Whether the run may still be changed by people.
    pub fn is_before_start(self) -> bool {
        matches!(self, Self::Scheduled | Self::Validated)
    }

    /// The diagram of the flow: which phase may follow this one.
    pub fn may_become(self, next: Self) -> bool {
        use Phase::*;
        self == next
            || matches!(
                (self, next),
                (Scheduled, Validated | Expired | Cancelled | Failed)
                    | (Validated, Scheduled | Aligning | BackingUp | Snapshotting | Locked | Expired | Cancelled | Failed)
                    | (Aligning, BackingUp | Failed | Cancelled)
                    | (BackingUp | Snapshotting, Locked | Failed | Cancelled | Expired)
                    | (Locked, Promoting | Loading | RollingBack)
                    | (Promoting | Loading, Verifying | RollingBack)
                    | (Verifying, Completed | RollingBack)
                    | (RollingBack, RolledBack | NeedsHuman)
                    | (NeedsHuman, RollingBack | Abandoned)
            )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The status of a Promotion.
pub type PromotionStatus = RunStatus;

/// What the operator knows of a run, whichever its kind: one engine drives them all. What a kind does not use is not in its
/// schema ([`super::crds`]).
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

/// One line of a changelog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The module.
    #[schemars(length(max = 63))]
    pub module: String,
    /// What kind of thing changes.
    pub kind: ChangeKind,
    /// Which thing: `Deployment unleash, container unleash`, or `ConfigMap unleash-config, key LOG_LEVEL`.
    #[schemars(length(max = 640))]
    pub name: String,
    /// What it was. Values of configuration are never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub from: Option<String>,
    /// What it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub to: Option<String>,
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChangeKind {
    /// A container's image.
    Image,
    /// A key of a ConfigMap.
    Configuration,
}

/// One check before the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was checked.
    #[schemars(length(max = 128))]
    pub name: String,
    /// Whether it is as it must be.
    pub passed: bool,
    /// What was found, and what to do about it.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// How many approvals count, of how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalsStatus {
    /// How many are needed.
    pub required: u32,
    /// Whose count.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub given: Vec<String>,
    /// Whose do not count, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub void: Vec<VoidApproval>,
    /// Both numbers, for `kubectl get`: `1/2`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub summary: String,
}

/// An approval that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoidApproval {
    /// Whose.
    #[schemars(length(max = 256))]
    pub username: String,
    /// Why.
    #[schemars(length(max = 1024))]
    pub reason: String,
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
