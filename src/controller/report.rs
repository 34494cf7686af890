//! What people and programs outside are told: Events on transitions, structured logs, metrics. The drivers call it; it
//! decides nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource, ResourceExt,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::slim::Slim;
use crate::{
    api::{
        DownAlignment, EnvironmentBackup, EnvironmentBackupStatus, EnvironmentRestore, Phase, Promotion, RunStatus, Timestamp,
        conditions, reasons,
    },
    error::Error,
    plan::{
        queue, steps,
        world::{Run, Settings},
    },
};

/// Labels of a count by kind and phase.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    kind: String,
    phase: String,
}

/// Labels of a count by kind, phase and namespace.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunLabels {
    kind: String,
    phase: String,
    namespace: String,
}

/// Labels of a count by namespace.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NamespaceLabels {
    namespace: String,
}

/// Labels of a time by kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

/// Labels of a count of errors.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    kind: String,
    category: String,
}

/// Tells.
pub struct Report {
    recorder: Recorder,
    transitions: Family<PhaseLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    runs: Family<RunLabels, Gauge>,
    queue: Family<NamespaceLabels, Gauge>,
    phases: Family<PhaseLabels, Histogram>,
    reconciles: Family<KindLabels, Histogram>,
    locked: Histogram,
    leading: Gauge<u64, AtomicU64>,
}

