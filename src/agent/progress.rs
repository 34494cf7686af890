//! How far a task is: JSON lines on stdout for whoever follows the log, and the last of them in the outcome.
//!
//! The agent has no credentials of Kubernetes' and serves nothing, so that nothing need be let in to it; its log is what the
//! operator can read of it while it works ([`crate::controller::progress`]).

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    api::Timestamp,
    data::postgres::copy::Amount,
    manifest::task::{BYTES, Progress},
};

/// A line is printed no more often than this. A log of six hours stays below what a node keeps.
const PAUSE: Duration = Duration::from_secs(1);

/// What a task has said last.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Option<Progress>>>);

impl Told {
    /// Something begins; what it gives is told how much of that is done.
    pub fn begin(&self, doing: String) -> impl Fn(Amount) + Send + Sync + use<> {
        let (told, since) = (self.0.clone(), Mutex::new(None::<Begun>));
        move |amount| {
            let (Ok(mut begun), Ok(mut told)) = (since.lock(), told.lock()) else { return };
            let now = Timestamp::now();
            let begun = begun.get_or_insert_with(|| Begun { at: now, done: 0, rows: 0, printed: None });
            let Amount { bytes, of_bytes, rows, of_rows } = amount;
            (begun.done, begun.rows) = (begun.done.max(bytes), begun.rows.max(rows));
            let line = Progress {
                doing: doing.clone(),
                done: begun.done,
                total: of_bytes.map(|of| of.max(begun.done)),
                unit: BYTES.into(),
                rows: (begun.rows > 0 || of_rows.is_some()).then_some(begun.rows),
                total_rows: of_rows.map(|of| of.max(begun.rows)),
                since: begun.at,
                at: now,
            };
            // The end is always said, once.
            let over = of_bytes.is_some_and(|of| begun.done >= of);
            if begun.printed.is_none_or(|(at, done)| at.elapsed() >= PAUSE || over && done < begun.done) {
                begun.printed = Some((Instant::now(), begun.done));
                print(&line);
            }
            *told = Some(line);
        }
    }

    /// What was said last.
    pub fn last(&self) -> Option<Progress> {
        self.0.lock().ok()?.clone()
    }
}

/// Something that is being done.
struct Begun {
    at: Timestamp,
    done: u64,
    rows: u64,
    /// When a line was printed last, and how much was done then.
    printed: Option<(Instant, u64)>,
}

/// Says how often something was done of which nobody knows how often it must be.
pub fn say(doing: &str, done: u64, unit: &str) {
    let at = Timestamp::now();
    print(&Progress { doing: doing.into(), done, total: None, unit: unit.into(), rows: None, total_rows: None, since: at, at });
}

/// That nobody reads it is no failure.
fn print(line: &Progress) {
    if let Ok(json) = serde_json::to_string(line) {
        let _ = writeln!(std::io::stdout(), "{json}");
    }
}
