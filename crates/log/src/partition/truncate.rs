//! Cutting the log's end back: a follower that had more than its leader, or a start that finds less than was appended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PartitionLog, State, Stored};
use crate::core::uncount;
use crate::disk::OpenMode;
use crate::error::{AppendError, LogError};
use crate::index::IndexCursor;
use crate::journal::entry::Cut;
use crate::journal::queue::Item;
use crate::segment::Scanner;
use crate::sync::Lock;

impl PartitionLog {
    /// Cuts the log's end back to `end` (a follower that had more than its leader). A batch that reaches across goes
    /// whole. Waits for appends that are being written, and for the cut to be flushed. Epochs and idempotent producers go
    /// back with the log. A cut below the log's start leaves an empty log that begins where it ends.
    ///
    /// # Errors
    /// The storage takes no writes, or the log can't be read. Appends are refused until a later cut succeeds.
    pub fn truncate_to(self: &Arc<Self>, end: i64) -> Result<(), AppendError> {
        let _one_at_a_time = self.cuts.hold();
        {
            let mut state = self.lock();
            state.usable()?;
            if state.end <= end && !state.cutting {
                // An epoch that this node led without appending anything.
                state.epochs.truncate(end);
                return Ok(());
            }
            state.cutting = true;
        }
        self.truncate(end)?;
        self.lock().cutting = false;
        Ok(())
    }

    fn truncate(self: &Arc<Self>, end: i64) -> Result<(), AppendError> {
        let failed = || AppendError::Storage("what was appended before can't be written".to_owned());
        if !self.core.write_and_wait() {
            return Err(failed());
        }
        let io = self.lock_io();
        let cut = self.find_cut(end)?;
        {
            let mut state = self.lock();
            self.queue(&mut state, &Item::Truncate(cut))?;
        }
        // Files go only once the journal says so for good: else a power loss could leave a log that misses them.
        if !self.core.flush_and_wait() {
            return Err(failed());
        }
        for segment in self.cut_at(cut)? {
            self.remove_segment(segment).map_err(LogError::io("remove", self.segment_path(segment)))?;
        }
        let path = self.segment_path(cut.segment);
        if self.core.disk.exists(&path) {
            self.cut_segment(cut.segment, cut.position).map_err(LogError::io("cut", path))?;
        }
        drop(io);
        self.reindex()?;
        // What is appended from here on may lie where other batches were: no start may write those there again.
        Ok(self.core.checkpoint_one(self)?)
    }

    /// Where the log has to be cut so that nothing at `end` or above is left. All of it is written.
    fn find_cut(&self, end: i64) -> Result<Cut, LogError> {
        self.ensure_listed_locked()?;
        let segments = {
            let state = self.lock();
            let in_memory = state.tail.front().is_some_and(|first| first.base_offset <= end);
            let found = state.tail.iter().find(|b| b.last_offset >= end);
            if let Some(batch) = found.filter(|_| in_memory) {
                let (segment, position) = (batch.segment, batch.position);
                return Ok(Cut { end: end.min(batch.base_offset), segment, position });
            }
            let mut segments: Vec<(i64, u64)> = state.sealed.iter().map(|s| (s.base, s.size)).collect();
            segments.push((state.stored.segment, state.stored.position));
            segments
        };
        let after = segments.partition_point(|(base, _)| *base <= end);
        let Some((base, size)) = segments.get(after.saturating_sub(1)).copied() else {
            return Ok(Cut { end, segment: end, position: 0 });
        };
        let path = self.segment_path(base);
        if size > 0 {
            let file = self.segment_file(base, OpenMode::Read).map_err(LogError::io("open", &path))?;
            let mut scanner = Scanner::new(&*file, 0, size);
            while let Some((position, header)) =
                scanner.next_header().map_err(|f| self.damage(f.into_error(&path)))?
            {
                if header.last_offset() >= end {
                    return Ok(Cut { end: end.min(header.base_offset), segment: base, position });
                }
            }
        }
        // The end falls into a gap that compaction left, behind the segment's last batch.
        Ok(Cut { end, segment: base, position: size })
    }

