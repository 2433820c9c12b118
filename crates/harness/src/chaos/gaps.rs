//! Times without an acknowledgement, by partition, and which fault they belong to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shorter gaps are the load's own rhythm.
const WORTH_KEEPING: Duration = Duration::from_millis(25);

/// When each partition's records were acknowledged.
pub struct Acknowledgements {
    started: Instant,
    total: AtomicU64,
    failed: AtomicU64,
    partitions: Vec<Mutex<Partition>>,
}

struct Partition {
    last: Duration,
    gaps: Vec<(Duration, Duration)>,
}

impl Acknowledgements {
    /// Times are counted from `started`.
    pub fn new(started: Instant, partitions: usize) -> Self {
        let fresh = || Mutex::new(Partition { last: Duration::ZERO, gaps: Vec::new() });
        Self {
            started,
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            partitions: std::iter::repeat_with(fresh).take(partitions).collect(),
        }
    }

    pub fn acknowledged(&self, partition: usize) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if let Some(partition) = self.partitions.get(partition) {
            let mut partition = partition.lock().unwrap_or_else(PoisonError::into_inner);
            // Inside the lock: several producers' threads come here.
            let now = self.started.elapsed();
            let last = std::mem::replace(&mut partition.last, now);
            if now.saturating_sub(last) >= WORTH_KEEPING && !last.is_zero() {
                partition.gaps.push((last, now));
            }
        }
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Records acknowledged, and records that failed for good.
    pub fn totals(&self) -> (u64, u64) {
        (self.total.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// For each partition the longest gap that reaches into this time; one that is still open counts up to its end.
    pub fn longest(&self, from: Duration, to: Duration) -> Vec<Duration> {
        let longest = |partition: &Mutex<Partition>| {
            let partition = partition.lock().unwrap_or_else(PoisonError::into_inner);
            let inside = partition.gaps.iter().rev().take_while(|(_, end)| *end > from);
            let closed =
                inside.filter(|(begin, _)| *begin < to).map(|(begin, end)| end.saturating_sub(*begin)).max();
            let open = if partition.last < to {
                self.started.elapsed().min(to).saturating_sub(partition.last)
            } else {
                Duration::ZERO
            };
            closed.unwrap_or_default().max(open)
        };
        self.partitions.iter().map(longest).collect()
    }
}

/// The value below which `percent` of the sorted values are.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}
