//! OffsetFetch (9), versions 1 to 10: what groups have committed, for partitions that are named or for all.
//!
//! One group up to version 7, any number from version 8 on; topics by id from version 10 on (unknown ones get
//! `UNKNOWN_TOPIC_ID`, and of all offsets those of deleted topics are left out). What a group committed before this
//! request arrived is in the answer, even if it was sent a moment ago on the same connection. `require_stable` (KIP-447) is
//! accepted: there are no transactions yet, so every committed offset is stable. Gap: member ids and epochs of the new group
//! protocol (KIP-848) are not looked at.

use std::sync::Arc;

use chronik_base::{ErrorCode, TopicId};
use chronik_coordinator as coordinator;
use chronik_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::Broker;
use crate::call::Call;
use crate::groups::{arc, ask, text};
use crate::outcome::Outcome;

const GROUPS_FROM: i16 = 8;
const BY_ID_FROM: i16 = 10;
/// From this version on there is a place for an error of the whole group.
const GROUP_ERROR_FROM: i16 = 2;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = OffsetFetchRequest::decode(reader, call.version)?;
    let version = call.version;
    let require_stable = request.require_stable;
    let groups = if version >= GROUPS_FROM { request.groups } else { vec![single(request)] };
    let requests = groups.iter().map(|group| {
        let group_id: Arc<str> = arc(&group.group_id);
        let topics = group
            .topics
            .as_ref()
            .map(|topics| topics.iter().filter_map(|topic| wanted(call.broker, topic, version)).collect());
        let request = coordinator::OffsetFetchRequest { group_id: group_id.clone(), topics, require_stable };
        (group_id, coordinator::Request::OffsetFetch(request))
    });
    let requests = requests.collect();
    let broker = call.broker.clone();
    Ok(ask(call, requests, move |responses| {
        let answers = groups.into_iter().zip(responses);
        let answers = answers.map(|(group, response)| answer(&broker, group, response, version)).collect();
        if version >= GROUPS_FROM {
            OffsetFetchResponse { groups: answers, ..OffsetFetchResponse::default() }
        } else {
            flat(answers, version)
        }
    }))
}

/// The one group of an old request.
fn single(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        topics.collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() }
}

/// What of the request the coordinator is asked: by id, only topics that there are.
fn wanted(
    broker: &Broker,
    topic: &OffsetFetchRequestTopics,
    version: i16,
) -> Option<coordinator::TopicPartitions> {
    let (name, topic_id) = if version >= BY_ID_FROM {
        let found = broker.topics.by_id(topic.topic_id)?;
        (arc(&found.name), found.id)
    } else {
        let id = broker.topics.by_name(&topic.name).map_or(TopicId::ZERO, |found| found.id);
        (arc(&topic.name), id)
    };
    Some(coordinator::TopicPartitions { topic: name, topic_id, partitions: topic.partition_indexes.clone() })
}

fn answer(
    broker: &Broker,
    group: OffsetFetchRequestGroup,
    response: coordinator::Response,
    version: i16,
) -> OffsetFetchResponseGroup {
    let (error, topics) = match response {
        coordinator::Response::OffsetFetch(response) => (response.error, response.topics),
        _ => (ErrorCode::UnknownServerError, Vec::new()),
    };
    let by_id = version >= BY_ID_FROM;
    let topics = match group.topics {
        None => topics.into_iter().filter_map(|topic| one_of_all(broker, topic, by_id)).collect(),
        Some(_) if !error.is_ok() && version >= GROUP_ERROR_FROM => Vec::new(),
        Some(wanted) => {
            let mut answered = topics.into_iter();
            wanted
                .into_iter()
                .map(|topic| {
                    let unknown = by_id && broker.topics.by_id(topic.topic_id).is_none();
                    let found = if unknown || !error.is_ok() { None } else { answered.next() };
                    let error = if unknown { ErrorCode::UnknownTopicId } else { error };
                    named(topic, found, error)
                })
                .collect()
        }
    };
    OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code: error.code() }
}

/// A topic of all that a group has; by id there is no place for one that was deleted.
fn one_of_all(
    broker: &Broker,
    topic: coordinator::OffsetFetchTopic,
    by_id: bool,
) -> Option<OffsetFetchResponseTopics> {
    let topic_id = match broker.topics.by_name(&topic.topic) {
        Some(found) => found.id,
        None if by_id => return None,
        None => TopicId::ZERO,
    };
    let partitions = topic.partitions.into_iter();
    Some(OffsetFetchResponseTopics {
        name: text(&topic.topic),
        topic_id,
        partitions: partitions.map(|(index, offset)| partition(index, offset, ErrorCode::None)).collect(),
    })
}

/// A topic that was asked for.
fn named(
    wanted: OffsetFetchRequestTopics,
    found: Option<coordinator::OffsetFetchTopic>,
    error: ErrorCode,
) -> OffsetFetchResponseTopics {
    let partitions = match found {
        Some(found) => {
            found.partitions.into_iter().map(|(index, offset)| partition(index, offset, error)).collect()
        }
        None => wanted.partition_indexes.into_iter().map(|index| partition(index, None, error)).collect(),
    };
    OffsetFetchResponseTopics { name: wanted.name, topic_id: wanted.topic_id, partitions }
}

fn partition(
    partition_index: i32,
    committed: Option<coordinator::OffsetCommitRecord>,
    error: ErrorCode,
) -> OffsetFetchResponsePartitions {
    let error_code = error.code();
    match committed {
        Some(committed) => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            metadata: Some(text(&committed.metadata)),
            error_code,
        },
        None => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(Str::default()),
            error_code,
        },
    }
}

/// The answer to an old request.
fn flat(answers: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    let Some(group) = answers.into_iter().next() else {
        return OffsetFetchResponse {
            error_code: ErrorCode::UnknownServerError.code(),
            ..OffsetFetchResponse::default()
        };
    };
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
        });
        OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: if version >= GROUP_ERROR_FROM { group.error_code } else { 0 },
        ..OffsetFetchResponse::default()
    }
}
