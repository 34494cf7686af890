//! MaskingPolicy: what becomes of each column before data leaves the namespace of its owner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::*;

/// What becomes of each column before data leaves. Belongs to the data's owner and lives in its namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "lockkeeper.dev",
    version = "v1alpha1",
    kind = "MaskingPolicy",
    plural = "maskingpolicies",
    shortname = "mask",
    category = "lockkeeper",
    namespaced,
    status = "MaskingPolicyStatus",
    derive = "PartialEq",
    doc = "What becomes of each column of an environment's data before it leaves the namespace. Fails closed: a column that is not named lets nothing out.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Hash","type":"string","jsonPath":".status.hash"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters, because labels carry it")
)]
#[serde(rename_all = "camelCase")]
pub struct MaskingPolicySpec {
    /// The Secret, in the same namespace, whose key `key` makes the substitutes: with the same key they are the same in every table, run and environment, and so pseudonyms. Absent: a random key for each snapshot, thrown away after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<LocalRef>,
    /// The data that this policy speaks of, by the names in the Environment of this namespace.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub data: Vec<MaskingData>,
}

/// The tables of one data, or the files of one that is a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.tables) && has(self.files))")
        .message("data: tables are of a database and files of a volume; name one of them")
)]
pub struct MaskingData {
    /// Name of the data in the Environment.
    pub name: ShortName,
    /// Its tables. Each must be named; partitions and children follow the table they belong to unless they are named themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["table"]))]
    pub tables: Vec<MaskingTable>,
    /// Of a volume: which of its files leave, as they are. Without it none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<MaskingFiles>,
}

/// Which files of a volume leave. Nothing in them is masked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaskingFiles {
    /// Patterns of paths below the volume: `avatars/default/**`, `**/*.css`, `logo.{png,svg}`. A path that matches one leaves, with the names of the directories that lead to it; no other name and no other file does. `*` and `?` do not cross a `/`, `**` does; a backslash before a character takes it literally. A pattern of a directory alone takes nothing that is in it.
    #[schemars(length(min = 1, max = 64))]
    pub include: Vec<Glob>,
}

/// What becomes of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaskingTable {
    /// The table with its schema: `public.users`.
    pub table: TableName,
    /// Which rows leave. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
    /// What becomes of each column, by its name. Every column must be named, unless no row leaves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1600))]
    pub columns: BTreeMap<String, Mask>,
}

/// Which rows leave: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Rows {
    /// No row leaves; the table is there, empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<Empty>,
    /// Rows for which this SQL condition over the table's columns holds, as they are before masking.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<SqlCondition>,
}

/// What becomes of a column: exactly one member. NULL and empty text stay what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Mask {
    /// The value leaves as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// The same neutral value for all: `redacted`, 0, false, 2000-01-01, an empty list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact: Option<Empty>,
    /// NULL for all. In YAML the word is quoted: `{"null": {}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null: Option<Empty>,
    /// A keyed hash of the value: hexadecimal digits in text, a permutation in whole numbers, a UUID in a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashMask>,
    /// What is computed from another column, computed from its masked value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derive: Option<Derive>,
    /// A value that looks real and is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake: Option<Fake>,
    /// A date moved by a number of days that is the same for all dates of one subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<Shift>,
    /// A number changed by some percent, its sign and number of digits kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// JSON of which only named paths leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonMask>,
    /// Text made of the masked values of other columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

/// A value that leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keep {
    /// Why, in words. Needed where the column looks personal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Line>,
}

/// A keyed hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashMask {
    /// Within one domain equal values get equal substitutes. Default: the column alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

/// What is computed from another column of the table, or from a value in its JSON (`parts$.given_name`): exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Derive {
    /// SHA-256 of that column's masked value, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_of: Option<ColumnName>,
    /// MD5 of that column's masked value, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5_of: Option<ColumnName>,
    /// That column's masked value in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_of: Option<ColumnName>,
    /// That column's masked value: a cached copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<ColumnName>,
}

