//! Cutting the log: its end back (a follower that had more than its leader), and its oldest segments away (retention).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PartitionLog, State, Stored};
use crate::core::uncount;
use crate::disk::OpenMode;
use crate::error::{AppendError, LogError};
use crate::index;
use crate::journal::queue::Item;
use crate::segment::{Scanner, index_name};

impl PartitionLog {
    /// Cuts the log's end back to `end` (a follower that had more than its leader). A batch that reaches across goes
    /// whole. Waits for appends that are being written, and for the cut to be flushed.
    ///
    /// # Errors
    /// The storage takes no writes, or the log can't be read.
    pub fn truncate_to(self: &Arc<Self>, end: i64) -> Result<(), AppendError> {
        let failed = || AppendError::Storage("what was appended before can't be written".to_owned());
        {
            let mut state = self.lock();
            state.usable()?;
            if state.end <= end {
                return Ok(());
            }
            state.cutting = true;
        }
        let result = (|| {
            if !self.core.write_and_wait() {
                return Err(failed());
            }
            let _io = self.lock_io();
            {
                let mut state = self.lock();
                self.queue(&mut state, &Item::Truncate(end))?;
            }
            // Files go only once the journal says so for good: else a power loss could leave a log that misses them.
            if !self.core.flush_and_wait() {
                return Err(failed());
            }
            self.cut_end(end)?;
            Ok(())
        })();
        self.lock().cutting = false;
        result
    }

    /// Takes what lies at `end` and above out of the log. The caller holds the I/O lock, or is the only one there.
    pub(crate) fn cut_end(&self, end: i64) -> Result<(), LogError> {
        self.ensure_listed_locked()?;
        let cut = {
            let mut state = self.lock();
            let cut = state.cut_tail(end);
            self.settle(&mut state, cut.end);
            cut
        };
        uncount(&self.core.tail_bytes, cut.memory);
        uncount(&self.core.unspilled, cut.unspilled);
        if cut.in_files { self.cut_files(cut.end) } else { Ok(()) }
    }

    /// Takes batches out of the segments' end.
    fn cut_files(&self, end: i64) -> Result<(), LogError> {
        let (stored, mut sealed, interval) = {
            let state = self.lock();
            (state.stored, state.sealed.clone(), state.options.index_interval_bytes)
        };
        let mut gone = Vec::new();
        let (mut base, mut size) = (stored.segment, stored.position);
        let mut sealed_bytes = stored.sealed_bytes;
        while base >= end {
            let Some(before) = sealed.pop() else { break };
            gone.push(base);
            sealed_bytes = sealed_bytes.saturating_sub(before.size);
            (base, size) = (before.base, before.size);
        }
        let path = self.segment_path(base);
        let (mut position, mut log_end) = (0, end);
        let mut cursor = index::IndexCursor::default();
        if size > 0 {
            let file = self.segment_file(base, OpenMode::Read).map_err(LogError::io("open", &path))?;
            let mut scanner = Scanner::new(&*file, 0, size);
            while let Some((at, header)) =
                scanner.next_header().map_err(|f| self.damage(f.into_error(&path)))?
            {
                if header.last_offset() >= end {
                    // A batch that reaches across goes whole.
                    log_end = log_end.min(header.base_offset);
                    break;
                }
                position = at + header.total_size() as u64;
            }
            let (bytes, rebuilt) = index::rebuild(&*file, base, position, interval, false)
                .map_err(|f| self.damage(f.into_error(&path)))?;
            cursor = rebuilt;
            let index_path = self.dir().join(index_name(base));
            self.index_file(base, OpenMode::Create)
                .and_then(|index| index::write(&*index, &bytes))
                .map_err(LogError::io("write", index_path))?;
            self.cut_segment(base, position).map_err(LogError::io("cut", &path))?;
        }
        for segment in &gone {
            self.remove_segment(*segment).map_err(LogError::io("remove", self.segment_path(*segment)))?;
        }
        let mut state = self.lock();
        state.dirty_segments.retain(|s| !gone.contains(s));
        state.note_dirty_segment(base);
        state.sealed = sealed;
        state.stored = Stored {
            end: log_end,
            segment: base,
            position,
            index: cursor,
            sealed_bytes,
            applied: stored.applied,
        };
        state.active.segment = base;
        state.active.position = position;
        self.settle(&mut state, log_end);
        Ok(())
    }

    /// Brings offsets, producers and epochs in line with a new end.
    fn settle(&self, state: &mut State, end: i64) {
        state.end = end;
        state.epochs.truncate(end);
        state.producers.truncate(end);
        state.forget_hints();
        self.log_end.store(end, Ordering::Release);
        self.written.fetch_min(end, Ordering::AcqRel);
        self.flushed.fetch_min(end, Ordering::AcqRel);
        let start = self.log_start.fetch_min(end, Ordering::AcqRel);
        if start > end {
            tracing::warn!("partition {}: its log is cut to {end}, below its start {start}", self.key);
        }
        self.recount(state);
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

/// What was cut from memory.
struct CutTail {
    /// The log's end now.
    end: i64,
    /// The segments hold batches above it, too.
    in_files: bool,
    /// Bytes of memory that are free, in all and of what was not stored.
    memory: u64,
    unspilled: u64,
}

impl State {
    /// Takes batches at `end` and above out of memory.
    fn cut_tail(&mut self, end: i64) -> CutTail {
        let (mut memory, mut unspilled) = (0, 0);
        let mut lowest = self.end.min(end);
        while let Some(last) = self.tail.back().filter(|b| b.last_offset >= end) {
            memory += last.memory();
            lowest = lowest.min(last.base_offset);
            if self.tail.len() > self.spilled {
                unspilled += last.memory();
            }
            self.tail.pop_back();
            self.spilled = self.spilled.min(self.tail.len());
        }
        let in_files = self.stored.end > lowest;
        if in_files {
            // What is left is a cache of what the segments hold.
            memory += self.tail.iter().map(super::state::TailBatch::memory).sum::<u64>();
            self.tail.clear();
            self.spilled = 0;
        } else {
            let (_, segment, position) = self.written();
            self.active.segment = segment;
            self.active.position = position;
        }
        CutTail { end: lowest, in_files, memory, unspilled }
    }
}
