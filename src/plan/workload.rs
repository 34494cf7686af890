//! A workload of any kind, as the deciders look at it: what it is called, what its pods are made of, and the one field by
//! which it is stopped.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::CronJob,
    core::v1::{Container, PodTemplateSpec},
};
use kube::{ResourceExt, api::ObjectMeta};

use super::Resource;
use crate::{
    api::{WorkloadKind, WorkloadRef},
    manifest::found::FoundWorkload,
};

/// A workload that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Workload<'a> {
    /// Pods without a name of their own.
    Deployment(&'a Deployment),
    /// Pods with a name and volumes of their own.
    StatefulSet(&'a StatefulSet),
    /// Jobs by a schedule.
    CronJob(&'a CronJob),
}

impl<'a> Workload<'a> {
    /// Its kind.
    pub fn kind(self) -> WorkloadKind {
        match self {
            Self::Deployment(_) => WorkloadKind::Deployment,
            Self::StatefulSet(_) => WorkloadKind::StatefulSet,
            Self::CronJob(_) => WorkloadKind::CronJob,
        }
    }

    /// Its resource, for effects.
    pub fn resource(self) -> Resource {
        match self {
            Self::Deployment(_) => Resource::Deployment,
            Self::StatefulSet(_) => Resource::StatefulSet,
            Self::CronJob(_) => Resource::CronJob,
        }
    }

    /// Kind and name.
    pub fn reference(self) -> WorkloadRef {
        WorkloadRef { kind: self.kind(), name: self.name().into() }
    }

    /// Its metadata.
    pub fn metadata(self) -> &'a ObjectMeta {
        match self {
            Self::Deployment(w) => &w.metadata,
            Self::StatefulSet(w) => &w.metadata,
            Self::CronJob(w) => &w.metadata,
        }
    }

    /// Its name.
    pub fn name(self) -> String {
        self.metadata().name.clone().unwrap_or_default()
    }

    /// Its UID.
    pub fn uid(self) -> &'a str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// Names of the claims that each of a StatefulSet's pods has of its own, without the pod's name.
    pub fn claims_of_pods(self) -> impl Iterator<Item = String> {
        let templates = match self {
            Self::StatefulSet(w) => w.spec.as_ref().and_then(|s| s.volume_claim_templates.as_ref()),
            Self::Deployment(_) | Self::CronJob(_) => None,
        };
        templates.into_iter().flatten().map(ResourceExt::name_any)
    }

    /// Its annotations.
    pub fn annotations(self) -> &'a BTreeMap<String, String> {
        match self {
            Self::Deployment(w) => w.annotations(),
            Self::StatefulSet(w) => w.annotations(),
            Self::CronJob(w) => w.annotations(),
        }
    }

    /// Its labels.
    pub fn labels(self) -> &'a BTreeMap<String, String> {
        match self {
            Self::Deployment(w) => w.labels(),
            Self::StatefulSet(w) => w.labels(),
            Self::CronJob(w) => w.labels(),
        }
    }

    /// The template of its pods.
    pub fn template(self) -> Option<&'a PodTemplateSpec> {
        match self {
            Self::Deployment(w) => w.spec.as_ref().map(|s| &s.template),
            Self::StatefulSet(w) => w.spec.as_ref().map(|s| &s.template),
            Self::CronJob(w) => w.spec.as_ref()?.job_template.spec.as_ref().map(|s| &s.template),
        }
    }

    /// The labels of its pods.
    pub fn pod_labels(self) -> BTreeMap<String, String> {
        self.template().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone()).unwrap_or_default()
    }

    /// The labels by which it finds its pods; none for a CronJob, which finds them by their owners.
    pub fn selector(self) -> Option<&'a BTreeMap<String, String>> {
        match self {
            Self::Deployment(w) => w.spec.as_ref()?.selector.match_labels.as_ref(),
            Self::StatefulSet(w) => w.spec.as_ref()?.selector.match_labels.as_ref(),
            Self::CronJob(_) => None,
        }
    }

    /// The containers that run its image, not those that run before them.
    pub fn containers(self) -> &'a [Container] {
        self.template().and_then(|t| t.spec.as_ref()).map(|s| s.containers.as_slice()).unwrap_or_default()
    }

    /// The containers that run before the others, or beside them as sidecars.
    pub fn init_containers(self) -> &'a [Container] {
        self.template().and_then(|t| t.spec.as_ref()).and_then(|s| s.init_containers.as_deref()).unwrap_or_default()
    }

    /// All containers of the template: their names differ.
    pub fn all_containers(self) -> impl Iterator<Item = &'a Container> {
        self.init_containers().iter().chain(self.containers())
    }

    /// The field by which it is stopped, as it is.
    pub fn scale(self) -> FoundWorkload {
        match self {
            Self::Deployment(w) => FoundWorkload::Replicas(w.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)),
            Self::StatefulSet(w) => FoundWorkload::Replicas(w.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)),
            Self::CronJob(w) => FoundWorkload::Suspend(w.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false)),
        }
    }

    /// Whether it makes no pods.
    pub fn is_stopped(self) -> bool {
        matches!(self.scale(), FoundWorkload::Replicas(0) | FoundWorkload::Suspend(true))
    }

    /// Whether its controller has seen what its spec says now.
    pub fn is_observed(self) -> bool {
        let seen = match self {
            Self::Deployment(w) => w.status.as_ref().and_then(|s| s.observed_generation),
            Self::StatefulSet(w) => w.status.as_ref().and_then(|s| s.observed_generation),
            // A CronJob's controller does not say: that nothing of it runs is seen from its Jobs.
            Self::CronJob(_) => return true,
        };
        seen >= self.metadata().generation
    }

    /// Why it cannot be stopped and started again without a loss. `None`: it can.
    pub fn refuse(self) -> Option<String> {
        let Self::StatefulSet(set) = self else { return None };
        let spec = set.spec.as_ref()?;
        let name = self.name();
        let retention = spec.persistent_volume_claim_retention_policy.as_ref();
        if retention.and_then(|r| r.when_scaled.as_deref()) == Some("Delete") {
            return Some(format!(
                "StatefulSet {name} deletes its volumes when it is scaled down (persistentVolumeClaimRetentionPolicy.whenScaled is \
                 Delete), and it is scaled to nothing while locked: set whenScaled to Retain"
            ));
        }
        let partition = spec.update_strategy.as_ref().and_then(|u| u.rolling_update.as_ref()).and_then(|r| r.partition);
        partition.filter(|p| *p > 0).map(|partition| {
            format!(
                "StatefulSet {name} keeps pods below {partition} on its earlier revision (updateStrategy.rollingUpdate.partition), so a \
                 release would run in part of them only: set partition to 0"
            )
        })
    }
}
