//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::time::Duration;

#[derive(Parser)]
#[command(
    name = "chronik-bench",
    version,
    about = "Load generator for Kafka-compatible brokers",
    after_help = "Examples:\n  \
        chronik-bench produce --topic t --partitions 6 --acks all\n  \
        chronik-bench produce --topic t --partitions 6 --open-loop --linger-ms 5 --duration 10s --json\n  \
        chronik-bench consume --topic t --messages 4000000 --fill"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Produces at full speed or at a rate and reports throughput and latency.
    Produce(ProduceArgs),
    /// Reads a number of messages from the start of a topic and reports throughput.
    Consume(ConsumeArgs),
    /// Produces a number of messages in bulk, so that a topic has a known size.
    Fill(FillArgs),
    /// Waits until the port opens, has one message acknowledged, and prints when that was.
    FirstWrite(FirstWriteArgs),
}

/// What both loads share.
#[derive(Args)]
pub struct Target {
    /// Broker addresses, HOST:PORT[,…].
    #[arg(long, default_value = "localhost:9092")]
    pub bootstrap: String,
    /// Topic to use; created when it does not exist.
    #[arg(long, default_value = "chronik-bench")]
    pub topic: String,
    /// Partitions of the topic when it is created; also how many the load is spread over.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Replicas of each partition when the topic is created.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=32767))]
    pub replication_factor: i32,
    /// Process ids of the servers whose CPU time and memory to report (same machine, Linux).
    #[arg(long = "pid", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Deletes the topic at the end.
    #[arg(long)]
    pub delete_topic: bool,
    /// Any setting of librdkafka, KEY=VALUE; wins over the options above.
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
    /// One line of JSON instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub target: Target,
    /// Bytes of every message's value.
    #[arg(long, default_value_t = 256)]
    pub message_size: usize,
    /// Messages that wait for their answer at any time, over all handles (closed loop).
    #[arg(long, default_value_t = 128)]
    pub concurrency: usize,
    /// Independent producers, each with connections of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub handles: u64,
    /// How long librdkafka waits for a batch to fill, in milliseconds.
    #[arg(long, default_value = "0")]
    pub linger_ms: String,
    /// What an answer means; `mixed` gives half of the handles 1 and half all.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    pub compression: String,
    /// Requests in flight on a connection (default: librdkafka's, 1,000,000, or 5 when idempotent).
    #[arg(long)]
    pub max_in_flight: Option<u32>,
    /// Sends as fast as librdkafka's queue takes messages.
    #[arg(long, conflicts_with = "rate")]
    pub open_loop: bool,
    /// Messages a second over all handles; latency counts from when a message was due.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Idempotent producers (KIP-98).
    #[arg(long)]
    pub idempotent: bool,
    /// Load before the measurement starts, such as 5s, 500ms.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub warmup: Duration,
    /// Length of the measurement.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
}

#[derive(Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    pub target: Target,
    /// Messages to read.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// Produces what the topic lacks before it reads.
    #[arg(long)]
    pub fill: bool,
    /// Bytes of every message's value for --fill.
    #[arg(long, default_value_t = 256)]
    pub message_size: usize,
    /// Drops the machine's page cache first, so that the broker reads from its disk (needs root).
    #[arg(long)]
    pub cold: bool,
    /// Gives up when nothing arrives for this long.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub patience: Duration,
}

#[derive(Args)]
pub struct FillArgs {
    #[command(flatten)]
    pub target: Target,
    /// Messages to produce.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// Bytes of every message's value.
    #[arg(long, default_value_t = 256)]
    pub message_size: usize,
}

#[derive(Args)]
pub struct FirstWriteArgs {
    #[command(flatten)]
    pub target: Target,
    /// Gives up after this long.
    #[arg(long, default_value = "300s", value_parser = duration)]
    pub patience: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
    Mixed,
}

impl Acks {
    /// librdkafka's `acks` for one of several handles.
    pub fn of_handle(self, handle: usize) -> &'static str {
        match self {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
            Acks::Mixed if handle.is_multiple_of(2) => "1",
            Acks::Mixed => "all",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
            Acks::Mixed => "mixed",
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is not KEY=VALUE, such as linger.ms=5")),
    }
}

/// `5s`, `500ms`, `2m`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("\"{text}\" is not a duration such as 5s, 500ms or 2m")),
    };
    let number: f64 =
        number.parse().map_err(|_| format!("\"{text}\" is not a duration such as 5s, 500ms or 2m"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| format!("\"{text}\": {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_take_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("soon").is_err());
        assert!(duration("5h").is_err());
    }

    #[test]
    fn mixed_acks_alternate_over_handles() {
        assert_eq!(Acks::Mixed.of_handle(0), "1");
        assert_eq!(Acks::Mixed.of_handle(1), "all");
    }
}
