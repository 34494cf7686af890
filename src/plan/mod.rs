//! What to do next, as pure functions: `(World, now) -> Decision`. No client, no clock, no environment variable.
//!
//! A decision either advances a status or performs one effect, never both: what is intended stands in the status before
//! anything irreversible is done, so that a crash at any point is a replay. One file a kind ([`promotion`], [`backup`],
//! [`environment`]); beside them the small deciders that they share.

pub mod agents;
pub mod alignment;
pub mod approval;
pub mod backup;
pub mod cron;
pub mod environment;
pub mod environment_backups;
pub mod environment_grants;
pub mod foreign;
pub mod forward;
pub mod graph;
pub mod history;
pub mod intervention;
pub mod jobs;
pub mod ledger;
pub mod lock;
pub mod maintenance;
pub mod masking;
pub mod migration;
pub mod modules;
pub mod moved;
pub mod opening;
pub mod preflight;
pub mod prepare;
pub mod progress;
pub mod promotion;
pub mod queue;
pub mod release;
pub mod restore;
pub mod retention;
pub mod rollback;
pub mod scalers;
pub mod steps;
pub mod trouble;
pub mod volumes;
pub mod workload;
pub mod world;

use serde_json::Value;

use crate::api::{EnvironmentStatus, Timestamp};

/// What to do next for a run whose status is an `S`.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<S> {
    /// Write this status. Nothing else happens in this turn.
    Advance(Box<S>),
    /// Do this one thing. The status stays as it is.
    Perform(Effect),
    /// Nothing to do until something watched changes, or until this instant.
    Wait(Option<Timestamp>),
}

/// Resources that the operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `batch/v1` CronJob.
    CronJob,
    /// `keda.sh/v1alpha1` ScaledObject.
    ScaledObject,
    /// `v1` Service.
    Service,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `batch/v1` Job.
    Job,
    /// `v1` Pod.
    Pod,
    /// EnvironmentBackup.
    EnvironmentBackup,
    /// DownAlignment.
    DownAlignment,
    /// Promotion.
    Promotion,
    /// EnvironmentRestore.
    EnvironmentRestore,
}

/// How the API server applies a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// JSON merge patch: lists are replaced whole.
    Merge,
    /// Strategic merge patch: containers are merged by name.
    Strategic,
}

/// One change outside the run's own status, in the run's namespace unless it says another.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Puts the finalizer on the run itself.
    AddFinalizer,
    /// Takes the finalizer off the run itself.
    RemoveFinalizer,
    /// Makes an object. That it is there already, made for the same run, is success.
    Create {
        /// Its resource.
        resource: Resource,
        /// The whole object.
        manifest: Box<Value>,
    },
    /// Changes an object, guarded by the resourceVersion inside the patch.
    Patch {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
        /// How the patch is applied.
        kind: PatchKind,
        /// The patch, with `metadata.resourceVersion`.
        patch: Box<Value>,
    },
    /// Deletes an object. That it is gone already is success.
    Delete {
        /// Its resource.
        resource: Resource,
        /// Its name.
        name: String,
        /// Its UID: an object made again under the name is left alone.
        uid: String,
        /// Seconds that its pods may take; `None`: what the object says.
        grace: Option<u32>,
    },
    /// Replaces the Environment's status, guarded by the resourceVersion that was read.
    SetEnvironment {
        /// Name of the Environment.
        name: String,
        /// The resourceVersion that was read.
        resource_version: String,
        /// The new status.
        status: Box<EnvironmentStatus>,
    },
    /// An effect in another namespace: what a DownAlignment does where its data comes from.
    In {
        /// The namespace.
        namespace: String,
        /// What is made or deleted there.
        effect: Box<Effect>,
    },
}

impl Effect {
    /// The effect in words, for logs.
    pub fn describe(&self) -> String {
        match self {
            Self::AddFinalizer => "add the finalizer".into(),
            Self::RemoveFinalizer => "remove the finalizer".into(),
            Self::Create { resource, manifest } => {
                format!("create {resource:?} {}", manifest["metadata"]["name"].as_str().unwrap_or("?"))
            }
            Self::Patch { resource, name, .. } => format!("patch {resource:?} {name}"),
            Self::Delete { resource, name, .. } => format!("delete {resource:?} {name}"),
            Self::SetEnvironment { name, .. } => format!("set the status of Environment {name}"),
            Self::In { namespace, effect } => format!("{} in {namespace}", effect.describe()),
        }
    }
}

/// What a step has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// One more thing to do for it.
    Do(Effect),
    /// It goes on by itself; look again when something changes, or at this instant.
    Waiting {
        /// What is waited for, in words. Must not change from one look to the next.
        what: String,
        /// When to look again at the latest.
        until: Option<Timestamp>,
    },
    /// It is done.
    Done(Option<String>),
    /// It failed in a way that may pass: try again, counted.
    Retry(String),
    /// It failed.
    Failed {
        /// One word for programs.
        reason: String,
        /// Which object, what is wrong, what to do.
        message: String,
    },
}

impl Progress {
    /// A failure.
    pub fn failed(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), message: message.into() }
    }

    /// Waiting without a time.
    pub fn waiting(what: impl Into<String>) -> Self {
        Self::Waiting { what: what.into(), until: None }
    }
}

/// A timestamp cut to milliseconds, so that what is written equals what is read back.
pub fn millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// `at` plus a span, or the end of time where that is later than time goes.
pub fn after(at: Timestamp, span: std::time::Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
