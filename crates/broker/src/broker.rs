//! The broker itself: what all requests share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{Clock, NodeId, Uuid};
use chronik_config::{Flush, NodeConfig, Settings};
use chronik_log::disk::OsDisk;
use chronik_log::{
    CleanerOptions, DataDir, FlushMode, LogManager, LogOptions, RecoverySummary, StorageState,
};
use chronik_meta::Image;
use chronik_metrics::Page;
use chronik_peer::Peers;
use chronik_quorum::{Quorum, QuorumError, RaftTiming, Timing};
use tokio::sync::Notify;

use crate::completions::Completions;
use crate::fetch_session::SessionCache;
use crate::fetch_wait::{FetchWait, Moved};
use crate::gone::Gone;
use crate::groups::Groups;
use crate::metadata::{Membership, Metadata, MetadataOptions};
use crate::metric_families as families;
use crate::metrics::Metrics;
use crate::partition::{Acks, AppendTime, Partition};
use crate::producer_ids::ProducerIds;
use crate::random;
use crate::rate_limit::RateLimit;
use crate::replication::{PeerEar, Replication};
use crate::sync::{Hold, Share};
use crate::timing::RequestTiming;
use crate::topics::Topics;
use crate::waits::Waits;
use crate::{ConnectionContext, Outcome, api, cluster_metrics, dispatch};

/// A node's broker, shared by all of its connections.
pub struct Broker {
    pub(crate) node_id: NodeId,
    /// Where this node listens; clients are told `advertised` where that is set.
    pub(crate) address: SocketAddr,
    /// What clients are told instead of the address by which they came.
    pub(crate) advertised: Option<(String, u16)>,
    /// Settings that don't change while the node runs; those that may are in [`Broker::dynamic`].
    pub(crate) config: NodeConfig,
    dynamic: RwLock<Arc<Dynamic>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Arc<LogManager>,
    pub(crate) completions: Arc<Completions>,
    pub(crate) topics: Topics,
    pub(crate) metadata: Metadata,
    /// Connections to other nodes.
    pub(crate) peers: Peers,
    /// Nodes whose addresses the settings name.
    pub(crate) first_peers: Vec<(NodeId, String)>,
    pub(crate) replication: Replication,
    /// Nodes whose process has ended a moment ago.
    pub(crate) gone: Gone,
    /// Made new at each start of the process: what the metadata know this process by.
    pub(crate) incarnation: Uuid,
    /// The node has others, or is to have: it stays with its cluster.
    pub(crate) is_bound: bool,
    /// Other nodes are told which cluster that is.
    pub(crate) cluster_told: AtomicBool,
    follower_problems: Mutex<BTreeMap<String, (String, u64)>>,
    pub(crate) producer_ids: ProducerIds,
    /// The data directory.
    pub(crate) data_path: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) timing: RequestTiming,
    pub(crate) fetch_sessions: SessionCache,
    pub(crate) waits: Waits,
    /// Limits the log lines of fetches that fail: a consumer asks again at once.
    pub(crate) fetch_failures: RateLimit,
    pub(crate) groups: Groups,
    closing: AtomicBool,
    closed: Notify,
}

/// Settings as they are now: what the node was started with, and what was altered since over the protocol.
#[derive(Debug)]
pub(crate) struct Dynamic {
    pub(crate) settings: Settings,
    pub(crate) config: NodeConfig,
}

/// What a broker starts with.
pub struct BrokerOptions {
    /// Every setting, with where it came from.
    pub settings: Settings,
    /// The data directory, locked.
    pub data_dir: DataDir,
    /// The listener's own address.
    pub address: SocketAddr,
    /// The host and port that clients are told, if not the address by which they came (setting `advertise`).
    pub advertised: Option<(String, u16)>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the node takes part in the metadata.
    pub membership: Membership,
    /// Connections to other nodes.
    pub peers: Peers,
    /// What hears of these connections; it is bound to the broker.
    pub ear: Arc<PeerEar>,
    /// Nodes whose addresses the settings name.
    pub first_peers: Vec<(NodeId, String)>,
}

