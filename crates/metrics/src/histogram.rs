//! Durations in buckets, for places that many threads pass often: two atomic additions each, no lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// The first bucket holds what takes up to 2^7 µs (128 µs).
const FIRST_POWER: u32 = 7;

/// The last bucket with a bound holds what takes up to 2^25 µs (34 s).
const LAST_POWER: u32 = 25;

const BUCKETS: usize = (LAST_POWER - FIRST_POWER + 2) as usize;

/// How often something took how long. Buckets double, from 128 µs to 34 s.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts a duration in microseconds.
    pub fn observe_us(&self, duration_us: u64) {
        // Bounds are inclusive: 128 µs is still in the first bucket.
        let power = u64::BITS - duration_us.saturating_sub(1).leading_zeros();
        let at = power.saturating_sub(FIRST_POWER).min(BUCKETS as u32 - 1) as usize;
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(duration_us, Ordering::Relaxed);
    }

    /// The buckets as (bound in seconds, how many took at most that long); the last bound is infinite.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut sum = 0;
        self.counts.iter().zip(FIRST_POWER..).map(move |(count, power)| {
            sum += count.load(Ordering::Relaxed);
            let bound = if power > LAST_POWER { f64::INFINITY } else { (1u64 << power) as f64 / 1e6 };
            (bound, sum)
        })
    }

    /// All durations together, in seconds.
    pub(crate) fn sum(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them() {
        for (us, bound) in [(0, 0.000_128), (128, 0.000_128), (129, 0.000_256), (1_000_000, 1.048_576)] {
            let histogram = Histogram::default();
            histogram.observe_us(us);
            let first = histogram.buckets().find(|(_, count)| *count == 1).unwrap();
            assert_eq!(first.0, bound, "{us}");
        }
        let histogram = Histogram::default();
        histogram.observe_us(u64::MAX);
        histogram.observe_us(33_554_432);
        let last: Vec<(f64, u64)> = histogram.buckets().skip(BUCKETS - 2).collect();
        assert_eq!(last, [(33.554_432, 1), (f64::INFINITY, 2)]);
        assert_eq!(histogram.count(), 2);
    }
}
