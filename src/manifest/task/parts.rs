//! What a task works on: databases, volumes, repositories, databases aside.

use serde::{Deserialize, Serialize};

use crate::api::{S3Repository, UndoMethod};

/// One data of the environment that is a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeTask {
    /// Name of the data.
    pub name: String,
    /// Rollback: the snapshot that the run's status names as its undo point. Without one it is looked up by the run, and that
    /// there is none says that nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
}

/// An environment's own repository beside the exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnTask {
    /// Where it lies, if not on a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Task>,
}

/// Where a repository lies on S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Task {
    /// URL of the server.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What keys begin with; empty where the bucket is the repository's alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl S3Task {
    /// As the Environment names it.
    pub fn of(place: &S3Repository) -> Self {
        let S3Repository { endpoint, region, bucket, prefix, credentials_secret: _ } = place;
        Self {
            endpoint: endpoint.to_string(),
            region: region.to_string(),
            bucket: bucket.to_string(),
            prefix: prefix.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// One data of the environment that is a database. Its Secrets are mounted below [`super::SECRETS_DIR`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataTask {
    /// Name of the data.
    pub name: String,
    /// How it is to be undone.
    #[serde(default)]
    pub undo: UndoMethod,
    /// Under the lock: what told its database from others when the run was checked. Nothing is done on another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Preflight, Undo, Admit: the roles that migrations have of their own. Where there are any, they alone may connect from
    /// the undo point on until the application is admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<MigrationTask>,
}

/// A role that migrations have of their own. Its Secret is mounted below [`super::MIGRATIONS`] of the data, under the Secret's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationTask {
    /// Name of the Secret.
    pub secret: String,
    /// The keys that the migrations read of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// A database aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DropTask {
    /// Name of the data on whose server it is.
    pub data: String,
    /// Name of the database.
    pub database: String,
}
