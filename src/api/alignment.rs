//! DownAlignment: a lower environment becomes a mirror of a higher one, every value masked before it leaves.
//!
//! It goes the way of a Promotion and shares its status ([`RunStatus`]); what is done is in [`crate::plan::alignment`].

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::*,
    promotion::{Intervention, Requester, RunStatus, Schedule},
};

/// What to mirror, from where, when, asked by whom. Made once, driven to an end, kept as a record.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lockkeeper.dev",
    version = "v1alpha1",
    kind = "DownAlignment",
    plural = "downalignments",
    shortname = "align",
    category = "lockkeeper",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    doc = "Makes the environment of this namespace a mirror of a higher one: release, configuration and data, every value masked before it leaves the source.",
    printcolumn = r#"{"name":"From","type":"string","jsonPath":".spec.from.namespace"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("self.environment == oldSelf.environment && self.from == oldSelf.from && self.requestedBy == oldSelf.requestedBy && has(self.include) == has(oldSelf.include) && (!has(self.include) || self.include == oldSelf.include) && has(self.schedule) == has(oldSelf.schedule) && (!has(self.schedule) || self.schedule == oldSelf.schedule)")
        .message("spec: environment, from, schedule, include and requestedBy are fixed once a DownAlignment is made; make another"),
    validation = Rule::new("!has(oldSelf.cancel) || (has(self.cancel) && self.cancel == oldSelf.cancel)")
        .message("cancel: a cancelled DownAlignment stays cancelled; make another"),
    validation = Rule::new("!has(self.include) || !has(self.include.configuration) || self.include.configuration || !has(self.include.data) || !has(self.include.data.none)")
        .message("include: neither configuration nor data: there would be nothing to do")
)]
#[serde(rename_all = "camelCase")]
pub struct DownAlignmentSpec {
    /// The Environment that changes, in the same namespace. Never a protected one.
    pub environment: LocalRef,
    /// The Environment that is mirrored.
    pub from: EnvironmentRef,
    /// When. Absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// What comes. Default: everything.
    #[serde(default)]
    pub include: Include,
    /// Who asks. Must be the author of the request that makes the DownAlignment.
    pub requested_by: Requester,
    /// Ends the run: before Locked it just ends, from then on the environment is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Author>,
    /// What becomes of a run whose rollback failed (phase NeedsHuman): tried again at once, or left for people to put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervention: Option<Intervention>,
}

/// What comes from the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Include {
    /// The modules' images and configuration, as the source runs them. A key of configuration that the target neither has nor keeps stops the run. Default true.
    #[serde(default = "Include::default_configuration")]
    pub configuration: bool,
    /// Which data. Default: all that the target has.
    #[serde(default)]
    pub data: AlignedData,
}

impl Include {
    fn default_configuration() -> bool {
        true
    }
}

impl Default for Include {
    fn default() -> Self {
        Self { configuration: true, data: AlignedData::default() }
    }
}

/// Which data comes: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.all), has(self.names), has(self.none)].exists_one(m, m)").message("data: exactly one of: all, names, none"))]
pub struct AlignedData {
    /// All data that the target has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Empty>,
    /// The data of these names. Other data stays as it is; users are locked out of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub names: Option<Vec<ShortName>>,
    /// No data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<Empty>,
}

impl Default for AlignedData {
    fn default() -> Self {
        Self { all: Some(Empty {}), names: None, none: None }
    }
}

impl AlignedData {
    /// Whether data of that name comes.
    pub fn takes(&self, name: &str) -> bool {
        self.all.is_some() || self.names.iter().flatten().any(|n| **n == *name)
    }
}
