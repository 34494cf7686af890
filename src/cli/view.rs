//! How a run is shown while it is watched: a screen that is drawn anew, or a line for each change. Pure.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    progress, show,
    text::{between, clean, clean_lines, indent, instant},
};
use crate::{
    api::{
        Phase, PromotionStatus,
        promotion::{Step, StepState},
    },
    plan::world::Run,
};

/// The screen, top to bottom.
pub fn screen(run: Run<'_>, now: Timestamp) -> String {
    let (namespace, name) = (run.namespace(), run.name());
    let status = run.status().cloned().unwrap_or_default();
    let mut lines = vec![format!("{namespace}/{name}  {}{}", status.phase, lock(&status, now))];
    if let Some(approvals) = status.approvals.as_ref().filter(|_| status.phase.is_before_start()) {
        lines.push(format!("  approvals {}", clean(&approvals.summary)));
    }
    lines.extend(steps(&status, now).lines().map(|l| format!("  {l}")));
    if let Some(why) = show::waiting_for(&status).filter(|_| !status.phase.is_terminal()) {
        lines.push(format!("  next: {why}"));
    }
    lines.join("\n")
}

/// The steps, one a line, but for those that were not needed. Below the one at work, how far it is.
pub fn steps(status: &PromotionStatus, now: Timestamp) -> String {
    let shown = status.steps.iter().filter(|s| s.state != StepState::Skipped);
    let told = |s| [Some(step(s, now)), progress::of_step(s, now).map(|words| format!("    {words}"))];
    shown.flat_map(told).flatten().collect::<Vec<_>>().join("\n")
}

/// One step: mark, name, how long, and what was said of it.
fn step(step: &Step, now: Timestamp) -> String {
    let mark = match step.state {
        StepState::Pending => "·",
        StepState::Running => "▸",
        StepState::Succeeded => "✔",
        StepState::Failed => "✘",
        StepState::Skipped => "-",
    };
    let mut text = format!("{mark} {}", clean(&step.name));
    if let Some(started) = step.started_at {
        text += &format!("  {}", between(started, step.finished_at.unwrap_or(now)));
    }
    if step.attempt > 0 {
        text += &format!("  attempt {}", step.attempt + 1);
    }
    if let Some(message) = step.message.as_deref().filter(|m| !m.is_empty()) {
        text += &format!("  {}", clean(message));
    }
    text
}

/// Since when, or for how long, users are or were locked out.
fn lock(status: &PromotionStatus, now: Timestamp) -> String {
    match (status.locked_at, status.unlocked_at) {
        (Some(locked), None) => format!("  users locked out for {}", between(locked, now)),
        (Some(locked), Some(unlocked)) => format!("  users were locked out for {}", between(locked, unlocked)),
        (None, _) => String::new(),
    }
}

/// What is new since the status that was shown before: a line for each change, in the order in which things happen.
pub fn news(before: &PromotionStatus, after: &PromotionStatus, first: bool, zone: &TimeZone) -> Vec<String> {
    let mut lines = Vec::new();
    let moved: Vec<&Step> =
        after.steps.iter().enumerate().filter(|(i, s)| has_moved(&before.steps, *i, s)).map(|(_, s)| s).collect();
    let (begun, ended): (Vec<&Step>, Vec<&Step>) = moved.into_iter().partition(|s| s.state == StepState::Running);
    for now in ended {
        lines.push(format!("  {}", step(now, now.finished_at.or(now.started_at).unwrap_or_default())));
    }
    if before.locked_at != after.locked_at && after.locked_at.is_some() {
        lines.push("users are locked out".into());
    }
    if let (Some(locked), Some(unlocked)) = (after.locked_at, after.unlocked_at)
        && before.unlocked_at != after.unlocked_at
    {
        lines.push(format!("users are back, after {}", between(locked, unlocked)));
    }
    if first || before.phase != after.phase {
        lines.push(after.phase.to_string());
    }
    lines.extend(begun.iter().map(|s| format!("  ▸ {}{}", clean(&s.name), if s.attempt > 0 { ", again" } else { "" })));
    let summary = |s: &PromotionStatus| s.approvals.as_ref().map(|a| (a.summary.clone(), a.void.clone()));
    if summary(before) != summary(after) && after.phase.is_before_start() {
        lines.push(format!("approvals: {}", indent(&show::approvals(after), 2).trim_start()));
    }
    if before.failure != after.failure
        && let Some(text) = failure(after)
    {
        lines.push(text);
    }
    for undo in after.undo.iter().filter(|u| !before.undo.contains(u)) {
        let until = undo.until.map(|t| format!(" until {}", instant(t, zone))).unwrap_or_default();
        let what = match &undo.snapshot {
            Some(snapshot) => format!("snapshot {}", clean(snapshot)),
            None => format!("database {}", clean(&undo.database)),
        };
        lines.push(format!("kept aside: {what} of {} ({}){until}", clean(&undo.data), clean(&undo.method)));
    }
    let (was, is) = (show::waiting_for(before), show::waiting_for(after));
    if let Some(why) = is.filter(|is| was.as_ref() != Some(is) && !after.phase.is_terminal()) {
        lines.push(format!("next: {why}"));
    }
    lines
}

