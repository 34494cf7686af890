//! Brings an outcome below the size of a termination message, and says what was left out.
//!
//! What the operator must have to go on (databases aside, snapshot, epoch, reason) is never cut; words for people are.

use crate::{
    api::Check,
    manifest::task::{Outcome, RESULT_LIMIT},
};

/// The outcome as JSON of at most [`RESULT_LIMIT`] bytes.
pub fn fit(outcome: &Outcome) -> String {
    let mut outcome = outcome.clone();
    if let Some(error) = &mut outcome.error {
        error.message = cut(&error.message, 1500);
    }
    let shorten: [fn(&mut Outcome); 7] = [
        |o| o.coverage.iter_mut().for_each(|c| c.unknown.truncate(8)),
        |o| o.coverage.iter_mut().for_each(|c| c.unknown.truncate(1)),
        |o| o.notes.iter_mut().for_each(|n| *n = cut(n, 300)),
        |o| o.checks.iter_mut().filter(|c| c.passed).for_each(|c| c.message = cut(&c.message, 60)),
        |o| o.checks.iter_mut().for_each(|c| c.message = cut(&c.message, 500)),
        |o| o.notes.iter_mut().for_each(|n| *n = cut(n, 120)),
        |o| o.checks.iter_mut().filter(|c| !c.passed).for_each(|c| c.message = cut(&c.message, 300)),
    ];
    let mut shorten = shorten.into_iter();
    loop {
        let json = json(&outcome);
        if json.len() <= RESULT_LIMIT {
            return json;
        }
        match shorten.next() {
            Some(step) => step(&mut outcome),
            None => return drop_some(outcome),
        }
    }
}

fn drop_some(whole: Outcome) -> String {
    let mut outcome = whole.clone();
    // Passed checks go first, then notes, then failed checks from the end, then the words of the error.
    let (passed, failed): (Vec<Check>, Vec<Check>) = whole.checks.into_iter().partition(|c| c.passed);
    let (mut keep_passed, mut keep_notes, mut keep_failed) = (passed.len(), whole.notes.len(), failed.len());
    loop {
        outcome.checks = failed[..keep_failed].to_vec();
        outcome.checks.extend(rest(failed.len() - keep_failed, false));
        outcome.checks.extend_from_slice(&passed[..keep_passed]);
        outcome.checks.extend(rest(passed.len() - keep_passed, true));
        outcome.notes = whole.notes[..keep_notes].to_vec();
        if keep_notes < whole.notes.len() {
            outcome.notes.push(format!("… and {} more", whole.notes.len() - keep_notes));
        }
        let json = json(&outcome);
        if json.len() <= RESULT_LIMIT {
            return json;
        }
        if keep_passed > 0 {
            keep_passed -= 1;
        } else if keep_notes > 0 {
            keep_notes -= 1;
        } else if keep_failed > 0 {
            keep_failed -= 1;
        } else {
            match &mut outcome.error {
                Some(error) if error.message.len() > 200 => error.message = cut(&error.message, 200),
                _ => return json,
            }
        }
    }
}

fn rest(count: usize, passed: bool) -> Option<Check> {
    let word = if passed { "passed" } else { "failed" };
    (count > 0).then(|| Check {
        name: "others".into(),
        passed,
        message: format!("… and {count} more {word}; see the log of the Job"),
    })
}

fn json(outcome: &Outcome) -> String {
    serde_json::to_string(outcome).unwrap_or_else(|_| "{}".into())
}

/// The first few of a list, and how many more there are.
pub fn named(mut list: Vec<String>, most: usize) -> Vec<String> {
    let more = list.len().saturating_sub(most);
    list.truncate(most);
    if more > 0 {
        list.push(format!("… and {more} more"));
    }
    list
}

/// At most `limit` bytes, with an ellipsis where something is missing.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::task::{Aside, OutcomeError};

    #[test]
    fn an_outcome_fits_and_says_what_is_missing_and_keeps_what_the_operator_needs() {
        let check = |n: usize, passed| Check { name: format!("check {n}"), passed, message: "ä\"".repeat(500) };
        let aside = |n: usize| Aside {
            data: format!("data-{n}"),
            database: format!("{}{n}", "x".repeat(60)),
            snapshot: None,
            method: "Clone".into(),
        };
        let outcome = Outcome {
            error: Some(OutcomeError { reason: "X".into(), message: "m".repeat(9000) }),
            checks: (0..60).map(|n| check(n, n % 2 == 0)).collect(),
            notes: vec!["n".repeat(900); 40],
            aside: (0..16).map(aside).collect(),
            ..Outcome::default()
        };
        let json = fit(&outcome);
        assert!(json.len() <= RESULT_LIMIT, "{}", json.len());
        let read: Outcome = serde_json::from_str(&json).unwrap();
        assert_eq!(read.aside, outcome.aside);
        assert!(read.error.unwrap().message.ends_with('…'));
        assert!(json.contains("more failed") && json.contains("more passed"), "{json}");
    }

    #[test]
    fn a_failed_check_outlasts_a_passed_one() {
        let mut checks: Vec<Check> =
            (0..200).map(|n| Check { name: format!("passed {n}"), passed: true, message: String::new() }).collect();
        checks.push(Check { name: "the one".into(), passed: false, message: "ALTER ROLE adm CREATEDB".into() });
        let read: Outcome = serde_json::from_str(&fit(&Outcome { checks, ..Outcome::default() })).unwrap();
        assert!(read.checks.iter().any(|c| c.name == "the one" && c.message == "ALTER ROLE adm CREATEDB"));
        assert!(read.checks.iter().any(|c| c.message.starts_with("… and ")));
    }
}
