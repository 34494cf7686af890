//! Reads. Decisions that guard are made on what the API server says now, not on a cache, so all of this is asked anew in
//! each turn.
//!
//! Here what is small; the objects of a namespace and its Jobs have files of their own.

mod jobs;
mod side;

use std::collections::BTreeMap;

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec},
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde::de::DeserializeOwned;

pub(super) use self::jobs::pod_of_uid;
pub use self::{
    jobs::jobs,
    side::{claims_of_data, mounted, side},
};
use super::api::call;
use crate::{
    api::{Approval, DownAlignment, Environment, EnvironmentRestore, Promotion, Timestamp, labels, policies, rights, verbs},
    error::{Error, Result},
    plan::{
        Resource,
        environment::Made,
        prepare,
        queue::{self, Waiting},
        world::{Run, Settings, Side},
    },
};

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

/// Whether who asks for a run still has its verb. By name alone: groups are known only while a request is made.
pub async fn requester_may(client: &Client, requester: &str, verb: &str, on: (&str, &str)) -> Result<bool> {
    may(client, requester, &["system:authenticated".to_owned()], verb, on).await
}

/// By name: whether those who said yes to a run may approve on its target.
pub async fn approvers(client: &Client, approvals: &[Approval], target: (&str, &str)) -> Result<BTreeMap<String, bool>> {
    let mut out = BTreeMap::new();
    for approval in approvals {
        let groups: Vec<String> = approval.groups.iter().map(ToString::to_string).collect();
        let may = may(client, &approval.username, &groups, verbs::APPROVE, target).await?;
        out.insert(approval.username.to_string(), may);
    }
    Ok(out)
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
