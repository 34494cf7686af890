//! The kinds of `lockkeeper.dev/v1alpha1`: types, schema rules and the words they use.
//!
//! Nothing here does I/O. Bounds and CEL rules stand beside the fields, so that `kubectl explain`, the API server and
//! this program read the same text. A field enters the schema when it works, never before.

pub mod alignment;
pub mod backup;
pub mod common;
pub mod crds;
pub mod environment;
pub mod masking;
pub mod policies;
pub mod promotion;
pub mod repository;
pub mod restore;
pub mod rights;

pub use alignment::*;
pub use backup::*;
pub use common::*;
pub use environment::*;
pub use masking::*;
pub use promotion::*;
pub use repository::*;
pub use restore::*;

/// The API group of all kinds, of the custom verbs, and the prefix of labels and annotations.
pub const GROUP: &str = "lockkeeper.dev";

/// The API version in the form that manifests use.
pub const API_VERSION: &str = "lockkeeper.dev/v1alpha1";

/// The field manager under which the operator writes.
pub const FIELD_MANAGER: &str = "lockkeeper";

/// The finalizer that keeps a run until what it holds is given back.
pub const FINALIZER: &str = "lockkeeper.dev/run";

/// The finalizer that keeps an Environment until its databases aside and its control databases are gone.
pub const ENVIRONMENT_FINALIZER: &str = "lockkeeper.dev/environment";

/// Labels on everything the operator makes.
pub mod labels {
    /// UID of the run for which an object was made.
    pub const RUN: &str = "lockkeeper.dev/run";
    /// Step of the run for which an object was made.
    pub const STEP: &str = "lockkeeper.dev/step";
    /// On the maintenance page's pods: the UID of the run that shows the page. Services select it while locked.
    pub const PAGE: &str = "lockkeeper.dev/page";
    /// On the agent's pods: the verb that they do. NetworkPolicies of the chart lockkeeper-environment select by it.
    pub const AGENT: &str = "lockkeeper.dev/agent";
    /// Common label that says which program manages an object.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The value of [`MANAGED_BY`].
    pub const MANAGER: &str = "lockkeeper";
}

/// Annotations on objects of the environment.
pub mod annotations {
    /// On a changed object: the run, its epoch, and the values found before the change, as JSON ([`crate::manifest::found`]).
    pub const FOUND: &str = "lockkeeper.dev/found";
    /// On the pod of a Job that was made before its turn: the epoch under which its work may begin.
    pub const GATE: &str = "lockkeeper.dev/gate";
    /// On a Job that masks data: the name of the MaskingPolicy whose key it mounts.
    pub const MASKING_POLICY: &str = "lockkeeper.dev/masking-policy";
}

/// The custom verbs on `environments`, checked by admission policies and, before a run starts, by the operator.
pub mod verbs {
    use k8s_openapi::api::authorization::v1::ResourceAttributes;

    /// A verb on an Environment, as access reviews ask for it.
    pub fn on_environment(verb: &str, namespace: &str, name: &str) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(super::GROUP.into()),
            resource: Some("environments".into()),
            verb: Some(verb.into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ResourceAttributes::default()
        }
    }

    /// On the source: take its release elsewhere.
    pub const PROMOTE: &str = "promote";
    /// On the target: say yes to a plan.
    pub const APPROVE: &str = "approve";
    /// On the target: change a run before it starts.
    pub const MODIFY: &str = "modify";
    /// On the target: end a run.
    pub const CANCEL: &str = "cancel";
    /// On the target: give up a rollback that failed, and let users in to whatever is there.
    pub const UNLOCK: &str = "unlock";
    /// On the target: ask for a backup.
    pub const BACKUP: &str = "backup";
    /// On the target: put a backup back, or undo a completed run.
    pub const RESTORE: &str = "restore";
    /// On the source: have another environment made a mirror of it, as its grants allow.
    pub const ALIGN: &str = "align";
}
