//! What doctor looks at, read once. Only metadata of Secrets is asked for. What the user may not read is [`Visible::Hidden`],
//! never an error: it says nothing of whether it is there.

use std::{collections::BTreeMap, fmt::Debug, future::Future};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::CronJob,
        coordination::v1::Lease,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
        rbac::v1::RoleBinding,
    },
};
use kube::{
    Api, Resource,
    api::{ListParams, ObjectList},
    core::PartialObjectMeta,
};
use serde::de::DeserializeOwned;

use super::super::{error::CliError, promote::allowed, session::Session};
use crate::{
    api::{API_VERSION, Environment, EnvironmentRef, EnvironmentSpec, LocalRef, Repository, WorkloadKind, WorkloadRef, verbs},
    plan::workload::Workload,
};

/// The operator's Lease, and the namespace where the chart puts it.
pub const LEASE: &str = "lockkeeper";
/// See [`LEASE`].
pub const OPERATOR_NAMESPACE: &str = "lockkeeper-system";

/// What a look at something gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Visible<T> {
    /// It is there.
    Found(T),
    /// It is not there.
    Missing,
    /// This user may not look.
    Hidden,
}

impl<T> Visible<T> {
    /// What is there.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::Missing | Self::Hidden => None,
        }
    }

    fn map<U>(self, what: impl FnOnce(T) -> U) -> Visible<U> {
        match self {
            Self::Found(value) => Visible::Found(what(value)),
            Self::Missing => Visible::Missing,
            Self::Hidden => Visible::Hidden,
        }
    }

    fn from(answer: kube::Result<T>) -> kube::Result<Self> {
        match answer {
            Ok(value) => Ok(Self::Found(value)),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Self::Hidden),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Self::Missing),
            Err(error) => Err(error),
        }
    }
}

/// A workload of any kind, as it was read.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a handful are read, once")]
pub enum SeenWorkload {
    /// A Deployment.
    Deployment(Deployment),
    /// A StatefulSet.
    StatefulSet(StatefulSet),
    /// A CronJob.
    CronJob(CronJob),
}

impl SeenWorkload {
    /// The same, to be looked at.
    pub fn look(&self) -> Workload<'_> {
        match self {
            Self::Deployment(w) => Workload::Deployment(w),
            Self::StatefulSet(w) => Workload::StatefulSet(w),
            Self::CronJob(w) => Workload::CronJob(w),
        }
    }
}

/// What the cluster has, whatever the namespace.
#[derive(Clone, Debug)]
pub struct ClusterSeen {
    /// Version of the API server: major, minor.
    pub version: (String, String),
    /// The plural names of Lockkeeper's kinds.
    pub kinds: Vec<String>,
    /// Admission policies that speak of Lockkeeper's kinds.
    pub policies: Visible<Vec<ValidatingAdmissionPolicy>>,
    /// Bindings of admission policies.
    pub bindings: Visible<Vec<ValidatingAdmissionPolicyBinding>>,
    /// The operator's Lease.
    pub lease: Visible<Lease>,
}

/// What an environment's namespace has.
#[derive(Clone, Debug)]
pub struct EnvironmentSeen {
    /// The Environment.
    pub environment: Environment,
    /// RoleBindings of the namespace.
    pub role_bindings: Visible<Vec<RoleBinding>>,
    /// The modules' workloads.
    pub workloads: Vec<(WorkloadRef, Visible<SeenWorkload>)>,
    /// Autoscalers of the namespace.
    pub autoscalers: Visible<Vec<HorizontalPodAutoscaler>>,
    /// Pods of the namespace.
    pub pods: Visible<Vec<Pod>>,
    /// Services of the namespace.
    pub services: Visible<Vec<Service>>,
    /// The ConfigMaps that belong to the release.
    pub config_maps: BTreeMap<String, Visible<ConfigMap>>,
    /// The Secrets that the Environment names, and nothing of what is in them.
    pub secrets: BTreeMap<String, Visible<()>>,
    /// The repository's volume.
    pub claim: Option<(String, Visible<PersistentVolumeClaim>)>,
    /// The sources, and whether this user may promote from them.
    pub sources: Vec<(EnvironmentRef, Visible<Environment>, bool)>,
    /// Whether this user may approve here.
    pub may_approve: bool,
}

/// Looks at what the cluster has.
pub async fn cluster(session: &Session) -> Result<ClusterSeen, CliError> {
    let client = &session.client;
    let version = session.ask("asking the API server's version", client.apiserver_version()).await?;
    let kinds = match look(session, "kinds", client.list_api_group_resources(API_VERSION)).await? {
        Visible::Found(list) => list.resources.into_iter().map(|r| r.name).filter(|n| !n.contains('/')).collect(),
        Visible::Missing | Visible::Hidden => Vec::new(),
    };
    let policies = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    Ok(ClusterSeen {
        version: (version.major, version.minor),
        kinds,
        policies: items(look(session, "admission policies", policies.list(&ListParams::default())).await?),
        bindings: items(look(session, "admission policy bindings", bindings.list(&ListParams::default())).await?),
        lease: lease(session).await?,
    })
}

