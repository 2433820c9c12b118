//! The simulation in the ordinary tests: a few seeds, and that it is what it says it is.

#![allow(clippy::expect_used, reason = "tests")]

use chronik_sim::{Mutant, Plan, run, run_plan, search, shorten};

/// Where the seeds of the ordinary test begin: others than those that a developer's `cargo xtask simulate` begins with.
const FIRST: u64 = 1_000_000;

#[test]
fn a_hundred_seeds_keep_every_promise() {
    let found = search(FIRST, 100, None, None);
    let failures: Vec<_> =
        found.failures.iter().map(|f| format!("seed {}: {}", f.seed, f.violation)).collect();
    assert!(failures.is_empty(), "cargo xtask simulate --seed S shows more of {failures:#?}");
    assert_eq!(found.seeds, 100);
    // It would prove nothing if nothing happened.
    assert!(found.acknowledged > 50_000 && found.reads > 50_000 && found.elections > 500, "{found:?}");
}

#[test]
fn a_seed_gives_the_same_history_to_the_byte() {
    for seed in [3, 4] {
        let (first, second) = (run(seed, None, true), run(seed, None, true));
        assert!(first.trace.len() > 10_000, "{}", first.trace);
        assert!(first.trace == second.trace, "seed {seed} gave two histories");
    }
    assert_ne!(run(3, None, true).trace, run(4, None, true).trace);
}

#[test]
fn a_trace_changes_nothing() {
    let (with, without) = (run(5, None, true), run(5, None, false));
    assert_eq!(
        (with.ended_us, with.acknowledged, with.reads),
        (without.ended_us, without.acknowledged, without.reads)
    );
}

#[test]
fn a_mistake_is_found_and_its_history_shortened() {
    let mutant = Some(Mutant::NoTruncation);
    let found = search(FIRST, 100, mutant, Some(1));
    let failure = found.failures.first().expect("the mutant is found");
    let (plan, outcome) = shorten(failure.seed, mutant).expect("it fails again");
    let full = Plan::new(failure.seed).faults.len();
    assert!(plan.faults.len() < full, "{} of {full} faults are left", plan.faults.len());
    let violation = outcome.violation.expect("the shorter one fails, too");
    assert!(outcome.trace.contains(&format!("VIOLATION {violation}")), "{violation}");
    let again = run_plan(failure.seed, plan, mutant, false).violation;
    assert_eq!(again, Some(violation));
}
