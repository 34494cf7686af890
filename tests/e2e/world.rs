//! What a story plays in: a Staging and a Production of its own, each a namespace under PodSecurity `restricted` with a
//! database and the small application; the next release in Staging, release 1 in Production.

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod, Service},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use lockkeeper::api::{Environment, Phase, Promotion};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    cluster::{self, apply, cluster, eventually, helm, kubectl, run, wait},
    database::Database,
    record::{Record, Seen},
    turn::{self, Turn},
};

/// Who asks.
pub const ALICE: &str = "alice";
/// Who says yes.
pub const BOB: &str = "bob";
/// How long a phase may take, machines being as slow as they are.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The two namespaces of a story. They go when this goes.
pub struct World {
    /// Namespace of Staging.
    pub staging: String,
    /// Namespace of Production.
    pub production: String,
    /// What happens in Production.
    pub record: Record,
    /// Production's database.
    pub database: Database,
    directory: TempDir,
    /// Given back last.
    _turn: Option<Turn>,
}

impl World {
    /// Makes both environments and waits until they are Ready. `release` is what Staging runs: `2`, `2-broken`.
    ///
    /// A release that goes wrong does so in Production only: in Staging its container is told by its environment, which does
    /// not travel, that it is the good one. How else would it have been approved?
    pub fn new(story: &str, release: &str) -> Self {
        Self::with_image(story, cluster().image(&format!("tiny:{release}")))
    }

    /// The same for a story that does to the operator or the kubelet what no other story would bear.
    pub fn alone(story: &str, release: &str) -> Self {
        Self::in_turn(story, cluster().image(&format!("tiny:{release}")), Some(turn::alone()))
    }

    /// One of several worlds of a story, which holds its turn itself.
    pub fn beside(story: &str, release: &str, _: &Turn) -> Self {
        Self::in_turn(story, cluster().image(&format!("tiny:{release}")), None)
    }

    /// The same with any image of the application in Staging.
    pub fn with_image(story: &str, image: &str) -> Self {
        Self::in_turn(story, image, Some(turn::together()))
    }

