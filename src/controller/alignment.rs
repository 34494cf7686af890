//! The driver of DownAlignments: as [`super::promotion`], with the MaskingPolicy that the source's grant names and what was made in
//! the source's namespace.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt};

use super::{
    Context, Turn,
    api::call,
    driven::{self, Locks},
    observe::{self, Seen},
};
use crate::{
    api::{DownAlignment, Environment, MaskingPolicy, Phase, verbs},
    data::mask,
    error::Result,
    plan::{
        queue::Waiting,
        world::{Elsewhere, JobView, PolicyView, Side, World},
    },
};

/// All that was read for one decision.
#[derive(Default)]
struct Observed {
    target: Option<Environment>,
    others: Vec<String>,
    source: Option<Environment>,
    target_side: Side,
    source_side: Side,
    jobs: BTreeMap<String, JobView>,
    elsewhere: Option<Elsewhere>,
    policy: Option<PolicyView>,
    requester_may: bool,
    missing_policies: Vec<String>,
    queue: Vec<Waiting>,
    refused: Option<String>,
    terminating: bool,
}

/// One turn for a DownAlignment.
pub async fn turn(context: &Context, namespace: &str, name: &str) -> Result<Turn> {
    let api: Api<DownAlignment> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("get DownAlignment {namespace}/{name}");
    let Some(run) = call(what, api.get_opt(name)).await? else { return Ok(Turn::Gone) };
    if driven::is_over(run.as_run()) {
        return Ok(Turn::Wait(None));
    }
    let seen = observe(context, &run, namespace).await?;
    let nobody = BTreeMap::new();
    let world = World {
        settings: &context.settings,
        run: run.as_run(),
        target: seen.target.as_ref(),
        source: seen.source.as_ref(),
        others: &seen.others,
        target_side: &seen.target_side,
        source_side: &seen.source_side,
        jobs: &seen.jobs,
        backup: None,
        undone: None,
        child: None,
        policy: seen.policy.as_ref(),
        elsewhere: seen.elsewhere.as_ref(),
        requester_may_promote: seen.requester_may,
        approvers: &nobody,
        missing_policies: &seen.missing_policies,
        queue: &seen.queue,
        refused: seen.refused.as_deref(),
        terminating: seen.terminating,
    };
    driven::decide(context, &run, &world).await
}

async fn observe(context: &Context, run: &DownAlignment, namespace: &str) -> Result<Observed> {
    let client = &context.client;
    let phase = run.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let environments = |namespace: &str| -> Api<Environment> { Api::namespaced(client.clone(), namespace) };
    let (spec, uid) = (&run.spec, run.uid().unwrap_or_default());
    let (from, there) = (&spec.from, &*spec.from.namespace);
    let source = environments(there);
    let ((target, others), source) = futures::try_join!(
        observe::environment(client, namespace, &spec.environment.name),
        call(format!("get Environment {there}/{}", from.name), source.get_opt(&from.name)),
    )?;
    let mut seen = Observed {
        target,
        others,
        source,
        terminating: run.metadata.deletion_timestamp.is_some() && observe::terminating(client, namespace).await?,
        ..Observed::default()
    };
    if let Some(target) = &seen.target {
        match observe::refused(&context.settings, namespace, observe::side(client, namespace, &target.spec, &uid, true).await)? {
            Seen::All(side) => {
                seen.jobs = observe::jobs(client, namespace, &uid, &side.pods).await?;
                context.logs.tell(client, &side.pods, &mut seen.jobs);
                seen.target_side = side;
            }
            Seen::Refused(text) => seen.refused = Some(text),
        }
    }
    // What was made there is found whether or not its Environment is still there. A run that ends does not wait for rights in a
    // namespace that has closed itself to us.
    let before_lock = phase.is_before_start() || phase == Phase::Snapshotting;
    let ending = run.metadata.deletion_timestamp.is_some()
        || spec.cancel.is_some()
        || run.status.as_ref().is_some_and(|s| s.failure.is_some());
    let read = async {
        let side = match &seen.source {
            Some(source) => Side {
                volumes: observe::claims_of_data(client, there, &source.spec).await?,
                ..observe::side(client, there, &source.spec, &uid, false).await?
            },
            None => Side::default(),
        };
        let mut jobs = observe::jobs(client, there, &uid, &side.pods).await?;
        context.logs.tell(client, &side.pods, &mut jobs);
        Ok((side, Elsewhere { jobs, config_maps: observe::copies_of(client, there, &uid).await? }))
    };
    match observe::refused(&context.settings, there, read.await)? {
        Seen::All((side, elsewhere)) => (seen.source_side, seen.elsewhere) = (side, Some(elsewhere)),
        Seen::Refused(text) if before_lock && !ending && seen.source.is_some() => seen.refused = Some(text),
        Seen::Refused(_) => {}
    }
    // What gates the start is asked up to the door; from the lock on a run finishes or rolls back.
    if phase.is_before_start() || phase == Phase::Snapshotting {
        seen.policy = policy(context, run, seen.source.as_ref(), seen.target.as_ref()).await?;
        seen.missing_policies = context.policies.missing(client).await?;
        seen.requester_may =
            observe::requester_may(client, &spec.requested_by.username, verbs::ALIGN, (there, &from.name)).await?;
    }
    if phase == Phase::Validated {
        seen.queue = observe::queue(client, namespace, (context.clock)()).await?;
    }
    Ok(seen)
}

/// The MaskingPolicy that the source's grant for this environment names.
async fn policy(
    context: &Context,
    run: &DownAlignment,
    source: Option<&Environment>,
    target: Option<&Environment>,
) -> Result<Option<PolicyView>> {
    let (Some(source), Some(target)) = (source, target) else { return Ok(None) };
    let Some(name) = crate::plan::alignment::policy_name(run, source, target) else { return Ok(None) };
    let (there, name) = (&*run.spec.from.namespace, name.as_str());
    let policies: Api<MaskingPolicy> = Api::namespaced(context.client.clone(), there);
    let found = call(format!("get MaskingPolicy {there}/{name}"), policies.get_opt(name)).await?;
    Ok(found.map(|p| PolicyView { name: name.to_owned(), hash: mask::hash(&p.spec), spec: p.spec }))
}
