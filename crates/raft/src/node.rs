//! A node of the quorum, as its owner holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId};
use chronik_meta::{Command, Image, Results};
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::core::Core;
use crate::driver::Driver;
use crate::error::{StartError, WriteError};
use crate::machine::Machine;
use crate::network::{Links, Network};
use crate::options::{RaftOptions, Timing};
use crate::status::{Leadership, RaftStatus};
use crate::storage::{self, Cut, StorageOptions};
use crate::types::{Payload, Raft, raft_id};
use crate::writer::{self, Submission};

/// A segment of the log that is larger than this gets a successor.
const SEGMENT_BYTES: u64 = 4 << 20;

/// The largest set of commands that travels as one entry.
const MAX_WRITE_BYTES: usize = 64 << 20;

/// Entries that are kept behind a snapshot, so that a voter that was away for a moment needs no snapshot.
const KEEP_ENTRIES: u64 = 1000;

/// A node of the metadata quorum. Copies are cheap and stand for the same one; it ends with [`RaftNode::shutdown`], or when the last copy goes.
#[derive(Clone)]
pub struct RaftNode {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) initial_image: Option<Arc<Image>>,
    submissions: mpsc::UnboundedSender<Submission>,
    tasks: Vec<JoinHandle<()>>,
    cut: Option<Cut>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.closing.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
        // What is under way may hold the library for a while yet: it shall not go on without an owner.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let core = Arc::clone(&self.core);
            runtime.spawn(async move { core.stop().await });
        }
    }
}

