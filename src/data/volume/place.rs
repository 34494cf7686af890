//! The two hands that change a volume: one removes what the snapshot does not have, the other writes what differs.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::{fd::BorrowedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use rustic_core::repofile::{Node, NodeType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, linkat,
    lremovexattr, lsetxattr, makedev, mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};

use super::{
    VolumeError,
    digest::Digest,
    failed,
    restore::{At, Hand, Report, split},
    tree::{child, is_file_systems, look, names, path_at, permissions},
};
use crate::data::repository::Reader;

/// Blocks of this size that hold nothing but zeros become holes.
const BLOCK: usize = 4096;

/// Removes what the snapshot does not have, and what is of another kind there.
#[derive(Default)]
pub(super) struct Clear {
    removed: usize,
}

impl Clear {
    pub(super) fn removed(&self) -> usize {
        self.removed
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), VolumeError> {
        self.removed += 1;
        remove(dir, name).map_err(|e| failed(path, "removing it", e))
    }
}

impl Hand for Clear {
    fn enter(&mut self, at: &mut At<'_>, path: &Path, node: &Node, _: usize) -> Result<(), VolumeError> {
        let Some(here) = at.look(path).map_err(|e| failed(path, "looking at it", e))? else { return Ok(()) };
        let same = std::mem::discriminant(&here.node_type) == std::mem::discriminant(&node.node_type);
        let (parent, name) = split(path);
        let dir = at.dir(parent).map_err(|e| failed(parent, "opening it", e))?;
        if !same {
            return self.remove(dir, name, path);
        }
        if here.is_dir() {
            make_workable(dir, name, &here).map_err(|e| failed(path, "opening it for changes", e))
        } else {
            Ok(())
        }
    }

    fn leave(&mut self, at: &mut At<'_>, path: &Path, _: &Node, seen: &HashSet<OsString>) -> Result<(), VolumeError> {
        let dir = match at.dir(path) {
            Ok(dir) => dir,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(failed(path, "opening it", error)),
        };
        let here = names(dir).map_err(|e| failed(path, "reading the directory", e))?;
        for name in here.iter().filter(|n| !seen.contains(*n) && !is_file_systems(path, n)) {
            self.remove(dir, name, &path.join(name))?;
        }
        Ok(())
    }
}

/// Lets the owner of a directory change it; its own mode comes back at the end.
fn make_workable(dir: BorrowedFd<'_>, name: &OsStr, node: &Node) -> io::Result<()> {
    let mode = permissions(node);
    if mode & 0o700 == 0o700 || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Ok(chmodat(dir, name, Mode::from_raw_mode(mode | 0o700), AtFlags::empty())?)
}

