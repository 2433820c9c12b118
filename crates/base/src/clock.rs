//! Time as a value that is handed in, so that whatever must be right can run in a simulation.

use std::sync::atomic::{AtomicI64, Ordering};

/// Milliseconds since the Unix epoch, the unit of every timestamp in Kafka's protocol. `-1` means "none".
pub type Timestamp = i64;

/// A source of time. The node implements it with the operating system's clocks, tests with [`ManualClock`].
pub trait Clock: Send + Sync + 'static {
    /// Wall clock time in milliseconds since the Unix epoch. It may jump in either direction.
    fn wall_ms(&self) -> Timestamp;

    /// Milliseconds on a clock that never goes back; its zero is arbitrary. Every timeout counts on this one.
    fn monotonic_ms(&self) -> u64;
}

/// A clock that moves only when it is told to. Both of its times start at the value it was made with.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now` milliseconds.
    pub fn new(now: Timestamp) -> Self {
        Self { now: AtomicI64::new(now) }
    }

    /// Moves the clock forward by `ms` milliseconds.
    pub fn advance(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> Timestamp {
        self.now.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.now.load(Ordering::SeqCst).max(0) as u64
    }
}
