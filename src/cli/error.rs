//! What can go wrong, said in words, and the codes to end with.

use std::{error::Error, fmt, process::ExitCode};

use kube::core::Status;

use super::text::strip_go_noise;
use crate::api::Phase;

/// How the program ends. The numbers are documented in `--help` and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; the run Completed; all is well.
    Done = 0,
    /// An error, a failed check, an answer of no.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The run ended otherwise than Completed.
    EndedOtherwise = 3,
    /// The run needs a person.
    NeedsHuman = 4,
    /// The user may not, or the cluster's policy says no.
    Refused = 5,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code for a run in this phase; `None` while it goes on.
    pub fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Completed => Some(Self::Done),
            Phase::RolledBack | Phase::Failed | Phase::Cancelled | Phase::Expired | Phase::Abandoned => {
                Some(Self::EndedOtherwise)
            }
            Phase::NeedsHuman => Some(Self::NeedsHuman),
            Phase::Scheduled
            | Phase::Validated
            | Phase::Aligning
            | Phase::BackingUp
            | Phase::Snapshotting
            | Phase::Locked
            | Phase::Promoting
            | Phase::Loading
            | Phase::Verifying
            | Phase::RollingBack => None,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CliError {
    /// The command line cannot be followed.
    #[error("{0}")]
    Usage(String),
    /// The user may not, or a policy says no.
    #[error("{0}")]
    Refused(String),
    /// Everything else.
    #[error("{0}")]
    Error(String),
}

impl CliError {
    /// The code that goes with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused(_) => Exit::Refused,
            Self::Error(_) => Exit::Error,
        }
    }

    /// An error without a kind of its own.
    pub fn other(message: impl fmt::Display) -> Self {
        Self::Error(message.to_string())
    }
}

/// What the API server's answer means for a person. `doing` is what was tried: `reading Promotion r-12`; `place` names the
/// server and the context.
pub fn explain(error: &kube::Error, doing: &str, place: &str) -> CliError {
    match error {
        kube::Error::Api(status) => explain_status(status, doing, place),
        kube::Error::SerdeError(cause) => CliError::Error(format!(
            "{doing}: the answer of {place} is not understood ({cause}); the installed CRDs may be of another version than this plugin"
        )),
        other => CliError::Error(format!("{doing}: no connection to {place}: {}", deepest(other))),
    }
}

fn explain_status(status: &Status, doing: &str, place: &str) -> CliError {
    let sentence = strip_go_noise(status);
    match status.code {
        401 => CliError::Error(format!(
            "{doing}: {place} does not accept your credentials; they are missing or expired. Log in again, or choose another --context"
        )),
        403 => CliError::Refused(format!("{doing}: {sentence}")),
        404 if is_unknown_kind(status) => CliError::Error(format!(
            "{doing}: {place} does not know Lockkeeper's kinds; install them: \
             helm install lockkeeper charts/lockkeeper -n lockkeeper-system --create-namespace"
        )),
        // Policies that do not choose a reason answer 422.
        422 if is_policy(status) => CliError::Refused(format!("{doing}: {sentence}")),
        _ => CliError::Error(format!("{doing}: {sentence}")),
    }
}

fn is_unknown_kind(status: &Status) -> bool {
    status.message.contains("could not find the requested resource") || status.message.contains("page not found")
}

fn is_policy(status: &Status) -> bool {
    status.message.contains("denied request") || status.message.contains("denied the request")
}

/// The first cause: libraries wrap it in several layers that all say the same.
fn deepest(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status { code, message: message.into(), ..Status::default() }.boxed())
    }

    #[test]
    fn each_phase_has_its_code() {
        let codes: Vec<_> = Phase::ALL.iter().filter_map(|p| Exit::of(*p).map(|e| (*p, e as u8))).collect();
        assert_eq!(
            codes,
            [
                (Phase::Completed, 0),
                (Phase::RolledBack, 3),
                (Phase::Failed, 3),
                (Phase::Cancelled, 3),
                (Phase::Expired, 3),
                (Phase::NeedsHuman, 4),
                (Phase::Abandoned, 3)
            ]
        );
    }

    #[test]
    fn a_policys_sentence_stands_alone() {
        let message = "promotions.lockkeeper.dev \"r-12\" is forbidden: ValidatingAdmissionPolicy 'lockkeeper-promotions' with \
                       binding 'lockkeeper-promotions' denied request: requestedBy.username: must be you, alice";
        for code in [403, 422] {
            assert_eq!(
                explain(&status(code, message), "making Promotion r-12", "x"),
                CliError::Refused("making Promotion r-12: requestedBy.username: must be you, alice".into())
            );
        }
    }

    #[test]
    fn a_missing_right_is_a_refusal() {
        let message = "promotions.lockkeeper.dev \"r\" is forbidden: User \"eve\" cannot get resource \"promotions\" in API \
                       group \"lockkeeper.dev\" in the namespace \"shop\"";
        let CliError::Refused(said) = explain(&status(403, message), "reading Promotion r", "x") else { panic!() };
        assert_eq!(
            said,
            "reading Promotion r: User \"eve\" cannot get resource \"promotions\" in API group \"lockkeeper.dev\" in the namespace \"shop\""
        );
    }

    #[test]
    fn a_cluster_without_the_kinds_is_told_apart_from_a_missing_object() {
        let unknown = explain(&status(404, "the server could not find the requested resource"), "reading", "x").to_string();
        assert!(unknown.contains("helm install"), "{unknown}");
        let missing = explain(&status(404, "promotions.lockkeeper.dev \"r\" not found"), "reading Promotion r", "x").to_string();
        assert_eq!(missing, "reading Promotion r: promotions.lockkeeper.dev \"r\" not found");
    }

    #[test]
    fn a_lost_connection_names_the_place_and_the_first_cause() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "Connection refused");
        let said = explain(&kube::Error::Service(Box::new(io)), "reading", "https://h:6443 (context dev)").to_string();
        assert_eq!(said, "reading: no connection to https://h:6443 (context dev): Connection refused");
    }
}
