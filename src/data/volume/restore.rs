//! A volume out of a snapshot, in place, so that it is exactly what was stored: what is the same stays untouched, what came
//! since goes.
//!
//! 1. The whole snapshot is read and compared with what is in place. Every byte of it is checked against its hash, and the sum
//!    of all against the one that was made when it was stored: nothing is touched before all of it is known to be sound.
//! 2. What the snapshot does not have is removed ([`super::place`]).
//! 3. What differs is written, then links, owners, attributes, modes and times.
//! 4. The volume is read, and its sum compared.
//!
//! Killed anywhere, the next call finds what is left to do by the same comparison.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use blake3::{Hash, Hasher};
use rustic_core::repofile::Node;
use rustix::fs::{Mode, OFlags, openat};

use super::{
    Total, VolumeError,
    digest::Digest,
    failed,
    place::{Clear, Fill},
    shown,
    tree::{Root, look, permissions, walk},
};
use crate::data::{
    repository::Reader,
    stop::{Stop, Stopped},
};

/// So many differences are named.
const NAMED: usize = 8;

/// Says how many bytes are done.
pub type Report<'a> = &'a (dyn Fn(u64) + Sync);

/// What is done with a volume that is put back, one after the other, each with as many bytes as the volume has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The snapshot is read, and compared with what is in place.
    Reading,
    /// What differs is written.
    Writing,
    /// The volume is read once more.
    Comparing,
}

/// What was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Files whose content was written.
    pub written: usize,
    /// Entries that were removed, directories with all in them counted once.
    pub removed: usize,
}

/// A directory below the volume's own, kept open while entries come from it one after the other.
pub(super) struct At<'a> {
    root: &'a Root,
    open: Option<(PathBuf, OwnedFd)>,
}

impl<'a> At<'a> {
    fn new(root: &'a Root) -> Self {
        Self { root, open: None }
    }

    /// The directory of that name below the volume.
    pub fn dir(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        if self.open.as_ref().is_none_or(|(at, _)| at != path) {
            self.open = None;
            self.open = Some((path.to_owned(), self.root.below(path)?));
        }
        self.open.as_ref().map(|(_, fd)| fd.as_fd()).ok_or_else(|| io::Error::other("it is not open"))
    }

