//! The protocol between the operator and its Jobs.
//!
//! A Job runs `lockkeeper agent VERB` with its [`Task`] as JSON in the environment variable [`TASK_ENV`]. A task carries no
//! secret and no row: secrets are files below [`SECRETS_DIR`]. Progress is JSON lines on stdout; the [`Outcome`], at most
//! 4 KiB of JSON, is the container's termination message at [`RESULT_PATH`]. Exit codes are in [`exit`].

mod outcome;
mod parts;

use serde::{Deserialize, Serialize};

pub use self::{outcome::*, parts::*};
use crate::api::{Locale, Retention};

/// The environment variable that holds the task.
pub const TASK_ENV: &str = "LOCKKEEPER_TASK";
/// Where the outcome is written: the container's `terminationMessagePath`.
pub const RESULT_PATH: &str = "/dev/termination-log";
/// Kubernetes keeps no more of a termination message.
pub const RESULT_LIMIT: usize = 4096;
/// Below this, `<data>/connection` and `<data>/admin` hold the keys of the data's Secrets as files.
pub const SECRETS_DIR: &str = "/lockkeeper/data";
/// Below the directory of a data: the Secrets of roles that migrations have of their own.
pub const MIGRATIONS: &str = "migrations";
/// Below this, under the data's name, the volume of a data that is one.
pub const VOLUMES_DIR: &str = "/lockkeeper/volumes";
/// Where the backup repository's volume is mounted.
pub const REPOSITORY_DIR: &str = "/lockkeeper/repository";
/// The directory that holds the file `password` of the repository.
pub const REPOSITORY_PASSWORD_DIR: &str = "/lockkeeper/repository-password";
/// The directory that holds the keys of the Secret with which S3 is asked, where the repository lies there.
pub const REPOSITORY_CREDENTIALS_DIR: &str = "/lockkeeper/repository-credentials";
/// Below this, in a Job that takes masked data, the environment's own backup repository: [`OWN_REPOSITORY`], [`OWN_PASSWORD`] and
/// [`OWN_CREDENTIALS`], as the three above hold the exchange's.
pub const OWN_DIR: &str = "/lockkeeper/own";
/// See [`OWN_DIR`].
pub const OWN_REPOSITORY: &str = "repository";
/// See [`OWN_DIR`].
pub const OWN_PASSWORD: &str = "repository-password";
/// See [`OWN_DIR`].
pub const OWN_CREDENTIALS: &str = "repository-credentials";
/// The directory that holds the keys of the Secret of the server on which restores are proven, where that is one of its own.
pub const PROOF_DIR: &str = "/lockkeeper/proof";
/// The directory that holds the file `key` of the MaskingPolicy's Secret, where it keeps one.
pub const MASKING_KEY_DIR: &str = "/lockkeeper/masking-key";
/// Where a gated task reads its epoch, and after it the addresses of [`Task::covered_addresses`]: a file that is empty until
/// the operator writes [`crate::api::annotations::GATE`].
pub const GATE_PATH: &str = "/lockkeeper/gate/epoch";
/// Where the page of an environment's own is mounted, as `index.html`.
pub const PAGE_DIR: &str = "/lockkeeper/page";
/// Where the copy of a masking policy is mounted, as [`POLICY_FILE`].
pub const POLICY_DIR: &str = "/lockkeeper/masking";
/// The spec of a MaskingPolicy as JSON: a key of a ConfigMap, and a file below [`POLICY_DIR`].
pub const POLICY_FILE: &str = "policy.json";
/// Scratch space: an emptyDir, also the only writable path beside the repository.
pub const SCRATCH_DIR: &str = "/tmp";

/// The reason of a fence that closed nothing, because Secrets lead elsewhere since the run was checked.
pub const SECRET_CHANGED: &str = "SecretChanged";

/// Exit codes of `lockkeeper agent`.
pub mod exit {
    /// The task is done; the outcome says what was found.
    pub const DONE: i32 = 0;
    /// It cannot be done, and trying again will not help.
    pub const PERMANENT: i32 = 2;
    /// The control database knows a newer epoch: another lock rules. Nothing was changed.
    pub const FENCED: i32 = 3;
    /// It failed in a way that may pass; the operator counts attempts.
    pub const RETRYABLE: i32 = 1;
}

/// What `lockkeeper agent` can be asked to do, by the verb on its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Reads: rights, sizes, transactions, sessions, repository. Makes the control database. Changes nothing else.
    Preflight,
    /// Dumps the data into the repository.
    Backup,
    /// Restores the snapshot beside the data, compares, drops the scratch.
    Prove,
    /// Masks the data into the exchange: nothing leaves its namespace as it is.
    Snapshot,
    /// Takes the epoch in the control database, closes the database, ends its sessions, observes that none is left.
    Fence,
    /// Makes the undo point, then opens the database for the run alone.
    Undo,
    /// Lets the application's role in again, where migrations with a role of their own were alone.
    Admit,
    /// Gives the database back as it was found; keeps the undo point aside.
    Release,
    /// Fences again and swaps the undo point in; the failed database is kept aside.
    Rollback,
    /// Puts data back: loads a snapshot beside the fenced database and compares it, or takes a database aside; then both change
    /// names, and the database opens for the run alone.
    Restore,
    /// Drops databases kept aside.
    Drop,
    /// Removes snapshots that retention lets go.
    Prune,
    /// Drops the control databases. The environment is being deleted.
    Forget,
    /// Asks a URL until the answer's status is the expected one.
    Http,
    /// Serves the maintenance page until ended.
    Page,
    /// Holds a masking policy against the catalog. Reads the catalog and nothing else.
    Classify,
    /// Proposes a masking policy on stdout: from the catalog, and from a sample of rows of which nothing is written.
    Draft,
}

