//! Making a follower the voter, when the only voter (or the majority of them) is gone for good.

use chronik_base::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks a node to go on without the voters that it knows: it becomes the only voter, from its copy of the metadata, and
/// leads every partition of which it is an in-sync or eligible replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PromoteRequest {
    /// The old voters are gone for good. Without this the node only says what would happen: an old voter that still runs would
    /// go on beside it, as a second cluster.
    pub voters_are_gone: bool,
    /// Also lead partitions of which this node is a replica that isn't in sync: what only others had is lost.
    pub unclean: bool,
}

/// What a promotion did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PromoteAnswer {
    /// The node.
    pub node_id: NodeId,
    /// True if it was done.
    pub done: bool,
    /// The voters that it went on without.
    pub former_voters: Vec<NodeId>,
    /// Partitions that the node leads afterwards.
    pub leads: u64,
    /// Of those: partitions of which it wasn't in sync (`unclean`).
    pub led_unclean: u64,
    /// Partitions that have no leader afterwards, because no in-sync replica is left.
    pub offline: u64,
}

/// Why a request was refused: the body of every answer with an error status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Refusal {
    /// What is wrong.
    pub error: String,
    /// What to do, or where to look.
    pub see: String,
}