    fn in_turn(story: &str, image: &str, turn: Option<Turn>) -> Self {
        let begun = Instant::now();
        let (staging, production) = (format!("t-{story}-staging"), format!("t-{story}-production"));
        let doomed = [staging.clone(), production.clone()];
        let undo = scopeguard(move || remove(&doomed));
        thread::scope(|scope| {
            let other = scope.spawn(|| settle(&staging, "2", image, &["promoters"]));
            settle(&production, "1", cluster().image("tiny:1"), &["requesters", "approvers"]);
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let fill = |text: &str| filled(text, &[("STAGING", &staging), ("PRODUCTION", &production)]);
        let check = cluster().image("tiny:2");
        let described = [
            filled(include_str!("manifests/environment-staging.yaml"), &[("NAMESPACE", &staging)]),
            filled(&fill(include_str!("manifests/environment-production.yaml")), &[("NAMESPACE", &production), ("CHECK", check)]),
        ];
        apply(&fill(include_str!("manifests/configuration.yaml"))).expect("the ConfigMaps apply");
        apply(&described.join("\n---\n")).expect("the Environments apply");
        let world = Self {
            record: Record::of(&production),
            database: Database::of(&production),
            directory: tempfile::tempdir().expect("a directory"),
            staging,
            production,
            _turn: turn,
        };
        undo.keep();
        world.record.until(("Environment", "production"), "it is Ready", PATIENCE, ready);
        let staging: Api<Environment> = Api::namespaced(cluster::client(None), &world.staging);
        eventually("Staging's Environment is Ready", PATIENCE, || {
            let environment = wait(staging.get("staging")).map_err(|error| error.to_string())?;
            let seen = serde_json::to_value(&environment).expect("an object");
            if is_ready(&seen) { Ok(()) } else { Err(seen["status"]["conditions"].to_string()) }
        });
        eventually("the application answers", PATIENCE, || world.answers());
        println!("{story}: both environments are Ready after {:.1} s", begun.elapsed().as_secs_f64());
        world
    }

    /// How long the slow release's migration pauses in Production. The judges look away meanwhile: nobody promotes this.
    pub fn slow_for(&mut self, pause: &str) {
        let namespace = self.production.as_str();
        kubectl(&["-n", namespace, "set", "env", "deployment/tiny", &format!("TINY_SLOW={pause}")]).expect("it is told");
        kubectl(&["-n", namespace, "rollout", "status", "deployment/tiny", "--timeout=120s"]).expect("it is back");
        self.settle();
        self.record = Record::of(&self.production);
    }

    /// Waits until users that come now are led to the application as it is now: a rollout ends while the earlier pod still goes.
    pub fn settle(&self) {
        let namespace = self.production.as_str();
        let pods: Api<Pod> = Api::namespaced(cluster::client(None), namespace);
        eventually("the earlier pod is gone, and nobody is led to it", PATIENCE, || {
            let there = wait(pods.list(&ListParams::default().labels("app=tiny"))).map_err(|error| error.to_string())?;
            if there.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()) {
                return Err("it is going".into());
            }
            (0..20).try_for_each(|_| self.answers())
        });
    }

    /// Asks the application in Production once, over a new connection.
    fn answers(&self) -> Result<(), String> {
        let url = format!("http://{}", self.address());
        run(Command::new(&cluster().tiny).args(["check", "--url", &url]), "").map(drop)
    }

    /// Where the judges of this story keep their files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// An API of Production, as somebody.
    pub fn api<K>(&self, person: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        Api::namespaced(cluster::client(person), &self.production)
    }

    /// The address of the application's Service in Production, as the host reaches it.
    pub fn address(&self) -> String {
        let service = wait(self.api::<Service>(None).get("tiny")).expect("the Service");
        service.spec.and_then(|s| s.cluster_ip).expect("a clusterIP")
    }

    /// The application's Service in Production: where it leads.
    pub fn service(&self) -> Value {
        let spec = wait(self.api::<Service>(None).get("tiny")).expect("the Service").spec.expect("a spec");
        json!({"selector": spec.selector, "ports": spec.ports})
    }

    /// The application's Deployment in Production.
    pub fn deployment(&self) -> Deployment {
        wait(self.api::<Deployment>(None).get("tiny")).expect("the Deployment")
    }

    /// The application's configuration in Production.
    pub fn configuration(&self) -> Value {
        let found = wait(self.api::<ConfigMap>(None).get("tiny-config")).expect("the ConfigMap");
        json!({"data": found.data, "binaryData": found.binary_data})
    }

    /// Digests of the images that the application's pods run, as the node says.
    pub fn digests(&self, namespace: &str) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(cluster::client(None), namespace);
        let pods = wait(pods.list(&ListParams::default().labels("app=tiny"))).expect("pods");
        let mut digests: Vec<String> = pods
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .flat_map(|pod| pod.status.and_then(|s| s.container_statuses).unwrap_or_default())
            .filter_map(|container| container.image_id.split_once('@').map(|(_, digest)| digest.to_owned()))
            .collect();
        digests.sort();
        digests.dedup();
        digests
    }

    /// What must not change in Staging, whatever happens: the source is never written.
    pub fn source(&self) -> Value {
        let client = cluster::client(None);
        let deployment = wait(Api::<Deployment>::namespaced(client.clone(), &self.staging).get("tiny")).expect("the Deployment");
        let service = wait(Api::<Service>::namespaced(client.clone(), &self.staging).get("tiny")).expect("the Service");
        let configuration = wait(Api::<ConfigMap>::namespaced(client, &self.staging).get("tiny-config")).expect("the ConfigMap");
        json!([deployment.spec, service.spec, configuration.data])
    }

    /// Databases that other runs have left aside, and the Environment names.
    pub fn kept_by_others(&self, run: &Promotion) -> BTreeSet<String> {
        let kept = self.record.environment("production").status.unwrap_or_default().kept;
        kept.into_iter().filter(|k| Some(&k.run.uid) != run.metadata.uid.as_ref()).map(|k| k.database).collect()
    }

