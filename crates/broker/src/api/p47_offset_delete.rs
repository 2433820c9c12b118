//! OffsetDelete (47), version 0: removes committed offsets of topics that the group does not consume (KIP-496); answered once that
//! is in the offsets topic. Partitions that don't exist are `UNKNOWN_TOPIC_OR_PARTITION`, consumed ones
//! `GROUP_SUBSCRIBED_TO_TOPIC`.

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::Call;
use crate::groups::{arc, ask};
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = OffsetDeleteRequest::decode(reader, call.version)?;
    let group_id: Arc<str> = arc(&request.group_id);
    let broker = call.broker.clone();
    let topics = request.topics.iter().map(|topic| {
        let known = topic.partitions.iter().map(|partition| partition.partition_index);
        coordinator::TopicPartitions {
            topic: arc(&topic.name),
            partitions: known.filter(|index| exists(&broker, topic, *index)).collect(),
            ..coordinator::TopicPartitions::default()
        }
    });
    let delete = coordinator::OffsetDeleteRequest { group_id: group_id.clone(), topics: topics.collect() };
    let requests = vec![(group_id, coordinator::Request::OffsetDelete(delete))];
    Ok(ask(call, requests, |responses| match responses.into_iter().next() {
        Some(coordinator::Response::OffsetDelete(response)) => answer(request.topics, response),
        _ => OffsetDeleteResponse {
            error_code: ErrorCode::UnknownServerError.code(),
            ..OffsetDeleteResponse::default()
        },
    }))
}

fn exists(broker: &Broker, topic: &OffsetDeleteRequestTopic, index: i32) -> bool {
    broker.topics.by_name(&topic.name).is_some_and(|found| found.has_partition(index))
}

fn answer(
    wanted: Vec<OffsetDeleteRequestTopic>,
    response: coordinator::OffsetDeleteResponse,
) -> OffsetDeleteResponse {
    if !response.error.is_ok() {
        return OffsetDeleteResponse { error_code: response.error.code(), ..OffsetDeleteResponse::default() };
    }
    let topics = wanted.into_iter().zip(response.topics).map(|(wanted, answered)| {
        let mut answered = answered.partitions.into_iter().peekable();
        let partitions = wanted.partitions.into_iter().map(|partition| {
            let index = partition.partition_index;
            // The coordinator was asked for those that exist, in this order.
            let answer = answered.next_if(|(answered, _)| *answered == index);
            let error = answer.map_or(ErrorCode::UnknownTopicOrPartition, |(_, error)| error);
            OffsetDeleteResponsePartition { partition_index: index, error_code: error.code() }
        });
        OffsetDeleteResponseTopic { name: wanted.name, partitions: partitions.collect() }
    });
    OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() }
}
