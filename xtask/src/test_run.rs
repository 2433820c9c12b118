//! `cargo xtask test`: everything that can fail, in the order in which it fails soonest.

use crate::client_suites::{self, ClientSuite};
use crate::{demo, guard, shell, simulate, toolchains};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// The inner loop: no client suites, no crash test, fewer cases of each property test.
    #[arg(long)]
    fast: bool,
    /// Client suites to leave out: a language (java, node, go, python, rust, kcat) or one suite of it.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    without: Vec<String>,
    /// Runs only the client suites, of these names or languages; all when no name is given.
    #[arg(long, value_delimiter = ',', value_name = "NAME", num_args = 0.., conflicts_with = "fast")]
    clients: Option<Vec<String>>,
    /// Runs the client suites against the release binary.
    #[arg(long)]
    release: bool,
}

/// Property tests run this many cases with `--fast` (256 otherwise).
const FAST_PROPERTY_CASES: &str = "32";

/// What the names of the tests in crates/harness that are a client suite begin with.
pub const CLIENT_SUITE: &str = "rdkafka_";

/// How one suite went.
#[derive(Default)]
pub struct Outcome {
    pub name: String,
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub took: Duration,
    pub note: String,
}

/// Runs the tests; an error when one failed.
pub fn run(args: &Args) -> Result<()> {
    let suites =
        if args.fast { vec![] } else { client_suites::find(&args.without, args.clients.as_deref())? };
    check_toolchains(&suites)?;
    let mut outcomes = Vec::new();
    if args.clients.is_none() {
        outcomes.extend(workspace(args)?);
        if !args.fast {
            outcomes.extend(simulate::suite()?);
            outcomes.push(guard::suite()?);
            outcomes.push(demo::crash_suite()?);
        }
    }
    if !suites.is_empty() {
        let broker = broker(args.release)?;
        for suite in &suites {
            outcomes.push(suite.run(&broker)?);
        }
    }
    summary(&outcomes)
}

