//! What `restore` and `rollback` share: an EnvironmentRestore is asked for, followed, approved, called off.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use kube::{
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::json;

use super::{
    approve,
    args::{ApproveArgs, RestoringArgs, WatchArgs},
    error::{CliError, Exit},
    session::Session,
    show, text, watch,
};
use crate::api::{
    API_VERSION, EnvironmentRestore, EnvironmentRestoreSpec, LocalRef, RestoreSource, RunStatus, backup::DataSelection,
    promotion::Requester,
};

/// How long the operator may take to look a snapshot up, or to plan.
const PLANNING: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);
const MANAGER: &str = "kubectl-lockkeeper";

/// What is asked for.
pub struct Wanted {
    /// What comes back.
    pub from: RestoreSource,
    /// Which data.
    pub data: Option<Vec<String>>,
    /// In words: `backup nightly`, `what was before Promotion r-12`.
    pub what: String,
    /// Of when it is, where that is known before the operator has looked.
    pub taken_at: Option<Timestamp>,
    /// What else changes, in words.
    pub also: &'static str,
}

/// Shows, asks, makes the EnvironmentRestore, and shows what the operator plans.
pub async fn ask(session: &Session, wanted: Wanted, args: RestoringArgs) -> Result<Exit, CliError> {
    let environment = session.environment(args.environment.as_deref()).await?.metadata.name.unwrap_or_default();
    let identity = session.identity().await?;
    let now = Timestamp::now();
    let name = args.name.unwrap_or_else(|| format!("restore-{}", now.strftime("%Y%m%d-%H%M%S")));
    let mut restore = EnvironmentRestore {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(session.namespace.clone()), ..ObjectMeta::default() },
        spec: EnvironmentRestoreSpec {
            environment: LocalRef { name: environment.as_str().into() },
            from: wanted.from,
            data: match &wanted.data {
                Some(names) => DataSelection { all: None, names: Some(names.iter().map(|n| n.as_str().into()).collect()) },
                None => DataSelection::default(),
            },
            requested_by: Requester { username: identity.username.as_str().into() },
            acknowledge_data_loss_since: wanted.taken_at,
            approvals: Vec::new(),
            cancel: None,
            intervention: None,
        },
        status: None,
    };
    create(session, &restore, true).await?;
    if let Some(at) = wanted.taken_at {
        session.printer.say(loses(&environment, &wanted.what, at, wanted.also));
        if !session.printer.confirm("Is that what you want?", args.yes)? {
            session.printer.say("Nothing was written.");
            return Ok(Exit::Error);
        }
    }
    restore = create(session, &restore, false).await?;
    session.printer.say(format!("EnvironmentRestore {name} is made. The operator looks …"));
    restore = until(session, restore, |s| s.taken_at.is_some()).await?;
    let status = restore.status.clone().unwrap_or_default();
    if let (None, Some(at)) = (wanted.taken_at, status.taken_at) {
        session.printer.say(loses(&environment, &wanted.what, at, wanted.also));
        let yes = session.printer.confirm("Is that what you want?", args.yes)?;
        let change = if yes {
            json!({"spec": {"acknowledgeDataLossSince": at}})
        } else {
            json!({"spec": {"cancel": {"username": identity.username, "reason": "not what was wanted"}}})
        };
        restore = patch(session, &name, &change).await?;
        if !yes {
            session.printer.say(format!("EnvironmentRestore {name} is called off; nothing was changed."));
            return Ok(Exit::Error);
        }
    }
    restore = until(session, restore, |s| s.plan_hash.is_some() && s.preflight_at.is_some()).await?;
    let status = restore.status.clone().unwrap_or_default();
    session.printer.say(show::section("Steps", &show::plan(&status)));
    session.printer.say(show::section("Checks", &show::preflight(&status.preflight)));
    if let Some(next) = &status.next {
        session.printer.say(format!("Next: {}", text::clean(next)));
    }
    session.printer.say(format!("To approve it: {}", session.command(&format!("approve {name}"))));
    session.printer.object(&restore)?;
    if args.watch {
        return watch::follow::<EnvironmentRestore>(session, WatchArgs { name, timeout: None }).await;
    }
    Ok(Exit::Done)
}

