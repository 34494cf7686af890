//! What can go wrong between the operator and the API server. Each variant's name is the category in metrics.

use std::time::Duration;

/// A failure of the operator itself, not of a run: the reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with an error, or not at all.
    #[error("{what}: {source}")]
    Api {
        /// What was being done.
        what: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{what}: the API server did not answer within {} s", after.as_secs())]
    Timeout {
        /// What was being done.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// An object of a name that this run uses belongs to somebody else.
    #[error("{what}: an object of this name exists already and was not made for this run: remove it")]
    Foreign {
        /// Which object.
        what: String,
    },
    /// An object that was to be written is not one.
    #[error("{what}: {source}")]
    Malformed {
        /// Which object.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// The category of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::Timeout { .. } => "timeout",
            Self::Foreign { .. } => "foreign",
            Self::Malformed { .. } => "malformed",
        }
    }

    /// In words, where the API server refused the request for what it is: by a quota, a policy, a right, a schema. Trying
    /// again helps only once somebody has changed that.
    pub fn refusal(&self) -> Option<String> {
        matches!(self.code(), Some(400 | 403 | 422)).then(|| format!("the API server refuses it: {self}"))
    }

    /// The HTTP status, where the API server answered with one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;
