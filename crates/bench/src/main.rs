//! `chronik-bench`: a load generator for any Kafka-compatible broker.
//!
//! It drives the broker through librdkafka, the client that most languages use, and never links the
//! broker: what it measures, any client can have.

mod args;
mod consume;
mod fill;
mod first_write;
mod histogram;
mod payload;
mod procfs;
mod produce;
mod progress;
mod report;
mod result;
mod topic;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Fill(args) => fill::run(args),
        Command::FirstWrite(args) => first_write::run(args),
    };
    match outcome {
        Ok(clean) if clean => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("chronik-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
