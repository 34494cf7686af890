//! Which Promotions are looked at when something has changed, and in which order. Each look reads much, and many runs may wait
//! for the same environment: they must not take the time of the one that holds it locked.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{driven::Locks, promotion, slim::Slim, watch::Heard};
use crate::{
    api::{Phase, Promotion, Timestamp},
    plan::{prepare::OTHERS_CHECKS, queue},
};

/// Runs that wait are looked at together, after a pause of so much for each of them, and the more of them the longer: a look at
/// one takes as long as all of the environment's objects take to read, and who is always looked at again leaves no time for
/// who has just been approved.
const LULL: Duration = Duration::from_millis(100);
const LULL_OF_MANY: Duration = Duration::from_millis(10);
/// How many runs at work are looked at at once, and how many others: all that a look reads is in memory at once.
const AT_WORK: usize = 16;
const OTHERS: usize = 8;
/// Of the runs that wait for others' checks, so many are woken with each thing that is heard of another: its may be over.
const UNCHECKED: usize = 2;
/// A run that waits is looked at anew so often though nothing was heard; where many wait, after so much for each, and at most.
const PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE_OF_EACH: Duration = Duration::from_secs(2);
const PATIENCE_AT_MOST: Duration = Duration::from_secs(120);
/// How often who waits for a look asks whether it has become the one to go first.
const ASK: Duration = Duration::from_millis(500);