impl Report {
    /// Makes the metrics, and registers them.
    pub fn new(client: Client, instance: &str, registry: &mut Registry) -> Self {
        let report = Self {
            recorder: Recorder::new(client, Reporter { controller: "lockkeeper".into(), instance: Some(instance.to_owned()) }),
            transitions: Family::default(),
            errors: Family::default(),
            runs: Family::default(),
            queue: Family::default(),
            // From half a second, which a phase of steps without work takes, to four and a half hours of backup.
            phases: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.5, 2.0, 16))),
            reconciles: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 14))),
            locked: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            leading: Gauge::default(),
        };
        registry.register("lockkeeper_transitions", "Transitions of runs into a phase", report.transitions.clone());
        registry.register("lockkeeper_reconcile_errors", "Reconciles that failed, by category", report.errors.clone());
        registry.register("lockkeeper_runs", "Runs that are there now, by phase", report.runs.clone());
        registry.register("lockkeeper_queue_length", "Runs that are ready and wait for their turn", report.queue.clone());
        let phases = report.phases.clone();
        registry.register_with_unit(
            "lockkeeper_phase",
            "How long runs were in a phase that they have left",
            Unit::Seconds,
            phases,
        );
        let reconciles = report.reconciles.clone();
        registry.register_with_unit("lockkeeper_reconcile", "How long reconciles took", Unit::Seconds, reconciles);
        registry.register_with_unit("lockkeeper_lock", "How long users were locked out", Unit::Seconds, report.locked.clone());
        registry.register("lockkeeper_leading", "1 while this replica leads", report.leading.clone());
        report
    }

    /// Whether this replica leads.
    pub fn leading(&self, yes: bool) {
        self.leading.set(u64::from(yes));
    }

    /// A reconcile failed.
    pub fn error(&self, kind: &str, name: &str, error: &Error) {
        tracing::warn!(kind, name, category = error.category(), error = %error, "reconcile failed");
        self.errors.get_or_create(&ErrorLabels { kind: kind.into(), category: error.category().into() }).inc();
    }

    /// A reconcile has taken so long.
    pub fn reconciled(&self, kind: &str, took: Duration) {
        self.reconciles.get_or_create(&KindLabels { kind: kind.into() }).observe(took.as_secs_f64());
    }

    /// What is there now, as the caches have it.
    pub fn population(
        &self,
        promotions: &[Arc<Slim<Promotion>>],
        restores: &[Arc<Slim<EnvironmentRestore>>],
        alignments: &[Arc<Slim<DownAlignment>>],
        backups: &[Arc<Slim<EnvironmentBackup>>],
        now: Timestamp,
    ) {
        let mut runs: BTreeMap<(&str, String, String), i64> = BTreeMap::new();
        let mut queue: BTreeMap<String, i64> = BTreeMap::new();
        let locking = promotions.iter().map(|p| Run::Promotion(p)).chain(restores.iter().map(|r| Run::Restore(r)));
        let locking = locking.chain(alignments.iter().map(|a| Run::Alignment(a)));
        for run in locking {
            let (phase, namespace) = (run.status().map(|s| s.phase).unwrap_or_default(), run.namespace().to_owned());
            *runs.entry((run.kind(), phase.to_string(), namespace.clone())).or_default() += 1;
            *queue.entry(namespace).or_default() += i64::from(queue::waiting(run, now).is_some());
        }
        for backup in backups {
            let phase = backup.status.as_ref().map(|s| s.phase).unwrap_or_default();
            let namespace = backup.namespace().unwrap_or_default();
            *runs.entry(("EnvironmentBackup", format!("{phase:?}"), namespace)).or_default() += 1;
        }
        self.runs.clear();
        for ((kind, phase, namespace), count) in runs {
            self.runs.get_or_create(&RunLabels { kind: kind.into(), phase, namespace }).set(count);
        }
        self.queue.clear();
        for (namespace, count) in queue {
            self.queue.get_or_create(&NamespaceLabels { namespace }).set(count);
        }
    }

    /// A run's status was written.
    pub async fn run(&self, run: Run<'_>, old: &RunStatus, about: &ObjectReference) {
        let Some(new) = run.status() else { return };
        if new.step != old.step && new.step.is_some() {
            let step = new.step.as_deref().unwrap_or_default();
            tracing::info!(kind = run.kind(), namespace = run.namespace(), run = run.name(), phase = %new.phase, step, "step");
        }
        if let (Some(at), None) = (new.unlocked_at, old.unlocked_at)
            && let Some(since) = new.locked_at
        {
            self.locked.observe(at.duration_since(since).as_secs_f64());
        }
        if new.phase == old.phase && new.observed_generation.is_some() && old.observed_generation.is_some() {
            return;
        }
        let labels = |phase: &Phase| PhaseLabels { kind: run.kind().into(), phase: phase.to_string() };
        self.transitions.get_or_create(&labels(&new.phase)).inc();
        if let Some(began) = began(run, old).filter(|_| new.phase != old.phase) {
            let took = Timestamp::now().duration_since(began).as_secs_f64();
            self.phases.get_or_create(&labels(&old.phase)).observe(took.max(0.0));
        }
        let bad = matches!(
            new.phase,
            Phase::Failed | Phase::RollingBack | Phase::RolledBack | Phase::NeedsHuman | Phase::Expired | Phase::Abandoned
        );
        let ready = new.conditions.iter().find(|c| c.type_ == conditions::READY);
        let again = ready.is_some_and(|c| c.reason == reasons::ALREADY_RAN);
        let note = match (&new.failure, &new.next) {
            // What is left, and that nothing was done, is said in full.
            _ if again || new.phase == Phase::Abandoned => ready.map(|c| c.message.clone()).unwrap_or_default(),
            (Some(failure), _) => format!("{}: {}", failure.step, failure.message),
            (None, Some(next)) => next.clone(),
            (None, None) => new.step.clone().unwrap_or_default(),
        };
        tracing::info!(kind = run.kind(), namespace = run.namespace(), run = run.name(), phase = %new.phase, from = %old.phase, note, "phase");
        let reason = if again { reasons::ALREADY_RAN.to_owned() } else { new.phase.to_string() };
        self.publish(bad, &reason, note, (about, None)).await;
    }

    /// A run goes with its namespace while the environment is locked. Events there go too: this one is in the operator's own.
    pub async fn farewell(&self, settings: &Settings, run: ObjectReference, text: &str) {
        let (namespace, name) = (run.namespace.as_deref(), run.name.as_deref());
        tracing::error!(?namespace, ?name, text, "a namespace was deleted while it was locked");
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("ServiceAccount".into()),
            name: Some(settings.service_account.clone()),
            namespace: Some(settings.namespace.clone()),
            ..ObjectReference::default()
        };
        self.publish(true, "NamespaceDeletedWhileLocked", text.to_owned(), (&about, Some(run.clone()))).await;
    }

    /// An EnvironmentBackup's status was written.
    pub async fn backup(&self, backup: &EnvironmentBackup, old: &EnvironmentBackupStatus) {
        let Some(new) = backup.status.as_ref().filter(|s| s.phase != old.phase) else { return };
        let phase = format!("{:?}", new.phase);
        self.transitions.get_or_create(&PhaseLabels { kind: "EnvironmentBackup".into(), phase: phase.clone() }).inc();
        let note = new.failure.as_ref().map(|f| f.message.clone()).unwrap_or_default();
        self.publish(new.failure.is_some(), &phase, note, (&backup.object_ref(&()), None)).await;
    }

    async fn publish(
        &self,
        bad: bool,
        reason: &str,
        note: String,
        (about, secondary): (&ObjectReference, Option<ObjectReference>),
    ) {
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(cut(note)),
            action: reason.to_owned(),
            secondary,
        };
        // An Event is a courtesy: that it cannot be written must not hold the run.
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(%error, "an Event could not be written");
        }
    }
}

