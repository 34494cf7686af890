//! What keeps a pod from running, in words that say what to change. The kubelet tells it in Events long before a Job's
//! deadline ends: a Secret that is not there, a volume that is held by another node.

/// Reasons of Events that are about a pod's volumes and so about what an Environment names.
pub const OF_VOLUMES: [&str; 2] = ["FailedMount", "FailedAttachVolume"];

/// An Event's reason and message, with what mends it where that is known.
pub fn words(reason: &str, message: &str) -> String {
    let told = format!("{reason}: {}", message.split_whitespace().collect::<Vec<_>>().join(" "));
    let told: String = told.chars().take(700).collect();
    let mend = if let Some(name) = quoted(message, "secret \"") {
        format!("Secret {name} is missing, or a key of it: make it, or name another in the Environment")
    } else if let Some(name) = quoted(message, "configmap \"") {
        format!("ConfigMap {name} is missing: make it, or name another in the Environment")
    } else if message.contains("references non-existent secret key") {
        "the Secret lacks a key that is wanted: add it, or name another Secret in the Environment".to_owned()
    } else if message.contains("Multi-Attach")
        || message.contains("already used by pod")
        || message.contains("exclusively attached")
    {
        "the volume is in use on another node, and its access mode allows one only: use a claim with ReadWriteMany, or see to it that what mounts it runs on one node".to_owned()
    } else if let Some(name) = quoted(message, "persistentvolumeclaim \"") {
        format!("PersistentVolumeClaim {name} is missing: make it, or name another in the Environment")
    } else {
        return told;
    };
    format!("{mend} ({told})")
}

/// What stands in quotes after these words.
fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    let rest = &message[message.find(before)? + before.len()..];
    rest.split('"').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_tells_becomes_what_is_to_be_changed() {
        for (message, words_) in [
            (
                "MountVolume.SetUp failed for volume \"data-0-connection\" : secret \"unleash-db\" not found",
                "Secret unleash-db is missing",
            ),
            ("MountVolume.SetUp failed for volume \"x\" : configmap \"page\" not found", "ConfigMap page is missing"),
            ("references non-existent secret key: uri", "the Secret lacks a key"),
            (
                "Multi-Attach error for volume \"pvc-1\" Volume is already exclusively attached to one node and can't be attached to another",
                "ReadWriteMany",
            ),
            ("persistentvolumeclaim \"backups\" not found", "PersistentVolumeClaim backups is missing"),
        ] {
            let said = words("FailedMount", message);
            assert!(said.contains(words_) && said.contains("(FailedMount: "), "{said}");
        }
        let unknown = words("FailedMount", &format!("line\none \u{0}{}", "x".repeat(2000)));
        assert!(unknown.starts_with("FailedMount: line one") && unknown.chars().count() <= 700, "{unknown}");
    }
}
