//! Objects as the watches keep them. A cluster keeps thousands of finished runs as a record; the operator holds each of them in
//! memory only to know that nothing is to be done, so what says more than that is dropped as it comes in. Decisions never
//! rest on these: each turn reads its objects anew.

use std::{borrow::Cow, ops::Deref};

use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer};

use crate::api::{
    BackupPhase, DownAlignment, Environment, EnvironmentBackup, EnvironmentRestore, MaskingPolicy, Promotion, RunStatus,
};

/// An object without what only its readers need.
#[derive(Clone, Debug)]
pub struct Slim<K>(K);

/// Drops what is not needed in memory.
pub trait Prune {
    /// Drops it.
    fn prune(&mut self);
}

impl<K: Prune + Resource> Slim<K> {
    /// The object without what is not needed.
    pub fn new(mut object: K) -> Self {
        let metadata = object.meta_mut();
        metadata.managed_fields = None;
        metadata.annotations = None;
        object.prune();
        Self(object)
    }
}

impl<K> Deref for Slim<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

impl<'de, K: Deserialize<'de> + Prune + Resource> Deserialize<'de> for Slim<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(K::deserialize(deserializer)?))
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Slim<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Whether the run has ended.
fn prune_run(status: &mut RunStatus) -> bool {
    if status.phase.is_terminal() {
        *status = RunStatus { phase: status.phase, ..RunStatus::default() };
        return true;
    }
    // The plan's details; what it waits for, and since when, stays.
    status.changelog = Vec::new();
    status.preflight = Vec::new();
    status.release = None;
    status.prior = None;
    false
}

impl Prune for Promotion {
    fn prune(&mut self) {
        if self.status.as_mut().is_some_and(prune_run) {
            self.spec.approvals = Vec::new();
            self.spec.description = None;
        }
    }
}

impl Prune for EnvironmentRestore {
    fn prune(&mut self) {
        if self.status.as_mut().is_some_and(prune_run) {
            self.spec.approvals = Vec::new();
        }
    }
}

impl Prune for DownAlignment {
    fn prune(&mut self) {
        if let Some(status) = &mut self.status {
            prune_run(status);
        }
    }
}

impl Prune for EnvironmentBackup {
    fn prune(&mut self) {
        let Some(status) = &mut self.status else { return };
        if matches!(status.phase, BackupPhase::Completed | BackupPhase::Failed) {
            *status = crate::api::EnvironmentBackupStatus { phase: status.phase, ..Default::default() };
        }
    }
}

impl Prune for MaskingPolicy {
    fn prune(&mut self) {
        self.spec.data = Vec::new();
        self.status = None;
    }
}

impl Prune for Environment {
    fn prune(&mut self) {
        if let Some(status) = &mut self.status {
            status.release = None;
            status.kept = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Phase;

    #[test]
    fn of_a_finished_run_only_that_it_has_ended_is_kept() {
        let run = |phase: Phase| -> Slim<Promotion> {
            serde_json::from_value(json!({
                "metadata": {
                    "name": "r", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": {"a": "b"},
                    "managedFields": [{"manager": "m", "operation": "Update"}],
                },
                "spec": {
                    "environment": {"name": "production"}, "from": {"namespace": "s", "name": "staging"},
                    "requestedBy": {"username": "alice"}, "description": "words",
                },
                "status": {"phase": phase, "steps": [{"name": "lock", "state": "Running"}], "preflight": [{"name": "c", "passed": true, "message": "m"}]},
            }))
            .unwrap()
        };
        let ended = run(Phase::Completed);
        let status = ended.status.as_ref().unwrap();
        assert_eq!((status.phase, status.steps.len(), status.preflight.len()), (Phase::Completed, 0, 0));
        assert_eq!((ended.meta().uid.as_deref(), ended.meta().resource_version.as_deref()), (Some("u"), Some("7")));
        assert!(ended.meta().managed_fields.is_none() && ended.meta().annotations.is_none());
        assert_eq!(&*ended.spec.from.namespace, "s");
        let going = run(Phase::Locked);
        assert_eq!((going.status.as_ref().unwrap().steps.len(), going.status.as_ref().unwrap().preflight.len()), (1, 0));
    }
}
