//! The phases of a run, and the diagram of what may follow what.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The release is captured; approvals are awaited.
    #[default]
    Scheduled,
    /// Approved. Waits, holding nothing, for its time and its turn.
    Validated,
    /// Users still work at first. The environment becomes a mirror of another, by a DownAlignment of its own.
    Aligning,
    /// Users still work. Checked again, backed up, the backup proven.
    BackingUp,
    /// Users still work. Checked again; the source's data is masked, in its own namespace, into the exchange.
    Snapshotting,
    /// Users see the page. Workloads stop, the database is fenced, the undo point is made.
    Locked,
    /// The release goes in.
    Promoting,
    /// A restore's data goes in, and the workloads start.
    Loading,
    /// Checks run against the new release, still locked.
    Verifying,
    /// All done, users are back.
    Completed,
    /// The environment is being put back as it was.
    RollingBack,
    /// The environment is what it was before.
    RolledBack,
    /// Ended before anything in the target had changed.
    Failed,
    /// Ended by a person before anything in the target had changed.
    Cancelled,
    /// Its time passed before it could start.
    Expired,
    /// The rollback itself failed. The lock is held, the page stays up, a person must act.
    NeedsHuman,
    /// A person has given the rollback up. Users are let in; what is left to put right by hand is listed in the status.
    Abandoned,
}

impl Phase {
    /// Every phase, in the order of the flow.
    pub const ALL: [Self; 17] = [
        Self::Scheduled,
        Self::Validated,
        Self::Aligning,
        Self::BackingUp,
        Self::Snapshotting,
        Self::Locked,
        Self::Promoting,
        Self::Loading,
        Self::Verifying,
        Self::Completed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::NeedsHuman,
        Self::Abandoned,
    ];

    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Failed | Self::Cancelled | Self::Expired | Self::Abandoned)
    }

    /// Whether the run may hold the lock in this phase.
    pub fn may_hold_lock(self) -> bool {
        matches!(self, Self::Locked | Self::Promoting | Self::Loading | Self::Verifying | Self::RollingBack | Self::NeedsHuman)
    }

    /// Whether the run may still be changed by people.
    pub fn is_before_start(self) -> bool {
        matches!(self, Self::Scheduled | Self::Validated)
    }

    /// The diagram of the flow: which phase may follow this one.
    pub fn may_become(self, next: Self) -> bool {
        use Phase::*;
        self == next
            || matches!(
                (self, next),
                (Scheduled, Validated | Expired | Cancelled | Failed)
                    | (Validated, Scheduled | Aligning | BackingUp | Snapshotting | Locked | Expired | Cancelled | Failed)
                    | (Aligning, BackingUp | Failed | Cancelled)
                    | (BackingUp | Snapshotting, Locked | Failed | Cancelled | Expired)
                    | (Locked, Promoting | Loading | RollingBack)
                    | (Promoting | Loading, Verifying | RollingBack)
                    | (Verifying, Completed | RollingBack)
                    | (RollingBack, RolledBack | NeedsHuman)
                    | (NeedsHuman, RollingBack | Abandoned)
            )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
