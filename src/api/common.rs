//! Shapes that several kinds share: references, schemas of standard fields, what is said of failures and of progress. Bounded
//! strings, releases, sizes and conditions have files of their own.

pub mod conditions;
mod release;
pub mod size;
mod text;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use self::{release::*, text::*};

/// An instant, RFC 3339, to the millisecond. Steps of a lock are measured in fractions of a second.
pub type Timestamp = jiff::Timestamp;

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
