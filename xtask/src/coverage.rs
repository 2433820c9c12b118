//! `cargo xtask coverage`: which lines the tests of the workspace reach, by crate. It is reported; nothing depends on it.

use crate::{shell, test_run, toolchains};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of cargo-llvm-cov that is installed where there is none.
const LLVM_COV: &str = "cargo-llvm-cov@0.9.1";

#[derive(clap::Args)]
pub struct Args {
    /// Only these packages, and only their own tests.
    #[arg(long, short, value_name = "NAME")]
    package: Vec<String>,
}

/// Runs the unit and integration tests with counters, prints the lines covered by crate, and leaves the table, LLVM's
/// own figures and a page for each file in `target/coverage/`. An error when a test failed, but not before the report.
pub fn run(args: &Args) -> Result<()> {
    let missing = toolchains::missing_for_build();
    if !missing.is_empty() {
        bail!("tool chains are missing:\n  {}", missing.join("\n  "));
    }
    find_llvm_tools()?;
    let program = llvm_cov()?;
    let folder = shell::target_dir()?.join("coverage");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;

    // What an earlier run counted, and what it built, would be mixed in.
    shell::run(command(&program, "clean")?.arg("--workspace"))?;
    let mut tests = command(&program, "test")?;
    tests.args(["--no-report", "--no-fail-fast", "--tests"]);
    if args.package.is_empty() {
        tests.arg("--workspace");
    }
    tests.args(args.package.iter().flat_map(|package| ["--package", package]));
    tests.args(["--", "--skip", test_run::CLIENT_SUITE]);
    let name = "unit, property and end to end, built with counters";
    let outcome = test_run::follow(name, &mut test_run::with_fast_cases(tests))?;

    shell::step("reading the counters");
    let json = folder.join("lines.json");
    let mut report = command(&program, "report")?;
    // A broker that a test killed while it wrote its counters leaves a file that can't be read.
    report.args(["--failure-mode", "all", "--json", "--summary-only", "--output-path"]).arg(&json);
    shell::run(&mut report)?;
    let mut pages = command(&program, "report")?;
    shell::run(pages.args(["--failure-mode", "all", "--html", "--output-dir"]).arg(&folder))?;

    let text = fs::read_to_string(&json).with_context(|| format!("reading {}", json.display()))?;
    let table = table(&by_crate(&text, &shell::root()?)?);
    let file = folder.join("crates.txt");
    fs::write(&file, &table).with_context(|| format!("writing {}", file.display()))?;
    print!("\n{table}");
    println!(
        "{} tests passed, {} failed, {} skipped; line by line: {}",
        outcome.passed,
        outcome.failed,
        outcome.skipped,
        folder.join("html/index.html").display()
    );
    if outcome.failed > 0 {
        bail!("{} tests failed; their output is above. {}", outcome.failed, outcome.note);
    }
    Ok(())
}

fn command(program: &Path, subcommand: &str) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(shell::root()?).args(["llvm-cov", subcommand]);
    Ok(command)
}

/// cargo-llvm-cov from the path, or below the target folder, where it is installed if need be.
fn llvm_cov() -> Result<PathBuf> {
    if shell::is_installed("cargo-llvm-cov") {
        return Ok("cargo-llvm-cov".into());
    }
    let tools = shell::target_dir()?.join("tools");
    let program = tools.join("bin/cargo-llvm-cov");
    if !program.is_file() {
        shell::step(&format!("installing {LLVM_COV} into {}", tools.display()));
        shell::run(shell::cargo()?.args(["install", "--quiet", "--locked", LLVM_COV, "--root"]).arg(&tools))
            .context(
                "cargo-llvm-cov is missing and can't be installed here: do it with `cargo install cargo-llvm-cov`",
            )?;
    }
    Ok(program)
}

