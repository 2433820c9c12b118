//! The partition's files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::read::ATTEMPTS;
use super::{PartitionLog, State};
use crate::disk::{DiskFile, OpenMode};
use crate::error::LogError;
use crate::files::{FileKey, FileKind};
use crate::index::{self, ENTRY_SIZE, Index, IndexFault};
use crate::segment::{Sealed, index_name, log_name, parse_log_name, partition_dir};

/// A stored part of the log: one segment, as far as it is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredSegment {
    pub(crate) base: i64,
    /// Bytes of whole batches.
    pub(crate) size: u64,
    /// Offset after its last batch, or one that no batch lies between it and.
    pub(crate) end: i64,
    pub(crate) sealed: bool,
}

impl PartitionLog {
    pub(crate) fn dir(&self) -> PathBuf {
        partition_dir(&self.core.root, &self.key.to_string())
    }

    pub(crate) fn segment_path(&self, segment: i64) -> PathBuf {
        self.dir().join(log_name(segment))
    }

    pub(crate) fn file_key(&self, segment: i64, kind: FileKind) -> FileKey {
        FileKey { partition: self.serial, segment, kind }
    }

    /// The file of a segment. Not to be called under the state's lock.
    pub(crate) fn segment_file(&self, segment: i64, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &*self.core.disk;
        self.core.files.get(disk, self.file_key(segment, FileKind::Log), mode, || {
            let path = self.segment_path(segment);
            if mode == OpenMode::Create && !disk.exists(&path) {
                disk.create_dir_all(&self.dir())?;
                self.lock().new_segments.push(segment);
            }
            Ok(path)
        })
    }

    pub(crate) fn index_file(&self, segment: i64, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &*self.core.disk;
        self.core.files.get(disk, self.file_key(segment, FileKind::Index), mode, || {
            Ok(self.dir().join(index_name(segment)))
        })
    }

    /// Flushes the names of new files, if segment `segment` is one.
    pub(crate) fn sync_new_files(&self, segment: i64) -> io::Result<()> {
        let new = {
            let state = self.lock();
            state.new_segments.contains(&segment).then(|| state.new_segments.clone())
        };
        let Some(new) = new else { return Ok(()) };
        self.core.disk.sync_dir(&self.dir())?;
        self.core.disk.sync_dir(&self.core.root.join("partitions"))?;
        self.lock().new_segments.retain(|s| !new.contains(s));
        Ok(())
    }

    /// Cuts what lies behind the end of a segment that gets no more batches: left there by something that was taken back.
    pub(crate) fn cut_segment(&self, segment: i64, size: u64) -> io::Result<()> {
        let file = self.segment_file(segment, OpenMode::Create)?;
        if file.len()? > size {
            file.set_len(size)?;
        }
        Ok(())
    }

    /// Removes files of segments between two that follow each other: an earlier run began them, and what they held was
    /// lost or taken back.
    pub(crate) fn remove_stale(&self, before: i64, next: i64) -> io::Result<()> {
        let dir = self.dir();
        let mut removed = false;
        for base in self.core.disk.list(&dir)?.iter().filter_map(|n| parse_log_name(n)) {
            if base > before && base < next {
                self.remove_segment(base)?;
                removed = true;
            }
        }
        if removed {
            // That they are gone is to be flushed with a segment's name.
            let segment = if next == i64::MAX { before } else { next };
            self.lock().new_segments.push(segment);
        }
        Ok(())
    }

    /// Makes sure that the older segments are known. They are looked for in the partition's folder the first time.
    pub(crate) fn ensure_listed(&self) -> Result<(), LogError> {
        if self.lock().listed {
            return Ok(());
        }
        let _io = self.lock_io();
        self.ensure_listed_locked()
    }

