//! A DownAlignment that a Promotion needs first, within its own turn.

use kube::ResourceExt;
use serde_json::json;

use super::super::{Effect, Progress, Resource, forward, prepare, steps, world::World};
use crate::{
    api::{API_VERSION, DownAlignment, Environment, EnvironmentSpec, LocalRef, Phase, Release, RunStatus, Step, Tier, labels},
    manifest::Owner,
};

/// That a Staging does not say whether it becomes a mirror of another before a promotion, in words.
pub fn unsaid(target: &Environment) -> Option<String> {
    (target.spec.tier == Tier::Staging && target.spec.align_before_promotion.is_none()).then(|| {
        format!(
            "Environment {}/{} is of tier Staging and does not say what it is aligned with before a promotion: add \
             alignBeforePromotion: {{from: {{namespace: …, name: …}}}}, or {{disabled: {{reason: …}}}}",
            target.namespace().unwrap_or_default(),
            target.name_any()
        )
    })
}

/// Name of the DownAlignment made for a Promotion.
pub fn child_name(owner: Owner<'_>, attempt: i32) -> String {
    let base = forward::child_name(owner);
    if attempt == 0 { format!("{base}-align") } else { format!("{base}-align-{attempt}") }
}

/// The step of a Promotion that makes its environment a mirror of another first, by a DownAlignment within the same turn.
pub fn before_promotion(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>, step: &Step) -> Progress {
    let name = child_name(owner, step.attempt);
    let known = world.child.filter(|c| c.name_any() == name);
    // Names can be guessed; the mark is the operator's alone.
    if known.is_some_and(|c| !is_of(c, owner.uid)) {
        return Progress::failed(
            "AlignmentFailed",
            format!(
                "DownAlignment {name} was made by somebody else under the name that this run needs: delete it, and make the Promotion again"
            ),
        );
    }
    let Some(child) = known else {
        let Some(from) = steps::aligned_from(target) else { return Progress::Done(None) };
        let manifest = json!({
            "apiVersion": API_VERSION, "kind": "DownAlignment", "metadata": owner.metadata(&name, steps::name::ALIGN),
            "spec": {
                "environment": {"name": world.run.environment()}, "from": from,
                // What keeps it from starting keeps the environment's turn: not for ever.
                "schedule": {"startDeadline": "1h"},
                "requestedBy": {"username": world.run.requester()},
            },
        });
        return Progress::Do(Effect::Create { resource: Resource::DownAlignment, manifest: Box::new(manifest) });
    };
    let status = child.status.clone().unwrap_or_default();
    let said = status.failure.as_ref().map(|f| format!(": {}: {}", f.step, f.message));
    match status.phase {
        Phase::Completed => {
            let snapshot = status.snapshot.map(|s| format!(", {} masked rows", s.rows.unwrap_or_default()));
            Progress::Done(Some(format!("DownAlignment {name}{}", snapshot.unwrap_or_default())))
        }
        phase if phase.is_terminal() => {
            Progress::failed("AlignmentFailed", format!("DownAlignment {name} is {phase}{}", said.unwrap_or_default()))
        }
        phase => {
            let next = status.next.map(|n| format!(" ({n})")).unwrap_or_default();
            Progress::waiting(format!("DownAlignment {name}: {phase}{next}"))
        }
    }
}

/// Whether a DownAlignment was made for the run with this UID.
fn is_of(child: &DownAlignment, uid: &str) -> bool {
    child.labels().get(labels::RUN).is_some_and(|of| of == uid)
}

/// What the alignment leaves in the Promotion's status: what is there now is what a rollback brings back.
pub fn aligned(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, step: &Step) {
    status.alignment = Some(LocalRef { name: child_name(owner, step.attempt).into() });
    match prepare::todays_plan(world, status) {
        Ok(today) => status.prior = Some(today.prior),
        // The door will not find there what is written here.
        Err(_) => status.prior = None,
    }
}

/// That what runs in an environment is not what its alignment left there, in words: somebody has changed it since.
pub fn changed_since(status: &RunStatus, today: &Release) -> Option<String> {
    status.alignment.as_ref()?;
    let said = |release: &Release| -> Vec<String> {
        let of = |m: &crate::api::ReleaseModule| {
            let images = m.workloads.iter().flat_map(|w| &w.containers).map(|c| c.image.clone());
            images.chain(m.configuration.iter().map(|c| c.hash.clone())).collect::<Vec<_>>()
        };
        release.modules.iter().flat_map(of).collect()
    };
    let same = status.prior.as_ref().is_some_and(|prior| said(prior) == said(today));
    (!same).then(|| "what runs in the target has changed since it was aligned: make the Promotion again".to_owned())
}

/// A Promotion that ends before it has changed anything takes its DownAlignment along: what is needed for that, or `None` where there
/// is none under way.
pub fn call_off(world: &World<'_>) -> Option<Progress> {
    let child = world.child.filter(|c| is_of(c, world.run.uid()) && !c.status.as_ref().is_some_and(|s| s.phase.is_terminal()))?;
    let name = child.name_any();
    if child.metadata.deletion_timestamp.is_some() {
        return Some(Progress::waiting(format!("DownAlignment {name} to put everything back")));
    }
    let uid = child.uid().unwrap_or_default();
    Some(Progress::Do(Effect::Delete { resource: Resource::DownAlignment, name, uid, grace: None }))
}
