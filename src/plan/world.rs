//! What the deciders see: objects as they were read, and what they say once taken apart.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, core::DynamicObject};

use super::{queue::Waiting, workload::Workload};
use crate::{
    api::{
        Approval, Author, DownAlignment, DownAlignmentSpec, Environment, EnvironmentBackup, EnvironmentRestore,
        EnvironmentRestoreSpec, EnvironmentStatus, Intervention, MaskingPolicySpec, Promotion, PromotionSpec, RunStatus,
        Schedule, Timestamp, WorkloadKind, WorkloadRef, labels,
    },
    delivery::direct::Owner,
    manifest::task::{Outcome, Progress},
};

/// A run, whichever its kind: what steps, lock and rollback need to know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Run<'a> {
    /// A Promotion.
    Promotion(&'a Promotion),
    /// An EnvironmentRestore.
    Restore(&'a EnvironmentRestore),
    /// A DownAlignment.
    Alignment(&'a DownAlignment),
}

impl<'a> Run<'a> {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Promotion(_) => "Promotion",
            Self::Restore(_) => "EnvironmentRestore",
            Self::Alignment(_) => "DownAlignment",
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &'a ObjectMeta {
        match self {
            Self::Promotion(run) => &run.metadata,
            Self::Restore(run) => &run.metadata,
            Self::Alignment(run) => &run.metadata,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Its UID.
    pub fn uid(&self) -> &'a str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &'a str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted.
    pub fn is_leaving(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// Its status, as it was read.
    pub fn status(&self) -> Option<&'a RunStatus> {
        match self {
            Self::Promotion(run) => run.status.as_ref(),
            Self::Restore(run) => run.status.as_ref(),
            Self::Alignment(run) => run.status.as_ref(),
        }
    }

    /// Name of the Environment that changes.
    pub fn environment(&self) -> &'a str {
        match self {
            Self::Promotion(run) => &run.spec.environment.name,
            Self::Restore(run) => &run.spec.environment.name,
            Self::Alignment(run) => &run.spec.environment.name,
        }
    }

    /// Who asked.
    pub fn requester(&self) -> &'a str {
        match self {
            Self::Promotion(run) => &run.spec.requested_by.username,
            Self::Restore(run) => &run.spec.requested_by.username,
            Self::Alignment(run) => &run.spec.requested_by.username,
        }
    }

    /// Who said yes.
    pub fn approvals(&self) -> &'a [Approval] {
        match self {
            Self::Promotion(run) => &run.spec.approvals,
            Self::Restore(run) => &run.spec.approvals,
            Self::Alignment(_) => &[],
        }
    }

    /// Who called it off.
    pub fn cancel(&self) -> Option<&'a Author> {
        match self {
            Self::Promotion(run) => run.spec.cancel.as_ref(),
            Self::Restore(run) => run.spec.cancel.as_ref(),
            Self::Alignment(run) => run.spec.cancel.as_ref(),
        }
    }

    /// What a person wants done about a rollback that failed.
    pub fn intervention(&self) -> Option<&'a Intervention> {
        match self {
            Self::Promotion(run) => run.spec.intervention.as_ref(),
            Self::Restore(run) => run.spec.intervention.as_ref(),
            Self::Alignment(run) => run.spec.intervention.as_ref(),
        }
    }

    /// What it asks for, if it is a Promotion.
    pub fn promotion(&self) -> Option<&'a PromotionSpec> {
        match self {
            Self::Promotion(run) => Some(&run.spec),
            Self::Restore(_) | Self::Alignment(_) => None,
        }
    }

    /// What it asks for, if it is an EnvironmentRestore.
    pub fn restore(&self) -> Option<&'a EnvironmentRestoreSpec> {
        match self {
            Self::Restore(run) => Some(&run.spec),
            Self::Promotion(_) | Self::Alignment(_) => None,
        }
    }

    /// What it asks for, if it is a DownAlignment.
    pub fn alignment(&self) -> Option<&'a DownAlignmentSpec> {
        match self {
            Self::Alignment(run) => Some(&run.spec),
            Self::Promotion(_) | Self::Restore(_) => None,
        }
    }

    /// When it may start.
    pub fn schedule(&self) -> Option<&'a Schedule> {
        match self {
            Self::Promotion(run) => run.spec.schedule.as_ref(),
            Self::Alignment(run) => run.spec.schedule.as_ref(),
            Self::Restore(_) => None,
        }
    }
}

/// What the operator was told at its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The image that Jobs of ours and the maintenance page run: the operator's own.
    pub agent_image: String,
    /// Namespace of the operator, for the RoleBinding that it asks for.
    pub namespace: String,
    /// ServiceAccount of the operator.
    pub service_account: String,
}

