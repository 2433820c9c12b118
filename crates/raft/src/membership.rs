//! The voters: how they begin, how they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik_base::NodeId;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};

use crate::core::Core;
use crate::error::{ChangeError, WriteError};
use crate::node::{RaftNode, raft_ids};
use crate::types::{Payload, count, node_id, raft_id};
use crate::writer;

/// How often the growth of a quorum looks whether enough nodes have caught up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A learner that misses no more entries than this may become a voter.
const CAUGHT_UP: u64 = 100;

type LibraryError = RaftError<u64, ClientWriteError<u64, BasicNode>>;

impl RaftNode {
    /// Begins a quorum of `voters` (ids with addresses). Called on one of them; the others just start, and learn of it from this one. On a node
    /// that has begun it does nothing, so that it may be called at each start.
    ///
    /// With an `initial_image` this node begins as the only voter, writes the image into the log, and then takes the others in: in the
    /// background, when so many of them have caught up that the larger quorum has a majority. A crash in between loses nothing: called again
    /// with the same image, it goes on where it was. So call it at each start until [`RaftStatus::voters`](crate::RaftStatus::voters) has them all,
    /// and without an `initial_image` from then on.
    ///
    /// # Errors
    /// [`ChangeError::Voters`] if this node is not among them; [`ChangeError::Write`] if the image could not be written.
    pub async fn initialize(&self, voters: BTreeMap<NodeId, String>) -> Result<(), ChangeError> {
        let core = self.core();
        let me = node_id(core.me);
        if !voters.contains_key(&me) || voters.keys().any(|id| *id < 0) {
            return Err(ChangeError::Voters { node: me, voters: voters.into_keys().collect() });
        }
        let Some(image) = self.inner.initial_image.clone().filter(|image| image.offset() > 0) else {
            return self.begin(&voters).await;
        };
        self.begin(&voters.iter().filter(|(id, _)| **id == me).map(clone_pair).collect()).await?;
        if self.voters().keys().any(|id| *id != me) {
            return Ok(());
        }
        self.wait_until_serving(core.timing.write_timeout).await?;
        if self.image().offset() == 0 {
            self.submit(Payload::image(&image), 0).await?;
            tracing::info!(commands = image.offset(), "the metadata of this node begins a quorum");
        }
        if voters.len() > 1 {
            let node = Arc::downgrade(&self.inner);
            let others: BTreeMap<_, _> = voters.iter().filter(|(id, _)| **id != me).map(clone_pair).collect();
            tokio::spawn(async move {
                loop {
                    let Some(inner) = node.upgrade() else { return };
                    let node = RaftNode { inner };
                    match node.grow(&others).await {
                        Ok(true) => return,
                        Ok(false) => {}
                        Err(error) => tracing::debug!("the quorum does not grow yet: {error}"),
                    }
                    drop(node);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            });
        }
        Ok(())
    }

    async fn begin(&self, voters: &BTreeMap<NodeId, String>) -> Result<(), ChangeError> {
        if self.is_initialized() {
            return Ok(());
        }
        let members: BTreeMap<u64, BasicNode> =
            voters.iter().map(|(id, address)| (raft_id(*id), BasicNode::new(address))).collect();
        match self.core().raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(openraft::error::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(WriteError::Stopped(error.to_string()).into()),
        }
    }

    /// One step from a single voter to all: the others learn, and get their votes together once the larger quorum would have a majority.
    async fn grow(&self, others: &BTreeMap<NodeId, String>) -> Result<bool, ChangeError> {
        let core = self.core();
        let status = self.status();
        if core.closing.load(std::sync::atomic::Ordering::Relaxed) || status.voters.len() > 1 {
            return Ok(true);
        }
        if !status.serving {
            return Ok(false);
        }
        if status.purged == 0 {
            // A learner that finds the log's front gone is sent the snapshot, in pieces, rather than one entry with the whole image.
            if status.snapshot == 0 {
                self.snapshot().await;
                return Ok(false);
            }
            let _ = core.raft.trigger().purge_log(status.snapshot - 1).await;
        }
        for (id, address) in others {
            if !status.learners.contains_key(id) {
                self.bounded(core.raft.add_learner(raft_id(*id), BasicNode::new(address), false)).await?;
            }
        }
        let ready =
            self.status().followers.iter().filter(|f| others.contains_key(&f.node) && f.lag == 0).count();
        // With this node itself, which has everything, they are a majority of the larger quorum.
        if ready < others.len().div_ceil(2) {
            return Ok(false);
        }
        self.bounded(
            core.raft.change_membership(ChangeMembers::AddVoterIds(raft_ids(others.keys().copied())), true),
        )
        .await?;
        tracing::info!(voters = ?self.voters().keys(), "the metadata quorum has grown");
        Ok(true)
    }

    /// Has a snapshot written now; it is there a little later.
    pub async fn snapshot(&self) {
        if let Err(error) = self.core().raft.trigger().snapshot().await {
            tracing::debug!("no snapshot: {error}");
        }
    }

    /// Makes a node a voter: it learns the log first, and gets its vote when it has caught up. On the leader only. A node that is a voter already
    /// gets the address.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_voter(&self, id: NodeId, address: String) -> Result<(), ChangeError> {
        if let Some(error) = writer::obstacle(self.core()) {
            return Err(error.into());
        }
        let core = self.core();
        let status = self.status();
        if id < 0 {
            return Err(ChangeError::Voters { node: status.node, voters: vec![id] });
        }
        if status.changing {
            return Err(ChangeError::InProgress);
        }
        let known = status.voters.get(&id).or(status.learners.get(&id));
        if known.is_some_and(|known| *known != address) {
            let node = BTreeMap::from([(raft_id(id), BasicNode::new(&address))]);
            self.bounded(core.raft.change_membership(ChangeMembers::SetNodes(node), true)).await?;
        }
        if status.voters.contains_key(&id) {
            return Ok(());
        }
        self.bounded(core.raft.add_learner(raft_id(id), BasicNode::new(&address), false)).await?;
        self.wait_for_learner(id).await?;
        let voter = ChangeMembers::AddVoterIds(raft_ids([id]));
        self.bounded(core.raft.change_membership(voter, true)).await?;
        tracing::info!(node = id, voters = ?self.voters().keys(), "a voter was added");
        Ok(())
    }