/// Makes sure of rustup's component llvm-tools, which reads the counters.
fn find_llvm_tools() -> Result<()> {
    if ["LLVM_COV", "LLVM_PROFDATA"].iter().all(|tool| std::env::var_os(tool).is_some()) {
        return Ok(());
    }
    let sysroot =
        shell::output(Command::new("rustc").current_dir(shell::root()?).args(["--print", "sysroot"]))?;
    let tools = Path::new(sysroot.trim()).join("lib/rustlib").join(shell::host()?).join("bin");
    let there = || ["llvm-cov", "llvm-profdata"].iter().all(|tool| tools.join(tool).is_file());
    if !there() && shell::is_installed("rustup") {
        shell::step("installing llvm-tools with rustup");
        // Whether it worked shows below.
        let mut rustup = Command::new("rustup");
        rustup.current_dir(shell::root()?).args(["component", "add", "llvm-tools"]).status()?;
    }
    if !there() {
        bail!(
            "llvm-tools is missing (no llvm-cov and llvm-profdata in {}): install it with `rustup component add \
             llvm-tools`, or name the two programs, of the same version of LLVM as rustc's, by LLVM_COV and \
             LLVM_PROFDATA",
            tools.display()
        );
    }
    Ok(())
}

/// What `llvm-cov export` says of each file.
#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: PathBuf,
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    lines: Lines,
}

/// Lines that have code, and those of them that were run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
struct Lines {
    count: u64,
    covered: u64,
}

/// The wire structs, which `cargo xtask codegen` writes.
const GENERATED: &str = "crates/protocol/src/messages";

/// The lines of each crate, by its folder; generated code counts apart.
fn by_crate(json: &str, root: &Path) -> Result<BTreeMap<String, Lines>> {
    let export: Export = serde_json::from_str(json).context("reading what llvm-cov exported")?;
    let mut crates = BTreeMap::<String, Lines>::new();
    for file in export.data.iter().flat_map(|data| &data.files) {
        let path = file.filename.strip_prefix(root).unwrap_or(&file.filename);
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let folder =
            if parts.first().is_some_and(|part| part == "crates") { parts.get(1) } else { parts.first() };
        let Some(folder) = folder else { continue };
        let generated = path.starts_with(GENERATED);
        let name = if generated { format!("{folder}, generated") } else { folder.to_string() };
        let lines = crates.entry(name).or_default();
        lines.count += file.summary.lines.count;
        lines.covered += file.summary.lines.covered;
    }
    Ok(crates)
}

fn table(crates: &BTreeMap<String, Lines>) -> String {
    let width = crates.keys().map(String::len).max().unwrap_or(0).max("crate".len());
    let mut all = Lines::default();
    let mut text = format!("{:width$}  {:>7} {:>7} {:>7}\n", "crate", "lines", "covered", "percent");
    let mut row = |name: &str, lines: Lines| {
        let percent = 100.0 * lines.covered as f64 / (lines.count as f64).max(1.0);
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name:width$}  {:>7} {:>7} {percent:>7.1}", lines.count, lines.covered);
    };
    for (name, lines) in crates {
        row(name, *lines);
        all.count += lines.count;
        all.covered += lines.covered;
    }
    row("all", all);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORT: &str = r#"{"type":"llvm.coverage.json.export","version":"3.1.0","data":[{"totals":{},"files":[
        {"filename":"/w/crates/log/src/lib.rs","summary":{"lines":{"count":10,"covered":9,"percent":90.0}}},
        {"filename":"/w/crates/log/src/index.rs","summary":{"lines":{"count":30,"covered":21,"percent":70.0}}},
        {"filename":"/w/crates/protocol/src/messages/fetch.rs","summary":{"lines":{"count":5,"covered":0,"percent":0.0}}},
        {"filename":"/w/xtask/src/main.rs","summary":{"lines":{"count":5,"covered":0,"percent":0.0}}}]}]}"#;

    #[test]
    fn lines_are_added_up_by_crate() {
        let crates = by_crate(EXPORT, Path::new("/w")).unwrap();
        let found: Vec<_> =
            crates.iter().map(|(name, lines)| (name.as_str(), lines.count, lines.covered)).collect();
        assert_eq!(found, [("log", 40, 30), ("protocol, generated", 5, 0), ("xtask", 5, 0)]);
    }

    #[test]
    fn the_table_has_percentages_and_a_sum() {
        let table = table(&by_crate(EXPORT, Path::new("/w")).unwrap());
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["log", "40", "30", "75.0"]);
        assert_eq!(lines.last().unwrap(), &["all", "50", "30", "60.0"]);
    }
}
