//! Which entries of a volume leave their environment, and what is told of them.
//!
//! An entry leaves where its own path matches; of no other, but the directories that lead there, is anything told. A symbolic link
//! leaves where what it names does too, because its text is a name. A device leaves never: nobody could make it again. Owners,
//! modes and times are kept. Extended attributes stay behind, access lists among them: they hold what no pattern spoke of.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rustic_core::repofile::{Node, NodeType};

use super::tree::Found;
use crate::data::mask::Files;

/// What stays behind although a pattern names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Symbolic links whose target does not leave.
    pub links: u64,
    /// Devices.
    pub devices: u64,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, devices } = self;
        let mut said = Vec::new();
        if *links > 0 {
            said.push(format!("{links} symbolic links stay behind, because what they name does not leave"));
        }
        if *devices > 0 {
            said.push(format!("{devices} devices stay behind"));
        }
        f.write_str(&said.join("; "))
    }
}

/// What is told of an entry elsewhere.
pub(super) fn as_it_leaves(node: &mut Node) {
    node.meta.extended_attributes.clear();
    node.meta.ctime = None;
    node.meta.atime = None;
    // How many names there are besides those that leave. Two are enough to tell a file that has several.
    node.meta.links = if node.is_dir() { 1 } else { node.meta.links.min(2) };
}

/// What leaves, as a walk comes to it.
pub(super) struct Leaving<'a> {
    files: &'a Files,
    /// The directories that the walk is in, outermost first, and whether each has been told of.
    open: Vec<(PathBuf, Node, bool)>,
    left_out: LeftOut,
}

impl<'a> Leaving<'a> {
    pub(super) fn new(files: &'a Files) -> Self {
        Self { files, open: Vec::new(), left_out: LeftOut::default() }
    }

    pub(super) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Whether an entry leaves for itself.
    pub(super) fn takes(&mut self, found: &Found<'_>) -> bool {
        while self.open.last().is_some_and(|(dir, ..)| !found.path.starts_with(dir)) {
            self.open.pop();
        }
        let Found { path, node, .. } = found;
        let matches = self.files.takes(path);
        match &node.node_type {
            NodeType::Dir => {
                let mut told = node.clone();
                as_it_leaves(&mut told);
                self.open.push(((*path).to_owned(), told, matches));
                matches
            }
            NodeType::Symlink { .. } if matches => {
                let leaves = self.files.takes_link(path, node.node_type.to_link());
                self.left_out.links += u64::from(!leaves);
                leaves
            }
            NodeType::Dev { .. } | NodeType::Chardev { .. } if matches => {
                self.left_out.devices += 1;
                false
            }
            _ => matches,
        }
    }

    /// The directories that lead to an entry which leaves, of which nothing has been told yet.
    pub(super) fn directories_to(&mut self, path: &Path) -> Vec<(PathBuf, Node)> {
        let untold = self.open.iter_mut().filter(|(dir, _, told)| !*told && dir.as_path() != path);
        untold
            .map(|(dir, node, told)| {
                *told = true;
                (dir.clone(), node.clone())
            })
            .collect()
    }
}