    /// The same, for a caller that holds the I/O lock.
    pub(crate) fn ensure_listed_locked(&self) -> Result<(), LogError> {
        let (active, known) = {
            let state = self.lock();
            if state.listed {
                return Ok(());
            }
            let active = state.sealed.first().map_or(state.stored.segment, |s| s.base);
            (active, state.stored.sealed_bytes)
        };
        let dir = self.dir();
        let io = |e| LogError::io("list", &dir)(e);
        crate::cleaner::finish_swaps(&*self.core.disk, &dir).map_err(io)?;
        let mut found = Vec::new();
        for base in self.core.disk.list(&dir).map_err(io)?.iter().filter_map(|n| parse_log_name(n)) {
            if base < active {
                let path = self.segment_path(base);
                let size = self.core.disk.file_len(&path).map_err(LogError::io("look at", path))?;
                found.push(Sealed { base, size, max_timestamp: None });
            }
        }
        found.sort_by_key(|s| s.base);
        let mut state = self.lock();
        let newer: u64 = state.sealed.iter().map(|s| s.size).sum();
        let older: u64 = found.iter().map(|s| s.size).sum();
        if older + newer != known {
            // Compaction or retention changed them after the last checkpoint.
            tracing::debug!(
                "partition {}: its older segments have {} bytes where {known} were noted",
                self.key,
                older + newer
            );
            state.stored.sealed_bytes = older + newer;
            self.recount(&state);
        }
        found.append(&mut state.sealed);
        state.sealed = found;
        state.listed = true;
        Ok(())
    }

    /// Counts the log's bytes anew.
    pub(crate) fn recount(&self, state: &State) {
        let waiting: u64 = state.tail.iter().skip(state.spilled).map(|b| u64::from(b.size)).sum();
        let size = state.stored.sealed_bytes + state.stored.position + waiting;
        self.size.store(size, std::sync::atomic::Ordering::Relaxed);
    }

    /// The stored segments, the oldest first.
    pub(crate) fn stored_segments(&self) -> Result<(Vec<StoredSegment>, u64), LogError> {
        self.ensure_listed()?;
        let state = self.lock();
        let mut all = Vec::with_capacity(state.sealed.len() + 1);
        all.extend((0..state.sealed.len()).filter_map(|i| state.stored_sealed(i)));
        if state.stored.position > 0 {
            all.push(state.stored_active());
        }
        Ok((all, state.version))
    }

    /// Asks the index of a stored segment; makes it again if it is missing or damaged.
    pub(crate) fn with_index<T>(
        &self,
        segment: &StoredSegment,
        ask: impl Fn(&Index<'_>) -> Result<T, IndexFault>,
    ) -> Result<T, LogError> {
        let path = self.dir().join(index_name(segment.base));
        for _ in 0..ATTEMPTS {
            match self.try_index(segment, &ask) {
                Ok(answer) => return Ok(answer),
                Err(IndexFault::Io(e)) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(LogError::io("read", &path)(e));
                }
                // It may be bad, or the segment was exchanged for another since the caller looked.
                Err(_) => self.rebuild_index(segment.base)?,
            }
        }
        let source = io::Error::new(io::ErrorKind::InvalidData, "it does not match its segment");
        Err(LogError::Io { action: "use", path, source })
    }

