//! The backup repository: restic's format, readable with stock restic. Bound to one environment by its snapshots' tags.
//!
//! Nothing here locks: this format's reader and writer never disturb each other, a Job that is killed leaves at most
//! files that no snapshot names, and nothing is pruned while a run holds the environment's slot. Calls block; callers run
//! them on a thread of their own.

mod bucket;
mod place;
mod writer;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

use bytesize::ByteSize;
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, ErrorKind, IndexedFullStatus, LsOptions, OpenStatus, PathList, PruneOptions,
    Repository as Rustic, RusticError, SnapshotOptions,
    repofile::{Node, SnapshotFile},
};

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

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The password's Secret does not say it.
    #[error("repository: key password of its Secret {0}")]
    PasswordMissing(&'static str),
    /// The password does not open it.
    #[error("repository: the password does not open it; give the password with which it was made, or an empty place")]
    PasswordWrong,
    /// It holds another environment's backups.
    #[error(
        "repository: snapshot {snapshot} in it belongs to the environment with UID {owner}, not to this one ({environment}); \
         give each environment a volume, or a bucket and prefix, of its own"
    )]
    Foreign {
        /// A snapshot of the other.
        snapshot: String,
        /// The other's UID.
        owner: String,
        /// Our UID.
        environment: String,
    },
    /// There is none where one is to be read.
    #[error("repository: there is none in {place}; see that the place is the right one, and that something was written there")]
    Absent {
        /// Where it was looked for.
        place: String,
    },
    /// What S3 had to say.
    #[error("repository: {doing}: {cause}")]
    S3 {
        /// What was being done.
        doing: String,
        /// Why it could not be done.
        cause: Box<S3Error>,
    },
    /// There is no such snapshot.
    #[error("repository: snapshot {0} is not in it; name another, or make a new backup")]
    SnapshotMissing(String),
    /// There are several.
    #[error("repository: more than one snapshot begins with {0}; name more of its digits")]
    SnapshotUnclear(String),
    /// What is stored cannot be what was written.
    #[error("repository: {doing}: what is stored is damaged: {cause}. Check it with `restic check`, and make a new backup")]
    Damaged {
        /// What was being done.
        doing: String,
        /// What was noticed.
        cause: String,
    },
    /// There is no space left.
    #[error("repository: {doing}: its volume is full; make it larger, or let backups.retention remove old backups")]
    Full {
        /// What was being done.
        doing: String,
    },
    /// Another version of Lockkeeper wrote it in another shape.
    #[error(
        "repository: {doing}: it is of format {format}, and this version of Lockkeeper reads format {ours}. Restore it with the \
         version that wrote it, or by hand with restic"
    )]
    OtherFormat {
        /// What was being done.
        doing: String,
        /// Its format.
        format: u32,
        /// The one that is read.
        ours: u32,
    },
    /// A file could not be read or written.
    #[error("repository: {doing}: {cause}")]
    Failed {
        /// What was being done.
        doing: String,
        /// The cause.
        cause: String,
    },
}

impl From<S3Error> for RepositoryError {
    fn from(cause: S3Error) -> Self {
        Self::from_s3("opening it", cause)
    }
}

impl RepositoryError {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PasswordMissing(_) => "RepositoryPasswordMissing",
            Self::PasswordWrong => "RepositoryPasswordWrong",
            Self::Foreign { .. } => "RepositoryForeign",
            Self::Absent { .. } => "RepositoryMissing",
            Self::S3 { cause, .. } => cause.reason(),
            Self::SnapshotMissing(_) => "SnapshotMissing",
            Self::SnapshotUnclear(_) => "SnapshotUnclear",
            Self::Damaged { .. } => "RepositoryDamaged",
            Self::Full { .. } => "RepositoryFull",
            Self::OtherFormat { .. } => "SnapshotOfOtherFormat",
            Self::Failed { .. } => "RepositoryFailed",
        }
    }

    /// Whether trying again is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Failed { .. } => false,
            // What is missing may have been pruned since it was listed.
            Self::S3 { cause, .. } => !cause.passes() && !matches!(**cause, S3Error::Missing { .. }),
            _ => true,
        }
    }

    fn from_s3(doing: &str, cause: S3Error) -> Self {
        Self::S3 { doing: doing.into(), cause: Box::new(cause) }
    }

    fn from_rustic(doing: &str, error: &RusticError, kind: ErrorKind) -> Self {
        let mut causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
        if let Some(cause) = causes.find_map(|e| e.downcast_ref::<S3Error>()) {
            return Self::from_s3(doing, cause.clone());
        }
        let cause = one_line(&error.display_log());
        match kind {
            _ if error.is_incorrect_password() => Self::PasswordWrong,
            // The library keeps the cause to itself, but prints it.
            _ if FULL.iter().any(|words| cause.contains(words)) => Self::Full { doing: doing.into() },
            ErrorKind::Cryptography | ErrorKind::Verification => Self::Damaged { doing: doing.into(), cause },
            _ => Self::Failed { doing: doing.into(), cause },
        }
    }

    fn from_io(doing: &str, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full { doing: doing.into() };
        }
        Self::Failed { doing: doing.into(), cause: error.to_string() }
    }
}

