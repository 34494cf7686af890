//! Logs: JSON lines in a cluster, plain text on a terminal, or as told. The level comes from `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Forms of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line, with the run's namespace, name, phase and step as fields.
    Json,
    /// Text for people.
    Text,
}

/// Starts logging to stderr.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, in tests, is no error.
    let text = format == LogFormat::Text || (format == LogFormat::Auto && std::io::stderr().is_terminal());
    let _ = if text { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
}

/// Returns when the process is asked to end: SIGTERM or SIGINT.
pub async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else { return };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
