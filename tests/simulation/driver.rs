//! Drives the real controllers through the simulated cluster, and lets faults befall them.

use std::{cell::Cell as StdCell, collections::BTreeMap};

use jiff::{SignedDuration, Timestamp};
use lockkeeper::{
    api::labels,
    controller::{self, Context, Policies, Turn, progress::Logs, report::Report, watch::Namespaces},
    error::Result,
    plan::world::Settings,
};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    actors,
    cluster::{Cluster, text},
    data::LIVE,
    fixture::{self, ALIGNMENT, NAMESPACE, RESTORE, RUN, SOURCE},
    invariants,
    people::{self, Script},
    server::{self, Cell, Fault, lock},
};

thread_local! {
    static NOW: StdCell<Timestamp> = const { StdCell::new(Timestamp::UNIX_EPOCH) };
}

fn now() -> Timestamp {
    NOW.get()
}

/// More turns and moves than any scenario needs: beyond it the run goes round in circles.
const ENOUGH: usize = 4000;
/// After a failed turn the controllers look again.
const RETRY: SignedDuration = SignedDuration::from_secs(2);

/// Where the operator and the cluster are: all of it, for a run can be gone on with from a copy.
#[derive(Clone)]
pub struct State {
    pub cluster: Cluster,
    /// Whose turn it is: the run, its backup, the Environment; then everybody else moves.
    position: usize,
    /// What each has seen of the watched changes, and when it wants to look again.
    looked: [Look; 3],
    wrote: bool,
}

#[derive(Clone, Copy, Default)]
struct Look {
    seen: u64,
    wake: Option<Timestamp>,
}

/// What a step of the simulation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A turn that wrote as many times.
    Turn(u64),
    /// Everybody else moved.
    Move,
    /// Nothing will ever happen again.
    End,
    /// The same, but the run has not ended: it waits for somebody.
    Stuck,
}

/// The operator in the simulated cluster.
pub struct Simulation {
    runtime: Runtime,
    cell: Cell,
    context: Context,
    pub state: State,
    /// Refuse each write as many times.
    pub storm: u32,
    /// What turns failed of.
    pub errors: Vec<String>,
}

fn context(cell: &Cell) -> Context {
    let client = server::client(cell);
    let (changed, _) = futures::channel::mpsc::unbounded();
    Context {
        client: client.clone(),
        settings: Settings {
            agent_image: "lockkeeper:1".into(),
            namespace: "lockkeeper".into(),
            service_account: "lockkeeper".into(),
        },
        report: Report::new(client.clone(), "simulated", &mut Registry::default()),
        policies: Policies::default(),
        logs: Logs::default(),
        namespaces: Namespaces::new(client, changed),
        clock: now,
    }
}

impl Simulation {
    /// A scenario from its start.
    pub fn new(script: Script) -> Self {
        Self::of(fixture::cluster(script))
    }

    /// A cluster that no operator has seen yet.
    pub fn of(cluster: Cluster) -> Self {
        Self::from(State { cluster, position: 0, looked: Default::default(), wrote: false })
    }

