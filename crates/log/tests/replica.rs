//! What replication asks of a log beside appends and cuts: beginning anew, epochs without records, the high watermark, and
//! news that never tell of what was taken back.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use chronik_log::simulated::{Crash, SimulatedDisk};
use chronik_log::{
    AppendError, CleanupPolicy, DataDir, LogListener, LogManager, LogOptions, PartitionLog, PartitionOptions,
    Progress, SequenceError, StorageState,
};
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
        segment_bytes: 8 << 10,
        index_interval_bytes: 600,
        ..PartitionOptions::default()
    })
}

fn open(disk: &SimulatedDisk) -> Arc<LogManager> {
    let (manager, summary, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options());
    assert!(summary.offline.is_empty(), "{summary:?}");
    manager
}

fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("never {what}");
}

fn flush(manager: &LogManager, log: &PartitionLog) {
    manager.request_flush();
    manager.kick();
    until("flushed", || log.flushed_offset() >= log.log_end_offset());
}

/// All of a log, as a leader sends it to a follower.
fn shipped(log: &PartitionLog) -> Bytes {
    let mut all = Vec::new();
    let mut offset = log.log_start_offset();
    while offset < log.written_offset() {
        let plan = log.read(offset, 5_000, i64::MAX, true).unwrap();
        for chunk in &plan.chunks {
            all.extend_from_slice(&bytes_of(chunk));
        }
        offset = plan.next_offset;
    }
    Bytes::from(all)
}

/// Batches in memory, in segments, and written straight to them; some flushed, some only written.
fn fill(manager: &LogManager, log: &Arc<PartitionLog>, epoch: i32) {
    for i in 0..40 {
        log.append_leader(batch(2, if i % 7 == 3 { 4_000 } else { 400 }, i), epoch, 0).unwrap();
        if i == 20 {
            manager.kick();
            manager.checkpoint().unwrap();
        }
        if i == 30 {
            flush(manager, log);
        }
    }
    manager.kick();
    until("written", || log.written_offset() >= log.log_end_offset());
}

fn segments(disk: &SimulatedDisk, partition: i32) -> Vec<String> {
    let folder = format!("-{partition}/");
    let names = disk.files().into_iter().map(|f| f.0.to_str().unwrap().to_owned());
    names.filter(|n| n.contains(&folder) && n.ends_with(".log")).collect()
}

/// A log that holds nothing and begins at `offset`.
fn assert_empty_at(log: &PartitionLog, offset: i64) {
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (offset, offset));
    assert_eq!((log.written_offset(), log.flushed_offset(), log.size()), (offset, offset, 0));
    assert_eq!((log.latest_epoch(), log.producers().len(), log.offline()), (None, 0, None));
    assert!(log.read(offset, 1_000, i64::MAX, true).unwrap().chunks.is_empty());
}

#[test]
fn a_follower_begins_anew_where_its_leader_does() {
    let disk = SimulatedDisk::new(1);
    let manager = open(&disk);
    let leader = manager.create_partition(key(0), partition_options()).unwrap();
    let follower = manager.create_partition(key(1), partition_options()).unwrap();
    leader.reset_to(5_000).unwrap();
    assert_empty_at(&leader, 5_000);
    fill(&manager, &leader, 6);
    // It has something else, also of an idempotent producer.
    fill(&manager, &follower, 2);
    follower.append_leader(idempotent(9, 0, 0, 1), 2, 0).unwrap();
    for at in [5_000, 30, 5_000] {
        follower.reset_to(at).unwrap();
        assert_empty_at(&follower, at);
        assert!(segments(&disk, 1).is_empty());
    }
    assert!(matches!(follower.reset_to(-1), Err(AppendError::OutOfRange(_))));
    follower.append_follower(shipped(&leader)).unwrap();
    flush(&manager, &follower);
    assert_eq!(follower.log_start_offset(), 5_000);
    assert_eq!(shipped(&follower), shipped(&leader));
    assert_eq!(follower.end_offset_for_epoch(6), Some((6, 5_080)));
    let expected = shipped(&leader);
    drop((manager, leader, follower));
    let manager = open(&disk.crash(Crash::PowerLoss));
    let follower = manager.partition(&key(1)).unwrap();
    assert_eq!((follower.log_start_offset(), follower.latest_epoch()), (5_000, Some(6)));
    assert_eq!(shipped(&follower), expected);
}

