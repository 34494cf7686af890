//! Copies the data into the repository, while users work.
//!
//! 1. A snapshot that this run already wrote is reported again.
//! 2. A view of each database is taken, and the policy, where there is one, held against all of them.
//! 3. Each view goes into one snapshot of the repository while it is read ([`crate::data::postgres::copy`]), with what was found
//!    in the same view as its `manifest.json`.
//! 4. The snapshot counts once all of it is there.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Context,
    error::{AgentError, OfData, files},
    head::{Head, Version},
    preflight::proof::Needs,
    scratch::Scratch,
    snapshot::{self, Policy},
    volumes, wide,
};
use crate::{
    api::{BackupContent, Coverage},
    data::{
        mask::Masking,
        postgres::{
            Access, PgError,
            catalog::{self, Found},
            content::{self, Content},
            copy::{self, CopyError, Defined, Export, Exported, Sum, View},
            rights::{self, Given},
            tools::{Definitions, Tools},
            transform::Transforms,
        },
        repository::{Reader, Repository, RepositoryError, Stored, VOLUMES, Writer},
        s3::{Bucket, Location},
        stop::Stopped,
    },
    manifest::task::{BackupOutcome, OWN_CREDENTIALS, OWN_PASSWORD, OWN_REPOSITORY, Outcome, S3Task, Task, Verb},
};

/// The version of [`Manifest`]'s shape.
const FORMAT: u32 = 2;
/// Its file's name, in the directory of its data.
const MANIFEST: &str = "manifest.json";

/// What a backup of one data says of itself. It is stored encrypted with the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Of which data, and of when.
    #[serde(flatten)]
    pub head: Head,
    /// Its database.
    pub database: String,
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
    /// Owners and grants of what is in it. Not of masked data, nor in a backup of before they were kept here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// Tables, sequences, objects.
    pub content: Content,
    /// The files of the rows.
    pub copied: Exported,
    /// Of masked data: what it needs where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
    /// Of masked data: by what, and for whom first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<Masked>,
}

/// What a masked snapshot says of how it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Masked {
    /// Hash of the masking policy.
    pub policy: String,
    /// Hash of the release that the source ran.
    pub release: Option<String>,
    /// The run that it was made for.
    pub made_for: String,
    /// How much of the data the policy named then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

impl Masked {
    /// What this task would write.
    pub fn of(task: &Task) -> Option<Self> {
        let (policy, release) = (task.masking_policy_hash.clone()?, task.release.clone());
        Some(Self { policy, release, made_for: task.run_name.clone(), coverage: None })
    }
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
            data: self.head.data.clone(),
            tables: i64::try_from(self.content.tables.len()).unwrap_or(i64::MAX),
            rows: self.content.rows(),
            bytes: self.bytes,
            files: None,
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
    let mut written = store(context, &repository, &accesses.iter().collect::<Vec<_>>(), policy).await?;
    outcome.notes.append(&mut written.notes);
    outcome.backup = Some(told(written));
    Ok(Some(repository))
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The snapshot.
    pub stored: Stored,
    /// Of each database.
    pub manifests: Vec<Manifest>,
    /// Of each volume.
    pub volumes: Vec<volumes::Manifest>,
    /// What a person may want to know of it.
    pub notes: Vec<String>,
}

/// A database of which a view was taken, and how it leaves.
struct Taken<'a> {
    access: &'a Access,
    view: View,
    tools: Tools,
    masking: Option<Masking>,
    coverage: Option<Coverage>,
    defined: Defined,
}

/// Takes a view of each database, and holds the policy against all of them: what is wrong with the last one is said before
/// anything of the first has left. What is in several databases is then of about the same time too.
async fn taken<'a>(
    context: &Context<'_>,
    all: &[&'a Access],
    policy: Option<&Policy>,
    scratch: &Path,
) -> Result<Vec<Taken<'a>>, AgentError> {
    let which = if policy.is_some() { Definitions::Bare } else { Definitions::All };
    let mut list = Vec::with_capacity(all.len());
    for access in all {
        let data = &access.data;
        let view = View::open(&access.admin, access.database(), &context.stop).await.of(data)?;
        let masking = policy.map(|p| p.of(data, &view.tables)).transpose()?;
        let tools = Tools::find(view.major).await.of(data)?;
        let place = (&view.endpoint, view.database.as_str(), Some(view.snapshot.as_str()));
        let archive = scratch.join(format!("{data}.dump"));
        let defined = copy::define(&tools, place, which, archive, &context.stop).await.of(data)?;
        if masking.is_some() {
            snapshot::screen(&defined).map_err(|why| AgentError::Refused(format!("data {data}: {why}")))?;
        }
        if let Some(masking) = &masking {
            wide::refuse(context, access, &view.tables, masking).await?;
        }
        let coverage = policy.and_then(|p| p.coverage(data, &view.tables));
        list.push(Taken { access, view, tools, masking, coverage, defined });
    }
    Ok(list)
}