/// Removes a name, with all that is below it.
fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let here = match look(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !here.is_dir() {
        return Ok(unlinkat(dir, name, AtFlags::empty())?);
    }
    make_workable(dir, name, &here)?;
    {
        let inner = child(dir, name)?;
        let inner = std::os::fd::AsFd::as_fd(&inner);
        for name in names(inner)? {
            remove(inner, &name)?;
        }
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Writes what differs.
pub(super) struct Fill<'a> {
    reader: &'a Reader,
    /// Numbers of the files whose content is in place.
    same: HashSet<usize>,
    links: Digest,
    /// By device and inode of what is in place: the first name under which it stands.
    placed: HashMap<(u64, u64), PathBuf>,
    written: usize,
    /// Bytes of the files that are in place, written or found.
    bytes: u64,
    report: Report<'a>,
}

impl<'a> Fill<'a> {
    pub(super) fn new(reader: &'a Reader, same: HashSet<usize>, report: Report<'a>) -> Self {
        Self { reader, same, links: Digest::default(), placed: HashMap::new(), written: 0, bytes: 0, report }
    }

    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// A later name of a file that has several.
    fn link(&self, at: &mut At<'_>, path: &Path, first: &Path) -> Result<(), VolumeError> {
        let fail = |error: io::Error| failed(path, "linking it", error);
        let inode = |node: &Node| (node.meta.device_id, node.meta.inode);
        let (there, here) = (at.look(first).map_err(fail)?, at.look(path).map_err(fail)?);
        if there.as_ref().map(inode) == here.as_ref().map(inode) {
            return Ok(());
        }
        let ((from, old), (to, new)) = (split(first), split(path));
        let source = at.dir(from).and_then(|dir| dir.try_clone_to_owned()).map_err(fail)?;
        let target = at.dir(to).map_err(fail)?;
        if here.is_some() {
            remove(target, new).map_err(fail)?;
        }
        linkat(source, old, target, new, AtFlags::empty()).map_err(|e| fail(e.into()))
    }

    /// Whether a file in place may stay: its content is right, and no other file of the snapshot stands under the same inode.
    fn stays(&mut self, here: &Node, path: &Path, number: usize) -> bool {
        if !self.same.contains(&number) {
            return false;
        }
        if here.meta.links < 2 {
            return true;
        }
        let key = (here.meta.device_id, here.meta.inode);
        self.placed.entry(key).or_insert_with(|| path.to_owned()) == path
    }

    fn file(&mut self, at: &mut At<'_>, path: &Path, node: &Node, number: usize) -> Result<(), VolumeError> {
        let fail = |error: io::Error| failed(path, "writing it", error);
        if let Some(here) = at.look(path).map_err(fail)? {
            if self.stays(&here, path, number) {
                return Ok(());
            }
            let (parent, name) = split(path);
            // Its space may be needed for what takes its place; that it is in the repository, and sound, is known.
            at.dir(parent).and_then(|dir| remove(dir, name)).map_err(fail)?;
        }
        let (parent, name) = split(path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = at.dir(parent).and_then(|dir| Ok(openat(dir, name, flags, Mode::from_raw_mode(0o600))?)).map_err(fail)?;
        let mut sparse = Sparse { file: File::from(made), at: 0, failure: None };
        let dumped = self.reader.dump(path, node, &mut sparse);
        if let Some(error) = sparse.failure.take() {
            return Err(fail(error));
        }
        dumped?;
        sparse.file.set_len(node.meta.size).map_err(fail)?;
        self.written += 1;
        Ok(())
    }
}

impl Hand for Fill<'_> {
    fn enter(&mut self, at: &mut At<'_>, path: &Path, node: &Node, number: usize) -> Result<(), VolumeError> {
        let fail = |error: io::Error| failed(path, "making it", error);
        if let Some(first) = self.links.first_name(path, node).cloned() {
            return self.link(at, path, &first);
        }
        let (parent, name) = split(path);
        match &node.node_type {
            NodeType::File => {
                self.file(at, path, node, number)?;
                self.bytes += node.meta.size;
                (self.report)(self.bytes);
            }
            NodeType::Dir => {
                let here = at.look(path).map_err(fail)?;
                let dir = at.dir(parent).map_err(fail)?;
                match here {
                    Some(here) => make_workable(dir, name, &here).map_err(fail)?,
                    None => mkdirat(dir, name, Mode::from_raw_mode(0o700)).map_err(|e| fail(e.into()))?,
                }
                // What it is comes once everything in it is there.
                return Ok(());
            }
            other => {
                let here = at.look(path).map_err(fail)?;
                if here.is_none_or(|here| here.node_type != *other) {
                    let dir = at.dir(parent).map_err(fail)?;
                    remove(dir, name).map_err(fail)?;
                    make(dir, name, other).map_err(fail)?;
                }
            }
        }
        dress(at, path, node).map_err(|e| failed(path, "giving it its owner, mode, attributes and time", e))
    }

    fn leave(&mut self, at: &mut At<'_>, path: &Path, node: &Node, _: &HashSet<OsString>) -> Result<(), VolumeError> {
        at.forget();
        match dress(at, path, node) {
            // The volume's own directory may be the storage's, and is what it was made.
            Err(_) if path.as_os_str().is_empty() => Ok(()),
            other => other.map_err(|e| failed(path, "giving it its owner, mode, attributes and time", e)),
        }
    }
}

/// Makes what is neither file nor directory.
fn make(dir: BorrowedFd<'_>, name: &OsStr, kind: &NodeType) -> io::Result<()> {
    let special = |kind, device: u64| {
        let device = makedev(rustix::fs::major(device), rustix::fs::minor(device));
        Ok(mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device)?)
    };
    match kind {
        NodeType::Symlink { .. } => Ok(symlinkat(kind.to_link(), dir, name)?),
        NodeType::Fifo => special(FileType::Fifo, 0),
        NodeType::Socket => special(FileType::Socket, 0),
        NodeType::Dev { device } => special(FileType::BlockDevice, *device),
        NodeType::Chardev { device } => special(FileType::CharacterDevice, *device),
        NodeType::File | NodeType::Dir => Err(io::Error::other("it is made elsewhere")),
    }
}

