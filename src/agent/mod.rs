//! What runs in Jobs: `lockkeeper agent VERB`.
//!
//! 1. The task comes from the environment ([`TASK_ENV`]) and must be of the verb on the command line.
//! 2. The verb does its work; each verb can be killed at any statement and done again.
//! 3. The outcome goes to the termination message, on failure too; the exit code says whether trying again is of use.
//!
//! Stdout carries progress as JSON lines, stderr the log. SIGTERM ends what runs on the server first, then the process.

mod admit;
mod backup;
mod error;
mod fence;
mod forget;
mod head;
mod http;
mod lock;
mod masking;
mod outcome;
mod page;
mod preflight;
mod progress;
mod proof;
mod prove;
mod prune;
mod release;
mod restore;
mod rollback;
mod scratch;
mod snapshot;
mod undo;
mod volumes;
mod wide;

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

pub use error::AgentError;
use error::OfData;
pub use outcome::fit;
use progress::Told;

use crate::{
    api::Timestamp,
    data::{
        postgres::{Access, control::Row},
        stop::{self, Stop},
    },
    manifest::task::{
        DataTask, GATE_PATH, MASKING_KEY_DIR, OWN_DIR, Outcome, OutcomeError, POLICY_DIR, PROOF_DIR, REPOSITORY_CREDENTIALS_DIR,
        REPOSITORY_DIR, REPOSITORY_PASSWORD_DIR, RESULT_PATH, SCRATCH_DIR, SECRETS_DIR, TASK_ENV, Task, VOLUMES_DIR, Verb, exit,
    },
};

/// How often a task that waits for its turn looks.
const GATE_PAUSE: Duration = Duration::from_millis(50);
/// How long a server that is away is waited for under the lock, and how often it is tried.
const SERVER_PATIENCE: Duration = Duration::from_secs(120);
const SERVER_PAUSE: Duration = Duration::from_millis(500);
/// How long cleaning up may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

/// Where things are mounted. Each can be moved by an environment variable, for trying things outside a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The data's Secrets; `LOCKKEEPER_SECRETS_DIR`.
    pub secrets: PathBuf,
    /// The volumes of data; `LOCKKEEPER_VOLUMES_DIR`.
    pub volumes: PathBuf,
    /// The repository; `LOCKKEEPER_REPOSITORY_DIR`.
    pub repository: PathBuf,
    /// The repository's password; `LOCKKEEPER_REPOSITORY_PASSWORD_DIR`.
    pub repository_password: PathBuf,
    /// The credentials of a repository on S3; `LOCKKEEPER_REPOSITORY_CREDENTIALS_DIR`.
    pub repository_credentials: PathBuf,
    /// The environment's own repository beside the exchange; `LOCKKEEPER_OWN_DIR`.
    pub own: PathBuf,
    /// The Secret of the server on which restores are proven; `LOCKKEEPER_PROOF_DIR`.
    pub proof: PathBuf,
    /// The masking policy's copy; `LOCKKEEPER_POLICY_DIR`.
    pub policy: PathBuf,
    /// The masking policy's key; `LOCKKEEPER_MASKING_KEY_DIR`.
    pub masking_key: PathBuf,
    /// Scratch space; `LOCKKEEPER_SCRATCH_DIR`.
    pub scratch: PathBuf,
    /// The termination message; `LOCKKEEPER_RESULT_PATH`.
    pub result: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            secrets: SECRETS_DIR.into(),
            volumes: VOLUMES_DIR.into(),
            repository: REPOSITORY_DIR.into(),
            repository_password: REPOSITORY_PASSWORD_DIR.into(),
            repository_credentials: REPOSITORY_CREDENTIALS_DIR.into(),
            own: OWN_DIR.into(),
            proof: PROOF_DIR.into(),
            policy: POLICY_DIR.into(),
            masking_key: MASKING_KEY_DIR.into(),
            scratch: SCRATCH_DIR.into(),
            result: RESULT_PATH.into(),
        }
    }
}

