//! A migration's pod: whose container it is, and which database its own role is for.
//!
//! The operator reads no Secrets. Which data a migration connects to is seen by the Secret that its container refers to, and
//! where the migration has a connectionSecret, that one stands in its place: [`crate::manifest::job::migration`] points the
//! same variables and volumes there. Everything that could be unclear about it blocks before anyone is locked out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{workload::Workload, world::World};
use crate::{
    api::{Data, EnvironmentSpec, Migration, Module, Release},
    manifest::task::{MigrationTask, Task},
};

/// The Secret that stands in the place of another in a migration's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRole<'a> {
    /// The data that it connects to.
    pub data: &'a Data,
    /// The migration's Secret.
    pub secret: &'a str,
    /// The keys that the container must find there.
    pub keys: BTreeSet<String>,
}

/// The container whose image carries the migration. `Err`: why that is unclear.
pub fn container(module: &Module, migration: &Migration, workload: Workload<'_>) -> Result<String, String> {
    match (&migration.container, workload.containers()) {
        (Some(named), _) => Ok(named.to_string()),
        (None, [only]) => Ok(only.name.clone()),
        (None, _) => Err(format!(
            "{} has several containers: name one under migration.container of module {}",
            workload.reference(),
            module.name
        )),
    }
}

/// The role that a module's migration has of its own, where it has one. `Err`: why its Secret cannot stand for any.
pub fn own_role<'a>(world: &World<'_>, target: &'a EnvironmentSpec, module: &'a Module) -> Result<Option<OwnRole<'a>>, String> {
    let Some(secret) = module.migration.as_ref().and_then(|m| m.connection_secret.as_ref()) else { return Ok(None) };
    let secret: &str = &secret.name;
    let Connections { who, to: connections } = connections(world, target, module)?;
    let names = |all: &[&Data]| all.iter().map(|d| d.name.to_string()).collect::<Vec<_>>().join(", ");
    match connections.as_slice() {
        [(data, keys)] => Ok(Some(OwnRole { data, secret, keys: keys.clone() })),
        [] => Err(format!(
            "module {}: {who} refers to the connectionSecret of none of the data ({}), so its migration cannot be pointed at Secret \
             {secret}: let it read its connection from there by env, envFrom or a volume, or take migration.connectionSecret out",
            module.name,
            names(&target.data.iter().collect::<Vec<_>>())
        )),
        several => Err(format!(
            "module {}: {who} connects to several data ({}), and Secret {secret} can stand for one only: migrate them from two modules, \
             or take migration.connectionSecret out",
            module.name,
            names(&several.iter().map(|(d, _)| *d).collect::<Vec<_>>())
        )),
    }
}

/// The data whose connectionSecrets a container refers to.
#[derive(Default)]
struct Connections<'a> {
    /// The container, in words.
    who: String,
    /// Each with the keys that must be there.
    to: Vec<(&'a Data, BTreeSet<String>)>,
}

/// To what the migration's container connects.
fn connections<'a>(world: &World<'_>, target: &'a EnvironmentSpec, module: &Module) -> Result<Connections<'a>, String> {
    let (Some(migration), Some(reference)) = (&module.migration, module.migration_workload()) else {
        return Ok(Connections::default());
    };
    let missing = || format!("{reference} does not exist");
    let workload = world.target_side.find(reference).ok_or_else(missing)?;
    let name = container(module, migration, workload)?;
    let who = format!("container {name} of {reference}");
    let pod = workload.template().and_then(|t| t.spec.as_ref()).ok_or_else(missing)?;
    let chosen = pod.containers.iter().find(|c| c.name == name).ok_or_else(|| format!("there is no {who}"))?;
    let mut secrets = secrets(pod, chosen);
    let of_data = |data: &'a Data| Some((data, secrets.remove(&*data.postgres.as_ref()?.connection_secret.name)?));
    Ok(Connections { who, to: target.data.iter().filter_map(of_data).collect() })
}

/// The Secrets that a container reads, each with the keys that must be there.
fn secrets(pod: &PodSpec, container: &Container) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()?.secret_key_ref.as_ref()) {
        let keys = out.entry(source.name.clone()).or_default();
        keys.extend((source.optional != Some(true)).then(|| source.key.clone()));
    }
    for source in container.env_from.iter().flatten().filter_map(|e| e.secret_ref.as_ref()) {
        out.entry(source.name.clone()).or_default();
    }
    let mounts: BTreeSet<&str> = container.volume_mounts.iter().flatten().map(|m| m.name.as_str()).collect();
    for volume in pod.volumes.iter().flatten().filter(|v| mounts.contains(v.name.as_str())) {
        let whole = volume.secret.iter().filter_map(|s| Some((s.secret_name.as_ref()?, s.optional, s.items.as_ref())));
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        let parts = sources.filter_map(|s| s.secret.as_ref()).map(|s| (&s.name, s.optional, s.items.as_ref()));
        for (name, optional, items) in whole.chain(parts) {
            let items = items.into_iter().flatten().filter(|_| optional != Some(true));
            out.entry(name.clone()).or_default().extend(items.map(|i| i.key.clone()));
        }
    }
    out
}

/// The modules of a release whose migrations run.
fn migrating<'a>(target: &'a EnvironmentSpec, release: &Release) -> impl Iterator<Item = &'a Module> {
    let names: BTreeSet<String> = release.modules.iter().map(|m| m.name.clone()).collect();
    target.modules.iter().filter(move |m| m.migration.is_some() && names.contains(&*m.name))
}

/// What is wrong with the roles of a release's migrations. None where nothing is, or none has a role of its own.
pub fn problems(world: &World<'_>, target: &EnvironmentSpec, release: &Release) -> Vec<String> {
    let mut out = Vec::new();
    let mut owned: BTreeMap<&str, &str> = BTreeMap::new();
    for module in migrating(target, release) {
        match own_role(world, target, module) {
            Ok(Some(role)) => drop(owned.insert(&role.data.name, &module.name)),
            Ok(None) => {}
            Err(problem) => out.push(problem),
        }
    }
    for module in migrating(target, release).filter(|m| m.migration.as_ref().is_some_and(|m| m.connection_secret.is_none())) {
        // Why its pod is unclear is said elsewhere.
        for (data, _) in connections(world, target, module).unwrap_or_default().to {
            if let Some(other) = owned.get(&*data.name) {
                out.push(format!(
                    "module {}: its migration connects to data {} as the application, which stays out while the migration of module \
                     {other} has a role of its own there: give it a connectionSecret too",
                    module.name, data.name
                ));
            }
        }
    }
    out
}

/// Tells a task which roles migrations have of their own.
pub fn fill(world: &World<'_>, target: &EnvironmentSpec, task: &mut Task) {
    if world.run.promotion().is_none() {
        return;
    }
    let release = world.status().release.unwrap_or_default();
    for role in migrating(target, &release).filter_map(|m| own_role(world, target, m).ok().flatten()) {
        let Some(data) = task.data.iter_mut().find(|d| *d.name == *role.data.name) else { continue };
        match data.migrations.iter_mut().find(|m| m.secret == role.secret) {
            Some(known) => {
                let more: Vec<String> = role.keys.into_iter().filter(|k| !known.keys.contains(k)).collect();
                known.keys.extend(more);
            }
            None => data.migrations.push(MigrationTask { secret: role.secret.to_owned(), keys: role.keys.into_iter().collect() }),
        }
    }
}
