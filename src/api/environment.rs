//! Environment: the standing policy of one namespace. What is in it, what may come from where, how it is locked,
//! backed up and verified.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{common::*, repository::Repository};

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
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".status.release.hash"}"#,
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

/// Data that belongs to an environment: exactly one of `postgres` and `volume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.postgres) != has(self.volume)").message("data: exactly one of: postgres, volume"),
    validation = Rule::new("!has(self.volume) || !has(self.undo) || !has(self.undo.method) || self.undo.method != 'Clone'")
        .message("data.undo.method: a volume is not cloned; its undo point is a second backup, so leave the method out")
)]
pub struct Data {
    /// Name of the data, the same in all environments.
    pub name: ShortName,
    /// A PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// The files of a volume. No pod mounts it while locked. What no MaskingPolicy lists never leaves its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<FileVolume>,
    /// How a failed run is undone.
    #[serde(default)]
    pub undo: Undo,
}

/// A PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Secret with the application's connection, keys as CloudNativePG writes them: `uri`, or `host`, `port`, `dbname`, `user`, `password`.
    pub connection_secret: LocalRef,
    /// Secret with the admin role's connection: a member of the database's owner with CREATEDB, `pg_signal_backend` and `pg_read_all_stats`. Default: connectionSecret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_secret: Option<LocalRef>,
}

impl Data {
    /// The claim of a volume; none of a database.
    pub fn claim(&self) -> Option<&str> {
        self.volume.as_ref().map(|v| &*v.claim.name)
    }
}

/// The files of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileVolume {
    /// The PersistentVolumeClaim. Its files are read and put back as the user of the workload that mounts it (securityContext): all must be that user's.
    pub claim: LocalRef,
}

/// How a failed run is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// Auto takes the first that is possible, and says which. Clone: a copy made by the server, under the lock. Backup: a second backup into the repository, under the lock; only what has changed is stored, and undoing takes a restore. Of a volume it is always the second backup.
    #[serde(default)]
    pub method: UndoMethod,
    /// How long the other database is kept after a run: the undo point after a success, the failed database after a rollback. Default 24h.
    #[serde(default = "Undo::default_keep_for")]
    pub keep_for: Period,
}

impl Undo {
    fn default_keep_for() -> Period {
        "24h".into()
    }
}

impl Default for Undo {
    fn default() -> Self {
        Self { method: UndoMethod::Auto, keep_for: Self::default_keep_for() }
    }
}

/// Ways to undo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UndoMethod {
    /// The first that is possible.
    #[default]
    Auto,
    /// A copy made by the server.
    Clone,
    /// A second backup, made under the lock.
    Backup,
}

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

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backups {
    /// The place.
    pub repository: Repository,
    /// Secret with the repository's password, key `password`. Without it a backup cannot be read again.
    pub password_secret: LocalRef,
    /// Which backups stay. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// When backups are made by themselves: five fields as in cron (minute, hour, day, month, weekday), in UTC. A time that was missed is made up for once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CronSchedule>,
    /// A server of its own on which restores are proven. Absent: the server of each data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofServer>,
}

/// A server on which restores are proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProofServer {
    /// Secret with the connection, keys as in a data's connectionSecret; without `dbname` it is `postgres`. Its role needs CREATEDB, and CONNECT on that database. The server is of the same major version as each data's, or newer.
    pub connection_secret: LocalRef,
}

/// What happens before each Promotion: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.from) != has(self.disabled)").message("alignBeforePromotion: exactly one of: from, disabled"))]
pub struct AlignBeforePromotion {
    /// The environment that is mirrored. It must be among alignsFrom, and grant its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EnvironmentRef>,
    /// Nothing is mirrored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
}

/// That something is left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disabled {
    /// Why, in words.
    pub reason: Line,
}

/// What an environment lets another take from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataGrant {
    /// Who takes it.
    pub to: EnvironmentRef,
    /// Which data. Default: all.
    #[serde(default)]
    pub data: super::backup::DataSelection,
    /// What becomes of each value before it leaves.
    pub masking_policy: GrantedPolicy,
}

/// A MaskingPolicy, as it was when the grant was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedPolicy {
    /// Name of the MaskingPolicy, in this namespace.
    pub name: ObjectName,
    /// Its `status.hash`. A policy that was changed since takes nothing out until the grant names its new hash.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub hash: String,
}

