//! What a read checks of a stored segment, once in the life of the process: that its batches follow one another up to the
//! segment's end. A CRC says nothing of a batch's offset, and nothing of batches that are not there.

use super::segments::StoredSegment;
use super::state::TailBatch;
use super::{PartitionLog, State};
use crate::disk::DiskFile;
use crate::error::LogError;
use crate::segment::Scanner;
use chronik_records::{BatchHeader, HEADER_SIZE};

/// Parts of one segment that are remembered as checked: so many readers may go through it side by side.
const PARTS: usize = 8;

/// A part of a segment in which batches follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckedPart {
    from: u64,
    to: u64,
    /// Base offset of its first batch.
    first: i64,
    /// Offset after its last batch.
    next: i64,
}

impl PartitionLog {
    /// Checks the batches between two places of a stored segment, the last of which end before `next_offset`. What was
    /// checked before, while the partition's files were what they were at `version`, is not read again.
    pub(crate) fn check_range(
        &self,
        segment: &StoredSegment,
        version: u64,
        file: &dyn DiskFile,
        from: u64,
        to: u64,
        next_offset: i64,
    ) -> Result<(), LogError> {
        let (mut at, mut expected) = (from, segment.base);
        if let Some(known) = self.lock().checked_part(segment.base, from) {
            if to <= known.to {
                return Ok(());
            }
            (at, expected) = (known.to, known.next);
        }
        let path = self.segment_path(segment.base);
        let bad = |position: u64, what: String| LogError::Damaged { path: path.clone(), position, what };
        let mut part: Option<CheckedPart> = None;
        // The batch behind, too: it tells whether the last one's offsets are too high.
        let mut scanner = Scanner::new(file, at, segment.size);
        while let Some((position, header)) = scanner.next_header().map_err(|f| f.into_error(&path))? {
            follows(&header, expected).map_err(|what| bad(position, what))?;
            if position >= to {
                break;
            }
            expected = header.next_offset();
            let part = part.get_or_insert(CheckedPart { from: at, to, first: header.base_offset, next: 0 });
            part.next = expected;
        }
        if expected > next_offset {
            return Err(bad(
                to,
                format!("batches reach to offset {expected}, where {next_offset} comes next"),
            ));
        }
        if let Some(part) = part {
            let mut state = self.lock();
            if state.version == version {
                state.note_checked(segment.base, part).map_err(|what| bad(to, what))?;
            }
        }
        Ok(())
    }

    /// Checks that a batch that went straight to its segment is where it was written.
    pub(crate) fn check_in_place(&self, batch: &TailBatch, file: &dyn DiskFile) -> Result<(), LogError> {
        let path = || self.segment_path(batch.segment);
        let damaged = |what: String| LogError::Damaged { path: path(), position: batch.position, what };
        let mut head = [0; HEADER_SIZE];
        let read = file.read_at(&mut head, batch.position).map_err(|e| LogError::io("read", path())(e))?;
        let header = BatchHeader::parse(head.get(..read).unwrap_or_default());
        let header = header.map_err(|e| damaged(e.to_string()))?;
        if (header.base_offset, header.total_size()) != (batch.base_offset, batch.size as usize) {
            return Err(damaged(format!(
                "a batch of {} bytes at offset {} where one of {} bytes at offset {} was written",
                header.total_size(),
                header.base_offset,
                batch.size,
                batch.base_offset
            )));
        }
        let length = file.len().map_err(|e| LogError::io("look at", path())(e))?;
        if length < batch.end_position() {
            return Err(damaged(format!("the file ends at byte {length}, in the middle of a batch")));
        }
        Ok(())
    }
}

/// Whether a batch may come where `expected` is the next offset. Compaction leaves gaps.
pub(crate) fn follows(header: &BatchHeader, expected: i64) -> Result<(), String> {
    if header.base_offset < expected {
        return Err(format!("a batch begins at offset {} where {expected} comes next", header.base_offset));
    }
    Ok(())
}

impl State {
    /// The checked part of a segment that a place is in, or at the end of.
    fn checked_part(&self, segment: i64, at: u64) -> Option<CheckedPart> {
        self.checked.get(&segment)?.iter().find(|p| p.from <= at && at <= p.to).copied()
    }

    /// Remembers a part of a segment, as one with those that it touches. Fails if they don't fit.
    fn note_checked(&mut self, segment: i64, mut part: CheckedPart) -> Result<(), String> {
        let parts = self.checked.entry(segment).or_default();
        let mut kept = Vec::with_capacity(parts.len() + 1);
        for known in parts.drain(..) {
            if known.to < part.from || part.to < known.from {
                kept.push(known);
                continue;
            }
            let parts_ways = known.to == part.from && part.first < known.next
                || part.to == known.from && known.first < part.next;
            if parts_ways {
                return Err(format!(
                    "batches of offsets {}..{} and {}..{} lie side by side",
                    known.first, known.next, part.first, part.next
                ));
            }
            if known.from < part.from {
                (part.from, part.first) = (known.from, known.first);
            }
            if known.to > part.to {
                (part.to, part.next) = (known.to, known.next);
            }
        }
        kept.push(part);
        if kept.len() > PARTS {
            let shortest = (0..kept.len()).min_by_key(|i| kept.get(*i).map(|p| p.to - p.from));
            kept.remove(shortest.unwrap_or(0));
        }
        *parts = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn part(from: u64, to: u64) -> CheckedPart {
        CheckedPart { from, to, first: from as i64, next: to as i64 }
    }

    #[test]
    fn parts_grow_together() {
        let mut state = State::empty(Arc::default(), 0);
        state.note_checked(0, part(100, 200)).unwrap();
        state.note_checked(0, part(300, 400)).unwrap();
        assert_eq!(state.checked_part(0, 250), None);
        assert_eq!(state.checked_part(0, 200), Some(part(100, 200)));
        state.note_checked(0, part(200, 300)).unwrap();
        assert_eq!(state.checked_part(0, 250), Some(part(100, 400)));
        assert_eq!(state.checked_part(1, 250), None);
        // The batches behind do not follow.
        assert!(state.note_checked(0, CheckedPart { first: 399, ..part(400, 500) }).is_err());
        assert!(state.note_checked(7, part(0, 10)).is_ok());
        assert!(state.note_checked(7, CheckedPart { first: 10, ..part(10, 20) }).is_ok());
    }

    #[test]
    fn parts_are_bounded() {
        let mut state = State::empty(Arc::default(), 0);
        state.note_checked(0, part(0, 50)).unwrap();
        for i in 1..100 {
            state.note_checked(0, part(i * 100, i * 100 + 1)).unwrap();
        }
        assert_eq!(state.checked.get(&0).map(Vec::len), Some(PARTS));
        assert_eq!(state.checked_part(0, 20), Some(part(0, 50)));
    }
}
