//! `promote`: shows what would change, asks, makes the Promotion, shows what the operator plans.
//!
//! 1. Both Environments are read, and what the source runs is compared with what the target runs.
//! 2. The Promotion is sent as a dry run: what the cluster would refuse, it refuses before anyone is asked.
//! 3. The person is asked. Nothing exists until the answer is yes: with no approvals required the run would start at once.
//! 4. The Promotion is made. The operator captures, plans and checks; its plan is shown, with the command that approves it.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, api::PostParams, core::ObjectMeta};

use super::{
    args::{Global, PromoteArgs, WatchArgs},
    changes,
    error::{CliError, Exit},
    session::Session,
    show, text, time, watch,
};
use crate::{
    api::{
        Environment, EnvironmentRef, LocalRef, Promotion, PromotionSpec, conditions,
        promotion::{Requester, Schedule},
        verbs,
    },
    plan::world::Run,
};

/// How long the operator may take to capture and plan before this stops waiting for it.
const PLANNING: Duration = Duration::from_secs(60);

/// What is in the way for this long will not go by itself.
const STUCK: Duration = Duration::from_secs(5);

/// The field manager for what this plugin writes in a spec, approvals and cancels aside.
const MANAGER: &str = "kubectl-lockkeeper";

/// Runs the subcommand.
pub async fn run(global: &Global, args: PromoteArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let not_before =
        args.at.as_deref().map(|t| time::parse(t, now, &zone)).transpose().map_err(|e| CliError::Usage(format!("--at: {e}")))?;
    let target = session.environment(args.environment.as_deref()).await?;
    let from = match &args.from {
        Some(from) => from.clone(),
        None => only_source(&target)?,
    };
    consent(&target, &from, &session.namespace)?;
    let source = source(&session, &from).await?;
    for environment in source.iter().chain([&target]) {
        known(args.modules.as_deref().unwrap_or_default(), environment)?;
    }
    let identity = session.identity().await?;
    may_promote(&session, &from, &identity.username).await?;

    let spec = PromotionSpec {
        environment: LocalRef { name: target.metadata.name.clone().unwrap_or_default().into() },
        from: from.clone(),
        modules: args.modules.as_ref().map(|names| names.iter().map(|n| n.as_str().into()).collect()),
        schedule: (not_before.is_some() || args.deadline.is_some())
            .then(|| Schedule { not_before, start_deadline: args.deadline.clone() }),
        requested_by: Requester { username: identity.username.as_str().into() },
        description: args.description.as_deref().map(Into::into),
        approvals: Vec::new(),
        cancel: None,
        intervention: None,
        modified_by: None,
    };
    let name = args.name.clone().unwrap_or_else(|| default_name(&from.name, now));
    let promotion = Promotion {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(session.namespace.clone()), ..ObjectMeta::default() },
        spec,
        status: None,
    };

    let say = |text: String| session.printer.say(text);
    say(preview(&promotion, source.as_ref(), &target, args.modules.as_deref(), &zone));
    create(&session, &promotion, true).await?;
    if args.dry_run {
        say("\nThe cluster would take it. Nothing was written.".into());
        session.printer.object(&promotion)?;
        return Ok(Exit::Done);
    }
    if !session.printer.confirm(&question(&target), args.yes)? {
        say("Nothing was written.".into());
        return Ok(Exit::Error);
    }
    let made = create(&session, &promotion, false).await?;
    say(format!("\nPromotion {name} is made. The operator plans …"));
    let planned = planned(&session, &name, made).await?;
    let exit = conclude(&session, &planned);
    session.printer.object(&planned)?;
    if args.watch && exit == Exit::Done {
        return watch::follow::<Promotion>(&session, WatchArgs { name, timeout: None }).await;
    }
    Ok(exit)
}

/// The source, where the target consents to just one.
fn only_source(target: &Environment) -> Result<EnvironmentRef, CliError> {
    match target.spec.promotes_from.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(CliError::Usage("--from NAMESPACE/NAME is missing, and the environment has no promotesFrom".into())),
        several => {
            let names: Vec<String> = several.iter().map(|r| format!("{}/{}", r.namespace, r.name)).collect();
            Err(CliError::Usage(format!("--from is missing; the environment takes releases from: {}", names.join(", "))))
        }
    }
}

/// The target's consent to the source: its own field.
fn consent(target: &Environment, from: &EnvironmentRef, namespace: &str) -> Result<(), CliError> {
    if target.spec.promotes_from.contains(from) {
        return Ok(());
    }
    Err(CliError::Error(format!(
        "Environment {namespace}/{} does not take releases from {}/{}; who owns it adds:\nspec:\n  promotesFrom:\n  - {{namespace: {}, name: {}}}",
        target.metadata.name.as_deref().unwrap_or_default(),
        from.namespace,
        from.name,
        from.namespace,
        from.name
    )))
}

