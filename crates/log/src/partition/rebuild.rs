//! Learning about a log from its segments alone: slow, and only where nothing else is left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::epochs::Epochs;
use super::producers::Producers;
use super::{PartitionLog, Stored};
use crate::disk::OpenMode;
use crate::error::LogError;
use crate::index::{self, IndexCursor};
use crate::segment::{ScanFault, Scanner, Sealed, index_name, parse_log_name};

impl PartitionLog {
    /// How many bytes the last stored segment's file has compared with those that it should have.
    pub(crate) fn compare_length(&self) -> std::cmp::Ordering {
        let (segment, position) = {
            let state = self.lock();
            (state.stored.segment, state.stored.position)
        };
        match self.core.disk.file_len(&self.segment_path(segment)) {
            Ok(length) => length.cmp(&position),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0.cmp(&position),
            Err(_) => std::cmp::Ordering::Equal,
        }
    }

    /// Removes what lies behind the log's end: an earlier run wrote it, and it was lost or taken back. Should the checkpoint
    /// be lost one day, it must not pass for a part of the log.
    pub(crate) fn tidy(&self) -> Result<(), LogError> {
        let (segment, position) = {
            let state = self.lock();
            if state.deleted || state.offline.is_some() {
                return Ok(());
            }
            (state.active.segment, state.active.position)
        };
        self.remove_thrown_away().map_err(LogError::io("remove old segments in", self.dir()))?;
        let path = self.segment_path(segment);
        if self.core.disk.file_len(&path).is_ok_and(|length| length > position) {
            self.cut_segment(segment, position).map_err(LogError::io("cut", path))?;
            self.lock().note_unsettled(segment);
        }
        self.remove_stale(segment, i64::MAX).map_err(LogError::io("remove old segments in", self.dir()))
    }

    /// Reads all segments, checking every batch. `journalled` says that the journal told how the log ends. Gives what
    /// was cut off, if something was.
    ///
    /// # Errors
    /// There is damage before the log's end.
    pub(crate) fn rebuild(self: &Arc<Self>, journalled: bool) -> Result<Option<String>, LogError> {
        let _io = self.lock_io();
        let dir = self.dir();
        crate::cleaner::finish_swaps(&*self.core.disk, &dir).map_err(LogError::io("list", &dir))?;
        self.remove_thrown_away().map_err(LogError::io("remove old segments in", &dir))?;
        let before = self.lock().stored;
        let names = self.core.disk.list(&dir).map_err(LogError::io("list", &dir))?;
        let mut bases: Vec<i64> = names.iter().filter_map(|n| parse_log_name(n)).collect();
        if journalled {
            // Behind the segment that the journal names there is only what was taken back.
            bases.retain(|b| *b <= before.segment);
        }
        // What lies below the log's start doesn't matter any more; retention removes it.
        let log_start = self.log_start_offset();
        let below =
            bases.windows(2).take_while(|pair| pair.get(1).is_some_and(|next| *next <= log_start)).count();
        for old in bases.drain(..below) {
            self.remove_segment(old).map_err(LogError::io("remove", self.segment_path(old)))?;
        }
        let (Some(first), Some(last)) = (bases.first().copied(), bases.last().copied()) else {
            if before.position > 0 {
                let path = self.segment_path(before.segment);
                return Err(LogError::Damaged { path, position: 0, what: "the file is missing".to_owned() });
            }
            return Ok(None);
        };
        let now_ms = self.core.clock.wall_ms();
        let interval = self.lock().options.index_interval_bytes;
        let mut epochs = Epochs::default();
        let mut producers = Producers::default();
        let mut stored = Stored { end: first, applied: before.applied, ..Stored::default() };
        let mut sealed = Vec::new();
        let mut cut = None;
        for base in bases {
            if stored.position > 0 {
                let max_timestamp = Some(stored.index.max_timestamp);
                sealed.push(Sealed { base: stored.segment, size: stored.position, max_timestamp });
                stored.sealed_bytes += stored.position;
            }
            stored.segment = base;
            stored.position = 0;
            stored.index = IndexCursor::default();
            stored.end = stored.end.max(base);
            let path = self.segment_path(base);
            let file = self.segment_file(base, OpenMode::Read).map_err(LogError::io("open", &path))?;
            let length = file.len().map_err(LogError::io("look at", &path))?;
            let told = journalled && base == before.segment;
            let length = if told { before.position } else { length };
            let mut entries = Vec::new();
            let mut scanner = Scanner::new(&*file, 0, length);
            let fault = loop {
                match scanner.next_batch() {
                    Ok(None) => break None,
                    Ok(Some((position, batch))) => {
                        let header = *batch.header();
                        if header.base_offset < stored.end {
                            let what =
                                format!("offset {} where {} comes next", header.base_offset, stored.end);
                            break Some(ScanFault::Bad { position, what });
                        }
                        epochs.note(header.partition_leader_epoch, header.base_offset);
                        producers.note(&header, now_ms);
                        let (offset, time) = (header.base_offset, header.max_timestamp);
                        stored.index.batch(base, offset, position, time, interval, &mut entries);
                        stored.position = position + header.total_size() as u64;
                        stored.end = header.next_offset();
                    }
                    Err(fault) => break Some(fault),
                }
            };
            match fault {
                Some(ScanFault::Bad { position, what }) if base == last && !told => {
                    let left = length - position;
                    cut = Some(format!(
                        "partition {} was cut at offset {}: {left} bytes of {} from byte {position} on: {what}",
                        self.key(),
                        stored.end,
                        path.display()
                    ));
                    self.cut_segment(base, position).map_err(LogError::io("cut", &path))?;
                }
                Some(fault) => return Err(fault.into_error(&path)),
                None => {}
            }
            if base != last {
                stored.index.seal(base, stored.end, stored.position, &mut entries);
            }
            self.write_rebuilt(base, &entries).map_err(LogError::io("write", dir.join(index_name(base))))?;
        }
        let mut state = self.lock();
        let end = if journalled { before.end.max(stored.end) } else { stored.end };
        state.end = end;
        state.stored = Stored { end, ..stored };
        state.active.segment = stored.segment;
        state.active.position = stored.position;
        state.active.created_ms = now_ms;
        state.epochs = epochs;
        state.producers = producers;
        state.tail.clear();
        state.spilled = 0;
        state.sealed = sealed;
        state.listed = true;
        state.note_unsettled(last);
        self.mark_dirty(&mut state);
        self.log_start.fetch_max(first, Ordering::AcqRel);
        for offset in [&self.log_end, &self.written, &self.flushed] {
            offset.store(end, Ordering::Release);
        }
        self.recount(&state);
        Ok(cut)
    }

    fn write_rebuilt(&self, base: i64, entries: &[u8]) -> io::Result<()> {
        index::write(&*self.index_file(base, OpenMode::Create)?, entries)
    }

    /// Flushes the segments that were written to before this start, as far as the journal does not hold what they do.
    pub(crate) fn flush_unsettled(&self) -> Result<(), LogError> {
        let segments = std::mem::take(&mut self.lock().unsettled);
        for segment in segments {
            let path = self.segment_path(segment);
            // What retention removed since is not missed.
            if !self.core.disk.exists(&path) {
                continue;
            }
            let sync = || {
                self.segment_file(segment, OpenMode::Read)?.sync_data()?;
                self.core.disk.sync_dir(&self.dir())
            };
            sync().map_err(LogError::io("flush", path))?;
        }
        Ok(())
    }
}
