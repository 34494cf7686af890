//! Files of a story's application: a claim that its Deployment mounts, filled with what is easily lost, and looked at from
//! outside, in the directory of this machine that stands behind it. The repository lies on a claim as real storage gives it.

use std::{
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    cluster::{apply, eventually, kubectl},
    record::Record,
    world::{PATIENCE, World},
};

/// As whom the application runs once it has files.
const USER: u32 = 10_001;

/// The group that its pods share their volumes with.
const GROUP: u32 = 20_002;

/// The application's files in one environment, and the volume made for its repository.
pub struct Files(PathBuf, Option<String>);

impl Drop for Files {
    fn drop(&mut self) {
        // A volume is of no namespace, and does not go with one.
        if let Some(volume) = &self.1 {
            let _ = kubectl(&["delete", "pv", volume, "--wait=false"]);
        }
    }
}

impl Files {
    /// Gives Production's application a claim with files, and a user of its own, and names the claim in the Environment.
    pub fn of(world: &mut World) -> Self {
        let mut files = Self::mounted(&world.production);
        files.1 = Some(closed(&world.production, files.0.parent().expect("a directory for volumes")));
        world.settle();
        let repository =
            json!([{"op": "replace", "path": "/spec/backups/repository", "value": {"volume": {"claim": {"name": "closed"}}}}]);
        kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=json", "-p", &repository.to_string()])
            .expect("the repository is elsewhere");
        let data = json!([{"op": "add", "path": "/spec/data/-", "value": {"name": "uploads", "volume": {"claim": {"name": "uploads"}}}}]);
        kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=json", "-p", &data.to_string()])
            .expect("it is named");
        world.record = Record::of(&world.production);
        files
    }

    /// Gives a namespace's application a claim with files, and a user of its own.
    pub fn mounted(namespace: &str) -> Self {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "uploads", "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        apply(&claim.to_string()).expect("the claim applies");
        let pod = json!({"spec": {"template": {"spec": {
            "securityContext": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": GROUP, "fsGroupChangePolicy": "OnRootMismatch"},
            "containers": [{
                "name": "tiny", "env": [{"name": "TINY_FILES", "value": "/uploads"}],
                "volumeMounts": [{"name": "uploads", "mountPath": "/uploads"}],
            }],
            "volumes": [{"name": "uploads", "persistentVolumeClaim": {"claimName": "uploads"}}],
        }}}});
        kubectl(&["-n", namespace, "patch", "deployment", "tiny", "-p", &pod.to_string()]).expect("it mounts the claim");
        kubectl(&["-n", namespace, "rollout", "status", "deployment/tiny", "--timeout=120s"]).expect("it is back");
        let files = Self(directory(namespace), None);
        files.fill();
        files
    }

    fn fill(&self) {
        let root = &self.0;
        fs::create_dir_all(root.join("deep/er")).expect("a directory");
        for number in 0..200 {
            fs::write(root.join(format!("deep/{number}")), format!("upload {number}")).expect("a file");
        }
        let odd = std::ffi::OsString::from_vec(b"deep/er/\xff no text\n".to_vec());
        fs::write(root.join(odd), vec![7; 3_000_000]).expect("a file");
        fs::hard_link(root.join("deep/7"), root.join("linked")).expect("a link");
        symlink("/etc/passwd", root.join("outside")).expect("a link");
        fs::write(root.join("tool"), "#!/bin/sh\n").expect("a file");
        give(root);
        fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o4750)).expect("a mode");
        fs::set_permissions(root.join("deep/8"), fs::Permissions::from_mode(0o400)).expect("a mode");
    }

    /// What users do to files: one goes, one comes, one is written to. Each time to others.
    pub fn use_them(&self, round: usize) {
        fs::remove_file(self.0.join(format!("deep/{}", 10 * round + 10))).expect("it was there");
        fs::write(self.0.join("deep/11"), format!("edited {round}")).expect("it is written");
        fs::write(self.0.join(format!("deep/new {round}")), "came").expect("it is written");
        chown(self.0.join(format!("deep/new {round}")), Some(USER), Some(GROUP)).expect("an owner");
    }

    /// One more, of the application's user.
    pub fn add(&self, name: &str) {
        fs::write(self.0.join(name), name).expect("it is written");
        chown(self.0.join(name), Some(USER), Some(GROUP)).expect("an owner");
    }

    /// All there is to say of them, a line an entry.
    pub fn listing(&self) -> Vec<String> {
        let mut out = Vec::new();
        list(&self.0, &self.0, &mut out);
        out.sort();
        out
    }
}

/// A claim `closed` whose volume belongs to root, and is given to a pod's fsGroup alone. Gives the volume's name.
fn closed(namespace: &str, beside: &Path) -> String {
    let volume = format!("{namespace}-closed");
    let path = beside.join(&volume);
    // What a story told earlier left belongs to an Environment that is gone; nothing mounts it any more.
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    // One that a story which was cut off has left leads elsewhere.
    kubectl(&["delete", "pv", &volume, "--ignore-not-found", "--timeout=60s"]).expect("the name is free");
    let node = kubectl(&["get", "nodes", "-o", r"jsonpath={.items[0].metadata.labels.kubernetes\.io/hostname}"]).expect("a node");
    let here = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node.trim()]}]});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path}, "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
            "claimRef": {"namespace": namespace, "name": "closed"}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "closed", "namespace": namespace}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "", "volumeName": volume}},
    ]});
    apply(&objects.to_string()).expect("a volume of root's");
    volume
}

/// The directory of this machine behind the claim.
fn directory(namespace: &str) -> PathBuf {
    let mut found = None;
    eventually("the claim has its volume", PATIENCE, || {
        let name = kubectl(&["-n", namespace, "get", "pvc", "uploads", "-o", "jsonpath={.spec.volumeName}"])?;
        let volume: Value =
            serde_json::from_str(&kubectl(&["get", "pv", name.trim(), "-o", "json"])?).map_err(|e| e.to_string())?;
        found = volume.pointer("/spec/hostPath/path").and_then(Value::as_str).map(PathBuf::from);
        found.as_ref().map(|_| ()).ok_or_else(|| "it is not bound".to_owned())
    });
    found.expect("a directory")
}

/// Gives everything below to the application's user.
fn give(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        lchown(&path, Some(USER), Some(GROUP)).expect("an owner");
        if entry.file_type().expect("a kind").is_dir() {
            chown(&path, Some(USER), Some(GROUP)).expect("an owner");
            give(&path);
        }
    }
}

fn list(root: &Path, directory: &Path, out: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let (path, meta) = (entry.path(), entry.path().symlink_metadata().expect("it is there"));
        let mut line = format!(
            "{} mode={:o} owner={}:{} time={}.{}",
            path.strip_prefix(root).expect("below").as_os_str().as_bytes().escape_ascii(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if meta.is_file() {
            line += &format!(" links={} hash={}", meta.nlink(), blake3::hash(&fs::read(&path).expect("it is read")).to_hex());
        } else if meta.is_symlink() {
            line += &format!(" to={}", fs::read_link(&path).expect("a target").display());
        }
        out.push(line);
        if meta.is_dir() {
            list(root, &path, out);
        }
    }
}
