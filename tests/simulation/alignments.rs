//! DownAlignments, undisturbed and disturbed: by a fault at each write, and by schedules of kills, conflicts and edits that nobody
//! thought of. The target is untouched or swapped whole, the lock is given back, and neither side keeps anything of the run.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{
    Trace, cluster,
    data::{LIVE, MASKED, State as RowState},
    driver::{Ending, Simulation, Step},
    fixture,
    invariants::mix,
    people::{self, Deed, Script},
    server::Fault,
};

/// A mirror, from the request to the end.
static MIRROR: LazyLock<Trace> = LazyLock::new(|| Trace::of(Simulation::of(fixture::alignment(Script::default()))));

/// A scenario from its start.
fn aligned((phase, reason): (&str, &str), script: Script) -> Trace {
    let trace = Trace::of(Simulation::of(fixture::alignment(script)));
    let run = trace.ending.run.as_ref().map(|r| (r.0.as_str(), r.1.as_str()));
    assert_eq!(run, (phase != "gone").then_some((phase, reason)), "{:#?}", trace.ending);
    sound(&trace.last.cluster);
    trace
}

/// What holds at any end.
fn sound(cluster: &cluster::Cluster) {
    let ending = Ending::of(cluster);
    let phase = ending.run.as_ref().map(|r| r.0.as_str());
    assert_eq!((ending.lock.as_str(), ending.slot.as_str()), ("null", "null"), "{phase:?}");
    assert!(ending.left_over.is_empty(), "{phase:?}: {:?}", ending.left_over);
    assert!(cluster.data.row.as_ref().is_some_and(|r| r.holder.is_none() && r.state == RowState::Free), "{:?}", cluster.data.row);
    assert_eq!(cluster.data.databases[LIVE].door, super::data::Door::Open, "{phase:?}");
    let (new, old) = (mix(cluster, true), mix(cluster, false));
    match phase {
        Some("Completed") => assert!(new.is_empty(), "{new:?}"),
        Some(_) => assert!(old.is_empty(), "{phase:?}: {old:?}"),
        // Who deletes it is not told how it ended.
        None => assert!(new.is_empty() || old.is_empty(), "{new:?} {old:?}"),
    }
    if old.is_empty() {
        assert!(ending.lost.is_empty(), "{phase:?}: {:?}", ending.lost);
    }
}

#[test]
fn an_environment_becomes_a_mirror_whatever_breaks() {
    let ending = &MIRROR.ending;
    assert_eq!(ending.run.as_ref().map(|r| r.0.as_str()), Some("Completed"), "{ending:#?}");
    assert_eq!(ending.rows[LIVE], MASKED);
    assert_eq!(ending.kept, ["flags__today"], "what was there is kept aside");
    sound(&MIRROR.last.cluster);
    MIRROR.withstands_faults_at_every_write();
    MIRROR.withstands_a_stale_leader(3);
}

#[test]
fn a_mirror_that_fails_before_the_lock_leaves_the_target_as_it_is() {
    let masking = Script { backup_fails: true, ..Script::default() };
    aligned(("Failed", "RepositoryFull"), masking).withstands_faults_at_every_write();
    for (deed, at_step, reason) in [
        (Deed::Revoke, "preflight", "GrantRevoked"),
        (Deed::ChangePolicy, "preflight", "GrantRevoked"),
        (Deed::ChangeSource, "preflight", "SourceChanged"),
        (Deed::CloseExchange, "snapshot", "GrantRevoked"),
        (Deed::CloseExchange, "receive", "ExchangeMissing"),
        (Deed::Cancel, "snapshot", "Cancelled"),
        (Deed::Cancel, "page", "Cancelled"),
    ] {
        let phase = if deed == Deed::Cancel { "Cancelled" } else { "Failed" };
        let trace = aligned((phase, reason), Script { deed, at_step, ..Script::default() });
        assert!(trace.last.cluster.script.acted, "{deed:?}");
    }
}

