//! The guard of every change under the lock: the row of the control database, locked, with the right epoch and holder.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Context,
    error::{AgentError, OfData},
};
use crate::data::postgres::{
    Access, PgError,
    catalog::{self, Identity},
    connection::Pace,
    control::{Control, Files, Row, State},
    quote, sessions,
};

/// What told the data's database from others when the run was checked.
fn mark<'a>(context: &'a Context<'_>, data: &str) -> Option<&'a str> {
    context.task.data.iter().find(|d| d.name == data)?.mark.as_deref()
}

fn elsewhere(access: &Access) -> AgentError {
    AgentError::Elsewhere { data: access.data.clone(), closed: true }
}

/// Sees that the Secrets name the database that the run works on: they may be edited at any time, and what stands on another
/// server would tell that nothing was ever closed.
async fn is_meant(context: &Context<'_>, access: &Access, control: Option<Control>) -> Result<Option<Control>, AgentError> {
    let Some(mark) = mark(context, &access.data) else { return Ok(control) };
    let control = control.ok_or_else(|| elsewhere(access))?;
    if Identity::of(&control.session).await.of(&access.data)?.mark(access.database()) != mark {
        return Err(elsewhere(access));
    }
    Ok(Some(control))
}

/// How long sessions are ended before it is given up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A data under the lock: how to reach it, and a session in its control database.
pub struct Guarded<'a> {
    /// How to reach it.
    pub access: Access,
    /// The control database. The row is checked and locked with each change.
    pub control: Control,
    context: &'a Context<'a>,
    epoch: i64,
}

impl<'a> Guarded<'a> {
    /// Opens the control database of a data, or makes it. Where it is known which database the run works on, none is made on the
    /// server of another.
    pub async fn ensure(context: &'a Context<'a>, access: Access) -> Result<Self, AgentError> {
        let environment = &context.task.environment;
        let control = if mark(context, &access.data).is_some() {
            let open = Control::open(&access.admin, environment, Pace::Short, &context.stop).await.of(&access.data)?;
            let control = is_meant(context, &access, open).await?.ok_or_else(|| elsewhere(&access))?;
            control.prepare(&access.admin, environment).await
        } else {
            Control::ensure(&access.admin, environment, &context.stop).await
        };
        let control = control.of(&access.data)?;
        Ok(Self { access, control, context, epoch: context.epoch()? })
    }

    /// Opens the control database of a data. None where there is none: nothing was ever fenced there.
    pub async fn open(context: &'a Context<'a>, access: Access) -> Result<Option<Self>, AgentError> {
        let control =
            Control::open(&access.admin, &context.task.environment, Pace::Short, &context.stop).await.of(&access.data)?;
        let control = is_meant(context, &access, control).await?;
        let epoch = context.epoch()?;
        Ok(control.map(|control| Self { access, control, context, epoch }))
    }

    /// Name of the data.
    pub fn data(&self) -> &str {
        &self.access.data
    }

    /// Name of the control database.
    pub fn control_database(&self) -> String {
        quote::control_database(&self.context.task.environment)
    }

    /// Begins a transaction that holds the row, if this run holds the lock.
    pub async fn begin(&self) -> Result<Option<Row>, AgentError> {
        let row = self.control.begin(self.data()).await.of(self.data())?;
        if let Some(row) = &row {
            self.check(row)?;
        }
        Ok(row)
    }

    /// Begins a transaction that holds the row. A row that was never taken for this epoch is refused.
    pub async fn begin_held(&self) -> Result<Row, AgentError> {
        match self.begin().await? {
            Some(row) if row.epoch == self.epoch && row.holder.is_some() => Ok(row),
            row => Err(self.state_error(row.map_or(State::Free, |r| r.state), "it must be fenced first")),
        }
    }

    /// Writes the row and commits.
    pub async fn commit(&self, row: &Row) -> Result<(), AgentError> {
        self.control.write(row).await.of(self.data())?;
        self.control.commit().await.of(self.data())
    }

    /// Runs statements within the transaction.
    pub async fn run(&self, doing: &str, sql: &str) -> Result<(), AgentError> {
        let session = &self.control.session;
        session.locking(session.run(doing, sql)).await.of(self.data())
    }

    /// Whether a row is this run's, or from before it. What is of a later epoch, or of another run, is refused.
    pub fn check(&self, row: &Row) -> Result<(), AgentError> {
        let ours = row.holder.as_deref().is_none_or(|holder| holder == self.context.task.run);
        if row.epoch < self.epoch || (row.epoch == self.epoch && ours) {
            return Ok(());
        }
        Err(self.fenced(row))
    }

    /// The refusal that the row causes.
    pub fn fenced(&self, row: &Row) -> AgentError {
        AgentError::Fenced {
            data: self.data().to_owned(),
            epoch: self.epoch,
            control: row.epoch,
            holder: row.holder.as_ref().map_or("nobody".to_owned(), |run| format!("run {run}")),
        }
    }

    /// The state does not fit the verb.
    pub fn state_error(&self, state: State, wanted: &str) -> AgentError {
        AgentError::State { data: self.data().to_owned(), state: state.to_string(), wanted: wanted.to_owned() }
    }

    /// Takes the epoch in a row that is free, older, or not there yet.
    pub fn take(&self, row: Option<Row>, found: Option<catalog::Found>, state: State) -> Row {
        // What an earlier run left closed was not found in that state by its users: the first found values count.
        let earlier = row.filter(|r| r.state != State::Free && r.database == self.access.database());
        Row {
            data: self.data().to_owned(),
            database: self.access.database().to_owned(),
            epoch: self.epoch,
            holder: Some(self.context.task.run.clone()),
            state,
            undo: None,
            found: earlier.and_then(|r| r.found).or(found),
            files: Files::Untouched,
        }
    }

    /// What the database has now; it must be there.
    pub async fn found(&self, database: &str) -> Result<catalog::Found, AgentError> {
        match catalog::found(&self.control.session, database).await.of(self.data())? {
            Some(found) => Ok(found),
            None => Err(PgError::DatabaseMissing {
                server: self.control.session.server().to_owned(),
                database: database.to_owned(),
                data: self.data().to_owned(),
            })
            .of(self.data()),
        }
    }

    /// The database; it must be there.
    pub async fn database(&self, name: &str) -> Result<catalog::Database, AgentError> {
        match catalog::database(&self.control.session, name).await.of(self.data())? {
            Some(database) => Ok(database),
            None => Err(PgError::DatabaseMissing {
                server: self.control.session.server().to_owned(),
                database: name.to_owned(),
                data: self.data().to_owned(),
            })
            .of(self.data()),
        }
    }

    /// Ends the sessions of a closed database and observes that none is left. Gives notes on whom it ended.
    pub async fn end_sessions(&self, name: &str, began: Instant) -> Result<Vec<String>, AgentError> {
        let database = self.database(name).await?;
        let patience = PATIENCE.saturating_sub(began.elapsed());
        let ended: BTreeMap<String, usize> =
            sessions::end(&self.control.session, database.oid, name, patience, &self.context.stop).await.of(self.data())?;
        Ok(ended.into_iter().map(|(who, count)| format!("{}: ended {count} × {who}", self.data())).collect())
    }

    /// Whether someone slipped in, and time is left to end him.
    pub fn may_repeat(&self, error: &AgentError, began: Instant) -> bool {
        matches!(error, AgentError::Postgres { source, .. } if source.is_in_use()) && began.elapsed() < PATIENCE
    }
}
