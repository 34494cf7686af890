//! Why a task failed, and with which exit code.

use crate::{
    data::{
        postgres::{PgError, copy::CopyError},
        repository::RepositoryError,
        stop::Stopped,
        volume::VolumeError,
    },
    manifest::task::{SECRET_CHANGED, exit},
};

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The control database knows a newer epoch, or another holder.
    #[error(
        "data {data}: the control database says epoch {control}, held by {holder}; this task is of epoch {epoch}. \
         Another lock rules; nothing was changed"
    )]
    Fenced {
        /// The data.
        data: String,
        /// The epoch of the task.
        epoch: i64,
        /// The epoch of the control database.
        control: i64,
        /// The run in the control database, or `nobody`.
        holder: String,
    },
    /// The task cannot be understood.
    #[error("the task: {0}")]
    Task(String),
    /// The data is in a state from which this verb does not go on.
    #[error("data {data}: its state in the control database is {state}; {wanted}")]
    State {
        /// The data.
        data: String,
        /// The state.
        state: String,
        /// What would be needed.
        wanted: String,
    },
    /// The Secrets name another database than the run was checked on.
    #[error(
        "data {data}: its Secrets name another server or database by now than when this run was checked, and nothing was done there. \
         The run works on what it has checked: let them name the earlier one again"
    )]
    Elsewhere {
        /// The data.
        data: String,
        /// Whether the run may have closed the earlier one.
        closed: bool,
    },
    /// The undo point is gone.
    #[error(
        "data {data}: the undo point {database} is not on the server {server}. Nothing was changed. Put the backup back by hand, \
         or unlock with the data as it is"
    )]
    UndoPointMissing {
        /// The data.
        data: String,
        /// The database that should be there.
        database: String,
        /// The server.
        server: String,
    },
    /// The undo point of a volume is gone.
    #[error(
        "data {data}: its undo point, snapshot {snapshot}, is not in the repository in {place}. Nothing was changed. Let \
         spec.backups.repository of the Environment name the one that holds it; if it was removed, put the files back by hand \
         from another backup, or unlock with the data as it is"
    )]
    FilesUndoPointMissing {
        /// The data.
        data: String,
        /// The snapshot that should be there.
        snapshot: String,
        /// Where it was looked for.
        place: String,
    },
    /// The undo point of volumes does not hold what it must.
    #[error(
        "the undo point of data {data}, snapshot {snapshot}, cannot be read back as it was written, so no file was touched: {cause}"
    )]
    UndoPointUnsound {
        /// The data.
        data: String,
        /// The snapshot.
        snapshot: String,
        /// What is wrong with it.
        cause: Box<AgentError>,
    },
    /// The restored data is not what was backed up.
    #[error(
        "data {data}: the restored backup differs from the original: {differences}. Make a new backup; see that the volume is sound"
    )]
    ProofFailed {
        /// The data.
        data: String,
        /// Which objects differ.
        differences: String,
    },
    /// What is asked is never done.
    #[error("{0}")]
    Refused(String),
    /// PostgreSQL.
    #[error("data {data}: {source}")]
    Postgres {
        /// The data.
        data: String,
        /// The cause.
        source: Box<PgError>,
    },
    /// What comes back does not fit beside what is there.
    #[error(
        "data {data}: there is no room on the server for database {database}, into which it is loaded: {source}. Its rows alone are \
         {rows} MiB of text; indexes, and the sorting for them, come on top. Nothing else was changed. Make room there, then try again"
    )]
    ServerFull {
        /// The data.
        data: String,
        /// The database that was loaded.
        database: String,
        /// MiB of its rows.
        rows: i64,
        /// What the server said.
        source: Box<PgError>,
    },
    /// A volume's files.
    #[error("data {data}: {source}")]
    Volume {
        /// The data.
        data: String,
        /// The cause.
        source: VolumeError,
    },
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Scratch space and other files.
    #[error("{doing}: {cause}")]
    Files {
        /// What was being done, with what.
        doing: String,
        /// The cause.
        cause: String,
    },
    /// A URL did not answer as it should in time.
    #[error("{0}")]
    Http(String),
    /// It was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl AgentError {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "Fenced",
            Self::Task(_) => "TaskInvalid",
            Self::State { .. } => "WrongState",
            Self::Elsewhere { closed: true, .. } => "DataMoved",
            Self::Elsewhere { closed: false, .. } => SECRET_CHANGED,
            Self::UndoPointMissing { .. } | Self::FilesUndoPointMissing { .. } => "UndoPointMissing",
            Self::UndoPointUnsound { .. } => "UndoPointUnsound",
            Self::ProofFailed { .. } => "ProofFailed",
            Self::Refused(_) => "Refused",
            Self::Postgres { source, .. } | Self::ServerFull { source, .. } => source.reason(),
            Self::Repository(error) => error.reason(),
            Self::Volume { source: VolumeError::Differs(_), .. } => "VolumeDiffers",
            Self::Volume { .. } | Self::Files { .. } => "FilesFailed",
            Self::Http(_) => "UnexpectedAnswer",
            Self::Stopped(_) => "Stopped",
        }
    }

    /// Whether a database server went away, or is not back yet.
    pub fn is_server_away(&self) -> bool {
        matches!(self, Self::Postgres { source, .. } if source.is_away())
    }

    /// The exit code.
    pub fn exit_code(&self) -> i32 {
        let permanent = match self {
            Self::Fenced { .. } => return exit::FENCED,
            Self::UndoPointUnsound { cause, .. } => return cause.exit_code(),
            Self::Task(_)
            | Self::State { .. }
            | Self::Elsewhere { .. }
            | Self::UndoPointMissing { .. }
            | Self::FilesUndoPointMissing { .. }
            | Self::ProofFailed { .. }
            | Self::Refused(_)
            | Self::Http(_) => true,
            Self::Postgres { source, .. } | Self::ServerFull { source, .. } => source.is_permanent(),
            Self::Repository(error) => error.is_permanent(),
            Self::Volume { source, .. } => source.is_permanent(),
            Self::Files { .. } | Self::Stopped(_) => false,
        };
        if permanent { exit::PERMANENT } else { exit::RETRYABLE }
    }
}

