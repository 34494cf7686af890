//! The command line: flags, their help, and what is refused before anything is asked of a cluster.
//!
//! Here the flags of all subcommands, and their list; the arguments of each are in files by what they are about.

mod data;
mod masking;
mod runs;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::values::object_name;
pub use self::{data::*, masking::*, runs::*};

const AFTER: &str = "\
Exit codes:
  0    done; for watch: the run Completed
  1    an error, a check of doctor that failed, or an answer of no
  2    the command line is wrong
  3    the run ended otherwise: RolledBack, Failed, Cancelled, Expired or Abandoned
  4    the run needs a person: its rollback failed and the lock is held
  5    refused: you may not do this, or the cluster's policy says no
  130  interrupted; a run that was being watched goes on";

/// Promotes tested releases between Kubernetes environments.
#[derive(Debug, Parser)]
#[command(name = "kubectl-lockkeeper", bin_name = "kubectl lockkeeper", version, after_help = AFTER, max_term_width = 110)]
pub struct Cli {
    /// Flags that every subcommand takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// kubectl's own flags.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Namespace of the environment; default: that of the context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Path of the kubeconfig; default: $KUBECONFIG, then ~/.kube/config
    #[arg(long, global = true, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
    /// User to act as
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to act as; may be given several times
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonate")]
    pub impersonate_groups: Vec<String>,
    /// Form of the result on stdout; with json or yaml, text for people goes to stderr
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask for a promotion: show what would change, ask, then make it
    Promote(PromoteArgs),
    /// Say yes to a promotion's plan, exactly as shown
    #[command(visible_alias = "validate")]
    Approve(ApproveArgs),
    /// End a promotion; once it is locked, the environment is put back
    Cancel(CancelArgs),
    /// Follow a promotion to its end
    Watch(WatchArgs),
    /// List an environment's backups
    Backups(BackupsArgs),
    /// Back an environment's data up now, and prove the backup
    Backup(BackupArgs),
    /// Put a backup back; what was written since is lost
    Restore(RestoreArgs),
    /// Undo a completed run: data and release become what they were before it
    Rollback(RollbackArgs),
    /// Make an environment a mirror of a higher one, every value masked
    Align(AlignArgs),
    /// Change when a promotion starts, what it brings or what is said of it, until it starts
    Modify(ModifyArgs),
    /// Try a rollback that failed again at once
    Resume(InterveneArgs),
    /// Give a rollback that failed up: let users in to whatever is there
    Unlock(InterveneArgs),
    /// List what has run in an environment, and what became of it
    History(HistoryArgs),
    /// Show a promotion or a restore from head to foot
    Show(ShowArgs),
    /// Say what is missing for an environment to be Ready, with what mends it
    Doctor(DoctorArgs),
    /// Propose a masking policy, or say what one lacks
    Masking(MaskingArgs),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Name of the Environment; default: the only one of the namespace
    #[arg(value_parser = object_name)]
    pub environment: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
