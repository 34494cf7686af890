//! The backup repository: restic's format, readable with stock restic. Bound to one environment by its snapshots' tags.
//!
//! Nothing here locks: this format's reader and writer never disturb each other, a Job that is killed leaves at most
//! files that no snapshot names, and nothing is pruned while a run holds the environment's slot. Calls block; callers run
//! them on a thread of their own.

mod bucket;
mod error;
mod place;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

use bytesize::ByteSize;
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, IndexedFullStatus, LsOptions, OpenStatus, PathList, PruneOptions,
    Repository as Rustic, SnapshotOptions,
    repofile::{Node, SnapshotFile},
};

pub use error::RepositoryError;
use error::raw;
pub use place::{Place, free_bytes, total_bytes};
pub use writer::{Ended, Entries, Reader, Writer};

use super::{postgres::error::one_line, s3::S3Error};
use crate::api::Timestamp;

const ENVIRONMENT_TAG: &str = "lockkeeper-environment=";
const RUN_TAG: &str = "lockkeeper-run=";
/// The directory of a snapshot that holds the files of volumes, each below its data's name.
pub const VOLUMES: &str = "volumes";
/// The file beside it that tells of them. Without it that directory is a database's.
pub const VOLUMES_INDEX: &str = "volumes.json";
/// So often snapshots are listed anew where others remove some meanwhile.
const LISTINGS: u32 = 5;

/// Something stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The snapshot's id.
    pub snapshot: String,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes that the repository grew by.
    pub stored_bytes: u64,
}

/// An open repository of one environment.
#[derive(Clone)]
pub struct Repository {
    place: Place,
    /// The key itself: deriving it from the password is slow, by intent, and done once.
    key: Credentials,
    environment: String,
}

impl Repository {
    /// Opens the repository, or makes it where there is none, and sees that it is this environment's and can be written.
    pub fn open(place: impl Into<Place>, password_directory: &Path, environment: &str) -> Result<Self, RepositoryError> {
        let repository = Self::enter(place.into(), password_directory, environment, true)?;
        repository.place.probe()?;
        Ok(repository)
    }

    /// Opens a repository from which something is read, and makes none. Who only reads a bucket needs no right to write there.
    pub fn open_to_read(place: impl Into<Place>, password_directory: &Path, environment: &str) -> Result<Self, RepositoryError> {
        Self::enter(place.into(), password_directory, environment, false)
    }

    fn enter(place: Place, password_directory: &Path, environment: &str, writes: bool) -> Result<Self, RepositoryError> {
        let password = match fs::read_to_string(password_directory.join("password")) {
            Ok(text) => text.trim_end_matches(['\n', '\r']).to_owned(),
            Err(_) => return Err(RepositoryError::PasswordMissing("is missing")),
        };
        if password.is_empty() {
            return Err(RepositoryError::PasswordMissing("is empty"));
        }
        let opened = place.open(&Credentials::Password(password), writes)?;
        let key = Credentials::Masterkey(opened.key());
        let repository = Self { place, key, environment: environment.to_owned() };
        for snapshot in repository.snapshots()? {
            if let Some(owner) = tag(&snapshot, ENVIRONMENT_TAG)
                && owner != environment
            {
                return Err(RepositoryError::Foreign {
                    snapshot: snapshot.id.to_hex().to_string(),
                    owner,
                    environment: environment.to_owned(),
                });
            }
        }
        Ok(repository)
    }

    /// Where it lies, in words.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What was stored for a run, if it was.
    pub fn of_run(&self, run: &str) -> Result<Option<Stored>, RepositoryError> {
        let of_run = |s: &SnapshotFile| tag(s, RUN_TAG).as_deref() == Some(run) && tag(s, ENVIRONMENT_TAG).is_some();
        Ok(self.snapshots()?.iter().rfind(|s| of_run(s)).map(stored))
    }

