//! The CustomResourceDefinitions, generated from the types: `lockkeeper crds` prints them, `crds/` and the chart carry them.

use std::{fs, io, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};

use super::{DownAlignment, Environment, EnvironmentBackup, EnvironmentRestore, MaskingPolicy, Promotion};

/// Helm leaves what carries this annotation in place when a release is uninstalled: with a definition go all its objects.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// Fields of the status that all runs share, and a kind does not use.
const UNUSED: &[(&str, &[&str])] = &[
    ("Promotion", &["snapshot", "takenAt"]),
    ("EnvironmentRestore", &["alignment", "backup", "modifiers", "intervention"]),
    ("DownAlignment", &["alignment", "backup", "takenAt", "modifiers", "intervention", "approvals"]),
];

/// Every program that reads JSON tells integers up to here apart. Counts and epochs stay far below.
pub const GREATEST_INTEGER: i64 = 9_007_199_254_740_991;

/// The definitions of all kinds, in the order in which a reader meets them.
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        Environment::crd(),
        Promotion::crd(),
        EnvironmentBackup::crd(),
        EnvironmentRestore::crd(),
        DownAlignment::crd(),
        MaskingPolicy::crd(),
    ]
    .map(tidied)
    .into()
}

/// The definition of one kind as YAML, by kind (`Promotion`) or plural (`promotions`). `None` for a kind that is not ours.
pub fn yaml(kind: &str) -> Option<String> {
    let named = |crd: &&CustomResourceDefinition| crd.spec.names.kind == kind || crd.spec.names.plural == kind;
    all().iter().find(named).map(document)
}

/// Writes one file a kind, `<plural>.yaml`, into a directory.
///
/// # Errors
/// Where the directory cannot be made or a file cannot be written.
pub fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for crd in all() {
        fs::write(dir.join(format!("{}.yaml", crd.spec.names.plural)), document(&crd))?;
    }
    Ok(())
}

/// A definition as a YAML document with a line that says where it comes from.
pub fn document(crd: &CustomResourceDefinition) -> String {
    // By way of a JSON value, whose keys are sorted, so that the text depends on nothing but the types. Lines are not
    // folded: a rule or a description is found by searching for it.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let body = serde_json::to_value(crd).ok().and_then(|value| serde_saphyr::to_string_with_options(&value, options).ok());
    format!("# Generated from src/api by `make crds`. Changes here are lost.\n{}", body.unwrap_or_default())
}

/// What the derive leaves to be said or unsaid.
fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.annotations_mut().insert(KEEP.0.to_owned(), KEEP.1.to_owned());
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else { continue };
        if let Some(properties) = root.properties.as_mut() {
            let unused = UNUSED.iter().filter(|(kind, _)| *kind == crd.spec.names.kind).flat_map(|(_, fields)| *fields);
            if let Some(fields) = properties.get_mut("status").and_then(|status| status.properties.as_mut()) {
                unused.for_each(|field| drop(fields.remove(*field)));
            }
            for (name, text) in
                [("spec", "What is wanted."), ("status", "What the operator knows. Written by the operator alone.")]
            {
                if let Some(property) = properties.get_mut(name) {
                    property.description = Some(text.to_owned());
                }
            }
        }
        tidy(root);
    }
    crd
}

/// An absent field and a null one mean the same: without `nullable` the API server drops nulls before it applies defaults
/// and rules. Nothing is counted below zero. Formats that Kubernetes does not know (`uint32`) would only warn; the bounds
/// beside them are what holds.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = Some("int64".to_owned());
    }
    if schema.type_.as_deref() == Some("integer") {
        schema.minimum.get_or_insert(0.0);
        schema.maximum.get_or_insert(GREATEST_INTEGER as f64);
    }
    let properties = schema.properties.get_or_insert_default();
    for (name, property) in properties.iter_mut() {
        tidy(property);
        if is_union(property) {
            property.default = None;
            if let Some(default) = schema.default.as_mut().and_then(|default| default.0.as_object_mut()) {
                default.remove(name);
            }
        }
    }
    if properties.is_empty() {
        schema.properties = None;
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => tidy(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        tidy(value);
    }
}

/// Whether an object has exactly one of several members. Its default stays unwritten: in the stored object it would stand
/// beside the member that someone names later, and refuse it.
fn is_union(schema: &JSONSchemaProps) -> bool {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    rules.filter_map(|rule| rule.message.as_deref()).any(|message| message.contains("exactly one of"))
}
