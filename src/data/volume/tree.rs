//! A volume's tree: reached from its own directory name by name, read in the order in which a snapshot has its entries.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
};

use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

use super::{VolumeError, failed};
use crate::api::Timestamp;

/// So deep is a tree followed: each level takes an open file.
const DEPTH: usize = 400;
/// What a file system keeps for itself in a volume's own directory.
const LOST_AND_FOUND: &str = "lost+found";
/// The system has no longer attribute, nor a longer list of their names.
const LONGEST: usize = 65_536;

/// How Go, and with it restic, writes a mode: permissions as everywhere, the rest in bits of its own.
const GO: [(FileType, u32); 6] = [
    (FileType::Directory, 1 << 31),
    (FileType::Symlink, 1 << 27),
    (FileType::BlockDevice, 1 << 26),
    (FileType::Fifo, 1 << 25),
    (FileType::Socket, 1 << 24),
    (FileType::CharacterDevice, 1 << 26 | 1 << 21),
];
const GO_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

fn to_go(kind: FileType, mode: u32) -> u32 {
    let kind = GO.iter().find(|(k, _)| *k == kind).map_or(0, |(_, bit)| *bit);
    GO_BITS.iter().filter(|(bit, _)| mode & bit != 0).fold(kind | (mode & 0o777), |all, (_, go)| all | go)
}

/// The permissions of an entry, with setuid, setgid and sticky bit.
pub fn permissions(node: &Node) -> u32 {
    let mode = node.meta.mode.unwrap_or(0);
    GO_BITS.iter().filter(|(_, go)| mode & go != 0).fold(mode & 0o777, |all, (bit, _)| all | bit)
}

