//! The cluster in a deterministic simulation: many seeds, one seed, or the known mistakes that it must find.

use crate::shell;
use crate::test_run::Outcome;
use anyhow::Result;
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// How many seeds; with --mutants, within how many each mutant must be found. Without it: 5,000 seeds, 2,000 for mutants.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Runs this seed only; if it fails, its faults are left out as far as it still fails.
    #[arg(long, conflicts_with_all = ["seeds", "mutants"])]
    seed: Option<u64>,
    /// Prints the whole history of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Plants known mistakes, one at a time, and demands that each is found.
    #[arg(long)]
    mutants: bool,
    /// Plants one mistake, by its name.
    #[arg(long, conflicts_with = "mutants")]
    mutant: Option<String>,
}

/// What the tests run of it: 5,000 seeds, always the same ones, and each mistake within 2,000.
pub fn suite() -> Result<Vec<Outcome>> {
    const SEEDS: u64 = 5_000;
    const MUTANTS: u64 = 14;
    shell::step("building the simulation, with optimisation");
    let simulation = shell::build(&["chronik-sim"], true)?.join("chronik-sim");
    let mut outcomes = Vec::new();
    for (name, count, args) in [
        ("simulation", SEEDS, ["--from", "1", "--seeds", "5000"].as_slice()),
        ("simulated mistakes", MUTANTS, ["--mutants", "--seeds", "2000"].as_slice()),
    ] {
        shell::step(name);
        let started = Instant::now();
        let status = shell::lines(Command::new(&simulation).args(args), |line| println!("  {line}"))?;
        let failed = u64::from(!status.success());
        outcomes.push(Outcome {
            name: name.to_owned(),
            passed: if failed == 0 { count } else { 0 },
            failed,
            took: started.elapsed(),
            ..Outcome::default()
        });
    }
    Ok(outcomes)
}

/// Builds the simulation with optimisation and runs it.
pub fn run(args: &Args) -> Result<()> {
    shell::step("building the simulation");
    shell::run(shell::cargo()?.args(["build", "--quiet", "--release", "-p", "chronik-sim"]))?;
    let mut command = Command::new(shell::target_dir()?.join("release").join("chronik-sim"));
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
        if args.trace {
            command.arg("--trace");
        }
    } else {
        let seeds = args.seeds.unwrap_or(if args.mutants { 2_000 } else { 5_000 });
        command.args(["--from", &args.from.to_string(), "--seeds", &seeds.to_string()]);
    }
    if args.mutants {
        command.arg("--mutants");
    }
    if let Some(mutant) = &args.mutant {
        command.args(["--mutant", mutant]);
    }
    shell::step("simulating");
    shell::run(&mut command)
}
