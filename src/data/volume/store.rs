//! A volume into a snapshot.
//!
//! The library that writes warns of a file that it cannot read and goes on; so files are opened here, and the volume counts
//! only where every entry was read to its end.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use blake3::{Hash, Hasher};
use rustic_core::repofile::{Node, NodeType};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::{
    Total, VolumeError,
    digest::Digest,
    failed,
    leaving::{Leaving, LeftOut, as_it_leaves},
    shown,
    tree::{Found, Root, described, walk_into},
};
use crate::data::{mask::Files, repository::Entries, stop::Stop};

/// Files up to this size are read whole before they are handed on: what is said of them is what was read.
const WHOLE: u64 = 1 << 20;

/// What is known so far; large files add themselves when they have been read.
#[derive(Default)]
struct State {
    digest: Digest,
    open: usize,
    failure: Option<VolumeError>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

fn state(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A volume that is on its way into a snapshot.
pub struct Stored(Shared);

impl Stored {
    /// What was read. Waits until the last large file has been.
    pub fn total(self) -> Result<Total, VolumeError> {
        let mut state = state(&self.0);
        while state.open > 0 && state.failure.is_none() {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(state.digest.total()),
        }
    }
}

/// How a volume goes into a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// Whether somebody works there: what goes meanwhile is left out.
    pub live: bool,
    /// What of it leaves its environment, where not all of it stays there.
    pub only: Option<&'a Files>,
}

/// Adds the volume in `root` to a snapshot, below `prefix`. Says what stays behind although a pattern names it.
pub fn store(
    root: &Path,
    prefix: &Path,
    How { live, only }: How<'_>,
    entries: &Entries,
    stop: &Stop,
    report: &(dyn Fn(u64) + Sync),
) -> Result<(Stored, LeftOut), VolumeError> {
    let shared = Shared::default();
    let root = Root::open(root)?;
    let mut own = root.node()?;
    if only.is_some() {
        as_it_leaves(&mut own);
    }
    let node = Node::new_node(prefix.file_name().unwrap_or_default(), NodeType::Dir, own.meta);
    entries.add(prefix, node, None).map_err(|_| VolumeError::Ended)?;
    let mut leaving = only.map(Leaving::new);
    let add = |path: &Path, node: Node, content: Content| {
        entries.add(&prefix.join(path), node, content).map_err(|_| VolumeError::Ended)?;
        report(state(&shared).digest.bytes());
        Ok::<(), VolumeError>(())
    };
    let into = |path: &Path| only.is_none_or(|files| files.may_lead(path));
    // Whether what went wrong did so with an entry that leaves: the name of no other is in an error.
    let mut with_one_that_leaves = only.is_none();
    walk_into(&root, live, &into, &mut |found| {
        if stop.is_asked() {
            return Err(crate::data::stop::Stopped.into());
        }
        if state(&shared).failure.is_some() {
            return Err(VolumeError::Ended);
        }
        if let Some(leaving) = &mut leaving {
            if !leaving.takes(&found) {
                return Ok(());
            }
            with_one_that_leaves = true;
            for (path, node) in leaving.directories_to(found.path) {
                without_content(&path, &node, &shared);
                add(&path, node, None)?;
            }
        }
        if let Some((node, content)) = open(&found, (live, only.is_some()), &shared)? {
            add(found.path, node, content)?;
        }
        with_one_that_leaves = only.is_none();
        Ok(())
    })
    .or_else(|error| match error {
        // Why nothing more is taken stands in the state.
        VolumeError::Ended if state(&shared).failure.is_some() => Ok(()),
        VolumeError::Files { doing, cause, permanent, .. } if !with_one_that_leaves => {
            let path = "an entry in a directory that may lead to files which leave, and whose own name does not".to_owned();
            Err(VolumeError::Files { path, doing, cause, permanent })
        }
        other => Err(other),
    })?;
    Ok((Stored(shared), leaving.map(|l| l.left_out()).unwrap_or_default()))
}

/// Adds what is no file to the sum.
fn without_content(path: &Path, node: &Node, shared: &Shared) {
    let mut state = state(shared);
    let head = state.digest.head(path, node);
    state.digest.add(head, node, None);
}

type Content = Option<Box<dyn Read + Send>>;

/// An entry with its content. None: it is gone.
fn open(found: &Found<'_>, (live, leaves): (bool, bool), shared: &Shared) -> Result<Option<(Node, Content)>, VolumeError> {
    let path = found.path;
    if !found.node.is_file() {
        let mut node = found.node.clone();
        if leaves {
            as_it_leaves(&mut node);
        }
        without_content(path, &node, shared);
        return Ok(Some((node, None)));
    }
    // Another process may have put a pipe in its place: opening must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(found.dir, found.name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) if live => return Ok(None),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) if live => return Err(VolumeError::Changed(shown(path))),
        Err(error) => return Err(failed(path, "opening it", error.into())),
    };
    let stat = fstat(file.as_fd()).map_err(|e| failed(path, "looking at it", e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(VolumeError::Changed(shown(path)));
    }
    let mut node = match described(&stat, found.dir, found.name) {
        Err(error) if live && error.kind() == io::ErrorKind::NotFound => found.node.clone(),
        other => other.map_err(|e| failed(path, "looking at it", e))?,
    };
    if leaves {
        as_it_leaves(&mut node);
    }
    if node.meta.size <= WHOLE {
        let mut content = Vec::with_capacity(usize::try_from(node.meta.size).unwrap_or(0));
        file.take(node.meta.size).read_to_end(&mut content).map_err(|e| failed(path, "reading it", e))?;
        // Shorter than it was: the application has cut it just now.
        node.meta.size = u64::try_from(content.len()).unwrap_or(0);
        let mut state = state(shared);
        let head = state.digest.head(path, &node);
        state.digest.add(head, &node, Some(blake3::hash(&content)));
        return Ok(Some((node, Some(Box::new(Cursor::new(content))))));
    }
    let head = {
        let mut state = state(shared);
        state.open += 1;
        state.digest.head(path, &node)
    };
    let reading = Reading {
        file: file.take(node.meta.size),
        path: path.to_owned(),
        head,
        node: node.clone(),
        hasher: Hasher::new(),
        shared: Arc::clone(shared),
        done: false,
    };
    Ok(Some((node, Some(Box::new(reading)))))
}

/// A large file while it is read: it adds itself to the sum at its end.
struct Reading {
    file: io::Take<File>,
    path: PathBuf,
    head: Hash,
    node: Node,
    hasher: Hasher,
    shared: Shared,
    done: bool,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = |this: &Self, failure: VolumeError| {
            let error = io::Error::other(failure.to_string());
            state(&this.shared).failure.get_or_insert(failure);
            Err(error)
        };
        match self.file.read(buffer) {
            Ok(0) if self.file.limit() > 0 && !buffer.is_empty() => end(self, VolumeError::Changed(shown(&self.path))),
            Ok(length) => {
                self.hasher.update(&buffer[..length]);
                if self.file.limit() == 0 && !self.done {
                    self.done = true;
                    let mut state = state(&self.shared);
                    state.open -= 1;
                    state.digest.add(self.head, &self.node, Some(self.hasher.finalize()));
                    self.shared.1.notify_all();
                }
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => end(self, failed(&self.path, "reading it", error)),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // The library gave up on it: nobody may wait for its end.
        if !self.done {
            state(&self.shared).failure.get_or_insert(VolumeError::Ended);
            self.shared.1.notify_all();
        }
    }
}
