//! Everything that can be known before anyone is locked out, as named checks. Each failed one says what mends it.
//!
//! 1. For each data: the server is reached, the rights are there ([`rights`]), nothing stands in the way of the fence
//!    ([`traffic`]), and what is in the database can be restored by its role ([`contents`]), where proofs have a server of their
//!    own there too ([`proof`]).
//! 2. For each volume: its files can be read and put back by the pod's user ([`volume`]).
//!    Of masked data that comes from another environment: whether the server takes it, and nothing else about the database.
//! 3. The repository opens, is this environment's, and has room.
//!
//! The control database is made here, so that its epoch is known before a lock is taken. Nothing else is changed.

mod claim;
mod contents;
mod migration;
pub mod proof;
mod rights;
mod traffic;
mod undo;
mod volume;

use std::collections::BTreeMap;

use super::{
    Context, backup,
    error::{AgentError, OfData},
};
use crate::{
    api::Check,
    data::{
        postgres::{
            Access, Pace, PgError, Session,
            catalog::{self, Identity},
            control::{self, Control},
            quote::ident,
            tools::Tools,
        },
        repository,
    },
    manifest::task::{BackupOutcome, Outcome},
};

/// The oldest server that is served.
const OLDEST: u32 = 14;
/// What a database's definitions may take; rows need no scratch space.
const DEFINITIONS: i64 = 64 << 20;
const DEFAULT_FACTOR: f64 = 1.5;

/// The checks of one data.
pub(super) struct Checks<'a> {
    data: &'a str,
    list: &'a mut Vec<Check>,
}

impl Checks<'_> {
    fn pass(&mut self, topic: &str, message: impl Into<String>) {
        self.push(topic, true, message.into());
    }

    fn fail(&mut self, topic: &str, message: impl Into<String>) {
        self.push(topic, false, message.into());
    }

    /// Passes with words, or fails with what is wrong.
    fn judge(&mut self, topic: &str, wrong: Vec<String>, fine: &str) {
        if wrong.is_empty() { self.pass(topic, fine) } else { self.fail(topic, wrong.join("; ")) }
    }

    fn push(&mut self, topic: &str, passed: bool, message: String) {
        let name = if self.data.is_empty() { topic.to_owned() } else { format!("{}: {topic}", self.data) };
        self.list.push(Check { name, passed, message });
    }
}

/// A data whose server was reached.
pub(super) struct Subject<'a> {
    access: &'a Access,
    /// The admin role, outside the data's database.
    session: Session,
    major: u32,
    superuser: bool,
    database: catalog::Database,
}

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let (mut size, mut epoch) = (0_i64, None);
    let mut seen: BTreeMap<(Identity, u32), String> = BTreeMap::new();
    for data in context.task.data.iter().filter(|_| context.task.origin.is_none()) {
        let mut checks = Checks { data: &data.name, list: &mut outcome.checks };
        match inspect(context, &data.name, &mut checks).await {
            Ok(Some((bytes, known, identity, mark))) => {
                outcome.marks.insert(data.name.clone(), mark);
                size += bytes;
                epoch = epoch.max(known);
                if let Some(other) = seen.insert(identity, data.name.clone()) {
                    checks.fail("database", format!("data {other} and data {} are one database; name it once", data.name));
                }
            }
            Ok(None) => {}
            Err(AgentError::Stopped(stopped)) => return Err(stopped.into()),
            Err(error) => checks.fail("server", error.to_string()),
        }
    }
    outcome.control_epoch = epoch;
    // Of what comes from another environment the files themselves tell; the volume was looked at before it was asked for.
    if context.task.origin.is_none() {
        size += volume::check(context, outcome).await?;
    }
    if context.task.repository {
        let mut checks = Checks { data: "", list: &mut outcome.checks };
        repository_checks(context, size, &mut checks, &mut outcome.backup).await?;
    }
    if let Some(found) = outcome.backup.clone() {
        volume::fits(context, &found, outcome);
        if context.task.origin.is_some() {
            volume::can_be_given(context, &found, outcome).await?;
            arrival(context, &found, outcome).await?;
        }
    }
    Ok(())
}

