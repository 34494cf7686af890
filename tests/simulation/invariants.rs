//! What must hold at every single write of the operator: S1 to S5, S8, S9 and S12 of the design. Judged from what is there,
//! not from what the operator says it does.

use http::Method;
use lockkeeper::{
    api::{FINALIZER, Phase, annotations::FOUND, labels},
    data::mask,
    manifest::found::Found,
};
use serde_json::{Value, json};

use super::{
    actors,
    cluster::{Cluster, text},
    data::{MASKED, State},
    fixture::{NAMESPACE, SOURCE},
    people::Kind,
    server::Call,
};

/// What a write that has just taken effect breaks.
pub fn check(before: &Cluster, call: &Call<'_>, after: &Cluster) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            broken.push(format!("{what}: {} {:?} {}", call.method, call.key, call.body));
        }
    };
    let (resource, namespace) = (call.key.0.as_str(), call.key.1.as_str());
    let old = before.objects.get(&call.key).map_or(&Value::Null, |o| o);
    let new = after.objects.get(&call.key).map_or(&Value::Null, |o| o);
    let subject = if old.is_null() { new } else { old };
    let ours = subject["metadata"]["labels"][labels::RUN].is_string();
    let run = Run::of(before);
    // What an alignment needs over there is a Job and a copy of the policy, both its own.
    let made = ours && run.kind == Kind::Alignment && matches!(resource, "jobs" | "configmaps");
    must(namespace != SOURCE || made, "S9: the source is never written");
    match resource {
        "deployments" | "statefulsets" | "cronjobs" if !ours => {
            must(run.locked, "S3: a workload changes only under this run's lock");
            if ["template", "jobTemplate"].iter().any(|t| old["spec"][t] != new["spec"][t]) {
                must(run.may_change(before), "S2: images change only after the undo point and a proven backup");
            }
        }
        "configmaps" if !ours => {
            must(run.locked, "S3: configuration changes only under this run's lock");
            must(run.may_change(before), "S2: configuration changes only after the undo point and a proven backup");
        }
        "services" if !ours => must(run.locked, "S3: a Service changes only under this run's lock"),
        "pods" if *call.method == Method::PATCH => {
            let opened = actors::waits_at_its_gate(old) && !actors::waits_at_its_gate(new);
            must(opened, "the operator changes nothing of a pod but its gate");
            let epoch = text(new, "/metadata/annotations/lockkeeper.dev~1gate").split(' ').next().and_then(|e| e.parse().ok());
            must(epoch == Some(run.epoch), "S1: a gate is opened under the epoch of the lock");
            begins(text(new, "/metadata/labels/lockkeeper.dev~1step"), before, &run, &mut must);
        }
        // One that waits at its gate has begun nothing.
        "jobs" if *call.method == Method::POST && !actors::waits_at_its_gate(&new["spec"]["template"]) => {
            begins(text(new, "/metadata/labels/lockkeeper.dev~1step"), before, &run, &mut must);
        }
        "environments" if call.status => environment(before, old, new, &run, &mut must),
        "promotions" | "environmentrestores" | "downalignments" if call.status => promotion(old, new, after, &run, &mut must),
        "promotions" | "environmentrestores" | "downalignments"
            if new.is_null() || (has_finalizer(old) && !has_finalizer(new)) =>
        {
            must(run.phase.is_terminal(), "L: the finalizer goes last");
        }
        _ => {}
    }
    broken
}

/// A Job's work begins: it was made, or its gate was opened.
fn begins(step: &str, before: &Cluster, run: &Run, must: &mut impl FnMut(bool, &str)) {
    if step.starts_with("migration") {
        must(run.locked, "S3: a migration starts only under this run's lock");
        must(run.may_change(before), "S2: a migration starts only after the undo point and a proven backup");
    }
    if ["fence", "undo", "load", "admit", "release-data", "rollback-data", "rollback-release-data"].contains(&step) {
        must(run.locked, "S3: the database is worked on only under this run's lock");
    }
    if step == "snapshot" {
        must(is_granted(before), "S6: data leaves by the policy that is granted, and while it is");
    }
    if ["snapshot", "receive"].contains(&step) {
        must(!run.locked, "users work while data is masked");
    }
    if step == "undo" {
        let fenced = before.data.row.as_ref().is_some_and(|r| r.state != State::Free);
        must(fenced, "S3: an undo point is made only behind the fence");
    }
    if step.starts_with("verify") {
        must(run.locked, "S3: checks run while still locked");
    }
}

fn has_finalizer(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == FINALIZER))
}

/// The run as it stands.
struct Run {
    kind: Kind,
    uid: String,
    phase: Phase,
    step: String,
    locked: bool,
    epoch: i64,
}

