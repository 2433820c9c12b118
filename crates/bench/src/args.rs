//! The command line. What is written here is also what a result file says under `settings`.

use crate::message::{KeySpec, PayloadSpec, SizeSpec};
use crate::units::{Bytes, Span, key_value};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Parser)]
#[command(
    name = "chronik-bench",
    version,
    about = "Load generator for Kafka-compatible brokers, honest first of all",
    after_help = "Examples:\n  \
        chronik-bench produce\n  \
        chronik-bench produce --rate 2000 --acks all --duration 10s --warmup 2s --json\n  \
        chronik-bench produce --queue --linger 5ms --compression lz4 --payload ratio:4 --verify\n  \
        chronik-bench consume --messages 1000000 --consumers 3\n  \
        chronik-bench e2e --rate 5000 --acks all\n  \
        chronik-bench mixed --share 1=70 --share all=30 --consumers 2\n  \
        chronik-bench saturate --acks all --p99-limit 10ms\n\n\
        Exit code: 0 when all is well; 1 when messages were lost, corrupt or failed; 2 when it could not run."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Produces in a closed loop, at a rate, or as fast as a queue takes it.
    Produce(ProduceArgs),
    /// Reads as groups of consumers, from the start of a topic or its tail, and checks what comes.
    Consume(ConsumeArgs),
    /// Measures from when a message should have been sent to its receipt, at a rate.
    E2e(E2eArgs),
    /// Produces with several kinds of acknowledgement and consumes, all at once, each reported apart.
    Mixed(MixedArgs),
    /// Raises the rate until p99 passes a limit: latency over load, and the knee.
    Saturate(SaturateArgs),
    /// Runs many loads against one broker, with results in a folder; goes on where it was stopped.
    Suite(crate::suite::SuiteArgs),
    /// Compares results and says whether a difference is more than noise.
    Compare(crate::compare::CompareArgs),
    /// Makes a report of results: Markdown, charts, and one HTML page.
    Report(crate::report_page::ReportArgs),
    /// Produces a number of messages in bulk, so that a topic has a known size, and keeps the topic.
    Fill(FillArgs),
    /// Waits until the port opens, has one message acknowledged, and prints when that was.
    FirstWrite(FirstWriteArgs),
}

/// Where the load goes.
#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// Broker addresses, HOST:PORT[,…].
    #[arg(long, visible_alias = "bootstrap", default_value = "localhost:9092", value_name = "ADDRESSES")]
    pub bootstrap_server: String,
    /// Topic to use; created for the run and removed after it.
    #[arg(long, default_value = "chronik-bench")]
    pub topic: String,
    /// Partitions of the topic (of an existing one, as many as it has).
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
    pub partitions: i32,
    /// Replicas of each partition.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=32767))]
    pub replication_factor: i32,
    /// A setting of the topic, such as min.insync.replicas=2.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    #[serde(serialize_with = "as_map")]
    pub topic_config: Vec<(String, String)>,
    /// Uses a topic that is there already; it is never removed.
    #[arg(long, conflicts_with_all = ["topic_config", "keep_topic"])]
    pub use_existing: bool,
    /// Leaves the topic there at the end.
    #[arg(long)]
    pub keep_topic: bool,
    /// Any setting of librdkafka; wins over the options.
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = key_value)]
    #[serde(serialize_with = "as_map", rename = "X")]
    pub settings: Vec<(String, String)>,
}

/// What is watched and where the result goes.
#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct Output {
    /// Server processes on this machine whose CPU, memory, writes and context switches to report.
    #[arg(long, visible_alias = "pid", value_delimiter = ',', value_name = "PIDS")]
    pub server_pids: Vec<u32>,
    /// Prometheus metrics of a server, such as http://localhost:9092/metrics.
    #[arg(long, value_name = "URL")]
    pub server_metrics: Vec<String>,
    /// Prints JSON on a terminal too; what is piped is always JSON.
    #[arg(long)]
    pub json: bool,
    /// Also writes the result to a file.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Writes the histogram of each second as an interval log (HdrHistogram 1.3).
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// A name for the run, for reports.
    #[arg(long)]
    pub label: Option<String>,
    /// Messages a second that this tool reached with these settings against a server that does next to nothing.
    #[arg(long, value_name = "RATE")]
    pub generator_ceiling: Option<f64>,
    /// Folder where the time of a disk flush is measured before the run.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub disk_probe: PathBuf,
    /// Leaves that measurement out.
    #[arg(long)]
    pub no_disk_probe: bool,
}

