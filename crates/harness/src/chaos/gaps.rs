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
            partition.acknowledged(self.started.elapsed());
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
        let now = self.started.elapsed();
        let longest = |partition: &Mutex<Partition>| {
            partition.lock().unwrap_or_else(PoisonError::into_inner).longest(from, to, now)
        };
        self.partitions.iter().map(longest).collect()
    }
}

impl Partition {
    fn acknowledged(&mut self, now: Duration) {
        let last = std::mem::replace(&mut self.last, now);
        if now.saturating_sub(last) >= WORTH_KEEPING && !last.is_zero() {
            self.gaps.push((last, now));
        }
    }

    fn longest(&self, from: Duration, to: Duration, now: Duration) -> Duration {
        let inside =
            self.gaps.iter().rev().take_while(|(_, end)| *end > from).filter(|(begin, _)| *begin < to);
        let closed = inside.map(|(begin, end)| end.saturating_sub(*begin)).max();
        closed.unwrap_or_default().max(now.min(to).saturating_sub(self.last))
    }
}

/// The value below which `percent` of the sorted values are.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn a_gap_counts_for_the_time_that_it_reaches_into() {
        let mut partition = Partition { last: ms(1), gaps: Vec::new() };
        for at in [10, 300, 310, 1000, 1010] {
            partition.acknowledged(ms(at));
        }
        assert_eq!(partition.longest(ms(0), ms(5), ms(1010)), ms(0));
        assert_eq!(partition.longest(ms(200), ms(305), ms(1010)), ms(290));
        assert_eq!(partition.longest(ms(200), ms(400), ms(1010)), ms(690));
        assert_eq!(partition.longest(ms(1005), ms(1100), ms(1010)), ms(0));
        assert_eq!(partition.longest(ms(1005), ms(2000), ms(1500)), ms(490), "still open");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<Duration> = (1..=100).map(ms).collect();
        assert_eq!(percentile(&values, 50), ms(50));
        assert_eq!(percentile(&values, 99), ms(99));
        assert_eq!(percentile(&values, 100), ms(100));
        assert_eq!(percentile(&[], 99), ms(0));
    }
}
