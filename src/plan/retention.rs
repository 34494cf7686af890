//! Which backups stay. Pure: the agent asks with what the repository holds, the operator with what its objects say.

use std::time::Duration;

use crate::api::{Retention, Timestamp};

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// When it was written.
    pub at: Timestamp,
    /// Whether it stays, whatever retention says: the newest proven one, one marked `keep`, one that an unfinished run refers to.
    pub kept: bool,
}

/// Ids of the snapshots that retention lets go, the oldest first. The newest always stays.
pub fn beyond(all: &[Known], policy: &Retention, now: Timestamp) -> Vec<String> {
    let mut newest_first: Vec<&Known> = all.iter().collect();
    newest_first.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
    let last = policy.keep_last.map_or(1, |n| usize::try_from(n).unwrap_or(usize::MAX).max(1));
    let within = policy.keep_within.as_ref().and_then(|p| p.get()).unwrap_or(Duration::ZERO);
    let oldest = now.checked_sub(within).unwrap_or(Timestamp::MIN);
    let mut out: Vec<String> = newest_first
        .iter()
        .enumerate()
        .filter(|(i, known)| *i >= last && known.at < oldest && !known.kept)
        .map(|(_, known)| known.id.clone())
        .collect();
    out.reverse();
    out
}
