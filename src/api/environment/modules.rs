//! What is delivered to an environment: modules, their configuration, and the migration that brings the data to a release.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::*;

/// A part of the application that is delivered as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.migration) || has(self.migration.workload) || size(self.workloads) == 1")
        .message("migration.workload: the module has several workloads; name the one whose image carries the migration"),
    validation = Rule::new("!has(self.migration) || !has(self.migration.workload) || self.workloads.exists(w, w.kind == self.migration.workload.kind && w.name == self.migration.workload.name)")
        .message("migration.workload: must be one of the module's workloads")
)]
pub struct Module {
    /// Name of the module, the same in source and target.
    pub name: ShortName,
    /// Modules that are delivered before this one. Default: those listed before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub requires: Vec<ShortName>,
    /// Workloads of the module. All go down while locked.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub workloads: Vec<WorkloadRef>,
    /// ConfigMaps that belong to the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub configuration: Vec<Configuration>,
    /// The command that brings the data to the release. Runs while locked, before the new workloads start; never retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// How the module is delivered. Default: direct.
    #[serde(default)]
    pub delivery: Delivery,
}

impl Module {
    /// The workload whose new image carries the migration.
    pub fn migration_workload(&self) -> Option<&WorkloadRef> {
        let migration = self.migration.as_ref()?;
        migration.workload.as_ref().or(match self.workloads.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }
}

/// A ConfigMap that belongs to the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The ConfigMap, of the same name in source and target.
    pub config_map: LocalRef,
    /// Keys that stay each environment's own: they neither leave the source nor change in the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "set"))]
    pub keep: Vec<ConfigKey>,
}

/// The command that brings the data to the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// The workload whose new image, environment and volumes the migration uses. Default: the module's only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// The container of that workload. Default: its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Label>,
    /// The command, not run in a shell.
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<Argument>,
    /// Secret with the connection of a role that only migrations use. Where the workload's container refers to the data's connectionSecret (`env`, `envFrom`, volumes), the migration reads this one instead, the same keys. Until the first new workload starts nobody but this role may connect to that database; without it the application's role may, and what others do with it is seen only afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret: Option<LocalRef>,
    /// How long it may take. Default 30m.
    #[serde(default = "Migration::default_timeout")]
    pub timeout: Period,
}

impl Migration {
    fn default_timeout() -> Period {
        "30m".into()
    }

    /// [`Self::timeout`] as a span of time.
    pub fn timeout(&self) -> Duration {
        self.timeout.or(Duration::from_secs(1800))
    }
}

/// How a module is delivered: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.direct)").message("delivery: exactly one of: direct"))]
pub struct Delivery {
    /// The operator patches images and configuration itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Empty>,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { direct: Some(Empty {}) }
    }
}
