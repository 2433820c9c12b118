//! What the parts of a [`Quorum`](crate::Quorum) share: who this node is, the store, and what is known of the leader.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{CallError, Clock, NodeId, Transport, Uuid};
use chronik_meta::{Image, MetaHandle, MetaOffset};
use chronik_raft::RaftNode;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::duties::Duties;
use crate::fetch::Fetches;
use crate::generation::Standing;
use crate::guard::cluster_of;
use crate::message::{Caller, Role, View};
use crate::options::{OnRestart, PeerEvent, Registration, Timing};
use crate::published::Published;
use crate::remembered::Remembered;
use crate::status::Counts;

/// Where the metadata are.
pub(crate) enum Store {
    /// In this node's own store: it is the only voter, or it follows.
    Local(MetaHandle),
    /// In a Raft quorum that this node is part of, or is to become part of.
    Raft(RaftNode),
}

/// What is known of who decides.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) standing: Standing,
    /// True for a node that follows others with its own store.
    pub(crate) observes: bool,
    /// What an observer heard last; a Raft node asks its own.
    pub(crate) view: View,
    /// Who led last, as far as this node heard, and who before.
    pub(crate) last_leaders: [Option<NodeId>; 2],
    /// Since when nobody is known to lead, on the monotonic clock in milliseconds.
    pub(crate) leaderless_since: Option<u64>,
    /// What a node without metadata waits for.
    pub(crate) waiting: Option<String>,
    /// True once this process was registered.
    pub(crate) was_registered: bool,
    /// What keeps this node from taking part, in words for its operator.
    pub(crate) problem: Option<String>,
}

pub(crate) struct Inner {
    pub(crate) registration: Registration,
    pub(crate) data_dir: PathBuf,
    pub(crate) durable: bool,
    pub(crate) timing: Timing,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    /// What the data directory belongs to, if it is not new.
    pub(crate) cluster_id: Option<Uuid>,
    pub(crate) new_cluster_id: Uuid,
    /// The voters that this node was started with.
    pub(crate) listed: Vec<(NodeId, String)>,
    /// This node began the quorum alone, with the metadata of a standalone run, and takes the listed ones in.
    pub(crate) takes_in: bool,
    pub(crate) replicate_everything: bool,
    pub(crate) rebalance_leaders: bool,
    pub(crate) on_restart: OnRestart,
    pub(crate) store: Store,
    pub(crate) published: Arc<Published>,
    pub(crate) known: Mutex<Known>,
    /// Counts changes of the leader, the role and the registration: whoever waits for one of them looks again.
    pub(crate) turns: watch::Sender<u64>,
    pub(crate) duties: Duties,
    pub(crate) remembered: Remembered,
    pub(crate) fetches: Fetches,
    pub(crate) peers: Mutex<BTreeMap<NodeId, PeerEvent>>,
    /// What is wrong with other nodes.
    pub(crate) problems: Mutex<BTreeMap<(NodeId, Matter), String>>,
    /// Ids given to nodes that have not registered yet, by the id of their data directory.
    pub(crate) promised: Mutex<BTreeMap<Uuid, NodeId>>,
    pub(crate) counts: Counts,
    pub(crate) sequence: AtomicU64,
    /// A node of a quorum that may answer Raft's calls: see [`crate::voters`].
    pub(crate) votes: AtomicBool,
    /// Changes of the voters go one after the other.
    pub(crate) changing_voters: Arc<tokio::sync::Mutex<()>>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
    /// Whoever submits may be on a thread that is none of the runtime's.
    pub(crate) runtime: Handle,
}

