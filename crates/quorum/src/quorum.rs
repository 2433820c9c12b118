//! [`Quorum`], its start and its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId};
use chronik_meta::{Command, Image, MetaError, MetaHandle, MetaStore, Results, StoreError, StoreOptions};
use chronik_raft::{RaftNode, RaftOptions};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::duties::{Duties, Signals};
use crate::generation::{Formation, Standing, StandingError};
use crate::guard::{self, Marked};
use crate::inner::{Inner, Known, Matter, Store, lock};
use crate::join::{JoinRequest, Joined};
use crate::leave::leave_quorum;
use crate::message::{self, Membership, MembershipAnswer, View, kind};
use crate::options::{Mode, PeerEvent, QuorumOptions};
use crate::published::Published;
use crate::status::{Counts, QuorumCounters, QuorumStatus};

/// How long the earlier part of this process in a quorum may take to let go of its directory.
const DIRECTORY_FREE: Duration = Duration::from_secs(3);

/// Why the metadata can't be used.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    /// Its files can't be read or written, or hold what nobody wrote.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `quorum.toml` can't be used.
    #[error(transparent)]
    Standing(#[from] StandingError),
    /// The node can't make itself known in it.
    #[error("the node can't be registered: {0}")]
    Register(#[from] MetaError),
    /// The Raft log can't be used.
    #[error(transparent)]
    Raft(#[from] chronik_raft::StartError),
    /// The quorum of a node that was standalone can't begin.
    #[error("the metadata of the standalone run can't become a quorum's: {0}")]
    Convert(String),
    /// The directory belongs to a Raft quorum with other voters.
    #[error(
        "this data directory belongs to a voter of a Raft quorum (voters {voters:?}): start it with `raft-cluster`; to make it standalone again, first remove the \
         other voters with `chronik cluster remove-voter`"
    )]
    InQuorum {
        /// The voters.
        voters: Vec<NodeId>,
    },
    /// The metadata of a quorum of one can't be read.
    #[error("the metadata of this node's quorum can't be taken over: {0}")]
    LeaveQuorum(String),
    /// No thread could be started.
    #[error("the metadata thread can't be started: {0}; see ulimit -u")]
    Thread(#[from] std::io::Error),
    /// Other nodes are needed, and none can be reached.
    #[error("a node that works with others on metadata needs a transport to reach them")]
    NoTransport,
}

/// What the rest of a node holds of the metadata: the image to read, and a way to change it, from any node of the cluster.
#[derive(Clone)]
pub struct Quorum {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Quorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Quorum(node {}, {:?})", self.inner.me(), self.inner.role())
    }
}