    /// Takes what lies behind a cut out of the log. Gives the segments whose files no longer belong to it. The caller holds
    /// the I/O lock, or is the only one there, and calls [`PartitionLog::reindex`] afterwards: in a replay the segment
    /// may not be what it was at the time of the cut before the replay is through.
    pub(crate) fn cut_at(&self, cut: Cut) -> Result<Vec<i64>, LogError> {
        let freed = {
            let mut state = self.lock();
            let freed = state.cut_tail(cut.end);
            state.active.segment = cut.segment;
            state.active.position = cut.position;
            self.settle(&mut state, cut.end);
            freed
        };
        uncount(&self.core.tail_bytes, freed.memory);
        uncount(&self.core.unspilled, freed.unspilled);
        if !freed.in_files {
            return Ok(Vec::new());
        }
        self.ensure_listed_locked()?;
        let (stored, mut sealed) = {
            let state = self.lock();
            (state.stored, state.sealed.clone())
        };
        let mut gone: Vec<i64> = sealed.iter().map(|s| s.base).filter(|base| *base > cut.segment).collect();
        if stored.segment > cut.segment {
            gone.push(stored.segment);
        }
        sealed.retain(|s| s.base < cut.segment);
        let sealed_bytes = sealed.iter().map(|s| s.size).sum();
        let mut state = self.lock();
        state.dirty_segments.retain(|s| !gone.contains(s));
        state.note_dirty_segment(cut.segment);
        state.files_cut = true;
        state.settled_segment = state.settled_segment.min(cut.segment);
        state.sealed = sealed;
        state.stored = Stored {
            end: cut.end,
            segment: cut.segment,
            position: cut.position,
            index: IndexCursor::default(),
            sealed_bytes,
            applied: stored.applied,
            reindex: cut.position > 0,
        };
        self.recount(&state);
        Ok(gone)
    }

    /// Brings offsets, producers and epochs in line with a new end.
    fn settle(&self, state: &mut State, end: i64) {
        state.end = end;
        state.epochs.truncate(end);
        state.producers.truncate(end);
        state.cleaned.to = state.cleaned.to.min(end);
        state.forget_hints();
        let last = state.active.segment;
        state.dirty_segments.retain(|s| *s <= last);
        self.log_end.store(end, Ordering::Release);
        self.written.fetch_min(end, Ordering::AcqRel);
        self.flushed.fetch_min(end, Ordering::AcqRel);
        let start = self.log_start.fetch_min(end, Ordering::AcqRel);
        if start > end {
            tracing::warn!("partition {}: its log is cut to {end}, below its start {start}", self.key);
        }
        self.recount(state);
    }
}

/// What was cut from memory.
struct Freed {
    /// The segments hold batches behind the cut, too.
    in_files: bool,
    /// Bytes of memory that are free, in all and of what was not stored.
    memory: u64,
    unspilled: u64,
}

impl State {
    /// Takes batches at `end` and above out of memory.
    fn cut_tail(&mut self, end: i64) -> Freed {
        let (mut memory, mut unspilled) = (0, 0);
        while let Some(last) = self.tail.back().filter(|b| b.base_offset >= end) {
            memory += last.memory();
            if self.tail.len() > self.spilled {
                unspilled += last.memory();
            }
            self.tail.pop_back();
            self.spilled = self.spilled.min(self.tail.len());
        }
        let in_files = self.stored.end > end;
        if in_files {
            // What is left is a cache of what the segments hold.
            memory += self.tail.iter().map(super::state::TailBatch::memory).sum::<u64>();
            self.tail.clear();
            self.spilled = 0;
        }
        Freed { in_files, memory, unspilled }
    }
}