/// Whether the servers of the task's data take the masked data that was found.
async fn arrival(context: &Context<'_>, found: &BackupOutcome, outcome: &mut Outcome) -> Result<(), AgentError> {
    if context.task.data.is_empty() {
        return Ok(());
    }
    let (repository, id) = (backup::open(context).await?, found.snapshot.clone());
    let reader = backup::blocking(move || repository.reader(&id)).await?;
    for access in context.accesses()? {
        let mut checks = Checks { data: &access.data, list: &mut outcome.checks };
        let (reader, name) = (reader.clone(), access.data.clone());
        let manifest = backup::blocking(move || backup::Manifest::read(&reader, &name)).await?;
        match proof::arrives(context, &access, &manifest, &mut checks).await {
            Ok(()) => {}
            Err(PgError::Stopped(stopped)) => return Err(stopped.into()),
            Err(error) => checks.fail("what comes", error.to_string()),
        }
    }
    Ok(())
}

/// Checks one data. Gives its size, its epoch, the identity of server and database, and what later steps know it by.
async fn inspect(
    context: &Context<'_>,
    data: &str,
    checks: &mut Checks<'_>,
) -> Result<Option<(i64, Option<i64>, (Identity, u32), String)>, AgentError> {
    let access = match Access::read(&context.paths.secrets, data) {
        Ok(access) => access,
        Err(error) => {
            checks.fail("Secret", error.to_string());
            return Ok(None);
        }
    };
    let session = control::maintenance(&access.admin, &context.stop).await.of(data)?;
    let major = catalog::major(&session).await.of(data)?;
    if major < OLDEST {
        checks.fail("server", format!("{} is PostgreSQL {major}; {OLDEST} or newer is needed", access.admin.server()));
        return Ok(None);
    }
    let Some(database) = catalog::database(&session, access.database()).await.of(data)? else {
        let (database, server) = (access.database().to_owned(), access.admin.server());
        let mut message = PgError::DatabaseMissing { server, database, data: data.to_owned() }.to_string();
        if context.task.restores() {
            // What comes back takes the place of a database; that of one which is lost may be empty.
            message += &format!(
                ". To restore into a lost one's place, make an empty one: CREATE DATABASE {} OWNER {};",
                ident(access.database()),
                ident(&access.connection.user)
            );
        }
        checks.fail("database", message);
        return Ok(None);
    };
    checks.pass("server", format!("{} is PostgreSQL {major}", access.admin.server()));
    let identity = Identity::of(&session).await.of(data)?;
    let application = Session::open(&access.connection, access.database(), Pace::Short, &context.stop).await;
    match application {
        Ok(application) if Identity::of(&application).await.of(data)? == identity => {
            checks.pass("application role", format!("role {} connects", access.connection.user));
        }
        Ok(_) => checks.fail(
            "application role",
            format!(
                "connectionSecret leads to {} and adminSecret to {}, which are different servers; name the same one",
                access.connection.server(),
                access.admin.server()
            ),
        ),
        Err(error) => checks.fail("application role", error.to_string()),
    }
    match Tools::find(major).await {
        Ok(tools) => checks.pass("client programs", format!("pg_dump {} serves PostgreSQL {major}", tools.major)),
        Err(error) => checks.fail("client programs", error.to_string()),
    }
    let superuser = catalog::is_superuser(&session).await.of(data)?;
    let oid = database.oid;
    let subject = Subject { access: &access, session, major, superuser, database };
    let task = context.task.data.iter().find(|d| d.name == data);
    let migrations = task.map(|d| d.migrations.as_slice()).unwrap_or_default();
    let complete = rights::check(&subject, checks).await.of(data)?;
    migration::check(context, &subject, migrations, &identity, checks).await.of(data)?;
    if complete {
        match Session::open(&access.admin, access.database(), Pace::Short, &context.stop).await {
            Ok(inside) => {
                contents::check(&subject, &inside, checks).await.of(data)?;
                proof::check(context, &subject, &inside, checks).await.of(data)?;
            }
            Err(error) => checks.fail("contents", error.to_string()),
        }
    }
    traffic::check(context, &subject, checks).await.of(data)?;
    let method = task.map(|d| d.undo).unwrap_or_default();
    if context.task.restores() {
        restore_check(context, &subject, checks).await.of(data)?;
    } else {
        undo::check(&subject, method, context.task.repository, checks).await.of(data)?;
    }
    let epoch = match Control::ensure(&access.admin, &context.task.environment, &context.stop).await {
        Ok(control) => {
            let epochs = control.all().await.of(data)?;
            let greatest = epochs.iter().map(|row| row.epoch).max().unwrap_or(0);
            checks.pass("control database", format!("its epoch is {greatest}"));
            claim::check(context, &access, &control, checks).await?;
            Some(greatest)
        }
        Err(error) => {
            checks.fail("control database", error.to_string());
            None
        }
    };
    let mark = identity.mark(access.database());
    Ok(Some((subject.database.size, epoch, (identity, oid), mark)))
}

