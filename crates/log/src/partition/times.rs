//! Look-ups by time.

use chronik_records::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES};

use super::PartitionLog;
use super::read::ATTEMPTS;
use super::segments::StoredSegment;
use super::state::TailBatch;
use crate::disk::OpenMode;
use crate::error::LogError;
use crate::segment::Scanner;

/// A record's place by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
}

impl PartitionLog {
    /// The first record with a timestamp of at least `timestamp`.
    ///
    /// # Errors
    /// The disk can't be read, or a batch can't be decompressed.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampAndOffset>, LogError> {
        self.undisturbed(|segments| self.search(segments, timestamp))
    }

    /// Asks the stored segments; again, if they were exchanged meanwhile.
    fn undisturbed<T>(&self, ask: impl Fn(&[StoredSegment]) -> Result<T, LogError>) -> Result<T, LogError> {
        let mut attempts = 0;
        loop {
            let (segments, version) = self.stored_segments()?;
            let answer = ask(&segments);
            attempts += 1;
            let suspicious = answer.is_err() || self.lock().version != version;
            if attempts < ATTEMPTS && suspicious && self.changed_since(version) {
                continue;
            }
            return answer.map_err(|e| self.damage_since(version, e));
        }
    }

    fn search(
        &self,
        segments: &[StoredSegment],
        timestamp: i64,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        let log_start = self.log_start_offset();
        for segment in segments {
            if segment.end <= log_start || self.max_timestamp_of(segment)? < timestamp {
                continue;
            }
            if let Some(found) = self.search_segment(segment, timestamp, log_start)? {
                return Ok(Some(found));
            }
        }
        let tail: Vec<TailBatch> = {
            let state = self.lock();
            state.usable()?;
            let late = |b: &&TailBatch| b.max_timestamp >= timestamp && b.last_offset >= log_start;
            state.tail.iter().skip(state.spilled).filter(late).cloned().collect()
        };
        for batch in tail {
            let direct;
            let bytes = if batch.bytes.is_empty() {
                direct = self.read_direct(&batch)?;
                &direct[..]
            } else {
                &batch.bytes[..]
            };
            let parsed = Batch::parse(bytes).map_err(|e| self.undecodable(&e))?;
            if let Some(found) = self.search_batch(&parsed, timestamp, log_start)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp (KIP-734).
    ///
    /// # Errors
    /// As [`PartitionLog::offset_for_timestamp`].
    pub fn max_timestamp(&self) -> Result<Option<TimestampAndOffset>, LogError> {
        let log_start = self.log_start_offset();
        let mut largest = self.undisturbed(|segments| {
            let above = segments.iter().filter(|s| s.end > log_start);
            above.map(|s| self.max_timestamp_of(s)).try_fold(-1, |largest, t| Ok(t?.max(largest)))
        })?;
        {
            let state = self.lock();
            let late = state.tail.iter().skip(state.spilled).filter(|b| b.last_offset >= log_start);
            largest = late.map(|b| b.max_timestamp).fold(largest, i64::max);
        }
        if largest < 0 { Ok(None) } else { self.offset_for_timestamp(largest) }
    }

    /// Largest timestamp in a stored segment; -1 if it has none.
    pub(crate) fn max_timestamp_of(&self, segment: &StoredSegment) -> Result<i64, LogError> {
        {
            let state = self.lock();
            if !segment.sealed {
                return Ok(state.stored.index.max_timestamp);
            }
            let known = state.sealed.iter().find(|s| s.base == segment.base).and_then(|s| s.max_timestamp);
            if let Some(known) = known {
                return Ok(known);
            }
        }
        let last = self.with_index(segment, |index| index.last())?;
        let largest = last.map_or(-1, |e| e.max_timestamp_before);
        let mut state = self.lock();
        if let Some(known) = state.sealed.iter_mut().find(|s| s.base == segment.base) {
            known.max_timestamp = Some(largest);
        }
        Ok(largest)
    }

    fn search_segment(
        &self,
        segment: &StoredSegment,
        timestamp: i64,
        log_start: i64,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        let path = self.segment_path(segment.base);
        let file = self.segment_file(segment.base, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let from = self.floor(segment, &*file, |index| index.by_timestamp(timestamp))?;
        let mut scanner = Scanner::new(&*file, from, segment.size);
        while let Some((position, header)) = scanner.next_header().map_err(|f| f.into_error(&path))? {
            if header.max_timestamp < timestamp || header.last_offset() < log_start {
                continue;
            }
            let mut one = Scanner::new(&*file, position, segment.size);
            let read = one.next_batch().map_err(|f| f.into_error(&path))?;
            let Some((_, batch)) = read else { break };
            if let Some(found) = self.search_batch(&batch, timestamp, log_start)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record of a batch that is late enough.
    fn search_batch(
        &self,
        batch: &Batch<'_>,
        timestamp: i64,
        log_start: i64,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        let records = batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES).map_err(|e| self.undecodable(&e))?;
        for record in records.iter() {
            let record = record.map_err(|e| self.undecodable(&e))?;
            if record.timestamp >= timestamp && record.offset >= log_start {
                return Ok(Some(TimestampAndOffset {
                    timestamp: record.timestamp,
                    offset: record.offset,
                    leader_epoch: batch.header().partition_leader_epoch,
                }));
            }
        }
        Ok(None)
    }

    /// Reads a batch that went straight to its segment.
    fn read_direct(&self, batch: &TailBatch) -> Result<Vec<u8>, LogError> {
        let path = self.segment_path(batch.segment);
        let file = self.segment_file(batch.segment, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let mut bytes = vec![0; batch.size as usize];
        let read = file.read_at(&mut bytes, batch.position).map_err(LogError::io("read", &path))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn undecodable(&self, error: &dyn std::error::Error) -> LogError {
        LogError::Undecodable { partition: self.key(), what: error.to_string() }
    }
}
