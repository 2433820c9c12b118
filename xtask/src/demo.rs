//! The demonstration and the crash test: both build release binaries and hand over to `chronik-harness`.

use crate::shell;
use crate::test_run::Outcome;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The npm package whose data sets the demonstration streams.
const DATA_PACKAGE: &str = "vega-datasets";
const DATA_VERSION: &str = "3.2.1";
const DATA_FILES: [&str; 3] = ["flights-200k.json", "movies.json", "stocks.csv"];

#[derive(clap::Args)]
pub struct DemoArgs {
    /// Leaves the broker running at the end and prints how to talk to it.
    #[arg(long)]
    keep: bool,
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct CrashArgs {
    /// How many times the broker is killed and checked.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Repeats the random choices of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// One line of JSON instead of the summary.
    #[arg(long)]
    json: bool,
}

/// `cargo xtask demo`
pub fn demo(args: &DemoArgs) -> Result<()> {
    // Names what is missing before a minute of compiling.
    let data = data_sets()?;
    let binaries = shell::build_release(&["chronik-cli", "chronik-harness"])?;
    let mut command = harness(&binaries, "demo");
    command.arg("--data").arg(data);
    if args.keep {
        command.arg("--keep");
    }
    if args.json {
        command.arg("--json");
    }
    shell::run(&mut command)
}

/// `cargo xtask crash`
pub fn crash(args: &CrashArgs) -> Result<()> {
    let binaries = shell::build_release(&["chronik-cli", "chronik-harness"])?;
    let mut command = harness(&binaries, "crash");
    command.arg("--rounds").arg(args.rounds.to_string());
    if let Some(seed) = args.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if args.json {
        command.arg("--json");
    }
    shell::run(&mut command)
}

/// A few rounds of the crash test with debug binaries, as one of the suites of `cargo xtask test`.
pub fn crash_suite() -> Result<Outcome> {
    const ROUNDS: u64 = 10;
    let binaries = shell::build(&["chronik-cli", "chronik-harness"], false)?;
    shell::step(&format!("kill -9, {ROUNDS} rounds"));
    let started = Instant::now();
    let mut command = harness(&binaries, "crash");
    command.arg("--rounds").arg(ROUNDS.to_string());
    let status = shell::lines(&mut command, |line| println!("  {line}"))?;
    let failed = u64::from(!status.success());
    Ok(Outcome {
        name: "kill -9".to_owned(),
        passed: if failed == 0 { ROUNDS } else { 0 },
        failed,
        took: started.elapsed(),
        ..Outcome::default()
    })
}

fn harness(binaries: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(binaries.join("chronik-harness"));
    command.arg(subcommand).arg("--broker").arg(binaries.join("chronik"));
    command
}

/// The folder with the data sets, installed by npm below the target folder.
fn data_sets() -> Result<PathBuf> {
    let home = shell::target_dir()?.join("datasets");
    let data = home.join("node_modules").join(DATA_PACKAGE).join("data");
    let complete = |data: &Path| DATA_FILES.iter().all(|file| data.join(file).is_file());
    if complete(&data) {
        return Ok(data);
    }
    if !shell::is_installed("npm") {
        bail!(
            "npm is missing: install Node.js 20 or later, it brings the demonstration's data ({DATA_PACKAGE})"
        );
    }
    shell::step(&format!("installing the data sets of {DATA_PACKAGE} {DATA_VERSION} with npm"));
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    shell::run(
        Command::new("npm")
            .args(["install", "--silent", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"])
            .arg("--prefix")
            .arg(&home)
            .arg(format!("{DATA_PACKAGE}@{DATA_VERSION}")),
    )?;
    if !complete(&data) {
        bail!("{} lacks one of {}", data.display(), DATA_FILES.join(", "));
    }
    Ok(data)
}
