//! The two ways in which the API server applies a patch.

use serde_json::{Map, Value};

/// A merge patch; strategic: containers are merged by name.
pub fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, wanted) in fields {
        if wanted.is_null() {
            if let Some(fields) = target.as_object_mut() {
                fields.remove(name);
            }
        } else if strategic && (name == "containers" || name == "initContainers") && target[name].is_array() {
            for one in wanted.as_array().into_iter().flatten() {
                let here = target[name].as_array_mut().and_then(|a| a.iter_mut().find(|c| c["name"] == one["name"]));
                if let Some(container) = here {
                    merge(container, one, strategic);
                }
            }
        } else {
            merge(&mut target[name], wanted, strategic);
        }
    }
}