/// Wakes Promotions.
#[derive(Clone)]
pub struct Wake {
    runs: Store<Slim<Promotion>>,
    to: UnboundedSender<ObjectRef<Slim<Promotion>>>,
    /// Namespaces whose waiting runs are to be looked at soon.
    due: Arc<Mutex<BTreeSet<String>>>,
    at_work: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Wake {
    /// Wakes runs of the store through the channel.
    pub fn new(runs: Store<Slim<Promotion>>, to: UnboundedSender<ObjectRef<Slim<Promotion>>>) -> Self {
        let (at_work, others) = (Arc::new(Semaphore::new(AT_WORK)), Arc::new(Semaphore::new(OTHERS)));
        Self { runs, to, due: Arc::default(), at_work, others }
    }

    /// Waits until a run may be looked at, in the order of asking. The controller's own queue has no order: where more is due
    /// than can be looked at, it may pass over the same run for ever. Runs at work, and who is next at an environment, have
    /// places of their own.
    pub async fn place(&self, run: &ObjectRef<Slim<Promotion>>) -> Option<OwnedSemaphorePermit> {
        let mut patient = pin!(self.others.clone().acquire_owned());
        loop {
            if self.goes_first(run) {
                return self.at_work.clone().acquire_owned().await.ok();
            }
            if let Ok(place) = tokio::time::timeout(ASK, &mut patient).await {
                return place.ok();
            }
        }
    }

    fn goes_first(&self, run: &ObjectRef<Slim<Promotion>>) -> bool {
        let Some(now) = self.runs.get(run) else { return false };
        match promotion::phase(&now) {
            Phase::Scheduled => false,
            Phase::Validated => run.namespace.as_deref().and_then(|n| self.first(n)).as_ref() == Some(run),
            phase => !phase.is_terminal(),
        }
    }

    /// What is heard in a namespace concerns the run for which it was made, at once; where it was made for none, every run at
    /// work there or taking from there, and those that wait follow.
    pub fn heard(&self, heard: &Heard) {
        match &heard.run {
            Some(uid) => {
                self.send(self.of(&heard.namespace, |p| p.metadata.uid.as_ref() == Some(uid)));
                if heard.progress {
                    return;
                }
                let unchecked = |p: &Promotion| {
                    let next = p.status.as_ref().and_then(|s| s.next.as_deref());
                    waits(p) && next.is_some_and(|next| next.ends_with(OTHERS_CHECKS))
                };
                self.send(self.of(&heard.namespace, unchecked).into_iter().take(UNCHECKED));
            }
            None => {
                self.send(self.of(&heard.namespace, |p| !waits(p)));
                self.waiting(&heard.namespace);
            }
        }
        self.send(self.first(&heard.namespace));
    }

    /// A run was looked at, as it was before that. One that is out of the queue without having had its turn changes nothing
    /// that is heard, and who is next now must hear of it.
    pub fn looked_at(&self, run: &Promotion) {
        let phase = promotion::phase(run);
        if phase.is_terminal() || phase == Phase::Validated && queue::waiting(run.as_run(), Timestamp::now()).is_none() {
            self.send(self.first(&run.namespace().unwrap_or_default()));
        }
    }

    /// How long a run is left alone when nothing is heard.
    pub fn patience(&self, run: &ObjectRef<Slim<Promotion>>) -> Duration {
        let Some(run) = self.runs.get(run) else { return PATIENCE };
        if !waits(&run) {
            return promotion::patience(promotion::phase(&run));
        }
        let many = self.of(&run.namespace().unwrap_or_default(), waits).len();
        PATIENCE.max(PATIENCE_OF_EACH.saturating_mul(u32::try_from(many).unwrap_or(u32::MAX))).min(PATIENCE_AT_MOST)
    }

    /// The runs at work in a namespace, or taking from it, whose Environment has changed. Those that wait follow.
    pub fn of_environment(&self, namespace: &str) -> Vec<ObjectRef<Slim<Promotion>>> {
        self.waiting(namespace);
        self.send(self.first(namespace));
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
            all.send(all.of(&namespace, waits));
        });
    }

    /// The run whose turn is next in a namespace: it does not wait for those behind it.
    fn first(&self, namespace: &str) -> Option<ObjectRef<Slim<Promotion>>> {
        let all = self.runs.state();
        let now = Timestamp::now();
        let here = all.iter().filter(|p| p.namespace().as_deref() == Some(namespace));
        let waiting = here.filter_map(|p| Some((queue::waiting(p.as_run(), now)?, p)));
        waiting.min_by(|(a, _), (b, _)| a.place().cmp(&b.place())).map(|(_, first)| ObjectRef::from_obj(&**first))
    }

    fn send(&self, runs: impl IntoIterator<Item = ObjectRef<Slim<Promotion>>>) {
        for reference in runs {
            let _ = self.to.unbounded_send(reference);
        }
    }

    /// Runs in a namespace or taking from it that are not over, who asked first first.
    fn of(&self, namespace: &str, which: impl Fn(&Promotion) -> bool) -> Vec<ObjectRef<Slim<Promotion>>> {
        let here = |p: &Promotion| p.namespace().as_deref() == Some(namespace) || *p.spec.from.namespace == *namespace;
        let all = self.runs.state();
        let mut concerned: Vec<_> = all.iter().filter(|p| here(p) && !promotion::phase(p).is_terminal() && which(p)).collect();
        concerned.sort_by_cached_key(|p| (p.creation_timestamp(), p.name_any()));
        concerned.iter().map(|p| ObjectRef::from_obj(&***p)).collect()
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
            "status": {"phase": phase, "next": if phase == "Scheduled" { "preflight: checks of other runs" } else { "" }},
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
        let heard = |run: Option<&str>| Heard { namespace: "shop".into(), run: run.map(str::to_owned), progress: false };
        // What belongs to nobody, three times; then what was made for one that waits.
        for _ in 0..3 {
            wake.heard(&heard(None));
        }
        wake.heard(&heard(Some("queued-too")));
        let mut names = Vec::new();
        while let Ok(Some(next)) = tokio::time::timeout(Duration::from_secs(2), woken.next()).await {
            names.push(next.name);
        }
        // With each thing that is heard, who is first in the queue. Of another's, itself, and who may be checked now. At last all
        // that wait.
        let nobodys = ["at-work", "queued"].repeat(3);
        let anothers = ["queued-too", "new", "queued"];
        assert_eq!(names, [&nobodys[..], &anothers, &["new", "queued", "queued-too"]].concat());
        assert!(wake.due.lock().unwrap().is_empty(), "what is heard from now on makes them due again");
        assert_eq!(wake.patience(&ObjectRef::new("queued").within("shop")), PATIENCE);
        wake.heard(&Heard { progress: true, ..heard(Some("at-work")) });
        // Who leaves the queue tells the next; who stands in it tells nobody.
        wake.looked_at(&run("queued", "Validated"));
        wake.looked_at(&run("over", "Completed"));
        let news: Vec<String> = std::iter::from_fn(|| woken.try_recv().ok()).map(|r| r.name).collect();
        assert_eq!(news, ["at-work", "queued"]);
        assert_eq!(wake.of_environment("staging").iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["at-work"]);
    }
    #[tokio::test]
    async fn places_are_given_in_the_order_of_asking_and_who_goes_first_has_its_own() {
        let (store, mut writer) = reflector::store();
        let mut write = |name: &str, phase: &str| writer.apply_watcher_event(&watcher::Event::Apply(run(name, phase)));
        let names: Vec<String> = (0..40).map(|i| format!("r-{i:02}")).collect();
        names.iter().for_each(|name| write(name, "Validated"));
        write("at-work", "Promoting");
        let wake = Wake::new(store, mpsc::unbounded().0);
        let place = |name: &str| {
            let (wake, run) = (wake.clone(), ObjectRef::new(name).within("shop"));
            async move { wake.place(&run).await.unwrap() }
        };
        // Places of others are all taken, and r-39 asks first of those that wait for one.
        let mut taken: Vec<OwnedSemaphorePermit> = Vec::new();
        for name in &names[20..20 + OTHERS] {
            taken.push(place(name).await);
        }
        let soon = |name: &str| tokio::time::timeout(ASK * 10, place(name));
        drop((soon("at-work").await.unwrap(), soon("r-00").await.unwrap()));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = ["r-39", "r-01", "r-02"]
            .map(|name| {
                let (asked, order) = (place(name), order.clone());
                tokio::spawn(async move {
                    let place = asked.await;
                    order.lock().unwrap().push(name);
                    drop(place);
                })
            })
            .into();
        tokio::time::sleep(ASK * 4).await;
        assert!(order.lock().unwrap().is_empty(), "nobody is passed over, and nobody goes without a place");
        // Who becomes the first does not wait any longer.
        write("r-00", "Completed");
        tokio::time::sleep(ASK * 4).await;
        assert_eq!(*order.lock().unwrap(), ["r-01"]);
        taken.pop();
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["r-01", "r-39", "r-02"]);
    }
}
