//! The objects of an environment's namespace: workloads, Services, configuration, claims, and who owns them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

use super::{
    jobs::{log_tail, pod_of, view},
    list,
};
use crate::{
    api::{EnvironmentSpec, WorkloadKind, labels},
    controller::api::{call, dynamic},
    delivery::direct::{self, OwnerKind},
    error::Result,
    plan::{
        Resource, maintenance,
        world::{JobState, Side},
    },
};

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
