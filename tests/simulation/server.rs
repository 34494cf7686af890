//! The store behind HTTP, as kube's client talks to an API server, and the faults between the two.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Method, Request, Response};
use kube::client::{Body, Client};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, Key, Refusal, key, written},
    invariants,
};

/// What befalls the next mutating request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// It takes effect, and the connection breaks before the answer.
    ReplyLost,
    /// It takes effect, is answered 504, and is sent again, as kube's client does by itself.
    SentTwice,
}

/// What the Service and the driver share.
pub struct Shared {
    pub cluster: Cluster,
    pub fault: Fault,
    /// Reads are answered from this: what a leader saw before it was held up.
    pub stale: Option<Cluster>,
    /// Each write is refused with 409 as many times before it is let through.
    pub storm: u32,
    refused: u32,
}

pub type Cell = Arc<Mutex<Shared>>;

pub fn cell(cluster: Cluster) -> Cell {
    Arc::new(Mutex::new(Shared { cluster, fault: Fault::None, stale: None, storm: 0, refused: 0 }))
}

pub fn lock(cell: &Cell) -> MutexGuard<'_, Shared> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client whose server is the store.
pub fn client(cell: &Cell) -> Client {
    let cell = cell.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let cell = cell.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.map_err(io::Error::other)?;
            let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            let strategic = parts.headers.get("content-type").is_some_and(|t| t.to_str().is_ok_and(|t| t.contains("strategic")));
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            // What is asked for metadata alone is asked right before a write: by then the leader is awake again.
            let awake =
                parts.headers.get("accept").is_some_and(|t| t.to_str().is_ok_and(|t| t.contains("PartialObjectMetadata")));
            let (code, answer) = answer(&mut lock(&cell), &parts.method, &target, (strategic, awake), &body)?;
            Response::builder()
                .status(code)
                .header("content-type", "application/json")
                .body(Body::from(answer.into_bytes()))
                .map_err(io::Error::other)
        }
    });
    Client::new(service, "default")
}

/// A request taken apart.
pub struct Call<'a> {
    pub method: &'a Method,
    pub key: Key,
    pub status: bool,
    pub strategic: bool,
    pub body: &'a Value,
}

fn answer(
    shared: &mut Shared,
    method: &Method,
    target: &str,
    (strategic, awake): (bool, bool),
    body: &Value,
) -> Result<(u16, String), io::Error> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    parts.drain(..if parts[0] == "api" { 2 } else { 3 });
    let namespace = if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        let namespace = parts[1];
        parts.drain(..2);
        namespace
    } else {
        ""
    };
    let (resource, name) = (parts[0], parts.get(1).copied().unwrap_or_default());
    let subresource = parts.get(2).copied().unwrap_or_default();

    if resource == "subjectaccessreviews" {
        let mut review = body.clone();
        review["status"] = json!({"allowed": true});
        return Ok((201, review.to_string()));
    }
    if resource == "events" {
        return Ok((201, body.to_string()));
    }
    if *method == Method::GET {
        if subresource == "log" {
            return Ok((200, "starting\nit threw: column \"colour\" exists already\n".into()));
        }
        let store = shared.stale.as_ref().filter(|_| !awake).unwrap_or(&shared.cluster);
        if !name.is_empty() {
            let found = store.get(resource, namespace, name).map(|o| written(o).wire.clone());
            return Ok(found.map_or_else(|| refusal(&Refusal::not_found(&key(resource, namespace, name))), |o| (200, o)));
        }
        let items: Vec<String> =
            store.list(resource, namespace, &selector(query)).iter().map(|o| written(o).wire.clone()).collect();
        let version = store.version;
        return Ok((
            200,
            format!(
                r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}},"items":[{}]}}"#,
                items.join(",")
            ),
        ));
    }
    let name = if *method == Method::POST { body["metadata"]["name"].as_str().unwrap_or_default() } else { name };
    let call = Call { method, key: key(resource, namespace, name), status: subresource == "status", strategic, body };
    if shared.refused < shared.storm {
        shared.refused += 1;
        return Ok(refusal(&Refusal::conflict("somebody was quicker")));
    }
    shared.refused = 0;
    match std::mem::take(&mut shared.fault) {
        Fault::None => Ok(mutate(&mut shared.cluster, &call)),
        Fault::ReplyLost => {
            mutate(&mut shared.cluster, &call);
            Err(io::Error::other("connection reset by peer"))
        }
        Fault::SentTwice => {
            mutate(&mut shared.cluster, &call);
            Ok(mutate(&mut shared.cluster, &call))
        }
    }
}

fn mutate(cluster: &mut Cluster, call: &Call<'_>) -> (u16, String) {
    let before = cluster.clone();
    let Call { method, key, status, strategic, body } = call;
    let result = match **method {
        Method::POST => cluster.create(&key.0, &key.1, (*body).clone()),
        Method::PATCH => cluster.patch(key, *strategic, body),
        Method::PUT if *status => cluster.put_status(key, body),
        Method::DELETE => cluster.delete(key, body),
        _ => Err(Refusal { code: 405, reason: "MethodNotAllowed", message: format!("{method} {key:?}") }),
    };
    cluster.requests += 1;
    match result {
        Ok(object) => {
            let violations = invariants::check(&before, call, cluster);
            cluster.violations.extend(violations);
            (if **method == Method::POST { 201 } else { 200 }, written(&object).wire.clone())
        }
        Err(refused) => refusal(&refused),
    }
}

fn refusal(refusal: &Refusal) -> (u16, String) {
    let Refusal { code, reason, message } = refusal;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    (*code, status.to_string())
}

/// The labels that a query asks for.
fn selector(query: &str) -> BTreeMap<String, String> {
    let decoded = query.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    decoded
        .split('&')
        .find_map(|p| p.strip_prefix("labelSelector="))
        .into_iter()
        .flat_map(|s| s.split(','))
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}
