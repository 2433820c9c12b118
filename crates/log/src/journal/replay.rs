//! Reading the journal at the start: every entry that was written after the last checkpoint, in order.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chronik_records::{Batch, BatchHeader};

use super::entry::{
    Cut, Definition, ENTRY_HEADER, EntryHeader, FILE_HEADER, Found, JournalPosition, Kind, decode_header,
    is_file_header,
};
use crate::core::Core;
use crate::disk::{DiskFile, OpenMode};
use crate::error::LogError;
use crate::manager::{PartitionKey, RecoverySummary};
use crate::options::PartitionOptions;
use crate::partition::{PartitionLog, State, Stored};
use crate::sync::Lock;

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;
/// Progress is logged every so many bytes.
const PROGRESS: u64 = 256 << 20;

/// Something that could not be read where an entry should be.
struct Fault {
    at: JournalPosition,
    /// The partition, if that is known; else whatever was there.
    partition: Option<Arc<PartitionLog>>,
    /// For an entry that doesn't continue its log: the end of the one before. What is missing was somewhere in between.
    since: Option<JournalPosition>,
    what: String,
}

/// What a replay found.
pub(crate) struct Replayed {
    pub(crate) partitions: HashMap<PartitionKey, Arc<PartitionLog>>,
    /// Something could not be read.
    pub(crate) faults: bool,
    /// Journal files with damage where they had been flushed.
    pub(crate) damaged: Vec<u64>,
    /// The end of a log was taken back: what is appended next may lie where the journal has other batches.
    pub(crate) taken_back: bool,
}

/// A batch that ought to be in its segment and isn't: damage, unless it went for a reason that comes later.
struct Suspect {
    fault: Fault,
    /// Where the log ends without it, which is also its place.
    cut: Cut,
    header: BatchHeader,
}

/// Where a replay is.
pub(crate) struct Replay<'a> {
    core: &'a Arc<Core>,
    options: Arc<PartitionOptions>,
    partitions: HashMap<PartitionKey, Arc<PartitionLog>>,
    /// Partitions that gave up an entry: what follows in this file is not theirs.
    cut: HashMap<PartitionKey, JournalPosition>,
    /// Something is missing between here and the entries before.
    gap: bool,
    faults: Vec<Fault>,
    suspects: HashMap<PartitionKey, Vec<Suspect>>,
    taken_back: bool,
    /// The journal had been flushed up to here.
    flushed: JournalPosition,
    summary: &'a mut RecoverySummary,
    next_progress: u64,
}

/// A journal file's bytes, from front to back.
struct Reader {
    file: Arc<dyn DiskFile>,
    window: Bytes,
    /// Where `window` begins in the file.
    at: u64,
    length: u64,
}

impl Reader {
    /// At least `count` bytes at the front of the window, if the file has them.
    fn need(&mut self, count: usize) -> io::Result<bool> {
        if self.window.len() >= count {
            return Ok(true);
        }
        let left = self.length.saturating_sub(self.at + self.window.len() as u64);
        let want = count.max(WINDOW);
        let more = usize::try_from(left).unwrap_or(usize::MAX).min(want - self.window.len());
        let mut bytes = BytesMut::zeroed(self.window.len() + more);
        let (old, new) = bytes.split_at_mut(self.window.len());
        old.copy_from_slice(&self.window);
        let read = self.file.read_at(new, self.at + self.window.len() as u64)?;
        bytes.truncate(self.window.len() + read);
        self.window = bytes.freeze();
        Ok(self.window.len() >= count)
    }

    /// The entry at the front, if there is one.
    fn entry(&mut self, number: u64) -> io::Result<Option<EntryHeader>> {
        let mut need = ENTRY_HEADER;
        loop {
            if !self.need(need)? {
                return Ok(None);
            }
            match decode_header(number, &self.window) {
                Found::Entry(entry) => return Ok(Some(entry)),
                Found::Need(more) => need = more,
                Found::Nothing => return Ok(None),
            }
        }
    }

