//! Measures indexing and queries over a log that is made up as it is read: 256-byte JSON records in batches of 100.
//!
//! `cargo run --release -p chronik-search --example search_bench -- [RECORDS] [PARTITIONS]`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId, TopicId};
use chronik_records::{BatchBuilder, BatchOptions};
use chronik_search::model::SearchRequest;
use chronik_search::{Batches, Bounds, Host, HostError, Options, Search, TopicInfo};

const BATCH: i64 = 100;
const USERS: u64 = 100_000;
/// Clock ticks of a second in `/proc/self/stat`.
const TICKS: f64 = 100.0;

struct MadeUp {
    records: i64,
    partitions: usize,
}

/// The same number for the same record, whenever it is asked for.
fn mix(mut seed: u64) -> u64 {
    seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

fn value(partition: i32, offset: i64) -> String {
    let seed = mix((offset as u64) << 8 | u64::from(partition.unsigned_abs()));
    let levels = ["debug", "info", "info", "info", "info", "warn", "error", "info"];
    let services = ["api", "auth", "billing", "search", "mail", "edge", "jobs", "web"];
    let texts =
        ["connection reset by peer", "request served", "cache miss for the session", "retry after timeout"];
    let pick = |list: &[&'static str], shift: u32| {
        list.get((seed >> shift) as usize % list.len()).copied().unwrap_or_default()
    };
    let mut text = format!(
        "{{\"level\":\"{}\",\"service\":\"{}\",\"host\":\"node-{}\",\"user\":{{\"id\":{}}},\"latency_ms\":{},\"trace\":\"{:016x}\",\
         \"message\":\"{} in shard {} of group {}\"}}",
        pick(&levels, 3),
        pick(&services, 7),
        seed % 200,
        mix(seed) % USERS,
        (seed >> 20) % 2_000,
        mix(seed ^ 5),
        pick(&texts, 11),
        (seed >> 33) % 64,
        (seed >> 40) % 1_000,
    );
    let end = text.len() - 1;
    let room = 256_usize.saturating_sub(text.len());
    if room > 12 {
        text.insert_str(end, &format!(",\"pad\":\"{}\"", "x".repeat(room - 9)));
    }
    text
}

impl MadeUp {
    fn end(&self) -> i64 {
        self.records / self.partitions as i64 / BATCH * BATCH
    }

    fn batch(&self, partition: i32, base: i64) -> Option<Bytes> {
        let options =
            BatchOptions { base_offset: base, partition_leader_epoch: 0, ..BatchOptions::default() };
        let mut builder = BatchBuilder::with_capacity(options, 32 << 10);
        for offset in base..base + BATCH {
            let key = format!("key-{}", mix(offset as u64) % 1_000_000);
            let value = value(partition, offset);
            let time = 1_700_000_000_000 + offset * 10;
            builder.append(time, Some(key.as_bytes()), Some(value.as_bytes()), &[]).ok()?;
        }
        builder.finish().ok()
    }
}

impl Host for MadeUp {
    fn node_id(&self) -> NodeId {
        1
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn version(&self) -> (u64, bool) {
        (1, true)
    }

    fn topics(&self) -> Vec<TopicInfo> {
        self.topic("logs").into_iter().collect()
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        Some(TopicInfo {
            id: TopicId::from_random([1; 16]),
            name: name.to_owned(),
            enabled: true,
            schema: String::new(),
            replicas: vec![vec![1]; self.partitions],
        })
    }

    fn bounds(&self, _: &TopicId, _: i32) -> Option<Bounds> {
        Some(Bounds { log_start: 0, high_watermark: self.end(), cleaned: (0, 0) })
    }

    fn read(&self, _: &TopicId, partition: i32, offset: i64, max_bytes: usize) -> Result<Batches, HostError> {
        let mut read = Batches { bytes: Vec::with_capacity(max_bytes), next_offset: offset };
        let mut base = offset / BATCH * BATCH;
        while base < self.end() && (read.bytes.is_empty() || read.bytes.len() < max_bytes) {
            let batch = self.batch(partition, base).ok_or(HostError::NotHosted(partition))?;
            read.bytes.extend_from_slice(&batch);
            base += BATCH;
            read.next_offset = base;
        }
        Ok(read)
    }

    fn end_of_epoch(&self, _: &TopicId, _: i32, _: i32) -> Option<i64> {
        None
    }

    fn offset_for_time(&self, _: &TopicId, _: i32, _: i64) -> Result<Option<i64>, HostError> {
        Ok(None)
    }

    fn call(&self, _: NodeId, _: Bytes, _: Duration) -> BoxFuture<Result<Bytes, String>> {
        Box::pin(std::future::ready(Err("there is one node".to_owned())))
    }
}

/// Processor time of this process, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |index| after.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS
}

fn memory(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned()
}

fn size(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { size(&path) } else { entry.metadata().map_or(0, |meta| meta.len()) }
        })
        .sum()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let records = args.next().and_then(|text| text.parse().ok()).unwrap_or(2_000_000);
    let partitions = args.next().and_then(|text| text.parse().ok()).unwrap_or(4);
    let host = Arc::new(MadeUp { records, partitions });
    let total = host.end() as u64 * partitions as u64;

    let before = cpu();
    let mut log_bytes = 0;
    let sample = (total / 20).max(1) as i64 / BATCH;
    for index in 0..sample {
        log_bytes += host.batch(0, index * BATCH).map_or(0, |batch| batch.len() as u64);
    }
    let making = (cpu() - before) / (sample * BATCH) as f64;
    let log_bytes = log_bytes * total / (sample * BATCH) as u64;

    let dir = tempfile::tempdir()?;
    let options = Options {
        dir: dir.path().to_owned(),
        memory: 128 << 20,
        timeout_ms: 60_000,
        max_decompressed: 64 << 20,
    };
    let (began, before) = (Instant::now(), cpu());
    let search = Search::start(true, options, host.clone())?;
    let everything = SearchRequest { limit: Some(0), ..SearchRequest::default() };
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = search.search("logs", everything.clone()).await;
        if answer.is_ok_and(|answer| {
            answer.index.len() == partitions
                && answer.index.iter().all(|index| index.indexed_to >= index.high_watermark)
        }) {
            break;
        }
    }
    let (wall, used) = (began.elapsed().as_secs_f64(), cpu() - before);
    let net = used - making * total as f64;
    println!("{total} records of 256 bytes, log of {log_bytes} bytes");
    println!(
        "indexed in {wall:.1} s: {:.0} records/s; {used:.1} s of processor, {net:.1} s without making the records up: {:.0} records/s a core",
        total as f64 / wall,
        total as f64 / net
    );
    println!("memory: peak {}, of that files {}", memory("VmHWM:"), memory("RssFile:"));
    let bytes = size(dir.path());
    println!(
        "index: {bytes} bytes, {:.0} % of the log (before merges that run)",
        100.0 * bytes as f64 / log_bytes as f64
    );

    for (name, make) in [
        ("user.id:N", Box::new(|n: u64| format!("user.id:{}", mix(n) % USERS)) as Box<dyn Fn(u64) -> String>),
        ("trace:X", Box::new(|n| format!("trace:{:016x}", mix(mix((n * 7) << 8) ^ 5)))),
        (
            "level:error AND service:S AND user.id:N",
            Box::new(|n| format!("level:error AND service:api AND user.id:{}", mix(n) % USERS)),
        ),
        ("level:error", Box::new(|_| "level:error".to_owned())),
        (
            "\"connection reset\" AND host:H",
            Box::new(|n| format!("\"connection reset\" AND host:node-{}", n % 200)),
        ),
    ] {
        let mut times = Vec::new();
        let mut found = 0;
        for n in 0..101 {
            let request = SearchRequest { q: make(n), limit: Some(10), ..SearchRequest::default() };
            let began = Instant::now();
            let answer = search.search("logs", request).await.map_err(|error| format!("{error:?}"))?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            found += answer.count;
        }
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(0.0);
        println!("{name}: p50 {:.2} ms, p90 {:.2} ms, {:.0} hits", at(50), at(90), found as f64 / 101.0);
    }
    let mut times = Vec::new();
    for n in 0..101_u64 {
        let began = Instant::now();
        let _ = search.latest("logs", &format!("key-{}", mix(n) % 1_000_000)).await;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("latest record of a key: p50 {:.2} ms", times.get(50).copied().unwrap_or(0.0));

    let scan = Instant::now();
    let mut at = 0;
    let limit = host.end().min(200_000);
    let mut hits = 0;
    while at < limit {
        let read = host.read(&TopicId::from_random([1; 16]), 0, at, 1 << 20)?;
        for batch in chronik_records::Batches::new(&read.bytes).flatten() {
            for record in batch.records(64 << 20)?.iter().flatten() {
                let json: serde_json::Value = serde_json::from_slice(record.value.unwrap_or_default())?;
                hits += u64::from(json.get("level") == Some(&serde_json::Value::from("error")));
            }
        }
        at = read.next_offset;
    }
    let rate = limit as f64 / (scan.elapsed().as_secs_f64() - making * limit as f64);
    println!(
        "scanning instead, with each value parsed: {rate:.0} records/s, so {:.1} s for all ({hits} hits)",
        total as f64 / rate
    );
    search.stop();
    Ok(())
}