impl Paths {
    /// The defaults, with what the environment moves.
    pub fn from_env() -> Self {
        let path = |name: &str, default: PathBuf| env::var_os(name).map_or(default, PathBuf::from);
        let Self {
            secrets,
            volumes,
            repository,
            repository_password,
            repository_credentials,
            own,
            proof,
            policy,
            masking_key,
            scratch,
            result,
        } = Self::default();
        Self {
            secrets: path("LOCKKEEPER_SECRETS_DIR", secrets),
            volumes: path("LOCKKEEPER_VOLUMES_DIR", volumes),
            repository: path("LOCKKEEPER_REPOSITORY_DIR", repository),
            repository_password: path("LOCKKEEPER_REPOSITORY_PASSWORD_DIR", repository_password),
            repository_credentials: path("LOCKKEEPER_REPOSITORY_CREDENTIALS_DIR", repository_credentials),
            own: path("LOCKKEEPER_OWN_DIR", own),
            proof: path("LOCKKEEPER_PROOF_DIR", proof),
            policy: path("LOCKKEEPER_POLICY_DIR", policy),
            masking_key: path("LOCKKEEPER_MASKING_KEY_DIR", masking_key),
            scratch: path("LOCKKEEPER_SCRATCH_DIR", scratch),
            result: path("LOCKKEEPER_RESULT_PATH", result),
        }
    }
}

/// What a verb works with.
pub(crate) struct Context<'a> {
    task: &'a Task,
    paths: &'a Paths,
    stop: Stop,
    told: Told,
}

impl Context<'_> {
    /// The epoch, which every verb under the lock has.
    fn epoch(&self) -> Result<i64, AgentError> {
        self.task.epoch.ok_or_else(|| AgentError::Task(format!("verb {} needs an epoch", self.task.verb.as_str())))
    }

    /// The data of the task, with what their Secrets say.
    fn accesses(&self) -> Result<Vec<Access>, AgentError> {
        self.task.data.iter().map(|data| self.access(&data.name)).collect()
    }

    fn access(&self, data: &str) -> Result<Access, AgentError> {
        Access::read(&self.paths.secrets, data).of(data)
    }
}

/// Runs the verb of the command line and gives the exit code. The caller ends the process with it: threads that read or
/// write files may still be at work after a signal.
pub async fn run(verb: &str) -> i32 {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .try_init();
    // Jobs that mount a volume run as its user, others as another: what one writes to the repository the group's others go on with.
    let _ = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o002));
    let paths = Paths::from_env();
    let (code, outcome) = match read_task(verb, env::var(TASK_ENV).ok()) {
        Ok(task) => {
            let (stopper, stop) = stop::channel();
            let signals = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
            match signals {
                Ok((mut terminate, mut interrupt)) => {
                    let asked = stop.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = terminate.recv() => {}
                            _ = interrupt.recv() => {}
                        }
                        stopper.stop();
                    });
                    let late = async {
                        asked.asked().await;
                        tokio::time::sleep(GRACE).await;
                    };
                    let done = async {
                        match turn(task, &stop).await {
                            Ok(task) => perform(&task, &paths, stop).await,
                            Err(error) => failed(&error, Outcome::default()),
                        }
                    };
                    tokio::select! {
                        done = done => done,
                        () = late => failed(&AgentError::Stopped(stop::Stopped), Outcome::default()),
                    }
                }
                Err(error) => failed(&error::files("waiting for signals")(error), Outcome::default()),
            }
        }
        Err(error) => failed(&error, Outcome::default()),
    };
    if let Some(error) = &outcome.error {
        tracing::error!(reason = %error.reason, "{}", error.message);
    }
    if let Err(error) = fs::write(&paths.result, fit(&outcome)) {
        tracing::error!(%error, path = %paths.result.display(), "the outcome cannot be written");
        return if code == exit::DONE { exit::RETRYABLE } else { code };
    }
    code
}

fn read_task(verb: &str, json: Option<String>) -> Result<Task, AgentError> {
    let json = json.ok_or_else(|| AgentError::Task(format!("{TASK_ENV} is not set")))?;
    let task: Task = serde_json::from_str(&json).map_err(|error| AgentError::Task(format!("{TASK_ENV}: {error}")))?;
    if task.verb.as_str() != verb {
        return Err(AgentError::Task(format!("the command line says {verb}, {TASK_ENV} says {}", task.verb.as_str())));
    }
    let mut names: Vec<&str> = task.data.iter().map(|DataTask { name, .. }| name.as_str()).collect();
    names.extend(task.volumes.iter().map(|v| v.name.as_str()));
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(AgentError::Task("a data is named twice".into()));
    }
    names.extend(task.data.iter().flat_map(|d| &d.migrations).map(|m| m.secret.as_str()));
    if names.iter().any(|name| name.is_empty() || name.contains(['/', '\0']) || *name == "." || *name == "..") {
        return Err(AgentError::Task("a data's name is no name of a directory".into()));
    }
    Ok(task)
}

