//! `cargo xtask benchmark`: the whole matrix of the benchmark report, on Chronik in each mode and on Apache Kafka, and the report.
//!
//! Every run is one result file of chronik-bench; the report is made of these files alone. A run that is cut short goes on where it was.

mod followers;
mod matrix;
mod results;
mod runner;

use crate::bench::generator::Generator;
use crate::bench::servers::{Floor, Peers};
use crate::{bench, shell};
use anyhow::{Context, Result};
use matrix::{Row, Section, Setup, TURNS, sections};
use results::{Plan, Results, wanted};
use runner::Runner;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// A small part of the matrix, in seconds each: says whether it works, not how fast. The report stays in the target folder.
    #[arg(long)]
    quick: bool,
    /// Only the rows whose names begin so; --list names them.
    #[arg(long = "row", value_delimiter = ',', value_name = "NAME")]
    rows: Vec<String>,
    /// Names the rows and ends.
    #[arg(long)]
    list: bool,
    /// Runs of each row on each server.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds of load before.
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
    /// Begins no further run after so many minutes; the same command goes on later.
    #[arg(long)]
    minutes: Option<u64>,
    /// Servers to leave out: kafka, floor.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    without: Vec<String>,
    /// Where result files are kept (default: benchmarks/results, with --quick in the target folder).
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Measures again what is in the results already.
    #[arg(long)]
    fresh: bool,
    /// Measures nothing: writes the report of what is there.
    #[arg(long, conflicts_with = "fresh")]
    report_only: bool,
    /// Folder with kafka-get.sh, kafka-up.sh and kafka-down.sh.
    #[arg(long, env = "CHRONIK_PEERS", default_value = "../shared/peers")]
    peers: PathBuf,
    /// Where Apache Kafka is, or is assembled (default: kafka in the target folder).
    #[arg(long, env = "CHRONIK_KAFKA")]
    kafka: Option<PathBuf>,
    /// The floor: its binary, or the folder of its source.
    #[arg(long, env = "CHRONIK_FLOOR", default_value = "../shared/floor")]
    floor: PathBuf,
    /// The broker binary (default: built here).
    #[arg(long)]
    broker: Option<PathBuf>,
    /// The binary of chronik-bench (default: built here).
    #[arg(long, value_name = "PATH")]
    generator: Option<PathBuf>,
}

const INTRO: &[&str] = &[
    "Made by `cargo xtask benchmark` from the result files in `benchmarks/results/` alone; nothing here is written by hand. The same with series that can be \
     switched on and off: `benchmarks/report.html`. Figures are medians of the rounds, with the smallest and the largest in brackets; totals and failures are sums over \
     the rounds, the maximum is the largest of all. Servers take turns, round after round. Rows of the first report stand beside ours as `first report`: they were measured \
     on another machine, so they say nothing about who is faster.",
    "**What flushes and what does not.** Chronik answers `acks=all` after a flush to disk on every in-sync replica, and `acks=1` once the leader has written it to the \
     operating system. Apache Kafka, with the settings of its distribution, flushes for neither: its answers mean page caches. So where both say `acks=all`, Chronik's \
     answer promises more. Throughput counts acknowledged messages of the measured time only; latency of a closed loop counts from sending, that of a rate from when a \
     message was due, so a stall shows in full.",
];

const CLOSING: &[&str] = &[
    "To repeat it on your machine, with nothing else running (docs/benchmarking.md has the rest):",
    "    cargo xtask benchmark",
];

/// Measures what is not measured yet, and writes the report.
pub fn run(args: &Args) -> Result<()> {
    let sections = sections();
    if args.list {
        for section in &sections {
            println!("{}", section.title);
            for row in &section.rows {
                println!("  {:28} {}{}", row.name, row.title, if row.quick { "   (quick)" } else { "" });
            }
        }
        return Ok(());
    }
    let home = shell::target_dir()?.join("benchmark");
    let root = shell::root()?;
    let kept = root.join("benchmarks/results");
    let folder = match &args.results {
        Some(folder) => folder.clone(),
        None if args.quick => home.join("results"),
        None => kept.clone(),
    };
    let plan = Plan {
        seconds: if args.quick { args.seconds.min(1) } else { args.seconds },
        warmup_seconds: if args.quick { args.warmup.min(0.5) } else { args.warmup },
        quick: args.quick,
    };
    // A trial of what is there now; what an earlier one found says nothing about it.
    let is_trial = args.quick && !args.report_only;
    let results = Results::open(&folder, (!args.report_only).then_some(plan), args.fresh || is_trial)?;
    let generator = match &args.generator {
        Some(given) => given.clone(),
        None => shell::build_release(&["chronik-bench"])?.join("chronik-bench"),
    };
    let measured =
        if args.report_only { Ok(()) } else { measure(args, &sections, &results, plan, &generator, &home) };
    // What there is makes a report, also where something went wrong on the way.
    let published = folder == kept;
    let (docs, page) = match published {
        true => (root.join("docs"), root.join("benchmarks/report.html")),
        false => (home.join("report"), home.join("report/report.html")),
    };
    results.write_layout(&sections, CLOSING, INTRO)?;
    report(&generator, &folder, &docs, &page)?;
    measured
}

fn report(generator: &Path, folder: &Path, docs: &Path, page: &Path) -> Result<()> {
    let charts = docs.join("benchmark-charts");
    if charts.is_dir() {
        // Charts of rows that are gone would stay.
        std::fs::remove_dir_all(&charts).with_context(|| format!("emptying {}", charts.display()))?;
    }
    let markdown = docs.join("benchmark-report.md");
    let mut command = Command::new(generator);
    command.arg("report").arg(folder).arg("--markdown").arg(&markdown);
    command.arg("--charts").arg(&charts).arg("--html").arg(page);
    shell::run(&mut command)
}

fn measure(
    args: &Args,
    sections: &[Section],
    results: &Results,
    plan: Plan,
    generator: &Path,
    home: &Path,
) -> Result<()> {
    let rounds = if args.quick { 1 } else { args.rounds };
    let rows = wanted(sections, &args.rows, args.quick)?;
    let broker = bench::broker(args.broker.as_deref())?;
    let run = home.join("run");
    std::fs::create_dir_all(&run).with_context(|| format!("making {}", run.display()))?;
    let left_out = |name: &str| args.without.iter().any(|known| known == name);
    let floor = match left_out("floor") {
        true => None,
        false => Floor::find(&shell::root()?.join(&args.floor))?,
    };
    let kafka = || bench::kafka(&args.without, &args.peers, args.kafka.as_deref());
    let mut runner = Runner {
        results,
        plan,
        rounds,
        generator: generator.to_owned(),
        fill: Generator::prepare(Some(generator))?,
        broker,
        run: run.clone(),
        until: args.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60)),
        done: 0,
        all: 0,
    };
    let of = |turn: &(Setup, bool)| rows.iter().filter(|row| (row.setup, row.sweep) == *turn).collect();
    let setups: Vec<(Setup, Vec<&Row>)> = TURNS.iter().map(|turn| (turn.0, of(turn))).collect();
    runner.count(&setups, kafka()?.is_some(), floor.is_some());
    for (setup, rows) in setups {
        let peers: Option<Peers> = kafka()?;
        let servers = runner::servers(setup, &runner.broker, &run, peers, floor.as_deref())?;
        runner.measure(&rows, servers)?;
    }
    Ok(())
}
