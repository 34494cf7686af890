//! Checks of an environment: what it names must be there and be of a kind that can be locked, backed up and delivered. Pure.

mod services;
mod workloads;

use std::collections::BTreeMap;

use self::{services::service_checks, workloads::workload_checks};
use super::{
    Finding, mend,
    seen::{EnvironmentSeen, OPERATOR_NAMESPACE, Visible},
};
use crate::api::{Environment, EnvironmentSpec, S3Repository, conditions};

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
    // What is granted is others' to take: it keeps nothing here from being Ready.
    for c in status.conditions.iter().filter(|c| c.type_ == conditions::GRANTS_READY) {
        findings.push(match c.status.as_str() {
            "True" => Finding::good("grants", c.message.clone()),
            _ => Finding::note("grants", c.message.clone()),
        });
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
