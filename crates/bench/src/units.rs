//! Durations and sizes as people write them.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration: `30s`, `500ms`, `2m`, `1.5s`; a plain number counts seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a duration such as 30s, 500ms, 100us or 2m");
        let (number, unit) = split(text);
        let seconds_per_unit = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        // Longer runs than a week would overflow what the tool counts in.
        match number * seconds_per_unit {
            seconds if seconds <= 7.0 * 86_400.0 => {
                Duration::try_from_secs_f64(seconds).map(Span).map_err(|_| wrong())
            }
            _ => Err(format!("\"{text}\" is longer than a week")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        match us {
            us if us.is_multiple_of(1_000_000) => write!(out, "{}s", us / 1_000_000),
            us if us.is_multiple_of(1_000) => write!(out, "{}ms", us / 1_000),
            us => write!(out, "{us}us"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes: `256`, `16KB` (10³), `1KiB` (2¹⁰), `1MiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bytes(pub usize);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a size such as 256, 1KiB or 1MiB");
        let (number, unit) = split(text);
        let factor: usize = match unit {
            "" | "B" => 1,
            "KB" | "kB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: usize = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Bytes).ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(out, "0"),
            bytes if bytes.is_multiple_of(1 << 20) => write!(out, "{}MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(out, "{}KiB", bytes >> 10),
            bytes => write!(out, "{bytes}"),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 as u64)
    }
}

/// The number and its unit.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is not KEY=VALUE, such as linger.ms=5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("2"), Ok(Duration::from_secs(2)));
        assert_eq!(span("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["soon", "5d", "-1s", "1.2.3s", "", "s", "9999999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!("0.0015s".parse::<Span>().unwrap().to_string(), "1500us");
    }

    #[test]
    fn sizes_take_units() {
        assert_eq!("1KiB".parse(), Ok(Bytes(1024)));
        assert_eq!("1MB".parse(), Ok(Bytes(1_000_000)));
        assert_eq!("256".parse(), Ok(Bytes(256)));
        for wrong in ["big", "1.5KiB", "-1", "", "KiB", "99999999999999999999GiB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!(Bytes(16_384).to_string(), "16KiB");
    }
}
