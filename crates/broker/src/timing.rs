//! Where the time of produce requests goes: for the log lines of slow ones, and for traces.
//!
//! A request is timed while `slow.request.ms` is set, or when it is the one of many that is traced: a clock reading at each stage that it reaches,
//! kept in the object that it waits with anyway. Otherwise nothing is read or kept.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use chronik_protocol::ApiKey;

use crate::call::Answerer;
use crate::produce_wait::ProduceWait;
use crate::rate_limit::RateLimit;
use crate::{Broker, ConnectionContext};

/// Requests of one partition that are timed at once; the oldest are let go above that.
const TIMED_MAX: usize = 1_024;

/// The stages of a produce request, in order: its frame is read; it is checked and has its place in the log's queue; the journal (or the segment) has it;
/// the disk has it; the in-sync replicas have it; the answer is made.
pub const STAGES: [&str; 6] = ["decode", "queue", "append", "flush", "replicate", "answer"];

/// Takes produce requests that were traced.
pub trait TraceSink: Send + Sync + 'static {
    /// One request was answered. Must not block.
    fn produced(&self, trace: ProduceTrace);
}

/// A produce request that was answered.
#[derive(Clone, Debug)]
pub struct ProduceTrace {
    /// When its frame was there.
    pub began: SystemTime,
    /// Who sent it.
    pub peer: SocketAddr,
    /// When each of [`STAGES`] ended, in microseconds since it began. One that was not passed ended with the one before.
    pub ends_us: [u64; STAGES.len()],
}

/// What of a broker's requests is timed.
#[derive(Default)]
pub(crate) struct RequestTiming {
    /// Requests that take longer are logged, in microseconds; 0 logs none.
    slow_us: u64,
    log_line: RateLimit,
    traces: OnceLock<Traces>,
}

struct Traces {
    sink: Arc<dyn TraceSink>,
    every: u64,
    requests: AtomicU64,
}

/// What one request has reached, and when, in microseconds since it began.
#[derive(Debug)]
pub(crate) struct Stages {
    began: Instant,
    traced: bool,
    decoded_us: u32,
    queued_us: AtomicU32,
    written_us: AtomicU32,
    flushed_us: AtomicU32,
    replicated_us: AtomicU32,
}

impl RequestTiming {
    /// Logs requests that take longer than `slow_ms`; none if that is 0.
    pub(crate) fn new(slow_ms: u64) -> Self {
        Self { slow_us: slow_ms.saturating_mul(1_000), ..Self::default() }
    }

    /// For a produce request that began then and has just been decoded; `None` if it isn't timed.
    pub(crate) fn stages(&self, began: Instant) -> Option<Stages> {
        let traced = self.traces.get().is_some_and(|traces| {
            traces.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(traces.every)
        });
        (traced || self.slow_us > 0).then(|| Stages {
            began,
            traced,
            decoded_us: us_since(began),
            queued_us: AtomicU32::new(0),
            written_us: AtomicU32::new(0),
            flushed_us: AtomicU32::new(0),
            replicated_us: AtomicU32::new(0),
        })
    }
}

impl Stages {
    /// All of the request is in the queue of the log.
    pub(crate) fn queued(&self) {
        self.queued_us.store(us_since(self.began), Ordering::Relaxed);
    }

    /// A part of it is written.
    fn written(&self, now: Instant) {
        self.written_us.fetch_max(us(now.saturating_duration_since(self.began)), Ordering::Relaxed);
    }

    /// A part of it is flushed.
    fn flushed(&self, now: Instant) {
        self.flushed_us.fetch_max(us(now.saturating_duration_since(self.began)), Ordering::Relaxed);
    }

    /// All of it is acknowledged.
    pub(crate) fn acknowledged(&self) {
        self.replicated_us.store(us_since(self.began), Ordering::Relaxed);
    }

    /// When each of [`STAGES`] ended, the last one now.
    fn ends_us(&self) -> [u64; STAGES.len()] {
        let reached = [&self.queued_us, &self.written_us, &self.flushed_us, &self.replicated_us];
        let mut ends = [u64::from(self.decoded_us); STAGES.len()];
        let mut last = u64::from(self.decoded_us);
        for (end, at) in ends.iter_mut().skip(1).zip(reached) {
            last = last.max(u64::from(at.load(Ordering::Relaxed)));
            *end = last;
        }
        if let Some(end) = ends.last_mut() {
            *end = last.max(u64::from(us_since(self.began)));
        }
        ends
    }
}

/// Timed requests of a partition that wait for its log, by the end of what they appended.
#[derive(Debug, Default)]
pub(crate) struct Timed {
    waiting: VecDeque<(i64, Arc<ProduceWait>)>,
    /// How many of them, from the front, are written.
    written: usize,
}

impl Timed {
    /// A request appended up to `end`.
    pub(crate) fn push(&mut self, end: i64, wait: Arc<ProduceWait>) {
        if self.waiting.len() >= TIMED_MAX {
            self.waiting.pop_front();
            self.written = self.written.saturating_sub(1);
        }
        self.waiting.push_back((end, wait));
    }

    /// The log is written up to `end`.
    pub(crate) fn on_written(&mut self, end: i64) {
        if self.waiting.len() == self.written {
            return;
        }
        let now = Instant::now();
        while let Some((_, wait)) = self.waiting.get(self.written).filter(|(last, _)| *last <= end) {
            wait.stages().inspect(|stages| stages.written(now));
            self.written += 1;
        }
    }

