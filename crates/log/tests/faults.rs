//! Disks that fail, fill up or lie.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chronik_base::ErrorCode;
use chronik_log::simulated::{Crash, SimulatedDisk};
use chronik_log::{LogManager, LogOptions, PartitionLog, PartitionOptions, RecoverySummary, StorageState};
use common::*;

fn options() -> LogOptions {
    LogOptions {
        direct_bytes: 3_000,
        journal_segment_bytes: 256 << 10,
        flush_ms: 60_000,
        checkpoint_interval_ms: 600_000,
        ..LogOptions::default()
    }
}

fn partition_options() -> Arc<PartitionOptions> {
    topic(PartitionOptions {
        segment_bytes: 40 << 10,
        index_interval_bytes: 700,
        ..PartitionOptions::default()
    })
}

fn open(disk: &SimulatedDisk) -> (Arc<LogManager>, RecoverySummary, Arc<Listener>) {
    open_on(Arc::new(disk.clone()), Path::new("/data"), options())
}

fn flush(manager: &LogManager, log: &PartitionLog) {
    manager.request_flush();
    manager.kick();
    until("flushed", || log.flushed_offset() == log.log_end_offset());
}

fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("never {what}");
}

fn file(disk: &SimulatedDisk, part: &str) -> PathBuf {
    let found = disk.files().into_iter().rev().find(|(path, _)| path.to_str().unwrap().contains(part));
    found.unwrap().0
}

