//! `chronik log`: looks into the data directory of a node that does not run.

mod offline;
mod read_only_disk;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use chronik_records::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES, Record};
use clap::{Args, Subcommand};
use serde::Serialize;
use twox_hash::xxhash3_128::Hasher;

use crate::consume::as_json;
use crate::output;
use offline::{OfflineLog, OfflinePartition};

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
    /// From this offset on
    #[arg(long, value_name = "OFFSET", default_value_t = 0, global = true)]
    from: i64,
    /// Up to this offset, which is left out
    #[arg(long, value_name = "OFFSET", default_value_t = i64::MAX, hide_default_value = true, global = true)]
    to: i64,
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
    },
    /// Check every CRC, every length and every record
    Verify,
    /// Print a digest of the records of each partition. It is the same on every replica that has the same records
    Digest,
}

/// Runs the command.
pub fn run(args: &LogArgs) -> ExitCode {
    let outcome = OfflineLog::open(&args.data_dir).and_then(|log| {
        let partitions = log.partitions(args.topic.as_deref(), args.partition)?;
        match &args.action {
            Action::Dump { records } => dump(args, &partitions, *records),
            Action::Verify => verify(args, &log, &partitions),
            Action::Digest => digest(args, &partitions),
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
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

fn dump(args: &LogArgs, partitions: &[OfflinePartition], records: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for partition in partitions {
        partition.batches(args.from, args.to, |batch| {
            if records {
                dump_records(args, &mut out, partition, batch)
            } else {
                dump_batch(args, &mut out, partition, batch)
            }
        })?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn dump_batch(
    args: &LogArgs,
    out: &mut impl Write,
    partition: &OfflinePartition,
    batch: &Batch<'_>,
) -> anyhow::Result<()> {
    let header = batch.header();
    let dumped = DumpedBatch {
        topic: &partition.topic,
        partition: partition.partition,
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
    partition: &OfflinePartition,
    batch: &Batch<'_>,
) -> anyhow::Result<()> {
    for record in &batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES)? {
        let record = record?;
        if !(args.from..args.to).contains(&record.offset) {
            continue;
        }
        if args.json {
            serde_json::to_writer(&mut *out, &as_json(&partition.topic, partition.partition, &record))?;
        } else {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or_else(
                    || "null".to_owned(),
                    |bytes| format!("{:?}", String::from_utf8_lossy(bytes)),
                )
            };
            let (name, index) = (&partition.topic, partition.partition);
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
struct Verified<'a> {
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
    partitions: Vec<Verified<'a>>,
}

fn verify(args: &LogArgs, log: &OfflineLog, partitions: &[OfflinePartition]) -> anyhow::Result<ExitCode> {
    let partitions: Vec<Verified<'_>> =
        partitions.iter().map(|partition| verify_partition(args, partition)).collect();
    let is_sound = partitions.iter().all(|partition| partition.problem.is_none());
    let verification =
        Verification { clean_shutdown: log.recovery.clean, cut: &log.recovery.cut, partitions };
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

fn verify_partition<'a>(args: &LogArgs, partition: &'a OfflinePartition) -> Verified<'a> {
    let mut verified = Verified {
        topic: &partition.topic,
        partition: partition.partition,
        start_offset: partition.start_offset(),
        end_offset: partition.end_offset(),
        batches: 0,
        records: 0,
        bytes: 0,
        problem: None,
    };
    let checked = partition.batches(args.from, args.to, |batch| {
        for record in &batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES)? {
            record?;
            verified.records += 1;
        }
        verified.batches += 1;
        verified.bytes += batch.bytes().len() as u64;
        Ok(())
    });
    verified.problem = checked.err().map(|error| format!("{error:#}"));
    verified
}

#[derive(Serialize)]
struct Digested<'a> {
    topic: &'a str,
    partition: i32,
    first_offset: Option<i64>,
    last_offset: Option<i64>,
    records: u64,
    digest: String,
}

fn digest(args: &LogArgs, partitions: &[OfflinePartition]) -> anyhow::Result<ExitCode> {
    let mut digested = Vec::new();
    for partition in partitions {
        digested.push(digest_partition(args, partition)?);
    }
    if args.json {
        output::json(&digested);
    } else {
        let number = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let rows = digested.into_iter().map(|found| {
            [
                found.topic.to_owned(),
                found.partition.to_string(),
                number(found.first_offset),
                number(found.last_offset),
                found.records.to_string(),
                found.digest,
            ]
        });
        output::table(["TOPIC", "PARTITION", "FIRST", "LAST", "RECORDS", "DIGEST"], rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn digest_partition<'a>(args: &LogArgs, partition: &'a OfflinePartition) -> anyhow::Result<Digested<'a>> {
    let mut hasher = Hasher::new();
    let (mut first_offset, mut last_offset, mut records) = (None, None, 0);
    partition.batches(args.from, args.to, |batch| {
        for record in &batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES)? {
            let record = record?;
            if (args.from..args.to).contains(&record.offset) {
                first_offset = first_offset.or(Some(record.offset));
                last_offset = Some(record.offset);
                records += 1;
                add_record(&mut hasher, &record);
            }
        }
        Ok(())
    })?;
    let digest = format!("{:032x}", hasher.finish_128());
    Ok(Digested {
        topic: &partition.topic,
        partition: partition.partition,
        first_offset,
        last_offset,
        records,
        digest,
    })
}

/// What a consumer sees of a record counts, not how it is compressed or which records share a batch.
fn add_record(hasher: &mut Hasher, record: &Record<'_>) {
    hasher.write(&record.offset.to_le_bytes());
    hasher.write(&record.timestamp.to_le_bytes());
    add_bytes(hasher, record.key);
    add_bytes(hasher, record.value);
    for header in record.headers {
        add_bytes(hasher, Some(header.key));
        add_bytes(hasher, header.value);
    }
}

fn add_bytes(hasher: &mut Hasher, bytes: Option<&[u8]>) {
    match bytes {
        None => hasher.write(&u64::MAX.to_le_bytes()),
        Some(bytes) => {
            hasher.write(&(bytes.len() as u64).to_le_bytes());
            hasher.write(bytes);
        }
    }
}
