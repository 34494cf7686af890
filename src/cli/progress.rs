//! How far a step is, in words. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::text::{between, clean};
use crate::api::{
    RunStatus, StepProgress,
    promotion::{Step, StepState},
    size::{bytes, of_bytes},
};

/// Figures older than this are said to be old: what is left is not guessed from them.
const OLD: Duration = Duration::from_secs(30);
/// Where lines are not drawn anew, one comes no more often than this.
const PAUSE: Duration = Duration::from_secs(10);

/// How far it was, and what that means by now: `restoring flags-db: 1.2 of 3.4 GiB, 12,000 of 40,000 rows, 85 MiB/s, about 30 s
/// left`.
pub fn words(progress: &StepProgress, now: Timestamp) -> String {
    let StepProgress { doing, done, total, unit: _, rows, total_rows, rate, seconds_left, at } = progress;
    let mut parts = Vec::new();
    match total {
        Some(total) => parts.push(of_bytes(*done, *total)),
        None if *done > 0 => parts.push(bytes(*done)),
        // What has no measure.
        None => return clean(doing),
    }
    match (rows, total_rows) {
        (Some(rows), Some(total)) => parts.push(format!("{} of {} rows", grouped(*rows), grouped(*total))),
        (Some(rows), None) => parts.push(format!("{} rows", grouped(*rows))),
        (None, _) => {}
    }
    parts.extend(rate.map(|rate| format!("{}/s", bytes(rate))));
    let age = Duration::try_from(now.duration_since(*at)).unwrap_or_default();
    let over = total.is_some_and(|total| *done >= total);
    if age >= OLD {
        parts.push(format!("nothing new for {}", between(*at, now)));
    } else if let Some(left) = seconds_left.filter(|_| !over) {
        let since = i64::try_from(age.as_secs()).unwrap_or(0);
        parts.push(format!("{} left", about(left.saturating_sub(since).max(0))));
    }
    format!("{}: {}", clean(doing), parts.join(", "))
}

/// How far the step at work is.
pub fn of_step(step: &Step, now: Timestamp) -> Option<String> {
    let progress = step.progress.as_ref().filter(|_| step.state == StepState::Running)?;
    Some(words(progress, now))
}

/// Says now and then how far it is, where lines stay.
#[derive(Default)]
pub struct Lines {
    said: Option<Timestamp>,
}

impl Lines {
    /// How far the step at work is.
    pub fn of_run(&mut self, status: &RunStatus) -> Option<String> {
        let step = status.steps.iter().find(|s| s.state == StepState::Running)?;
        Some(format!("    {}: {}", clean(&step.name), self.of(step.progress.as_ref()?)?))
    }

    /// How far it is, if the last line about that was long enough ago.
    pub fn of(&mut self, progress: &StepProgress) -> Option<String> {
        let long_ago = |said: Timestamp| progress.at.duration_since(said) >= PAUSE.try_into().unwrap_or_default();
        if !self.said.is_none_or(long_ago) {
            return None;
        }
        self.said = Some(progress.at);
        Some(words(progress, progress.at))
    }
}

