//! Arguments of what is done about runs: ask for one, follow it, decide on it, look at what became of it.

use clap::Args;

use super::values::{environment_ref, line, object_name, period, reason};
use crate::api::{EnvironmentRef, Period};

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Environment whose release is brought; default: the only one in promotesFrom
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = environment_ref)]
    pub from: Option<EnvironmentRef>,
    /// Environment that changes; default: the only one of the namespace
    #[arg(long, visible_alias = "to", value_name = "NAME", value_parser = object_name)]
    pub environment: Option<String>,
    /// Name of the Promotion; default: made of the source's name and the time
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub name: Option<String>,
    /// Modules to bring, separated by commas; default: all that the source has
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = object_name)]
    pub modules: Option<Vec<String>>,
    /// Not before this time: 2026-11-25T21:00:00+01:00, or in the local zone "2026-11-25 21:00", "Tue 21:00", 21:00
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// How long after that time it may still start, as 90m or 2h
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub deadline: Option<Period>,
    /// What this is, in words
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub description: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would change and whether the cluster would take it; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Follow it to its end
    #[arg(long, conflicts_with = "dry_run")]
    pub watch: bool,
}

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Name of the Promotion, or of the EnvironmentRestore where there is no Promotion of that name
    #[arg(value_parser = object_name)]
    pub name: String,
    /// A remark that is kept with the approval
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub comment: Option<String>,
    /// Only if the plan has this hash: for scripts that looked at it before
    #[arg(long, value_name = "HASH")]
    pub plan_hash: Option<String>,
    /// Take an earlier approval of yours back
    #[arg(long, conflicts_with_all = ["comment", "plan_hash"])]
    pub withdraw: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Name of the Promotion, or of the EnvironmentRestore where there is no Promotion of that name
    #[arg(value_parser = object_name)]
    pub name: String,
    /// Why, in words
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Do not ask, even if the environment is locked and would be put back
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `modify`.
#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Name of the Promotion
    #[arg(value_parser = object_name)]
    pub name: String,
    /// Not before this time, as for promote
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// As soon as it is approved
    #[arg(long, conflicts_with = "at")]
    pub now: bool,
    /// How long after that time it may still start, as 90m or 2h
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub deadline: Option<Period>,
    /// Modules to bring, separated by commas
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = object_name)]
    pub modules: Option<Vec<String>>,
    /// All modules that the source has
    #[arg(long, conflicts_with = "modules")]
    pub all_modules: bool,
    /// What this is, in words
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub description: Option<String>,
    /// Why it is changed, in words
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `resume` and `unlock`.
#[derive(Debug, Args)]
pub struct InterveneArgs {
    /// Name of the Promotion or EnvironmentRestore
    #[arg(value_parser = object_name)]
    pub name: String,
    /// Why, in words
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Name of the Environment; default: the only one of the namespace
    #[arg(value_parser = object_name)]
    pub environment: Option<String>,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name of the Promotion, or of the EnvironmentRestore where there is no Promotion of that name
    #[arg(value_parser = object_name)]
    pub name: String,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Name of the Promotion, or of the EnvironmentRestore where there is no Promotion of that name
    #[arg(value_parser = object_name)]
    pub name: String,
    /// Stop watching after this long, as 90s or 2h; the run goes on
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub timeout: Option<Period>,
}
