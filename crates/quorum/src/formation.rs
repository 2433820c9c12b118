//! How a Raft quorum begins: nodes that were started with the same list find each other, and begin it once a majority is there and all of them are
//! empty. One that has a cluster's metadata already begins alone and takes the others in; one that is empty and hears of a quorum waits for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chronik_base::{NodeId, Uuid};
use chronik_raft::RaftNode;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::inner::{Inner, Matter, Store, lock};
use crate::message::{self, Probed, Role, kind};

/// The pauses between two rounds of questions while the quorum has not formed.
const PAUSES: [u64; 5] = [50, 100, 200, 500, 1000];

/// The pause between two looks whether the listed nodes are voters.
const LOOK: Duration = Duration::from_secs(1);

/// What a node that is no part of a quorum yet does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Begin the quorum with all listed nodes.
    Begin,
    /// Another node begins the quorum, or has just begun it, and needs this one's vote.
    Vote(String),
    /// There is a quorum with metadata, which these nodes are part of: it must take this node in.
    Ask(Vec<NodeId>),
    /// Wait, for this reason.
    Wait(String),
    /// This can't become a quorum before somebody changes something.
    StayOut(String),
}

/// What [`decide`] knows of the node itself.
#[derive(Clone, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) node: NodeId,
    /// The cluster that its data belong to.
    pub(crate) cluster_id: Option<Uuid>,
    /// The voters that it was started with.
    pub(crate) listed: &'a [(NodeId, String)],
}

/// Decides for a node without a quorum, from what the others say of themselves.
pub(crate) fn decide(own: &Own<'_>, heard: &BTreeMap<NodeId, Probed>) -> Step {
    let ids = |voters: &[(NodeId, String)]| voters.iter().map(|(node, _)| *node).collect::<BTreeSet<_>>();
    let listed = ids(own.listed);
    for (node, probed) in heard {
        if let Some(own_id) = own.cluster_id
            && !probed.cluster_id.is_zero()
            && probed.cluster_id != own_id
        {
            return Step::StayOut(format!(
                "this node belongs to cluster {own_id}, node {node} to cluster {}: this node stays out; start one of them with an empty --data-dir",
                probed.cluster_id
            ));
        }
        if probed.role == Role::Raft && !probed.initialized && ids(&probed.view.voters) != listed {
            return Step::StayOut(format!(
                "node {node} was started with the voters {:?}, this node with {listed:?}: give all the same --peers",
                ids(&probed.view.voters)
            ));
        }
    }
    let mut formed = heard.iter().filter(|(_, probed)| probed.role == Role::Raft && probed.initialized);
    let with_metadata: Vec<NodeId> =
        formed.clone().filter(|(_, probed)| probed.has_metadata).map(|(node, _)| *node).collect();
    if !with_metadata.is_empty() {
        return Step::Ask(with_metadata);
    }
    if let Some((node, _)) = formed.next() {
        return Step::Vote(format!("node {node} has begun the quorum"));
    }
    if let Some(id) = own.cluster_id {
        return Step::Wait(format!(
            "this node belongs to cluster {id} and has no metadata of its quorum (was its directory `raft` removed?): it waits for another voter"
        ));
    }
    let empty = |probed: &&Probed| probed.role == Role::Raft && !probed.initialized && !probed.has_metadata;
    let there: BTreeSet<NodeId> = heard
        .iter()
        .filter(|(node, probed)| listed.contains(*node) && empty(probed))
        .map(|(node, _)| *node)
        .chain([own.node])
        .collect();
    let majority = listed.len() / 2 + 1;
    if there.len() < majority {
        let missing: Vec<NodeId> = listed.difference(&there).copied().collect();
        return Step::Wait(format!(
            "{} of {} voters are there, {majority} are needed; still missing: {missing:?}",
            there.len(),
            listed.len()
        ));
    }
    match there.first() {
        Some(first) if *first != own.node => Step::Vote(format!("node {first} begins the quorum")),
        _ => Step::Begin,
    }
}

