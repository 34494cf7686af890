//! What every driver of a run that locks does alike, once it has read: ask the plan, then do its one effect or write its one
//! status, and tell of it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Context, Turn,
    execute::{Subject, execute},
    status,
};
use crate::{
    api::{DownAlignment, EnvironmentRestore, FINALIZER, Promotion, RunStatus},
    error::Result,
    plan::{
        Decision, Effect, intervention, promotion as planner,
        world::{Run, World},
    },
};

/// A kind of run that locks an environment.
pub trait Locks:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug
{
    /// The object as the plan sees it.
    fn as_run(&self) -> Run<'_>;
    /// Its status.
    fn status_mut(&mut self) -> &mut Option<RunStatus>;
}

impl Locks for Promotion {
    fn as_run(&self) -> Run<'_> {
        Run::Promotion(self)
    }
    fn status_mut(&mut self) -> &mut Option<RunStatus> {
        &mut self.status
    }
}

impl Locks for EnvironmentRestore {
    fn as_run(&self) -> Run<'_> {
        Run::Restore(self)
    }
    fn status_mut(&mut self) -> &mut Option<RunStatus> {
        &mut self.status
    }
}

impl Locks for DownAlignment {
    fn as_run(&self) -> Run<'_> {
        Run::Alignment(self)
    }
    fn status_mut(&mut self) -> &mut Option<RunStatus> {
        &mut self.status
    }
}

/// Whether there is nothing to do for a run, whatever is around it: it has ended, and nobody deletes it.
pub fn is_over(run: Run<'_>) -> bool {
    run.status().is_some_and(|s| s.phase.is_terminal()) && !run.is_leaving()
}

/// Decides on what was read, and does that.
pub async fn decide<K: Locks>(context: &Context, run: &K, world: &World<'_>) -> Result<Turn> {
    match planner::plan(world, (context.clock)()) {
        Decision::Wait(until) => Ok(Turn::Wait(until)),
        Decision::Perform(effect) => perform(context, run, world, &effect).await,
        Decision::Advance(new) => {
            write(context, run, *new).await?;
            Ok(Turn::Again)
        }
    }
}

async fn perform<K: Locks>(context: &Context, run: &K, world: &World<'_>, effect: &Effect) -> Result<Turn> {
    let seen = run.as_run();
    let (kind, namespace, name) = (seen.kind(), seen.namespace(), seen.name());
    let status = world.status();
    let step = status.step.as_deref().unwrap_or_default();
    tracing::info!(kind, namespace, run = name, phase = %status.phase, step, effect = %effect.describe(), "perform");
    if *effect == Effect::RemoveFinalizer
        && let Some(text) = intervention::farewell(world)
    {
        context.report.farewell(&context.settings, run.object_ref(&()), &text).await;
    }
    let version = run.resource_version().unwrap_or_default();
    let subject = Subject { namespace, name, uid: seen.uid(), resource_version: &version, finalizer: FINALIZER };
    let Err(error) = execute::<K>(&context.client, &subject, effect).await else { return Ok(Turn::Again) };
    // What the API server refuses for what it is must be said, and in the end put an end to.
    if let Some(message) = error.refusal()
        && let Decision::Advance(new) = planner::refused(world, &message, (context.clock)())
    {
        write(context, run, *new).await?;
    }
    Err(error)
}

/// Writes a status over the one that was read, and tells of it.
async fn write<K: Locks>(context: &Context, run: &K, new: RunStatus) -> Result<()> {
    let mut run = run.clone();
    let old = run.status_mut().replace(new).unwrap_or_default();
    status::swap(&context.client, &run).await?;
    context.report.run(run.as_run(), &old, &run.object_ref(&())).await;
    Ok(())
}
