//! Compaction keeps the last record of each key and every offset in its place.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chronik_log::simulated::{Crash, SimulatedDisk};
use chronik_log::{CleanerOptions, CleanupPolicy, LogManager, LogOptions, PartitionLog, PartitionOptions};
use chronik_records::{Batch, BatchBuilder, BatchOptions, Compression};
use common::*;

fn options() -> Arc<PartitionOptions> {
    topic(PartitionOptions {
        segment_bytes: 4_000,
        index_interval_bytes: 300,
        cleanup: CleanupPolicy { delete: false, compact: true },
        delete_retention_ms: 1_000,
        min_cleanable_dirty_ratio: 0.1,
        ..PartitionOptions::default()
    })
}

fn keyed(records: &[(String, Option<String>)], compression: Compression) -> Bytes {
    let mut builder =
        BatchBuilder::new(BatchOptions { encoding: compression.into(), ..BatchOptions::default() });
    for (key, value) in records {
        builder.append(1_000, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// Appends `batches` batches over `keys` keys; gives what each key has at last, with its offset.
fn fill(
    log: &Arc<PartitionLog>,
    batches: u64,
    keys: u64,
    seed: u64,
) -> BTreeMap<String, (i64, Option<String>)> {
    let mut last = BTreeMap::new();
    let mut n = seed;
    for b in 0..batches {
        let mut records = Vec::new();
        for _ in 0..3 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("key-{}", (n >> 33) % keys);
            let value = (!(n >> 20).is_multiple_of(7))
                .then(|| format!("value-{b}-{}", "x".repeat((n >> 40) as usize % 60)));
            records.push((key, value));
        }
        let compression = if b % 3 == 0 { Compression::Lz4 } else { Compression::None };
        let appended = log.append_leader(keyed(&records, compression), 0, 0).unwrap();
        for (i, (key, value)) in records.into_iter().enumerate() {
            last.insert(key, (appended.base_offset + i as i64, value));
        }
    }
    last
}

fn records(log: &PartitionLog) -> Vec<(i64, String, Option<String>)> {
    let mut all = Vec::new();
    for bytes in read_all(log, 2_000) {
        let batch = Batch::parse(&bytes).unwrap();
        for record in batch.records(1 << 20).unwrap().iter() {
            let r = record.unwrap();
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            all.push((r.offset, text(r.key.unwrap()), r.value.map(text)));
        }
    }
    all
}

fn flush(manager: &LogManager, log: &PartitionLog) {
    manager.request_flush();
    manager.kick();
    while log.flushed_offset() < log.log_end_offset() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn open(disk: &SimulatedDisk) -> Arc<LogManager> {
    let options = LogOptions { flush_ms: 60_000, journal_segment_bytes: 256 << 10, ..LogOptions::default() };
    let (manager, summary, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options);
    assert!(summary.offline.is_empty(), "{summary:?}");
    let quiet = CleanerOptions { enabled: false, io_bytes_per_second: 1e12, ..CleanerOptions::default() };
    manager.set_cleaner(quiet);
    manager
}

fn check(log: &PartitionLog, last: &BTreeMap<String, (i64, Option<String>)>) {
    let found = records(log);
    assert!(found.windows(2).all(|w| w[0].0 < w[1].0), "offsets rise");
    let mut seen = BTreeMap::new();
    for (offset, key, value) in found {
        seen.insert(key, (offset, value));
    }
    for (key, (offset, value)) in last {
        match seen.get(key) {
            Some(found) => assert_eq!(found, &(*offset, value.clone()), "{key}"),
            None => assert!(value.is_none(), "{key} is gone"),
        }
    }
    assert!(seen.keys().all(|key| last.contains_key(key)));
}

#[test]
fn the_last_record_of_each_key_stays() {
    let disk = SimulatedDisk::new(1);
    let manager = open(&disk);
    let log = manager.create_partition(key(0), options()).unwrap();
    let last = fill(&log, 200, 20, 7);
    flush(&manager, &log);
    manager.checkpoint().unwrap();
    let before = log.size();
    let count = records(&log).len();
    assert_eq!(count, 600);
    assert!(manager.clean(10_000));
    assert!(log.size() < before / 2, "{} of {before}", log.size());
    assert!(records(&log).len() < 150, "{}", records(&log).len());
    check(&log, &last);
    assert!(!manager.clean(10_000), "nothing is left to clean");
    // Tombstones go once their time is over.
    let tombstones = || records(&log).iter().filter(|r| r.2.is_none()).count();
    let before = tombstones();
    assert!(before > 0);
    assert!(manager.clean(20_000));
    assert!(tombstones() < before);
    check(&log, &last);
    // Look-ups by time still answer.
    assert!(log.offset_for_timestamp(500).unwrap().is_some());
    assert_eq!(log.max_timestamp().unwrap().unwrap().timestamp, 1_000);
    let (end, start) = (log.log_end_offset(), log.log_start_offset());
    manager.close().unwrap();
    drop((manager, log));
    let manager = open(&disk);
    let log = manager.create_partition(key(0), options()).unwrap();
    assert_eq!((log.log_end_offset(), log.log_start_offset()), (end, start));
    check(&log, &last);
}

#[test]
fn a_small_table_takes_several_passes() {
    let disk = SimulatedDisk::new(2);
    let manager = open(&disk);
    manager.set_cleaner(CleanerOptions {
        enabled: false,
        dedupe_buffer_bytes: 0,
        io_bytes_per_second: 1e12,
        ..CleanerOptions::default()
    });
    let log = manager.create_partition(key(0), options()).unwrap();
    let last = fill(&log, 1_500, 4_000, 3);
    flush(&manager, &log);
    manager.checkpoint().unwrap();
    let mut passes = 0;
    while manager.clean(5_000) {
        passes += 1;
        check(&log, &last);
        assert!(passes < 100);
    }
    assert!(passes > 1, "{passes}");
}

#[test]
fn a_crash_in_a_pass_leaves_a_whole_log() {
    for seed in 0..30 {
        let disk = SimulatedDisk::new(seed);
        let manager = open(&disk);
        let log = manager.create_partition(key(0), options()).unwrap();
        let last = fill(&log, 150, 15, seed);
        flush(&manager, &log);
        manager.checkpoint().unwrap();
        disk.stop_after(1 + seed % 40);
        while manager.clean(10_000) {}
        drop((manager, log));
        let disk = disk.crash(if seed % 2 == 0 { Crash::Kill } else { Crash::PowerLoss });
        let manager = open(&disk);
        let log = manager.create_partition(key(0), options()).unwrap();
        assert_eq!(log.log_end_offset(), 450, "seed {seed}");
        check(&log, &last);
        // And the next pass goes through.
        while manager.clean(10_000) {}
        check(&log, &last);
    }
}

/// What the journal still holds is written to its place again by a start: nothing else may be there by then.
#[test]
fn segments_that_the_journal_still_holds_are_left_alone() {
    for seed in 0..6 {
        let disk = SimulatedDisk::new(seed);
        let options_of_node = LogOptions {
            flush_ms: 60_000,
            checkpoint_interval_ms: 600_000,
            journal_segment_bytes: 256 << 10,
            journal_memory_bytes: 64 << 10,
            ..LogOptions::default()
        };
        let (manager, _, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options_of_node);
        manager.set_cleaner(CleanerOptions {
            enabled: false,
            io_bytes_per_second: 1e12,
            ..CleanerOptions::default()
        });
        let log = manager.create_partition(key(0), options()).unwrap();
        let mut last = fill(&log, 60, 15, seed);
        flush(&manager, &log);
        manager.checkpoint().unwrap();
        // More than the memory holds, so that it is in segments by and by, which no checkpoint knows.
        for round in 1..10 {
            last.extend(fill(&log, 100, 15, seed + round));
            flush(&manager, &log);
            let spilled = || !manager.pressure();
            while !spilled() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            while manager.clean(10_000) {}
        }
        let end = log.log_end_offset();
        drop((manager, log));
        let disk = disk.crash(if seed % 2 == 0 { Crash::Kill } else { Crash::PowerLoss });
        let manager = open(&disk);
        let log = manager.create_partition(key(0), options()).unwrap();
        assert_eq!(log.log_end_offset(), end, "seed {seed}");
        check(&log, &last);
        manager.checkpoint().unwrap();
        assert!(manager.clean(10_000), "what a checkpoint knows is cleaned");
        check(&log, &last);
    }
}
