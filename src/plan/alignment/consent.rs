//! Both sides' consent to a DownAlignment, and what of the data it lets go.

use kube::ResourceExt;

use super::super::{graph, restore, world::World};
use crate::{
    api::{Data, DataGrant, DownAlignment, DownAlignmentSpec, Environment},
    data::mask::files,
};

/// Both sides' consent, and that there is a way: `Err` says whose word is missing, and what he writes. Nothing to ask of a run
/// of another kind.
pub fn consent(world: &World<'_>) -> Result<(), String> {
    let (Some(spec), Some(target)) = (world.run.alignment(), world.target) else { return Ok(()) };
    let (namespace, name) = (world.run.namespace(), target.name_any());
    let from = format!("{}/{}", spec.from.namespace, spec.from.name);
    if target.spec.is_protected() {
        return Err(format!(
            "Environment {namespace}/{name} is protected: no other environment's data is ever put here. Align a lower environment"
        ));
    }
    if *spec.from.namespace == *namespace {
        return Err("the source is the environment itself: name another under spec.from".into());
    }
    if !target.spec.aligns_from.contains(&spec.from) {
        return Err(format!(
            "Environment {namespace}/{name} is not aligned with {from}: its owner adds {{namespace: {}, name: {}}} to spec.alignsFrom",
            spec.from.namespace, spec.from.name
        ));
    }
    let Some(source) = world.source else {
        return Err(format!("the source Environment {from} does not exist: apply it, or make another DownAlignment"));
    };
    if source.metadata.deletion_timestamp.is_some() {
        return Err(format!("the source Environment {from} is being deleted: apply it again once it is gone"));
    }
    if graph::is_above(target.spec.tier, source.spec.tier) {
        return Err(format!(
            "Environment {namespace}/{name} is of tier {:?} and {from} of tier {:?}: data and releases of a lower tier do not go up by an \
             alignment. Promote instead",
            target.spec.tier, source.spec.tier
        ));
    }
    if let Some(named) = spec.include.data.names.iter().flatten().find(|n| !target.spec.data.iter().any(|d| d.name == **n)) {
        return Err(format!("data {named} is not in Environment {namespace}/{name}: correct include.data.names"));
    }
    let data = asked(spec, target);
    if data.is_empty() {
        return Ok(());
    }
    for wanted in target.spec.data.iter().filter(|d| spec.include.data.takes(&d.name)) {
        let there = source.spec.data.iter().find(|s| s.name == wanted.name);
        let kind = |d: &Data| if d.volume.is_some() { "a volume" } else { "a database" };
        match there {
            Some(there) if kind(there) != kind(wanted) => {
                return Err(format!(
                    "data {} is {} in Environment {from} and {} in {namespace}/{name}: name it otherwise on one side, or leave it out under \
                     include.data",
                    wanted.name,
                    kind(there),
                    kind(wanted)
                ));
            }
            None if data.iter().any(|d| d.name == wanted.name) => {
                return Err(format!(
                    "data {} is not in the source Environment {from}: name it alike on both sides, or leave it out under include.data",
                    wanted.name
                ));
            }
            _ => {}
        }
    }
    if data.iter().all(|d| d.volume.is_some()) {
        let databases: Vec<&str> = target.spec.data.iter().filter(|d| d.postgres.is_some()).map(|d| &*d.name).collect();
        return Err(format!(
            "a volume is put in place together with a database, whose epoch guards it: name one of {} too under include.data.names",
            databases.join(", ")
        ));
    }
    let grant =
        grant((namespace, world.run.environment()), source, &data).map_err(|what| format!("Environment {from} {what}"))?;
    let wanted = &grant.masking_policy;
    let Some(policy) = world.policy.filter(|p| p.name == *wanted.name) else {
        return Err(format!(
            "MaskingPolicy {}/{}, which the grant of Environment {from} names, does not exist: apply it, or correct the grant",
            spec.from.namespace, wanted.name
        ));
    };
    if policy.hash != wanted.hash {
        return Err(format!(
            "MaskingPolicy {}/{} has changed since Environment {from} granted it: nothing leaves by it until the grant names its hash of \
             today, maskingPolicy: {{name: {}, hash: \"{}\"}}",
            spec.from.namespace, wanted.name, wanted.name, policy.hash
        ));
    }
    let taken = restore::data(world, &target.spec);
    if let Some(kept) = data.iter().find(|d| !taken.iter().any(|t| t.name == d.name)) {
        return Err(format!(
            "data {} is a volume, and MaskingPolicy {}/{} lists none of its files: nothing of it leaves until it says which may, {}, and the \
             grant names the policy's new hash; or leave it out of include.data.names",
            kept.name,
            spec.from.namespace,
            policy.name,
            files::suggested(&kept.name)
        ));
    }
    for (side, environment, whose) in [("source", source, &*spec.from.namespace), ("target", target, namespace)] {
        if environment.spec.exchange.is_none() {
            return Err(format!(
                "Environment {whose}/{}, the {side}, names no exchange, where masked data is handed over: add spec.exchange with S3, or a volume \
                 that is bound on both sides",
                environment.name_any()
            ));
        }
    }
    Ok(())
}

