//! What must hold at every instant, checked afterwards over everything that the watcher saw, in the order in which it
//! happened. It shares no code with the operator but the types and the diagram of the phases.

use std::collections::BTreeMap;

use lockkeeper::api::{Environment, EnvironmentBackup, Phase, Promotion, PromotionStatus, StepState};
use serde_json::Value;

use super::record::Seen;

const PAGE: &str = "lockkeeper.dev/page";
const RUN: &str = "lockkeeper.dev/run";
const STEP: &str = "lockkeeper.dev/step";

/// Steps during which the lock must be held by the run that does them.
const LOCKED_STEPS: [&str; 22] = [
    "record",
    "pause",
    "close",
    "stop",
    "fence",
    "undo",
    "configuration",
    "migration",
    "admit",
    "workloads",
    "others",
    "verify",
    "release-data",
    "open",
    "resume",
    "rollback-stop",
    "rollback-data",
    "rollback-configuration",
    "rollback-workloads",
    "rollback-release-data",
    "rollback-open",
    "rollback-resume",
];

/// The Production as it was at one instant.
#[derive(Default)]
struct Now {
    holder: Option<String>,
    epoch: i64,
    active: Option<String>,
    page: Option<String>,
    replicas: Option<i64>,
    usual_replicas: Option<i64>,
    deployment: Option<Value>,
    configuration: Option<Value>,
    runs: BTreeMap<String, PromotionStatus>,
    proven: Vec<String>,
}

/// Everything that was not as it must be.
pub fn faults(seen: &[Seen]) -> Vec<String> {
    let mut now = Now::default();
    let mut faults = Vec::new();
    for version in seen {
        let mut fault = |what: String| faults.push(format!("at version {}: {what}", version.version));
        match (version.kind, version.name.as_str()) {
            ("Environment", _) if !version.gone => now.environment(&version.read(), &mut fault),
            ("Promotion", _) => now.promotion(version, &mut fault),
            ("EnvironmentBackup", _) => {
                let backup: EnvironmentBackup = version.read();
                let run = version.object["metadata"]["labels"][RUN].as_str().unwrap_or_default().to_owned();
                if backup.status.is_some_and(|s| s.proven_at.is_some() && s.snapshot.is_some()) {
                    now.proven.push(run);
                }
            }
            ("Service", "tiny") if !version.gone => {
                now.page = version.object["spec"]["selector"][PAGE].as_str().map(str::to_owned);
                if now.page.is_some() && now.page != now.holder {
                    fault(format!("the Service leads to the page of {:?} while the lock is held by {:?}", now.page, now.holder));
                }
            }
            ("Deployment", "tiny") if !version.gone => {
                let spec = version.object["spec"].clone();
                now.replicas = spec["replicas"].as_i64();
                if now.usual_replicas.is_none() {
                    now.usual_replicas = now.replicas;
                }
                if now.deployment.as_ref().is_some_and(|before| *before != spec) && now.holder.is_none() {
                    fault("the workload changes while nobody holds the lock".into());
                }
                now.deployment = Some(spec);
            }
            ("ConfigMap", "tiny-config") if !version.gone => {
                let data = version.object["data"].clone();
                if now.configuration.as_ref().is_some_and(|before| *before != data) && now.holder.is_none() {
                    fault("the configuration changes while nobody holds the lock".into());
                }
                now.configuration = Some(data);
            }
            ("Job", _) if !version.gone => now.job(&version.object, &mut fault),
            _ => {}
        }
    }
    faults
}

impl Now {
    fn environment(&mut self, environment: &Environment, fault: &mut impl FnMut(String)) {
        let status = environment.status.clone().unwrap_or_default();
        let lock = status.lock.unwrap_or_default();
        let holder = lock.holder.map(|h| h.uid);
        if holder != self.holder {
            match (&self.holder, &holder) {
                (None, Some(new)) => {
                    if !self.proven.contains(new) {
                        fault(format!("{new} takes the lock without a proven backup"));
                    }
                    if lock.epoch <= self.epoch {
                        fault(format!("{new} takes the lock with epoch {}, after {}", lock.epoch, self.epoch));
                    }
                    if self.step(new) != "lock" {
                        fault(format!("{new} has the lock while it does {}", self.step(new)));
                    }
                }
                (Some(old), _) => {
                    if !matches!(self.step(old), "unlock" | "rollback-unlock") {
                        fault(format!("the lock of {old} is given back while that does {}", self.step(old)));
                    }
                    if holder.is_some() {
                        fault(format!("the lock goes from {old} to another without being given back"));
                    }
                    if self.page.is_some() {
                        fault(format!("the lock of {old} is given back while users see the page"));
                    }
                    if self.replicas != self.usual_replicas {
                        fault(format!("the lock of {old} is given back with {:?} pods wanted", self.replicas));
                    }
                }
                (None, None) => {}
            }
        }
        let active = status.active.map(|a| a.uid);
        if let Some(old) = self.active.as_ref().filter(|old| active.as_ref() != Some(old)) {
            let over = self.runs.get(old).is_none_or(|run| {
                run.failure.is_some() && !run.phase.may_hold_lock()
                    || run.steps.iter().all(|s| !matches!(s.state, StepState::Pending | StepState::Running))
            });
            if !over || holder.as_ref() == Some(old) {
                fault(format!("{old} loses its turn while it does {}", self.step(old)));
            }
        }
        (self.holder, self.epoch, self.active) = (holder, lock.epoch.max(self.epoch), active);
    }

