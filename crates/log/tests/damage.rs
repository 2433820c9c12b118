//! Damage in segments that no start reads: a read tells of it, and gives nothing short or out of place. And no alarm where
//! segments are exchanged under a reader.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_log::disk::{Disk, OpenMode};
use chronik_log::simulated::{Crash, SimulatedDisk};
use chronik_log::{
    CleanerOptions, CleanupPolicy, LogManager, LogOptions, PartitionLog, PartitionOptions, ReadError,
    RecoverySummary,
};
use chronik_records::Batch;
use common::*;

const BATCHES: usize = 40;

fn open(disk: &SimulatedDisk) -> (Arc<LogManager>, RecoverySummary) {
    let options = LogOptions {
        direct_bytes: 3_000,
        journal_segment_bytes: 256 << 10,
        flush_ms: 60_000,
        checkpoint_interval_ms: 600_000,
        ..LogOptions::default()
    };
    let (manager, summary, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), options);
    (manager, summary)
}

fn partition_options() -> Arc<PartitionOptions> {
    topic(PartitionOptions {
        segment_bytes: 12 << 10,
        index_interval_bytes: 2_000,
        ..PartitionOptions::default()
    })
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

fn append(log: &Arc<PartitionLog>, tags: std::ops::Range<u64>) {
    for tag in tags {
        let size = if tag % 13 == 5 { 4_000 } else { 300 };
        log.append_leader(batch(2, size, tag), 1, 0).unwrap();
    }
}

/// A log that was closed, and what was sent.
fn closed() -> (SimulatedDisk, Vec<Bytes>) {
    let disk = SimulatedDisk::new(1);
    let (manager, _) = open(&disk);
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    append(&log, 0..BATCHES as u64);
    manager.close().unwrap();
    let (manager, summary) = open(&disk);
    assert!(summary.clean);
    let sent = read_all(&manager.partition(&key(0)).unwrap(), 5_000);
    assert_eq!(sent.len(), BATCHES);
    (disk.crash(Crash::Kill), sent)
}

fn segments(disk: &SimulatedDisk) -> Vec<(PathBuf, usize)> {
    disk.files().into_iter().filter(|f| f.0.extension().is_some_and(|e| e == "log")).collect()
}

fn write(disk: &SimulatedDisk, path: &Path, at: u64, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Write).unwrap();
    file.write_at(&mut [IoSlice::new(bytes)], at).unwrap();
}

fn cut(disk: &SimulatedDisk, path: &Path, length: u64) {
    disk.open(path, OpenMode::Write).unwrap().set_len(length).unwrap();
}

/// Reads on from `offset`; what comes is what was sent, one after the other, and if the end isn't reached there is an
/// error that says so.
fn read_from(log: &PartitionLog, mut offset: i64, max: usize, sent: &[Bytes]) -> Result<(), ReadError> {
    let end = log.log_end_offset();
    while offset < end {
        let plan = log.read(offset, max, end, true)?;
        assert!(!plan.chunks.is_empty(), "nothing at {offset} of {end}, and no error");
        let bytes: Vec<u8> = plan.chunks.iter().flat_map(|c| bytes_of(c).to_vec()).collect();
        assert_eq!(bytes.len(), plan.bytes);
        let mut rest = Bytes::from(bytes);
        while !rest.is_empty() {
            let size = Batch::parse(&rest).unwrap().header().total_size();
            let found = rest.split_to(size);
            // Each has two records.
            assert!(Some(&found) == sent.get(offset as usize / 2), "another batch at offset {offset}");
            offset += 2;
        }
        assert_eq!(plan.next_offset, offset);
    }
    Ok(())
}

/// Every way through the log ends with an error, or gives what was sent. True if one ended with an error.
fn is_found(disk: &SimulatedDisk, sent: &[Bytes]) -> bool {
    let mut found = false;
    for (from, max) in [(0, 1), (0, 1 << 20), (30, 1_500), (50, 3_000)] {
        // A disk of its own: the first reader that finds damage takes the partition offline.
        let (manager, summary) = open(&disk.crash(Crash::Kill));
        let log = manager.partition(&key(0)).unwrap();
        match read_from(&log, from, max, sent) {
            Ok(()) => assert!(log.offline().is_none()),
            Err(e) => {
                assert_eq!(e.error_code(), ErrorCode::KafkaStorageError);
                assert!(log.offline().is_some(), "{summary:?}");
                found = true;
            }
        }
    }
    found
}

#[test]
fn a_segment_that_lost_its_end_is_damage() {
    let (disk, sent) = closed();
    let all = segments(&disk);
    assert!(all.len() > 3);
    for (i, (path, length)) in all.iter().enumerate() {
        for lost in [1, 60, 700, length - 1] {
            let disk = disk.crash(Crash::Kill);
            cut(&disk, path, (length - lost) as u64);
            assert!(is_found(&disk, &sent), "{} of {length} bytes of segment {i}", length - lost);
        }
    }
    // The last one already at the start: what the checkpoint says of it was flushed.
    let (path, length) = all.last().unwrap();
    let disk = disk.crash(Crash::Kill);
    cut(&disk, path, *length as u64 - 1);
    let (manager, summary) = open(&disk);
    assert_eq!(summary.offline.len(), 1, "{summary:?}");
    assert!(summary.offline[0].1.contains("shorter than it was"), "{summary:?}");
    let log = manager.create_partition(key(0), partition_options()).unwrap();
    assert!(log.append_leader(batch(1, 10, 0), 1, 0).is_err());
}

