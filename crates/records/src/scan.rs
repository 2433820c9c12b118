//! The pass over a client's records at the door: lengths, offsets, timestamps, keys. It allocates nothing unless it
//! finds something to complain about.

use chronik_base::{ErrorCode, Timestamp};

use crate::header::{BatchHeader, NO_TIMESTAMP, TimestampType};
use crate::record::{RecordFault, timestamp};
use crate::source::{Source, SourceError};
use crate::validate::{ProduceRules, RecordIssue};

/// At most so many records are named in an error; the batch is refused as a whole anyway.
pub const RECORD_ISSUES_MAX: usize = 1000;

/// What the pass has learned.
pub(crate) struct Scan {
    /// Largest timestamp, -1 if no record has one.
    pub max_timestamp: Timestamp,
    /// Offset delta of the first record that has it, -1 if none.
    pub max_timestamp_delta: i32,
    /// Bytes of the records without compression.
    pub uncompressed_size: u64,
    /// Records that break a rule; their batch is whole all the same.
    pub issues: Issues,
}

/// Records that were refused.
#[derive(Default)]
pub(crate) struct Issues {
    pub listed: Vec<RecordIssue>,
    pub total: usize,
    pub has_timestamp: bool,
}

impl Issues {
    #[cold]
    fn add(&mut self, index: i32, code: ErrorCode, message: String) {
        self.total += 1;
        self.has_timestamp |= code == ErrorCode::InvalidTimestamp;
        if self.listed.len() < RECORD_ISSUES_MAX {
            self.listed.push(RecordIssue { batch_index: index, message });
        }
    }
}

/// Reads all records of the batch. On an error, the number says which record it was.
pub(crate) fn scan<S: Source>(
    source: &mut S,
    header: &BatchHeader,
    rules: &ProduceRules,
    now_ms: Timestamp,
) -> Result<Scan, (usize, SourceError)> {
    let check_timestamps = rules.timestamp_type == TimestampType::CreateTime;
    let earliest = now_ms.saturating_sub(rules.timestamp_before_max_ms);
    let latest = now_ms.saturating_add(rules.timestamp_after_max_ms);
    let mut scan = Scan {
        max_timestamp: NO_TIMESTAMP,
        max_timestamp_delta: -1,
        uncompressed_size: 0,
        issues: Issues::default(),
    };
    for index in 0..header.record_count {
        let at = |error| (index as usize, error);
        let shape = source.record().map_err(at)?;
        if shape.offset_delta != index {
            let fault = RecordFault::OffsetDelta { found: shape.offset_delta, lowest: index, highest: index };
            return Err(at(fault.into()));
        }
        let timestamp = timestamp(header, shape.timestamp_delta).map_err(|fault| at(fault.into()))?;
        if timestamp > scan.max_timestamp {
            scan.max_timestamp = timestamp;
            scan.max_timestamp_delta = index;
        }
        if rules.compacted && shape.key.is_none() {
            let message = "a record of a compacted topic (cleanup.policy=compact) needs a key".to_owned();
            scan.issues.add(index, ErrorCode::InvalidRecord, message);
        } else if check_timestamps
            && (timestamp < earliest || timestamp > latest)
            && timestamp != NO_TIMESTAMP
        {
            let message = format!(
                "timestamp {timestamp} is out of range: message.timestamp.before.max.ms and \
                 message.timestamp.after.max.ms allow {earliest} to {latest}"
            );
            scan.issues.add(index, ErrorCode::InvalidTimestamp, message);
        }
    }
    let count = header.record_count.max(0) as usize;
    if !source.at_end().map_err(|error| (count, error))? {
        return Err((count, RecordFault::TrailingBytes.into()));
    }
    scan.uncompressed_size = source.position();
    Ok(scan)
}