/// Whether a step differs from what was shown, in a way that is worth a line. What is skipped is not: after a failure that is
/// all the rest. A rollback adds steps, so a step is found by its place
/// and name, or else by its name.
fn has_moved(before: &[Step], index: usize, now: &Step) -> bool {
    let was = before.get(index).filter(|s| s.name == now.name).or_else(|| before.iter().find(|s| s.name == now.name));
    let (state, attempt) = was.map_or((StepState::Pending, 0), |s| (s.state, s.attempt));
    !matches!(now.state, StepState::Pending | StepState::Skipped) && (state, attempt) != (now.state, now.attempt)
}

/// The first cause of a failure.
fn failure(status: &PromotionStatus) -> Option<String> {
    let failure = status.failure.as_ref()?;
    let message = indent(&clean_lines(&failure.message), 2);
    Some(format!("✘ failed at {}: {}: {}", clean(&failure.step), clean(&failure.reason), message.trim_start()))
}

/// The last words on a run that has ended or needs a person.
pub fn summary(run: Run<'_>, zone: &TimeZone) -> String {
    let (name, status) = (run.name(), &run.status().cloned().unwrap_or_default());
    let mut lines = vec![format!("{name} {}: {}.", status.phase, show::ending(run, status.phase))];
    if let (Some(locked), Some(unlocked)) = (status.locked_at, status.unlocked_at) {
        lines.push(format!("Users were locked out for {}.", between(locked, unlocked)));
    }
    lines.extend(failure(status));
    if let Some(why) = show::waiting_for(status).filter(|_| status.phase == Phase::NeedsHuman) {
        lines.push(why);
    }
    if let Some(cancel) = run.cancel() {
        lines.push(format!("Cancelled by {}: {}", clean(&cancel.username), clean(&cancel.reason)));
    }
    if let Some((masked, hash)) = status.snapshot.as_ref().and_then(|s| Some((s, s.masking_policy_hash.as_ref()?))) {
        lines.push(format!("Masked: {} rows, by the policy with hash {hash}", masked.rows.unwrap_or_default()));
    }
    if let Some(backup) = &status.backup {
        lines.push(format!("Backup: {}", clean(&backup.name)));
    }
    for undo in &status.undo {
        let until = undo.until.map(|t| format!(" until {}", instant(t, zone))).unwrap_or_default();
        lines.push(match &undo.snapshot {
            Some(snapshot) => format!("Kept aside: snapshot {} of {}{until}", clean(snapshot), clean(&undo.data)),
            None => format!("Kept aside: database {} of {}{until}", clean(&undo.database), clean(&undo.data)),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Promotion;

    fn at(second: u32) -> String {
        format!("2026-11-25T20:00:{second:02}.000Z")
    }

    fn promotion(status: Value) -> Promotion {
        serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion",
            "metadata": {"name": "r-12", "namespace": "shop"},
            "spec": {"environment": {"name": "p"}, "from": {"namespace": "s", "name": "s"}, "requestedBy": {"username": "alice"}},
            "status": status,
        }))
        .unwrap()
    }

    /// A run whose migration fails, as its statuses come one after the other.
    fn story() -> Vec<Promotion> {
        let done =
            |name: &str, from, to| json!({"name": name, "state": "Succeeded", "startedAt": at(from), "finishedAt": at(to)});
        let failed = json!({"name": "migration/flags", "state": "Failed", "startedAt": at(9), "finishedAt": at(11), "message": "exit code 1"});
        let failure =
            json!({"step": "migration/flags", "reason": "MigrationFailed", "message": "Job ended with 1:\nno such column"});
        let backing_up = json!({"doing": "backing up flags-db", "done": 41_943_040, "total": 104_857_600, "unit": "bytes",
            "rows": 12_000, "totalRows": 30_000, "rate": 5_242_880, "secondsLeft": 12, "at": at(9)});
        [
            json!({"phase": "Scheduled", "approvals": {"required": 1, "summary": "0/1"}, "next": "waits for 1 approval",
                   "steps": [{"name": "backup"}, {"name": "migration/flags"}]}),
            json!({"phase": "BackingUp", "approvals": {"required": 1, "given": ["bob"], "summary": "1/1"},
                   "steps": [{"name": "backup", "state": "Running", "startedAt": at(1), "progress": backing_up}, {"name": "migration/flags"}]}),
            json!({"phase": "Promoting", "lockedAt": at(5),
                   "steps": [done("backup", 1, 4), {"name": "migration/flags", "state": "Running", "startedAt": at(9)}]}),
            json!({"phase": "RollingBack", "lockedAt": at(5), "steps": [done("backup", 1, 4), failed], "failure": failure}),
            json!({"phase": "RolledBack", "lockedAt": at(5), "unlockedAt": at(15), "backup": {"name": "r-12"},
                   "steps": [done("backup", 1, 4), failed, {"name": "workloads/flags", "state": "Skipped"}, done("rollback-data", 11, 12)], "failure": failure,
                   "undo": [{"data": "flags-db", "method": "Clone", "database": "flags__failed_1", "until": "2026-11-26T20:00:15Z"}]}),
        ]
        .into_iter()
        .map(promotion)
        .collect()
    }

    #[test]
    fn each_change_is_a_line_and_nothing_is_said_twice() {
        let mut before = PromotionStatus::default();
        let mut lines = Vec::new();
        for (index, promotion) in story().into_iter().enumerate() {
            let status = promotion.status.unwrap();
            lines.extend(news(&before, &status, index == 0, &TimeZone::UTC));
            assert_eq!(news(&status, &status, false, &TimeZone::UTC), Vec::<String>::new());
            before = status;
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        Scheduled
        approvals: 0 of 1 needed: none
        next: waits for 1 approval
        BackingUp
          ▸ backup
          ✔ backup  3.0s
        users are locked out
        Promoting
          ▸ migration/flags
          ✘ migration/flags  2.0s  exit code 1
        RollingBack
        ✘ failed at migration/flags: MigrationFailed: Job ended with 1:
          no such column
          ✔ rollback-data  1.0s
        users are back, after 10s
        RolledBack
        kept aside: database flags__failed_1 of flags-db (Clone) until Thu 2026-11-26 20:00:15 UTC
        ");
    }

    #[test]
    fn the_screen_shows_steps_with_how_long_they_took_or_take() {
        let now = at(10).parse().unwrap();
        insta::assert_snapshot!(story().iter().map(|p| screen(Run::Promotion(p), now)).collect::<Vec<_>>().join("\n\n"), @r"
        shop/r-12  Scheduled
          approvals 0/1
          · backup
          · migration/flags
          next: waits for 1 approval

        shop/r-12  BackingUp
          ▸ backup  9.0s
              backing up flags-db: 40.0 of 100 MiB, 12,000 of 30,000 rows, 5.0 MiB/s, about 20 s left
          · migration/flags

        shop/r-12  Promoting  users locked out for 5.0s
          ✔ backup  3.0s
          ▸ migration/flags  1.0s

        shop/r-12  RollingBack  users locked out for 5.0s
          ✔ backup  3.0s
          ✘ migration/flags  2.0s  exit code 1

        shop/r-12  RolledBack  users were locked out for 10s
          ✔ backup  3.0s
          ✘ migration/flags  2.0s  exit code 1
          ✔ rollback-data  1.0s
        ");
    }

    #[test]
    fn the_last_words_say_what_became_of_it_and_what_is_kept() {
        insta::assert_snapshot!(summary(Run::Promotion(story().last().unwrap()), &TimeZone::UTC), @r"
        r-12 RolledBack: the environment is what it was before.
        Users were locked out for 10s.
        ✘ failed at migration/flags: MigrationFailed: Job ended with 1:
          no such column
        Backup: r-12
        Kept aside: database flags__failed_1 of flags-db until Thu 2026-11-26 20:00:15 UTC
        ");
    }
}
