//! What runs in an environment, exactly; what a promotion changes; and the hash that an approval binds to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, Pod},
    },
};
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{workload::Workload, world::Side};
use crate::api::{
    Change, ChangeKind, EnvironmentSpec, Module, PromotionSpec, Release, ReleaseConfiguration, ReleaseContainer, ReleaseModule,
    ReleaseWorkload, WorkloadKind, repository,
};

/// The data of a ConfigMap that travels: without the keys that an environment keeps as its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Text.
    pub data: BTreeMap<String, String>,
    /// Bytes.
    pub binary_data: BTreeMap<String, ByteString>,
}

impl Content {
    /// What of a ConfigMap travels.
    pub fn of(config_map: &ConfigMap, keep: &BTreeSet<String>) -> Self {
        let data = config_map.data.clone().unwrap_or_default().into_iter().filter(|(k, _)| !keep.contains(k)).collect();
        let binary_data =
            config_map.binary_data.clone().unwrap_or_default().into_iter().filter(|(k, _)| !keep.contains(k)).collect();
        Self { data, binary_data }
    }

    /// Hash over names and values.
    pub fn hash(&self) -> String {
        sha256(&json!({"data": self.data, "binaryData": self.binary_data}))
    }
}

/// `sha256:` and the hash of a value's canonical JSON (keys are sorted).
pub fn sha256(value: &Value) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(value.to_string().as_bytes())))
}

/// The keys of a ConfigMap that stay each environment's own, by either side's word.
pub fn kept_keys(module: &str, config_map: &str, sides: &[&EnvironmentSpec]) -> BTreeSet<String> {
    sides
        .iter()
        .filter_map(|s| s.module(module))
        .flat_map(|m| &m.configuration)
        .filter(|c| &*c.config_map.name == config_map)
        .flat_map(|c| c.keep.iter().map(ToString::to_string))
        .collect()
}

/// The digest of an image that runs: the part of `imageID` after the `@`. Images that were only imported have none.
fn digest(image_id: &str) -> Option<&str> {
    image_id.rsplit_once('@').map(|(_, d)| d).filter(|d| d.starts_with("sha256:"))
}

fn is_running(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"))
}

/// The digests that a container runs with, over all running pods.
fn digests(pods: &[&Pod], container: &str) -> BTreeSet<String> {
    pods.iter()
        .filter(|p| is_running(p))
        .filter_map(|p| p.status.as_ref())
        .flat_map(|s| {
            let running = s.container_statuses.iter().flatten().filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
            // Of a container that runs before the others, what counts is that it ran.
            running.chain(s.init_container_statuses.iter().flatten())
        })
        .filter(|c| c.name == container)
        .filter_map(|c| digest(&c.image_id).map(str::to_owned))
        .collect()
}

/// How strictly an environment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every container must run, with one digest: a release is captured.
    Exact,
    /// What does not run has an empty digest: only what the specs say is needed.
    Loose,
}

/// What the modules of an environment run. `Err`: for people, what keeps it from being known.
pub fn read(
    namespace: &str,
    spec: &EnvironmentSpec,
    side: &Side,
    modules: &[&Module],
    keep_with: &[&EnvironmentSpec],
    reading: Reading,
) -> Result<Release, String> {
    let mut all = vec![spec];
    all.extend(keep_with);
    let mut out = Vec::new();
    for module in modules {
        let mut workloads = Vec::new();
        for workload in &module.workloads {
            workloads.push(read_workload(namespace, side, workload.kind, &workload.name, reading)?);
        }
        let mut configuration = Vec::new();
        for entry in &module.configuration {
            let hash = match side.config_map(&entry.config_map.name) {
                Some(found) => Content::of(found, &kept_keys(&module.name, &entry.config_map.name, &all)).hash(),
                None if reading == Reading::Loose => String::new(),
                None => {
                    return Err(format!(
                        "ConfigMap {namespace}/{} of module {} does not exist: make it, or take it out of the Environment's modules",
                        entry.config_map.name, module.name
                    ));
                }
            };
            configuration.push(ReleaseConfiguration { config_map: entry.config_map.name.to_string(), hash });
        }
        out.push(ReleaseModule { name: module.name.to_string(), workloads, configuration });
    }
    Ok(Release { hash: hash(&out), modules: out })
}

