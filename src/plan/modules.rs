//! The order in which modules are delivered.

use std::collections::BTreeSet;

use super::world::Side;
use crate::api::{EnvironmentSpec, Module};

/// The modules in the order of their delivery: each after those that it requires, otherwise as they are listed. `Err`: which
/// of them require what is not there, or each other.
pub fn in_order(spec: &EnvironmentSpec) -> Result<Vec<&Module>, String> {
    for module in &spec.modules {
        if let Some(unknown) = module.requires.iter().find(|r| spec.module(r).is_none()) {
            return Err(format!(
                "module {} requires {unknown}, which is no module of this Environment: add it, or take it out of requires",
                module.name
            ));
        }
    }
    let mut out: Vec<&Module> = Vec::new();
    while out.len() < spec.modules.len() {
        let is_out = |name: &str| out.iter().any(|m| *m.name == *name);
        let next = spec.modules.iter().find(|m| !is_out(&m.name) && m.requires.iter().all(|r| is_out(r)));
        match next {
            Some(module) => out.push(module),
            None => return Err(cycle(spec, &out)),
        }
    }
    Ok(out)
}

/// Migrations of these modules whose container is unclear or not there, in words: found out before anyone is locked out.
pub fn unclear_migrations(spec: &EnvironmentSpec, side: &Side, chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for module in spec.modules.iter().filter(|m| chosen(&m.name)) {
        let (Some(migration), Some(reference)) = (&module.migration, module.migration_workload()) else { continue };
        let Some(workload) = side.find(reference) else { continue };
        let there: Vec<&str> = workload.containers().iter().map(|c| c.name.as_str()).collect();
        match &migration.container {
            Some(named) if !there.contains(&&**named) => out.push(format!(
                "module {}: migration.container names {named}, which {reference} does not have; it has {}",
                module.name,
                there.join(", ")
            )),
            None if there.len() != 1 => out.push(format!(
                "module {}: {reference} has several containers, {}: name one under migration.container",
                module.name,
                there.join(", ")
            )),
            _ => {}
        }
    }
    out
}

/// Modules that are not promoted and that a promoted one requires, itself or by others.
pub fn required<'a>(spec: &'a EnvironmentSpec, promoted: &dyn Fn(&str) -> bool) -> BTreeSet<&'a str> {
    let mut out = BTreeSet::new();
    let mut open: Vec<&Module> = spec.modules.iter().filter(|m| promoted(&m.name)).collect();
    while let Some(module) = open.pop() {
        for needed in module.requires.iter().filter_map(|r| spec.module(r)) {
            if !promoted(&needed.name) && out.insert(&*needed.name) {
                open.push(needed);
            }
        }
    }
    out
}

/// Names one circle among the modules that are left: each of them requires another that is left.
fn cycle(spec: &EnvironmentSpec, out: &[&Module]) -> String {
    let left = |name: &str| !out.iter().any(|m| *m.name == *name);
    let mut path: Vec<&str> = spec.modules.iter().map(|m| &*m.name).filter(|n| left(n)).take(1).collect();
    loop {
        let next = path.last().and_then(|last| spec.module(last)).and_then(|m| m.requires.iter().map(|r| &**r).find(|r| left(r)));
        let Some(next) = next else { break };
        if let Some(start) = path.iter().position(|p| *p == next) {
            path.drain(..start);
            path.push(next);
            break;
        }
        path.push(next);
    }
    format!("modules require each other in a circle: {}; take one of these out of requires", path.join(" requires "))
}
