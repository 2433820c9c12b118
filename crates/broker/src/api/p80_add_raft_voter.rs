//! AddRaftVoter (80), versions 0 to 1: lets a node vote on the metadata (KIP-853). Answered when it votes.
//!
//! It is reached at the one listener that is named (a node has one port; of several, the one named `internal`). The directory id must be that of the broker
//! with this id where it is registered (`INVALID_VOTER_KEY`); zero stands for whatever it has. A voter is `DUPLICATE_VOTER`. A cluster of one voter that
//! is no Raft quorum (`chronik standalone`) refuses with `INVALID_REQUEST` and says what to do. Any node takes it. Gap: `ack_when_committed=false` is answered
//! like `true`.

use std::time::Duration;

use chronik_base::ErrorCode;
use chronik_protocol::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse, Listener};
use chronik_protocol::{Decode, DecodeError, Reader};

use super::voters;
use crate::Broker;
use crate::call::Call;
use crate::metadata::INTERNAL_LISTENER;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = AddRaftVoterRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        let (error_code, error_message) = outcome_of(&add(&broker, &request).await);
        AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() }
    }))
}

async fn add(broker: &Broker, request: &AddRaftVoterRequest) -> Result<(), Refusal> {
    let id = request.voter_id;
    voters::check_cluster(broker, request.cluster_id.as_deref())?;
    if id < 0 {
        let message = format!("{id} is no node id: it must be 0 or more");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if voters::all(broker).iter().any(|voter| voter.node == id) {
        let message = format!("node {id} is a voter already");
        return Err(Refusal::new(ErrorCode::DuplicateVoter, message));
    }
    voters::check_directory(broker, id, request.voter_directory_id)?;
    let address = address(&request.listeners)?;
    let change = broker.metadata.quorum().add_voter(id, address);
    let limit = match u64::try_from(request.timeout_ms) {
        Ok(ms @ 1..) => Duration::from_millis(ms),
        _ => Duration::MAX,
    };
    match tokio::time::timeout(limit, change).await {
        Ok(done) => done.map_err(|problem| voters::refusal(broker, problem)),
        Err(_) => {
            let message =
                format!("node {id} does not vote after {} ms; it may be on its way", request.timeout_ms);
            Err(Refusal::new(ErrorCode::RequestTimedOut, message))
        }
    }
}

fn address(listeners: &[Listener]) -> Result<String, Refusal> {
    let listener = match listeners {
        [one] => Some(one),
        several => several.iter().find(|listener| *listener.name == *INTERNAL_LISTENER),
    };
    match listener {
        Some(Listener { host, port, .. }) if !host.is_empty() && *port > 0 => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
            Ok(format!("{host}:{port}"))
        }
        _ => {
            let message = "name the host and port of the node's listener: one listener, or one that is named \"INTERNAL\"";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_protocol::Str;

    #[test]
    fn one_listener_is_the_nodes() {
        let listener =
            |name, host, port| Listener { name: Str::from_static(name), host: Str::from_static(host), port };
        assert_eq!(address(&[listener("x", "a.example", 9092)]).unwrap(), "a.example:9092");
        assert_eq!(address(&[listener("INTERNAL", "::1", 9)]).unwrap(), "[::1]:9");
        let two = [listener("kafka", "a", 1), listener("INTERNAL", "b", 2)];
        assert_eq!(address(&two).unwrap(), "b:2");
        for bad in [&[][..], &[listener("INTERNAL", "", 1)], &[listener("INTERNAL", "a", 0)]] {
            assert_eq!(address(bad).unwrap_err().code, ErrorCode::InvalidRequest);
        }
    }
}
