//! Data that is a volume: into a snapshot beside the databases, and back.
//!
//! A volume has no fence of its own. What changes it does so under the lock of a database's row, with the epoch checked, and
//! only once the snapshot that undoes it is whole and was read back, which the row then says. That snapshot is the run's own. A
//! rollback is told its name; only where load made it and was killed before it could say so is it found by the run in the
//! repository, and only if files may have been changed: what an undo point is like that nobody needs is in nobody's way.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::{
    fs::{FileType, Gid, Mode, Stat, chmod, chown, lstat},
    process::{getegid, geteuid, getgroups},
};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    backup::{self, blocking},
    error::{AgentError, OfData},
    head::{Head, Version},
    lock::Guarded,
    snapshot::Policy,
};
use crate::{
    api::{BackupContent, Timestamp},
    data::{
        postgres::copy::Amount,
        repository::{Entries, Reader, Repository, RepositoryError, Stored, VOLUMES, VOLUMES_INDEX},
        stop::Stopped,
        volume::{LeftOut, Total, VolumeError, restore, restore::Work, store},
    },
    manifest::{
        job::USER,
        task::{Aside, Outcome, Verb, VolumeTask},
    },
};

/// The file of a snapshot that tells of all its volumes: beside their directory, which holds nothing but their files.
pub const INDEX: &str = VOLUMES_INDEX;
/// The version of [`Manifest`]'s shape.
const FORMAT: u32 = 1;

/// What a backup of one volume says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Of which data, and of when.
    #[serde(flatten)]
    pub head: Head,
    /// Sum of all entries.
    pub total: Total,
}

impl Manifest {
    /// The manifests of all volumes in a snapshot. Blocks.
    pub fn all(reader: &Reader) -> Result<Vec<Self>, RepositoryError> {
        let doing = || "reading what it says of its volumes".to_owned();
        if !reader.has(Path::new(INDEX)) {
            return Ok(Vec::new());
        }
        let text = reader.read(Path::new(INDEX))?;
        let versions: Vec<Version> = serde_json::from_slice(&text)
            .map_err(|_| RepositoryError::Damaged { doing: doing(), cause: "it is no list of manifests".into() })?;
        if let Some(Version { format }) = versions.iter().find(|v| v.format != FORMAT) {
            return Err(RepositoryError::OtherFormat { doing: doing(), format: *format, ours: FORMAT });
        }
        serde_json::from_slice(&text)
            .map_err(|_| RepositoryError::Damaged { doing: doing(), cause: "it is no list of manifests".into() })
    }

    /// As a backup's status tells it.
    pub fn summary(&self) -> BackupContent {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let Total { files, bytes, .. } = self.total;
        BackupContent { data: self.head.data.clone(), tables: 0, rows: 0, bytes: count(bytes), files: Some(count(files)) }
    }
}

/// Where the files of a volume are in a snapshot.
pub(super) fn place(data: &str) -> PathBuf {
    Path::new(VOLUMES).join(data)
}

impl Context<'_> {
    /// Names of the task's volumes, in their order in a snapshot.
    pub(super) fn volumes(&self) -> Vec<String> {
        let mut names: Vec<String> = self.task.volumes.iter().map(|v| v.name.clone()).collect();
        names.sort();
        names
    }
}

/// A repository that was made as the user of a volume is handed to the group of all other pods of ours, so that they can go on
/// with it. Where that is not possible, or not needed, nothing is done: who cannot write there says so.
pub fn share(directory: &Path) {
    let (user, group) = (geteuid(), Gid::from_raw(USER));
    let ours = |stat: &Stat| stat.st_uid == user.as_raw() && stat.st_gid != USER;
    // Made last of its directories, and so given away last.
    let last = directory.join("snapshots");
    if getegid() == group || !getgroups().is_ok_and(|g| g.contains(&group)) || !lstat(&last).is_ok_and(|s| ours(&s)) {
        return;
    }
    let below = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let all = below(&directory.join("data")).into_iter().chain(below(directory)).filter(|p| *p != last).chain([last.clone()]);
    for path in all {
        if let Ok(stat) = lstat(&path)
            && ours(&stat)
            && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        {
            let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o2070);
            let _ = chown(&path, None, Some(group)).and_then(|()| chmod(&path, mode));
        }
    }
}

