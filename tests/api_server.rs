//! The definitions, the rules beside their fields, and the admission policies, as a real API server (etcd and kube-apiserver
//! of Kubernetes 1.35) holds them: by different users, in every way a request can come. Each test has namespaces of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "api_server/alignments.rs"]
mod alignments;
#[path = "api_server/approving.rs"]
mod approving;
#[path = "api_server/asking.rs"]
mod asking;
#[path = "api_server/bad_input.rs"]
mod bad_input;
#[path = "support/bad_input.rs"]
mod bad_input_entries;
#[path = "api_server/bounds.rs"]
mod bounds;
#[path = "api_server/cancelling.rs"]
mod cancelling;
#[path = "api_server/changing.rs"]
mod changing;
#[path = "api_server/definitions.rs"]
mod definitions;
#[path = "api_server/operator.rs"]
mod operator;
#[path = "api_server/repositories.rs"]
mod repositories;
#[path = "api_server/restores.rs"]
mod restores;
#[path = "api_server/rules.rs"]
mod rules;
#[path = "support/server.rs"]
mod server;
mod support;
#[path = "api_server/undoing.rs"]
mod undoing;

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, ValidationDirective},
};
use serde_json::{Value, json};
use server::*;

fn post() -> PostParams {
    PostParams::default()
}

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn plain() -> PatchParams {
    PatchParams::default()
}

fn merge(value: Value) -> Patch<Value> {
    Patch::Merge(value)
}

/// Server-side apply under a field manager, unknown fields refused.
fn apply_as(manager: &str) -> PatchParams {
    PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(manager) }
}

/// An object with a value put at a path of keys and numbers.
fn with(mut object: DynamicObject, path: &str, value: Value) -> DynamicObject {
    let mut at = &mut object.data;
    for key in path.split('.') {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
    object
}

fn without(mut object: DynamicObject, path: &str) -> DynamicObject {
    let (parent, key) = path.rsplit_once('.').unwrap();
    let pointer = format!("/{}", parent.replace('.', "/"));
    object.data.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    object
}

fn approval(name: &str, plan: &str) -> Value {
    json!({"username": name, "groups": groups(), "planHash": plan})
}

fn approvals(entries: &[Value]) -> Value {
    json!({"spec": {"approvals": entries}})
}

fn cancelled_by(name: &str) -> Value {
    json!({"spec": {"cancel": {"username": name, "reason": "not today"}}})
}

fn approvers(promotion: &DynamicObject) -> Vec<&str> {
    let entries = promotion.data["spec"]["approvals"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry["username"].as_str().unwrap()).collect()
}
