//! Every habit of the project as a command: `cargo xtask help`.

mod bench;
mod benchmark;
mod chaos;
mod client_suites;
mod codegen;
mod commands;
mod coverage;
mod crate_graph;
mod demo;
mod guard;
mod shell;
mod simulate;
mod test_run;
mod tidy;
mod toolchains;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's habits as commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the message structs of crates/protocol from its schema tables.
    Codegen {
        /// Only compares; fails when a generated file differs from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Checks crate arrows, banned crates and calls, licences, file lengths.
    Tidy,
    /// Runs every test: unit, property, end to end, and the client suites.
    Test(test_run::Args),
    /// Builds the release binary and shows the main job on real data, with a kill -9 in mid-stream.
    Demo(demo::DemoArgs),
    /// Measures Chronik beside Apache Kafka and the floor: throughput, latency, CPU, memory, starts.
    Bench(bench::Args),
    /// Measures the whole matrix of the benchmark report, on every mode and on Apache Kafka, and writes the report.
    Benchmark(benchmark::Args),
    /// Kills the broker at random moments under load and checks that nothing acknowledged is lost.
    Crash(demo::CrashArgs),
    /// Runs the cluster's state machines in a deterministic simulation, with faults, by seed.
    Simulate(simulate::Args),
    /// Puts a cluster under load, breaks its nodes, links and disks at random, and checks that nothing acknowledged is lost.
    Chaos(chaos::Args),
    /// Shows by crate which lines the unit, property and end-to-end tests reach.
    Coverage(coverage::Args),
    /// Counts the instructions of the hot paths and holds them to crates/guard/limits.txt (needs valgrind).
    Guard(guard::Args),
    /// Runs the fuzz targets of fuzz/ (needs a C++ compiler).
    Fuzz(commands::FuzzArgs),
    /// Builds the documentation of every crate; a warning is an error.
    Docs,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Codegen { check } => codegen::run(check),
        Command::Tidy => tidy::run(),
        Command::Test(args) => test_run::run(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Benchmark(args) => benchmark::run(&args),
        Command::Crash(args) => demo::crash(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Guard(args) => guard::run(&args),
        Command::Fuzz(args) => commands::fuzz(&args),
        Command::Docs => commands::docs(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