fn loses(environment: &str, what: &str, at: Timestamp, also: &str) -> String {
    format!(
        "Environment {environment} goes back to {what}, which is of {}.\n✘ What was written since then is lost; today's database is kept \
         aside for a while.{also}\nUsers are locked out meanwhile.",
        text::instant(at, &TimeZone::system())
    )
}

async fn create(session: &Session, restore: &EnvironmentRestore, dry_run: bool) -> Result<EnvironmentRestore, CliError> {
    let params = PostParams { dry_run, field_manager: Some(MANAGER.into()) };
    let name = restore.metadata.name.as_deref().unwrap_or_default();
    let doing = format!("making EnvironmentRestore {name} in namespace {}", session.namespace);
    session.ask(&doing, session.api::<EnvironmentRestore>().create(&params, restore)).await
}

async fn patch(session: &Session, name: &str, change: &serde_json::Value) -> Result<EnvironmentRestore, CliError> {
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let doing = format!("changing EnvironmentRestore {name} in namespace {}", session.namespace);
    session.ask(&doing, session.api::<EnvironmentRestore>().patch(name, &params, &Patch::Merge(change))).await
}

/// Waits until the operator has come so far; says why it has not, when the time is over or it has ended.
async fn until(
    session: &Session,
    mut restore: EnvironmentRestore,
    far: impl Fn(&RunStatus) -> bool,
) -> Result<EnvironmentRestore, CliError> {
    let name = restore.metadata.name.clone().unwrap_or_default();
    let end = tokio::time::Instant::now() + PLANNING;
    loop {
        let status = restore.status.clone().unwrap_or_default();
        if far(&status) {
            return Ok(restore);
        }
        if status.phase.is_terminal() || tokio::time::Instant::now() > end {
            let why = status.failure.map(|f| f.message).or(status.next).unwrap_or_else(|| "does the operator run?".into());
            return Err(CliError::Error(format!("EnvironmentRestore {name} does not come on: {}", text::clean(&why))));
        }
        tokio::time::sleep(PAUSE).await;
        restore = session.get(&name).await?;
    }
}

/// `approve` of a restore.
pub async fn approve(session: &Session, restore: EnvironmentRestore, args: ApproveArgs) -> Result<Exit, CliError> {
    let identity = session.identity().await?;
    let name = args.name;
    let status = restore.status.clone().unwrap_or_default();
    let hash = status.plan_hash.clone().ok_or_else(|| {
        CliError::Error(format!(
            "EnvironmentRestore {name} has no plan to approve yet: {}",
            status.next.clone().unwrap_or_default()
        ))
    })?;
    if let Some(expected) = args.plan_hash.as_ref().filter(|expected| **expected != hash) {
        return Err(CliError::Error(format!(
            "the plan is not the one that --plan-hash names: it is {hash}, not {}",
            text::clean(expected)
        )));
    }
    let entries = if args.withdraw {
        json!([])
    } else {
        let when = status.taken_at.map(|at| text::instant(at, &TimeZone::system())).unwrap_or_default();
        session.printer.say(format!(
            "EnvironmentRestore {name}, asked for by {}: data goes back to {when}; what was written since is lost.\n{}{}",
            text::clean(&restore.spec.requested_by.username),
            show::section("Changes", &show::changelog(&status.changelog)),
            show::section("Steps", &show::plan(&status)),
        ));
        if !session.printer.confirm("Approve?", args.yes)? {
            session.printer.say("Nothing was written.");
            return Ok(Exit::Error);
        }
        json!([approve::entry(&identity, &hash, args.comment.as_deref())])
    };
    let body = json!({
        "apiVersion": API_VERSION, "kind": "EnvironmentRestore",
        "metadata": {"name": name, "namespace": session.namespace, "uid": restore.metadata.uid},
        "spec": {"approvals": entries},
    });
    // Forced, under a field manager of one's own: as for Promotions.
    let params = PatchParams::apply(&approve::field_manager(&identity.username)).force();
    let doing = format!("approving EnvironmentRestore {name} in namespace {}", session.namespace);
    let after = session.ask(&doing, session.api::<EnvironmentRestore>().patch(&name, &params, &Patch::Apply(&body))).await?;
    let said = if args.withdraw { "Your approval is withdrawn." } else { "Approved." };
    session.printer.say(format!("{said}\nTo follow it: {}", session.command(&format!("watch {name}"))));
    session.printer.object(&after)?;
    Ok(Exit::Done)
}
