//! The data of an environment, how a failed run is undone, and where its backups go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{common::*, repository::Repository};

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
