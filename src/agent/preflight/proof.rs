//! Whether another server takes what a database has, that of `backups.proof` or that of who takes masked data: the version, the right to make databases, the locale,
//! and by name what definitions refer to and do not bring along.
//!
//! Whether a locale is there is only known to who makes a database with it: an empty one is made, looked into, and dropped.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Checks, Subject, contents, mebibytes};
use crate::{
    agent::{
        Context,
        backup::Manifest,
        proof::{self, ProofServer},
    },
    data::postgres::{
        Access, Pace, PgError, Session, catalog,
        quote::{Purpose, ident, made_database},
    },
};

const EXTENSIONS: &str = "SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1";
/// Those that a server has, and whether anyone may make them.
const AVAILABLE: &str = "SELECT a.name::text, coalesce(bool_or(NOT v.superuser OR v.trusted), false) FROM pg_available_extensions a \
    LEFT JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version \
    WHERE a.name = ANY($1::text[]) GROUP BY 1";
/// Roles that policies and user mappings name. Owners and grants are left out.
const ROLES: &str = "SELECT DISTINCT r.rolname::text FROM pg_roles r JOIN \
    (SELECT unnest(polroles) AS oid FROM pg_policy UNION SELECT umuser FROM pg_user_mappings) named ON named.oid = r.oid ORDER BY 1";
const KNOWN_ROLES: &str = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1::text[])";
/// The server's own collations that columns and indexes use. Those that were made here are made there again.
const COLLATIONS: &str = "SELECT DISTINCT c.collname::text FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation \
    WHERE c.collnamespace = 'pg_catalog'::regnamespace AND a.attrelid >= 16384 ORDER BY 1";
const KNOWN_COLLATIONS: &str = "SELECT DISTINCT collname::text FROM pg_collation \
    WHERE collnamespace = 'pg_catalog'::regnamespace AND collname = ANY($1::text[])";

pub async fn check(
    context: &Context<'_>,
    subject: &Subject<'_>,
    inside: &Session,
    checks: &mut Checks<'_>,
) -> Result<(), PgError> {
    let there = match ProofServer::endpoint(context) {
        Ok(None) => return Ok(()),
        Ok(Some(endpoint)) => ProofServer::enter(endpoint, &context.stop).await,
        Err(error) => Err(error),
    };
    let there = match there {
        Ok(there) => there,
        Err(PgError::Stopped(stopped)) => return Err(stopped.into()),
        Err(error) => {
            checks.fail("proof", format!("the server of backups.proof: {error}"));
            return Ok(());
        }
    };
    let whose = format!("database {} on {}", subject.database.name, subject.access.admin.server());
    let mut wrong = there.wrong((subject.major, &whose));
    if !there.superuser && subject.superuser {
        // Otherwise it was said already that they could not be made again at home.
        let names = contents::superusers(subject.major, inside).await?;
        if !names.is_empty() {
            wrong.push(format!(
                "only a superuser can make these on {}: {}. Name a superuser in the Secret of backups.proof",
                there.endpoint.server(),
                contents::named(names).join(", ")
            ));
        }
    }
    let needs = Needs::read(inside).await?;
    wrong.extend(extensions(&there, &needs.extensions).await?);
    wrong.extend(roles(&there, &needs.roles).await?);
    // Also where no proof can follow: what an earlier one left takes room.
    let name = made_database(&subject.database.name, Purpose::Proof, &context.task.run);
    proof::claim(&there.session, &subject.database.name, &name).await?;
    if wrong.is_empty() {
        wrong.extend(tried(context, &subject.database.row, &there, (&needs.collations, &name)).await?);
    }
    let fine = format!(
        "restores are proven on {}, PostgreSQL {}, as role {}; {} MiB must be free there",
        there.endpoint.server(),
        there.major,
        there.endpoint.user,
        mebibytes(subject.database.size)
    );
    checks.judge("proof", wrong, &fine);
    Ok(())
}

/// What definitions refer to and do not bring along, by name. Masked data brings it, because nobody down there may ask up here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Needs {
    /// Extensions.
    pub extensions: Vec<String>,
    /// Roles that policies and user mappings name.
    pub roles: Vec<String>,
    /// The server's own collations.
    pub collations: Vec<String>,
    /// What only a superuser can make, in words.
    #[serde(default)]
    pub superusers: Vec<String>,
}

impl Needs {
    /// Of a database; but for what only a superuser can make.
    async fn read(inside: &Session) -> Result<Self, PgError> {
        let (extensions, roles) = (names(inside, EXTENSIONS).await?, names(inside, ROLES).await?);
        Ok(Self { extensions, roles, collations: names(inside, COLLATIONS).await?, superusers: Vec::new() })
    }

    /// Of a database of which masked data leaves: publications do not.
    pub async fn of_masked(inside: &Session, major: u32) -> Result<Self, PgError> {
        let made = contents::superusers(major, inside).await?;
        let superusers = made.into_iter().filter(|n| !n.starts_with("publication ") && !n.starts_with("extension ")).collect();
        Ok(Self { superusers, ..Self::read(inside).await? })
    }
}

