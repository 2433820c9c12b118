//! Retention: which segments are too old or too many. And what a checkpoint notes of a log.

use std::sync::Arc;

use super::PartitionLog;
use crate::checkpoint::Record;
use crate::disk::OpenMode;
use crate::error::{AppendError, LogError};

impl PartitionLog {
    /// Moves the log's start up as `retention.ms` and `retention.bytes` demand. True if there are segments to remove once
    /// that is flushed.
    pub(crate) fn expire(self: &Arc<Self>, now_ms: i64) -> Result<bool, LogError> {
        let (options, sealed_bytes, active_bytes) = {
            let mut state = self.lock();
            if state.deleted || state.offline.is_some() {
                return Ok(false);
            }
            state.producers.expire(now_ms, self.core.options.producer_id_expiration_ms);
            (state.options.clone(), state.stored.sealed_bytes, state.stored.position)
        };
        // Most partitions of a node have one segment, or nothing at all: no look at their files.
        let by_time = options.cleanup.delete && options.retention_ms >= 0;
        if sealed_bytes == 0 && (!by_time || active_bytes == 0) {
            return Ok(false);
        }
        let settled = self.settled_offset();
        let log_start = self.log_start_offset();
        let mut start = log_start;
        let mut size = self.size();
        for segment in self.stored_segments()?.0 {
            if segment.end > settled {
                break;
            }
            if segment.end <= log_start {
                size = size.saturating_sub(segment.size);
                continue;
            }
            if !options.cleanup.delete {
                break;
            }
            let over = options.retention_bytes >= 0
                && segment.sealed
                && size.saturating_sub(segment.size) >= options.retention_bytes as u64;
            let old = by_time && self.is_old(&segment, now_ms, options.retention_ms)?;
            if !over && !old {
                break;
            }
            if !segment.sealed && !self.roll()? {
                break;
            }
            size = size.saturating_sub(segment.size);
            start = segment.end;
        }
        if start > log_start {
            match self.delete_records(start) {
                Ok(_) => tracing::debug!(
                    "partition {}: retention moves its start from {log_start} to {start}",
                    self.key
                ),
                // The storage takes no writes: the next pass tries again.
                Err(AppendError::Log(e)) => return Err(e),
                Err(_) => return Ok(false),
            }
        }
        let state = self.lock();
        let first_end = state.sealed.get(1).map_or(state.stored.segment, |next| next.base);
        Ok(!state.sealed.is_empty() && first_end <= self.log_start_offset())
    }

    fn is_old(
        &self,
        segment: &super::segments::StoredSegment,
        now_ms: i64,
        retention_ms: i64,
    ) -> Result<bool, LogError> {
        let newest = self.max_timestamp_of(segment)?;
        Ok(newest >= 0 && now_ms.saturating_sub(newest) > retention_ms)
    }

    /// Moves what is written to the segments, flushes them, and says how the log stands. `None` if it was deleted.
    pub(crate) fn store(&self) -> Result<Option<Record>, LogError> {
        let _io = self.lock_io();
        {
            let mut state = self.lock();
            // From here on, a change makes it dirty again.
            state.dirty = false;
            if state.deleted {
                return Ok(None);
            }
        }
        self.spill_locked().map_err(LogError::io("write segments of", self.dir()))?;
        let (record, segments) = {
            let mut state = self.lock();
            if state.deleted {
                return Ok(None);
            }
            let stored = state.stored;
            let record = Record {
                log_start: self.log_start_offset(),
                end: stored.end,
                segment: stored.segment,
                position: stored.position,
                created_ms: state.active.created_ms,
                index: stored.index,
                sealed_bytes: stored.sealed_bytes,
                applied: stored.applied,
                cleaned_to: state.cleaned.to,
                cleaned_horizon_ms: state.cleaned.horizon_ms,
                epochs: state.epochs.entries().iter().copied().filter(|e| e.1 < stored.end).collect(),
                producers: state.producers.as_of(stored.end),
                offline: state.offline.as_deref().map(str::to_owned),
            };
            state.storing_segment = stored.segment;
            (record, std::mem::take(&mut state.dirty_segments))
        };
        for segment in &segments {
            let path = self.segment_path(*segment);
            // What retention removed since is not missed.
            if !self.core.disk.exists(&path) {
                continue;
            }
            let synced = self
                .segment_file(*segment, OpenMode::Read)
                .and_then(|file| file.sync_data())
                .and_then(|()| self.sync_new_files(*segment));
            if let Err(e) = synced {
                self.lock().dirty_segments.extend(&segments);
                return Err(LogError::io("flush", path)(e));
            }
        }
        Ok(Some(record))
    }

    /// Removes the segments that lie wholly below the log's start. The caller made sure that the start is flushed.
    pub(crate) fn remove_old_segments(&self) -> Result<usize, LogError> {
        let _io = self.lock_io();
        self.ensure_listed_locked()?;
        let log_start = self.log_start_offset();
        let gone = {
            let mut state = self.lock();
            state.usable()?;
            let mut count = 0;
            for (i, _) in state.sealed.iter().enumerate() {
                let end = state.sealed.get(i + 1).map_or(state.stored.segment, |next| next.base);
                if end > log_start {
                    break;
                }
                count = i + 1;
            }
            let gone: Vec<_> = state.sealed.drain(..count).collect();
            let bytes: u64 = gone.iter().map(|s| s.size).sum();
            state.stored.sealed_bytes = state.stored.sealed_bytes.saturating_sub(bytes);
            state.dirty_segments.retain(|s| !gone.iter().any(|g| g.base == *s));
            state.new_segments.retain(|s| !gone.iter().any(|g| g.base == *s));
            if !gone.is_empty() {
                state.forget_hints();
            }
            self.recount(&state);
            gone
        };
        for segment in &gone {
            let path = self.segment_path(segment.base);
            self.remove_segment(segment.base).map_err(LogError::io("remove", path))?;
        }
        Ok(gone.len())
    }

    /// Ends the active segment, if all of it is stored and it holds something. True if there is a new one.
    pub(crate) fn roll(&self) -> Result<bool, LogError> {
        let _io = self.lock_io();
        self.spill_locked().map_err(LogError::io("write segments of", self.dir()))?;
        let stored = {
            let state = self.lock();
            state.usable()?;
            if state.stored.position == 0 || state.stored.end != state.end {
                return Ok(false);
            }
            state.stored
        };
        self.seal_stored(stored).map_err(LogError::io("end a segment of", self.dir()))
    }
}
