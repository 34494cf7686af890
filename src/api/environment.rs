//! Environment: the standing policy of one namespace. What is in it, what may come from where, how it is locked,
//! backed up and verified.
//!
//! Here the spec as a whole, its rules across fields, and the smallest of its parts; the others have files of their own.

mod data;
mod maintenance;
mod modules;
mod sharing;
mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{data::*, maintenance::*, modules::*, sharing::*, status::*};
use super::common::*;

/// What an environment is: its place in the order of stages and the policy for all that changes it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lockkeeper.dev",
    version = "v1alpha1",
    kind = "Environment",
    plural = "environments",
    shortname = "env",
    category = "lockkeeper",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    doc = "An environment of one team in one namespace: what is in it, what may come from where, how it is locked, backed up and verified.",
    printcolumn = r#"{"name":"Tier","type":"string","jsonPath":".spec.tier"}"#,
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".status.shortRelease"}"#,
    printcolumn = r#"{"name":"Release hash","type":"string","jsonPath":".status.release.hash","priority":1}"#,
    printcolumn = r#"{"name":"Locked by","type":"string","jsonPath":".status.lock.holder.name"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters, because labels carry it")
)]
#[x_kube(
    validation = Rule::new("!has(self.data) || size(self.data) == 0 || has(self.backups)")
        .message("backups: an environment with data needs a repository for backups; name one under backups.repository and a Secret under backups.passwordSecret"),
    validation = Rule::new("!has(self.data) || !self.data.exists(d, has(d.volume)) || self.data.exists(d, has(d.postgres))")
        .message("data: a volume is guarded by the epoch of a database beside it, and there is none; name the application's database too"),
    validation = Rule::new("!has(self.data) || self.data.all(d, !has(d.volume) || (self.data.exists_one(e, has(e.volume) && e.volume.claim.name == d.volume.claim.name) && (!has(self.backups) || !has(self.backups.repository.volume) || self.backups.repository.volume.claim.name != d.volume.claim.name) && (!has(self.exchange) || !has(self.exchange.repository.volume) || self.exchange.repository.volume.claim.name != d.volume.claim.name)))")
        .message("data.volume.claim: named once, and never that of a repository"),
    validation = Rule::new("!has(self.data) || !self.data.exists(d, has(d.volume)) || self.data.all(d, d.name != 'volumes')")
        .message("data: a backup keeps the files of volumes under the name volumes; name the data otherwise"),
    validation = Rule::new("!(self.tier == 'Production' && has(self.protected) && !self.protected)")
        .message("protected: an environment of tier Production is always protected; remove the field or choose another tier"),
    validation = Rule::new("self.modules.all(m, !has(m.requires) || m.requires.all(r, r != m.name && self.modules.exists(n, n.name == r)))")
        .message("modules.requires: names another module of this Environment"),
    validation = Rule::new("!has(self.maintenance) || !has(self.maintenance.pause) || self.maintenance.pause.all(p, !self.modules.exists(m, m.workloads.exists(w, w.kind == p.kind && w.name == p.name)))")
        .message("maintenance.pause: a module's own workload goes down anyway; name it in one of the two"),
    validation = Rule::new("self.modules.all(m, m.workloads.all(w, self.modules.exists_one(n, w in n.workloads)))")
        .message("modules: a workload belongs to one module; it is named in two"),
    validation = Rule::new("!has(self.exchange) || !has(self.backups) || (self.exchange.passwordSecret.name != self.backups.passwordSecret.name && (!has(self.exchange.repository.volume) || !has(self.backups.repository.volume) || self.exchange.repository.volume.claim.name != self.backups.repository.volume.claim.name) && (!has(self.exchange.repository.s3) || !has(self.backups.repository.s3) || self.exchange.repository.s3.bucket != self.backups.repository.s3.bucket || self.exchange.repository.s3.endpoint != self.backups.repository.s3.endpoint || (has(self.exchange.repository.s3.prefix) ? self.exchange.repository.s3.prefix : '') != (has(self.backups.repository.s3.prefix) ? self.backups.repository.s3.prefix : '')))")
        .message("exchange: masked data never goes where backups are: another volume, or another bucket or prefix, and another password"),
    validation = Rule::new("!self.modules.exists(m, has(m.migration) && has(m.migration.connectionSecret)) || (has(self.data) && size(self.data) > 0)")
        .message("modules.migration.connectionSecret: there is no data whose connection it could stand for; name it under data, or take the field out"),
    validation = Rule::new("!has(self.data) || self.modules.all(m, !has(m.migration) || !has(m.migration.connectionSecret) || self.data.all(d, !has(d.postgres) || (d.postgres.connectionSecret.name != m.migration.connectionSecret.name && (!has(d.postgres.adminSecret) || d.postgres.adminSecret.name != m.migration.connectionSecret.name))))")
        .message("modules.migration.connectionSecret: a Secret of the data itself; a role of the migration's own has a Secret of its own")
)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSpec {
    /// The stage: Development, Staging or Production.
    pub tier: Tier,
    /// Whether customers consider this environment productive: data never flows into it from another, and all gates hold. Default: true for tier Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// The environments from which a release may come: this environment's consent. The source consents by the verb `promote`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "name"]))]
    pub promotes_from: Vec<EnvironmentRef>,
    /// The environments that a DownAlignment may mirror here: this environment's consent. The source consents by `grants`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "name"]))]
    pub aligns_from: Vec<EnvironmentRef>,
    /// Before each Promotion to here, the environment becomes a mirror of this one, within the Promotion's own slot; or it is said why not. An environment of tier Staging must say one of the two before anything is promoted to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align_before_promotion: Option<AlignBeforePromotion>,
    /// What this environment lets others take from it. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub grants: Vec<DataGrant>,
    /// What is delivered here, in the order of delivery where `requires` says no other.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub modules: Vec<Module>,
    /// The data that belongs to this environment: backed up before a change, fenced while locked, put back on failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub data: Vec<Data>,
    /// What is checked before anyone is locked out.
    #[serde(default)]
    pub preflight: Preflight,
    /// How users are locked out.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// Checks, in order, on the new release while users are still locked out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub verification: Vec<Verification>,
    /// Where backups go. Required where there is data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Backups>,
    /// Where masked data is handed over: each side of a DownAlignment names the same place, by a claim and a Secret of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// Who must say yes.
    #[serde(default)]
    pub approvals: Approvals,
    /// How many finished runs stay in the cluster, and for how long. Of backups only those that failed and left no snapshot, counted apart.
    #[serde(default)]
    pub history: History,
}

