//! Who may say yes, and which yes counts.

use std::collections::BTreeMap;

use super::world::Run;
use crate::api::{Approval, Approvals, ApprovalsStatus, PromotionSpec, VoidApproval};

/// Why an approval does not count. `None`: it does.
fn void(
    approval: &Approval,
    policy: &Approvals,
    askers: &[&str],
    plan_hash: &str,
    may: &BTreeMap<String, bool>,
) -> Option<String> {
    if *approval.plan_hash != *plan_hash {
        return Some(format!(
            "is for another plan ({}); today's is {plan_hash}: look at it again and approve it",
            &*approval.plan_hash
        ));
    }
    if askers.contains(&&*approval.username) && !policy.requester_may_approve {
        return Some("asked for this, or changed it; another person must approve it".into());
    }
    if !may.get(&*approval.username).copied().unwrap_or(false) {
        return Some("no longer has the verb approve on this Environment".into());
    }
    None
}

/// Who counts as requester: who asked, and everyone who has changed it since.
pub fn askers<'a>(spec: &'a PromotionSpec, modifiers: &'a [String]) -> Vec<&'a str> {
    let named = std::iter::once(&spec.requested_by.username).chain(spec.modified_by.as_ref().map(|m| &m.username));
    named.map(|u| &**u).chain(modifiers.iter().map(String::as_str)).collect()
}

/// Counts the approvals of today's plan.
pub fn count(
    spec: &PromotionSpec,
    askers: &[&str],
    policy: &Approvals,
    plan_hash: &str,
    may: &BTreeMap<String, bool>,
) -> ApprovalsStatus {
    tally((&spec.approvals, askers), policy, plan_hash, may)
}

/// The same for a run of either kind.
pub fn count_of(
    run: Run<'_>,
    modifiers: &[String],
    policy: &Approvals,
    plan_hash: &str,
    may: &BTreeMap<String, bool>,
) -> ApprovalsStatus {
    match run {
        Run::Promotion(run) => count(&run.spec, &askers(&run.spec, modifiers), policy, plan_hash, may),
        Run::Restore(_) => tally((run.approvals(), &[run.requester()]), policy, plan_hash, may),
        Run::Alignment(_) => ApprovalsStatus::default(),
    }
}

fn tally(
    (approvals, askers): (&[Approval], &[&str]),
    policy: &Approvals,
    plan_hash: &str,
    may: &BTreeMap<String, bool>,
) -> ApprovalsStatus {
    let mut given = Vec::new();
    let mut voided = Vec::new();
    for approval in approvals {
        match void(approval, policy, askers, plan_hash, may) {
            None => given.push(approval.username.to_string()),
            Some(reason) => voided.push(VoidApproval { username: approval.username.to_string(), reason }),
        }
    }
    let summary = format!("{}/{}", given.len(), policy.required);
    ApprovalsStatus { required: policy.required, given, void: voided, summary }
}

/// Whether enough approvals count.
pub fn enough(status: &ApprovalsStatus) -> bool {
    status.given.len() >= status.required as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "v1:aa";

    fn spec(approvals: &[(&str, &str)]) -> PromotionSpec {
        let approvals: Vec<_> = approvals.iter().map(|(u, h)| serde_json::json!({"username": u, "planHash": h})).collect();
        serde_json::from_value(serde_json::json!({
            "environment": {"name": "production"}, "from": {"namespace": "s", "name": "staging"},
            "requestedBy": {"username": "alice"}, "approvals": approvals,
        }))
        .unwrap()
    }

    fn counted(approvals: &[(&str, &str)], policy: &Approvals) -> ApprovalsStatus {
        let may = BTreeMap::from([("alice".into(), true), ("bob".into(), true), ("carol".into(), true), ("eve".into(), false)]);
        let spec = spec(approvals);
        count(&spec, &askers(&spec, &["carol".into()]), policy, HASH, &may)
    }

    #[test]
    fn an_approval_of_todays_plan_by_another_counts() {
        let status = counted(&[("bob", HASH)], &Approvals::default());
        assert_eq!((status.summary.as_str(), enough(&status)), ("1/1", true));
    }

    #[test]
    fn an_approval_of_another_plan_counts_for_nothing_visibly() {
        let status = counted(&[("bob", "v1:bb")], &Approvals::default());
        assert!(!enough(&status) && status.void[0].reason.contains("another plan"));
    }

    #[test]
    fn the_requesters_own_approval_counts_only_where_the_environment_says_so() {
        assert!(!enough(&counted(&[("alice", HASH)], &Approvals::default())));
        assert!(enough(&counted(&[("alice", HASH)], &Approvals { requester_may_approve: true, ..Approvals::default() })));
    }

    #[test]
    fn who_changed_it_counts_as_requester() {
        assert!(!enough(&counted(&[("carol", HASH)], &Approvals::default())));
        assert!(enough(&counted(&[("carol", HASH)], &Approvals { requester_may_approve: true, ..Approvals::default() })));
    }

    #[test]
    fn who_lost_the_right_to_approve_counts_for_nothing() {
        assert!(!enough(&counted(&[("eve", HASH), ("stranger", HASH)], &Approvals::default())));
    }

    #[test]
    fn nobody_need_approve_where_none_is_required() {
        assert!(enough(&counted(&[], &Approvals { required: 0, ..Approvals::default() })));
    }
}