/// What a problem with another node is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Matter {
    /// Its registration: only this node's own.
    Registration,
    /// Its calls.
    Calls,
    /// Its answers.
    Answers,
    /// Its metadata.
    Metadata,
    /// Its place among the voters.
    Vote,
    /// Its invitation.
    Invitation,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn me(&self) -> NodeId {
        self.registration.node_id
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.published.image()
    }

    pub(crate) fn role(&self) -> Role {
        match &self.store {
            Store::Raft(_) => Role::Raft,
            Store::Local(_) if lock(&self.known).observes => Role::Observer,
            Store::Local(_) => Role::Voter,
        }
    }

    /// Whether this node may decide now.
    pub(crate) fn is_leader(&self) -> bool {
        match &self.store {
            Store::Raft(raft) => raft.is_leader(),
            Store::Local(_) => !lock(&self.known).observes,
        }
    }

    /// Who decides, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match &self.store {
            Store::Raft(raft) => raft.leader(),
            Store::Local(_) => {
                let known = lock(&self.known);
                if known.observes { known.view.leader } else { Some(self.me()) }
            }
        }
    }

    /// What this node tells others of who decides.
    pub(crate) fn view(&self) -> View {
        match &self.store {
            Store::Raft(raft) => {
                let status = raft.status();
                let voters: Vec<_> = status.voters.into_iter().collect();
                View {
                    leader: raft.leader(),
                    term: status.term,
                    generation: lock(&self.known).standing.generation,
                    voters: if voters.is_empty() { self.listed.clone() } else { voters },
                }
            }
            Store::Local(_) => {
                let known = lock(&self.known);
                if known.observes {
                    return known.view.clone();
                }
                let generation = known.standing.generation;
                View {
                    leader: Some(self.me()),
                    term: generation,
                    generation,
                    voters: vec![(self.me(), self.address())],
                }
            }
        }
    }

    /// Where other nodes reach this one.
    pub(crate) fn address(&self) -> String {
        address_of(&self.registration.endpoints)
    }

    /// The cluster that this node belongs to; [`Uuid::ZERO`] if none yet.
    pub(crate) fn cluster(&self) -> Uuid {
        cluster_of(&self.published, self.cluster_id)
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { cluster_id: self.cluster(), generation: lock(&self.known).standing.generation }
    }

    pub(crate) async fn call(
        &self,
        to: NodeId,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        match &self.transport {
            Some(transport) => transport.call(to, kind, payload, timeout).await,
            None => Err(CallError::UnknownNode(to)),
        }
    }

    /// Wakes whoever waits for another leader, role or registration.
    pub(crate) fn turn(&self) {
        self.turns.send_modify(|count| *count += 1);
    }

    /// Notes who leads, as an observer hears it. The word of an earlier generation or term counts for nothing.
    pub(crate) fn hear_view(&self, view: &View) {
        let now = self.now();
        {
            let mut known = lock(&self.known);
            let is_old = (view.generation, view.term) < (known.view.generation, known.view.term);
            if !known.observes || is_old || known.view == *view {
                return;
            }
            if known.view.leader != view.leader {
                known.leaderless_since = view.leader.is_none().then_some(now);
            }
            known.view = view.clone();
        }
        self.turn();
    }

    /// An observer hears that somebody else leads, or that none of its sources answers.
    pub(crate) fn hear_leader(&self, leader: Option<NodeId>) {
        let now = self.now();
        {
            let mut known = lock(&self.known);
            if !known.observes || known.view.leader == leader {
                return;
            }
            known.view.leader = leader;
            known.leaderless_since = leader.is_none().then_some(now);
        }
        self.turn();
    }

    /// Waits until the image has the command with the number `offset` and the owner has heard of it.
    pub(crate) async fn applied(&self, offset: MetaOffset) {
        let mut applied = self.published.watch();
        // The sender lives as long as this.
        let _ = applied.wait_for(|at| *at >= offset).await;
    }

    /// Says once what is wrong with a node, as seen in some matter; `None` when it is well again.
    pub(crate) fn note_problem(&self, node: NodeId, matter: Matter, problem: Option<String>) {
        let mut problems = lock(&self.problems);
        match problem {
            Some(problem) if problems.get(&(node, matter)) != Some(&problem) => {
                tracing::warn!(node, "{problem}");
                problems.insert((node, matter), problem);
            }
            Some(_) => {}
            None => {
                problems.remove(&(node, matter));
            }
        }
    }

    /// What keeps this process out of its cluster for good: said once, and kept for the status.
    pub(crate) fn stay_out(&self, problem: String) {
        let mut known = lock(&self.known);
        if known.problem.as_ref() != Some(&problem) {
            tracing::error!("{problem}");
            known.problem = Some(problem);
        }
    }

    /// Notes what this node waits for before it has metadata.
    pub(crate) fn set_waiting(&self, waiting: Option<String>) {
        lock(&self.known).waiting = waiting;
    }

    /// What keeps this node out until something changes elsewhere: said once.
    pub(crate) fn wait_outside(&self, problem: &str) {
        let mut known = lock(&self.known);
        if known.waiting.as_deref() != Some(problem) {
            tracing::error!("{problem}");
            known.waiting = Some(problem.to_owned());
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    /// The epoch of this process's registration, once the image has it.
    pub(crate) fn broker_epoch(&self) -> Option<i64> {
        let image = self.image();
        let broker = image.broker(self.me())?;
        (broker.incarnation == self.registration.incarnation).then_some(broker.epoch)
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }
}

/// Where nodes reach a broker: its `internal` endpoint, else its first one.
pub(crate) fn address_of(endpoints: &[chronik_meta::Endpoint]) -> String {
    let internal = endpoints.iter().find(|endpoint| endpoint.listener == "INTERNAL");
    internal.or(endpoints.first()).map_or_else(String::new, |endpoint| {
        if endpoint.host.contains(':') {
            format!("[{}]:{}", endpoint.host, endpoint.port)
        } else {
            format!("{}:{}", endpoint.host, endpoint.port)
        }
    })
}
