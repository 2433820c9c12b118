//! Running seeds: one, with fewer faults, many.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::checker::Violation;
use crate::mutant::Mutant;
use crate::plan::{Fault, Plan};
use crate::world::World;

/// What became of a history.
#[derive(Debug)]
pub struct Outcome {
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// When the history ended, in simulated microseconds.
    pub ended_us: u64,
    /// Acknowledgements given.
    pub acknowledged: u64,
    /// Batches read by consumers.
    pub reads: u64,
    /// Elections of a leader.
    pub elections: u64,
    /// What happened, if it was asked for.
    pub trace: String,
}

/// A seed that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
}

/// What many seeds gave.
#[derive(Debug, Default)]
pub struct Search {
    /// Seeds that ran.
    pub seeds: u64,
    /// Those that broke a promise, by seed.
    pub failures: Vec<Failure>,
    /// Acknowledgements in all.
    pub acknowledged: u64,
    /// Batches read in all.
    pub reads: u64,
    /// Elections in all.
    pub elections: u64,
    /// Simulated time in all, in microseconds.
    pub simulated_us: u64,
}

/// Runs one seed.
pub fn run(seed: u64, mutant: Option<Mutant>, trace: bool) -> Outcome {
    run_plan(seed, Plan::new(seed), mutant, trace)
}

/// Runs one seed with a plan of its own.
pub fn run_plan(seed: u64, plan: Plan, mutant: Option<Mutant>, trace: bool) -> Outcome {
    let mut world = World::new(seed, plan, mutant, trace);
    let violation = world.run().err();
    Outcome {
        violation,
        ended_us: world.now,
        acknowledged: world.checker.acknowledged,
        reads: world.checker.reads,
        elections: world.quorum.image.tally().elections,
        trace: world.trace.text().to_owned(),
    }
}

/// Fewer faults that still break a promise in the same partition: faults are left out, half of them at a time, then fewer, as long as it
/// breaks. The history of a plan with fewer faults is another one, so what is broken may be said in other words.
pub fn shorten(seed: u64, mutant: Option<Mutant>) -> Option<(Plan, Outcome)> {
    let breaks = |faults: Vec<(u64, Fault)>| {
        let plan = Plan { faults, ..Plan::new(seed) };
        let outcome = run_plan(seed, plan.clone(), mutant, false);
        outcome.violation.is_some().then_some((plan, outcome))
    };
    let full = Plan::new(seed);
    let (mut plan, outcome) = breaks(full.faults)?;
    plan.faults.retain(|(at, _)| *at <= outcome.ended_us);
    let mut size = plan.faults.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < plan.faults.len() {
            let mut fewer = plan.faults.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            match breaks(fewer) {
                Some((shorter, _)) => plan = shorter,
                None => at += size,
            }
        }
        size /= 2;
    }
    let outcome = run_plan(seed, plan.clone(), mutant, true);
    Some((plan, outcome))
}

/// Runs `seeds` seeds from `first` on with as many threads as there are processors. With `enough`, it stops once so many broke a promise.
pub fn search(first: u64, seeds: u64, mutant: Option<Mutant>, enough: Option<usize>) -> Search {
    let next = AtomicU64::new(first);
    let found = Mutex::new(Search::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(seeds) {
                return;
            }
            let outcome = run(seed, mutant, false);
            let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            found.seeds += 1;
            found.acknowledged += outcome.acknowledged;
            found.reads += outcome.reads;
            found.elections += outcome.elections;
            found.simulated_us += outcome.ended_us;
            found.failures.extend(outcome.violation.map(|violation| Failure { seed, violation }));
            if enough.is_some_and(|enough| found.failures.len() >= enough) {
                next.store(first.saturating_add(seeds), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.failures.sort_by_key(|failure| failure.seed);
    found
}
