//! Effects: one change each, safe to repeat. What was decided on stale ground is refused by the API server and decided anew.

use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    Turn,
    api::{call, dynamic},
};
use crate::{
    api::{Environment, FIELD_MANAGER, labels},
    error::{Error, Result},
    manifest::Owner,
    plan::{Effect, PatchKind, Resource},
};

/// What an effect has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It took effect, now or before.
    Yes,
    /// What it was decided on has changed: decide anew.
    Stale,
}

/// The object on whose behalf effects are done.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Namespace of the object, and of all effects.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its resourceVersion when it was read for the decision.
    pub resource_version: &'a str,
    /// Its finalizer.
    pub finalizer: &'a str,
}

/// Does one effect for an object as it was read that locks nothing, and says so in the log.
pub async fn carry_out<K>(client: &Client, object: &K, finalizer: &str, effect: &Effect) -> Result<Turn>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
{
    let kind = K::kind(&());
    let Owner { kind, name, uid, namespace } = Owner::of(&kind, object.meta());
    tracing::info!(kind, namespace, name, effect = %effect.describe(), "perform");
    let version = object.resource_version().unwrap_or_default();
    let subject = Subject { namespace, name, uid, resource_version: &version, finalizer };
    execute::<K>(client, &subject, effect).await?;
    Ok(Turn::Again)
}

/// Does one effect.
pub async fn execute<K>(client: &Client, subject: &Subject<'_>, effect: &Effect) -> Result<Done>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    K::DynamicType: Default,
{
    let what = effect.describe();
    match effect {
        Effect::AddFinalizer | Effect::RemoveFinalizer => {
            let api: Api<K> = Api::namespaced(client.clone(), subject.namespace);
            let Some(object) = call(&*what, api.get_opt(subject.name)).await? else { return Ok(Done::Yes) };
            let mut finalizers = object.finalizers().to_vec();
            finalizers.retain(|f| f != subject.finalizer);
            if matches!(effect, Effect::AddFinalizer) {
                finalizers.push(subject.finalizer.to_owned());
            }
            let metadata = json!({"uid": subject.uid, "resourceVersion": object.resource_version(), "finalizers": finalizers});
            let patch = Patch::Merge(json!({"metadata": metadata}));
            settle(call(what, api.patch(subject.name, &PatchParams::default(), &patch)).await)
        }
        Effect::Create { resource, manifest } => {
            if !is_current::<K>(client, subject).await? {
                return Ok(Done::Stale);
            }
            create(client, subject.namespace, *resource, manifest, what).await
        }
        Effect::In { namespace, effect } => match &**effect {
            // The look at the run itself is at home.
            Effect::Create { resource, manifest } => {
                if !is_current::<K>(client, subject).await? {
                    return Ok(Done::Stale);
                }
                create(client, namespace, *resource, manifest, what).await
            }
            other => Box::pin(execute::<K>(client, &Subject { namespace, ..subject.clone() }, other)).await,
        },
        Effect::Patch { resource, name, kind, patch } => {
            let api = dynamic(client, subject.namespace, *resource);
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let sent = match kind {
                PatchKind::Merge => call(what, api.patch(name, &params, &Patch::Merge(patch))).await,
                PatchKind::Strategic => call(what, api.patch(name, &params, &Patch::Strategic(patch))).await,
            };
            settle(sent)
        }
        Effect::Delete { resource, name, uid, grace } => {
            let api = dynamic(client, subject.namespace, *resource);
            let params = DeleteParams {
                grace_period_seconds: *grace,
                // A Job stays until its pods are gone: who waits for what it has begun finds them by it.
                propagation_policy: Some(match resource {
                    Resource::Job => PropagationPolicy::Foreground,
                    _ => PropagationPolicy::Background,
                }),
                preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            settle(call(what, api.delete(name, &params)).await)
        }
        Effect::SetEnvironment { name, resource_version, status } => {
            let api: Api<Environment> = Api::namespaced(client.clone(), subject.namespace);
            let Some(mut environment) = call(&*what, api.get_opt(name)).await? else { return Ok(Done::Stale) };
            environment.metadata.resource_version = Some(resource_version.clone());
            environment.metadata.managed_fields = None;
            environment.status = Some((**status).clone());
            settle(call(what, api.replace_status(name, &PostParams::default(), &environment)).await)
        }
    }
}

/// Whether what was decided on is still so. Patches and deletions are guarded by what they name; nothing guards a new object
/// once its first of the same name is gone again: a leader held up since its decision would start a migration anew after the
/// run's end. One look just before narrows that to the time of one request.
async fn is_current<K>(client: &Client, subject: &Subject<'_>) -> Result<bool>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), subject.namespace);
    let now = call(format!("look at {} again", subject.name), api.get_metadata_opt(subject.name)).await?;
    Ok(now.and_then(|o| o.resource_version()).is_some_and(|v| v == subject.resource_version))
}

/// Makes an object. One of the same name made for the same run is success: our own request may have been sent twice.
async fn create(
    client: &Client,
    namespace: &str,
    resource: Resource,
    manifest: &serde_json::Value,
    what: String,
) -> Result<Done> {
    let api = dynamic(client, namespace, resource);
    let object: DynamicObject =
        serde_json::from_value(manifest.clone()).map_err(|source| Error::Malformed { what: what.clone(), source })?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match call(&*what, api.create(&params, &object)).await {
        Ok(_) => Ok(Done::Yes),
        Err(error) if error.code() == Some(409) => {
            let Some(there) = call(&*what, api.get_opt(&object.name_any())).await? else { return Ok(Done::Stale) };
            let made_for = |o: &DynamicObject| o.labels().get(labels::RUN).cloned();
            let ours = made_for(&object).is_none_or(|run| made_for(&there) == Some(run));
            if ours { Ok(Done::Yes) } else { Err(Error::Foreign { what }) }
        }
        Err(error) => Err(error),
    }
}

/// A conflict, or that the object is gone, is no error: the next look decides anew.
fn settle<T>(result: Result<T>) -> Result<Done> {
    match result {
        Ok(_) => Ok(Done::Yes),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(Done::Stale),
        Err(error) => Err(error),
    }
}