/// Where masked data is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The place: a volume that is bound in both namespaces, or S3.
    pub repository: Repository,
    /// Secret with the exchange's password, key `password`, the same on both sides. Never that of the backups.
    pub password_secret: LocalRef,
    /// How long masked snapshots stay; older ones go when the next is written. The newest stays. Default 168h.
    #[serde(default = "Exchange::default_keep_within")]
    pub keep_within: Period,
    /// Of the source: a masked snapshot whose data was read no longer ago is handed over again, to every environment that is granted the same data by the same policy, as long as the source runs the same release. Absent: each DownAlignment has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_within: Option<Period>,
}

impl Exchange {
    /// How long a run may take to load what it was handed: what is handed over again must not go meanwhile.
    const IN_USE: Duration = Duration::from_secs(24 * 3600);

    fn default_keep_within() -> Period {
        "168h".into()
    }

    /// How long masked snapshots stay: as long as the Environment says, and until whoever was handed one has loaded it.
    fn kept_within(&self) -> Period {
        let in_use = self.reuse_within.as_ref().and_then(Period::get).map(|reuse| reuse + Self::IN_USE);
        match (self.keep_within.get(), in_use) {
            (Some(keep), Some(in_use)) if keep < in_use => Period(format!("{}s", in_use.as_secs())),
            _ => self.keep_within.clone(),
        }
    }

    /// The exchange as a place that a Job mounts.
    pub fn place(&self) -> Backups {
        Backups {
            repository: self.repository.clone(),
            password_secret: self.password_secret.clone(),
            retention: Some(Retention { keep_last: None, keep_within: Some(self.kept_within()) }),
            schedule: None,
            proof: None,
        }
    }
}

/// Which backups stay: those that either member keeps. The newest proven one always does, and what is marked `keep` or an unfinished run refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.keepLast) || has(self.keepWithin)").message("retention: name keepLast, keepWithin or both"))]
pub struct Retention {
    /// As many of the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_last: Option<u32>,
    /// Those that are not older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Period>,
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

/// What the operator knows of an environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// Ready, Reconciling, Stalled. Written by the Environment's controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The run whose turn it is. No outage yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<RunRef>,
    /// The lock. The epoch stays when the holder goes, and only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// What runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The last promotion that changed this environment, or tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_promotion: Option<LastPromotion>,
    /// The last proven backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// The last time of backups.schedule for which a backup was made, or from which on times count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub last_scheduled_backup: Option<Timestamp>,
    /// When backups.retention was last carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub pruned_at: Option<Timestamp>,
    /// Databases kept aside, and until when. This environment deletes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kept: Vec<Kept>,
    /// The ledger: runs that have ended here, the newest last. A run made again with the same name and spec does not run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub finished: Vec<Finished>,
    /// Fields of newer versions.
    #[serde(flatten)]
    #[schemars(skip)]
    pub remainder: Remainder,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// Kind of the run.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the run.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Hash of its spec, without what people add later (approvals, cancel, intervention).
    #[schemars(length(max = 80))]
    pub spec_hash: String,
    /// When it ended.
    #[schemars(schema_with = "timestamp_schema")]
    pub at: Timestamp,
    /// The phase in which it ended.
    #[schemars(length(max = 32))]
    pub phase: String,
}

/// Who holds an environment locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// Counts the locks. What carries an older epoch may no longer write.
    pub epoch: i64,
    /// The run that holds the lock. None: users are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<RunRef>,
    /// When the lock was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_timestamp_schema")]
    pub since: Option<Timestamp>,
}

/// How the last promotion ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPromotion {
    /// Name of the Promotion.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The phase in which it ended.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// Hash of the release that it brought, or tried to bring.
    #[schemars(length(max = 80))]
    pub release: String,
    /// When it ended.
    #[schemars(schema_with = "timestamp_schema")]
    pub at: Timestamp,
}

/// The last proven backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Name of the EnvironmentBackup.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Snapshot in the repository.
    #[schemars(length(max = 128))]
    pub snapshot: String,
    /// When it was proven by a restore.
    #[schemars(schema_with = "timestamp_schema")]
    pub proven_at: Timestamp,
}

/// A database kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Name of the data.
    #[schemars(length(max = 63))]
    pub data: String,
    /// Name of the database on the data's server. Empty where a snapshot is kept instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub database: String,
    /// Snapshot in the repository, where that is the undo point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub snapshot: Option<String>,
    /// The run that left it.
    pub run: RunRef,
    /// When it is deleted.
    #[schemars(schema_with = "timestamp_schema")]
    pub until: Timestamp,
}