/// What messages are like.
#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct Content {
    /// Bytes of a value: 256, 1KiB, uniform:64..1KiB, or 64=3,16KiB=1 with weights.
    #[arg(long, default_value = "256", value_name = "SIZE")]
    pub message_size: SizeSpec,
    /// none, uniform:COUNT, zipf:COUNT or zipf:COUNT:EXPONENT.
    #[arg(long, default_value = "none")]
    pub keys: KeySpec,
    /// random (does not compress), ratio:NUMBER (compresses by that factor), or file:PATH (its lines in turn).
    #[arg(long, default_value = "random")]
    pub payload: PayloadSpec,
    /// Compression of batches.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
}

/// How producers send.
#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct Sending {
    /// Closed loop: messages that wait for their answer at any time, over all clients.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub concurrency: u32,
    /// Independent librdkafka producers, each with connections of its own.
    #[arg(long, visible_alias = "handles", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// How long librdkafka waits for a batch to fill.
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    pub linger: Span,
    /// Largest batch (default: librdkafka's).
    #[arg(long, value_name = "SIZE")]
    pub batch_size: Option<Bytes>,
    /// Requests in flight on a connection (default: librdkafka's).
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_in_flight: Option<u32>,
    /// Idempotent producers (KIP-98).
    #[arg(long)]
    pub idempotent: bool,
}

/// How long a run lasts, and whether it is checked.
#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct Timing {
    /// Load before the measurement: nothing that begins in it counts.
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub warmup: Span,
    /// Length of the measurement.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub duration: Span,
    /// Reads everything back at the end and compares it with what was acknowledged.
    #[arg(long)]
    pub verify: bool,
}

#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct ProduceArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    pub content: Content,
    #[command(flatten)]
    #[serde(flatten)]
    pub sending: Sending,
    #[command(flatten)]
    #[serde(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    #[serde(flatten)]
    pub output: Output,
    /// What an answer means.
    #[arg(long, value_enum, default_value_t = Acks::Leader, allow_hyphen_values = true)]
    pub acks: Acks,
    /// Open loop: messages a second over all clients; latency counts from when a message was due.
    #[arg(long, conflicts_with_all = ["queue", "transactional"])]
    pub rate: Option<f64>,
    /// Open loop: as fast as a queue of so many messages takes them.
    #[arg(long, value_name = "MESSAGES", num_args = 0..=1, default_missing_value = "100000", conflicts_with = "transactional", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub queue: Option<u32>,
    /// Transactions; a message is acknowledged by the commit.
    #[arg(long)]
    pub transactional: bool,
    /// Messages of each transaction.
    #[arg(long, default_value_t = 100, requires = "transactional", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub transaction_size: u32,
}

#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct ConsumeArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    pub content: Content,
    #[command(flatten)]
    #[serde(flatten)]
    pub readers: Readers,
    #[command(flatten)]
    #[serde(flatten)]
    pub output: Output,
    /// Where reading begins.
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    pub from: From,
    /// From the earliest: messages that each group reads. A topic made for the run is filled with so many.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// From the earliest: whether the broker's machine has the data in memory; cold needs root on this machine.
    #[arg(long, value_enum, default_value_t = Cache::Warm)]
    pub cache: Cache,
    /// From the tail: messages a second that are produced meanwhile (without it, others must produce).
    #[arg(long)]
    pub rate: Option<f64>,
    /// From the tail: what an answer means to the producer.
    #[arg(long, value_enum, default_value_t = Acks::Leader, allow_hyphen_values = true)]
    pub acks: Acks,
    /// From the tail: load before the measurement.
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub warmup: Span,
    /// From the tail: length of the measurement.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub duration: Span,
    /// From the earliest: gives up when nothing arrives for this long.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub patience: Span,
}

/// Who reads.
#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct Readers {
    /// Members of each group.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub consumers: u32,
    /// Groups; each reads everything.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub groups: u32,
    /// Gives each member its partitions instead of letting the broker's group coordinator do it.
    #[arg(long)]
    pub no_group: bool,
}

#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct E2eArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    pub content: Content,
    #[command(flatten)]
    #[serde(flatten)]
    pub sending: Sending,
    #[command(flatten)]
    #[serde(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    #[serde(flatten)]
    pub readers: Readers,
    #[command(flatten)]
    #[serde(flatten)]
    pub output: Output,
    /// What an answer means.
    #[arg(long, value_enum, default_value_t = Acks::Leader, allow_hyphen_values = true)]
    pub acks: Acks,
    /// Messages a second.
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
}

#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct MixedArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    pub content: Content,
    #[command(flatten)]
    #[serde(flatten)]
    pub sending: Sending,
    #[command(flatten)]
    #[serde(flatten)]
    pub timing: Timing,
    #[command(flatten)]
    #[serde(flatten)]
    pub readers: Readers,
    #[command(flatten)]
    #[serde(flatten)]
    pub output: Output,
    /// A kind of acknowledgement and its part of the concurrency or of the rate: 1=70, all=30.
    #[arg(long = "share", value_name = "ACKS=PART", allow_hyphen_values = true, default_values = ["1=50", "all=50"])]
    pub shares: Vec<Share>,
    /// Open loop: messages a second over all shares.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Leaves the consumers out.
    #[arg(long, conflicts_with_all = ["consumers", "groups", "no_group"])]
    pub no_consumers: bool,
}

