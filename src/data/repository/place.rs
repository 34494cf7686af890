//! Where a repository lies: in a directory of a volume, or in a bucket below a prefix. How it is found and made in each, so
//! that of several who make it at once one does.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustic_backend::BackendOptions;
use rustic_core::{Credentials, KeyOptions, OpenStatus, Repository as Rustic, RepositoryBackends, RepositoryOptions};

use super::{RepositoryError, bucket, configuration, raw};
use crate::data::s3::Bucket;

/// Where a repository lies.
#[derive(Clone)]
pub enum Place {
    /// A directory of a volume.
    Volume(PathBuf),
    /// Objects of a bucket.
    Bucket(Bucket),
}

impl From<&Path> for Place {
    fn from(directory: &Path) -> Self {
        Self::Volume(directory.to_path_buf())
    }
}

impl From<&PathBuf> for Place {
    fn from(directory: &PathBuf) -> Self {
        Self::Volume(directory.clone())
    }
}

impl From<Bucket> for Place {
    fn from(bucket: Bucket) -> Self {
        Self::Bucket(bucket)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(_) => f.write_str("its volume"),
            Self::Bucket(bucket) => bucket.location().fmt(f),
        }
    }
}

impl Place {
    /// The repository there, not yet opened.
    pub(super) fn unopened(&self, doing: &str) -> Result<Rustic<()>, RepositoryError> {
        let backends = match self {
            Self::Volume(directory) => {
                let options = BackendOptions::default().repository(directory.display().to_string());
                raw(doing, options.to_backends())?
            }
            Self::Bucket(bucket) => bucket::backends(bucket),
        };
        unopened(doing, &backends)
    }

    /// Opens the repository, or makes it where there is none and it is to be written.
    pub(super) fn open(&self, credentials: &Credentials, writes: bool) -> Result<Rustic<OpenStatus>, RepositoryError> {
        match self {
            Self::Volume(directory) => {
                if !writes && !directory.join("config").exists() {
                    return Err(RepositoryError::Absent { place: self.to_string() });
                }
                fs::create_dir_all(directory).map_err(|error| RepositoryError::from_io("making its directory", &error))?;
                let _alone = alone(directory)?;
                let doing = "opening it";
                let unopened = self.unopened(doing)?;
                if directory.join("config").exists() {
                    raw(doing, unopened.open(credentials))
                } else {
                    forget_half_made(directory)?;
                    raw("making it", unopened.init(credentials, &KeyOptions::default(), &configuration()))
                }
            }
            Self::Bucket(bucket) => {
                if !bucket::is_there(bucket)? {
                    if !writes {
                        return Err(RepositoryError::Absent { place: self.to_string() });
                    }
                    bucket::make(bucket, credentials)?;
                }
                raw("opening it", self.unopened("opening it")?.open(credentials))
            }
        }
    }

    /// Sees that it can be written.
    pub(super) fn probe(&self) -> Result<(), RepositoryError> {
        match self {
            Self::Volume(directory) => {
                let probe = directory.join(PROBE);
                let written = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
                written.map_err(|error| RepositoryError::from_io("writing to it", &error))
            }
            Self::Bucket(bucket) => {
                let written = bucket.put(PROBE, Vec::new()).and_then(|()| bucket.delete(PROBE));
                written.map_err(|error| RepositoryError::from_s3("writing to it", error))
            }
        }
    }
}

/// Written and removed to see whether that can be done.
const PROBE: &str = ".lockkeeper-writable";

pub(super) fn unopened(doing: &str, backends: &RepositoryBackends) -> Result<Rustic<()>, RepositoryError> {
    raw(doing, Rustic::new(&RepositoryOptions::default().no_cache(true), backends))
}

/// Free bytes of the volume a directory is on.
pub fn free_bytes(directory: &Path) -> Option<u64> {
    let statistics = rustix::fs::statvfs(directory).ok()?;
    Some(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// All bytes of the volume a directory is on, free or not.
pub fn total_bytes(directory: &Path) -> Option<u64> {
    let statistics = rustix::fs::statvfs(directory).ok()?;
    Some(statistics.f_blocks.saturating_mul(statistics.f_frsize))
}

/// Where the one who makes a repository keeps the others out.
const MAKING: &str = ".making";

/// One at a time looks whether there is a repository and makes it: of two that make it, each with a key of its own, one writes
/// over the other's configuration, and nobody ever opens it again. Waits until it is alone; over when the file is closed.
fn alone(directory: &Path) -> Result<Option<fs::File>, RepositoryError> {
    let failed = |error: std::io::Error| RepositoryError::from_io("waiting for who makes it", &error);
    let (path, made) = (directory.join(MAKING), directory.join("config").exists());
    if made && !path.exists() {
        return Ok(None); // made before there was such a file, or elsewhere
    }
    let file = match fs::File::options().create(true).truncate(false).write(true).open(path) {
        Ok(file) => file,
        Err(_) if made => return Ok(None), // a volume that is only read
        Err(error) => return Err(failed(error)),
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive) {
        // A volume that knows no locks: as good as it goes.
        Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS) => Ok(Some(file)),
        Err(error) => Err(failed(error.into())),
    }
}

/// Killed while a repository was made, a key may be there that opens nothing, and would be tried first.
fn forget_half_made(directory: &Path) -> Result<(), RepositoryError> {
    let has_files = |name: &str| fs::read_dir(directory.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    if has_files("snapshots") || has_files("index") {
        return Err(RepositoryError::Damaged { doing: "opening it".into(), cause: "its file config is missing".into() });
    }
    if has_files("keys") {
        fs::remove_dir_all(directory.join("keys")).map_err(|e| RepositoryError::from_io("making it", &e))?;
    }
    Ok(())
}