impl Quorum {
    /// Starts this node's part in the metadata; within a tokio runtime. A node that decides alone is registered and has a cluster id when this
    /// returns, and is let in, if nobody else is registered or the node is ready; other nodes have the image that their disk has.
    ///
    /// # Errors
    /// What is on disk can't be used, or the disk or the system refuses.
    pub async fn start(options: QuorumOptions) -> Result<Self, QuorumError> {
        let standing = Standing::read(&options.data_dir)?;
        let signals: Arc<Signals> = Arc::default();
        let published = Arc::new(Published::new(options.on_change, Arc::clone(&signals)));
        let (mut listed, mut takes_in) = (Vec::new(), false);
        let mut known = Known {
            observes: observes(&options.mode, &standing),
            view: View { generation: standing.generation, leader: standing.voter, ..View::default() },
            last_leaders: [None; 2],
            leaderless_since: None,
            waiting: None,
            was_registered: false,
            problem: None,
            standing,
        };
        let store = match &options.mode {
            Mode::Raft { voters } => {
                listed = voters.clone();
                let transport = Arc::new(Marked {
                    transport: options.transport.clone().ok_or(QuorumError::NoTransport)?,
                    published: Arc::clone(&published),
                    of_directory: options.cluster_id,
                });
                let directory = options.data_dir.join("raft");
                let first = first_image(&options.data_dir, &known.standing, options.durable)?;
                takes_in = first.is_some();
                if takes_in {
                    known.standing.quorum = Some(Formation::TakingIn);
                    known.standing.write(&options.data_dir, options.durable)?;
                }
                let raft = start_raft(|| {
                    let feed = Arc::clone(&published);
                    RaftOptions {
                        durable: options.durable,
                        timing: options.raft.clone(),
                        initial_image: first.clone(),
                        on_change: Box::new(move |change| feed.change(change)),
                        ..RaftOptions::new(options.registration.node_id, &directory, transport.clone())
                    }
                })
                .await?;
                Store::Raft(raft)
            }
            Mode::Single | Mode::Observer { .. } => {
                if let Mode::Observer { sources } = &options.mode {
                    let old = std::mem::take(&mut known.standing.sources);
                    known.standing.sources = sources.clone();
                    known.standing.sources.extend(old.into_iter().filter(|node| !sources.contains(node)));
                }
                if known.observes && options.transport.is_none() {
                    return Err(QuorumError::NoTransport);
                }
                if options.mode == Mode::Single && known.standing.quorum.is_some() {
                    leave_quorum(
                        &options.data_dir,
                        &options.registration,
                        options.durable,
                        &mut known.standing,
                    )
                    .await?;
                }
                let existing = options.cluster_id.is_some() && !known.observes;
                let mut store = open_store(&options.data_dir, options.durable, existing)?;
                let own = store.image().cluster_id();
                if known.observes && !own.is_zero() && options.cluster_id.is_some_and(|id| id != own) {
                    // It was its own cluster, an empty one, before it joined this one.
                    store.install(Arc::default())?;
                }
                published.begin(Arc::clone(store.image()));
                let feed = Arc::clone(&published);
                Store::Local(MetaHandle::start(store, move |change| feed.change(change))?)
            }
        };
        let votes = matches!(&store, Store::Raft(raft) if raft.is_initialized());
        let inner = Arc::new(Inner {
            registration: options.registration,
            data_dir: options.data_dir,
            durable: options.durable,
            timing: options.timing,
            clock: options.clock,
            transport: options.transport,
            cluster_id: options.cluster_id,
            new_cluster_id: options.new_cluster_id,
            listed,
            takes_in,
            replicate_everything: options.replicate_everything,
            rebalance_leaders: options.rebalance_leaders,
            on_restart: options.on_restart,
            store,
            published,
            known: Mutex::new(known),
            turns: watch::Sender::new(0),
            duties: Duties::new(signals, options.ready),
            remembered: Default::default(),
            fetches: Default::default(),
            peers: Mutex::default(),
            problems: Mutex::default(),
            promised: Mutex::default(),
            counts: Counts::default(),
            sequence: AtomicU64::new(1),
            votes: AtomicBool::new(votes),
            changing_voters: Arc::default(),
            tasks: Mutex::new(JoinSet::new()),
            runtime: Handle::current(),
        });
        inner.begin().await?;
        Ok(Self { inner })
    }

    /// The image as this node has it.
    pub fn image(&self) -> Arc<Image> {
        self.inner.image()
    }

    /// Has `commands` checked, made durable and applied, in order, here or at the metadata leader. `done` gets what became of each once this
    /// node's image has them, after the owner heard of them. It must not block. It is called on the metadata thread or a task of the runtime.
    ///
    /// With [`MetaError::NoQuorum`] nothing was carried out; with [`MetaError::TimedOut`] it may have been, or may still be.
    pub fn submit(&self, commands: Vec<Command>, done: impl FnOnce(Results) + Send + 'static) {
        self.inner.submit(commands, done);
    }

    /// [`Quorum::submit`], waiting for the results.
    pub async fn commit(&self, commands: Vec<Command>) -> Results {
        self.inner.commit(commands).await
    }

