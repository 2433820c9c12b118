//! The demonstration: real data through a real client, a `kill -9` in mid-stream, and a count of what was lost.

mod check;
mod data;
mod stream;

use crate::admin::{self, Topic};
use crate::broker::Broker;
use crate::progress;
use anyhow::{Context, Result, bail};
use check::Reader;
use data::DATA_SETS;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::Stream;

#[derive(clap::Args)]
pub struct Args {
    /// The broker binary.
    #[arg(long)]
    broker: PathBuf,
    /// The folder with flights-200k.json, movies.json and stocks.csv.
    #[arg(long)]
    data: PathBuf,
    /// Leaves the broker running at the end and prints how to talk to it.
    #[arg(long)]
    keep: bool,
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Summary {
    records: u64,
    megabytes: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
    /// From sending to the acknowledgement, for records that were not on the way during the crash.
    p50_ms: f64,
    p99_ms: f64,
    start_ms: f64,
    /// Acknowledged when the broker was killed.
    killed_after: u64,
    /// From starting again to ready.
    recovery_ms: f64,
    read_by_group: u64,
    redelivered: u64,
    lost: u64,
    surplus: u64,
}

/// Runs the demonstration; false when a record was lost or came twice.
pub fn run(args: &Args) -> Result<bool> {
    let source = Arc::new(data::load(&args.data)?);
    let bytes: usize =
        source.iter().map(|record| record.value.len() + record.key.as_ref().map_or(0, String::len)).sum();
    let home = tempfile::Builder::new().prefix("chronik-demo-").tempdir().context("making a directory")?;
    let mut broker = Broker::new(&args.broker, home.path(), args.keep)?;
    let start = broker.start()?;
    let topics: Vec<Topic<'_>> = DATA_SETS
        .iter()
        .map(|set| Topic { name: set.topic, partitions: set.partitions, settings: &[] })
        .collect();
    admin::create_topics(&broker.bootstrap(), &topics)?;

    let bar = progress::bar(source.len() as u64, "{prefix:>10} {wide_bar} {human_pos}/{human_len}");
    bar.set_prefix("produce");
    let mut reader = Reader::join(&broker.bootstrap())?;
    let streaming = Instant::now();
    let stream = Stream::start(&broker.bootstrap(), source.clone())?;
    let acknowledged = stream.acknowledgements.clone();
    let middle = source.len() as u64 / 2;
    let until = |reader: &mut Reader, wanted: u64| -> Result<()> {
        while acknowledged.count() < wanted {
            if let Some(failure) = acknowledged.failure() {
                bail!("a record could not be delivered: {failure}");
            }
            reader.poll(Duration::from_millis(5))?;
            bar.set_position(acknowledged.count());
        }
        Ok(())
    };
    until(&mut reader, middle)?;
    let killed = Instant::now();
    acknowledged.outage_begins();
    broker.kill()?;
    let killed_after = acknowledged.count();
    bar.println(format!("kill -9 after {killed_after} acknowledged records; starting again"));
    let recovery = broker.start()?;
    acknowledged.outage_ends();
    let away = killed.elapsed();
    until(&mut reader, source.len() as u64)?;
    stream.finish()?;
    let seconds = (streaming.elapsed() - away).as_secs_f64();

    bar.set_prefix("read back");
    let received = reader.finish(source.len(), |count| bar.set_position(count as u64))?;
    bar.finish_and_clear();
    let redelivered = received.redelivered;
    let verdict = received.compare(&source, &acknowledged.places());
    let (p50_ms, p99_ms) = acknowledged.latency_ms();
    let megabytes = bytes as f64 / 1e6;
    let summary = Summary {
        records: acknowledged.count(),
        megabytes,
        records_per_second: source.len() as f64 / seconds,
        megabytes_per_second: megabytes / seconds,
        p50_ms,
        p99_ms,
        start_ms: start.as_secs_f64() * 1000.0,
        killed_after,
        recovery_ms: recovery.as_secs_f64() * 1000.0,
        read_by_group: source.len() as u64,
        redelivered,
        lost: verdict.lost,
        surplus: verdict.surplus,
    };
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print(&summary);
    }
    if args.keep {
        keep(&args.broker, broker, home);
    }
    Ok(summary.lost == 0 && summary.surplus == 0)
}

fn print(summary: &Summary) {
    println!("records acknowledged     {:>12}   {:.1} MB", summary.records, summary.megabytes);
    println!(
        "throughput               {:>12.0} records/s   {:.1} MB/s",
        summary.records_per_second, summary.megabytes_per_second
    );
    println!("acknowledged after       {:>12.2} ms p50   {:.2} ms p99", summary.p50_ms, summary.p99_ms);
    println!("start, empty             {:>12.1} ms", summary.start_ms);
    println!("kill -9 after            {:>12} records", summary.killed_after);
    println!("ready again after        {:>12.1} ms", summary.recovery_ms);
    println!(
        "read by a consumer group {:>12}   {} delivered again after the crash",
        summary.read_by_group, summary.redelivered
    );
    println!("lost                     {:>12}", summary.lost);
    println!("there twice or invented  {:>12}", summary.surplus);
}

fn keep(binary: &Path, broker: Broker, home: tempfile::TempDir) {
    let binary = binary.display();
    let bootstrap = broker.bootstrap();
    let pid = broker.pid().unwrap_or_default();
    let home = home.keep();
    println!();
    println!("The broker goes on serving at {bootstrap}; data in {}.", broker.data_dir().display());
    println!("  kcat -b {bootstrap} -L");
    println!("  kcat -b {bootstrap} -t movies -C -c 3 -f '%k: %s\\n'");
    println!("  {binary} topic list --bootstrap-server {bootstrap}");
    println!("  {binary} group describe demo --bootstrap-server {bootstrap}");
    println!("End it with: kill {pid}; rm -r {}", home.display());
    broker.leave_running();
}