/// Whether the server of the task's data takes masked data: told before anyone is locked out.
pub(super) async fn arrives(
    context: &Context<'_>,
    access: &Access,
    manifest: &Manifest,
    checks: &mut Checks<'_>,
) -> Result<(), PgError> {
    let mut there = ProofServer::enter(access.admin.clone(), &context.stop).await?;
    there.secret = format!("the admin Secret of data {}", access.data);
    let server = there.endpoint.server();
    let mut wrong = Vec::new();
    if there.major < manifest.server_major {
        wrong.push(format!(
            "{server} is PostgreSQL {}, and what comes is of PostgreSQL {}: an older server does not take what a newer one had",
            there.major, manifest.server_major
        ));
    }
    let needs = manifest.needs.clone().unwrap_or_default();
    if !there.superuser && !needs.superusers.is_empty() {
        let named = contents::named(needs.superusers).join(", ");
        wrong.push(format!(
            "only a superuser can make these on {server}: {named}. Drop them at the source, or name a superuser in {}",
            there.secret
        ));
    }
    wrong.extend(extensions(&there, &needs.extensions).await?);
    wrong.extend(roles(&there, &needs.roles).await?);
    if wrong.is_empty() {
        let name = made_database(access.database(), Purpose::Proof, &context.task.run);
        proof::claim(&there.session, access.database(), &name).await?;
        wrong.extend(tried(context, &manifest.row, &there, (&needs.collations, &name)).await?);
    }
    checks.judge("what comes", wrong, &format!("{server}, PostgreSQL {}, takes it", there.major));
    Ok(())
}

/// The names that `sql` gives in a database.
async fn names(inside: &Session, sql: &str) -> Result<Vec<String>, PgError> {
    let rows = inside.query("reading what definitions refer to", sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn extensions(there: &ProofServer, wanted: &[String]) -> Result<Vec<String>, PgError> {
    let server = there.endpoint.server();
    let rows = there.session.query("reading the extensions", AVAILABLE, &[&wanted]).await?;
    let known: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let lacking = wanted.iter().filter_map(|name| match known.iter().find(|(known, _)| known == name) {
        None => Some(format!("extension {name} is not there on {server}: install its package there")),
        Some((_, anyone)) if !anyone && !there.superuser => {
            Some(format!("extension {name} is made by superusers alone on {server}: name one in {}", there.secret))
        }
        Some(_) => None,
    });
    Ok(contents::named(lacking.collect()))
}

async fn roles(there: &ProofServer, wanted: &[String]) -> Result<Vec<String>, PgError> {
    let rows = there.session.query("reading the roles", KNOWN_ROLES, &[&wanted]).await?;
    let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let lacking = wanted.iter().filter(|name| !known.contains(name)).map(|name| {
        format!(
            "role {name}, which row security or a user mapping names, is not there on {}: CREATE ROLE {} NOLOGIN;",
            there.endpoint.server(),
            ident(name)
        )
    });
    Ok(contents::named(lacking.collect()))
}

/// Makes an empty database like this one there, and looks for the collations in it.
async fn tried(
    context: &Context<'_>,
    row: &Value,
    there: &ProofServer,
    (wanted, name): (&[String], &str),
) -> Result<Vec<String>, PgError> {
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name));
    there.session.run("dropping a scratch database", &drop).await?;
    let tried = look_into(context, row, there, wanted, name).await;
    // On a session that a signal does not stop: it is what a signal must not leave behind.
    let endpoint = &there.endpoint;
    let last = Session::open(endpoint, &endpoint.database, Pace::Short, &crate::data::stop::Stop::never()).await?;
    last.run("dropping a scratch database", &drop).await?;
    tried
}

async fn look_into(
    context: &Context<'_>,
    row: &Value,
    there: &ProofServer,
    wanted: &[String],
    name: &str,
) -> Result<Vec<String>, PgError> {
    let endpoint = &there.endpoint;
    let (server, locale) = (endpoint.server(), catalog::locale(row));
    let create = catalog::create_like(name, &endpoint.user, row, there.major);
    match there.session.run("making an empty database", &create).await {
        Ok(()) => {}
        Err(PgError::Stopped(stopped)) => return Err(stopped.into()),
        Err(error) => {
            return Ok(vec![format!(
                "an empty database with {locale} cannot be made on {server}: {error}. Install that locale there, or name another server"
            )]);
        }
    }
    let made = Session::open(endpoint, name, Pace::Short, &context.stop).await?;
    let known = made.query("reading the collations", KNOWN_COLLATIONS, &[&wanted]).await?;
    let known: Vec<String> = known.iter().map(|row| row.get(0)).collect();
    let lacking = wanted.iter().filter(|name| !known.contains(name));
    let lacking = lacking.map(|name| {
        format!(
            "collation {name}, which columns have, is not there on {server}: install its locale, and import it into template0"
        )
    });
    Ok(contents::named(lacking.collect()))
}
