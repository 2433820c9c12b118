//! What the broker counts. Handles are typed: the hot path never looks anything up.

use std::fmt::Write;

use chronik_protocol::ApiKey;
use chronik_replica::WaitCause;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The broker's metrics and the registry that holds them.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Vec<Option<Counter>>,
    /// Record batches that were appended.
    pub(crate) appended_batches: Counter,
    /// Records in them.
    pub(crate) appended_records: Counter,
    /// Bytes of them.
    pub(crate) appended_bytes: Counter,
    /// Batches that were refused at the door.
    pub(crate) refused_batches: Counter,
    /// Bytes of records that consumers were given.
    pub(crate) fetched_bytes: Counter,
    /// Waits for an acknowledgement that took too long, by what they waited for.
    ack_timeouts: Family<Vec<(String, String)>, Counter>,
    /// Seconds that produce requests with `acks=all` waited for their acknowledgements.
    pub(crate) ack_wait: Histogram,
    /// Times that in-sync replicas of a partition led here became fewer.
    pub(crate) isr_shrinks: Counter,
    /// Times that they became more.
    pub(crate) isr_expands: Counter,
    /// Changes of in-sync replicas that this node proposed and that were decided so.
    pub(crate) isr_changes: Counter,
    /// Times that this node became a partition's leader.
    pub(crate) leader_elections: Counter,
    log: LogGauges,
    pub(crate) partitions: Gauge,
    pub(crate) topics: Gauge,
    pub(crate) fetch_sessions: Gauge,
}

#[derive(Default)]
struct LogGauges {
    journal_bytes: Gauge,
    segment_bytes: Gauge,
    checkpoint_bytes: Gauge,
    groups: Gauge,
    flushes: Gauge,
    flush_us: Gauge,
    flush_us_max: Gauge,
    queued_bytes: Gauge,
    memory_bytes: Gauge,
    checkpoints: Gauge,
}

impl Metrics {
    /// Registers everything. `served` are the keys that get a counter of requests.
    pub(crate) fn new(served: impl Iterator<Item = ApiKey>) -> Self {
        let mut registry = Registry::with_prefix("chronik");
        let by_api = Family::<Vec<(String, String)>, Counter>::default();
        registry.register("requests", "Requests received, by API", by_api.clone());
        let mut requests = Vec::new();
        for key in served {
            let at = usize::try_from(key as i16).unwrap_or(0);
            if requests.len() <= at {
                requests.resize(at + 1, None);
            }
            let labels = vec![("api".to_owned(), key.name().to_owned())];
            requests[at] = Some(by_api.get_or_create(&labels).clone());
        }
        let ack_timeouts = Family::<Vec<(String, String)>, Counter>::default();
        registry.register(
            "acknowledgement_timeouts",
            "Produce requests whose acknowledgement came too late, by what was waited for",
            ack_timeouts.clone(),
        );
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let appended_batches = counter("appended_batches", "Record batches appended");
        let appended_records = counter("appended_records", "Records appended");
        let refused_batches = counter("refused_batches", "Record batches refused at the door");
        let isr_changes =
            counter("isr_changes", "Changes of in-sync replicas that this node proposed as leader");
        let isr_shrinks =
            counter("isr_shrinks", "Times that in-sync replicas of a partition led here became fewer");
        let isr_expands =
            counter("isr_expands", "Times that in-sync replicas of a partition led here became more");
        let leader_elections =
            counter("leader_elections", "Times that this node became a partition's leader");
        let mut bytes = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
            counter
        };
        let appended_bytes = bytes("appended", "Bytes of record batches appended");
        let fetched_bytes = bytes("fetched", "Bytes of record batches given to consumers");
        // From half a millisecond to the 30 s that a wait takes at the most.
        let ack_wait = Histogram::new(exponential_buckets(0.000_5, 2.0, 17));
        registry.register_with_unit(
            "acknowledgement_wait",
            "How long produce requests with acks=all waited for their acknowledgements",
            Unit::Seconds,
            ack_wait.clone(),
        );
        let log = LogGauges::default();
        for (name, help, gauge) in [
            ("log_journal_written_bytes", "Bytes written to the journal since the start", &log.journal_bytes),
            (
                "log_segment_written_bytes",
                "Bytes written to segments and indexes since the start",
                &log.segment_bytes,
            ),
            (
                "log_checkpoint_written_bytes",
                "Bytes written to checkpoints since the start",
                &log.checkpoint_bytes,
            ),
            ("log_groups", "Groups of appends written since the start", &log.groups),
            ("log_flushes", "Flushes since the start", &log.flushes),
            ("log_flush_microseconds", "Time spent in flushes since the start", &log.flush_us),
            ("log_flush_max_microseconds", "The longest flush since the start", &log.flush_us_max),
            ("log_queued_bytes", "Bytes appended and not yet written to the journal", &log.queued_bytes),
            ("log_memory_bytes", "Bytes of records held in memory", &log.memory_bytes),
            ("log_checkpoints", "Checkpoints since the start", &log.checkpoints),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let (partitions, topics, fetch_sessions) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("partitions", "Partitions that this node leads", partitions.clone());
        registry.register("topics", "Topics", topics.clone());
        registry.register("fetch_sessions", "Fetch sessions (KIP-227)", fetch_sessions.clone());
        Self {
            registry,
            requests,
            appended_batches,
            appended_records,
            appended_bytes,
            refused_batches,
            fetched_bytes,
            ack_timeouts,
            ack_wait,
            isr_shrinks,
            isr_expands,
            isr_changes,
            leader_elections,
            log,
            partitions,
            topics,
            fetch_sessions,
        }
    }

    /// Counts a wait for an acknowledgement that took too long.
    pub(crate) fn ack_timeout(&self, cause: Option<WaitCause>) {
        let cause = cause.map_or_else(|| "unknown".to_owned(), |cause| cause.to_string());
        self.ack_timeouts.get_or_create(&vec![("cause".to_owned(), cause)]).inc();
    }

    /// Counts a request.
    pub(crate) fn request(&self, key: ApiKey) {
        let at = usize::try_from(key as i16).unwrap_or(usize::MAX);
        if let Some(Some(counter)) = self.requests.get(at) {
            counter.inc();
        }
    }

    /// Everything as Prometheus text, with the log's figures as they are now. `more` is appended by others.
    pub(crate) fn render(&self, stats: &chronik_log::LogStats, more: impl FnOnce(&mut String)) -> String {
        let gauges = [
            (&self.log.journal_bytes, stats.journal_bytes),
            (&self.log.segment_bytes, stats.segment_bytes),
            (&self.log.checkpoint_bytes, stats.checkpoint_bytes),
            (&self.log.groups, stats.groups),
            (&self.log.flushes, stats.flushes),
            (&self.log.flush_us, stats.flush_us),
            (&self.log.flush_us_max, stats.flush_us_max),
            (&self.log.queued_bytes, stats.queued_bytes),
            (&self.log.memory_bytes, stats.memory_bytes),
            (&self.log.checkpoints, stats.checkpoints),
        ];
        for (gauge, value) in gauges {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# metrics could not be written");
        }
        if let Some(end) = text.rfind("# EOF") {
            text.truncate(end);
        }
        more(&mut text);
        text.push_str("# EOF\n");
        text
    }
}
