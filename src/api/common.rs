//! Shapes that several kinds share: bounded strings, references, durations, conditions.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Deref, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An instant, RFC 3339, to the millisecond. Steps of a lock are measured in fractions of a second.
pub type Timestamp = jiff::Timestamp;

macro_rules! bounded_string {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": $min, "maxLength": $max, "pattern": $pattern})
            }
        }
    };
}

bounded_string!(
    /// Name of a Kubernetes object: a DNS subdomain, at most 253 characters.
    ObjectName, 1, 253, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
bounded_string!(
    /// A DNS label, at most 63 characters: namespaces, and the names given to modules, data and checks.
    Label, 1, 63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
bounded_string!(
    /// A name given to a module, to data or to a check. Shorter than a DNS label, because names of Jobs are made of it.
    ShortName, 1, 40, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
bounded_string!(
    /// Name of a person or service as the API server's authentication gives it.
    Username, 1, 256, r"^[^\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]+$"
);
bounded_string!(
    /// One line of text for people, in any language: nothing that ends a line, turns its direction or cannot be seen.
    Line, 0, 1024, r"^[^\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]*$"
);
bounded_string!(
    /// A key of a ConfigMap.
    ConfigKey, 1, 253, r"^[-._a-zA-Z0-9]+$"
);
bounded_string!(
    /// One argument of a command.
    Argument, 0, 4096, r"^[^\x00]*$"
);
bounded_string!(
    /// An `http` or `https` URL.
    Url, 8, 2048, r"^https?://[^\s\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]+$"
);
bounded_string!(
    /// URL of an S3 server: scheme, host and port, and nothing more.
    Endpoint, 8, 300, r"^https?://([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$"
);
bounded_string!(
    /// Name of an S3 region.
    Region, 1, 64, r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$"
);
bounded_string!(
    /// Name of an S3 bucket.
    BucketName, 3, 63, r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])$"
);
bounded_string!(
    /// What keys of objects begin with: words with slashes between them.
    KeyPrefix, 1, 512, r"^[-_.A-Za-z0-9]+(/[-_.A-Za-z0-9]+)*$"
);
bounded_string!(
    /// Times as in cron: five fields, with `*`, ranges, lists and steps; months and weekdays also by their first three letters.
    CronSchedule, 9, 128, r"^[0-9A-Za-z*,/-]+( [0-9A-Za-z*,/-]+){4}$"
);
bounded_string!(
    /// Id of a snapshot in a repository, or its beginning.
    SnapshotId, 8, 64, r"^[0-9a-f]+$"
);
bounded_string!(
    /// Hash of a plan, with the version of the way it was computed: `v1:` and 64 hexadecimal digits.
    PlanHash, 4, 80, r"^v[0-9]+:[0-9a-f]{64}$"
);

bounded_string!(
    /// A table with its schema, as the catalog spells both: `public.users`.
    TableName, 3, 127, r"^[^\x00-\x1f\x7f]+$"
);
bounded_string!(
    /// Name of a column, as the catalog spells it.
    ColumnName, 1, 63, r"^[^\x00-\x1f\x7f]+$"
);
bounded_string!(
    /// Name of a domain of values: within one, equal values get equal substitutes.
    Domain, 1, 63, r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
);
bounded_string!(
    /// A condition over a table's columns, one SQL expression.
    SqlCondition, 1, 1024, r"^[^\x00-\x08\x0b-\x1f\x7f]+$"
);
bounded_string!(
    /// Literal text with the masked values of other columns in braces: `user-{id}@example.org`.
    TemplateText, 1, 1024, r"^[^\x00-\x1f\x7f]+$"
);

bounded_string!(
    /// A pattern of paths below a volume: `avatars/default/**`. `*` and `?` do not cross a `/`, `**` does.
    Glob, 1, 256, r"^[^\x00-\x1f\x7f]+$"
);

/// A duration as Go writes it (`90s`, `15m`, `1h30m`), not negative, at most 8784 hours. Kept as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Period(pub String);

impl Period {
    /// The longest period that counts: a leap year. What is longer is cut to this, so no sum of times overflows.
    pub const MAX: Duration = Duration::from_secs(8784 * 3600);

    /// The period as a span of time. `None` where the text is not a duration; the schema refuses such text.
    pub fn get(&self) -> Option<Duration> {
        let parsed: kube::core::Duration = self.0.parse().ok()?;
        (!parsed.is_negative()).then(|| Duration::from(parsed).min(Self::MAX))
    }

    /// The period, or `default` where the text is not a duration.
    pub fn or(&self, default: Duration) -> Duration {
        self.get().unwrap_or(default)
    }
}

impl From<&str> for Period {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 2, "maxLength": 24,
            "pattern": r"^([0-9]{1,7}(\.[0-9]{1,3})?(ms|s|m|h))+$"
        })
    }
}

/// Schema of an instant: RFC 3339 text.
pub fn timestamp_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// Schema of an optional instant.
pub fn optional_timestamp_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64, "nullable": true})
}

/// Schema of an object whose fields another API defines.
pub fn foreign_object_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Schema of the standard conditions, a map by type.
pub fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object", "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Ready, Reconciling or Stalled."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The generation of the spec that this speaks of."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "maxLength": 64, "description": "Since when the status is what it is."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one word for programs."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, in words a person can act on."}
            }
        }
    })
}

