//! What can go wrong, by operation.

use std::io;
use std::path::PathBuf;

use chronik_base::ErrorCode;
use chronik_records::BatchError;

use crate::partition::producers::SequenceError;

/// Whether the node's storage takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// It does.
    Writable,
    /// There is no space; writes are taken again by themselves once there is.
    Full,
    /// A write or a flush failed. What it covered may or may not be on disk, so nothing is acknowledged any more until
    /// the node is started again and recovers from what the disk really holds.
    Poisoned(String),
}

/// Why something on the disk could not be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system said no.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// A file holds what nobody wrote.
    #[error(
        "{path} is damaged at byte {position}: {what}; the partition stays offline until the file is restored from a replica or a backup, or the topic is deleted"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// A batch's CRC is right, and yet it can't be read.
    #[error("a batch of partition {partition} can't be decoded: {what}")]
    Undecodable {
        /// The partition.
        partition: crate::manager::PartitionKey,
        /// What is wrong.
        what: String,
    },
    /// An earlier failure, remembered.
    #[error("the partition is offline: {0}")]
    Offline(String),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// No space on the disk, or an earlier failure.
    #[error("the node's storage takes no writes: {0}")]
    Refused(String),
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// True if there was no space left.
    pub fn is_full(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if crate::disk::is_full(source))
    }
}

/// Why an append was refused. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// An idempotent producer's epoch or sequence doesn't fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The batch is larger than a segment may be.
    #[error("a batch of {size} bytes is larger than segment.bytes ({limit})")]
    LargerThanSegment {
        /// Bytes of the batch.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A follower's append does not continue its log.
    #[error("the batch begins at offset {found}; the log ends at {expected}")]
    NotContiguous {
        /// The log end offset.
        expected: i64,
        /// The batch's base offset.
        found: i64,
    },
    /// The bytes are not a whole record batch of format v2.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The bytes are not one batch.
    #[error("a record batch states {stated} bytes and comes as {found}")]
    Length {
        /// Bytes that its header states.
        stated: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// There is no batch.
    #[error("there is no record batch to append")]
    Empty,
    /// An offset that the log does not reach.
    #[error(transparent)]
    OutOfRange(OffsetOutOfRange),
    /// No space on the disk, or an earlier failure.
    #[error("the node's storage takes no writes: {0}")]
    Storage(String),
    /// The partition itself can't be used.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl AppendError {
    /// The code that a producer is answered with.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            AppendError::Sequence(e) => e.error_code(),
            AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            AppendError::NotContiguous { .. } | AppendError::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
            AppendError::Batch(_) | AppendError::Length { .. } | AppendError::Empty => {
                ErrorCode::CorruptMessage
            }
            AppendError::Storage(_) | AppendError::Log(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// The offset asked for is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset} is outside of the log, which holds {log_start} to {log_end}")]
pub struct OffsetOutOfRange {
    /// What was asked for.
    pub offset: i64,
    /// The log start offset.
    pub log_start: i64,
    /// The offset up to which reading was allowed.
    pub log_end: i64,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// See [`OffsetOutOfRange`].
    #[error(transparent)]
    OutOfRange(#[from] OffsetOutOfRange),
    /// The partition can't be used.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ReadError {
    /// The code that a consumer is answered with.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            ReadError::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
            ReadError::Log(_) => ErrorCode::KafkaStorageError,
        }
    }
}
