//! DescribeQuorum (55), versions 0 to 2: who decides on the metadata, and how far everyone has it (KIP-595, KIP-836, KIP-853).
//!
//! The one partition is `__cluster_metadata-0`; others are `UNKNOWN_TOPIC_OR_PARTITION`. Any node takes it and asks the metadata leader, who alone knows how far
//! the others are; where there is none, a node answers with what it knows itself: offsets and times of others are then -1. Offsets count the entries of the
//! quorum's log; with one voter, the commands. Observers fetch commands, so their end is the leader's less what they lack. Directory ids are those that the
//! brokers registered; the listener that nodes talk to each other on is named `INTERNAL`
//! (Kafka's admin client takes names in capitals only).

use std::time::Duration;

use bytes::Bytes;
use chronik_base::{ErrorCode, NodeId, Transport, Uuid};
use chronik_meta::{Endpoint, Image};
use chronik_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionDataResponse, ReplicaState,
    TopicDataResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str, decode_payload, encode_payload};
use chronik_quorum::QuorumStatus;

use crate::Broker;
use crate::call::Call;
use crate::metadata::INTERNAL_LISTENER;
use crate::outcome::Outcome;
use crate::refusal::Refusal;

/// The name under which Kafka keeps its metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The kind of call by which a node asks the metadata leader; request and answer are those of this API, after their version.
pub(crate) const ASK_LEADER: u8 = 48;

/// How long the metadata leader is waited for.
const LEADER_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeQuorumRequest::decode(reader, call.version)?;
    let (broker, version) = (call.broker.clone(), call.version);
    let leader = broker.metadata.quorum().leader().filter(|leader| *leader != broker.node_id);
    let Some(leader) = leader else { return Ok(call.ready(&answer(&broker, &request))) };
    Ok(call.spawn(async move {
        let payload = encode_payload(&request, version);
        let asked = broker.peers.call(leader, ASK_LEADER, payload, LEADER_WAIT).await;
        match asked.map(decode_payload::<DescribeQuorumResponse>) {
            Ok(Ok((_, response))) => response,
            Ok(Err(error)) => {
                tracing::warn!(leader, "its answer about the quorum can't be read: {error}");
                answer(&broker, &request)
            }
            Err(error) => {
                tracing::debug!(leader, "not asked about the quorum: {error}");
                answer(&broker, &request)
            }
        }
    }))
}

/// Answers another node's [`ASK_LEADER`].
///
/// # Errors
/// The bytes are no such request.
pub(crate) fn answer_node(broker: &Broker, payload: Bytes) -> Result<Bytes, String> {
    let (version, request) =
        decode_payload::<DescribeQuorumRequest>(payload).map_err(|error| error.to_string())?;
    Ok(encode_payload(&answer(broker, &request), version))
}

fn answer(broker: &Broker, request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let image = broker.metadata.image();
    let status = broker.metadata.quorum().status();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            if *topic.topic_name == *METADATA_TOPIC && index == 0 {
                return describe(&status, &image, broker.clock.wall_ms());
            }
            let refusal = Refusal::unknown_topic();
            PartitionDataResponse {
                partition_index: index,
                error_code: refusal.code.code(),
                error_message: refusal.text(),
                leader_id: -1,
                leader_epoch: -1,
                high_watermark: -1,
                current_voters: Vec::new(),
                observers: Vec::new(),
            }
        });
        TopicDataResponse { topic_name: topic.topic_name.clone(), partitions: partitions.collect() }
    });
    DescribeQuorumResponse {
        error_code: ErrorCode::None.code(),
        error_message: None,
        topics: topics.collect(),
        nodes: status.voters.iter().map(|voter| node(voter.node, &voter.address, &image)).collect(),
    }
}

