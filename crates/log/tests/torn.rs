//! A power loss while two files of the journal are not flushed: it may tear the first and keep the second. What had never
//! been flushed is cut; only what had been is damage.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chronik_log::disk::{Disk, OpenMode};
use chronik_log::simulated::{Crash, SimulatedDisk};
use chronik_log::{
    CleanerOptions, CleanupPolicy, FlushMode, LogManager, LogOptions, PartitionLog, PartitionOptions,
    RecoverySummary,
};
use common::*;

const FILE: u64 = 64 << 10;
/// The tag of the record at offset 0; large, so that no offset in a batch's header has the same bytes.
const TAGS: u64 = 1 << 40;
/// Bytes before a record's key, of which so many are its batch's: within the batch's header.
const BEFORE_KEY: usize = 60;
/// Batches that are flushed before the rest is written.
const FLUSHED: u64 = 10;

fn options(flush: FlushMode) -> LogOptions {
    LogOptions {
        flush,
        direct_bytes: 3_000,
        journal_segment_bytes: FILE,
        flush_ms: 60_000,
        checkpoint_interval_ms: 600_000,
        ..LogOptions::default()
    }
}

fn open(disk: &SimulatedDisk) -> (Arc<LogManager>, RecoverySummary) {
    let (manager, summary, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options(FlushMode::Disk));
    (manager, summary)
}

fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("never {what}");
}

fn append(manager: &LogManager, log: &Arc<PartitionLog>, batches: u64) {
    for _ in 0..batches {
        let tag = TAGS + log.log_end_offset() as u64;
        log.append_leader(batch(1, 500, tag), 1, 0).unwrap();
    }
    manager.kick();
    until("written", || log.written_offset() == log.log_end_offset());
}

fn flush(manager: &LogManager, log: &PartitionLog) {
    manager.request_flush();
    manager.kick();
    until("flushed", || log.flushed_offset() == log.log_end_offset());
}

fn journals(disk: &SimulatedDisk) -> Vec<(PathBuf, usize)> {
    disk.files().into_iter().filter(|f| f.0.extension().is_some_and(|e| e == "journal")).collect()
}

/// Where the key of the record at this offset is in a file.
fn place(disk: &SimulatedDisk, (path, length): &(PathBuf, usize), offset: u64) -> usize {
    let mut bytes = vec![0; *length];
    disk.open(path, OpenMode::Read).unwrap().read_at(&mut bytes, 0).unwrap();
    let key = (TAGS + offset).to_be_bytes();
    bytes.windows(8).position(|w| w == key).unwrap()
}

/// A log whose first batches are flushed, while the rest of the journal's file and what is in the next are only written.
/// Gives the disk with all of it.
fn two_files(flush_mode: FlushMode) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (manager, _, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options(flush_mode));
    let log = manager.create_partition(key(0), Arc::default()).unwrap();
    append(&manager, &log, FLUSHED);
    flush(&manager, &log);
    while journals(&disk).len() < 2 {
        append(&manager, &log, 1);
    }
    append(&manager, &log, 3);
    if flush_mode == FlushMode::Disk {
        assert_eq!(log.flushed_offset(), FLUSHED as i64);
    }
    disk.crash(Crash::Kill)
}

/// The log ends at `end`, nothing is damaged, and it stays so through another kill.
fn is_cut_at(disk: &SimulatedDisk, end: u64) {
    let (manager, summary) = open(disk);
    assert!(summary.offline.is_empty(), "{summary:?}");
    assert!(summary.cut.iter().all(|c| !c.contains("damage")) && !summary.cut.is_empty(), "{summary:?}");
    let log = manager.create_partition(key(0), Arc::default()).unwrap();
    assert_eq!(log.log_end_offset(), end as i64, "{summary:?}");
    assert_eq!(read_all(&log, 5_000).len() as u64, end);
    append(&manager, &log, 5);
    flush(&manager, &log);
    append(&manager, &log, 5);
    drop((manager, log));
    let (manager, summary) = open(&disk.crash(Crash::Kill));
    assert!(summary.offline.is_empty() && summary.cut.is_empty(), "{summary:?}");
    let log = manager.partition(&key(0)).unwrap();
    assert_eq!(log.log_end_offset(), end as i64 + 10);
    assert_eq!(read_all(&log, 5_000).len() as u64, end + 10);
}

#[test]
fn an_end_that_was_not_flushed_is_cut_though_a_later_file_is_there() {
    for torn in [FLUSHED, FLUSHED + 1, FLUSHED + 20] {
        let disk = two_files(FlushMode::Disk);
        let first = journals(&disk).remove(0);
        assert!(disk.flip(&first.0, place(&disk, &first, torn), 0));
        is_cut_at(&disk, torn);
    }
}