impl Verb {
    /// The word on the command line, in names of Jobs and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Backup => "backup",
            Self::Prove => "prove",
            Self::Snapshot => "snapshot",
            Self::Fence => "fence",
            Self::Undo => "undo",
            Self::Admit => "admit",
            Self::Release => "release",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Drop => "drop",
            Self::Prune => "prune",
            Self::Forget => "forget",
            Self::Http => "http",
            Self::Page => "page",
            Self::Classify => "classify",
            Self::Draft => "draft",
        }
    }
}

/// A task. What a verb does not need is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// What to do; the same word as on the command line.
    pub verb: Verb,
    /// What to do next in the same pod, once that is done. A pod's start costs more than most verbs do, and users wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Verb>,
    /// Whether to wait at [`GATE_PATH`] first and take the epoch from there: a pod that is started before its turn costs users
    /// no time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gated: bool,
    /// UID of the run for which it is done.
    pub run: String,
    /// Kind, namespace and name of the run, for messages: `Promotion shop-production/flags-7-4`.
    pub run_name: String,
    /// UID of the Environment: names its control databases and binds its backups.
    pub environment: String,
    /// Namespace and name of the Environment, for messages.
    pub environment_name: String,
    /// The epoch of the run's lock. Present for every verb that changes something under the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The data to work on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataTask>,
    /// The data that are volumes. Where a verb works on their files they are mounted below [`VOLUMES_DIR`], and the repository is
    /// there too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeTask>,
    /// Backup: words for the snapshot's description. Prove, Restore, and Preflight of a restore: the snapshot, or its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Preflight: a transaction older than this, in seconds, fails the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_transaction_age_seconds: Option<u64>,
    /// Preflight: factor of the data's size that must be free in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_free_factor: Option<f64>,
    /// Addresses of pods whose sessions are looked for. Preflight: of those that go down while locked; sessions from elsewhere
    /// are not covered by maintenance. Release: of those that the run started; sessions from elsewhere came while only the run
    /// may work there, and are ended. Without one, none are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covered_addresses: Vec<String>,
    /// Prune, and Snapshot after it has written: what retention keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Prune: snapshots that stay, whatever retention says. Their beginnings are enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Prune: snapshots that go, whatever retention says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Snapshot: the hash of the policy that [`Self::policy`] must be a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masking_policy_hash: Option<String>,
    /// Snapshot: the release that the source runs: its data fits no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Snapshot: one that was masked no longer ago, in seconds, by the same policy, of the same data and release, serves again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_within_seconds: Option<u64>,
    /// Restore of a DownAlignment: the UID of the Environment whose masked data it is, of which the snapshot must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether a repository is mounted.
    #[serde(default)]
    pub repository: bool,
    /// Prove, Preflight of a run that makes a backup, and Forget: whether restores are proven on a server of its own, whose Secret
    /// is mounted at [`PROOF_DIR`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proof: bool,
    /// Where the repository lies, if not on a volume. Its credentials are mounted at [`REPOSITORY_CREDENTIALS_DIR`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Task>,
    /// Restore of a DownAlignment with volumes: the environment's own repository is mounted below [`OWN_DIR`], for what undoes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnTask>,
    /// Drop: the databases to drop. Restore, and its Preflight: the databases aside that become live again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DropTask>,
    /// Http: the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Http: the expected status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<u16>,
    /// Http: how long to go on asking, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Page: the port to listen on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Page: the value of Retry-After, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// Classify and Snapshot: the ConfigMap with the policy's copy ([`super::masking`]), mounted at [`POLICY_DIR`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Draft: the language of what is proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
}

impl Task {
    /// A task with nothing but the verb, and for whom it is done.
    pub fn new(verb: Verb, owner: super::Owner<'_>, (environment, environment_name): (String, &str)) -> Self {
        Self {
            verb,
            then: None,
            gated: false,
            run: owner.uid.to_owned(),
            run_name: format!("{} {}/{}", owner.kind, owner.namespace, owner.name),
            environment,
            environment_name: format!("{}/{environment_name}", owner.namespace),
            epoch: None,
            data: Vec::new(),
            volumes: Vec::new(),
            snapshot: None,
            max_transaction_age_seconds: None,
            minimum_free_factor: None,
            covered_addresses: Vec::new(),
            retention: None,
            keep: Vec::new(),
            remove: Vec::new(),
            masking_policy_hash: None,
            release: None,
            reuse_within_seconds: None,
            origin: None,
            repository: false,
            proof: false,
            s3: None,
            own: None,
            databases: Vec::new(),
            url: None,
            expect_status: None,
            timeout_seconds: None,
            port: None,
            retry_after_seconds: None,
            policy: None,
            locale: None,
        }
    }

    /// Whether it is about putting data back.
    pub fn restores(&self) -> bool {
        self.snapshot.is_some() || !self.databases.is_empty()
    }

    /// The tasks of those data that are databases.
    pub fn data_of<'a>(data: impl IntoIterator<Item = &'a crate::api::Data>) -> Vec<DataTask> {
        let databases = data.into_iter().filter(|d| d.postgres.is_some());
        databases
            .map(|d| DataTask { name: d.name.to_string(), undo: d.undo.method, mark: None, migrations: Vec::new() })
            .collect()
    }

    /// The tasks of those data that are volumes.
    pub fn volumes_of<'a>(data: impl IntoIterator<Item = &'a crate::api::Data>) -> Vec<VolumeTask> {
        data.into_iter().filter(|d| d.volume.is_some()).map(|d| VolumeTask { name: d.name.to_string(), undo: None }).collect()
    }
}