/// A log of `count` batches, flushed; with a checkpoint after half of them.
fn filled(disk: &SimulatedDisk, count: u64, close: bool) {
    let (manager, _, _) = open(disk);
    for p in 0..2 {
        let log = manager.create_partition(key(p), partition_options()).unwrap();
        for i in 0..count {
            let size = if i % 13 == 5 { 5_000 } else { 400 };
            log.append_leader(batch(2, size, i), 1, 0).unwrap();
            if i == count / 2 {
                manager.kick();
                manager.checkpoint().unwrap();
            }
        }
        flush(&manager, &log);
    }
    if close {
        manager.close().unwrap();
    }
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged() {
    let disk = SimulatedDisk::new(1);
    let (manager, _, listener) = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    log.append_leader(batch(1, 100, 0), 0, 0).unwrap();
    flush(&manager, &log);
    disk.fail_flushes(true);
    log.append_leader(batch(1, 100, 1), 0, 0).unwrap();
    manager.request_flush();
    manager.kick();
    assert!(listener.wait(key(0), |h| h.failed_from == Some(1)));
    disk.fail_flushes(false);
    assert!(matches!(manager.state(), StorageState::Poisoned(why) if why.contains("flushing journal")));
    let refused = log.append_leader(batch(1, 100, 2), 0, 0).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::KafkaStorageError);
    assert_eq!(log.flushed_offset(), 1, "a later flush that works is not believed");
    assert!(manager.checkpoint().is_err());
    // Reads go on.
    assert_eq!(log.read(0, 1 << 20, 1, true).unwrap().next_offset, 1);
    assert!(manager.close().is_err());
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    let disk = SimulatedDisk::new(1);
    let (manager, _, listener) = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    log.append_leader(batch(1, 100, 0), 0, 0).unwrap();
    flush(&manager, &log);
    disk.fail_writes(true);
    log.append_leader(batch(1, 100, 1), 0, 0).unwrap();
    manager.kick();
    assert!(listener.wait(key(0), |h| h.failed_from == Some(1)));
    assert_eq!(log.written_offset(), 1);
    assert!(log.append_leader(batch(1, 100, 2), 0, 0).is_err());
    drop(manager);
    let (manager, _, _) = open(&disk.crash(Crash::PowerLoss));
    let log = manager.partition(&key(0)).unwrap();
    assert_eq!(log.log_end_offset(), 1);
    assert!(log.append_leader(batch(1, 100, 2), 0, 0).is_ok());
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers_by_itself() {
    let disk = SimulatedDisk::new(3);
    disk.set_capacity(Some(6 << 20));
    let (manager, _, listener) = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    let mut refused = None;
    for i in 0..50_000 {
        match log.append_leader(batch(1, if i % 9 == 0 { 4_000 } else { 900 }, i), 0, 0) {
            Ok(_) => manager.kick(),
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
        if i % 50 == 0 {
            manager.request_flush();
            manager.kick();
            until("written", || {
                log.written_offset() == log.log_end_offset() || manager.state() == StorageState::Full
            });
        }
    }
    assert_eq!(refused.unwrap().error_code(), ErrorCode::KafkaStorageError);
    assert_eq!(manager.state(), StorageState::Full);
    // What was not written is failed, and no longer in the log.
    until("settled", || log.written_offset() == log.log_end_offset());
    let end = log.log_end_offset();
    assert!(listener.heard(key(0)).failed_from.is_none_or(|from| from == end));
    let kept = read_all(&log, 100_000).len();
    assert_eq!(kept as i64, end);
    // The node starts on a full disk.
    drop((manager, log));
    let disk = disk.crash(Crash::Kill);
    disk.set_capacity(Some(disk.files().iter().map(|f| f.1).sum()));
    let (manager, summary, _) = open(&disk);
    assert!(summary.offline.is_empty(), "{summary:?}");
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    assert_eq!(log.log_end_offset(), end);
    assert_eq!(read_all(&log, 100_000).len(), kept);
    let _ = log.append_leader(batch(1, 900, 1), 0, 0);
    manager.kick();
    until("full", || manager.state() == StorageState::Full);
    assert!(log.append_leader(batch(1, 900, 1), 0, 0).is_err());
    disk.set_capacity(Some(64 << 20));
    until("writable", || manager.state() == StorageState::Writable);
    assert_eq!(log.log_end_offset(), end);
    log.append_leader(batch(1, 900, 1), 0, 0).unwrap();
    flush(&manager, &log);
    assert_eq!(read_all(&log, 100_000).len(), kept + 1);
}

#[test]
fn a_checkpoint_that_failed_forgets_no_partition() {
    let disk = SimulatedDisk::new(3);
    let (manager, _, _) = open(&disk);
    let logs: Vec<_> =
        (0..20).map(|p| manager.create_partition(key(p), partition_options()).unwrap()).collect();
    for log in &logs {
        log.append_leader(batch(1, 500, 1), 0, 0).unwrap();
    }
    flush(&manager, &logs[0]);
    until("flushed", || logs.iter().all(|l| l.flushed_offset() == 1));
    // There is no room for the segments.
    disk.set_capacity(Some(disk.files().iter().map(|f| f.1).sum()));
    assert!(manager.checkpoint().is_err());
    disk.set_capacity(None);
    until("writable", || manager.state() == StorageState::Writable);
    for log in &logs {
        log.append_leader(batch(1, 500, 2), 0, 0).unwrap();
    }
    flush(&manager, &logs[0]);
    manager.checkpoint().unwrap();
    drop((manager, logs));
    let (manager, _, _) = open(&disk.crash(Crash::PowerLoss));
    for p in 0..20 {
        assert_eq!(read_all(&manager.partition(&key(p)).unwrap(), 1_000).len(), 2, "partition {p}");
    }
}

#[test]
fn a_start_after_a_kill_is_followed_by_a_checkpoint() {
    let disk = SimulatedDisk::new(3);
    let (manager, _, _) = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    for tag in 0..100 {
        log.append_leader(batch(1, 500, tag), 0, 0).unwrap();
    }
    flush(&manager, &log);
    drop((manager, log));
    let disk = disk.crash(Crash::Kill);
    let (manager, summary, _) = open(&disk);
    assert_eq!(summary.batches, 100);
    until("checkpoint", || manager.stats().checkpoints > 0);
    drop(manager);
    let (manager, summary, _) = open(&disk.crash(Crash::Kill));
    assert_eq!((summary.batches, summary.journal_bytes), (0, 0), "{summary:?}");
    assert_eq!(read_all(&manager.partition(&key(0)).unwrap(), 5_000).len(), 100);
}

#[test]
fn a_lost_or_damaged_checkpoint_is_made_again() {
    for how in ["gone", "first byte", "middle", "last byte"] {
        for close in [true, false] {
            let disk = SimulatedDisk::new(4);
            filled(&disk, 100, close);
            let disk = disk.crash(Crash::Kill);
            let path = file(&disk, "checkpoint");
            let length = disk.files().iter().find(|f| f.0 == path).unwrap().1;
            match how {
                "gone" => chronik_log::disk::Disk::remove(&disk, &path).unwrap(),
                "first byte" => assert!(disk.flip(&path, 0, 1)),
                "middle" => assert!(disk.flip(&path, length / 2, 3)),
                _ => assert!(disk.flip(&path, length - 1, 7)),
            }
            let (manager, summary, _) = open(&disk);
            assert!(summary.offline.is_empty(), "{how} {close}: {summary:?}");
            for p in 0..2 {
                let log = manager.create_partition(key(p), partition_options()).unwrap();
                assert_eq!(log.log_end_offset(), 200, "{how} {close}: {summary:?}");
                assert_eq!(read_all(&log, 10_000).len(), 100);
                assert_eq!(log.latest_epoch(), Some(1));
                log.append_leader(batch(1, 10, 1), 2, 0).unwrap();
            }
        }
    }
}

#[test]
fn lost_and_damaged_indexes_are_made_again() {
    let disk = SimulatedDisk::new(5);
    filled(&disk, 300, true);
    let disk = disk.crash(Crash::Kill);
    for (n, (path, length)) in
        disk.files().into_iter().filter(|f| f.0.extension().unwrap_or_default() == "index").enumerate()
    {
        match n % 3 {
            0 => chronik_log::disk::Disk::remove(&disk, &path).unwrap(),
            1 => (0..length).step_by(16).for_each(|at| assert!(disk.flip(&path, at + 5, 2))),
            _ => assert!(disk.flip(&path, length - 1, 0)),
        }
    }
    let (manager, summary, _) = open(&disk);
    assert!(summary.clean);
    for p in 0..2 {
        let log = manager.create_partition(key(p), partition_options()).unwrap();
        assert_eq!(read_all(&log, 3_000).len(), 300);
        for i in [0, 77, 299] {
            let found = log.offset_for_timestamp(1_000 + i).unwrap().unwrap();
            assert_eq!((found.offset, found.timestamp), (2 * i, 1_000 + i));
        }
        assert_eq!(log.offline(), None);
    }
}

#[test]
fn damage_in_a_segment_takes_that_partition_offline_and_no_other() {
    let disk = SimulatedDisk::new(6);
    filled(&disk, 300, true);
    let disk = disk.crash(Crash::Kill);
    let path = file(&disk, "-0/00000000000000000000.log");
    // The magic byte of the first batch.
    assert!(disk.flip(&path, 16, 3));
    let (manager, summary, _) = open(&disk);
    assert!(summary.clean, "a start doesn't read segments");
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    let error = log.read(0, 1 << 20, 600, true).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    assert!(error.to_string().contains("00000000000000000000.log"), "{error}");
    assert!(log.offline().is_some());
    assert!(log.append_leader(batch(1, 10, 1), 1, 0).is_err());
    let other = manager.create_partition(key(1), partition_options()).unwrap();
    assert_eq!(read_all(&other, 10_000).len(), 300);
    assert_eq!(manager.state(), StorageState::Writable);
    // It stays offline.
    manager.close().unwrap();
    drop((manager, log, other));
    let (_, summary, _) = open(&disk);
    assert_eq!(summary.offline.len(), 1);
}

#[test]
fn damage_in_the_flushed_journal_takes_a_partition_offline_and_keeps_the_file() {
    let disk = SimulatedDisk::new(7);
    {
        let (manager, _, _) = open(&disk);
        for p in 0..2 {
            let log = manager.create_partition(key(p), partition_options()).unwrap();
            for i in 0..20 {
                log.append_leader(batch(1, 500, i), 1, 0).unwrap();
                flush(&manager, &log);
            }
        }
    }
    let disk = disk.crash(Crash::Kill);
    let path = file(&disk, ".journal");
    // In the value of one of the first partition's batches.
    assert!(disk.flip(&path, 5_000, 1));
    let (manager, summary, _) = open(&disk);
    assert_eq!(summary.offline.len(), 1, "{summary:?}");
    assert_eq!(summary.offline[0].0, key(0));
    let other = manager.create_partition(key(1), partition_options()).unwrap();
    assert_eq!(read_all(&other, 10_000).len(), 20);
    assert!(disk.files().iter().any(|f| f.0.extension().unwrap_or_default() == "damaged"));
}

#[test]
fn a_torn_end_of_the_journal_is_cut_and_reported() {
    let disk = SimulatedDisk::new(8);
    {
        let (manager, _, _) = open(&disk);
        let log = manager.create_partition(key(0), partition_options()).unwrap();
        for i in 0..20 {
            log.append_leader(batch(1, 500, i), 1, 0).unwrap();
        }
        manager.kick();
        until("written", || log.written_offset() == 20);
    }
    let whole = disk.crash(Crash::Kill);
    let path = file(&whole, ".journal");
    let length = whole.files().iter().find(|f| f.0 == path).unwrap().1;
    // Within the last of the batches, which take some 600 bytes each.
    let (written, space) = (20 * 600, length);
    assert!(space > written);
    let file = chronik_log::disk::Disk::open(&whole, &path, chronik_log::disk::OpenMode::Write).unwrap();
    file.set_len(11_500).unwrap();
    let (manager, summary, _) = open(&whole);
    let log = manager.partition(&key(0)).unwrap();
    let end = log.log_end_offset();
    assert!((15..20).contains(&end), "{summary:?}");
    assert_eq!(read_all(&log, 10_000).len() as i64, end);
    assert!(summary.offline.is_empty());
    assert!(summary.cut.iter().any(|c| c.contains("was cut at offset")), "{summary:?}");
    assert_eq!(log.append_leader(batch(1, 10, 1), 1, 0).unwrap().base_offset, end);
}

#[test]
fn retention_and_deletion_give_space_back() {
    let disk = SimulatedDisk::new(9);
    let (manager, _, _) = open(&disk);
    let by_size = topic(PartitionOptions {
        segment_bytes: 10_000,
        retention_bytes: 30_000,
        retention_ms: -1,
        ..PartitionOptions::default()
    });
    let by_time =
        topic(PartitionOptions { segment_bytes: 10_000, retention_ms: 1_000, ..PartitionOptions::default() });
    let sized = manager.create_partition(key(0), by_size).unwrap();
    let timed = manager.create_partition(key(1), by_time).unwrap();
    for i in 0..100 {
        sized.append_leader(batch(1, 1_000, i), 0, 0).unwrap();
        timed.append_leader(batch(1, 1_000, i), 0, 0).unwrap();
    }
    flush(&manager, &timed);
    manager.checkpoint().unwrap();
    assert!(disk.files().iter().map(|f| f.1).sum::<usize>() > 200_000);
    // The newest record is of 1,099 ms.
    manager.maintain(2_050);
    assert!(sized.size() < 42_000 && sized.size() >= 30_000, "{}", sized.size());
    assert!(sized.log_start_offset() > 50);
    assert!(timed.log_start_offset() > 30 && timed.log_start_offset() <= 51, "{}", timed.log_start_offset());
    assert_eq!(read_all(&timed, 5_000).len() as i64, 100 - timed.log_start_offset());
    // All of it is old: even the active segment goes, and the log goes on behind it.
    manager.maintain(1_000_000);
    assert_eq!((timed.log_start_offset(), timed.log_end_offset(), timed.size()), (100, 100, 0));
    assert_eq!(timed.append_leader(batch(1, 10, 7), 0, 0).unwrap().base_offset, 100);
    // DeleteRecords.
    let to = sized.log_end_offset() - 5;
    assert_eq!(sized.delete_records(to).unwrap(), to);
    assert!(sized.read(to - 1, 1, 100, true).is_err());
    flush(&manager, &sized);
    manager.maintain(0);
    assert!(sized.size() < 12_000, "{}", sized.size());
    // Deletion.
    assert!(manager.delete_partition(&key(0)).unwrap());
    assert!(!manager.delete_partition(&key(0)).unwrap());
    assert!(sized.append_leader(batch(1, 10, 7), 0, 0).is_err());
    manager.checkpoint().unwrap();
    assert!(disk.files().iter().all(|f| !f.0.to_str().unwrap().contains("-0")));
    drop((manager, sized, timed));
    let (manager, _, _) = open(&disk.crash(Crash::Kill));
    assert!(manager.partition(&key(0)).is_none());
    let timed = manager.partition(&key(1)).unwrap();
    assert_eq!((timed.log_start_offset(), timed.log_end_offset()), (100, 101));
}

#[test]
fn memory_is_bounded_and_idle_partitions_hold_nothing() {
    let disk = SimulatedDisk::new(10);
    let options = LogOptions { journal_memory_bytes: 256 << 10, ..options() };
    let (manager, _, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options);
    let log = manager.create_partition(key(0), topic(PartitionOptions::default())).unwrap();
    for i in 0..4_000 {
        log.append_leader(batch(1, 1_000, i), 0, 0).unwrap();
        manager.kick();
        let mut waited = 0;
        while manager.pressure() {
            std::thread::sleep(Duration::from_millis(1));
            waited += 1;
            assert!(waited < 10_000, "pressure never ends: {:?}", manager.stats());
        }
        assert!(manager.stats().memory_bytes < 1 << 20, "{:?}", manager.stats());
    }
    flush(&manager, &log);
    assert_eq!(read_all(&log, 100_000).len(), 4_000);
}