    /// Who decides, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.leader()
    }

    /// Whether this node decides now.
    pub fn is_leader(&self) -> bool {
        self.inner.is_leader()
    }

    /// The epoch of this process's registration, once this node's image has it.
    pub fn broker_epoch(&self) -> Option<i64> {
        self.inner.broker_epoch()
    }

    /// This node can serve, or can't: until it can, it leads nothing.
    pub fn set_ready(&self, ready: bool) {
        self.inner.duties.ready.store(ready, Ordering::Release);
        self.inner.duties.signals.sessions_changed.notify_one();
        self.inner.turn();
    }

    /// Why this node can't serve yet; `None` once it is registered and let in.
    pub fn not_ready(&self) -> Option<String> {
        self.inner.not_ready()
    }

    /// Waits until [`Quorum::not_ready`] says nothing more.
    ///
    /// # Errors
    /// What it says when the time is over.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), String> {
        let wait = async {
            loop {
                let (mut applied, mut turns) = (self.inner.published.watch(), self.inner.turns.subscribe());
                if self.not_ready().is_none() {
                    return;
                }
                tokio::select! {
                    _ = applied.changed() => {}
                    _ = turns.changed() => {}
                }
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(()) => Ok(()),
            Err(_) => self.not_ready().map_or(Ok(()), Err),
        }
    }

    /// What this node knows of the metadata's health.
    pub fn status(&self) -> QuorumStatus {
        self.inner.status()
    }

    /// Counts since the process started.
    pub fn counters(&self) -> QuorumCounters {
        self.inner.counts.read()
    }

    /// Answers another node's call of the kinds 1 to 31. The error is in words for that node's operator.
    pub fn handle(&self, from: NodeId, kind: u8, payload: Bytes) -> BoxFuture<Result<Bytes, String>> {
        match (&self.inner.store, kind) {
            (Store::Raft(_), 1..=15) if !self.inner.votes.load(Ordering::Acquire) => {
                // It may be the one that this node waits for: it looks again.
                self.inner.turn();
                let problem = format!("node {} is empty, and nobody has taken it in yet", self.inner.me());
                Box::pin(std::future::ready(Err(problem)))
            }
            (Store::Raft(raft), 1..=15) => match guard::check(self.inner.cluster(), from, payload) {
                Ok(payload) => raft.handle(from, kind, payload),
                Err(problem) => {
                    self.inner.note_problem(from, Matter::Calls, Some(problem.clone()));
                    Box::pin(std::future::ready(Err(problem)))
                }
            },
            (Store::Local(_), 1..=15) => {
                let problem = format!("node {} is no voter of a Raft quorum", self.inner.me());
                Box::pin(std::future::ready(Err(problem)))
            }
            _ => Box::pin(Arc::clone(&self.inner).answer(from, kind, payload)),
        }
    }

    /// Hears of the connection to a node.
    pub fn on_peer(&self, node: NodeId, event: PeerEvent) {
        self.inner.on_peer(node, event);
    }

    /// Moves this node's leaderships to other brokers, and waits until every broker knows; five seconds at most.
    pub async fn begin_shutdown(&self) {
        self.inner.begin_shutdown().await;
    }

    /// Lets a node vote that is reached at `address`.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub async fn add_voter(&self, node: NodeId, address: String) -> Result<(), String> {
        self.change_voters(Membership::Add(node, address)).await
    }

    /// Takes a node's vote; it follows from then on.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub async fn remove_voter(&self, node: NodeId) -> Result<(), String> {
        self.change_voters(Membership::Remove(node)).await
    }

    async fn change_voters(&self, change: Membership) -> Result<(), String> {
        let mut answer = self.inner.on_membership(change.clone()).await;
        if let MembershipAnswer::NotLeader(Some(leader)) = answer {
            let payload = message::request(self.inner.caller(), |out| change.put(out));
            // New voters get the whole log first.
            let timeout = Duration::from_secs(60);
            let payload = self.inner.call(leader, kind::MEMBERSHIP, payload, timeout).await;
            let payload = payload.map_err(|error| error.to_string())?;
            answer = message::read(payload, MembershipAnswer::get).map_err(|error| error.to_string())?;
        }
        match answer {
            MembershipAnswer::Done => Ok(()),
            MembershipAnswer::NotLeader(_) => {
                Err("nobody leads the metadata now: try again in a moment".to_owned())
            }
            MembershipAnswer::Refused(problem) => Err(problem),
        }
    }

    /// Makes this follower of a single voter the voter, with the copy that it has. The earlier voter, if it returns, follows.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub async fn promote(&self) -> Result<(), String> {
        self.inner.promote().await
    }

    /// Gives a node that wants to be a broker of the cluster its id, and registers it, fenced. Asked again for the same data
    /// directory it gives the same id. Any node can be asked.
    ///
    /// # Errors
    /// Why not, in words for the operator of the node.
    pub async fn join(&self, request: JoinRequest) -> Result<Joined, String> {
        self.inner.join(request).await
    }

    /// Stops: what was submitted and is not carried out yet is refused.
    pub async fn close(&self) {
        // The guard must not live across the wait.
        let mut tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        match &self.inner.store {
            Store::Raft(raft) => raft.shutdown().await,
            Store::Local(handle) => handle.close(),
        }
    }
}

impl Inner {
    async fn begin(self: &Arc<Self>) -> Result<(), QuorumError> {
        match &self.store {
            Store::Raft(raft) => {
                if self.takes_in {
                    self.votes.store(true, Ordering::Release);
                    self.begin_with_own_metadata(raft).await?;
                }
                self.published.begin(raft.image());
                self.spawn(Arc::clone(self).form());
                self.spawn(Arc::clone(self).hear_raft());
            }
            Store::Local(_) => {
                if !lock(&self.known).observes {
                    self.register_alone().await?;
                }
                if self.transport.is_some() {
                    self.spawn(Arc::clone(self).follow());
                    self.spawn(Arc::clone(self).announce());
                }
            }
        }
        self.spawn(Arc::clone(self).keep_registered());
        self.spawn(Arc::clone(self).watch_sessions());
        self.spawn(Arc::clone(self).keep_placement());
        Ok(())
    }

