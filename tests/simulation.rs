//! The real controllers under the real plan, in a simulated cluster: API server, workload controllers, database, people.
//! Invariants are checked at every write. Each scenario is run undisturbed once; then again for each of its writes, with a
//! fault at that write, and must end the same.
//!
//! Seeded bugs, each tried by hand, and a test that goes red (most turn all of them red, which share the good run):
//!
//! | bug | red |
//! | --- | --- |
//! | the lock is not taken | `a_good_release_comes_in_whatever_breaks` (S3) |
//! | the proof is skipped | `a_good_release_comes_in_whatever_breaks` (S3: proven before the lock) |
//! | the undo point before the fence | `a_good_release_comes_in_whatever_breaks` (S3) |
//! | unlock by another run | `tables::slot_and_lock_are_taken_where_they_are_free_and_given_back_by_their_holder` in `plan` |
//! | rollback forgets configuration | `a_migration_that_fails_half_way_is_undone_whatever_breaks` (S5) |
//! | the page is not removed | `a_good_release_comes_in_whatever_breaks`: it never ends |
//! | the number of pods is forgotten | `a_good_release_comes_in_whatever_breaks` (S5) |
//! | the epoch of the data is ignored | `a_good_release_comes_in_whatever_breaks` (S1) |
//! | no second look before an object is made | `a_leader_that_was_held_up_changes_nothing` |
//! | earlier workloads before the database is open | `a_cancel_or_a_deletion_at_each_step_ends_as_planned_or_as_before` |
//! | a lost lock is not noticed | `a_run_whose_lock_was_taken_away_changes_nothing_until_it_has_it_back` |
//! | integrations are not resumed | `a_good_release_comes_in_whatever_breaks` (S4, S5) |
//! | a CronJob is started with the other workloads | `a_migration_that_fails_half_way_is_undone_whatever_breaks` (S3) |
//! | foreign hands are not looked for | `foreign_hands_that_never_rest_end_in_a_rollback_that_names_them` |
//! | a deleted migration is made again | `a_migration_whose_job_was_deleted_is_never_run_again` (S10) |

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "simulation/actors.rs"]
mod actors;
#[path = "simulation/alignments.rs"]
mod alignments;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/data.rs"]
mod data;
#[path = "simulation/driver.rs"]
mod driver;
#[path = "simulation/fixture.rs"]
mod fixture;
#[path = "simulation/invariants.rs"]
mod invariants;
#[path = "simulation/merge.rs"]
mod merge;
#[path = "simulation/people.rs"]
mod people;
#[path = "simulation/server.rs"]
mod server;

use std::{collections::HashSet, sync::LazyLock};

use driver::{Ending, Simulation, State, Step};
use people::{Deed, Image, Script};
use server::Fault;

/// The undisturbed run of a scenario.
struct Trace {
    /// Before each turn that writes.
    before: Vec<State>,
    /// All states that it passes through. The operator keeps nothing between turns, so who comes to one of these goes on as
    /// the undisturbed run did from there.
    visited: HashSet<String>,
    ending: Ending,
    /// The end itself.
    last: State,
}

/// A good release, from the request to the end.
static GOOD: LazyLock<Trace> = LazyLock::new(|| Trace::of(Simulation::new(Script::default())));

impl Trace {
    fn of(mut simulation: Simulation) -> Self {
        let (mut before, mut visited) = (Vec::new(), HashSet::new());
        for steps in 0.. {
            let state = simulation.state.clone();
            assert!(steps < 2000, "it goes round in circles: {}", simulation.describe());
            match simulation.step(Fault::None) {
                Step::Turn(0) | Step::Move => {}
                Step::Turn(_) => before.push(state),
                Step::End => break,
                Step::Stuck => panic!("it waits for what never comes: {}", simulation.describe()),
            }
            visited.insert(simulation.state.cluster.canonical());
        }
        assert!(simulation.errors.is_empty(), "{:?}", simulation.errors);
        let ending = Ending::of(&simulation.state.cluster);
        Self { before, visited, ending, last: simulation.state }
    }

