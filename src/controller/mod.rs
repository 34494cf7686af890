//! The controllers: read, decide by [`crate::plan`], write the status or do one effect, report. All decisions are in `plan`;
//! here is only what touches the API server.

pub mod alignment;
pub mod api;
pub mod backup;
pub mod driven;
pub mod environment;
pub mod execute;
pub mod leader;
pub mod leave;
pub mod masking;
pub mod observe;
pub mod progress;
pub mod promotion;
mod readiness;
pub mod report;
pub mod restore;
pub mod run;
pub mod server;
pub mod slim;
pub mod status;
mod wake;
pub mod watch;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use kube::Client;

use crate::{api::Timestamp, error::Result, plan::world::Settings};

pub use run::{Options, run};

/// Tells the time. The drivers ask nothing else for it, so that a simulation can let days pass.
pub type Clock = fn() -> Timestamp;

/// What all drivers share.
pub struct Context {
    /// The client.
    pub client: Client,
    /// What the operator was told at its start.
    pub settings: Settings,
    /// Events, logs, metrics.
    pub report: report::Report,
    /// Whether the admission policies are there.
    pub policies: Policies,
    /// How far agents are.
    pub logs: progress::Logs,
    /// Watches inside environments' namespaces.
    pub namespaces: watch::Namespaces,
    /// What decisions take for now.
    pub clock: Clock,
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something was written: look again at once.
    Again,
    /// Nothing to do until something changes, or until this instant.
    Wait(Option<Timestamp>),
    /// The object does not exist.
    Gone,
}

/// Asks for the admission policies, and remembers a good answer for a moment: a turn is taken many times a second.
#[derive(Default)]
pub struct Policies {
    good_until: Mutex<Option<Instant>>,
}

impl Policies {
    /// How long a good answer counts. A bad one is asked again at once.
    const MEMORY: Duration = Duration::from_secs(2);

    /// Those that are missing.
    pub async fn missing(&self, client: &Client) -> Result<Vec<String>> {
        if self.good_until.lock().is_ok_and(|g| g.is_some_and(|until| until > Instant::now())) {
            return Ok(Vec::new());
        }
        let missing = observe::missing_policies(client).await?;
        if missing.is_empty()
            && let Ok(mut good) = self.good_until.lock()
        {
            *good = Some(Instant::now() + Self::MEMORY);
        }
        Ok(missing)
    }
}