/// Says how many bytes of a volume are done; `total`: of how many, where that is known.
fn reporter(context: &Context<'_>, doing: String, total: Option<u64>) -> impl Fn(u64) + Send + Sync + use<> {
    let tell = context.told.begin(doing);
    move |bytes| tell(Amount { bytes, of_bytes: total, ..Amount::default() })
}

/// Runs what blocks on a volume on a thread of its own.
pub(super) async fn on_files<T: Send + 'static>(
    data: &str,
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, AgentError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.of(data),
        Err(_) => Err(RepositoryError::Failed { doing: "working on files".into(), cause: "the library gave up".into() }.into()),
    }
}

/// Adds the task's volumes to a snapshot, each in its turn; by a masking policy, where one is given. What stays behind although
/// it is named there is told.
pub async fn add_to(
    context: &Context<'_>,
    policy: Option<&Policy>,
    entries: &Entries,
) -> Result<(Vec<Manifest>, Vec<String>), AgentError> {
    // Under the lock nobody works there, and every file must be there.
    let live = matches!(context.task.verb, Verb::Backup | Verb::Snapshot);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    for data in context.volumes() {
        let only = policy.map(|p| p.files(&data)).transpose()?;
        let taken_at = Timestamp::now();
        let (root, entries, stop) = (context.paths.volumes.join(&data), entries.clone(), context.stop.clone());
        let (prefix, report) = (place(&data), reporter(context, format!("backing up {data}"), None));
        let (total, left_out) = on_files(&data, move || {
            let how = store::How { live, only: only.as_ref() };
            let (stored, left_out) = store::store(&root, &prefix, how, &entries, &stop, &report)?;
            Ok((stored.total()?, left_out))
        })
        .await?;
        if left_out != LeftOut::default() {
            notes.push(format!("{data}: {left_out}"));
        }
        out.push(Manifest { head: Head::of(context.task, FORMAT, data, taken_at), total });
    }
    Ok((out, notes))
}

/// The Environment whose files a snapshot that comes back holds: this one, or the one whose files it takes.
fn whose<'a>(context: &'a Context<'_>) -> &'a str {
    context.task.origin.as_ref().unwrap_or(&context.task.environment)
}

/// The manifest of a volume of that environment in an open snapshot.
async fn manifest(reader: &Reader, environment: &str, data: &str) -> Result<Manifest, AgentError> {
    let inner = reader.clone();
    let all = blocking(move || Manifest::all(&inner)).await?;
    let found = all.into_iter().find(|m| m.head.is_of(environment, data));
    found.ok_or_else(|| AgentError::Refused(format!("data {data}: the snapshot does not hold this volume; name another")))
}

/// Reads every byte that a snapshot holds of the task's volumes, and compares the sum with the one made when it was written.
pub async fn prove(context: &Context<'_>, reader: &Reader, outcome: &mut Outcome) -> Result<(), AgentError> {
    for data in context.volumes() {
        let total = read_back(context, reader, whose(context), &data, format!("comparing {data}")).await?;
        outcome.notes.push(format!("{data}: read back and compared {} files, {} MiB", total.files, total.bytes >> 20));
    }
    Ok(())
}

/// Reads a volume's files out of a snapshot of that environment, and compares them with what was counted as they were written.
async fn read_back(
    context: &Context<'_>,
    reader: &Reader,
    environment: &str,
    data: &str,
    doing: String,
) -> Result<Total, AgentError> {
    let manifest = manifest(reader, environment, data).await?;
    let (inner, stop, prefix) = (reader.clone(), context.stop.clone(), place(data));
    let report = reporter(context, doing, Some(manifest.total.bytes));
    let total = on_files(data, move || restore::total(&inner, &prefix, &stop, &report)).await?;
    if total == manifest.total {
        return Ok(total);
    }
    let differences = format!("{} files in it, {} were read, or they are not the same", total.files, manifest.total.files);
    Err(AgentError::ProofFailed { data: data.to_owned(), differences })
}