/// Makes a struct for the top of a status keep fields of newer versions through a read and a write.
pub type Remainder = BTreeMap<String, serde_json::Value>;

/// An object of the same namespace, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, in the same namespace.
    pub name: ObjectName,
}

/// An Environment in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentRef {
    /// Namespace of the Environment.
    pub namespace: Label,
    /// Name of the Environment.
    pub name: ObjectName,
}

/// An object with no fields: the member of a union that says all there is to say by being there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// Which run is meant: kind, name and UID, in the namespace of the object that says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRef {
    /// Kind of the run.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the run.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the run: a run made again under the same name is another run.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Who did something, and what he said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Author {
    /// Name of the person, as `kubectl auth whoami` gives it. Must be the author of the request that writes it.
    pub username: Username,
    /// Reason, in words.
    pub reason: Line,
}

/// The first cause of a failure. Never overwritten by what followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The step that failed.
    #[schemars(length(max = 128))]
    pub step: String,
    /// One word for programs, in CamelCase.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Which object, what is wrong, what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// How far something is that moves data. Written every few seconds at most; what cannot be learnt is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepProgress {
    /// What is being done, and with which data: `restoring flags-db`. One step may do several things, one after the other, and
    /// all figures are of this one.
    #[schemars(length(max = 128))]
    pub doing: String,
    /// How much is done, in `unit`.
    #[schemars(range(min = 0))]
    pub done: i64,
    /// How much there is, in `unit`, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total: Option<i64>,
    /// `bytes`: of tables as they lie on the server's disk where they are read, of rows as they stand in the backup where they
    /// are restored, of files as they are.
    #[schemars(length(max = 16))]
    pub unit: String,
    /// Rows done, where rows are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rows: Option<i64>,
    /// Rows that there are: as the backup counted them, or else as the server estimates them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_rows: Option<i64>,
    /// How much is done in a second, in `unit`: the mean since this began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rate: Option<i64>,
    /// Seconds that what is left takes at this rate, where there is a total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds_left: Option<i64>,
    /// When this was so.
    #[schemars(schema_with = "timestamp_schema")]
    pub at: Timestamp,
}

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

/// Reasons of conditions, in one place.
pub mod reasons {
    /// The run has begun and goes on.
    pub const PROGRESSING: &str = "Progressing";
    /// Something outside must change before this goes on.
    pub const BLOCKED: &str = "Blocked";
    /// Nothing is missing.
    pub const READY: &str = "Ready";
    /// A run with this name and spec has ended here before; it does not run again.
    pub const ALREADY_RAN: &str = "AlreadyRan";
    /// A person has given a failed rollback up.
    pub const ABANDONED: &str = "Abandoned";
    /// The object does not describe something that can be done.
    pub const INVALID: &str = "Invalid";
}

/// Condition types, as kstatus reads them.
pub mod conditions {
    use super::{Condition, Time, Timestamp};

    /// True exactly when all is as desired.
    pub const READY: &str = "Ready";
    /// True while the operator works towards the desired state.
    pub const RECONCILING: &str = "Reconciling";
    /// True when nothing goes on until a person acts.
    pub const STALLED: &str = "Stalled";

    /// Sets a condition. The time of transition changes only when the status does.
    pub fn set(
        list: &mut Vec<Condition>,
        type_: &str,
        value: bool,
        reason: &str,
        message: &str,
        generation: i64,
        now: Timestamp,
    ) {
        let status = if value { "True" } else { "False" };
        let fresh = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.chars().take(4096).collect(),
            observed_generation: Some(generation),
            last_transition_time: Time(now),
        };
        match list.iter_mut().find(|c| c.type_ == type_) {
            Some(old) => {
                let since = if old.status == status { old.last_transition_time.clone() } else { Time(now) };
                *old = Condition { last_transition_time: since, ..fresh };
            }
            None => list.push(fresh),
        }
    }

    /// Whether a condition is there and true.
    pub fn is_true(list: &[Condition], type_: &str) -> bool {
        list.iter().any(|c| c.type_ == type_ && c.status == "True")
    }
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

    #[test]
    fn a_period_is_a_duration_of_go_and_never_negative_or_endless() {
        assert_eq!(Period::from("1h30m").get(), Some(Duration::from_secs(5400)));
        assert_eq!(Period::from("-1s").get(), None);
        assert_eq!(Period::from("soon").get(), None);
        assert_eq!(Period::from("9999999h").get(), Some(Period::MAX));
    }

    #[test]
    fn a_condition_keeps_its_time_of_transition_until_its_status_changes() {
        let (then, later) = (Timestamp::from_second(10).unwrap(), Timestamp::from_second(20).unwrap());
        let mut list = Vec::new();
        conditions::set(&mut list, conditions::READY, false, "A", "", 1, then);
        conditions::set(&mut list, conditions::READY, false, "B", "", 2, later);
        assert_eq!((list[0].last_transition_time.0, list[0].reason.as_str()), (then, "B"));
        conditions::set(&mut list, conditions::READY, true, "C", "", 2, later);
        assert_eq!(list[0].last_transition_time.0, later);
    }
}