/// Waits for the turn of a task that was started before it, and takes the epoch from there.
async fn turn(mut task: Task, stop: &Stop) -> Result<Task, AgentError> {
    while task.gated {
        let said = fs::read_to_string(GATE_PATH).unwrap_or_default();
        match said.trim() {
            "" => stop.pause(GATE_PAUSE).await?,
            said => {
                let mut words = said.split_whitespace();
                let bad = |_| AgentError::Task(format!("{GATE_PATH} holds no epoch"));
                task.epoch = Some(words.next().unwrap_or_default().parse().map_err(bad)?);
                task.covered_addresses.extend(words.map(str::to_owned));
                task.gated = false;
            }
        }
    }
    Ok(task)
}

/// Does a task and gives the exit code and the outcome.
pub async fn perform(task: &Task, paths: &Paths, stop: Stop) -> (i32, Outcome) {
    let started_at = Timestamp::now();
    let context = Context { task, paths, stop, told: Told::default() };
    let mut outcome = Outcome::default();
    let mut result = patiently(task.verb, &context, &mut outcome).await;
    if let (Ok(()), Some(then)) = (&result, task.then) {
        result = patiently(then, &context, &mut outcome).await;
    }
    outcome.progress = context.told.last();
    outcome.started_at = Some(started_at);
    outcome.finished_at = Some(Timestamp::now());
    match result {
        Ok(()) => (exit::DONE, outcome),
        Err(error) => failed(&error, outcome),
    }
}

/// Does one verb. Under the lock a server that restarts is waited for: each verb can be done again from any statement, and
/// whatever else could be done about it would keep users out for longer.
async fn patiently(verb: Verb, context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let began = Instant::now();
    let mut again = false;
    loop {
        let before = outcome.clone();
        match one(verb, context, outcome).await {
            Err(error) if context.task.epoch.is_some() && error.is_server_away() && began.elapsed() < SERVER_PATIENCE => {
                tracing::warn!(%error, "the server is away: doing it again");
                *outcome = before;
                again = true;
                context.stop.pause(SERVER_PAUSE).await?;
            }
            // What was done before the server went away is not known to have been nothing.
            Err(AgentError::Elsewhere { data, .. }) if again => return Err(AgentError::Elsewhere { data, closed: true }),
            result => return result,
        }
    }
}

/// Does one verb.
async fn one(verb: Verb, context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    match verb {
        Verb::Preflight => preflight::run(context, outcome).await,
        Verb::Backup => backup::run(context, outcome).await,
        Verb::Prove => prove::run(context, outcome).await,
        Verb::Snapshot => snapshot::run(context, outcome).await,
        Verb::Fence => fence::run(context, outcome).await,
        Verb::Undo => undo::run(context, outcome).await,
        Verb::Admit => admit::run(context, outcome).await,
        Verb::Release => release::run(context, outcome).await,
        Verb::Rollback => rollback::run(context, outcome).await,
        Verb::Restore => restore::run(context, outcome).await,
        Verb::Prune => prune::run(context, outcome).await,
        Verb::Drop => forget::drop_databases(context, outcome).await,
        Verb::Forget => forget::run(context, outcome).await,
        Verb::Http => http::run(context).await,
        Verb::Page => page::run(context).await,
        Verb::Classify => masking::classify(context, outcome).await,
        Verb::Draft => masking::draft(context).await,
    }
}

fn failed(error: &AgentError, mut outcome: Outcome) -> (i32, Outcome) {
    if let AgentError::Fenced { control, .. } = error {
        outcome.control_epoch = Some(*control);
    }
    outcome.error = Some(OutcomeError { reason: error.reason().into(), message: error.to_string() });
    (error.exit_code(), outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_another_verb_or_with_strange_data_is_refused() {
        let json = |verb: &str, data: &str| {
            Some(format!(
                r#"{{"verb":"{verb}","run":"r","runName":"n","environment":"e","environmentName":"x","data":[{data}]}}"#
            ))
        };
        assert!(read_task("fence", json("fence", r#"{"name":"a"}"#)).is_ok());
        for (verb, text) in [
            ("fence", json("undo", "")),
            ("fence", None),
            ("fence", Some("{".into())),
            ("fence", json("fence", r#"{"name":".."}"#)),
            ("fence", json("fence", r#"{"name":"a"},{"name":"a"}"#)),
        ] {
            assert_eq!(read_task(verb, text).unwrap_err().exit_code(), exit::PERMANENT);
        }
    }
}