    /// Goes on until the ending is known: it is there, or a state is reached that the undisturbed run passed through.
    fn ends_the_same(&self, simulation: &mut Simulation, what: &str) {
        for _ in 0..600 {
            if self.visited.contains(&simulation.state.cluster.canonical()) {
                return;
            }
            match simulation.step(Fault::None) {
                Step::End => {
                    assert_eq!(Ending::of(&simulation.state.cluster), self.ending, "{what}: {}", simulation.describe());
                    return;
                }
                Step::Stuck => panic!("{what}: it waits for what never comes: {}", simulation.describe()),
                Step::Turn(_) | Step::Move => {}
            }
        }
        panic!("{what}: it goes round in circles: {}", simulation.describe());
    }

    /// A fault at each write of the run; killed or not, away or not, the end is the same.
    fn withstands_faults_at_every_write(&self) {
        for (k, state) in self.before.iter().enumerate() {
            for fault in [Fault::ReplyLost, Fault::SentTwice] {
                let mut simulation = Simulation::from(state.clone());
                simulation.step(fault);
                self.ends_the_same(&mut simulation, &format!("write {k}, {fault:?}"));
            }
            if k % 5 == 0 {
                let mut simulation = Simulation::from(state.clone());
                simulation.step(Fault::ReplyLost);
                simulation.away(20);
                simulation.crash();
                self.ends_the_same(&mut simulation, &format!("write {k}, killed and away for 20 s"));
            }
        }
        // One of them to its very end, without the short cut.
        let mut simulation = Simulation::from(self.before[self.before.len() / 2].clone());
        simulation.step(Fault::ReplyLost);
        simulation.away(3);
        simulation.crash();
        assert_eq!(simulation.finish(), self.ending, "{}", simulation.describe());
    }

    /// A leader that was held up acts on what it saw then.
    fn withstands_a_stale_leader(&self, lag: usize) {
        for (k, old) in self.before.iter().enumerate() {
            let live = self.before.get(k + lag).unwrap_or(&self.last);
            let Some((kind, name)) = Simulation::from(old.clone()).subject() else { continue };
            let mut simulation = Simulation::from(live.clone());
            let _ = simulation.turn(kind, &name, Fault::None, Some(old.cluster.clone()));
            self.ends_the_same(&mut simulation, &format!("a leader that saw write {k} acts {lag} writes later"));
        }
    }
}

/// A scenario, from where it parts from the good one: when the run comes to that step.
fn scenario((phase, reason): (&str, &str), at: &str, script: Script) -> Trace {
    let mut state = at_step(at).clone();
    state.cluster.script = script;
    let trace = Trace::of(Simulation::from(state));
    let Ending { run, lock, slot, left_over, lost, .. } = &trace.ending;
    match run {
        Some((ended, failed_of, _)) => assert_eq!((ended.as_str(), failed_of.as_str()), (phase, reason), "{:#?}", trace.ending),
        None => assert_eq!(phase, "gone"),
    }
    assert_eq!((lock.as_str(), slot.as_str()), ("null", "null"));
    assert!(left_over.is_empty() && lost.is_empty(), "{:#?}", trace.ending);
    trace
}

/// The good run when it comes to a step; empty: at its start.
fn at_step(step: &str) -> &'static State {
    let is = |s: &&State| {
        let run = s.cluster.get("promotions", fixture::NAMESPACE, fixture::RUN).expect("the run is there");
        cluster::text(run, "/status/step").starts_with(step)
    };
    GOOD.before.iter().find(is).expect("the good run comes to each step")
}

#[test]
fn a_good_release_comes_in_whatever_breaks() {
    let Ending { run, rows, kept, lost, left_over, .. } = &GOOD.ending;
    assert_eq!(run.as_ref().map(|r| r.0.as_str()), Some("Completed"), "{:#?}", GOOD.ending);
    assert_eq!(rows[data::LIVE], ["schema-1", "feature-a", "migrated-first-half", "migrated-second-half"]);
    assert_eq!(*kept, ["flags__undo"], "the undo point is kept, and the Environment knows of it");
    assert!(lost.is_empty() && left_over.is_empty(), "{:#?}", GOOD.ending);
    GOOD.withstands_faults_at_every_write();
}

#[test]
fn a_leader_that_was_held_up_changes_nothing() {
    for lag in [1, 9, 1000] {
        GOOD.withstands_a_stale_leader(lag);
    }
}

