//! Proves a backup: it is restored into a scratch database, and compared with what the manifest says.
//!
//! 1. For each data: an empty database of the same encoding and collation, into which the snapshot is copied: beside the data as
//!    its owner, with owners and grants as a restore gives them, or on a server of its own ([`super::proof`]). Every file is compared with the manifest before a row of it goes
//!    anywhere.
//! 2. What the tables of that database hold is read once more, in the same way as it was read of the original, and compared.
//! 3. The scratch database is dropped, whatever happened; one of a Job that was killed, by the next attempt, the next proof of the
//!    same data, a preflight that looks at that server, or with the Environment.

use std::sync::Arc;

use super::{
    Context,
    backup::{self, Manifest},
    error::{AgentError, OfData},
    outcome::named,
    preflight::mebibytes,
    proof::{self, ProofServer},
    scratch::Scratch,
    volumes,
};
use crate::{
    data::{
        postgres::{
            Access, Endpoint, Pace, PgError, Session, catalog, content, control,
            copy::{self, Amount, Import, View},
            quote::{Purpose, ident, made_database},
            tables,
            tools::{Rights, Tools},
        },
        repository::Reader,
        stop::{Stop, Stopped},
    },
    manifest::task::{Outcome, Verb},
};

/// So many differences are named.
const NAMED: usize = 8;
/// So many tables are dropped before their database is, where there is no space.
const LARGEST: i64 = 20;

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let snapshot =
        context.task.snapshot.clone().ok_or_else(|| AgentError::Task("verb prove needs the snapshot to prove".into()))?;
    let reader = open(context, &snapshot).await?;
    for access in context.accesses()? {
        let elsewhere = ProofServer::endpoint(context).of(&proof::said(&access.data))?;
        let name = made_database(access.database(), Purpose::Proof, &context.task.run);
        let result = match &elsewhere {
            None => restore_and_compare(context, &access, (&name, Rights::Kept), &reader, outcome).await,
            Some(endpoint) => prove_elsewhere(context, &access, endpoint, &name, &reader, outcome).await,
        };
        // What another is at work on is not ours to drop.
        if matches!(&result, Err(AgentError::Postgres { source, .. }) if matches!(**source, PgError::Claimed { .. })) {
            return result;
        }
        let cleaned = match &elsewhere {
            None => drop_made(&access, &name).await,
            Some(endpoint) => proof::drop_made(endpoint, &access.data, &name).await,
        };
        // The first cause counts, also when cleaning up failed as well.
        result?;
        cleaned?;
    }
    volumes::prove(context, &reader, outcome).await
}

/// Opens a snapshot.
pub async fn open(context: &Context<'_>, snapshot: &str) -> Result<Reader, AgentError> {
    let repository = backup::open(context).await?;
    let snapshot = snapshot.to_owned();
    let reading = backup::blocking(move || repository.reader(&snapshot));
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
    reader: &Reader,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let data = &access.data;
    let manifest = manifest_of(context, reader, data).await?;
    let maintenance = control::maintenance(&access.admin, &context.stop).await.of(data)?;
    // Where today's is, and as whose it is.
    let (owner, space) = match catalog::database(&maintenance, access.database()).await.of(data)? {
        Some(database) => (database.owner.clone(), database.tablespace().map(str::to_owned)),
        None => (manifest.found.owner.clone(), None),
    };
    let space = space.as_deref();
    let place = Place { access, endpoint: &access.admin, maintenance, name, owner: &owner, space, rights, said: data.clone() };
    put(context, place, &manifest, reader, outcome).await
}

/// The same on the server that is for proofs alone, whose role owns what it makes there.
async fn prove_elsewhere(
    context: &Context<'_>,
    access: &Access,
    endpoint: &Endpoint,
    name: &str,
    reader: &Reader,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let said = proof::said(&access.data);
    let manifest = manifest_of(context, reader, &access.data).await?;
    let server = ProofServer::enter(endpoint.clone(), &context.stop).await.of(&said)?;
    let wrong = server.wrong((manifest.server_major, &format!("data {}", access.data)));
    if !wrong.is_empty() {
        return Err(AgentError::Refused(wrong.join("; ")));
    }
    let (maintenance, rights) = (server.session, Rights::Elsewhere);
    let place = Place { access, endpoint, maintenance, name, owner: &endpoint.user, space: None, rights, said };
    put(context, place, &manifest, reader, outcome).await
}

/// Where a snapshot of a data is put.
struct Place<'a> {
    access: &'a Access,
    /// The server, and the role that works there.
    endpoint: &'a Endpoint,
    /// That role, outside of what it makes.
    maintenance: Session,
    /// The database that is made.
    name: &'a str,
    owner: &'a str,
    /// The tablespace, if not the server's default.
    space: Option<&'a str>,
    rights: Rights,
    /// The data, for messages.
    said: String,
}

async fn put(
    context: &Context<'_>,
    place: Place<'_>,
    manifest: &Manifest,
    reader: &Reader,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    match load(context, &place, manifest, reader, outcome).await {
        Err(AgentError::Postgres { data, source }) if source.is_server_full() => {
            if let Err(error) = make_room(&place).await {
                tracing::warn!(%error, "what was loaded could not be made smaller");
            }
            let (database, rows) = (place.name.to_owned(), mebibytes(manifest.bytes));
            Err(AgentError::ServerFull { data, database, rows, source })
        }
        loaded => loaded,
    }
}

