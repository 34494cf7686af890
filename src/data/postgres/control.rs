//! The control database: beside the data on each server, one row for each data, with the epoch that rules.
//!
//! Whoever changes something locks the row first and compares epoch and holder; the change and the new state commit with
//! it. `CREATE DATABASE` and `DROP DATABASE` cannot be in a transaction: the row stays locked by this session while
//! another one does them. The states of a row, and what is true in each:
//!
//! 1. `free`: nobody holds it. The epoch stays, so that what comes late from an earlier run is refused.
//! 2. `fencing`: the found values are kept, nobody may connect, sessions may still be there.
//! 3. `fenced`: no session and no prepared transaction was left.
//! 4. `undone`: the undo point is whole.
//! 5. `open`: the owner alone may connect; the run changes data.
//! 6. `rolling-back`: nobody may connect; the undo point is to be swapped in.
//! 7. `rolled-back`: the database is what it was at the lock, open for the owner alone.

use std::fmt;

use serde_json::Value;

use super::{
    catalog::{self, Found},
    connection::{Pace, Session},
    error::PgError,
    quote::{control_database, ident},
    secret::Endpoint,
};
use crate::data::stop::Stop;

/// Databases to which an admin role can connect when the control database does not exist yet.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// How far a data is; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody holds it.
    Free,
    /// Closed; sessions may be left.
    Fencing,
    /// Closed, no session left.
    Fenced,
    /// The undo point is whole.
    Undone,
    /// Open for the run.
    Open,
    /// Closed again, to be swapped.
    RollingBack,
    /// The undo point is live.
    RolledBack,
}

impl State {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Free, Self::Fencing, Self::Fenced, Self::Undone, Self::Open, Self::RollingBack, Self::RolledBack];

    /// The word in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Fencing => "fencing",
            Self::Fenced => "fenced",
            Self::Undone => "undone",
            Self::Open => "open",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the run that holds a row has come to the files of its volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// An earlier version took the row: nobody wrote it down.
    Unknown,
    /// None was touched.
    Untouched,
    /// Their undo point was read back, and they may be others by now.
    Changed,
}

impl Files {
    /// The word in the row.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Untouched => Some("untouched"),
            Self::Changed => Some("changed"),
        }
    }

    /// By the word in a row. One that this version does not know promises nothing.
    fn of(word: Option<&str>) -> Self {
        [Self::Untouched, Self::Changed].into_iter().find(|f| f.as_str() == word).unwrap_or(Self::Unknown)
    }
}

/// The row of a data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the data.
    pub data: String,
    /// Its database.
    pub database: String,
    /// The epoch that rules.
    pub epoch: i64,
    /// UID of the run that holds it.
    pub holder: Option<String>,
    /// How far it is.
    pub state: State,
    /// The undo point, once it is whole: a database, or `snapshot:` and the id of a snapshot in the repository.
    pub undo: Option<String>,
    /// What the database had when it was found.
    pub found: Option<Found>,
    /// Whether files may be others by now. A load replaces them before it swaps databases, while these are `fenced`.
    pub files: Files,
}

/// Before the id of a snapshot that is an undo point.
const SNAPSHOT: &str = "snapshot:";

/// The snapshot that an undo point is, where it is no database.
pub fn snapshot_of(undo: &str) -> Option<&str> {
    undo.strip_prefix(SNAPSHOT)
}

impl Row {
    /// The snapshot that is the undo point, where no database is.
    pub fn undo_snapshot(&self) -> Option<&str> {
        snapshot_of(self.undo.as_deref()?)
    }

    /// How a snapshot stands in [`Self::undo`].
    pub fn of_snapshot(id: &str) -> String {
        format!("{SNAPSHOT}{id}")
    }
}

/// A session in the control database.
pub struct Control {
    /// The session.
    pub session: Session,
}

const COLUMNS: &str = "data, database, epoch, holder, state, undo_database, found, files";

/// Adds the column that tables of earlier versions lack. Only then: adding it waits for whoever holds a row.
const WIDEN: &str = "DO $$ BEGIN IF to_regclass('public.fence') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute \
                     WHERE attrelid = to_regclass('public.fence') AND attname = 'files') \
                     THEN ALTER TABLE public.fence ADD COLUMN IF NOT EXISTS files text; END IF; END $$";

