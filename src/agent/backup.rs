//! Dumps the data into the repository, while users work.
//!
//! 1. A snapshot that this run already wrote is reported again.
//! 2. For each data: one transaction exports its view; pg_dump dumps that view into scratch space while the transaction
//!    sums up every table in the same view. What was found goes beside the dump as `manifest.json`.
//! 3. Scratch space goes into the repository as one snapshot, and is removed.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    Context,
    error::{AgentError, OfData, files},
    scratch::{self, Scratch},
};
use crate::{
    api::{BackupContent, Timestamp},
    data::{
        postgres::{
            Access, Pace, PgError, Session,
            catalog::{self, Found},
            content::{self, Content},
            tools::Tools,
        },
        repository::{Repository, RepositoryError, Stored},
    },
    manifest::task::{BackupOutcome, Outcome},
};

/// The version of [`Manifest`]'s shape.
const FORMAT: u32 = 1;
/// Its file's name, beside the directory [`DUMP`].
pub const MANIFEST: &str = "manifest.json";
/// The directory of pg_dump's directory format.
pub const DUMP: &str = "dump";

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
    /// Size of the dump.
    pub bytes: i64,
    /// Hash of the schema's text.
    pub schema_hash: String,
    /// Encoding, collation and the rest of the catalog's row.
    pub row: serde_json::Value,
    /// Owner, grants, settings, comment.
    pub found: Found,
    /// Tables, sequences, objects.
    pub content: Content,
}

impl Manifest {
    /// Reads the manifest of a data below a directory.
    pub fn read(directory: &Path, data: &str) -> Result<Self, AgentError> {
        let damaged = |cause: String| RepositoryError::Damaged { doing: format!("reading the manifest of data {data}"), cause };
        let text = fs::read(directory.join(data).join(MANIFEST)).map_err(|error| damaged(error.kind().to_string()))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|_| damaged("it is not one".into()))?;
        if manifest.format != FORMAT {
            return Err(damaged("another version of Lockkeeper wrote it".into()).into());
        }
        Ok(manifest)
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
        return Ok(());
    }
    let scratch = Scratch::new(&context.paths.scratch, "backup")?;
    let mut manifests = Vec::new();
    for access in context.accesses()? {
        manifests.push(dump(context, &access, scratch.path()).await?);
    }
    outcome.backup = Some(told(store(context, repository, scratch.path()).await?, &manifests));
    Ok(())
}

/// Writes what was dumped into a directory as one snapshot.
pub async fn store(context: &Context<'_>, repository: Repository, from: &Path) -> Result<Stored, AgentError> {
    super::progress("writing the snapshot", 0, Some(scratch::bytes(from)), "bytes");
    let (run, name) = (context.task.run.clone(), context.task.environment_name.clone());
    let words = context.task.snapshot.clone().unwrap_or_else(|| context.task.run_name.clone());
    let directory = from.to_path_buf();
    let work = blocking(move || repository.store(&directory, &run, &name, Some(&words)));
    tokio::select! {
        stored = work => stored,
        () = context.stop.asked() => Err(crate::data::stop::Stopped.into()),
    }
}

