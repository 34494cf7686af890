//! KEDA's ScaledObjects. What a HorizontalPodAutoscaler watches stays at nothing once it is there; KEDA starts it again as
//! soon as there is work, so it must rest while its workload is stopped.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{ResourceExt, core::DynamicObject};
use serde_json::json;

use super::{Effect, PatchKind, Resource, world::Side};
use crate::{
    api::{WorkloadRef, annotations::FOUND},
    manifest::{
        Owner,
        found::{Found, FoundScaler},
    },
};

/// KEDA leaves a ScaledObject alone that carries this.
pub const PAUSED: &str = "autoscaling.keda.sh/paused";

/// What puts the first ScaledObject to rest that still works on one of these workloads.
pub fn rest(side: &Side, workloads: &[WorkloadRef], owner: Owner<'_>, epoch: i64) -> Option<Effect> {
    let works = |s: &&DynamicObject| scales(s, workloads) && found(s).is_none_or(|f| f.run != owner.uid);
    let scaler = side.scalers.iter().find(works)?;
    // A run that is gone may have left it at rest: what that had found is what was there.
    let before = match found(scaler) {
        Some(earlier) => earlier.values,
        None => FoundScaler { paused: scaler.annotations().get(PAUSED).cloned() },
    };
    let found = Found { run: owner.uid.to_owned(), epoch, values: before };
    Some(patch(scaler, json!({FOUND: found.write(), PAUSED: "true"})))
}

/// What lets the first ScaledObject go on that rests for this run.
pub fn go_on(side: &Side, owner: Owner<'_>) -> Option<Effect> {
    let (scaler, found) = side.scalers.iter().find_map(|s| Some((s, found(s).filter(|f| f.run == owner.uid)?)))?;
    let ours = scaler.annotations().get(PAUSED).is_some_and(|p| p == "true");
    // Somebody's own word on it stays.
    Some(patch(scaler, if ours { json!({FOUND: null, PAUSED: found.values.paused}) } else { json!({FOUND: null}) }))
}

fn found(scaler: &DynamicObject) -> Option<Found<FoundScaler>> {
    Found::read(scaler.annotations())
}

fn scales(scaler: &DynamicObject, workloads: &[WorkloadRef]) -> bool {
    let target: ObjectReference = serde_json::from_value(scaler.data["spec"]["scaleTargetRef"].clone()).unwrap_or_default();
    let kind = target.kind.unwrap_or_else(|| "Deployment".to_owned());
    workloads.iter().any(|w| w.kind.to_string() == kind && target.name.as_deref() == Some(&w.name))
}

fn patch(scaler: &DynamicObject, annotations: serde_json::Value) -> Effect {
    Effect::Patch {
        resource: Resource::ScaledObject,
        name: scaler.name_any(),
        kind: PatchKind::Merge,
        patch: Box::new(json!({"metadata": {"resourceVersion": scaler.resource_version(), "annotations": annotations}})),
    }
}