#[test]
fn an_end_of_which_nothing_arrived_is_cut_though_a_later_file_is_there() {
    let disk = two_files(FlushMode::Disk);
    let (path, length) = journals(&disk).remove(0);
    let from = place(&disk, &(path.clone(), length), FLUSHED) - BEFORE_KEY;
    let zeros = vec![0; length - from];
    let file = disk.open(&path, OpenMode::Write).unwrap();
    file.write_at(&mut [IoSlice::new(&zeros)], from as u64).unwrap();
    is_cut_at(&disk, FLUSHED);
}

#[test]
fn nothing_is_damage_where_nothing_is_flushed() {
    let disk = two_files(FlushMode::Os);
    let first = journals(&disk).remove(0);
    assert!(disk.flip(&first.0, place(&disk, &first, 5), 0));
    is_cut_at(&disk, 5);
}

#[test]
fn damage_in_the_flushed_part_is_told_by_the_same_file() {
    let disk = two_files(FlushMode::Disk);
    let first = journals(&disk).remove(0);
    assert!(disk.flip(&first.0, place(&disk, &first, FLUSHED - 1), 0));
    let (_, summary) = open(&disk);
    assert_eq!(summary.offline.len(), 1, "{summary:?}");
}

#[test]
fn who_misses_a_flushed_batch_goes_offline_also_where_it_shows_later() {
    let disk = two_files(FlushMode::Disk);
    let first = journals(&disk).remove(0);
    // The entry itself can't be read, so that nothing says whose it was.
    assert!(disk.flip(&first.0, place(&disk, &first, FLUSHED - 1) - BEFORE_KEY, 0));
    let (manager, summary) = open(&disk);
    assert_eq!(summary.offline.len(), 1, "{summary:?}");
    assert_eq!(manager.partition(&key(0)).unwrap().log_end_offset(), FLUSHED as i64 - 1);
}

#[test]
fn damage_in_the_flushed_end_is_told_by_the_next_file() {
    for before_key in [0, BEFORE_KEY] {
        let disk = two_files(FlushMode::Disk);
        let last = {
            let (manager, summary) = open(&disk);
            assert!(summary.cut.is_empty(), "{summary:?}");
            let log = manager.create_partition(key(0), Arc::default()).unwrap();
            manager.checkpoint().unwrap();
            // Fills one file, flushes it whole, and goes on in the next.
            append(&manager, &log, 1);
            while journals(&disk).len() < 2 {
                flush(&manager, &log);
                append(&manager, &log, 1);
            }
            log.log_end_offset() as u64 - 2
        };
        let disk = disk.crash(Crash::Kill);
        let first = journals(&disk).remove(0);
        assert!(disk.flip(&first.0, place(&disk, &first, last) - before_key, 0));
        let (manager, summary) = open(&disk);
        assert_eq!(summary.offline.len(), 1, "{summary:?}");
        assert_eq!(manager.partition(&key(0)).unwrap().log_end_offset(), last as i64);
    }
}

#[test]
fn a_batch_that_was_lost_below_the_logs_start_is_in_nobodys_way() {
    for compact in [false, true] {
        let disk = SimulatedDisk::new(1);
        let (manager, _) = open(&disk);
        let options = topic(PartitionOptions {
            segment_bytes: 10_000,
            index_interval_bytes: 500,
            cleanup: CleanupPolicy { delete: !compact, compact },
            min_cleanable_dirty_ratio: 0.01,
            ..PartitionOptions::default()
        });
        let log = manager.create_partition(key(0), options.clone()).unwrap();
        // Straight to the segment, and the first thing in it.
        log.append_leader(batch(2, 2_000, TAGS), 1, 0).unwrap();
        append(&manager, &log, 20);
        log.delete_records(5).unwrap();
        manager.kick();
        append(&manager, &log, 1);
        drop((manager, log));
        let disk = disk.crash(Crash::Kill);
        // Neither that batch nor an index was flushed when the power went.
        let segment = disk.files().into_iter().find(|f| f.0.ends_with("00000000000000000000.log")).unwrap();
        let file = disk.open(&segment.0, OpenMode::Write).unwrap();
        file.write_at(&mut [IoSlice::new(&[0; 3_500])], 0).unwrap();
        for _ in 0..3 {
            let (manager, summary) = open(&disk);
            assert!(summary.offline.is_empty() && summary.cut.is_empty(), "{summary:?}");
            let log = manager.create_partition(key(0), options.clone()).unwrap();
            manager.checkpoint().unwrap();
            for (path, _) in disk.files() {
                if path.extension().is_some_and(|e| e == "index") {
                    disk.remove(&path).unwrap();
                }
            }
            drop((manager, log));
            let (manager, _) = open(&disk);
            let log = manager.create_partition(key(0), options.clone()).unwrap();
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 23));
            assert_eq!(read_all(&log, 1_000).len(), 18);
            assert!(log.offset_for_timestamp(0).unwrap().is_some_and(|found| found.offset == 5));
            manager.set_cleaner(CleanerOptions { backoff_ms: 600_000, ..CleanerOptions::default() });
            while manager.clean(1_000_000) {}
            assert_eq!(log.offline(), None);
            if !compact {
                assert_eq!(read_all(&log, 1_000).len(), 18);
            }
        }
    }
}
