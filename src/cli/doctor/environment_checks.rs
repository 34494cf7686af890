//! Checks of an environment: what it names must be there and be of a kind that can be locked, backed up and delivered. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::{
    Finding, mend,
    seen::{EnvironmentSeen, OPERATOR_NAMESPACE, Visible},
};
use crate::{
    api::{Environment, EnvironmentSpec, S3Repository, conditions},
    plan::workload::Workload,
};

/// Tools that put a workload back as they know it: what they manage, they would fight over.
const OTHER_MANAGERS: [(&str, &str); 4] =
    [("argocd", "Argo CD"), ("kustomize-controller", "Flux"), ("helm-controller", "Flux"), ("helm", "Helm")];

/// All checks of an environment.
pub fn findings(seen: &EnvironmentSeen) -> Vec<Finding> {
    let EnvironmentSeen {
        environment,
        role_bindings: _,
        workloads: _,
        autoscalers: _,
        pods: _,
        services: _,
        config_maps: _,
        secrets: _,
        claim: _,
        sources: _,
        may_approve: _,
    } = seen;
    let mut findings = condition_checks(environment);
    findings.push(binding_check(seen));
    findings.extend(workload_checks(seen));
    findings.extend(service_checks(seen));
    findings.extend(configuration_checks(seen));
    findings.extend(secret_checks(seen));
    findings.extend(claim_check(seen));
    findings.extend(bucket_checks(seen));
    findings.extend(source_checks(seen));
    findings.push(approval_check(seen));
    findings
}

fn namespace(environment: &Environment) -> &str {
    environment.metadata.namespace.as_deref().unwrap_or_default()
}

/// What the operator itself says: its conditions as they stand.
fn condition_checks(environment: &Environment) -> Vec<Finding> {
    let status = environment.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|c| c.type_ == conditions::READY);
    let mut findings = match ready {
        None => vec![Finding::bad("environment", "the operator has not looked at it yet: no condition Ready")],
        Some(c) if c.status == "True" => vec![Finding::good("environment", format!("Ready: {}", c.message))],
        Some(c) => vec![Finding::bad("environment", format!("not Ready, {}: {}", c.reason, c.message))],
    };
    let said = ready.map(|c| c.message.as_str());
    for c in status.conditions.iter().filter(|c| c.type_ == conditions::STALLED && c.status == "True") {
        if said != Some(c.message.as_str()) {
            findings.push(Finding::bad("environment", format!("Stalled, {}: {}", c.reason, c.message)));
        }
    }
    if ready.is_some() && status.observed_generation.is_some() && status.observed_generation < environment.metadata.generation {
        findings.push(Finding::bad(
            "environment",
            "its conditions speak of an earlier spec: the operator has not looked at the latest change",
        ));
    }
    if let Some(holder) = status.lock.as_ref().and_then(|l| l.holder.as_ref()) {
        findings.push(Finding::note("environment", format!("locked by {} {}: users see the page", holder.kind, holder.name)));
    }
    findings
}

/// The operator's rights here.
fn binding_check(seen: &EnvironmentSeen) -> Finding {
    let namespace = namespace(&seen.environment);
    let Some(bindings) = seen.role_bindings.found() else {
        return Finding::hidden(
            "operator's rights",
            "you may not read RoleBindings here; the Environment's conditions say what is missing",
        );
    };
    let binding = bindings.iter().find(|b| b.role_ref.kind == "ClusterRole" && b.role_ref.name == "lockkeeper-environment");
    match binding {
        Some(b) if b.subjects.iter().flatten().any(|s| s.kind == "ServiceAccount") => {
            let subject = b.subjects.iter().flatten().find(|s| s.kind == "ServiceAccount");
            let place = subject.and_then(|s| s.namespace.as_deref()).unwrap_or(OPERATOR_NAMESPACE);
            Finding::good(
                "operator's rights",
                format!("RoleBinding {} for {place}", b.metadata.name.as_deref().unwrap_or_default()),
            )
        }
        _ => Finding::bad("operator's rights", "no RoleBinding to ClusterRole lockkeeper-environment")
            .mend(mend::operator_binding(namespace)),
    }
}