fn describe(status: &QuorumStatus, image: &Image, wall_ms: i64) -> PartitionDataResponse {
    let own = status.raft.map_or(status.offset, |raft| raft.last_log);
    let committed = status.raft.map_or(status.offset, |raft| raft.committed);
    let state = |node: NodeId, lag: Option<u64>, heard_ms: Option<u64>| {
        let heard_ms = if node == status.node { Some(0) } else { heard_ms };
        let lag = if node == status.node { Some(0) } else { lag };
        let heard = heard_ms.map_or(-1, |ago| wall_ms.saturating_sub(number(ago)));
        ReplicaState {
            replica_id: node,
            replica_directory_id: image.broker(node).map_or(Uuid::ZERO, |broker| broker.directory),
            log_end_offset: lag.map_or(-1, |lag| number(own.saturating_sub(lag))),
            last_fetch_timestamp: heard,
            last_caught_up_timestamp: if lag == Some(0) { heard } else { -1 },
        }
    };
    PartitionDataResponse {
        partition_index: 0,
        error_code: ErrorCode::None.code(),
        error_message: None,
        leader_id: status.leader.unwrap_or(-1),
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: number(committed),
        current_voters: status
            .voters
            .iter()
            .map(|voter| state(voter.node, voter.lag, voter.acknowledged_ms))
            .collect(),
        observers: status
            .observers
            .iter()
            .map(|observer| state(observer.node, Some(observer.lag), Some(observer.fetched_ms)))
            .collect(),
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Where a voter is reached: as it is registered, else as the quorum knows it.
fn node(id: NodeId, address: &str, image: &Image) -> Node {
    let registered = image.broker(id).and_then(|broker| broker.endpoint(INTERNAL_LISTENER));
    let (host, port) = match registered {
        Some(Endpoint { host, port, .. }) => (host.as_str(), *port),
        None => match address.rsplit_once(':') {
            Some((host, port)) => {
                (host.trim_start_matches('[').trim_end_matches(']'), port.parse().unwrap_or(0))
            }
            None => (address, 0),
        },
    };
    let name = Str::from_static(INTERNAL_LISTENER);
    Node { node_id: id, listeners: vec![Listener { name, host: Str::from(host), port }] }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::tests::image;
    use super::*;
    use chronik_quorum::{ObserverStatus, RaftNumbers, Role, VoterStatus};

    fn voter(node: NodeId, lag: Option<u64>) -> VoterStatus {
        VoterStatus { node, address: format!("[::{node}]:9092"), lag, acknowledged_ms: lag.map(|_| 100) }
    }

    fn status() -> QuorumStatus {
        QuorumStatus {
            node: 1,
            role: Role::Raft,
            cluster_id: Uuid([7; 16]),
            leader: Some(1),
            term: 5,
            generation: 0,
            leaderless_ms: None,
            voters: vec![voter(1, None), voter(2, Some(0)), voter(3, Some(4))],
            observers: vec![ObserverStatus { node: 4, offset: 7, lag: 2, fetched_ms: 300 }],
            offset: 9,
            sessions: Vec::new(),
            raft: Some(RaftNumbers {
                last_log: 20,
                committed: 19,
                applied: 19,
                snapshot: 0,
                log_bytes: 0,
                elected: 1,
                is_changing: false,
            }),
            broker_epoch: Some(1),
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_leader_knows_how_far_everyone_is() {
        let described = describe(&status(), &image(3, &[]), 10_000);
        assert_eq!((described.leader_id, described.leader_epoch, described.high_watermark), (1, 5, 19));
        let ends = |states: &[ReplicaState]| -> Vec<_> {
            let of = |state: &ReplicaState| {
                (
                    state.replica_id,
                    state.log_end_offset,
                    state.last_fetch_timestamp,
                    state.last_caught_up_timestamp,
                )
            };
            states.iter().map(of).collect()
        };
        assert_eq!(
            ends(&described.current_voters),
            [(1, 20, 10_000, 10_000), (2, 20, 9_900, 9_900), (3, 16, 9_900, -1)]
        );
        assert_eq!(ends(&described.observers), [(4, 18, 9_700, -1)]);
        assert_eq!(described.current_voters[1].replica_directory_id, Uuid([0x42; 16]));
    }

    #[test]
    fn a_node_that_does_not_lead_knows_itself() {
        let mut status = status();
        status.leader = None;
        status.voters[2].lag = None;
        status.voters[2].acknowledged_ms = None;
        let described = describe(&status, &image(3, &[]), 10_000);
        let third = &described.current_voters[2];
        assert_eq!((described.leader_id, third.log_end_offset, third.last_fetch_timestamp), (-1, -1, -1));
    }

    #[test]
    fn voters_are_where_they_registered_or_were_listed() {
        let listed = node(3, "[::3]:9092", &image(3, &[]));
        assert_eq!((&*listed.listeners[0].host, listed.listeners[0].port), ("::3", 9092));
    }
}
