//! A run that is named on the command line, of whichever kind.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use super::{error::CliError, session::Session, text};
use crate::{
    api::{DownAlignment, EnvironmentRestore, Promotion},
    plan::world::Run,
};

/// A kind of run.
pub trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
    /// What all kinds of runs have.
    fn run(&self) -> Run<'_>;
}

impl Kind for Promotion {
    fn run(&self) -> Run<'_> {
        Run::Promotion(self)
    }
}

impl Kind for EnvironmentRestore {
    fn run(&self) -> Run<'_> {
        Run::Restore(self)
    }
}

impl Kind for DownAlignment {
    fn run(&self) -> Run<'_> {
        Run::Alignment(self)
    }
}

/// The run of a name: a Promotion, or where there is none, one of another kind.
pub enum Found {
    /// A Promotion.
    Promotion(Box<Promotion>),
    /// An EnvironmentRestore.
    Restore(Box<EnvironmentRestore>),
    /// A DownAlignment.
    Alignment(Box<DownAlignment>),
}

impl Found {
    /// Looks for it.
    pub async fn of(session: &Session, name: &str) -> Result<Self, CliError> {
        if let Some(run) = opt(session, name).await? {
            return Ok(Self::Promotion(Box::new(run)));
        }
        if let Some(run) = opt(session, name).await? {
            return Ok(Self::Restore(Box::new(run)));
        }
        if let Some(run) = opt(session, name).await? {
            return Ok(Self::Alignment(Box::new(run)));
        }
        Err(CliError::Error(format!(
            "namespace {} has no Promotion {name}, nor an EnvironmentRestore or a DownAlignment of that name; to see what there is: {}",
            session.namespace,
            session.command("history"),
            name = text::clean(name),
        )))
    }
}

async fn opt<K: Kind>(session: &Session, name: &str) -> Result<Option<K>, CliError> {
    let doing = format!("reading {} {name} in namespace {}", K::kind(&()), session.namespace);
    session.ask(&doing, session.api::<K>().get_opt(name)).await
}
