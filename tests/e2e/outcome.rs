//! How a Production must be after a run: the planned state, or what was before, and nothing left behind.
//!
//! The database at the lock cannot be asked: nobody may connect then, and before it the writer still writes. So it is put
//! together from what can be known: all but the writes is what was dumped before the run, and of the writes every row from
//! before is as it was, every acknowledged one is there, and none that nobody sent.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec},
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::{Api, ResourceExt, api::ListParams};
use lockkeeper::api::{Phase, Promotion, PromotionStatus, StepState, Timestamp};
use serde_json::Value;

use super::{
    cluster::{self, eventually, wait},
    database::Shape,
    history,
    users::{self, Outage, Testimony, Users},
    world::{PATIENCE, World},
};

/// So many of the first writes are compared column by column.
const COMPARED: i64 = 100;

/// A Production before a run.
pub struct Before {
    service: Value,
    deployment: DeploymentSpec,
    configuration: Value,
    digests: Vec<String>,
    source: Value,
    shape: Shape,
    last: i64,
    rows: String,
    numbers: BTreeSet<i64>,
}

impl Before {
    /// Looks at everything while nobody writes.
    pub fn quiet(world: &World) -> Self {
        Self::seen(world, i64::MAX)
    }

    /// Looks at everything, while the users work already. `first` is the first number that they send.
    pub fn of(world: &World, users: &Users, first: i64) -> Self {
        let enough = usize::try_from(COMPARED * 2).unwrap_or(usize::MAX);
        cluster::eventually("users have written", Duration::from_secs(30), || match users.acknowledged() {
            count if count >= enough => Ok(()),
            count => Err(format!("{count} writes")),
        });
        Self::seen(world, first + COMPARED - 1)
    }

    fn seen(world: &World, last: i64) -> Self {
        Self {
            service: world.service(),
            deployment: world.deployment().spec.expect("a spec"),
            configuration: world.configuration(),
            digests: world.digests(&world.production),
            source: world.source(),
            shape: world.database.shape(),
            last,
            rows: world.database.written_up_to(last),
            numbers: world.database.numbers(),
        }
    }
}

/// The run ended as planned: Production runs exactly what runs in Staging, users are back, nothing is lost.
pub fn completed(world: &World, run: &Promotion, before: &Before, testimony: &Testimony) {
    delivered(world, run, before);
    data(world, before, testimony);
    outage(run.status.as_ref().expect("a status"), testimony);
    nothing_left(world, run, before);
}

/// Production runs exactly what runs in Staging, migrated, and every step of the run succeeded.
pub fn delivered(world: &World, run: &Promotion, before: &Before) {
    let status = run.status.as_ref().expect("a status");
    assert_eq!(status.phase, Phase::Completed, "{:?}", status.failure);
    let unfinished: Vec<_> = status.steps.iter().filter(|s| s.state != StepState::Succeeded).collect();
    assert!(unfinished.is_empty(), "Completed with {unfinished:?}");

    let staged = world.digests(&world.staging);
    assert_eq!(world.digests(&world.production), staged, "Production runs exactly the digests of Staging");
    let [digest] = &staged[..] else { panic!("one container, one digest: {staged:?}") };
    let deployment = world.deployment().spec.expect("a spec");
    let image =
        |spec: &DeploymentSpec| spec.template.spec.as_ref().and_then(|s| s.containers[0].image.clone()).unwrap_or_default();
    assert!(image(&deployment).ends_with(&format!("@{digest}")), "{} is not pinned to {digest}", image(&deployment));
    let mut otherwise = deployment;
    otherwise.template.spec.as_mut().expect("a pod").containers[0].image = Some(image(&before.deployment));
    assert_eq!(otherwise, before.deployment, "only the image travels");
    assert_eq!(
        world.configuration()["data"],
        serde_json::json!({"GREETING": "hello again", "ADDED": "since release 2", "BASE_URL": "https://production.example"}),
        "configuration travels, but for what Production keeps"
    );
    let version = world.database.query("tiny", "SELECT version FROM schema_version").expect("the schema's version");
    assert_eq!(version.trim(), "2", "the migration ran");
}

