//! One fetch: reads its partitions in turn until the answer is full.

use std::sync::{Arc, Mutex};

use chronik_base::{Chunk, ErrorCode, Uuid};
use chronik_log::ReadError;
use chronik_protocol::Str;
use chronik_protocol::messages::fetch::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
};

use crate::Broker;
use crate::fetch_session::{PartitionRef, Session, Told, TopicRef, Wanted};
use crate::fetch_wait::FetchWait;
use crate::partition::Partition;
use crate::sync::Hold;

/// How much one fetch gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes worth an answer before the wait ends.
    pub(crate) min_bytes: usize,
    /// Bytes of records in the answer; the first batch may exceed it.
    pub(crate) max_bytes: usize,
    /// Nothing at or above the last stable offset.
    pub(crate) read_committed: bool,
}

/// A fetch under way.
pub(crate) struct Fetch {
    broker: Arc<Broker>,
    session: Arc<Mutex<Session>>,
    session_id: i32,
    incremental: bool,
    limits: Limits,
}

/// One partition's part of the answer.
struct Part {
    reference: PartitionRef,
    data: PartitionData,
    bytes: usize,
    unchanged: bool,
}

impl Fetch {
    /// A fetch of everything in `session`. An incremental one leaves out what did not change.
    pub(crate) fn new(
        broker: &Arc<Broker>,
        session: Arc<Mutex<Session>>,
        session_id: i32,
        incremental: bool,
        limits: Limits,
    ) -> Self {
        Self { broker: broker.clone(), session, session_id, incremental, limits }
    }

    /// Asks every partition to tell `wait` of news. True if one of them holds records that only a flush makes readable.
    pub(crate) fn watch(&self, wait: &Arc<FetchWait>) -> bool {
        let mut unflushed = false;
        for known in self.session.hold().partitions() {
            if let Ok(partition) = self.find(&known.partition) {
                partition.watchers.add(wait);
                unflushed |= partition.has_unflushed();
            }
        }
        unflushed
    }

    /// The answer, if there is enough for one, or if it has to be given now (`finally`).
    pub(crate) fn attempt(&self, finally: bool) -> Option<FetchResponse> {
        let mut session = self.session.hold();
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut failed = false;
        for known in session.partitions() {
            let room = self.limits.max_bytes.saturating_sub(bytes);
            let (data, size) = self.read(&known.partition, &known.wanted, room, bytes == 0);
            bytes += size;
            failed |= data.error_code != 0 || data.diverging_epoch.epoch >= 0;
            let now = told(&data);
            let unchanged = self.incremental
                && size == 0
                && data.error_code == 0
                && data.diverging_epoch.epoch < 0
                && known.told == Some(now);
            parts.push(Part { reference: known.partition.clone(), data, bytes: size, unchanged });
        }
        if !finally && !failed && bytes < self.limits.min_bytes.max(1) && !parts.is_empty() {
            return None;
        }
        session.answered(parts.iter().map(|part| (part.reference.clone(), told(&part.data), part.bytes > 0)));
        drop(session);
        self.broker.metrics.fetched_bytes.inc_by(bytes as u64);
        Some(self.respond(parts))
    }

    fn respond(&self, parts: Vec<Part>) -> FetchResponse {
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        for part in parts.into_iter().filter(|part| !part.unchanged) {
            let (name, id) = match part.reference.topic {
                TopicRef::Name(name) => (name, Uuid::ZERO),
                TopicRef::Id(id) => (Str::default(), id),
            };
            match responses.last_mut() {
                Some(topic) if topic.topic == name && topic.topic_id == id => {
                    topic.partitions.push(part.data)
                }
                _ => responses.push(FetchableTopicResponse {
                    topic: name,
                    topic_id: id,
                    partitions: vec![part.data],
                }),
            }
        }
        FetchResponse { session_id: self.session_id, responses, ..FetchResponse::default() }
    }

    fn find(&self, reference: &PartitionRef) -> Result<Arc<Partition>, ErrorCode> {
        let topic = match &reference.topic {
            TopicRef::Name(name) => {
                self.broker.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?
            }
            TopicRef::Id(id) => self.broker.topics.by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
        };
        topic.replica(reference.partition).cloned()
    }

    /// Reads one partition; gives its part and the bytes of records in it.
    fn read(
        &self,
        reference: &PartitionRef,
        wanted: &Wanted,
        room: usize,
        first: bool,
    ) -> (PartitionData, usize) {
        let index = reference.partition;
        let partition = match self.find(reference) {
            Ok(partition) => partition,
            Err(error) => return (failed(index, error, -1), 0),
        };
        let start = partition.log.log_start_offset();
        let error = partition.check_leader_epoch(wanted.current_leader_epoch);
        if !error.is_ok() {
            return (failed(index, error, start), 0);
        }
        let high_watermark = partition.high_watermark();
        let last_stable_offset = partition.last_stable_offset();
        let mut data = PartitionData {
            partition_index: index,
            high_watermark,
            last_stable_offset,
            log_start_offset: start,
            aborted_transactions: self.limits.read_committed.then(Vec::new),
            records: Some(Vec::new()),
            ..PartitionData::default()
        };
        if wanted.last_fetched_epoch >= 0
            && let Some(diverging) = diverging(&partition, wanted)
        {
            data.diverging_epoch = diverging;
            return (data, 0);
        }
        if wanted.fetch_offset < start || wanted.fetch_offset > partition.log.log_end_offset() {
            return (failed(index, ErrorCode::OffsetOutOfRange, start), 0);
        }
        let bound = if self.limits.read_committed { last_stable_offset } else { high_watermark };
        if wanted.fetch_offset >= bound || (room == 0 && !first) {
            return (data, 0);
        }
        let most = usize::try_from(wanted.max_bytes).unwrap_or(0).min(room);
        match partition.log.read(wanted.fetch_offset, most, bound, first) {
            Ok(plan) => {
                let bytes = plan.chunks.iter().map(Chunk::len).sum();
                data.records = Some(plan.chunks);
                (data, bytes)
            }
            Err(error) => {
                if let ReadError::Log(error) = &error
                    && let Some(suppressed) =
                        self.broker.fetch_failures.allow(self.broker.clock.monotonic_ms())
                {
                    tracing::warn!(suppressed, topic = %partition.topic, partition = index, "a fetch failed: {error}");
                }
                (failed(index, error.error_code(), start), 0)
            }
        }
    }
}

/// Where the log of a reader whose last record is of epoch `last_fetched_epoch` parts from ours, if it does.
fn diverging(partition: &Partition, wanted: &Wanted) -> Option<EpochEndOffset> {
    let (epoch, end_offset) = partition.log.end_offset_for_epoch(wanted.last_fetched_epoch)?;
    (epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset)
        .then_some(EpochEndOffset { epoch, end_offset })
}

fn told(data: &PartitionData) -> Told {
    Told { high_watermark: data.high_watermark, log_start_offset: data.log_start_offset }
}

fn failed(index: i32, error: ErrorCode, log_start_offset: i64) -> PartitionData {
    PartitionData {
        partition_index: index,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset,
        records: Some(Vec::new()),
        ..PartitionData::default()
    }
}
