//! The node's storage as a whole.

use std::fmt;
use std::sync::Arc;

use chronik_base::{Clock, TopicId};

use crate::disk::Disk;
use crate::error::{LogError, StorageState};
use crate::layout::DataDir;
use crate::listener::LogListener;
use crate::options::{LogOptions, PartitionOptions};
use crate::partition::PartitionLog;

/// One partition of one topic, by id: names can be used again, ids never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id.to_hex(), self.partition)
    }
}

/// What the start found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoverySummary {
    /// True if the last run ended by closing the log, so that nothing had to be checked.
    pub clean: bool,
    /// Partitions on disk.
    pub partitions: usize,
    /// Bytes of journal that were read again.
    pub journal_bytes: u64,
    /// Record batches that were in the journal and not yet known to be in a segment.
    pub batches: u64,
    /// Partitions whose segments had to be read from the start because the checkpoint did not know them.
    pub rebuilt: usize,
    /// What was cut off, one sentence for each place.
    pub cut: Vec<String>,
    /// Partitions that are offline, and why.
    pub offline: Vec<(PartitionKey, String)>,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

/// Figures since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of record batches appended.
    pub appended_bytes: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Bytes written to segments and indexes.
    pub segment_bytes: u64,
    /// Bytes written to checkpoints.
    pub checkpoint_bytes: u64,
    /// Groups written to the journal.
    pub groups: u64,
    /// Flushes of the journal.
    pub flushes: u64,
    /// Microseconds spent in them, in all.
    pub flush_us: u64,
    /// The longest flush, in microseconds.
    pub flush_us_max: u64,
    /// Bytes in memory that are appended but not yet written to the journal.
    pub queued_bytes: u64,
    /// Bytes in memory that are not yet in their segment, and the cache of each log's tail.
    pub memory_bytes: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Partitions.
    pub partitions: u64,
}

/// The logs of a node, and the journal that they share.
pub struct LogManager {}

impl LogManager {
    /// Opens what is in a data directory, and recovers it where the last run did not end by [`LogManager::close`].
    ///
    /// # Errors
    /// The operating system says no, or the journal can't be read at all. Torn tails are no error.
    pub fn open(
        dir: DataDir,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        listener: Arc<dyn LogListener>,
    ) -> Result<(Arc<Self>, RecoverySummary), LogError> {
        let _ = (dir, disk, clock, options, listener);
        Err(LogError::Deleted)
    }

    /// The log of a partition, made if it is not there yet. Options given for one that is there replace its own.
    ///
    /// # Errors
    /// The storage takes no writes.
    pub fn create_partition(
        &self,
        key: PartitionKey,
        options: Arc<PartitionOptions>,
    ) -> Result<Arc<PartitionLog>, LogError> {
        let _ = (key, options);
        Err(LogError::Deleted)
    }

    /// The log of a partition.
    pub fn partition(&self, key: &PartitionKey) -> Option<Arc<PartitionLog>> {
        let _ = key;
        None
    }

    /// All partitions, in no order.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        Vec::new()
    }

    /// Deletes a partition and gives its space back. False if it is not there.
    ///
    /// # Errors
    /// The operating system says no.
    pub fn delete_partition(&self, key: &PartitionKey) -> Result<bool, LogError> {
        let _ = key;
        Ok(false)
    }

    /// Starts writing what was appended. Cheap; called once after a burst of appends.
    pub fn kick(&self) {}

    /// Asks that everything appended so far is flushed soon. [`LogManager::kick`] must follow (it may serve several).
    pub fn request_flush(&self) {}

    /// True while so much memory waits for the disk that connections should read no further;
    /// [`LogListener::on_pressure_relieved`] tells the end of it.
    pub fn pressure(&self) -> bool {
        false
    }

    /// Whether writes are taken.
    pub fn state(&self) -> StorageState {
        StorageState::Writable
    }

    /// Figures since the start.
    pub fn stats(&self) -> LogStats {
        LogStats::default()
    }

    /// Rolls, deletes and compacts what is due at wall clock time `now_ms`. The log's own thread calls it at intervals.
    pub fn maintain(&self, now_ms: i64) {
        let _ = now_ms;
    }

    /// Flushes everything, makes a checkpoint, and ends the threads. The next start then reads no log.
    ///
    /// # Errors
    /// The disk can't take it; the next start recovers.
    pub fn close(&self) -> Result<(), LogError> {
        Ok(())
    }
}
