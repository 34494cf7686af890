//! The driver of MaskingPolicies.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    Context, Turn,
    api::call,
    execute::carry_out,
    observe::{self, Seen},
    status,
};
use crate::{
    api::{Environment, FINALIZER, MaskingPolicy, labels},
    error::Result,
    plan::{
        Decision,
        masking::{World, plan},
    },
};

/// One turn for a MaskingPolicy.
pub async fn turn(context: &Context, namespace: &str, name: &str) -> Result<Turn> {
    let client = &context.client;
    let api: Api<MaskingPolicy> = Api::namespaced(client.clone(), namespace);
    let Some(policy) = call(format!("get MaskingPolicy {namespace}/{name}"), api.get_opt(name)).await? else {
        return Ok(Turn::Gone);
    };
    let environments: Api<Environment> = Api::namespaced(client.clone(), namespace);
    let all = call(format!("list Environments in {namespace}"), environments.list(&ListParams::default())).await?.items;
    // Of two Environments in one namespace neither works; which one is meant is not guessed.
    let environment = if let [one] = all.as_slice() { Some(one) } else { None };
    let uid = policy.uid().unwrap_or_default();
    let ours = ListParams::default().labels(&format!("{}={uid}", labels::RUN));
    let (mut jobs, mut copies, mut refused) = (BTreeMap::new(), Vec::new(), None);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = call(format!("list pods in {namespace}"), pods.list(&ours)).await;
    match observe::refused(&context.settings, namespace, listed)? {
        Seen::All(pods) => {
            jobs = observe::jobs(client, namespace, &uid, &pods.items).await?;
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            copies = call(format!("list ConfigMaps in {namespace}"), maps.list(&ours)).await?.items;
        }
        Seen::Refused(text) => refused = Some(text),
    }
    let missing_policies = context.policies.missing(client).await?;
    let world = World {
        settings: &context.settings,
        policy: &policy,
        environment,
        jobs: &jobs,
        copies: &copies,
        missing_policies: &missing_policies,
        refused: refused.as_deref(),
    };
    match plan(&world, (context.clock)()) {
        Decision::Wait(until) => Ok(Turn::Wait(until)),
        Decision::Perform(effect) => carry_out(client, &policy, FINALIZER, &effect).await,
        Decision::Advance(new) => {
            let mut policy = policy.clone();
            policy.status = Some(*new);
            status::swap(client, &policy).await?;
            Ok(Turn::Again)
        }
    }
}
