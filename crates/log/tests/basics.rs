//! Appending, reading, starting again: on the machine's own disk.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::os::fd::AsFd as _;
use std::sync::Arc;

use chronik_log::disk::OsDisk;
use chronik_log::{LogOptions, PartitionOptions, ReadError};
use common::*;

fn segments(bytes: u64) -> Arc<PartitionOptions> {
    topic(PartitionOptions { segment_bytes: bytes, index_interval_bytes: 512, ..PartitionOptions::default() })
}

#[test]
fn what_is_appended_is_read_and_survives_a_clean_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut sent = Vec::new();
    {
        let (manager, summary, listener) = open_on(Arc::new(OsDisk), dir.path(), small_options());
        assert_eq!(summary.partitions, 0);
        let log = manager.create_partition(key(0), segments(64 << 10)).unwrap();
        for i in 0..400u64 {
            let size = if i % 50 == 7 { 9_000 } else { 100 + (i as usize * 37) % 900 };
            let batch = batch(1 + (i % 3) as i32, size, i);
            let appended = log.append_leader(batch, 5, 0).unwrap();
            assert_eq!(appended.base_offset, sent.len() as i64);
            sent.resize(appended.last_offset as usize + 1, i);
            if i % 10 == 0 {
                manager.kick();
            }
            if i == 150 {
                manager.request_flush();
                manager.kick();
                assert!(listener.wait(key(0), |h| h.flushed > 100));
                manager.checkpoint().unwrap();
            }
        }
        manager.request_flush();
        manager.kick_for_flush();
        let end = log.log_end_offset();
        assert!(listener.wait(key(0), |h| h.flushed == end));
        assert_eq!(log.flushed_offset(), end);
        for max in [1, 1000, 20_000, 1 << 20] {
            assert_eq!(read_all(&log, max).len(), 400);
        }
        assert!(matches!(log.read(end + 1, 1, end + 1, true), Err(ReadError::OutOfRange(_))));
        manager.close().unwrap();
    }
    let (manager, summary, _) = open_on(Arc::new(OsDisk), dir.path(), small_options());
    assert!(summary.clean, "{summary:?}");
    assert_eq!((summary.partitions, summary.batches), (1, 0));
    let log = manager.create_partition(key(0), segments(64 << 10)).unwrap();
    assert_eq!(log.log_end_offset(), sent.len() as i64);
    assert_eq!(log.latest_epoch(), Some(5));
    for max in [1, 5_000, 1 << 20] {
        assert_eq!(read_all(&log, max).len(), 400);
    }
    let found = log.offset_for_timestamp(1_000 + 200).unwrap().unwrap();
    assert_eq!(sent[found.offset as usize], 200);
    assert!(found.offset == 0 || sent[found.offset as usize - 1] == 199);
    let newest = log.max_timestamp().unwrap().unwrap();
    assert_eq!((newest.timestamp, newest.leader_epoch), (1_399, 5));
    assert_eq!(log.offset_for_timestamp(9_999_999).unwrap(), None);
    let _ = dir.path().metadata().is_ok();
}

#[test]
fn what_nobody_waits_for_is_flushed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { flush_ms: 20, ..small_options() };
    let (manager, _, listener) = open_on(Arc::new(OsDisk), dir.path(), options);
    let log = manager.create_partition(key(0), segments(64 << 10)).unwrap();
    // The second one finds the flusher asleep again.
    for i in 0..2u64 {
        log.append_leader(batch(3, 100, i), 0, 0).unwrap();
        manager.kick();
        let end = log.log_end_offset();
        assert!(listener.wait(key(0), |heard| heard.flushed == end), "round {i}");
    }
    manager.close().unwrap();
}

#[test]
fn a_killed_run_is_replayed_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4u64 {
        let (manager, summary, listener) = open_on(Arc::new(OsDisk), dir.path(), small_options());
        assert!(summary.cut.is_empty(), "{summary:?}");
        for p in 0..5 {
            let log = manager.create_partition(key(p), segments(32 << 10)).unwrap();
            assert_eq!(log.log_end_offset(), 60 * round as i64, "partition {p} in round {round}");
            assert_eq!(read_all(&log, 3_000).len(), 60 * round as usize);
            for i in 0..60 {
                let size = if i % 20 == 3 { 6_000 } else { 200 };
                log.append_leader(batch(1, size, i), round as i32, 0).unwrap();
            }
            manager.kick();
            if p == 2 && round % 2 == 1 {
                manager.checkpoint().unwrap();
            }
        }
        for p in 0..5 {
            assert!(listener.wait(key(p), |h| h.written == 60 * (round as i64 + 1)));
        }
        // Dropped without a close: what a kill leaves.
    }
}

