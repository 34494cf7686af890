//! What people see of a run before they say yes to it: what changes, what was checked, and whose yes counts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
