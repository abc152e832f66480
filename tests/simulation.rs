//! The loop on a simulated kernel that misbehaves by seed; see `sim/mod.rs`. The same
//! for as long as you like: `cargo run --release --example oneloop-sim`.

#[expect(dead_code, reason = "examples/oneloop-sim.rs needs the rest")]
mod sim;

use sim::Report;
use sim::plan::Plan;
use sim::shrink::{attempt, command, shrink};

const SEEDS: u64 = 1000;
const EVENTS: u64 = 400;

#[test]
fn a_thousand_bad_days_lose_nothing_and_leave_nothing_behind() {
    let mut sum = Report::default();
    for seed in 0..SEEDS {
        let plan = Plan::draw(seed, EVENTS, true);
        match attempt(&plan) {
            Ok(report) => sum.add(&report),
            Err(text) => {
                let (small, text) = shrink(&plan, &text);
                panic!("seed {seed}: {text}\nto repeat it: {}", command(&small));
            }
        }
    }
    println!("{}", sum.cover.table());
    println!("{} events, {} messages, {} calls", sum.events, sum.messages, sum.calls);
    assert!(sum.messages > 10_000, "{} messages are too few to say anything", sum.messages);
    // Small plans seldom call anyone: who does not answer is met by the long runs.
    let missing = sum.cover.missing();
    let seldom = |fault: &&str| fault.starts_with("connect-");
    assert!(missing.iter().all(seldom), "faults that never happened: {missing:?}");
}

#[test]
fn a_crowd_that_no_machine_has_descriptors_for_opens_speaks_and_closes() {
    // A million takes a release build: `oneloop-sim --crowd 1000000`.
    let crowd = sim::million::crowd(20_000);
    assert_eq!(crowd.messages, 3 * 20_000);
    let each = crowd.memory / crowd.connections as i64;
    assert!(each < 300, "{each} bytes of memory for an idle connection");
}

#[test]
fn the_same_seed_has_the_same_trace() {
    for seed in 0..30 {
        let plan = Plan::draw(seed, EVENTS, true);
        let traces = [(), ()].map(|()| attempt(&plan).map(|report| report.hash));
        assert!(traces[0] == traces[1], "seed {seed}: {traces:?}");
    }
}