fn read_workload(
    namespace: &str,
    side: &Side,
    kind: WorkloadKind,
    name: &str,
    reading: Reading,
) -> Result<ReleaseWorkload, String> {
    let Some(read) = side.workload(kind, name) else {
        return Err(format!("{kind} {namespace}/{name} does not exist: make it, or take it out of the Environment's modules"));
    };
    let pods = side.pods_of(read);
    let mut containers = Vec::new();
    for container in read.all_containers() {
        let image = container.image.clone().unwrap_or_default();
        let found = match read {
            Workload::CronJob(cron_job) => of_last_run(side, cron_job, &container.name, &image),
            Workload::Deployment(_) | Workload::StatefulSet(_) => digests(&pods, &container.name),
        };
        let digest = match (found.len(), reading) {
            (1, _) => found.into_iter().next().unwrap_or_default(),
            (_, Reading::Loose) => String::new(),
            (0, Reading::Exact) if kind == WorkloadKind::CronJob => {
                return Err(format!(
                    "container {} of {kind} {namespace}/{name} has not run with the image {image}, so nothing says which digest was tested: run it once (kubectl create job {name}-by-hand --from=cronjob/{name} -n {namespace}), or name the image by its digest",
                    container.name
                ));
            }
            (0, Reading::Exact) => {
                return Err(format!(
                    "container {} of {kind} {namespace}/{name} does not run with an image from a registry, so nothing says which digest was tested: start it, and wait until its pods run",
                    container.name
                ));
            }
            (_, Reading::Exact) => {
                return Err(format!(
                    "container {} of {kind} {namespace}/{name} runs with {} different digests: wait until its rollout has ended",
                    container.name,
                    found.len()
                ));
            }
        };
        containers.push(ReleaseContainer { name: container.name.clone(), image, digest });
    }
    Ok(ReleaseWorkload { kind, name: name.to_owned(), containers })
}

/// The digest of a CronJob's container: from its image where that names one, else from the latest run with that image.
fn of_last_run(side: &Side, cron_job: &CronJob, container: &str, image: &str) -> BTreeSet<String> {
    if let Some(named) = digest(image) {
        return BTreeSet::from([named.to_owned()]);
    }
    let same_image = |j: &Job| {
        let pod = j.spec.as_ref().and_then(|s| s.template.spec.as_ref());
        let all = pod.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
        all.into_iter().any(|c| c.name == container && c.image.as_deref() == Some(image))
    };
    let of_run = |run: &Job| -> Option<String> {
        let uid = run.uid()?;
        let pods = side.pods.iter().filter(|p| p.owner_references().iter().any(|o| o.uid == uid));
        pods.filter_map(|p| p.status.as_ref())
            .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()))
            .filter(|c| c.name == container)
            .find_map(|c| digest(&c.image_id).map(str::to_owned))
    };
    side.runs_of(cron_job).into_iter().filter(|j| same_image(j)).find_map(of_run).into_iter().collect()
}

