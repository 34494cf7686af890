//! Promotion: bring the release that was tested in one environment to another.
//!
//! The phases, and what may follow what, are in [`Phase::may_become`]; what is done in each is in [`crate::plan::promotion`].
//! Here the spec: what people write. What the operator writes has files of its own.

mod phase;
mod review;
mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{phase::*, review::*, status::*};
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
