//! ElectLeaders (43), versions 0 to 2: asks that leaders be elected anew (KIP-183, KIP-460).
//!
//! The preferred leader is a partition's first replica; it must be in sync (`PREFERRED_LEADER_NOT_AVAILABLE`). An unclean election is for partitions
//! without a leader, and takes any replica that lives (`ELIGIBLE_LEADERS_NOT_AVAILABLE` if none does). Without a list all partitions are meant, and, as in
//! Kafka, those that need no election are left out. Any node takes it. What the metadata quorum has not decided by the request's timeout is
//! `REQUEST_TIMED_OUT`, and may still be carried out.

use chronik_base::ErrorCode;
use chronik_meta::{Command, Image};
use chronik_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ElectLeadersRequest::decode(reader, call.version)?;
    let unclean = match request.election_type {
        PREFERRED => false,
        UNCLEAN => true,
        _ => {
            let error_code = ErrorCode::InvalidRequest.code();
            return Ok(call.ready(&ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() }));
        }
    };
    let image = call.broker.metadata.image();
    let planned = match &request.topic_partitions {
        Some(wanted) => named(&image, wanted, unclean),
        None => all(&image, unclean),
    };
    let (places, plans): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
    if plans.iter().all(Result::is_err) {
        return Ok(call.ready(&answer(places, plans.into_iter().map(|plan| plan.map(|_| ())).collect())));
    }
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        let outcomes = broker.commit_planned(plans, request.timeout_ms).await;
        answer(places, outcomes)
    }))
}

/// A partition of the request, and what is to be done.
type Planned = Vec<((Str, i32), Result<Command, Refusal>)>;

fn named(image: &Image, wanted: &[TopicPartitions], unclean: bool) -> Planned {
    let mut planned = Planned::new();
    for topic in wanted {
        for index in &topic.partitions {
            planned.push(((topic.topic.clone(), *index), plan(image, &topic.topic, *index, unclean)));
        }
    }
    planned
}

fn plan(image: &Image, name: &str, index: i32, unclean: bool) -> Result<Command, Refusal> {
    let topic = image.topic(name).ok_or_else(Refusal::unknown_topic)?;
    topic.partitions.get(index).ok_or_else(Refusal::unknown_topic)?;
    Ok(Command::ElectLeader { topic: topic.id, partition: index, unclean })
}

/// Every partition that needs an election, as far as this node knows.
fn all(image: &Image, unclean: bool) -> Planned {
    let mut planned = Planned::new();
    for topic in image.topics() {
        let name = Str::from(&*topic.name);
        for (index, _) in topic.partitions.iter() {
            let command = Command::ElectLeader { topic: topic.id, partition: index, unclean };
            match image.check(&command).map(|()| command).map_err(Refusal::from) {
                Err(refusal) if refusal.code == ErrorCode::ElectionNotNeeded => {}
                plan => planned.push(((name.clone(), index), plan)),
            }
        }
    }
    planned
}

fn answer(places: Vec<(Str, i32)>, outcomes: Vec<Result<(), Refusal>>) -> ElectLeadersResponse {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for ((topic, partition_id), outcome) in places.into_iter().zip(outcomes) {
        let (error_code, error_message) = outcome_of(&outcome);
        let result = PartitionResult { partition_id, error_code, error_message };
        match results.last_mut() {
            Some(last) if last.topic == topic => last.partition_result.push(result),
            _ => results.push(ReplicaElectionResult { topic, partition_result: vec![result] }),
        }
    }
    ElectLeadersResponse { replica_election_results: results, ..ElectLeadersResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::tests::image;
    use super::*;

    fn unfence(image: &mut Image, id: i32) {
        let epoch = image.broker(id).unwrap().epoch;
        image.apply(&Command::UnfenceBroker { id, epoch });
    }

    #[test]
    fn who_can_be_elected() {
        let mut image = image(2, &[1]);
        let code = |image: &Image, index, unclean| {
            let checked = plan(image, "t", index, unclean).and_then(|command| Ok(image.check(&command)?));
            checked.err().map_or(ErrorCode::None, |refusal| refusal.code)
        };
        assert_eq!(code(&image, 0, false), ErrorCode::PreferredLeaderNotAvailable);
        assert_eq!(code(&image, 0, true), ErrorCode::ElectionNotNeeded);
        assert_eq!(code(&image, 1, false), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(all(&image, false).len(), 1);
        assert!(all(&image, true).is_empty());
        // It is back, and not in sync yet.
        unfence(&mut image, 1);
        assert_eq!(code(&image, 0, false), ErrorCode::PreferredLeaderNotAvailable);
        // The leader is gone, and only the replica that lacks records lives.
        let epoch = image.broker(2).unwrap().epoch;
        image.apply(&Command::FenceBroker { id: 2, epoch });
        assert_eq!(code(&image, 0, true), ErrorCode::None);
        let command = plan(&image, "t", 0, true).unwrap();
        image.apply(&command);
        assert_eq!(image.partition("t", 0).unwrap().leader, 1);
    }
}
