//! What can go wrong with a repository, in words.

use std::io;

use rustic_core::{ErrorKind, RusticError};

use crate::data::{postgres::error::one_line, s3::S3Error};

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The password's Secret does not say it.
    #[error("repository: key password of its Secret {0}")]
    PasswordMissing(&'static str),
    /// The password does not open it.
    #[error(
        "repository: the password in the Secret that passwordSecret names does not open it, and nothing was written. Put the password \
         with which it was made back into that Secret, or name an empty volume, or another bucket or prefix, for the new one"
    )]
    PasswordWrong,
    /// It holds another environment's backups.
    #[error(
        "repository: snapshot {snapshot} in it belongs to the environment with UID {owner}, not to this one ({environment}); \
         give each environment a volume, or a bucket and prefix, of its own"
    )]
    Foreign {
        /// A snapshot of the other.
        snapshot: String,
        /// The other's UID.
        owner: String,
        /// Our UID.
        environment: String,
    },
    /// There is none where one is to be read.
    #[error("repository: there is none in {place}; see that the place is the right one, and that something was written there")]
    Absent {
        /// Where it was looked for.
        place: String,
    },
    /// What S3 had to say.
    #[error("repository: {doing}: {cause}")]
    S3 {
        /// What was being done.
        doing: String,
        /// Why it could not be done.
        cause: Box<S3Error>,
    },
    /// There is no such snapshot.
    #[error("repository: snapshot {0} is not in it; name another, or make a new backup")]
    SnapshotMissing(String),
    /// There are several.
    #[error("repository: more than one snapshot begins with {0}; name more of its digits")]
    SnapshotUnclear(String),
    /// What is stored cannot be what was written.
    #[error("repository: {doing}: what is stored is damaged: {cause}. Check it with `restic check`, and make a new backup")]
    Damaged {
        /// What was being done.
        doing: String,
        /// What was noticed.
        cause: String,
    },
    /// There is no space left.
    #[error("repository: {doing}: its volume is full; make it larger, or let backups.retention remove old backups")]
    Full {
        /// What was being done.
        doing: String,
    },
    /// Another version of Lockkeeper wrote it in another shape.
    #[error(
        "repository: {doing}: it is of format {format}, and this version of Lockkeeper reads format {ours}. Restore it with the \
         version that wrote it, or by hand with restic"
    )]
    OtherFormat {
        /// What was being done.
        doing: String,
        /// Its format.
        format: u32,
        /// The one that is read.
        ours: u32,
    },
    /// A file could not be read or written.
    #[error("repository: {doing}: {cause}")]
    Failed {
        /// What was being done.
        doing: String,
        /// The cause.
        cause: String,
    },
}

impl From<S3Error> for RepositoryError {
    fn from(cause: S3Error) -> Self {
        Self::from_s3("opening it", cause)
    }
}

impl RepositoryError {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PasswordMissing(_) => "RepositoryPasswordMissing",
            Self::PasswordWrong => "RepositoryPasswordWrong",
            Self::Foreign { .. } => "RepositoryForeign",
            Self::Absent { .. } => "RepositoryMissing",
            Self::S3 { cause, .. } => cause.reason(),
            Self::SnapshotMissing(_) => "SnapshotMissing",
            Self::SnapshotUnclear(_) => "SnapshotUnclear",
            Self::Damaged { .. } => "RepositoryDamaged",
            Self::Full { .. } => "RepositoryFull",
            Self::OtherFormat { .. } => "SnapshotOfOtherFormat",
            Self::Failed { .. } => "RepositoryFailed",
        }
    }

    /// Whether trying again is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Failed { .. } => false,
            // What is missing may have been pruned since it was listed.
            Self::S3 { cause, .. } => !cause.passes() && !matches!(**cause, S3Error::Missing { .. }),
            _ => true,
        }
    }

    pub(super) fn from_s3(doing: &str, cause: S3Error) -> Self {
        Self::S3 { doing: doing.into(), cause: Box::new(cause) }
    }

    pub(super) fn from_rustic(doing: &str, error: &RusticError, kind: ErrorKind) -> Self {
        let mut causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
        if let Some(cause) = causes.find_map(|e| e.downcast_ref::<S3Error>()) {
            return Self::from_s3(doing, cause.clone());
        }
        let cause = one_line(&error.display_log());
        match kind {
            _ if error.is_incorrect_password() => Self::PasswordWrong,
            // The library keeps the cause to itself, but prints it.
            _ if FULL.iter().any(|words| cause.contains(words)) => Self::Full { doing: doing.into() },
            ErrorKind::Cryptography | ErrorKind::Verification => Self::Damaged { doing: doing.into(), cause },
            _ => Self::Failed { doing: doing.into(), cause },
        }
    }

    pub(super) fn from_io(doing: &str, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full { doing: doing.into() };
        }
        Self::Failed { doing: doing.into(), cause: error.to_string() }
    }
}

/// How the system says that there is no space, or no more for this user.
const FULL: [&str; 2] = ["(os error 28)", "(os error 122)"];

/// What the library says, as an error of ours.
pub(super) fn raw<T>(doing: &str, result: Result<T, Box<RusticError>>) -> Result<T, RepositoryError> {
    result.map_err(|error| {
        let kind = kind(&error);
        RepositoryError::from_rustic(doing, &error, kind)
    })
}

/// The library keeps an error's kind to itself, but prints it.
fn kind(error: &RusticError) -> ErrorKind {
    let text = error.display_log();
    for kind in [ErrorKind::Cryptography, ErrorKind::Verification] {
        if text.contains(&format!("(kind: related to {kind}")) {
            return kind;
        }
    }
    ErrorKind::Other
}