    /// What is there under that name. None: nothing.
    pub fn look(&mut self, path: &Path) -> io::Result<Option<Node>> {
        let (parent, name) = split(path);
        match self.dir(parent).and_then(|dir| look(dir, name)) {
            Ok(node) => Ok(Some(node)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets the directory that is open: it may have gone.
    pub fn forget(&mut self) {
        self.open = None;
    }
}

/// The directory that an entry is in, and its name there.
pub(super) fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or(OsStr::new(".")))
}

/// What is done with the entries of a snapshot, one after the other.
pub(super) trait Hand {
    /// Comes to an entry, a directory before what is in it. Entries are numbered.
    fn enter(&mut self, at: &mut At<'_>, path: &Path, node: &Node, number: usize) -> Result<(), VolumeError>;
    /// Leaves a directory: these names are in it.
    fn leave(&mut self, at: &mut At<'_>, path: &Path, node: &Node, seen: &HashSet<OsString>) -> Result<(), VolumeError>;
}

/// Goes through a snapshot's directory.
fn go(reader: &Reader, own: &Node, root: &Root, stop: &Stop, hand: &mut impl Hand) -> Result<(), VolumeError> {
    let mut at = At::new(root);
    let mut open: Vec<(PathBuf, Node, HashSet<OsString>)> = vec![(PathBuf::new(), own.clone(), HashSet::new())];
    for (number, entry) in reader.below(own)?.enumerate() {
        if stop.is_asked() {
            return Err(Stopped.into());
        }
        let (path, node) = entry?;
        let (parent, name) = split(&path);
        while open.last().is_some_and(|(dir, ..)| dir != parent) {
            if let Some((dir, node, seen)) = open.pop() {
                hand.leave(&mut at, &dir, &node, &seen)?;
            }
        }
        let damaged = || VolumeError::Differs(format!("{}: the snapshot does not name its directory", shown(&path)));
        open.last_mut().ok_or_else(damaged)?.2.insert(name.to_owned());
        hand.enter(&mut at, &path, &node, number)?;
        if node.is_dir() {
            open.push((path, node, HashSet::new()));
        }
    }
    while let Some((dir, node, seen)) = open.pop() {
        hand.leave(&mut at, &dir, &node, &seen)?;
    }
    Ok(())
}

/// What a volume in a snapshot comes to. Every byte is read.
pub fn total(reader: &Reader, prefix: &Path, stop: &Stop, report: Report<'_>) -> Result<Total, VolumeError> {
    let own = reader.directory(prefix)?;
    let mut digest = Digest::default();
    let mut contents = Contents::default();
    for entry in reader.below(&own)? {
        if stop.is_asked() {
            return Err(Stopped.into());
        }
        let (path, node) = entry?;
        let content = node.is_file().then(|| contents.read(reader, &path, &node, None).map(|(hash, _)| hash)).transpose()?;
        let head = digest.head(&path, &node);
        digest.add(head, &node, content);
        report(digest.bytes());
    }
    Ok(digest.total())
}

/// Puts a volume back to what a snapshot has, whose sum is `expected`.
pub fn put_back(
    root: &Path,
    (reader, prefix): (&Reader, &Path),
    expected: &Total,
    stop: &Stop,
    report: &(dyn Fn(Work, u64) + Sync),
) -> Result<Done, VolumeError> {
    let (reading, writing) = (|bytes| report(Work::Reading, bytes), |bytes| report(Work::Writing, bytes));
    let root = Root::open(root)?;
    let own = reader.directory(prefix)?;
    let mut compare =
        Compare { reader, report: &reading, digest: Digest::default(), contents: Contents::default(), same: HashSet::new() };
    go(reader, &own, &root, stop, &mut compare)?;
    if compare.digest.total() != *expected {
        let what = "what the snapshot holds is not what was backed up; nothing was changed. Restore another backup";
        return Err(VolumeError::Differs(what.into()));
    }
    let mut clear = Clear::default();
    go(reader, &own, &root, stop, &mut clear)?;
    let mut fill = Fill::new(reader, compare.same, &writing);
    go(reader, &own, &root, stop, &mut fill)?;
    rustix::fs::syncfs(openat(&root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(sync)?)
        .map_err(sync)?;
    if in_place(&root, stop, &|bytes| report(Work::Comparing, bytes))? != *expected {
        let mut differ = Differences { reader, named: Vec::new() };
        go(reader, &own, &root, stop, &mut differ)?;
        return Err(VolumeError::Differs(format!(
            "after it was put back it differs from what was backed up: {}",
            if differ.named.is_empty() { "in its links, or in what came meanwhile".into() } else { differ.named.join(", ") }
        )));
    }
    Ok(Done { written: fill.written(), removed: clear.removed() })
}

fn sync(error: rustix::io::Errno) -> VolumeError {
    failed(Path::new(""), "writing it to its disk", error.into())
}

/// What a volume comes to as it is.
pub fn in_place(root: &Root, stop: &Stop, report: Report<'_>) -> Result<Total, VolumeError> {
    let mut digest = Digest::default();
    walk(root, false, &mut |found| {
        if stop.is_asked() {
            return Err(Stopped.into());
        }
        let content = match found.node.is_file() {
            true => Some(hash_of(found.dir, found.name).map_err(|e| failed(found.path, "reading it", e))?),
            false => None,
        };
        let head = digest.head(found.path, &found.node);
        digest.add(head, &found.node, content);
        report(digest.bytes());
        Ok(())
    })?;
    Ok(digest.total())
}

fn opened(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(openat(dir, name, flags, Mode::empty())?))
}

fn hash_of(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Hash> {
    let mut hasher = Hasher::new();
    hasher.update_reader(opened(dir, name)?)?;
    Ok(hasher.finalize())
}

/// Reads contents out of the repository; that of a file with several names once.
#[derive(Default)]
struct Contents(HashMap<(u64, u64), Hash>);

impl Contents {
    /// The hash of a content, and whether this file holds the same.
    fn read(&mut self, reader: &Reader, path: &Path, node: &Node, file: Option<File>) -> Result<(Hash, bool), VolumeError> {
        let key = (node.meta.device_id, node.meta.inode);
        if let Some(hash) = self.0.get(&key).filter(|_| node.meta.links > 1) {
            let here = match file {
                Some(file) => {
                    let mut hasher = Hasher::new();
                    hasher.update_reader(file).map_err(|e| failed(path, "reading it", e))?;
                    Some(hasher.finalize())
                }
                None => None,
            };
            return Ok((*hash, here.as_ref() == Some(hash)));
        }
        let mut side = Side { hasher: Hasher::new(), file, buffer: Vec::new(), length: 0 };
        reader.dump(path, node, &mut side)?;
        if side.length != node.meta.size {
            return Err(VolumeError::Differs(format!("{}: the snapshot holds another size than it names", shown(path))));
        }
        let hash = side.hasher.finalize();
        if node.meta.links > 1 {
            self.0.insert(key, hash);
        }
        Ok((hash, side.file.is_some()))
    }
}

/// Takes a content, and reads a file beside it as long as both are the same.
struct Side {
    hasher: Hasher,
    file: Option<File>,
    buffer: Vec<u8>,
    length: u64,
}

impl Write for Side {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap_or(0);
        if let Some(file) = &mut self.file {
            self.buffer.resize(bytes.len(), 0);
            // One that ends early or cannot be read is not the same.
            if file.read_exact(&mut self.buffer).is_err() || self.buffer != bytes {
                self.file = None;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the whole snapshot and finds which files are in place already.
struct Compare<'a> {
    reader: &'a Reader,
    report: Report<'a>,
    digest: Digest,
    contents: Contents,
    same: HashSet<usize>,
}

impl Hand for Compare<'_> {
    fn enter(&mut self, at: &mut At<'_>, path: &Path, node: &Node, number: usize) -> Result<(), VolumeError> {
        let mut content = None;
        if node.is_file() {
            let here = match at.look(path) {
                // Its directory was closed to its owner since, who opens it again before anything is written.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                other => other.map_err(|e| failed(path, "looking at it", e))?,
            };
            let here = here.filter(|h| h.is_file() && h.meta.size == node.meta.size);
            let (parent, name) = split(path);
            let file = here.and_then(|_| at.dir(parent).and_then(|dir| opened(dir, name)).ok());
            let (hash, same) = self.contents.read(self.reader, path, node, file)?;
            if same {
                self.same.insert(number);
            }
            content = Some(hash);
        }
        let head = self.digest.head(path, node);
        self.digest.add(head, node, content);
        (self.report)(self.digest.bytes());
        Ok(())
    }

    fn leave(&mut self, _: &mut At<'_>, _: &Path, _: &Node, _: &HashSet<OsString>) -> Result<(), VolumeError> {
        Ok(())
    }
}

/// Names what differs.
struct Differences<'a> {
    reader: &'a Reader,
    named: Vec<String>,
}

impl Hand for Differences<'_> {
    fn enter(&mut self, at: &mut At<'_>, path: &Path, node: &Node, _: usize) -> Result<(), VolumeError> {
        if self.named.len() >= NAMED {
            return Ok(());
        }
        let here = at.look(path).map_err(|e| failed(path, "looking at it", e))?;
        let what = match here {
            None => "is missing",
            Some(here) if here.node_type != node.node_type => "is of another kind",
            Some(here) if permissions(&here) != permissions(node) && !node.is_symlink() => "has another mode",
            Some(here) if (here.meta.uid, here.meta.gid) != (node.meta.uid, node.meta.gid) => "has another owner",
            Some(here) if here.meta.mtime != node.meta.mtime => "has another time",
            Some(here) if here.meta.extended_attributes != node.meta.extended_attributes => "has other attributes",
            Some(here) if here.meta.size != node.meta.size => "has another size",
            Some(_) if node.is_file() => {
                let (parent, name) = split(path);
                let file = at.dir(parent).and_then(|dir| opened(dir, name)).map_err(|e| failed(path, "reading it", e))?;
                match Contents::default().read(self.reader, path, node, Some(file))?.1 {
                    true => return Ok(()),
                    false => "has another content",
                }
            }
            Some(_) => return Ok(()),
        };
        self.named.push(format!("{} {what}", shown(path)));
        Ok(())
    }

    fn leave(&mut self, _: &mut At<'_>, _: &Path, _: &Node, _: &HashSet<OsString>) -> Result<(), VolumeError> {
        Ok(())
    }
}