/// Gives an entry its owner, attributes, mode and time, each only where it differs.
fn dress(at: &mut At<'_>, path: &Path, node: &Node) -> io::Result<()> {
    let (parent, name) = split(path);
    let dir = at.dir(parent)?;
    let mut here = look(dir, name)?;
    let mut mode_is_right = node.is_symlink() || permissions(&here) == permissions(node);
    if (here.meta.uid, here.meta.gid) != (node.meta.uid, node.meta.gid) {
        let (uid, gid) = (node.meta.uid.map(Uid::from_raw), node.meta.gid.map(Gid::from_raw));
        chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        // The system takes setuid and setgid away.
        mode_is_right = node.is_symlink();
    }
    if here.meta.extended_attributes != node.meta.extended_attributes {
        // Attributes are written by who may write the file.
        chmodat(dir, name, Mode::from_raw_mode(permissions(node) | 0o600), AtFlags::empty())?;
        mode_is_right = false;
        let place = path_at(dir, name);
        for old in here.meta.extended_attributes.drain(..) {
            if !node.meta.extended_attributes.iter().any(|a| a.name == old.name) {
                lremovexattr(&place, &*old.name)?;
            }
        }
        for wanted in &node.meta.extended_attributes {
            lsetxattr(&place, &*wanted.name, wanted.value.as_deref().unwrap_or_default(), XattrFlags::empty())?;
        }
    }
    if !mode_is_right {
        chmodat(dir, name, Mode::from_raw_mode(permissions(node)), AtFlags::empty())?;
    }
    if let Some(mtime) = node.meta.mtime.filter(|t| here.meta.mtime != Some(*t)) {
        let nanos = i64::from(mtime.subsec_nanosecond());
        // Before 1970 the fraction counts backwards here and forwards there.
        let (seconds, nanos) =
            if nanos < 0 { (mtime.as_second() - 1, nanos + 1_000_000_000) } else { (mtime.as_second(), nanos) };
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos },
        };
        utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Writes a content with holes where it holds nothing but zeros.
struct Sparse {
    file: File,
    at: u64,
    failure: Option<io::Error>,
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Up to the next border of a block, so that holes are where the file system can have them.
            let border = BLOCK - usize::try_from(self.at % BLOCK as u64).unwrap_or(0);
            let (block, after) = rest.split_at(border.min(rest.len()));
            let mut length = block.len();
            if block.iter().any(|b| *b != 0) {
                // As much as goes on without a block of zeros in one call.
                let more = after.chunks(BLOCK).take_while(|b| b.iter().any(|b| *b != 0)).map(<[u8]>::len).sum::<usize>();
                length += more;
                if let Err(error) = self.file.write_all_at(&rest[..length], self.at) {
                    let said = io::Error::other(error.to_string());
                    self.failure = Some(error);
                    return Err(said);
                }
            }
            self.at += u64::try_from(length).unwrap_or(0);
            rest = &rest[length..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