/// What this run has stored of its volumes under its lock.
async fn undo_point(context: &Context<'_>, repository: &Repository) -> Result<Option<Stored>, AgentError> {
    let (repository, run) = (repository.clone(), context.task.run.clone());
    blocking(move || repository.of_run(&run)).await
}

/// The undo point of volumes: a snapshot in the environment's own repository.
pub struct UndoPoint {
    pub repository: Repository,
    pub snapshot: String,
    /// Whether this attempt has made it, and so nothing can have been changed yet.
    pub fresh: bool,
}

/// The undo point of volumes alone: a snapshot under the lock. One that an earlier attempt made whole counts. None: there are no
/// volumes.
pub async fn undo(context: &Context<'_>, unchanged: bool, outcome: &mut Outcome) -> Result<Option<UndoPoint>, AgentError> {
    if context.task.volumes.is_empty() {
        return Ok(None);
    }
    let began = Instant::now();
    let repository = backup::open_own(context).await?;
    let (stored, fresh) = match undo_point(context, &repository).await? {
        Some(stored) => (stored, false),
        None if !unchanged => {
            return Err(AgentError::Refused(
                "the run is further on than its volumes' undo point, and the repository holds none: see what removed it".into(),
            ));
        }
        None => {
            let written = backup::store(context, &repository, &[], None).await?;
            outcome.notes.push(format!(
                "{}: backed up {} MiB to snapshot {}, {} MiB of it new, in {:.2} s",
                context.volumes().join(", "),
                written.volumes.iter().map(|v| v.total.bytes).sum::<u64>() >> 20,
                &written.stored.snapshot[..8.min(written.stored.snapshot.len())],
                written.stored.stored_bytes >> 20,
                began.elapsed().as_secs_f64()
            ));
            (written.stored, true)
        }
    };
    outcome.aside.extend(aside(context, &stored.snapshot));
    Ok(Some(UndoPoint { repository, snapshot: stored.snapshot, fresh }))
}

/// Reads the undo point back before files are changed: from then on it is the only way back. `untouched`: whether none was yet.
pub async fn prove_undo(
    context: &Context<'_>,
    point: UndoPoint,
    untouched: bool,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let UndoPoint { repository, snapshot, fresh } = point;
    let result = prove_point(context, &repository, &snapshot, outcome).await;
    let Err(cause) = result else { return Ok(()) };
    if matches!(cause, AgentError::Stopped(_)) {
        return Err(cause);
    }
    if fresh || untouched {
        // No attempt and no rollback is to meet with it: there is nothing to put back.
        let (repository, id) = (repository.clone(), snapshot.clone());
        if let Err(error) = blocking(move || repository.forget(&id)).await {
            outcome.notes.push(format!("snapshot {snapshot} cannot be removed: {error}"));
        }
    }
    Err(AgentError::UndoPointUnsound { data: context.volumes().join(", "), snapshot, cause: Box::new(cause) })
}

async fn prove_point(
    context: &Context<'_>,
    repository: &Repository,
    snapshot: &str,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let reader = reader(context, repository, snapshot).await?;
    for data in context.volumes() {
        let doing = format!("reading back the undo point of {data}");
        let total = read_back(context, &reader, &context.task.environment, &data, doing).await?;
        outcome.notes.push(format!("{data}: read the undo point back, {} files, {} MiB", total.files, total.bytes >> 20));
    }
    Ok(())
}

/// Opens a snapshot.
async fn reader(context: &Context<'_>, repository: &Repository, snapshot: &str) -> Result<Reader, AgentError> {
    let (repository, snapshot) = (repository.clone(), snapshot.to_owned());
    let opening = blocking(move || repository.reader(&snapshot));
    tokio::select! {
        read = opening => read,
        () = context.stop.asked() => Err(Stopped.into()),
    }
}

/// The undo points of the task's volumes.
pub fn aside(context: &Context<'_>, snapshot: &str) -> Vec<Aside> {
    let of = |data| Aside { data, database: String::new(), snapshot: Some(snapshot.to_owned()), method: "Backup".into() };
    context.volumes().into_iter().map(of).collect()
}

/// The undo points of the task's volumes, each looked at before anything is put back.
pub struct UndoPoints {
    /// None: there are no volumes.
    repository: Option<Repository>,
    /// By snapshot, the data that it holds.
    of: BTreeMap<String, Vec<String>>,
}

