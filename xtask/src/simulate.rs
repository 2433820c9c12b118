//! The cluster in a deterministic simulation: many seeds, one seed, or the known mistakes that it must find.

use crate::shell;
use crate::test_run::Outcome;
use anyhow::Result;
use std::process::Command;
use std::time::Instant;

const SEEDS: u64 = 5_000;
/// Within so many a mistake has to be found.
const MUTANT_SEEDS: u64 = 2_000;

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
    shell::step("building the simulation, with optimisation");
    let simulation = shell::build(&["chronik-sim"], true)?.join("chronik-sim");
    let mut outcomes = Vec::new();
    let (seeds, within) = (SEEDS.to_string(), MUTANT_SEEDS.to_string());
    for (name, args) in [
        ("simulation", ["--from", "1", "--seeds", &seeds].as_slice()),
        ("simulated mistakes", ["--mutants", "--seeds", &within].as_slice()),
    ] {
        shell::step(name);
        let started = Instant::now();
        let mut passed = 0;
        let status = shell::lines(Command::new(&simulation).args(args), |line| {
            passed += passed_in(line);
            println!("  {line}");
        })?;
        outcomes.push(Outcome {
            name: name.to_owned(),
            passed,
            failed: u64::from(!status.success()),
            took: started.elapsed(),
            ..Outcome::default()
        });
    }
    Ok(outcomes)
}

/// What a line of the simulation says has passed: one mistake that was found, or all seeds but those that failed.
fn passed_in(line: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().ok();
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["ok", ..] => 1,
        [seeds, "seeds", .., _, _] => {
            let failed =
                line.split_once(" failed").and_then(|(before, _)| number(before.rsplit(' ').next()?));
            number(seeds).zip(failed).map_or(0, |(seeds, failed)| seeds.saturating_sub(failed))
        }
        _ => 0,
    }
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
        let seeds = args.seeds.unwrap_or(if args.mutants { MUTANT_SEEDS } else { SEEDS });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_read_from_what_is_printed() {
        assert_eq!(passed_in("ok   reusing an epoch: caught by 6 of 7 seeds in 0.0 s"), 1);
        assert_eq!(passed_in("5000 seeds from 1 on in 21.8 s: 2 failed; 7 acknowledgements, 9 reads"), 4_998);
        assert_eq!(passed_in("       first by seed 3: t1-0: n3 leads in epoch 5"), 0);
        assert_eq!(passed_in("seed 7 FAILED: t1-0"), 0);
    }
}
