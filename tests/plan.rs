//! The plan: random walks over what may be seen, and tables of what is decided.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "plan/alignments.rs"]
mod alignments;
#[path = "plan/bad_input.rs"]
mod bad_input;
#[path = "support/bad_input.rs"]
mod bad_input_entries;
#[path = "plan/fixture.rs"]
mod fixture;
#[path = "plan/marks.rs"]
mod marks;
#[path = "plan/masking.rs"]
mod masking;
#[path = "simulation/merge.rs"]
mod merge;
#[path = "plan/own_role.rs"]
mod own_role;
#[path = "plan/places.rs"]
mod places;
#[path = "plan/progress.rs"]
mod progress;
#[path = "plan/records.rs"]
mod records;
#[path = "plan/restores.rs"]
mod restores;
#[path = "plan/tables.rs"]
mod tables;
#[path = "plan/volumes.rs"]
mod volumes;
#[path = "plan/walk.rs"]
mod walk;
#[path = "plan/workloads.rs"]
mod workloads;

use fixture::Seen;
use lockkeeper::api::Phase;
use proptest::prelude::*;
use walk::{Change, change, settle};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_seen_the_plan_keeps_order_and_says_what_it_waits_for(changes in prop::collection::vec(change(), 5..70)) {
        let mut seen = Seen::new();
        settle(&mut seen)?;
        for change in changes {
            change.happen(&mut seen);
            settle(&mut seen)?;
        }
    }

    #[test]
    fn once_things_go_well_again_each_run_ends(changes in prop::collection::vec(change(), 0..40)) {
        let mut seen = Seen::new();
        settle(&mut seen)?;
        for change in changes.into_iter().filter(|c| !matches!(c, Change::CopiesAreGone | Change::Terminating)) {
            // A lock given to another is his to give back; that takes a person, and so would no end.
            if matches!(change, Change::Ahead(true) | Change::Modify("bob") | Change::LockOf(_) | Change::SlotOf(_) | Change::Environment(_)) {
                continue;
            }
            change.happen(&mut seen);
            settle(&mut seen)?;
        }
        for calm in [Change::Policies(true), Change::Refused(false), Change::Source(true), Change::MayPromote(true)] {
            calm.happen(&mut seen);
        }
        for _ in 0..120 {
            if seen.status().phase.is_terminal() {
                return Ok(());
            }
            Change::Approve { who: "bob", today: true }.happen(&mut seen);
            Change::Seconds(90).happen(&mut seen);
            Change::Good.happen(&mut seen);
            settle(&mut seen)?;
        }
        let status = seen.status();
        // What was captured while the source changed is stuck by design: it says so, and another Promotion is to be made.
        prop_assert!(status.phase == Phase::Scheduled, "{:?} {:?} {:?}", status.phase, status.step, status.next);
    }
}

#[test]
fn a_good_walk_comes_to_the_end() {
    let mut seen = Seen::new();
    for _ in 0..60 {
        settle(&mut seen).unwrap();
        Change::Approve { who: "bob", today: true }.happen(&mut seen);
        Change::Good.happen(&mut seen);
    }
    assert_eq!(seen.status().phase, Phase::Completed, "{:#?}", seen.status());
}