/// Sees that the undo points are there which the task names. Those that it does not name are looked up by the run; without one
/// nothing was changed, and where it is known that no file was, nobody looks.
pub async fn undo_points(context: &Context<'_>, untouched: bool, outcome: &mut Outcome) -> Result<UndoPoints, AgentError> {
    let mut points = UndoPoints { repository: None, of: BTreeMap::new() };
    let (known, concerned): (Vec<_>, Vec<_>) = context.task.volumes.iter().partition(|v| untouched && v.undo.is_none());
    let mut unchanged: Vec<&str> = known.iter().map(|v| v.name.as_str()).collect();
    let Some(first) = concerned.first() else {
        nothing_changed(&unchanged, outcome);
        return Ok(points);
    };
    let missing = |volume: &VolumeTask, place: String| {
        let (data, snapshot) = (volume.name.clone(), volume.undo.clone().unwrap_or_default());
        AgentError::FilesUndoPointMissing { data, snapshot, place }
    };
    let repository = match backup::open_own(context).await {
        Err(AgentError::Repository(RepositoryError::Absent { place })) if first.undo.is_some() => {
            return Err(missing(first, place));
        }
        opened => opened?,
    };
    for volume in concerned {
        let found = match &volume.undo {
            None => undo_point(context, &repository).await?,
            Some(named) => {
                let (inner, named) = (repository.clone(), named.clone());
                match blocking(move || inner.find(&named)).await {
                    Err(AgentError::Repository(RepositoryError::SnapshotMissing(_))) => {
                        return Err(missing(volume, repository.place().to_string()));
                    }
                    found => Some(found?),
                }
            }
        };
        match found {
            Some(stored) => points.of.entry(stored.snapshot).or_default().push(volume.name.clone()),
            None => unchanged.push(volume.name.as_str()),
        }
    }
    nothing_changed(&unchanged, outcome);
    points.repository = Some(repository);
    Ok(points)
}

fn nothing_changed(volumes: &[&str], outcome: &mut Outcome) {
    if !volumes.is_empty() {
        outcome.notes.push(format!("{}: nothing was changed yet; nothing to put back", volumes.join(", ")));
    }
}

/// Puts the task's volumes back to what they were at the lock, where they may have been changed.
pub async fn roll_back(
    context: &Context<'_>,
    guard: Option<&Guarded<'_>>,
    points: &UndoPoints,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let Some(repository) = &points.repository else { return Ok(()) };
    for (snapshot, volumes) in &points.of {
        put_back(context, guard, (repository, snapshot), volumes, outcome).await?;
    }
    Ok(())
}

/// Makes volumes what a snapshot holds. The row of the guard stays locked meanwhile: what another run may do waits.
pub async fn put_back(
    context: &Context<'_>,
    guard: Option<&Guarded<'_>>,
    (repository, snapshot): (&Repository, &str),
    volumes: &[String],
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let Some(guard) = guard else {
        return Err(AgentError::Task("no database of the task guards its volumes by an epoch".into()));
    };
    let reader = reader(context, repository, snapshot).await?;
    for data in volumes {
        let began = Instant::now();
        let manifest = manifest(&reader, whose(context), data).await?;
        guard.begin_held().await?;
        let (root, inner, stop) = (context.paths.volumes.join(data), reader.clone(), context.stop.clone());
        let total = Some(manifest.total.bytes);
        let read = reporter(context, format!("comparing {data} with the snapshot"), total);
        let write = reporter(context, format!("putting back {data}"), total);
        let compare = reporter(context, format!("comparing {data}"), total);
        let report = move |work, bytes| match work {
            Work::Reading => read(bytes),
            Work::Writing => write(bytes),
            Work::Comparing => compare(bytes),
        };
        let prefix = place(data);
        let done = on_files(data, move || restore::put_back(&root, (&inner, &prefix), &manifest.total, &stop, &report)).await;
        guard.run("giving the row back", "ROLLBACK").await?;
        let done = done?;
        outcome.notes.push(format!(
            "{data}: {} files written, {} entries removed, all compared, in {:.2} s",
            done.written,
            done.removed,
            began.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}