    fn skip(&mut self, count: usize) -> Bytes {
        let count = count.min(self.window.len());
        self.at += count as u64;
        self.window.split_to(count)
    }

    fn exhausted(&self) -> bool {
        self.window.is_empty() && self.at >= self.length
    }
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        core: &'a Arc<Core>,
        partitions: HashMap<PartitionKey, Arc<PartitionLog>>,
        summary: &'a mut RecoverySummary,
    ) -> Self {
        Self {
            core,
            options: Arc::default(),
            partitions,
            cut: HashMap::new(),
            gap: false,
            faults: Vec::new(),
            suspects: HashMap::new(),
            taken_back: false,
            flushed: JournalPosition::default(),
            summary,
            next_progress: PROGRESS,
        }
    }

    /// Reads these files, which are in order, and brings the logs up to date.
    pub(crate) fn run(mut self, files: &[u64]) -> Result<Replayed, LogError> {
        for file in files {
            self.file(*file)?;
        }
        self.judge_suspects()?;
        let faults = !self.faults.is_empty();
        let damaged = self.judge();
        Ok(Replayed { partitions: self.partitions, faults, damaged, taken_back: self.taken_back })
    }

    fn file(&mut self, number: u64) -> Result<(), LogError> {
        let path = self.core.journal_path(number);
        let io = |e| LogError::io("read", &path)(e);
        let file = self.core.disk.open(&path, OpenMode::Read).map_err(io)?;
        let length = file.len().map_err(io)?;
        let mut reader = Reader { file, window: Bytes::new(), at: 0, length };
        let mut slots: HashMap<u32, Arc<PartitionLog>> = HashMap::new();
        if !reader.need(FILE_HEADER).map_err(io)? || !is_file_header(number, &reader.window) {
            if length > 0 {
                self.fault(number, 0, None, "the file's header can't be read");
                self.gap = true;
            }
            // With another number's header nothing in it is of this file; with a torn one there is nothing.
            if reader.window.len() < FILE_HEADER {
                return Ok(());
            }
        }
        reader.skip(FILE_HEADER);
        while !reader.exhausted() {
            let Some(EntryHeader { kind, slot, length }) = reader.entry(number).map_err(io)? else {
                let from = reader.at;
                if !self.resync(&mut reader, number).map_err(io)? {
                    break;
                }
                let what = format!("{} bytes are not what was written", reader.at - from);
                self.fault(number, from, None, &what);
                self.gap = true;
                continue;
            };
            if !reader.need(ENTRY_HEADER + length).map_err(io)? {
                let partition = slots.get(&slot).cloned();
                self.fault(number, reader.at, partition, "the file ends within an entry");
                break;
            }
            let at = JournalPosition { file: number, position: reader.at };
            reader.skip(ENTRY_HEADER);
            let payload = reader.skip(length);
            let end = JournalPosition { file: number, position: reader.at };
            self.entry(&mut slots, kind, slot, payload, at, end)?;
            self.relieve(reader.at)?;
        }
        self.summary.journal_bytes += length;
        Ok(())
    }

    /// Looks for the next entry behind bytes that are none. False, with a fault noted, if there is none.
    fn resync(&mut self, reader: &mut Reader, number: u64) -> io::Result<bool> {
        let from = reader.at;
        let mut zeros = true;
        while !reader.exhausted() {
            let there = reader.need(ENTRY_HEADER + 128)?;
            if !there && reader.window.len() < ENTRY_HEADER {
                let rest = reader.skip(reader.window.len());
                zeros &= rest.iter().all(|b| *b == 0);
                break;
            }
            if matches!(decode_header(number, &reader.window), Found::Entry(_)) {
                return Ok(true);
            }
            // An entry's twelfth byte is its kind, never zero: no entry begins further before what is not zero.
            let run = reader.window.iter().take_while(|b| **b == 0).count();
            let skip = if run == reader.window.len() { run - run.min(ENTRY_HEADER - 1) } else { 0 };
            let bytes = reader.skip(skip.max(run.saturating_sub(ENTRY_HEADER - 1)).max(1));
            zeros &= bytes.iter().all(|b| *b == 0);
        }
        // Zeros are what space that was reserved holds, or what a power loss left of a write that nobody was told of.
        if !zeros {
            let what = format!("{} bytes at the end of the file are not what was written", reader.at - from);
            self.fault(number, from, None, &what);
        }
        Ok(false)
    }

    fn fault(&mut self, file: u64, position: u64, partition: Option<Arc<PartitionLog>>, what: &str) {
        let at = JournalPosition { file, position };
        self.faults.push(Fault { at, partition, since: None, what: what.to_owned() });
    }

    fn entry(
        &mut self,
        slots: &mut HashMap<u32, Arc<PartitionLog>>,
        kind: Kind,
        slot: u32,
        payload: Bytes,
        at: JournalPosition,
        end: JournalPosition,
    ) -> Result<(), LogError> {
        let number = || payload.first_chunk::<8>().map(|b| i64::from_le_bytes(*b));
        match kind {
            Kind::Define => {
                if let Some(definition) = Definition::decode(&payload) {
                    let partition = self.define(&definition, at)?;
                    slots.insert(slot, partition);
                }
                return Ok(());
            }
            Kind::Flushed => {
                let position = number().map_or(0, |n| n.max(0) as u64);
                let file = end.file.saturating_sub(u64::from(slot));
                self.flushed = self.flushed.max(JournalPosition { file, position });
                return Ok(());
            }
            _ => {}
        }
        let Some(partition) = slots.get(&slot).cloned() else {
            self.fault(at.file, at.position, None, "an entry of a partition that is not named before");
            return Ok(());
        };
        let key = partition.key();
        if end <= partition.lock().stored.applied {
            return Ok(());
        }
        let cut = Cut::decode(&payload).filter(|_| kind == Kind::Truncate);
        if let Some(cut) = cut {
            self.truncated(&partition, cut.end);
        }
        if kind == Kind::Reset {
            self.thrown_away(&key);
        }
        if self.cut.contains_key(&key) {
            return Ok(());
        }
        match kind {
            Kind::LogStart => {
                if let Some(start) = number() {
                    partition.replay_log_start(start);
                }
            }
            Kind::Truncate => {
                if let Some(cut) = cut {
                    partition.cut_at(cut)?;
                    self.taken_back = true;
                }
            }
            Kind::Reset => {
                if let Some(offset) = number() {
                    partition.wipe(offset.max(0));
                    self.taken_back = true;
                }
            }
            Kind::Delete => {
                partition.lock().deleted = true;
                self.partitions.remove(&key);
                self.core.deleted.hold().push(key);
            }
            Kind::Batch | Kind::BatchRoll => {
                self.batch(&partition, kind == Kind::BatchRoll, payload, at, end)
            }
            Kind::Marker | Kind::MarkerRoll => {
                self.marker(&partition, kind == Kind::MarkerRoll, &payload, at, end);
            }
            Kind::Define | Kind::Flushed => {}
        }
        if kind != Kind::Delete {
            let mut state = partition.lock();
            state.applied = end;
            partition.mark_dirty(&mut state);
        }
        Ok(())
    }

    /// A partition gets its number. Gives its log, made if it is new.
    fn define(&mut self, d: &Definition, at: JournalPosition) -> Result<Arc<PartitionLog>, LogError> {
        let Some(partition) = self.partitions.get(&d.key).cloned() else {
            let mut state = State::empty(self.options.clone(), d.end_offset);
            state.active.segment = d.active_base;
            state.active.position = d.active_position;
            state.active.created_ms = d.active_created_ms;
            state.stored = Stored {
                end: d.end_offset,
                segment: d.active_base,
                position: d.active_position,
                sealed_bytes: d.sealed_bytes,
                applied: at,
                ..Stored::default()
            };
            state.listed = d.sealed_bytes == 0;
            let partition = Arc::new(PartitionLog::new(self.core.clone(), d.key, d.log_start, state));
            partition.mark_dirty(&mut partition.lock());
            self.partitions.insert(d.key, partition.clone());
            return Ok(partition);
        };
        if at < partition.lock().stored.applied {
            return Ok(partition);
        }
        let end = partition.log_end_offset();
        // What a later run of the node had found counts: it wrote on from there.
        if d.end_offset < end {
            let (segment, position) = (d.active_base, d.active_position);
            self.truncated(&partition, d.end_offset);
            partition.cut_at(Cut { end: d.end_offset, segment, position })?;
            self.taken_back = true;
        }
        if d.end_offset > end {
            let what = format!("its log goes on at offset {} where it ended at {end}", d.end_offset);
            self.misses(&partition, at, &what);
        } else {
            self.cut.remove(&d.key);
            partition.replay_log_start(d.log_start);
        }
        Ok(partition)
    }

    /// What follows of a partition can't be used.
    fn give_up(&mut self, partition: &Arc<PartitionLog>, at: JournalPosition, what: &str) {
        self.cut.insert(partition.key(), at);
        self.fault(at.file, at.position, Some(partition.clone()), what);
    }

    /// An entry doesn't continue its log: one before it is missing.
    fn misses(&mut self, partition: &Arc<PartitionLog>, at: JournalPosition, what: &str) {
        self.give_up(partition, at, what);
        let applied = partition.lock().applied;
        if let Some(fault) = self.faults.last_mut() {
            fault.since = Some(applied);
        }
    }

    /// True if a batch at `offset` continues the log.
    fn continues(&mut self, partition: &Arc<PartitionLog>, offset: i64, at: JournalPosition) -> bool {
        let end = partition.log_end_offset();
        // A follower's log may have gaps that compaction left; where the journal has one, they can't be told apart.
        if offset == end || (offset > end && !self.gap) {
            return true;
        }
        let what = format!("a batch begins at offset {offset} where the log ends at {end}");
        self.misses(partition, at, &what);
        false
    }

    fn batch(
        &mut self,
        partition: &Arc<PartitionLog>,
        roll: bool,
        payload: Bytes,
        at: JournalPosition,
        end: JournalPosition,
    ) {
        let checked = Batch::parse(&payload).and_then(|b| b.verify_crc().map(|()| *b.header()));
        let header = match checked {
            Ok(header) if header.total_size() == payload.len() => header,
            Ok(_) => return self.give_up(partition, at, "a batch states another length than its entry"),
            Err(e) => return self.give_up(partition, at, &e.to_string()),
        };
        if self.continues(partition, header.base_offset, at) {
            partition.replay_batch(&header, payload, roll, end);
            self.summary.batches += 1;
        }
    }

    /// A batch that went straight to its segment: is it there?
    fn marker(
        &mut self,
        partition: &Arc<PartitionLog>,
        roll: bool,
        payload: &Bytes,
        at: JournalPosition,
        end: JournalPosition,
    ) {
        let header = match BatchHeader::parse(payload) {
            Ok(header) => header,
            Err(e) => return self.give_up(partition, at, &e.to_string()),
        };
        if !self.continues(partition, header.base_offset, at) {
            return;
        }
        if let Err(what) = partition.check_direct(&header, payload, roll) {
            let fault = Fault { at, partition: Some(partition.clone()), since: None, what };
            let (segment, position) = partition.replay_place(&header, roll);
            let cut = Cut { end: header.base_offset, segment, position };
            let suspects = self.suspects.entry(partition.key()).or_default();
            suspects.push(Suspect { fault, cut, header });
        }
        partition.replay_batch(&header, Bytes::new(), roll, end);
        self.summary.batches += 1;
    }

    /// The log was cut to `to`: what could not be read above it no longer matters.
    fn truncated(&mut self, partition: &Arc<PartitionLog>, to: i64) {
        let key = partition.key();
        if let Some(suspects) = self.suspects.get_mut(&key) {
            suspects.retain(|s| s.header.last_offset() < to);
        }
        if self.cut.contains_key(&key) && to <= partition.log_end_offset() {
            self.cut.remove(&key);
            self.faults.retain(|f| f.partition.as_ref().is_none_or(|p| p.key() != key));
        }
    }

    /// The log was thrown away: nothing that could not be read of it matters any more.
    fn thrown_away(&mut self, key: &PartitionKey) {
        self.suspects.remove(key);
        self.cut.remove(key);
        self.faults.retain(|f| f.partition.as_ref().is_none_or(|p| p.key() != *key));
    }

    /// What ought to be in segments and isn't: below the log's start nobody misses it; else the log ends before it.
    fn judge_suspects(&mut self) -> Result<(), LogError> {
        for (key, suspects) in std::mem::take(&mut self.suspects) {
            let Some(partition) = self.partitions.get(&key).cloned() else { continue };
            let log_start = partition.log_start_offset();
            let (below, missed): (Vec<_>, Vec<_>) =
                suspects.into_iter().partition(|s| s.header.last_offset() < log_start);
            for gone in below {
                partition.fill_place(gone.cut.segment, gone.cut.position, &gone.header)?;
            }
            let Some(first) = missed.into_iter().next() else { continue };
            if first.fault.at >= self.flushed {
                partition.cut_at(first.cut)?;
            }
            self.faults.push(first.fault);
        }
        Ok(())
    }

    /// Keeps the memory that the replay takes within its limit, and tells how far it is.
    fn relieve(&mut self, in_file: u64) -> Result<(), LogError> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.core.unspilled.load(Relaxed) > self.core.memory_limit() / 2 {
            self.core.spill_all();
            // Nobody reads yet: no cache is kept.
            for partition in self.core.dirty.hold().iter() {
                partition.evict(i64::MAX);
            }
            if self.core.is_poisoned() {
                return Err(LogError::Refused("the segments can't be written".to_owned()));
            }
        }
        let done = self.summary.journal_bytes + in_file;
        if done >= self.next_progress {
            self.next_progress = done + PROGRESS;
            tracing::info!(
                "recovery: {} MiB of the journal read, {} batches",
                done >> 20,
                self.summary.batches
            );
        }
        Ok(())
    }

    /// Tells what was torn from what is damaged: what had been flushed was there for good. Gives the damaged files.
    fn judge(&mut self) -> Vec<u64> {
        let mut damaged = Vec::new();
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort_by_key(|f| f.at);
        // Places that had been flushed, and of which nobody can say whose they were.
        let unclaimed: Vec<JournalPosition> =
            faults.iter().filter(|f| f.partition.is_none() && f.at < self.flushed).map(|f| f.at).collect();
        for fault in faults {
            let missing = fault
                .since
                .and_then(|since| unclaimed.iter().find(|at| since <= **at && **at < fault.at).copied());
            let at = missing.unwrap_or(fault.at);
            let place = format!("{} at byte {}", self.core.journal_path(at.file).display(), at.position);
            let was_flushed = at < self.flushed;
            if was_flushed && !damaged.contains(&at.file) {
                damaged.push(at.file);
            }
            match fault.partition {
                Some(partition) if was_flushed => {
                    let why = format!(
                        "the journal is damaged in {place}, where it had been flushed: {}; the partition ends at offset {} until it is restored from a replica or a backup, or the topic is deleted",
                        fault.what,
                        partition.log_end_offset()
                    );
                    partition.take_offline(&why);
                }
                Some(partition) => self.summary.cut.push(format!(
                    "partition {} was cut at offset {}: {place}: {}",
                    partition.key(),
                    partition.log_end_offset(),
                    fault.what
                )),
                None if was_flushed => {
                    self.summary
                        .cut
                        .push(format!("damage in {place}, where it had been flushed: {}", fault.what));
                }
                None => self.summary.cut.push(format!("the journal was cut in {place}: {}", fault.what)),
            }
        }
        damaged
    }
}