    /// A Promotion as alice would write it.
    pub fn promotion(&self, name: &str) -> Promotion {
        serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": name, "namespace": self.production},
            "spec": {
                "environment": {"name": "production"}, "from": {"namespace": self.staging, "name": "staging"},
                "requestedBy": {"username": ALICE},
            },
        }))
        .expect("a Promotion")
    }

    /// Alice asks.
    pub fn ask(&self, promotion: &Promotion) {
        wait(self.api::<Promotion>(Some(ALICE)).create(&PostParams::default(), promotion)).expect("alice may ask");
    }

    /// Waits for the plan, and that all is well before anyone is locked out.
    pub fn planned(&self, name: &str) -> String {
        self.record.until(("Promotion", name), "there is a plan, and preflight passed", PATIENCE, |seen| {
            let status = seen.read::<Promotion>().status?;
            let passed = !status.preflight.is_empty() && status.preflight.iter().all(|check| check.passed);
            status.plan_hash.filter(|_| passed)
        })
    }

    /// Bob says yes to the plan as it is now.
    pub fn approve(&self, name: &str) {
        let plan = self.planned(name);
        self.patch(BOB, name, &json!({"spec": {"approvals": [approval(BOB, &plan)]}})).expect("bob may approve");
    }

    /// Somebody's change to a Promotion.
    pub fn patch(&self, person: &str, name: &str, change: &Value) -> Result<Promotion, kube::Error> {
        wait(self.api::<Promotion>(Some(person)).patch(name, &PatchParams::default(), &Patch::Merge(change)))
    }

    /// Waits until the Promotion is in one of these phases, or past all hope of that.
    pub fn reaches(&self, name: &str, phases: &[Phase]) -> Promotion {
        let what = format!("it reaches {phases:?}");
        let promotion = self.record.until(("Promotion", name), &what, PATIENCE, |seen| {
            let promotion: Promotion = seen.read();
            let phase = promotion.status.as_ref()?.phase;
            (phases.contains(&phase) || phase.is_terminal() || phase == Phase::NeedsHuman).then_some(promotion)
        });
        let status = promotion.status.as_ref().expect("a status");
        assert!(phases.contains(&status.phase), "{name} is {}, not {phases:?}: {:?}", status.phase, status.failure);
        promotion
    }

    /// Waits until the Promotion does this step, or has done it.
    pub fn begins(&self, name: &str, step: &str) {
        self.record.until(("Promotion", name), &format!("step {step} begins"), PATIENCE, |seen| {
            let status = seen.read::<Promotion>().status?;
            status.steps.iter().any(|s| s.name == step && s.started_at.is_some()).then_some(())
        });
    }

    fn explain(&self) {
        println!("--- {} when the story failed", self.production);
        let shown: [&[&str]; 4] = [
            &[
                "-n",
                &self.production,
                "get",
                "pods,jobs,services,deployments,environments,promotions,environmentbackups",
                "-o",
                "wide",
            ],
            &["-n", &self.production, "get", "promotions", "-o", "yaml"],
            &["-n", &self.production, "get", "events", "--sort-by=.lastTimestamp"],
            &["-n", cluster::OPERATOR_NAMESPACE, "logs", "deployment/lockkeeper", "--tail=20"],
        ];
        for arguments in shown {
            println!("$ kubectl {}\n{}", arguments.join(" "), kubectl(arguments).unwrap_or_else(|why| why));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            self.explain();
        }
        remove(&[self.staging.clone(), self.production.clone()]);
    }
}

/// An entry of approval, with the one group that everybody is in.
pub fn approval(person: &str, plan: &str) -> Value {
    json!({"username": person, "groups": ["system:authenticated"], "planHash": plan})
}

fn ready(seen: &Seen) -> Option<()> {
    is_ready(&seen.object).then_some(())
}

