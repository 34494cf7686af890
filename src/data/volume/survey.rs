//! Whether a volume can be read, and put back as it is, by the user that this process runs as. Read alone.

use std::{collections::BTreeSet, os::fd::AsFd, path::Path};

use rustic_core::repofile::{Node, NodeType};
use rustix::{
    fs::{Access, AtFlags, accessat},
    process::{getegid, geteuid, getgroups},
};

use super::{
    VolumeError, shown,
    tree::{Root, is_file_systems, names, walk},
};
use crate::data::{
    repository::Reader,
    stop::{Stop, Stopped},
};

/// So many entries are named for each thing that is wrong.
const NAMED: usize = 3;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Entries of every kind.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// Who may own what is to be put back: a process without rights of its own gives files to nobody else.
struct Me {
    user: u32,
    groups: BTreeSet<u32>,
}

impl Me {
    fn now() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        Self { user: geteuid().as_raw(), groups: groups.map(|g| g.as_raw()).collect() }
    }

    fn may_give(&self, node: &Node) -> bool {
        self.user == 0 || (node.meta.uid == Some(self.user) && node.meta.gid.is_some_and(|g| self.groups.contains(&g)))
    }
}

#[derive(Default)]
struct Named {
    count: u64,
    first: Vec<String>,
}

impl Named {
    fn add(&mut self, words: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(words());
        }
    }

    fn say(&self, what: &str, mend: &str) -> Option<String> {
        let more = if self.count > self.first.len() as u64 { ", …" } else { "" };
        (self.count > 0).then(|| format!("{} {what} ({}{more}): {mend}", self.count, self.first.join(", ")))
    }
}

fn owned(path: &Path, node: &Node) -> String {
    format!("{} of {}:{}", shown(path), node.meta.uid.unwrap_or(0), node.meta.gid.unwrap_or(0))
}

/// What of a volume in a snapshot this process could not give to its owners, in words.
pub fn owners(reader: &Reader, prefix: &Path, stop: &Stop) -> Result<Vec<String>, VolumeError> {
    let (me, mut foreign) = (Me::now(), Named::default());
    for entry in reader.below(&reader.directory(prefix)?)? {
        if stop.is_asked() {
            return Err(Stopped.into());
        }
        let (path, node) = entry?;
        if !me.may_give(&node) {
            foreign.add(|| owned(&path, &node));
        }
    }
    let mend = format!(
        "here Jobs run as user {}, which is what securityContext.runAsUser of the workload that mounts the claim says: name there, in both \
         environments, the user and group whose files these are",
        me.user
    );
    Ok(foreign.say("entries belong to others there and cannot be given to them here", &mend).into_iter().collect())
}

/// That a volume in which nothing is yet cannot be filled by the user of this process, in words: no pod that says an `fsGroup` has
/// mounted it.
pub fn closed(root: &Path) -> Result<Option<String>, VolumeError> {
    let root = Root::open(root)?;
    let there = names(root.as_fd()).map_err(|e| super::failed(Path::new(""), "looking at it", e))?;
    let writes = accessat(&root, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    let fresh = there.iter().all(|name| is_file_systems(Path::new(""), name));
    Ok((fresh && writes == Err(rustix::io::Errno::ACCESS)).then(|| {
        let Me { user, groups } = Me::now();
        let groups = groups.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "nothing is there yet, and user {user} of the groups {groups} cannot write there: start the workload that mounts the claim \
             once, so that Kubernetes gives the volume to its fsGroup, or give its directory to that user"
        )
    }))
}

/// Looks at every entry, while somebody may work there.
pub fn survey(root: &Path, stop: &Stop) -> Result<Survey, VolumeError> {
    let me = Me::now();
    let mut out = Survey::default();
    let (mut unread, mut foreign, mut devices) = (Named::default(), Named::default(), Named::default());
    let walked = walk(&Root::open(root)?, true, &mut |found| {
        if stop.is_asked() {
            return Err(Stopped.into());
        }
        let node = &found.node;
        out.entries += 1;
        out.bytes += node.meta.size;
        let needs = match node.node_type {
            NodeType::File => Some(Access::READ_OK),
            NodeType::Dir => Some(Access::READ_OK | Access::EXEC_OK),
            _ => None,
        };
        if needs.is_some_and(|access| accessat(found.dir, found.name, access, AtFlags::EACCESS) == Err(rustix::io::Errno::ACCESS))
        {
            unread.add(|| shown(found.path));
        }
        if !me.may_give(node) {
            foreign.add(|| owned(found.path, node));
        }
        if matches!(node.node_type, NodeType::Dev { .. } | NodeType::Chardev { .. }) && me.user != 0 {
            devices.add(|| shown(found.path));
        }
        Ok(())
    });
    match walked {
        Ok(()) => {}
        // Most often a directory that was named already.
        Err(VolumeError::Files { path, doing, cause, .. }) if unread.first.is_empty() => {
            out.problems.push(format!("{path}: {doing}: {cause}"));
        }
        Err(VolumeError::Files { .. }) => {}
        Err(other) => return Err(other),
    }
    let user = me.user;
    let own = format!(
        "its Jobs run as user {user}, which is what securityContext.runAsUser of the workload that mounts the claim says, or 65532 where it \
         says none: name there the user whose files these are, or give all files to user {user}"
    );
    out.problems.extend(unread.say("entries cannot be read", &own));
    out.problems.extend(foreign.say("entries belong to others and could not be given back to them", &own));
    out.problems.extend(devices.say("entries are devices", "no pod of ours may make them again; remove them"));
    Ok(out)
}
