//! The real controllers under the real plan, in a simulated cluster: API server, workload controllers, database, people.
//! Invariants are checked at every write. Each scenario is run undisturbed once; then again for each of its writes, with a
//! fault at that write, and must end the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "simulation/actors.rs"]
mod actors;
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
#[path = "simulation/people.rs"]
mod people;
#[path = "simulation/server.rs"]
mod server;

use driver::{Ending, Simulation};
use people::{Deed, Image, Script};

fn undisturbed(script: Script) -> Ending {
    let began = std::time::Instant::now();
    let mut simulation = Simulation::new(script);
    let ending = simulation.finish();
    eprintln!("{} writes, {:?}: {}", simulation.state.cluster.requests, began.elapsed(), simulation.describe());
    assert!(simulation.errors.is_empty(), "{:?}", simulation.errors);
    ending
}

#[test]
fn a_good_release_comes_in() {
    let ending = undisturbed(Script::default());
    assert_eq!(ending.run.as_ref().unwrap().0, "Completed", "{ending:#?}");
}