    fn try_index<T>(
        &self,
        segment: &StoredSegment,
        ask: impl Fn(&Index<'_>) -> Result<T, IndexFault>,
    ) -> Result<T, IndexFault> {
        // The index may have been made again, or the segment sealed, since the caller looked.
        let (active, sealed) = {
            let state = self.lock();
            let active = (state.stored.segment == segment.base).then_some(state.stored.index.count);
            (active, state.sealed.iter().find(|s| s.base == segment.base).map(|s| s.size))
        };
        if active == Some(0) {
            return ask(&Index::new(&crate::disk::NoFile, segment.base, 0));
        }
        let file = self.index_file(segment.base, OpenMode::Read).map_err(IndexFault::Io)?;
        if let Some(count) = active {
            return ask(&Index::new(&*file, segment.base, count));
        }
        let count = file.len().map_err(IndexFault::Io)? / ENTRY_SIZE;
        let index = Index::new(&*file, segment.base, count);
        // A sealed segment's index ends with the segment's end.
        if index.last()?.map(|e| e.position) != sealed {
            return Err(IndexFault::Bad);
        }
        ask(&index)
    }

    /// Makes a segment's index again from the segment, if it is still a part of the log.
    fn rebuild_index(&self, base: i64) -> Result<(), LogError> {
        let _io = self.lock_io();
        let path = self.segment_path(base);
        let (segment, interval) = {
            let state = self.lock();
            let interval = state.options.index_interval_bytes;
            let active = state.stored_active();
            let sealed = state.sealed.iter().position(|s| s.base == base);
            let sealed = sealed.and_then(|i| state.stored_sealed(i));
            match sealed.or((active.base == base).then_some(active)) {
                Some(segment) => (segment, interval),
                None => return Ok(()),
            }
        };
        tracing::warn!("making the index of {} again", path.display());
        let log = self.segment_file(base, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let (bytes, cursor) =
            index::rebuild(&*log, base, segment.end, segment.size, interval, segment.sealed)
                .map_err(|fault| self.damage(fault.into_error(&path)))?;
        let index_path = self.dir().join(index_name(base));
        let written = self
            .index_file(base, OpenMode::Create)
            .and_then(|file| index::write(&*file, &bytes))
            .map_err(LogError::io("write", index_path));
        if !segment.sealed {
            // Under the I/O lock nobody else moves it on.
            let mut state = self.lock();
            state.stored.index = cursor;
            state.stored.reindex = false;
        }
        written
    }

    /// Takes the partition offline if `error` says that its data is damaged.
    pub(crate) fn damage(&self, error: LogError) -> LogError {
        if matches!(error, LogError::Damaged { .. }) {
            self.take_offline(&error.to_string());
        }
        error
    }

    /// The same for an error of somebody who read while the files were what they were at `version`. Had they changed
    /// since, it says nothing of what is there now.
    pub(crate) fn damage_since(&self, version: u64, error: LogError) -> LogError {
        if !matches!(error, LogError::Damaged { .. }) {
            return error;
        }
        if self.changed_since(version) {
            let source = io::Error::other("segments were exchanged while they were read; try again");
            return LogError::Io { action: "read", path: self.dir(), source };
        }
        self.damage(error)
    }

    pub(crate) fn remove_index(&self, base: i64) -> io::Result<()> {
        let removed = self.core.disk.remove(&self.dir().join(index_name(base)));
        // Afterwards: who opened it before the removal must not leave it in the cache.
        self.core.files.forget(self.file_key(base, FileKind::Index));
        removed
    }

    /// Makes the index again where a replay left it incomplete.
    ///
    /// # Errors
    /// The operating system says no. Damage takes the partition offline.
    pub(crate) fn reindex(&self) -> Result<(), LogError> {
        let segment = {
            let state = self.lock();
            if !state.stored.reindex {
                return Ok(());
            }
            state.stored.segment
        };
        match self.rebuild_index(segment) {
            Err(LogError::Damaged { .. }) | Ok(()) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes the files of a segment that is no longer in the log.
    pub(crate) fn remove_segment(&self, base: i64) -> io::Result<()> {
        self.remove_index(base)?;
        let removed = self.core.disk.remove(&self.dir().join(log_name(base)));
        self.core.files.forget(self.file_key(base, FileKind::Log));
        removed
    }
}

impl State {
    /// One of the segments before the last.
    pub(crate) fn stored_sealed(&self, i: usize) -> Option<StoredSegment> {
        let sealed = self.sealed.get(i)?;
        let end = self.sealed.get(i + 1).map_or(self.stored.segment, |next| next.base);
        Some(StoredSegment { base: sealed.base, size: sealed.size, end, sealed: true })
    }

    /// The last stored segment.
    pub(crate) fn stored_active(&self) -> StoredSegment {
        StoredSegment {
            base: self.stored.segment,
            size: self.stored.position,
            end: self.stored.end,
            sealed: false,
        }
    }
}
