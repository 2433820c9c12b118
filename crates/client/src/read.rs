//! Reads the records of a topic's partitions, and finds offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_base::{Chunk, ErrorCode, NodeId, Timestamp};
use chronik_protocol::Str;
use chronik_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use chronik_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use chronik_records::{BatchScanError, Batches, DEFAULT_MAX_DECOMPRESSED_BYTES, Record};
use tokio::task::JoinSet;

use crate::client::{Patience, passes};
use crate::{Client, ClientError, To};

/// Stands for the offset after the last committed record, in place of a timestamp.
pub const LATEST: Timestamp = -1;

/// Stands for the first offset that is there, in place of a timestamp.
pub const EARLIEST: Timestamp = -2;

/// Stands for the record with the largest timestamp, in place of a timestamp (KIP-734).
pub const MAX_TIMESTAMP: Timestamp = -3;

/// The last version of Fetch that names topics by name.
const BY_NAME: i16 = 12;

/// How to read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The most bytes of records of one answer.
    pub max_bytes: i32,
    /// The most bytes of records of one partition in one answer.
    pub partition_max_bytes: i32,
    /// How long an answer may wait for records.
    pub max_wait: Duration,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { max_bytes: 32 << 20, partition_max_bytes: 8 << 20, max_wait: Duration::from_millis(500) }
    }
}

impl Client {
    /// The offset of the first record of a partition from `timestamp` on (milliseconds since the epoch, or
    /// [`EARLIEST`], [`LATEST`], [`MAX_TIMESTAMP`]); `None` if there is no such record.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, ClientError> {
        let mut patience = Patience::new(self.options().request_timeout);
        loop {
            let leader = self.leader(topic, partition).await?;
            let request = ListOffsetsRequest {
                // No replica but a client; the default is the id of a broker.
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: Str::from(topic),
                    partitions: vec![ListOffsetsPartition {
                        partition_index: partition,
                        timestamp,
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            };
            let answer = self.send(To::Broker(leader), &request).await?;
            let found = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let (code, offset) = match found {
                Some(found) => (found.error_code, found.offset),
                None => (ErrorCode::UnknownServerError.code(), -1),
            };
            if code == 0 {
                return Ok((offset >= 0).then_some(offset));
            }
            self.forget_topic(topic);
            if !passes(code) || !patience.pause().await {
                ClientError::check(code, None, || format!("{topic}-{partition}"))?;
            }
        }
    }

    /// Reads `topic` from the offsets in `positions`, by partition.
    pub fn read(&self, topic: &str, positions: BTreeMap<i32, i64>, options: ReadOptions) -> TopicReader {
        TopicReader {
            client: self.clone(),
            topic: topic.to_owned(),
            positions,
            ends: BTreeMap::new(),
            options,
        }
    }
}

/// Reads some partitions of one topic, in rounds of one request to each leader.
pub struct TopicReader {
    client: Client,
    topic: String,
    positions: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    options: ReadOptions,
}

impl TopicReader {
    /// The offsets to read next, by partition.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// The high watermarks that the last answers gave, by partition: the offsets after the last committed records.
    pub fn ends(&self) -> &BTreeMap<i32, i64> {
        &self.ends
    }

    /// True if every partition has been read up to the high watermark that the last answer gave.
    pub fn is_at_end(&self) -> bool {
        self.positions.iter().all(|(partition, next)| self.ends.get(partition).is_some_and(|end| next >= end))
    }

