//! A sum over every entry of a tree, in whatever order their contents come to be known.

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use blake3::{Hash, Hasher};
use rustic_core::repofile::{Node, NodeType};
use serde::{Deserialize, Serialize};

use super::tree::permissions;

/// What a tree comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// Files, each name counted: two names of one file are two.
    pub files: u64,
    /// Directories, the volume's own left out.
    pub directories: u64,
    /// Symbolic links, pipes, sockets.
    pub others: u64,
    /// Bytes of the files, holes counted.
    pub bytes: u64,
    /// Sum of the entries' hashes.
    pub hash: String,
}

/// Adds entries up.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// By device and inode: the first name of a file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    total: Total,
    sum: u128,
}

impl Digest {
    /// Everything about an entry but its content. Entries come in the order of the tree.
    pub fn head(&mut self, path: &Path, node: &Node) -> Hash {
        let mut hasher = Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(bytes);
        };
        put(path.as_os_str().as_bytes());
        match &node.node_type {
            NodeType::File => put(b"file"),
            NodeType::Dir => put(b"dir"),
            NodeType::Symlink { .. } => {
                put(b"symlink");
                put(node.node_type.to_link().as_os_str().as_bytes());
            }
            NodeType::Fifo => put(b"fifo"),
            NodeType::Socket => put(b"socket"),
            NodeType::Dev { device } => put(&device.to_le_bytes()),
            NodeType::Chardev { device } => put(&(device ^ u64::MAX).to_le_bytes()),
        }
        // What a link of its own permits is nowhere kept.
        put(&if node.is_symlink() { 0 } else { permissions(node) }.to_le_bytes());
        put(&node.meta.uid.unwrap_or(0).to_le_bytes());
        put(&node.meta.gid.unwrap_or(0).to_le_bytes());
        put(&node.meta.size.to_le_bytes());
        put(&node.meta.mtime.map_or(i128::MIN, |t| t.as_nanosecond()).to_le_bytes());
        for attribute in &node.meta.extended_attributes {
            put(attribute.name.as_bytes());
            put(attribute.value.as_deref().unwrap_or_default());
        }
        put(self.first_name(path, node).map_or(b"".as_slice(), |first| first.as_os_str().as_bytes()));
        hasher.finalize()
    }

    /// The first name of a file, where this is a later one.
    pub fn first_name(&mut self, path: &Path, node: &Node) -> Option<&PathBuf> {
        if node.is_dir() || node.meta.links < 2 {
            return None;
        }
        let first = self.links.entry((node.meta.device_id, node.meta.inode)).or_insert_with(|| path.to_owned());
        (first != path).then_some(first)
    }

    /// Adds an entry whose content is known; of what is no file there is none.
    pub fn add(&mut self, head: Hash, node: &Node, content: Option<Hash>) {
        match node.node_type {
            NodeType::File => (self.total.files, self.total.bytes) = (self.total.files + 1, self.total.bytes + node.meta.size),
            NodeType::Dir => self.total.directories += 1,
            _ => self.total.others += 1,
        }
        let mut whole = Hasher::new();
        whole.update(head.as_bytes());
        if let Some(content) = content {
            whole.update(content.as_bytes());
        }
        let mut first = [0; 16];
        first.copy_from_slice(&whole.finalize().as_bytes()[..16]);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(first));
    }

    /// The bytes of what was added so far.
    pub fn bytes(&self) -> u64 {
        self.total.bytes
    }

    /// What it comes to.
    pub fn total(&self) -> Total {
        Total { hash: format!("{:032x}", self.sum), ..self.total.clone() }
    }
}