#[test]
fn a_migration_that_fails_half_way_is_undone_whatever_breaks() {
    let script = Script { migration_fails: true, ..Script::default() };
    let trace = scenario(("RolledBack", "MigrationFailed"), "undo", script);
    assert_eq!(trace.ending.rows[data::LIVE], ["schema-1", "feature-a"]);
    assert_eq!(trace.ending.rows["flags__failed"], ["schema-1", "feature-a", "migrated-first-half"]);
    assert_eq!(trace.ending.kept, ["flags__failed"]);
    trace.withstands_faults_at_every_write();
    trace.withstands_a_stale_leader(3);
}

#[test]
fn an_undo_point_that_cannot_be_read_back_ends_the_run_by_itself_whatever_breaks() {
    let trace = scenario(("RolledBack", "UndoPointUnsound"), "stop", Script { undo_fails: true, ..Script::default() });
    assert_eq!(trace.ending.rows[data::LIVE], ["schema-1", "feature-a"]);
    assert!(trace.ending.rows.len() == 1 && trace.ending.kept.is_empty(), "nothing is aside: {:#?}", trace.ending);
    trace.withstands_faults_at_every_write();
}

#[test]
fn an_image_that_crashes_is_undone_whatever_breaks() {
    let script = Script { image: Image::Crashes, ..Script::default() };
    scenario(("RolledBack", "RolloutFailed"), "migration", script).withstands_faults_at_every_write();
}

#[test]
fn an_image_that_never_becomes_ready_is_undone() {
    scenario(("RolledBack", "RolloutFailed"), "migration", Script { image: Image::NeverReady, ..Script::default() });
}

#[test]
fn a_release_that_fails_its_checks_is_undone_whatever_breaks() {
    let script = Script { check_fails: true, ..Script::default() };
    scenario(("RolledBack", "VerificationFailed"), "verify", script).withstands_faults_at_every_write();
}

#[test]
fn a_failed_backup_ends_the_run_before_anyone_is_locked_out() {
    let script = Script { backup_fails: true, ..Script::default() };
    scenario(("Failed", "BackupFailed"), "backup", script).withstands_faults_at_every_write();
}

#[test]
fn a_cancel_before_the_start_just_ends_it() {
    let script = Script { deed: Deed::Cancel, at_step: "unapproved", ..Script::default() };
    scenario(("Cancelled", "Cancelled"), "", script).withstands_faults_at_every_write();
}

#[test]
fn a_cancel_while_promoting_puts_everything_back_whatever_breaks() {
    let script = Script { deed: Deed::Cancel, at_step: "workloads/flags", ..Script::default() };
    scenario(("RolledBack", "Cancelled"), "migration", script).withstands_faults_at_every_write();
}

#[test]
fn a_deletion_while_locked_puts_everything_back_and_leaves_nothing_whatever_breaks() {
    let script = Script { deed: Deed::Delete, at_step: "fence", ..Script::default() };
    scenario(("gone", ""), "stop", script).withstands_faults_at_every_write();
}

#[test]
fn a_cancel_or_a_deletion_at_each_step_ends_as_planned_or_as_before() {
    let steps = [
        ("preflight", "Cancelled"),
        ("backup", "Cancelled"),
        ("page", "Cancelled"),
        ("lock", "RolledBack"),
        ("record", "RolledBack"),
        ("pause", "RolledBack"),
        ("close", "RolledBack"),
        ("stop", "RolledBack"),
        ("fence", "RolledBack"),
        // Not at `undo`: the fence's pod makes the undo points too, so the run does not rest there.
        ("configuration/edge", "RolledBack"),
        ("migration/flags", "RolledBack"),
        ("admit", "RolledBack"),
        ("workloads/edge", "RolledBack"),
        ("others", "RolledBack"),
        ("verify/login", "RolledBack"),
        // What users write from here on may not be undone.
        ("release-data", "Completed"),
        ("open", "Completed"),
        ("resume", "Completed"),
        ("tidy", "Completed"),
    ];
    for (i, (step, phase)) in steps.into_iter().enumerate() {
        let reason = if phase == "Completed" { "" } else { "Cancelled" };
        let deed = if i % 2 == 0 { Deed::Cancel } else { Deed::Delete };
        let phase = if deed == Deed::Delete { "gone" } else { phase };
        let trace = scenario((phase, reason), step, Script { deed, at_step: step, ..Script::default() });
        assert!(trace.last.cluster.script.acted, "{step}");
    }
}

#[test]
fn a_migration_whose_job_was_deleted_is_never_run_again() {
    let script = Script { deed: Deed::DeleteJob, at_step: "migration/flags", ..Script::default() };
    let trace = scenario(("RolledBack", "MigrationFailed"), "undo", script);
    assert_eq!(trace.last.cluster.data.migrations, 1);
    // Not with the operator away meanwhile: that the Job was ever there is then nowhere written.
}

