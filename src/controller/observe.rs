//! Reads. Decisions that guard are made on what the API server says now, not on a cache, so all of this is asked anew in
//! each turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::{Deployment, StatefulSet},
    authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec},
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, ContainerStatus, Event, Namespace, PersistentVolumeClaim, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams, ObjectMeta, PostParams},
};
use serde::de::DeserializeOwned;

use super::api::{call, dynamic};
use crate::{
    api::{
        DownAlignment, Environment, EnvironmentRestore, EnvironmentSpec, Promotion, Timestamp, WorkloadKind, annotations, labels,
        policies, rights, verbs,
    },
    delivery::direct::{self, OwnerKind},
    error::{Error, Result},
    manifest::{job::GATE_VOLUME, task::Outcome},
    plan::{
        Resource, after,
        environment::Made,
        maintenance, prepare,
        queue::{self, Waiting},
        trouble,
        world::{Gate, JobState, JobView, Run, Settings, Side},
    },
};

/// How much of a failed container's log is taken.
const LOG_LINES: i64 = 20;

/// What of a namespace could be read.
#[derive(Debug)]
pub enum Seen<T> {
    /// All of it.
    All(T),
    /// The operator was refused; the text says what mends it.
    Refused(String),
}

/// All objects of a kind in a namespace.
async fn list<K>(client: &Client, namespace: &str, params: &ListParams) -> Result<Vec<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let what = format!("list {} in {namespace}", K::plural(&K::DynamicType::default()));
    Ok(call(what, api.list(params)).await?.items)
}

/// Turns a 403 into what mends it.
pub fn refused<T>(settings: &Settings, namespace: &str, result: Result<T>) -> Result<Seen<T>> {
    match result {
        Ok(value) => Ok(Seen::All(value)),
        Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(s) if s.code == 403) => Ok(Seen::Refused(format!(
            "the operator may not work in namespace {namespace}. Apply there (or install the chart lockkeeper-environment): \
             {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: lockkeeper, namespace: {namespace}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}, \
             subjects: [{{kind: ServiceAccount, name: {account}, namespace: {own}}}]}}",
            role = rights::ENVIRONMENT_ROLE,
            account = settings.service_account,
            own = settings.namespace,
        ))),
        Err(error) => Err(error),
    }
}

/// The Environment of that name, and the names of others in its namespace.
pub async fn environment(client: &Client, namespace: &str, name: &str) -> Result<(Option<Environment>, Vec<String>)> {
    let all: Vec<Environment> = list(client, namespace, &ListParams::default()).await?;
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.name_any() == name);
    Ok((own.into_iter().next(), others.iter().map(ResourceExt::name_any).collect()))
}

/// The objects of an environment's namespace. `with_services`: also what maintenance needs.
pub async fn side(client: &Client, namespace: &str, spec: &EnvironmentSpec, run: &str, with_services: bool) -> Result<Side> {
    let all = ListParams::default();
    let (deployments, pods) =
        futures::try_join!(list::<Deployment>(client, namespace, &all), list::<Pod>(client, namespace, &all))?;
    let mut side = Side { deployments, pods, ..Side::default() };
    // Of a run that stopped one, it must be put back although the Environment may not name it any more.
    if with_services || spec.names(WorkloadKind::StatefulSet) {
        side.stateful_sets = list::<StatefulSet>(client, namespace, &all).await?;
    }
    if with_services || spec.names(WorkloadKind::CronJob) {
        side.cron_jobs = list::<CronJob>(client, namespace, &all).await?;
    }
    if spec.names(WorkloadKind::CronJob) {
        let jobs: Vec<Job> = list(client, namespace, &all).await?;
        side.cron_runs = jobs.into_iter().filter(|j| j.owner_references().iter().any(|o| o.kind == "CronJob")).collect();
    }
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for entry in spec.modules.iter().flat_map(|m| &m.configuration) {
        let what = format!("get ConfigMap {namespace}/{}", entry.config_map.name);
        side.config_maps.extend(call(what, maps.get_opt(&entry.config_map.name)).await?);
    }
    if with_services {
        let ours = ListParams::default().labels(&format!("{}={run}", labels::RUN));
        let (services, slices, copies) = futures::try_join!(
            list::<Service>(client, namespace, &all),
            list::<EndpointSlice>(client, namespace, &all),
            list::<ConfigMap>(client, namespace, &ours)
        )?;
        side.services = services;
        side.scalers = scalers(client, namespace).await?;
        side.owners = owners(client, spec, &side).await?;
        side.endpoints = endpoints(&slices);
        side.config_maps.extend(copies);
        if let Some(page) = &spec.maintenance.page {
            let what = format!("get ConfigMap {namespace}/{}", page.config_map.name);
            side.config_maps.extend(call(what, maps.get_opt(&page.config_map.name)).await?);
        }
        if let Some(volume) = spec.backups.as_ref().and_then(|b| b.repository.volume.as_ref()) {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            let what = format!("get PersistentVolumeClaim {namespace}/{}", volume.claim.name);
            side.claims.extend(call(what, claims.get_opt(&volume.claim.name)).await?.map(|c| c.name_any()));
        }
        side.volumes = claims_of_data(client, namespace, spec).await?;
        if !side.volumes.is_empty() {
            let mut ours: Vec<Job> = list(client, namespace, &ListParams::default().labels(labels::RUN)).await?;
            ours.retain(|j| pod_of(j, &side.pods).is_none() && view(j, &[]).state == JobState::Running);
            side.starting = ours;
        }
        let mut crashes = BTreeMap::new();
        let workloads = spec.modules.iter().flat_map(|m| &m.workloads).filter_map(|w| side.find(w));
        for pod in workloads.flat_map(|w| side.pods_of(w)) {
            let Some(container) = maintenance::crashing(pod) else { continue };
            crashes.extend(log_tail(client, namespace, pod, &container.name).await.map(|log| (pod.name_any(), log)));
        }
        side.crashes = crashes;
    }
    Ok(side)
}