    /// On from where another was, by an operator that has just started.
    pub fn from(state: State) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let cell = server::cell(state.cluster.clone());
        let context = runtime.block_on(async { context(&cell) });
        Self { runtime, cell, context, state, storm: 0, errors: Vec::new() }
    }

    /// The operator is killed and started again: all that it had in memory is gone.
    pub fn crash(&mut self) {
        let cell = &self.cell;
        self.context = self.runtime.block_on(async { context(cell) });
        self.state.looked = Default::default();
        self.state.position = 0;
    }

    /// Everybody but the operator goes on for a while.
    pub fn away(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.state.cluster.now += SignedDuration::from_secs(1);
            actors::step(&mut self.state.cluster);
        }
    }

    /// Whose turn it is.
    pub fn subject(&self) -> Option<(&'static str, String)> {
        let cluster = &self.state.cluster;
        match self.state.position {
            0 if cluster.get("downalignments", NAMESPACE, ALIGNMENT).is_some() => Some(("alignment", ALIGNMENT.to_owned())),
            0 if cluster.get("environmentrestores", NAMESPACE, RESTORE).is_some() => Some(("restore", RESTORE.to_owned())),
            0 => cluster.get("promotions", NAMESPACE, RUN).map(|_| ("promotion", RUN.to_owned())),
            1 => cluster.names("environmentbackups", NAMESPACE).pop().map(|name| ("backup", name)),
            _ => Some(("environment", "production".to_owned())),
        }
    }

    /// A turn of a controller, with a fault in its next write. Gives the turn and how many writes there were.
    pub fn turn(&mut self, kind: &str, name: &str, fault: Fault, stale: Option<Cluster>) -> (Result<Turn>, u64) {
        let resource = match kind {
            "backup" | "restore" => format!("environment{kind}s"),
            "alignment" => format!("down{kind}s"),
            _ => format!("{kind}s"),
        };
        let uid = self.state.cluster.get(&resource, NAMESPACE, name).map(|o| text(o, "/metadata/uid").to_owned());
        self.state.cluster.acting = uid.unwrap_or_default();
        NOW.set(stale.as_ref().map_or(self.state.cluster.now, |s| s.now));
        let before = self.state.cluster.requests;
        {
            let mut shared = lock(&self.cell);
            shared.cluster = self.state.cluster.clone();
            (shared.fault, shared.stale, shared.storm) = (fault, stale, self.storm);
        }
        let context = &self.context;
        let result = self.runtime.block_on(async {
            match kind {
                "promotion" => controller::promotion::turn(context, NAMESPACE, name).await,
                "alignment" => controller::alignment::turn(context, NAMESPACE, name).await,
                "restore" => controller::restore::turn(context, NAMESPACE, name).await,
                "backup" => controller::backup::turn(context, NAMESPACE, name).await,
                _ => controller::environment::turn(context, NAMESPACE, name).await,
            }
        });
        let shared = lock(&self.cell);
        self.state.cluster = shared.cluster.clone();
        drop(shared);
        if let Err(error) = &result {
            self.errors.push(error.to_string());
        }
        let violations = &self.state.cluster.violations;
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        (result, self.state.cluster.requests - before)
    }

    /// One turn, or one move of everybody else.
    pub fn step(&mut self, fault: Fault) -> Step {
        while self.state.position < 3 {
            let at = self.state.position;
            let look = self.state.looked[at];
            let due = look.wake.is_some_and(|w| w <= self.state.cluster.now) || look.seen != self.state.cluster.heard;
            let Some((kind, name)) = self.subject().filter(|_| due) else {
                self.state.position += 1;
                continue;
            };
            let heard = self.state.cluster.heard;
            let (turn, writes) = self.turn(kind, &name, fault, None);
            self.state.wrote |= writes > 0;
            let now = self.state.cluster.now;
            let (next, wake) = match turn {
                Ok(Turn::Again) => (at, look.wake),
                Ok(Turn::Wait(until)) => (at + 1, until),
                Ok(Turn::Gone) => (at + 1, None),
                Err(_) => (at + 1, Some(now + RETRY)),
            };
            self.state.position = next;
            if next != at {
                self.state.looked[at] = Look { seen: heard, wake };
            }
            people::act(&mut self.state.cluster);
            return Step::Turn(writes);
        }
        self.state.position = 0;
        let wrote = std::mem::take(&mut self.state.wrote);
        self.state.cluster.now += SignedDuration::from_secs(1);
        let moved = actors::step(&mut self.state.cluster);
        let violations = &self.state.cluster.violations;
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        if moved || wrote {
            return Step::Move;
        }
        let ended = self
            .phase()
            .is_none_or(|p| ["Completed", "RolledBack", "Failed", "Cancelled", "Expired", "Abandoned"].contains(&p.as_str()));
        let wakes = self.state.looked[..2].iter().filter_map(|l| l.wake).min();
        match wakes.filter(|_| !ended) {
            // Nothing is under way: time passes until somebody wants to look again.
            Some(at) => {
                self.state.cluster.now = self.state.cluster.now.max(at);
                Step::Move
            }
            None if ended => Step::End,
            None => Step::Stuck,
        }
    }

    /// The run's phase, where it is still there.
    pub fn phase(&self) -> Option<String> {
        let run = self.state.cluster.run()?;
        Some(text(run, "/status/phase").to_owned())
    }

    /// To the end.
    ///
    /// # Panics
    /// Where there is none.
    pub fn finish(&mut self) -> Ending {
        for _ in 0..ENOUGH {
            match self.step(Fault::None) {
                Step::End => return Ending::of(&self.state.cluster),
                Step::Stuck => panic!("it waits for what never comes: {}", self.describe()),
                Step::Turn(_) | Step::Move => {}
            }
        }
        panic!("it goes round in circles: {}", self.describe());
    }

    /// Where the run stands, for messages of tests.
    pub fn describe(&self) -> String {
        let run = self.state.cluster.run().map(|r| (*r).clone()).unwrap_or_default();
        format!(
            "phase {}, step {}, next {}, failure {}, errors {:?}",
            run["status"]["phase"], run["status"]["step"], run["status"]["next"], run["status"]["failure"], self.errors
        )
    }
}

