//! Whose turn it is: runs that are ready wait for an environment in the order in which they were validated.

use super::world::Run;
use crate::api::{Phase, RunRef, Timestamp, conditions};

/// How many of those ahead are named.
const NAMED: usize = 5;

/// A run that waits for its turn and for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The run.
    pub run: RunRef,
    /// The Environment that it waits for, in the run's namespace.
    pub environment: String,
    /// Since when it is validated: its place.
    pub since: Timestamp,
}

impl Waiting {
    /// The place in the queue. Names decide between runs of one instant, so that all see the same order.
    pub fn place(&self) -> (Timestamp, &str, &str) {
        (self.since, &self.run.name, &self.run.uid)
    }
}

/// A run as one who waits. `None`: it is not ready, so it stands in nobody's way.
pub fn waiting(run: Run<'_>, now: Timestamp) -> Option<Waiting> {
    let status = run.status()?;
    let schedule = run.schedule();
    let time_has_come = schedule.and_then(|s| s.not_before).is_none_or(|at| at <= now);
    let leaving = run.is_leaving() || run.cancel().is_some() || status.failure.is_some();
    let ready = status.phase == Phase::Validated
        && status.step.is_none()
        && time_has_come
        && !leaving
        && !conditions::is_true(&status.conditions, conditions::STALLED);
    ready.then(|| Waiting {
        run: RunRef { kind: run.kind().into(), name: run.name().into(), uid: run.uid().into() },
        environment: run.environment().to_owned(),
        since: status.validated_at.unwrap_or(now),
    })
}

/// Those who come before `me`, in their order.
pub fn ahead<'a>(queue: &'a [Waiting], me: &Waiting) -> Vec<&'a RunRef> {
    let mut before: Vec<&Waiting> =
        queue.iter().filter(|w| w.environment == me.environment && w.run.uid != me.run.uid && w.place() < me.place()).collect();
    before.sort_by(|a, b| a.place().cmp(&b.place()));
    before.into_iter().map(|w| &w.run).collect()
}

/// Behind whom, in words: the one at work, then those ahead.
pub fn behind(at_work: Option<&RunRef>, ahead: &[&RunRef]) -> String {
    let others = ahead.iter().copied().filter(|r| at_work.is_none_or(|w| w.uid != r.uid));
    let all: Vec<&RunRef> = at_work.into_iter().chain(others).collect();
    let named: Vec<String> = all.iter().take(NAMED).map(|r| format!("{} {}", r.kind, r.name)).collect();
    let more = all.len().saturating_sub(NAMED);
    format!("behind {}{}", named.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, second: i64) -> Waiting {
        let run = RunRef { kind: "Promotion".into(), name: name.into(), uid: format!("uid-{name}") };
        Waiting { run, environment: "production".into(), since: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn who_was_validated_first_comes_first_and_names_decide_between_equals() {
        let queue = [one("d", 9), one("c", 5), one("a", 5), one("b", 7)];
        let names = |me: &Waiting| ahead(&queue, me).iter().map(|r| r.name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&queue[2]), "");
        assert_eq!(names(&queue[1]), "a");
        assert_eq!(names(&queue[0]), "a c b");
        let elsewhere = Waiting { environment: "staging".into(), ..one("d", 9) };
        assert_eq!(names(&elsewhere), "");
    }

    #[test]
    fn behind_whom_is_said_and_a_long_queue_is_counted() {
        let all: Vec<Waiting> = (0..7).map(|i| one(&format!("r-{i}"), i)).collect();
        let runs: Vec<&RunRef> = all.iter().map(|w| &w.run).collect();
        assert_eq!(behind(Some(runs[0]), &[]), "behind Promotion r-0");
        assert_eq!(behind(Some(runs[0]), &[runs[0], runs[1]]), "behind Promotion r-0, Promotion r-1");
        assert!(behind(None, &runs).ends_with("Promotion r-4 and 2 more"));
    }
}