impl Inner {
    /// Takes part in forming the quorum, then takes listed nodes in that come later.
    pub(crate) async fn form(self: Arc<Self>) {
        let Store::Raft(raft) = &self.store else { return };
        let mut round = 0;
        while !raft.is_initialized() {
            let mut turns = self.turns.subscribe();
            let heard = self.probe_all(self.listed.iter().map(|(node, _)| *node)).await;
            if raft.is_initialized() {
                break;
            }
            let own = Own { node: self.me(), cluster_id: self.cluster_id, listed: &self.listed };
            match decide(&own, &heard) {
                Step::Begin => {
                    self.votes.store(true, Ordering::Release);
                    if let Err(error) = raft.initialize(self.listed.iter().cloned().collect()).await {
                        tracing::error!("the quorum can't begin: {error}");
                    }
                    self.turn();
                }
                Step::Vote(why) => {
                    self.votes.store(true, Ordering::Release);
                    self.set_waiting(Some(why));
                }
                Step::Ask(nodes) => match self.ask_to_be_taken_in(&nodes).await {
                    Ok(()) => self.votes.store(true, Ordering::Release),
                    Err(why) => self.set_waiting(Some(why)),
                },
                Step::Wait(why) => {
                    if round == PAUSES.len() {
                        tracing::info!("no quorum yet: {why}");
                    }
                    self.set_waiting(Some(why));
                }
                Step::StayOut(problem) => self.wait_outside(&problem),
            }
            let pause = PAUSES.get(round).or(PAUSES.last()).copied().unwrap_or(1000);
            round += 1;
            tokio::select! {
                () = sleep(Duration::from_millis(pause)) => {}
                _ = turns.changed() => {}
            }
        }
        self.votes.store(true, Ordering::Release);
        self.set_waiting(None);
        self.turn();
        if self.takes_in {
            self.see_listed_in(raft).await;
        }
        let formed = Some(crate::generation::Formation::Formed);
        if lock(&self.known).standing.quorum != formed {
            self.change_standing(|standing| standing.quorum = formed);
        }
    }

    /// The library takes the listed nodes in; until it has, this node begins the quorum anew at each start, and says what keeps them out.
    async fn see_listed_in(self: &Arc<Self>, raft: &RaftNode) {
        loop {
            let voters = raft.status().voters;
            let missing: Vec<_> =
                self.listed.iter().map(|(node, _)| *node).filter(|node| !voters.contains_key(node)).collect();
            if missing.is_empty() {
                return;
            }
            let heard = self.probe_all(missing.iter().copied()).await;
            for node in missing {
                self.note_problem(
                    node,
                    Matter::Vote,
                    heard.get(&node).and_then(|probed| self.cannot_be_taken_in(probed)),
                );
            }
            sleep(LOOK).await;
        }
    }

    /// What keeps a listed node out of the quorum of this one.
    fn cannot_be_taken_in(&self, probed: &Probed) -> Option<String> {
        if !probed.cluster_id.is_zero() && probed.cluster_id != self.cluster() {
            return Some(format!(
                "it is listed as a voter, but has data of cluster {}, and this is cluster {}: start it with an empty --data-dir",
                probed.cluster_id,
                self.cluster()
            ));
        }
        (probed.role != Role::Raft)
            .then(|| "it is listed as a voter, but was not started with `raft-cluster`".to_owned())
    }

