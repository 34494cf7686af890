//! The copy of a masking policy that Jobs read. A task is one environment variable, and a policy may be larger than one of
//! those can be; the agent has no right to read it from the API.

use serde_json::json;

use super::{Owner, task::POLICY_FILE};
use crate::{
    api::MaskingPolicySpec,
    plan::{Effect, Resource},
};

/// A ConfigMap takes no more.
pub const GREATEST: usize = 1_000_000;

/// Step of the copies.
pub const STEP: &str = "policy";

/// Name of the copy of the policy of that hash.
pub fn name(owner: Owner<'_>, hash: &str) -> String {
    owner.object_name(&format!("{STEP}-{}", short(hash)), 0)
}

/// The first digits of a policy's hash.
pub fn short(hash: &str) -> String {
    hash.trim_start_matches("sha256:").chars().take(12).collect()
}

/// Makes the copy. `Err`: the policy is larger than a ConfigMap can be.
pub fn config_map(owner: Owner<'_>, name: &str, spec: &MaskingPolicySpec) -> Result<Effect, String> {
    let text = serde_json::to_string(spec).unwrap_or_default();
    if text.len() > GREATEST {
        return Err(format!("the policy has {} bytes, and its Jobs can be given {GREATEST}; shorten its reasons", text.len()));
    }
    let manifest = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": owner.metadata(name, STEP), "data": {POLICY_FILE: text},
    });
    Ok(Effect::Create { resource: Resource::ConfigMap, manifest: Box::new(manifest) })
}
