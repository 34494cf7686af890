//! The driver of EnvironmentBackups.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    Context, Turn,
    api::call,
    execute::carry_out,
    observe::{self, Seen},
    status,
};
use crate::{
    api::{Environment, EnvironmentBackup, FINALIZER, labels},
    error::Result,
    plan::{
        Decision,
        backup::{World, plan},
        world::Side,
    },
};

/// One turn for an EnvironmentBackup.
pub async fn turn(context: &Context, namespace: &str, name: &str) -> Result<Turn> {
    let client = &context.client;
    let api: Api<EnvironmentBackup> = Api::namespaced(client.clone(), namespace);
    let Some(backup) = call(format!("get EnvironmentBackup {namespace}/{name}"), api.get_opt(name)).await? else {
        return Ok(Turn::Gone);
    };
    if backup.status.as_ref().is_some_and(|s| s.phase.is_terminal()) && backup.finalizers().is_empty() {
        return Ok(Turn::Wait(None));
    }
    let environments: Api<Environment> = Api::namespaced(client.clone(), namespace);
    let reference = &backup.spec.environment.name;
    let environment = call(format!("get Environment {namespace}/{reference}"), environments.get_opt(reference)).await?;
    let uid = backup.uid().unwrap_or_default();
    let (mut jobs, mut refused) = (BTreeMap::new(), None);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{}={uid}", labels::RUN));
    let listed = call(format!("list pods in {namespace}"), pods.list(&ours)).await;
    match observe::refused(&context.settings, namespace, listed)? {
        Seen::All(pods) => {
            jobs = observe::jobs(client, namespace, &uid, &pods.items).await?;
            context.logs.tell(client, &pods.items, &mut jobs);
        }
        Seen::Refused(text) => refused = Some(text),
    }
    let mut side = Side::default();
    if let Some(environment) = environment.as_ref().filter(|_| refused.is_none()) {
        match observe::refused(&context.settings, namespace, observe::mounted(client, namespace, &environment.spec).await)? {
            Seen::All(seen) => side = seen,
            Seen::Refused(text) => refused = Some(text),
        }
    }
    let missing_policies = context.policies.missing(client).await?;
    let world = World {
        settings: &context.settings,
        backup: &backup,
        environment: environment.as_ref(),
        jobs: &jobs,
        side: &side,
        missing_policies: &missing_policies,
        refused: refused.as_deref(),
    };
    match plan(&world, (context.clock)()) {
        Decision::Wait(until) => Ok(Turn::Wait(until)),
        Decision::Perform(effect) => carry_out(client, &backup, FINALIZER, &effect).await,
        Decision::Advance(new) => {
            let mut backup = backup.clone();
            let old = backup.status.replace(*new).unwrap_or_default();
            status::swap(client, &backup).await?;
            context.report.backup(&backup, &old).await;
            Ok(Turn::Again)
        }
    }
}