/// The claims of data that are volumes.
pub async fn claims_of_data(client: &Client, namespace: &str, spec: &EnvironmentSpec) -> Result<Vec<PersistentVolumeClaim>> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let mut claims = Vec::new();
    for name in spec.data.iter().filter_map(|d| d.claim()) {
        claims.extend(call(format!("get PersistentVolumeClaim {namespace}/{name}"), api.get_opt(name)).await?);
    }
    Ok(claims)
}

/// What tells how Jobs mount the volumes of an environment: its workloads, pods and claims. Nothing, where it has none.
pub async fn mounted(client: &Client, namespace: &str, spec: &EnvironmentSpec) -> Result<Side> {
    let all = ListParams::default();
    if spec.data.iter().all(|d| d.volume.is_none()) {
        return Ok(Side::default());
    }
    let (deployments, stateful_sets, cron_jobs, pods) = futures::try_join!(
        list::<Deployment>(client, namespace, &all),
        list::<StatefulSet>(client, namespace, &all),
        list::<CronJob>(client, namespace, &all),
        list::<Pod>(client, namespace, &all)
    )?;
    let volumes = claims_of_data(client, namespace, spec).await?;
    Ok(Side { deployments, stateful_sets, cron_jobs, pods, volumes, ..Side::default() })
}

/// Copies of configuration from before runs.
pub async fn prior_copies(client: &Client, namespace: &str) -> Result<Vec<ConfigMap>> {
    list(client, namespace, &ListParams::default().labels(&format!("{}={}", labels::STEP, prepare::PRIOR))).await
}

/// The ConfigMaps that were made for a run.
pub async fn copies_of(client: &Client, namespace: &str, run: &str) -> Result<Vec<ConfigMap>> {
    list(client, namespace, &ListParams::default().labels(&format!("{}={run}", labels::RUN))).await
}

