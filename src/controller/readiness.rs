//! When the operator says that it is ready: once every API server can evaluate the admission policies.
//!
//! A policy whose parameters are of a kind that the API server has not found yet refuses all that it matches, and an API
//! server looks for new kinds every 30 s (`NewDiscoveryRESTMapper`'s reset in k8s.io/apiserver). So for that long after the
//! first installation an Environment would be refused with a sentence about `paramKind` that helps nobody.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};

use super::{api::call, server::Health};
use crate::{api::policies, error::Result};

/// How long after a kind is served every API server knows it: its period of 30 s, and what a busy one is late.
const KNOWN_AFTER: SignedDuration = SignedDuration::from_secs(33);

/// Waits until the policies can be evaluated, then says so.
pub async fn tell(client: Client, health: Arc<Health>) {
    loop {
        let wait = match remaining(&client, Timestamp::now()).await {
            Ok(Duration::ZERO) => {
                health.ready.store(true, Ordering::Relaxed);
                tracing::info!("ready");
                return;
            }
            Ok(left) => {
                tracing::info!(seconds = left.as_secs(), "not ready: the API servers do not know every kind of the policies yet");
                left
            }
            Err(error) => {
                tracing::warn!(%error, "cannot see whether the admission policies can be evaluated");
                Duration::from_secs(2)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// How long to wait from `now` on: no time once every kind is known.
async fn remaining(client: &Client, now: Timestamp) -> Result<Duration> {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut wait = Duration::ZERO;
    for name in policies::PARAMETERS {
        let found = call(format!("get CustomResourceDefinition {name}"), all.get_opt(name)).await?;
        wait = wait.max(until_known(found.as_ref(), now));
    }
    Ok(wait)
}

fn until_known(definition: Option<&CustomResourceDefinition>, now: Timestamp) -> Duration {
    let conditions = definition.and_then(|d| d.status.as_ref()).and_then(|s| s.conditions.as_ref());
    let established = conditions.into_iter().flatten().find(|c| c.type_ == "Established" && c.status == "True");
    let Some(since) = established.and_then(|c| c.last_transition_time.as_ref()) else { return Duration::from_secs(1) };
    Duration::try_from(since.0 + KNOWN_AFTER - now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn established(at: &str) -> CustomResourceDefinition {
        let conditions = serde_json::json!([
            {"type": "NamesAccepted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Established", "status": "True", "lastTransitionTime": at},
        ]);
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "environments.lockkeeper.dev"},
            "spec": {"group": "lockkeeper.dev", "names": {"kind": "Environment", "plural": "environments"}, "scope": "Namespaced", "versions": []},
            "status": {"conditions": conditions},
        }))
        .expect("a definition")
    }

    #[test]
    fn a_kind_is_known_33_seconds_after_it_is_served() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        assert_eq!(until_known(None, now), Duration::from_secs(1), "not there: asked again");
        assert_eq!(until_known(Some(&established("2026-01-01T00:00:50Z")), now), Duration::from_secs(23));
        assert_eq!(until_known(Some(&established("2026-01-01T00:00:27Z")), now), Duration::ZERO);
        assert_eq!(until_known(Some(&established("2025-01-01T00:00:00Z")), now), Duration::ZERO);
    }
}
