//! Pure builders: Jobs, the maintenance page, patches, and the record of found values. No client, no clock.

pub mod found;
pub mod job;
pub mod masking;
pub mod page;
pub mod patch;
pub mod task;
pub mod volume;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::api::{API_VERSION, labels};

/// The run for which an object is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Owner<'a> {
    /// Kind of the run.
    pub kind: &'a str,
    /// Name of the run.
    pub name: &'a str,
    /// UID of the run.
    pub uid: &'a str,
    /// Namespace of the run, and of all that is made for it.
    pub namespace: &'a str,
}

impl<'a> Owner<'a> {
    /// An object of a kind, by its metadata. What the API server gave out has all three.
    pub fn of(kind: &'a str, metadata: &'a ObjectMeta) -> Self {
        Self {
            kind,
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
        }
    }
}

impl Owner<'_> {
    /// A short form of the UID for names: Job names have 63 characters.
    pub fn id(&self) -> String {
        self.uid.chars().filter(|c| *c != '-').take(10).collect()
    }

    /// Name of what is made for a step.
    pub fn object_name(&self, what: &str, attempt: i32) -> String {
        let id = self.id();
        let plain: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let full = format!("lk-{id}-{plain}-{attempt}");
        if full.len() <= 63 {
            return full;
        }
        // Names equal after cutting must differ: the hash of the whole name stands in for what was cut.
        let hash = &blake3::hash(what.as_bytes()).to_hex()[..8];
        format!("lk-{id}-{}-{hash}-{attempt}", plain.chars().take(30).collect::<String>().trim_end_matches('-'))
    }

    /// Labels of what is made for a step.
    pub fn labels(&self, step: &str) -> BTreeMap<String, String> {
        let step = step.replace('/', ".");
        BTreeMap::from([
            (labels::RUN.to_owned(), self.uid.to_owned()),
            (labels::STEP.to_owned(), step.chars().take(63).collect::<String>().trim_end_matches(['.', '-']).to_owned()),
            (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
        ])
    }

    /// Whether the garbage collector may take what is made for this owner. Not for a run that locks: when that is deleted, with
    /// `--cascade=foreground` above all, the page and the copies of the earlier configuration would go before anything is put
    /// back. There the run's finalizer and label clean up, and the backup stays when the run's record goes.
    fn is_collected(&self) -> bool {
        !matches!(self.kind, "Promotion" | "EnvironmentRestore" | "DownAlignment")
    }

    /// The owner reference: what is made for it goes with it.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": false,
        })
    }

    /// Metadata of what is made for a step. By the label it is known whose it is.
    pub fn metadata(&self, name: &str, step: &str) -> Value {
        let mut metadata = json!({"name": name, "namespace": self.namespace, "labels": self.labels(step)});
        if self.is_collected() {
            metadata["ownerReferences"] = json!([self.reference()]);
        }
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_a_jobs_limit_and_stay_different() {
        let owner = Owner { kind: "Promotion", name: "p", uid: "01234567-89ab-cdef-0123-456789abcdef", namespace: "n" };
        let long = "verify/".to_owned() + &"a".repeat(60);
        let (one, two) = (owner.object_name(&format!("{long}x"), 0), owner.object_name(&format!("{long}y"), 0));
        assert!(one.len() <= 63 && two.len() <= 63 && one != two, "{one} {two}");
        assert_eq!(owner.object_name("fence", 1), "lk-0123456789-fence-1");
    }
}