/// Modules that are asked for by name are there: a slip of the pen would wait for ever.
fn known(asked: &[String], environment: &Environment) -> Result<(), CliError> {
    let Some(strange) = asked.iter().find(|name| environment.spec.module(name).is_none()) else { return Ok(()) };
    let names: Vec<&str> = environment.spec.modules.iter().map(|m| &*m.name).collect();
    Err(CliError::Error(format!(
        "Environment {}/{} has no module {strange}; it has {}",
        environment.metadata.namespace.as_deref().unwrap_or_default(),
        environment.metadata.name.as_deref().unwrap_or_default(),
        names.join(", ")
    )))
}

/// The source's Environment; `None` where this person may promote from it but not read it.
async fn source(session: &Session, from: &EnvironmentRef) -> Result<Option<Environment>, CliError> {
    let api = Api::<Environment>::namespaced(session.client.clone(), &from.namespace);
    match session.ask(&format!("reading Environment {}/{}", from.namespace, from.name), api.get(&from.name)).await {
        Ok(environment) => Ok(Some(environment)),
        Err(CliError::Refused(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The source's consent: the verb `promote`. Asked first, because its refusal can say how to mend it.
async fn may_promote(session: &Session, from: &EnvironmentRef, username: &str) -> Result<(), CliError> {
    if allowed(session, verbs::PROMOTE, &from.namespace, &from.name).await? {
        return Ok(());
    }
    Err(CliError::Refused(format!(
        "you ({username}) may not promote from Environment {}/{}; who owns namespace {} gives you the right:\n{}",
        from.namespace,
        from.name,
        from.namespace,
        super::doctor::mend::role("promoter", &from.namespace, username)
    )))
}

/// Whether this person has a verb on an Environment.
pub async fn allowed(session: &Session, verb: &str, namespace: &str, name: &str) -> Result<bool, CliError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(verbs::on_environment(verb, namespace, name)),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(session.client.clone());
    let answer = session.ask("asking what you may do", api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

async fn create(session: &Session, promotion: &Promotion, dry_run: bool) -> Result<Promotion, CliError> {
    let params = PostParams { dry_run, field_manager: Some(MANAGER.into()) };
    let name = promotion.metadata.name.as_deref().unwrap_or_default();
    let doing = format!("making Promotion {name} in namespace {}", session.namespace);
    session.ask(&doing, session.api::<Promotion>().create(&params, promotion)).await
}

/// A name that says where the release comes from and when it was asked for.
fn default_name(source: &str, now: Timestamp) -> String {
    let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
    let source: String = source.chars().take(63 - stamp.len() - 1).collect();
    format!("{}-{stamp}", source.trim_end_matches(['-', '.']))
}

fn preview(
    promotion: &Promotion,
    source: Option<&Environment>,
    target: &Environment,
    asked: Option<&[String]>,
    zone: &TimeZone,
) -> String {
    let namespace = promotion.metadata.namespace.as_deref().unwrap_or_default();
    let mut rows = show::route(&promotion.spec, namespace, zone);
    rows.push(("Asked by", promotion.spec.requested_by.username.to_string()));
    if let Some(text) = &promotion.spec.description {
        rows.push(("What", text.to_string()));
    }
    let mut parts = vec![show::pairs(&rows)];
    match source {
        Some(source) => {
            let modules = changes::modules(source, asked);
            let release = |e: &Environment| e.status.as_ref().and_then(|s| s.release.clone());
            let found = changes::preview(&modules, release(source).as_ref(), release(target).as_ref(), &target.spec);
            parts.push(show::section("Would change, as both environments run now", &show::changelog(&found.changes)));
            if !found.obstacles.is_empty() {
                let lines: Vec<String> = found.obstacles.iter().map(|o| format!("✘ {}", text::clean(o))).collect();
                parts.push(show::section("In the way", &lines.join("\n")));
            }
            parts.push(show::section("In the target", &show::outage(target, &modules)));
        }
        None => parts.push(show::section("Would change", "you may not read the source; the operator's plan will say")),
    }
    let ready = target.status.iter().flat_map(|s| &s.conditions).find(|c| c.type_ == "Ready");
    if let Some(condition) = ready.filter(|c| c.status != "True") {
        let said = format!("{}: {}", condition.reason, text::clean_lines(&condition.message));
        parts.push(show::section("✘ The target is not Ready, so the run would wait", &said));
    }
    parts.join("\n")
}

/// What is asked: it says when the run would start.
fn question(target: &Environment) -> String {
    let approvals = &target.spec.approvals;
    match approvals.required {
        0 => "\nNo approval is needed here: it starts by itself once it is planned and its time has come. Promote?".into(),
        n => format!(
            "\nIt starts after {n} approval{}{}. Promote?",
            if n == 1 { "" } else { "s" },
            if approvals.requester_may_approve { "" } else { " by others than you" }
        ),
    }
}

/// Waits until the operator has planned and checked, or says that something is in the way, or the time is over.
async fn planned(session: &Session, name: &str, made: Promotion) -> Result<Promotion, CliError> {
    let now = tokio::time::Instant::now;
    let until = now() + PLANNING;
    let mut latest = made;
    let mut stalled_since = None;
    while !is_planned(&latest) && now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        latest = session.get(name).await?;
        let stalled = latest.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, conditions::STALLED));
        let since = stalled.then(|| *stalled_since.get_or_insert_with(now));
        stalled_since = since;
        if since.is_some_and(|since| now() - since > STUCK) {
            break;
        }
    }
    Ok(latest)
}

fn is_planned(promotion: &Promotion) -> bool {
    promotion.status.as_ref().is_some_and(|s| {
        s.phase.is_terminal() || !s.phase.is_before_start() || (s.plan_hash.is_some() && s.preflight_at.is_some())
    })
}

/// Says what the operator made of it and what comes next.
fn conclude(session: &Session, promotion: &Promotion) -> Exit {
    let name = promotion.metadata.name.as_deref().unwrap_or_default();
    let say = |text: String| session.printer.say(text);
    let status = promotion.status.clone().unwrap_or_default();
    if status.plan_hash.is_none() {
        let why = show::waiting_for(&status).unwrap_or_else(|| {
            "nothing is known of it; does the operator run? kubectl lockkeeper doctor says what is missing".into()
        });
        say(format!(
            "There is no plan yet: {why}\nThe Promotion stays, and is planned once that is mended. To follow it: {}",
            session.command(&format!("watch {name}"))
        ));
        return Exit::of(status.phase).filter(|e| *e != Exit::Done).unwrap_or(Exit::Error);
    }
    say(show::decided(promotion.status.as_ref()));
    if let Some(exit) = Exit::of(status.phase) {
        say(format!("\n{}: {}", status.phase, show::ending(Run::Promotion(promotion), status.phase)));
        return exit;
    }
    if let Some(why) = show::waiting_for(&status) {
        say(format!("\nNext: {why}"));
    }
    let missing = status.approvals.as_ref().map_or(0, |a| (a.required as usize).saturating_sub(a.given.len()));
    if missing > 0 {
        // Without this session's own context: another person approves, with his own.
        say(format!("To approve it: kubectl lockkeeper approve {name} -n {}", session.namespace));
    }
    say(format!("To follow it:  {}", session.command(&format!("watch {name}"))));
    Exit::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(spec: serde_json::Value) -> Environment {
        let mut base = serde_json::json!({
            "tier": "Production",
            "modules": [{"name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}]}],
        });
        base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Environment::new("production", serde_json::from_value(base).unwrap())
    }

    #[test]
    fn a_name_says_where_from_and_when_and_fits_a_label() {
        let now = "2026-11-25T20:01:02Z".parse().unwrap();
        assert_eq!(default_name("staging", now), "staging-20261125-200102");
        let long = default_name(&format!("{}.{}", "a".repeat(46), "b".repeat(200)), now);
        assert_eq!(long, format!("{}-20261125-200102", "a".repeat(46)));
        assert!(long.len() <= 63);
    }

    #[test]
    fn the_source_may_be_left_out_only_where_there_is_one() {
        let one = environment(serde_json::json!({"promotesFrom": [{"namespace": "a", "name": "b"}]}));
        assert_eq!(only_source(&one).unwrap(), EnvironmentRef { namespace: "a".into(), name: "b".into() });
        let two =
            environment(serde_json::json!({"promotesFrom": [{"namespace": "a", "name": "b"}, {"namespace": "c", "name": "d"}]}));
        assert!(only_source(&two).unwrap_err().to_string().ends_with("a/b, c/d"));
        assert!(matches!(only_source(&environment(serde_json::json!({}))), Err(CliError::Usage(_))));
    }

    #[test]
    fn a_source_without_the_targets_consent_is_refused_with_the_yaml_to_add() {
        let target = environment(serde_json::json!({"promotesFrom": [{"namespace": "a", "name": "b"}]}));
        let other = EnvironmentRef { namespace: "x".into(), name: "y".into() };
        let said = consent(&target, &other, "shop").unwrap_err().to_string();
        assert!(said.ends_with("promotesFrom:\n  - {namespace: x, name: y}"), "{said}");
    }

    #[test]
    fn the_question_says_when_it_would_start() {
        assert!(question(&environment(serde_json::json!({}))).contains("after 1 approval by others than you"));
        let none = environment(serde_json::json!({"approvals": {"required": 0}}));
        assert!(question(&none).contains("starts by itself"));
        let own = environment(serde_json::json!({"approvals": {"required": 2, "requesterMayApprove": true}}));
        assert!(question(&own).contains("after 2 approvals. "));
    }
}
