//! Readers at the tail of a follower (KIP-392) wait for a flush as those at the leader's do, but only the leader can have everybody flush: the follower
//! passes it on.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::Chunk;

use super::role::Role;
use super::wire::{self, BadFrame};
use crate::Broker;
use crate::partition::Partition;
use crate::sync::Hold;

impl Partition {
    /// Somebody waits here for records that a flush would make readable. Nothing where this node follows nobody.
    pub(crate) fn ask_leader_to_flush(&self, broker: &Broker) {
        let (leader, stream) = match &self.state.hold().role {
            Role::Follower(follower) => match follower.stream() {
                Some(stream) => (follower.leader(), stream),
                None => return,
            },
            Role::Leader(_) | Role::None => return,
        };
        let place = vec![Chunk::Bytes(wire::encode_place(self.key(), stream))];
        if let Err(error) = broker.peers.send(leader, wire::FLUSH, place) {
            tracing::debug!(leader, "not asked for a flush: {error}");
        }
    }
}

/// Somebody waits at a follower: what is written here is flushed, here and on the followers.
pub(super) fn on_flush_wanted(broker: &Arc<Broker>, payload: Bytes) -> Result<(), BadFrame> {
    for (key, _) in wire::decode_places(wire::FLUSH, payload)? {
        if let Some(partition) = broker.hosted(key)
            && partition.is_leader()
            && partition.has_unflushed()
        {
            partition.ask_followers_to_flush();
            broker.log.request_flush();
        }
    }
    Ok(())
}
