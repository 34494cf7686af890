//! The sessions of a database: who is there, ending them, and observing that none is left.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    connection::Session,
    error::{PgError, one_line},
};
use crate::data::stop::Stop;

const PAUSE: Duration = Duration::from_millis(50);
/// So many sessions are named.
const NAMED: usize = 5;

/// A session of a database. Never its statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Process id on the server.
    pub pid: i32,
    /// The role; empty for the server's own processes.
    pub role: String,
    /// What the client calls itself.
    pub application: String,
    /// Where it comes from, if over the network.
    pub address: Option<String>,
    /// `client backend`, `walsender`, …
    pub kind: String,
    /// Whether only a superuser may end it.
    pub superuser: bool,
    /// Age of its transaction in seconds, if it is in one.
    pub transaction_age: Option<i64>,
    /// Whether its role is the database's owner or a member of it.
    pub of_owner: bool,
}

impl Seen {
    /// Role and application, for messages.
    pub fn who(&self) -> String {
        named(&self.role, &self.application, &self.kind)
    }
}

/// The first few sessions, and how many more there are.
fn first_few(mut who: Vec<String>) -> Vec<String> {
    let more = who.len().saturating_sub(NAMED);
    who.truncate(NAMED);
    if more > 0 {
        who.push(format!("and {more} more"));
    }
    who
}

fn named(role: &str, application: &str, kind: &str) -> String {
    let role = if role.is_empty() { kind.to_owned() } else { format!("role {}", one_line(role)) };
    let application: String = one_line(application).chars().take(60).collect();
    if application.is_empty() { role } else { format!("{role} ({application})") }
}

/// The sessions of a database, other than this one and autovacuum, which gives way by itself.
pub async fn list(session: &Session, database: u32) -> Result<Vec<Seen>, PgError> {
    // Within a transaction the server would show the same sessions for ever.
    session.run("reading the sessions", "SELECT pg_stat_clear_snapshot()").await?;
    let rows = session
        .query(
            "reading the sessions",
            "SELECT a.pid, coalesce(a.usename, '')::text, coalesce(a.application_name, ''), host(a.client_addr), \
                    coalesce(a.backend_type, ''), coalesce(r.rolsuper, true), \
                    extract(epoch FROM now() - a.xact_start)::bigint, \
                    coalesce(pg_has_role(a.usesysid, d.datdba, 'MEMBER'), false) \
             FROM pg_stat_activity a JOIN pg_database d ON d.oid = a.datid LEFT JOIN pg_roles r ON r.oid = a.usesysid \
             WHERE a.datid = $1 AND a.pid <> pg_backend_pid() AND a.backend_type IS DISTINCT FROM 'autovacuum worker' \
             ORDER BY a.pid",
            &[&database],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Seen {
            pid: row.get(0),
            role: row.get(1),
            application: row.get(2),
            address: row.get(3),
            kind: row.get(4),
            superuser: row.get(5),
            transaction_age: row.get(6),
            of_owner: row.get(7),
        })
        .collect())
}

/// The lock that a process of the server waits for, and who is before it, in words. None: it does not wait.
pub async fn in_the_way(session: &Session, waiting: i32) -> Result<Option<String>, PgError> {
    let rows = session
        .query(
            "seeing whose lock is waited for",
            "SELECT b.pid, coalesce(a.usename, '')::text, coalesce(a.application_name, ''), coalesce(a.backend_type, ''), \
                    extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, pg_blocking_pids(b.pid), \
                    (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.pid = $1 AND NOT l.granted LIMIT 1) \
             FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) b LEFT JOIN pg_stat_activity a ON a.pid = b.pid \
             ORDER BY b.pid",
            &[&waiting],
        )
        .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let lock = first.get::<_, Option<String>>(6).map_or("a lock".to_owned(), |table| format!("a lock on table {table}"));
    let who: Vec<String> = rows
        .iter()
        .map(|row| {
            let pid: i32 = row.get(0);
            if pid == 0 {
                return "a prepared transaction".into();
            }
            let age = row.get::<_, Option<i64>>(4).map(|age| format!(", in its transaction for {age} s")).unwrap_or_default();
            let before: Vec<i32> = row.get(5);
            let before = before.first().map(|pid| format!(", which itself waits for pid {pid}")).unwrap_or_default();
            format!("{}, pid {pid}{age}{before}", named(row.get(1), row.get(2), row.get(3)))
        })
        .collect();
    Ok(Some(format!("{lock}, behind {}", first_few(who).join("; "))))
}

/// Prepared transactions of a database.
pub async fn prepared(session: &Session, database: &str) -> Result<i64, PgError> {
    let row = session
        .one("reading prepared transactions", "SELECT count(*) FROM pg_prepared_xacts WHERE database = $1", &[&database])
        .await?;
    Ok(row.get(0))
}

/// Asks sessions of a database to end.
pub async fn terminate(session: &Session, database: u32, pids: &[i32]) -> Result<(), PgError> {
    // The process id alone could be another database's session by now.
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid = $1 AND pid = ANY($2)";
    session.query("ending the sessions", sql, &[&database, &pids]).await.map(drop)
}

/// Ends the sessions of a database until none is left, and no prepared transaction. Returns whom it ended, with counts.
pub async fn end(
    session: &Session,
    database: u32,
    name: &str,
    patience: Duration,
    stop: &Stop,
) -> Result<BTreeMap<String, usize>, PgError> {
    let begin = Instant::now();
    let mut ended: BTreeMap<i32, String> = BTreeMap::new();
    loop {
        let seen = list(session, database).await?;
        let prepared = prepared(session, name).await?;
        if seen.is_empty() && prepared == 0 {
            let mut counts = BTreeMap::new();
            for who in ended.into_values() {
                *counts.entry(who).or_insert(0) += 1;
            }
            return Ok(counts);
        }
        if begin.elapsed() > patience {
            let mut who = first_few(seen.iter().map(Seen::who).collect());
            if prepared > 0 {
                who.push(format!("{prepared} prepared transactions, to be ended with COMMIT PREPARED or ROLLBACK PREPARED"));
            }
            return Err(PgError::SessionsLeft {
                server: session.server().to_owned(),
                database: name.to_owned(),
                seconds: patience.as_secs(),
                who: who.join(", "),
            });
        }
        let pids: Vec<i32> = seen.iter().filter(|s| !s.superuser).map(|s| s.pid).collect();
        terminate(session, database, &pids).await?;
        ended.extend(seen.iter().filter(|s| !s.superuser).map(|s| (s.pid, s.who())));
        stop.pause(PAUSE).await?;
    }
}