/// `1,234,567`.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds as a guess: no finer than it is good.
fn about(seconds: i64) -> String {
    match seconds {
        ..=5 => "a few seconds".into(),
        6..=60 => format!("about {} s", (seconds + 9) / 10 * 10),
        61..=3599 => format!("about {} min", (seconds + 59) / 60),
        _ => format!("about {} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn progress(more: Value) -> StepProgress {
        let mut all = json!({"doing": "restoring flags-db", "done": 0, "unit": "bytes", "at": "2026-11-25T20:00:00Z"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn what_is_known_is_said_and_what_is_not_is_left_out() {
        let lines = [
            json!({"done": 1_288_490_188_i64, "total": 3_650_722_201_i64, "rows": 1_234_567, "totalRows": 2_000_000, "rate": 125_829_120, "secondsLeft": 19}),
            json!({"done": 41_943_040, "rows": 900, "rate": 1_200}),
            json!({"total": 52_428_800, "rows": 0}),
            json!({"done": 52_428_800, "total": 52_428_800, "rows": 900, "totalRows": 900, "rate": 26_214_400, "secondsLeft": 0}),
            json!({"doing": "making indexes and constraints of flags-db"}),
            json!({"doing": "a\u{1b}[2Jb", "done": 999}),
            json!({"done": i64::MAX, "total": i64::MAX, "rate": i64::MAX, "secondsLeft": i64::MAX}),
        ];
        let at = progress(json!({})).at;
        insta::assert_snapshot!(lines.map(|l| words(&progress(l), at)).join("\n"), @r"
        restoring flags-db: 1.2 of 3.4 GiB, 1,234,567 of 2,000,000 rows, 120 MiB/s, about 20 s left
        restoring flags-db: 40.0 MiB, 900 rows, 1.2 KiB/s
        restoring flags-db: 0.0 of 50.0 MiB, 0 rows
        restoring flags-db: 50.0 of 50.0 MiB, 900 of 900 rows, 25.0 MiB/s
        making indexes and constraints of flags-db
        a\u{1b}[2Jb: 999 B
        restoring flags-db: 8.0 of 8.0 EiB, 8.0 EiB/s
        ");
    }

    #[test]
    fn what_is_left_runs_down_and_what_is_old_is_said_to_be() {
        let progress = progress(json!({"done": 10, "total": 40, "rate": 1, "secondsLeft": 75}));
        let after = |seconds| words(&progress, progress.at + Duration::from_secs(seconds));
        insta::assert_snapshot!([0, 10, 29, 30, 3700].map(after).join("\n"), @r"
        restoring flags-db: 10 of 40 B, 1 B/s, about 2 min left
        restoring flags-db: 10 of 40 B, 1 B/s, about 2 min left
        restoring flags-db: 10 of 40 B, 1 B/s, about 50 s left
        restoring flags-db: 10 of 40 B, 1 B/s, nothing new for 30s
        restoring flags-db: 10 of 40 B, 1 B/s, nothing new for 1h01m
        ");
        assert!(words(&progress, progress.at - Duration::from_secs(60)).ends_with("about 2 min left"), "a clock that is behind");
    }

    #[test]
    fn a_guess_is_no_finer_than_it_is_good() {
        let all = [0, 5, 6, 19, 60, 61, 130, 3599, 3600, 8100].map(about);
        assert_eq!(
            all,
            [
                "a few seconds",
                "a few seconds",
                "about 10 s",
                "about 20 s",
                "about 60 s",
                "about 2 min",
                "about 3 min",
                "about 60 min",
                "about 1 h 00 min",
                "about 2 h 15 min"
            ]
        );
    }

    #[test]
    fn where_lines_stay_one_comes_every_ten_seconds_at_most_whatever_the_step() {
        let status = |step: &str, second: u32, state: &str| -> RunStatus {
            let at = format!("2026-11-25T20:00:{second:02}Z");
            serde_json::from_value(json!({"steps": [
                {"name": "preflight", "state": "Succeeded"},
                {"name": step, "state": state, "progress": {"doing": "restoring flags-db", "done": second, "total": 60, "unit": "bytes", "at": at}},
            ]}))
            .unwrap()
        };
        let mut lines = Lines::default();
        let all = [
            ("backup", 0, "Running"),
            ("backup", 5, "Running"),
            ("load", 9, "Running"),
            ("load", 10, "Running"),
            ("load", 30, "Succeeded"),
        ];
        let said: Vec<String> = all.iter().filter_map(|(step, at, state)| lines.of_run(&status(step, *at, state))).collect();
        assert_eq!(said, ["    backup: restoring flags-db: 0 of 60 B", "    load: restoring flags-db: 10 of 60 B"]);
    }
}