#[test]
fn a_mirror_that_fails_under_the_lock_brings_back_what_was_there_whatever_breaks() {
    for script in [
        Script { load_fails: true, ..Script::default() },
        Script { check_fails: true, ..Script::default() },
        Script { deed: Deed::Delete, at_step: "load", ..Script::default() },
        Script { deed: Deed::Cancel, at_step: "workloads/flags", ..Script::default() },
    ] {
        let (phase, reason) = match script {
            Script { load_fails: true, .. } => ("RolledBack", "ProofFailed"),
            Script { check_fails: true, .. } => ("RolledBack", "VerificationFailed"),
            Script { deed: Deed::Delete, .. } => ("gone", ""),
            _ => ("RolledBack", "Cancelled"),
        };
        let trace = aligned((phase, reason), script.clone());
        assert_eq!(trace.ending.rows[LIVE], ["schema-1", "feature-a"]);
        // The others part from these where it is no alignment's matter any more.
        if script.load_fails || script.deed == Deed::Delete {
            trace.withstands_faults_at_every_write();
        }
    }
}

/// What befalls a run.
#[derive(Clone, Debug)]
enum Happening {
    /// The next write, if there is one, takes effect and its answer does not arrive, or it is sent twice.
    Fault(Fault),
    /// The operator is killed, and away for so many seconds.
    Kill(u32),
    /// For a while each write is refused so many times.
    Conflicts(u32),
    Deed(Deed),
    /// Another program applies what it has written down, so many times.
    Foreign(u32),
}

fn happening() -> impl Strategy<Value = Happening> {
    let deeds = [
        Deed::Cancel,
        Deed::Delete,
        Deed::DeleteJob,
        Deed::DeleteJob,
        Deed::Revoke,
        Deed::ChangePolicy,
        Deed::CloseExchange,
        Deed::ChangeSource,
    ];
    prop_oneof![
        4 => prop_oneof![Just(Fault::ReplyLost), Just(Fault::SentTwice)].prop_map(Happening::Fault),
        4 => (0..40_u32).prop_map(Happening::Kill),
        2 => (1..4_u32).prop_map(Happening::Conflicts),
        3 => prop::sample::select(deeds.to_vec()).prop_map(Happening::Deed),
        1 => (1..4_u32).prop_map(Happening::Foreign),
    ]
}

/// Goes on for so many turns and moves; whether there is more to come. Where it waits for a person, he calls it off.
fn goes_on(simulation: &mut Simulation, steps: usize, fault: Fault) -> bool {
    for _ in 0..steps {
        match simulation.step(fault) {
            Step::End => return false,
            Step::Stuck => {
                let run = simulation.state.cluster.run().cloned().expect("who waits is there");
                assert!(run["spec"]["cancel"].is_null(), "called off, and it never ends: {}", simulation.describe());
                people::perform(&mut simulation.state.cluster, Deed::Cancel);
            }
            Step::Turn(_) | Step::Move => {}
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn a_mirror_is_whole_or_not_at_all_whatever_happens_and_whenever(
        fails in prop::sample::select(&["nothing", "nothing", "nothing", "masking", "loading", "checks"][..]),
        start in 0.0..1.0_f64,
        schedule in prop::collection::vec((0..25_usize, happening()), 1..8),
    ) {
        // From anywhere on the way: what comes early would else be all that is ever disturbed.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (MIRROR.before.len() as f64 * start) as usize;
        let mut simulation = Simulation::from(MIRROR.before[at].clone());
        let script = &mut simulation.state.cluster.script;
        (script.backup_fails, script.load_fails, script.check_fails) = (fails == "masking", fails == "loading", fails == "checks");
        for (pause, what) in schedule {
            if !goes_on(&mut simulation, pause, Fault::None) {
                break;
            }
            match what {
                Happening::Fault(fault) => {
                    goes_on(&mut simulation, 1, fault);
                }
                Happening::Kill(seconds) => {
                    simulation.away(seconds);
                    simulation.crash();
                }
                Happening::Conflicts(storm) => {
                    simulation.storm = storm;
                    goes_on(&mut simulation, 6, Fault::None);
                    simulation.storm = 0;
                }
                Happening::Deed(deed) => {
                    people::perform(&mut simulation.state.cluster, deed);
                }
                Happening::Foreign(times) => simulation.state.cluster.script.foreign += times,
            }
        }
        prop_assert!(!goes_on(&mut simulation, 4000, Fault::None), "it goes round in circles: {}", simulation.describe());
        sound(&simulation.state.cluster);
    }
}