fn check_toolchains(suites: &[ClientSuite]) -> Result<()> {
    let mut missing = toolchains::missing_for_build();
    missing.extend(
        suites
            .iter()
            .filter(|suite| !suite.left_out)
            .filter_map(|suite| toolchains::missing_for_suite(&suite.name)),
    );
    missing.dedup();
    if !missing.is_empty() {
        bail!("tool chains are missing:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

fn broker(release: bool) -> Result<PathBuf> {
    let broker = shell::build(&["chronik-cli"], release)?.join("chronik");
    if !broker.is_file() {
        bail!("the build left no {}", broker.display());
    }
    Ok(broker)
}

/// Unit and property tests first, then the tests that drive whole crates and the binary from outside.
fn workspace(args: &Args) -> Result<Vec<Outcome>> {
    shell::step("building the workspace and its tests");
    // The binary is built first, so that end-to-end tests find it.
    shell::run(shell::cargo()?.args(["build", "--quiet", "--package", "chronik-cli"]))?;
    shell::run(shell::cargo()?.args(["test", "--quiet", "--workspace", "--all-targets", "--no-run"]))?;
    let mut outcomes = vec![cargo_test("unit and property", &["--lib", "--bins"], args.fast)?];
    outcomes.push(cargo_test("end to end", &["--test", "*", "--", "--skip", CLIENT_SUITE], args.fast)?);
    if !args.fast {
        outcomes.push(cargo_test("documentation examples", &["--doc"], false)?);
    }
    Ok(outcomes)
}

/// Runs one kind of cargo's tests.
fn cargo_test(name: &str, kind: &[&str], fast: bool) -> Result<Outcome> {
    let mut command = shell::cargo()?;
    command.args(["test", "--workspace", "--no-fail-fast"]).args(kind);
    follow(name, &mut if fast { with_fast_cases(command) } else { command })
}

/// The command with as many cases of each property test as `--fast` has.
pub fn with_fast_cases(mut command: Command) -> Command {
    command.env("PROPTEST_CASES", FAST_PROPERTY_CASES);
    command
}

/// Runs a command that prints what `cargo test` prints, with a line of progress for each test binary.
pub fn follow(name: &str, command: &mut Command) -> Result<Outcome> {
    shell::step(name);
    let started = Instant::now();
    let mut reader = CargoTestReader::new(name);
    let status = shell::lines(command.env("CARGO_TERM_COLOR", "never"), |line| reader.line(line))?;
    let mut outcome = reader.outcome;
    outcome.took = started.elapsed();
    if !status.success() && outcome.failed == 0 {
        reader.held.iter().for_each(|line| println!("{line}"));
        outcome.failed = 1;
        outcome.note = format!("the tests ended with {status}");
    }
    Ok(outcome)
}

/// Follows the output of cargo test: counts, shows where it is, and keeps the rest for a failure.
struct CargoTestReader {
    outcome: Outcome,
    /// What the current test binary printed so far.
    held: Vec<String>,
    binary: String,
    draws: bool,
}

impl CargoTestReader {
    fn new(name: &str) -> Self {
        Self {
            outcome: Outcome { name: name.to_owned(), ..Outcome::default() },
            held: Vec::new(),
            binary: String::new(),
            draws: shell::on_a_terminal(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(binary) =
            line.trim_start().strip_prefix("Running ").or(line.trim_start().strip_prefix("Doc-tests "))
        {
            binary.split(" (").next().unwrap_or(binary).clone_into(&mut self.binary);
            if let Some((_, path)) = binary.rsplit_once('/') {
                let crate_name = path.rsplit_once('-').map_or(path, |(name, _)| name);
                self.binary = format!("{crate_name}: {}", self.binary);
            }
            self.held.clear();
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.binary_done(result);
        } else {
            if line.starts_with("test ") && self.draws {
                eprint!("\r\x1b[K  {}: {line}", self.binary);
                let _ = std::io::stderr().flush();
            }
            self.held.push(line.to_owned());
        }
    }

    fn binary_done(&mut self, result: &str) {
        let count = |what: &str| {
            result
                .split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(what))
                .find_map(|number| number.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        let (passed, failed, ignored) = (count("passed"), count("failed"), count("ignored"));
        self.outcome.passed += passed;
        self.outcome.failed += failed;
        self.outcome.skipped += ignored;
        if self.draws {
            eprint!("\r\x1b[K");
        }
        if failed > 0 {
            self.held.iter().for_each(|line| println!("{line}"));
        }
        if passed + failed + ignored > 0 {
            println!("  {}: {passed} passed, {failed} failed, {ignored} skipped", self.binary);
        }
        self.held.clear();
    }
}

fn summary(outcomes: &[Outcome]) -> Result<()> {
    let width = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0);
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{:width$}  {:>7} {:>7} {:>8} {:>8}", "suite", "passed", "failed", "skipped", "seconds")?;
    for outcome in outcomes {
        let seconds = outcome.took.as_secs_f64();
        let line = format!(
            "{:width$}  {:>7} {:>7} {:>8} {seconds:>8.1}  {}",
            outcome.name, outcome.passed, outcome.failed, outcome.skipped, outcome.note
        );
        writeln!(out, "{}", line.trim_end())?;
        passed += outcome.passed;
        failed += outcome.failed;
        skipped += outcome.skipped;
    }
    writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped").context("writing the summary")?;
    if failed > 0 {
        bail!("{failed} tests failed; their output is above");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let mut reader = CargoTestReader::new("unit");
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/chronik_log-0123456789abcdef)",
            "test a ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "     Running unittests src/lib.rs (target/debug/deps/chronik_base-0123456789abcdef)",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        ] {
            reader.line(line);
        }
        assert_eq!((reader.outcome.passed, reader.outcome.failed, reader.outcome.skipped), (15, 2, 1));
        assert_eq!(reader.binary, "chronik_base: unittests src/lib.rs");
    }
}
