//! A view of a database that several connections share, and that nobody changes the shape of.

use std::collections::{BTreeMap, BTreeSet};

use super::{SequenceValue, parts::Size};
use crate::{
    api::Timestamp,
    data::{
        postgres::{
            Endpoint, Pace, PgError, Session, catalog,
            content::SEQUENCES,
            quote::ident,
            tables::{self, Table},
        },
        stop::Stop,
    },
};

/// How long a table's lock is waited for, as pg_dump is told.
const LOCK_WAIT: &str = "30s";
/// A table that goes away while tables are locked is no reason to give up. So often.
const ATTEMPTS: usize = 10;
/// So many tables in one statement.
const AT_ONCE: usize = 200;

/// The view. It ends with its session.
pub struct View {
    /// The session that holds it, for what else is read in it.
    pub session: Session,
    /// Its name, for other sessions.
    pub snapshot: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Major version of the server.
    pub major: u32,
    /// The database's encoding.
    pub encoding: String,
    /// The tables.
    pub tables: Vec<Table>,
    /// The server.
    pub endpoint: Endpoint,
    /// The database.
    pub database: String,
    pub(super) locked: Vec<String>,
}

/// A table that an extension made, whose rows are partly the user's.
pub(super) struct Configured {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
    pub condition: Option<String>,
}

const LOCKABLE: &str = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1, 2";

const CONFIGURED: &str = "SELECT c.oid, n.nspname::text, c.relname::text, \
    coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a \
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), '{}'), \
    nullif(regexp_replace(f.condition, '^\\s*where\\s+', '', 'i'), '') \
    FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS f(oid, condition) \
    JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' ORDER BY 2, 3";

const SIZES: &str = "SELECT c.oid, coalesce(m.amname = 'heap', true), pg_relation_size(c.oid) / current_setting('block_size')::bigint, \
    pg_table_size(c.oid), CASE WHEN c.reltuples < 0 THEN NULL WHEN c.relpages = 0 THEN c.reltuples::bigint \
      ELSE (c.reltuples::float8 / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::bigint))::bigint END \
    FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam WHERE c.oid = ANY($1)";

impl View {
    /// Takes a view.
    pub async fn open(endpoint: &Endpoint, database: &str, stop: &Stop) -> Result<Self, PgError> {
        let mut attempt = 1;
        loop {
            match Self::attempt(endpoint, database, stop).await {
                Err(error) if error.code() == Some("42P01") && attempt < ATTEMPTS => attempt += 1,
                // Tables come and go faster than they can be locked. That passes.
                Err(PgError::Statement { server, doing, cause, code }) if code.as_deref() == Some("42P01") => {
                    return Err(PgError::Statement { server, doing, cause, code: None });
                }
                answer => return answer,
            }
        }
    }

    async fn attempt(endpoint: &Endpoint, database: &str, stop: &Stop) -> Result<Self, PgError> {
        let session = Session::open(endpoint, database, Pace::Long, stop).await?;
        let mut locked = lockable(&session).await?;
        let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '{LOCK_WAIT}'");
        session.run("taking a view of the data", &sql).await?;
        lock(&session, &locked).await?;
        let taken_at = Timestamp::now();
        // The first statement that needs one: from here on, all is as it was now.
        let sql = "SELECT pg_export_snapshot(), pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()";
        let row = session.one("exporting the view", sql, &[]).await?;
        let known: BTreeSet<String> = locked.iter().cloned().collect();
        let late: Vec<String> = lockable(&session).await?.into_iter().filter(|t| !known.contains(t)).collect();
        lock(&session, &late).await?;
        locked.extend(late);
        Ok(Self {
            snapshot: row.get(0),
            encoding: row.get(1),
            taken_at,
            major: catalog::major(&session).await?,
            tables: tables::read(&session).await?,
            session,
            endpoint: endpoint.clone(),
            database: database.to_owned(),
            locked,
        })
    }

    pub(super) async fn configured(&self) -> Result<Vec<Configured>, PgError> {
        let rows = self.session.query("reading the extensions' tables", CONFIGURED, &[]).await?;
        Ok(rows
            .iter()
            .map(|r| Configured { oid: r.get(0), schema: r.get(1), name: r.get(2), columns: r.get(3), condition: r.get(4) })
            .collect())
    }

    pub(super) async fn sizes(&self, oids: &[u32]) -> Result<BTreeMap<u32, Size>, PgError> {
        let rows = self.session.query("reading the tables' sizes", SIZES, &[&oids]).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let pages = row.get::<_, bool>(1).then(|| u64::try_from(row.get::<_, i64>(2)).unwrap_or(0));
                let rows = row.get::<_, Option<i64>>(4).map(|rows| u64::try_from(rows).unwrap_or(0));
                (row.get(0), Size { pages, bytes: u64::try_from(row.get::<_, i64>(3)).unwrap_or(0), rows })
            })
            .collect())
    }

    /// The sequences as they stand now: they are in no view. No row of the view has a number that they have not given out.
    /// Those of extensions are left out where the rows of their tables are.
    pub(super) async fn sequences(&self, of_extensions: bool) -> Result<Vec<SequenceValue>, PgError> {
        let doing = "reading the sequences";
        let mut names = self.session.query(doing, SEQUENCES, &[]).await?;
        names.retain(|row| of_extensions || !row.get::<_, bool>(3));
        let mut list = Vec::with_capacity(names.len());
        for chunk in names.chunks(AT_ONCE) {
            let all: Vec<String> = chunk
                .iter()
                .enumerate()
                .map(|(at, row)| {
                    format!(
                        "SELECT {at}, last_value, is_called FROM {}.{}",
                        ident(row.get::<_, &str>(0)),
                        ident(row.get::<_, &str>(1))
                    )
                })
                .collect();
            for value in self.session.query(doing, &format!("{} ORDER BY 1", all.join(" UNION ALL ")), &[]).await? {
                let row = &chunk[usize::try_from(value.get::<_, i32>(0)).unwrap_or(0)];
                list.push(SequenceValue {
                    schema: row.get(0),
                    name: row.get(1),
                    cycles: row.get(2),
                    value: value.get(1),
                    called: value.get(2),
                });
            }
        }
        Ok(list)
    }
}

/// The tables that can be locked, quoted.
async fn lockable(session: &Session) -> Result<Vec<String>, PgError> {
    let rows = session.query("reading the tables", LOCKABLE, &[]).await?;
    Ok(rows.iter().map(|r| format!("{}.{}", ident(r.get::<_, &str>(0)), ident(r.get::<_, &str>(1)))).collect())
}

/// Locks tables against being changed in shape, rewritten or dropped. No one who reads or writes rows notices. LOCK is no
/// statement that takes the transaction's view, so the view comes after the locks, and what it shows stays as it is.
pub(super) async fn lock(session: &Session, tables: &[String]) -> Result<(), PgError> {
    for some in tables.chunks(AT_ONCE) {
        let sql = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", some.join(", ONLY "));
        session.locking(session.run("locking the tables against changes of their shape", &sql)).await?;
    }
    Ok(())
}
