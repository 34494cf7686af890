//! `approve`: shows exactly what the plan's hash covers, asks, and binds the approval to exactly what was shown.
//!
//! The approval goes in by server-side apply, under a field manager of each user's own: with a shared one, an apply would
//! take back the entries that others applied before. What is applied is that one entry and nothing else.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    args::{ApproveArgs, Global},
    error::{CliError, Exit},
    found::Found,
    restoring,
    session::{Identity, Session},
    show, text,
};
use crate::api::{API_VERSION, Environment, Phase, Promotion};

/// How long to wait for the operator to see the spec as it is, and to count an approval.
const COUNTING: Duration = Duration::from_secs(15);

/// Runs the subcommand.
pub async fn run(global: &Global, args: ApproveArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    match Found::of(&session, &args.name).await? {
        Found::Promotion(_) => {}
        Found::Restore(restore) => return restoring::approve(&session, *restore, args).await,
        Found::Alignment(_) => {
            return Err(CliError::Error(format!(
                "DownAlignment {} needs no approval: the owners of both environments have consented by alignsFrom and grants",
                text::clean(&args.name)
            )));
        }
    }
    let identity = session.identity().await?;
    // What is taken back need not be shown.
    let promotion = if args.withdraw { session.get(&args.name).await? } else { settled(&session, &args.name).await? };
    let status = promotion.status.clone().unwrap_or_default();
    if !status.phase.is_before_start() {
        return Err(CliError::Error(format!("Promotion {} is {}; approvals count until it starts", args.name, status.phase)));
    }
    if args.withdraw {
        return withdraw(&session, &promotion, &identity).await;
    }
    let hash = status.plan_hash.clone().ok_or_else(|| {
        let why = show::waiting_for(&status).unwrap_or_else(|| "does the operator run?".into());
        CliError::Error(format!("Promotion {} has no plan to approve yet: {why}", args.name))
    })?;
    if let Some(expected) = args.plan_hash.as_ref().filter(|expected| **expected != hash) {
        return Err(CliError::Error(format!(
            "the plan is not the one that --plan-hash names: it is {hash}, not {}",
            text::clean(expected)
        )));
    }

    let say = |text: String| session.printer.say(text);
    say(show::head(&promotion, Timestamp::now(), &TimeZone::system()));
    say(show::decided(promotion.status.as_ref()));
    say(format!(
        "\nYour approval, as {}, covers the release, source, modules, time and steps above and counts for no other plan.",
        identity.username
    ));
    if let Some(warning) = own_request(&session, &promotion, &identity).await {
        say(format!("✘ {warning}"));
    }
    if !session.printer.confirm("Approve?", args.yes)? {
        say("Nothing was written.".into());
        return Ok(Exit::Error);
    }
    let body = body(&promotion, Some(&entry(&identity, &hash, args.comment.as_deref())));
    if let Err(error) = apply(&session, &args.name, &identity, &body).await {
        return Err(changed_meanwhile(&session, &args.name, &hash).await.unwrap_or(error));
    }
    let counted = counted(&session, &args.name, &identity, &hash).await?;
    session.printer.object(&counted)?;
    Ok(say_counted(&session, &counted, &identity))
}