/// A value that looks real and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fake {
    /// What it looks like.
    pub kind: FakeKind,
    /// Within one domain equal values get equal substitutes of a kind. Default: the column alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// The language of names, places and telephone numbers. Default: en.
    #[serde(default)]
    pub locale: Locale,
}

/// What a substitute looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FakeKind {
    /// A first name.
    FirstName,
    /// A last name.
    LastName,
    /// A first and a last name.
    FullName,
    /// A name to log in with. Different for different values.
    Username,
    /// An address at a domain that is reserved and has no mail. Different for different values.
    Email,
    /// A telephone number of a range that nobody has.
    Phone,
    /// A street with a number.
    Street,
    /// A city.
    City,
    /// A postcode.
    Postcode,
    /// A company.
    Company,
    /// An IBAN of no bank, with right check digits.
    Iban,
    /// A card number of a test range, with the right check digit.
    Card,
    /// An address of the ranges kept for documentation.
    Ip,
    /// A random UUID. Different for different values.
    Uuid,
    /// A URL at a reserved domain. Different for different values.
    Url,
    /// Words, about as long as the value.
    Text,
    /// The value's own shape: letters stay letters, digits digits, all else stays. A permutation: different for different values.
    Shape,
}

/// The language of a substitute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Locale {
    /// English.
    #[default]
    En,
    /// Spanish.
    Es,
    /// Catalan.
    Ca,
}

/// A date moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shift {
    /// The column that says whose date it is, as it is before masking: equal values move by equal amounts, in every table.
    pub subject: ColumnName,
    /// By at most so many days, in either direction. Default 90.
    #[serde(default = "Shift::days")]
    #[schemars(range(min = 1, max = 36500))]
    pub days: i32,
}

impl Shift {
    fn days() -> i32 {
        90
    }
}

/// A number changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Noise {
    /// By at most so many percent, in either direction. Default 10.
    #[serde(default = "Noise::percent")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
}

impl Noise {
    fn percent() -> i32 {
        10
    }
}

/// JSON of which only named paths leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JsonMask {
    /// By path: `$.theme`, `$.users[*].email`, `$['a name']`, `$.byId.*`. The longest path that fits a value decides; what none names is redacted, names of members too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 512))]
    pub paths: BTreeMap<String, JsonPathMask>,
}

/// What becomes of a value in JSON and of all beneath it: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct JsonPathMask {
    /// It leaves as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// `redacted`, 0, false, an empty list or object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact: Option<Empty>,
    /// null. In YAML the word is quoted: `{"null": {}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null: Option<Empty>,
    /// A keyed hash of text; a permutation of whole numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashMask>,
    /// A value that looks real and is not, in place of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake: Option<Fake>,
    /// A number changed by some percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

/// Text made of other columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Literal text with masked values of other columns in braces: `user-{id}@example.org`. Braces themselves are doubled. Of a column that holds JSON, a path of names leads to a value: `{parts$.given_name} {parts$.family_name}`; then spaces are put in order, and what the column has no room for is cut.
    pub text: TemplateText,
}

/// What the operator knows of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaskingPolicyStatus {
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hash of the spec: `sha256:` and 64 hexadecimal digits. What a grant names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub hash: Option<String>,
    /// For each data, whether all of its columns are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub coverage: Vec<Coverage>,
    /// When the catalog was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub classified_at: Option<Timestamp>,
    /// Fields of newer versions.
    #[serde(flatten)]
    #[schemars(skip)]
    pub remainder: Remainder,
}

/// How much of a data a policy names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Name of the data.
    #[schemars(length(max = 63))]
    pub data: String,
    /// The columns that it has.
    pub columns: i64,
    /// Those of them that the policy names, or of whose table no row leaves.
    pub classified: i64,
    /// The first of those that it does not name, as `schema.table.column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 191)))]
    pub unknown: Vec<String>,
}
