//! `doctor`: what is missing for an environment to be Ready, with the YAML or SQL that mends it.
//!
//! Reading ([`seen`]) and judging ([`cluster_checks`], [`environment_checks`]) are apart, so that each judgement is a table
//! of tests. What the operator itself found comes from the Environment's conditions and is printed as it stands.

mod cluster_checks;
mod environment_checks;
pub mod mend;
mod seen;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    args::{DoctorArgs, Global},
    error::{CliError, Exit},
    session::Session,
    text::{clean, clean_lines, indent},
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// As it must be.
    Good,
    /// Must be mended.
    Bad,
    /// The user may not look.
    Hidden,
    /// Worth knowing; mends nothing.
    Note,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { check, state, message: message.into(), mend: None }
    }
    fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, State::Good, message)
    }
    fn bad(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, State::Bad, message)
    }
    fn hidden(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, State::Hidden, message)
    }
    fn note(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, State::Note, message)
    }
    fn mend(mut self, how: impl Into<String>) -> Self {
        self.mend = Some(how.into());
        self
    }

    /// `✔ check: message`, and below it what mends it.
    fn line(&self) -> String {
        let mark = match self.state {
            State::Good => "✔",
            State::Bad => "✘",
            State::Hidden => "?",
            State::Note => "!",
        };
        let mut text = format!("{mark} {}: {}", clean(self.check), indent(&clean_lines(&self.message), 4).trim_start());
        if let Some(mend) = &self.mend {
            text += &format!("\n{}", indent(&clean_lines(mend), 4));
        }
        text
    }
}

/// What `-o json|yaml` prints.
#[derive(Debug, Serialize)]
struct Report {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    ready: bool,
    findings: Vec<Finding>,
}

/// Runs the subcommand.
pub async fn run(global: &Global, args: DoctorArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let now = Timestamp::now();
    let cluster = seen::cluster(&session).await?;
    let mut findings = cluster_checks::findings(&cluster, now);
    let mut name = None;
    // Without the kinds there is nothing to ask for.
    if cluster.kinds.iter().any(|k| k == "environments") {
        match session.environment(args.environment.as_deref()).await {
            Ok(environment) => {
                name = environment.metadata.name.clone();
                let seen = seen::environment(&session, environment).await?;
                findings.extend(environment_checks::findings(&seen));
            }
            Err(usage @ CliError::Usage(_)) => return Err(usage),
            Err(error) => findings.push(Finding::bad("environment", error.to_string())),
        }
    }
    let bad = findings.iter().filter(|f| f.state == State::Bad).count();
    for finding in &findings {
        session.printer.say(finding.line());
    }
    let place = name.as_deref().unwrap_or("the environment");
    session.printer.say(match bad {
        0 => format!("\n{place} in namespace {}: all is well", session.namespace),
        1 => format!("\n{place} in namespace {}: one thing to mend", session.namespace),
        n => format!("\n{place} in namespace {}: {n} things to mend", session.namespace),
    });
    session.printer.object(&Report { namespace: session.namespace.clone(), environment: name, ready: bad == 0, findings })?;
    Ok(if bad == 0 { Exit::Done } else { Exit::Error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_what_mends_it_below() {
        let finding = Finding::bad("workload", "Deployment a\nis not there").mend("kubectl get\n  deploy");
        assert_eq!(finding.line(), "✘ workload: Deployment a\n    is not there\n    kubectl get\n      deploy");
        assert_eq!(Finding::hidden("x", "y").line(), "? x: y");
    }
}