fn workload_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
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
fn container_check(seen: &EnvironmentSeen, reference: &crate::api::WorkloadRef, workload: Workload<'_>) -> Option<Finding> {
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

fn service_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
    let Some(services) = seen.services.found() else {
        return vec![Finding::hidden("services", "you may not read Services here")];
    };
    let maintenance = &seen.environment.spec.maintenance;
    let by_name: BTreeMap<&str, &Service> = services.iter().filter_map(|s| s.metadata.name.as_deref().map(|n| (n, s))).collect();
    let mut findings = Vec::new();
    let chosen: Vec<&str> = match &maintenance.services.names {
        Some(names) => {
            for name in names.iter().filter(|n| !by_name.contains_key(&***n)) {
                findings
                    .push(Finding::bad("services", format!("Service {name} is not there; correct maintenance.services.names")));
            }
            names.iter().map(|n| &**n).filter(|n| by_name.contains_key(n)).collect()
        }
        None => by_name.iter().filter(|(_, s)| leads_to_modules(seen, s)).map(|(name, _)| *name).collect(),
    };
    let mut good = Vec::new();
    for name in chosen {
        match refused(by_name[name]) {
            Some(why) => findings.push(Finding::bad(
                "services",
                format!("Service {name} {why}, so it cannot answer with the page; change it, or name the others in maintenance.services.names"),
            )),
            None => good.push(name),
        }
    }
    if good.is_empty() {
        findings.push(Finding::note("services", "no Service leads to the modules' workloads: nobody will see the page"));
    } else {
        findings.push(Finding::good("services", format!("answer with the page while locked: {}", good.join(", "))));
    }
    findings
}

/// Whether a Service selects pods of a workload that goes down.
fn leads_to_modules(seen: &EnvironmentSeen, service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
    !selector.is_empty()
        && seen
            .workloads
            .iter()
            .filter(|(reference, _)| !seen.environment.spec.maintenance.exclude.contains(reference))
            .filter_map(|(_, workload)| workload.found())
            .any(|w| !governs(w.look(), service) && selects(&selector, Some(&w.look().pod_labels())))
}

/// Whether this is the headless Service by which a StatefulSet's pods call each other: no user enters by it.
fn governs(workload: Workload<'_>, service: &Service) -> bool {
    let Workload::StatefulSet(set) = workload else { return false };
    let headless = service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"));
    headless && set.spec.as_ref().and_then(|s| s.service_name.as_ref()) == service.metadata.name.as_ref()
}

fn selects(selector: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    !selector.is_empty() && labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Why a Service cannot be led to the page and back.
fn refused(service: &Service) -> Option<&'static str> {
    let spec = service.spec.as_ref()?;
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some("is headless");
    }
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some("is an ExternalName");
    }
    if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
        return Some("has no selector");
    }
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    (local(&spec.internal_traffic_policy) || local(&spec.external_traffic_policy)).then_some("has trafficPolicy Local")
}

fn configuration_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
    let keeps = seen.environment.spec.modules.iter().flat_map(|m| &m.configuration);
    let mut findings = Vec::new();
    for configuration in keeps {
        let name = &*configuration.config_map.name;
        findings.push(match seen.config_maps.get(name) {
            Some(Visible::Found(map)) if map.immutable == Some(true) => Finding::bad(
                "configuration",
                format!(
                    "ConfigMap {name} is immutable, so no release can be brought to it; make it anew without `immutable: true`"
                ),
            ),
            Some(Visible::Found(map)) => {
                let has = |key: &str| {
                    map.data.as_ref().is_some_and(|d| d.contains_key(key))
                        || map.binary_data.as_ref().is_some_and(|d| d.contains_key(key))
                };
                let lacking: Vec<&str> = configuration.keep.iter().map(|k| &**k).filter(|k| !has(k)).collect();
                if lacking.is_empty() {
                    Finding::good("configuration", format!("ConfigMap {name} is there"))
                } else {
                    Finding::note(
                        "configuration",
                        format!("ConfigMap {name} lacks keys that it should keep as its own: {}", lacking.join(", ")),
                    )
                }
            }
            Some(Visible::Hidden) => Finding::hidden("configuration", format!("you may not read ConfigMap {name}")),
            Some(Visible::Missing) | None => {
                Finding::bad("configuration", format!("ConfigMap {name} is not there; make it, or correct spec.modules"))
            }
        });
    }
    findings
}

fn secret_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
    let spec = &seen.environment.spec;
    let here = namespace(&seen.environment);
    let mut wanted: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for (data, postgres) in spec.data.iter().filter_map(|d| Some((d, d.postgres.as_ref()?))) {
        let connection = &*postgres.connection_secret.name;
        wanted.insert(connection, (format!("connection of {}", data.name), mend::connection_secret(connection, here)));
        if let Some(admin) = &postgres.admin_secret {
            wanted.insert(&admin.name, (format!("admin role of {}", data.name), mend::admin_secret(&admin.name, here)));
        }
    }
    for (module, secret) in super::seen::migration_secrets(spec) {
        wanted.insert(secret, (format!("migration of {module}"), mend::migration_secret(secret, here)));
    }
    if let Some(backups) = &spec.backups {
        let name = &*backups.password_secret.name;
        wanted.insert(name, ("password of the repository".into(), mend::repository_password(name, here)));
        if let Some(proof) = &backups.proof {
            let name = &*proof.connection_secret.name;
            wanted.entry(name).or_insert_with(|| ("server of backups.proof".into(), mend::proof_secret(name, here)));
        }
    }
    if let Some(exchange) = &spec.exchange {
        let name = &*exchange.password_secret.name;
        wanted.insert(name, ("password of the exchange".into(), mend::exchange_password(name, here)));
    }
    for (of, s3) in buckets(spec) {
        let name = &*s3.credentials_secret.name;
        wanted.insert(name, (format!("S3 credentials of the {of}"), mend::s3_credentials(name, here)));
    }
    wanted
        .into_iter()
        .map(|(name, (what, how))| match seen.secrets.get(name) {
            Some(Visible::Found(())) => Finding::good("secret", format!("{name} is there ({what}); its keys are not read")),
            Some(Visible::Hidden) => {
                Finding::hidden("secret", format!("cannot see {name} ({what}): you may not read Secrets here"))
            }
            Some(Visible::Missing) | None => Finding::bad("secret", format!("{name} is not there ({what})")).mend(how),
        })
        .collect()
}