    /// A voter makes itself known before anything else happens: with one flush if it is the only broker.
    async fn register_alone(self: &Arc<Self>) -> Result<(), QuorumError> {
        let mut next = (*self.image()).clone();
        let mut commands = Vec::new();
        if next.cluster_id().is_zero() {
            commands.push(Command::SetClusterId { id: self.cluster_id.unwrap_or(self.new_cluster_id) });
        }
        commands.push(self.register_command());
        for command in &commands {
            next.check(command)?;
            next.apply(command);
        }
        let alone = !next.brokers().any(|broker| broker.id != self.me());
        if let Some(broker) = next.broker(self.me())
            && (alone || self.duties.ready.load(Ordering::Acquire))
            && broker.fenced
        {
            commands.push(Command::UnfenceBroker { id: self.me(), epoch: broker.epoch });
        }
        for result in self.commit(commands).await {
            result?;
        }
        Ok(())
    }

    /// Begins the quorum with this node alone and the metadata that it has; the others are taken in as they appear.
    async fn begin_with_own_metadata(&self, raft: &RaftNode) -> Result<(), QuorumError> {
        let voters = self.listed.iter().cloned().collect();
        raft.initialize(voters).await.map_err(|error| QuorumError::Convert(error.to_string()))
    }

    /// Tells the other parts when Raft's leader changes.
    async fn hear_raft(self: Arc<Self>) {
        let Store::Raft(raft) = &self.store else { return };
        let mut leadership = raft.watch();
        loop {
            let leader = leadership.borrow_and_update().leader;
            {
                let now = self.now();
                let mut known = lock(&self.known);
                match leader {
                    Some(leader) => {
                        known.leaderless_since = None;
                        let [last, _] = known.last_leaders;
                        if last != Some(leader) {
                            known.last_leaders = [Some(leader), last];
                        }
                    }
                    None => {
                        known.leaderless_since.get_or_insert(now);
                    }
                }
            }
            self.turn();
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Starts Raft; where the same process had it open a moment ago (it changes its mode), it may take a moment until the directory is free.
pub(crate) async fn start_raft(options: impl Fn() -> RaftOptions) -> Result<RaftNode, QuorumError> {
    let deadline = Instant::now() + DIRECTORY_FREE;
    loop {
        match RaftNode::start(options()).await {
            Err(chronik_raft::StartError::InUse { .. }) if Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            started => return Ok(started?),
        }
    }
}

/// Whether a node follows: as it is started, unless it was promoted, or another one was in its place.
fn observes(mode: &Mode, standing: &Standing) -> bool {
    match (mode, standing.decides) {
        (Mode::Raft { .. }, _) => false,
        (Mode::Observer { .. }, Some(true)) => {
            tracing::info!("this node was promoted: it is the voter, in generation {}", standing.generation);
            false
        }
        (Mode::Single, Some(false)) => {
            tracing::warn!(
                "node {} was promoted while this node was away: this node follows it",
                standing.voter.map_or_else(|| "another".to_owned(), |voter| voter.to_string())
            );
            true
        }
        (Mode::Observer { .. }, _) => true,
        (Mode::Single, _) => false,
    }
}

/// What a quorum begins with that this node is the first voter of: the metadata of its standalone run. Given again until the listed nodes are in.
fn first_image(
    data_dir: &Path,
    standing: &Standing,
    durable: bool,
) -> Result<Option<Arc<Image>>, QuorumError> {
    let follows = standing.decides != Some(true) && !standing.sources.is_empty();
    if standing.quorum == Some(Formation::Formed) || follows || !data_dir.join("meta").exists() {
        return Ok(None);
    }
    let store = open_store(data_dir, durable, true)?;
    Ok((!store.image().cluster_id().is_zero()).then(|| Arc::clone(store.image())))
}

pub(crate) fn open_store(data_dir: &Path, durable: bool, existing: bool) -> Result<MetaStore, QuorumError> {
    let options = StoreOptions { flush: durable, existing, ..StoreOptions::default() };
    let directory: PathBuf = data_dir.join("meta");
    let (store, recovery) = MetaStore::open(&directory, options)?;
    if let Some(cut) = recovery.cut {
        tracing::warn!(
            path = %cut.path.display(),
            position = cut.position,
            bytes = cut.bytes,
            "cut an unfinished metadata change: {}",
            cut.reason
        );
    }
    Ok(store)
}