/// The run failed, and everything is what it was. Its failure names this step, and says these words.
pub fn as_before(world: &World, run: &Promotion, before: &Before, testimony: &Testimony, (step, words): (&str, &[&str])) {
    let status = run.status.as_ref().expect("a status");
    assert_eq!(status.phase, Phase::RolledBack, "{:?}", status.failure);
    let failure = status.failure.as_ref().expect("a failure");
    assert_eq!(failure.step, step, "the first cause: {failure:?}");
    for word in words {
        assert!(failure.message.contains(word), "the failure does not say {word:?}: {}", failure.message);
    }
    unchanged(world, before);
    data(world, before, testimony);
    outage(status, testimony);
    nothing_left(world, run, before);
}

/// Release, configuration and database are to the letter what they were, but for what users have written since.
pub fn unchanged(world: &World, before: &Before) {
    assert_eq!(world.configuration(), before.configuration, "the configuration is what it was");
    assert_eq!(world.deployment().spec.expect("a spec"), before.deployment, "the workload is what it was");
    assert_eq!(world.digests(&world.production), before.digests, "the same image runs");
    let (now, then) = (world.database.shape(), &before.shape);
    assert!(now == *then, "the database is not what it was:\n{}", then.difference(&now));
    assert_eq!(world.database.written_up_to(before.last), before.rows, "rows from before are what they were");
}

/// The run ended before anyone was locked out: users never noticed, and nothing changed.
pub fn untouched(world: &World, run: &Promotion, before: &Before, testimony: &Testimony) {
    let status = run.status.as_ref().expect("a status");
    assert!(status.locked_at.is_none() && status.epoch.is_none(), "it never locked: {:?}", status.locked_at);
    assert_eq!(users::faults(&testimony.answers, None), Vec::<String>::new());
    assert!(testimony.tallies.iter().all(|t| t.first_refusal.is_none()), "a writer was refused: {:?}", testimony.tallies);
    assert_eq!(world.configuration(), before.configuration);
    assert_eq!(world.deployment().spec.expect("a spec"), before.deployment);
    assert!(world.database.shape() == before.shape, "the database changed");
    data(world, before, testimony);
    nothing_left(world, run, before);
}

fn data(world: &World, before: &Before, testimony: &Testimony) {
    testimony.assert_nothing_lost(&before.numbers, &world.database.numbers());
}

fn outage(status: &PromotionStatus, testimony: &Testimony) {
    testimony.assert_busy_at_the_lock();
    let step = |kinds: [&str; 2]| status.steps.iter().rfind(|s| kinds.contains(&s.name.as_str()) && s.started_at.is_some());
    let open = step(["open", "rollback-open"]).expect("Services were opened");
    let when = Outage {
        locked: status.locked_at.expect("it locked"),
        closed: step(["stop", "stop"]).and_then(|s| s.finished_at).expect("the workloads stopped"),
        opens: open.started_at.expect("a time"),
        opened: open.finished_at.expect("a time"),
    };
    let faults = users::faults(&testimony.answers, Some(when));
    assert!(
        faults.is_empty(),
        "{} of {} answers are no user's due, the first: {:#?}",
        faults.len(),
        testimony.answers.len(),
        &faults[..faults.len().min(10)]
    );
    let pages = testimony.answers.iter().filter(|a| a.status == 503).count();
    println!(
        "users: {} answers, {pages} of them the page; {} writes acknowledged; {:?}",
        testimony.answers.len(),
        testimony.acknowledged.len(),
        testimony.tallies.iter().map(|t| t.in_flight_at_first_refusal).collect::<Vec<_>>()
    );
}

