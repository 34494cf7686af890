//! Checks of Services: which of them answer with the page while the environment is locked, and which cannot.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

use crate::{
    cli::doctor::{Finding, seen::EnvironmentSeen},
    plan::workload::Workload,
};

pub(super) fn service_checks(seen: &EnvironmentSeen) -> Vec<Finding> {
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

pub(super) fn selects(selector: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
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
