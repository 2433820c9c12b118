//! Raft's calls carry the cluster that they are about: Raft itself would mix the logs of two clusters whose nodes know each other's addresses.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use chronik_base::{BoxFuture, CallError, NodeId, Transport, Uuid};

use crate::published::Published;

/// Bytes of a cluster's id.
const ID: usize = 16;

/// Which cluster this node belongs to: by its metadata, else by its data directory.
pub(crate) fn cluster_of(published: &Published, of_directory: Option<Uuid>) -> Uuid {
    match published.image().cluster_id() {
        Uuid::ZERO => of_directory.unwrap_or(Uuid::ZERO),
        id => id,
    }
}

/// Puts the cluster's id in front of each call of Raft.
pub(crate) struct Marked {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) published: Arc<Published>,
    pub(crate) of_directory: Option<Uuid>,
}

impl Transport for Marked {
    fn call(
        &self,
        to: NodeId,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let mut marked = BytesMut::with_capacity(ID + payload.len());
        marked.put_slice(&cluster_of(&self.published, self.of_directory).0);
        marked.put_slice(&payload);
        self.transport.call(to, kind, marked.freeze(), timeout)
    }
}

/// Takes the cluster's id off a call of Raft, and refuses another cluster's. A node that has none yet takes any call, and is called by any.
///
/// # Errors
/// In words for the operators of both nodes.
pub(crate) fn check(own: Uuid, from: NodeId, mut payload: Bytes) -> Result<Bytes, String> {
    if payload.len() < ID {
        return Err(
            "a call of the quorum without a cluster id: run the same version of Chronik on all nodes"
                .to_owned(),
        );
    }
    let id = payload.split_to(ID);
    if id.iter().any(|byte| *byte != 0) && !own.is_zero() && *id != own.0 {
        let other = id.as_ref().try_into().map(Uuid).unwrap_or(Uuid::ZERO);
        return Err(format!(
            "node {from} belongs to cluster {other}, this node to cluster {own}: they don't work together; check the addresses, or start one with an empty \
             --data-dir"
        ));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cluster_is_refused_and_none_is_not() {
        let (one, two) = (Uuid::from_random([1; 16]), Uuid::from_random([2; 16]));
        let call = |id: Uuid| Bytes::from([id.0.as_slice(), b"vote"].concat());
        for (own, theirs) in [(one, one), (one, Uuid::ZERO), (Uuid::ZERO, two), (Uuid::ZERO, Uuid::ZERO)] {
            assert_eq!(check(own, 3, call(theirs)), Ok(Bytes::from_static(b"vote")));
        }
        assert!(check(one, 3, call(two)).unwrap_err().contains("don't work together"));
        assert!(check(one, 3, Bytes::from_static(b"vote")).is_err());
    }
}
