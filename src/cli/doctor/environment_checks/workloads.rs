//! Checks of workloads: they are there, can be stopped, run what is known by digest, and nobody else puts them back.

use k8s_openapi::api::core::v1::Pod;

use super::services::selects;
use crate::{
    api::WorkloadRef,
    cli::doctor::{
        Finding,
        seen::{EnvironmentSeen, Visible},
    },
    plan::workload::Workload,
};

/// Tools that put a workload back as they know it: what they manage, they would fight over.
const OTHER_MANAGERS: [(&str, &str); 4] =
    [("argocd", "Argo CD"), ("kustomize-controller", "Flux"), ("helm-controller", "Flux"), ("helm", "Helm")];

pub(super) fn workload_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (reference, workload) in &seen.workloads {
        let found = match workload {
            Visible::Found(found) => found.look(),
            Visible::Missing => {
                findings
                    .push(Finding::bad("workload", format!("{reference} is not there; deploy it once, or correct spec.modules")));
                continue;
            }
            Visible::Hidden => {
                findings.push(Finding::hidden("workload", format!("you may not read {reference}")));
                continue;
            }
        };
        findings.extend(container_check(seen, reference, found));
        findings.extend(digest_check(seen, &reference.to_string(), found));
        if let Some(why) = found.refuse() {
            findings.push(Finding::bad("workload", why));
        }
        if let Some(tool) = other_manager(found) {
            findings.push(Finding::note(
                "workload",
                format!("{reference} is managed by {tool}, which may put it back; suspend it there, or let it own other fields"),
            ));
        }
        let scaled = seen.autoscalers.found().into_iter().flatten().any(|a| {
            let target = a.spec.as_ref().map(|s| &s.scale_target_ref);
            target.is_some_and(|t| t.kind == reference.kind.to_string() && t.name == *reference.name)
        });
        if scaled {
            findings.push(Finding::note(
                "workload",
                format!("{reference} has a HorizontalPodAutoscaler; it stands still while the workload is at zero"),
            ));
        }
    }
    findings
}

/// The container that carries the migration must be there, and be clear.
fn container_check(seen: &EnvironmentSeen, reference: &WorkloadRef, workload: Workload<'_>) -> Option<Finding> {
    let module = seen.environment.spec.modules.iter().find(|m| m.migration_workload() == Some(reference))?;
    let migration = module.migration.as_ref()?;
    let names: Vec<&str> = workload.containers().iter().map(|c| c.name.as_str()).collect();
    match &migration.container {
        Some(wanted) if !names.contains(&&**wanted) => Some(Finding::bad(
            "migration",
            format!(
                "{reference} has no container {wanted}; migration.container of module {} is one of: {}",
                module.name,
                names.join(", ")
            ),
        )),
        None if names.len() > 1 => Some(Finding::bad(
            "migration",
            format!(
                "{reference} has several containers; set migration.container of module {} to one of: {}",
                module.name,
                names.join(", ")
            ),
        )),
        _ => None,
    }
}

/// What runs must be known by digest: only that can be promoted and brought back.
/// Of a CronJob the operator says it, which looks at its last run.
fn digest_check(seen: &EnvironmentSeen, name: &str, workload: Workload<'_>) -> Option<Finding> {
    let selector = workload.selector().cloned()?;
    let Some(pods) = seen.pods.found() else {
        return Some(Finding::hidden("image digest", format!("you may not read pods of {name}")));
    };
    let images: Vec<(String, String)> = pods
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none() && selects(&selector, p.metadata.labels.as_ref()))
        .flat_map(running_images)
        .collect();
    if images.is_empty() {
        return Some(Finding::bad("image digest", format!("{name} runs no pod: what it runs has no digest until it ran once")));
    }
    Some(match images.iter().find(|(_, id)| !id.contains("@sha256:")) {
        Some((container, _)) => Finding::bad(
            "image digest",
            format!(
                "{name}, container {container} runs an image without a repository's digest; push the image to a registry and pull it from there"
            ),
        ),
        None => Finding::good("workload", format!("{name} is there and runs images with digests")),
    })
}

fn running_images(pod: &Pod) -> Vec<(String, String)> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().filter(|c| !c.image_id.is_empty()).map(|c| (c.name.clone(), c.image_id.clone())).collect()
}

fn other_manager(workload: Workload<'_>) -> Option<&'static str> {
    let managers = workload.metadata().managed_fields.as_ref()?;
    let names = managers.iter().filter_map(|m| m.manager.as_deref());
    names.into_iter().find_map(|name| OTHER_MANAGERS.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, tool)| *tool))
}
