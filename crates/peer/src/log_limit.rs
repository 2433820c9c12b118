//! Log lines about peers: one when something changes, then one in 30 seconds while it stays the same.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same line about the same subject is left out: 30 s.
const INTERVAL: Duration = Duration::from_secs(30);

/// Subjects that are remembered; beyond, the oldest is forgotten.
const SUBJECTS_MAX: usize = 256;

/// Decides which lines are written.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    subjects: Mutex<HashMap<String, Logged>>,
}

#[derive(Debug)]
struct Logged {
    line: String,
    at: Instant,
    left_out: u64,
}

impl LogLimit {
    /// Whether `line` may be written about `subject` at `now`; if so, how often it was left out since it was last written.
    pub(crate) fn admit(&self, subject: &str, line: &str, now: Instant) -> Option<u64> {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(logged) = subjects.get_mut(subject) {
            if logged.line == line && now.saturating_duration_since(logged.at) < INTERVAL {
                logged.left_out += 1;
                return None;
            }
            let left_out = if logged.line == line { logged.left_out } else { 0 };
            *logged = Logged { line: line.to_owned(), at: now, left_out: 0 };
            return Some(left_out);
        }
        if subjects.len() >= SUBJECTS_MAX {
            let oldest =
                subjects.iter().min_by_key(|(_, logged)| logged.at).map(|(subject, _)| subject.clone());
            if let Some(oldest) = oldest {
                subjects.remove(&oldest);
            }
        }
        subjects.insert(subject.to_owned(), Logged { line: line.to_owned(), at: now, left_out: 0 });
        Some(0)
    }

    /// Writes `line` about `subject` as a warning, if it may be written.
    pub(crate) fn warn(&self, subject: &str, line: &str) {
        match self.admit(subject, line, Instant::now()) {
            Some(0) => tracing::warn!("{subject}: {line}"),
            Some(left_out) => {
                tracing::warn!("{subject}: {line} (and {left_out} times more since the last line)")
            }
            None => {}
        }
    }

    /// All is well with `subject`: the next trouble is written at once.
    pub(crate) fn forget(&self, subject: &str) {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_when_it_changes_or_after_half_a_minute() {
        let limit = LogLimit::default();
        let start = Instant::now();
        assert_eq!(limit.admit("node 1", "refused", start), Some(0));
        assert_eq!(limit.admit("node 1", "refused", start), None);
        assert_eq!(limit.admit("node 2", "refused", start), Some(0));
        assert_eq!(limit.admit("node 1", "refused", start + INTERVAL), Some(1));
        assert_eq!(limit.admit("node 1", "timed out", start + INTERVAL), Some(0));
        limit.forget("node 1");
        assert_eq!(limit.admit("node 1", "timed out", start + INTERVAL), Some(0));
    }

    #[test]
    fn the_number_of_subjects_is_bounded() {
        let limit = LogLimit::default();
        let start = Instant::now();
        for i in 0..2 * SUBJECTS_MAX {
            limit.admit(&i.to_string(), "line", start);
        }
        assert_eq!(limit.subjects.lock().unwrap().len(), SUBJECTS_MAX);
    }
}
