//! Which environments may give to which, and where an environment may be. Consent is the owners' word
//! (`spec.promotesFrom`, the verb `promote`); here is what no owner can want.

use kube::ResourceExt;

use super::world::World;
use crate::api::{Environment, EnvironmentRef, Tier};

/// A tier's place: releases go up, or from side to side.
fn rank(tier: Tier) -> u8 {
    match tier {
        Tier::Development => 0,
        Tier::Staging => 1,
        Tier::Production => 2,
    }
}

/// Whether a tier is above another.
pub fn is_above(tier: Tier, other: Tier) -> bool {
    rank(tier) > rank(other)
}

/// What is wrong with where an Environment is and with what it says of its sources, in words.
pub fn problems(environment: &Environment, operator: &str) -> Vec<String> {
    let namespace = environment.namespace().unwrap_or_default();
    let mut out = Vec::new();
    if namespace == operator || namespace.starts_with("kube-") {
        out.push(format!(
            "namespace {namespace} is no place for an Environment: while it is locked, what the whole cluster needs would be stopped; make it in a namespace of its own"
        ));
    }
    if environment.spec.promotes_from.iter().any(|e| *e.namespace == *namespace) {
        out.push(format!("promotesFrom names this Environment's own namespace {namespace}: take it out"));
    }
    out
}

/// Why this run's target must not change now, whatever the run. `None`: nothing is in the way.
pub fn target_problem(world: &World<'_>, target: &Environment) -> Option<String> {
    let (namespace, name) = (world.run.namespace(), target.name_any());
    if target.metadata.deletion_timestamp.is_some() {
        return Some(format!(
            "Environment {namespace}/{name} is being deleted: apply it again once it is gone, or delete this run"
        ));
    }
    (!world.others.is_empty()).then(|| {
        format!(
            "namespace {namespace} has several Environments, {name} and {}: one namespace is one environment, so delete the other",
            world.others.join(", ")
        )
    })
}

/// Both sides' consent, and an edge that makes sense.
pub fn edge(world: &World<'_>, from: &EnvironmentRef, source: &Environment, target: &Environment) -> Result<(), String> {
    let (namespace, name) = (world.run.namespace(), target.name_any());
    if *from.namespace == *namespace {
        return Err("the source is the environment itself: name another under spec.from".into());
    }
    if source.metadata.deletion_timestamp.is_some() {
        return Err(format!(
            "the source Environment {}/{} is being deleted: apply it again once it is gone, or make another Promotion",
            from.namespace, from.name
        ));
    }
    if !target.spec.promotes_from.iter().any(|e| e == from) {
        return Err(format!(
            "Environment {namespace}/{name} takes nothing from {}/{}: its owner adds {{namespace: {}, name: {}}} to spec.promotesFrom",
            from.namespace, from.name, from.namespace, from.name
        ));
    }
    let (above, below) = (source.spec.tier, target.spec.tier);
    if rank(above) > rank(below) {
        return Err(format!(
            "releases go up, and {}/{} is {above:?} while {namespace}/{name} is {below:?}: promote from an environment of a tier that is not higher, or correct spec.tier of one of the two",
            from.namespace, from.name
        ));
    }
    Ok(())
}
