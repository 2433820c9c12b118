//! The broker itself: what all requests share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{Clock, NodeId};
use chronik_config::{Flush, NodeConfig, Settings};
use chronik_log::disk::OsDisk;
use chronik_log::{
    CleanerOptions, DataDir, FlushMode, LogManager, LogOptions, RecoverySummary, StorageState,
};
use tokio::sync::Notify;

use crate::completions::Completions;
use crate::fetch_session::SessionCache;
use crate::fetch_wait::{FetchWait, Moved};
use crate::groups::Groups;
use crate::metadata::{Metadata, MetadataError, Registration};
use crate::metrics::Metrics;
use crate::partition::{Acks, AppendTime, Partition};
use crate::producer_ids::ProducerIds;
use crate::random;
use crate::rate_limit::RateLimit;
use crate::sync::Share;
use crate::topics::Topics;
use crate::waits::Waits;
use crate::{ConnectionContext, Outcome, api, dispatch};

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
    pub(crate) producer_ids: ProducerIds,
    /// The data directory.
    pub(crate) data_path: PathBuf,
    pub(crate) metrics: Metrics,
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
}

/// Why the broker doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] chronik_log::LogError),
    /// The metadata can't be read or written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Broker {
    /// Opens the log and the metadata, recovering what the last run left, and serves from then on. Must be called within a
    /// tokio runtime; it reads the disk, so not on a thread that others wait for.
    ///
    /// # Errors
    /// The disk can't be read or written, or holds what this version doesn't understand.
    pub fn start(options: BrokerOptions) -> Result<(Arc<Self>, RecoverySummary), BrokerError> {
        let BrokerOptions { settings, data_dir, address, advertised, clock } = options;
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
        let registration = Registration {
            node_id: config.node_id,
            rack: config.broker_rack.clone(),
            clock: &clock,
            durable: !config.ephemeral,
        };
        let metadata = Metadata::open(&data_path, registration)?;
        let broker = Arc::new(Self {
            node_id: config.node_id,
            address,
            advertised,
            dynamic: RwLock::new(Arc::new(Dynamic { settings: settings.clone(), config: config.clone() })),
            log,
            completions,
            topics: Topics::default(),
            metadata,
            producer_ids: ProducerIds::default(),
            data_path,
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
        broker.refresh_dynamic();
        broker.load_topics()?;
        broker.metadata.follow(&broker);
        tokio::spawn(Waits::run(Arc::downgrade(&broker)));
        broker.groups.start(&broker);
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

    /// Every metric, as Prometheus text.
    pub fn render_metrics(&self) -> String {
        let image = self.metadata.image();
        let set = |gauge: &prometheus_client::metrics::gauge::Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.metrics.topics, image.topic_count());
        set(&self.metrics.partitions, image.partition_count());
        set(&self.metrics.fetch_sessions, self.fetch_sessions.len());
        self.metrics.render(&self.log.stats(), |page| self.groups.render(self, page))
    }

    /// Why this node doesn't serve, or not everything; `None` when it does.
    pub fn not_ready(&self) -> Option<String> {
        if self.closing.load(Ordering::Acquire) {
            return Some("the node is shutting down".to_owned());
        }
        match self.completions.state() {
            None | Some(StorageState::Writable) => None,
            Some(StorageState::Full) => Some("the disk is full: writes are refused, reads go on".to_owned()),
            Some(StorageState::Poisoned(error)) => Some(format!("storage failed: {error}")),
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
        self.metadata.stop();
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
    pub(crate) fn refresh_dynamic(&self) {
        let image = self.metadata.image();
        let none = Arc::new(BTreeMap::new());
        let own = image.broker_configs(self.node_id).unwrap_or(&none);
        let settings = self.dynamic().settings.with_dynamic(image.default_broker_configs(), own);
        let config = NodeConfig::from_settings(&settings);
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
            self.log.request_flush();
            self.log.kick();
            tokio::select! {
                () = Moved(wait.clone()) => {}
                () = &mut timeout => return,
            }
        }
    }
}
