//! `masking draft` and `masking check`: Jobs in the environment's own namespace, made with the rights of the person who asks, so
//! that no value leaves it. What comes back is a policy, or what is wrong with one.

use std::{path::Path, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::ConfigMap, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    args::{DraftArgs, Global, JobArgs, MaskingArgs, MaskingCheckArgs, MaskingCommand},
    error::{CliError, Exit},
    session::Session,
    text,
};
use crate::{
    api::{Data, Environment, MaskingPolicy, MaskingPolicySpec, labels},
    data::mask,
    manifest::{
        Owner, job, masking,
        task::{Outcome, Task, Verb},
    },
    plan::{Effect, world::Settings},
};

const PAUSE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(900);
/// What a pod may take to start before it is said why it does not.
const START: Duration = Duration::from_secs(60);
/// What the agent puts before each line that is meant for a person.
const SAID: &str = "| ";

/// Runs the subcommand.
pub async fn run(global: &Global, args: MaskingArgs) -> Result<Exit, CliError> {
    match args.command {
        MaskingCommand::Draft(args) => draft(global, args).await,
        MaskingCommand::Check(args) => check(global, args).await,
    }
}

async fn draft(global: &Global, args: DraftArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let work = Work::new(&session, args.environment.as_deref(), &args.job).await?;
    let data: Vec<&Data> = match &args.data {
        None => work.environment.spec.data.iter().collect(),
        Some(names) => names.iter().map(|name| work.data(name)).collect::<Result<_, _>>()?,
    };
    let mut task = work.task(Verb::Draft);
    task.locale = Some(args.locale.into());
    let (said, _) = work.perform(task, &data, None).await?;
    session.printer.say(said);
    for volume in data.iter().filter(|d| d.volume.is_some()) {
        session.printer.say(mask::files::drafted(&volume.name));
    }
    Ok(Exit::Done)
}

async fn check(global: &Global, args: MaskingCheckArgs) -> Result<Exit, CliError> {
    let in_file = args.filename.as_deref().map(read).transpose()?;
    let session = Session::open(global).await?;
    let work = Work::new(&session, args.environment.as_deref(), &args.job).await?;
    let policy: MaskingPolicySpec = match (in_file, &args.policy) {
        (Some(policy), _) => policy,
        (None, Some(name)) => session.get::<MaskingPolicy>(name).await?.spec,
        (None, None) => return Err(CliError::Usage("name a MaskingPolicy, or a file with -f".into())),
    };
    let data: Vec<&Data> = policy.data.iter().map(|d| work.data(&d.name)).collect::<Result<_, _>>()?;
    for (said, data) in policy.data.iter().zip(&data) {
        mask::files::fits(said, data.volume.is_some()).map_err(CliError::Error)?;
    }
    let (said, outcome) = work.perform(work.task(Verb::Classify), &data, Some(&policy)).await?;
    session.printer.say(said);
    for volume in work.environment.spec.data.iter().filter(|d| d.volume.is_some()) {
        session.printer.say(mask::files::said(&policy, &volume.name));
    }
    session.printer.say(format!("hash {}", mask::hash(&policy)));
    let complete = outcome.notes.is_empty() && outcome.coverage.iter().all(|c| c.classified == c.columns);
    session.printer.object(&json!({"hash": mask::hash(&policy), "coverage": outcome.coverage, "problems": outcome.notes}))?;
    Ok(if complete { Exit::Done } else { Exit::Error })
}

/// A policy in a file, as it would be applied.
fn read(path: &Path) -> Result<MaskingPolicySpec, CliError> {
    let wrong = |why: String| CliError::Error(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let policy: MaskingPolicy = serde_saphyr::from_str(&text).map_err(|error| match error.without_snippet() {
        // The library proposes an option of its own, which is none of the command line's.
        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
            let key = key.as_ref().map(|k| format!(" {k}")).unwrap_or_default();
            wrong(format!(
                "line {}: the key{key} is there for the second time in one mapping; keep one of the two",
                location.line()
            ))
        }
        _ => wrong(format!("not a MaskingPolicy: {error}")),
    })?;
    Ok(policy.spec)
}

/// What is asked, and where.
struct Work<'a> {
    session: &'a Session,
    environment: Environment,
    settings: Settings,
}

impl<'a> Work<'a> {
    async fn new(session: &'a Session, environment: Option<&str>, args: &JobArgs) -> Result<Self, CliError> {
        let environment = session.environment(environment).await?;
        let agent_image = match &args.image {
            Some(image) => image.clone(),
            None => image(session, &args.operator_namespace).await?,
        };
        let settings = Settings { agent_image, namespace: args.operator_namespace.clone(), service_account: String::new() };
        Ok(Self { session, environment, settings })
    }

