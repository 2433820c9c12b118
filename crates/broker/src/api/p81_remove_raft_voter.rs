//! RemoveRaftVoter (81), version 0: takes a node's vote on the metadata; it follows from then on (KIP-853).
//!
//! A node that is no voter, or has another directory id than the one named (zero stands for whatever it has), is `VOTER_NOT_FOUND`. The last voter can't be
//! removed: `INVALID_REQUEST`. Any node takes it.

use chronik_base::ErrorCode;
use chronik_protocol::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use chronik_protocol::{Decode, DecodeError, Reader};

use super::voters;
use crate::Broker;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = RemoveRaftVoterRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        let (error_code, error_message) = outcome_of(&remove(&broker, &request).await);
        RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }
    }))
}

async fn remove(broker: &Broker, request: &RemoveRaftVoterRequest) -> Result<(), Refusal> {
    let id = request.voter_id;
    voters::check_cluster(broker, request.cluster_id.as_deref())?;
    let voters = voters::all(broker);
    let is_voter = voters.iter().any(|voter| voter.node == id);
    if !is_voter || voters::check_directory(broker, id, request.voter_directory_id).is_err() {
        let known: Vec<_> = voters.iter().map(|voter| voter.node).collect();
        let message = format!("node {id} is no voter with that directory: the voters are {known:?}");
        return Err(Refusal::new(ErrorCode::VoterNotFound, message));
    }
    if voters.len() == 1 {
        let message = format!("node {id} is the only voter: add another one first");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let removed = broker.metadata.quorum().remove_voter(id).await;
    removed.map_err(|problem| voters::refusal(broker, problem))
}
