//! Writing a snapshot file by file, while its content is made.
//!
//! The library saves a snapshot whatever became of its files: it warns and goes on. So a snapshot is first saved under a mark
//! of its own, which nothing counts as a backup, and gets its real tags only when whoever made the content says that it is
//! whole. What a killed process leaves behind is removed with the next prune.

use std::{
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rustic_core::{
    BackupOptions, LsOptions, OpenStatus, ParentOptions, ReadSource, ReadSourceEntry, Repository as Rustic, RusticResult,
    SnapshotOptions, StringList,
    repofile::{Metadata, Node, NodeType, SnapshotFile},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
};

use super::{ENVIRONMENT_TAG, RUN_TAG, Repository, RepositoryError, Stored, raw, tag};

/// Marks a snapshot that is not whole, or not yet.
const UNFINISHED_TAG: &str = "lockkeeper-unfinished=";
/// Unfinished snapshots of this age are nobody's who is still at work.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// So many files wait for the archiver.
const AHEAD: usize = 1;
/// Files restored by hand belong to whoever restores them, and to no one else.
const MODE: u32 = 0o600;

/// A snapshot that is being written. Files come in the order of their paths, as restic has them in its trees.
pub struct Writer {
    files: Sender<Entry>,
    work: JoinHandle<Result<SnapshotFile, RepositoryError>>,
    repository: Repository,
    tags: String,
}

/// The repository does not take more files; [`Writer::end`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// What is read of a file.
type Content = Box<dyn Read + Send>;

struct Entry {
    path: PathBuf,
    node: Node,
    content: Option<Content>,
}

/// Adds entries to a snapshot from a thread that may block.
#[derive(Clone)]
pub struct Entries(Sender<Entry>);

impl Entries {
    /// Adds an entry with all that is known of it; a directory comes before what is in it. Blocks while the repository has
    /// enough to do.
    pub fn add(&self, path: &Path, node: Node, content: Option<Content>) -> Result<(), Ended> {
        let entry = Entry { path: Path::new("/").join(path), node, content };
        self.0.blocking_send(entry).map_err(|_| Ended)
    }
}

impl Repository {
    /// Begins a snapshot of a run.
    pub fn writer(&self, run: &str, name: &str, description: Option<&str>) -> Writer {
        let (files, received) = channel(AHEAD);
        let (repository, name, description) = (self.clone(), name.replace('/', "."), description.map(str::to_owned));
        let work = tokio::task::spawn_blocking(move || repository.archive(received, name, description));
        let tags = format!("{ENVIRONMENT_TAG}{},{RUN_TAG}{run}", self.environment);
        Writer { files, work, repository: self.clone(), tags }
    }

    fn archive(
        &self,
        files: Receiver<Entry>,
        name: String,
        description: Option<String>,
    ) -> Result<SnapshotFile, RepositoryError> {
        let doing = "writing a snapshot";
        let repository = raw(doing, self.opened(doing)?.to_indexed_ids())?;
        let mut options = SnapshotOptions::default();
        (options.host, options.description) = (Some(name), description);
        let mark = format!("{UNFINISHED_TAG}{}", self.environment);
        let snapshot = raw(doing, options.add_tags(&mark).and_then(|o| o.to_snapshot()))?;
        // No parent: what is in the repository is known by its content alone.
        let options = BackupOptions::default().no_scan(true).parent_opts(ParentOptions::default().force(true));
        raw(doing, repository.archive(&options, &Source(Mutex::new(Some(files))), snapshot, &[PathBuf::from("/")]))
    }

    /// Removes what killed writers left.
    pub(super) fn remove_unfinished(&self, repository: &Rustic<OpenStatus>) -> Result<(), RepositoryError> {
        let doing = "removing unfinished snapshots";
        let now = crate::api::Timestamp::now();
        let old = |s: &SnapshotFile| {
            now.duration_since(s.time.timestamp()).as_secs() > i64::try_from(ABANDONED_AFTER.as_secs()).unwrap_or(i64::MAX)
        };
        let ours = |s: &SnapshotFile| tag(s, UNFINISHED_TAG).as_deref() == Some(self.environment.as_str());
        let ids: Vec<_> = self.snapshots()?.into_iter().filter(|s| ours(s) && old(s)).map(|s| s.id).collect();
        if ids.is_empty() { Ok(()) } else { raw(doing, repository.delete_snapshots(&ids)) }
    }
}

impl Writer {
    /// Adds a file. Waits while the repository has enough to do.
    pub async fn file(&self, path: impl Into<PathBuf>, content: impl Into<Bytes>) -> Result<(), Ended> {
        let (path, content) = (Path::new("/").join(path.into()), content.into());
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let meta = Metadata { mode: Some(MODE), size, ..Metadata::default() };
        let node = Node::new_node(path.file_name().unwrap_or_default(), NodeType::File, meta);
        let entry = Entry { path, node, content: Some(Box::new(Cursor::new(content))) };
        self.files.send(entry).await.map_err(|_| Ended)
    }

    /// Another way to add to it: from threads that block.
    pub fn entries(&self) -> Entries {
        Entries(self.files.clone())
    }

    /// Ends the snapshot. It counts only where it is `whole`; else nothing of it is left but chunks that no snapshot names,
    /// and the answer is none.
    pub async fn end(self, whole: bool) -> Result<Option<Stored>, RepositoryError> {
        let Self { files, work, repository, tags } = self;
        drop(files);
        let gave_up = |_| RepositoryError::Failed { doing: "writing a snapshot".into(), cause: "the library gave up".into() };
        let snapshot = work.await.map_err(gave_up)??;
        tokio::task::spawn_blocking(move || repository.seal(snapshot, whole.then_some(tags))).await.map_err(gave_up)?
    }
}

impl Repository {
    fn seal(&self, unfinished: SnapshotFile, tags: Option<String>) -> Result<Option<Stored>, RepositoryError> {
        let doing = "sealing a snapshot";
        let repository = self.opened(doing)?;
        let id = unfinished.id;
        let mut found = None;
        if let Some(tags) = tags {
            let list: StringList = tags
                .parse()
                .map_err(|_| RepositoryError::Failed { doing: doing.into(), cause: "a tag cannot be written".into() })?;
            let mut snapshot = unfinished;
            snapshot.set_tags(vec![list]);
            let run = tag(&snapshot, RUN_TAG).unwrap_or_default();
            raw(doing, repository.save_snapshots(vec![snapshot]))?;
            let missing = || RepositoryError::Failed { doing: doing.into(), cause: "the snapshot is not to be found".into() };
            found = Some(self.of_run(&run)?.ok_or_else(missing)?);
        }
        raw(doing, repository.delete_snapshots(&[id]))?;
        Ok(found)
    }
}

/// What the library takes files from.
struct Source(Mutex<Option<Receiver<Entry>>>);

/// The files as they come.
struct Files(Option<Receiver<Entry>>);

impl ReadSource for Source {
    type Open = Content;
    type Iter = Files;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Files {
        Files(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take())
    }
}

impl Iterator for Files {
    type Item = RusticResult<ReadSourceEntry<Content>>;

    fn next(&mut self) -> Option<Self::Item> {
        let Entry { path, node, content } = self.0.as_mut()?.blocking_recv()?;
        Some(Ok(ReadSourceEntry { path, node, open: content }))
    }
}

/// All that is below a directory.
static ALL: LazyLock<LsOptions> = LazyLock::new(|| LsOptions::default().recursive(true));

/// Keeps the repository of a snapshot open, and gives its files by path.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<super::Opened>,
}

