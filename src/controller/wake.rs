//! Which Promotions are looked at when something has changed. Each look reads much, and many runs may wait for the same
//! environment: they must not take the time of the one that holds it locked.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use super::{promotion, slim::Slim, watch::Heard};
use crate::api::{Phase, Promotion};

/// Runs that wait are looked at together, after a pause of so much for each of them, and the more of them the longer: a look at
/// one takes as long as all of the environment's objects take to read, and who is always looked at again leaves no time for
/// who has just been approved.
const LULL: Duration = Duration::from_millis(100);
const LULL_OF_MANY: Duration = Duration::from_millis(10);

/// Wakes Promotions.
#[derive(Clone)]
pub struct Wake {
    runs: Store<Slim<Promotion>>,
    to: UnboundedSender<ObjectRef<Slim<Promotion>>>,
    /// Namespaces whose waiting runs are to be looked at soon.
    due: Arc<Mutex<BTreeSet<String>>>,
}

impl Wake {
    /// Wakes runs of the store through the channel.
    pub fn new(runs: Store<Slim<Promotion>>, to: UnboundedSender<ObjectRef<Slim<Promotion>>>) -> Self {
        Self { runs, to, due: Arc::default() }
    }

    /// What is heard in a namespace concerns the run for which it was made, at once; where it was made for none, every run at
    /// work there or taking from there. Runs that wait follow.
    pub fn heard(&self, heard: &Heard) {
        let concerned = |p: &Promotion| match &heard.run {
            Some(uid) => p.metadata.uid.as_ref() == Some(uid),
            None => !waits(p),
        };
        self.send(&heard.namespace, concerned);
        self.next(&heard.namespace);
        self.waiting(&heard.namespace);
    }

    /// The runs at work in a namespace, or taking from it, whose Environment has changed. Those that wait follow.
    pub fn of_environment(&self, namespace: &str) -> Vec<ObjectRef<Slim<Promotion>>> {
        self.waiting(namespace);
        self.next(namespace);
        self.of(namespace, |p| !waits(p))
    }

    /// The runs that wait, after a pause in which more may be heard.
    fn waiting(&self, namespace: &str) {
        let many = u32::try_from(self.of(namespace, waits).len()).unwrap_or(u32::MAX);
        let new = self.due.lock().is_ok_and(|mut due| many > 0 && due.insert(namespace.to_owned()));
        if !new {
            return;
        }
        let (all, namespace) = (self.clone(), namespace.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(LULL.saturating_mul(many) + LULL_OF_MANY.saturating_mul(many.saturating_mul(many))).await;
            // First: what is heard from now on makes them due again.
            if let Ok(mut due) = all.due.lock() {
                due.remove(&namespace);
            }
            all.send(&namespace, waits);
        });
    }

    /// The run whose turn is next in a namespace: it does not wait for those behind it.
    fn next(&self, namespace: &str) {
        let all = self.runs.state();
        let validated = all.iter().filter_map(|p| {
            let status = p.status.as_ref().filter(|s| s.phase == Phase::Validated)?;
            let here = p.namespace().as_deref() == Some(namespace);
            here.then_some(((status.validated_at, p.name_any()), p))
        });
        if let Some((_, first)) = validated.min_by(|(a, _), (b, _)| a.cmp(b)) {
            let _ = self.to.unbounded_send(ObjectRef::from_obj(&**first));
        }
    }

    fn send(&self, namespace: &str, which: impl Fn(&Promotion) -> bool) {
        for reference in self.of(namespace, which) {
            let _ = self.to.unbounded_send(reference);
        }
    }

    fn of(&self, namespace: &str, which: impl Fn(&Promotion) -> bool) -> Vec<ObjectRef<Slim<Promotion>>> {
        let here = |p: &Promotion| p.namespace().as_deref() == Some(namespace) || *p.spec.from.namespace == *namespace;
        let all = self.runs.state();
        let concerned = all.iter().filter(|p| here(p) && !promotion::phase(p).is_terminal() && which(p));
        concerned.map(|p| ObjectRef::from_obj(&**p)).collect()
    }
}

/// Whether a run waits: for people, its time or its turn.
fn waits(run: &Promotion) -> bool {
    matches!(promotion::phase(run), Phase::Scheduled | Phase::Validated)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, channel::mpsc};
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;

    fn run(name: &str, phase: &str) -> Slim<Promotion> {
        serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion",
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {"environment": {"name": "p"}, "from": {"namespace": "staging", "name": "s"}, "requestedBy": {"username": "alice"}},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn who_is_at_work_is_woken_at_once_and_who_waits_after_a_pause_once() {
        let (store, mut writer) = reflector::store();
        for (name, phase) in [
            ("at-work", "Promoting"),
            ("queued", "Validated"),
            ("queued-too", "Validated"),
            ("new", "Scheduled"),
            ("over", "Completed"),
        ] {
            writer.apply_watcher_event(&watcher::Event::Apply(run(name, phase)));
        }
        let (to, mut woken) = mpsc::unbounded();
        let wake = Wake::new(store, to);
        let heard = |run: Option<&str>| Heard { namespace: "shop".into(), run: run.map(str::to_owned) };
        // What belongs to nobody, three times; then what was made for one that waits.
        for _ in 0..3 {
            wake.heard(&heard(None));
        }
        wake.heard(&heard(Some("queued")));
        let mut names = Vec::new();
        while names.len() < 11 {
            names.push(woken.next().await.unwrap().name);
        }
        names[8..].sort();
        // With each thing that is heard, who is first in the queue; at last all that wait.
        let at_once = ["at-work", "queued", "at-work", "queued", "at-work", "queued", "queued", "queued"];
        assert_eq!(names, [&at_once[..], &["new", "queued", "queued-too"]].concat());
        assert!(wake.due.lock().unwrap().is_empty(), "what is heard from now on makes them due again");
        assert_eq!(wake.of_environment("staging").iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["at-work"]);
    }
}
