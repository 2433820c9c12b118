//! The thread that writes groups: what goes straight to segments first, then the journal, in one write.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::{ENTRY_HEADER, JournalPosition, Kind, encode_file_header, encode_header};
use super::queue::Group;
use crate::core::{Core, TailGroup, count};
use crate::disk::{DiskFile, OpenMode, is_full};
use crate::listener::Progress;
use crate::options::FlushMode;
use crate::sync::Lock;

/// What is said of appends that came after the storage failed.
const TOO_LATE: &str = "the node's storage takes no more writes after an earlier failure";

/// A batch that went straight to its segment is checked by a start after a kill, and not written again: so many bytes of
/// it take about as long as one byte of journal.
const DIRECT_WEIGHT: u64 = 2;

/// The journal file that is being written.
#[derive(Default)]
pub(crate) struct Journal {
    file: Option<Arc<dyn DiskFile>>,
    at: JournalPosition,
    /// What the file says was flushed; nothing at its beginning, wherever that was in the files before.
    noted_flush: JournalPosition,
    /// Space is reserved up to here.
    allocated: u64,
}

/// Space is reserved in steps of so many bytes: each costs a flush some extra time.
const ALLOCATION: u64 = 8 << 20;

impl Core {
    /// Writes groups until the queue is stopped.
    pub(crate) fn run_writer(self: &Arc<Self>) {
        while self.queue.wait() {
            self.write_queued();
        }
    }

    /// Writes what is in the queue.
    pub(crate) fn write_queued(self: &Arc<Self>) {
        let mut journal = self.journal.hold();
        while let Some(group) = self.queue.take() {
            self.write_group(&mut journal, group);
        }
    }

    fn write_group(self: &Arc<Self>, journal: &mut Journal, mut group: Group) {
        if self.is_poisoned() {
            self.fail_group(group);
            return;
        }
        let start = match self.try_write(journal, &group) {
            Ok(start) => start,
            Err((what, e)) if is_full(&e) => {
                self.queue.release(&group);
                self.out_of_space(vec![group], &format!("{what} failed: {e}"));
                return;
            }
            Err((what, e)) => {
                self.poison(&format!("{what} failed: {e}"));
                self.fail_group(group);
                return;
            }
        };
        count(&self.counters.groups, 1);
        let tail_bytes = self.keep_tails(&group, start);
        self.queue.release(&group);
        let progress: Vec<Progress> = group.parts.drain(..).map(|p| (p.partition, p.end)).collect();
        self.listener.on_written(&progress);
        if self.flush_mode() == FlushMode::Os {
            for (partition, end) in &progress {
                partition.note_flushed(*end);
            }
            self.listener.on_flushed(&progress);
        }
        let now = self.clock.monotonic_ms();
        if !self.flush.note_written(&progress, group.last_sequence, journal.at, now) {
            let failed: Vec<Progress> =
                progress.iter().map(|(p, _)| (p.clone(), p.flushed_offset())).collect();
            self.listener.on_failed(&failed, TOO_LATE);
        }
        if tail_bytes > 0 {
            self.tails.hold().push_back(TailGroup { progress });
        }
        let written = group.journal_bytes + group.batch_bytes;
        self.queue.recycle(group);
        self.after_write(written);
    }

    /// A group that came too late.
    fn fail_group(&self, group: Group) {
        let failed: Vec<Progress> = group
            .parts
            .into_iter()
            .map(|p| {
                let from = p.partition.flushed_offset();
                (p.partition, from)
            })
            .collect();
        self.listener.on_failed(&failed, TOO_LATE);
    }

    /// Limits that a write may have reached.
    fn after_write(&self, written: u64) {
        let unspilled = self.unspilled.load(Ordering::Relaxed);
        let limit = self.memory_limit();
        let replay = self.replay_since_checkpoint.load(Ordering::Relaxed);
        if replay >= self.checkpoint_bytes() {
            self.ask_keeper(|k| k.checkpoint = true);
        } else if unspilled > limit / 2 {
            self.ask_keeper(|k| k.spill = true);
        }
        if let Some(free) = self.space.wrote(&*self.disk, &self.root, written) {
            self.refuse_for_space(free);
        }
        self.check_relief();
    }

