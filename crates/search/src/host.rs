//! What search needs of the node that it runs in: the topics, their committed records, and the other nodes.

use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId, TopicId};

/// A topic of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id; a topic that is made anew under the same name has another.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// True if its records are to be searchable (topic setting `search.enabled`).
    pub enabled: bool,
    /// How fields are typed (topic setting `search.schema`); may be empty.
    pub schema: String,
    /// For each partition, the nodes that have a replica and are alive, the leader first. This node is there whenever it has one.
    pub replicas: Vec<Vec<NodeId>>,
}

/// Where a partition of this node begins and ends for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset.
    pub log_start: i64,
    /// Offset after the last committed record.
    pub high_watermark: i64,
    /// Changes whenever compaction has removed something: the offset up to which was cleaned, and a time.
    pub cleaned: (i64, i64),
}

/// Whole record batches.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// Their bytes. The first one may begin before the offset asked for.
    pub bytes: Vec<u8>,
    /// Offset after the last record in them; the one asked for if there are none.
    pub next_offset: i64,
}

/// Why records can't be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostError {
    /// This node has no replica of it.
    #[error("this node has no replica of partition {0}")]
    NotHosted(i32),
    /// The offset is not in the log.
    #[error("offset {offset} is out of range: the log has {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first one there is.
        start: i64,
        /// The one after the last.
        end: i64,
    },
    /// The log can't be read.
    #[error("the log can't be read: {0}")]
    Log(String),
}

/// The node, as search sees it. Reading may wait for the disk; nothing else waits.
pub trait Host: Send + Sync + 'static {
    /// This node.
    fn node_id(&self) -> NodeId;

    /// True once what the node knows of topics is up to date: only then it may be said that one is gone.
    fn is_ready(&self) -> bool;

    /// Changes whenever [`Host::topics`] or [`Host::is_ready`] may have another answer.
    fn version(&self) -> (u64, bool);

    /// Every topic that is to be searched.
    fn topics(&self) -> Vec<TopicInfo>;

    /// The topic of that name.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// Bounds of a partition; `None` if this node has no replica of it.
    fn bounds(&self, topic: &TopicId, partition: i32) -> Option<Bounds>;

    /// Committed batches from the one that holds `offset` on, of about `max_bytes` bytes; at least one, if there is one.
    ///
    /// # Errors
    /// See [`HostError`].
    fn read(
        &self,
        topic: &TopicId,
        partition: i32,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Batches, HostError>;

    /// The offset after the last record of the given leader epoch or, where that has none, of the one before it.
    fn end_of_epoch(&self, topic: &TopicId, partition: i32, epoch: i32) -> Option<i64>;

    /// The first offset with a timestamp of at least `timestamp` ms since the Unix epoch; `None` if there is none.
    ///
    /// # Errors
    /// See [`HostError`].
    fn offset_for_time(
        &self,
        topic: &TopicId,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, HostError>;

    /// Asks another node, whose [`Search::answer`](crate::Search::answer) gets `payload`. The error is in words.
    fn call(&self, node: NodeId, payload: Bytes, timeout: Duration) -> BoxFuture<Result<Bytes, String>>;
}
