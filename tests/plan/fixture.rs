//! What a decision rests on, owned, and what becomes of it when a decision is carried out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::ResourceExt;
use lockkeeper::{
    api::{DownAlignment, Environment, EnvironmentBackup, Promotion, PromotionStatus, labels},
    plan::{
        Decision, Effect, PatchKind, Resource, promotion,
        queue::Waiting,
        world::{Elsewhere, Gate, JobState, JobView, PolicyView, Run, Settings, Side, World},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::merge::merge;

pub const UID: &str = "11111111-2222-3333-4444-555555555555";
pub const NAMESPACE: &str = "shop-production";

/// All that a Promotion's decision rests on.
#[derive(Clone)]
pub struct Seen {
    pub settings: Settings,
    pub run: Promotion,
    /// What is decided on, where it is not the Promotion.
    pub alignment: Option<DownAlignment>,
    pub policy: Option<PolicyView>,
    pub elsewhere: Elsewhere,
    pub child: Option<DownAlignment>,
    pub target: Option<Environment>,
    pub others: Vec<String>,
    pub source: Option<Environment>,
    pub target_side: Side,
    pub source_side: Side,
    pub jobs: BTreeMap<String, JobView>,
    pub backup: Option<EnvironmentBackup>,
    pub may_promote: bool,
    pub approvers: BTreeMap<String, bool>,
    pub missing_policies: Vec<String>,
    pub queue: Vec<Waiting>,
    pub refused: Option<String>,
    pub terminating: bool,
    pub now: Timestamp,
    version: u64,
}

pub fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the fixture is well formed")
}

pub fn deployment(name: &str, image: &str) -> Deployment {
    of(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": image}]}},
        },
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    }))
}

pub fn pod(name: &str, app: &str, image: &str, ready: bool) -> Pod {
    let repository = image.split(['@', ':']).next().unwrap_or_default();
    let digest = image.split('@').nth(1).map_or_else(|| digest(image), str::to_owned);
    of(json!({
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "labels": {"app": app},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": "rs"}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{
                "name": app, "image": image, "imageID": format!("{repository}@{digest}"), "ready": ready, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    }))
}

pub fn digest(image: &str) -> String {
    format!("sha256:{}", blake3::hash(image.as_bytes()).to_hex())
}