impl Reader {
    pub(super) fn new(inner: super::Opened) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The paths of its files, in their order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.inner.files.keys().map(PathBuf::as_path)
    }

    /// The content of a file. Blocks.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, RepositoryError> {
        let doing = || format!("reading {}", path.display());
        let missing = || RepositoryError::Damaged { doing: doing(), cause: "the snapshot has no such file".into() };
        let node = self.inner.files.get(path).ok_or_else(missing)?;
        let size = usize::try_from(node.meta.size).unwrap_or(0);
        let mut content = Vec::with_capacity(size);
        raw(&doing(), self.inner.repository.dump(node, &mut content))?;
        if content.len() != size {
            return Err(RepositoryError::Damaged { doing: doing(), cause: "it has another size than it had".into() });
        }
        Ok(content)
    }

    /// Whether the snapshot has a file of that path.
    pub fn has(&self, path: &Path) -> bool {
        self.inner.files.contains_key(path)
    }

    /// A directory of the snapshot, to be gone through entry by entry. Blocks.
    pub fn directory(&self, path: &Path) -> Result<Node, RepositoryError> {
        let doing = format!("reading {}", path.display());
        raw(&doing, self.inner.repository.node_from_snapshot_and_path(&self.inner.snapshot, &path.to_string_lossy()))
    }

    /// All that is below a directory, each before what is in it, in the order of names. Only what is come to is held. Blocks.
    pub fn below(
        &self,
        directory: &Node,
    ) -> Result<impl Iterator<Item = Result<(PathBuf, Node), RepositoryError>> + '_, RepositoryError> {
        let doing = "reading a snapshot's directories";
        let all = raw(doing, self.inner.repository.ls(directory, &ALL))?;
        Ok(all.map(move |entry| raw(doing, entry)))
    }

    /// Writes the content of a file, every byte checked against its hash. Blocks.
    pub fn dump(&self, path: &Path, node: &Node, to: &mut impl Write) -> Result<(), RepositoryError> {
        raw(&format!("reading {}", path.display()), self.inner.repository.dump(node, to))
    }
}