#[test]
fn a_batch_across_the_leaders_start_is_taken_whole() {
    let manager = open(&SimulatedDisk::new(1));
    let leader = manager.create_partition(key(0), partition_options()).unwrap();
    let follower = manager.create_partition(key(1), partition_options()).unwrap();
    fill(&manager, &leader, 1);
    leader.delete_records(21).unwrap();
    follower.reset_to(21).unwrap();
    let batches = shipped(&leader);
    let refused = follower.append_follower(batches.clone()).unwrap_err();
    let AppendError::NotContiguous { expected: 21, found: 20 } = refused else { panic!("{refused}") };
    follower.reset_to(20).unwrap();
    follower.append_follower(batches.clone()).unwrap();
    assert_eq!(follower.delete_records(leader.log_start_offset()).unwrap(), 21);
    flush(&manager, &follower);
    assert_eq!(shipped(&follower), batches);
    assert_eq!(follower.read(21, 10, i64::MAX, true).unwrap().next_offset, 22);
    // A leader's word may be ahead of what the follower has.
    assert!(matches!(follower.delete_records(81), Err(AppendError::OutOfRange(_))));
    assert_eq!(follower.delete_records(10).unwrap(), 21);
}

/// A reset that ends at each of its operations is not there, or is there as a whole; and what comes after it is not
/// touched by what was before.
#[test]
fn a_reset_is_there_or_not() {
    let mut resets = 0;
    for how in [Crash::Kill, Crash::PowerLoss] {
        for stop in 1.. {
            let disk = SimulatedDisk::new(stop);
            let manager = open(&disk);
            let log = manager.create_partition(key(0), partition_options()).unwrap();
            fill(&manager, &log, 3);
            flush(&manager, &log);
            let before = shipped(&log);
            disk.stop_after(stop);
            let done = log.reset_to(20);
            let whole = done.is_ok() && !disk.is_stopped();
            drop((manager, log));
            let disk = disk.crash(how);
            let manager = open(&disk);
            let log = manager.partition(&key(0)).unwrap();
            if log.log_start_offset() == 20 {
                resets += 1;
                assert_empty_at(&log, 20);
                // Other batches where the old ones were: one of them straight to its segment.
                fill(&manager, &log, 4);
                flush(&manager, &log);
                let after = shipped(&log);
                drop((manager, log));
                let disk = disk.crash(how);
                let manager = open(&disk);
                let log = manager.partition(&key(0)).unwrap();
                assert_eq!((log.log_start_offset(), log.log_end_offset()), (20, 100));
                assert!(shipped(&log) == after, "other batches after {how:?} at {stop}");
                let names = segments(&disk, 0);
                assert!(names.iter().all(|n| !n.ends_with("/00000000000000000000.log")), "{names:?}");
            } else {
                assert!(done.is_err(), "a reset that was done is not there");
                assert!(shipped(&log) == before, "{how:?} at {stop}");
            }
            if whole {
                break;
            }
        }
    }
    assert!(resets > 10, "{resets}");
}

#[test]
fn a_damaged_replica_begins_anew() {
    let disk = SimulatedDisk::new(6);
    let manager = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    fill(&manager, &log, 0);
    manager.checkpoint().unwrap();
    drop((manager, log));
    let disk = disk.crash(Crash::Kill);
    // The magic byte of the first batch.
    assert!(disk.flip(Path::new(&segments(&disk, 0)[0]), 16, 3));
    let manager = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    assert!(log.read(0, 1_000, i64::MAX, true).is_err());
    assert!(log.offline().is_some() && log.truncate_to(10).is_err());
    log.reset_to(7).unwrap();
    assert_empty_at(&log, 7);
    log.append_leader(batch(1, 10, 1), 1, 0).unwrap();
    flush(&manager, &log);
    drop((manager, log));
    let manager = open(&disk.crash(Crash::PowerLoss));
    let log = manager.partition(&key(0)).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), read_all(&log, 100).len()), (7, 8, 1));
}