#[test]
fn a_run_whose_lock_was_taken_away_changes_nothing_until_it_has_it_back() {
    let mut state = at_step("migration").clone();
    state.cluster.script = Script { deed: Deed::TakeLock, at_step: "migration/flags", ..Script::default() };
    let mut simulation = Simulation::from(state);
    while simulation.step(Fault::None) != Step::Stuck {}
    assert!(simulation.describe().contains("was taken from this run"), "{}", simulation.describe());
    let environment = cluster::key("environments", fixture::NAMESPACE, "production");
    let holder = GOOD.before.iter().rev().find_map(|s| {
        let holder = s.cluster.objects[&environment]["status"]["lock"]["holder"].clone();
        holder.is_object().then_some(holder)
    });
    simulation.state.cluster.edit(&environment, |o| o["status"]["lock"]["holder"] = holder.unwrap());
    assert_eq!(simulation.finish(), GOOD.ending, "{}", simulation.describe());
}

/// A restore in the environment as the good promotion left it.
fn restored(from: serde_json::Value, (phase, reason): (&str, &str), script: Script) -> Trace {
    let mut state = GOOD.last.clone();
    fixture::restore(&mut state.cluster, from, script);
    let trace = Trace::of(Simulation::from(state));
    let Ending { run, lock, slot, left_over, .. } = &trace.ending;
    let run = run.as_ref().map(|r| (r.0.as_str(), r.1.as_str()));
    assert_eq!(run, (phase != "gone").then_some((phase, reason)), "{:#?}", trace.ending);
    assert_eq!((lock.as_str(), slot.as_str()), ("null", "null"));
    assert!(left_over.is_empty(), "{:#?}", trace.ending);
    trace
}

fn undo() -> serde_json::Value {
    serde_json::json!({"undoOf": {"kind": "Promotion", "name": fixture::RUN}})
}

#[test]
fn a_completed_promotion_is_undone_with_release_and_data_whatever_breaks() {
    let trace = restored(undo(), ("Completed", ""), Script::default());
    assert_eq!(trace.ending.rows[data::LIVE], ["schema-1", "feature-a"]);
    assert_eq!(trace.ending.kept, ["flags__today"], "what the promotion had made is kept aside, one database at most");
    let written = |name: &str| trace.last.cluster.data.databases[name].rows.iter().filter(|r| r.starts_with("user-")).count();
    assert!(written("flags__today") > written(data::LIVE), "what users wrote since is lost from the live one, and kept");
    trace.withstands_faults_at_every_write();
    trace.withstands_a_stale_leader(3);
}

#[test]
fn a_backup_goes_back_without_touching_the_release_whatever_breaks() {
    let name = GOOD.last.cluster.names("environmentbackups", fixture::NAMESPACE).remove(0);
    let trace = restored(serde_json::json!({"backup": {"name": name}}), ("Completed", ""), Script::default());
    assert_eq!(trace.ending.rows[data::LIVE], ["schema-1", "feature-a"]);
    assert_eq!(trace.ending.workloads, GOOD.ending.workloads, "images and numbers of pods are as they were");
    assert_eq!(trace.ending.configuration, GOOD.ending.configuration);
    trace.withstands_faults_at_every_write();
}

#[test]
fn a_restore_that_fails_its_checks_brings_todays_data_back_whatever_breaks() {
    let trace = restored(undo(), ("RolledBack", "VerificationFailed"), Script { check_fails: true, ..Script::default() });
    assert_eq!(trace.ending.rows[data::LIVE], GOOD.ending.rows[data::LIVE]);
    assert!(trace.ending.lost.is_empty(), "{:#?}", trace.ending);
    assert_eq!((&trace.ending.workloads, &trace.ending.configuration), (&GOOD.ending.workloads, &GOOD.ending.configuration));
    trace.withstands_faults_at_every_write();
}

