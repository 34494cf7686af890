//! Copies the data into the repository, while users work.
//!
//! 1. A snapshot that this run already wrote is reported again.
//! 2. For each data: a view of the database is taken, and goes into one snapshot of the repository while it is read
//!    ([`crate::data::postgres::copy`]), with what was found in the same view as its `manifest.json`.
//! 3. The snapshot counts once all of it is there.

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Context,
    error::{AgentError, OfData, files},
    scratch::Scratch,
    snapshot::{self, Policy},
};
use crate::{
    api::{BackupContent, Timestamp},
    data::{
        postgres::{
            Access, PgError,
            catalog::{self, Found},
            content::{self, Content},
            copy::{self, CopyError, Export, Exported, Report, Sum, View},
            tools::Tools,
            transform::Transforms,
        },
        repository::{Reader, Repository, RepositoryError, Stored, Writer},
        s3::{Bucket, Location},
        stop::Stopped,
    },
    manifest::task::{BackupOutcome, Outcome, S3Task, Verb},
};

/// The version of [`Manifest`]'s shape.
const FORMAT: u32 = 2;
/// Its file's name, in the directory of its data.
const MANIFEST: &str = "manifest.json";

/// What a backup of one data says of itself. It is stored encrypted with the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this shape.
    pub format: u32,
    /// UID of the Environment.
    pub environment: String,
    /// Its namespace and name.
    pub environment_name: String,
    /// UID of the run.
    pub run: String,
    /// Name of the data.
    pub data: String,
    /// Its database.
    pub database: String,
    /// When the view was taken.
    pub taken_at: Timestamp,
    /// Major version of the server.
    pub server_major: u32,
    /// Major version of pg_dump.
    pub client_major: u32,
    /// Bytes of the rows.
    pub bytes: i64,
    /// Hash of the schema's text.
    pub schema_hash: String,
    /// Encoding, collation and the rest of the catalog's row.
    pub row: serde_json::Value,
    /// Owner, grants, settings, comment.
    pub found: Found,
    /// Tables, sequences, objects.
    pub content: Content,
    /// The files of the rows.
    pub copied: Exported,
}

/// What manifests of all shapes have.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// Reads the manifest of a data from a snapshot. Blocks.
    pub fn read(reader: &Reader, data: &str) -> Result<Self, RepositoryError> {
        let doing = || format!("reading the manifest of data {data}");
        let damaged = |cause: &str| RepositoryError::Damaged { doing: doing(), cause: cause.into() };
        let text = reader.read(&Path::new(data).join(MANIFEST))?;
        let version: Version = serde_json::from_slice(&text).map_err(|_| damaged("it is not one"))?;
        if version.format != FORMAT {
            return Err(RepositoryError::OtherFormat { doing: doing(), format: version.format, ours: FORMAT });
        }
        serde_json::from_slice(&text).map_err(|_| damaged("it is not one"))
    }

    fn summary(&self) -> BackupContent {
        BackupContent {
            data: self.data.clone(),
            tables: i64::try_from(self.content.tables.len()).unwrap_or(i64::MAX),
            rows: self.content.rows(),
            bytes: self.bytes,
        }
    }
}

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    once(context, None, outcome).await.map(drop)
}

/// Writes the task's data into one snapshot, by a masking policy where one is given, and gives the repository. `None`: an earlier
/// attempt of this run has written it.
pub async fn once(
    context: &Context<'_>,
    policy: Option<&Policy>,
    outcome: &mut Outcome,
) -> Result<Option<Repository>, AgentError> {
    let repository = open(context).await?;
    let run = context.task.run.clone();
    let (repository, earlier) = blocking(move || {
        let earlier = repository.of_run(&run)?;
        Ok((repository, earlier))
    })
    .await?;
    if let Some(stored) = earlier {
        outcome.notes.push("this run had written its snapshot already".into());
        outcome.backup = Some(reported(context, repository, stored).await?);
        return Ok(None);
    }
    let accesses = context.accesses()?;
    let (stored, manifests) = store(context, &repository, &accesses.iter().collect::<Vec<_>>(), policy).await?;
    outcome.backup = Some(told(stored, &manifests));
    Ok(Some(repository))
}

