//! Arguments of `masking`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::values::object_name;
use crate::api::Locale;

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
