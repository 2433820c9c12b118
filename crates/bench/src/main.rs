//! `chronik-bench`: a load generator for any Kafka-compatible broker.
//!
//! It drives the broker through librdkafka, the client that most languages use, and never links the
//! broker: what it measures, any client can have.

mod args;
mod compare;
mod compare_runs;
mod consume;
mod fill;
mod first_write;
mod histogram;
mod hlog;
mod interrupt;
mod ledger;
mod machine;
mod maker;
mod message;
mod metrics;
mod print;
mod procfs;
mod produce;
mod producers;
mod progress;
mod random;
mod readers;
mod report_page;
mod report_page_charts;
mod report_page_data;
mod report_page_text;
mod result;
mod saturate;
mod scenario;
mod server;
mod session;
mod suite;
mod suite_plan;
mod tally;
mod together;
mod topic;
mod transactions;
mod units;
mod verdict;
mod verify;
mod window;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::E2e(args) => together::e2e(args),
        Command::Mixed(args) => together::mixed(args),
        Command::Saturate(args) => saturate::run(args),
        Command::Fill(args) => fill::run(args),
        Command::Suite(args) => suite::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Report(args) => report_page::run(args),
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