/// Hash of a release: repositories, digests and configuration, not tags.
pub fn hash(modules: &[ReleaseModule]) -> String {
    let value: Vec<Value> = modules
        .iter()
        .map(|m| {
            json!({
                "name": m.name,
                "workloads": m.workloads.iter().map(|w| json!({
                    "kind": w.kind, "name": w.name,
                    "containers": w.containers.iter().map(|c| json!([c.name, repository(&c.image), c.digest])).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
                "configuration": m.configuration,
            })
        })
        .collect();
    sha256(&Value::Array(value))
}

/// The source's modules that a promotion takes, in the target's order. `Err`: what does not fit.
pub fn selected<'a>(
    run: &PromotionSpec,
    source: &'a EnvironmentSpec,
    target: &EnvironmentSpec,
) -> Result<Vec<&'a Module>, String> {
    let wanted: Vec<&str> = match &run.modules {
        Some(names) => names.iter().map(|n| &**n).collect(),
        None => source.modules.iter().map(|m| &*m.name).collect(),
    };
    for name in &wanted {
        if source.module(name).is_none() {
            return Err(format!("module {name} is not in the source Environment: name one of {}", names(source)));
        }
        if target.module(name).is_none() {
            return Err(format!(
                "module {name} is not in the target Environment: add it there, or name one of {}",
                names(target)
            ));
        }
    }
    let mut modules = Vec::new();
    for name in target.modules.iter().map(|m| &*m.name).filter(|n| wanted.contains(n)) {
        if let (Some(from), Some(to)) = (source.module(name), target.module(name)) {
            fits(from, to)?;
            modules.push(from);
        }
    }
    Ok(modules)
}

fn names(spec: &EnvironmentSpec) -> String {
    spec.modules.iter().map(|m| m.name.to_string()).collect::<Vec<_>>().join(", ")
}

/// What travels must have a place: workloads and ConfigMaps of a module are the same on both sides.
pub fn fits(from: &Module, to: &Module) -> Result<(), String> {
    let name = &from.name;
    let workloads = |m: &Module| m.workloads.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let maps = |m: &Module| m.configuration.iter().map(|c| format!("ConfigMap {}", c.config_map.name)).collect::<BTreeSet<_>>();
    for (there, here) in [(workloads(from), workloads(to)), (maps(from), maps(to))] {
        if let Some(only) = there.difference(&here).next() {
            return Err(format!(
                "module {name}: the source has {only}, the target does not: list it in the target Environment's module"
            ));
        }
        if let Some(only) = here.difference(&there).next() {
            return Err(format!(
                "module {name}: the target has {only}, the source does not: list it in the source Environment's module"
            ));
        }
    }
    Ok(())
}

/// Containers that the source has and the target lacks, by name: such a release cannot be delivered.
pub fn lacking(release: &Release, target: &Side) -> Vec<String> {
    let mut out = Vec::new();
    for workload in release.modules.iter().flat_map(|m| &m.workloads) {
        let here: Vec<String> = target
            .workload(workload.kind, &workload.name)
            .map(|w| w.all_containers().map(|c| c.name.clone()).collect())
            .unwrap_or_default();
        for container in workload.containers.iter().filter(|c| !here.contains(&c.name)) {
            out.push(format!("{} {}, container {}", workload.kind, workload.name, container.name));
        }
    }
    out
}

/// What changes for the target: images, and keys of configuration. Values are never shown.
pub fn changelog(
    release: &Release,
    prior: &Release,
    new: &dyn Fn(&str, &str) -> Content,
    old: &dyn Fn(&str, &str) -> Content,
) -> Vec<Change> {
    let mut out = Vec::new();
    for module in &release.modules {
        for workload in &module.workloads {
            for container in &workload.containers {
                let before = prior
                    .modules
                    .iter()
                    .flat_map(|m| &m.workloads)
                    .filter(|w| w.name == workload.name && w.kind == workload.kind)
                    .flat_map(|w| &w.containers)
                    .find(|c| c.name == container.name);
                if before.is_some_and(|b| b.digest == container.digest && repository(&b.image) == repository(&container.image)) {
                    continue;
                }
                out.push(Change {
                    module: module.name.clone(),
                    kind: ChangeKind::Image,
                    name: format!("{} {}, container {}", workload.kind, workload.name, container.name),
                    from: before.map(shown),
                    to: Some(shown(container)),
                });
            }
        }
        for entry in &module.configuration {
            let (to, from) = (new(&module.name, &entry.config_map), old(&module.name, &entry.config_map));
            let keys: BTreeSet<&String> =
                to.data.keys().chain(from.data.keys()).chain(to.binary_data.keys()).chain(from.binary_data.keys()).collect();
            for key in keys {
                let side = |c: &Content| {
                    c.data.get(key).map(|v| v.as_bytes().to_vec()).or_else(|| c.binary_data.get(key).map(|v| v.0.clone()))
                };
                let (after, before) = (side(&to), side(&from));
                if after != before {
                    let word = |v: &Option<Vec<u8>>| v.as_ref().map(|v| format!("{} bytes", v.len()));
                    out.push(Change {
                        module: module.name.clone(),
                        kind: ChangeKind::Configuration,
                        name: format!("ConfigMap {}, key {key}", entry.config_map),
                        from: word(&before),
                        to: word(&after),
                    });
                }
            }
        }
    }
    out
}

fn shown(container: &ReleaseContainer) -> String {
    let digest = container.digest.get(..19).unwrap_or(&container.digest);
    let name = container.image.split('@').next().unwrap_or_default();
    if digest.is_empty() { name.to_owned() } else { format!("{name} ({digest})") }
}

/// The version of the way [`plan_hash`] is computed. An operator that computes it otherwise counts on.
const PLAN_VERSION: &str = "v1";

/// Hash of the plan: release, source, modules, schedule, steps, the Environment's fields that they use, and what the target
/// runs now by its specs. Never estimates, measurements or description.
pub fn plan_hash(run: &PromotionSpec, release: &Release, prior: &Release, steps: &[String], target: &EnvironmentSpec) -> String {
    let chosen: BTreeSet<&str> = release.modules.iter().map(|m| m.name.as_str()).collect();
    let modules: Vec<&Module> = target.modules.iter().filter(|m| chosen.contains(&*m.name)).collect();
    let what = json!({"release": release.hash, "from": run.from, "modules": run.modules, "schedule": run.schedule});
    hash_of_plan(what, prior, steps, target, &modules)
}

/// Hash of what a run brings, with all that every plan covers.
pub fn hash_of_plan(what: Value, prior: &Release, steps: &[String], target: &EnvironmentSpec, modules: &[&Module]) -> String {
    let running: Vec<Value> = prior
        .modules
        .iter()
        .flat_map(|m| &m.workloads)
        .map(|w| json!([w.kind, w.name, w.containers.iter().map(|c| json!([c.name, c.image])).collect::<Vec<_>>()]))
        .collect();
    let configured: Vec<Value> = prior.modules.iter().map(|m| json!([m.name, m.configuration])).collect();
    let mut value = what;
    value["steps"] = json!(steps);
    value["target"] = json!({
        "modules": modules, "data": target.data, "preflight": target.preflight, "maintenance": target.maintenance,
        "verification": target.verification, "backups": target.backups,
    });
    value["prior"] = json!({"workloads": running, "configuration": configured});
    format!("{PLAN_VERSION}:{}", blake3::hash(value.to_string().as_bytes()).to_hex())
}
