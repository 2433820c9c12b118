//! Where replicas should be: plans for draining a node, for spreading replicas and leaders evenly, for moving a topic.
//!
//! Pure functions over what is there now. They move as little as they can, never put two replicas of a partition on one
//! node, keep each partition's number of replicas unless told otherwise, and never make a partition live in fewer racks.

mod board;
mod evacuate;
mod rebalance;
#[cfg(test)]
mod tests;

use chronik_base::NodeId;
use chronik_status::count;

pub use evacuate::{evacuate, summary};
pub use rebalance::rebalance;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its rack, if it is in one.
    pub rack: Option<String>,
    /// True if replicas may be put there: it is up, and not about to be emptied.
    pub takes_replicas: bool,
}

/// A partition and where its replicas are: those that it is to have, while it is being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
}

/// A partition that is to have other replicas, or the same ones in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
    /// Its replicas now.
    pub from: Vec<NodeId>,
    /// Its replicas afterwards.
    pub to: Vec<NodeId>,
}

impl Move {
    /// Replicas that have to be copied.
    pub fn copies(&self) -> usize {
        self.to.iter().filter(|id| !self.from.contains(id)).count()
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Fewer nodes than replicas.
    #[error("{topic}-{partition} is to have {replicas} replicas, and {} for them ({}): add a node, or give it fewer replicas with `chronik topic reassign {topic} --to-nodes {} --replication-factor {nodes}`", count(*.nodes as u64, "node is there", "nodes are there"), listed(.available), listed(.available))]
    TooFewNodes {
        /// The topic.
        topic: String,
        /// The partition's index.
        partition: i32,
        /// How many replicas it is to have.
        replicas: usize,
        /// How many nodes there are for them.
        nodes: usize,
        /// Which.
        available: Vec<NodeId>,
    },
}

/// Ids with commas.
pub fn listed(ids: &[NodeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What differs between two states of the same partitions.
fn moves(before: &[Placement], after: Vec<Vec<NodeId>>) -> Vec<Move> {
    let changed = |(before, to): (&Placement, Vec<NodeId>)| {
        (before.replicas != to).then(|| Move {
            topic: before.topic.clone(),
            partition: before.partition,
            from: before.replicas.clone(),
            to,
        })
    };
    before.iter().zip(after).filter_map(changed).collect()
}
