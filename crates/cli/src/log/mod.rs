//! `chronik log`: looks into the data directory of a node that does not run.

mod topics;

use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::process::ExitCode;

use chronik_log::RecoverySummary;
use chronik_log::offline::{Digest, OfflineLogs, Verified};
use chronik_records::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::consume::as_json;
use crate::output;
use topics::{Partition, Topics};

const EXAMPLES: &str = "\
The node must not run. Nothing is written: what a start would recover is recovered in memory.

Examples:
  chronik log verify --data-dir ./chronik-data
  chronik log digest --data-dir ./chronik-data --topic orders
  chronik log dump --data-dir ./chronik-data --topic orders --partition 0 --from 1200
  chronik log dump --data-dir ./chronik-data --topic orders --partition 0 --records --json";

/// Arguments of `chronik log`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "./chronik-data", global = true)]
    data_dir: PathBuf,
    /// The topic, by name or id; every topic without this
    #[arg(long, value_name = "TOPIC", global = true)]
    topic: Option<String>,
    /// The partition; every partition without this
    #[arg(long, short, value_name = "N", global = true, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print record batches, or the records in them
    Dump {
        /// Every record
        #[arg(long)]
        records: bool,
        #[command(flatten)]
        offsets: Offsets,
    },
    /// Check every CRC, every length and every record
    Verify,
    /// Print a digest of the batches of each partition, which is the same on every replica. With --from or --to, of the
    /// batches that lie whole within these offsets
    Digest {
        #[command(flatten)]
        offsets: Offsets,
    },
}

#[derive(Args)]
struct Offsets {
    /// From this offset on
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Up to this offset, which is left out
    #[arg(long, value_name = "OFFSET", default_value_t = i64::MAX, hide_default_value = true)]
    to: i64,
}

impl Offsets {
    fn range(&self) -> Range<i64> {
        self.from..self.to
    }
}

/// Runs the command.
pub fn run(args: &LogArgs) -> ExitCode {
    match look(args) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn look(args: &LogArgs) -> anyhow::Result<ExitCode> {
    let (logs, recovery) = OfflineLogs::open(&args.data_dir)?;
    let topics = Topics::read(&args.data_dir)?;
    let partitions = topics.select(&logs, args.topic.as_deref(), args.partition)?;
    match &args.action {
        Action::Dump { records, offsets } => dump(args, &logs, &partitions, *records, &offsets.range()),
        Action::Verify => verify(args, &logs, &recovery, &partitions),
        Action::Digest { offsets } => digest(args, &logs, &partitions, &offsets.range()),
    }
}

/// Whoever reads the output has enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

#[derive(Serialize)]
struct DumpedBatch<'a> {
    topic: &'a str,
    partition: i32,
    base_offset: i64,
    last_offset: i64,
    records: i32,
    bytes: usize,
    compression: String,
    leader_epoch: i32,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    control: bool,
    crc: String,
}

