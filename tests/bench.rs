//! How fast data is backed up, put back and mirrored, beside what a user would take instead. `make bench` installs the peers
//! and runs this; it prints a table and ratios, and writes `target/bench.json` and `target/bench.svg`.
//!
//! Each round does everything once, in an order that turns and is reversed every other round, so that no one always meets the
//! same caches. A ratio is made within a round, of two times a minute apart, and given with its spread: the machine is noisy,
//! and both suffer alike. The server is the tests' own, without fsync, on this machine: what it burns is in all times.
//!
//! `LOCKKEEPER_BENCH_ROWS` (4,000,000) rows of 300 bytes and 200 small tables; `LOCKKEEPER_BENCH_ROUNDS` (3);
//! `LOCKKEEPER_BENCH_ONLY` (all) some of the works, by their names in tests/bench/works.rs. `LOCKKEEPER_BENCH_GREENMASK` and
//! `LOCKKEEPER_BENCH_PGCOPYDB` name the peers' programs. One that is not there is said.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "bench/cost.rs"]
mod cost;
#[path = "bench/place.rs"]
mod place;
#[allow(dead_code)]
mod postgres;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/works.rs"]
mod works;

use std::collections::BTreeMap;

use cost::Cost;
use place::Place;
use report::Report;
use works::Work;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; make bench"]
async fn bench_beside_what_a_user_would_take_instead() {
    let (rows, rounds) = (number("LOCKKEEPER_BENCH_ROWS", 4_000_000), number("LOCKKEEPER_BENCH_ROUNDS", 3));
    let mut place = Place::new(rows, place::SMALL_TABLES).await;
    let (works, left_out) = Work::all();
    for why in &left_out {
        println!("left out: {why}");
    }
    let mut taken: Vec<BTreeMap<&'static str, Cost>> = Vec::new();
    for round in 0..rounds {
        let mut order = works.clone();
        order.rotate_left(usize::try_from(round).unwrap() / 2 % works.len());
        if round % 2 == 1 {
            order.reverse();
        }
        let mut costs = BTreeMap::new();
        for work in order {
            for (what, cost) in work.run(&mut place, round).await {
                println!("round {}: {what}: {}", round + 1, cost.line());
                costs.insert(what, cost);
            }
        }
        taken.push(costs);
    }
    let report = Report::new(&place, taken, left_out);
    println!("\n{}", report.text());
    report.write();
}
