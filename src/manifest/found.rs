//! Values found before a change, written as an annotation in the same patch that changes them. They go back from there,
//! also when the run that changed them is gone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServicePort;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::api::annotations::FOUND;

/// What was found on an object, by which run, under which epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found<T> {
    /// UID of the run that changed the object.
    pub run: String,
    /// Epoch of its lock.
    pub epoch: i64,
    /// What was found.
    #[serde(flatten)]
    pub values: T,
}

/// What was found on a workload: the field by which it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FoundWorkload {
    /// How many pods it had.
    Replicas(i32),
    /// Whether it was suspended.
    Suspend(bool),
}

/// What was found on a ScaledObject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundScaler {
    /// The annotation by which it rests, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
}

/// What was found on a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundService {
    /// Which pods it led to.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

impl<T: Serialize + DeserializeOwned> Found<T> {
    /// Reads the annotation. `None`: it is not there, or not ours to read.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(FOUND)?).ok()
    }

    /// The annotation's text.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
