//! What the APIs of the metadata's voters have in common.

use chronik_base::{ErrorCode, NodeId, Uuid};
use chronik_quorum::VoterStatus;

use crate::Broker;
use crate::refusal::Refusal;

/// The voters, as this node knows them.
pub(crate) fn all(broker: &Broker) -> Vec<VoterStatus> {
    broker.metadata.quorum().status().voters
}

/// A request that names a cluster must mean this one.
pub(crate) fn check_cluster(broker: &Broker, named: Option<&str>) -> Result<(), Refusal> {
    let own = broker.metadata.image().cluster_id().to_string();
    match named {
        Some(named) if named != own => {
            let message = format!("this is cluster {own}, and the request is for {named}");
            Err(Refusal::new(ErrorCode::InconsistentClusterId, message))
        }
        _ => Ok(()),
    }
}

/// A directory id that is not zero must be the one that the broker registered.
pub(crate) fn check_directory(broker: &Broker, id: NodeId, directory: Uuid) -> Result<(), Refusal> {
    let image = broker.metadata.image();
    match image.broker(id) {
        Some(other) if !directory.is_zero() && other.directory != directory => {
            let registered = other.directory;
            let message = format!("node {id} has the data directory {registered}, not {directory}");
            Err(Refusal::new(ErrorCode::InvalidVoterKey, message))
        }
        _ => Ok(()),
    }
}

/// What the quorum says against a change, in its own words. Without a leader it may do better later.
pub(crate) fn refusal(broker: &Broker, problem: String) -> Refusal {
    let code = match broker.metadata.quorum().leader() {
        Some(_) => ErrorCode::InvalidRequest,
        None => ErrorCode::RequestTimedOut,
    };
    Refusal::new(code, problem)
}