/// What is there that was made for a run, whichever, and which of it are copies of configuration from before runs: what
/// they are and whose, not what is in them.
pub async fn made(client: &Client, namespace: &str, side: &Side) -> Result<(Vec<Made>, Vec<ConfigMap>)> {
    let labelled = ListParams::default().labels(labels::RUN);
    let (jobs, maps): (Api<Job>, Api<ConfigMap>) =
        (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
    let (jobs, maps) = futures::try_join!(
        call(format!("list jobs in {namespace}"), jobs.list_metadata(&labelled)),
        call(format!("list configmaps in {namespace}"), maps.list_metadata(&labelled))
    )?;
    let all = jobs.items.iter().map(|o| (Resource::Job, &o.metadata));
    let all = all.chain(maps.items.iter().map(|o| (Resource::ConfigMap, &o.metadata)));
    let all = all.chain(side.deployments.iter().map(|o| (Resource::Deployment, &o.metadata)));
    let all = all.chain(side.services.iter().map(|o| (Resource::Service, &o.metadata)));
    let ours = |m: &ObjectMeta| {
        let labels_ = m.labels.as_ref()?;
        let by_us = labels_.get(labels::MANAGED_BY).is_some_and(|v| v == labels::MANAGER) && m.deletion_timestamp.is_none();
        labels_.get(labels::RUN).filter(|_| by_us).cloned()
    };
    let made = all.filter_map(|(resource, m)| Some(Made { resource, name: m.name.clone()?, uid: m.uid.clone()?, run: ours(m)? }));
    let made = made.collect();
    let prior = maps.items.into_iter().filter(|m| m.labels().get(labels::STEP).is_some_and(|step| step == prepare::PRIOR));
    let copies = prior.map(|m| ConfigMap { metadata: m.metadata, ..ConfigMap::default() }).collect();
    Ok((made, copies))
}

/// The ScaledObjects of a namespace; none where KEDA is not installed.
async fn scalers(client: &Client, namespace: &str) -> Result<Vec<DynamicObject>> {
    let api = dynamic(client, namespace, Resource::ScaledObject);
    match call(format!("list scaledobjects in {namespace}"), api.list(&ListParams::default())).await {
        Ok(list) => Ok(list.items),
        Err(error) if error.code() == Some(404) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether the programs that own the modules' workloads rest. Those that are not there, or may not be read, are left out.
async fn owners(client: &Client, spec: &EnvironmentSpec, side: &Side) -> Result<BTreeMap<direct::Owner, bool>> {
    let workloads = spec.modules.iter().flat_map(|m| &m.workloads).filter_map(|w| side.find(w));
    let named: BTreeSet<direct::Owner> = workloads.filter_map(direct::owner).map(|(owner, _)| owner).collect();
    let mut out = BTreeMap::new();
    for owner in named {
        let (group, version, plural) = match owner.kind {
            OwnerKind::Application => ("argoproj.io", "v1alpha1", "applications"),
            OwnerKind::Kustomization => ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
            OwnerKind::HelmRelease => ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
        };
        let gvk = GroupVersionKind::gvk(group, version, &format!("{:?}", owner.kind));
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &owner.namespace, &resource);
        match call(format!("get {owner}"), api.get(&owner.name)).await {
            Ok(object) => {
                let object = serde_json::to_value(&object).unwrap_or_default();
                out.insert(owner.clone(), direct::rests(owner.kind, &object));
            }
            Err(error) if matches!(error.code(), Some(403 | 404)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}

/// By Service: the names of the pods that it leads to.
fn endpoints(slices: &[EndpointSlice]) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for slice in slices {
        let Some(service) = slice.labels().get("kubernetes.io/service-name") else { continue };
        let names = slice
            .endpoints
            .iter()
            .filter(|e| e.conditions.as_ref().is_none_or(|c| c.ready.unwrap_or(true)))
            .filter_map(|e| e.target_ref.as_ref()?.name.clone());
        out.entry(service.clone()).or_default().extend(names);
    }
    out
}

/// The Jobs made for a run, by name, each with what its pod says.
pub async fn jobs(client: &Client, namespace: &str, run: &str, pods: &[Pod]) -> Result<BTreeMap<String, JobView>> {
    let ours = ListParams::default().labels(&format!("{}={run}", labels::RUN));
    let jobs: Vec<Job> = list(client, namespace, &ours).await?;
    let mut out = BTreeMap::new();
    for job in &jobs {
        let mut view = view(job, pods);
        if view.outcome.is_none()
            && matches!(view.state, JobState::Failed(_))
            && let Some(pod) = pod_of(job, pods)
        {
            let container = pod.spec.as_ref().and_then(|s| s.containers.first()).map(|c| c.name.as_str()).unwrap_or_default();
            view.log_tail = log_tail(client, namespace, pod, container).await;
        }
        if let Some(pod) = pod_of(job, pods).filter(|p| view.trouble.is_none() && is_held_up(p)) {
            view.trouble = volume_trouble(client, namespace, pod).await;
        }
        out.insert(view.name.clone(), view);
    }
    Ok(out)
}

/// How long a pod's volumes may take before its Events are asked for.
const MOUNTING: Duration = Duration::from_secs(10);

/// Whether a pod was placed a while ago and none of its containers has begun.
fn is_held_up(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let placed = status.and_then(|s| s.start_time.as_ref()).map(|t| after(t.0, MOUNTING));
    let creating = |c: &ContainerStatus| {
        let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        matches!(waiting, Some("ContainerCreating" | "PodInitializing"))
    };
    let mut containers = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    placed.is_some_and(|at| at <= Timestamp::now()) && containers.any(creating)
}

/// What the kubelet says of a pod's volumes. An Event that cannot be read says nothing.
async fn volume_trouble(client: &Client, namespace: &str, pod: &Pod) -> Option<String> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let of_pod = ListParams::default().fields(&format!("involvedObject.uid={},type=Warning", pod.uid()?));
    let events = call(format!("list Events of pod {}", pod.name_any()), api.list(&of_pod)).await.ok()?.items;
    let about = |e: &&Event| e.reason.as_deref().is_some_and(|r| trouble::OF_VOLUMES.contains(&r));
    let last = events.iter().filter(about).max_by_key(|e| e.last_timestamp.as_ref().map(|t| t.0))?;
    Some(trouble::words(last.reason.as_deref()?, last.message.as_deref()?))
}

fn pod_of<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a Pod> {
    pod_of_uid(&job.uid()?, pods)
}

/// The pod of the Job with that UID.
pub(super) fn pod_of_uid<'a>(job: &str, pods: &'a [Pod]) -> Option<&'a Pod> {
    pods.iter().find(|p| p.owner_references().iter().any(|o| o.uid == job))
}

/// Whether all containers of a pod that restarts none ended well. `None`: not all have ended. The kubelet says so a second
/// before the pod's phase does, because that waits until the pod's sandbox is gone too.
fn exits(pod: &Pod) -> Option<bool> {
    let spec = pod.spec.as_ref().filter(|s| s.restart_policy.as_deref() == Some("Never"))?;
    let statuses = pod.status.as_ref()?.container_statuses.as_ref().filter(|s| s.len() == spec.containers.len())?;
    let codes = statuses.iter().map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.exit_code)).collect::<Option<Vec<i32>>>()?;
    Some(codes.iter().all(|code| *code == 0))
}