/// How the system says that there is no space, or no more for this user.
const FULL: [&str; 2] = ["(os error 28)", "(os error 122)"];

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

fn raw<T>(doing: &str, result: Result<T, Box<RusticError>>) -> Result<T, RepositoryError> {
    result.map_err(|error| {
        let kind = kind(&error);
        RepositoryError::from_rustic(doing, &error, kind)
    })
}

/// The library keeps an error's kind to itself, but prints it.
fn kind(error: &RusticError) -> ErrorKind {
    let text = error.display_log();
    for kind in [ErrorKind::Cryptography, ErrorKind::Verification] {
        if text.contains(&format!("(kind: related to {kind}")) {
            return kind;
        }
    }
    ErrorKind::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("password")).unwrap();
            fs::write(directory.path().join("password/password"), "correct horse\n").unwrap();
            fs::create_dir_all(directory.path().join("in/store/dump")).unwrap();
            fs::write(directory.path().join("in/store/manifest.json"), "{}").unwrap();
            fs::write(directory.path().join("in/store/dump/1.dat"), "row".repeat(100_000)).unwrap();
            Self { directory }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join(name)
        }

        fn open(&self, environment: &str) -> Result<Repository, RepositoryError> {
            Repository::open(&self.path("repository"), &self.path("password"), environment)
        }
    }

    #[test]
    fn what_is_stored_comes_back_under_relative_names_and_is_found_by_its_run() {
        let place = Place::new();
        let repository = place.open("env-a").unwrap();
        assert_eq!(repository.of_run("run-1").unwrap(), None);
        let stored = repository.store(&place.path("in"), "run-1", "ns/env", Some("before flags-7-4")).unwrap();
        assert!(stored.bytes > 300_000 && stored.stored_bytes < stored.bytes, "{stored:?}");
        assert_eq!(place.open("env-a").unwrap().of_run("run-1").unwrap(), Some(stored.clone()));
        repository.restore(&stored.snapshot, &place.path("out")).unwrap();
        assert_eq!(fs::read_to_string(place.path("out/store/dump/1.dat")).unwrap(), "row".repeat(100_000));
        assert!(place.path("out/store/manifest.json").is_file());
        let again = repository.store(&place.path("in"), "run-2", "ns/env", None).unwrap();
        assert!(again.stored_bytes < 10_000, "{again:?}");

        let missing = repository.restore(&"0".repeat(64), &place.path("out2")).unwrap_err();
        assert_eq!(missing.reason(), "SnapshotMissing");
        assert_eq!(place.open("env-b").err().unwrap().reason(), "RepositoryForeign");
        fs::write(place.path("password/password"), "wrong").unwrap();
        assert_eq!(place.open("env-a").err().unwrap().reason(), "RepositoryPasswordWrong");
        fs::write(place.path("password/password"), "\n").unwrap();
        assert_eq!(place.open("env-a").err().unwrap().reason(), "RepositoryPasswordMissing");
    }

    #[test]
    fn of_many_that_open_a_new_repository_at_once_one_makes_it() {
        let place = Place::new();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| place.open("env-a").map(drop))).collect();
            for one in all {
                one.join().unwrap().unwrap();
            }
        });
        let stored = place.open("env-a").unwrap().store(&place.path("in"), "run-1", "ns/env", None).unwrap();
        place.open("env-a").unwrap().restore(&stored.snapshot, &place.path("out")).unwrap();
    }

    #[test]
    fn a_flipped_bit_is_noticed_and_a_half_made_repository_is_made_again() {
        let place = Place::new();
        fs::create_dir_all(place.path("repository/keys")).unwrap();
        fs::write(place.path("repository/keys/00"), "{}").unwrap();
        let repository = place.open("env-a").unwrap();
        let stored = repository.store(&place.path("in"), "run-1", "ns/env", None).unwrap();
        let packs = fs::read_dir(place.path("repository/data")).unwrap().flatten();
        for pack in packs.flat_map(|d| fs::read_dir(d.path()).unwrap().flatten()) {
            let mut bytes = fs::read(pack.path()).unwrap();
            bytes[20] ^= 1;
            fs::set_permissions(pack.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            fs::write(pack.path(), bytes).unwrap();
        }
        let error = repository.restore(&stored.snapshot, &place.path("out")).unwrap_err();
        assert_eq!((error.reason(), error.is_permanent()), ("RepositoryDamaged", true), "{error}");
    }
}
