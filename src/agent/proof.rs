//! The server of `backups.proof`, on which restores are proven where the data's own servers are to be spared.
//!
//! Its role is nobody there: it makes a database, which is its own, and drops it. What the data's server has beside the database
//! is not needed: owners and grants are left out, and so are tablespaces. What is needed all the same is named before a run
//! starts ([`super::preflight`]), and once more before a proof begins: a backup on demand has no preflight.

use super::{
    Context,
    error::{AgentError, OfData},
};
use crate::data::{
    postgres::{
        Endpoint, Pace, PgError, Session, catalog,
        quote::{Purpose, ident, is_made},
    },
    stop::Stop,
};

/// How the server is called where it is about the data.
pub fn said(data: &str) -> String {
    format!("{data}, on the server of backups.proof")
}

/// The server, entered.
pub struct ProofServer {
    /// Server and role.
    pub endpoint: Endpoint,
    /// Outside of any database that is made.
    pub session: Session,
    /// Its major version.
    pub major: u32,
    /// Whether the role is a superuser.
    pub superuser: bool,
    /// Where its role is named.
    pub secret: String,
    createdb: bool,
}

impl ProofServer {
    /// What the task's Secret says, where restores are proven on a server of its own.
    pub fn endpoint(context: &Context<'_>) -> Result<Option<Endpoint>, PgError> {
        context.task.proof.then(|| Endpoint::of_proof(&context.paths.proof)).transpose()
    }

    /// Enters it.
    pub async fn enter(endpoint: Endpoint, stop: &Stop) -> Result<Self, PgError> {
        let session = Session::open(&endpoint, &endpoint.database, Pace::Short, stop).await?;
        let major = catalog::major(&session).await?;
        let sql = "SELECT rolsuper, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
        let row = session.one("reading the rights of the role", sql, &[]).await?;
        let (superuser, createdb) = (row.get(0), row.get(1));
        Ok(Self { endpoint, session, major, superuser, secret: "the Secret of backups.proof".into(), createdb })
    }

    /// What keeps data of a server of that major version from being put here, in words.
    pub fn wrong(&self, (major, whose): (u32, &str)) -> Vec<String> {
        let (server, role) = (self.endpoint.server(), &self.endpoint.user);
        let mut wrong = Vec::new();
        if self.major < major {
            wrong.push(format!(
                "{server}, the server of backups.proof, is PostgreSQL {}, and {whose} is of PostgreSQL {major}: an older server does not \
                 take what a newer one had. Name one of PostgreSQL {major} or newer",
                self.major
            ));
        }
        if !self.createdb {
            wrong.push(format!(
                "role {role} may not make databases on {server}, the server of backups.proof: ALTER ROLE {} CREATEDB;",
                ident(role)
            ));
        }
        wrong
    }
}

/// Drops a scratch database. Not stopped by a signal: it is what a signal must not leave behind.
pub async fn drop_made(endpoint: &Endpoint, data: &str, name: &str) -> Result<(), AgentError> {
    let session = Session::open(endpoint, &endpoint.database, Pace::Short, &Stop::never()).await.of(&said(data))?;
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name));
    session.run("dropping the scratch database", &sql).await.of(&said(data))
}

/// The lock of who is at work on a scratch database, for as long as his session is there.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('lockkeeper ' || $1, 0))";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended('lockkeeper ' || $1, 0))";
/// Another session with that lock. To PostgreSQL it is another lock in each database, and two Secrets may name one server and
/// enter it by different databases: so it is looked for in all of them. Of two who took it at once, both see the other.
const ANOTHER: &str = "SELECT l.pid, coalesce(a.usename::text, 'unknown'), coalesce(a.datname::text, 'unknown') FROM pg_locks l \
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid() \
    AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('lockkeeper ' || $1, 0) ORDER BY 1 LIMIT 1";

/// Says that this session is at work on the scratch database `name`, unless another one is.
async fn take(session: &Session, name: &str) -> Result<(), PgError> {
    let had: bool = session.one("claiming a scratch database", LOCK, &[&name]).await?.get(0);
    let another = session.query("looking who is at work on a scratch database", ANOTHER, &[&name]).await?;
    if had && another.is_empty() {
        return Ok(());
    }
    if had {
        session.one("letting a claim go", UNLOCK, &[&name]).await?;
    }
    let (server, database) = (session.server().to_owned(), name.to_owned());
    let who = another.first().map_or_else(
        // It ended between the two questions.
        || "a session that has ended by now".to_owned(),
        |row| {
            let (pid, role, through): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
            format!("session {pid} of role {role}, connected to database {through}")
        },
    );
    Err(PgError::Claimed { server, database, who })
}

/// Says that this session is at work on the scratch database `name`, and drops those of the same data that nobody is at work on:
/// who made them was killed, and nobody has tried again.
pub async fn claim(session: &Session, database: &str, name: &str) -> Result<(), PgError> {
    take(session, name).await?;
    sweep(session, database, Some(name)).await.map(drop)
}

/// Drops the scratch databases of a data that nobody is at work on, but one; gives their names.
pub async fn sweep(session: &Session, database: &str, but: Option<&str>) -> Result<Vec<String>, PgError> {
    let sql = "SELECT datname::text FROM pg_database WHERE pg_has_role(datdba, 'USAGE') ORDER BY 1";
    let mut dropped = Vec::new();
    for row in session.query("looking for scratch databases", sql, &[]).await? {
        let other: String = row.get(0);
        if but == Some(other.as_str()) || !is_made(database, Purpose::Proof, &other) {
            continue;
        }
        match take(session, &other).await {
            Err(PgError::Claimed { .. }) => continue,
            taken => taken?,
        }
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(&other));
        session.run("dropping a scratch database that was left", &sql).await?;
        session.one("letting a claim go", UNLOCK, &[&other]).await?;
        dropped.push(other);
    }
    Ok(dropped)
}
