//! Who votes in a Raft quorum: nodes that are added and removed, and nodes whose disk was lost.
//!
//! A voter that lost its disk has forgotten whom it voted for and what it acknowledged. Were it to go on as if it had not, changes that were decided
//! could be lost with it. So a node that begins empty takes no call of Raft before a node of the quorum has let it; and one that was a voter is let
//! in only after the quorum has taken it out of the voters, and takes it in again as a new one.

use std::sync::Arc;
use std::time::Duration;

use chronik_base::NodeId;
use chronik_raft::RaftNode;
use tokio::time::{Instant, sleep};

use crate::inner::{Inner, Store};
use crate::message::{self, Membership, MembershipAnswer, Role, kind};
use crate::options::Restart;

/// How long an observer that is to vote may take to start anew as a voter.
const BECOME_VOTER: Duration = Duration::from_secs(15);

impl Inner {
    /// Changes who votes; the caller goes to the leader if this node is not.
    pub(crate) async fn on_membership(self: &Arc<Self>, change: Membership) -> MembershipAnswer {
        let Store::Raft(raft) = &self.store else {
            return if self.is_leader() {
                MembershipAnswer::Refused(
                    "this cluster has one voter that is not a Raft quorum: start it with `raft-cluster` on the same --data-dir to let others vote".to_owned(),
                )
            } else {
                MembershipAnswer::NotLeader(self.leader().filter(|leader| *leader != self.me()))
            };
        };
        if let Membership::TakeIn(node) = change {
            return self.let_in(raft, node).await;
        }
        if !raft.is_leader() {
            return MembershipAnswer::NotLeader(raft.leader().filter(|leader| *leader != self.me()));
        }
        let _one_at_a_time = self.changing_voters.lock().await;
        let done = match change {
            Membership::Add(node, address) => self.add_to_quorum(raft, node, address).await,
            Membership::Remove(node) => self.remove_from_quorum(raft, node).await,
            Membership::TakeIn(_) => Ok(()),
        };
        self.turn();
        match done {
            Ok(()) => MembershipAnswer::Done,
            Err(problem) => MembershipAnswer::Refused(problem),
        }
    }

    /// Lets an empty node take part. If it was here before, the quorum forgets its vote first.
    async fn let_in(self: &Arc<Self>, raft: &RaftNode, node: NodeId) -> MembershipAnswer {
        let voters = raft.status().voters;
        let was_here = voters.contains_key(&node) && self.image().broker(node).is_some();
        if was_here && voters.len() == 2 {
            // The other one of two voters, this node, has everything that was ever decided, and an empty one can't win against it. But as the leader
            // of its term it goes by what that one acknowledged before it lost its disk, and forgets that only when it starts anew.
            let acknowledged =
                raft.status().followers.iter().any(|other| other.node == node && other.matched > 0);
            if !acknowledged {
                return MembershipAnswer::Done;
            }
            tracing::warn!(
                node,
                "the other voter comes back with an empty disk: this node starts anew to go on with it"
            );
            (self.on_restart)(Restart::Vote { voters: voters.into_iter().collect() });
            return MembershipAnswer::Refused("the other voter starts anew first".to_owned());
        }
        if !raft.is_leader() {
            let leader = raft.leader().filter(|leader| *leader != self.me());
            return match leader {
                _ if !was_here => MembershipAnswer::Done,
                Some(leader) => MembershipAnswer::NotLeader(Some(leader)),
                None => MembershipAnswer::Refused(
                    "this node was a voter and its disk is empty: only a majority of the other voters can take it in again, and there is none".to_owned(),
                ),
            };
        }
        let one_at_a_time = self.changing_voters.clone().lock_owned().await;
        if was_here && raft.status().voters.contains_key(&node) {
            tracing::warn!(
                node,
                "the voter comes back with an empty disk: its vote is taken, and given again when it has the metadata"
            );
            if let Err(error) = raft.remove_voter(node).await {
                return MembershipAnswer::Refused(error.to_string());
            }
        }
        let listed = self.listed.iter().find(|(listed, _)| *listed == node).cloned();
        if let Some((node, address)) = listed.filter(|_| !self.takes_in)
            && !raft.status().voters.contains_key(&node)
        {
            let (inner, raft) = (Arc::clone(self), raft.clone());
            self.spawn(async move {
                let _one_at_a_time = one_at_a_time;
                match raft.add_voter(node, address).await {
                    Ok(()) => inner.turn(),
                    Err(error) => tracing::warn!(node, "it does not vote yet: {error}"),
                }
            });
        }
        MembershipAnswer::Done
    }

