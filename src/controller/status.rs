//! Statuses are written by compare and swap: with the resourceVersion that was read. A stale reader or a second leader is
//! refused and decides anew.

use kube::{Api, Client, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

use super::{api::call, execute::Done};
use crate::error::Result;

/// Replaces the status of an object that carries the new status and the resourceVersion that was read.
pub async fn swap<K>(client: &Client, object: &K) -> Result<Done>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    K::DynamicType: Default,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let name = object.name_any();
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    match call(format!("write the status of {name}"), api.replace_status(&name, &PostParams::default(), &object)).await {
        Ok(_) => Ok(Done::Yes),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(Done::Stale),
        Err(error) => Err(error),
    }
}