    /// Waits until a learner answers and misses next to nothing. (The library's own waiting takes a node that never answered for one that has
    /// caught up, while the log is short.)
    async fn wait_for_learner(&self, id: NodeId) -> Result<(), ChangeError> {
        let core = self.core();
        let began = Instant::now();
        loop {
            let status = self.status();
            let Some(follower) = status.followers.into_iter().find(|follower| follower.node == id) else {
                if let Some(error) = writer::obstacle(core) {
                    return Err(error.into());
                }
                return Err(ChangeError::InProgress);
            };
            let answers = follower.answered_ago.is_some_and(|ago| ago < core.timing.election_max * 2);
            if answers && follower.matched > 0 && follower.lag <= CAUGHT_UP {
                return Ok(());
            }
            if began.elapsed() > core.timing.change_timeout {
                let waited_ms = core.timing.change_timeout.as_millis() as u64;
                let problem = follower.problem.unwrap_or_else(|| "it answers".to_owned());
                return Err(ChangeError::NotCaughtUp { node: id, waited_ms, lag: follower.lag, problem });
            }
            tokio::time::sleep(LOOK_AGAIN / 5).await;
        }
    }

    /// Takes a voter's vote, and the log, from it. On the leader only; a leader that removes itself leads until that is through.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove_voter(&self, id: NodeId) -> Result<(), ChangeError> {
        if let Some(error) = writer::obstacle(self.core()) {
            return Err(error.into());
        }
        let core = self.core();
        let status = self.status();
        if status.changing {
            return Err(ChangeError::InProgress);
        }
        if status.learners.contains_key(&id) {
            let gone = ChangeMembers::RemoveNodes(raft_ids([id]));
            return self.bounded(core.raft.change_membership(gone, false)).await;
        }
        if !status.voters.contains_key(&id) {
            return Err(ChangeError::NotAVoter { node: id, voters: status.voters.into_keys().collect() });
        }
        if status.voters.len() == 1 {
            return Err(ChangeError::LastVoter(id));
        }
        let gone = ChangeMembers::RemoveVoters(BTreeSet::from([raft_id(id)]));
        self.bounded(core.raft.change_membership(gone, false)).await?;
        tracing::info!(node = id, "a voter was removed");
        Ok(())
    }

    async fn bounded<T>(
        &self,
        change: impl Future<Output = Result<T, LibraryError>>,
    ) -> Result<(), ChangeError> {
        let timeout = self.core().timing.write_timeout;
        match tokio::time::timeout(timeout, change).await {
            Ok(result) => result.map(drop).map_err(|error| change_error(self.core(), error)),
            Err(_) => Err(WriteError::TimedOut { waited_ms: timeout.as_millis() as u64 }.into()),
        }
    }
}

fn clone_pair((id, address): (&NodeId, &String)) -> (NodeId, String) {
    (*id, address.clone())
}

fn change_error(core: &Core, error: LibraryError) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            WriteError::NotLeader { leader: forward.leader_id.map(node_id) }.into()
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(
            _,
        ))) => ChangeError::InProgress,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            tracing::debug!(applied = count(core.metrics().last_applied.map(|id| id.index)), "{error}");
            ChangeError::InProgress
        }
        RaftError::Fatal(error) => WriteError::Stopped(error.to_string()).into(),
    }
}
