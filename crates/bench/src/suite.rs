//! `chronik-bench suite`: many runs against one broker, one after the other, each by this program in a process of its own.

use crate::suite_plan::{BUILT_IN, Suite, is_done};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What `suite` takes.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    chronik-bench suite --list\n  \
    chronik-bench suite smoke --bootstrap-server localhost:9092\n  \
    chronik-bench suite my.toml --results results/ --fresh\n\n\
    A file has `common = [OPTION...]`, `rounds = 3` and for each run a `[[run]]` with `name`, `command` and `options = [...]`.\n\
    What is in the results already is not run again; `chronik-bench report DIR` makes a report of it.")]
pub struct SuiteArgs {
    /// A file (TOML), or the name of a suite that is built in.
    #[arg(value_name = "FILE", required_unless_present = "list")]
    suite: Option<String>,
    /// Names the suites that are built in, or the runs of FILE, and ends.
    #[arg(long)]
    list: bool,
    /// Broker addresses, HOST:PORT[,…].
    #[arg(long, default_value = "localhost:9092")]
    bootstrap_server: String,
    /// Folder that the result files go to.
    #[arg(long, value_name = "DIR", default_value = "chronik-bench-results")]
    results: PathBuf,
    /// Runs again what is in the results already.
    #[arg(long)]
    fresh: bool,
}

/// Runs a suite. False where a run failed (exit code 1 of it: something was lost, corrupt, or not taken).
///
/// # Errors
/// No suite of that name, or a run could not be made at all.
pub fn run(args: &SuiteArgs) -> Result<bool> {
    let Some(given) = &args.suite else {
        for (name, _) in BUILT_IN {
            println!("{name:10} {}", Suite::load(name)?.title);
        }
        return Ok(true);
    };
    let suite = Suite::load(given)?;
    let turns = suite.turns(&args.bootstrap_server, &args.results);
    if args.list {
        for run in &suite.runs {
            println!("{:24} {} {}", run.name, run.command, run.options.join(" "));
        }
        return Ok(true);
    }
    std::fs::create_dir_all(&args.results).with_context(|| format!("making {}", args.results.display()))?;
    let program = std::env::current_exe().context("finding this program")?;
    let (mut clean, mut could_not) = (true, Vec::new());
    for (index, turn) in turns.iter().enumerate() {
        let at = format!("{:>3}/{} {} round {}", index + 1, turns.len(), turn.name, turn.round);
        if !args.fresh && is_done(&turn.output) {
            eprintln!("{at}: done before");
            continue;
        }
        let began = Instant::now();
        // The result is in its file; progress goes where ours goes.
        let status = Command::new(&program)
            .args(&turn.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", program.display()))?;
        let took = began.elapsed().as_secs_f64();
        match status.code() {
            Some(0) => eprintln!("{at}: {took:.0} s"),
            Some(1) => {
                clean = false;
                eprintln!("{at}: {took:.0} s, FAILED: see failures in {}", turn.output.display());
            }
            Some(2) => {
                eprintln!("{at}: could not run");
                could_not.push(format!("{} round {}", turn.name, turn.round));
            }
            // Ctrl-C reaches the run as well; what it left is marked as interrupted, so it is made again.
            _ => bail!("{at}: ended with {status}; the same command goes on from here"),
        }
    }
    if !could_not.is_empty() {
        bail!("could not run: {}", could_not.join(", "));
    }
    eprintln!("results in {}", args.results.display());
    Ok(clean)
}
