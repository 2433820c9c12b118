//! `cargo xtask guard`: counts the instructions of the hot paths under valgrind and holds them to limits in the repository. A count
//! is the same on a busy machine as on a quiet one, so a path that came to cost more shows at once.

use crate::shell;
use crate::test_run::Outcome;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The limits, a line for each path.
const LIMITS: &str = "crates/guard/limits.txt";
/// What a new limit leaves above the count that it is made of.
const ROOM: f64 = 1.10;
/// The function whose instructions, with all that it calls, are counted.
const COUNTED: &str = "*chronik_guard::counted*";
const MISSING: &str = "valgrind is not installed (Debian's package valgrind)";

#[derive(clap::Args)]
pub struct Args {
    /// Writes what was counted, plus 10 %, as the new limits.
    #[arg(long)]
    set: bool,
    /// The binary of chronik-guard, built with the release profile (default: built here).
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// One path with its count.
struct Count {
    path: String,
    instructions: u64,
    limit: Option<u64>,
}

impl Count {
    fn is_within(&self) -> bool {
        self.limit.is_some_and(|limit| self.instructions <= limit)
    }

    fn line(&self) -> String {
        let verdict = match self.limit {
            None => format!("no limit in {LIMITS}: `cargo xtask guard --set`"),
            Some(limit) if self.instructions > limit => format!("limit {limit}: TOO MANY"),
            Some(limit) => format!("limit {limit}"),
        };
        format!("  {:16} {:>7} instructions   {verdict}", self.path, self.instructions)
    }
}

/// Counts, prints, and fails where a path is above its limit.
pub fn run(args: &Args) -> Result<()> {
    if !shell::is_installed("valgrind") {
        bail!("{MISSING}");
    }
    let counts = count(args.binary.as_deref())?;
    if args.set {
        let path = shell::root()?.join(LIMITS);
        std::fs::write(&path, limits_text(&counts)).with_context(|| format!("writing {}", path.display()))?;
        counts
            .iter()
            .for_each(|count| println!("  {:16} {:>7} instructions", count.path, count.instructions));
        println!("limits written to {LIMITS}");
        return Ok(());
    }
    counts.iter().for_each(|count| println!("{}", count.line()));
    if counts.iter().any(|count| !count.is_within()) {
        bail!(
            "a hot path takes more instructions than {LIMITS} allows; `callgrind_annotate` on a run of chronik-guard shows where, \
             `cargo xtask guard --set` takes the new counts where the price is meant"
        );
    }
    Ok(())
}

/// The same as a suite of `cargo xtask test`: each path is a test, skipped where there is no valgrind.
pub fn suite() -> Result<Outcome> {
    shell::step("instruction counts of the hot paths");
    let started = Instant::now();
    let mut outcome = Outcome { name: "instruction counts".to_owned(), ..Outcome::default() };
    if shell::is_installed("valgrind") {
        for count in count(None)? {
            println!("{}", count.line());
            outcome.passed += u64::from(count.is_within());
            outcome.failed += u64::from(!count.is_within());
        }
    } else {
        println!("  skipped: {MISSING}");
        outcome.skipped = limits()?.len() as u64;
        outcome.note = MISSING.to_owned();
    }
    outcome.took = started.elapsed();
    Ok(outcome)
}

fn count(given: Option<&Path>) -> Result<Vec<Count>> {
    let binary = match given {
        Some(binary) => binary.to_owned(),
        None => shell::build_release(&["chronik-guard"])?.join("chronik-guard"),
    };
    let limits = limits()?;
    let mut counts = Vec::new();
    for line in shell::output(Command::new(&binary).arg("list"))?.lines() {
        let (path, times) = line.split_once(' ').context("reading the list of chronik-guard")?;
        let times: u64 = times.parse().context("reading the list of chronik-guard")?;
        counts.push(Count {
            path: path.to_owned(),
            instructions: instructions(&binary, path)?.div_ceil(times),
            limit: limits.get(path).copied(),
        });
    }
    Ok(counts)
}

/// Instructions of one run's counted part.
fn instructions(binary: &Path, path: &str) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--toggle-collect={COUNTED}"));
    // The counts are in what it prints; the profile is nobody's.
    command.arg("--callgrind-out-file=/dev/null").arg(binary).arg(path);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting valgrind on {}", binary.display()))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind on chronik-guard {path} ended with {}:\n{printed}", output.status);
    }
    match collected(&printed) {
        Some(0) | None => bail!("valgrind counted nothing in {COUNTED} of chronik-guard {path}:\n{printed}"),
        Some(instructions) => Ok(instructions),
    }
}

/// The number in the line `==PID== Collected : N`.
fn collected(printed: &str) -> Option<u64> {
    printed.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

fn limits() -> Result<BTreeMap<String, u64>> {
    let path = shell::root()?.join(LIMITS);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    parse_limits(&text)
}

fn parse_limits(text: &str) -> Result<BTreeMap<String, u64>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (path, limit) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let limit = limit.trim().parse().with_context(|| format!("{LIMITS}: no number in \"{line}\""))?;
            Ok((path.to_owned(), limit))
        })
        .collect()
}

fn limits_text(counts: &[Count]) -> String {
    let mut text = String::from(
        "# Instructions that one turn of each hot path may take (release profile, x86-64), about 10 % above what was counted.\n\
         # `cargo xtask guard` counts; `cargo xtask guard --set` writes this file.\n",
    );
    for Count { path, instructions, .. } in counts {
        let limit = (*instructions as f64 * ROOM / 10.0).ceil() as u64 * 10;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{path:16} {limit}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_it_was_written() {
        let count = Count { path: "produce".to_owned(), instructions: 1_001, limit: None };
        let limits = parse_limits(&limits_text(&[count])).unwrap();
        assert_eq!(limits.get("produce"), Some(&1_110));
        assert!(parse_limits("produce many").is_err());
    }

    #[test]
    fn a_path_above_its_limit_or_without_one_is_not_within() {
        let count = |limit| Count { path: "produce".to_owned(), instructions: 100, limit };
        assert!(count(Some(100)).is_within());
        assert!(!count(Some(99)).is_within() && count(Some(99)).line().contains("TOO MANY"));
        assert!(!count(None).is_within());
    }

    #[test]
    fn the_count_is_found_in_what_valgrind_prints() {
        assert_eq!(collected("==7== \n==7== Events    : Ir\n==7== Collected : 123456\n"), Some(123_456));
        assert_eq!(collected("==7== nothing"), None);
    }
}