/// What counts in the end, whatever happened on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Phase, reason of a failure, and the steps with their states; none where the run is gone.
    pub run: Option<(String, String, Vec<String>)>,
    pub lock: String,
    pub slot: String,
    pub services: BTreeMap<String, Value>,
    pub workloads: BTreeMap<String, Value>,
    pub configuration: BTreeMap<String, Value>,
    pub rows: BTreeMap<String, Vec<String>>,
    pub doors: String,
    pub kept: Vec<String>,
    pub undo: Vec<String>,
    pub left_over: Vec<String>,
    /// Writes that were acknowledged and are not there.
    pub lost: Vec<String>,
    /// The source, to the letter.
    pub source: Vec<String>,
}

impl Ending {
    pub fn of(cluster: &Cluster) -> Self {
        let run = cluster.run().map(|o| (*o).clone());
        let environment = cluster.get("environments", NAMESPACE, "production").map(|o| (**o).clone()).unwrap_or_default();
        let named = |resource: &str, what: &dyn Fn(&Value) -> Value| -> BTreeMap<String, Value> {
            cluster.all(resource, NAMESPACE).map(|o| (text(o, "/metadata/name").to_owned(), what(o))).collect()
        };
        let both = |o: &Value, fields: [&str; 2]| {
            serde_json::json!([o["spec"][fields[0]], o["spec"][fields[1]], o["metadata"]["annotations"]])
        };
        let texts = |list: &Value, field: &str| -> Vec<String> {
            list.as_array().into_iter().flatten().map(|k| k[field].as_str().unwrap_or_default().to_owned()).collect()
        };
        let live = &cluster.data.databases[LIVE];
        let written = (1..=cluster.data.acknowledged).map(|n| format!("user-{n}"));
        let made = |o: &&std::sync::Arc<Value>| o["metadata"]["labels"][labels::RUN].is_string();
        let steps = |run: &Value| -> Vec<String> {
            let list = run["status"]["steps"].as_array().cloned().unwrap_or_default();
            list.iter().map(|s| format!("{} {}", s["name"], s["state"])).collect()
        };
        Self {
            run: run
                .as_ref()
                .map(|r| (text(r, "/status/phase").to_owned(), text(r, "/status/failure/reason").to_owned(), steps(r))),
            lock: environment["status"]["lock"]["holder"].to_string(),
            slot: environment["status"]["active"].to_string(),
            services: named("services", &|o| both(o, ["selector", "ports"])),
            workloads: named("deployments", &|o| both(o, ["replicas", "template"]))
                .into_iter()
                .chain(named("statefulsets", &|o| both(o, ["replicas", "template"])))
                .chain(named("cronjobs", &|o| both(o, ["suspend", "jobTemplate"])))
                .collect(),
            configuration: cluster
                .all("configmaps", NAMESPACE)
                .filter(|o| !made(o))
                .map(|o| (text(o, "/metadata/name").to_owned(), o["data"].clone()))
                .collect(),
            rows: cluster.data.databases.keys().map(|n| (n.clone(), cluster.data.rows(n))).collect(),
            doors: format!("{:?}", cluster.data.databases.iter().map(|(n, d)| (n, d.door)).collect::<Vec<_>>()),
            kept: texts(&environment["status"]["kept"], "database"),
            undo: run.as_ref().map(|r| texts(&r["status"]["undo"], "database")).unwrap_or_default(),
            left_over: ["services", "deployments", "configmaps", "jobs", "pods"]
                .into_iter()
                .flat_map(|r| [(r, NAMESPACE), (r, SOURCE)])
                .flat_map(|(r, namespace)| {
                    cluster
                        .all(r, namespace)
                        .filter(made)
                        .filter(|o| !invariants::is_kept(cluster, o))
                        .map(move |o| format!("{r} {}", text(o, "/metadata/name")))
                })
                .collect(),
            lost: written.filter(|w| !live.rows.contains(w)).collect(),
            source: cluster
                .objects
                .iter()
                .filter(|(k, _)| {
                    k.1 == SOURCE && ["deployments", "statefulsets", "cronjobs", "services", "configmaps"].contains(&k.0.as_str())
                })
                .map(|(_, o)| format!("{}{}", o["spec"], o["data"]))
                .collect(),
        }
    }
}
