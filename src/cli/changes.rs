//! What a promotion would change, from what both environments say they run. Pure.
//!
//! Shown before anything is written. The operator's own changelog, with single keys of configuration, comes once the
//! Promotion exists; an approval binds to that one.

use crate::api::{
    Environment, EnvironmentSpec, Release, ReleaseModule,
    promotion::{Change, ChangeKind},
};

/// The differences, and what stands in the way of a promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// What would change, in the order of the target's modules.
    pub changes: Vec<Change>,
    /// What an operator would refuse, in words.
    pub obstacles: Vec<String>,
}

/// The modules that a promotion brings: those asked for, or all that the source has and the target too.
pub fn modules<'a>(source: &'a Environment, asked: Option<&'a [String]>) -> Vec<&'a str> {
    match asked {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => source.spec.modules.iter().map(|m| &*m.name).collect(),
    }
}

/// Compares what the source runs with what the target runs.
pub fn preview(modules: &[&str], source: Option<&Release>, target: Option<&Release>, spec: &EnvironmentSpec) -> Preview {
    let mut preview = Preview::default();
    let Some(source) = source else {
        preview.obstacles.push("the source does not say yet what it runs (status.release)".into());
        return preview;
    };
    for name in modules {
        if spec.module(name).is_none() {
            preview.obstacles.push(format!("module {name} is not in the target (spec.modules)"));
            continue;
        }
        match source.modules.iter().find(|m| m.name == **name) {
            Some(from) => {
                let to = target.and_then(|t| t.modules.iter().find(|m| m.name == **name));
                module(name, from, to, &mut preview);
            }
            None => preview.obstacles.push(format!("the source runs nothing of module {name}")),
        }
    }
    preview
}

fn module(name: &str, source: &ReleaseModule, target: Option<&ReleaseModule>, preview: &mut Preview) {
    for workload in &source.workloads {
        let here = target.and_then(|t| t.workloads.iter().find(|w| w.kind == workload.kind && w.name == workload.name));
        for container in &workload.containers {
            let now = here.and_then(|w| w.containers.iter().find(|c| c.name == container.name));
            if now.is_some_and(|c| c.pinned() == container.pinned()) {
                continue;
            }
            preview.changes.push(Change {
                module: name.to_owned(),
                kind: ChangeKind::Image,
                name: format!("{} {}, container {}", workload.kind, workload.name, container.name),
                from: now.map(|c| image(&c.image, &c.digest)),
                to: Some(image(&container.image, &container.digest)),
            });
        }
    }
    for configuration in &source.configuration {
        let now = target.and_then(|t| t.configuration.iter().find(|c| c.config_map == configuration.config_map));
        if now.is_some_and(|c| c.hash == configuration.hash) {
            continue;
        }
        preview.changes.push(Change {
            module: name.to_owned(),
            kind: ChangeKind::Configuration,
            name: format!("ConfigMap {}", configuration.config_map),
            from: now.map(|c| c.hash.clone()),
            to: Some(configuration.hash.clone()),
        });
    }
}

/// An image as a person knows it, with the digest that really runs.
fn image(image: &str, digest: &str) -> String {
    if image.contains('@') { image.to_owned() } else { format!("{image}@{digest}") }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::{ReleaseConfiguration, ReleaseContainer, ReleaseWorkload, WorkloadKind};

    /// A release of one module with one container and one ConfigMap.
    pub fn release(tag: &str, digit: char, config: &str) -> Release {
        Release {
            hash: format!("sha256:{}", digit.to_string().repeat(64)),
            modules: vec![ReleaseModule {
                name: "flags".into(),
                workloads: vec![ReleaseWorkload {
                    kind: WorkloadKind::Deployment,
                    name: "unleash".into(),
                    containers: vec![ReleaseContainer {
                        name: "unleash".into(),
                        image: format!("registry:5000/unleash:{tag}"),
                        digest: format!("sha256:{}", digit.to_string().repeat(64)),
                    }],
                }],
                configuration: vec![ReleaseConfiguration { config_map: "unleash-config".into(), hash: config.into() }],
            }],
        }
    }

    fn spec() -> EnvironmentSpec {
        serde_json::from_value(serde_json::json!({
            "tier": "Production",
            "modules": [{"name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}]}],
        }))
        .unwrap()
    }

    #[test]
    fn images_are_told_apart_by_digest_and_configuration_by_hash() {
        let (old, new) = (release("6.3.0", 'a', "sha256:1"), release("7.4.1", 'b', "sha256:2"));
        let found = preview(&["flags"], Some(&new), Some(&old), &spec());
        assert_eq!(found.obstacles, Vec::<String>::new());
        let kinds: Vec<_> = found.changes.iter().map(|c| (c.kind, c.name.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (ChangeKind::Image, "Deployment unleash, container unleash"),
                (ChangeKind::Configuration, "ConfigMap unleash-config")
            ]
        );
        assert_eq!(found.changes[0].from.as_deref().unwrap().split('@').next(), Some("registry:5000/unleash:6.3.0"));
    }

    #[test]
    fn the_same_digest_under_another_tag_is_no_change() {
        let (old, new) = (release("old", 'a', "sha256:1"), release("new", 'a', "sha256:1"));
        assert_eq!(preview(&["flags"], Some(&new), Some(&old), &spec()), Preview::default());
    }

    #[test]
    fn what_stands_in_the_way_is_said_by_name() {
        let new = release("7", 'b', "sha256:2");
        assert!(preview(&["other"], Some(&new), None, &spec()).obstacles[0].contains("module other is not in the target"));
        assert!(preview(&["flags"], None, None, &spec()).obstacles[0].contains("status.release"));
        let none = Release::default();
        assert!(preview(&["flags"], Some(&none), None, &spec()).obstacles[0].contains("runs nothing of module flags"));
        assert_eq!(preview(&["flags"], Some(&new), None, &spec()).changes[0].from, None);
    }
}
