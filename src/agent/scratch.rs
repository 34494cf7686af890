//! Scratch space that is gone when its owner is, whatever happened.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::{AgentError, files};

/// A directory of its own for a run and a verb.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it empty: what a killed attempt left is removed.
    pub fn new(below: &Path, name: &str) -> Result<Self, AgentError> {
        let path = below.join(format!("lockkeeper-{name}"));
        let doing = || format!("preparing scratch space {}", path.display());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(files(doing()))?;
        }
        fs::create_dir_all(&path).map_err(files(doing()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "scratch space is left");
        }
    }
}