    fn step(&self, uid: &str) -> &str {
        self.runs.get(uid).and_then(|run| run.step.as_deref()).unwrap_or("nothing that was seen")
    }

    fn promotion(&mut self, version: &Seen, fault: &mut impl FnMut(String)) {
        let promotion: Promotion = version.read();
        let uid = promotion.metadata.uid.clone().unwrap_or_default();
        let status = promotion.status.clone().unwrap_or_default();
        let before = self.runs.get(&uid).map_or(Phase::default(), |s| s.phase);
        if !before.may_become(status.phase) {
            fault(format!("{} goes from {before} to {}", version.name, status.phase));
        }
        let step = status.step.clone().unwrap_or_default();
        let kind = step.split('/').next().unwrap_or_default();
        if LOCKED_STEPS.contains(&kind) && self.holder.as_deref() != Some(&uid) {
            fault(format!("{} does {step} while the lock is held by {:?}", version.name, self.holder));
        }
        if status.phase.is_terminal() {
            if self.holder.as_deref() == Some(&uid) {
                fault(format!("{} is {} and holds the lock", version.name, status.phase));
            }
            if self.page.as_deref() == Some(&uid) {
                fault(format!("{} is {} and users see its page", version.name, status.phase));
            }
        }
        if version.gone && (self.holder.as_deref() == Some(&uid) || self.active.as_deref() == Some(&uid)) {
            fault(format!("{} is gone and holds lock or turn", version.name));
        }
        self.runs.insert(uid, status);
    }

