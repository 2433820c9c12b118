//! The log's tail in memory: what is written to the journal and not yet in a segment, and a cache of what was last.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chronik_base::ErrorCode;

use super::state::TailBatch;
use super::{PartitionLog, State, Stored};
use crate::core::{count, uncount};
use crate::disk::OpenMode;
use crate::index::{ENTRY_SIZE, IndexCursor};
use crate::journal::entry::{ENTRY_HEADER, JournalPosition, Kind};
use crate::journal::queue::{Group, NONE, Part};
use crate::segment::Sealed;

/// What a spill changes in the state.
struct Spilled {
    stored: Stored,
    sealed: Vec<Sealed>,
    touched: Vec<i64>,
}

impl PartitionLog {
    /// Takes over the partition's share of a group that was written; `ends` says where each of the group's entries ends
    /// in the journal file. Gives the bytes of memory that it takes.
    pub(crate) fn keep_tail(self: &Arc<Self>, part: &Part, group: &Group, ends: &[u64]) -> u64 {
        let mut state = self.lock();
        if state.deleted {
            return 0;
        }
        let mut memory = 0;
        let mut next = part.first;
        while next != NONE {
            let Some(entry) = group.entries.get(next as usize) else { break };
            next = entry.next;
            let bytes = match entry.kind {
                Kind::Batch | Kind::BatchRoll => {
                    let start = entry.start as usize + ENTRY_HEADER;
                    let end = entry.start as usize + entry.length as usize;
                    match group.chunks.get(entry.chunk as usize) {
                        Some(chunk) => chunk.slice(start..end),
                        None => continue,
                    }
                }
                Kind::Marker | Kind::MarkerRoll => {
                    state.note_dirty_segment(entry.segment);
                    Bytes::new()
                }
                _ => continue,
            };
            let batch = TailBatch {
                base_offset: entry.base_offset,
                last_offset: entry.last_offset,
                segment: entry.segment,
                position: entry.position,
                max_timestamp: entry.max_timestamp,
                size: entry.size,
                bytes,
            };
            memory += batch.memory();
            state.tail.push_back(batch);
        }
        if let Some(end) = ends.get(part.last as usize) {
            state.applied = JournalPosition { file: group.file, position: *end };
        }
        self.written.store(part.end, Ordering::Release);
        self.mark_dirty(&mut state);
        memory
    }

    /// Puts the partition on the list of what the next checkpoint takes up.
    pub(crate) fn mark_dirty(self: &Arc<Self>, state: &mut State) {
        if !state.dirty {
            state.dirty = true;
            self.core.note_dirty(self);
        }
    }

    /// Writes what is only in memory and the journal to its segments (without a flush).
    pub(crate) fn spill(&self) -> io::Result<()> {
        let _io = self.lock_io();
        self.spill_locked()
    }

    /// The same, for a caller that holds the I/O lock.
    pub(crate) fn spill_locked(&self) -> io::Result<()> {
        let (batches, stored, interval) = {
            let mut state = self.lock();
            if state.deleted || state.spilled == state.tail.len() {
                state.stored.applied = state.applied;
                return Ok(());
            }
            let batches: Vec<TailBatch> = state.tail.iter().skip(state.spilled).cloned().collect();
            let stored = Stored { applied: state.applied, ..state.stored };
            (batches, stored, state.options.index_interval_bytes)
        };
        let spilled = self.write_batches(&batches, stored, interval)?;
        let memory: u64 = batches.iter().map(TailBatch::memory).sum();
        let mut state = self.lock();
        state.stored = spilled.stored;
        state.sealed.extend(spilled.sealed);
        state.spilled += batches.len();
        for segment in spilled.touched {
            state.note_dirty_segment(segment);
        }
        drop(state);
        uncount(&self.core.unspilled, memory);
        Ok(())
    }

    /// Writes batches, in order, to their places in the segments, and what the indexes get of them.
    fn write_batches(&self, batches: &[TailBatch], mut stored: Stored, interval: u64) -> io::Result<Spilled> {
        let mut sealed = Vec::new();
        let mut touched = Vec::new();
        let mut index = Vec::new();
        let mut index_from = stored.index.count;
        let mut run: Vec<&TailBatch> = Vec::new();
        for batch in batches {
            if batch.segment != stored.segment {
                self.write_run(&mut run)?;
                if stored.position > 0 {
                    stored.index.seal(stored.segment, stored.end, stored.position, &mut index);
                    self.end_index(stored.segment, index_from, &mut index)?;
                    self.cut_segment(stored.segment, stored.position)?;
                    // The cut has to be flushed, too: the segment's length is its end from now on.
                    touched.push(stored.segment);
                    let mut max_timestamp = Some(stored.index.max_timestamp);
                    if stored.reindex {
                        // Whoever needs it makes it again.
                        self.remove_index(stored.segment)?;
                        max_timestamp = None;
                    }
                    sealed.push(Sealed { base: stored.segment, size: stored.position, max_timestamp });
                    stored.sealed_bytes += stored.position;
                }
                self.remove_stale(stored.segment, batch.segment)?;
                stored.segment = batch.segment;
                stored.reindex = false;
                stored.position = 0;
                stored.index = IndexCursor::default();
                index_from = 0;
            }
            if touched.last() != Some(&batch.segment) {
                touched.push(batch.segment);
            }
            if batch.bytes.is_empty() {
                // It is there already.
                self.write_run(&mut run)?;
            } else {
                run.push(batch);
            }
            let (base, offset, position) = (batch.segment, batch.base_offset, batch.position);
            stored.index.batch(base, offset, position, batch.max_timestamp, interval, &mut index);
            stored.end = batch.last_offset + 1;
            stored.position = batch.end_position();
        }
        self.write_run(&mut run)?;
        self.write_index(stored.segment, index_from, &mut index)?;
        Ok(Spilled { stored, sealed, touched })
    }