/// The source's grant for this target and this data. `Err`: what the source does not do.
fn grant<'a>((namespace, name): (&str, &str), source: &'a Environment, data: &[&Data]) -> Result<&'a DataGrant, String> {
    let to_us: Vec<&DataGrant> =
        source.spec.grants.iter().filter(|g| *g.to.namespace == *namespace && *g.to.name == *name).collect();
    let covers = |g: &&&DataGrant| data.iter().all(|d| g.data.names.as_ref().is_none_or(|names| names.contains(&d.name)));
    if let Some(found) = to_us.iter().find(covers) {
        return Ok(found);
    }
    let names: Vec<&str> = data.iter().map(|d| -> &str { &d.name }).collect();
    Err(format!(
        "lets {namespace}/{name} take {}: its owner adds {{to: {{namespace: {namespace}, name: {name}}}, data: {{names: [{}]}}, \
         maskingPolicy: {{name: …, hash: …}}}} to spec.grants",
        if to_us.is_empty() { "nothing from it".to_owned() } else { "other data, not all of this".to_owned() },
        names.join(", ")
    ))
}

/// What a run asks for in so many words: a volume that nobody named stays where it is if nothing of it may leave.
fn asked<'a>(spec: &DownAlignmentSpec, target: &'a Environment) -> Vec<&'a Data> {
    let include = &spec.include.data;
    let named = |d: &Data| include.names.iter().flatten().any(|n| *n == d.name);
    target.spec.data.iter().filter(|d| include.takes(&d.name) && (d.volume.is_none() || named(d))).collect()
}

/// The name of the MaskingPolicy by which the source lets this run take what it asks for, where it does.
pub fn policy_name(run: &DownAlignment, source: &Environment, target: &Environment) -> Option<String> {
    let to = (run.metadata.namespace.as_deref().unwrap_or_default(), &*run.spec.environment.name);
    grant(to, source, &asked(&run.spec, target)).ok().map(|g| g.masking_policy.name.to_string())
}

/// Whether data that an alignment includes goes along: of a volume, whether files of it may leave. What a snapshot holds is told
/// by it: what becomes of policy and grant while locked changes nothing.
pub fn goes(world: &World<'_>, data: &Data) -> bool {
    if data.volume.is_none() {
        return true;
    }
    if let Some(snapshot) = world.status().snapshot {
        return snapshot.volumes.iter().any(|v| *v == *data.name);
    }
    let (Some(spec), Some(target), Some(source), Some(policy)) =
        (world.run.alignment(), world.target, world.source, world.policy)
    else {
        return false;
    };
    let Ok(grant) = grant((world.run.namespace(), world.run.environment()), source, &asked(spec, target)) else { return false };
    *grant.masking_policy.name == *policy.name
        && grant.data.names.as_ref().is_none_or(|names| names.contains(&data.name))
        && source.spec.data.iter().any(|s| s.name == data.name && s.volume.is_some())
        && policy.spec.data.iter().any(|d| d.name == data.name && d.files.is_some())
}
