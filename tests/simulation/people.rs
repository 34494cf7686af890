//! What goes wrong in a scenario, and what people do meanwhile: ask, approve, cancel, delete, write through the application.

use serde_json::json;

use super::{
    cluster::{Cluster, Key, key, seconds, text},
    fixture::{ALIGNMENT, NAMESPACE, RESTORE, RUN, SOURCE, service},
};

/// What kind of run a scenario is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Promotion,
    /// After the promotion.
    Restore,
    Alignment,
}

impl Kind {
    /// The run.
    pub fn key(self) -> Key {
        let (resource, name) = match self {
            Self::Promotion => ("promotions", RUN),
            Self::Restore => ("environmentrestores", RESTORE),
            Self::Alignment => ("downalignments", ALIGNMENT),
        };
        key(resource, NAMESPACE, name)
    }
}

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
    /// The source's owner takes the grant back.
    Revoke,
    /// Somebody changes the policy that was granted.
    ChangePolicy,
    /// The target names no exchange any more.
    CloseExchange,
    /// The source runs another image from now on.
    ChangeSource,
}

/// A scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    pub image: Image,
    pub migration_fails: bool,
    pub check_fails: bool,
    pub backup_fails: bool,
    pub rollback_fails: bool,
    /// What was written as the undo point cannot be read back.
    pub undo_fails: bool,
    /// What was loaded is not what had left the source.
    pub load_fails: bool,
    /// What a person does when the run is at a step whose name begins so.
    pub deed: Deed,
    pub at_step: &'static str,
    pub acted: bool,
    /// How many more times another program applies its own Service, pod count, image and configuration while we are locked.
    pub foreign: u32,
    /// Which run this is about.
    pub kind: Kind,
}

/// People take a look and act.
pub fn step(cluster: &mut Cluster) {
    let run = cluster.script.kind.key();
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
    let asks = cluster.script.kind != Kind::Alignment && !hash.is_empty();
    if asks && promotion["spec"]["approvals"][0]["planHash"] != *hash && cluster.script.at_step != "unapproved" {
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
    let Some(promotion) = cluster.run().cloned() else { return };
    let step = text(&promotion, "/status/step");
    let there = match cluster.script.at_step {
        "needs a person" => promotion["status"]["phase"] == "NeedsHuman",
        "unapproved" => promotion["status"]["preflight"].is_array(),
        wanted => !wanted.is_empty() && step.starts_with(wanted),
    };
    if cluster.script.deed == Deed::Nothing || cluster.script.acted || !there {
        return;
    }
    let deed = cluster.script.deed;
    if deed != Deed::DeleteJob || cluster.data.migrations > 0 {
        cluster.script.acted = perform(cluster, deed);
    }
}

/// Does a deed at once. Whether there was anything to do.
pub fn perform(cluster: &mut Cluster, deed: Deed) -> bool {
    let run = cluster.script.kind.key();
    let Some(seen) = cluster.run().cloned() else { return false };
    let (production, staging) = (key("environments", NAMESPACE, "production"), key("environments", SOURCE, "staging"));
    match deed {
        Deed::Nothing => return false,
        Deed::Cancel => cluster.edit(&run, |o| o["spec"]["cancel"] = json!({"username": "carol", "reason": "not today"})),
        // What nothing holds any more is gone at once.
        Deed::Delete => {
            let _ = cluster.delete(&run, &json!({}));
        }
        Deed::TakeLock => cluster.edit(&production, |o| o["status"]["lock"]["holder"] = json!(null)),
        Deed::Resume | Deed::Unlock => {
            let action = if deed == Deed::Resume { "Resume" } else { "Unlock" };
            cluster.script.rollback_fails &= action == "Unlock";
            cluster.edit(&run, |o| {
                o["spec"]["intervention"] = json!({"action": action, "username": "olga", "reason": "enough"});
            });
        }
        Deed::DeleteJob => {
            let label = text(&seen, "/status/step").replace('/', ".");
            let of_step = |j: &&std::sync::Arc<serde_json::Value>| j["metadata"]["labels"]["lockkeeper.dev/step"] == *label;
            let found = [NAMESPACE, SOURCE].into_iter().find_map(|namespace| {
                Some(key("jobs", namespace, text(cluster.all("jobs", namespace).find(of_step)?, "/metadata/name")))
            });
            let Some(job) = found else { return false };
            cluster.remove(&job);
        }
        Deed::Revoke => cluster.edit(&staging, |o| o["spec"]["grants"] = json!([])),
        Deed::ChangePolicy => {
            cluster.edit(&key("maskingpolicies", SOURCE, "shop"), |o| o["spec"]["keySecret"]["name"] = json!("other"))
        }
        Deed::CloseExchange => cluster.edit(&production, |o| o["spec"]["exchange"] = json!(null)),
        Deed::ChangeSource => cluster.edit(&key("deployments", SOURCE, "unleash"), |o| {
            o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example/unleash:7.5.0");
        }),
    }
    true
}

/// Whether the application's Service leads to a pod of the application.
fn application_is_reached(cluster: &Cluster) -> bool {
    cluster.get("endpointslices", NAMESPACE, "unleash").is_some_and(|slice| {
        let ends = slice["endpoints"].as_array().cloned().unwrap_or_default();
        ends.iter().any(|e| text(e, "/targetRef/name").starts_with("unleash-"))
    })
}