/// Says of which data an error of PostgreSQL is.
pub trait OfData<T> {
    /// Adds the data's name.
    fn of(self, data: &str) -> Result<T, AgentError>;
}

impl<T> OfData<T> for Result<T, PgError> {
    fn of(self, data: &str) -> Result<T, AgentError> {
        self.map_err(|source| match source {
            PgError::Stopped(stopped) => AgentError::Stopped(stopped),
            source => AgentError::Postgres { data: data.to_owned(), source: Box::new(source) },
        })
    }
}

impl<T> OfData<T> for Result<T, VolumeError> {
    fn of(self, data: &str) -> Result<T, AgentError> {
        self.map_err(|source| match source {
            VolumeError::Stopped(stopped) => AgentError::Stopped(stopped),
            VolumeError::Repository(error) => AgentError::Repository(error),
            VolumeError::Ended => {
                let cause = "it does not take more files".into();
                RepositoryError::Failed { doing: "writing a snapshot".into(), cause }.into()
            }
            source => AgentError::Volume { data: data.to_owned(), source },
        })
    }
}

impl<T> OfData<T> for Result<T, CopyError> {
    fn of(self, data: &str) -> Result<T, AgentError> {
        self.map_err(|error| match error {
            CopyError::Postgres(source) => match Err::<T, _>(source).of(data) {
                Err(error) => error,
                Ok(_) => AgentError::Stopped(Stopped),
            },
            CopyError::Repository(error) => error.into(),
            CopyError::Transform(error) => AgentError::Refused(format!("data {data}: {error}")),
            CopyError::Refused(why) => AgentError::Refused(format!("data {data}: {why}")),
            CopyError::Files { doing, cause } => AgentError::Files { doing: format!("data {data}: {doing}"), cause },
            CopyError::Ended => {
                let cause = "it does not take more files".into();
                RepositoryError::Failed { doing: "writing a snapshot".into(), cause }.into()
            }
        })
    }
}

/// A failed file operation.
pub fn files(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> AgentError {
    let doing = doing.into();
    move |error| AgentError::Files { doing, cause: error.to_string() }
}
