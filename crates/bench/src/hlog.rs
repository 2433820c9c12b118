//! Interval logs: the histogram of each second, as HdrHistogram's own tools read them.

use crate::histogram::Latencies;
use anyhow::{Context, Result, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// One stream's seconds.
pub struct Intervals {
    /// Its name, which becomes the tag of its lines.
    pub stream: String,
    /// Seconds from the start of the measurement, and their latencies.
    pub seconds: Vec<(i64, Latencies)>,
}

/// Writes the log. Values are microseconds, the line's maximum milliseconds; `start` is when the measurement began.
pub fn write(path: &Path, start: SystemTime, streams: &[Intervals]) -> Result<()> {
    let named = || format!("writing {} (--hlog)", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(named)?);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("chronik-bench: latencies in microseconds of what began after the warm-up")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(1000.0)
        .begin_log_with(&mut out, &mut serializer)
        .with_context(named)?;
    for stream in streams {
        // A tag holds no comma, space or line end.
        let tag: String =
            stream.stream.chars().map(|c| if c.is_alphanumeric() || c == '=' { c } else { '-' }).collect();
        for (second, latencies) in &stream.seconds {
            let begin = Duration::from_secs(u64::try_from(*second).unwrap_or(0));
            log.write_histogram(latencies.inner(), begin, Duration::from_secs(1), Tag::new(&tag))
                .map_err(|error| anyhow!("writing {} (--hlog): {error:?}", path.display()))?;
        }
    }
    drop(log);
    std::io::Write::flush(&mut out).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_log_holds_every_second_of_every_stream() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(5_000_000);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.hlog");
        let streams: Vec<_> = ["acks=1", "end to end"]
            .map(|name| Intervals {
                stream: name.to_owned(),
                seconds: vec![(0, latencies.clone()), (1, latencies.clone())],
            })
            .into();
        write(&path, SystemTime::now(), &streams).unwrap();
        let text = std::fs::read(&path).unwrap();
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                tags.push(interval.tag().unwrap().as_str().to_owned());
                let read = Latencies::decode(interval.encoded_histogram()).unwrap();
                assert_eq!(read.count(), 1);
            }
        }
        assert_eq!(tags, ["acks=1", "acks=1", "end-to-end", "end-to-end"]);
    }
}
