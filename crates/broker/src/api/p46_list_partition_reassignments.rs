//! ListPartitionReassignments (46), version 0: the partitions that are on their way to other brokers (KIP-455).
//!
//! As the metadata of this node has it; any node answers. Topics and partitions that there are not, or that do not move, are left out, as in Kafka.
//! The replicas are those before and after the move.

use chronik_meta::{Partition, Topic};
use chronik_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::call::Call;
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ListPartitionReassignmentsRequest::decode(reader, call.version)?;
    let image = call.broker.metadata.image();
    let topics = match &request.topics {
        None => image.topics().filter_map(|topic| ongoing(topic, |_| true)).collect(),
        Some(wanted) => wanted
            .iter()
            .filter_map(|wanted| {
                let topic = image.topic(&wanted.name)?;
                ongoing(topic, |index| wanted.partition_indexes.contains(&index))
            })
            .collect(),
    };
    Ok(call.ready(&ListPartitionReassignmentsResponse {
        error_message: None,
        topics,
        ..ListPartitionReassignmentsResponse::default()
    }))
}

fn ongoing(topic: &Topic, wanted: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment> {
    let moving = |partition: &Partition| !partition.adding.is_empty() || !partition.removing.is_empty();
    let partitions = topic.partitions.iter().filter(|(index, partition)| moving(partition) && wanted(*index));
    let partitions: Vec<_> = partitions
        .map(|(partition_index, partition)| OngoingPartitionReassignment {
            partition_index,
            replicas: partition.replicas.to_vec(),
            adding_replicas: partition.adding.to_vec(),
            removing_replicas: partition.removing.to_vec(),
        })
        .collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment { name: Str::from(&*topic.name), partitions })
}
