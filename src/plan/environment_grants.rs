//! Whether what an Environment grants can leave by the policies that its grants name. It is told beside Ready and not within: it
//! keeps others from becoming mirrors, and nothing here from being promoted.

use kube::ResourceExt;

use super::environment::World;
use crate::{
    api::{DataGrant, EnvironmentStatus, MaskingPolicy, Timestamp, conditions, environment::GrantedPolicy, reasons},
    data::mask,
};

/// So many columns are named.
const NAMED: usize = 3;
/// Of what a policy says of itself, so much is repeated.
const REPEATED: usize = 500;

/// Sets the condition, where there are grants.
pub fn tell(world: &World<'_>, status: &mut EnvironmentStatus, generation: i64, now: Timestamp) {
    let list = &mut status.conditions;
    if world.environment.spec.grants.is_empty() {
        list.retain(|c| c.type_ != conditions::GRANTS_READY);
        return;
    }
    let held: Vec<(&str, String)> =
        by_policy(&world.environment.spec.grants).into_iter().filter_map(|g| held(world, &g)).collect();
    let (reason, message) = match held.first() {
        None => (reasons::READY, "what is granted can leave by the policies that are named".to_owned()),
        Some((reason, _)) => (*reason, held.iter().map(|(_, said)| said.as_str()).collect::<Vec<_>>().join("; ")),
    };
    conditions::set(list, conditions::GRANTS_READY, held.is_empty(), reason, &message, generation, now);
}

/// Grants that name one policy, so that it is spoken of once.
type Grants<'a> = (&'a GrantedPolicy, Vec<&'a DataGrant>);

fn by_policy(grants: &[DataGrant]) -> Vec<Grants<'_>> {
    let mut out: Vec<Grants<'_>> = Vec::new();
    for grant in grants {
        match out.iter_mut().find(|(policy, _)| **policy == grant.masking_policy) {
            Some((_, list)) => list.push(grant),
            None => out.push((&grant.masking_policy, vec![grant])),
        }
    }
    out
}

/// Why nothing leaves by these grants: reason and sentence.
fn held(world: &World<'_>, (wanted, grants): &Grants<'_>) -> Option<(&'static str, String)> {
    let to: Vec<String> = grants.iter().map(|g| format!("{}/{}", g.to.namespace, g.to.name)).collect();
    let (name, to) = (&wanted.name, to.join(", "));
    let Some(policy) = world.policies.iter().find(|p| p.name_any() == **name) else {
        let message = format!(
            "MaskingPolicy {name}, by which {to} may take data, does not exist, so nothing leaves: apply it, or correct the grant"
        );
        return Some(("PolicyMissing", message));
    };
    let hash = mask::hash(&policy.spec);
    if hash != wanted.hash {
        let message = format!(
            "MaskingPolicy {name} has changed since {to} was granted data by it: nothing leaves until the grant names its hash of today, \
             maskingPolicy: {{name: {name}, hash: \"{hash}\"}}"
        );
        return Some(("PolicyChanged", message));
    }
    let unnamed = unnamed(policy, grants);
    if !unnamed.is_empty() {
        let message = format!(
            "MaskingPolicy {name} leaves {}: nothing leaves to {to} until each is named (kubectl lockkeeper masking check {name})",
            unnamed.join(", and ")
        );
        return Some(("PolicyIncomplete", message));
    }
    let status = policy.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|c| c.type_ == conditions::READY);
    if ready.is_some_and(|c| c.status == "True") {
        return None;
    }
    let why = ready.map_or("the operator has not looked at it yet", |c| c.message.as_str());
    let why: String = why.chars().take(REPEATED).collect();
    Some(("PolicyNotReady", format!("MaskingPolicy {name}, by which {to} may take data, is not Ready: {why}")))
}

/// The columns of what is granted that the policy does not name, by data and in words.
fn unnamed(policy: &MaskingPolicy, grants: &[&DataGrant]) -> Vec<String> {
    let granted =
        |data: &str| grants.iter().any(|g| g.data.names.as_ref().is_none_or(|names| names.iter().any(|n| **n == *data)));
    let coverage = policy.status.iter().flat_map(|s| &s.coverage);
    let open = coverage.filter(|c| c.columns > c.classified && granted(&c.data));
    open.map(|c| {
        let count = c.columns - c.classified;
        let more =
            if c.unknown.len() > NAMED || usize::try_from(count).is_ok_and(|n| n > c.unknown.len()) { ", …" } else { "" };
        let first: Vec<&str> = c.unknown.iter().take(NAMED).map(String::as_str).collect();
        let columns = if c.columns == 1 { "column" } else { "columns" };
        format!("{count} of {} {columns} of data {} unclassified ({}{more})", c.columns, c.data, first.join(", "))
    })
    .collect()
}