/// A terminal phase means that nothing of the run is left but its record and what `status.undo` names.
pub fn nothing_left(world: &World, run: &Promotion, before: &Before) {
    assert_eq!(world.service(), before.service, "the Service leads where it led");
    assert_eq!(world.source(), before.source, "the source is never written");
    // What an earlier run left aside goes by the Environment's own Jobs, which may begin when this run has ended; and a backup
    // has an end of its own, a moment after the run that asked for it.
    let of = ["-n", &world.production, "get", "environments,environmentbackups", "-o", "jsonpath={.items[*].metadata.uid}"];
    let own: Vec<String> = cluster::kubectl(&of).expect("their UIDs").split_whitespace().map(str::to_owned).collect();
    eventually("they have tidied up", PATIENCE, || {
        let selector = format!("lockkeeper.dev/run in ({})", own.join(","));
        let theirs = cluster::kubectl(&["-n", &world.production, "get", "jobs,pods", "-l", &selector, "-o", "name"])?;
        if theirs.is_empty() { Ok(()) } else { Err(theirs) }
    });
    for namespace in [&world.production, &world.staging] {
        let left = [
            labelled::<Job>(namespace, &own),
            labelled::<Pod>(namespace, &own),
            labelled::<Deployment>(namespace, &own),
            labelled::<Service>(namespace, &own),
            labelled::<ConfigMap>(namespace, &own),
        ];
        // The earlier configuration is part of the undo point, and goes with it.
        let undoable = run.status.as_ref().is_some_and(|s| s.phase == Phase::Completed && !s.undo.is_empty());
        let left: Vec<String> = left.concat().into_iter().filter(|o| !(undoable && o.contains("-prior-"))).collect();
        assert!(left.is_empty(), "left behind in {namespace}: {left:?}");
    }
    let status = run.status.as_ref().expect("a status");
    let named: BTreeSet<String> = status.undo.iter().map(|u| u.database.clone()).collect();
    eventually("databases that are aside are named", PATIENCE, || {
        let all: BTreeSet<String> = named.union(&world.kept_by_others(run)).cloned().collect();
        let made = world.database.made();
        if made == all { Ok(()) } else { Err(format!("{made:?} are there, {all:?} are named")) }
    });
    let environment = world.record.environment("production").status.unwrap_or_default();
    assert!(environment.active.is_none(), "the turn is given back: {:?}", environment.active);
    assert!(environment.lock.and_then(|l| l.holder).is_none(), "the lock is given back");
    let free = world.database.holders();
    assert!(free.iter().all(|row| row.contains("free")), "the databases are given back: {free:?}");
    let faults = history::faults(&world.record.all());
    assert!(faults.is_empty(), "what the watcher saw: {faults:#?}");
}

/// What carries a mark of ours, but for the work of those with these UIDs.
fn labelled<K>(namespace: &str, others: &[String]) -> Vec<String>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(cluster::client(None), namespace);
    let all = wait(api.list(&ListParams::default())).expect("a list");
    let ours = |object: &K| {
        object.labels().get("lockkeeper.dev/run").is_some_and(|uid| !others.contains(uid))
            || object.annotations().contains_key("lockkeeper.dev/found")
    };
    all.items.iter().filter(|object| ours(object)).map(|object| format!("{} {}", K::kind(&()), object.name_any())).collect()
}

/// Prints what the time from lock to unlock was made of, and returns all of it and what is the operator's own.
pub fn breakdown(status: &PromotionStatus) -> (Duration, Duration) {
    let span = |from: Option<Timestamp>, to: Option<Timestamp>| match (from, to) {
        (Some(from), Some(to)) => to.duration_since(from).unsigned_abs(),
        _ => Duration::ZERO,
    };
    let all = span(status.locked_at, status.unlocked_at);
    let mut own = all;
    println!("locked for {:.2} s:", all.as_secs_f64());
    for step in &status.steps {
        let took = span(step.started_at, step.finished_at);
        let theirs =
            step.name.starts_with("migration/") || step.name.starts_with("workloads/") || step.name == "rollback-workloads";
        let within = step.started_at >= status.locked_at && step.started_at < status.unlocked_at && step.started_at.is_some();
        if within {
            let whose = if theirs { " (the application's own)" } else { "" };
            println!("  {:<24} {:>6.2} s{whose}", step.name, took.as_secs_f64());
        }
        if within && theirs {
            own = own.saturating_sub(took);
        }
    }
    println!("  {:<24} {:>6.2} s", "Lockkeeper's own", own.as_secs_f64());
    (all, own)
}