    /// Stores what is in a directory, under names relative to it.
    pub fn store(&self, from: &Path, run: &str, name: &str, description: Option<&str>) -> Result<Stored, RepositoryError> {
        let doing = "writing a snapshot";
        let repository = raw(doing, self.opened(doing)?.to_indexed_ids())?;
        let mut options = SnapshotOptions::default();
        options.host = Some(name.replace('/', "."));
        options.description = description.map(str::to_owned);
        let tags = format!("{ENVIRONMENT_TAG}{},{RUN_TAG}{run}", self.environment);
        let snapshot = raw(doing, options.add_tags(&tags).and_then(|o| o.to_snapshot()))?;
        let source = PathList::from_iter([from.to_path_buf()])
            .sanitize()
            .map_err(|error| RepositoryError::Failed { doing: doing.into(), cause: one_line(&error.to_string()) })?;
        let options = BackupOptions::default().as_path(Some("/".into())).no_scan(true);
        Ok(stored(&raw(doing, repository.backup(&options, &source, snapshot))?))
    }

    /// Opens a snapshot of this environment, to read its files one by one. Every byte is checked against its hash on the way.
    pub fn reader(&self, snapshot: &str) -> Result<Reader, RepositoryError> {
        let doing = "reading a snapshot";
        let found = self.snapshot(snapshot)?;
        let repository = raw(doing, self.opened(doing)?.to_indexed())?;
        let root = raw(doing, repository.node_from_snapshot_and_path(&found, ""))?;
        let mut with_volumes = false;
        for entry in raw(doing, repository.ls(&root, &LsOptions::default().recursive(false)))? {
            let (path, node) = raw(doing, entry)?;
            with_volumes |= node.is_file() && path == Path::new(VOLUMES_INDEX);
        }
        let mut files = BTreeMap::new();
        for entry in raw(doing, repository.ls(&root, &LsOptions::default().recursive(true)))? {
            let (path, node) = raw(doing, entry)?;
            // Volumes have many, and are gone through as they are needed.
            if node.is_file() && !(with_volumes && path.starts_with(VOLUMES)) {
                files.insert(path, node);
            }
        }
        Ok(Reader::new(Opened { repository, snapshot: found, files }))
    }