#[test]
fn an_epoch_begins_with_its_leader_and_goes_with_a_cut() {
    let manager = open(&SimulatedDisk::new(1));
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    assert_eq!(log.end_offset_for_epoch(0), None);
    log.begin_epoch(2);
    assert_eq!(log.end_offset_for_epoch(2), Some((2, 0)));
    log.append_leader(batch(3, 10, 0), 2, 0).unwrap();
    log.begin_epoch(5);
    log.begin_epoch(4);
    assert_eq!(log.latest_epoch(), Some(5));
    assert_eq!(log.end_offset_for_epoch(4), Some((2, 3)));
    assert_eq!(log.end_offset_for_epoch(1), Some((1, 0)));
    // Nothing was appended in epoch 5. The leader of epoch 6 tells this replica that epoch 2 ends at 3.
    log.truncate_to(3).unwrap();
    assert_eq!((log.latest_epoch(), log.log_end_offset()), (Some(2), 3));
    log.begin_epoch(7);
    log.append_leader(batch(1, 10, 0), 7, 0).unwrap();
    assert_eq!(log.end_offset_for_epoch(6), Some((2, 3)));
    assert_eq!(log.end_offset_for_epoch(7), Some((7, 4)));
}

#[test]
fn producers_go_back_with_the_log_and_come_with_the_leaders_batches() {
    let disk = SimulatedDisk::new(1);
    let manager = open(&disk);
    let leader = manager.create_partition(key(0), partition_options()).unwrap();
    let follower = manager.create_partition(key(1), partition_options()).unwrap();
    for i in 0..8 {
        leader.append_leader(idempotent(9, 0, i * 2, 2), 0, 0).unwrap();
    }
    flush(&manager, &leader);
    follower.append_follower(shipped(&leader)).unwrap();
    follower.truncate_to(12).unwrap();
    let check = |log: &Arc<PartitionLog>| {
        // Batches up to sequence 11 are there: those are known, and only 12 comes next.
        let again = log.append_leader(idempotent(9, 0, 10, 2), 1, 0).unwrap();
        assert!(again.duplicate && again.base_offset == 10, "{again:?}");
        let refused = log.append_leader(idempotent(9, 0, 14, 2), 1, 0).unwrap_err();
        let AppendError::Sequence(SequenceError::OutOfOrder { expected: 12, .. }) = refused else {
            panic!("{refused}")
        };
    };
    check(&follower);
    flush(&manager, &follower);
    drop((manager, leader, follower));
    let manager = open(&disk.crash(Crash::PowerLoss));
    let follower = manager.create_partition(key(1), partition_options()).unwrap();
    check(&follower);
    assert_eq!(follower.append_leader(idempotent(9, 0, 12, 2), 1, 0).unwrap().base_offset, 12);
}

/// Hears of one partition: nothing above the end that it is cut to.
struct Bounded {
    bound: AtomicI64,
    written: AtomicI64,
    flushed: AtomicI64,
}

impl Bounded {
    fn hear(&self, heard: &AtomicI64, progress: &[Progress]) {
        for (_, end) in progress {
            let bound = self.bound.load(Ordering::SeqCst);
            assert!(*end <= bound, "news of {end}, which is above {bound}");
            heard.store(*end, Ordering::SeqCst);
        }
    }
}

impl LogListener for Bounded {
    fn on_written(&self, progress: &[Progress]) {
        self.hear(&self.written, progress);
    }

    fn on_flushed(&self, progress: &[Progress]) {
        self.hear(&self.flushed, progress);
    }

    fn on_failed(&self, _: &[Progress], error: &str) {
        panic!("{error}");
    }
}

