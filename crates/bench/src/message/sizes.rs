//! Sizes of values: fixed, evenly between two, or from a weighted list.

use crate::random::Random;
use crate::units::Bytes;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Largest value that the tool makes; far above what brokers take.
const LARGEST: usize = 256 << 20;

/// How large values are, as the command line says it.
#[derive(Clone, PartialEq, Debug)]
pub enum SizeSpec {
    /// All alike.
    Fixed(Bytes),
    /// Anything from the first to the second, both included, each as likely.
    Uniform(Bytes, Bytes),
    /// Sizes with their weights.
    Weighted(Vec<(Bytes, u32)>),
}

impl FromStr for SizeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let spec = if let Some(range) = text.strip_prefix("uniform:") {
            let (low, high) =
                range.split_once("..").ok_or_else(|| format!("\"{text}\" is not uniform:LOW..HIGH"))?;
            let (low, high): (Bytes, Bytes) = (low.parse()?, high.parse()?);
            if low > high {
                return Err(format!("\"{text}\": {low} is larger than {high}"));
            }
            SizeSpec::Uniform(low, high)
        } else if text.contains('=') {
            let one = |part: &str| {
                let (size, weight) =
                    part.split_once('=').ok_or_else(|| format!("\"{part}\" is not SIZE=WEIGHT"))?;
                match weight.parse::<u32>() {
                    Ok(weight) if weight > 0 => Ok((size.parse::<Bytes>()?, weight)),
                    _ => Err(format!("\"{part}\": the weight is not a whole number above 0")),
                }
            };
            SizeSpec::Weighted(text.split(',').map(one).collect::<Result<_, String>>()?)
        } else {
            SizeSpec::Fixed(text.parse()?)
        };
        match spec.bounds().1 {
            largest if largest > LARGEST => {
                Err(format!("\"{text}\": the largest value is {}", Bytes(LARGEST)))
            }
            _ => Ok(spec),
        }
    }
}

impl SizeSpec {
    /// The smallest and the largest size that can come.
    pub fn bounds(&self) -> (usize, usize) {
        match self {
            SizeSpec::Fixed(size) => (size.0, size.0),
            SizeSpec::Uniform(low, high) => (low.0, high.0),
            SizeSpec::Weighted(sizes) => {
                let all = || sizes.iter().map(|(size, _)| size.0);
                (all().min().unwrap_or(0), all().max().unwrap_or(0))
            }
        }
    }
}

impl fmt::Display for SizeSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeSpec::Fixed(size) => write!(out, "{size}"),
            SizeSpec::Uniform(low, high) => write!(out, "uniform:{low}..{high}"),
            SizeSpec::Weighted(sizes) => {
                for (at, (size, weight)) in sizes.iter().enumerate() {
                    write!(out, "{}{size}={weight}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl Serialize for SizeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SizeSpec::Fixed(size) => size.serialize(serializer),
            other => serializer.collect_str(other),
        }
    }
}

/// Chooses sizes.
#[derive(Clone)]
pub struct Sizes {
    spec: SizeSpec,
    weights: u64,
}

impl Sizes {
    /// Prepares the choice.
    pub fn new(spec: &SizeSpec) -> Self {
        let weights = match spec {
            SizeSpec::Weighted(sizes) => sizes.iter().map(|(_, weight)| u64::from(*weight)).sum(),
            _ => 0,
        };
        Self { spec: spec.clone(), weights }
    }

    /// The size of the next value.
    pub fn choose(&self, random: &mut Random) -> usize {
        match &self.spec {
            SizeSpec::Fixed(size) => size.0,
            SizeSpec::Uniform(low, high) => low.0 + random.below((high.0 - low.0) as u64 + 1) as usize,
            SizeSpec::Weighted(sizes) => {
                let mut point = random.below(self.weights);
                for (size, weight) in sizes {
                    match point.checked_sub(u64::from(*weight)) {
                        Some(rest) => point = rest,
                        None => return size.0,
                    }
                }
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_and_wrong_ones_refused() {
        assert_eq!("1KiB".parse(), Ok(SizeSpec::Fixed(Bytes(1024))));
        assert_eq!("uniform:64..1KiB".parse(), Ok(SizeSpec::Uniform(Bytes(64), Bytes(1024))));
        assert_eq!("64=3,1KiB=1".parse::<SizeSpec>().unwrap().bounds(), (64, 1024));
        assert_eq!("64=3,1KiB=1".parse::<SizeSpec>().unwrap().to_string(), "64=3,1KiB=1");
        for wrong in ["", "uniform:64", "uniform:9..8", "64=0", "64=1,", "1TiB", "1GiB", "uniform:1..9GiB"] {
            assert!(wrong.parse::<SizeSpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn weights_and_ranges_are_kept() {
        let mut random = Random::new(2);
        let weighted = Sizes::new(&"10=3,20=1".parse().unwrap());
        let small = (0..4000).filter(|_| weighted.choose(&mut random) == 10).count();
        assert!((2800..3200).contains(&small), "{small} of 4,000");
        let uniform = Sizes::new(&"uniform:5..7".parse().unwrap());
        let chosen: std::collections::BTreeSet<_> = (0..1000).map(|_| uniform.choose(&mut random)).collect();
        assert_eq!(chosen, [5, 6, 7].into());
    }
}
