//! `chronik consume`: prints the records of a topic of any Kafka cluster.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use chronik_client::{Client, EARLIEST, LATEST, ReadOptions};
use chronik_records::Record;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::connect::{self, ConnectArgs};
use crate::timestamp;

const EXAMPLES: &str = "\
Prints what is there and ends; with --follow it goes on until it is interrupted. It does not join a group and
commits nothing.

Examples:
  chronik consume orders
  chronik consume orders --from latest --follow --keys
  chronik consume orders --partition 3 --from 1200 --max 10 --json
  chronik consume orders --from 2026-01-31T12:00:00Z";

/// Arguments of `chronik consume`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ConsumeArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    cluster: ConnectArgs,
    /// Only this partition
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where to begin: earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, default_value = "earliest", value_parser = parse_from)]
    from: From,
    /// Wait for further records at the end
    #[arg(long, short)]
    follow: bool,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    /// Print each record's key before its value, with a tab between them
    #[arg(long)]
    keys: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// A timestamp, or what stands for the first or last offset.
    Time(i64),
    Offset(i64),
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "earliest" => Ok(From::Time(EARLIEST)),
        "latest" => Ok(From::Time(LATEST)),
        _ => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(From::Offset(offset)),
            Ok(_) => Err("an offset can't be negative".to_owned()),
            Err(_) => timestamp::parse(text).map(From::Time),
        },
    }
}

/// Runs the command.
pub fn run(args: &ConsumeArgs) -> ExitCode {
    connect::run(async {
        let client = args.cluster.connect().await?;
        consume(args, &client).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn consume(args: &ConsumeArgs, client: &Client) -> anyhow::Result<()> {
    let topic = client.topic(&args.topic, false).await?;
    let mut positions = BTreeMap::new();
    let is_wanted = |partition: &i32| args.partition.is_none_or(|wanted| wanted == *partition);
    for partition in topic.partitions.into_keys().filter(is_wanted) {
        positions.insert(partition, start(args, client, partition).await?);
    }
    if let (Some(partition), true) = (args.partition, positions.is_empty()) {
        anyhow::bail!("topic {} has no partition {partition}", args.topic);
    }
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut reader = client.read(&args.topic, positions, ReadOptions::default());
    let mut failure = Ok(());
    while left > 0 && failure.is_ok() {
        let mut stdout = std::io::stdout().lock();
        let read = reader.poll(|partition, record| {
            failure = print(args, &mut stdout, partition, record);
            left -= 1;
            left > 0 && failure.is_ok()
        });
        let count = read.await?;
        failure = failure.and_then(|()| stdout.flush());
        if count == 0 && !args.follow && reader.is_at_end() {
            break;
        }
    }
    match failure {
        // Whoever reads the output has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

async fn start(args: &ConsumeArgs, client: &Client, partition: i32) -> anyhow::Result<i64> {
    match args.from {
        From::Offset(offset) => Ok(offset),
        From::Time(time) => match client.offset_at(&args.topic, partition, time).await? {
            Some(offset) => Ok(offset),
            // Nothing is as late as that.
            None => Ok(client.offset_at(&args.topic, partition, LATEST).await?.unwrap_or_default()),
        },
    }
}

fn print(
    args: &ConsumeArgs,
    out: &mut impl Write,
    partition: i32,
    record: &Record<'_>,
) -> std::io::Result<()> {
    if args.cluster.json {
        serde_json::to_writer(&mut *out, &as_json(&args.topic, partition, record))?;
    } else {
        if args.keys {
            out.write_all(record.key.unwrap_or_default())?;
            out.write_all(b"\t")?;
        }
        out.write_all(record.value.unwrap_or_default())?;
    }
    out.write_all(b"\n")
}

/// A record as JSON.
#[derive(Serialize)]
pub struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(flatten)]
    bytes: Map<String, Value>,
    headers: Vec<Map<String, Value>>,
}

/// Bytes are given as text under their own name where they are UTF-8, else as hexadecimal digits under `NAME_hex`.
pub fn as_json<'a>(topic: &'a str, partition: i32, record: &Record<'_>) -> JsonRecord<'a> {
    let mut bytes = Map::new();
    put(&mut bytes, "key", record.key);
    put(&mut bytes, "value", record.value);
    let headers = record.headers.map(|header| {
        let mut entry = Map::new();
        put(&mut entry, "name", Some(header.key));
        put(&mut entry, "value", header.value);
        entry
    });
    JsonRecord {
        topic,
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        bytes,
        headers: headers.collect(),
    }
}

fn put(map: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => map.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => map.insert(name.to_owned(), json!(text)),
        Some((bytes, Err(_))) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            map.insert(format!("{name}_hex"), json!(digits))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read() {
        assert_eq!(parse_from("earliest"), Ok(From::Time(EARLIEST)));
        assert_eq!(parse_from("latest"), Ok(From::Time(LATEST)));
        assert_eq!(parse_from("12"), Ok(From::Offset(12)));
        assert_eq!(parse_from("1970-01-02"), Ok(From::Time(86_400_000)));
        assert!(parse_from("-5").is_err());
        assert!(parse_from("soon").is_err());
    }
}