/// The places on S3 that an Environment names.
fn buckets(spec: &EnvironmentSpec) -> impl Iterator<Item = (&'static str, &S3Repository)> {
    let backups = spec.backups.as_ref().map(|b| ("backups", &b.repository));
    let exchange = spec.exchange.as_ref().map(|e| ("exchange", &e.repository));
    backups.into_iter().chain(exchange).filter_map(|(of, repository)| Some((of, repository.s3.as_ref()?)))
}

/// What is there is seen from the agent's pods alone.
fn bucket_checks(seen: &EnvironmentSeen) -> impl Iterator<Item = Finding> {
    buckets(&seen.environment.spec).map(|(of, S3Repository { endpoint, region: _, bucket, prefix, credentials_secret: _ })| {
        let below = prefix.as_ref().map(|p| format!(", below {p}")).unwrap_or_default();
        let message = format!("bucket {bucket} at {endpoint}{below}; whether it answers, the preflight of a run says");
        Finding::good(of, message)
    })
}

fn claim_check(seen: &EnvironmentSeen) -> Option<Finding> {
    let (name, claim) = seen.claim.as_ref()?;
    Some(match claim {
        Visible::Found(claim) => match claim.status.as_ref().and_then(|s| s.phase.as_deref()) {
            Some("Bound") => Finding::good("backups", format!("PersistentVolumeClaim {name} is bound")),
            Some("Lost") => Finding::bad("backups", format!("PersistentVolumeClaim {name} has lost its volume")),
            _ => Finding::note("backups", format!("PersistentVolumeClaim {name} waits for its first pod, or for a volume")),
        },
        Visible::Missing => Finding::bad("backups", format!("PersistentVolumeClaim {name} is not there"))
            .mend(mend::claim(name, namespace(&seen.environment))),
        Visible::Hidden => Finding::hidden("backups", format!("you may not read PersistentVolumeClaim {name}")),
    })
}

fn source_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
    if seen.sources.is_empty() {
        return vec![Finding::note("sources", "promotesFrom is empty: no release can come here").mend(mend::PROMOTES_FROM)];
    }
    let mut findings = Vec::new();
    for (reference, source, may_promote) in &seen.sources {
        let name = format!("{}/{}", reference.namespace, reference.name);
        match source {
            Visible::Found(source) => {
                let theirs: Vec<&str> = source.spec.modules.iter().map(|m| &*m.name).collect();
                let shared = seen.environment.spec.modules.iter().any(|m| theirs.contains(&&*m.name));
                findings.push(if shared {
                    Finding::good("sources", format!("Environment {name} is there"))
                } else {
                    Finding::bad(
                        "sources",
                        format!("Environment {name} has no module of the same name as here; it has: {}", theirs.join(", ")),
                    )
                });
            }
            Visible::Missing => findings
                .push(Finding::bad("sources", format!("Environment {name} is not there; make it, or correct promotesFrom"))),
            Visible::Hidden => findings.push(Finding::hidden("sources", format!("you may not read Environment {name}"))),
        }
        if !may_promote {
            findings.push(
                Finding::note("sources", format!("you may not promote from {name}; who may has the verb `promote` there"))
                    .mend(mend::role("promoter", &reference.namespace, "…")),
            );
        }
    }
    findings
}

fn approval_check(seen: &EnvironmentSeen) -> Finding {
    let approvals = &seen.environment.spec.approvals;
    let who = if approvals.requester_may_approve { "the requester's counts" } else { "the requester's does not count" };
    let you = if seen.may_approve { "you may approve" } else { "you may not approve (verb `approve`)" };
    Finding::new("approvals", super::State::Good, format!("{} needed, {who}; {you}", approvals.required))
}

#[cfg(test)]
#[path = "environment_checks_tests.rs"]
mod tests;