#[test]
fn an_altered_offset_is_damage() {
    let (disk, sent) = closed();
    let mut at = 0;
    let all = segments(&disk);
    let mut files = all.iter();
    let mut file = files.next().unwrap();
    for (i, batch) in sent.iter().enumerate() {
        if at == file.1 {
            (at, file) = (0, files.next().unwrap());
        }
        let base = 2 * i as i64;
        for altered in [base - 1, base + 1, base + 1_000, i64::MAX - 5] {
            let disk = disk.crash(Crash::Kill);
            write(&disk, &file.0, at as u64, &altered.to_be_bytes());
            assert!(is_found(&disk, &sent), "offset {base} became {altered}");
        }
        at += batch.len();
    }
}

#[test]
fn a_batch_in_another_ones_place_is_damage() {
    let (disk, sent) = closed();
    let (path, _) = segments(&disk).remove(0);
    let sizes: Vec<usize> = sent.iter().map(Bytes::len).collect();
    let place = |i: usize| sizes[..i].iter().sum::<usize>() as u64;
    for (from, to) in [(0, 2), (2, 0), (3, 4), (4, 3)] {
        assert_eq!(sizes[from], sizes[to]);
        let disk = disk.crash(Crash::Kill);
        write(&disk, &path, place(to), &sent[from]);
        assert!(is_found(&disk, &sent), "{from} at the place of {to}");
    }
}

#[test]
fn a_direct_batch_that_is_gone_is_damage() {
    for (at, bytes) in [(0, &[0xff; 8][..]), (8, &[0; 8][..]), (16, &[0][..])] {
        let disk = SimulatedDisk::new(1);
        let (manager, _) = open(&disk);
        let log = manager.create_partition(key(0), partition_options()).unwrap();
        log.append_leader(batch(2, 4_000, 0), 1, 0).unwrap();
        manager.kick();
        until("written", || log.written_offset() == 2);
        assert_eq!(log.read(0, 1, 2, true).unwrap().next_offset, 2);
        let (path, length) = segments(&disk).remove(0);
        write(&disk, &path, at, bytes);
        assert_eq!(log.read(0, 1, 2, true).unwrap_err().error_code(), ErrorCode::KafkaStorageError);
        assert!(log.offline().is_some());
        // The same where its end is gone.
        let log = manager.create_partition(key(1), partition_options()).unwrap();
        log.append_leader(batch(2, 4_000, 0), 1, 0).unwrap();
        manager.kick();
        until("written", || log.written_offset() == 2);
        let path = segments(&disk).into_iter().map(|f| f.0).find(|p| p.to_str().unwrap().contains("-1/"));
        cut(&disk, &path.unwrap(), length as u64 - 1);
        assert!(log.read(0, 1, 2, true).is_err());
    }
}

/// Readers go through a log that grows, is cut, begins anew, loses its old segments and is compacted, all at once.
#[test]
fn segments_that_are_exchanged_are_no_damage() {
    let disk = SimulatedDisk::new(1);
    let (manager, _) = open(&disk);
    manager.set_cleaner(CleanerOptions { enabled: false, ..CleanerOptions::default() });
    let options = topic(PartitionOptions {
        segment_bytes: 9 << 10,
        index_interval_bytes: 700,
        cleanup: CleanupPolicy { delete: true, compact: true },
        min_cleanable_dirty_ratio: 0.01,
        ..PartitionOptions::default()
    });
    let log = manager.create_partition(key(0), options).unwrap();
    // Set also when the test fails, so that nobody goes on.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Done(&done);
        for reader in 0..3_usize {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                let mut reads = 0_usize;
                while !done.load(Ordering::Relaxed) {
                    let (start, end) = (log.log_start_offset(), log.log_end_offset());
                    let span = (end - start).max(1);
                    let mut offset = start + (reads as i64 * 7_919 + reader as i64) % span;
                    for _ in 0..10 {
                        match log.read(offset, 900 + reader * 4_000, i64::MAX, true) {
                            Ok(plan) if plan.next_offset > offset => offset = plan.next_offset,
                            _ => break,
                        }
                    }
                    let _ = log.offset_for_timestamp(1_000 + reads as i64 % 200);
                    reads += 1;
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                manager.clean(10_000);
                manager.maintain(0);
                std::thread::yield_now();
            }
        });
        for round in 0..80_u64 {
            append(&log, round * 20 % 200..round * 20 % 200 + 20);
            manager.request_flush();
            manager.kick();
            let end = log.log_end_offset();
            match round % 5 {
                0 => manager.checkpoint().unwrap(),
                1 => log.truncate_to((end - 30).max(log.log_start_offset())).unwrap(),
                2 => drop(log.delete_records(log.log_start_offset() + 10).unwrap()),
                3 if round % 20 == 3 => log.reset_to(end / 2).unwrap(),
                _ => until("flushed", || log.flushed_offset() == log.log_end_offset()),
            }
            assert_eq!(log.offline(), None, "round {round}");
        }
    });
    assert_eq!(log.offline(), None);
}
