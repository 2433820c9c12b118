//! One node's part of a search: what it is asked, and what it answers.

use serde::{Deserialize, Serialize};

use crate::query::Ast;

/// How hits are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
    /// Those that fit best first.
    Score,
    /// The highest offset first.
    Offset,
}

/// Where a hit stands in the order: the lesser comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rank {
    /// What the order is by.
    pub(crate) by: i64,
    /// Then by partition.
    pub(crate) partition: i32,
    /// Then by offset, negated where the highest comes first.
    pub(crate) offset: i64,
}

/// What a node is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardRequest {
    /// The topic's id, in hexadecimal digits.
    pub(crate) topic: String,
    pub(crate) partitions: Vec<i32>,
    pub(crate) query: Ast,
    /// Milliseconds since the Unix epoch, both included.
    pub(crate) time: (Option<i64>, Option<i64>),
    /// From the first, to below the second.
    pub(crate) offsets: (Option<i64>, Option<i64>),
    pub(crate) order: Order,
    /// Hits at most.
    pub(crate) limit: usize,
    /// Only hits that stand behind.
    pub(crate) after: Option<Rank>,
    /// Aggregations as JSON, with the names of columns.
    pub(crate) aggregations: Option<String>,
    pub(crate) timeout_ms: u64,
    pub(crate) now_ms: i64,
    /// Whether the records themselves are wanted.
    pub(crate) with_records: bool,
}

/// A record that was found or read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawRecord {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl RawRecord {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        64 + length(&self.key) + length(&self.value) + headers
    }
}

/// A hit with its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawHit {
    pub(crate) rank: Rank,
    /// Only where the order is by it.
    pub(crate) score: Option<f32>,
    pub(crate) record: RawRecord,
}

/// How far a partition's index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Indexed {
    pub(crate) partition: i32,
    pub(crate) to: i64,
    pub(crate) high_watermark: i64,
}

/// What a node found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ShardAnswer {
    /// Records that fit.
    pub(crate) count: u64,
    pub(crate) hits: Vec<RawHit>,
    /// Aggregations before they are put together, as `postcard` writes them.
    pub(crate) aggregations: Option<Vec<u8>>,
    pub(crate) indexed: Vec<Indexed>,
    /// Why this is not everything.
    pub(crate) problems: Vec<String>,
    /// Where there are more hits than these: up to which rank these are all.
    pub(crate) upto: Option<Rank>,
}

/// Records of one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RecordsRequest {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) from: From,
    pub(crate) limit: usize,
    pub(crate) max_bytes: usize,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum From {
    /// At this offset.
    Offset(i64),
    /// At the first record of this time or later.
    Time(i64),
    /// At the first record there is.
    Start,
}

/// What was read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RecordsAnswer {
    pub(crate) records: Vec<RawRecord>,
    pub(crate) next_offset: i64,
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
}

/// What nodes ask each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "one for each question to a node; a box would cost more than it saves"
)]
pub(crate) enum PeerRequest {
    Search(ShardRequest),
    Records(RecordsRequest),
}

/// And answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum PeerAnswer {
    Search(Result<ShardAnswer, ShardError>),
    Records(Result<RecordsAnswer, ShardError>),
}

/// Why a node can't answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum ShardError {
    /// The query is at fault, on every node alike.
    #[error("{0}")]
    Query(String),
    /// The index is not there, or not yet.
    #[error("{0}")]
    NotReady(String),
    /// The offset is not in the log.
    #[error("offset {offset} is out of range: the partition has {start} to {end}")]
    OutOfRange {
        /// The offset.
        offset: i64,
        /// The first one there is.
        start: i64,
        /// The one after the last.
        end: i64,
    },
    /// Something failed.
    #[error("{0}")]
    Failed(String),
}
