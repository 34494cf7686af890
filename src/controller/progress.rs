//! How far the agents at work are, out of their logs.
//!
//! An agent has no credentials of Kubernetes' and must not get any, so it cannot write anywhere; were it to serve its progress,
//! each environment's network would have to let the operator in to pods that hold the keys to its data; a termination message is
//! read when the container has ended. Its log the operator may read anyway, for what a failed Job has said last. A line there
//! that is no progress is passed over, and nothing of such a line goes anywhere.
//!
//! No turn waits for a log: it is read beside, a while apart, and a turn takes what has come so far. What cannot be read is
//! absent, and the status keeps what it says ([`crate::plan::progress`]).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::LogParams};

use crate::{
    api::labels,
    manifest::task::{Progress, Verb},
    plan::{
        progress::PAUSE,
        world::{JobState, JobView},
    },
};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What nobody has asked for since is forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// The last line of progress is among so many: the agent logs little else while it moves data.
const LINES: i64 = 20;
/// Twenty lines of ours are shorter.
const BYTES: i64 = 64 << 10;
/// The agent's container, in the pods of Jobs of ours.
const CONTAINER: &str = "agent";
/// What moves data.
const MOVERS: [Verb; 7] = [Verb::Backup, Verb::Prove, Verb::Snapshot, Verb::Fence, Verb::Undo, Verb::Restore, Verb::Rollback];

/// What was read last, by the pod's UID.
#[derive(Clone, Default)]
pub struct Logs(Arc<Mutex<HashMap<String, Seen>>>);

struct Seen {
    asked: Instant,
    last: Option<Progress>,
}

impl Logs {
    /// Says of each Job at work how far it is, as far as that is known, and has what is old read anew.
    pub fn tell(&self, client: &Client, pods: &[Pod], jobs: &mut BTreeMap<String, JobView>) {
        for job in jobs.values_mut().filter(|j| j.state == JobState::Running) {
            let of_job = |p: &&Pod| p.owner_references().iter().any(|o| o.uid == job.uid);
            if let Some(pod) = pods.iter().find(of_job).filter(|p| moves(p)) {
                job.progress = self.of(client, pod);
            }
        }
    }

    fn of(&self, client: &Client, pod: &Pod) -> Option<Progress> {
        let uid = pod.uid()?;
        let mut all = self.0.lock().ok()?;
        let (last, due) = match all.get(&uid) {
            Some(seen) => (seen.last.clone(), seen.asked.elapsed() >= PAUSE),
            None => (None, true),
        };
        if due {
            all.retain(|_, seen| seen.asked.elapsed() < MEMORY);
            all.insert(uid.clone(), Seen { asked: Instant::now(), last: last.clone() });
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace()?);
            let (name, all) = (pod.name_any(), self.0.clone());
            tokio::spawn(async move {
                let Some(read) = read(&api, &name).await else { return };
                if let Ok(mut all) = all.lock()
                    && let Some(seen) = all.get_mut(&uid)
                {
                    seen.last = Some(read);
                }
            });
        }
        last
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