/// Who or what ends a pod from outside. `None`: nobody, or nobody who says so.
fn disruption(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let said = |reason: Option<&String>, message: Option<&String>| {
        let all: Vec<&str> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        all.join(": ")
    };
    let named = status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    match (named, &status.reason, &pod.metadata.deletion_timestamp) {
        (Some(c), ..) => Some(format!("its pod was ended from outside ({})", said(c.reason.as_ref(), c.message.as_ref()))),
        (None, Some(_), _) => {
            Some(format!("its pod was ended by its node ({})", said(status.reason.as_ref(), status.message.as_ref())))
        }
        (None, None, Some(_)) => Some("its pod was deleted".to_owned()),
        (None, None, None) => None,
    }
}

fn view(job: &Job, pods: &[Pod]) -> JobView {
    let condition =
        |type_: &str| job.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_ && c.status == "True").cloned();
    let state = if condition("Complete").is_some() {
        JobState::Succeeded
    } else if let Some(failed) = condition("Failed") {
        JobState::Failed(failed.reason.unwrap_or_default())
    } else {
        // With `backoffLimit: 0` the pod's end is the Job's, and the pod says so up to a second earlier. A pod that the Job's
        // own deadline deletes is left to the Job.
        let pod = pod_of(job, pods).filter(|p| p.metadata.deletion_timestamp.is_none() || condition("FailureTarget").is_none());
        match pod.and_then(|p| p.status.as_ref()).and_then(|s| s.phase.as_deref()) {
            Some("Succeeded") => JobState::Succeeded,
            Some("Failed") => JobState::Failed("PodFailed".into()),
            _ => match pod.and_then(exits) {
                Some(true) => JobState::Succeeded,
                Some(false) => JobState::Failed("PodFailed".into()),
                None => JobState::Running,
            },
        }
    };
    let pod = pod_of(job, pods);
    let status = pod.and_then(|p| p.status.as_ref());
    let containers = status.and_then(|s| s.container_statuses.as_ref()).cloned().unwrap_or_default();
    let terminated = containers.iter().find_map(|c| c.state.as_ref()?.terminated.as_ref());
    let trouble = containers.iter().find_map(|c| {
        let waiting = c.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().unwrap_or_default();
        let harmless = matches!(reason.as_str(), "ContainerCreating" | "PodInitializing" | "");
        (!harmless).then(|| format!("{reason}: {}", waiting.message.clone().unwrap_or_default()))
    });
    let unscheduled = || {
        let conditions = status?.conditions.as_ref()?;
        let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        Some(format!("Unschedulable: {}", scheduled.message.clone().unwrap_or_default()))
    };
    // An image that is there makes its container run, end, or fail to be made: its command does not exist on purpose.
    let pulled = containers
        .iter()
        .map(|c| {
            let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
            let there = c.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some())
                || matches!(waiting, Some("CreateContainerError" | "RunContainerError" | "CrashLoopBackOff" | "StartError"));
            (c.name.clone(), there)
        })
        .collect();
    let gate =
        pod.filter(|p| p.spec.as_ref().is_some_and(|s| s.volumes.iter().flatten().any(|v| v.name == GATE_VOLUME))).map(|p| {
            Gate {
                pod: p.name_any(),
                resource_version: p.resource_version().unwrap_or_default(),
                open: p.annotations().contains_key(annotations::GATE),
            }
        });
    let outcome = terminated.and_then(|t| serde_json::from_str::<Outcome>(t.message.as_deref()?).ok());
    JobView {
        gate,
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        step: job.labels().get(labels::STEP).cloned().unwrap_or_default(),
        state: state.clone(),
        created_at: job.creation_timestamp().map(|t| t.0),
        deleting: job.metadata.deletion_timestamp.is_some(),
        exit_code: terminated.map(|t| t.exit_code),
        exit_reason: terminated.and_then(|t| t.reason.clone()),
        disruption: pod.filter(|_| condition("FailureTarget").is_none()).and_then(disruption),
        progress: outcome.as_ref().and_then(|o| o.progress.clone()),
        outcome,
        trouble: trouble.or_else(unscheduled).or_else(|| {
            let none = pod.is_none() && state == JobState::Running;
            none.then(|| {
                format!("no pod was made for it (a quota, a PodSecurity level): kubectl describe job {}", job.name_any())
            })
        }),
        pulled,
        log_tail: None,
    }
}

