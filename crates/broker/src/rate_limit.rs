//! Log lines that hostile or broken clients can cause without end come at most every few seconds.

use std::sync::atomic::{AtomicU64, Ordering};

const INTERVAL_MS: u64 = 5_000;

/// Lets one line through each five seconds and counts the others.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    /// When the next line may come, on the monotonic clock; 0 is "at once".
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimit {
    /// If a line may be written now: how many were left out since the last one.
    pub(crate) fn allow(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_ms.load(Ordering::Relaxed);
        let claimed = now_ms >= next
            && self
                .next_ms
                .compare_exchange(next, now_ms + INTERVAL_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if claimed {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_interval() {
        let limit = RateLimit::default();
        assert_eq!(limit.allow(10), Some(0));
        assert_eq!(limit.allow(11), None);
        assert_eq!(limit.allow(10 + INTERVAL_MS), Some(1));
    }
}
