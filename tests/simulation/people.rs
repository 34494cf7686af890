//! What goes wrong in a scenario, and what people do meanwhile: ask, approve, cancel, delete, write through the application.

use serde_json::json;

use super::{
    cluster::{Cluster, Key, key, seconds, text},
    fixture::{NAMESPACE, RESTORE, RUN, service},
};

/// What the new image does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Image {
    #[default]
    Good,
    Crashes,
    NeverReady,
}

/// What a person does once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deed {
    #[default]
    Nothing,
    Cancel,
    Delete,
    /// Deletes the Job of the step at hand, once the migration has begun.
    DeleteJob,
    /// Takes the lock away.
    TakeLock,
    /// Mends what the rollback failed of, and asks to try again.
    Resume,
    /// Gives the rollback up.
    Unlock,
}

/// A scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    pub image: Image,
    pub migration_fails: bool,
    pub check_fails: bool,
    pub backup_fails: bool,
    pub rollback_fails: bool,
    /// What a person does when the run is at a step whose name begins so.
    pub deed: Deed,
    pub at_step: &'static str,
    pub acted: bool,
    /// How many more times another program applies its own Service, pod count, image and configuration while we are locked.
    pub foreign: u32,
    /// Whether the run is a restore, after the promotion.
    pub restores: bool,
}

fn run(cluster: &Cluster) -> Key {
    let (resource, name) = if cluster.script.restores { ("environmentrestores", RESTORE) } else { ("promotions", RUN) };
    key(resource, NAMESPACE, name)
}

/// People take a look and act.
pub fn step(cluster: &mut Cluster) {
    let run = run(cluster);
    if application_is_reached(cluster) {
        cluster.data.write();
    }
    foreign_hands(cluster);
    let Some(promotion) = cluster.objects.get(&run).cloned() else { return };
    // Who asked for a restore accepts what it loses, once he has been told.
    let taken = &promotion["status"]["takenAt"];
    if taken.is_string() && promotion["spec"]["acknowledgeDataLossSince"] != *taken {
        cluster.edit(&run, |o| o["spec"]["acknowledgeDataLossSince"] = taken.clone());
    }
    let hash = text(&promotion, "/status/planHash").to_owned();
    if !hash.is_empty() && promotion["spec"]["approvals"][0]["planHash"] != *hash && cluster.script.at_step != "unapproved" {
        cluster.edit(&run, |o| o["spec"]["approvals"] = json!([{"username": "bob", "planHash": hash}]));
    }
    act(cluster);
}

/// Another program applies what it has written down, as `kubectl apply` would: its own fields, merged into what is there.
fn foreign_hands(cluster: &mut Cluster) {
    let environment = cluster.get("environments", NAMESPACE, "production");
    let locked = environment.is_some_and(|e| e["status"]["lock"]["holder"].is_object());
    let given_back = cluster.data.row.as_ref().is_none_or(|r| r.holder.is_none());
    if cluster.script.foreign == 0 || !locked || given_back {
        return;
    }
    cluster.script.foreign -= 1;
    let (version, applied) =
        (cluster.version, json!([{"manager": "shop-sync", "operation": "Apply", "time": seconds(cluster.now)}]));
    cluster.edit(&key("services", NAMESPACE, "unleash"), |o| {
        o["spec"]["selector"]["app"] = json!("unleash");
        o["spec"]["ports"] = service("unleash")["spec"]["ports"].clone();
        o["metadata"]["managedFields"] = applied.clone();
    });
    cluster.edit(&key("deployments", NAMESPACE, "unleash"), |o| {
        o["spec"]["replicas"] = json!(2);
        o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example/unleash:6.3.0");
        o["metadata"]["managedFields"] = applied.clone();
    });
    cluster.edit(&key("configmaps", NAMESPACE, "unleash-config"), |o| {
        o["data"]["LOG_LEVEL"] = json!("info");
        o["metadata"]["managedFields"] = applied;
    });
    cluster.foreign_writes += u64::from(cluster.version != version);
}

/// The scenario's one deed, as soon as its time has come.
pub fn act(cluster: &mut Cluster) {
    let run = run(cluster);
    let Some(promotion) = cluster.objects.get(&run).cloned() else { return };
    let step = text(&promotion, "/status/step");
    let there = match cluster.script.at_step {
        "needs a person" => promotion["status"]["phase"] == "NeedsHuman",
        "unapproved" => promotion["status"]["preflight"].is_array(),
        wanted => !wanted.is_empty() && step.starts_with(wanted),
    };
    if cluster.script.deed == Deed::Nothing || cluster.script.acted || !there {
        return;
    }
    match cluster.script.deed {
        Deed::Nothing => {}
        Deed::Cancel => {
            cluster.edit(&run, |o| o["spec"]["cancel"] = json!({"username": "carol", "reason": "not today"}));
            cluster.script.acted = true;
        }
        Deed::Delete => {
            let now = json!(seconds(cluster.now));
            cluster.edit(&run, |o| o["metadata"]["deletionTimestamp"] = now);
            cluster.script.acted = true;
        }
        Deed::TakeLock => {
            cluster.edit(&key("environments", NAMESPACE, "production"), |o| o["status"]["lock"]["holder"] = json!(null));
            cluster.script.acted = true;
        }
        Deed::Resume | Deed::Unlock => {
            let action = if cluster.script.deed == Deed::Resume { "Resume" } else { "Unlock" };
            cluster.script.rollback_fails &= action == "Unlock";
            cluster.edit(&run, |o| {
                o["spec"]["intervention"] = json!({"action": action, "username": "olga", "reason": "enough"});
            });
            cluster.script.acted = true;
        }
        Deed::DeleteJob if cluster.data.migrations == 0 => {}
        Deed::DeleteJob => {
            let label = step.replace('/', ".");
            let found = cluster
                .all("jobs", NAMESPACE)
                .find(|j| j["metadata"]["labels"]["lockkeeper.dev/step"] == *label)
                .map(|j| text(j, "/metadata/name").to_owned());
            if let Some(name) = found {
                cluster.remove(&key("jobs", NAMESPACE, &name));
                cluster.script.acted = true;
            }
        }
    }
}

/// Whether the application's Service leads to a pod of the application.
fn application_is_reached(cluster: &Cluster) -> bool {
    cluster.get("endpointslices", NAMESPACE, "unleash").is_some_and(|slice| {
        let ends = slice["endpoints"].as_array().cloned().unwrap_or_default();
        ends.iter().any(|e| text(e, "/targetRef/name").starts_with("unleash-"))
    })
}
