//! DescribeProducers (61), version 0: the idempotent producers that a partition remembers (KIP-664).
//!
//! Only the leader answers. Transactions are not served yet, so none has one open.

use std::collections::BTreeSet;

use chronik_base::ErrorCode;
use chronik_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::Refusal;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeProducersRequest::decode(reader, call.version)?;
    let topics = request.topics.into_iter().map(|topic| {
        // Each once: an answer can be far larger than the index that asks for it.
        let indexes: BTreeSet<i32> = topic.partition_indexes.iter().copied().collect();
        let partitions = indexes.into_iter().map(|index| one(call.broker, &topic.name, index));
        TopicResponse { partitions: partitions.collect(), name: topic.name.clone() }
    });
    let topics = topics.collect();
    Ok(call.ready(&DescribeProducersResponse { topics, ..DescribeProducersResponse::default() }))
}

fn one(broker: &Broker, topic: &str, index: i32) -> PartitionResponse {
    let found = broker.topics.by_name(topic);
    let found = found.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition).and_then(|topic| topic.led(index));
    let partition = match found {
        Ok(partition) => partition,
        Err(error) => {
            let refusal = match error {
                ErrorCode::NotLeaderOrFollower => {
                    Refusal::new(error, "This node does not lead the partition.")
                }
                _ => Refusal::unknown_topic(),
            };
            return PartitionResponse {
                partition_index: index,
                error_code: refusal.code.code(),
                error_message: refusal.text(),
                ..PartitionResponse::default()
            };
        }
    };
    let producers = partition.log.producers().into_iter().map(|producer| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.current_txn_start_offset,
    });
    PartitionResponse {
        partition_index: index,
        error_code: ErrorCode::None.code(),
        error_message: None,
        active_producers: producers.collect(),
    }
}
