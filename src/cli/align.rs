//! `align`: an environment becomes a mirror of a higher one, and is followed until it is.

use jiff::Timestamp;
use kube::{api::PostParams, core::ObjectMeta};

use super::{
    args::{AlignArgs, Global, WatchArgs},
    error::{CliError, Exit},
    session::Session,
    watch,
};
use crate::api::{
    AlignedData, DownAlignment, DownAlignmentSpec, Empty, Environment, EnvironmentRef, Include, LocalRef, promotion::Requester,
};

/// Runs the subcommand.
pub async fn run(global: &Global, args: AlignArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let environment = session.environment(args.environment.as_deref()).await?;
    let from = source(&environment, args.from.as_deref())?;
    let identity = session.identity().await?;
    let name = args.name.unwrap_or_else(|| format!("align-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S")));
    let data = match (args.no_data, &args.data) {
        (true, _) => AlignedData { all: None, names: None, none: Some(Empty {}) },
        (false, Some(names)) => {
            AlignedData { all: None, names: Some(names.iter().map(|n| n.as_str().into()).collect()), none: None }
        }
        (false, None) => AlignedData::default(),
    };
    let wanted = DownAlignment {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(session.namespace.clone()), ..ObjectMeta::default() },
        spec: DownAlignmentSpec {
            environment: LocalRef { name: environment.metadata.name.unwrap_or_default().as_str().into() },
            from: from.clone(),
            schedule: None,
            include: Include { configuration: !args.no_configuration, data },
            requested_by: Requester { username: identity.username.as_str().into() },
            cancel: None,
            intervention: None,
        },
        status: None,
    };
    let here = &wanted.spec.environment.name;
    session.printer.say(format!(
        "Environment {}/{here} becomes a mirror of {}/{}. Its own data is kept aside for a while.",
        session.namespace, from.namespace, from.name
    ));
    if !session.printer.confirm("Is that what you want?", args.yes)? {
        session.printer.say("Nothing was written.");
        return Ok(Exit::Error);
    }
    let params = PostParams { field_manager: Some("kubectl-lockkeeper".into()), ..PostParams::default() };
    let doing = format!("making DownAlignment {name} in namespace {}", session.namespace);
    let made = session.ask(&doing, session.api::<DownAlignment>().create(&params, &wanted)).await?;
    session.printer.say(format!("DownAlignment {name} is made."));
    if args.no_wait {
        session.printer.object(&made)?;
        return Ok(Exit::Done);
    }
    watch::follow::<DownAlignment>(&session, WatchArgs { name, timeout: None }).await
}

/// The environment that is mirrored: the named one, or the only one that may be.
fn source(environment: &Environment, named: Option<&str>) -> Result<EnvironmentRef, CliError> {
    let allowed = &environment.spec.aligns_from;
    let words = || allowed.iter().map(|e| format!("{}/{}", e.namespace, e.name)).collect::<Vec<_>>().join(", ");
    match (named.and_then(|n| n.split_once('/')), named, allowed.as_slice()) {
        (Some((namespace, name)), ..) => Ok(EnvironmentRef { namespace: namespace.into(), name: name.into() }),
        (None, Some(other), _) => {
            Err(CliError::Error(format!("--from {other}: write NAMESPACE/NAME, for example shop-production/production")))
        }
        (None, None, [only]) => Ok(only.clone()),
        (None, None, []) => Err(CliError::Error(
            "the Environment names nothing that it may be aligned with: its owner adds one to spec.alignsFrom".into(),
        )),
        (None, None, _) => Err(CliError::Error(format!("--from: name one of {}", words()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(aligns_from: serde_json::Value) -> Environment {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "staging"},
            "spec": {"tier": "Staging", "modules": [{"name": "m", "workloads": [{"kind": "Deployment", "name": "d"}]}], "alignsFrom": aligns_from},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_mirrored_is_named_or_the_only_one_that_may_be() {
        let (live, other) =
            (serde_json::json!({"namespace": "shop", "name": "live"}), serde_json::json!({"namespace": "b", "name": "c"}));
        let one = environment(serde_json::json!([live]));
        assert_eq!(source(&one, None).unwrap().namespace.to_string(), "shop");
        assert_eq!(source(&one, Some("a/b")).unwrap().name.to_string(), "b");
        assert!(source(&one, Some("live")).unwrap_err().to_string().contains("NAMESPACE/NAME"));
        assert!(source(&environment(serde_json::json!([])), None).unwrap_err().to_string().contains("spec.alignsFrom"));
        let two = source(&environment(serde_json::json!([live, other])), None).unwrap_err();
        assert!(two.to_string().contains("shop/live, b/c"), "{two}");
    }
}
