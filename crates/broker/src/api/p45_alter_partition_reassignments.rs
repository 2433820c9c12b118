//! AlterPartitionReassignments (45), versions 0 to 1: asks that partitions move to other brokers (KIP-455).
//!
//! On a lone node there is nowhere to move to: the replicas that a partition has are accepted and nothing is done, brokers that are not
//! registered are refused, and there is never a reassignment to cancel. Gap: real moves, which come with replication.

use chronik_base::ErrorCode;
use chronik_meta::Image;
use chronik_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::assignment::check_manual;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = AlterPartitionReassignmentsRequest::decode(reader, call.version)?;
    let image = call.broker.metadata.image();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let (error_code, error_message) = outcome_of(&reassign(&image, &topic.name, wanted));
            ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_code,
                error_message,
            }
        });
        ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name.clone() }
    });
    Ok(call.ready(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }))
}

fn reassign(image: &Image, topic: &str, wanted: &ReassignablePartition) -> Result<(), Refusal> {
    let partition = image.partition(topic, wanted.partition_index).ok_or_else(Refusal::unknown_topic)?;
    let Some(replicas) = &wanted.replicas else {
        return Err(Refusal::new(
            ErrorCode::NoReassignmentInProgress,
            "No partition reassignment is in progress for the given topic partition.",
        ));
    };
    check_manual(image, std::slice::from_ref(replicas), None)?;
    if **replicas == *partition.replicas {
        return Ok(());
    }
    let message =
        format!("the replicas stay {:?}: partitions do not move between nodes yet", partition.replicas);
    Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
}