    fn data(&self, name: &str) -> Result<&Data, CliError> {
        let all: Vec<&Data> = self.environment.spec.data.iter().collect();
        all.iter().copied().find(|d| *d.name == *name).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|d| &*d.name.0).collect();
            CliError::Usage(format!(
                "Environment {} has no data {name}; it has {}",
                self.environment.name_any(),
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ))
        })
    }

    fn owner(&self) -> Owner<'_> {
        let metadata = &self.environment.metadata;
        Owner {
            kind: "Environment",
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
            namespace: &self.session.namespace,
        }
    }

    fn task(&self, verb: Verb) -> Task {
        let owner = self.owner();
        Task::new(verb, owner, (owner.uid.to_owned(), owner.name))
    }

    /// Makes the Job and, for a policy, its copy; waits for its end; gives what it said, and its outcome. Both go then.
    async fn perform(
        &self,
        mut task: Task,
        data: &[&Data],
        policy: Option<&MaskingPolicySpec>,
    ) -> Result<(String, Outcome), CliError> {
        let (session, owner) = (self.session, self.owner());
        let step = task.verb.as_str();
        let name = owner.object_name(&format!("{step}-{}", jiff::Timestamp::now().as_millisecond()), 0);
        task.data = Task::data_of(data.iter().copied());
        let maps = session.api::<ConfigMap>();
        if let Some(policy) = policy {
            let effect = masking::config_map(owner, &name, policy).map_err(CliError::Error)?;
            let map: ConfigMap = serde_json::from_value(own(effect)).map_err(CliError::other)?;
            session.ask(&format!("making ConfigMap {name}"), maps.create(&PostParams::default(), &map)).await?;
            task.policy = Some(name.clone());
        }
        let effect = job::agent(owner, &self.settings, (&name, step), &task, (data, None), &[], DEADLINE);
        let jobs = session.api::<Job>();
        let ended = async {
            let job: Job = serde_json::from_value(own(effect)).map_err(CliError::other)?;
            let doing = format!("making Job {name} in namespace {}", session.namespace);
            session.ask(&doing, jobs.create(&PostParams::default(), &job)).await?;
            self.wait(&name).await
        };
        let ended = tokio::select! {
            ended = ended => ended,
            _ = tokio::signal::ctrl_c() => Err(CliError::Error("interrupted; its Job is deleted".into())),
        };
        let _ = session.ask("deleting the Job", jobs.delete(&name, &DeleteParams::background())).await;
        if policy.is_some() {
            let _ = session.ask("deleting the ConfigMap", maps.delete(&name, &DeleteParams::default())).await;
        }
        ended
    }

    async fn wait(&self, name: &str) -> Result<(String, Outcome), CliError> {
        let pods: Api<Pod> = self.session.api();
        let begun = std::time::Instant::now();
        let ours = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        while begun.elapsed() < DEADLINE + START {
            tokio::time::sleep(PAUSE).await;
            let list = self.session.ask(&format!("waiting for the pod of Job {name}"), pods.list(&ours)).await?;
            let Some(pod) = list.items.first() else {
                if begun.elapsed() > START {
                    return Err(CliError::Error(format!("Job {name} has no pod; see `kubectl describe job {name}`")));
                }
                continue;
            };
            let state =
                pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()?.first()?.state.clone()).unwrap_or_default();
            if let Some(ended) = state.terminated {
                let log = self.session.ask("reading its log", pods.logs(&pod.name_any(), &LogParams::default())).await?;
                let outcome: Outcome = ended.message.and_then(|m| serde_json::from_str(&m).ok()).unwrap_or_default();
                if let Some(error) = outcome.error {
                    return Err(CliError::Error(error.message));
                }
                if ended.exit_code != 0 {
                    return Err(CliError::Error(format!("Job {name} ended with exit code {}", ended.exit_code)));
                }
                let said: Vec<String> = log.lines().filter_map(|line| line.strip_prefix(SAID)).map(text::clean).collect();
                return Ok((said.join("\n"), outcome));
            }
            if let Some(waiting) = state.waiting.filter(|_| begun.elapsed() > START) {
                let (reason, message) = (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default());
                return Err(CliError::Error(format!("the pod of Job {name} does not start: {reason} {message}")));
            }
        }
        Err(CliError::Error(format!("Job {name} took longer than {} s", DEADLINE.as_secs())))
    }
}

/// The manifest of an effect, marked as made by the plugin: the operator takes away what it made itself for no run.
fn own(effect: Effect) -> Value {
    let Effect::Create { manifest, .. } = effect else { return Value::Null };
    let mut manifest = *manifest;
    let mark = json!({labels::MANAGED_BY: "kubectl-lockkeeper"});
    manifest["metadata"]["labels"] = mark.clone();
    if let Some(pod) = manifest.pointer_mut("/spec/template/metadata") {
        let agent = pod["labels"][labels::AGENT].clone();
        pod["labels"] = mark;
        // By this the chart's NetworkPolicies let it reach databases.
        pod["labels"][labels::AGENT] = agent;
    }
    manifest
}

/// The operator's own image.
async fn image(session: &Session, namespace: &str) -> Result<String, CliError> {
    let api: Api<Deployment> = Api::namespaced(session.client.clone(), namespace);
    let all = ListParams::default().labels("app.kubernetes.io/name=lockkeeper");
    let listed = session.ask(&format!("looking for the operator's image in namespace {namespace}"), api.list(&all)).await;
    let found = listed.map(|list| {
        let pod = list.items.into_iter().next()?.spec?.template.spec?;
        pod.containers.into_iter().next()?.image
    });
    match found {
        Ok(Some(image)) => Ok(image),
        Ok(None) => Err(CliError::Error(format!(
            "namespace {namespace} has no operator; say where it is with --operator-namespace, or which image with --image"
        ))),
        Err(error) => Err(CliError::Error(format!("{error}; say which image with --image"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_makes_is_not_taken_for_the_operators() {
        let owner = Owner { kind: "Environment", name: "production", uid: "0a1b2c3d-0000", namespace: "shop" };
        let settings = Settings { agent_image: "image".into(), namespace: "n".into(), service_account: String::new() };
        let task = Task::new(Verb::Draft, owner, ("uid".into(), "production"));
        let made = own(job::agent(owner, &settings, ("a", "draft"), &task, (&[], None), &[], DEADLINE));
        for labels_ in [&made["metadata"]["labels"], &made["spec"]["template"]["metadata"]["labels"]] {
            assert_eq!(labels_[labels::MANAGED_BY], "kubectl-lockkeeper");
            assert!(labels_[labels::RUN].is_null());
        }
        assert_eq!(made["spec"]["template"]["metadata"]["labels"][labels::AGENT], "draft");
    }
}