/// A MaskingPolicy, as a plan needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// Hash of its spec, computed from what was read.
    pub hash: String,
    /// Its spec.
    pub spec: MaskingPolicySpec,
}

impl PolicyView {
    /// Name of the Secret with its key, where it keeps one.
    pub fn key_secret(&self) -> Option<&str> {
        self.spec.key_secret.as_ref().map(|s| &*s.name)
    }
}

/// What was made for a run in the namespace that it takes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Elsewhere {
    /// Jobs, by name.
    pub jobs: BTreeMap<String, JobView>,
    /// Copies of a MaskingPolicy.
    pub config_maps: Vec<ConfigMap>,
}

/// The objects of one environment's namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// All Deployments.
    pub deployments: Vec<Deployment>,
    /// All StatefulSets, where the Environment names one.
    pub stateful_sets: Vec<StatefulSet>,
    /// All CronJobs, where the Environment names one.
    pub cron_jobs: Vec<CronJob>,
    /// The Jobs that CronJobs made, where the Environment names one.
    pub cron_runs: Vec<Job>,
    /// All ScaledObjects of KEDA, where it is installed. Empty where Services are.
    pub scalers: Vec<DynamicObject>,
    /// Of the programs that own the modules' workloads and could be read: whether they rest.
    pub owners: BTreeMap<Owner, bool>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// All ConfigMaps that modules name, and our copies.
    pub config_maps: Vec<ConfigMap>,
    /// All Services. Empty where they are not needed (a source).
    pub services: Vec<Service>,
    /// Names of ready endpoints' targets by Service name: the names of pods that a Service leads to.
    pub endpoints: BTreeMap<String, Vec<String>>,
    /// Names of the PersistentVolumeClaims.
    pub claims: Vec<String>,
    /// The PersistentVolumeClaims of data that are volumes.
    pub volumes: Vec<PersistentVolumeClaim>,
    /// Jobs of ours that have no pod yet, where data are volumes: what reads files is known before its pod is.
    pub starting: Vec<Job>,
    /// By pod: the last lines of the log of a container that crashes again and again. Empty where Services are.
    pub crashes: BTreeMap<String, String>,
}

impl Side {
    /// The Deployment of that name.
    pub fn deployment(&self, name: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.name_any() == name)
    }

    /// The workload of that kind and name.
    pub fn workload(&self, kind: WorkloadKind, name: &str) -> Option<Workload<'_>> {
        match kind {
            WorkloadKind::Deployment => self.deployment(name).map(Workload::Deployment),
            WorkloadKind::StatefulSet => self.stateful_sets.iter().find(|w| w.name_any() == name).map(Workload::StatefulSet),
            WorkloadKind::CronJob => self.cron_jobs.iter().find(|w| w.name_any() == name).map(Workload::CronJob),
        }
    }

    /// The workload that a reference names.
    pub fn find(&self, reference: &WorkloadRef) -> Option<Workload<'_>> {
        self.workload(reference.kind, &reference.name)
    }

    /// All workloads.
    pub fn workloads(&self) -> impl Iterator<Item = Workload<'_>> {
        let sets = self.stateful_sets.iter().map(Workload::StatefulSet);
        self.deployments.iter().map(Workload::Deployment).chain(sets).chain(self.cron_jobs.iter().map(Workload::CronJob))
    }

    /// The ConfigMap of that name.
    pub fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.iter().find(|c| c.name_any() == name)
    }

    /// The claim of that name, where it is data's.
    pub fn volume(&self, claim: &str) -> Option<&PersistentVolumeClaim> {
        self.volumes.iter().find(|c| c.name_any() == claim)
    }

    /// The Service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name_any() == name)
    }

    /// The pods that a workload made, being deleted or not; of a Deployment and a StatefulSet not those that Jobs made.
    pub fn pods_of(&self, workload: Workload<'_>) -> Vec<&Pod> {
        let owner = match workload {
            Workload::Deployment(_) => "ReplicaSet",
            Workload::StatefulSet(_) => "StatefulSet",
            Workload::CronJob(cron_job) => {
                let runs: Vec<String> = self.runs_of(cron_job).into_iter().filter_map(ResourceExt::uid).collect();
                let of_run = |p: &&Pod| p.owner_references().iter().any(|o| runs.contains(&o.uid));
                return self.pods.iter().filter(of_run).collect();
            }
        };
        let Some(selector) = workload.selector() else { return Vec::new() };
        self.pods
            .iter()
            .filter(|p| selector.iter().all(|(k, v)| p.labels().get(k) == Some(v)))
            .filter(|p| p.owner_references().iter().all(|o| o.kind == owner))
            .filter(|p| !p.owner_references().is_empty())
            .collect()
    }

    /// The Jobs that a CronJob made, the latest first.
    pub fn runs_of(&self, cron_job: &CronJob) -> Vec<&Job> {
        let uid = cron_job.uid().unwrap_or_default();
        let mut runs: Vec<&Job> = self.cron_runs.iter().filter(|j| j.owner_references().iter().any(|o| o.uid == uid)).collect();
        runs.sort_by_key(|j| std::cmp::Reverse((j.creation_timestamp().map(|t| t.0), j.name_any())));
        runs
    }
}