/// Why the broker doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] chronik_log::LogError),
    /// The metadata can't be read or written.
    #[error(transparent)]
    Metadata(#[from] QuorumError),
    /// The topics of the metadata can't be opened.
    #[error("the topics can't be opened: {0}")]
    Topics(String),
}

impl Broker {
    /// Opens the log and the metadata, recovering what the last run left, and serves from then on. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// The disk can't be read or written, or holds what this version doesn't understand.
    pub async fn start(options: BrokerOptions) -> Result<(Arc<Self>, RecoverySummary), BrokerError> {
        let BrokerOptions { settings, data_dir, address, advertised, clock, .. } = options;
        let config = NodeConfig::from_settings(&settings);
        let data_path = data_dir.path().to_owned();
        let completions = Arc::new(Completions::default());
        let log_options = LogOptions {
            flush: match config.flush {
                Flush::Disk => FlushMode::Disk,
                Flush::Os => FlushMode::Os,
            },
            flush_ms: config.flush_ms,
            journal_segment_bytes: config.journal_segment_bytes,
            journal_memory_bytes: config.journal_memory_bytes,
            checkpoint_interval_ms: config.checkpoint_interval_ms,
            retention_check_ms: config.log_retention_check_interval_ms,
            max_open_files: config.max_open_files,
            direct_bytes: config.journal_direct_bytes,
            producer_id_expiration_ms: config.producer_id_expiration_ms,
        };
        let (log, recovery) =
            LogManager::open(data_dir, Arc::new(OsDisk), clock.clone(), log_options, completions.clone())?;
        log.set_cleaner(CleanerOptions {
            enabled: config.log_cleaner_enable,
            backoff_ms: config.log_cleaner_backoff_ms,
            dedupe_buffer_bytes: config.log_cleaner_dedupe_buffer_size,
            io_bytes_per_second: config.log_cleaner_io_max_bytes_per_second,
        });
        let node_id = options.membership.registration.node_id;
        let incarnation = options.membership.registration.incarnation;
        let is_bound = options.membership.is_bound;
        let timing = Timing {
            heartbeat: Duration::from_millis(config.broker_heartbeat_interval_ms),
            session: Duration::from_millis(config.broker_session_timeout_ms),
            shutdown: Duration::from_millis(config.controlled_shutdown_timeout_ms),
            rebalance_delay: Duration::from_secs(config.leader_imbalance_check_interval_seconds),
            ..Timing::default()
        };
        let election = Duration::from_millis(config.quorum_election_timeout_ms);
        let raft = RaftTiming {
            heartbeat: Duration::from_millis(config.quorum_heartbeat_interval_ms),
            election_min: election,
            election_max: election + election / 2,
            ..RaftTiming::default()
        };
        let metadata = Metadata::open(MetadataOptions {
            data_path: data_path.clone(),
            membership: options.membership,
            transport: Some(Arc::new(options.peers.clone())),
            clock: clock.clone(),
            durable: !config.ephemeral,
            timing,
            raft,
            rebalance_leaders: config.auto_leader_rebalance_enable,
        })
        .await?;
        let broker = Arc::new(Self {
            node_id,
            address,
            advertised,
            dynamic: RwLock::new(Arc::new(Dynamic { settings: settings.clone(), config: config.clone() })),
            log,
            completions,
            topics: Topics::default(),
            metadata,
            peers: options.peers,
            first_peers: options.first_peers,
            replication: Replication::new(throttle_rate(&config)),
            gone: Gone::default(),
            follower_problems: Mutex::default(),
            incarnation,
            is_bound,
            cluster_told: AtomicBool::new(false),
            producer_ids: ProducerIds::default(),
            data_path,
            timing: RequestTiming::new(config.slow_request_ms),
            metrics: Metrics::new(api::TABLE.iter().map(|row| row.key)),
            fetch_sessions: SessionCache::new(
                config.max_incremental_fetch_session_cache_slots,
                random::u64(),
            ),
            waits: Waits::default(),
            fetch_failures: RateLimit::default(),
            groups: Groups::new(&config),
            clock,
            config,
            closing: AtomicBool::new(false),
            closed: Notify::new(),
        });
        let _ = broker.completions.broker.set(Arc::downgrade(&broker));
        broker.tell_cluster(&broker.metadata.image());
        broker.dial(&broker.metadata.image());
        options.ear.set(&broker);
        broker.replication.start(&broker);
        let opened = broker.clone();
        // It opens logs, and may have to make some.
        let followed = tokio::task::spawn_blocking(move || opened.metadata.follow(&opened));
        followed.await.map_err(|error| BrokerError::Topics(error.to_string()))?;
        tokio::spawn(Waits::run(Arc::downgrade(&broker)));
        broker.groups.start(&broker);
        broker.metadata.quorum().set_ready(true);
        tokio::spawn(broker.clone().remove_strays());
        Ok((broker, recovery))
    }

