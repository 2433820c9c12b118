//! The time of a run: warm-up, measurement, drain.
//!
//! An operation belongs to the measurement if it began in it; when it was answered does not matter. In open loops it
//! begins when it is due, whether it could be sent then or not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The clock of a run and the bounds of its measurement, in nanoseconds since the run began.
pub struct Window {
    epoch: Instant,
    epoch_since_1970_ns: u64,
    opened: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

impl Window {
    /// A clock that starts now; the measurement is not yet set.
    pub fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            epoch: Instant::now(),
            epoch_since_1970_ns: nanos(since_1970),
            opened: AtomicU64::new(0),
            start: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
        }
    }

    /// The warm-up begins now.
    pub fn open(&self, warmup: Duration, duration: Duration) {
        let opened = self.now();
        let start = opened + nanos(warmup);
        self.opened.store(opened, Ordering::Release);
        self.start.store(start, Ordering::Release);
        self.end.store(start + nanos(duration), Ordering::Release);
    }

    /// Ends the measurement now, if it would go on.
    pub fn cut(&self) {
        self.end.fetch_min(self.now(), Ordering::AcqRel);
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    /// When the warm-up began: the first message of an open loop is due then.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    /// When the measurement begins.
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }

    /// When the measurement ends: nothing begins at or after it.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// True if what began at this time is measured.
    pub fn counts(&self, begun: u64) -> bool {
        begun >= self.start() && begun < self.end()
    }

    /// The same moment in nanoseconds since 1970. The two clocks do not drift apart during a run.
    pub fn since_1970(&self, ns: u64) -> u64 {
        self.epoch_since_1970_ns.saturating_add(ns)
    }

    /// A moment in nanoseconds since 1970 on this run's clock; 0 for what was before the run.
    pub fn in_run(&self, since_1970_ns: u64) -> u64 {
        since_1970_ns.saturating_sub(self.epoch_since_1970_ns)
    }
}

/// Nanoseconds; more than five centuries count as the most there can be.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_in_the_measurement_counts() {
        let window = Window::new();
        assert!(!window.counts(window.now()), "nothing counts before the window is set");
        window.open(Duration::from_secs(5), Duration::from_secs(30));
        let start = window.start();
        assert!(!window.counts(start - 1));
        assert!(window.counts(start));
        assert!(window.counts(start + 29_999_999_999));
        assert!(!window.counts(start + 30_000_000_000));
        window.cut();
        assert!(!window.counts(start));
    }

    #[test]
    fn moments_survive_the_way_through_a_stamp() {
        let window = Window::new();
        assert_eq!(window.in_run(window.since_1970(12_345)), 12_345);
    }
}
