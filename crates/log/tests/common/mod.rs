//! What the log's tests share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test that fails says where"
)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{Chunk, Clock, Uuid};
use chronik_log::disk::Disk;
use chronik_log::{
    DataDir, LogError, LogListener, LogManager, LogOptions, PartitionKey, PartitionLog, PartitionOptions,
    Progress, ReadError, RecoverySummary,
};
use chronik_records::{Batch, BatchBuilder, BatchOptions};

/// What the listener heard of each partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    pub written: i64,
    pub flushed: i64,
    pub failed_from: Option<i64>,
}

#[derive(Default)]
pub struct Listener {
    heard: Mutex<HashMap<PartitionKey, Heard>>,
    news: Condvar,
}

impl Listener {
    pub fn heard(&self, key: PartitionKey) -> Heard {
        self.heard.lock().unwrap().get(&key).copied().unwrap_or_default()
    }

    pub fn wait(&self, key: PartitionKey, done: impl Fn(&Heard) -> bool) -> bool {
        let mut heard = self.heard.lock().unwrap();
        for _ in 0..200 {
            if done(heard.entry(key).or_default()) {
                return true;
            }
            heard = self.news.wait_timeout(heard, Duration::from_millis(50)).unwrap().0;
        }
        false
    }

    fn note(&self, progress: &[Progress], change: impl Fn(&mut Heard, i64)) {
        let mut heard = self.heard.lock().unwrap();
        for (partition, offset) in progress {
            change(heard.entry(partition.key()).or_default(), *offset);
        }
        self.news.notify_all();
    }
}

impl LogListener for Listener {
    fn on_written(&self, progress: &[Progress]) {
        self.note(progress, |h, offset| h.written = offset);
    }

    fn on_flushed(&self, progress: &[Progress]) {
        self.note(progress, |h, offset| h.flushed = offset);
    }

    fn on_failed(&self, from: &[Progress], _: &str) {
        self.note(from, |h, offset| h.failed_from = Some(offset));
    }
}

/// The machine's clock.
pub struct RealClock;

impl Clock for RealClock {
    fn wall_ms(&self) -> i64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
    }

    fn monotonic_ms(&self) -> u64 {
        self.wall_ms() as u64
    }
}

pub fn key(n: i32) -> PartitionKey {
    PartitionKey { topic_id: Uuid([7; 16]), partition: n }
}

/// A batch of `count` records with values of `size` bytes that say what they are.
pub fn batch(count: i32, size: usize, tag: u64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for i in 0..count {
        let mut value = vec![(tag % 251) as u8; size];
        let text = format!("{tag}/{i}");
        let n = text.len().min(size);
        value[..n].copy_from_slice(&text.as_bytes()[..n]);
        builder.append(1_000 + tag as i64, Some(&tag.to_be_bytes()), Some(&value), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// A batch of an idempotent producer.
pub fn idempotent(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Bytes {
    let options = BatchOptions {
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    for i in 0..count {
        builder.append(1_000, None, Some(format!("{producer_id}/{}", sequence + i).as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

pub fn small_options() -> LogOptions {
    LogOptions {
        direct_bytes: 4096,
        journal_segment_bytes: 1 << 20,
        flush_ms: 60_000,
        ..LogOptions::default()
    }
}

pub fn open_on(
    disk: Arc<dyn Disk>,
    path: &Path,
    options: LogOptions,
) -> (Arc<LogManager>, RecoverySummary, Arc<Listener>) {
    try_open_on(disk, path, options).unwrap()
}

/// The same, where the disk may stop meanwhile.
pub fn try_open_on(
    disk: Arc<dyn Disk>,
    path: &Path,
    options: LogOptions,
) -> Result<(Arc<LogManager>, RecoverySummary, Arc<Listener>), LogError> {
    let listener = Arc::new(Listener::default());
    let dir = DataDir::simulated(path);
    let (manager, summary) = LogManager::open(dir, disk, Arc::new(RealClock), options, listener.clone())?;
    Ok((manager, summary, listener))
}

/// All bytes of a chunk.
pub fn bytes_of(chunk: &Chunk) -> Bytes {
    match chunk {
        Chunk::Bytes(bytes) => bytes.clone(),
        Chunk::File(range) => {
            let file = std::fs::File::from(range.file.as_fd().try_clone_to_owned().unwrap());
            let mut bytes = vec![0; range.length as usize];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, range.position).unwrap();
            Bytes::from(bytes)
        }
    }
}

/// Reads a whole log, batch by batch, in reads of at most `max` bytes; checks that every batch is whole and in order.
pub fn read_all(log: &PartitionLog, max: usize) -> Vec<Bytes> {
    try_read_all(log, max).unwrap()
}

/// The same, where the disk may have stopped.
pub fn try_read_all(log: &PartitionLog, max: usize) -> Result<Vec<Bytes>, ReadError> {
    let mut batches = Vec::new();
    let mut offset = log.log_start_offset();
    let end = log.written_offset();
    while offset < end {
        let plan = log.read(offset, max, end, true)?;
        assert!(!plan.chunks.is_empty(), "nothing at {offset} of {}..{end}", log.log_start_offset());
        let bytes: Vec<u8> = plan.chunks.iter().flat_map(|c| bytes_of(c).to_vec()).collect();
        assert_eq!(bytes.len(), plan.bytes);
        let mut rest = Bytes::from(bytes);
        while !rest.is_empty() {
            let batch = Batch::parse(&rest).unwrap();
            batch.verify_crc().unwrap();
            let header = *batch.header();
            assert!(header.last_offset() >= offset, "{} below {offset}", header.last_offset());
            offset = header.next_offset();
            batches.push(rest.split_to(header.total_size()));
        }
        let bases: Vec<i64> =
            batches.iter().rev().take(6).map(|b| i64::from_be_bytes(b[..8].try_into().unwrap())).collect();
        // Compaction may have left nothing behind the last batch of a segment.
        assert!(
            plan.next_offset >= offset,
            "{} < {offset}; {log:?}: {} bytes, batches before {bases:?}",
            plan.next_offset,
            plan.bytes
        );
        offset = plan.next_offset;
    }
    Ok(batches)
}

pub fn topic(options: PartitionOptions) -> Arc<PartitionOptions> {
    Arc::new(options)
}