impl Run {
    fn of(cluster: &Cluster) -> Self {
        let promotion = cluster.run().map(|o| (**o).clone()).unwrap_or_default();
        let environment = cluster.get("environments", NAMESPACE, "production").map(|o| (**o).clone()).unwrap_or_default();
        let uid = text(&promotion, "/metadata/uid").to_owned();
        let holder = text(&environment, "/status/lock/holder/uid");
        Self {
            kind: cluster.script.kind,
            phase: phase(&promotion),
            step: text(&promotion, "/status/step").to_owned(),
            epoch: environment["status"]["lock"]["epoch"].as_i64().unwrap_or(0),
            locked: !uid.is_empty() && holder == uid,
            uid,
        }
    }

    /// Whether what users have may change: forwards behind the undo point and a proof, backwards always.
    fn may_change(&self, cluster: &Cluster) -> bool {
        let undo = cluster.data.row.as_ref().is_some_and(|r| {
            r.state == State::Open
                && r.holder.as_deref() == Some(&self.uid)
                && r.undo.as_ref().is_some_and(|u| cluster.data.databases.contains_key(u))
        });
        let back = matches!(self.phase, Phase::RollingBack | Phase::NeedsHuman);
        back || (undo && self.is_ready(cluster) && matches!(self.phase, Phase::Promoting | Phase::Loading | Phase::Verifying))
    }

    /// Whether there is what a run needs before users are locked out: a proven backup, or what the source has handed over.
    fn is_ready(&self, cluster: &Cluster) -> bool {
        match self.kind {
            Kind::Alignment => cluster.data.exchange.contains_key(&format!("masked-{}", self.uid)),
            Kind::Promotion | Kind::Restore => is_proven(cluster),
        }
    }
}

/// Whether the source grants its data by the policy as it stands.
fn is_granted(cluster: &Cluster) -> bool {
    let granted = cluster.get("environments", SOURCE, "staging").map(|e| e["spec"]["grants"][0]["maskingPolicy"]["hash"].clone());
    let policy = cluster.get("maskingpolicies", SOURCE, "shop").and_then(|p| serde_json::from_value(p["spec"].clone()).ok());
    policy.is_some_and(|spec| granted == Some(json!(mask::hash(&spec))))
}

/// Whether a restore has shown that this run's backup is good.
fn is_proven(cluster: &Cluster) -> bool {
    let proven = |b: &std::sync::Arc<Value>| cluster.data.proven.iter().any(|s| s == text(b, "/status/snapshot"));
    cluster.all("environmentbackups", NAMESPACE).any(|b| b["status"]["phase"] == "Completed" && proven(b))
}

fn phase(promotion: &Value) -> Phase {
    serde_json::from_value(promotion["status"]["phase"].clone()).unwrap_or_default()
}

fn environment(before: &Cluster, old: &Value, new: &Value, run: &Run, must: &mut impl FnMut(bool, &str)) {
    let epoch = |o: &Value| o["status"]["lock"]["epoch"].as_i64().unwrap_or(0);
    must(epoch(new) >= epoch(old), "S1: the epoch only grows");
    let (had, has) = (text(old, "/status/lock/holder/uid"), text(new, "/status/lock/holder/uid"));
    if had.is_empty() && !has.is_empty() {
        must(has == before.acting, "S3: a run takes the lock for itself alone");
        must(epoch(new) > epoch(old), "S1: each lock has an epoch of its own");
        must(before.data.row.as_ref().is_none_or(|r| r.epoch < epoch(new)), "S1: the epoch is newer than any in the data");
        must(run.is_ready(before), "S3: the backup is proven, or what comes is there, before the lock is taken");
        must(run.phase == Phase::Locked, "S3: the phase says Locked before the lock is taken");
        must(text(old, "/status/active/uid") == has, "S3: the lock is taken by whose turn it is");
    } else if had != has {
        must(has.is_empty(), "S3: the lock does not go from hand to hand");
        must(had == before.acting, "S3: only the holder unlocks");
        must(run.step.ends_with("unlock"), "S3: the lock goes at its step");
        let given_up = run.step.starts_with("give-up");
        must(given_up || held_back(before, had).is_empty(), "S4: nothing is closed or stopped when the lock goes");
        let given_back = before.data.row.as_ref().is_none_or(|r| r.holder.is_none());
        must(given_up || given_back, "S4: the database is given back when the lock goes");
    }
    let (had, has) = (text(old, "/status/active/uid"), text(new, "/status/active/uid"));
    if had != has {
        must(had.is_empty() || had == before.acting || before.run().is_none(), "S3: only whose turn it is gives it up");
        must(has.is_empty() || has == before.acting, "S3: nobody takes a turn for another");
    }
}