impl RaftNode {
    /// Starts the node on what its directory holds. A node with an empty directory waits: for [`RaftNode::initialize`], or for a leader that
    /// was told to add it.
    ///
    /// # Errors
    /// See [`StartError`]; damaged files are never started on.
    pub async fn start(options: RaftOptions) -> Result<Self, StartError> {
        options.check()?;
        let me = raft_id(options.node);
        let storage_options = StorageOptions {
            directory: options.directory.clone(),
            durable: options.durable,
            segment_bytes: SEGMENT_BYTES,
        };
        let opened = tokio::task::spawn_blocking(move || storage::open(&storage_options)).await;
        let opened = opened.map_err(|error| StartError::Library(error.to_string()))??;
        if let Some(cut) = &opened.cut {
            tracing::warn!(
                "cut {} bytes off {} at byte {}: {}; they were never acknowledged",
                cut.bytes,
                cut.path.display(),
                cut.position,
                cut.reason
            );
        }
        let log = opened.log.clone();
        let snapshots = opened.snapshot_file;
        let (machine, applied) = Machine::start(snapshots.clone(), log.clone(), options.on_change)?;
        let links = Arc::new(Links::new(me, options.transport));
        let config = Arc::new(library_config(&options.timing));
        let raft = Raft::new(me, config, Network(Arc::clone(&links)), opened.log, machine).await;
        let raft = raft.map_err(|error| StartError::Library(error.to_string()))?;
        // Once it answers, its metrics say what was found, and no longer what is true of every node.
        let ready = raft.with_raft_state(|_| ()).await;
        ready.map_err(|error| StartError::Library(error.to_string()))?;
        let core = Arc::new(Core::new(
            me,
            options.timing,
            raft,
            links,
            applied,
            log,
            snapshots,
            options.snapshot_after_bytes,
        ));
        let (submissions, receiver) = mpsc::unbounded_channel();
        let tasks = vec![
            tokio::spawn(Driver::new(Arc::clone(&core)).run()),
            tokio::spawn(writer::run(Arc::clone(&core), receiver)),
        ];
        let initial_image = options.initial_image;
        Ok(Self { inner: Arc::new(Inner { core, initial_image, submissions, tasks, cut: opened.cut }) })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// True if this node has a vote or a log: it belongs to a quorum already.
    pub fn is_initialized(&self) -> bool {
        self.core().log.has_begun()
    }

    /// The image as of the last entry that is applied on this node.
    pub fn image(&self) -> Arc<Image> {
        self.core().machine.image()
    }

    /// Has commands written and applied, in order: each is checked against the image that those before it make, and one that is refused changes
    /// nothing. On the leader only. The answer comes once this node's image has them and its `on_change` has returned.
    ///
    /// # Errors
    /// See [`WriteError`]. All but [`WriteError::TimedOut`], [`WriteError::Stopped`] and [`WriteError::Closed`] mean that nothing was, or will
    /// be, written.
    pub async fn write(&self, commands: Vec<Command>) -> Result<Results, WriteError> {
        let payload = Payload::commands(&commands);
        if payload.0.len() > MAX_WRITE_BYTES {
            return Err(WriteError::TooLarge { bytes: payload.0.len(), limit: MAX_WRITE_BYTES });
        }
        self.submit(payload, commands.len()).await
    }

    pub(crate) async fn submit(&self, payload: Payload, count: usize) -> Result<Results, WriteError> {
        let (done, outcome) = oneshot::channel();
        let submission = Submission { payload, count, done };
        self.inner.submissions.send(submission).map_err(|_| WriteError::Closed)?;
        outcome.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Who leads, as far as it is known on this node: nobody while none was heard of for an election timeout, or while this node leads
    /// without a majority.
    pub fn leader(&self) -> Option<NodeId> {
        self.core().leader(&self.core().metrics(), Instant::now())
    }

    /// True if this node leads and may act on it: a majority said so within the lease, and everything that earlier leaders acknowledged is
    /// applied. It is computed from the clock at each call, so it is right at once after the process was paused.
    pub fn is_leader(&self) -> bool {
        self.core().is_serving(&self.core().metrics(), Instant::now())
    }

    /// Asks a majority whether this node still leads, and waits until all that was written before is applied here.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`], [`WriteError::NoQuorum`], [`WriteError::Stopped`].
    pub async fn confirm_leader(&self) -> Result<(), WriteError> {
        if let Some(error) = writer::obstacle(self.core()) {
            return Err(error);
        }
        let timeout = self.core().timing.write_timeout;
        match tokio::time::timeout(timeout, self.core().raft.ensure_linearizable()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(writer::obstacle(self.core()).unwrap_or_else(|| match error.fatal() {
                Some(fatal) => WriteError::Stopped(fatal.to_string()),
                None => WriteError::NotLeader { leader: None },
            })),
            Err(_) => Err(WriteError::TimedOut { waited_ms: timeout.as_millis() as u64 }),
        }
    }

    /// Changes of who leads.
    pub fn watch(&self) -> watch::Receiver<Leadership> {
        self.core().leadership.subscribe()
    }

    /// Answers a request of another node, of kind 1 to 15.
    pub fn handle(&self, from: NodeId, kind: u8, payload: Bytes) -> BoxFuture<Result<Bytes, String>> {
        let core = Arc::clone(self.core());
        Box::pin(async move { core.answer(from, kind, payload).await })
    }

    /// What the quorum looks like from here.
    pub fn status(&self) -> RaftStatus {
        self.core().status()
    }

    /// The end of the log that was cut off at the start, if there was a torn one.
    pub fn cut(&self) -> Option<&Cut> {
        self.inner.cut.as_ref()
    }

    /// Says that the connection to a node broke or was refused. If it is the leader, this node does not wait longer than the lease before it asks
    /// the others for their votes.
    pub fn on_lost(&self, node: NodeId) {
        let core = self.core();
        if core.raft.metrics().borrow().current_leader == Some(raft_id(node)) {
            core.election().on_leader_lost(Instant::now());
        }
    }

    /// Stands for election now. Voters that hear a leader refuse all the same.
    pub async fn trigger_election(&self) {
        self.core().election().on_attempt(Instant::now());
        if let Err(error) = self.core().raft.trigger().elect().await {
            tracing::debug!("no election: {error}");
        }
    }

    /// Gives up leading: writes are refused and signs of life end, so that another node is elected when the lease is over (the library can't hand
    /// leadership to a chosen node). True when this node leads no more; false if nobody took over within three of the longest election timeouts:
    /// it leads again then, since a quorum with a tired leader is better than one without.
    pub async fn step_down(&self) -> bool {
        let core = self.core();
        if core.metrics().current_leader != Some(core.me) {
            return true;
        }
        core.resigning.store(true, Ordering::Relaxed);
        let mut watch = self.watch();
        let elected = watch.wait_for(|known| known.leader.is_some_and(|leader| raft_id(leader) != core.me));
        let took_over = tokio::time::timeout(core.timing.election_max * 3, elected).await.is_ok();
        if !took_over {
            core.resigning.store(false, Ordering::Relaxed);
        }
        took_over
    }

    /// Ends this node's part: tasks, threads and files. Writes under way are answered with an error.
    pub async fn shutdown(&self) {
        let core = self.core();
        core.closing.store(true, Ordering::Relaxed);
        for task in &self.inner.tasks {
            task.abort();
        }
        core.stop().await;
    }

    /// Waits until this node may act as the leader.
    pub(crate) async fn wait_until_serving(&self, timeout: Duration) -> Result<(), WriteError> {
        let mut watch = self.watch();
        match tokio::time::timeout(timeout, watch.wait_for(|known| known.serving)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(WriteError::Closed),
            Err(_) => Err(writer::obstacle(self.core())
                .unwrap_or(WriteError::TimedOut { waited_ms: timeout.as_millis() as u64 })),
        }
    }

    /// The voters, with their addresses.
    pub(crate) fn voters(&self) -> BTreeMap<NodeId, String> {
        self.status().voters
    }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RaftNode({})", self.core().me)
    }
}

/// The library's own timers are off: see [`Driver`]. What is left of its settings is the lease (`election_timeout_max`), how long an answer to a
/// vote (`election_timeout_min`) or to entries (`heartbeat_interval`) is waited for, and what is kept behind a snapshot.
fn library_config(timing: &Timing) -> Config {
    let lease_ms = u64::try_from(timing.lease().as_millis()).unwrap_or(u64::MAX).max(2);
    Config {
        cluster_name: "chronik".to_owned(),
        election_timeout_min: lease_ms / 2,
        election_timeout_max: lease_ms,
        heartbeat_interval: lease_ms,
        enable_heartbeat: false,
        enable_elect: false,
        max_payload_entries: 1000,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        purge_batch_size: 256,
        ..Config::default()
    }
}

/// Ids as the library has them.
pub(crate) fn raft_ids(nodes: impl IntoIterator<Item = NodeId>) -> BTreeSet<u64> {
    nodes.into_iter().map(raft_id).collect()
}
