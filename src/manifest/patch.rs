//! Patches, each guarded by the resourceVersion of what was read, so that nobody's change in between is overwritten.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort};
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::{
    Owner,
    found::{Found, FoundService, FoundWorkload},
    page,
};
use crate::{
    api::{
        annotations::{FOUND, GATE},
        labels,
    },
    plan::{Effect, PatchKind, Resource, release::Content, workload::Workload, world::Gate},
};

fn guard<T: ResourceExt>(object: &T) -> Value {
    json!({"resourceVersion": object.resource_version().unwrap_or_default()})
}

/// Sends a Service's traffic to the page, and writes down where it went before.
pub fn close_service(service: &Service, owner: Owner<'_>, epoch: i64) -> Effect {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    // A run that is gone may have left the Service closed: what it had found is what was there.
    let values = match Found::<FoundService>::read(service.annotations()) {
        Some(earlier) => earlier.values,
        None => FoundService { selector: selector.clone(), ports: spec.ports.unwrap_or_default() },
    };
    let to_page = BTreeMap::from([(labels::PAGE.to_owned(), owner.uid.to_owned())]);
    let ports: Vec<Value> = values.ports.iter().map(|p| with_target(p, json!(page::PORT))).collect();
    let found = Found { run: owner.uid.to_owned(), epoch, values };
    service_patch(service, Some(found.write()), &selector, &to_page, ports)
}

/// Sends a Service's traffic back to where it went.
pub fn open_service(service: &Service, found: &FoundService) -> Effect {
    let now = service.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
    let ports = found.ports.iter().map(|p| serde_json::to_value(p).unwrap_or_default()).collect();
    service_patch(service, None, &now, &found.selector, ports)
}

fn with_target(port: &ServicePort, target: Value) -> Value {
    let mut value = serde_json::to_value(port).unwrap_or_default();
    value["targetPort"] = target;
    value
}

fn service_patch(
    service: &Service,
    found: Option<String>,
    now: &BTreeMap<String, String>,
    next: &BTreeMap<String, String>,
    ports: Vec<Value>,
) -> Effect {
    // A merge patch keeps keys that it does not name: what is no longer selected by must be set to null.
    let mut selector: Map<String, Value> = now.keys().map(|k| (k.clone(), Value::Null)).collect();
    selector.extend(next.iter().map(|(k, v)| (k.clone(), json!(v))));
    let mut metadata = guard(service);
    metadata["annotations"] = json!({FOUND: found});
    patch(
        Resource::Service,
        service,
        PatchKind::Merge,
        json!({"metadata": metadata, "spec": {"selector": selector, "ports": ports}}),
    )
}

fn patch<T: ResourceExt>(resource: Resource, object: &T, kind: PatchKind, patch: Value) -> Effect {
    Effect::Patch { resource, name: object.name_any(), kind, patch: Box::new(patch) }
}

/// Lets a pod begin that waits for its turn. `addresses`: whose sessions in the databases are the run's own.
pub fn open_gate(gate: &Gate, epoch: i64, addresses: &[String]) -> Effect {
    let said = std::iter::once(epoch.to_string()).chain(addresses.iter().cloned()).collect::<Vec<_>>().join(" ");
    let metadata = json!({"resourceVersion": gate.resource_version, "annotations": {GATE: said}});
    Effect::Patch {
        resource: Resource::Pod,
        name: gate.pod.clone(),
        kind: PatchKind::Merge,
        patch: Box::new(json!({"metadata": metadata})),
    }
}

fn workload_patch(workload: Workload<'_>, kind: PatchKind, mut body: Value) -> Effect {
    body["metadata"]["resourceVersion"] = json!(workload.metadata().resource_version);
    Effect::Patch { resource: workload.resource(), name: workload.name(), kind, patch: Box::new(body) }
}

fn scaled(to: FoundWorkload) -> Value {
    match to {
        FoundWorkload::Replicas(replicas) => json!({"replicas": replicas}),
        FoundWorkload::Suspend(suspend) => json!({"suspend": suspend}),
    }
}

/// Stops a workload, and writes down how many pods it had, or whether it was suspended.
pub fn stop(workload: Workload<'_>, owner: Owner<'_>, epoch: i64) -> Effect {
    // A run that is gone may have left the workload stopped: what it had found is what was there.
    let values = Found::<FoundWorkload>::read(workload.annotations()).map_or_else(|| workload.scale(), |earlier| earlier.values);
    let found = Found { run: owner.uid.to_owned(), epoch, values };
    let stopped = match values {
        FoundWorkload::Replicas(_) => FoundWorkload::Replicas(0),
        FoundWorkload::Suspend(_) => FoundWorkload::Suspend(true),
    };
    workload_patch(
        workload,
        PatchKind::Merge,
        json!({"metadata": {"annotations": {FOUND: found.write()}}, "spec": scaled(stopped)}),
    )
}

/// Takes the record of what was found off a workload and puts that back. `None`: what is there now stays.
pub fn put_back(workload: Workload<'_>, found: Option<FoundWorkload>) -> Effect {
    let mut body = json!({"metadata": {"annotations": {FOUND: null}}});
    if let Some(found) = found {
        body["spec"] = scaled(found);
    }
    workload_patch(workload, PatchKind::Merge, body)
}

/// Sets a workload's images and, where it was stopped and starts now, puts back what was found.
pub fn deliver(workload: Workload<'_>, images: &BTreeMap<String, String>, start: Option<FoundWorkload>) -> Effect {
    let named = |list: &[k8s_openapi::api::core::v1::Container]| -> Vec<Value> {
        let wanted = list.iter().filter_map(|c| Some((&c.name, images.get(&c.name)?)));
        wanted.map(|(name, image)| json!({"name": name, "image": image})).collect()
    };
    let mut pod = Map::new();
    for (field, list) in [("initContainers", named(workload.init_containers())), ("containers", named(workload.containers()))] {
        if !list.is_empty() {
            pod.insert(field.to_owned(), Value::Array(list));
        }
    }
    let mut body = json!({"spec": start.map_or_else(|| json!({}), scaled)});
    if !pod.is_empty() {
        let template = json!({"template": {"spec": pod}});
        match workload {
            Workload::CronJob(_) => body["spec"]["jobTemplate"] = json!({"spec": template}),
            Workload::Deployment(_) | Workload::StatefulSet(_) => body["spec"]["template"] = template["template"].clone(),
        }
    }
    if start.is_some() {
        body["metadata"] = json!({"annotations": {FOUND: null}});
    }
    workload_patch(workload, PatchKind::Strategic, body)
}

/// Gives a ConfigMap the content of a release; keys that this environment keeps stay as they are.
pub fn configure(config_map: &ConfigMap, content: &Content, keep: &dyn Fn(&str) -> bool) -> Effect {
    let mut data: Map<String, Value> =
        config_map.data.iter().flatten().filter(|(k, _)| !keep(k)).map(|(k, _)| (k.clone(), Value::Null)).collect();
    let mut binary: Map<String, Value> =
        config_map.binary_data.iter().flatten().filter(|(k, _)| !keep(k)).map(|(k, _)| (k.clone(), Value::Null)).collect();
    data.extend(content.data.iter().map(|(k, v)| (k.clone(), json!(v))));
    binary.extend(content.binary_data.iter().map(|(k, v)| (k.clone(), json!(v))));
    let mut body = json!({"metadata": guard(config_map)});
    if !data.is_empty() {
        body["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        body["binaryData"] = Value::Object(binary);
    }
    patch(Resource::ConfigMap, config_map, PatchKind::Merge, body)
}
