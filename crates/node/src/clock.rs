//! The operating system's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chronik_base::{Clock, Timestamp};

/// The time as the operating system has it.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started_at: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { started_at: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock that was never set.
            Err(_) => 0,
        }
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