    /// Asks a quorum that has metadata to take this empty node in.
    ///
    /// # Errors
    /// Why it doesn't yet.
    pub(crate) async fn ask_to_be_taken_in(self: &Arc<Self>, nodes: &[NodeId]) -> Result<(), String> {
        let mut to = nodes.to_vec();
        let mut problem = "nobody of the quorum answers".to_owned();
        while let Some(node) = to.pop() {
            let payload = message::request(self.caller(), |out| Membership::TakeIn(self.me()).put(out));
            let answer = self.call(node, kind::MEMBERSHIP, payload, self.timing.request).await;
            let answer = answer.map_err(|error| error.to_string()).and_then(|payload| {
                message::read(payload, MembershipAnswer::get).map_err(|error| error.to_string())
            });
            match answer {
                Ok(MembershipAnswer::Done) => return Ok(()),
                Ok(MembershipAnswer::NotLeader(Some(leader)))
                    if nodes.contains(&leader) && leader != node =>
                {
                    to.retain(|other| *other != leader);
                    to.push(leader);
                    problem = format!("node {leader}, the leader, is to take this node in");
                }
                Ok(MembershipAnswer::NotLeader(_)) => "the quorum has no leader now".clone_into(&mut problem),
                Ok(MembershipAnswer::Refused(why)) | Err(why) => problem = why,
            }
        }
        Err(problem)
    }

    /// Lets a node vote; one that is an observer is asked to start anew as a voter first.
    pub(crate) async fn add_to_quorum(
        self: &Arc<Self>,
        raft: &RaftNode,
        node: NodeId,
        address: String,
    ) -> Result<(), String> {
        let deadline = Instant::now() + BECOME_VOTER;
        let mut voters: Vec<_> = raft.status().voters.into_iter().collect();
        if voters.iter().any(|(id, _)| *id == node) {
            return Ok(());
        }
        voters.push((node, address.clone()));
        let mut was_asked = false;
        loop {
            let probed = self.probe(node).await;
            match probed {
                Ok(probed) if !probed.cluster_id.is_zero() && probed.cluster_id != self.cluster() => {
                    return Err(format!(
                        "node {node} belongs to cluster {}: it can't vote here",
                        probed.cluster_id
                    ));
                }
                Ok(probed) if probed.role == Role::Raft => break,
                Ok(probed) if probed.role == Role::Voter => {
                    return Err(format!(
                        "node {node} decides alone: start it with `raft-cluster` and an empty --data-dir"
                    ));
                }
                Ok(_) if !was_asked => {
                    let payload = message::request(self.caller(), |out| out.addresses(&voters));
                    let asked = self.call(node, kind::VOTE, payload, self.timing.session).await;
                    asked.map_err(|error| error.to_string())?;
                    was_asked = true;
                }
                Ok(_) => {}
                Err(problem) if !was_asked => return Err(problem),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "node {node} did not start anew as a voter within {} s; see its log",
                    BECOME_VOTER.as_secs()
                ));
            }
            sleep(Duration::from_millis(50)).await;
        }
        raft.add_voter(node, address).await.map_err(|error| error.to_string())
    }

    /// Takes a node's vote, and tells it to follow from now on.
    pub(crate) async fn remove_from_quorum(
        self: &Arc<Self>,
        raft: &RaftNode,
        node: NodeId,
    ) -> Result<(), String> {
        raft.remove_voter(node).await.map_err(|error| error.to_string())?;
        let sources: Vec<NodeId> = raft.status().voters.into_keys().filter(|id| *id != node).collect();
        if node == self.me() {
            (self.on_restart)(Restart::Observe { sources });
            return Ok(());
        }
        let payload = message::request(self.caller(), |out| {
            out.list(sources.iter(), |out, source| out.node(*source));
        });
        if let Err(error) = self.call(node, kind::DISMISS, payload, self.timing.session).await {
            tracing::warn!(node, "it votes no more, and could not be told: start it with --join. {error}");
        }
        Ok(())
    }
}
