//! The driver of EnvironmentRestores: as [`super::promotion`], without a source, with what is to come back.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt};

use super::{
    Context, Turn,
    api::call,
    driven::{self, Locks},
    observe::{self, Seen},
};
use crate::{
    api::{DownAlignment, Environment, EnvironmentBackup, EnvironmentRestore, Promotion, UndoableKind, verbs},
    error::Result,
    plan::{
        queue::Waiting,
        world::{JobView, Run, Side, World},
    },
};

/// The run that is undone, as it was read.
enum Undone {
    Promotion(Promotion),
    Restore(EnvironmentRestore),
    Alignment(DownAlignment),
}

/// All that was read for one decision.
#[derive(Default)]
struct Observed {
    target: Option<Environment>,
    others: Vec<String>,
    side: Side,
    jobs: BTreeMap<String, JobView>,
    backup: Option<EnvironmentBackup>,
    undone: Option<Undone>,
    requester_may: bool,
    approvers: BTreeMap<String, bool>,
    missing_policies: Vec<String>,
    queue: Vec<Waiting>,
    refused: Option<String>,
    terminating: bool,
}

/// One turn for an EnvironmentRestore.
pub async fn turn(context: &Context, namespace: &str, name: &str) -> Result<Turn> {
    let client = &context.client;
    let api: Api<EnvironmentRestore> = Api::namespaced(client.clone(), namespace);
    let what = format!("get EnvironmentRestore {namespace}/{name}");
    let Some(run) = call(what, api.get_opt(name)).await? else { return Ok(Turn::Gone) };
    if driven::is_over(run.as_run()) {
        return Ok(Turn::Wait(None));
    }
    let seen = observe(context, &run, namespace).await?;
    let none = Side::default();
    let world = World {
        settings: &context.settings,
        run: run.as_run(),
        target: seen.target.as_ref(),
        others: &seen.others,
        source: None,
        target_side: &seen.side,
        source_side: &none,
        jobs: &seen.jobs,
        backup: seen.backup.as_ref(),
        undone: seen.undone.as_ref().map(|undone| match undone {
            Undone::Promotion(run) => Run::Promotion(run),
            Undone::Restore(run) => Run::Restore(run),
            Undone::Alignment(run) => Run::Alignment(run),
        }),
        child: None,
        policy: None,
        elsewhere: None,
        requester_may_promote: seen.requester_may,
        approvers: &seen.approvers,
        missing_policies: &seen.missing_policies,
        queue: &seen.queue,
        refused: seen.refused.as_deref(),
        terminating: seen.terminating,
    };
    driven::decide(context, &run, &world).await
}

async fn observe(context: &Context, run: &EnvironmentRestore, namespace: &str) -> Result<Observed> {
    let client = &context.client;
    let (phase, spec) = (run.status.as_ref().map(|s| s.phase).unwrap_or_default(), &run.spec);
    let reference = &spec.environment.name;
    let (target, others) = observe::environment(client, namespace, reference).await?;
    let mut seen = Observed {
        target,
        others,
        terminating: run.metadata.deletion_timestamp.is_some() && observe::terminating(client, namespace).await?,
        ..Observed::default()
    };
    if let Some(backup) = &spec.from.backup {
        let backups: Api<EnvironmentBackup> = Api::namespaced(client.clone(), namespace);
        let what = format!("get EnvironmentBackup {namespace}/{}", backup.name);
        seen.backup = call(what, backups.get_opt(&backup.name)).await?;
    }
    if let Some(undo) = &spec.from.undo_of {
        let what = format!("get {:?} {namespace}/{}", undo.kind, undo.name);
        seen.undone = match undo.kind {
            UndoableKind::Promotion => {
                let runs: Api<Promotion> = Api::namespaced(client.clone(), namespace);
                call(what, runs.get_opt(&undo.name)).await?.map(Undone::Promotion)
            }
            UndoableKind::EnvironmentRestore => {
                let runs: Api<EnvironmentRestore> = Api::namespaced(client.clone(), namespace);
                call(what, runs.get_opt(&undo.name)).await?.map(Undone::Restore)
            }
            UndoableKind::DownAlignment => {
                let runs: Api<DownAlignment> = Api::namespaced(client.clone(), namespace);
                call(what, runs.get_opt(&undo.name)).await?.map(Undone::Alignment)
            }
        };
    }
    let uid = run.uid().unwrap_or_default();
    if let Some(target) = &seen.target {
        match observe::refused(&context.settings, namespace, observe::side(client, namespace, &target.spec, &uid, true).await)? {
            Seen::All(mut side) => {
                if spec.from.undo_of.is_some() {
                    let others = observe::prior_copies(client, namespace).await?;
                    side.config_maps.extend(
                        others.into_iter().filter(|c| c.labels().get(crate::api::labels::RUN).is_none_or(|of| *of != uid)),
                    );
                }
                seen.jobs = observe::jobs(client, namespace, &uid, &side.pods).await?;
                context.logs.tell(client, &side.pods, &mut seen.jobs);
                seen.side = side;
            }
            Seen::Refused(text) => seen.refused = Some(text),
        }
    }
    // What gates the start is asked up to the door; from the lock on a run finishes or rolls back.
    if phase.is_before_start() {
        seen.queue = observe::queue(client, namespace, (context.clock)()).await?;
        seen.missing_policies = context.policies.missing(client).await?;
        let target = (namespace, &**reference);
        seen.requester_may = observe::requester_may(client, &spec.requested_by.username, verbs::RESTORE, target).await?;
        seen.approvers = observe::approvers(client, &spec.approvals, target).await?;
    }
    Ok(seen)
}
