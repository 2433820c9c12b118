//! Produce (0), versions 3 to 13: appends record batches and answers when they are acknowledged.
//!
//! Topics come by name up to version 12 and by id from version 13 on (KIP-516). One v2 batch for each partition; what is
//! checked of it is in `chronik_records::validate_produce`. `acks=0` is never answered; an error then closes the connection,
//! as Kafka does. Gaps: transactional batches are refused with `INVALID_TXN_STATE` (transactions are not served yet);
//! `current_leader` and `node_endpoints` (KIP-951) are left at their defaults.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};
use chronik_records::validate_produce;

use crate::Broker;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::partition::{Acks, AppendTime, Partition};
use crate::produce_wait::{ProduceShare, ProduceWait, Settled};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ProduceRequest::decode(reader, call.version)?;
    let Some(acks) = Acks::from_wire(request.acks) else {
        return Ok(call.ready(&refuse_all(request, ErrorCode::InvalidRequiredAcks)));
    };
    if request.transactional_id.is_some() {
        return Ok(call.ready(&refuse_all(request, ErrorCode::InvalidTxnState)));
    }
    let broker = call.broker;
    let time = broker.append_time(request.timeout_ms);
    let partitions = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
    let wait = ProduceWait::new(partitions);
    let mut slot = 0;
    let mut response = ProduceResponse {
        responses: Vec::with_capacity(request.topic_data.len()),
        ..ProduceResponse::default()
    };
    for topic in request.topic_data {
        let mut answer = TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: Vec::with_capacity(topic.partition_data.len()),
        };
        let found = find_topic(broker, &topic, call.version);
        for data in topic.partition_data {
            let share = wait.share(slot);
            slot += 1;
            let partition = match &found {
                Ok(topic) => topic.led(data.index),
                Err(error) => Err(*error),
            };
            answer.partition_responses.push(match partition {
                Ok(partition) => {
                    append(call, partition, data.index, data.records.unwrap_or_default(), acks, share, time)
                }
                Err(error) => {
                    share.settle(error);
                    refused(data.index, error, None)
                }
            });
        }
        response.responses.push(answer);
    }
    if acks == Acks::All {
        broker.log.request_flush();
    }
    if acks == Acks::None {
        let failed = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        return Ok(match failed.map(|partition| partition.error_code).find(|&code| code != 0) {
            // Nobody reads an answer: a closed connection is the only way to say that something is wrong.
            Some(code) => call.close(
                "acks=0 produce failed",
                format!("{:?}", ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)),
            ),
            None => Outcome::NoAnswer,
        });
    }
    if wait.opened() {
        settle_errors(&mut response, &wait);
        return Ok(call.ready(&response));
    }
    let answerer = call.answerer;
    Ok(Outcome::Pending(Box::pin(async move {
        Settled(wait.clone()).await;
        settle_errors(&mut response, &wait);
        answerer.frame(&response)
    })))
}

fn find_topic(
    broker: &Arc<Broker>,
    topic: &TopicProduceData,
    version: i16,
) -> Result<Arc<crate::topics::Topic>, ErrorCode> {
    let found = if version >= 13 {
        broker.topics.by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        broker.topics.by_name(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    // The offsets topic is written by the group coordinator only: a client's record there would be read as a commit.
    if found.is_internal() { Err(ErrorCode::InvalidTopicException) } else { Ok(found) }
}

fn append(
    call: &Call<'_>,
    partition: &Arc<Partition>,
    index: i32,
    records: Bytes,
    acks: Acks,
    share: ProduceShare,
    time: AppendTime,
) -> PartitionProduceResponse {
    let settings = partition.settings();
    let batch = match validate_produce(records.clone(), &settings.produce_rules(call.version), time.wall_ms) {
        Ok(batch) => batch,
        Err(error) => {
            share.settle(error.code);
            call.broker.metrics.refused_batches.inc();
            return PartitionProduceResponse {
                record_errors: error
                    .records
                    .into_iter()
                    .map(|issue| BatchIndexAndErrorMessage {
                        batch_index: issue.batch_index,
                        batch_index_error_message: Some(Str::from(issue.message)),
                    })
                    .collect(),
                ..refused(index, error.code, Some(error.message))
            };
        }
    };
    let (size, count) = (batch.size(), batch.count());
    let bytes = if batch.rewritten { batch.to_bytes(0, 0) } else { records };
    match partition.append(bytes, acks, None, share, time) {
        Ok(appended) => {
            call.broker.on_appended(partition, acks, size, count);
            PartitionProduceResponse {
                index,
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time,
                log_start_offset: appended.log_start_offset,
                ..PartitionProduceResponse::default()
            }
        }
        Err(error) => refused(index, error.error_code(), Some(error.to_string())),
    }
}

fn refused(index: i32, error: ErrorCode, message: Option<String>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: error.code(),
        base_offset: -1,
        log_start_offset: -1,
        error_message: message.map(Str::from),
        ..PartitionProduceResponse::default()
    }
}

fn refuse_all(request: ProduceRequest, error: ErrorCode) -> ProduceResponse {
    let topics = request.topic_data.into_iter().map(|topic| TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| refused(data.index, error, None))
            .collect(),
    });
    ProduceResponse { responses: topics.collect(), ..ProduceResponse::default() }
}

/// An append that was taken may still have failed later on.
fn settle_errors(response: &mut ProduceResponse, wait: &ProduceWait) {
    let partitions = response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
    for (slot, partition) in partitions.enumerate() {
        let error = wait.error(slot);
        if !error.is_ok() && partition.error_code == 0 {
            *partition = refused(partition.index, error, None);
        }
    }
}
