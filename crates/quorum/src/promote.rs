//! One voter and its followers: an operator may make a follower the voter. A generation, raised by that and carried by every call, tells the
//! earlier voter when it returns; it steps back and follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chronik_base::NodeId;
use tokio::time::sleep;

use crate::inner::{Inner, Store, lock};
use crate::message::{self, Caller, Role, View, kind};

/// The pause between two attempts to reach nodes that have not heard of the new voter.
const AGAIN: Duration = Duration::from_secs(1);

impl Inner {
    /// Makes this follower the voter, with the copy that it has.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub(crate) async fn promote(self: &Arc<Self>) -> Result<(), String> {
        let Store::Local(_) = &self.store else {
            return Err("this node is a voter of a Raft quorum, which elects its leader by itself".to_owned());
        };
        let cluster = self.image().cluster_id();
        let standing = {
            let mut known = lock(&self.known);
            if !known.observes {
                return Err("this node is the voter already".to_owned());
            }
            if known.view.voters.len() > 1 {
                let voters: Vec<NodeId> = known.view.voters.iter().map(|(node, _)| *node).collect();
                return Err(format!(
                    "the voters are {voters:?}: they elect a leader by themselves as long as a majority of them lives"
                ));
            }
            if cluster.is_zero() {
                return Err("this node has no copy of the metadata yet".to_owned());
            }
            let mut standing = known.standing.clone();
            standing.generation += 1;
            standing.data = standing.generation;
            standing.voter = None;
            standing.decides = Some(true);
            standing.write(&self.data_dir, self.durable).map_err(|error| error.to_string())?;
            known.standing = standing.clone();
            known.observes = false;
            known.leaderless_since = None;
            standing
        };
        tracing::warn!(
            "this node is the voter from now on, in generation {}, with the metadata up to change {}; the earlier voter follows it when it returns",
            standing.generation,
            self.image().offset()
        );
        self.turn();
        Ok(())
    }

    /// Tells all registered brokers that this node is the voter, until each has heard it; and learns from them if it is not (any more).
    pub(crate) async fn announce(self: Arc<Self>) {
        let mut told: BTreeSet<NodeId> = BTreeSet::new();
        let mut generation = 0;
        loop {
            let mut turns = self.turns.subscribe();
            let mut applied = self.published.watch();
            let current = lock(&self.known).standing.generation;
            if self.role() != Role::Voter || self.transport.is_none() {
                if turns.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if current != generation {
                told.clear();
                generation = current;
            }
            let image = self.image();
            let untold: Vec<NodeId> = image
                .brokers()
                .map(|broker| broker.id)
                .filter(|id| *id != self.me() && !told.contains(id))
                .collect();
            for node in &untold {
                if self.tell(*node).await {
                    told.insert(*node);
                }
            }
            tokio::select! {
                () = sleep(AGAIN), if untold.iter().any(|node| !told.contains(node)) => {}
                _ = turns.changed() => {}
                _ = applied.changed() => {}
            }
        }
    }

    async fn tell(self: &Arc<Self>, node: NodeId) -> bool {
        match self.probe(node).await {
            Ok(probed) => {
                let caller = Caller { cluster_id: probed.cluster_id, generation: probed.view.generation };
                if probed.cluster_id == self.cluster() {
                    let voter = probed.view.leader.filter(|leader| *leader != self.me());
                    self.hear_generation(voter.unwrap_or(node), caller);
                }
                let payload = message::request(self.caller(), |out| out.node(self.me()));
                self.role() == Role::Voter
                    && self.call(node, kind::ANNOUNCE, payload, self.timing.session).await.is_ok()
            }
            Err(_) => false,
        }
    }

    /// Hears that `voter` decides in a generation, or knows who does.
    pub(crate) fn hear_generation(self: &Arc<Self>, voter: NodeId, caller: Caller) {
        if caller.cluster_id.is_zero() || caller.cluster_id != self.cluster() {
            return;
        }
        let mut left = None;
        let standing = {
            let mut known = lock(&self.known);
            if caller.generation <= known.standing.generation {
                return;
            }
            let mut standing = known.standing.clone();
            standing.generation = caller.generation;
            if let Store::Raft(_) = &self.store {
                // Whoever the one voter was: its metadata went into this quorum.
                standing.data = caller.generation;
            } else {
                standing.voter = Some(voter);
                if known.observes {
                    left = known.view.leader;
                } else {
                    standing.decides = Some(false);
                    standing.sources = vec![voter];
                    known.observes = true;
                    known.leaderless_since = None;
                    tracing::warn!(
                        "node {voter} knows generation {} of the voter, this node decided in generation {}: another node was promoted while this one was \
                         away. It steps back and follows; changes that only it has are given up",
                        caller.generation,
                        known.standing.generation
                    );
                }
                known.view = View {
                    leader: Some(voter),
                    term: caller.generation,
                    generation: caller.generation,
                    voters: Vec::new(),
                };
            }
            known.standing = standing.clone();
            standing
        };
        if let Err(error) = standing.write(&self.data_dir, self.durable) {
            tracing::error!("who decides can't be written down: {error}");
        }
        if let Some(left) = left {
            // What is asked of the earlier voter need not be waited for. Nobody may be asking.
            let _ = self.duties.lost.send(left);
        }
        self.turn();
    }
}