/// What is written into a snapshot, by the name that it has there.
enum Part<'a> {
    Database(Box<Taken<'a>>),
    Volumes,
    Index,
}

/// Writes databases and the task's volumes into one snapshot; by a masking policy, where one is given.
pub async fn store(
    context: &Context<'_>,
    repository: &Repository,
    all: &[&Access],
    policy: Option<&Policy>,
) -> Result<Written, AgentError> {
    let task = context.task;
    let words = task.snapshot.as_ref().unwrap_or(&task.run_name);
    let scratch = Scratch::new(&context.paths.scratch, "backup")?;
    let taken = taken(context, all, policy, scratch.path()).await?;
    let mut parts: Vec<(&str, Part<'_>)> =
        taken.into_iter().map(|t| (t.access.data.as_str(), Part::Database(Box::new(t)))).collect();
    if !task.volumes.is_empty() {
        parts.extend([(VOLUMES, Part::Volumes), (volumes::INDEX, Part::Index)]);
    }
    // In the order in which a snapshot has its directories.
    parts.sort_by(|a, b| a.0.cmp(b.0));
    let writer = repository.writer(&task.run, &task.environment_name, Some(words));
    let (mut manifests, mut of_volumes, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut failed = None;
    for (name, part) in parts {
        let written = match part {
            Part::Database(taken) => export(context, *taken, &writer).await.map(|m| manifests.push(m)),
            Part::Volumes => volumes::add_to(context, policy, &writer.entries()).await.map(|all| (of_volumes, notes) = all),
            Part::Index => {
                let text = serde_json::to_vec_pretty(&of_volumes).unwrap_or_default();
                let ended = |_| RepositoryError::Failed { doing: format!("writing {name}"), cause: "it takes no more".into() };
                writer.file(name, text).await.map_err(ended).map_err(AgentError::from)
            }
        };
        if let Err(error) = written {
            failed = Some(error);
            break;
        }
    }
    let ended = writer.end(failed.is_none());
    let stored = tokio::select! {
        ended = ended => ended,
        () = context.stop.asked() => return Err(failed.unwrap_or_else(|| crate::data::stop::Stopped.into())),
    };
    match (failed, stored) {
        (None, Ok(Some(stored))) => Ok(Written { stored, manifests, volumes: of_volumes, notes }),
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
    Taken { access, view, tools, masking, coverage, defined }: Taken<'_>,
    writer: &Writer,
) -> Result<Manifest, AgentError> {
    let (data, name) = (&access.data, access.database());
    let missing = || PgError::DatabaseMissing { server: access.admin.server(), database: name.into(), data: data.clone() };
    let database = catalog::database(&view.session, name).await.of(data)?.ok_or_else(missing).of(data)?;
    let found = catalog::found(&view.session, name).await.of(data)?.ok_or_else(missing).of(data)?;
    let masked = masking.is_some();
    // Of masked data nothing is told but what is needed to load it: who owned it, and how it is set up, stays at home.
    let (found, schema_hash) = if masked {
        (snapshot::nothing_found(), String::new())
    } else {
        (found, tools.schema_hash(&access.admin, name, Some(&view.snapshot), &context.stop).await.of(data)?)
    };
    let given = if masked { None } else { Some(rights::read(&view.session, &database.owner).await.of(data)?) };
    let needs = if masked { Some(Needs::of_masked(&view.session, view.major).await.of(data)?) } else { None };
    let export = Export {
        tools: &tools,
        prefix: data,
        transforms: masking.map(|m| Arc::new(m) as Arc<dyn Transforms>),
        defined,
        stop: &context.stop,
        report: Arc::new(context.told.begin(format!("{} {data}", if masked { "masking" } else { "backing up" }))),
    };
    let mut content = content::read(&view.session, Vec::new(), !masked).await.of(data)?;
    if masked {
        content.objects.retain(|object, _| snapshot::leaves(object));
    }
    let mut manifest = None;
    let describe = |copied: &Exported| {
        let sums: Vec<Sum> = copied.tables.iter().map(|t| t.sum).collect();
        content.tables = tables(copied, &sums);
        content.sequences = copied.sequences.iter().map(sequence).collect();
        let made = Manifest {
            head: Head::of(context.task, FORMAT, data.clone(), view.taken_at),
            database: if masked { String::new() } else { name.into() },
            server_major: view.major,
            client_major: tools.major,
            bytes: i64::try_from(copied.sum().bytes).unwrap_or(i64::MAX),
            schema_hash,
            row: if masked { catalog::portable(&database.row) } else { database.row },
            found,
            given,
            content,
            copied: copied.clone(),
            needs,
            masked: Masked::of(context.task).filter(|_| masked).map(|of| Masked { coverage, ..of }),
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

/// What an earlier attempt stored, read back from the snapshot.
async fn reported(context: &Context<'_>, repository: Repository, stored: Stored) -> Result<BackupOutcome, AgentError> {
    let names: Vec<String> = context.task.data.iter().map(|d| d.name.clone()).collect();
    Ok(told(written(repository, stored, Some(names)).await?))
}

/// What a snapshot says of itself.
pub async fn look(repository: Repository, beginning: &str) -> Result<BackupOutcome, AgentError> {
    Ok(told(found(repository, beginning.to_owned()).await?))
}

/// What the snapshot holds whose id begins so.
pub async fn found(repository: Repository, id: String) -> Result<Written, AgentError> {
    let (repository, stored) = blocking(move || {
        let stored = repository.find(&id)?;
        Ok((repository, stored))
    })
    .await?;
    written(repository, stored, None).await
}

/// What a snapshot holds, by its manifests; of these databases, or of all, where none are named.
async fn written(repository: Repository, stored: Stored, names: Option<Vec<String>>) -> Result<Written, AgentError> {
    blocking(move || {
        let reader = repository.reader(&stored.snapshot)?;
        let there = || {
            let manifests = reader.paths().filter(|p| p.file_name().is_some_and(|name| name == MANIFEST));
            manifests.filter_map(|p| p.parent()?.to_str().map(str::to_owned)).collect()
        };
        let mut names: Vec<String> = names.unwrap_or_else(there);
        names.sort();
        let manifests = names.iter().map(|name| Manifest::read(&reader, name)).collect::<Result<_, _>>()?;
        Ok(Written { volumes: volumes::Manifest::all(&reader)?, stored, manifests, notes: Vec::new() })
    })
    .await
}

pub fn told(written: Written) -> BackupOutcome {
    let Written { stored, manifests, volumes, notes: _ } = written;
    let databases = manifests.iter().map(Manifest::summary);
    let contents: Vec<BackupContent> = databases.chain(volumes.iter().map(volumes::Manifest::summary)).collect();
    let coverage = manifests.iter().filter_map(|m| m.masked.as_ref()?.coverage.clone()).collect();
    BackupOutcome {
        coverage,
        snapshot: stored.snapshot,
        bytes: i64::try_from(stored.bytes).unwrap_or(i64::MAX),
        stored_bytes: i64::try_from(stored.stored_bytes).unwrap_or(i64::MAX),
        rows: contents.iter().map(|c| c.rows).sum(),
        contents,
        taken_at: manifests.iter().map(|m| &m.head).chain(volumes.iter().map(|v| &v.head)).map(|h| h.taken_at).min(),
    }
}

/// Opens the repository of the task's environment, or of the one whose masked data it takes.
pub async fn open(context: &Context<'_>) -> Result<Repository, AgentError> {
    let (task, paths) = (context.task, context.paths);
    // Who takes masked data, or puts a backup back, may be let read and no more.
    let reads = match task.verb {
        Verb::Prove | Verb::Restore | Verb::Rollback => true,
        Verb::Preflight => task.restores(),
        _ => false,
    };
    let environment = task.origin.clone().unwrap_or_else(|| task.environment.clone());
    let place = (paths.repository.clone(), paths.repository_password.clone(), paths.repository_credentials.clone());
    open_at(context, place, task.s3.clone(), environment, reads).await
}

/// Opens the repository of the task's environment, where another's masked data is mounted in its place.
pub async fn open_own(context: &Context<'_>) -> Result<Repository, AgentError> {
    let Some(own) = &context.task.own else { return open(context).await };
    let below = |part: &str| context.paths.own.join(part);
    let place = (below(OWN_REPOSITORY), below(OWN_PASSWORD), below(OWN_CREDENTIALS));
    open_at(context, place, own.s3.clone(), context.task.environment.clone(), false).await
}

async fn open_at(
    context: &Context<'_>,
    (directory, password, credentials): (PathBuf, PathBuf, PathBuf),
    s3: Option<S3Task>,
    environment: String,
    reads: bool,
) -> Result<Repository, AgentError> {
    // A new one, made where the old one is gone, would only hide that.
    let finds = context.task.verb == Verb::Rollback;
    let opening = blocking(move || {
        let Some(S3Task { endpoint, region, bucket, prefix }) = s3 else {
            let opened = if finds {
                Repository::open_to_read(&directory, &password, &environment)
            } else {
                Repository::open(&directory, &password, &environment)
            };
            volumes::share(&directory);
            return opened;
        };
        let bucket = Bucket::new(Location { endpoint, region, bucket, prefix }, &credentials)?;
        if reads {
            Repository::open_to_read(bucket, &password, &environment)
        } else {
            Repository::open(bucket, &password, &environment)
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
