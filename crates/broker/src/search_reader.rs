//! Committed records for what a node has beside its broker: search. It reads as a consumer does, up to the high watermark, of any replica that
//! this node has.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use chronik_base::{Chunk, TopicId};
use chronik_log::{PartitionKey, ReadError};

use crate::Broker;
use crate::partition::Partition;

/// Where a partition begins and ends for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedBounds {
    /// The first offset.
    pub log_start: i64,
    /// Offset after the last committed record.
    pub high_watermark: i64,
    /// See [`chronik_log::PartitionLog::cleaned`].
    pub cleaned: (i64, i64),
}

/// Why committed records can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CommittedError {
    /// This node has no replica of the partition.
    #[error("this node has no replica of partition {0}")]
    NotHosted(i32),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// What the log named can't be read.
    #[error("a segment can't be read: {0}")]
    File(#[from] std::io::Error),
}

impl Broker {
    /// Bounds of a partition; `None` if this node has no replica of it.
    pub fn committed_bounds(&self, topic: &TopicId, partition: i32) -> Option<CommittedBounds> {
        let partition = self.replica_of(topic, partition)?;
        Some(CommittedBounds {
            log_start: partition.log.log_start_offset(),
            high_watermark: partition.high_watermark(),
            cleaned: partition.log.cleaned(),
        })
    }

    /// Bytes of committed batches, from the one that holds `offset` on, about `max_bytes` of them and at least one batch; and the offset after
    /// them. Waits for the disk.
    ///
    /// # Errors
    /// See [`CommittedError`].
    pub fn read_committed(
        &self,
        topic: &TopicId,
        partition: i32,
        offset: i64,
        max_bytes: usize,
    ) -> Result<(Vec<u8>, i64), CommittedError> {
        let partition = self.replica_of(topic, partition).ok_or(CommittedError::NotHosted(partition))?;
        let plan = partition.log.read(offset, max_bytes, partition.high_watermark(), true)?;
        let mut bytes = Vec::with_capacity(plan.bytes);
        for chunk in &plan.chunks {
            match chunk {
                Chunk::Bytes(more) => bytes.extend_from_slice(more),
                Chunk::File(range) => {
                    let file = File::from(range.file.as_fd().try_clone_to_owned()?);
                    let start = bytes.len();
                    bytes.resize(start + chunk.len(), 0);
                    file.read_exact_at(bytes.get_mut(start..).unwrap_or_default(), range.position)?;
                }
            }
        }
        Ok((bytes, plan.next_offset))
    }

    /// See [`chronik_log::PartitionLog::end_offset_for_epoch`]; `None` without a replica here.
    pub fn end_of_epoch(&self, topic: &TopicId, partition: i32, epoch: i32) -> Option<i64> {
        self.replica_of(topic, partition)?.log.end_offset_for_epoch(epoch).map(|(_, end)| end)
    }

    /// The first committed offset whose record has at least this timestamp. Waits for the disk.
    ///
    /// # Errors
    /// See [`CommittedError`].
    pub fn committed_offset_for_time(
        &self,
        topic: &TopicId,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, CommittedError> {
        let partition = self.replica_of(topic, partition).ok_or(CommittedError::NotHosted(partition))?;
        let found = partition.log.offset_for_timestamp(timestamp).map_err(ReadError::from)?;
        Ok(found.map(|found| found.offset).filter(|offset| *offset < partition.high_watermark()))
    }

    fn replica_of(&self, topic: &TopicId, partition: i32) -> Option<Arc<Partition>> {
        self.hosted(PartitionKey { topic_id: *topic, partition })
    }
}
