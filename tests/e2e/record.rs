//! The watcher: every version of every object that matters in a namespace, as the API server shows it to anyone.
//!
//! Versions of all kinds are counted by one counter (etcd's), so what was seen can be put in the order in which it happened.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    runtime::watcher,
};
use lockkeeper::api::{Environment, Promotion};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::AbortHandle;

use super::cluster;

/// The kinds that are watched.
const KINDS: [(&str, &str, &str); 9] = [
    ("lockkeeper.dev", "v1alpha1", "Promotion"),
    ("lockkeeper.dev", "v1alpha1", "Environment"),
    ("lockkeeper.dev", "v1alpha1", "EnvironmentBackup"),
    ("lockkeeper.dev", "v1alpha1", "EnvironmentRestore"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("apps", "v1", "Deployment"),
    ("batch", "v1", "Job"),
    ("", "v1", "Pod"),
];

/// One version of an object.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which change in the cluster this was.
    pub version: u64,
    /// Kind of the object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether this is its end.
    pub gone: bool,
    /// The object.
    pub object: Value,
}

impl Seen {
    /// The object as its type.
    pub fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.object.clone()).unwrap_or_else(|error| panic!("{} {}: {error}", self.kind, self.name))
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    more: Condvar,
}

/// A running watcher. It ends when this goes.
pub struct Record {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl Record {
    /// Begins to watch a namespace.
    pub fn of(namespace: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let client = cluster::client(None);
        let tasks = KINDS
            .iter()
            .map(|(group, version, kind)| {
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
                let watch = follow(client.clone(), namespace.to_owned(), resource, kind, Arc::clone(&shared));
                cluster::runtime().spawn(watch).abort_handle()
            })
            .collect();
        Self { shared, tasks }
    }

    /// All that was seen so far, in the order in which it happened.
    pub fn all(&self) -> Vec<Seen> {
        let mut all = self.shared.seen.lock().expect("the watcher lives").clone();
        all.sort_by_key(|seen| seen.version);
        all
    }

    /// Waits until what was seen of an object holds an answer. Looks at each new version.
    ///
    /// # Panics
    /// When the time is over, with the last version of the object.
    pub fn until<T>(&self, (kind, name): (&str, &str), what: &str, within: Duration, answer: impl Fn(&Seen) -> Option<T>) -> T {
        let end = Instant::now() + within;
        let mut seen = self.shared.seen.lock().expect("the watcher lives");
        loop {
            let last = seen.iter().filter(|s| s.kind == kind && s.name == name).max_by_key(|s| s.version);
            if let Some(answer) = last.and_then(&answer) {
                return answer;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = last.map(|s| s.object["status"].to_string()).unwrap_or_else(|| "nothing was seen of it".into());
                drop(seen);
                panic!("{kind} {name}: {what}, not within {within:?}: {last}");
            }
            seen = self.shared.more.wait_timeout(seen, left).expect("the watcher lives").0;
        }
    }

    /// Which change was the last that was seen.
    pub fn latest(&self) -> u64 {
        self.shared.seen.lock().expect("the watcher lives").iter().map(|s| s.version).max().unwrap_or(0)
    }

    /// Waits until any version of any object, later than that change, holds an answer.
    ///
    /// # Panics
    /// When the time is over.
    pub fn sees<T>(&self, what: &str, since: u64, within: Duration, answer: impl Fn(&Seen) -> Option<T>) -> T {
        let end = Instant::now() + within;
        let mut seen = self.shared.seen.lock().expect("the watcher lives");
        let mut looked = 0;
        loop {
            if let Some(answer) = seen[looked..].iter().filter(|s| s.version > since).find_map(&answer) {
                return answer;
            }
            looked = seen.len();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(seen);
                panic!("{what}, not within {within:?}");
            }
            seen = self.shared.more.wait_timeout(seen, left).expect("the watcher lives").0;
        }
    }

    /// The latest of an Environment.
    pub fn environment(&self, name: &str) -> Environment {
        self.until(("Environment", name), "it is there", Duration::from_secs(10), |seen| Some(seen.read()))
    }

    /// The latest of a Promotion.
    pub fn promotion(&self, name: &str) -> Promotion {
        self.until(("Promotion", name), "it is there", Duration::from_secs(10), |seen| Some(seen.read()))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn follow(client: Client, namespace: String, resource: ApiResource, kind: &'static str, shared: Arc<Shared>) {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let (object, gone) = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => (object, false),
            Ok(watcher::Event::Delete(object)) => (object, true),
            Ok(_) => continue,
            Err(error) => {
                eprintln!("watching {kind}s: {error}");
                continue;
            }
        };
        let version = object.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).expect("a number");
        let name = object.metadata.name.clone().unwrap_or_default();
        let object = serde_json::to_value(object).expect("an object");
        let mut seen = shared.seen.lock().expect("nobody panics meanwhile");
        // A watch that was broken off lists everything again.
        if !seen.iter().any(|s| s.version == version && s.kind == kind && s.name == name && s.gone == gone) {
            seen.push(Seen { version, kind, name, gone, object });
            shared.more.notify_all();
        }
    }
}
