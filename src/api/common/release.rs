//! A release, and the workloads of which it is made: what runs, exactly.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::ObjectName;

/// Kinds of workloads that a module may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `batch/v1` CronJob.
    CronJob,
}

impl JsonSchema for WorkloadKind {
    fn schema_name() -> Cow<'static, str> {
        "WorkloadKind".into()
    }
    fn inline_schema() -> bool {
        true
    }
    /// A rule and no `enum`: who names a DaemonSet is owed a sentence.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": "self in ['Deployment', 'StatefulSet', 'CronJob']",
                "message": "kind: one of Deployment, StatefulSet, CronJob; a DaemonSet has no number of pods by which it could be stopped, so leave it out: it stays up while the environment is locked"
            }]
        })
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment => f.write_str("Deployment"),
            Self::StatefulSet => f.write_str("StatefulSet"),
            Self::CronJob => f.write_str("CronJob"),
        }
    }
}

/// A workload of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Kind of the workload: Deployment, StatefulSet or CronJob.
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: ObjectName,
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A release: what runs, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Hash over all that follows: `sha256:` and 64 hexadecimal digits.
    #[schemars(length(max = 80))]
    pub hash: String,
    /// What each module runs.
    #[schemars(length(max = 64))]
    pub modules: Vec<ReleaseModule>,
}

impl Release {
    /// The first twelve digits of the hash.
    pub fn short(&self) -> String {
        self.hash.strip_prefix("sha256:").unwrap_or(&self.hash).chars().take(12).collect()
    }
}

/// What a module runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseModule {
    /// Name of the module.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its workloads.
    #[schemars(length(max = 32))]
    pub workloads: Vec<ReleaseWorkload>,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub configuration: Vec<ReleaseConfiguration>,
}

/// What a workload runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseWorkload {
    /// Kind of the workload.
    pub kind: WorkloadKind,
    /// Name of the workload.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its containers.
    #[schemars(length(max = 32))]
    pub containers: Vec<ReleaseContainer>,
}

/// What a container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseContainer {
    /// Name of the container.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Image as the workload's spec names it.
    #[schemars(length(max = 1024))]
    pub image: String,
    /// Digest of the image that runs: `sha256:…`.
    #[schemars(length(max = 140))]
    pub digest: String,
}

impl ReleaseContainer {
    /// The image by digest alone: the spec's repository, without tag, at the digest that runs. What did not run when it was
    /// looked at has none, and is named as its spec does.
    pub fn pinned(&self) -> String {
        if self.digest.is_empty() { self.image.clone() } else { format!("{}@{}", repository(&self.image), self.digest) }
    }
}

/// The repository of an image reference: without tag and digest. A port of the registry is no tag.
pub fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

/// A ConfigMap of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseConfiguration {
    /// Name of the ConfigMap.
    #[schemars(length(max = 253))]
    pub config_map: String,
    /// Hash of its data, without the keys that each environment keeps as its own.
    #[schemars(length(max = 80))]
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_reference_without_tag_and_digest() {
        for (image, expected) in [
            ("unleash", "unleash"),
            ("unleash:7.4.1", "unleash"),
            ("localhost:5000/unleash", "localhost:5000/unleash"),
            ("localhost:5000/a/b:1@sha256:00", "localhost:5000/a/b"),
            ("a@sha256:00", "a"),
        ] {
            assert_eq!(repository(image), expected);
        }
    }
}
