//! What a node knows of the metadata's health, for people and for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chronik_base::{NodeId, Uuid};
use chronik_meta::{MetaOffset, SessionStatus};

use crate::inner::{Inner, Matter, Store, lock};
use crate::message::Role;

/// The metadata's health as one node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuorumStatus {
    /// This node.
    pub node: NodeId,
    /// How it takes part.
    pub role: Role,
    /// The cluster; [`Uuid::ZERO`] if there is none yet.
    pub cluster_id: Uuid,
    /// Who decides, if anybody does.
    pub leader: Option<NodeId>,
    /// Raft's term; with one voter its generation.
    pub term: u64,
    /// How often an operator made a follower the voter.
    pub generation: u64,
    /// Milliseconds since when nobody is known to decide.
    pub leaderless_ms: Option<u64>,
    /// The voters by id.
    pub voters: Vec<VoterStatus>,
    /// Nodes that fetch metadata from this one.
    pub observers: Vec<ObserverStatus>,
    /// The number of the last command in this node's image.
    pub offset: MetaOffset,
    /// The sessions of the brokers; only on the leader.
    pub sessions: Vec<SessionStatus>,
    /// Raft's own numbers.
    pub raft: Option<RaftNumbers>,
    /// The epoch of this node's registration.
    pub broker_epoch: Option<i64>,
    /// What is wrong, each in a sentence: with this node, then with others.
    pub problems: Vec<String>,
}

/// A voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterStatus {
    /// Its id.
    pub node: NodeId,
    /// Where it is reached; may be empty.
    pub address: String,
    /// Log entries that it lacks; known on the leader.
    pub lag: Option<u64>,
    /// Milliseconds since it acknowledged last; known on the leader.
    pub acknowledged_ms: Option<u64>,
}

/// A node that fetches metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserverStatus {
    /// Its id.
    pub node: NodeId,
    /// The number of the last command that it has.
    pub offset: MetaOffset,
    /// Commands that it lacks.
    pub lag: u64,
    /// Milliseconds since it asked last. It asks anew with each change, and every 5 s.
    pub fetched_ms: u64,
}

/// Raft's own numbers; entries of its log are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftNumbers {
    /// The last entry in this node's log.
    pub last_log: u64,
    /// The last entry that a majority has.
    pub committed: u64,
    /// The last entry that is in the image.
    pub applied: u64,
    /// The last entry that is in the snapshot.
    pub snapshot: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Times that this node was elected since it started.
    pub elected: u64,
    /// True while the set of voters is being changed.
    pub is_changing: bool,
}

/// Counts since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumCounters {
    /// Commands submitted on this node.
    pub submitted: u64,
    /// Times that a submission was sent to another node.
    pub forwarded: u64,
    /// Submissions refused because there was no quorum.
    pub no_quorum: u64,
    /// Submissions of which nobody said in time what became of them.
    pub timed_out: u64,
    /// Brokers that this node, as leader, took for dead.
    pub fenced: u64,
    /// Snapshots made for observers.
    pub snapshots_made: u64,
    /// Snapshots taken in as an observer.
    pub snapshots_taken: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    submitted: AtomicU64,
    forwarded: AtomicU64,
    no_quorum: AtomicU64,
    timed_out: AtomicU64,
    fenced: AtomicU64,
    snapshots_made: AtomicU64,
    snapshots_taken: AtomicU64,
}

impl Counts {
    pub(crate) fn submitted(&self, commands: usize) {
        self.submitted.fetch_add(commands as u64, Ordering::Relaxed);
    }

    pub(crate) fn forwarded(&self) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn no_quorum(&self) {
        self.no_quorum.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn timed_out(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fenced(&self) {
        self.fenced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_made(&self) {
        self.snapshots_made.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_taken(&self) {
        self.snapshots_taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> QuorumCounters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        QuorumCounters {
            submitted: read(&self.submitted),
            forwarded: read(&self.forwarded),
            no_quorum: read(&self.no_quorum),
            timed_out: read(&self.timed_out),
            fenced: read(&self.fenced),
            snapshots_made: read(&self.snapshots_made),
            snapshots_taken: read(&self.snapshots_taken),
        }
    }
}

impl Inner {
    pub(crate) fn status(self: &Arc<Self>) -> QuorumStatus {
        let (now, view, offset) = (self.now(), self.view(), self.published.applied());
        let (role, image) = (self.role(), self.image());
        let raft = match &self.store {
            Store::Raft(raft) => Some(raft.status()),
            Store::Local(_) => None,
        };
        let voters = view.voters.iter().map(|(node, address)| {
            let follower =
                raft.iter().flat_map(|raft| &raft.followers).find(|follower| follower.node == *node);
            VoterStatus {
                node: *node,
                address: address.clone(),
                lag: follower.map(|follower| follower.lag),
                acknowledged_ms: follower
                    .and_then(|follower| follower.answered_ago)
                    .map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            }
        });
        let observers = self.fetches.observers(self.now()).into_iter().map(|(node, seen)| ObserverStatus {
            node,
            offset: seen.offset,
            lag: offset.saturating_sub(seen.offset),
            fetched_ms: now.saturating_sub(seen.at_ms),
        });
        let (own, leaderless) = {
            let known = lock(&self.known);
            (known.problem.clone().into_iter().chain(known.waiting.clone()), known.leaderless_since)
        };
        let of_others = lock(&self.problems)
            .iter()
            .map(|((node, _), problem)| format!("node {node}: {problem}"))
            .collect::<Vec<_>>();
        QuorumStatus {
            node: self.me(),
            role,
            cluster_id: image.cluster_id(),
            leader: view.leader,
            term: view.term,
            generation: view.generation,
            leaderless_ms: leaderless
                .filter(|_| view.leader.is_none())
                .map(|since| now.saturating_sub(since)),
            voters: voters.collect(),
            observers: observers.collect(),
            offset,
            sessions: self.sessions(),
            broker_epoch: self.broker_epoch(),
            problems: own
                .chain(raft.iter().filter_map(|raft| raft.problem.clone()))
                .chain(of_others)
                .collect(),
            raft: raft.map(|raft| RaftNumbers {
                last_log: raft.last_log,
                committed: raft.committed,
                applied: raft.applied,
                snapshot: raft.snapshot,
                log_bytes: raft.log_bytes,
                elected: raft.elected,
                is_changing: raft.changing,
            }),
        }
    }

    /// Why this node can't serve yet; `None` once it is registered and let in.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let (problem, waiting) = {
            let known = lock(&self.known);
            (known.problem.clone(), known.waiting.clone())
        };
        let refused = lock(&self.problems).get(&(self.me(), Matter::Registration)).cloned();
        if let Some(problem) = problem.or(refused) {
            return Some(problem);
        }
        let image = self.image();
        let own =
            image.broker(self.me()).filter(|broker| broker.incarnation == self.registration.incarnation);
        match own {
            Some(broker) if !broker.fenced => None,
            // Without a voter to ask it serves what it has.
            _ if waiting.is_some() => waiting,
            Some(_) => Some("the metadata leader has not let this node in yet".to_owned()),
            None if image.cluster_id().is_zero() => Some("there is no metadata here yet".to_owned()),
            None => Some("this node is not registered with the metadata leader yet".to_owned()),
        }
    }
}
