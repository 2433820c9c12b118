//! ElectLeaders (43), versions 0 to 2: asks that leaders be elected anew (KIP-183, KIP-460).
//!
//! On a lone node the leader of a partition is its only replica, so no election is ever needed. All partitions without a list: then, as in
//! Kafka, those that need no election are left out. Gap: partitions with followers, which come with replication.

use chronik_base::ErrorCode;
use chronik_meta::Image;
use chronik_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::Refusal;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ElectLeadersRequest::decode(reader, call.version)?;
    if ![PREFERRED, UNCLEAN].contains(&request.election_type) {
        let error_code = ErrorCode::InvalidRequest.code();
        return Ok(call.ready(&ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() }));
    }
    let image = call.broker.metadata.image();
    let results = request.topic_partitions.into_iter().flatten().map(|wanted| {
        let partitions = wanted.partitions.iter().map(|index| {
            let refusal = outcome(&image, &wanted.topic, *index, request.election_type);
            PartitionResult {
                partition_id: *index,
                error_code: refusal.code.code(),
                error_message: refusal.text(),
            }
        });
        ReplicaElectionResult { partition_result: partitions.collect(), topic: wanted.topic.clone() }
    });
    let replica_election_results = results.collect();
    Ok(call.ready(&ElectLeadersResponse { replica_election_results, ..ElectLeadersResponse::default() }))
}

fn outcome(image: &Image, topic: &str, index: i32, election: i8) -> Refusal {
    let Some(partition) = image.partition(topic, index) else { return Refusal::unknown_topic() };
    if election == UNCLEAN && partition.leader >= 0 || partition.replicas.first() == Some(&partition.leader) {
        return Refusal::new(ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.");
    }
    Refusal::new(
        ErrorCode::PreferredLeaderNotAvailable,
        "The preferred leader was not available: this node elects leaders among its own replicas only.",
    )
}