    /// Bytes to replay after which a checkpoint is made: they bound the time of a start after a kill.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        4 * self.space.journal_file_bytes(&self.options)
    }

    /// Writes a group; gives where its first entry is in the journal.
    fn try_write(&self, journal: &mut Journal, group: &Group) -> Result<u64, (String, io::Error)> {
        for direct in &group.directs {
            let Some(part) = group.parts.get(direct.part as usize) else { continue };
            let file = part.partition.segment_file(direct.segment, OpenMode::Create).map_err(|e| {
                (format!("opening segment {} of {}", direct.segment, part.partition.key()), e)
            })?;
            let body = direct.body.get(16..).unwrap_or_default();
            let mut slices = [IoSlice::new(&direct.prefix), IoSlice::new(body)];
            file.write_at(&mut slices, direct.position).map_err(|e| {
                (format!("writing to segment {} of {}", direct.segment, part.partition.key()), e)
            })?;
            let bytes = direct.body.len() as u64;
            count(&self.counters.segment_bytes, bytes);
            count(&self.replay_since_checkpoint, bytes / DIRECT_WEIGHT);
            self.flush.note_direct(&part.partition, direct.segment, &file);
        }
        let failed = |e: io::Error| (format!("writing journal file {}", group.file), e);
        if journal.file.is_none() || journal.at.file != group.file {
            let path = self.journal_path(group.file);
            let file = self.disk.open(&path, OpenMode::Create).map_err(failed)?;
            let header = encode_file_header(group.file);
            file.write_at(&mut [IoSlice::new(&header)], 0).map_err(failed)?;
            journal.at = JournalPosition { file: group.file, position: header.len() as u64 };
            journal.noted_flush = JournalPosition::default();
            journal.allocated = 0;
            self.flush.note_journal(group.file, &file);
            journal.file = Some(file);
        }
        let Some(file) = journal.file.clone() else { return Ok(0) };
        let mut slices = Vec::with_capacity(group.chunks.len() + 1);
        // What was flushed so far is noted with the next write: it tells damage from a torn end. It may be in a file before
        // this one, of which the rest is not flushed yet.
        let flushed = self.flush.journal_flushed();
        let mut mark = [0; ENTRY_HEADER + 8];
        let mut before = 0;
        let files_back = u32::try_from(group.file.saturating_sub(flushed.file));
        if flushed > journal.noted_flush
            && let Ok(files_back) = files_back
            && !self.torn_behind.load(Ordering::Relaxed)
        {
            let payload = flushed.position.to_le_bytes();
            let header = encode_header(group.file, Kind::Flushed, files_back, 8, &payload);
            mark[..ENTRY_HEADER].copy_from_slice(&header);
            mark[ENTRY_HEADER..].copy_from_slice(&payload);
            before = mark.len() as u64;
            slices.push(IoSlice::new(&mark));
        }
        slices.extend(group.chunks.iter().map(|c| IoSlice::new(c)));
        let end = journal.at.position + before + group.journal_bytes;
        if end > journal.allocated {
            let step = ALLOCATION.min(self.space.journal_file_bytes(&self.options));
            journal.allocated = end.next_multiple_of(step);
            // Where that doesn't work (some file systems can't, or space is short), the file grows as it is written.
            let _ = file.allocate(journal.allocated);
        }
        if let Err(e) = file.write_at(&mut slices, journal.at.position) {
            // Part of the group may be in the file. It is failed, so a restart must not find it.
            if is_full(&e) {
                let _ = file.set_len(journal.at.position);
                journal.allocated = journal.at.position;
            }
            return Err(failed(e));
        }
        if before > 0 {
            journal.noted_flush = flushed;
        }
        let start = journal.at.position + before;
        journal.at.position = start + group.journal_bytes;
        let bytes = before + group.journal_bytes;
        count(&self.counters.journal_bytes, bytes);
        count(&self.replay_since_checkpoint, bytes);
        Ok(start)
    }

    /// Puts the group's batches into their logs' tails in memory; gives how many bytes they take.
    fn keep_tails(self: &Arc<Self>, group: &Group, start: u64) -> u64 {
        let mut total = 0;
        // Where each entry ends in the file: entries are in the order in which they lie there.
        let mut ends = Vec::with_capacity(group.entries.len());
        let mut at = start;
        for entry in &group.entries {
            at += u64::from(entry.length);
            ends.push(at);
        }
        for part in &group.parts {
            total += part.partition.keep_tail(part, group, &ends);
        }
        count(&self.tail_bytes, total);
        count(&self.unspilled, total);
        total
    }
}
