//! A follower's log: the leader's bytes, and cuts.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_log::simulated::{Crash, SimulatedDisk};
use chronik_log::{
    AppendError, DataDir, LogListener, LogManager, LogOptions, PartitionLog, PartitionOptions, Progress,
};
use common::*;

fn partition_options() -> Arc<PartitionOptions> {
    topic(PartitionOptions {
        segment_bytes: 8 << 10,
        index_interval_bytes: 600,
        ..PartitionOptions::default()
    })
}

fn flush(manager: &LogManager, log: &PartitionLog) {
    manager.request_flush();
    manager.kick();
    while log.flushed_offset() < log.log_end_offset() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn bytes(log: &PartitionLog) -> Bytes {
    Bytes::from(read_all(log, 1 << 20).concat())
}

#[test]
fn a_follower_has_the_leaders_bytes_and_is_cut_where_they_part() {
    let disk = SimulatedDisk::new(1);
    let (manager, _, _) = open_on(Arc::new(disk.clone()), Path::new("/data"), small_options());
    let leader = manager.create_partition(key(0), Arc::default()).unwrap();
    let follower = manager.create_partition(key(1), partition_options()).unwrap();
    for i in 0..60 {
        let size = if i % 11 == 4 { 5_000 } else { 300 };
        leader.append_leader(batch(2, size, i), 3 + (i / 30) as i32, 0).unwrap();
    }
    flush(&manager, &leader);
    let appended = follower.append_follower(bytes(&leader)).unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (0, 119));
    flush(&manager, &follower);
    assert_eq!(bytes(&follower), bytes(&leader));
    assert_eq!(follower.end_offset_for_epoch(3), Some((3, 60)));
    assert_eq!(follower.end_offset_for_epoch(9), Some((4, 120)));
    // What does not continue the log is refused, and so is what was altered on the way.
    assert!(matches!(
        follower.append_follower(bytes(&leader)),
        Err(AppendError::NotContiguous { expected: 120, found: 0 })
    ));
    let mut altered = bytes(&leader).to_vec();
    altered[100] ^= 1;
    let refused = follower.append_follower(Bytes::from(altered)).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::CorruptMessage);

    for (to, end) in [(111, 110), (110, 110), (75, 74), (3, 2)] {
        follower.truncate_to(to).unwrap();
        assert_eq!((follower.log_end_offset(), follower.flushed_offset()), (end, end), "cut to {to}");
        assert_eq!(read_all(&follower, 900).len() as i64, end / 2);
        assert!(follower.latest_epoch() == Some(if end > 60 { 4 } else { 3 }));
        // Other records come there.
        let other = follower.append_leader(batch(1, 700, 1_000 + to as u64), 9, 0).unwrap();
        assert_eq!(other.base_offset, end);
        flush(&manager, &follower);
        assert_eq!(read_all(&follower, 5_000).len() as i64, end / 2 + 1);
        follower.truncate_to(end).unwrap();
    }
    follower.truncate_to(0).unwrap();
    assert_eq!((follower.log_end_offset(), follower.size()), (0, 0));
    follower.append_follower(bytes(&leader)).unwrap();
    flush(&manager, &follower);
    assert_eq!(bytes(&follower), bytes(&leader));
    let expected = bytes(&leader);
    drop((manager, leader, follower));
    let (manager, summary, _) =
        open_on(Arc::new(disk.crash(Crash::PowerLoss)), Path::new("/data"), small_options());
    assert!(summary.offline.is_empty() && summary.cut.is_empty(), "{summary:?}");
    assert_eq!(bytes(&manager.partition(&key(1)).unwrap()), expected);
}

#[derive(Default)]
struct Relief(AtomicUsize);

impl LogListener for Relief {
    fn on_written(&self, _: &[Progress]) {}
    fn on_flushed(&self, _: &[Progress]) {}
    fn on_failed(&self, _: &[Progress], error: &str) {
        panic!("{error}");
    }
    fn on_pressure_relieved(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_end_of_pressure_is_told() {
    let relief = Arc::new(Relief::default());
    let options = LogOptions { journal_memory_bytes: 128 << 10, ..small_options() };
    let (manager, _) = LogManager::open(
        DataDir::simulated("/data"),
        Arc::new(SimulatedDisk::new(1)),
        Arc::new(RealClock),
        options,
        relief.clone(),
    )
    .unwrap();
    let log = manager.create_partition(key(0), Arc::default()).unwrap();
    assert!(!manager.pressure());
    for i in 0..300 {
        log.append_leader(batch(1, 1_000, i), 0, 0).unwrap();
    }
    assert!(manager.pressure());
    manager.kick();
    for _ in 0..5_000 {
        if relief.0.load(Ordering::SeqCst) > 0 {
            assert!(!manager.pressure());
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the pressure never ends: {:?}", manager.stats());
}