fn promotion(old: &Value, new: &Value, after: &Cluster, run: &Run, must: &mut impl FnMut(bool, &str)) {
    let (from, to) = (phase(old), phase(new));
    must(from.may_become(to), &format!("S12: {from} does not become {to}"));
    if to == Phase::Locked && from != to && run.kind != Kind::Alignment {
        let hash = &new["status"]["planHash"];
        let approved = new["spec"]["approvals"].as_array().into_iter().flatten();
        let by_another = approved.filter(|a| a["planHash"] == *hash && a["username"] != new["spec"]["requestedBy"]["username"]);
        must(by_another.count() > 0, "S8: what locks was approved by another, as it is");
    }
    if to == Phase::Loading && from != to {
        must(run.locked, "S3: nothing is loaded but under this run's lock");
        let closed = after.data.row.as_ref().is_some_and(|r| r.state == State::Fenced && r.holder.as_deref() == Some(&run.uid));
        must(closed, "S2: nothing is loaded but behind the fence, where today's data is kept");
    }
    if matches!(to, Phase::Promoting) && from != to {
        must(run.may_change_soon(after), "S3: nothing is promoted before the undo point is there");
    }
    if to.is_terminal() && from != to {
        must(!run.locked, "S4: an ended run holds no lock");
        let active = after.get("environments", NAMESPACE, "production").map(|e| text(e, "/status/active/uid") == run.uid);
        must(active != Some(true), "S4: an ended run has no turn");
        // Who gives a rollback up breaks glass: stopped workloads and the copies of the earlier configuration stay.
        let given_up = to == Phase::Abandoned;
        let mut held = held_back(after, &run.uid);
        held.retain(|name| {
            !given_up || after.get("services", NAMESPACE, name).is_some_and(|s| s["spec"]["selector"][labels::PAGE].is_string())
        });
        must(held.is_empty(), &format!("S4: an ended run leaves nothing closed or stopped: {held:?}"));
        let mut left = left_over(after, &run.uid);
        left.retain(|what| !given_up || !what.starts_with("configmaps"));
        must(left.is_empty(), &format!("S4: an ended run leaves nothing behind: {left:?}"));
        // What a restore undoes was brought by a promotion: it is back, or as the promotion left it. One of data alone is
        // judged by its own test.
        let undone = new["spec"]["from"]["undoOf"].is_object();
        let planned = if undone { to != Phase::Completed } else { to == Phase::Completed };
        let alone = ["backup", "snapshot"].iter().any(|from| new["spec"]["from"][*from].is_object());
        let mix = if alone || given_up { Vec::new() } else { mix(after, planned) };
        must(mix.is_empty(), &format!("S5: the target is as planned or as before, never a mix: {mix:?}"));
    }
}

impl Run {
    fn may_change_soon(&self, cluster: &Cluster) -> bool {
        cluster.data.row.as_ref().is_some_and(|r| r.state == State::Open && r.undo.is_some()) && self.locked
    }
}

/// Services and workloads that still carry what this run found on them.
pub fn held_back(cluster: &Cluster, uid: &str) -> Vec<String> {
    let objects = ["services", "deployments", "statefulsets", "cronjobs", "scaledobjects"]
        .into_iter()
        .flat_map(|r| cluster.all(r, NAMESPACE));
    objects
        .filter(|o| {
            let found: Option<Found<Value>> =
                serde_json::from_str(o["metadata"]["annotations"][FOUND].as_str().unwrap_or("")).ok();
            found.is_some_and(|f| f.run == uid) || o["spec"]["selector"].get(labels::PAGE).is_some_and(Value::is_string)
        })
        .map(|o| text(o, "/metadata/name").to_owned())
        .collect()
}

/// Whether an object is a copy of configuration that an undo point, kept by the Environment or of a run under way, needs.
pub fn is_kept(cluster: &Cluster, object: &Value) -> bool {
    let of = text(object, "/metadata/labels/lockkeeper.dev~1run");
    let environment = cluster.get("environments", NAMESPACE, "production").map(|o| (**o).clone()).unwrap_or_default();
    let kept = environment["status"]["kept"].as_array().cloned().unwrap_or_default();
    object["metadata"]["annotations"]["lockkeeper.dev/copy"] == "prior" && kept.iter().any(|k| text(k, "/run/uid") == of)
}

