//! What people and programs outside are told: Events on transitions, structured logs, metrics. The drivers call it; it
//! decides nothing.

use std::sync::atomic::AtomicU64;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
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

use crate::{
    api::{EnvironmentBackup, EnvironmentBackupStatus, Phase, RunStatus},
    error::Error,
    plan::world::Run,
};

/// Labels of a count by kind and phase.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    kind: String,
    phase: String,
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
            locked: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            leading: Gauge::default(),
        };
        registry.register("lockkeeper_transitions", "Transitions of runs into a phase", report.transitions.clone());
        registry.register("lockkeeper_reconcile_errors", "Reconciles that failed, by category", report.errors.clone());
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

    /// A run's status was written.
    pub async fn run(&self, run: Run<'_>, old: &RunStatus, about: &ObjectReference) {
        let Some(new) = run.status() else { return };
        if new.step != old.step && new.step.is_some() {
            tracing::info!(kind = run.kind(), run = run.name(), namespace = run.namespace(), phase = %new.phase, step = ?new.step, "step");
        }
        if let (Some(at), None) = (new.unlocked_at, old.unlocked_at)
            && let Some(since) = new.locked_at
        {
            self.locked.observe(at.duration_since(since).as_secs_f64());
        }
        if new.phase == old.phase && new.observed_generation.is_some() && old.observed_generation.is_some() {
            return;
        }
        self.transitions.get_or_create(&PhaseLabels { kind: run.kind().into(), phase: new.phase.to_string() }).inc();
        let bad =
            matches!(new.phase, Phase::Failed | Phase::RollingBack | Phase::RolledBack | Phase::NeedsHuman | Phase::Expired);
        let note = match (&new.failure, &new.next) {
            (Some(failure), _) => format!("{}: {}", failure.step, failure.message),
            (None, Some(next)) => next.clone(),
            (None, None) => new.step.clone().unwrap_or_default(),
        };
        self.publish(bad, &new.phase.to_string(), note, about).await;
    }

    /// An EnvironmentBackup's status was written.
    pub async fn backup(&self, backup: &EnvironmentBackup, old: &EnvironmentBackupStatus) {
        let Some(new) = backup.status.as_ref().filter(|s| s.phase != old.phase) else { return };
        let phase = format!("{:?}", new.phase);
        self.transitions.get_or_create(&PhaseLabels { kind: "EnvironmentBackup".into(), phase: phase.clone() }).inc();
        let note = new.failure.as_ref().map(|f| f.message.clone()).unwrap_or_default();
        self.publish(new.failure.is_some(), &phase, note, &backup.object_ref(&())).await;
    }

    async fn publish(&self, bad: bool, reason: &str, note: String, about: &ObjectReference) {
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: reason.to_owned(),
            secondary: None,
        };
        // An Event is a courtesy: that it cannot be written must not hold the run.
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(%error, "an Event could not be written");
        }
    }
}