fn dump(
    args: &LogArgs,
    logs: &OfflineLogs,
    partitions: &[Partition],
    records: bool,
    offsets: &Range<i64>,
) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for partition in partitions {
        let failed = logs.walk(&partition.key, offsets.clone(), |batch| {
            let dumped = if records {
                dump_records(args, &mut out, partition, batch, offsets)
            } else {
                dump_batch(args, &mut out, partition, batch)
            };
            dumped.map_or_else(ControlFlow::Break, ControlFlow::Continue)
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn dump_batch(
    args: &LogArgs,
    out: &mut impl Write,
    partition: &Partition,
    batch: &Batch<'_>,
) -> anyhow::Result<()> {
    let header = batch.header();
    let dumped = DumpedBatch {
        topic: &partition.topic,
        partition: partition.key.partition,
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        records: header.record_count,
        bytes: header.total_size(),
        compression: batch.compression().map_or_else(|error| error.to_string(), |codec| codec.to_string()),
        leader_epoch: header.partition_leader_epoch,
        max_timestamp: header.max_timestamp,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        control: header.attributes.is_control(),
        crc: format!("{:08x}", header.crc),
    };
    if args.json {
        serde_json::to_writer(&mut *out, &dumped)?;
        writeln!(out)?;
        return Ok(());
    }
    let DumpedBatch { topic, partition, base_offset, last_offset, records, bytes, compression, .. } = &dumped;
    write!(out, "{topic}-{partition} {base_offset}..={last_offset}: {records} records, {bytes} bytes, ")?;
    write!(out, "{compression}, epoch {}, crc {}", dumped.leader_epoch, dumped.crc)?;
    if header.has_producer_id() {
        let DumpedBatch { producer_id, producer_epoch, base_sequence, .. } = &dumped;
        write!(out, ", producer {producer_id} epoch {producer_epoch} sequence {base_sequence}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn dump_records(
    args: &LogArgs,
    out: &mut impl Write,
    partition: &Partition,
    batch: &Batch<'_>,
    offsets: &Range<i64>,
) -> anyhow::Result<()> {
    for record in &batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES)? {
        let record = record?;
        if !offsets.contains(&record.offset) {
            continue;
        }
        if args.json {
            serde_json::to_writer(&mut *out, &as_json(&partition.topic, partition.key.partition, &record))?;
        } else {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or_else(
                    || "null".to_owned(),
                    |bytes| format!("{:?}", String::from_utf8_lossy(bytes)),
                )
            };
            let (name, index) = (&partition.topic, partition.key.partition);
            let (key, value) = (text(record.key), text(record.value));
            write!(
                out,
                "{name}-{index} {}: time {}, key {key}, value {value}",
                record.offset, record.timestamp
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[derive(Serialize)]
struct VerifiedPartition<'a> {
    topic: &'a str,
    partition: i32,
    start_offset: i64,
    end_offset: i64,
    batches: u64,
    records: u64,
    bytes: u64,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Verification<'a> {
    clean_shutdown: bool,
    cut: &'a [String],
    partitions: Vec<VerifiedPartition<'a>>,
}

fn verify(
    args: &LogArgs,
    logs: &OfflineLogs,
    recovery: &RecoverySummary,
    partitions: &[Partition],
) -> anyhow::Result<ExitCode> {
    let mut verified = Vec::new();
    for partition in partitions {
        let Verified { log_start_offset, log_end_offset, batches, records, bytes, fault } =
            logs.verify(&partition.key)?;
        verified.push(VerifiedPartition {
            topic: &partition.topic,
            partition: partition.key.partition,
            start_offset: log_start_offset,
            end_offset: log_end_offset,
            batches,
            records,
            bytes,
            problem: fault,
        });
    }
    let is_sound = verified.iter().all(|partition| partition.problem.is_none());
    let verification =
        Verification { clean_shutdown: recovery.clean, cut: &recovery.cut, partitions: verified };
    if args.json {
        output::json(&verification);
    } else {
        for cut in verification.cut {
            output::line(&format!("the next start cuts: {cut}"));
        }
        let rows = verification.partitions.into_iter().map(|found| {
            [
                found.topic.to_owned(),
                found.partition.to_string(),
                found.start_offset.to_string(),
                found.end_offset.to_string(),
                found.batches.to_string(),
                found.records.to_string(),
                found.bytes.to_string(),
                found.problem.unwrap_or_else(|| "sound".to_owned()),
            ]
        });
        output::table(["TOPIC", "PARTITION", "START", "END", "BATCHES", "RECORDS", "BYTES", "STATE"], rows);
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Serialize)]
struct DigestedPartition<'a> {
    topic: &'a str,
    partition: i32,
    from: i64,
    to: i64,
    batches: u64,
    records: u64,
    digest: String,
}

fn digest(
    args: &LogArgs,
    logs: &OfflineLogs,
    partitions: &[Partition],
    offsets: &Range<i64>,
) -> anyhow::Result<ExitCode> {
    let mut digested = Vec::new();
    for partition in partitions {
        let Digest { from, to, batches, records, digest } =
            logs.digest(&partition.key, Some(offsets.start), Some(offsets.end))?;
        digested.push(DigestedPartition {
            topic: &partition.topic,
            partition: partition.key.partition,
            from,
            to,
            batches,
            records,
            digest,
        });
    }
    if args.json {
        output::json(&digested);
    } else {
        let rows = digested.into_iter().map(|found| {
            [
                found.topic.to_owned(),
                found.partition.to_string(),
                found.from.to_string(),
                found.to.to_string(),
                found.batches.to_string(),
                found.records.to_string(),
                found.digest,
            ]
        });
        output::table(["TOPIC", "PARTITION", "FROM", "TO", "BATCHES", "RECORDS", "DIGEST"], rows);
    }
    Ok(ExitCode::SUCCESS)
}