/// What was made for a run and is still there.
pub fn left_over(cluster: &Cluster, uid: &str) -> Vec<String> {
    cluster
        .objects
        .iter()
        .filter(|((resource, ..), o)| resource != "environmentbackups" && o["metadata"]["labels"][labels::RUN] == *uid)
        .filter(|(_, o)| !is_kept(cluster, o))
        // A pod over there whose Job is gone goes by the garbage collector's hand: that it is gone in the end is judged there.
        .filter(|((resource, namespace, _), _)| resource != "pods" || namespace != SOURCE)
        .map(|(k, _)| format!("{} {}", k.0, k.2))
        .collect()
}

/// What is neither as planned (`new`) nor as before.
pub fn mix(cluster: &Cluster, new: bool) -> Vec<String> {
    let mut out = Vec::new();
    for (resource, name, image, at) in [
        ("deployments", "unleash", "unleash", "/spec/template/spec/containers/0/image"),
        ("deployments", "edge", "edge", "/spec/template/spec/containers/0/image"),
        ("deployments", "edge", "warm", "/spec/template/spec/initContainers/0/image"),
        ("statefulsets", "store", "store", "/spec/template/spec/containers/0/image"),
        ("cronjobs", "digest", "digest", "/spec/jobTemplate/spec/template/spec/containers/0/image"),
    ] {
        let found = cluster.get(resource, NAMESPACE, name).map(|d| text(d, at).to_owned());
        let before = format!("registry.example/{image}:6.3.0");
        let planned = format!("registry.example/{image}@{}", super::fixture::digest(&format!("registry.example/{image}:7.4.1")));
        if found.as_deref() != Some(if new { planned.as_str() } else { before.as_str() }) {
            out.push(format!("{resource} {name}: {found:?}"));
        }
    }
    let scaler = cluster.get("scaledobjects", NAMESPACE, "unleash").map(|s| s["metadata"]["annotations"].clone());
    if scaler.is_none_or(|a| a.as_object().is_some_and(|a| !a.is_empty())) {
        out.push("ScaledObject unleash".into());
    }
    for (name, suspended) in super::fixture::INTEGRATIONS.into_iter().chain([("digest", false)]) {
        let found = cluster.get("cronjobs", NAMESPACE, name).map(|c| c["spec"]["suspend"].clone());
        if found != Some(json!(suspended)) {
            out.push(format!("CronJob {name}: suspend {found:?}"));
        }
    }
    for (resource, name, replicas) in [
        ("deployments", "unleash", 2),
        ("deployments", "edge", 2),
        ("deployments", "metrics", 1),
        ("deployments", "webhooks", 1),
        ("statefulsets", "store", 2),
    ] {
        let found = cluster.get(resource, NAMESPACE, name).map(|d| d["spec"]["replicas"].clone());
        if found != Some(json!(replicas)) {
            out.push(format!("replicas of {name}: {found:?}"));
        }
        if name == "webhooks" {
            continue; // no user comes to it
        }
        let wanted = super::fixture::service(name);
        let same = |s: &std::sync::Arc<Value>| ["selector", "ports"].iter().all(|f| s["spec"][f] == wanted["spec"][f]);
        if !cluster.get("services", NAMESPACE, name).is_some_and(same) {
            out.push(format!("Service {name}"));
        }
    }
    let data = cluster.get("configmaps", NAMESPACE, "unleash-config").map(|c| c["data"].clone()).unwrap_or_default();
    let url = format!("https://{NAMESPACE}.example");
    let aligns = cluster.script.kind == Kind::Alignment;
    let wanted = match (new, aligns) {
        (false, _) => json!({"BASE_URL": url, "LOG_LEVEL": "info", "OLD": "1"}),
        (true, false) => json!({"BASE_URL": url, "LOG_LEVEL": "debug", "NEW": "1"}),
        (true, true) => json!({"BASE_URL": url, "LOG_LEVEL": "debug"}),
    };
    if data != wanted {
        out.push(format!("ConfigMap unleash-config: {data}"));
    }
    let wanted = if new { Some("all") } else { aligns.then_some("none") };
    let routes = cluster.get("configmaps", NAMESPACE, "edge-config").map(|c| text(c, "/data/routes").to_owned());
    if routes.as_deref() != wanted {
        out.push(format!("ConfigMap edge-config: {routes:?}"));
    }
    let rows = cluster.data.rows(super::data::LIVE);
    let migrated = rows.iter().filter(|r| r.starts_with("migrated")).count();
    let wanted = match (new, aligns) {
        (true, true) => rows == MASKED,
        (false, true) => rows == ["schema-1", "feature-a"],
        (new, false) => migrated == if new { 2 } else { 0 },
    };
    if !wanted {
        out.push(format!("rows {rows:?}"));
    }
    out
}
