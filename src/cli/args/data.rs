//! Arguments of what is done with data: backups, putting them back, mirrors.

use clap::Args;

use super::values::{line, object_name, snapshot_id};

/// Arguments of `backups`.
#[derive(Debug, Args)]
pub struct BackupsArgs {
    /// Only those of this Environment
    #[arg(value_parser = object_name)]
    pub environment: Option<String>,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Environment; default: the only one of the namespace
    #[arg(value_parser = object_name)]
    pub environment: Option<String>,
    /// Name of the EnvironmentBackup; default: made of the Environment's name and the time
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub name: Option<String>,
    /// Data to back up, separated by commas; default: all
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = object_name)]
    pub data: Option<Vec<String>>,
    /// Why, in words
    #[arg(long, value_name = "TEXT", value_parser = line, default_value = "on demand")]
    pub reason: String,
    /// Keep it, whatever retention says
    #[arg(long)]
    pub keep: bool,
    /// Do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
}

/// What `restore` and `rollback` have in common.
#[derive(Debug, Args)]
pub struct RestoringArgs {
    /// Environment that changes; default: the only one of the namespace
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub environment: Option<String>,
    /// Name of the EnvironmentRestore; default: made of the Environment's name and the time
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub name: Option<String>,
    /// Do not ask; what was written since is lost
    #[arg(short, long)]
    pub yes: bool,
    /// Follow it to its end
    #[arg(long)]
    pub watch: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Name of the EnvironmentBackup that is to come back
    #[arg(value_parser = object_name, required_unless_present = "snapshot")]
    pub backup: Option<String>,
    /// Snapshot of the repository, where the EnvironmentBackup is lost: at least 8 digits of its id
    #[arg(long, value_name = "ID", value_parser = snapshot_id, conflicts_with = "backup")]
    pub snapshot: Option<String>,
    /// Data to put back, separated by commas; default: all
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = object_name)]
    pub data: Option<Vec<String>>,
    /// The rest.
    #[command(flatten)]
    pub restoring: RestoringArgs,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Name of the completed Promotion; with --restore, of the EnvironmentRestore; with --alignment, of the DownAlignment
    #[arg(value_parser = object_name)]
    pub run: String,
    /// Undo a restore
    #[arg(long)]
    pub restore: bool,
    /// Undo a down alignment
    #[arg(long, conflicts_with = "restore")]
    pub alignment: bool,
    /// The rest.
    #[command(flatten)]
    pub restoring: RestoringArgs,
}

/// Arguments of `align`.
#[derive(Debug, Args)]
pub struct AlignArgs {
    /// What is mirrored; default: the only one that the Environment's alignsFrom names
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub from: Option<String>,
    /// Environment that changes; default: the only one of the namespace
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub environment: Option<String>,
    /// Name of the DownAlignment; default: made of the time
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub name: Option<String>,
    /// Data that comes, separated by commas; default: all
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = object_name, conflicts_with = "no_data")]
    pub data: Option<Vec<String>>,
    /// No data comes
    #[arg(long, conflicts_with = "no_configuration")]
    pub no_data: bool,
    /// Images and configuration stay as they are
    #[arg(long)]
    pub no_configuration: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
}
