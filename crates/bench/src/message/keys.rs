//! Keys: none, or from a number of them, evenly or as a Zipf distribution has it.

use crate::random::Random;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// More keys than this would take more memory for their distribution than a load generator should.
const MOST_KEYS: u64 = 10_000_000;

/// Which keys messages have, as the command line says it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum KeySpec {
    /// No key; messages go round the partitions.
    None,
    /// So many keys, each as likely as the others.
    Uniform(u64),
    /// So many keys; the k-th is chosen in proportion to k to the power of minus the exponent.
    Zipf(u64, f64),
}

impl FromStr for KeySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not none, uniform:COUNT, zipf:COUNT or zipf:COUNT:EXPONENT");
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let count = parts.next().map(|count| count.parse::<u64>().map_err(|_| wrong())).transpose()?;
        let exponent = parts.next().map(|e| e.parse::<f64>().map_err(|_| wrong())).transpose()?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        if let Some(count) = count.filter(|count| *count == 0 || *count > MOST_KEYS) {
            return Err(format!("{count} keys: between 1 and {MOST_KEYS} there can be"));
        }
        if let Some(exponent) = exponent.filter(|e| !(0.0..=10.0).contains(e)) {
            return Err(format!("an exponent of {exponent}: between 0 and 10 it can be"));
        }
        match (kind, count, exponent) {
            ("none", None, None) => Ok(KeySpec::None),
            ("uniform", Some(count), None) => Ok(KeySpec::Uniform(count)),
            ("zipf", Some(count), exponent) => Ok(KeySpec::Zipf(count, exponent.unwrap_or(1.0))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySpec::None => write!(out, "none"),
            KeySpec::Uniform(count) => write!(out, "uniform:{count}"),
            KeySpec::Zipf(count, exponent) => write!(out, "zipf:{count}:{exponent}"),
        }
    }
}

impl Serialize for KeySpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Chooses keys.
#[derive(Clone)]
pub enum Keys {
    /// None at all.
    None,
    /// Evenly from so many.
    Uniform(u64),
    /// By the summed shares of the keys, the last of which is 1.
    Zipf(Arc<[f64]>),
}

impl Keys {
    /// Prepares what the choice needs.
    pub fn new(spec: KeySpec) -> Self {
        match spec {
            KeySpec::None => Keys::None,
            KeySpec::Uniform(count) => Keys::Uniform(count),
            KeySpec::Zipf(count, exponent) => {
                let mut sum = 0.0;
                let summed: Vec<f64> = (1..=count)
                    .map(|rank| {
                        sum += (rank as f64).powf(-exponent);
                        sum
                    })
                    .collect();
                Keys::Zipf(summed.into_iter().map(|share| share / sum).collect())
            }
        }
    }

    /// The number of the next message's key; none where messages have no keys.
    pub fn choose(&self, random: &mut Random) -> Option<u64> {
        match self {
            Keys::None => None,
            Keys::Uniform(count) => Some(random.below(*count)),
            Keys::Zipf(shares) => {
                let point = random.unit();
                Some(shares.partition_point(|share| *share <= point) as u64)
            }
        }
    }

    /// The bytes of a key.
    pub fn bytes(number: u64) -> [u8; 8] {
        // Decimal digits, which show in every tool that prints keys.
        let mut key = *b"00000000";
        let mut rest = number;
        for digit in key.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key
    }

    /// The partition of a key, as Java clients choose it: murmur2, without its sign, modulo the partitions.
    pub fn partition(key: &[u8], partitions: u32) -> u32 {
        (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
    }
}

/// MurmurHash2 with the seed that Kafka's clients use.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0u32, |k, byte| (k << 8) | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0u32, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_and_wrong_ones_refused() {
        assert_eq!("none".parse(), Ok(KeySpec::None));
        assert_eq!("uniform:5".parse(), Ok(KeySpec::Uniform(5)));
        assert_eq!("zipf:100:0.9".parse(), Ok(KeySpec::Zipf(100, 0.9)));
        for wrong in
            ["", "zipf", "uniform:0", "uniform:3:1", "zipf:10:-1", "none:3", "zipf:99999999999", "zipf:1:1:1"]
        {
            assert!(wrong.parse::<KeySpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn zipf_prefers_the_first_keys_as_its_law_says() {
        let keys = Keys::new(KeySpec::Zipf(1000, 1.0));
        let mut random = Random::new(1);
        let mut counts = vec![0u32; 1000];
        for _ in 0..200_000 {
            counts[keys.choose(&mut random).unwrap() as usize] += 1;
        }
        // The shares are 1/k of the sum of 1/k for 1 to 1,000, which is 7.485.
        for (rank, share) in [(1, 0.1336), (2, 0.0668), (10, 0.01336)] {
            let found = f64::from(counts[rank - 1]) / 200_000.0;
            assert!((found - share).abs() < share * 0.15, "rank {rank}: {found}, {share} expected");
        }
    }

    #[test]
    fn keys_go_to_the_partitions_that_java_clients_choose() {
        // Values of Kafka's own test of its murmur2.
        assert_eq!(murmur2(b"21") as i32, -973_932_308);
        assert_eq!(murmur2(b"foobar") as i32, -790_332_482);
        assert_eq!(murmur2(b"a-little-bit-long-string") as i32, -985_981_536);
        assert_eq!(&Keys::bytes(421), b"00000421");
        assert!(Keys::partition(b"21", 6) < 6);
    }
}