    /// Reads on (also records of transactions that are open or aborted): one request to each leader, and `visit` for each record in order of its partition, until it says
    /// false (the records after that are read again in the next round). Gives the count of records visited, 0 if
    /// none came in time.
    ///
    /// # Errors
    /// Why there is no answer; [`ClientError::Refused`] with `OFFSET_OUT_OF_RANGE` if a position is not in the log (any
    /// more).
    pub async fn poll(
        &mut self,
        mut visit: impl FnMut(i32, &Record<'_>) -> bool,
    ) -> Result<usize, ClientError> {
        let mut visited = 0;
        let mut wait = false;
        let fetched = self.fetch().await.inspect_err(|_| self.client.forget_topic(&self.topic))?;
        for partition in fetched {
            let index = partition.partition_index;
            if passes(partition.error_code) {
                self.client.forget_topic(&self.topic);
                wait = true;
                continue;
            }
            let position = self.positions.get(&index).copied().unwrap_or_default();
            ClientError::check(partition.error_code, None, || {
                format!("{}-{index} at offset {position}", self.topic)
            })?;
            self.ends.insert(index, partition.high_watermark);
            let bytes = join(partition.records.as_deref().unwrap_or_default());
            let (count, more) = self.visit_records(index, position, &bytes, &mut visit)?;
            visited += count;
            if !more {
                return Ok(visited);
            }
        }
        if wait {
            // The leader has moved; there is no use in asking for it faster than it can be elected.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(visited)
    }

    /// One request to each leader.
    async fn fetch(&self) -> Result<Vec<PartitionData>, ClientError> {
        let mut by_leader: BTreeMap<NodeId, Vec<FetchPartition>> = BTreeMap::new();
        for (&partition, &fetch_offset) in &self.positions {
            let leader = self.client.leader(&self.topic, partition).await?;
            by_leader.entry(leader).or_default().push(FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: self.options.partition_max_bytes,
                ..Default::default()
            });
        }
        let mut requests = JoinSet::new();
        for (leader, partitions) in by_leader {
            let request = FetchRequest {
                max_wait_ms: i32::try_from(self.options.max_wait.as_millis()).unwrap_or(i32::MAX),
                min_bytes: 1,
                max_bytes: self.options.max_bytes,
                topics: vec![FetchTopic { topic: Str::from(&self.topic), partitions, ..Default::default() }],
                ..Default::default()
            };
            let (client, longer) = (self.client.clone(), self.options.max_wait);
            requests.spawn(async move {
                client.send_patiently(To::Broker(leader), BY_NAME, longer, |_| request).await
            });
        }
        let mut partitions = Vec::new();
        while let Some(answer) = requests.join_next().await {
            // The task holds no code that panics and is not aborted.
            let Ok(answer) = answer else { continue };
            let answer: FetchResponse = answer?;
            ClientError::check(answer.error_code, None, || format!("fetch of {}", self.topic))?;
            partitions.extend(answer.responses.into_iter().flat_map(|topic| topic.partitions));
        }
        partitions.sort_by_key(|partition| partition.partition_index);
        Ok(partitions)
    }

    /// Visits the records of `bytes` from the position on and moves it behind the last one; false if the visitor has
    /// enough.
    fn visit_records(
        &mut self,
        partition: i32,
        position: i64,
        bytes: &[u8],
        visit: &mut impl FnMut(i32, &Record<'_>) -> bool,
    ) -> Result<(usize, bool), ClientError> {
        let mut visited = 0;
        for batch in Batches::new(bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                // Brokers cut an answer at its limit, within a batch; a first batch that is not whole is damage.
                Err(BatchScanError::TornTail { position: at, .. }) if at > 0 => break,
                Err(source) => {
                    let topic = self.topic.clone();
                    return Err(ClientError::Batches { topic, partition, offset: position, source });
                }
            };
            let header = *batch.header();
            let next = header.next_offset();
            if next <= position {
                continue;
            }
            // Control records end transactions; they are no data.
            if header.attributes.is_control() {
                self.positions.insert(partition, next);
                continue;
            }
            let unreadable = |topic: &str, source| ClientError::Records {
                topic: topic.to_owned(),
                partition,
                offset: position,
                source,
            };
            let records = batch
                .records(DEFAULT_MAX_DECOMPRESSED_BYTES)
                .map_err(|source| unreadable(&self.topic, source))?;
            for record in &records {
                let record = record.map_err(|source| unreadable(&self.topic, source))?;
                if record.offset < position {
                    continue;
                }
                visited += 1;
                self.positions.insert(partition, record.offset + 1);
                if !visit(partition, &record) {
                    return Ok((visited, false));
                }
            }
            self.positions.insert(partition, next);
        }
        Ok((visited, true))
    }
}

/// The chunks of an answer in one piece; there is one chunk, unless they were not read from a frame.
fn join(chunks: &[Chunk]) -> Bytes {
    match chunks {
        [Chunk::Bytes(bytes)] => bytes.clone(),
        chunks => {
            let mut all = BytesMut::new();
            for chunk in chunks {
                if let Chunk::Bytes(bytes) = chunk {
                    all.extend_from_slice(bytes);
                }
            }
            all.freeze()
        }
    }
}
