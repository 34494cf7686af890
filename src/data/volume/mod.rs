//! The files of a volume: into a snapshot, and back in place.
//!
//! They stand in the snapshot as restic has files, so that `restic restore` brings them too: names byte by byte, modes,
//! owners, times to the nanosecond, links of both kinds, extended attributes (`user.*` and POSIX ACLs). Beside them stands a
//! [`Total`]: a sum over every entry with its content, made while the files were read. It is made once more of the snapshot
//! when a backup is proven, and of the volume after it was put back.
//!
//! Nothing here follows a link: every directory is reached from the volume's own, name by name ([`tree`]). All calls block.

mod digest;
mod leaving;
mod place;
pub mod restore;
pub mod store;
pub mod survey;
pub mod tree;

use std::{io, path::Path};

pub use digest::{Digest, Total};
pub use leaving::LeftOut;

use super::{repository::RepositoryError, stop::Stopped};

/// What can go wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file could not be read or written.
    #[error("{path}: {doing}: {cause}")]
    Files {
        /// Its name below the volume.
        path: String,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        cause: String,
        /// Whether trying again is of no use: a right is missing, the volume is full.
        permanent: bool,
    },
    /// Another file came into a file's place, or it lost its end, while it was read.
    #[error("{0}: it changed while it was read; try again when the application writes less")]
    Changed(String),
    /// What is there afterwards is not what was stored.
    #[error("{0}")]
    Differs(String),
    /// The repository does not take more; its own error says why.
    #[error("the repository does not take more files")]
    Ended,
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// It was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl VolumeError {
    /// Whether trying again is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Files { permanent, .. } => *permanent,
            Self::Repository(error) => error.is_permanent(),
            Self::Changed(_) | Self::Differs(_) | Self::Ended | Self::Stopped(_) => false,
        }
    }
}

/// A failed operation on a file. What it holds is in no error; its name is what a person needs.
fn failed(path: &Path, doing: &'static str, error: io::Error) -> VolumeError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let permanent = matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull);
    VolumeError::Files { path: shown(path), doing, cause: error.to_string(), permanent }
}

/// A name as it can be printed: what is not UTF-8, and what would move a terminal's cursor, is escaped.
pub fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return "the volume's own directory".into();
    }
    let text: String = path.display().to_string().chars().flat_map(char::escape_debug).collect();
    if text.chars().count() <= 200 { text } else { text.chars().take(199).chain(['…']).collect() }
}
