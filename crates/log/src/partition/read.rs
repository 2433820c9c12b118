//! Reading: the tail from memory, history as ranges of files.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chronik_base::{Chunk, FileRange};
use chronik_records::BatchHeader;

use super::segments::StoredSegment;
use super::state::{ReadHint, TailBatch};
use super::verify::follows;
use super::{PartitionLog, State};
use crate::disk::{DiskFile, OpenMode};
use crate::error::{LogError, OffsetOutOfRange, ReadError};
use crate::index::{self, Index, IndexEntry, IndexFault};
use crate::segment::Scanner;

/// Whole record batches, ready to be sent.
#[derive(Clone, Debug, Default)]
pub struct ReadPlan {
    /// The batches. The first one holds the offset asked for, and so may begin before it.
    pub chunks: Vec<Chunk>,
    /// Bytes in them.
    pub bytes: usize,
    /// Offset after the last record in them; the offset asked for if there are none.
    pub next_offset: i64,
}

/// Batches smaller than this are copied together: a piece of its own for each would cost more than the copy.
const SMALL: usize = 2 << 10;
/// A read is tried again so often when the files were exchanged under it.
pub(crate) const ATTEMPTS: usize = 4;

/// Where a read goes.
enum Source {
    Memory(Vec<TailBatch>),
    Stored(StoredSegment, Option<u64>),
    Nothing,
}

impl PartitionLog {
    /// True if a read from `offset` on is served from memory, so that it can't wait for the disk.
    pub fn in_memory(&self, offset: i64) -> bool {
        let state = self.lock();
        offset >= state.end || state.tail.front().is_some_and(|b| b.base_offset <= offset)
    }

