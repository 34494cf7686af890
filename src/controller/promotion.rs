//! The driver of Promotions: `observe → plan → status::swap | execute → report`, over and over, until there is something to
//! wait for.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt};

use super::{
    Context, Turn,
    api::call,
    driven::{self, Locks},
    observe::{self, Seen},
};
use crate::{
    api::{DownAlignment, Environment, EnvironmentBackup, Phase, Promotion, verbs},
    error::Result,
    plan::{
        alignment, forward,
        queue::Waiting,
        steps,
        world::{JobView, Side, World},
    },
};

/// All that was read for one decision.
struct Observed {
    target: Option<Environment>,
    others: Vec<String>,
    source: Option<Environment>,
    target_side: Side,
    source_side: Side,
    jobs: BTreeMap<String, JobView>,
    backup: Option<EnvironmentBackup>,
    child: Option<DownAlignment>,
    requester_may_promote: bool,
    approvers: BTreeMap<String, bool>,
    missing_policies: Vec<String>,
    queue: Vec<Waiting>,
    refused: Option<String>,
    terminating: bool,
}

/// One turn for a Promotion.
pub async fn turn(context: &Context, namespace: &str, name: &str) -> Result<Turn> {
    let api: Api<Promotion> = Api::namespaced(context.client.clone(), namespace);
    let Some(run) = call(format!("get Promotion {namespace}/{name}"), api.get_opt(name)).await? else { return Ok(Turn::Gone) };
    if driven::is_over(run.as_run()) {
        return Ok(Turn::Wait(None));
    }
    let seen = observe(context, &run, namespace).await?;
    let world = World {
        settings: &context.settings,
        run: run.as_run(),
        target: seen.target.as_ref(),
        others: &seen.others,
        source: seen.source.as_ref(),
        target_side: &seen.target_side,
        source_side: &seen.source_side,
        jobs: &seen.jobs,
        backup: seen.backup.as_ref(),
        undone: None,
        child: seen.child.as_ref(),
        policy: None,
        elsewhere: None,
        requester_may_promote: seen.requester_may_promote,
        approvers: &seen.approvers,
        missing_policies: &seen.missing_policies,
        queue: &seen.queue,
        refused: seen.refused.as_deref(),
        terminating: seen.terminating,
    };
    driven::decide(context, &run, &world).await
}

async fn observe(context: &Context, run: &Promotion, namespace: &str) -> Result<Observed> {
    let client = &context.client;
    let phase = run.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let environments = |namespace: &str| -> Api<Environment> { Api::namespaced(client.clone(), namespace) };
    let spec = &run.spec;
    let from = &spec.from;
    let there = environments(&from.namespace);
    let ((target, others), source) = futures::try_join!(
        observe::environment(client, namespace, &spec.environment.name),
        call(format!("get Environment {}/{}", from.namespace, from.name), there.get_opt(&from.name)),
    )?;
    let mut seen = Observed {
        target,
        others,
        source,
        target_side: Side::default(),
        source_side: Side::default(),
        jobs: BTreeMap::new(),
        backup: None,
        child: None,
        requester_may_promote: false,
        approvers: BTreeMap::new(),
        missing_policies: Vec::new(),
        queue: Vec::new(),
        refused: None,
        terminating: run.metadata.deletion_timestamp.is_some() && observe::terminating(client, namespace).await?,
    };
    let uid = run.uid().unwrap_or_default();
    if let Some(target) = &seen.target {
        match observe::refused(&context.settings, namespace, observe::side(client, namespace, &target.spec, &uid, true).await)? {
            Seen::All(side) => seen.target_side = side,
            Seen::Refused(text) => seen.refused = Some(text),
        }
        if seen.refused.is_none() {
            seen.jobs = observe::jobs(client, namespace, &uid, &seen.target_side.pods).await?;
            context.logs.tell(client, &seen.target_side.pods, &mut seen.jobs);
        }
    }
    // What gates the start is asked up to the door; from the lock on a run finishes or rolls back.
    if phase.is_before_start() || matches!(phase, Phase::Aligning | Phase::BackingUp) {
        if phase.is_before_start()
            && let Some(source) = &seen.source
        {
            let there = &*from.namespace;
            match observe::refused(&context.settings, there, observe::side(client, there, &source.spec, &uid, false).await)? {
                Seen::All(side) => seen.source_side = side,
                Seen::Refused(text) => seen.refused = Some(text),
            }
        }
        seen.missing_policies = context.policies.missing(client).await?;
        seen.requester_may_promote =
            observe::requester_may(client, &spec.requested_by.username, verbs::PROMOTE, (&from.namespace, &from.name)).await?;
        seen.approvers = observe::approvers(client, &spec.approvals, (namespace, &spec.environment.name)).await?;
    }
    if phase == Phase::Validated {
        seen.queue = observe::queue(client, namespace, (context.clock)()).await?;
    }
    let owner = crate::manifest::Owner { kind: "Promotion", name: &run.name_any(), uid: &uid, namespace };
    let attempt = |step: &str| run.status.iter().flat_map(|s| &s.steps).find(|s| s.name == step).map_or(0, |s| s.attempt);
    if matches!(phase, Phase::Aligning | Phase::BackingUp) {
        let name = alignment::child_name(owner, attempt(steps::name::ALIGN));
        let api: Api<DownAlignment> = Api::namespaced(client.clone(), namespace);
        seen.child = call(format!("get DownAlignment {namespace}/{name}"), api.get_opt(&name)).await?;
    }
    if phase == Phase::BackingUp {
        let attempt = attempt(steps::name::BACKUP);
        let name = forward::backup_name(owner, attempt);
        let api: Api<EnvironmentBackup> = Api::namespaced(client.clone(), namespace);
        seen.backup = call(format!("get EnvironmentBackup {namespace}/{name}"), api.get_opt(&name)).await?;
    }
    Ok(seen)
}

/// When a run must be looked at again though nothing was heard: watches can be late or lost.
pub fn patience(phase: Phase) -> std::time::Duration {
    match phase {
        Phase::Scheduled | Phase::Validated | Phase::NeedsHuman => std::time::Duration::from_secs(15),
        _ => std::time::Duration::from_secs(3),
    }
}

/// The phase of a run as the cache has it.
pub fn phase(run: &Promotion) -> Phase {
    run.status.as_ref().map(|s| s.phase).unwrap_or_default()
}
