//! `replication.throttle.bytes.per.sec`: how fast replicas that are behind are sent their history.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A token bucket of one second. Live replication does not draw from it.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: AtomicU64,
    tokens: AtomicI64,
    filled_ms: AtomicU64,
}

impl Throttle {
    /// So many bytes a second; 0 is no limit.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: AtomicU64::new(bytes_per_second),
            tokens: AtomicI64::new(0),
            filled_ms: AtomicU64::new(0),
        }
    }

    /// The setting was altered.
    pub(crate) fn set_rate(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// How long to wait before more is sent, if at all.
    pub(crate) fn wait(&self, now_ms: u64) -> Option<Duration> {
        let bytes_per_second = self.bytes_per_second.load(Ordering::Relaxed);
        if bytes_per_second == 0 {
            return None;
        }
        let before = self.filled_ms.fetch_max(now_ms, Ordering::AcqRel);
        let passed = now_ms.saturating_sub(before).min(1_000);
        let rate = i64::try_from(bytes_per_second).unwrap_or(i64::MAX);
        let gained = rate.saturating_mul(i64::try_from(passed).unwrap_or(0)) / 1_000;
        let have = self.tokens.fetch_add(gained, Ordering::AcqRel).saturating_add(gained);
        if have > rate {
            self.tokens.store(rate, Ordering::Release);
        }
        if have > 0 {
            return None;
        }
        let missing_ms = have.unsigned_abs().saturating_add(1).saturating_mul(1_000) / bytes_per_second;
        Some(Duration::from_millis(missing_ms.clamp(5, 1_000)))
    }

    /// So many bytes were sent.
    pub(crate) fn spend(&self, bytes: usize) {
        if self.bytes_per_second.load(Ordering::Relaxed) > 0 {
            self.tokens.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_back_what_is_over_the_rate_and_no_longer_than_needed() {
        let throttle = Throttle::new(1_000_000);
        assert_eq!(throttle.wait(10_000), None, "a full second's worth is there at first");
        throttle.spend(1_500_000);
        let wait = throttle.wait(10_000).unwrap();
        assert!((Duration::from_millis(495)..=Duration::from_millis(505)).contains(&wait), "{wait:?}");
        assert_eq!(throttle.wait(10_502), None);
    }

    #[test]
    fn no_limit_never_waits() {
        let throttle = Throttle::new(0);
        throttle.spend(usize::MAX);
        assert_eq!(throttle.wait(0), None);
    }
}
