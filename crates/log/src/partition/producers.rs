//! What a log remembers of idempotent producers (KIP-98): enough to know a batch that it has already.

use chronik_base::ErrorCode;

/// A producer as the log knows it, for DescribeProducers (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence number of its last record; -1 if not known.
    pub last_sequence: i32,
    /// Time of its last append, in milliseconds since the Unix epoch.
    pub last_timestamp: i64,
    /// First offset of its open transaction; -1 if there is none.
    pub current_txn_start_offset: i64,
    /// Epoch of the transaction coordinator; -1 if there is none.
    pub coordinator_epoch: i32,
}

/// Why a batch of an idempotent producer does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// There is a gap, or it is older than what is remembered.
    #[error("producer {producer_id} sent sequence {found} where {expected} comes next")]
    OutOfOrder {
        /// The producer.
        producer_id: i64,
        /// The sequence that fits.
        expected: i32,
        /// The sequence that came.
        found: i32,
    },
    /// A newer instance of the producer has written already.
    #[error("producer {producer_id} has epoch {current}; this batch is of epoch {found}")]
    OldEpoch {
        /// The producer.
        producer_id: i64,
        /// The epoch known.
        current: i16,
        /// The epoch that came.
        found: i16,
    },
}

impl SequenceError {
    /// The code that the producer is answered with.
    pub fn error_code(self) -> ErrorCode {
        match self {
            SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            SequenceError::OldEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        }
    }
}
