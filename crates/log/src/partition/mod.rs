//! One partition's log.

pub(crate) mod producers;

use std::any::Any;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use chronik_base::Chunk;

use crate::error::{AppendError, LogError, ReadError};
use crate::manager::PartitionKey;
use crate::options::PartitionOptions;
use producers::ProducerInfo;

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record; for a duplicate, the offset that it got the first time.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The time that the broker set, with `message.timestamp.type=LogAppendTime`; else -1.
    pub log_append_time: i64,
    /// The log start offset at that time.
    pub log_start_offset: i64,
    /// True if the producer had sent this batch before: nothing was appended.
    pub duplicate: bool,
}

/// A record's place by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
}

/// Whole record batches, ready to be sent.
#[derive(Clone, Debug, Default)]
pub struct ReadPlan {
    /// The batches. The first one holds the offset asked for, and so may begin before it.
    pub chunks: Vec<Chunk>,
    /// Bytes in them.
    pub bytes: usize,
    /// Offset after the last record in them; the offset asked for if there are none.
    pub next_offset: i64,
}

/// One partition's log. Cheap calls, safe from any thread; only [`PartitionLog::read`] and the look-ups by time may read
/// the disk.
pub struct PartitionLog {
    key: PartitionKey,
}

impl PartitionLog {
    /// Which partition this is.
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// Notes whose partition this is, once; later calls change nothing.
    pub fn set_owner(&self, owner: Weak<dyn Any + Send + Sync>) {
        let _ = owner;
    }

    /// What [`PartitionLog::set_owner`] noted, if it is still there.
    pub fn owner(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// Appends one record batch (format v2) that was validated, at the end of the log: gives it offsets, the leader's epoch
    /// and, with `LogAppendTime`, the time `now_ms`. Never waits for the disk; the call's order is the log's order.
    ///
    /// # Errors
    /// Nothing was appended. See [`AppendError`].
    pub fn append_leader(
        self: &Arc<Self>,
        batch: Bytes,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let _ = (batch, leader_epoch, now_ms);
        Err(AppendError::Storage(String::new()))
    }

    /// Appends record batches as the leader stored them, keeping offsets and epochs.
    ///
    /// # Errors
    /// They don't continue the log, or a CRC is wrong. Batches before the bad one are appended.
    pub fn append_follower(self: &Arc<Self>, batches: Bytes) -> Result<Appended, AppendError> {
        let _ = batches;
        Err(AppendError::Storage(String::new()))
    }

    /// Offset of the first record that may be read.
    pub fn log_start_offset(&self) -> i64 {
        0
    }

    /// Offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        0
    }

    /// Offset after the last record that is written (survives a kill of the process).
    pub fn written_offset(&self) -> i64 {
        0
    }

    /// Offset after the last record that is flushed (survives a power loss).
    pub fn flushed_offset(&self) -> i64 {
        0
    }

    /// Bytes in the log.
    pub fn size(&self) -> u64 {
        0
    }

    /// True if a read from `offset` on is served from memory, so that it can't wait for the disk.
    pub fn in_memory(&self, offset: i64) -> bool {
        let _ = offset;
        true
    }

    /// Finds whole batches from the one that holds `offset`, ending before `upper_bound`, of at most `max_bytes` bytes;
    /// with `at_least_one`, the first batch even if it is larger.
    ///
    /// # Errors
    /// `offset` is below the log's start or above its end, or the disk can't be read.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        upper_bound: i64,
        at_least_one: bool,
    ) -> Result<ReadPlan, ReadError> {
        let _ = (offset, max_bytes, upper_bound, at_least_one);
        Ok(ReadPlan::default())
    }

    /// The first record with a timestamp of at least `timestamp`.
    ///
    /// # Errors
    /// The disk can't be read.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampAndOffset>, LogError> {
        let _ = timestamp;
        Ok(None)
    }

    /// The first record with the largest timestamp (KIP-734).
    ///
    /// # Errors
    /// The disk can't be read.
    pub fn max_timestamp(&self) -> Result<Option<TimestampAndOffset>, LogError> {
        Ok(None)
    }

    /// The largest epoch in the log that is not above `epoch`, and the offset after its last record (KIP-101, KIP-279).
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let _ = epoch;
        None
    }

    /// Epoch of the leader that appended the last record.
    pub fn latest_epoch(&self) -> Option<i32> {
        None
    }

    /// Moves the log's start up to `before` (at most the log's end); what is below goes away. Gives the new start.
    ///
    /// # Errors
    /// `before` is above the log's end, or the storage takes no writes.
    pub fn delete_records(self: &Arc<Self>, before: i64) -> Result<i64, AppendError> {
        let _ = before;
        Ok(0)
    }

    /// Cuts the log's end back to `end` (a follower that had more than its leader). Waits for appends that are being written.
    ///
    /// # Errors
    /// The storage takes no writes.
    pub fn truncate_to(self: &Arc<Self>, end: i64) -> Result<(), AppendError> {
        let _ = end;
        Ok(())
    }

    /// The idempotent producers that the log remembers.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        Vec::new()
    }

    /// The options in force.
    pub fn options(&self) -> Arc<PartitionOptions> {
        Arc::default()
    }

    /// Sets new options, in force from the next append on.
    pub fn set_options(&self, options: Arc<PartitionOptions>) {
        let _ = options;
    }

    /// Why the partition is offline, if it is.
    pub fn offline(&self) -> Option<String> {
        None
    }
}