impl Control {
    /// Connects as the admin role to the control database of an environment. None if there is none yet.
    pub async fn open(admin: &Endpoint, environment: &str, pace: Pace, stop: &Stop) -> Result<Option<Self>, PgError> {
        match Session::open(admin, &control_database(environment), pace, stop).await {
            Ok(session) => {
                session.run("preparing the control database", WIDEN).await?;
                Ok(Some(Self { session }))
            }
            Err(error) if error.code() == Some("3D000") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, and makes control database and table where they are missing.
    pub async fn ensure(admin: &Endpoint, environment: &str, stop: &Stop) -> Result<Self, PgError> {
        let name = control_database(environment);
        let control = match Self::open(admin, environment, Pace::Short, stop).await? {
            Some(control) => control,
            None => {
                let session = maintenance(admin, stop).await?;
                let made = session.run("making the control database", &format!("CREATE DATABASE {}", ident(&name))).await;
                if let Err(error) = made
                    && !catalog::exists(&session, &name).await?
                {
                    return Err(error);
                }
                drop(session);
                Self { session: Session::open(admin, &name, Pace::Short, stop).await? }
            }
        };
        // Each attempt does the rest again: it may have been killed between the statements.
        control.prepare(admin, environment).await
    }

    /// Makes the table where it is missing, in a control database that is there.
    pub async fn prepare(self, admin: &Endpoint, environment: &str) -> Result<Self, PgError> {
        let name = control_database(environment);
        let owner = self
            .session
            .one(
                "reading the control database's owner",
                "SELECT pg_has_role(current_user, datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()",
                &[],
            )
            .await?;
        if !owner.get::<_, bool>(0) {
            return Err(PgError::Control {
                server: admin.server(),
                problem: format!("{name} belongs to another role than {}; drop it or use the role that made it", admin.user),
            });
        }
        self.session
            .run(
                "preparing the control database",
                &format!(
                    "BEGIN; REVOKE ALL ON DATABASE {} FROM PUBLIC; \
                     CREATE TABLE IF NOT EXISTS public.fence (data text PRIMARY KEY, database text NOT NULL, \
                     epoch bigint NOT NULL, holder text, state text NOT NULL, undo_database text, found jsonb, files text, \
                     changed_at timestamptz NOT NULL DEFAULT now()); COMMIT",
                    ident(&name)
                ),
            )
            .await?;
        Ok(self)
    }

    /// The row of a data, not locked.
    pub async fn peek(&self, data: &str) -> Result<Option<Row>, PgError> {
        self.select(data, "").await
    }

    /// All rows.
    pub async fn all(&self) -> Result<Vec<Row>, PgError> {
        let rows =
            self.session.query("reading the epochs", &format!("SELECT {COLUMNS} FROM public.fence ORDER BY data"), &[]).await?;
        rows.iter().map(|row| self.read(row)).collect()
    }

    /// Begins a transaction and locks the row of a data. An error anywhere later ends the session, and the transaction with
    /// it.
    pub async fn begin(&self, data: &str) -> Result<Option<Row>, PgError> {
        self.session.run("beginning a transaction", "BEGIN").await?;
        self.select(data, " FOR UPDATE").await
    }

    /// Writes the row within the transaction.
    pub async fn write(&self, row: &Row) -> Result<(), PgError> {
        let found = row.found.as_ref().map(|f| serde_json::to_value(f).unwrap_or(Value::Null));
        self.session
            .query(
                "writing the fence",
                "INSERT INTO public.fence AS f (data, database, epoch, holder, state, undo_database, found, files) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (data) DO UPDATE SET database = excluded.database, \
                 epoch = excluded.epoch, holder = excluded.holder, state = excluded.state, \
                 undo_database = excluded.undo_database, found = excluded.found, files = excluded.files, changed_at = now() \
                 WHERE f.epoch <= excluded.epoch",
                &[&row.data, &row.database, &row.epoch, &row.holder, &row.state.as_str(), &row.undo, &found, &row.files.as_str()],
            )
            .await
            .map(|_| ())
    }

    /// Commits.
    pub async fn commit(&self) -> Result<(), PgError> {
        self.session.run("committing", "COMMIT").await
    }

    /// Gives the transaction up.
    pub async fn abandon(&self) -> Result<(), PgError> {
        self.session.run("rolling back", "ROLLBACK").await
    }

    async fn select(&self, data: &str, lock: &str) -> Result<Option<Row>, PgError> {
        let sql = format!("SELECT {COLUMNS} FROM public.fence WHERE data = $1{lock}");
        let row = self.session.locking(self.session.maybe("reading the epoch", &sql, &[&data])).await?;
        row.map(|row| self.read(&row)).transpose()
    }

    fn read(&self, row: &tokio_postgres::Row) -> Result<Row, PgError> {
        let strange = |problem: String| PgError::Control { server: self.session.server().to_owned(), problem };
        let data: String = row.get(0);
        let word: String = row.get(4);
        let state = State::ALL.into_iter().find(|s| s.as_str() == word);
        let found: Option<Value> = row.get(6);
        Ok(Row {
            database: row.get(1),
            epoch: row.get(2),
            holder: row.get(3),
            state: state.ok_or_else(|| strange(format!("data {data} is in a state that this version does not know")))?,
            undo: row.get(5),
            found: found
                .map(serde_json::from_value)
                .transpose()
                .map_err(|_| strange(format!("what was found of data {data} cannot be read")))?,
            files: Files::of(row.get(7)),
            data,
        })
    }
}

/// A session of the admin role outside the data's database and the control database.
pub async fn maintenance(admin: &Endpoint, stop: &Stop) -> Result<Session, PgError> {
    let mut first = None;
    for name in MAINTENANCE {
        match Session::open(admin, name, Pace::Short, stop).await {
            Ok(session) => return Ok(session),
            // Refused for this database, or missing: the next may do.
            Err(error) if matches!(error.code(), Some("42501" | "3D000" | "28000" | "55000")) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first {
        Some(error) => Err(error),
        None => Session::open(admin, MAINTENANCE[0], Pace::Short, stop).await,
    }
}
