//! Copies of configuration, in the target's namespace: what the source ran when it was captured, and what the target ran.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    api::{Module, Release},
    manifest::Owner,
    plan::{
        Effect, Resource,
        release::{self, Content},
        world::World,
    },
};

/// On a copy of configuration: which side it is of, [`RELEASE`] or [`PRIOR`].
pub const SIDE: &str = "lockkeeper.dev/copy";
/// On a copy of configuration: the name of the ConfigMap that it is a copy of.
pub const COPY_OF: &str = "lockkeeper.dev/copy-of";
/// On a copy of configuration: that the ConfigMap did not exist.
pub const ABSENT: &str = "lockkeeper.dev/absent";
/// The side of what the source ran.
pub const RELEASE: &str = "release";
/// The side of what the target ran.
pub const PRIOR: &str = "prior";

/// Name of a copy of configuration.
pub fn copy_name(owner: Owner<'_>, side: &str, config_map: &str) -> String {
    format!("lk-{}-{side}-{}", owner.id(), &blake3::hash(config_map.as_bytes()).to_hex()[..10])
}

/// An immutable copy of a ConfigMap's content, in the target's namespace.
pub fn copy(owner: Owner<'_>, side: &str, config_map: &str, content: Option<&Content>) -> Effect {
    let mut metadata = owner.metadata(&copy_name(owner, side, config_map), side);
    let mut annotations = BTreeMap::from([(SIDE.to_owned(), side.to_owned()), (COPY_OF.to_owned(), config_map.to_owned())]);
    if content.is_none() {
        annotations.insert(ABSENT.to_owned(), "true".to_owned());
    }
    metadata["annotations"] = json!(annotations);
    let content = content.cloned().unwrap_or_default();
    let manifest = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": true,
        "data": content.data, "binaryData": content.binary_data,
    });
    Effect::Create { resource: Resource::ConfigMap, manifest: Box::new(manifest) }
}

/// Whether a ConfigMap is a copy of what the target had before a run.
pub fn is_prior(copy: &ConfigMap) -> bool {
    copy.annotations().get(SIDE).is_some_and(|side| side == PRIOR)
}

/// The content of a copy. `None`: there is no copy, or the ConfigMap did not exist.
pub fn copied(world: &World<'_>, owner: Owner<'_>, side: &str, config_map: &str) -> Option<Content> {
    let copy = world.target_side.config_map(&copy_name(owner, side, config_map))?;
    (!copy.annotations().contains_key(ABSENT)).then(|| Content::of(copy, &Default::default()))
}

/// The next ConfigMap of the source that has no copy yet.
pub fn copy_configuration(world: &World<'_>, owner: Owner<'_>, modules: &[&Module]) -> Option<Effect> {
    let (source, target) = (world.source?, world.target?);
    modules.iter().flat_map(|m| m.configuration.iter().map(move |c| (m, c))).find_map(|(module, entry)| {
        let keep = release::kept_keys(&module.name, &entry.config_map.name, &[&source.spec, &target.spec]);
        let content = Content::of(world.source_side.config_map(&entry.config_map.name)?, &keep);
        if let Some(copy) = world.target_side.config_map(&copy_name(owner, RELEASE, &entry.config_map.name)) {
            // An earlier look that was not taken up: modules were changed since, and the source's ConfigMap too.
            let (name, uid) = (copy.name_any(), copy.uid().unwrap_or_default());
            let stale = Content::of(copy, &Default::default()) != content && copy.metadata.deletion_timestamp.is_none();
            return stale.then_some(Effect::Delete { resource: Resource::ConfigMap, name, uid, grace: None });
        }
        Some(copy(owner, RELEASE, &entry.config_map.name, Some(&content)))
    })
}

/// The copies and the captured hashes must be of one instant.
pub fn copies_agree(world: &World<'_>, owner: Owner<'_>, release: &Release) -> Result<(), String> {
    for entry in release.modules.iter().flat_map(|m| &m.configuration) {
        let hash = copied(world, owner, RELEASE, &entry.config_map).map(|c| c.hash());
        if hash.as_deref() != Some(entry.hash.as_str()) {
            return Err(format!(
                "ConfigMap {} of the source changed while it was captured: make the Promotion again when the source is at rest",
                entry.config_map
            ));
        }
    }
    Ok(())
}
