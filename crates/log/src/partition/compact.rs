//! What the cleaner asks of a log, and the exchange of its segments.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::PartitionLog;
use super::segments::StoredSegment;
use crate::cleaner::Dirt;
use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::files::FileKind;
use crate::index::{self, IndexCursor};
use crate::segment::{Scanner, Sealed};

impl PartitionLog {
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        self.core.disk.clone()
    }

    pub(crate) fn segment_bytes_counter(&self) -> &AtomicU64 {
        &self.core.counters.segment_bytes
    }

    /// What there is to clean; `None` if it can wait.
    pub(crate) fn dirt(self: &Arc<Self>, now_ms: i64) -> Result<Option<Dirt>, LogError> {
        let (options, cleaned, settled_segment) = {
            let state = self.lock();
            if !state.options.cleanup.compact || state.deleted || state.offline.is_some() {
                return Ok(None);
            }
            (state.options.clone(), state.cleaned, state.settled_segment)
        };
        let late = |first: i64| {
            options.max_compaction_lag_ms < i64::MAX
                && first >= 0
                && now_ms.saturating_sub(first) > options.max_compaction_lag_ms
        };
        let (mut segments, mut version) = self.stored_segments()?;
        if let Some(active) = segments.last().filter(|s| !s.sealed).copied()
            && late(self.first_timestamp(&active, version)?)
            && self.roll()?
        {
            (segments, version) = self.stored_segments()?;
        }
        let settled = self.settled_offset();
        let (mut all, mut dirty, mut due) = (0, 0, cleaned.horizon_ms <= now_ms);
        let mut cleanable = Vec::new();
        for segment in segments {
            if !segment.sealed || segment.end > settled {
                break;
            }
            if segment.base >= settled_segment {
                // The journal still has it, and a start would write it again, over what cleaning made of it.
                self.core.ask_keeper(|k| k.checkpoint = true);
                break;
            }
            let young = options.min_compaction_lag_ms > 0
                && now_ms.saturating_sub(self.max_timestamp_of(&segment)?) < options.min_compaction_lag_ms;
            if young {
                break;
            }
            all += segment.size;
            if segment.end > cleaned.to {
                dirty += segment.size;
                due |= late(self.first_timestamp(&segment, version)?);
            }
            cleanable.push(segment);
        }
        let ratio = dirty as f64 / (all.max(1)) as f64;
        let wanted = due && !cleanable.is_empty() || dirty > 0 && ratio >= options.min_cleanable_dirty_ratio;
        Ok(wanted.then_some(Dirt { segments: cleanable, version, ratio, due }))
    }

    /// Timestamp of a segment's first batch; -1 if it has none.
    fn first_timestamp(&self, segment: &StoredSegment, version: u64) -> Result<i64, LogError> {
        let path = self.segment_path(segment.base);
        let file = self.segment_file(segment.base, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let first = Scanner::new(&*file, 0, segment.size).next_header();
        let first = first.map_err(|f| self.damage_since(version, f.into_error(&path)))?;
        Ok(first.map_or(-1, |(_, header)| header.max_timestamp))
    }

    /// Puts the file `cleaned`, of `size` bytes and flushed, in the place of segments. False if they are no longer those
    /// that were cleaned.
    pub(crate) fn replace_segments(
        self: &Arc<Self>,
        old: &[StoredSegment],
        cleaned: &Path,
        swap: &Path,
        size: u64,
        index: IndexCursor,
        entries: &[u8],
    ) -> Result<bool, LogError> {
        let Some(base) = old.first().map(|s| s.base) else { return Ok(true) };
        let _io = self.lock_io();
        {
            let state = self.lock();
            state.usable()?;
            let there = |s: &StoredSegment| state.sealed.iter().any(|k| k.base == s.base && k.size == s.size);
            if !old.iter().all(there) {
                return Ok(false);
            }
        }
        let dir = self.dir();
        let disk = &*self.core.disk;
        // Under this name the new segment counts, whatever happens next.
        disk.rename(cleaned, swap).map_err(LogError::io("rename", cleaned))?;
        disk.sync_dir(&dir).map_err(LogError::io("flush", &dir))?;
        {
            let mut state = self.lock();
            state.forget_hints();
            for segment in old {
                for kind in [FileKind::Log, FileKind::Index] {
                    self.core.files.forget(self.file_key(segment.base, kind));
                }
            }
            let max_timestamp = Some(index.max_timestamp);
            let place = state.sealed.iter().position(|s| s.base == base).unwrap_or(0);
            state.sealed.retain(|s| !old.iter().any(|o| o.base == s.base));
            if size > 0 {
                state.sealed.insert(place, Sealed { base, size, max_timestamp });
            }
            let gone: u64 = old.iter().map(|s| s.size).sum();
            state.stored.sealed_bytes = state.stored.sealed_bytes.saturating_sub(gone) + size;
            state.dirty_segments.retain(|s| !old.iter().any(|o| o.base == *s));
            self.mark_dirty(&mut state);
            self.recount(&state);
        }
        crate::cleaner::finish_swaps(disk, &dir).map_err(LogError::io("exchange segments in", &dir))?;
        for segment in old {
            for kind in [FileKind::Log, FileKind::Index] {
                self.core.files.forget(self.file_key(segment.base, kind));
            }
        }
        if size > 0 {
            let path = dir.join(crate::segment::index_name(base));
            self.index_file(base, OpenMode::Create)
                .and_then(|file| index::write(&*file, entries))
                .map_err(LogError::io("write", path))?;
        }
        self.lock().forget_hints();
        // Readers are to see the same, whether memory or a file serves them.
        if let Some(last) = old.last() {
            self.evict(last.end);
        }
        Ok(true)
    }
}
