//! OffsetCommit (8), versions 2 to 10: a group's offsets, answered once they are in the offsets topic, flushed.
//!
//! Topics come by name up to version 9 and by id from version 10 on. Partitions that don't exist are refused with
//! `UNKNOWN_TOPIC_OR_PARTITION` (by id: `UNKNOWN_TOPIC_ID`), all others go to the group's coordinator; what it checks is in
//! `chronik_coordinator`. The retention time of versions 2 to 4 is kept with the offset. Versions 0 and 1, which wrote to
//! ZooKeeper or gave a timestamp of their own, are not served. Gap: groups of the new protocol (KIP-848) don't exist yet.

use std::sync::Arc;

use chronik_base::{ErrorCode, TopicId};
use chronik_coordinator as coordinator;
use chronik_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::Broker;
use crate::call::Call;
use crate::groups::{arc, ask};
use crate::outcome::Outcome;

const BY_ID_FROM: i16 = 10;

/// A topic of the answer; partitions without an error wait for the coordinator's.
struct Answered {
    name: Str,
    topic_id: TopicId,
    partitions: Vec<(i32, Option<ErrorCode>)>,
}

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = OffsetCommitRequest::decode(reader, call.version)?;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut answered = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let (for_coordinator, for_client) = sort(call.broker, topic, call.version);
        topics.extend(for_coordinator);
        answered.push(for_client);
    }
    if topics.is_empty() {
        return Ok(call.ready(&answer(answered, Vec::new())));
    }
    let group: Arc<str> = arc(&request.group_id);
    let request = coordinator::OffsetCommitRequest {
        api_version: call.version,
        group_id: group.clone(),
        generation: request.generation_id_or_member_epoch,
        member_id: arc(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(arc),
        retention_time_ms: request.retention_time_ms,
        topics,
    };
    let requests = vec![(group, coordinator::Request::OffsetCommit(request))];
    Ok(ask(call, requests, |responses| match responses.into_iter().next() {
        Some(coordinator::Response::OffsetCommit(response)) => answer(answered, response.topics),
        _ => answer(answered, Vec::new()),
    }))
}

/// What of a topic goes to the coordinator, and what is known of its answer.
fn sort(
    broker: &Broker,
    topic: OffsetCommitRequestTopic,
    version: i16,
) -> (Option<coordinator::OffsetCommitTopic>, Answered) {
    let (found, missing) = if version >= BY_ID_FROM {
        (broker.topics.by_id(topic.topic_id), ErrorCode::UnknownTopicId)
    } else {
        (broker.topics.by_name(&topic.name), ErrorCode::UnknownTopicOrPartition)
    };
    let mut answered = Answered {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: Vec::with_capacity(topic.partitions.len()),
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        let index = partition.partition_index;
        let error = match &found {
            None => Some(missing),
            Some(topic) if !topic.has_partition(index) => Some(ErrorCode::UnknownTopicOrPartition),
            Some(_) => None,
        };
        answered.partitions.push((index, error));
        if error.is_none() {
            partitions.push(coordinator::OffsetCommitPartition {
                partition: index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().map(arc),
            });
        }
    }
    let topic = found.filter(|_| !partitions.is_empty()).map(|topic| coordinator::OffsetCommitTopic {
        topic: arc(&topic.name),
        topic_id: topic.id,
        partitions,
    });
    (topic, answered)
}

/// The coordinator's answers, in the order it was asked, put where the client asked.
fn answer(answered: Vec<Answered>, coordinators: Vec<coordinator::TopicErrors>) -> OffsetCommitResponse {
    let mut coordinators = coordinators.into_iter().flat_map(|topic| topic.partitions);
    let topics = answered.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(partition_index, error)| {
            let error = error.or_else(|| coordinators.next().map(|(_, error)| error));
            OffsetCommitResponsePartition {
                partition_index,
                error_code: error.unwrap_or(ErrorCode::UnknownServerError).code(),
            }
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions }
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_partitions() {
        let answered =
            |name, partitions| Answered { name: Str::from(name), topic_id: TopicId::ZERO, partitions };
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        let response = answer(
            vec![
                answered("no", vec![(0, unknown)]),
                answered("a", vec![(0, None), (9, unknown), (1, None)]),
                answered("b", vec![(0, None)]),
            ],
            vec![
                coordinator::TopicErrors {
                    topic: "a".into(),
                    partitions: vec![(0, ErrorCode::None), (1, ErrorCode::OffsetMetadataTooLarge)],
                },
                coordinator::TopicErrors { topic: "b".into(), partitions: vec![(0, ErrorCode::None)] },
            ],
        );
        let codes: Vec<Vec<i16>> = response
            .topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|partition| partition.error_code).collect())
            .collect();
        assert_eq!(codes, [vec![3], vec![0, 3, 12], vec![0]]);
    }
}