    /// Writes a snapshot of this environment into a directory. Every byte is checked against its hash on the way.
    pub fn restore(&self, snapshot: &str, to: &Path) -> Result<(), RepositoryError> {
        let doing = "reading a snapshot";
        let found = self.snapshot(snapshot)?;
        let repository = raw(doing, self.opened(doing)?.to_indexed())?;
        let root = raw(doing, repository.node_from_snapshot_and_path(&found, ""))?;
        for entry in raw(doing, repository.ls(&root, &LsOptions::default().recursive(true)))? {
            let (path, node) = raw(doing, entry)?;
            if !path.components().all(|c| matches!(c, Component::Normal(_))) {
                return Err(RepositoryError::Damaged { doing: doing.into(), cause: "a name leads out of the snapshot".into() });
            }
            let target = to.join(&path);
            if node.is_dir() {
                fs::create_dir_all(&target).map_err(|e| RepositoryError::from_io(doing, &e))?;
            } else if node.is_file() {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).map_err(|e| RepositoryError::from_io(doing, &e))?;
                }
                let file = fs::File::create(&target).map_err(|e| RepositoryError::from_io(doing, &e))?;
                let mut writer = io::BufWriter::with_capacity(1 << 20, file);
                raw(doing, repository.dump(&node, &mut writer))?;
                io::Write::flush(&mut writer).map_err(|e| RepositoryError::from_io(doing, &e))?;
            }
        }
        Ok(())
    }

    fn snapshot(&self, id: &str) -> Result<SnapshotFile, RepositoryError> {
        let found = self.snapshots()?.into_iter().find(|s| s.id.to_hex().as_str() == id);
        let found = found.ok_or_else(|| RepositoryError::SnapshotMissing(id.to_owned()))?;
        if tag(&found, ENVIRONMENT_TAG).as_deref() != Some(self.environment.as_str()) {
            let owner = tag(&found, ENVIRONMENT_TAG).unwrap_or_else(|| "unknown".into());
            return Err(RepositoryError::Foreign { snapshot: id.into(), owner, environment: self.environment.clone() });
        }
        Ok(found)
    }

    /// The whole id of a snapshot of this environment, by its beginning.
    pub fn find(&self, beginning: &str) -> Result<Stored, RepositoryError> {
        let mut found = self.ours()?;
        found.retain(|s| s.id.to_hex().as_str().starts_with(beginning));
        match found.as_slice() {
            [one] => Ok(stored(one)),
            [] => Err(RepositoryError::SnapshotMissing(beginning.to_owned())),
            _ => Err(RepositoryError::SnapshotUnclear(beginning.to_owned())),
        }
    }

    /// The snapshots of this environment with the times when they were written, the newest last.
    pub fn known(&self) -> Result<Vec<(String, Timestamp)>, RepositoryError> {
        Ok(self.ours()?.iter().map(|s| (s.id.to_hex().to_string(), s.time.timestamp())).collect())
    }

    /// Removes snapshots of this environment, then what nothing refers to any more. What a backup under way may have counted
    /// on is only marked, and goes with a later call.
    pub fn remove(&self, snapshots: &[String]) -> Result<(), RepositoryError> {
        let doing = "removing snapshots";
        let ids: Vec<_> =
            self.ours()?.into_iter().filter(|s| snapshots.iter().any(|r| s.id.to_hex().as_str() == r)).map(|s| s.id).collect();
        let repository = self.opened(doing)?;
        if !ids.is_empty() {
            raw(doing, repository.delete_snapshots(&ids))?;
        }
        self.remove_unfinished(&repository)?;
        let options = PruneOptions::default();
        let plan = raw("looking for what is not needed", repository.prune_plan(&options))?;
        raw("removing what is not needed", repository.prune(&options, plan))
    }

    /// Removes a snapshot of this environment, and nothing that it refers to.
    pub fn forget(&self, snapshot: &str) -> Result<(), RepositoryError> {
        let doing = "removing a snapshot";
        let id = self.snapshot(snapshot)?.id;
        raw(doing, self.opened(doing)?.delete_snapshots(&[id]))
    }

    fn ours(&self) -> Result<Vec<SnapshotFile>, RepositoryError> {
        let ours = |s: &SnapshotFile| tag(s, ENVIRONMENT_TAG).as_deref() == Some(self.environment.as_str());
        Ok(self.snapshots()?.into_iter().filter(ours).collect())
    }

    fn opened(&self, doing: &str) -> Result<Rustic<OpenStatus>, RepositoryError> {
        raw(doing, self.place.unopened(doing)?.open(&self.key))
    }

    fn snapshots(&self) -> Result<Vec<SnapshotFile>, RepositoryError> {
        let doing = "reading its snapshots";
        let repository = self.opened(doing)?;
        let mut left = LISTINGS;
        loop {
            left -= 1;
            match raw(doing, repository.get_all_snapshots()) {
                // Who seals a snapshot, or prunes, removes one that was just listed.
                Err(RepositoryError::S3 { cause, .. }) if left > 0 && matches!(*cause, S3Error::Missing { .. }) => {}
                read => {
                    let mut snapshots = read?;
                    snapshots.sort();
                    return Ok(snapshots);
                }
            }
        }
    }
}

/// A snapshot's files, and what reads them.
struct Opened {
    repository: Rustic<IndexedFullStatus>,
    snapshot: SnapshotFile,
    files: BTreeMap<PathBuf, Node>,
}

/// How a new repository is kept. Packs that grew with the repository would grow the memory of each Job with it. What is
/// written is not read back at once: a proof reads all of it, and by another way. Blocks of rows are cut where their content says
/// so already ([`super::postgres::copy`]): each of them is one chunk, and no time goes into looking for another place to cut.
fn configuration() -> ConfigOptions {
    ConfigOptions::default()
        .set_compression(1)
        .set_chunk_min_size(ByteSize::kib(3584))
        .set_chunk_size(ByteSize::mib(4))
        .set_chunk_max_size(ByteSize::mib(8))
        .set_datapack_size(ByteSize::mib(16))
        .set_datapack_size_limit(ByteSize::mib(32))
        .set_extra_verify(false)
}

fn tag(snapshot: &SnapshotFile, prefix: &str) -> Option<String> {
    snapshot.tags.to_string().split(',').find_map(|t| t.strip_prefix(prefix)).map(str::to_owned)
}

fn stored(snapshot: &SnapshotFile) -> Stored {
    let (bytes, stored_bytes) = snapshot.summary.as_ref().map_or((0, 0), |s| (s.total_bytes_processed, s.data_added_packed));
    Stored { snapshot: snapshot.id.to_hex().to_string(), bytes, stored_bytes }
}
