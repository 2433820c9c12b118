//! One fetch: reads its partitions in turn until the answer is full.

use std::sync::{Arc, Mutex};

use chronik_base::{Chunk, ErrorCode, NodeId, Uuid};
use chronik_config::ReplicaSelector;
use chronik_log::ReadError;
use chronik_meta::{Image, Topic};
use chronik_protocol::Str;
use chronik_protocol::messages::fetch::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use chronik_replica::{FollowerLag, MemberState};

use crate::api::cluster_view::{Address, LeaderHints, is_alive};
use crate::fetch_session::{PartitionRef, Session, Told, TopicRef, Wanted};
use crate::fetch_wait::FetchWait;
use crate::partition::Partition;
use crate::sync::Hold;
use crate::{Broker, ConnectionContext};

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

/// From this version on a follower may be read (KIP-392).
const FOLLOWERS_FROM: i16 = 11;
/// From this version on the answer says who leads instead (KIP-951).
const LEADERS_FROM: i16 = 16;

/// Who fetches.
pub(crate) struct Reader {
    /// The version of its requests.
    pub(crate) version: i16,
    /// The rack that it is in (`client.rack`); may be empty.
    pub(crate) rack: Str,
    pub(crate) connection: Arc<ConnectionContext>,
}

/// A fetch under way.
pub(crate) struct Fetch {
    broker: Arc<Broker>,
    reader: Reader,
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
        reader: Reader,
        session: Arc<Mutex<Session>>,
        session_id: i32,
        incremental: bool,
        limits: Limits,
    ) -> Self {
        Self { broker: broker.clone(), reader, session, session_id, incremental, limits }
    }

    /// Asks every partition to tell `wait` of news.
    pub(crate) fn watch(&self, wait: &Arc<FetchWait>) {
        for known in self.session.hold().partitions() {
            if let Ok(partition) = self.find(&known.partition) {
                partition.watchers.add(wait);
            }
        }
    }

    /// A consumer at the tail is somebody who waits for a flush: asks for it where records need only that to be readable, here and of the other replicas.
    pub(crate) fn ask_for_flush(&self) {
        let mut unflushed = false;
        for known in self.session.hold().partitions() {
            let Ok(partition) = self.find(&known.partition) else { continue };
            if !partition.has_unflushed() {
                continue;
            }
            if partition.is_leader() {
                unflushed = true;
                partition.ask_followers_to_flush();
            } else {
                partition.ask_leader_to_flush(&self.broker);
            }
        }
        if unflushed {
            self.broker.log.request_flush();
            self.broker.log.kick();
        }
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
            let elsewhere = data.preferred_read_replica >= 0;
            failed |= data.error_code != 0 || data.diverging_epoch.epoch >= 0 || elsewhere;
            let now = told(&data);
            let unchanged = self.incremental
                && size == 0
                && data.error_code == 0
                && data.diverging_epoch.epoch < 0
                && !elsewhere
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

    fn respond(&self, mut parts: Vec<Part>) -> FetchResponse {
        let node_endpoints = self.name_leaders(&mut parts);
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
        FetchResponse { session_id: self.session_id, responses, node_endpoints, ..FetchResponse::default() }
    }

    /// Says who leads the partitions that this node does not, or not in the reader's epoch; gives where these leaders are.
    fn name_leaders(&self, parts: &mut [Part]) -> Vec<NodeEndpoint> {
        let misled = |part: &&mut Part| {
            let code = part.data.error_code;
            code == ErrorCode::NotLeaderOrFollower.code() || code == ErrorCode::FencedLeaderEpoch.code()
        };
        if self.reader.version < LEADERS_FROM {
            return Vec::new();
        }
        let mut misled = parts.iter_mut().filter(misled).peekable();
        if misled.peek().is_none() {
            return Vec::new();
        }
        let image = self.broker.metadata.image();
        let mut hints = LeaderHints::default();
        for part in misled {
            let topic = topic_of(&image, &part.reference);
            if let Some((leader_id, leader_epoch)) = hints.leader(&image, topic, part.reference.partition) {
                part.data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            }
        }
        let addresses = hints.addresses(&self.broker, &image, &self.reader.connection).into_iter();
        let endpoint = |Address { id, host, port, rack, .. }| NodeEndpoint {
            node_id: id,
            host: Str::from(host),
            port,
            rack: rack.map(Str::from),
        };
        addresses.map(endpoint).collect()
    }

    fn find(&self, reference: &PartitionRef) -> Result<Arc<Partition>, ErrorCode> {
        let topic = match &reference.topic {
            TopicRef::Name(name) => {
                self.broker.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?
            }
            TopicRef::Id(id) => self.broker.topics.by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
        };
        let found = if self.reader.version >= FOLLOWERS_FROM {
            topic.replica(reference.partition)
        } else {
            topic.led(reference.partition)
        };
        found.cloned()
    }

    /// The in-sync follower in the reader's rack that has the most, if it has what is asked for (KIP-392).
    fn preferred_replica(&self, partition: &Partition, fetch_offset: i64) -> Option<NodeId> {
        let broker = &self.broker;
        let rack = &*self.reader.rack;
        if rack.is_empty()
            || broker.config.replica_selector_class != ReplicaSelector::Rack
            || broker.config.broker_rack.as_deref() == Some(rack)
            || !partition.is_leader()
        {
            return None;
        }
        let image = broker.metadata.image();
        let near = near(&image, partition, rack);
        if near.is_empty() {
            return None;
        }
        furthest(&partition.lag(broker.clock.monotonic_ms()), &near, fetch_offset)
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
        let beyond = wanted.fetch_offset > partition.log.log_end_offset();
        if beyond && !partition.is_leader() {
            // The leader may have it: this replica will, too, or the reader goes there.
            return (failed(index, ErrorCode::OffsetNotAvailable, start), 0);
        }
        if beyond || wanted.fetch_offset < start {
            return (failed(index, ErrorCode::OffsetOutOfRange, start), 0);
        }
        if let Some(replica) = self.preferred_replica(&partition, wanted.fetch_offset) {
            data.preferred_read_replica = replica;
            return (data, 0);
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

fn topic_of<'a>(image: &'a Image, reference: &PartitionRef) -> Option<&'a Topic> {
    let topic = match &reference.topic {
        TopicRef::Name(name) => image.topic(name),
        TopicRef::Id(id) => image.topic_by_id(id),
    };
    topic.map(|topic| &**topic)
}

/// In-sync followers in `rack` that clients can be sent to.
fn near(image: &Image, partition: &Partition, rack: &str) -> Vec<NodeId> {
    let state = image.topic_by_id(&partition.key().topic_id);
    let Some(state) = state.and_then(|topic| topic.partitions.get(partition.index)) else {
        return Vec::new();
    };
    let followers = state.isr.iter().copied().filter(|id| *id != state.leader);
    let here = |id: &NodeId| image.broker(*id).is_some_and(|other| other.rack.as_deref() == Some(rack));
    followers.filter(|id| is_alive(image, *id) && here(id)).collect()
}

/// The one of `near` that has flushed most, if it is connected and has flushed at least up to `fetch_offset`.
fn furthest(lag: &[FollowerLag], near: &[NodeId], fetch_offset: i64) -> Option<NodeId> {
    let is_up = |one: &FollowerLag| matches!(one.state, MemberState::CatchingUp | MemberState::CaughtUp);
    let able =
        lag.iter().filter(|one| near.contains(&one.node) && is_up(one) && one.flushed_end >= fetch_offset);
    able.max_by_key(|one| (one.flushed_end, std::cmp::Reverse(one.behind_ms))).map(|one| one.node)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_near_replica_that_has_most_is_preferred() {
        let lag = |node, flushed_end, behind_ms| FollowerLag {
            node,
            in_isr: true,
            state: MemberState::CaughtUp,
            flushed_end,
            records: 0,
            behind_ms,
            acked_ago_ms: None,
            link_ms: 0,
        };
        let all = [lag(2, 100, 0), lag(3, 90, 50), lag(4, 90, 10)];
        assert_eq!(furthest(&all, &[3, 4], 80), Some(4));
        assert_eq!(furthest(&all, &[3, 4], 91), None);
        assert_eq!(furthest(&all, &[2, 3], 91), Some(2));
        assert_eq!(furthest(&all, &[], 0), None);
        let gone = [FollowerLag { state: MemberState::Disconnected, ..lag(2, 100, 0) }];
        assert_eq!(furthest(&gone, &[2], 0), None);
    }
}
