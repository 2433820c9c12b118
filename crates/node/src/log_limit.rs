//! Log lines about bad input: at most one for each reason in five seconds, with the number that was left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Milliseconds in which one reason is logged once.
const INTERVAL_MS: u64 = 5_000;

/// Reasons that are remembered; whatever is beyond shares one entry.
const REASONS_MAX: usize = 64;

/// Decides which lines are written. Reasons are fixed words, so that a peer can't make new ones.
#[derive(Debug, Default)]
pub struct LogLimit {
    reasons: Mutex<HashMap<&'static str, Reason>>,
}

#[derive(Debug)]
struct Reason {
    logged_at_ms: u64,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line about `reason` may be written at `now_ms`; if so, how many were left out since the last one.
    pub fn admit(&self, reason: &'static str, now_ms: u64) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if reasons.len() < REASONS_MAX || reasons.contains_key(reason) { reason } else { "other" };
        match reasons.get_mut(key) {
            Some(entry) if now_ms.saturating_sub(entry.logged_at_ms) < INTERVAL_MS => {
                entry.left_out += 1;
                None
            }
            Some(entry) => {
                entry.logged_at_ms = now_ms;
                Some(std::mem::take(&mut entry.left_out))
            }
            None => {
                reasons.insert(key, Reason { logged_at_ms: now_ms, left_out: 0 });
                Some(0)
            }
        }
    }

    /// Writes `text()` as a warning, if a line about `reason` may be written at `now_ms`.
    pub fn warn(&self, reason: &'static str, now_ms: u64, text: impl FnOnce() -> String) {
        match self.admit(reason, now_ms) {
            Some(0) => tracing::warn!("{}", text()),
            Some(left_out) => {
                tracing::warn!("{} (and {left_out} more like this since the last line)", text())
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_reason_in_five_seconds() {
        let limit = LogLimit::default();
        assert_eq!(limit.admit("a", 0), Some(0));
        assert_eq!(limit.admit("a", 10), None);
        assert_eq!(limit.admit("b", 10), Some(0));
        assert_eq!(limit.admit("a", 4_999), None);
        assert_eq!(limit.admit("a", 5_000), Some(2));
        assert_eq!(limit.admit("a", 20_000), Some(0));
    }
}