/// A volume's own directory.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self, VolumeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        fd.map(Self).map_err(|e| failed(Path::new(""), "opening it", e.into()))
    }

    /// A directory below, without following a link.
    pub fn below(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut at = self.0.try_clone()?;
        for component in path.components() {
            match component {
                Component::Normal(name) => at = child(at.as_fd(), name)?,
                Component::CurDir => {}
                _ => return Err(io::Error::other("its name leads out of the volume")),
            }
        }
        Ok(at)
    }

    /// What the directory itself is.
    pub fn node(&self) -> Result<Node, VolumeError> {
        look(self.0.as_fd(), OsStr::new(".")).map_err(|e| failed(Path::new(""), "looking at it", e))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A directory in a directory, to reach others by.
pub fn child(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// A name in an open directory as a path, for calls that take no directory.
pub fn path_at(dir: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

/// The names in a directory, in the order of their bytes.
pub fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let readable = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(readable)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

/// Whether a name in the volume's own directory is the file system's.
pub fn is_file_systems(parent: &Path, name: &OsStr) -> bool {
    parent.as_os_str().is_empty() && name == LOST_AND_FOUND
}

/// What a name stands for.
pub fn look(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Node> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    described(&stat, dir, name)
}

/// An entry as a snapshot has it, from what the system says of it.
pub fn described(stat: &Stat, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Node> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let node_type = match kind {
        FileType::RegularFile => NodeType::File,
        FileType::Directory => NodeType::Dir,
        FileType::Symlink => {
            let target = readlinkat(dir, name, Vec::new())?;
            NodeType::from_link(Path::new(OsStr::from_bytes(target.to_bytes())))
        }
        FileType::Fifo => NodeType::Fifo,
        FileType::Socket => NodeType::Socket,
        FileType::BlockDevice => NodeType::Dev { device: stat.st_rdev },
        _ => NodeType::Chardev { device: stat.st_rdev },
    };
    let time = |seconds: i64, nanos: u64| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).ok();
    let mut meta = Metadata {
        mode: Some(to_go(kind, stat.st_mode)),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        size: if kind == FileType::RegularFile { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        #[allow(clippy::useless_conversion, reason = "narrower on some architectures")]
        links: stat.st_nlink.into(),
        ..Metadata::default()
    };
    // Symbolic links, pipes and the rest have no attributes of a user's.
    if matches!(node_type, NodeType::File | NodeType::Dir) {
        let attributes = attributes(dir, name)?;
        if !attributes.is_empty() {
            // The library does not show the type's name.
            let names = attributes.iter().map(|(name, _)| serde_json::json!({"name": name, "value": null})).collect();
            meta.extended_attributes = serde_json::from_value(serde_json::Value::Array(names))?;
            meta.extended_attributes.iter_mut().zip(attributes).for_each(|(to, (_, value))| to.value = Some(value));
        }
    }
    Ok(Node::new_node(name, node_type, meta))
}

/// Whether an attribute is a user's own: those of the system cannot be put back without its rights.
fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
}

/// The extended attributes of an entry, by name.
fn attributes(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<(String, Vec<u8>)>> {
    let path = path_at(dir, name);
    // Most have none, or a few.
    let (mut few, mut all) = ([0_u8; 512], Vec::new());
    let names = match rustix::fs::llistxattr(&path, &mut few[..]) {
        Ok(length) => &few[..length],
        Err(rustix::io::Errno::RANGE) => {
            all.resize(LONGEST, 0);
            let length = rustix::fs::llistxattr(&path, &mut all[..])?;
            &all[..length]
        }
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut out = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| is_users(n)) {
        let mut value = vec![0_u8; LONGEST];
        match rustix::fs::lgetxattr(&path, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(rustix::io::Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        out.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    out.sort();
    Ok(out)
}

/// An entry that a walk has come to.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its name below the volume.
    pub path: &'a Path,
    /// The directory that it is in.
    pub dir: BorrowedFd<'a>,
    /// Its name in there.
    pub name: &'a OsStr,
    /// What it is.
    pub node: Node,
}

/// Walks all entries below the volume's directory: a directory before what is in it. `live`: somebody works there, and what
/// goes meanwhile is left out.
pub fn walk(root: &Root, live: bool, visit: &mut dyn FnMut(Found<'_>) -> Result<(), VolumeError>) -> Result<(), VolumeError> {
    walk_into(root, live, &|_| true, visit)
}

/// The same; directories for whose path `into` says no are visited and not entered.
pub fn walk_into(
    root: &Root,
    live: bool,
    into: &dyn Fn(&Path) -> bool,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    let own = root.below(Path::new("")).map_err(|e| failed(Path::new(""), "opening it", e))?;
    below(&own, &mut PathBuf::new(), 0, (live, into), visit)
}

fn below(
    dir: &OwnedFd,
    path: &mut PathBuf,
    depth: usize,
    (live, into): (bool, &dyn Fn(&Path) -> bool),
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    if depth > DEPTH {
        let cause = format!("more than {DEPTH} directories lie one in the other: take some away");
        return Err(VolumeError::Files { path: super::shown(path), doing: "walking it", cause, permanent: true });
    }
    let gone = |error: &io::Error| live && error.kind() == io::ErrorKind::NotFound;
    let all = match names(dir.as_fd()) {
        Err(error) if gone(&error) => return Ok(()),
        other => other.map_err(|e| failed(path, "reading the directory", e))?,
    };
    for name in all {
        if is_file_systems(path, &name) {
            continue;
        }
        path.push(&name);
        let step = match look(dir.as_fd(), &name) {
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(failed(path, "looking at it", error)),
            Ok(node) => {
                let is_dir = node.is_dir() && into(path);
                visit(Found { path, dir: dir.as_fd(), name: &name, node }).map(|()| is_dir.then_some(()))
            }
        };
        if step?.is_some() {
            match child(dir.as_fd(), &name) {
                // A link in its place by now is nobody's directory.
                Err(error) if live && (gone(&error) || matches!(error.kind(), io::ErrorKind::NotADirectory)) => {}
                Err(error) => return Err(failed(path, "opening the directory", error)),
                Ok(inner) => below(&inner, path, depth + 1, (live, into), visit)?,
            }
        }
        path.pop();
    }
    Ok(())
}
