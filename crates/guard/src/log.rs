//! A log on a disk in memory.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use chronik_base::{ManualClock, Uuid};
use chronik_log::simulated::SimulatedDisk;
use chronik_log::{
    DataDir, LogListener, LogManager, LogOptions, PartitionKey, PartitionLog, PartitionOptions, Progress,
};
use chronik_records::{BatchBuilder, BatchOptions};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Wall clock time of everything here, in milliseconds.
pub const NOW_MS: i64 = 1_700_000_000_000;
/// The leader epoch that batches are appended in.
pub const EPOCH: i32 = 1;
/// Bytes of a record's value.
const VALUE: usize = 256;
const WITHIN: Duration = Duration::from_secs(60);

/// A log with one partition, and what it tells.
pub struct Log {
    pub manager: Arc<LogManager>,
    pub partition: Arc<PartitionLog>,
    flushed: Receiver<i64>,
}

struct Listener(Mutex<Sender<i64>>);

impl LogListener for Listener {
    fn on_written(&self, _: &[Progress]) {}

    fn on_flushed(&self, progress: &[Progress]) {
        let Ok(sender) = self.0.lock() else { return };
        for (_, end) in progress {
            // Nobody listens once the paths are through.
            let _ = sender.send(*end);
        }
    }

    fn on_failed(&self, _: &[Progress], _: &str) {}
}

impl Log {
    /// An empty one. Nothing but what is asked for is written, so that the log's own threads sleep while instructions are counted.
    pub fn open() -> Result<Self> {
        let (sender, flushed) = channel();
        let options = LogOptions {
            flush_ms: 3_600_000,
            checkpoint_interval_ms: 3_600_000,
            retention_check_ms: 3_600_000,
            ..LogOptions::default()
        };
        let (manager, _) = LogManager::open(
            DataDir::simulated("/guard"),
            Arc::new(SimulatedDisk::default()),
            Arc::new(ManualClock::new(NOW_MS)),
            options,
            Arc::new(Listener(Mutex::new(sender))),
        )?;
        let key = PartitionKey { topic_id: Uuid([7; 16]), partition: 0 };
        let partition = manager.create_partition(key, Arc::new(PartitionOptions::default()))?;
        Ok(Self { manager, partition, flushed })
    }

    /// Waits until everything that was appended is flushed.
    pub fn flush(&self) -> Result<()> {
        let end = self.partition.log_end_offset();
        self.manager.request_flush();
        self.manager.kick();
        while self.flushed.recv_timeout(WITHIN).context("the log does not flush")? < end {}
        if self.partition.written_offset() < end {
            bail!("flushed up to {end} and written only up to {}", self.partition.written_offset());
        }
        Ok(())
    }
}

/// A batch of one record, as a producer sends it.
pub fn batch() -> Result<Bytes> {
    batch_at(BatchOptions::default())
}

/// A batch of one record, as a leader stored it.
pub fn stored_batch(offset: i64) -> Result<Bytes> {
    batch_at(BatchOptions { base_offset: offset, partition_leader_epoch: EPOCH, ..BatchOptions::default() })
}

fn batch_at(options: BatchOptions) -> Result<Bytes> {
    let mut builder = BatchBuilder::new(options);
    builder.append(NOW_MS, None, Some(&[b'x'; VALUE]), &[])?;
    Ok(builder.finish()?)
}
