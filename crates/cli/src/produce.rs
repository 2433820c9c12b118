//! `chronik produce`: sends the lines of standard input to a topic of any Kafka cluster.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use chronik_client::{Client, partition_for_key};
use chronik_records::{BatchBuilder, BatchOptions, Compression};
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::connect::{self, ConnectArgs, parse_pair};
use crate::output;

const EXAMPLES: &str = "\
Each line of standard input is a record's value.

Examples:
  echo hello | chronik produce greetings
  chronik produce orders --key-separator : < orders.txt          (lines are KEY:VALUE)
  chronik produce logs --compression zstd --acks 1 --header host=web1 < access.log";

/// Bytes of records after which a batch is sent: 512 KiB, below what every broker takes.
const BATCH_BYTES: usize = 512 << 10;

/// Lines that are read ahead of what is sent.
const LINES_AHEAD: usize = 10_000;

/// Arguments of `chronik produce`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ProduceArgs {
    /// The topic; it is created if the broker creates topics by itself
    topic: String,
    #[command(flatten)]
    cluster: ConnectArgs,
    /// The partition; without this, by the key, or in turn where there is none
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The key of every record
    #[arg(long, short, conflicts_with = "key_separator")]
    key: Option<String>,
    /// What separates key and value in a line; a line without it has no key
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// An empty line, or an empty value after a key, is a tombstone (a null value)
    #[arg(long)]
    null_when_empty: bool,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_name = "CODEC")]
    compression: Compression,
    /// Who must have a record before it counts as sent: all (in-sync replicas), 1 (the leader), or 0 (nobody)
    #[arg(long, default_value = "all", value_parser = ["all", "-1", "1", "0"])]
    acks: String,
}

#[derive(Serialize)]
struct Sent {
    topic: String,
    records: u64,
    /// The offset after the last record, by partition.
    next_offsets: BTreeMap<i32, i64>,
}

/// Runs the command.
pub fn run(args: &ProduceArgs) -> ExitCode {
    connect::run(async {
        let client = args.cluster.connect().await?;
        let sent = produce(args, &client).await?;
        if args.cluster.json {
            output::json(&sent);
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn produce(args: &ProduceArgs, client: &Client) -> anyhow::Result<Sent> {
    let topic = client.topic(&args.topic, true).await?;
    let partitions: Vec<i32> = topic.partitions.keys().copied().collect();
    if let Some(partition) = args.partition.filter(|partition| !partitions.contains(partition)) {
        bail!("topic {} has no partition {partition}; it has {}", args.topic, partitions.len());
    }
    let mut lines = read_lines()?;
    let mut sent = Sent { topic: args.topic.clone(), records: 0, next_offsets: BTreeMap::new() };
    let mut batches: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
    let mut turn = 0;
    while let Some(line) = lines.recv().await {
        add(args, &partitions, turn, &line?, &mut batches)?;
        let is_full = batches.values().any(|batch| batch.size() >= BATCH_BYTES);
        // Whoever types wants each line sent; a file is sent in batches.
        if is_full || lines.is_empty() {
            send(args, client, &mut batches, &mut sent).await?;
            turn += 1;
        }
    }
    send(args, client, &mut batches, &mut sent).await?;
    Ok(sent)
}

/// Reads lines on a thread of its own, as standard input can't be waited for otherwise.
fn read_lines() -> anyhow::Result<mpsc::Receiver<anyhow::Result<Vec<u8>>>> {
    let (lines, receiver) = mpsc::channel(LINES_AHEAD);
    let read = move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    if lines.blocking_send(Ok(line)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = lines.blocking_send(Err(error).context("can't read standard input"));
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(read).context("can't start a thread")?;
    Ok(receiver)
}

/// Puts a line into the batch of its partition.
fn add(
    args: &ProduceArgs,
    partitions: &[i32],
    turn: usize,
    line: &[u8],
    batches: &mut BTreeMap<i32, BatchBuilder>,
) -> anyhow::Result<()> {
    let (key, value) = match &args.key_separator {
        Some(separator) => split(line, separator.as_bytes()),
        None => (args.key.as_deref().map(str::as_bytes), line),
    };
    let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
    let partition = match (args.partition, key) {
        (Some(partition), _) => partition,
        (None, Some(key)) => partition_for_key(key, count),
        (None, None) => partitions.get(turn % partitions.len().max(1)).copied().unwrap_or_default(),
    };
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        args.header.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
    let value = (!value.is_empty() || !args.null_when_empty).then_some(value);
    let options = BatchOptions { encoding: args.compression.into(), ..BatchOptions::default() };
    let batch = batches.entry(partition).or_insert_with(|| BatchBuilder::new(options));
    batch.append(now_ms(), key, value, &headers)?;
    Ok(())
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    let at = line.windows(separator.len().max(1)).position(|window| window == separator);
    match at.and_then(|at| line.split_at_checked(at)) {
        Some((key, rest)) => (Some(key), rest.get(separator.len()..).unwrap_or_default()),
        None => (None, line),
    }
}

async fn send(
    args: &ProduceArgs,
    client: &Client,
    batches: &mut BTreeMap<i32, BatchBuilder>,
    sent: &mut Sent,
) -> anyhow::Result<()> {
    let acks = match args.acks.as_str() {
        "0" => 0,
        "1" => 1,
        _ => -1,
    };
    for (partition, batch) in std::mem::take(batches) {
        let count = batch.count() as u64;
        let timeout = Duration::from_secs(args.cluster.timeout);
        let appended = client.produce(&args.topic, partition, batch.finish()?, acks, timeout).await?;
        sent.records += count;
        let next = appended.base_offset.saturating_add(i64::try_from(count)?);
        sent.next_offsets.insert(partition, next);
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn keys_are_split_off() {
        assert_eq!(split(b"a:b:c", b":"), (Some(&b"a"[..]), &b"b:c"[..]));
        assert_eq!(split(b"a::b", b"::"), (Some(&b"a"[..]), &b"b"[..]));
        assert_eq!(split(b":b", b":"), (Some(&b""[..]), &b"b"[..]));
        assert_eq!(split(b"ab", b":"), (None, &b"ab"[..]));
    }
}
