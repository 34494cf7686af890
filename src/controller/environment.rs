//! The driver of Environments.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, ResourceExt, api::ListParams};

use super::{
    Context, Turn,
    api::call,
    execute::carry_out,
    observe::{self, Seen},
    status,
};
use crate::{
    api::{
        DownAlignment, ENVIRONMENT_FINALIZER, Environment, EnvironmentBackup, EnvironmentRestore, MaskingPolicy, Phase,
        Promotion, RunStatus, labels,
    },
    error::Result,
    plan::{
        Decision,
        environment::{World, plan},
        history,
        world::Side,
    },
};

/// One turn for an Environment.
pub async fn turn(context: &Context, namespace: &str, name: &str) -> Result<Turn> {
    let client = &context.client;
    let (environment, others) = observe::environment(client, namespace, name).await?;
    let Some(environment) = &environment else { return Ok(Turn::Gone) };
    let uid = environment.uid().unwrap_or_default();
    let (mut side, mut jobs, mut made, mut copies, mut refused) =
        (Side::default(), BTreeMap::new(), Vec::new(), Vec::new(), None);
    match observe::refused(&context.settings, namespace, observe::side(client, namespace, &environment.spec, &uid, true).await)? {
        Seen::All(seen) => {
            side = seen;
            jobs = observe::jobs(client, namespace, &uid, &side.pods).await?;
            (made, copies) = observe::made(client, namespace, &side).await?;
        }
        Seen::Refused(text) => refused = Some(text),
    }
    // After all that runs have made: what is made for a run that is not in this list was made for one that is gone.
    let runs: Api<Promotion> = Api::namespaced(client.clone(), namespace);
    let runs = call(format!("list Promotions in {namespace}"), runs.list(&ListParams::default())).await?;
    let restores: Api<EnvironmentRestore> = Api::namespaced(client.clone(), namespace);
    let restores = call(format!("list EnvironmentRestores in {namespace}"), restores.list(&ListParams::default())).await?.items;
    let here: Api<DownAlignment> = Api::namespaced(client.clone(), namespace);
    let here = call(format!("list DownAlignments in {namespace}"), here.list(&ListParams::default())).await?.items;
    let records = history::records(&runs.items, &restores, &here);
    let backups: Api<EnvironmentBackup> = Api::namespaced(client.clone(), namespace);
    let backups = call(format!("list EnvironmentBackups in {namespace}"), backups.list(&ListParams::default())).await?.items;
    // Only those of runs that have completed: what others keep is theirs.
    let completed = |s: Option<&RunStatus>| s.is_some_and(|s| s.phase == Phase::Completed);
    let ended: BTreeSet<String> = runs
        .items
        .iter()
        .filter(|r| completed(r.status.as_ref()))
        .filter_map(ResourceExt::uid)
        .chain(restores.iter().filter(|r| completed(r.status.as_ref())).filter_map(ResourceExt::uid))
        .chain(here.iter().filter(|r| completed(r.status.as_ref())).filter_map(ResourceExt::uid))
        .collect();
    copies.retain(|c| c.labels().get(labels::RUN).is_some_and(|of| ended.contains(of)));
    // Those of other namespaces too: what they take from here they mask here.
    let alignments: Api<DownAlignment> = Api::all(client.clone());
    let alignments = call("list DownAlignments".to_owned(), alignments.list_metadata(&ListParams::default())).await?.items;
    let uids = runs.items.iter().filter_map(ResourceExt::uid).chain(restores.iter().filter_map(ResourceExt::uid));
    let uids = uids.chain(alignments.iter().filter_map(ResourceExt::uid));
    let policies: Api<MaskingPolicy> = Api::namespaced(client.clone(), namespace);
    let policies = call(format!("list MaskingPolicies in {namespace}"), policies.list(&ListParams::default())).await?.items;
    let uids = uids.chain(policies.iter().filter_map(ResourceExt::uid));
    let runs: Vec<String> = uids.chain(backups.iter().filter_map(ResourceExt::uid)).collect();
    let missing_policies = context.policies.missing(client).await?;
    let terminating = environment.metadata.deletion_timestamp.is_some() && observe::terminating(client, namespace).await?;
    let world = World {
        settings: &context.settings,
        environment,
        others: &others,
        side: &side,
        jobs: &jobs,
        runs: &runs,
        backups: &backups,
        restores: &restores,
        policies: &policies,
        copies: &copies,
        made: &made,
        records: &records,
        missing_policies: &missing_policies,
        refused: refused.as_deref(),
        terminating,
    };
    match plan(&world, (context.clock)()) {
        Decision::Wait(until) => Ok(Turn::Wait(until)),
        Decision::Perform(effect) => carry_out(client, environment, ENVIRONMENT_FINALIZER, &effect).await,
        Decision::Advance(new) => {
            let mut environment = environment.clone();
            environment.status = Some(*new);
            status::swap(client, &environment).await?;
            Ok(Turn::Again)
        }
    }
}

/// Whether more than its pods must be watched: a run has its turn here.
pub fn at_work(environment: &Environment) -> bool {
    environment.status.as_ref().is_some_and(|s| s.active.is_some() || s.lock.as_ref().is_some_and(|l| l.holder.is_some()))
}
