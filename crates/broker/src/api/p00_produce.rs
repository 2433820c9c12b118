//! Produce (0), versions 3 to 13: appends record batches and answers when they are acknowledged.
//!
//! Topics come by name up to version 12 and by id from version 13 on (KIP-516). One v2 batch for each partition; what is
//! checked of it is in `chronik_records::validate_produce`. `acks=0` is never answered; an error then closes the connection,
//! as Kafka does. With `NOT_LEADER_OR_FOLLOWER` go the leader and its address from version 10 on (KIP-951). Fewer replicas in sync than
//! `min.insync.replicas` refuse `acks=all` at once with `NOT_ENOUGH_REPLICAS`; where they become fewer while it waits it is
//! `NOT_ENOUGH_REPLICAS_AFTER_APPEND`. Sequences of idempotent producers are checked as Kafka does, with two departures that keep clients from sending
//! twice what is in the log: what follows a batch that was refused for a reason that passes is refused with the same error, not as out of order;
//! and in the first two minutes of a leadership that came from another node, what that node may still hold is waited for
//! (`NOT_LEADER_OR_FOLLOWER`, up to 30 s, for a producer that the log does not know), and known duplicates beyond the last five batches are
//! answered as such (`DUPLICATE_SEQUENCE_NUMBER` once they are committed). Gap: transactional batches are refused with `INVALID_TXN_STATE` (transactions are not served yet).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};
use chronik_records::validate_produce;

use super::cluster_view::{Address, LeaderHints};
use crate::call::Call;
use crate::outcome::Outcome;
use crate::partition::{Acks, AppendTime, Partition};
use crate::produce_wait::{ProduceShare, ProduceWait, Settled};
use crate::{Broker, ConnectionContext};

/// From this version on topics come by id.
const BY_ID_FROM: i16 = 13;
/// From this version on the answer says who leads instead.
const LEADERS_FROM: i16 = 10;

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
    let wait = ProduceWait::timed(partitions, broker.timing.stages(call.began));
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
                    // It may lead a moment later, when what the producer sent after this arrives.
                    if let Some(replica) = found.as_ref().ok().and_then(|topic| topic.hosted(data.index)) {
                        replica.log.note_refused(&data.records.unwrap_or_default(), error, time.wall_ms);
                    }
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
    wait.stages().inspect(|stages| stages.queued());
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
        name_leaders(broker, call.connection, &mut response, call.version);
        return Ok(call.ready(&response));
    }
    let (answerer, version, arrived) = (call.answerer, call.version, call.began);
    let (broker, connection) = (broker.clone(), call.connection.clone());
    // For `acks=all` only: the wait for the leader's own log is not one for an acknowledgement.
    let began = (acks == Acks::All).then(Instant::now);
    Ok(Outcome::Pending(Box::pin(async move {
        Settled(wait.clone()).await;
        if let Some(began) = began {
            broker
                .metrics
                .ack_wait
                .observe_us(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        settle_errors(&mut response, &wait);
        name_leaders(&broker, &connection, &mut response, version);
        let answer = answerer.frame(&response);
        broker.produced(answerer, arrived, &connection, wait.stages());
        answer
    })))
}

fn find_topic(
    broker: &Arc<Broker>,
    topic: &TopicProduceData,
    version: i16,
) -> Result<Arc<crate::topics::Topic>, ErrorCode> {
    let found = if version >= BY_ID_FROM {
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

/// Says who leads the partitions that this node does not.
fn name_leaders(
    broker: &Broker,
    connection: &ConnectionContext,
    response: &mut ProduceResponse,
    version: i16,
) {
    let misled =
        |partition: &PartitionProduceResponse| partition.error_code == ErrorCode::NotLeaderOrFollower.code();
    let all = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    if version < LEADERS_FROM || !all.into_iter().any(misled) {
        return;
    }
    let image = broker.metadata.image();
    let mut hints = LeaderHints::default();
    for topic in &mut response.responses {
        let known =
            if version >= BY_ID_FROM { image.topic_by_id(&topic.topic_id) } else { image.topic(&topic.name) };
        let known = known.map(|topic| &**topic);
        for partition in topic.partition_responses.iter_mut().filter(|partition| misled(partition)) {
            if let Some((leader_id, leader_epoch)) = hints.leader(&image, known, partition.index) {
                partition.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            }
        }
    }
    let addresses = hints.addresses(broker, &image, connection).into_iter();
    let endpoint = |Address { id, host, port, rack, .. }| NodeEndpoint {
        node_id: id,
        host: Str::from(host),
        port,
        rack: rack.map(Str::from),
    };
    response.node_endpoints = addresses.map(endpoint).collect();
}
