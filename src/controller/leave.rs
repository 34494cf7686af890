//! Before the operator is uninstalled: an environment that is locked then would stay so, its users before the page.

use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectList},
};

use super::api::call;
use crate::api::Environment;

/// Why the operator may not leave.
#[derive(Debug, thiserror::Error)]
pub enum Held {
    /// No API server.
    #[error("cannot reach a Kubernetes API server: {0}")]
    Client(#[from] kube::Error),
    /// It could not be asked.
    #[error(transparent)]
    Asked(#[from] crate::error::Error),
    /// Environments are worked on.
    #[error(
        "runs are under way: {0}. Without the operator nobody would finish them, and users would stay locked out. Let them end, cancel or unlock them; \
         to uninstall all the same: helm uninstall --no-hooks, and put each environment back by hand (README.md, \"Going on by hand\")"
    )]
    Busy(String),
}

/// Ends well only if no Environment is locked or worked on.
///
/// # Errors
/// Which are, and by whom; or that the API server could not be asked.
pub async fn may_leave() -> Result<(), Held> {
    let client = Client::try_default().await?;
    let all: ObjectList<Environment> =
        call("list Environments", Api::<Environment>::all(client).list(&ListParams::default())).await?;
    let busy: Vec<String> = all.items.iter().filter_map(work).collect();
    if busy.is_empty() { Ok(()) } else { Err(Held::Busy(busy.join(", "))) }
}

/// Who holds an Environment, or works on it.
fn work(environment: &Environment) -> Option<String> {
    let status = environment.status.as_ref()?;
    let holder = status.lock.as_ref().and_then(|l| l.holder.as_ref());
    let name = format!("{}/{}", environment.namespace().unwrap_or_default(), environment.name_any());
    match (holder, &status.active) {
        (Some(run), _) => Some(format!("{name} is locked by {} {}", run.kind, run.name)),
        (None, Some(run)) => Some(format!("{name} is worked on by {} {}", run.kind, run.name)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_an_environment_or_works_on_it_is_named() {
        let environment = |status: serde_json::Value| -> Environment {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "p", "namespace": "shop"},
                "spec": {"tier": "Production", "modules": [{"name": "a", "workloads": [{"kind": "Deployment", "name": "a"}]}]},
                "status": status,
            }))
            .unwrap()
        };
        let run = serde_json::json!({"kind": "Promotion", "name": "r-1", "uid": "u"});
        for (status, said) in [
            (serde_json::json!({}), None),
            (serde_json::json!({"lock": {"epoch": 3}}), None),
            (serde_json::json!({"active": run}), Some("shop/p is worked on by Promotion r-1")),
            (serde_json::json!({"active": run, "lock": {"epoch": 3, "holder": run}}), Some("shop/p is locked by Promotion r-1")),
        ] {
            assert_eq!(work(&environment(status)).as_deref(), said);
        }
    }
}
