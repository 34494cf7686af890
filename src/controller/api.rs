//! Calls to the API server, each with a deadline of its own: kube's client tries some errors again for minutes, and a silent
//! server would hold it for ever.

use std::{future::Future, time::Duration};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::{
    error::{Error, Result},
    plan::Resource,
};

/// How long a call may take, with all that kube tries again by itself.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a call with a deadline, and says what was being done when it fails.
pub async fn call<T>(what: impl Into<String>, future: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Api { what: what.into(), source: Box::new(source) }),
        Err(_) => Err(Error::Timeout { what: what.into(), after: DEADLINE }),
    }
}

/// The resource in the API server's terms.
pub fn resource(resource: Resource) -> ApiResource {
    let (group, version, kind, plural) = match resource {
        Resource::Deployment => ("apps", "v1", "Deployment", "deployments"),
        Resource::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
        Resource::CronJob => ("batch", "v1", "CronJob", "cronjobs"),
        Resource::ScaledObject => ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
        Resource::Service => ("", "v1", "Service", "services"),
        Resource::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
        Resource::Job => ("batch", "v1", "Job", "jobs"),
        Resource::Pod => ("", "v1", "Pod", "pods"),
        Resource::Promotion => ("lockkeeper.dev", "v1alpha1", "Promotion", "promotions"),
        Resource::DownAlignment => ("lockkeeper.dev", "v1alpha1", "DownAlignment", "downalignments"),
        Resource::EnvironmentRestore => ("lockkeeper.dev", "v1alpha1", "EnvironmentRestore", "environmentrestores"),
        Resource::EnvironmentBackup => ("lockkeeper.dev", "v1alpha1", "EnvironmentBackup", "environmentbackups"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Objects of a resource in a namespace.
pub fn dynamic(client: &Client, namespace: &str, kind: Resource) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}