/// Of a restore: whether there is room beside, and what is to become live again is there.
async fn restore_check(context: &Context<'_>, subject: &Subject<'_>, checks: &mut Checks<'_>) -> Result<(), PgError> {
    let size = mebibytes(subject.database.size);
    if let Some(aside) = context.task.databases.iter().find(|d| d.data == subject.access.data) {
        let database = &aside.database;
        if catalog::exists(&subject.session, database).await? {
            checks.pass("undo point", format!("database {database} is there; today's is kept in its stead"));
        } else {
            checks.fail("undo point", format!("database {database} is not on the server any more; restore a backup instead"));
        }
        return Ok(());
    }
    checks.pass(
        "undo point",
        format!("today's database is kept aside; what is loaded needs its own space beside it, now {size} MiB would"),
    );
    Ok(())
}

async fn repository_checks(
    context: &Context<'_>,
    size: i64,
    checks: &mut Checks<'_>,
    of_restore: &mut Option<BackupOutcome>,
) -> Result<(), AgentError> {
    match backup::open(context).await {
        Ok(repository) => {
            let place = repository.place();
            let can = if context.task.restores() { "can be read" } else { "can be written" };
            let whose = if context.task.origin.is_some() { "the source's" } else { "this environment's" };
            checks.pass("repository", format!("{place}: it opens, {can}, and is {whose}"));
            if let Some(snapshot) = &context.task.snapshot {
                match backup::look(repository, snapshot).await {
                    Ok(found) => *of_restore = Some(found),
                    Err(AgentError::Stopped(stopped)) => return Err(stopped.into()),
                    Err(error) => checks.fail("snapshot", error.to_string()),
                }
            }
        }
        Err(AgentError::Stopped(stopped)) => return Err(stopped.into()),
        Err(error) => {
            checks.fail("repository", error.to_string());
            return Ok(());
        }
    }
    let factor = context.task.minimum_free_factor.unwrap_or(DEFAULT_FACTOR);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "an estimate of megabytes")]
    let needed = (size as f64 * factor) as i64;
    let free = |directory| repository::free_bytes(directory).and_then(|free| i64::try_from(free).ok());
    let paths = context.paths;
    // A bucket does not say what it still takes.
    let volume = ("repository: space", &paths.repository, needed, "make its volume larger, or remove old backups");
    let volume = context.task.s3.is_none().then_some(volume);
    let scratch =
        ("scratch: space", &paths.scratch, DEFINITIONS, "definitions must fit there; raise the Job's ephemeral storage");
    for (topic, directory, needed, mend) in volume.into_iter().chain([scratch]) {
        let wanted = mebibytes(needed);
        match free(directory) {
            Some(free) if free < needed => {
                checks.fail(topic, format!("{} MiB are free, {wanted} MiB are needed: {mend}", mebibytes(free)));
            }
            Some(free) => checks.pass(topic, format!("{} MiB are free, {wanted} MiB are needed", mebibytes(free))),
            None => checks.pass(topic, "how much is free cannot be seen"),
        }
    }
    Ok(())
}

/// Whole MiB, of which the last may not be full.
pub fn mebibytes(bytes: i64) -> i64 {
    (bytes.max(0) + (1 << 20) - 1) >> 20
}
