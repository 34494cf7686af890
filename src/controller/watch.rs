//! Watches inside environments' namespaces. The operator's rights there come from a RoleBinding in each, so nothing can be
//! watched in all namespaces at once: each namespace that has an Environment gets watches of its own.

use std::{collections::BTreeMap, sync::Mutex};

use futures::{StreamExt, channel::mpsc::UnboundedSender};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::Pod,
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::task::JoinHandle;

use crate::api::labels;

/// Something has changed in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The namespace.
    pub namespace: String,
    /// UID of the run, backup or Environment for which it was made. `None`: it is not ours, or it is not known what it was.
    pub run: Option<String>,
    /// Nothing but how far its agent is: of interest to whoever it was made for, and to nobody else.
    pub progress: bool,
}

/// How many objects come at once when a watch begins. There may be hundreds of watches, and a connection never gives back
/// what it needed for its longest answer.
const PAGE: u32 = 20;

/// Watches by namespace. Each is a connection of its own: a cluster has many environments, and few at work at a time.
pub struct Namespaces {
    client: Client,
    changed: UnboundedSender<Heard>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// The watches in one namespace.
#[derive(Default)]
struct Running {
    always: Vec<JoinHandle<()>>,
    at_work: Vec<JoinHandle<()>>,
}

impl Namespaces {
    /// `changed` is told what has changed.
    pub fn new(client: Client, changed: UnboundedSender<Heard>) -> Self {
        Self { client, changed, running: Mutex::default() }
    }

    /// Starts watches in a namespace, where none run: of pods always, since whatever else changes there soon changes pods,
    /// and of the rest where a run has its turn.
    pub fn watch(&self, namespace: &str, at_work: bool) {
        let Ok(mut all) = self.running.lock() else { return };
        let running = all.entry(namespace.to_owned()).or_default();
        if running.always.is_empty() {
            running.always.push(self.spawn::<Pod>(namespace));
        }
        if at_work && running.at_work.is_empty() {
            running.at_work = vec![
                self.spawn::<Job>(namespace),
                self.spawn::<Deployment>(namespace),
                self.spawn::<StatefulSet>(namespace),
                self.spawn::<CronJob>(namespace),
                self.spawn::<EndpointSlice>(namespace),
            ];
        } else if !at_work {
            running.at_work.drain(..).for_each(|task| task.abort());
        }
    }

    /// Ends the watches in a namespace.
    pub fn forget(&self, namespace: &str) {
        let Ok(mut all) = self.running.lock() else { return };
        let Some(Running { always, at_work }) = all.remove(namespace) else { return };
        always.into_iter().chain(at_work).for_each(|task| task.abort());
    }

    fn spawn<K>(&self, namespace: &str) -> JoinHandle<()>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default + Clone + Send + Sync,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let (changed, namespace) = (self.changed.clone(), namespace.to_owned());
        tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init) => {}
                    Ok(event) => {
                        let run = match event {
                            watcher::Event::Apply(o) | watcher::Event::Delete(o) | watcher::Event::InitApply(o) => {
                                o.labels().get(labels::RUN).cloned()
                            }
                            watcher::Event::Init | watcher::Event::InitDone => None,
                        };
                        if changed.unbounded_send(Heard { namespace: namespace.clone(), run, progress: false }).is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::debug!(%namespace, %error, "a watch failed and is begun again"),
                }
            }
        })
    }
}
