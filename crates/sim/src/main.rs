//! `cargo xtask simulate`: runs seeds, one seed, or the mutants.

use std::process::ExitCode;
use std::time::Instant;

use chronik_sim::{Failure, Mutant, Search, run, search, shorten};

/// Lines of the history that are shown of a failing seed.
const SHOWN: usize = 120;
/// Seeds within which each mutant must be found.
const MUTANT_SEEDS: u64 = 2_000;
/// A mutant that was found so often is found.
const ENOUGH: usize = 5;

const USAGE: &str =
    "usage: chronik-sim [--seeds N] [--from S] | --seed S [--trace] [--mutant NAME] | --mutants [--seeds N]";

/// What was asked for.
#[derive(Debug, Default)]
struct Args {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    trace: bool,
    mutants: bool,
    mutant: Option<Mutant>,
}

fn parse() -> Result<Args, String> {
    let mut args = Args { from: 1, ..Args::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} needs a number; {USAGE}"))?;
            value.parse().map_err(|_| format!("{word} {value}: not a number"))
        };
        match word.as_str() {
            "--seeds" => args.seeds = Some(number()?),
            "--from" => args.from = number()?,
            "--seed" => args.seed = Some(number()?),
            "--trace" => args.trace = true,
            "--mutants" => args.mutants = true,
            "--mutant" => {
                let name = words.next().unwrap_or_default();
                let found = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name);
                args.mutant =
                    Some(found.ok_or_else(|| format!("no mutant {name:?}: there are {:?}", Mutant::ALL))?);
            }
            _ => return Err(format!("{word:?}: {USAGE}")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let good = match (args.seed, args.mutants) {
        (Some(seed), _) => one(seed, args.mutant, args.trace),
        (None, true) => mutants(args.from, args.seeds.unwrap_or(MUTANT_SEEDS)),
        (None, false) => many(args.from, args.seeds.unwrap_or(1_000), args.mutant),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, mutant: Option<Mutant>, trace: bool) -> bool {
    let outcome = run(seed, mutant, trace);
    print!("{}", outcome.trace);
    println!(
        "seed {seed}: {} acknowledgements, {} reads, {} elections in {} simulated ms",
        outcome.acknowledged,
        outcome.reads,
        outcome.elections,
        outcome.ended_us / 1000
    );
    match outcome.violation {
        None => true,
        Some(violation) => {
            println!("seed {seed} FAILED: {violation}");
            if !trace {
                show_shortened(seed, mutant);
            }
            false
        }
    }
}

fn many(from: u64, seeds: u64, mutant: Option<Mutant>) -> bool {
    let start = Instant::now();
    let found = search(from, seeds, mutant, None);
    let Search { acknowledged, reads, elections, simulated_us, .. } = found;
    println!(
        "{} seeds from {from} on in {:.1} s: {} failed; {acknowledged} acknowledgements, {reads} reads, {elections} elections, {} simulated minutes",
        found.seeds,
        start.elapsed().as_secs_f64(),
        found.failures.len(),
        simulated_us / 60_000_000
    );
    for Failure { seed, violation } in &found.failures {
        println!("  seed {seed}: {violation}");
    }
    if let Some(first) = found.failures.first() {
        show_shortened(first.seed, mutant);
    }
    found.failures.is_empty()
}

/// Each mutant must be found.
fn mutants(from: u64, seeds: u64) -> bool {
    let mut all = true;
    for mutant in Mutant::ALL {
        let start = Instant::now();
        let found = search(from, seeds, Some(mutant), Some(ENOUGH));
        let seconds = start.elapsed().as_secs_f64();
        let (caught, ran) = (found.failures.len(), found.seeds);
        println!(
            "{} {}: caught by {caught} of {ran} seeds in {seconds:.1} s",
            if caught > 0 { "ok  " } else { "FAIL" },
            mutant.describe()
        );
        if let Some(Failure { seed, violation }) = found.failures.first() {
            println!("       first by seed {seed}: {violation}");
        }
        all &= caught > 0;
    }
    all
}

/// A failing seed with as few faults as break it, and the end of its history.
fn show_shortened(seed: u64, mutant: Option<Mutant>) {
    let Some((plan, outcome)) = shorten(seed, mutant) else {
        println!("seed {seed} does not fail when it is run again: the simulation is not deterministic");
        return;
    };
    println!("seed {seed}, shortened to {} faults:", plan.faults.len());
    for (at, fault) in &plan.faults {
        println!("  {:>9.3} ms {fault:?}", *at as f64 / 1000.0);
    }
    let Some(violation) = outcome.violation else { return };
    println!("breaks: {violation}");
    let about = violation.tp.map(|tp| tp.to_string());
    let concerns = |line: &&str| {
        let general = ["FAULT", "END", "starts", "quorum", "VIOLATION", "all faults"].iter();
        about.as_ref().is_none_or(|tp| line.contains(&format!(" {tp} ")))
            || general.into_iter().any(|word| line.contains(word))
    };
    let lines: Vec<&str> = outcome.trace.lines().filter(concerns).collect();
    for line in lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default() {
        println!("{}", line.chars().take(400).collect::<String>());
    }
    println!("the whole of it: cargo xtask simulate --seed {seed} --trace");
}