    fn job(&mut self, job: &Value, fault: &mut impl FnMut(String)) {
        let labels = &job["metadata"]["labels"];
        let (uid, step) = (labels[RUN].as_str().unwrap_or_default(), labels[STEP].as_str().unwrap_or_default());
        if !step.starts_with("migration") || job["status"]["active"].is_number() || job["metadata"]["generation"] != 1 {
            return;
        }
        // Only its first version: that it was made.
        if job["status"].as_object().is_some_and(|status| !status.is_empty()) {
            return;
        }
        let done = |name: &str| {
            self.runs.get(uid).is_some_and(|run| run.steps.iter().any(|s| s.name == name && s.state == StepState::Succeeded))
        };
        for name in ["backup", "lock", "close", "stop", "fence", "undo"] {
            if !done(name) {
                fault(format!("the migration of {uid} is made before {name} is done"));
            }
        }
        if self.replicas != Some(0) {
            fault(format!("the migration of {uid} is made while {:?} pods of the application are wanted", self.replicas));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A short history: kind and object, in order, and what must be said of it.
    fn judged(history: &[(&'static str, &str, Value)]) -> String {
        let seen: Vec<Seen> = (1..)
            .zip(history)
            .map(|(version, (kind, name, object))| {
                let mut object = object.clone();
                object["metadata"]["name"] = json!(name);
                Seen { version, kind, name: (*name).to_owned(), gone: false, object }
            })
            .collect();
        faults(&seen).join("\n")
    }

    fn environment(holder: Option<&str>, active: &str) -> (&'static str, &'static str, Value) {
        let run = |uid: &str| json!({"kind": "Promotion", "name": uid, "uid": uid});
        let status = json!({"active": run(active), "lock": {"epoch": i64::from(holder.is_some()), "holder": holder.map(run)}});
        let spec = json!({"tier": "Production", "modules": []});
        let metadata = json!({});
        ("Environment", "production", json!({"metadata": metadata, "spec": spec, "status": status}))
    }

    fn promotion(phase: &str, step: &str, done: &[&str]) -> (&'static str, &'static str, Value) {
        let spec = json!({"environment": {"name": "production"}, "from": {"namespace": "s", "name": "staging"}, "requestedBy": {"username": "alice"}});
        let mut steps: Vec<Value> = done.iter().map(|name| json!({"name": name, "state": "Succeeded"})).collect();
        steps.push(json!({"name": step, "state": "Running"}));
        (
            "Promotion",
            "p",
            json!({"metadata": {"uid": "one"}, "spec": spec, "status": {"phase": phase, "step": step, "steps": steps}}),
        )
    }

    fn service(page: Option<&str>) -> (&'static str, &'static str, Value) {
        let selector = page.map_or(json!({"app": "tiny"}), |uid| json!({PAGE: uid}));
        ("Service", "tiny", json!({"spec": {"selector": selector}}))
    }

    fn workload(replicas: i64) -> (&'static str, &'static str, Value) {
        ("Deployment", "tiny", json!({"spec": {"replicas": replicas}}))
    }

    fn configuration(text: &str) -> (&'static str, &'static str, Value) {
        ("ConfigMap", "tiny-config", json!({"data": {"GREETING": text}}))
    }

    fn proven() -> (&'static str, &'static str, Value) {
        let spec = json!({"environment": {"name": "production"}});
        let status = json!({"phase": "Completed", "snapshot": "s", "provenAt": "2026-01-01T00:00:00Z"});
        ("EnvironmentBackup", "b", json!({"metadata": {"labels": {RUN: "one"}}, "spec": spec, "status": status}))
    }

    fn migration() -> (&'static str, &'static str, Value) {
        let labels = json!({RUN: "one", STEP: "migration.tiny"});
        ("Job", "m", json!({"metadata": {"labels": labels, "generation": 1}}))
    }

    const BEFORE: [&str; 6] = ["backup", "lock", "close", "stop", "fence", "undo"];

    /// Up to the lock, as it should be.
    fn begun() -> Vec<(&'static str, &'static str, Value)> {
        let at_rest = [workload(1), configuration("hello"), service(None), environment(None, "one")];
        let waits = ["Scheduled", "Validated"].map(|phase| promotion(phase, "preflight", &[]));
        let prepares = [promotion("BackingUp", "backup", &[]), proven(), promotion("Locked", "lock", &["backup"])];
        [&at_rest[..], &waits, &prepares].concat()
    }

    #[test]
    fn a_run_in_good_order_has_no_faults() {
        let mut all = begun();
        all.extend([environment(Some("one"), "one"), promotion("Locked", "close", &["lock"]), service(Some("one")), workload(0)]);
        all.extend([promotion("Promoting", "migration/tiny", &BEFORE), migration(), configuration("hello again"), workload(1)]);
        all.extend([
            promotion("Verifying", "open", &[]),
            service(None),
            promotion("Verifying", "unlock", &[]),
            environment(None, "one"),
        ]);
        assert_eq!(judged(&all), "");
    }

    #[test]
    fn each_disorder_is_a_fault_of_its_own() {
        let locked = || [begun(), vec![environment(Some("one"), "one"), promotion("Locked", "close", &["lock"])]].concat();
        let unproven = begun().into_iter().filter(|(kind, ..)| *kind != "EnvironmentBackup").collect::<Vec<_>>();
        for (before, next, words) in [
            (begun(), vec![service(Some("one"))], "leads to the page"),
            (begun(), vec![workload(0)], "the workload changes while nobody holds the lock"),
            (begun(), vec![configuration("x")], "the configuration changes while nobody holds the lock"),
            (begun(), vec![promotion("Locked", "close", &[])], "does close while the lock is held by None"),
            (unproven, vec![environment(Some("one"), "one")], "without a proven backup"),
            (locked(), vec![environment(None, "one")], "given back while that does close"),
            (locked(), vec![environment(Some("two"), "one")], "another without being given back"),
            (locked(), vec![environment(Some("one"), "two")], "loses its turn"),
            (locked(), vec![promotion("BackingUp", "backup", &[])], "goes from Locked to BackingUp"),
            (locked(), vec![promotion("Promoting", "migration/tiny", &BEFORE[..4]), migration()], "before fence is done"),
            (
                locked(),
                vec![service(Some("one")), promotion("Verifying", "unlock", &[]), environment(None, "one")],
                "users see the page",
            ),
        ] {
            let said = judged(&[before, next].concat());
            assert!(said.contains(words), "not {words:?} but: {said}");
        }
    }
}
