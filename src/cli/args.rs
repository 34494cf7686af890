//! The command line: flags, their help, and what is refused before anything is asked of a cluster.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::api::{EnvironmentRef, Locale, Period};

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
    /// Name of the completed Promotion; with --restore, of the EnvironmentRestore
    #[arg(value_parser = object_name)]
    pub run: String,
    /// Undo a restore
    #[arg(long)]
    pub restore: bool,
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

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Name of the Environment; default: the only one of the namespace
    #[arg(value_parser = object_name)]
    pub environment: Option<String>,
}

/// Arguments of `masking`.
#[derive(Debug, Args)]
pub struct MaskingArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MaskingCommand,
}

/// The subcommands of `masking`.
#[derive(Debug, Subcommand)]
pub enum MaskingCommand {
    /// Propose a policy from the catalog and a sample, read by a Job in the environment's namespace
    Draft(DraftArgs),
    /// Hold a policy against the catalog; exit code 1 where it lets nothing out
    Check(MaskingCheckArgs),
}

/// Arguments of `masking draft`.
#[derive(Debug, Args)]
pub struct DraftArgs {
    /// Environment whose data is looked at; default: the only one of the namespace
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub environment: Option<String>,
    /// Data to look at, separated by commas; default: all
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = object_name)]
    pub data: Option<Vec<String>>,
    /// Language of the substitutes
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub locale: Language,
    /// The rest.
    #[command(flatten)]
    pub job: JobArgs,
}

/// Arguments of `masking check`.
#[derive(Debug, Args)]
pub struct MaskingCheckArgs {
    /// Name of the MaskingPolicy
    #[arg(value_parser = object_name, conflicts_with = "filename")]
    pub policy: Option<String>,
    /// File with a MaskingPolicy that is not applied yet
    #[arg(short, long, value_name = "PATH")]
    pub filename: Option<PathBuf>,
    /// Environment whose data is looked at; default: the only one of the namespace
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub environment: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub job: JobArgs,
}

/// The Job that is made for `masking`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Image of the Job; default: the operator's own
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Namespace of the operator, whose image is taken
    #[arg(long, value_name = "NAMESPACE", default_value = "lockkeeper-system", value_parser = object_name)]
    pub operator_namespace: String,
}

/// Languages of substitutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    En,
    /// Spanish
    Es,
    /// Catalan
    Ca,
}

impl From<Language> for Locale {
    fn from(language: Language) -> Self {
        match language {
            Language::En => Self::En,
            Language::Es => Self::Es,
            Language::Ca => Self::Ca,
        }
    }
}

/// A name as Kubernetes takes it. Checked here, because a name becomes part of a URL.
fn object_name(value: &str) -> Result<String, String> {
    let part = |p: &str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !p.starts_with('-')
            && !p.ends_with('-')
    };
    if value.len() <= 253 && value.split('.').all(part) {
        Ok(value.to_owned())
    } else {
        Err("a name has lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit".into())
    }
}

fn snapshot_id(value: &str) -> Result<String, String> {
    let fits = (8..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if fits { Ok(value.to_owned()) } else { Err("8 to 64 digits of 0-9 and a-f, as `restic snapshots` gives them".into()) }
}

fn environment_ref(value: &str) -> Result<EnvironmentRef, String> {
    let (namespace, name) = value.split_once('/').ok_or("write it as NAMESPACE/NAME")?;
    if namespace.contains('.') {
        return Err("a namespace's name has no '.'".into());
    }
    Ok(EnvironmentRef { namespace: object_name(namespace)?.into(), name: object_name(name)?.into() })
}

fn period(value: &str) -> Result<Period, String> {
    let period = Period::from(value);
    let written = value.bytes().next().is_some_and(|b| b.is_ascii_digit()) && value.ends_with(['s', 'm', 'h']);
    if written && value.len() <= 24 && period.get().is_some() {
        Ok(period)
    } else {
        Err("write a duration as 90s, 15m or 2h".into())
    }
}

fn line(value: &str) -> Result<String, String> {
    if value.chars().count() > 1024 {
        return Err("at most 1024 characters".into());
    }
    if value.chars().any(super::text::is_unprintable) {
        return Err("one line, without control characters".into());
    }
    Ok(value.to_owned())
}

fn reason(value: &str) -> Result<String, String> {
    if value.trim().is_empty() {
        return Err("say why, in words".into());
    }
    line(value)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_source_is_written_as_namespace_and_name() {
        let parsed = environment_ref("shop-staging/staging").unwrap();
        assert_eq!((&*parsed.namespace, &*parsed.name), ("shop-staging", "staging"));
        for wrong in ["staging", "/", "a/", "/b", "A/b", "a.b/c", "a/b/c", "a/../b"] {
            assert!(environment_ref(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_is_written_as_in_the_api() {
        for right in ["90s", "15m", "1h30m", "0s"] {
            assert!(period(right).is_ok(), "{right}");
        }
        for wrong in ["", "15", "-1m", "soon", "1d", "+5m"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_with_control_characters_or_turned_letters_is_refused() {
        assert!(line("Flags 7.4, año").is_ok());
        for wrong in ["a\nb", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(1025)] {
            assert!(line(wrong).is_err(), "{wrong:?}");
        }
        assert!(reason("  ").is_err());
    }
}