    /// Asks nodes who they are, all at once.
    async fn probe_all(self: &Arc<Self>, nodes: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, Probed> {
        let mut calls = JoinSet::new();
        for node in nodes.filter(|node| *node != self.me()) {
            let inner = Arc::clone(self);
            calls.spawn(async move { (node, inner.probe(node).await) });
        }
        let mut heard = BTreeMap::new();
        while let Some(joined) = calls.join_next().await {
            if let Ok((node, Ok(probed))) = joined {
                heard.insert(node, probed);
            }
        }
        heard
    }

    pub(crate) async fn probe(&self, node: NodeId) -> Result<Probed, String> {
        let payload = message::request(self.caller(), |_| {});
        let answer = self.call(node, kind::PROBE, payload, self.timing.session).await;
        let payload = answer.map_err(|error| error.to_string())?;
        message::read(payload, Probed::get)
            .map_err(|error| format!("node {node} gives a bad answer: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::View;

    fn listed(nodes: &[NodeId]) -> Vec<(NodeId, String)> {
        nodes.iter().map(|node| (*node, format!("10.0.0.{node}:9092"))).collect()
    }

    fn empty(node: NodeId, voters: &[NodeId]) -> (NodeId, Probed) {
        let probed = Probed {
            node,
            incarnation: Uuid::ZERO,
            role: Role::Raft,
            cluster_id: Uuid::ZERO,
            has_metadata: false,
            initialized: false,
            view: View { voters: listed(voters), ..View::default() },
        };
        (node, probed)
    }

    fn formed(node: NodeId, cluster: u8) -> (NodeId, Probed) {
        let cluster_id = Uuid::from_random([cluster; 16]);
        let probed =
            Probed { cluster_id, has_metadata: true, initialized: true, ..empty(node, &[1, 2, 3]).1 };
        (node, probed)
    }

    fn step(node: NodeId, cluster: Option<u8>, heard: impl IntoIterator<Item = (NodeId, Probed)>) -> Step {
        let listed = listed(&[1, 2, 3]);
        let cluster_id = cluster.map(|cluster| Uuid::from_random([cluster; 16]));
        decide(&Own { node, cluster_id, listed: &listed }, &heard.into_iter().collect())
    }

    fn waits(step: &Step, why: &str) -> bool {
        matches!(step, Step::Wait(reason) if reason.contains(why))
    }

    fn votes(step: &Step, why: &str) -> bool {
        matches!(step, Step::Vote(reason) if reason.contains(why))
    }

    #[test]
    fn the_first_of_a_majority_begins() {
        let all = [1, 2, 3];
        assert!(waits(&step(2, None, []), "1 of 3 voters are there, 2 are needed; still missing: [1, 3]"));
        assert_eq!(step(2, None, [empty(3, &all)]), Step::Begin);
        assert!(votes(&step(3, None, [empty(2, &all)]), "node 2 begins"));
        assert!(votes(&step(2, None, [empty(1, &all), empty(3, &all)]), "node 1 begins"));
        assert_eq!(step(1, None, [empty(2, &all), empty(3, &all)]), Step::Begin);
    }

    #[test]
    fn who_hears_of_a_quorum_asks_it_first() {
        assert_eq!(step(1, None, [empty(2, &[1, 2, 3]), formed(3, 7)]), Step::Ask(vec![3]));
        assert_eq!(step(1, Some(7), [formed(2, 7), formed(3, 7)]), Step::Ask(vec![2, 3]));
        // One without metadata cannot have had this node's vote before.
        let begun = (2, Probed { initialized: true, ..empty(2, &[1, 2, 3]).1 });
        assert!(votes(&step(1, None, [begun]), "node 2 has begun"));
    }

    #[test]
    fn who_lost_its_metadata_does_not_begin_anew() {
        let heard = [empty(2, &[1, 2, 3]), empty(3, &[1, 2, 3])];
        assert!(waits(&step(1, Some(7), heard), "was its directory `raft` removed?"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let Step::StayOut(problem) = step(1, Some(7), [formed(2, 8)]) else { panic!("it takes part") };
        assert!(problem.contains("node 2 to cluster"), "{problem}");
        let Step::StayOut(problem) = step(1, None, [empty(2, &[1, 2])]) else { panic!("it takes part") };
        assert!(problem.contains("{1, 2}") && problem.contains("{1, 2, 3}"), "{problem}");
        // A node that runs by itself, and one that isn't listed, count for nothing.
        let alone =
            (2, Probed { role: Role::Voter, has_metadata: true, initialized: true, ..empty(2, &[]).1 });
        assert!(waits(&step(1, None, [alone, empty(9, &[1, 2, 3])]), "1 of 3 voters"));
    }
}
