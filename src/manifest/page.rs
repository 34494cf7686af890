//! The maintenance page's Deployment, and the twin Services by which checks reach the real pods meanwhile.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    Owner,
    found::FoundService,
    job,
    task::{PAGE_DIR, Task, Verb},
};
use crate::{
    api::labels,
    plan::{Effect, Resource, world::Settings},
};

/// The port on which the page's pod listens. Every Service's targetPort becomes this while locked.
pub const PORT: u16 = 8503;

/// What clients are told to wait before they ask again, in seconds.
pub const RETRY_AFTER_SECONDS: u64 = 30;

/// The key of a ConfigMap that is an environment's own page.
pub const INDEX: &str = "index.html";

/// Name of the step label of the page.
pub const STEP: &str = "page";

/// Name of the page's Deployment.
pub fn name(owner: Owner<'_>) -> String {
    format!("lk-{}-page", owner.id())
}

/// The page's Deployment: one pod with no rights.
/// `own`: the ConfigMap with a page of the environment's own.
pub fn deployment(owner: Owner<'_>, settings: &Settings, task: &Task, own: Option<&str>) -> Effect {
    let name = name(owner);
    let mut labels_ = owner.labels(STEP);
    labels_.insert(labels::PAGE.to_owned(), owner.uid.to_owned());
    labels_.insert(labels::AGENT.to_owned(), task.verb.as_str().to_owned());
    let mounts: Vec<Value> = own.iter().map(|_| json!({"name": "page", "mountPath": PAGE_DIR, "readOnly": true})).collect();
    let mut volumes = job::agent_volumes(&[], None);
    // Preflight says where it is missing. Should it go after that, users still see a page.
    volumes.extend(own.map(|name| json!({"name": "page", "configMap": {"name": name, "optional": true}})));
    let mut container = job::agent_container(settings, task, &mounts);
    container["name"] = json!("page");
    container["ports"] = json!([{"containerPort": PORT, "name": "http"}]);
    container["readinessProbe"] =
        json!({"httpGet": {"path": "/lockkeeper-ready", "port": PORT}, "periodSeconds": 1, "failureThreshold": 3});
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": owner.metadata(&name, STEP),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {labels::PAGE: owner.uid}},
            "template": {
                "metadata": {"labels": labels_},
                "spec": job::restricted_pod(vec![container], volumes, "Always"),
            },
        },
    });
    Effect::Create { resource: Resource::Deployment, manifest: Box::new(manifest) }
}

/// The page's task.
pub fn task(mut task: Task) -> Task {
    task.verb = Verb::Page;
    task.port = Some(PORT);
    task.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
    task
}

/// Name of a Service's twin.
pub fn twin_name(owner: Owner<'_>, service: &str) -> String {
    let id = owner.id();
    let full = format!("{service}-lk-{id}");
    if full.len() <= 63 { full } else { format!("lk-{id}-{}", &blake3::hash(service.as_bytes()).to_hex()[..16]) }
}

/// The annotation on a twin that names its Service.
pub const TWIN_OF: &str = "lockkeeper.dev/twin-of";

/// A Service's twin: the original's selector and ports under another name. It exists only while locked.
pub fn twin(owner: Owner<'_>, service: &Service, found: &FoundService) -> Effect {
    let mut metadata = owner.metadata(&twin_name(owner, &service.name_any()), "twin");
    metadata["annotations"] = json!({TWIN_OF: service.name_any()});
    let ports: Vec<Value> = found
        .ports
        .iter()
        .map(|p| ServicePort { node_port: None, ..p.clone() })
        .map(|p| serde_json::to_value(p).unwrap_or_default())
        .collect();
    let manifest = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": found.selector, "ports": ports, "type": "ClusterIP"},
    });
    Effect::Create { resource: Resource::Service, manifest: Box::new(manifest) }
}

/// All names by which a Service is called, for a pod's `hostAliases`: a new name in DNS may be cached as absent for seconds.
pub fn alias(service: &str, namespace: &str, cluster_ip: &str) -> Value {
    json!({
        "ip": cluster_ip,
        "hostnames": [
            service, format!("{service}.{namespace}"), format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ],
    })
}