/// Writes data into one snapshot; by a masking policy, where one is given.
pub async fn store(
    context: &Context<'_>,
    repository: &Repository,
    all: &[&Access],
    policy: Option<&Policy>,
) -> Result<(Stored, Vec<Manifest>), AgentError> {
    let task = context.task;
    let words = task.snapshot.as_ref().unwrap_or(&task.run_name);
    // In the order in which a snapshot has its directories.
    let mut all = all.to_vec();
    all.sort_by(|a, b| a.data.cmp(&b.data));
    let scratch = Scratch::new(&context.paths.scratch, "backup")?;
    let writer = repository.writer(&task.run, &task.environment_name, Some(words));
    let mut manifests = Vec::new();
    let mut failed = None;
    for access in all {
        match export(context, access, policy, &writer, scratch.path()).await {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let ended = writer.end(failed.is_none());
    let stored = tokio::select! {
        ended = ended => ended,
        () = context.stop.asked() => return Err(failed.unwrap_or_else(|| crate::data::stop::Stopped.into())),
    };
    match (failed, stored) {
        (None, Ok(Some(stored))) => Ok((stored, manifests)),
        (Some(error), Ok(_)) if !matches!(error, AgentError::Repository(_)) => Err(error),
        // The repository knows best why it failed.
        (_, Err(cause)) => Err(cause.into()),
        (Some(error), Ok(_)) => Err(error),
        (None, Ok(None)) => Err(AgentError::Repository(RepositoryError::Failed {
            doing: "writing a snapshot".into(),
            cause: "it was not kept".into(),
        })),
    }
}

/// Writes one data, with its manifest.
async fn export(
    context: &Context<'_>,
    access: &Access,
    policy: Option<&Policy>,
    writer: &Writer,
    scratch: &Path,
) -> Result<Manifest, AgentError> {
    let (data, name) = (&access.data, access.database());
    let view = View::open(&access.admin, name, &context.stop).await.of(data)?;
    let tools = Tools::find(view.major).await.of(data)?;
    let missing = || PgError::DatabaseMissing { server: access.admin.server(), database: name.into(), data: data.clone() };
    let database = catalog::database(&view.session, name).await.of(data)?.ok_or_else(missing).of(data)?;
    let found = catalog::found(&view.session, name).await.of(data)?.ok_or_else(missing).of(data)?;
    let masking = policy.map(|p| p.of(data, &view.tables)).transpose()?;
    let masked = masking.is_some();
    // Of masked data nothing is told but what is needed to load it: who owned it, and how it is set up, stays at home.
    let (found, schema_hash) = if masked {
        (snapshot::nothing_found(), String::new())
    } else {
        (found, tools.schema_hash(&access.admin, name, Some(&view.snapshot), &context.stop).await.of(data)?)
    };
    let export = Export {
        tools: &tools,
        prefix: data,
        transforms: masking.map(|m| Arc::new(m) as Arc<dyn Transforms>),
        screen: masked.then_some(&snapshot::screen as copy::Screen<'_>),
        scratch,
        stop: &context.stop,
        report: report(format!("{} {data}", if masked { "masking" } else { "backing up" })),
    };
    let mut content = content::read(&view.session, Vec::new()).await.of(data)?;
    if masked {
        content.objects.retain(|object, _| snapshot::leaves(object));
    }
    let mut manifest = None;
    let describe = |copied: &Exported| {
        let sums: Vec<Sum> = copied.tables.iter().map(|t| t.sum).collect();
        content.tables = tables(copied, &sums);
        content.sequences = copied.sequences.iter().map(sequence).collect();
        let made = Manifest {
            format: FORMAT,
            environment: context.task.environment.clone(),
            environment_name: context.task.environment_name.clone(),
            run: context.task.run.clone(),
            data: data.clone(),
            database: name.into(),
            taken_at: view.taken_at,
            server_major: view.major,
            client_major: tools.major,
            bytes: i64::try_from(copied.sum().bytes).unwrap_or(i64::MAX),
            schema_hash,
            row: database.row,
            found,
            content,
            copied: copied.clone(),
        };
        let json = serde_json::to_vec_pretty(&made);
        manifest = Some(made);
        json.map_err(|_| CopyError::Refused("the manifest cannot be written".into()))
    };
    copy::export(&view, writer, export, describe).await.of(data)?;
    manifest.ok_or_else(|| files("writing the manifest")(std::io::Error::other("it was not made")))
}

/// Tables with these sums, ordered by name.
pub fn tables(copied: &Exported, sums: &[Sum]) -> Vec<content::Table> {
    let mut list: Vec<content::Table> = copied
        .tables
        .iter()
        .zip(sums)
        .map(|(table, sum)| content::Table {
            name: table.full_name(),
            rows: i64::try_from(sum.rows).unwrap_or(i64::MAX),
            checksum: format!("{:016x}", sum.hash),
        })
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// A sequence as it will stand once it is put back.
fn sequence(value: &copy::SequenceValue) -> content::Sequence {
    // One that was never used stands one step before its start.
    let at = if value.called || value.value < 0 { value.value } else { value.value - 1 };
    content::Sequence { name: format!("{}.{}", value.schema, value.name), before: at, after: at, cycles: value.cycles }
}

/// Says how far it is.
pub fn report(doing: String) -> Report {
    Arc::new(move |done, total| super::progress(&doing, done, Some(total), "bytes"))
}

/// What an earlier attempt stored, read back from the snapshot.
async fn reported(context: &Context<'_>, repository: Repository, stored: Stored) -> Result<BackupOutcome, AgentError> {
    let names: Vec<String> = context.task.data.iter().map(|d| d.name.clone()).collect();
    let manifests = manifests(repository, &stored.snapshot, Some(names)).await?;
    Ok(told(stored, &manifests))
}

/// What a snapshot says of itself.
pub async fn look(repository: Repository, beginning: &str) -> Result<BackupOutcome, AgentError> {
    let beginning = beginning.to_owned();
    let (repository, stored) = blocking(move || {
        let stored = repository.find(&beginning)?;
        Ok((repository, stored))
    })
    .await?;
    let manifests = manifests(repository, &stored.snapshot, None).await?;
    Ok(told(stored, &manifests))
}

/// The manifests of these data in a snapshot; of all, where none are named.
async fn manifests(repository: Repository, snapshot: &str, names: Option<Vec<String>>) -> Result<Vec<Manifest>, AgentError> {
    let snapshot = snapshot.to_owned();
    blocking(move || {
        let reader = repository.reader(&snapshot)?;
        let there = || {
            let manifests = reader.paths().filter(|p| p.file_name().is_some_and(|name| name == MANIFEST));
            manifests.filter_map(|p| p.parent()?.to_str().map(str::to_owned)).collect()
        };
        let mut names: Vec<String> = names.unwrap_or_else(there);
        names.sort();
        names.iter().map(|name| Manifest::read(&reader, name)).collect()
    })
    .await
}

fn told(stored: Stored, manifests: &[Manifest]) -> BackupOutcome {
    let contents: Vec<BackupContent> = manifests.iter().map(Manifest::summary).collect();
    BackupOutcome {
        snapshot: stored.snapshot,
        bytes: i64::try_from(stored.bytes).unwrap_or(i64::MAX),
        stored_bytes: i64::try_from(stored.stored_bytes).unwrap_or(i64::MAX),
        rows: contents.iter().map(|c| c.rows).sum(),
        contents,
        taken_at: manifests.iter().map(|m| m.taken_at).min(),
    }
}

/// Opens the repository of the task's environment, or of the one whose masked data it takes.
pub async fn open(context: &Context<'_>) -> Result<Repository, AgentError> {
    let (password, credentials) = (context.paths.repository_password.clone(), context.paths.repository_credentials.clone());
    let (directory, task) = (context.paths.repository.clone(), context.task.clone());
    let opening = blocking(move || {
        let environment = task.origin.as_ref().unwrap_or(&task.environment);
        let Some(S3Task { endpoint, region, bucket, prefix }) = task.s3.clone() else {
            return Repository::open(&directory, &password, environment);
        };
        let bucket = Bucket::new(Location { endpoint, region, bucket, prefix }, &credentials)?;
        // Who takes masked data, or puts a backup back, may be let read and no more.
        let reads = match task.verb {
            Verb::Prove | Verb::Restore | Verb::Rollback => true,
            Verb::Preflight => task.restores(),
            _ => false,
        };
        if reads {
            Repository::open_to_read(bucket, &password, environment)
        } else {
            Repository::open(bucket, &password, environment)
        }
    });
    // What does not answer is waited for, but not longer than the pod is.
    tokio::select! {
        opened = opening => opened,
        () = context.stop.asked() => Err(Stopped.into()),
    }
}

/// Runs what blocks on a thread of its own. A panic in there is a failure like others.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, AgentError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(RepositoryError::Failed { doing: "working on it".into(), cause: "the library gave up".into() }.into()),
    }
}