pub fn config_map(name: &str, data: Value) -> ConfigMap {
    of(json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"}, "data": data}))
}

pub fn service(name: &str) -> Service {
    of(json!({
        "metadata": {"name": name, "uid": format!("uid-svc-{name}"), "resourceVersion": "1"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.1.1", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    }))
}

fn modules() -> Value {
    json!([{
        "name": "flags", "workloads": [{"kind": "Deployment", "name": "web"}],
        "configuration": [{"configMap": {"name": "web-config"}, "keep": ["URL"]}], "migration": {"command": ["migrate"]},
    }])
}

pub fn production() -> Environment {
    of(json!({
        "metadata": {"name": "production", "namespace": NAMESPACE, "uid": "uid-production", "resourceVersion": "1", "generation": 1},
        "spec": {
            "tier": "Production", "promotesFrom": [{"namespace": "shop-staging", "name": "staging"}],
            "modules": [modules()[0], {"name": "metrics", "workloads": [{"kind": "Deployment", "name": "metrics"}]}],
            "data": [{"name": "db", "postgres": {"connectionSecret": {"name": "db"}}}],
            "backups": {"repository": {"volume": {"claim": {"name": "backups"}}}, "passwordSecret": {"name": "key"}},
            "verification": [{"name": "health", "http": {"url": "http://web/health"}}],
        },
    }))
}

pub fn promotion() -> Promotion {
    of(json!({
        "metadata": {
            "name": "r-1", "namespace": NAMESPACE, "uid": UID, "resourceVersion": "1", "generation": 1,
            "creationTimestamp": "2026-11-22T20:00:00Z",
        },
        "spec": {
            "environment": {"name": "production"}, "from": {"namespace": "shop-staging", "name": "staging"}, "modules": ["flags"],
            "requestedBy": {"username": "alice"},
        },
    }))
}

impl Seen {
    /// Both environments at rest, and a Promotion just asked for.
    pub fn new() -> Self {
        let side = |version: &str, data: Value| Side {
            deployments: vec![
                deployment("web", &format!("r.example/web:{version}")),
                deployment("metrics", "r.example/metrics:1"),
            ],
            pods: ["web", "metrics"]
                .into_iter()
                .flat_map(|name| {
                    let image = if name == "web" { format!("r.example/web:{version}") } else { "r.example/metrics:1".to_owned() };
                    [1, 2].map(|i| pod(&format!("{name}-{i}"), name, &image, true))
                })
                .collect(),
            config_maps: vec![config_map("web-config", data)],
            services: vec![service("web"), service("metrics")],
            endpoints: ["web", "metrics"].into_iter().map(|n| (n.to_owned(), vec![format!("{n}-1"), format!("{n}-2")])).collect(),
            claims: vec!["backups".into()],
            ..Side::default()
        };
        let staging: Environment = of(json!({
            "metadata": {"name": "staging", "namespace": "shop-staging", "uid": "uid-staging", "resourceVersion": "1"},
            "spec": {"tier": "Staging", "modules": modules()},
        }));
        Self {
            settings: Settings {
                agent_image: "agent:1".into(),
                namespace: "lockkeeper".into(),
                service_account: "lockkeeper".into(),
            },
            run: promotion(),
            alignment: None,
            policy: None,
            elsewhere: Elsewhere::default(),
            child: None,
            target: Some(production()),
            others: Vec::new(),
            source: Some(staging),
            target_side: side("1", json!({"URL": "p", "LEVEL": "info", "OLD": "1"})),
            source_side: side("2", json!({"URL": "s", "LEVEL": "debug", "NEW": "1"})),
            jobs: BTreeMap::new(),
            backup: None,
            may_promote: true,
            approvers: [("alice", true), ("bob", true), ("eve", false)].map(|(n, m)| (n.to_owned(), m)).into(),
            missing_policies: Vec::new(),
            queue: Vec::new(),
            refused: None,
            terminating: false,
            now: "2026-11-22T20:00:10Z".parse().expect("a time"),
            version: 10,
        }
    }

    pub fn world(&self) -> World<'_> {
        World {
            settings: &self.settings,
            run: self.alignment.as_ref().map_or(Run::Promotion(&self.run), Run::Alignment),
            target: self.target.as_ref(),
            others: &self.others,
            source: self.source.as_ref(),
            target_side: &self.target_side,
            source_side: &self.source_side,
            jobs: &self.jobs,
            backup: self.backup.as_ref(),
            undone: None,
            policy: self.policy.as_ref(),
            elsewhere: self.alignment.as_ref().map(|_| &self.elsewhere),
            child: self.child.as_ref(),
            requester_may_promote: self.may_promote,
            approvers: &self.approvers,
            missing_policies: &self.missing_policies,
            queue: &self.queue,
            refused: self.refused.as_deref(),
            terminating: self.terminating,
        }
    }

    pub fn plan(&self) -> Decision<PromotionStatus> {
        promotion::plan(&self.world(), self.now)
    }

    pub fn status(&self) -> PromotionStatus {
        self.world().status()
    }

    /// Carries out a decision, as the API server would. False: there was nothing to do.
    pub fn carry_out(&mut self, decision: &Decision<PromotionStatus>) -> bool {
        self.version += 1;
        let version = self.version.to_string();
        match decision {
            Decision::Wait(_) => return false,
            Decision::Advance(status) => {
                // What is written must be what is read back.
                let written = serde_json::to_value(status).expect("a status is JSON");
                let (status, metadata) = match &mut self.alignment {
                    Some(run) => (&mut run.status, &mut run.metadata),
                    None => (&mut self.run.status, &mut self.run.metadata),
                };
                *status = Some(of(written));
                metadata.resource_version = Some(version);
            }
            Decision::Perform(effect) => self.perform(effect, version),
        }
        true
    }

    fn perform(&mut self, effect: &Effect, version: String) {
        let side = &mut self.target_side;
        let finalizers = match &mut self.alignment {
            Some(run) => run.finalizers_mut(),
            None => self.run.finalizers_mut(),
        };
        match effect {
            Effect::AddFinalizer => finalizers.push(lockkeeper::api::FINALIZER.to_owned()),
            Effect::RemoveFinalizer => finalizers.clear(),
            Effect::In { namespace, effect } => {
                assert_ne!(namespace, NAMESPACE, "what is done at home needs no other word");
                let now = self.now;
                self.elsewhere.perform(effect, now);
            }
            Effect::SetEnvironment { resource_version, status, .. } => {
                let target = self.target.as_mut().expect("an Environment whose status is written is there");
                assert_eq!(Some(resource_version), target.metadata.resource_version.as_ref(), "written as it was read");
                target.status = Some((**status).clone());
                target.metadata.resource_version = Some(version);
            }
            Effect::Create { resource, manifest } => {
                let mut object = (**manifest).clone();
                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                object["metadata"]["uid"] = json!(format!("uid-{name}"));
                object["metadata"]["resourceVersion"] = json!(version);
                object["metadata"]["generation"] = json!(1);
                match resource {
                    Resource::Deployment => side.deployments.push(of(object)),
                    Resource::StatefulSet | Resource::CronJob | Resource::ScaledObject => panic!("a run makes none"),
                    Resource::ConfigMap => side.config_maps.push(of(object)),
                    Resource::Service => {
                        object["spec"]["clusterIP"] = json!("10.0.1.2");
                        side.services.push(of(object));
                    }
                    Resource::Job => drop(self.jobs.insert(name.clone(), job(&object, self.now))),
                    Resource::EnvironmentBackup => self.backup = Some(of(object)),
                    Resource::DownAlignment => self.child = Some(of(object)),
                    Resource::Pod | Resource::Promotion | Resource::EnvironmentRestore => panic!("a run makes no {resource:?}"),
                }
            }
            Effect::Patch { resource, name, kind, patch } => {
                let strategic = *kind == PatchKind::Strategic;
                match resource {
                    Resource::Deployment => change(&mut side.deployments, name, patch, strategic, &version),
                    Resource::StatefulSet => change(&mut side.stateful_sets, name, patch, strategic, &version),
                    Resource::CronJob => change(&mut side.cron_jobs, name, patch, strategic, &version),
                    Resource::Service => change(&mut side.services, name, patch, strategic, &version),
                    Resource::ConfigMap => change(&mut side.config_maps, name, patch, strategic, &version),
                    Resource::Pod => {
                        let gates = self.jobs.values_mut().filter_map(|j| j.gate.as_mut());
                        gates.filter(|g| g.pod == *name).for_each(|g| g.open = true);
                    }
                    other => panic!("a run patches no {other:?}"),
                }
            }
            Effect::Delete { resource, name, .. } => match resource {
                Resource::Deployment => side.deployments.retain(|o| o.name_any() != *name),
                Resource::StatefulSet | Resource::CronJob | Resource::ScaledObject => panic!("a run deletes none"),
                Resource::Service => side.services.retain(|o| o.name_any() != *name),
                Resource::ConfigMap => side.config_maps.retain(|o| o.name_any() != *name),
                Resource::Pod => side.pods.retain(|o| o.name_any() != *name),
                Resource::Job => {
                    side.cron_runs.retain(|o| o.name_any() != *name);
                    self.jobs.remove(name);
                }
                Resource::EnvironmentBackup => self.backup = None,
                Resource::DownAlignment => self.child = None,
                Resource::Promotion | Resource::EnvironmentRestore => panic!("a run deletes no run"),
            },
        }
    }
}

/// What is carried out in the source's namespace.
trait Carries {
    fn perform(&mut self, effect: &Effect, now: Timestamp);
}

impl Carries for Elsewhere {
    fn perform(&mut self, effect: &Effect, now: Timestamp) {
        match effect {
            Effect::Create { resource, manifest } => {
                let mut object = (**manifest).clone();
                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                assert_eq!(object["metadata"]["namespace"], "shop-staging", "made where it is needed");
                object["metadata"]["uid"] = json!(format!("uid-{name}"));
                match resource {
                    Resource::Job => drop(self.jobs.insert(name, job(&object, now))),
                    Resource::ConfigMap => self.config_maps.push(of(object)),
                    other => panic!("no {other:?} is made in the source"),
                }
            }
            Effect::Delete { resource: Resource::Job, name, .. } => drop(self.jobs.remove(name)),
            Effect::Delete { resource: Resource::ConfigMap, name, .. } => self.config_maps.retain(|o| o.name_any() != *name),
            other => panic!("not in the source: {}", other.describe()),
        }
    }
}

fn job(object: &Value, now: Timestamp) -> JobView {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let containers = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
    JobView {
        name: text(&object["metadata"]["name"]),
        uid: text(&object["metadata"]["uid"]),
        step: text(&object["metadata"]["labels"][labels::STEP]),
        state: JobState::Running,
        created_at: Some(now),
        deleting: false,
        exit_code: None,
        disruption: None,
        exit_reason: None,
        outcome: None,
        progress: None,
        trouble: None,
        gate: object["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .is_some_and(|v| v.iter().any(|v| v["name"] == "gate"))
            .then(|| Gate { pod: text(&object["metadata"]["name"]), resource_version: "1".into(), open: false }),
        pulled: containers.iter().map(|c| (text(&c["name"]), false)).collect(),
        log_tail: None,
    }
}

fn change<T>(objects: &mut [T], name: &str, patch: &Value, strategic: bool, version: &str)
where
    T: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    let object = objects.iter_mut().find(|o| o.name_any() == name).expect("what is patched is there");
    let mut value = serde_json::to_value(&*object).expect("an object is JSON");
    assert_eq!(patch["metadata"]["resourceVersion"], value["metadata"]["resourceVersion"], "a patch is guarded");
    merge(&mut value, patch, strategic);
    value["metadata"]["resourceVersion"] = json!(version);
    value["metadata"]["generation"] = json!(value["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
    *object = of(value);
}
