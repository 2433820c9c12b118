//! `chronik-harness`: starts the broker binary, drives it with librdkafka, kills it with `kill -9`, and
//! checks that everything it acknowledged is still there.

mod admin;
mod broker;
mod chaos;
mod crash;
mod demo;
mod progress;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "chronik-harness", version, about = "Drives and kills a broker, and checks what it kept")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Streams real data sets through the broker, kills it in mid-stream, and checks every record.
    Demo(demo::Args),
    /// Kills the broker at random moments under load, round after round.
    Crash(crash::Args),
    /// Puts a cluster under load, does everything to it that happens to clusters, and checks what it kept.
    Chaos(chaos::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Crash(args) => crash::run(&args),
        Command::Chaos(args) => chaos::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("chronik-harness: {error:#}");
            ExitCode::from(2)
        }
    }
}