/// An Event's note has at most 1024 bytes.
fn cut(mut note: String) -> String {
    const ROOM: usize = 1000;
    if note.len() > ROOM {
        let end = (0..=ROOM).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

/// When a run came into the phase in which a status has it.
fn began(run: Run<'_>, status: &RunStatus) -> Option<Timestamp> {
    match status.phase {
        Phase::Scheduled => run.metadata().creation_timestamp.as_ref().map(|t| t.0),
        Phase::Validated => status.validated_at,
        phase => status.steps.iter().filter(|s| steps::phase_of(run, &s.name) == phase).filter_map(|s| s.started_at).min(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    use super::*;

    fn run(name: &str, status: serde_json::Value) -> Promotion {
        serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"environment": {"name": "p"}, "from": {"namespace": "s", "name": "s"}, "requestedBy": {"username": "alice"}},
            "status": status,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn metrics_have_the_names_that_the_readme_documents_and_are_text_that_prometheus_reads() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let mut registry = Registry::default();
        let report = Report::new(Client::try_from(config).unwrap(), "test", &mut registry);
        let now: Timestamp = "2026-11-25T20:00:10Z".parse().unwrap();
        let waiting = run("a", json!({"phase": "Validated", "validatedAt": "2026-11-25T20:00:00Z"}));
        let stuck = run("b", json!({"phase": "NeedsHuman"}));
        let restore = EnvironmentRestore {
            metadata: kube::core::ObjectMeta { name: Some("back".into()), namespace: Some("shop".into()), ..Default::default() },
            spec: serde_json::from_value(json!({
                "environment": {"name": "p"}, "from": {"backup": {"name": "b"}}, "requestedBy": {"username": "olga"},
            }))
            .unwrap(),
            status: serde_json::from_value(json!({"phase": "Validated", "validatedAt": "2026-11-25T20:00:00Z"})).unwrap(),
        };
        let promotions = [Arc::new(Slim::new(waiting.clone())), Arc::new(Slim::new(stuck))];
        report.population(&promotions, &[Arc::new(Slim::new(restore))], &[], &[], now);
        report.reconciled("Promotion", Duration::from_millis(20));
        report.leading(true);
        let error = Error::Foreign { what: "make a Job".into() };
        report.error("Promotion", "a", &error);
        let mut after = waiting.clone();
        let status = after.status.as_mut().unwrap();
        (status.phase, status.locked_at, status.unlocked_at) = (Phase::BackingUp, Some(now), Some(now));
        let reference = after.object_ref(&());
        let published = report.run(Run::Promotion(&after), waiting.status.as_ref().unwrap(), &reference);
        let _ = tokio::time::timeout(Duration::from_millis(50), published).await;

        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let readme = include_str!("../../README.md");
        for name in [
            "lockkeeper_transitions_total{kind=\"Promotion\",phase=\"BackingUp\"} 1",
            "lockkeeper_runs{kind=\"Promotion\",phase=\"NeedsHuman\",namespace=\"shop\"} 1",
            "lockkeeper_runs{kind=\"EnvironmentRestore\",phase=\"Validated\",namespace=\"shop\"} 1",
            "lockkeeper_queue_length{namespace=\"shop\"} 2",
            "lockkeeper_phase_seconds_count{kind=\"Promotion\",phase=\"Validated\"} 1",
            "lockkeeper_lock_seconds_count 1",
            "lockkeeper_reconcile_seconds_count{kind=\"Promotion\"} 1",
            "lockkeeper_reconcile_errors_total{kind=\"Promotion\",category=\"foreign\"} 1",
            "lockkeeper_leading 1",
        ] {
            assert!(text.lines().any(|line| line == name), "{name} is not in:\n{text}");
            let bare = name.split(['{', ' ']).next().unwrap().trim_end_matches("_count");
            assert!(readme.contains(&format!("`{bare}`")), "README.md does not say what {bare} is");
        }
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && !name.is_empty(), "{line}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_note_is_cut_between_letters() {
        let long = cut("ñ".repeat(900));
        assert!(long.len() <= 1003 && long.ends_with("ñ…"));
        assert_eq!(cut("short".into()), "short");
    }
}