/// The Promotion with a status that speaks of the spec as it is: what is shown must be what the hash covers.
async fn settled(session: &Session, name: &str) -> Result<Promotion, CliError> {
    let until = tokio::time::Instant::now() + COUNTING;
    loop {
        let promotion: Promotion = session.get(name).await?;
        let seen = promotion.status.as_ref().and_then(|s| s.observed_generation);
        if seen.is_none() || seen >= promotion.metadata.generation {
            return Ok(promotion);
        }
        if tokio::time::Instant::now() > until {
            return Err(CliError::Error(format!(
                "Promotion {name} was changed and the operator has not planned it anew; so what its plan covers cannot be shown. Try again; if this stays, see whether the operator runs: kubectl lockkeeper doctor"
            )));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Takes one's own entry out again: applying nothing under one's own manager removes what it owns.
async fn withdraw(session: &Session, promotion: &Promotion, identity: &Identity) -> Result<Exit, CliError> {
    let name = promotion.metadata.name.clone().unwrap_or_default();
    let is_mine = |p: &Promotion| p.spec.approvals.iter().any(|a| *a.username == identity.username);
    if !is_mine(promotion) {
        return Err(CliError::Error(format!("Promotion {name} has no approval of yours ({})", identity.username)));
    }
    let after = apply(session, &name, identity, &body(promotion, None)).await?;
    if is_mine(&after) {
        return Err(CliError::Error(format!(
            "your approval was not given by this plugin, so another field manager keeps it; take it out the way it was put in, or cancel: {}",
            session.command(&format!("cancel {name} --reason …"))
        )));
    }
    session.printer.say(format!("Your approval of Promotion {name} is withdrawn."));
    session.printer.object(&after)?;
    Ok(Exit::Done)
}

async fn apply(session: &Session, name: &str, identity: &Identity, body: &Value) -> Result<Promotion, CliError> {
    // Forced: the only field in it is one's own entry, which policy lets nobody else write.
    let params = PatchParams::apply(&field_manager(&identity.username)).force();
    let doing = format!("approving Promotion {name} in namespace {}", session.namespace);
    session.ask(&doing, session.api::<Promotion>().patch(name, &params, &Patch::Apply(body))).await
}

/// The field manager of a user: his own, of a length that fits, the same in every run.
pub fn field_manager(username: &str) -> String {
    format!("lockkeeper-approve-{}", hex::encode(&Sha256::digest(username.as_bytes())[..8]))
}

/// One's own entry.
pub fn entry(identity: &Identity, plan_hash: &str, comment: Option<&str>) -> Value {
    let mut entry = json!({"username": identity.username, "groups": identity.groups, "planHash": plan_hash});
    if let Some(comment) = comment {
        entry["comment"] = comment.into();
    }
    entry
}

/// What is applied: the entry alone. The UID keeps an apply from meaning another Promotion made under the same name, or
/// from making one.
fn body(promotion: &Promotion, entry: Option<&Value>) -> Value {
    let spec = match entry {
        Some(entry) => json!({"approvals": [entry]}),
        None => json!({}),
    };
    json!({
        "apiVersion": API_VERSION,
        "kind": "Promotion",
        "metadata": {
            "name": promotion.metadata.name,
            "namespace": promotion.metadata.namespace,
            "uid": promotion.metadata.uid,
        },
        "spec": spec,
    })
}

/// A sentence where one approves one's own request and the environment does not count that.
async fn own_request(session: &Session, promotion: &Promotion, identity: &Identity) -> Option<String> {
    if *promotion.spec.requested_by.username != identity.username {
        return None;
    }
    let target: Environment = session.get(&promotion.spec.environment.name).await.ok()?;
    (!target.spec.approvals.requester_may_approve)
        .then(|| "you asked for this promotion yourself, and this environment wants the yes of another".into())
}

/// Why an approval was refused, if it is because the plan is no longer the one that was shown.
async fn changed_meanwhile(session: &Session, name: &str, shown: &str) -> Option<CliError> {
    let now: Promotion = session.get(name).await.ok()?;
    let hash = now.status?.plan_hash?;
    (hash != shown).then(|| {
        CliError::Refused(format!(
            "the plan has changed since it was shown (it was {shown}, it is {hash}); nothing was approved. Look again: {}",
            session.command(&format!("approve {name}"))
        ))
    })
}

/// Waits until the operator has counted the approval, for a while.
async fn counted(session: &Session, name: &str, identity: &Identity, hash: &str) -> Result<Promotion, CliError> {
    let until = tokio::time::Instant::now() + COUNTING;
    loop {
        let promotion: Promotion = session.get(name).await?;
        let status = promotion.status.as_ref();
        let moved = status.is_some_and(|s| !s.phase.is_before_start() || s.plan_hash.as_deref() != Some(hash));
        if moved || is_counted(&promotion, identity).is_some() || tokio::time::Instant::now() > until {
            return Ok(promotion);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Whether the approval counts, or why not; `None`: not looked at yet.
fn is_counted(promotion: &Promotion, identity: &Identity) -> Option<Result<(), String>> {
    let status = promotion.status.as_ref()?;
    // What is counted before the operator has seen this generation speaks of an earlier approval.
    if status.observed_generation.is_some() && status.observed_generation < promotion.metadata.generation {
        return None;
    }
    let approvals = status.approvals.as_ref()?;
    if approvals.given.contains(&identity.username) {
        return Some(Ok(()));
    }
    approvals.void.iter().find(|v| v.username == identity.username).map(|v| Err(v.reason.clone()))
}

fn say_counted(session: &Session, promotion: &Promotion, identity: &Identity) -> Exit {
    let name = promotion.metadata.name.as_deref().unwrap_or_default();
    let status = promotion.status.clone().unwrap_or_default();
    let summary = status.approvals.as_ref().map(|a| format!(" ({} of {})", a.given.len(), a.required)).unwrap_or_default();
    let follow = session.command(&format!("watch {name}"));
    match is_counted(promotion, identity) {
        Some(Err(why)) => {
            session.printer.say(format!("Your approval is written but does not count: {}", text::clean(&why)));
            Exit::Refused
        }
        Some(Ok(())) => {
            let next = if status.phase == Phase::Scheduled { "" } else { " It starts when its time and turn come." };
            session.printer.say(format!("Approved{summary}.{next}\nTo follow it: {follow}"));
            Exit::Done
        }
        None => {
            session.printer.say(format!("Approved; the operator has not counted it yet.\nTo follow it: {follow}"));
            Exit::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        PromotionStatus,
        promotion::{ApprovalsStatus, VoidApproval},
    };

    fn bob() -> Identity {
        Identity { username: "bob".into(), groups: vec!["z".into(), "a".into(), "system:authenticated".into()] }
    }

    fn promotion(status: PromotionStatus) -> Promotion {
        let mut promotion: Promotion = serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "Promotion",
            "metadata": {"name": "r-12", "namespace": "shop", "uid": "u-1", "generation": 2},
            "spec": {"environment": {"name": "production"}, "from": {"namespace": "s", "name": "s"}, "requestedBy": {"username": "alice"}},
        }))
        .unwrap();
        promotion.status = Some(status);
        promotion
    }

    #[test]
    fn each_user_has_a_field_manager_of_his_own_that_fits_and_stays() {
        assert_eq!(field_manager("bob"), "lockkeeper-approve-81b637d8fcd2c6da");
        assert_ne!(field_manager("bob"), field_manager("Bob"));
        let long = field_manager(&"ü".repeat(300));
        assert!(long.len() <= 128 && long.is_ascii(), "{long}");
    }

    #[test]
    fn what_is_applied_is_ones_own_entry_and_nothing_else() {
        let entry = entry(&bob(), "v1:00", Some("looks good"));
        assert_eq!(
            body(&promotion(PromotionStatus::default()), Some(&entry)),
            json!({
                "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion",
                "metadata": {"name": "r-12", "namespace": "shop", "uid": "u-1"},
                "spec": {"approvals": [{
                    "username": "bob", "groups": ["z", "a", "system:authenticated"], "planHash": "v1:00", "comment": "looks good",
                }]},
            })
        );
        assert_eq!(super::entry(&bob(), "v1:00", None).get("comment"), None);
        assert_eq!(body(&promotion(PromotionStatus::default()), None)["spec"], json!({}));
    }

    #[test]
    fn an_approval_counts_only_once_the_operator_has_seen_it() {
        let given = ApprovalsStatus { required: 1, given: vec!["bob".into()], ..ApprovalsStatus::default() };
        let status = |generation, approvals| PromotionStatus {
            observed_generation: Some(generation),
            approvals: Some(approvals),
            ..PromotionStatus::default()
        };
        assert_eq!(is_counted(&promotion(status(1, given.clone())), &bob()), None);
        assert_eq!(is_counted(&promotion(status(2, given)), &bob()), Some(Ok(())));
        let void = VoidApproval { username: "bob".into(), reason: "another plan".into() };
        let void = ApprovalsStatus { required: 1, void: vec![void], ..ApprovalsStatus::default() };
        assert_eq!(is_counted(&promotion(status(2, void)), &bob()), Some(Err("another plan".into())));
        assert_eq!(is_counted(&promotion(status(2, ApprovalsStatus::default())), &bob()), None);
    }
}