#[test]
fn a_restore_that_is_called_off_at_any_step_changes_nothing_or_ends() {
    let steps = [
        ("unapproved", "Cancelled"),
        ("preflight", "Cancelled"),
        ("page", "Cancelled"),
        ("stop", "RolledBack"),
        ("fence", "RolledBack"),
        ("load", "RolledBack"),
        ("workloads/edge", "RolledBack"),
        ("verify/login", "RolledBack"),
        ("release-data", "Completed"),
    ];
    for (i, (step, phase)) in steps.into_iter().enumerate() {
        let deed = if i % 2 == 0 { Deed::Cancel } else { Deed::Delete };
        let reason = if phase == "Completed" { "" } else { "Cancelled" };
        let phase = if deed == Deed::Delete { "gone" } else { phase };
        let trace = restored(undo(), (phase, reason), Script { deed, at_step: step, ..Script::default() });
        assert!(trace.last.cluster.script.acted, "{step}");
    }
}

#[test]
fn foreign_hands_are_put_right_and_counted() {
    for step in ["close", "migration", "workloads/flags", "verify/login"] {
        let trace = scenario(("Completed", ""), step, Script { foreign: 3, ..Script::default() });
        let run = trace.last.cluster.get("promotions", fixture::NAMESPACE, fixture::RUN).unwrap();
        let reverts = run["status"]["reverts"].as_array().cloned().unwrap_or_default();
        let of = |kind: &str| reverts.iter().find(|r| r["kind"] == kind).cloned().unwrap_or_default();
        assert_eq!(of("Service")["times"], 3, "{step}: {reverts:?}");
        assert!(of("Deployment")["times"].as_i64().is_some_and(|t| t > 0), "{step}: {reverts:?}");
        assert!(step != "verify/login" || of("ConfigMap")["times"].is_i64(), "{step}: {reverts:?}");
        assert!(reverts.iter().all(|r| r["manager"] == "the manager shop-sync"), "{reverts:?}");
        assert_eq!(trace.ending.services, GOOD.ending.services);
    }
    let script = Script { foreign: 3, ..Script::default() };
    scenario(("Completed", ""), "fence", script).withstands_faults_at_every_write();
}

#[test]
fn foreign_hands_that_never_rest_end_in_a_rollback_that_names_them() {
    for step in ["close", "fence", "workloads/flags", "verify/login"] {
        let trace = scenario(("RolledBack", "ForeignHands"), step, Script { foreign: 10_000, ..Script::default() });
        let run = trace.last.cluster.get("promotions", fixture::NAMESPACE, fixture::RUN).unwrap();
        let message = cluster::text(run, "/status/failure/message");
        assert!(message.contains("the manager shop-sync") && message.contains("suspend it"), "{message}");
        assert!(trace.last.cluster.foreign_writes > 10);
    }
}

#[test]
fn a_rollback_that_failed_is_resumed_by_a_person_whatever_breaks() {
    let script = Script {
        migration_fails: true,
        rollback_fails: true,
        deed: Deed::Resume,
        at_step: "needs a person",
        ..Script::default()
    };
    let trace = scenario(("RolledBack", "MigrationFailed"), "undo", script);
    assert_eq!(trace.ending.rows[data::LIVE], ["schema-1", "feature-a"]);
    trace.withstands_faults_at_every_write();
}

#[test]
fn a_rollback_that_is_given_up_frees_the_environment_and_leaves_the_rest_as_it_is_whatever_breaks() {
    let script = Script {
        migration_fails: true,
        rollback_fails: true,
        deed: Deed::Unlock,
        at_step: "needs a person",
        ..Script::default()
    };
    let mut state = at_step("undo").clone();
    state.cluster.script = script;
    let trace = Trace::of(Simulation::from(state));
    let ending = &trace.ending;
    assert_eq!(ending.run.as_ref().map(|r| (r.0.as_str(), r.1.as_str())), Some(("Abandoned", "MigrationFailed")), "{ending:#?}");
    assert_eq!((ending.lock.as_str(), ending.slot.as_str()), ("null", "null"));
    assert!(ending.rows.contains_key("flags__undo") && ending.kept.is_empty(), "the undo point is there, and nobody drops it");
    assert_eq!(ending.workloads["unleash"][0], 0, "what was stopped stays stopped");
    trace.withstands_faults_at_every_write();
}

#[test]
fn a_storm_of_conflicts_is_outlasted() {
    let mut state = at_step("page").clone();
    state.cluster.script = Script { migration_fails: true, ..Script::default() };
    let calm = Simulation::from(state.clone()).finish();
    let mut simulation = Simulation::from(state);
    simulation.storm = 2;
    assert_eq!(simulation.finish(), calm, "{}", simulation.describe());
}
