//! What the broker counts. Handles are typed: the hot path never looks anything up by name.

use std::time::Instant;

use chronik_log::{LogStats, StorageState};
use chronik_metrics::{Histogram, Page};
use chronik_protocol::ApiKey;
use chronik_replica::WaitCause;
use prometheus_client::metrics::counter::Counter;

use crate::metric_families as families;

/// The causes that acknowledgements are late for, as labels; the last is for what nobody knows.
const CAUSES: [&str; 8] = [
    "own_flush",
    "slow",
    "disconnected",
    "refused",
    "disk_takes_no_writes",
    "never_subscribed",
    "too_few_in_sync",
    "unknown",
];

/// The broker's metrics.
pub(crate) struct Metrics {
    /// By API key.
    requests: Vec<Option<Requests>>,
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
    /// Waits for an acknowledgement that took too long, in the order of [`CAUSES`].
    ack_timeouts: [Counter; CAUSES.len()],
    /// How long produce requests with `acks=all` waited for their acknowledgements.
    pub(crate) ack_wait: Histogram,
    /// Times that in-sync replicas of a partition led here became fewer.
    pub(crate) isr_shrinks: Counter,
    /// Times that they became more.
    pub(crate) isr_expands: Counter,
    /// Changes of in-sync replicas that this node proposed and that were decided so.
    pub(crate) isr_changes: Counter,
    /// Times that this node became a partition's leader.
    pub(crate) leader_elections: Counter,
}

/// Requests of one API.
struct Requests {
    api: &'static str,
    received: Counter,
    slow: Counter,
    time: Histogram,
}

impl Metrics {
    /// Nothing counted yet. `served` are the APIs whose requests are counted.
    pub(crate) fn new(served: impl Iterator<Item = ApiKey>) -> Self {
        let mut requests = Vec::new();
        for key in served {
            let at = usize::try_from(key as i16).unwrap_or(0);
            if requests.len() <= at {
                requests.resize_with(at + 1, || None);
            }
            requests[at] = Some(Requests {
                api: key.name(),
                received: Counter::default(),
                slow: Counter::default(),
                time: Histogram::default(),
            });
        }
        Self {
            requests,
            appended_batches: Counter::default(),
            appended_records: Counter::default(),
            appended_bytes: Counter::default(),
            refused_batches: Counter::default(),
            fetched_bytes: Counter::default(),
            ack_timeouts: Default::default(),
            ack_wait: Histogram::default(),
            isr_shrinks: Counter::default(),
            isr_expands: Counter::default(),
            isr_changes: Counter::default(),
            leader_elections: Counter::default(),
        }
    }

    /// Counts a wait for an acknowledgement that took too long.
    pub(crate) fn ack_timeout(&self, cause: Option<WaitCause>) {
        let at = match cause {
            Some(WaitCause::OwnFlush) => 0,
            Some(WaitCause::Slow) => 1,
            Some(WaitCause::Disconnected) => 2,
            Some(WaitCause::Refused) => 3,
            Some(WaitCause::Unable) => 4,
            Some(WaitCause::NeverSubscribed) => 5,
            Some(WaitCause::TooFewInSync) => 6,
            None => 7,
        };
        if let Some(counter) = self.ack_timeouts.get(at) {
            counter.inc();
        }
    }

    fn of(&self, key: ApiKey) -> Option<&Requests> {
        self.requests.get(usize::try_from(key as i16).ok()?)?.as_ref()
    }

    /// Counts a request.
    pub(crate) fn request(&self, key: ApiKey) {
        if let Some(requests) = self.of(key) {
            requests.received.inc();
        }
    }

    /// Counts an answer to a request that came at `began`; gives the time that it took, in microseconds.
    pub(crate) fn answered(&self, key: ApiKey, began: Instant) -> u64 {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(requests) = self.of(key) {
            requests.time.observe_us(took_us);
        }
        took_us
    }

    /// Counts a request that was slow.
    pub(crate) fn slow(&self, key: ApiKey) {
        if let Some(requests) = self.of(key) {
            requests.slow.inc();
        }
    }

    /// Writes everything that is counted here, and the log's figures as they are now.
    pub(crate) fn write(&self, log: &LogStats, storage: Option<&StorageState>, page: &mut Page) {
        let served = || self.requests.iter().flatten();
        let each = |value: fn(&Requests) -> u64| served().map(move |one| ([one.api], value(one) as f64));
        page.lines(&families::REQUESTS, each(|one| one.received.get()));
        let timed = served().filter(|one| one.time.count() > 0);
        page.histograms(&families::REQUEST_TIME, timed.map(|one| ([one.api], &one.time)));
        page.lines(&families::SLOW_REQUESTS, each(|one| one.slow.get()));
        for (family, counter) in [
            (&families::APPENDED_BATCHES, &self.appended_batches),
            (&families::APPENDED_RECORDS, &self.appended_records),
            (&families::APPENDED_BYTES, &self.appended_bytes),
            (&families::REFUSED_BATCHES, &self.refused_batches),
            (&families::FETCHED_BYTES, &self.fetched_bytes),
            (&families::ISR_SHRINKS, &self.isr_shrinks),
            (&families::ISR_EXPANDS, &self.isr_expands),
            (&families::ISR_CHANGES, &self.isr_changes),
            (&families::LEADER_ELECTIONS, &self.leader_elections),
        ] {
            page.metric(family, counter.clone());
        }
        let no_labels: [&str; 0] = [];
        page.histograms(&families::ACK_WAIT, [(no_labels, &self.ack_wait)]);
        let timeouts = CAUSES.iter().zip(&self.ack_timeouts);
        page.lines(&families::ACK_TIMEOUTS, timeouts.map(|(cause, count)| ([*cause], count.get() as f64)));
        write_log(log, storage, page);
    }
}

fn write_log(log: &LogStats, storage: Option<&StorageState>, page: &mut Page) {
    let seconds = |us: u64| us as f64 / 1e6;
    page.value(&families::LOG_JOURNAL, log.journal_bytes);
    page.value(&families::LOG_SEGMENTS, log.segment_bytes);
    page.value(&families::LOG_CHECKPOINT_BYTES, log.checkpoint_bytes);
    page.value(&families::LOG_GROUPS, log.groups);
    page.value(&families::LOG_FLUSHES, log.flushes);
    page.value(&families::LOG_FLUSH_TIME, seconds(log.flush_us));
    page.value(&families::LOG_FLUSH_MAX, seconds(log.flush_us_max));
    page.value(&families::LOG_QUEUED, log.queued_bytes);
    page.value(&families::LOG_MEMORY, log.memory_bytes);
    page.value(&families::LOG_CHECKPOINTS, log.checkpoints);
    let now = match storage {
        None | Some(StorageState::Writable) => "writable",
        Some(StorageState::Full) => "full",
        Some(StorageState::Poisoned(_)) => "failed",
    };
    let states = ["writable", "full", "failed"].map(|state| ([state], f64::from(u8::from(state == now))));
    page.lines(&families::STORAGE_STATE, states);
}
