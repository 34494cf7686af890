//! Checks of the cluster: version, kinds, policies, operator. Pure.

use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    coordination::v1::Lease,
};

use super::{
    Finding, mend,
    seen::{ClusterSeen, LEASE, Visible},
};
use crate::{
    api::{GROUP, policies::NAMES},
    cli::text::between,
};

/// The kinds without which nothing works.
const KINDS: [&str; 3] = ["environmentbackups", "environments", "promotions"];

/// The oldest minor version of Kubernetes 1 that is served.
const OLDEST_MINOR: u32 = 34;

/// All checks of the cluster.
pub fn findings(seen: &ClusterSeen, now: Timestamp) -> Vec<Finding> {
    let ClusterSeen { version, kinds, policies, bindings, lease } = seen;
    let mut findings = vec![version_check(version), kinds_check(kinds)];
    findings.push(policies_check(policies, bindings));
    findings.push(operator_check(lease, now));
    findings
}

fn version_check((major, minor): &(String, String)) -> Finding {
    // Some distributions write `35+`.
    let number: u32 = minor.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    if major == "1" && number < OLDEST_MINOR {
        return Finding::bad(
            "cluster",
            format!("Kubernetes {major}.{minor} is older than 1.{OLDEST_MINOR}; upgrade the cluster"),
        );
    }
    Finding::good("cluster", format!("Kubernetes {major}.{minor}"))
}

fn kinds_check(kinds: &[String]) -> Finding {
    let missing: Vec<&str> = KINDS.into_iter().filter(|k| !kinds.iter().any(|have| have == k)).collect();
    if missing.is_empty() {
        return Finding::good("kinds", "Environment, Promotion and EnvironmentBackup are installed");
    }
    Finding::bad("kinds", format!("not installed: {}", missing.join(", "))).mend(mend::INSTALL)
}

fn policies_check(
    policies: &Visible<Vec<ValidatingAdmissionPolicy>>,
    bindings: &Visible<Vec<ValidatingAdmissionPolicyBinding>>,
) -> Finding {
    let (Some(policies), Some(bindings)) = (policies.found(), bindings.found()) else {
        return Finding::hidden("policies", "you may not read admission policies; the operator starts nothing without them");
    };
    let ours: Vec<&ValidatingAdmissionPolicy> = policies.iter().filter(|p| is_ours(p)).collect();
    if ours.is_empty() {
        return Finding::bad(
            "policies",
            "no ValidatingAdmissionPolicy for Lockkeeper's kinds: anyone who may write a Promotion could approve it",
        )
        .mend(mend::INSTALL);
    }
    let named = |name: &str| policies.iter().any(|p| p.metadata.name.as_deref() == Some(name));
    let missing: Vec<&str> = NAMES.iter().copied().filter(|name| !named(name)).collect();
    if !missing.is_empty() {
        return Finding::bad("policies", format!("missing, so that nothing starts: {}", missing.join(", "))).mend(mend::INSTALL);
    }
    let unbound: Vec<&str> =
        ours.iter().filter_map(|p| p.metadata.name.as_deref()).filter(|name| !bindings.iter().any(|b| denies(b, name))).collect();
    if !unbound.is_empty() {
        return Finding::bad("policies", format!("without a binding that denies: {}", unbound.join(", "))).mend(mend::INSTALL);
    }
    Finding::good("policies", format!("{} ValidatingAdmissionPolicies guard Lockkeeper's kinds", ours.len()))
}

fn is_ours(policy: &ValidatingAdmissionPolicy) -> bool {
    let rules = policy.spec.as_ref().and_then(|s| s.match_constraints.as_ref()).and_then(|m| m.resource_rules.as_ref());
    rules.into_iter().flatten().flat_map(|r| r.api_groups.iter().flatten()).any(|g| g == GROUP)
}

fn denies(binding: &ValidatingAdmissionPolicyBinding, policy: &str) -> bool {
    let spec = binding.spec.as_ref();
    spec.and_then(|s| s.policy_name.as_deref()) == Some(policy)
        && spec.and_then(|s| s.validation_actions.as_ref()).is_some_and(|a| a.iter().any(|action| action == "Deny"))
}

