//! What a start does to a log.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chronik_records::{Batch, BatchHeader};

use super::state::TailBatch;
use super::{PartitionLog, State};
use crate::core::count;
use crate::disk::OpenMode;
use crate::error::LogError;
use crate::journal::entry::JournalPosition;
use crate::journal::queue::Place;

impl State {
    fn replay_place(&self, header: &BatchHeader, roll: bool) -> Place {
        if roll {
            Place { segment: header.base_offset, position: 0, roll }
        } else {
            Place { segment: self.active.segment, position: self.active.position, roll }
        }
    }
}

impl PartitionLog {
    /// The segment and position of a batch that comes next in a replay.
    pub(crate) fn replay_place(&self, header: &BatchHeader, roll: bool) -> (i64, u64) {
        let place = self.lock().replay_place(header, roll);
        (place.segment, place.position)
    }

    /// Takes a batch over from the journal; `bytes` is empty for one that is in its segment.
    pub(crate) fn replay_batch(
        self: &Arc<Self>,
        header: &BatchHeader,
        bytes: Bytes,
        roll: bool,
        applied: JournalPosition,
    ) {
        let now_ms = self.core.clock.wall_ms();
        let size = header.total_size() as u64;
        let mut state = self.lock();
        let place = state.replay_place(header, roll);
        if bytes.is_empty() {
            state.note_unsettled(place.segment);
        }
        let batch = TailBatch {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            segment: place.segment,
            position: place.position,
            max_timestamp: header.max_timestamp,
            size: size as u32,
            bytes,
        };
        let memory = batch.memory();
        state.tail.push_back(batch);
        state.advance(header, place, size, now_ms);
        state.applied = applied;
        for offset in [&self.log_end, &self.written, &self.flushed] {
            offset.store(state.end, Ordering::Release);
        }
        drop(state);
        self.size.fetch_add(size, Ordering::Relaxed);
        count(&self.core.tail_bytes, memory);
        count(&self.core.unspilled, memory);
    }

    /// Whether a batch that went straight to its segment is there, whole.
    pub(crate) fn check_direct(&self, header: &BatchHeader, head: &Bytes, roll: bool) -> Result<(), String> {
        let place = self.lock().replay_place(header, roll);
        let path = self.segment_path(place.segment);
        let fail = |e: &dyn std::fmt::Display| {
            format!(
                "the batch that belongs to {} at byte {} is not there: {e}",
                path.display(),
                place.position
            )
        };
        let file = self.segment_file(place.segment, OpenMode::Read).map_err(|e| fail(&e))?;
        let mut bytes = vec![0; header.total_size()];
        let read = file.read_at(&mut bytes, place.position).map_err(|e| fail(&e))?;
        bytes.truncate(read);
        if bytes.get(..head.len()) != Some(&head[..]) {
            return Err(fail(&"other bytes are"));
        }
        let batch = Batch::parse(&bytes).map_err(|e| fail(&e))?;
        batch.verify_crc().map_err(|e| fail(&e))
    }

    /// Puts the header of a batch that was lost below the log's start where the batch was: nobody reads it, but who walks
    /// through the segment has to come over it.
    pub(crate) fn fill_place(
        &self,
        segment: i64,
        position: u64,
        header: &BatchHeader,
    ) -> Result<(), LogError> {
        let fill = || {
            let file = self.segment_file(segment, OpenMode::Create)?;
            file.write_at(&mut [IoSlice::new(&header.encode())], position)?;
            let end = position + header.total_size() as u64;
            if file.len()? < end { file.set_len(end) } else { Ok(()) }
        };
        fill().map_err(LogError::io("write", self.segment_path(segment)))?;
        self.lock().note_unsettled(segment);
        Ok(())
    }

    /// The log's start moves up.
    pub(crate) fn replay_log_start(&self, start: i64) {
        if self.log_start.fetch_max(start, Ordering::AcqRel) < start {
            self.lock().epochs.advance_start(start);
        }
    }
}
