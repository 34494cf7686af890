//! How far the agents at work are, out of their logs.
//!
//! An agent has no credentials of Kubernetes' and must not get any, so it cannot write anywhere; were it to serve its progress,
//! each environment's network would have to let the operator in to pods that hold the keys to its data; a termination message is
//! read when the container has ended. Its log the operator may read anyway, for what a failed Job has said last. A line there
//! that is no progress is passed over, and nothing of such a line goes anywhere.
//!
//! No turn waits for a log: it is read beside, every few seconds as long as turns ask for it. A turn takes what has come so far,
//! and one is taken when there is news. What cannot be read is absent, and the status keeps what it says
//! ([`crate::plan::progress`]).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::LogParams};

use super::{observe::pod_of_uid, watch::Heard};
use crate::{
    api::labels,
    manifest::task::{Progress, Verb},
    plan::world::{JobState, JobView},
};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a log is read; in the beginning, until it says something, more often. Not all that may move data says anything.
const PAUSE: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(10);
/// A log that no turn has asked for so long is read no more. Turns of what is at work come more often.
const MEMORY: Duration = Duration::from_secs(30);
/// The last line of progress is among so many: the agent logs little else while it moves data.
const LINES: i64 = 20;
/// Twenty lines of ours are shorter.
const BYTES: i64 = 64 << 10;
/// The agent's container, in the pods of Jobs of ours.
const CONTAINER: &str = "agent";
/// What moves data.
const MOVERS: [Verb; 7] = [Verb::Backup, Verb::Prove, Verb::Snapshot, Verb::Fence, Verb::Undo, Verb::Restore, Verb::Rollback];

/// The logs that are read, by the UIDs of their pods.
#[derive(Clone, Default)]
pub struct Logs {
    all: Arc<Mutex<HashMap<String, Seen>>>,
    news: Option<UnboundedSender<Heard>>,
}

struct Seen {
    asked: Instant,
    since: Instant,
    last: Option<Progress>,
}

impl Logs {
    /// `news` is told whose progress is new.
    pub fn new(news: UnboundedSender<Heard>) -> Self {
        Self { all: Arc::default(), news: Some(news) }
    }

    /// Says of each Job at work how far it is, as far as that is known, and has what is old read anew.
    pub fn tell(&self, client: &Client, pods: &[Pod], jobs: &mut BTreeMap<String, JobView>) {
        for job in jobs.values_mut().filter(|j| j.state == JobState::Running) {
            if let Some(pod) = pod_of_uid(&job.uid, pods).filter(|p| moves(p)) {
                job.progress = self.of(client, pod);
            }
        }
    }

    fn of(&self, client: &Client, pod: &Pod) -> Option<Progress> {
        let (uid, namespace) = (pod.uid()?, pod.namespace()?);
        let mut all = self.all.lock().ok()?;
        if let Some(seen) = all.get_mut(&uid) {
            seen.asked = Instant::now();
            return seen.last.clone();
        }
        all.insert(uid.clone(), Seen { asked: Instant::now(), since: Instant::now(), last: None });
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let heard = Heard { namespace, run: pod.labels().get(labels::RUN).cloned(), progress: true };
        tokio::spawn(self.clone().follow(api, pod.name_any(), uid, heard));
        None
    }

    async fn follow(self, api: Api<Pod>, pod: String, uid: String, heard: Heard) {
        while let Some(pause) = self.look(&api, &pod, &uid, &heard).await {
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a log once. Gives when to do so again; nothing, where nobody asks for it any more.
    async fn look(&self, api: &Api<Pod>, pod: &str, uid: &str, heard: &Heard) -> Option<Duration> {
        let read = read(api, pod).await;
        let mut all = self.all.lock().ok()?;
        let seen = all.get_mut(uid)?;
        if seen.asked.elapsed() >= MEMORY {
            all.remove(uid);
            return None;
        }
        if read.is_some() && read != seen.last {
            seen.last = read;
            if let Some(news) = &self.news {
                let _ = news.unbounded_send(heard.clone());
            }
        }
        Some(if seen.last.is_none() && seen.since.elapsed() < SOON { FIRST } else { PAUSE })
    }
}

/// Whether its container runs, with a verb that moves data.
fn moves(pod: &Pod) -> bool {
    let verb = pod.labels().get(labels::AGENT);
    let mut containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    MOVERS.iter().any(|v| verb.is_some_and(|verb| verb == v.as_str()))
        && containers.any(|c| c.name == CONTAINER && c.state.as_ref().is_some_and(|s| s.running.is_some()))
}

async fn read(api: &Api<Pod>, pod: &str) -> Option<Progress> {
    let params = LogParams {
        container: Some(CONTAINER.into()),
        tail_lines: Some(LINES),
        limit_bytes: Some(BYTES),
        ..LogParams::default()
    };
    match tokio::time::timeout(PATIENCE, api.logs(pod, &params)).await {
        Ok(Ok(text)) => last(&text),
        Ok(Err(error)) => {
            tracing::debug!(pod, %error, "how far it is cannot be read");
            None
        }
        Err(_) => None,
    }
}

/// The last line of progress.
fn last(log: &str) -> Option<Progress> {
    log.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