    /// The log is flushed up to `end`.
    pub(crate) fn on_flushed(&mut self, end: i64) {
        if self.waiting.is_empty() {
            return;
        }
        self.on_written(end);
        let now = Instant::now();
        while let Some((_, wait)) = self.waiting.pop_front_if(|(last, _)| *last <= end) {
            wait.stages().inspect(|stages| stages.flushed(now));
            self.written = self.written.saturating_sub(1);
        }
    }

    /// What was appended is gone, or is another leader's from now on.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Broker {
    /// From now on, one of `every` produce requests is traced. The first call counts.
    pub fn set_traces(&self, sink: Arc<dyn TraceSink>, every: u64) {
        let _ = self.timing.traces.set(Traces { sink, every: every.max(1), requests: AtomicU64::new(0) });
    }

    /// Counts an answer, and logs the request if it was slow.
    pub(crate) fn answered(&self, answerer: Answerer, began: Instant, connection: &ConnectionContext) {
        let took_us = self.metrics.answered(answerer.key, began);
        if self.is_slow(took_us) {
            self.log_slow(answerer, took_us, connection, None);
        }
    }

    /// The same for one that waited as long as the client was willing to: that doesn't make it slow.
    pub(crate) fn answered_waiter(&self, answerer: Answerer, began: Instant) {
        self.metrics.answered(answerer.key, began);
    }

    /// The same for a produce request that was acknowledged.
    pub(crate) fn produced(
        &self,
        answerer: Answerer,
        began: Instant,
        connection: &ConnectionContext,
        stages: Option<&Stages>,
    ) {
        let took_us = self.metrics.answered(answerer.key, began);
        let Some(stages) = stages else { return };
        if self.is_slow(took_us) {
            self.log_slow(answerer, took_us, connection, Some(&Spent(stages.ends_us())));
        }
        if let (true, Some(traces)) = (stages.traced, self.timing.traces.get()) {
            let began = SystemTime::now() - Duration::from_micros(took_us);
            traces.sink.produced(ProduceTrace { began, peer: connection.peer, ends_us: stages.ends_us() });
        }
    }

    fn is_slow(&self, took_us: u64) -> bool {
        self.timing.slow_us > 0 && took_us > self.timing.slow_us
    }

    fn log_slow(
        &self,
        answerer: Answerer,
        took_us: u64,
        connection: &ConnectionContext,
        spent: Option<&Spent>,
    ) {
        self.metrics.slow(answerer.key);
        if let Some(suppressed) = self.timing.log_line.allow(self.clock.monotonic_ms()) {
            let software =
                connection.software().map(|client| format!(" ({} {})", client.name, client.version));
            tracing::warn!(
                suppressed,
                "slow request: {} version {} of {}{} took {}{} (slow.request.ms = {})",
                answerer.key.name(),
                answerer.version,
                connection.peer,
                software.unwrap_or_default(),
                Millis(took_us),
                spent.map(ToString::to_string).unwrap_or_default(),
                self.timing.slow_us / 1_000,
            );
        }
    }
}

/// Whether requests of this API wait for as long as the client is willing to.
pub(crate) fn waits_by_design(key: ApiKey) -> bool {
    matches!(key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// The time of each stage, in words.
struct Spent([u64; STAGES.len()]);

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = 0;
        for (at, (stage, end)) in STAGES.iter().zip(self.0).enumerate() {
            let sign = if at == 0 { ": " } else { ", " };
            write!(f, "{sign}{stage} {}", Millis(end.saturating_sub(before)))?;
            before = end;
        }
        Ok(())
    }
}

struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0 as f64 / 1e3)
    }
}

fn us(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn us_since(began: Instant) -> u32 {
    us(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed_wait() -> Arc<ProduceWait> {
        ProduceWait::timed(1, RequestTiming::new(1).stages(Instant::now()))
    }

    fn reached(wait: &ProduceWait) -> (bool, bool) {
        let stages = wait.stages().unwrap();
        let is_set = |at: &AtomicU32| at.load(Ordering::Relaxed) > 0;
        (is_set(&stages.written_us), is_set(&stages.flushed_us))
    }

    #[test]
    fn stages_are_noted_as_the_log_gets_on() {
        let mut timed = Timed::default();
        let (first, second) = (timed_wait(), timed_wait());
        // What is noted is in whole microseconds.
        std::thread::sleep(Duration::from_millis(1));
        timed.push(10, first.clone());
        timed.push(20, second.clone());
        timed.on_written(15);
        assert_eq!((reached(&first), reached(&second)), ((true, false), (false, false)));
        timed.on_flushed(15);
        assert_eq!((reached(&first), reached(&second)), ((true, true), (false, false)));
        timed.on_flushed(20);
        assert_eq!(reached(&second), (true, true));
        assert!(timed.waiting.is_empty() && timed.written == 0);
    }

    #[test]
    fn nothing_is_timed_where_nobody_asks() {
        assert!(RequestTiming::new(0).stages(Instant::now()).is_none());
        assert!(RequestTiming::new(5).stages(Instant::now()).is_some_and(|stages| !stages.traced));
    }

    #[test]
    fn stages_that_were_not_passed_take_no_time() {
        let stages = RequestTiming::new(1).stages(Instant::now()).unwrap();
        stages.queued_us.store(500_000, Ordering::Relaxed);
        stages.written_us.store(400_000, Ordering::Relaxed);
        let ends = stages.ends_us();
        assert!(ends.is_sorted(), "{ends:?}");
        assert_eq!(ends[1..5], [500_000; 4]);
        let text = Spent([100, 1_100, 1_100, 21_100, 21_100, 21_200]).to_string();
        assert_eq!(
            text,
            ": decode 0.1 ms, queue 1.0 ms, append 0.0 ms, flush 20.0 ms, replicate 0.0 ms, answer 0.1 ms"
        );
    }
}
