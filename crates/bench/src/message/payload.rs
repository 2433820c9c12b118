//! What values hold: bytes that nothing compresses, bytes that compress by a stated ratio, or lines of a file.
//!
//! Bytes are made for each message anew, from its number: a pool of values that comes round again would compress
//! as soon as two of a kind meet in one batch.

use crate::message::stamp::STAMP_LEN;
use crate::random::Random;
use anyhow::{Context, Result, bail};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Larger files are not read into memory for their lines.
const LARGEST_FILE: u64 = 1 << 30;

/// What values hold, as the command line says it.
#[derive(Clone, PartialEq, Debug)]
pub enum PayloadSpec {
    /// Random bytes.
    Random,
    /// Bytes that a good compression makes smaller by this factor.
    Ratio(f64),
    /// One line of a file after the other, from the start again at its end.
    File(PathBuf),
}

impl FromStr for PayloadSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "random" => Ok(PayloadSpec::Random),
            Some(("ratio", ratio)) => match ratio.parse::<f64>() {
                Ok(ratio) if (1.0..=1000.0).contains(&ratio) => Ok(PayloadSpec::Ratio(ratio)),
                _ => Err(format!("\"{ratio}\" is not a ratio between 1 and 1000")),
            },
            Some(("file", path)) if !path.is_empty() => Ok(PayloadSpec::File(path.into())),
            _ => Err(format!("\"{text}\" is not random, ratio:NUMBER or file:PATH")),
        }
    }
}

impl fmt::Display for PayloadSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadSpec::Random => write!(out, "random"),
            PayloadSpec::Ratio(ratio) => write!(out, "ratio:{ratio}"),
            PayloadSpec::File(path) => write!(out, "file:{}", path.display()),
        }
    }
}

impl Serialize for PayloadSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Makes values.
#[derive(Clone)]
pub enum Payloads {
    /// One byte in so many is random.
    Bytes {
        /// Original size divided by compressed size.
        ratio: f64,
    },
    /// Lines, by where they end in the text.
    Lines {
        /// The file.
        text: Arc<[u8]>,
        /// Start and end of each line that is not empty.
        lines: Arc<[(usize, usize)]>,
    },
}

impl Payloads {
    /// Reads the file, if it is one; an error when it cannot be read, is too large or has no lines.
    pub fn new(spec: &PayloadSpec) -> Result<Self> {
        let path = match spec {
            PayloadSpec::Random => return Ok(Payloads::Bytes { ratio: 1.0 }),
            PayloadSpec::Ratio(ratio) => return Ok(Payloads::Bytes { ratio: *ratio }),
            PayloadSpec::File(path) => path,
        };
        let size =
            std::fs::metadata(path).with_context(|| format!("--payload file:{}", path.display()))?.len();
        if size > LARGEST_FILE {
            bail!("--payload file:{}: {size} bytes; at most {LARGEST_FILE} are read", path.display());
        }
        let text = std::fs::read(path).with_context(|| format!("--payload file:{}", path.display()))?;
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                lines.push((start, start + line.len()));
            }
            start += line.len() + 1;
        }
        if lines.is_empty() {
            bail!("--payload file:{}: there is no line in it", path.display());
        }
        Ok(Payloads::Lines { text: text.into(), lines: lines.into() })
    }

    /// Bytes of the largest value; `largest` is that of `--message-size`, which lines do not heed.
    pub fn largest(&self, largest: usize) -> usize {
        match self {
            Payloads::Bytes { .. } => largest,
            Payloads::Lines { lines, .. } => {
                STAMP_LEN + lines.iter().map(|(start, end)| end - start).max().unwrap_or(0)
            }
        }
    }

    /// Makes the value of the `number`-th message in `out`. Lines stand behind room for a stamp.
    pub fn write(&self, number: u64, size: usize, out: &mut Vec<u8>) {
        const WORDS: &[u8] =
            b"{\"station\":\"harbour\",\"state\":\"open\",\"unit\":\"metre\",\"quality\":\"checked\"}";
        out.clear();
        match self {
            Payloads::Bytes { ratio } => {
                let random = (size as f64 / ratio) as usize;
                Random::new(number).append(random, out);
                out.extend(WORDS.iter().cycle().take(size - random));
            }
            Payloads::Lines { text, lines } => {
                out.resize(STAMP_LEN, 0);
                let at = (number % lines.len().max(1) as u64) as usize;
                let line = lines.get(at).and_then(|(start, end)| text.get(*start..*end));
                out.extend_from_slice(line.unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// By which factor a batch of such values compresses.
    fn compression(spec: PayloadSpec) -> f64 {
        let payloads = Payloads::new(&spec).unwrap();
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        let mut value = Vec::new();
        for number in 0..500 {
            payloads.write(number, 1024, &mut value);
            assert_eq!(value.len(), 1024);
            encoder.write_all(&value).unwrap();
        }
        500.0 * 1024.0 / encoder.finish().unwrap().len() as f64
    }

    #[test]
    fn random_values_do_not_compress_and_ratios_are_kept() {
        let random = compression(PayloadSpec::Random);
        assert!((0.98..1.01).contains(&random), "{random}");
        for ratio in [2.0, 4.0] {
            let found = compression(PayloadSpec::Ratio(ratio));
            assert!((ratio * 0.85..ratio * 1.05).contains(&found), "ratio {ratio}: {found}");
        }
    }

    #[test]
    fn lines_come_in_turn_without_the_empty_ones() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"first\n\nsecond\n").unwrap();
        let payloads = Payloads::new(&PayloadSpec::File(file.path().into())).unwrap();
        let mut value = Vec::new();
        let mut line = |number| {
            payloads.write(number, 0, &mut value);
            String::from_utf8(value[STAMP_LEN..].to_vec()).unwrap()
        };
        assert_eq!([line(0), line(1), line(2)], ["first", "second", "first"]);
        assert_eq!(payloads.largest(1), STAMP_LEN + 6);
    }

    #[test]
    fn wrong_specifications_are_refused() {
        for wrong in ["", "zeros", "ratio:0.5", "ratio:x", "file:", "random:1"] {
            assert!(wrong.parse::<PayloadSpec>().is_err(), "{wrong}");
        }
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(Payloads::new(&PayloadSpec::File(empty.path().into())).is_err());
        assert!(Payloads::new(&PayloadSpec::File("/no/such/file".into())).is_err());
    }
}