    /// Ends the segment that is stored last; the next batch begins another. False if a batch came in between. The caller
    /// holds the I/O lock.
    pub(crate) fn seal_stored(&self, mut stored: Stored) -> io::Result<bool> {
        let (segment, from) = (stored.segment, stored.index.count);
        let mut index = Vec::new();
        stored.index.seal(segment, stored.end, stored.position, &mut index);
        self.end_index(segment, from, &mut index)?;
        self.cut_segment(segment, stored.position)?;
        self.remove_stale(segment, stored.end)?;
        let mut state = self.lock();
        if state.end != stored.end {
            return Ok(false);
        }
        let max_timestamp = Some(stored.index.max_timestamp);
        state.sealed.push(Sealed { base: segment, size: stored.position, max_timestamp });
        state.stored = Stored {
            end: stored.end,
            segment: stored.end,
            position: 0,
            index: IndexCursor::default(),
            sealed_bytes: stored.sealed_bytes + stored.position,
            applied: stored.applied,
            reindex: false,
        };
        state.active.segment = stored.end;
        state.active.position = 0;
        state.note_dirty_segment(segment);
        Ok(true)
    }

    /// Writes batches that lie side by side.
    fn write_run(&self, run: &mut Vec<&TailBatch>) -> io::Result<()> {
        let Some(first) = run.first() else { return Ok(()) };
        let (segment, position) = (first.segment, first.position);
        let file = self.segment_file(segment, OpenMode::Create)?;
        let mut slices: Vec<IoSlice<'_>> = run.iter().map(|b| IoSlice::new(&b.bytes)).collect();
        let bytes: u64 = run.iter().map(|b| u64::from(b.size)).sum();
        file.write_at(&mut slices, position)?;
        count(&self.core.counters.segment_bytes, bytes);
        run.clear();
        Ok(())
    }

    fn write_index(&self, segment: i64, from: u64, index: &mut Vec<u8>) -> io::Result<()> {
        if !index.is_empty() {
            let file = self.index_file(segment, OpenMode::Create)?;
            file.write_at(&mut [IoSlice::new(index)], from * ENTRY_SIZE)?;
            count(&self.core.counters.segment_bytes, index.len() as u64);
            index.clear();
        }
        Ok(())
    }

    /// Writes the last entries of a segment's index. What an earlier run may have left behind them goes.
    fn end_index(&self, segment: i64, from: u64, index: &mut Vec<u8>) -> io::Result<()> {
        let length = from * ENTRY_SIZE + index.len() as u64;
        self.write_index(segment, from, index)?;
        let file = self.index_file(segment, OpenMode::Create)?;
        if file.len()? > length { file.set_len(length) } else { Ok(()) }
    }

    /// Forgets stored batches below `end` from the cache.
    pub(crate) fn evict(&self, end: i64) {
        let mut state = self.lock();
        let mut memory = 0;
        while state.spilled > 0 && state.tail.front().is_some_and(|b| b.last_offset < end) {
            if let Some(batch) = state.tail.pop_front() {
                memory += batch.memory();
            }
            state.spilled -= 1;
        }
        if state.tail.is_empty() || state.tail.capacity() > 4 * state.tail.len() + 64 {
            state.tail.shrink_to_fit();
        }
        drop(state);
        uncount(&self.core.tail_bytes, memory);
    }

    /// Takes what was queued and could not be written back out of the log. Gives the log's end.
    pub(crate) fn roll_back(self: &Arc<Self>) -> i64 {
        let mut state = self.lock();
        let (end, segment, position) = state.written();
        if state.end > end {
            state.end = end;
            state.active.segment = segment;
            state.active.position = position;
            state.epochs.truncate(end);
            state.producers.take_back(end, ErrorCode::KafkaStorageError, self.core.clock.wall_ms());
            self.log_end.store(end, Ordering::Release);
            self.recount(&state);
        }
        // The partition's number for this journal file may have been in what was lost.
        state.mark = Default::default();
        end
    }
}