#[derive(Args, Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct SaturateArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    pub content: Content,
    #[command(flatten)]
    #[serde(flatten)]
    pub sending: Sending,
    #[command(flatten)]
    #[serde(flatten)]
    pub output: Output,
    /// What an answer means.
    #[arg(long, value_enum, default_value_t = Acks::Leader, allow_hyphen_values = true)]
    pub acks: Acks,
    /// The 99th percentile that must be kept, from when a message was due.
    #[arg(long, default_value = "10ms", value_name = "DURATION")]
    pub p99_limit: Span,
    /// The first rate, in messages a second.
    #[arg(long, default_value_t = 1000.0, value_name = "RATE")]
    pub start_rate: f64,
    /// The highest rate that is tried.
    #[arg(long, default_value_t = 2_000_000.0, value_name = "RATE")]
    pub highest_rate: f64,
    /// By which factor the rate rises at first.
    #[arg(long, default_value_t = 2.0, value_name = "FACTOR")]
    pub factor: f64,
    /// Rates tried between the last that kept the limit and the first that did not.
    #[arg(long, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub refine: u32,
    /// Load before each step's measurement.
    #[arg(long, default_value = "2s", value_name = "DURATION")]
    pub warmup: Span,
    /// Length of each step's measurement.
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub duration: Span,
    /// Reads everything back at the end and compares it with what was acknowledged.
    #[arg(long)]
    pub verify: bool,
}

#[derive(Args, Clone)]
pub struct FillArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub content: Content,
    /// Messages to produce.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// Prints JSON on a terminal too.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone)]
pub struct FirstWriteArgs {
    #[command(flatten)]
    pub target: Target,
    /// Gives up after this long.
    #[arg(long, default_value = "300s", value_name = "DURATION")]
    pub patience: Span,
    /// Prints JSON on a terminal too.
    #[arg(long)]
    pub json: bool,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Acks {
    /// Nothing: the broker does not answer.
    #[value(name = "0")]
    None,
    /// The leader has it.
    #[value(name = "1")]
    Leader,
    /// Every replica in sync has it.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// As librdkafka and result files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
        }
    }
}

impl Serialize for Acks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Compression of batches.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// As librdkafka spells it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The first message there is.
    Earliest,
    /// What comes from now on.
    Tail,
}

/// Whether the data are in memory.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// As they are.
    Warm,
    /// The machine's page cache is dropped first.
    Cold,
    /// First cold, then once more.
    Both,
}

/// A kind of acknowledgement and its part of the load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    /// The kind.
    pub acks: Acks,
    /// Its part, in proportion to the other parts.
    pub part: u32,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not ACKS=PART, such as 1=70 or all=30");
        let (acks, part) = text.split_once('=').ok_or_else(wrong)?;
        let acks = match acks {
            "1" => Acks::Leader,
            "all" | "-1" => Acks::All,
            "0" => Acks::None,
            _ => return Err(wrong()),
        };
        match part.parse() {
            Ok(part) if (1..=1_000_000).contains(&part) => Ok(Share { acks, part }),
            _ => Err(format!("\"{text}\": the part is not a whole number between 1 and 1,000,000")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}={}", self.acks.name(), self.part)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
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
    fn defaults_are_those_of_the_first_report() {
        let Command::Produce(args) = Cli::parse_from(["chronik-bench", "produce"]).command else { panic!() };
        let settings = serde_json::to_value(&args).unwrap();
        for (name, value) in [
            ("message-size", "256"),
            ("concurrency", "128"),
            ("duration", "\"30s\""),
            ("warmup", "\"5s\""),
            ("acks", "\"1\""),
            ("topic", "\"chronik-bench\""),
            ("bootstrap-server", "\"localhost:9092\""),
            ("linger", "\"0s\""),
        ] {
            assert_eq!(settings[name].to_string(), value, "{name}");
        }
    }

    #[test]
    fn combinations_that_cannot_be_are_refused() {
        let refused = |args: &[&str]| {
            let all = ["chronik-bench", "produce"].iter().chain(args);
            Cli::try_parse_from(all).is_err()
        };
        assert!(refused(&["--rate", "5", "--queue"]));
        assert!(refused(&["--rate", "5", "--transactional"]));
        assert!(refused(&["--transaction-size", "5"]));
        assert!(refused(&["--use-existing", "--topic-config", "a=b"]));
        assert!(refused(&["--acks", "2"]));
        assert!(refused(&["--duration", "soon"]));
        assert!(!refused(&["--acks", "-1", "--queue", "500"]));
    }
}