impl EnvironmentSpec {
    /// Whether no lower environment's data may ever be put here. Production always is.
    pub fn is_protected(&self) -> bool {
        self.tier == Tier::Production || self.protected.unwrap_or(false)
    }

    /// Whether a module has, or maintenance names, a workload of that kind.
    pub fn names(&self, kind: WorkloadKind) -> bool {
        self.modules.iter().flat_map(|m| &m.workloads).chain(&self.maintenance.pause).any(|w| w.kind == kind)
    }

    /// The module of that name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|m| &*m.name == name)
    }
}

/// The stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tier {
    /// Where work is done.
    Development,
    /// Where a release is tested.
    Staging,
    /// Where customers are.
    Production,
}

/// Who must say yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// How many people must approve. Default 1.
    #[serde(default = "Approvals::default_required")]
    #[schemars(range(min = 0, max = 16))]
    pub required: u32,
    /// Whether the requester's own approval counts. Default false.
    #[serde(default)]
    pub requester_may_approve: bool,
}

impl Approvals {
    fn default_required() -> u32 {
        1
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Self { required: Self::default_required(), requester_may_approve: false }
    }
}

/// Which finished runs stay in the cluster. Beyond either bound they are deleted, the oldest first. Abandoned runs stay: a
/// person deletes them once all that they list is put right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How many at most. Default 20.
    #[serde(default = "History::default_keep")]
    #[schemars(range(min = 0, max = 1000))]
    pub keep: u32,
    /// For how long at most. Default 2160h, which is 90 days.
    #[serde(default = "History::default_keep_within")]
    pub keep_within: Period,
}

impl History {
    fn default_keep() -> u32 {
        20
    }
    fn default_keep_within() -> Period {
        "2160h".into()
    }
}

impl Default for History {
    fn default() -> Self {
        Self { keep: Self::default_keep(), keep_within: Self::default_keep_within() }
    }
}