#[test]
fn news_of_a_followers_appends_never_tell_of_what_was_cut() {
    let listener = Arc::new(Bounded {
        bound: AtomicI64::new(i64::MAX),
        written: AtomicI64::new(0),
        flushed: AtomicI64::new(0),
    });
    let (manager, _) = LogManager::open(
        DataDir::simulated("/data"),
        Arc::new(SimulatedDisk::new(1)),
        Arc::new(RealClock),
        options(),
        listener.clone(),
    )
    .unwrap();
    let leader = manager.create_partition(key(0), partition_options()).unwrap();
    fill(&manager, &leader, 0);
    let batches = shipped(&leader);
    manager.delete_partition(&key(0)).unwrap();
    manager.checkpoint().unwrap();
    let log = manager.create_partition(key(1), partition_options()).unwrap();
    for round in 0..60 {
        log.append_follower(batches.clone()).unwrap();
        manager.request_flush();
        manager.kick();
        if round % 3 == 0 {
            until("told", || listener.flushed.load(Ordering::SeqCst) == 80);
            // The flusher may have written it, and is then the first to tell.
            until("told of the write", || listener.written.load(Ordering::SeqCst) == 80);
        }
        // Meanwhile somebody moves the log's start, or tries to.
        std::thread::scope(|scope| {
            let (other, manager) = (log.clone(), manager.clone());
            scope.spawn(move || {
                let _ = other.delete_records(1);
                manager.kick();
            });
            log.truncate_to(2).unwrap();
            listener.bound.store(2, Ordering::SeqCst);
        });
        // The start that was moved is told of with the end that the log has by then.
        flush(&manager, &log);
        assert_eq!((log.written_offset(), log.flushed_offset(), log.log_end_offset()), (2, 2, 2));
        listener.bound.store(i64::MAX, Ordering::SeqCst);
        log.reset_to(0).unwrap();
        listener.flushed.store(0, Ordering::SeqCst);
    }
}

#[test]
fn retention_and_compaction_keep_off_the_high_watermark() {
    let disk = SimulatedDisk::new(1);
    let manager = open(&disk);
    let small = PartitionOptions { segment_bytes: 4_000, retention_ms: 1_000, ..PartitionOptions::default() };
    let compact = PartitionOptions {
        cleanup: CleanupPolicy { delete: false, compact: true },
        min_cleanable_dirty_ratio: 0.01,
        ..small.clone()
    };
    let timed = manager.create_partition(key(0), topic(small)).unwrap();
    let compacted = manager.create_partition(key(1), topic(compact)).unwrap();
    for log in [&timed, &compacted] {
        log.set_high_watermark(20);
        for _ in 0..60 {
            log.append_leader(batch(1, 500, 7), 0, 0).unwrap();
        }
        flush(&manager, log);
    }
    manager.checkpoint().unwrap();
    manager.maintain(1_000_000);
    while manager.clean(1_000_000) {}
    let start = timed.log_start_offset();
    assert!(start > 0 && start <= 20, "{start}");
    let left = read_all(&compacted, 1_000).len();
    assert!((40..60).contains(&left), "{left}");
    for log in [&timed, &compacted] {
        log.set_high_watermark(60);
    }
    manager.maintain(1_000_000);
    while manager.clean(1_000_000) {}
    assert_eq!(timed.log_start_offset(), 60);
    assert!(read_all(&compacted, 1_000).len() < 20);
}

#[test]
fn a_deletion_does_not_disturb_a_flush() {
    let manager = open(&SimulatedDisk::new(1));
    for round in 0..30 {
        let log = manager.create_partition(key(round), partition_options()).unwrap();
        // Straight to new segments, which are to be flushed.
        for tag in 0..4 {
            log.append_leader(batch(1, 4_000, tag), 0, 0).unwrap();
        }
        manager.kick();
        until("written", || log.written_offset() == 4);
        manager.delete_partition(&key(round)).unwrap();
        manager.request_flush();
        manager.kick();
    }
    let log = manager.create_partition(key(30), partition_options()).unwrap();
    log.append_leader(batch(1, 10, 0), 0, 0).unwrap();
    flush(&manager, &log);
    assert_eq!(manager.state(), StorageState::Writable);
}

#[test]
fn a_replica_that_was_moved_away_may_come_back() {
    let disk = SimulatedDisk::new(1);
    let manager = open(&disk);
    for round in 0..4_u64 {
        let log = manager.create_partition(key(0), partition_options()).unwrap();
        assert_empty_at(&log, 0);
        fill(&manager, &log, 0);
        manager.checkpoint().unwrap();
        assert!(segments(&disk, 0).len() > 2);
        assert!(manager.delete_partition(&key(0)).unwrap(), "round {round}");
    }
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    fill(&manager, &log, 0);
    flush(&manager, &log);
    manager.checkpoint().unwrap();
    let expected = shipped(&log);
    drop((manager, log));
    let manager = open(&disk.crash(Crash::PowerLoss));
    assert_eq!(shipped(&manager.partition(&key(0)).unwrap()), expected);
}