/// Drops the largest tables of what was loaded in vain. To drop a database the server makes a checkpoint, and one that cannot write
/// that ends all its sessions, and may not come up again before someone has made room. A table's space is free at once.
async fn make_room(place: &Place<'_>) -> Result<(), PgError> {
    let Place { endpoint, maintenance, name, owner, .. } = place;
    if !catalog::exists(maintenance, name).await? {
        return Ok(());
    }
    let session = Session::open(endpoint, name, Pace::Short, &Stop::never()).await?;
    if !catalog::is_superuser(maintenance).await? {
        session.run("preparing a session", &format!("SET ROLE {}", ident(owner))).await?;
    }
    for table in tables::largest(&session, LARGEST).await? {
        session.run("dropping a table that was loaded in vain", &format!("DROP TABLE IF EXISTS {table} CASCADE")).await?;
    }
    Ok(())
}

async fn load(
    context: &Context<'_>,
    place: &Place<'_>,
    manifest: &Manifest,
    reader: &Reader,
    outcome: &mut Outcome,
) -> Result<(), AgentError> {
    let Place { access, endpoint, maintenance, name, owner, space, rights, said: data } = place;
    let (name, owner) = (*name, *owner);
    let major = catalog::major(maintenance).await.of(data)?;
    let tools = Tools::find(major).await.of(data)?;
    if context.task.verb == Verb::Prove {
        proof::claim(maintenance, access.database(), name).await.of(data)?;
    }
    maintenance.run("dropping an earlier scratch database", &drop_statement(name)).await.of(data)?;
    let doing = format!("making a scratch database of {}", catalog::locale(&manifest.row));
    let space = space.map(|space| format!(" TABLESPACE {}", ident(space))).unwrap_or_default();
    maintenance.run(&doing, &(catalog::create_like(name, owner, &manifest.row, major) + &space)).await.of(data)?;
    let closed = format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", ident(name));
    maintenance.run("closing the scratch database", &closed).await.of(data)?;
    // A superuser restores as itself, because the owner could not make every extension, and hands over what was made.
    let superuser = catalog::is_superuser(maintenance).await.of(data)?;
    let role = (!superuser).then_some(owner);
    let given = manifest.given.as_ref().filter(|_| *rights == Rights::Kept);
    let scratch = Scratch::new(&context.paths.scratch, "restore")?;
    let import = Import {
        tools: &tools,
        endpoint,
        major,
        database: name,
        role,
        heir: (superuser && endpoint.user != owner).then_some(owner),
        rights: *rights,
        given,
        analyze: context.task.verb != Verb::Prove,
        prefix: &access.data,
        scratch: scratch.path(),
        stop: &context.stop,
        report: Arc::new(context.told.begin(format!("restoring {data}"))),
        loaded: &|| context.told.begin(format!("making indexes and constraints of {data}"))(Amount::default()),
    };
    let left = copy::import(reader, &manifest.copied, import).await.of(data)?;
    if !left.is_empty() {
        let left = named(left, NAMED).join("; ");
        outcome.notes.push(format!("{data}: what these say could not be given back, and stays the database's owner's: {left}"));
    }
    let view = View::open(endpoint, name, &context.stop).await.of(data)?;
    let report = context.told.begin(format!("comparing {data}"));
    let sums = copy::sums(&view, &manifest.copied, &context.stop, Arc::new(report)).await.of(data)?;
    let mut restored = content::read(&view.session, backup::tables(&manifest.copied, &sums), true).await.of(data)?;
    let masked = manifest.schema_hash.is_empty();
    if masked {
        // PostgreSQL reads a masked value back in its own spelling: the keys of a jsonb in another order, a number with its zeros. What
        // was compared, byte by byte, is each file on its way in; here the rows are counted.
        for (here, table) in restored.tables.iter_mut().zip(&manifest.content.tables).filter(|(h, t)| h.rows == t.rows) {
            here.checksum.clone_from(&table.checksum);
        }
    }
    let differences = manifest.content.differences(&restored);
    if !differences.is_empty() {
        return Err(AgentError::ProofFailed { data: data.clone(), differences: named(differences, NAMED).join(", ") });
    }
    // Masked definitions lack comments and more: their text was never the same.
    let hash = if masked { String::new() } else { tools.schema_hash(endpoint, name, None, &context.stop).await.of(data)? };
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

/// The manifest of a data, if it is of the environment whose backup this is to be.
async fn manifest_of(context: &Context<'_>, reader: &Reader, data: &str) -> Result<Manifest, AgentError> {
    let (reader, name) = (reader.clone(), data.to_owned());
    let manifest = backup::blocking(move || Manifest::read(&reader, &name)).await?;
    let of = context.task.origin.as_ref().unwrap_or(&context.task.environment);
    if !manifest.head.is_of(of, data) {
        return Err(AgentError::ProofFailed { data: data.to_owned(), differences: "its manifest is of other data".into() });
    }
    Ok(manifest)
}

/// Not stopped by a signal: it is what a signal must not leave behind.
pub async fn drop_made(access: &Access, name: &str) -> Result<(), AgentError> {
    let session = control::maintenance(&access.admin, &Stop::never()).await.of(&access.data)?;
    session.run("dropping the scratch database", &drop_statement(name)).await.of(&access.data)
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name))
}