    /// One frame, without its length prefix. What fixes the order of requests happens before this returns; what must
    /// wait is in the outcome.
    pub fn handle(self: &Arc<Self>, connection: &Arc<ConnectionContext>, frame: Bytes) -> Outcome {
        dispatch::dispatch(self, connection, frame)
    }

    /// To be called when all frames of one read from a socket were handled: starts the write of what they appended.
    pub fn end_of_read(&self) {
        self.log.kick();
    }

    /// True while storage is behind by as much as memory allows: connections then stop reading.
    pub fn pressured(&self) -> bool {
        self.log.pressure()
    }

    /// Ends when [`Broker::pressured`] may be false again.
    pub async fn pressure_relieved(&self) {
        let relieved = self.completions.pressure_relieved.notified();
        if self.log.pressure() {
            relieved.await;
        }
    }

    /// Ready where [`Broker::pressured`] is false; else the task is woken when it may be.
    pub(crate) fn poll_unpressured(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.log.pressure() {
            return Poll::Ready(());
        }
        self.completions.wake_when_relieved(cx.waker());
        if self.log.pressure() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Writes every metric of the broker.
    pub fn write_metrics(&self, page: &mut Page) {
        self.metrics.write(&self.log.stats(), self.completions.state().as_ref(), page);
        page.value(&families::FETCH_SESSIONS, self.fetch_sessions.len());
        self.groups.write_metrics(self, page);
        cluster_metrics::write(self, page);
    }

    /// Why this node doesn't serve, or not everything; `None` when it does.
    pub fn not_ready(&self) -> Option<String> {
        if self.closing.load(Ordering::Acquire) {
            return Some("the node is shutting down".to_owned());
        }
        match self.completions.state() {
            None | Some(StorageState::Writable) => self.metadata.quorum().not_ready(),
            Some(StorageState::Full) => Some("the disk is full: writes are refused, reads go on".to_owned()),
            Some(StorageState::Poisoned(error)) => Some(format!("storage failed: {error}")),
        }
    }

    /// Whether the log takes writes, as far as it has told.
    pub(crate) fn takes_writes(&self) -> bool {
        matches!(self.completions.state(), None | Some(StorageState::Writable))
    }

    /// The data directory.
    pub fn data_path(&self) -> &Path {
        &self.data_path
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The quorum that decides on the metadata, as this node takes part in it.
    pub fn quorum(&self) -> &Quorum {
        self.metadata.quorum()
    }

    /// Connections to other nodes.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Notes why the node at `address`, which is to follow this one (`replication.followers`), does not; `None` if it does.
    pub fn set_follower_problem(&self, address: &str, problem: Option<String>) {
        let mut problems = self.follower_problems.hold();
        let Some(problem) = problem else {
            problems.remove(address);
            return;
        };
        if problems.get(address).is_none_or(|(known, _)| *known != problem) {
            problems.insert(address.to_owned(), (problem, self.clock.monotonic_ms()));
        }
    }

    /// What [`Broker::set_follower_problem`] noted, by address, and since when on the monotonic clock.
    pub(crate) fn follower_problems(&self) -> BTreeMap<String, (String, u64)> {
        self.follower_problems.hold().clone()
    }

    /// Hands leaderships to other nodes before this one stops, where there are any.
    pub async fn leave(&self) {
        if self.config.controlled_shutdown_enable {
            self.metadata.quorum().begin_shutdown().await;
        }
    }

    /// Ends the waits of fetches, so that everything in flight can be answered. New requests are still handled.
    pub fn begin_shutdown(&self) {
        self.closing.store(true, Ordering::Release);
        self.closed.notify_waiters();
        self.groups.close();
    }

    /// Flushes and checkpoints the log. No request may be handled any more.
    pub async fn shutdown(self: &Arc<Self>) {
        self.begin_shutdown();
        self.metadata.stop().await;
        self.peers.close();
        let log = self.log.clone();
        match tokio::task::spawn_blocking(move || log.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!("the log was not closed cleanly, the next start recovers it: {error}")
            }
            Err(error) => tracing::error!("the log was not closed cleanly: {error}"),
        }
    }

    /// Ends when the broker is shutting down.
    pub(crate) async fn closing(&self) {
        let closed = self.closed.notified();
        if !self.closing.load(Ordering::Acquire) {
            closed.await;
        }
    }

    /// Settings as they are now.
    pub(crate) fn dynamic(&self) -> Arc<Dynamic> {
        self.dynamic.shared().clone()
    }

    /// Puts what the metadata says of this node's settings over those it was started with.
    pub(crate) fn refresh_dynamic(&self, image: &Image) {
        let none = Arc::new(BTreeMap::new());
        let own = image.broker_configs(self.node_id).unwrap_or(&none);
        let settings = self.dynamic().settings.with_dynamic(image.default_broker_configs(), own);
        let config = NodeConfig::from_settings(&settings);
        self.replication.throttle.set_rate(throttle_rate(&config));
        *self.dynamic.exclusive() = Arc::new(Dynamic { settings, config });
    }

    /// The times for an append whose request may wait for `timeout_ms`.
    pub(crate) fn append_time(&self, timeout_ms: i32) -> AppendTime {
        let now_ms = self.clock.monotonic_ms();
        let wait = u64::try_from(timeout_ms).unwrap_or(0).min(self.config.replication_timeout_ms);
        AppendTime { wall_ms: self.clock.wall_ms(), now_ms, deadline_ms: now_ms.saturating_add(wait) }
    }

    /// A batch was appended: counts it, and asks for a flush where a consumer waits for it.
    pub(crate) fn on_appended(&self, partition: &Arc<Partition>, acks: Acks, bytes: usize, records: usize) {
        self.metrics.appended_batches.inc();
        self.metrics.appended_records.inc_by(records as u64);
        self.metrics.appended_bytes.inc_by(bytes as u64);
        if acks != Acks::None {
            self.waits.add(partition);
        }
        if acks != Acks::All && !partition.watchers.is_empty() {
            self.log.request_flush();
        }
    }

    /// Waits until these partitions' high watermarks have reached these offsets, for `most` at the longest.
    pub(crate) async fn wait_until_flushed(&self, waiting: &[(Arc<Partition>, i64)], most: Duration) {
        let wait = Arc::new(FetchWait::default());
        let timeout = tokio::time::sleep(most);
        tokio::pin!(timeout);
        loop {
            let mut owed = false;
            for (partition, offset) in waiting {
                if partition.high_watermark() < *offset {
                    partition.watchers.add(&wait);
                    owed |= partition.high_watermark() < *offset;
                }
            }
            if !owed {
                return;
            }
            for (partition, offset) in waiting {
                if partition.high_watermark() < *offset {
                    partition.ask_followers_to_flush();
                }
            }
            self.log.request_flush();
            self.log.kick();
            tokio::select! {
                () = Moved(wait.clone()) => {}
                () = &mut timeout => return,
            }
        }
    }
}

/// What Kafka's tools call no limit.
const NO_LIMIT: u64 = i64::MAX as u64;

/// Bytes a second for followers that catch up; 0 is without limit.
fn throttle_rate(config: &NodeConfig) -> u64 {
    match (config.replication_throttle_bytes_per_sec, config.leader_replication_throttled_rate) {
        (0, NO_LIMIT..) => 0,
        (0, rate) => rate.max(1),
        (own, rate) => own.min(rate.max(1)),
    }
}
