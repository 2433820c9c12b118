//! What a node's part of the quorum looks like, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chronik_base::NodeId;
use openraft::ServerState;

use crate::core::{Core, voter_sets, voters};
use crate::types::{Metrics, count, node_id};

/// Who leads, as far as it is known on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; `None` while none is heard of, or while this node leads without a majority.
    pub leader: Option<NodeId>,
    /// This node leads, a majority said so within the lease, and it has applied all that earlier leaders acknowledged.
    pub serving: bool,
    /// The term; it grows with each election.
    pub term: u64,
}

/// What a node is in the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It has no vote (any more, or yet).
    Learner,
    /// It has stopped: see [`RaftStatus::problem`].
    Stopped,
}

/// What a node's part of the quorum looks like. Positions in the log are numbers of entries: 0 is "none".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// This node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// The term; it grows with each election.
    pub term: u64,
    /// Whom this node voted for in this term.
    pub vote: Option<NodeId>,
    /// True if that node won.
    pub vote_won: bool,
    /// See [`Leadership::leader`].
    pub leader: Option<NodeId>,
    /// See [`Leadership::serving`].
    pub serving: bool,
    /// Entries in the log, those that are in the snapshot included.
    pub last_log: u64,
    /// Entries that are known to be committed.
    pub committed: u64,
    /// Entries that are applied to the image.
    pub applied: u64,
    /// Entries that are in the snapshot.
    pub snapshot: u64,
    /// Entries that were removed from the log's front.
    pub purged: u64,
    /// Bytes of the log's files.
    pub log_bytes: u64,
    /// The voters with their addresses.
    pub voters: BTreeMap<NodeId, String>,
    /// True while the voters change.
    pub changing: bool,
    /// Nodes that get the log and have no vote.
    pub learners: BTreeMap<NodeId, String>,
    /// On the leader, all other voters and the learners.
    pub followers: Vec<FollowerStatus>,
    /// On the leader: how long ago what a majority answered was sent.
    pub majority_answered_ago: Option<Duration>,
    /// On others: how long ago the leader was heard of.
    pub leader_heard_ago: Option<Duration>,
    /// Times that this node was elected since it started.
    pub elected: u64,
    /// Why it has stopped.
    pub problem: Option<String>,
}

/// A node that gets the log from this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The node.
    pub node: NodeId,
    /// Entries that it is known to have.
    pub matched: u64,
    /// Entries that it misses.
    pub lag: u64,
    /// How long ago what it last answered was sent; `None` if it did not answer this leader yet.
    pub answered_ago: Option<Duration>,
    /// What is wrong with the last call.
    pub problem: Option<String>,
}

impl Core {
    /// What it looks like now.
    pub(crate) fn status(&self) -> RaftStatus {
        let now = Instant::now();
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voter_ids = voters(&metrics);
        let nodes = |of_voters: bool| -> BTreeMap<NodeId, String> {
            let wanted = membership.nodes().filter(|(id, _)| voter_ids.contains(id) == of_voters);
            wanted.map(|(id, node)| (node_id(*id), node.addr.clone())).collect()
        };
        let problem = Self::stopped(&metrics);
        let leads = metrics.state == ServerState::Leader;
        let begun = metrics.vote.leader_id.term > 0;
        let applied = count(metrics.last_applied.map(|id| id.index));
        RaftStatus {
            node: node_id(self.me),
            role: match metrics.state {
                _ if problem.is_some() => Role::Stopped,
                ServerState::Leader => Role::Leader,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower | ServerState::Learner if voter_ids.contains(&self.me) => {
                    Role::Follower
                }
                ServerState::Follower | ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Stopped,
            },
            term: metrics.current_term,
            vote: begun.then(|| node_id(metrics.vote.leader_id.node_id)),
            vote_won: begun && metrics.vote.committed,
            leader: self.leader(&metrics, now),
            serving: self.is_serving(&metrics, now),
            last_log: count(metrics.last_log_index),
            committed: count(self.log.committed().map(|id| id.index)).max(applied),
            applied,
            snapshot: count(self.snapshots.last_log_id().map(|id| id.index)),
            purged: count(metrics.purged.map(|id| id.index)),
            log_bytes: self.log.file_bytes(),
            voters: nodes(true),
            changing: voter_sets(&metrics).len() > 1,
            learners: nodes(false),
            followers: if leads { self.followers(&metrics, now) } else { Vec::new() },
            majority_answered_ago: if leads { self.majority_answered_ago(&metrics, now) } else { None },
            leader_heard_ago: if leads { None } else { self.election().heard_ago(now) },
            elected: self.elected.load(Ordering::Relaxed),
            problem,
        }
    }

    fn followers(&self, metrics: &Metrics, now: Instant) -> Vec<FollowerStatus> {
        let answered = self.links.answered(&metrics.vote);
        let known: BTreeSet<u64> = metrics.membership_config.nodes().map(|(id, _)| *id).collect();
        let others = known.into_iter().filter(|id| *id != self.me);
        others
            .map(|id| {
                let matched = metrics.replication.as_ref().and_then(|all| *all.get(&id)?);
                let matched = count(matched.map(|id| id.index));
                FollowerStatus {
                    node: node_id(id),
                    matched,
                    lag: count(metrics.last_log_index).saturating_sub(matched),
                    answered_ago: answered.get(&id).map(|at| now.saturating_duration_since(*at)),
                    problem: self.links.contact(id).problem,
                }
            })
            .collect()
    }
}
