//! Proves a backup: it is restored beside the data into a scratch database, and compared with what the manifest says.
//!
//! 1. The snapshot comes out of the repository into scratch space; every byte is checked against its hash.
//! 2. For each data: an empty database of the same encoding and collation, pg_restore as the owner, the same sums again.
//! 3. The scratch database is dropped, whatever happened.

use std::path::Path;

use super::{
    Context,
    backup::{self, DUMP, Manifest},
    error::{AgentError, OfData},
    scratch::Scratch,
};
use crate::{
    data::{
        postgres::{
            Access, Pace, Session, catalog, content, control,
            quote::{Made, ident, made_database},
            tools::{Rights, Tools},
        },
        stop::{Stop, Stopped},
    },
    manifest::task::Outcome,
};

/// So many differences are named.
const NAMED: usize = 8;

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let snapshot =
        context.task.snapshot.clone().ok_or_else(|| AgentError::Task("verb prove needs the snapshot to prove".into()))?;
    let scratch = Scratch::new(&context.paths.scratch, "prove")?;
    fetch(context, &snapshot, scratch.path()).await?;
    for access in context.accesses()? {
        let name = made_database(access.database(), Made::Proof, &context.task.run);
        let result = restore_and_compare(context, &access, (&name, Rights::LeftOut), scratch.path(), outcome).await;
        let cleaned = drop_made(&access, &name).await;
        // The first cause counts, also when cleaning up failed as well.
        result?;
        cleaned?;
    }
    Ok(())
}

/// Takes a snapshot out of the repository into a directory.
pub async fn fetch(context: &Context<'_>, snapshot: &str, to: &Path) -> Result<(), AgentError> {
    let repository = backup::open(context).await?;
    let (snapshot, directory) = (snapshot.to_owned(), to.to_path_buf());
    super::progress("reading the snapshot", 0, None, "bytes");
    let reading = backup::blocking(move || repository.restore(&snapshot, &directory));
    tokio::select! {
        read = reading => read,
        () = context.stop.asked() => Err(Stopped.into()),
    }
}

/// Restores a data into a database of that name, which is made anew, and compares it with what its manifest says. No one but
/// its owner may connect to it.
pub async fn restore_and_compare(
    context: &Context<'_>,
    access: &Access,
    (name, rights): (&str, Rights),
    from: &Path,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let data = &access.data;
    let manifest = Manifest::read(from, data)?;
    if manifest.environment != context.task.environment || manifest.data != *data {
        return Err(AgentError::ProofFailed { data: data.clone(), differences: "its manifest is of other data".into() });
    }
    let maintenance = control::maintenance(&access.admin, &context.stop).await.of(data)?;
    let major = catalog::major(&maintenance).await.of(data)?;
    let tools = Tools::find(major).await.of(data)?;
    maintenance.run("dropping an earlier scratch database", &drop_statement(name)).await.of(data)?;
    let owner = match catalog::database(&maintenance, access.database()).await.of(data)? {
        Some(database) => database.owner,
        None => manifest.found.owner.clone(),
    };
    maintenance.run("making a scratch database", &catalog::create_like(name, &owner, &manifest.row)).await.of(data)?;
    let closed = format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", ident(name));
    maintenance.run("closing the scratch database", &closed).await.of(data)?;
    super::progress(&format!("restoring {data}"), 0, u64::try_from(manifest.bytes).ok(), "bytes");
    // A superuser restores as itself: the owner could not make every extension.
    let role = (!catalog::is_superuser(&maintenance).await.of(data)?).then_some(owner.as_str());
    tools.restore(&access.admin, name, (role, rights), &from.join(data).join(DUMP), major, &context.stop).await.of(data)?;
    let session = Session::open(&access.admin, name, Pace::Long, &context.stop).await.of(data)?;
    session.run("taking a view", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.of(data)?;
    let label = format!("comparing {data}");
    let restored = content::read(&session, |done, total| super::progress(&label, done, Some(total), "tables")).await.of(data)?;
    let differences = manifest.content.differences(&restored);
    if !differences.is_empty() {
        let mut named: Vec<String> = differences.iter().take(NAMED).cloned().collect();
        if differences.len() > NAMED {
            named.push(format!("… and {} more", differences.len() - NAMED));
        }
        return Err(AgentError::ProofFailed { data: data.clone(), differences: named.join(", ") });
    }
    let hash = tools.schema_hash(&access.admin, name, None, &context.stop).await.of(data)?;
    if hash != manifest.schema_hash {
        // PostgreSQL reads some expressions back in another spelling than it was given.
        outcome.notes.push(format!("{data}: some definitions read back in another spelling; names, columns and rows are equal"));
    }
    outcome.notes.push(format!(
        "{data}: restored and compared {} tables, {} rows",
        manifest.content.tables.len(),
        manifest.content.rows()
    ));
    Ok(())
}

/// Not stopped by a signal: it is what a signal must not leave behind.
pub async fn drop_made(access: &Access, name: &str) -> Result<(), AgentError> {
    let session = control::maintenance(&access.admin, &Stop::never()).await.of(&access.data)?;
    session.run("dropping the scratch database", &drop_statement(name)).await.of(&access.data)
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name))
}