/// Dumps one data into a directory, with its manifest.
pub async fn dump(context: &Context<'_>, access: &Access, to: &Path) -> Result<Manifest, AgentError> {
    let (data, name) = (&access.data, access.database());
    let session = Session::open(&access.admin, name, Pace::Long, &context.stop).await.of(data)?;
    let major = catalog::major(&session).await.of(data)?;
    let tools = Tools::find(major).await.of(data)?;
    let missing = || PgError::DatabaseMissing { server: access.admin.server(), database: name.into(), data: data.clone() };
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session.run("taking a view of the data", begin).await.of(data)?;
    let taken_at = Timestamp::now();
    let snapshot: String = session.one("exporting the view", "SELECT pg_export_snapshot()", &[]).await.of(data)?.get(0);
    let database = catalog::database(&session, name).await.of(data)?.ok_or_else(missing).of(data)?;
    let found = catalog::found(&session, name).await.of(data)?.ok_or_else(missing).of(data)?;
    let directory = to.join(data);
    fs::create_dir_all(&directory).map_err(files("preparing scratch space"))?;
    // Sequences stand outside any view: they are read before pg_dump reads them, and after.
    let before = content::sequences(&session).await.of(data)?;
    let sums = async {
        content::read(&session, |done, total| super::progress(&format!("summing up {data}"), done, Some(total), "tables")).await
    };
    let dumped = async {
        tools.dump(&access.admin, name, &snapshot, &directory.join(DUMP), &context.stop).await?;
        tools.schema_hash(&access.admin, name, Some(&snapshot), &context.stop).await
    };
    let (mut content, schema_hash) = tokio::try_join!(sums, dumped).of(data)?;
    let after = content::sequences(&session).await.of(data)?;
    session.run("ending the view", "COMMIT").await.of(data)?;
    content.sequences = before
        .into_iter()
        .filter_map(|first| {
            let last = after.iter().find(|s| s.name == first.name)?;
            Some(content::Sequence { after: last.after, ..first })
        })
        .collect();
    let manifest = Manifest {
        format: FORMAT,
        environment: context.task.environment.clone(),
        environment_name: context.task.environment_name.clone(),
        run: context.task.run.clone(),
        data: data.clone(),
        database: name.into(),
        taken_at,
        server_major: major,
        client_major: tools.major,
        bytes: i64::try_from(scratch::bytes(&directory)).unwrap_or(i64::MAX),
        schema_hash,
        row: database.row,
        found,
        content,
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(|e| files("writing the manifest")(std::io::Error::other(e)))?;
    fs::write(directory.join(MANIFEST), json).map_err(files("writing the manifest"))?;
    Ok(manifest)
}

/// What an earlier attempt stored, read back from the snapshot.
async fn reported(context: &Context<'_>, repository: Repository, stored: Stored) -> Result<BackupOutcome, AgentError> {
    let names: Vec<String> = context.task.data.iter().map(|d| d.name.clone()).collect();
    let manifests = manifests(context, repository, &stored.snapshot, Some(names)).await?;
    Ok(told(stored, &manifests))
}

/// What a snapshot says of itself.
pub async fn look(context: &Context<'_>, repository: Repository, beginning: &str) -> Result<BackupOutcome, AgentError> {
    let beginning = beginning.to_owned();
    let (repository, stored) = blocking(move || {
        let stored = repository.find(&beginning)?;
        Ok((repository, stored))
    })
    .await?;
    let manifests = manifests(context, repository, &stored.snapshot, None).await?;
    Ok(told(stored, &manifests))
}

/// The manifests of these data in a snapshot; of all, where none are named.
async fn manifests(
    context: &Context<'_>,
    repository: Repository,
    snapshot: &str,
    names: Option<Vec<String>>,
) -> Result<Vec<Manifest>, AgentError> {
    let scratch = Scratch::new(&context.paths.scratch, "manifests")?;
    let (directory, snapshot) = (scratch.path().to_path_buf(), snapshot.to_owned());
    blocking(move || repository.restore_only(&snapshot, &directory, MANIFEST)).await?;
    let there = || {
        let entries = fs::read_dir(scratch.path()).into_iter().flatten().flatten();
        entries.filter(|e| e.path().join(MANIFEST).is_file()).filter_map(|e| e.file_name().into_string().ok())
    };
    let mut names: Vec<String> = names.unwrap_or_else(|| there().collect());
    names.sort();
    names.iter().map(|name| Manifest::read(scratch.path(), name)).collect()
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

/// Opens the repository of the task's environment.
pub async fn open(context: &Context<'_>) -> Result<Repository, AgentError> {
    let (directory, password) = (context.paths.repository.clone(), context.paths.repository_password.clone());
    let environment = context.task.environment.clone();
    blocking(move || Repository::open(&directory, &password, &environment)).await
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