fn operator_check(lease: &Visible<Lease>, now: Timestamp) -> Finding {
    let lease = match lease {
        Visible::Found(lease) => lease,
        Visible::Missing => {
            return Finding::bad("operator", format!("not seen: there is no Lease {LEASE}")).mend(mend::INSTALL);
        }
        Visible::Hidden => {
            return Finding::hidden("operator", "you may not read its Lease; the Environment's conditions say whether it works");
        }
    };
    let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
    let spec = lease.spec.clone().unwrap_or_default();
    let Some(renewed) = spec.renew_time.map(|t| t.0).filter(|_| spec.holder_identity.as_ref().is_some_and(|h| !h.is_empty()))
    else {
        return Finding::bad("operator", format!("nobody holds its Lease in namespace {namespace}; look at the pods there"));
    };
    let silent = now.duration_since(renewed).as_secs();
    // One lost renewal is no outage; clocks of two machines differ by a little.
    if silent > i64::from(spec.lease_duration_seconds.unwrap_or(15)) * 2 {
        return Finding::bad("operator", format!("not heard of for {}", between(renewed, now)))
            .mend(format!("kubectl get pods -n {namespace}; kubectl logs -n {namespace} deployment/lockkeeper"));
    }
    Finding::good("operator", format!("runs in namespace {namespace}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::State;

    fn state(finding: Finding) -> State {
        finding.state
    }

    #[test]
    fn an_old_cluster_or_one_without_the_kinds_is_found_out() {
        assert_eq!(state(version_check(&("1".into(), "33".into()))), State::Bad);
        assert_eq!(state(version_check(&("1".into(), "35+".into()))), State::Good);
        let kinds: Vec<String> = KINDS.iter().map(|k| (*k).to_owned()).collect();
        assert_eq!(state(kinds_check(&kinds)), State::Good);
        assert!(kinds_check(&kinds[1..]).message.contains("environmentbackups"));
    }

    #[test]
    fn a_policy_guards_only_with_a_binding_that_denies() {
        let policies: Vec<ValidatingAdmissionPolicy> = NAMES
            .iter()
            .map(|name| {
                serde_json::from_value(json!({
                    "metadata": {"name": name},
                    "spec": {"matchConstraints": {"resourceRules": [{"apiGroups": ["lockkeeper.dev"], "resources": ["*"]}]}, "validations": []},
                }))
                .unwrap()
            })
            .collect();
        let bindings = |action: &str| -> Vec<ValidatingAdmissionPolicyBinding> {
            let one = |name| json!({"spec": {"policyName": name, "validationActions": [action]}});
            NAMES.iter().map(|name| serde_json::from_value(one(name)).unwrap()).collect()
        };
        let finding = |policies, bindings| policies_check(&Visible::Found(policies), &Visible::Found(bindings));
        let check = |policies, bindings| state(finding(policies, bindings));
        assert_eq!(check(policies.clone(), bindings("Deny")), State::Good);
        assert_eq!(check(policies.clone(), bindings("Audit")), State::Bad);
        assert_eq!(check(policies.clone(), vec![]), State::Bad);
        let one_less = finding(policies[1..].to_vec(), bindings("Deny"));
        assert!(one_less.message.ends_with(&format!("nothing starts: {}", NAMES[0])), "{}", one_less.message);
        assert_eq!(check(vec![], vec![]), State::Bad);
        assert_eq!(state(policies_check(&Visible::Hidden, &Visible::Hidden)), State::Hidden);
    }

    #[test]
    fn an_operator_that_fell_silent_is_found_out() {
        let lease = |renewed: &str, holder: &str| -> Lease {
            serde_json::from_value(json!({
                "metadata": {"name": LEASE, "namespace": "ops"},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
            }))
            .unwrap()
        };
        let now = "2026-11-25T20:01:00Z".parse().unwrap();
        let check = |lease| state(operator_check(&Visible::Found(lease), now));
        assert_eq!(check(lease("2026-11-25T20:00:50.000000Z", "pod-1")), State::Good);
        assert_eq!(check(lease("2026-11-25T20:00:00.000000Z", "pod-1")), State::Bad);
        assert_eq!(check(lease("2026-11-25T20:00:50.000000Z", "")), State::Bad);
        assert_eq!(state(operator_check(&Visible::Missing, now)), State::Bad);
        assert_eq!(state(operator_check(&Visible::Hidden, now)), State::Hidden);
    }
}