/// The Lease, wherever the operator runs; where one may not look everywhere, in the chart's namespace.
async fn lease(session: &Session) -> Result<Visible<Lease>, CliError> {
    let everywhere = Api::<Lease>::all(session.client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={LEASE}"));
    match items(look(session, "leases", everywhere.list(&named)).await?) {
        Visible::Found(leases) => Ok(leases.into_iter().next().map_or(Visible::Missing, Visible::Found)),
        _ => {
            let there = Api::<Lease>::namespaced(session.client.clone(), OPERATOR_NAMESPACE);
            look(session, "the operator's Lease", there.get(LEASE)).await
        }
    }
}

/// Looks at what an environment's namespace has.
pub async fn environment(session: &Session, environment: Environment) -> Result<EnvironmentSeen, CliError> {
    let spec = environment.spec.clone();
    let mut workloads = Vec::new();
    for workload in spec.modules.iter().flat_map(|m| &m.workloads) {
        let seen = match workload.kind {
            WorkloadKind::Deployment => get(session, &workload.name).await?.map(SeenWorkload::Deployment),
            WorkloadKind::StatefulSet => get(session, &workload.name).await?.map(SeenWorkload::StatefulSet),
            WorkloadKind::CronJob => get(session, &workload.name).await?.map(SeenWorkload::CronJob),
        };
        workloads.push((workload.clone(), seen));
    }
    let mut config_maps = BTreeMap::new();
    for configuration in spec.modules.iter().flat_map(|m| &m.configuration) {
        let name = configuration.config_map.name.to_string();
        config_maps.insert(name.clone(), get::<ConfigMap>(session, &name).await?);
    }
    let mut secrets = BTreeMap::new();
    for name in secret_names(&environment) {
        let metadata = Api::<PartialObjectMeta<Secret>>::namespaced(session.client.clone(), &session.namespace);
        let seen = match look(session, "Secrets", metadata.get(&name)).await? {
            Visible::Found(_) => Visible::Found(()),
            Visible::Missing => Visible::Missing,
            Visible::Hidden => Visible::Hidden,
        };
        secrets.insert(name, seen);
    }
    let claim = match spec.backups.as_ref().and_then(|b| b.repository.volume.as_ref()) {
        Some(volume) => {
            let name = volume.claim.name.to_string();
            let seen = get::<PersistentVolumeClaim>(session, &name).await?;
            Some((name, seen))
        }
        None => None,
    };
    let mut sources = Vec::new();
    for source in &spec.promotes_from {
        let api = Api::<Environment>::namespaced(session.client.clone(), &source.namespace);
        let seen = look(session, "a source", api.get(&source.name)).await?;
        sources.push((source.clone(), seen, allowed(session, verbs::PROMOTE, &source.namespace, &source.name).await?));
    }
    let name = environment.metadata.name.clone().unwrap_or_default();
    Ok(EnvironmentSeen {
        role_bindings: list(session).await?,
        workloads,
        autoscalers: list(session).await?,
        pods: list(session).await?,
        services: list(session).await?,
        config_maps,
        secrets,
        claim,
        sources,
        may_approve: allowed(session, verbs::APPROVE, &session.namespace, &name).await?,
        environment,
    })
}

/// Every Secret that an Environment names, once.
/// By module: the Secret of the role that its migration has of its own.
pub fn migration_secrets(spec: &EnvironmentSpec) -> impl Iterator<Item = (&str, &str)> {
    spec.modules.iter().filter_map(|m| Some((&*m.name, &*m.migration.as_ref()?.connection_secret.as_ref()?.name)))
}

fn secrets_of<'a>(repository: &'a Repository, password: &'a LocalRef) -> impl Iterator<Item = &'a LocalRef> {
    std::iter::once(password).chain(repository.s3.as_ref().map(|s3| &s3.credentials_secret))
}

fn secret_names(environment: &Environment) -> Vec<String> {
    let spec = &environment.spec;
    let mut names: Vec<String> = spec
        .data
        .iter()
        .filter_map(|d| d.postgres.as_ref())
        .flat_map(|p| std::iter::once(&p.connection_secret).chain(&p.admin_secret))
        .chain(spec.backups.iter().flat_map(|b| secrets_of(&b.repository, &b.password_secret)))
        .chain(spec.backups.iter().filter_map(|b| Some(&b.proof.as_ref()?.connection_secret)))
        .chain(spec.exchange.iter().flat_map(|e| secrets_of(&e.repository, &e.password_secret)))
        .map(|r| r.name.to_string())
        .collect();
    names.extend(migration_secrets(spec).map(|(_, secret)| secret.to_owned()));
    names.sort();
    names.dedup();
    names
}

async fn look<T>(session: &Session, what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<Visible<T>, CliError> {
    session.ask(&format!("reading {what}"), async { Visible::from(request.await) }).await
}

async fn get<K>(session: &Session, name: &str) -> Result<Visible<K>, CliError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    look(session, &K::kind(&K::DynamicType::default()), session.api::<K>().get(name)).await
}

async fn list<K>(session: &Session) -> Result<Visible<Vec<K>>, CliError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let what = K::plural(&K::DynamicType::default()).into_owned();
    Ok(items(look(session, &what, session.api::<K>().list(&ListParams::default())).await?))
}

fn items<K: Clone>(seen: Visible<ObjectList<K>>) -> Visible<Vec<K>> {
    match seen {
        Visible::Found(list) => Visible::Found(list.items),
        Visible::Missing => Visible::Missing,
        Visible::Hidden => Visible::Hidden,
    }
}