/// Whether a Job has ended, well or not.
pub fn has_ended(job: &Job) -> bool {
    let over =
        |c: &k8s_openapi::api::batch::v1::JobCondition| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True";
    job.status.as_ref().and_then(|s| s.conditions.as_ref()).is_some_and(|c| c.iter().any(over))
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Not ended.
    Running,
    /// Complete.
    Succeeded,
    /// Failed, with the reason of the Job's condition.
    Failed(String),
}

/// The pod of a Job that was made before its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Name of the pod.
    pub pod: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Whether it may begin.
    pub open: bool,
}

/// A Job of ours with its pod.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The step for which it was made ([`crate::api::labels::STEP`]).
    pub step: String,
    /// How far it is.
    pub state: JobState,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The container's exit code, where it ended.
    pub exit_code: Option<i32>,
    /// Why the container ended: `OOMKilled`, `Error`, `Completed`.
    pub exit_reason: Option<String>,
    /// Who or what ended the pod from outside, in words: evicted, preempted, deleted.
    pub disruption: Option<String>,
    /// What the agent wrote.
    pub outcome: Option<Outcome>,
    /// How far the agent is, by its own last words. None: they could not be read, or there were none yet.
    pub progress: Option<Progress>,
    /// What keeps the pod from running: `ImagePullBackOff: …`, `Unschedulable: …`.
    pub trouble: Option<String>,
    /// The gate at which its pod waits, where it was made before its turn and has a pod.
    pub gate: Option<Gate>,
    /// The images of containers that were pulled: by container name, the digest or nothing.
    pub pulled: BTreeMap<String, bool>,
    /// The last lines of a failed container's log, with what quotes rows left out.
    pub log_tail: Option<String>,
}

/// All that a run's decision rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct World<'a> {
    /// What the operator was told at its start.
    pub settings: &'a Settings,
    /// The run, read from the API server in this turn.
    pub run: Run<'a>,
    /// The Environment that changes, read in this turn.
    pub target: Option<&'a Environment>,
    /// The other Environments of its namespace; there should be none.
    pub others: &'a [String],
    /// The Environment whose release is brought, read in this turn.
    pub source: Option<&'a Environment>,
    /// Objects of the target's namespace.
    pub target_side: &'a Side,
    /// Objects of the source's namespace; only before the start.
    pub source_side: &'a Side,
    /// Jobs made for this run, by name.
    pub jobs: &'a BTreeMap<String, JobView>,
    /// The backup made for this run; of a restore, the one that it names.
    pub backup: Option<&'a EnvironmentBackup>,
    /// The DownAlignment that was made for a Promotion, before it changes anything itself.
    pub child: Option<&'a DownAlignment>,
    /// The run that a restore undoes.
    pub undone: Option<Run<'a>>,
    /// The MaskingPolicy that the source's grant names, read in this turn.
    pub policy: Option<&'a PolicyView>,
    /// What was made for a DownAlignment in the source's namespace.
    pub elsewhere: Option<&'a Elsewhere>,
    /// Whether the requester may `promote` from the source.
    pub requester_may_promote: bool,
    /// By username: whether an approver may `approve` in the target.
    pub approvers: &'a BTreeMap<String, bool>,
    /// Admission policies or bindings that are missing or do not deny.
    pub missing_policies: &'a [String],
    /// Other runs that are ready and wait for an environment of this namespace.
    pub queue: &'a [Waiting],
    /// What the operator was refused in a namespace, with what mends it.
    pub refused: Option<&'a str>,
    /// Whether the target's namespace is being deleted.
    pub terminating: bool,
}

impl World<'_> {
    /// The run's status, or that of a run not yet seen.
    pub fn status(&self) -> RunStatus {
        self.run.status().cloned().unwrap_or_default()
    }

    /// The run's UID.
    pub fn uid(&self) -> String {
        self.run.uid().to_owned()
    }

    /// Whose turn this run works in: its own, or that of the Promotion for which it was made.
    pub fn slot(&self) -> String {
        let made_for = self.run.alignment().and(self.run.metadata().labels.as_ref()).and_then(|l| l.get(labels::RUN));
        made_for.cloned().unwrap_or_else(|| self.uid())
    }

    /// Status of the target Environment.
    pub fn target_status(&self) -> EnvironmentStatus {
        self.target.and_then(|t| t.status.clone()).unwrap_or_default()
    }
}
