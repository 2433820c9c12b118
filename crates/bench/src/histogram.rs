//! Latencies in microseconds with three significant digits, up to ten minutes.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Longest latency told apart, in microseconds; longer ones count as this.
const HIGHEST_US: u64 = 600_000_000;

/// One handle's latencies; merged at the end of a run.
pub struct Latencies(Histogram<u64>);

/// Quantiles in milliseconds.
#[derive(Serialize, Clone, Copy, Default)]
pub struct Quantiles {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Latencies {
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self(Histogram::new_with_bounds(1, HIGHEST_US, 3)?))
    }

    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.max(1));
    }

    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.0.add(&other.0);
    }

    pub fn quantiles(&self) -> Quantiles {
        let ms = |us: u64| us as f64 / 1000.0;
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            p50_ms: ms(self.0.value_at_quantile(0.5)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            p999_ms: ms(self.0.value_at_quantile(0.999)),
            max_ms: ms(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_merged_halves_are_those_of_the_whole() {
        let (mut even, mut odd) = (Latencies::new().unwrap(), Latencies::new().unwrap());
        for ms in 1..=1000u64 {
            if ms % 2 == 0 { &mut even } else { &mut odd }.record(Duration::from_millis(ms));
        }
        even.merge(&odd);
        let quantiles = even.quantiles();
        assert!((quantiles.p50_ms - 500.0).abs() < 1.0, "{}", quantiles.p50_ms);
        assert!((quantiles.p99_ms - 990.0).abs() < 1.0, "{}", quantiles.p99_ms);
        assert!((quantiles.max_ms - 1000.0).abs() < 1.0, "{}", quantiles.max_ms);
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_the_highest() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::from_secs(3600));
        assert!(latencies.quantiles().max_ms >= 599_000.0);
    }
}
