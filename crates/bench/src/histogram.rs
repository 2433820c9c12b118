//! Latencies in microseconds with three significant digits; the range grows with what comes, so nothing is clipped.

use crate::result::Latency;
use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// A growing set of latencies.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// An empty set.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3).context("making a histogram")?))
    }

    /// Adds one latency. Less than a microsecond counts as one.
    pub fn record(&mut self, latency_ns: u64) {
        let us = (latency_ns / 1000).max(1);
        // It grows as far as memory goes; a value beyond that counts as the highest, so that no sample is dropped.
        if self.0.record(us).is_err() {
            self.0.saturating_record(us);
        }
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.0.add(&other.0).context("adding up histograms")
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many latencies there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// A quantile in milliseconds; 0 of an empty set.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1000.0 }
    }

    /// The longest in milliseconds; 0 of an empty set.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }

    /// The histogram itself, for an interval log.
    pub fn inner(&self) -> &Histogram<u64> {
        &self.0
    }

    /// For the result file.
    pub fn describe(&self) -> Result<Latency> {
        Ok(Latency {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            p9999_ms: self.quantile_ms(0.9999),
            max_ms: self.max_ms(),
            histogram: self.encode()?,
        })
    }

    /// HdrHistogram V2, deflated, base64.
    fn encode(&self) -> Result<String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).context("writing a histogram")?;
        Ok(STANDARD.encode(&bytes))
    }

    /// Reads what a result file holds; an error when it is no histogram.
    pub fn decode(text: &str) -> Result<Self> {
        let bytes = STANDARD.decode(text).context("the histogram is not base64")?;
        let read = Deserializer::new().deserialize(&mut bytes.as_slice());
        Ok(Self(read.map_err(|error| anyhow!("reading a histogram: {error:?}"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn quantiles_of_merged_halves_are_those_of_the_whole() {
        let (mut even, mut odd) = (Latencies::new().unwrap(), Latencies::new().unwrap());
        for ms in 1..=1000u64 {
            if ms % 2 == 0 { &mut even } else { &mut odd }.record(ms * MS);
        }
        even.merge(&odd).unwrap();
        let found = even.describe().unwrap();
        assert_eq!(found.count, 1000);
        assert!((found.p50_ms - 500.0).abs() < 1.0, "{}", found.p50_ms);
        assert!((found.p99_ms - 990.0).abs() < 1.0, "{}", found.p99_ms);
        assert!((found.max_ms - 1000.0).abs() < 1.0, "{}", found.max_ms);
    }

    #[test]
    fn an_hour_is_not_clipped() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(3_600_000 * MS);
        assert!((latencies.max_ms() / 3_600_000.0 - 1.0).abs() < 0.001, "{}", latencies.max_ms());
    }

    #[test]
    fn the_encoded_histogram_is_whole() {
        let mut latencies = Latencies::new().unwrap();
        for us in 1..5000u64 {
            latencies.record(us * us * 1000);
        }
        let text = latencies.encode().unwrap();
        assert!(text.starts_with("HISTFAAA"), "{text}");
        assert_eq!(Latencies::decode(&text).unwrap().0, latencies.0);
        assert!(Latencies::decode("HIST!").is_err());
        assert!(Latencies::decode("SElTVEZBQUE=").is_err());
    }
}