#[test]
fn a_duplicate_is_known_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (manager, _, listener) = open_on(Arc::new(OsDisk), dir.path(), small_options());
        let log = manager.create_partition(key(0), segments(1 << 20)).unwrap();
        log.append_leader(batch(3, 10, 0), 0, 0).unwrap();
        for i in 0..4 {
            let a = log.append_leader(idempotent(9, 0, i * 2, 2), 0, 0).unwrap();
            assert!(!a.duplicate);
            if i == 1 {
                manager.checkpoint().unwrap();
            }
        }
        manager.kick();
        assert!(listener.wait(key(0), |h| h.written == 11));
    }
    let (manager, _, _) = open_on(Arc::new(OsDisk), dir.path(), small_options());
    let log = manager.create_partition(key(0), segments(1 << 20)).unwrap();
    let again = log.append_leader(idempotent(9, 0, 2, 2), 0, 0).unwrap();
    assert!(again.duplicate);
    assert_eq!((again.base_offset, again.last_offset), (5, 6));
    assert!(log.append_leader(idempotent(9, 0, 20, 2), 0, 0).is_err());
    assert!(!log.append_leader(idempotent(9, 0, 8, 2), 0, 0).unwrap().duplicate);
    assert_eq!(log.producers().len(), 1);
}

#[test]
fn the_chunks_are_ranges_of_files_once_the_tail_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, _, _) = open_on(Arc::new(OsDisk), dir.path(), small_options());
    let log = manager.create_partition(key(0), segments(1 << 20)).unwrap();
    for i in 0..100 {
        log.append_leader(batch(1, 1_000, i), 0, 0).unwrap();
    }
    manager.close().unwrap();
    drop(manager);
    let (manager, _, _) = open_on(Arc::new(OsDisk), dir.path(), small_options());
    let log = manager.partition(&key(0)).unwrap();
    let plan = log.read(10, 20_000, 50, false).unwrap();
    assert_eq!(plan.chunks.len(), 1);
    match &plan.chunks[0] {
        chronik_base::Chunk::File(range) => assert!(range.file.as_fd().try_clone_to_owned().is_ok()),
        chronik_base::Chunk::Bytes(_) => panic!("history is not read into memory"),
    }
    assert!(plan.next_offset > 20 && plan.next_offset <= 50);
    // Bounded by the upper bound, exactly.
    assert_eq!(log.read(10, 1 << 20, 37, false).unwrap().next_offset, 37);
    // Too small for a batch.
    assert_eq!(log.read(10, 10, 100, false).unwrap().bytes, 0);
    assert_eq!(log.read(10, 10, 100, true).unwrap().next_offset, 11);
}

#[test]
fn offline_commands_see_segments_and_journal_and_change_nothing() {
    use chronik_log::offline::OfflineLogs;

    let dir = tempfile::tempdir().unwrap();
    let listing = || {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir.path().join("journal")).unwrap() {
            let entry = entry.unwrap();
            all.push((entry.path(), entry.metadata().unwrap().len()));
        }
        all.sort();
        all
    };
    {
        let (manager, _, listener) = open_on(Arc::new(OsDisk), dir.path(), small_options());
        let log = manager.create_partition(key(0), segments(64 << 10)).unwrap();
        for i in 0..300 {
            let size = if i % 40 == 3 { 6_000 } else { 300 };
            log.append_leader(batch(2, size, i), 0, 0).unwrap();
            if i == 100 {
                manager.kick();
                manager.checkpoint().unwrap();
            }
        }
        manager.kick();
        assert!(listener.wait(key(0), |h| h.written == 600));
        // Killed.
    }
    std::fs::write(dir.path().join("format"), "1").unwrap();
    let before = listing();
    let (logs, summary) = OfflineLogs::open(dir.path()).unwrap();
    assert_eq!(summary.batches, 199);
    assert_eq!(logs.partitions(), [key(0)]);
    let verified = logs.verify(&key(0)).unwrap();
    assert_eq!((verified.batches, verified.records, verified.fault.clone()), (300, 600, None));
    let digest = logs.digest(&key(0), None, None).unwrap();
    assert_eq!((digest.from, digest.to, digest.batches), (0, 600, 300));
    let part = logs.digest(&key(0), Some(11), Some(100)).unwrap();
    assert_eq!((part.from, part.to, part.batches), (12, 100, 44));
    assert!(matches!(OfflineLogs::open(dir.path()), Err(e) if e.to_string().contains("in use")));
    drop(logs);
    assert_eq!(listing(), before);

    // The same once everything is in segments.
    let (manager, _, _) = open_on(Arc::new(OsDisk), dir.path(), small_options());
    manager.close().unwrap();
    drop(manager);
    let (logs, summary) = OfflineLogs::open(dir.path()).unwrap();
    assert!(summary.clean);
    assert_eq!(logs.digest(&key(0), None, None).unwrap(), digest);
}
