//! Two stories are told at once, since each mostly waits. One that kills the operator or the kubelet is told alone.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static STAGE: RwLock<()> = RwLock::new(());

/// Leave to be on the cluster, until it goes.
#[expect(dead_code, reason = "held, and never looked at")]
pub enum Turn {
    /// Beside other stories.
    Together(RwLockReadGuard<'static, ()>),
    /// And nobody else.
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits until no story is alone.
pub fn together() -> Turn {
    Turn::Together(STAGE.read().unwrap_or_else(PoisonError::into_inner))
}

/// Waits until there is no other story.
pub fn alone() -> Turn {
    Turn::Alone(STAGE.write().unwrap_or_else(PoisonError::into_inner))
}
