//! AlterPartitionReassignments (45), versions 0 to 1: asks that partitions move to other brokers, or stop moving (KIP-455).
//!
//! A move is done when all brokers of the new list are in sync; until then ListPartitionReassignments shows it. A new list replaces one that is under
//! way, `null` takes it back (`NO_REASSIGNMENT_IN_PROGRESS` if there is none). From version 1 on the client can insist that the number of replicas stays
//! (KIP-860). Any node takes it; the timeout is for the decision, not for the move.

use chronik_base::ErrorCode;
use chronik_meta::{Command, Image, Partition};
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
    let may_resize = request.allow_replication_factor_change;
    let partitions = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|wanted| plan(&image, &topic.name, wanted, may_resize))
    });
    let plans: Vec<Result<Command, Refusal>> = partitions.collect();
    if plans.iter().all(Result::is_err) {
        let outcomes = plans.into_iter().map(|plan| plan.map(|_| ()));
        return Ok(call.ready(&answer(&request, outcomes)));
    }
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        let outcomes = broker.commit_planned(plans, request.timeout_ms).await;
        answer(&request, outcomes.into_iter())
    }))
}

fn plan(
    image: &Image,
    name: &str,
    wanted: &ReassignablePartition,
    may_resize: bool,
) -> Result<Command, Refusal> {
    let index = wanted.partition_index;
    let topic = image.topic(name).ok_or_else(Refusal::unknown_topic)?;
    let partition = topic.partitions.get(index).ok_or_else(Refusal::unknown_topic)?;
    if let Some(replicas) = &wanted.replicas {
        check_manual(image, std::slice::from_ref(replicas), None)?;
        let (before, after) = (size(partition), replicas.len());
        if !may_resize && before != after {
            let message = format!("The replication factor is changed from {before} to {after}");
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
    }
    // Whether there is a move to take back is for the quorum to say: this node may not have heard of it yet.
    Ok(Command::Reassign { topic: topic.id, partition: index, target: wanted.replicas.clone() })
}

/// How many replicas the partition is to have: with a move under way, after it.
fn size(partition: &Partition) -> usize {
    partition.target().count()
}

fn answer(
    request: &AlterPartitionReassignmentsRequest,
    mut outcomes: impl Iterator<Item = Result<(), Refusal>>,
) -> AlterPartitionReassignmentsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut outcomes).map(|(wanted, outcome)| {
            let (error_code, error_message) = outcome_of(&outcome);
            ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_code,
                error_message,
            }
        });
        ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name.clone() }
    });
    let responses = topics.collect();
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        responses,
        ..AlterPartitionReassignmentsResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::tests::image;
    use super::*;

    fn to(image: &Image, replicas: Option<Vec<i32>>, may_resize: bool) -> Result<Command, Refusal> {
        let wanted = ReassignablePartition { partition_index: 0, replicas };
        plan(image, "t", &wanted, may_resize)
    }

    #[test]
    fn moves_are_checked_and_taken_back() {
        let mut image = image(3, &[]);
        let code = |outcome: Result<Command, Refusal>| outcome.unwrap_err().code;
        let nothing = image.check(&to(&image, None, true).unwrap()).unwrap_err();
        assert_eq!(nothing.code(), ErrorCode::NoReassignmentInProgress);
        assert_eq!(code(to(&image, Some(vec![7]), true)), ErrorCode::InvalidReplicaAssignment);
        assert_eq!(code(to(&image, Some(vec![]), true)), ErrorCode::InvalidReplicaAssignment);
        let refusal = to(&image, Some(vec![1, 2]), false).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (ErrorCode::InvalidReplicationFactor, "The replication factor is changed from 3 to 2")
        );
        image.apply(&to(&image, Some(vec![3, 2]), true).unwrap());
        // Those that stay were in sync, so the move is done at once.
        assert_eq!(*image.partition("t", 0).unwrap().replicas, [3, 2]);
        image.apply(&to(&image, Some(vec![1, 2]), false).unwrap());
        let partition = image.partition("t", 0).unwrap();
        assert_eq!((&*partition.adding, &*partition.removing), (&[1][..], &[3][..]));
        image.apply(&to(&image, None, true).unwrap());
        // In the order of the move that was taken back: the one before is not kept, as in Kafka.
        assert_eq!(*image.partition("t", 0).unwrap().replicas, [2, 3]);
    }

    #[test]
    fn a_partition_that_is_not_there_is_unknown() {
        let wanted = ReassignablePartition { partition_index: 4, replicas: Some(vec![1]) };
        for name in ["t", "u"] {
            let refusal = plan(&image(1, &[]), name, &wanted, true).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::UnknownTopicOrPartition);
        }
    }
}
