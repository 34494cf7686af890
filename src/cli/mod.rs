//! The kubectl plugin, `kubectl lockkeeper`: one file a subcommand.
//!
//! It only reads and writes the kinds of [`crate::api`] as the person who runs it: whatever it refuses is refused by the
//! API server too, for everyone and every tool. What it adds is to show first and to ask.
//!
//! Human text goes to stdout, or to stderr where `-o json|yaml` asks for an object on stdout.

mod align;
mod approve;
mod args;
mod backup;
mod backups;
mod cancel;
mod changes;
mod complete;
mod doctor;
mod error;
mod found;
mod history;
mod intervene;
mod masking;
mod modify;
mod output;
mod progress;
mod promote;
mod restore;
mod restoring;
mod rollback;
mod session;
mod show;
mod show_run;
mod text;
mod time;
mod view;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use args::Cli;
use args::Command;
pub use error::{CliError, Exit};

use crate::api::InterventionAction;

/// Parses the command line, does what it says, and gives the code to end with. Usage errors end the process with 2.
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    if called.rsplit('/').next() == Some(complete::NAME) {
        return completed(&words.collect::<Vec<_>>());
    }
    let cli = Cli::parse();
    if let Command::Completion { shell } = &cli.command {
        clap_complete::generate(*shell, &mut Cli::command(), "kubectl-lockkeeper", &mut std::io::stdout());
        return Exit::Done.into();
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return report(&CliError::Error(format!("cannot start: {error}"))),
    };
    let end = runtime.block_on(run(cli));
    // A prompt or an auth helper may still sit in a thread of its own; the process does not wait for it.
    runtime.shutdown_background();
    match end {
        Ok(exit) => exit.into(),
        Err(error) => report(&error),
    }
}

/// Answers kubectl's completion. Nobody reads an error then.
fn completed(words: &[String]) -> ExitCode {
    if let Ok(runtime) = runtime() {
        runtime.block_on(complete::run(words));
    }
    Exit::Done.into()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // Another provider may have been installed already; then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn report(error: &CliError) -> ExitCode {
    eprintln!("error: {}", text::clean_lines(&error.to_string()));
    error.exit().into()
}

async fn run(cli: Cli) -> Result<Exit, CliError> {
    let Cli { global, command } = cli;
    match command {
        Command::Promote(args) => promote::run(&global, args).await,
        Command::Approve(args) => approve::run(&global, args).await,
        Command::Cancel(args) => cancel::run(&global, args).await,
        Command::Watch(args) => watch::run(&global, args).await,
        Command::Backups(args) => backups::run(&global, args).await,
        Command::Backup(args) => backup::run(&global, args).await,
        Command::Restore(args) => restore::run(&global, args).await,
        Command::Rollback(args) => rollback::run(&global, args).await,
        Command::Align(args) => align::run(&global, args).await,
        Command::Doctor(args) => doctor::run(&global, args).await,
        Command::Modify(args) => modify::run(&global, args).await,
        Command::Resume(args) => intervene::run(&global, args, InterventionAction::Resume).await,
        Command::Unlock(args) => intervene::run(&global, args, InterventionAction::Unlock).await,
        Command::History(args) => history::run(&global, args).await,
        Command::Show(args) => show_run::run(&global, args).await,
        Command::Masking(args) => masking::run(&global, args).await,
        Command::Completion { .. } => Ok(Exit::Done),
    }
}