fn is_ready(environment: &Value) -> bool {
    let conditions = environment["status"]["conditions"].as_array();
    conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Makes one namespace with all that is in it but the Environment: a server, the schema, the application, rights.
fn settle(namespace: &str, release: &str, image: &str, roles: &[&str]) {
    gone(namespace);
    let fill = |text: &str| filled(text, &[("NAMESPACE", namespace), ("POSTGRES", cluster().image("postgres:18"))]);
    apply(&fill(include_str!("../../demo/manifests/namespace.yaml"))).expect("the namespace applies");
    apply(&fill(include_str!("manifests/postgres.yaml"))).expect("the server applies");
    let people: Vec<Value> = roles.iter().map(|role| json!([role, [if *role == "approvers" { BOB } else { ALICE }]])).collect();
    let people = people.iter().map(|p| format!("people.{}={}", p[0].as_str().unwrap_or_default(), p[1])).collect::<Vec<_>>();
    let mut arguments = vec!["upgrade", "--install", "tiny", "charts/lockkeeper-environment", "-n", namespace];
    arguments.extend(people.iter().flat_map(|p| ["--set-json", p.as_str()]));
    helm(&arguments).expect("the chart installs");

    // The schema first: the application ends where it does not find it, and Kubernetes lets it wait longer each time.
    let schema = cluster().image(&format!("tiny:{release}"));
    let tiny = include_str!("../apps/tiny/tiny.yaml");
    let part = |kind: &str, image: &str| {
        let of_kind = |part: &&str| part.lines().any(|line| line == format!("kind: {kind}"));
        let part = tiny.split("\n---\n").find(of_kind).expect("a part of tiny.yaml");
        filled(part, &[("NAMESPACE", namespace), ("TINY", image)])
    };
    let database = Database::of(namespace);
    eventually("the database answers", PATIENCE, || database.query("postgres", "SELECT 1").map(drop));
    apply(&[part("Service", ""), part("Job", schema)].join("\n---\n")).expect("the migration applies");
    eventually("the schema is there", PATIENCE, || database.query("tiny", "SELECT version FROM schema_version").map(drop));
    let mut deployment = part("Deployment", image);
    if image != schema {
        let told = format!("        env:\n        - {{name: TINY_RELEASE, value: \"{release}\"}}\n");
        deployment = deployment.replacen("        env:\n", &told, 1);
    }
    apply(&deployment).expect("the application applies");
    kubectl(&["-n", namespace, "delete", "job", "tiny-migrate", "--wait=false"]).expect("the migration goes");
}

/// Waits until nothing is left of a namespace that an earlier story may have had.
pub fn gone(namespace: &str) {
    let namespaces: Api<Namespace> = Api::all(cluster::client(None));
    eventually(&format!("an earlier {namespace} is gone"), PATIENCE, || match wait(namespaces.get_opt(namespace)) {
        Ok(None) => Ok(()),
        Ok(Some(found)) if found.metadata.deletion_timestamp.is_some() => Err("it is going".into()),
        Ok(Some(_)) => {
            remove(&[namespace.to_owned()]);
            Err("it is there".into())
        }
        Err(error) => Err(error.to_string()),
    });
}

/// A text with its `@NAMES@` filled in.
pub fn filled(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// Asks for the end of namespaces and does not wait for it.
pub fn remove(namespaces: &[String]) {
    if env::var_os("LOCKKEEPER_E2E_KEEP").is_some() {
        return;
    }
    let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    if let Err(why) = kubectl(&[&["delete", "namespace", "--ignore-not-found", "--wait=false"][..], &names].concat()) {
        println!("{why}");
    }
}

/// Runs something at the end of a scope, unless told that it is not needed.
struct Guard<F: FnMut()>(Option<F>);

fn scopeguard<F: FnMut()>(action: F) -> Guard<F> {
    Guard(Some(action))
}

impl<F: FnMut()> Guard<F> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        if let Some(mut action) = self.0.take() {
            action();
        }
    }
}
