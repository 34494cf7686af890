//! What the parts of a backup, databases and volumes, say of themselves in the same way.

use serde::{Deserialize, Serialize};

use crate::{api::Timestamp, manifest::task::Task};

/// The head of a part's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Version of the manifest's shape.
    pub format: u32,
    /// UID of the Environment.
    pub environment: String,
    /// Its namespace and name.
    pub environment_name: String,
    /// UID of the run.
    pub run: String,
    /// Name of the data.
    pub data: String,
    /// When the view was taken, or the first file read.
    pub taken_at: Timestamp,
}

impl Head {
    /// Of what a task writes.
    pub fn of(task: &Task, format: u32, data: String, taken_at: Timestamp) -> Self {
        let (environment, environment_name) = (task.environment.clone(), task.environment_name.clone());
        Self { format, environment, environment_name, run: task.run.clone(), data, taken_at }
    }

    /// Whether it is of that data of that Environment.
    pub fn is_of(&self, environment: &str, data: &str) -> bool {
        self.environment == environment && self.data == data
    }
}

/// What manifests of all shapes have.
#[derive(Deserialize)]
pub struct Version {
    /// Version of the shape.
    pub format: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::volumes::Manifest;

    #[test]
    fn snapshots_of_before_are_read_and_those_of_today_have_their_shape() {
        let text = json!({
            "format": 1, "environment": "uid", "environmentName": "shop/production", "run": "r", "data": "uploads",
            "takenAt": "2026-11-22T20:00:00Z",
            "total": {"files": 1, "directories": 2, "others": 0, "bytes": 3, "hash": "ab"},
        });
        let manifest: Manifest = serde_json::from_value(text.clone()).unwrap();
        assert!(manifest.head.is_of("uid", "uploads") && !manifest.head.is_of("other", "uploads"));
        assert_eq!(serde_json::to_value(&manifest).unwrap(), text);
    }
}
