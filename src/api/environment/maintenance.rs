//! Around the lock: what is checked before it, how users are locked out, and what must hold before they come back.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::*;

/// What is checked before anyone is locked out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preflight {
    /// A transaction open for longer than this blocks the run. Default 5m.
    #[serde(default = "Preflight::default_max_transaction_age")]
    pub max_transaction_age: Period,
    /// Space that must be free for undo and scratch, as a factor of the data. Default 1.2.
    #[serde(default = "Preflight::default_minimum_free_factor")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub minimum_free_factor: f64,
}

impl Preflight {
    fn default_max_transaction_age() -> Period {
        "5m".into()
    }
    fn default_minimum_free_factor() -> f64 {
        1.2
    }
}

impl Default for Preflight {
    fn default() -> Self {
        Self {
            max_transaction_age: Self::default_max_transaction_age(),
            minimum_free_factor: Self::default_minimum_free_factor(),
        }
    }
}

/// How users are locked out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// What users see while locked. Unavailable: a page with status 503.
    #[serde(default)]
    pub mode: MaintenanceMode,
    /// Services that answer with the page while locked. Default: all that select pods of the modules' workloads.
    #[serde(default)]
    pub services: Services,
    /// Workloads that stay up while locked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub exclude: Vec<WorkloadRef>,
    /// Integrations that stand still while locked: CronJobs are suspended, others scaled to nothing. Put back as they were found, after users are back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub pause: Vec<WorkloadRef>,
    /// The page that users see. Default: a plain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<MaintenancePage>,
    /// How long pods, and Jobs of CronJobs, may take to finish what they have begun; then they are ended. Default 30s.
    #[serde(default = "Maintenance::default_drain")]
    pub drain: Period,
}

impl Maintenance {
    fn default_drain() -> Period {
        "30s".into()
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            mode: MaintenanceMode::default(),
            services: Services::default(),
            exclude: Vec::new(),
            pause: Vec::new(),
            page: None,
            drain: Self::default_drain(),
        }
    }
}

/// The page that users see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenancePage {
    /// ConfigMap whose key `index.html` is the page. It is answered with status 503; programs that ask for JSON get JSON.
    pub config_map: LocalRef,
}

/// What users see while locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaintenanceMode {
    /// A page with status 503 and Retry-After.
    #[default]
    Unavailable,
}

/// Services that answer with the page: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.all) != has(self.names)").message("maintenance.services: exactly one of: all, names"))]
pub struct Services {
    /// Every Service that selects pods of workloads that go down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Empty>,
    /// The Services by which users enter. Others stay as they are, so that modules reach each other while locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub names: Option<Vec<Label>>,
}

impl Default for Services {
    fn default() -> Self {
        Self { all: Some(Empty {}), names: None }
    }
}

/// A check on the new release: exactly one of `job` and `http`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.job) != has(self.http)").message("verification: exactly one of: job, http"))]
pub struct Verification {
    /// Name of the check.
    pub name: ShortName,
    /// A Job of one's own. Names of Services lead to the real pods, although users still see the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobCheck>,
    /// A request and the status it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// How long it may take. Default 2m.
    #[serde(default = "Verification::default_timeout")]
    pub timeout: Period,
}

impl Verification {
    fn default_timeout() -> Period {
        "2m".into()
    }

    /// [`Self::timeout`] as a span of time.
    pub fn timeout(&self) -> Duration {
        self.timeout.or(Duration::from_secs(120))
    }
}

/// A check by a Job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobCheck {
    /// A PodTemplateSpec. The check passes when the Job completes.
    #[schemars(schema_with = "foreign_object_schema")]
    pub template: serde_json::Value,
}

/// A check by an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Where to ask. Repeated until the status is the expected one or the time is over.
    pub url: Url,
    /// The status that the answer must have. Default 200.
    #[serde(default = "HttpCheck::default_expect_status")]
    #[schemars(range(min = 100, max = 599))]
    pub expect_status: u16,
}

impl HttpCheck {
    fn default_expect_status() -> u16 {
        200
    }
}