    /// Finds whole batches from the one that holds `offset`, ending before `upper_bound`, of at most `max_bytes` bytes;
    /// with `at_least_one`, the first batch even if it is larger. What is not yet written is never read.
    ///
    /// # Errors
    /// `offset` is below the log's start or above its end, or the disk can't be read.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        upper_bound: i64,
        at_least_one: bool,
    ) -> Result<ReadPlan, ReadError> {
        let log_start = self.log_start_offset();
        let log_end = self.log_end_offset();
        if offset < log_start || offset > log_end {
            return Err(OffsetOutOfRange { offset, log_start, log_end }.into());
        }
        let limit = upper_bound.min(self.written_offset());
        let mut from = offset;
        let mut attempts = 0;
        loop {
            if from >= limit {
                return Ok(ReadPlan { next_offset: offset, ..ReadPlan::default() });
            }
            let (source, version) = self.source(from, max_bytes, limit, at_least_one)?;
            let (segment, read) = match source {
                Source::Nothing => return Ok(ReadPlan { next_offset: offset, ..ReadPlan::default() }),
                Source::Memory(batches) => (None, self.plan_of(batches, offset).map(Some)),
                Source::Stored(segment, hint) => {
                    let read =
                        self.read_stored(&segment, hint, version, from, max_bytes, limit, at_least_one);
                    (Some(segment), read)
                }
            };
            if read.is_err() || self.lock().version != version {
                attempts += 1;
                if attempts < ATTEMPTS && self.changed_since(version) {
                    continue;
                }
            }
            let segment = match (read, segment) {
                (Ok(Some(mut plan)), _) => {
                    if plan.chunks.is_empty() {
                        plan.next_offset = offset;
                    }
                    return Ok(plan);
                }
                (Ok(None), Some(segment)) => segment,
                (Ok(None), None) => return Ok(ReadPlan { next_offset: offset, ..ReadPlan::default() }),
                (Err(e), _) => return Err(self.damage_since(version, e).into()),
            };
            // Compaction left nothing between `from` and the segment's end.
            from = segment.end.max(from + 1);
        }
    }

    /// Whether the files were exchanged since. Waits for an exchange that is under way.
    pub(crate) fn changed_since(&self, version: u64) -> bool {
        let _io = self.lock_io();
        self.lock().version != version
    }

    /// Where a read from `offset` on goes.
    fn source(
        &self,
        offset: i64,
        max_bytes: usize,
        limit: i64,
        at_least_one: bool,
    ) -> Result<(Source, u64), LogError> {
        {
            let state = self.lock();
            state.usable()?;
            if offset >= state.stored.end || state.tail.front().is_some_and(|b| b.base_offset <= offset) {
                let batches = state.tail_from(offset, max_bytes, limit, at_least_one);
                let source = if batches.is_empty() { Source::Nothing } else { Source::Memory(batches) };
                return Ok((source, state.version));
            }
            if offset >= state.stored.segment && state.stored.position > 0 {
                let segment = state.stored_active();
                return Ok((Source::Stored(segment, state.hint(offset, segment.base)), state.version));
            }
        }
        self.ensure_listed()?;
        let state = self.lock();
        let after = state.sealed.partition_point(|s| s.base <= offset);
        // Below the first segment there is nothing (retention took it): reading begins with the first.
        let source = match state.stored_sealed(after.saturating_sub(1)) {
            Some(segment) => Source::Stored(segment, state.hint(offset, segment.base)),
            None if state.stored.position > 0 => Source::Stored(state.stored_active(), None),
            None => Source::Nothing,
        };
        Ok((source, state.version))
    }

    /// Batches of a stored segment; `None` if it has none from `offset` on.
    #[allow(clippy::too_many_arguments, reason = "one caller; a struct would only repeat the names")]
    fn read_stored(
        &self,
        segment: &StoredSegment,
        hint: Option<u64>,
        version: u64,
        offset: i64,
        max_bytes: usize,
        limit: i64,
        at_least_one: bool,
    ) -> Result<Option<ReadPlan>, LogError> {
        let path = self.segment_path(segment.base);
        let file = self.segment_file(segment.base, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let start = match hint {
            // What a reader that was here before had read ended there.
            Some(position) => self.first_from(segment, &*file, position, offset, offset)?,
            None => {
                let position = self.floor(segment, &*file, |index| index.by_offset(offset))?;
                self.first_from(segment, &*file, position, offset, segment.base)?
            }
        };
        let Some((start, first)) = start else { return Ok(None) };
        let empty = ReadPlan { next_offset: offset, ..ReadPlan::default() };
        if first.last_offset() >= limit || (first.total_size() > max_bytes && !at_least_one) {
            return Ok(Some(empty));
        }
        let (mut end, mut next_offset) = (segment.size, segment.end);
        if limit < segment.end {
            let position = self.floor(segment, &*file, |index| index.by_offset(limit))?;
            // The batch that holds the limit may begin before the entry found, never the one before that.
            let mut scanner = Scanner::new(&*file, position.max(start), segment.size);
            next_offset = limit;
            while let Some((position, header)) = scanner.next_header().map_err(|f| f.into_error(&path))? {
                if header.last_offset() >= limit {
                    end = position;
                    next_offset = header.base_offset.min(limit);
                    break;
                }
                next_offset = header.next_offset();
            }
        }
        if end - start > max_bytes as u64 {
            let after_first = start + first.total_size() as u64;
            let usable = |e: &IndexEntry| e.position > after_first && e.position < end;
            let entry = self.with_index(segment, |index| {
                let entry = index.by_position(start + max_bytes as u64)?.filter(usable);
                entry.iter().try_for_each(|e| index::confirm(&*file, e))?;
                Ok(entry)
            })?;
            if let Some(entry) = entry {
                (end, next_offset) = (entry.position, entry.offset);
            } else {
                (end, next_offset) = (after_first, first.next_offset());
                let mut scanner = Scanner::new(&*file, end, segment.size);
                while let Some((position, header)) = scanner.next_header().map_err(|f| f.into_error(&path))? {
                    let size = header.total_size() as u64;
                    if position + size - start > max_bytes as u64 || header.last_offset() >= limit {
                        break;
                    }
                    (end, next_offset) = (position + size, header.next_offset());
                }
            }
        }
        // Somebody cut the file: what is promised here must be there when it is sent.
        let length = file.len().map_err(LogError::io("look at", &path))?;
        if length < end {
            let what = format!("the file ends at byte {length}, and batches reach to byte {end}");
            return Err(LogError::Damaged { path, position: length, what });
        }
        self.check_range(segment, version, &*file, start, end, next_offset)?;
        if end < segment.size {
            let mut state = self.lock();
            // In segments that were exchanged meanwhile there is something else at that place.
            if state.version == version {
                state.remember(ReadHint { offset: next_offset, segment: segment.base, position: end });
            }
        }
        let chunk = range(&file, start, end - start).map_err(LogError::io("read", &path))?;
        Ok(Some(ReadPlan { bytes: chunk.len(), chunks: vec![chunk], next_offset }))
    }

    /// The place of an index entry that was asked for, or the segment's beginning. The entry is checked against the
    /// segment.
    pub(crate) fn floor(
        &self,
        segment: &StoredSegment,
        file: &dyn DiskFile,
        ask: impl Fn(&Index<'_>) -> Result<Option<IndexEntry>, IndexFault>,
    ) -> Result<u64, LogError> {
        self.with_index(segment, |index| match ask(index)? {
            Some(entry) if entry.position < segment.size => {
                index::confirm(file, &entry)?;
                Ok(entry.position)
            }
            // The segment's end.
            Some(entry) => Ok(entry.position.min(segment.size)),
            None => Ok(0),
        })
    }

    /// The first batch at or after `position` that ends at or after `offset`. The one at `position` begins at `expected` or
    /// above.
    fn first_from(
        &self,
        segment: &StoredSegment,
        file: &dyn DiskFile,
        position: u64,
        offset: i64,
        mut expected: i64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let path = self.segment_path(segment.base);
        let mut scanner = Scanner::new(file, position, segment.size);
        let mut found = None;
        while let Some((position, header)) = scanner.next_header().map_err(|f| f.into_error(&path))? {
            // The CRC does not cover the offset. A batch that seemed to lie above all that may be read would stop its
            // readers for ever.
            let checked = follows(&header, expected).and_then(|()| {
                if header.last_offset() < segment.end {
                    return Ok(());
                }
                Err(format!(
                    "a batch ends at offset {}, its segment before {}",
                    header.last_offset(),
                    segment.end
                ))
            });
            checked.map_err(|what| LogError::Damaged { path: path.clone(), position, what })?;
            expected = header.next_offset();
            if found.is_some() {
                break;
            }
            if header.last_offset() >= offset {
                found = Some((position, header));
            }
        }
        Ok(found)
    }

    /// Makes pieces of batches that are in memory, or were written straight to a segment.
    fn plan_of(&self, batches: Vec<TailBatch>, offset: i64) -> Result<ReadPlan, LogError> {
        let mut plan = ReadPlan { next_offset: offset, ..ReadPlan::default() };
        let mut small = BytesMut::new();
        let mut direct: Option<(i64, u64, u64)> = None;
        let small_run: usize = batches.iter().map(|b| b.bytes.len()).filter(|size| *size < SMALL).sum();
        for batch in batches {
            plan.bytes += batch.size as usize;
            plan.next_offset = batch.last_offset + 1;
            if batch.bytes.is_empty() {
                take_small(&mut small, &mut plan.chunks);
                let path = || self.segment_path(batch.segment);
                let file = self
                    .segment_file(batch.segment, OpenMode::Read)
                    .map_err(|e| LogError::io("open", path())(e))?;
                self.check_in_place(&batch, &*file)?;
                direct = match direct {
                    Some((segment, from, to)) if segment == batch.segment && to == batch.position => {
                        Some((segment, from, batch.end_position()))
                    }
                    other => {
                        self.take_direct(other, &mut plan.chunks)?;
                        Some((batch.segment, batch.position, batch.end_position()))
                    }
                };
                continue;
            }
            self.take_direct(direct.take(), &mut plan.chunks)?;
            if batch.bytes.len() >= SMALL {
                take_small(&mut small, &mut plan.chunks);
                plan.chunks.push(Chunk::Bytes(batch.bytes));
            } else {
                if small.capacity() == 0 {
                    small.reserve(small_run.min(1 << 20));
                }
                small.extend_from_slice(&batch.bytes);
            }
        }
        take_small(&mut small, &mut plan.chunks);
        self.take_direct(direct, &mut plan.chunks)?;
        Ok(plan)
    }

    fn take_direct(&self, run: Option<(i64, u64, u64)>, chunks: &mut Vec<Chunk>) -> Result<(), LogError> {
        let Some((segment, from, to)) = run else { return Ok(()) };
        let path = || self.segment_path(segment);
        let file = self.segment_file(segment, OpenMode::Read).map_err(|e| LogError::io("open", path())(e))?;
        chunks.push(range(&file, from, to - from).map_err(|e| LogError::io("read", path())(e))?);
        Ok(())
    }
}

fn take_small(small: &mut BytesMut, chunks: &mut Vec<Chunk>) {
    if !small.is_empty() {
        chunks.push(Chunk::Bytes(std::mem::take(small).freeze()));
    }
}

/// A range of a file as a piece of an answer. Where there is no file of the operating system, its bytes.
fn range(file: &Arc<dyn DiskFile>, position: u64, length: u64) -> std::io::Result<Chunk> {
    match file.os_file() {
        Some(os) => Ok(Chunk::File(FileRange { file: os.clone(), position, length })),
        None => {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            let read = file.read_at(&mut bytes, position)?;
            bytes.truncate(read);
            Ok(Chunk::Bytes(Bytes::from(bytes)))
        }
    }
}

impl State {
    /// Batches of the tail from the one that holds `offset`.
    fn tail_from(&self, offset: i64, max_bytes: usize, limit: i64, at_least_one: bool) -> Vec<TailBatch> {
        let first = self.tail.partition_point(|b| b.last_offset < offset);
        let mut bytes = 0;
        let mut taken = 0;
        for batch in self.tail.iter().skip(first) {
            let fits = bytes + batch.size as usize <= max_bytes || (taken == 0 && at_least_one);
            if batch.last_offset >= limit || !fits {
                break;
            }
            bytes += batch.size as usize;
            taken += 1;
        }
        self.tail.iter().skip(first).take(taken).cloned().collect()
    }

    /// Where a reader that was here before goes on.
    fn hint(&self, offset: i64, segment: i64) -> Option<u64> {
        let found = self.hints.iter().find(|h| h.offset == offset && h.segment == segment && h.position > 0);
        found.map(|h| h.position)
    }

    fn remember(&mut self, hint: ReadHint) {
        let place = usize::from(self.next_hint) % self.hints.len();
        if let Some(slot) = self.hints.get_mut(place) {
            *slot = hint;
        }
        self.next_hint = self.next_hint.wrapping_add(1);
    }

    /// Forgets where readers were: the files change.
    pub(crate) fn forget_hints(&mut self) {
        self.hints = Default::default();
        self.checked.clear();
        self.version += 1;
    }
}