/// The last lines of a container's log. Lines in which PostgreSQL quotes rows are left out: they would stand in the status.
async fn log_tail(client: &Client, namespace: &str, pod: &Pod, container: &str) -> Option<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = LogParams { container: Some(container.to_owned()), tail_lines: Some(LOG_LINES), ..LogParams::default() };
    let text = call("read a log", api.logs(&pod.name_any(), &params)).await.ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !quotes_rows(l)).collect();
    let last = lines.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join(" | ");
    let printable: String = last.chars().filter(|c| !c.is_control()).take(600).collect();
    (!printable.is_empty()).then_some(printable)
}

fn quotes_rows(line: &str) -> bool {
    let upper = line.to_ascii_uppercase();
    ["DETAIL", "CONTEXT", "KEY (", "FAILING ROW", "HINT:", "PASSWORD"].iter().any(|w| upper.contains(w))
}

/// Admission policies and bindings that are missing, or that do not refuse.
pub async fn missing_policies(client: &Client) -> Result<Vec<String>> {
    let found: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let mut missing = Vec::new();
    for name in policies::NAMES {
        let policy = call(format!("get ValidatingAdmissionPolicy {name}"), found.get_opt(name)).await?;
        let binding = call(format!("get ValidatingAdmissionPolicyBinding {name}"), bindings.get_opt(name)).await?;
        let current = |labels: Option<&BTreeMap<String, String>>| {
            labels.and_then(|l| l.get(policies::VERSION_LABEL)).is_some_and(|v| v == policies::VERSION)
        };
        let fails = policy.as_ref().and_then(|p| p.spec.as_ref()).and_then(|s| s.failure_policy.as_deref());
        let denies = binding.as_ref().and_then(|b| b.spec.as_ref()).is_some_and(|s| {
            s.policy_name.as_deref() == Some(name)
                && s.validation_actions.iter().flatten().any(|a| a == policies::VALIDATION_ACTION)
        });
        let there = current(policy.as_ref().map(ResourceExt::labels)) && fails == Some(policies::FAILURE_POLICY) && denies;
        if !there {
            missing.push((*name).to_owned());
        }
    }
    Ok(missing)
}

/// Whether somebody has a custom verb on an Environment.
pub async fn may(
    client: &Client,
    username: &str,
    groups: &[String],
    verb: &str,
    (namespace, name): (&str, &str),
) -> Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(username.to_owned()),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(verbs::on_environment(verb, namespace, name)),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = call(format!("ask whether {username} may {verb}"), api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

/// Whether a namespace is being deleted, or gone.
pub async fn terminating(client: &Client, namespace: &str) -> Result<bool> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = call(format!("get Namespace {namespace}"), api.get_opt(namespace)).await?;
    Ok(found.is_none_or(|n| n.metadata.deletion_timestamp.is_some()))
}

/// The runs of a namespace that wait for their turn, of every kind.
pub async fn queue(client: &Client, namespace: &str, now: Timestamp) -> Result<Vec<Waiting>> {
    let all = ListParams::default();
    let (promotions, restores, alignments) = futures::try_join!(
        list::<Promotion>(client, namespace, &all),
        list::<EnvironmentRestore>(client, namespace, &all),
        list::<DownAlignment>(client, namespace, &all)
    )?;
    let waiting = promotions.iter().map(Run::Promotion).chain(restores.iter().map(Run::Restore));
    let waiting = waiting.chain(alignments.iter().map(Run::Alignment));
    Ok(waiting.filter_map(|run| queue::waiting(run, now)).collect())
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
