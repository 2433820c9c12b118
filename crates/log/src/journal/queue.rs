//! The group that is being collected for the next write to the journal.
//!
//! Appends take the lock for as long as it takes to copy a small batch; the writer takes everything at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::{Bytes, BytesMut};
use chronik_records::{BatchHeader, HEADER_SIZE};

use super::entry::{Cut, Definition, ENTRY_HEADER, FILE_HEADER, Kind, encode_header};
use crate::partition::PartitionLog;
use crate::sync::Lock;

/// Bytes of a buffer that groups are collected in; it also serves the readers of the logs' tails.
const CHUNK: usize = 256 << 10;
/// "No entry follows."
pub(crate) const NONE: u32 = u32::MAX;

/// What a partition knows of its place in the queue; kept under the partition's lock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueMark {
    file: u64,
    slot: u32,
    group: u64,
    part: u32,
}

/// One entry of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Where in the group's buffers: which one, where in it, and how many bytes of journal.
    pub(crate) chunk: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) kind: Kind,
    /// The partition's next entry in the group.
    pub(crate) next: u32,
    /// For batches: offsets, place in the segment, and largest timestamp.
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) segment: i64,
    pub(crate) position: u64,
    pub(crate) size: u32,
    pub(crate) max_timestamp: i64,
}

/// A partition's share of a group.
pub(crate) struct Part {
    pub(crate) partition: Arc<PartitionLog>,
    /// The log's end after the share.
    pub(crate) end: i64,
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// A batch that goes straight to its segment.
pub(crate) struct Direct {
    pub(crate) part: u32,
    pub(crate) segment: i64,
    pub(crate) position: u64,
    /// The bytes that the broker owns, in place of the body's first 16.
    pub(crate) prefix: [u8; 16],
    pub(crate) body: Bytes,
}

/// What one write to the journal carries.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) id: u64,
    /// The journal file it goes to.
    pub(crate) file: u64,
    pub(crate) chunks: Vec<Bytes>,
    /// Bytes of journal.
    pub(crate) journal_bytes: u64,
    /// Bytes of batches, direct ones included.
    pub(crate) batch_bytes: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) parts: Vec<Part>,
    pub(crate) directs: Vec<Direct>,
    /// Entries ever queued, up to and with the last one of this group.
    pub(crate) last_sequence: u64,
}

/// What is to be queued.
pub(crate) enum Item<'a> {
    Batch { header: &'a BatchHeader, bytes: &'a Bytes, place: Place, direct: bool },
    LogStart(i64),
    Truncate(Cut),
    Reset(i64),
    Delete,
    Create,
}

/// Where a batch goes in its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: i64,
    pub(crate) position: u64,
    /// The segment begins with it.
    pub(crate) roll: bool,
}

struct Inner {
    /// Why nothing is taken, if so.
    refusing: Option<Arc<str>>,
    group: Group,
    /// Complete groups that wait for the writer, because the file was left.
    ready: VecDeque<Group>,
    /// Emptied groups, for their vectors.
    spare: Vec<Group>,
    chunk: BytesMut,
    file: u64,
    file_bytes: u64,
    file_limit: u64,
    next_slot: u32,
    next_group: u64,
    sequence: u64,
    writer_waits: bool,
    stop: bool,
}

/// See the module's description.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    appended: AtomicU64,
    bytes: AtomicU64,
}

impl Queue {
    /// An empty queue whose first group goes to journal file `file`. Files are left at `file_limit` bytes.
    pub(crate) fn new(file: u64, file_limit: u64) -> Self {
        let group = Group { id: 1, file, ..Group::default() };
        Self {
            inner: Mutex::new(Inner {
                refusing: None,
                group,
                ready: VecDeque::new(),
                spare: Vec::new(),
                chunk: BytesMut::new(),
                file,
                file_bytes: FILE_HEADER as u64,
                file_limit,
                next_slot: 0,
                next_group: 2,
                sequence: 0,
                writer_waits: false,
                stop: false,
            }),
            wake: Condvar::new(),
            appended: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Entries ever queued.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Bytes of memory that wait to be written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds an entry of a partition whose lock the caller holds; `define` says how its log stands before the entry.
    /// Fails with the reason if the storage takes no writes.
    pub(crate) fn push(
        &self,
        partition: &Arc<PartitionLog>,
        mark: &mut QueueMark,
        end: i64,
        define: impl FnOnce() -> Definition,
        item: &Item<'_>,
    ) -> Result<(), Arc<str>> {
        let mut inner = self.inner.hold();
        if let Some(reason) = &inner.refusing {
            return Err(reason.clone());
        }
        if inner.file_bytes >= inner.file_limit {
            inner.leave_file();
        }
        if mark.file != inner.file {
            mark.file = inner.file;
            mark.slot = inner.next_slot;
            inner.next_slot += 1;
            let part = inner.part(partition, mark, end);
            inner.control(part, Kind::Define, mark.slot, &define().encode());
        }
        let part = inner.part(partition, mark, end);
        let slot = mark.slot;
        let mut memory = ENTRY_HEADER;
        match item {
            Item::Batch { header, bytes, place, direct } => {
                memory += bytes.len();
                inner.batch(part, slot, header, bytes, *place, *direct);
                inner.group.batch_bytes += bytes.len() as u64;
            }
            Item::LogStart(offset) => inner.control(part, Kind::LogStart, slot, &offset.to_le_bytes()),
            Item::Truncate(cut) => inner.control(part, Kind::Truncate, slot, &cut.encode()),
            Item::Reset(offset) => inner.control(part, Kind::Reset, slot, &offset.to_le_bytes()),
            Item::Delete => inner.control(part, Kind::Delete, slot, &[]),
            // The definition that precedes it, at a partition's first entry, says all.
            Item::Create => {}
        }
        inner.sequence += 1;
        inner.group.last_sequence = inner.sequence;
        self.appended.store(inner.sequence, Ordering::Release);
        self.bytes.fetch_add(memory as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Wakes the writer if there is something for it.
    pub(crate) fn kick(&self) {
        let mut inner = self.inner.hold();
        if inner.writer_waits && (!inner.group.entries.is_empty() || !inner.ready.is_empty()) {
            inner.writer_waits = false;
            self.wake.notify_one();
        }
    }

    /// Takes the next group; `None` if there is none. Whoever takes one holds the journal's lock until it is written: groups
    /// go to the journal in their order.
    pub(crate) fn take(&self) -> Option<Group> {
        self.inner.hold().take()
    }

    /// Waits until there is a group; false once the queue is stopped and empty.
    pub(crate) fn wait(&self) -> bool {
        let mut inner = self.inner.hold();
        loop {
            if !inner.group.entries.is_empty() || !inner.ready.is_empty() {
                return true;
            }
            if inner.stop {
                return false;
            }
            inner.writer_waits = true;
            inner = crate::sync::wait(&self.wake, inner);
        }
    }

    /// Gives a group's vectors back after it was written.
    pub(crate) fn recycle(&self, mut group: Group) {
        group.chunks.clear();
        group.entries.clear();
        group.parts.clear();
        group.directs.clear();
        let mut inner = self.inner.hold();
        if inner.spare.len() < 2 && group.entries.capacity() <= 4096 {
            inner.spare.push(group);
        }
    }

    /// Notes that memory of so many bytes no longer waits to be written.
    pub(crate) fn release(&self, group: &Group) {
        let headers = (group.entries.len() * ENTRY_HEADER) as u64;
        let waiting = group.batch_bytes + headers;
        // Definitions are not counted when they are queued: never below zero.
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| Some(b.saturating_sub(waiting)));
    }

    /// What is appended from now on goes to the next journal file, whose number it gives.
    pub(crate) fn leave_file(&self) -> u64 {
        let mut inner = self.inner.hold();
        inner.leave_file();
        inner.file
    }

    /// Takes nothing more, for this reason, and gives what was waiting.
    pub(crate) fn refuse(&self, reason: Arc<str>) -> Vec<Group> {
        let mut inner = self.inner.hold();
        inner.refusing = Some(reason);
        let mut groups = Vec::new();
        while let Some(group) = inner.take() {
            groups.push(group);
        }
        self.bytes.store(0, Ordering::Relaxed);
        groups
    }

    /// Takes nothing new, for this reason, while what waits is still written.
    pub(crate) fn refuse_new(&self, reason: Arc<str>) {
        self.inner.hold().refusing = Some(reason);
    }

    /// Takes entries again.
    pub(crate) fn accept(&self) {
        self.inner.hold().refusing = None;
    }

    /// Lets the writer end once it has written what is there.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.hold();
        inner.stop = true;
        inner.refusing.get_or_insert_with(|| "the log is closed".into());
        inner.writer_waits = false;
        self.wake.notify_all();
    }
}

impl Inner {
    fn take(&mut self) -> Option<Group> {
        if let Some(group) = self.ready.pop_front() {
            return Some(group);
        }
        if self.group.entries.is_empty() {
            return None;
        }
        Some(self.seal())
    }

    /// Ends the current group and begins another.
    fn seal(&mut self) -> Group {
        if !self.chunk.is_empty() {
            let bytes = self.chunk.split().freeze();
            self.group.chunks.push(bytes);
        }
        let mut next = self.spare.pop().unwrap_or_default();
        next.id = self.next_group;
        next.file = self.file;
        next.journal_bytes = 0;
        next.batch_bytes = 0;
        next.last_sequence = self.sequence;
        self.next_group += 1;
        std::mem::replace(&mut self.group, next)
    }

    fn leave_file(&mut self) {
        if !self.group.entries.is_empty() {
            let group = self.seal();
            self.ready.push_back(group);
        }
        self.file += 1;
        self.file_bytes = FILE_HEADER as u64;
        self.next_slot = 0;
        self.group.file = self.file;
    }

    /// The partition's share of the group.
    fn part(&mut self, partition: &Arc<PartitionLog>, mark: &mut QueueMark, end: i64) -> u32 {
        if mark.group == self.group.id
            && let Some(part) = self.group.parts.get_mut(mark.part as usize)
        {
            part.end = end;
            return mark.part;
        }
        mark.group = self.group.id;
        mark.part = self.group.parts.len() as u32;
        self.group.parts.push(Part { partition: partition.clone(), end, first: NONE, last: NONE });
        mark.part
    }

    /// Room for so many bytes in one piece; gives where they begin.
    fn room(&mut self, bytes: usize) -> (u32, u32) {
        if self.chunk.capacity() - self.chunk.len() < bytes {
            if !self.chunk.is_empty() {
                let full = self.chunk.split().freeze();
                self.group.chunks.push(full);
            }
            self.chunk = BytesMut::with_capacity(bytes.max(CHUNK));
        }
        (self.group.chunks.len() as u32, self.chunk.len() as u32)
    }

    fn link(&mut self, part: u32, entry: Entry) {
        let index = self.group.entries.len() as u32;
        self.group.journal_bytes += u64::from(entry.length);
        self.file_bytes += u64::from(entry.length);
        self.group.entries.push(entry);
        let Some(part) = self.group.parts.get_mut(part as usize) else { return };
        if part.first == NONE {
            part.first = index;
        } else if let Some(last) = self.group.entries.get_mut(part.last as usize) {
            last.next = index;
        }
        part.last = index;
    }

    fn control(&mut self, part: u32, kind: Kind, slot: u32, payload: &[u8]) {
        let length = ENTRY_HEADER + payload.len();
        let (chunk, start) = self.room(length);
        self.chunk.extend_from_slice(&encode_header(self.file, kind, slot, payload.len(), payload));
        self.chunk.extend_from_slice(payload);
        let length = length as u32;
        self.link(
            part,
            Entry {
                chunk,
                start,
                length,
                kind,
                next: NONE,
                base_offset: -1,
                last_offset: -1,
                segment: -1,
                position: 0,
                size: 0,
                max_timestamp: -1,
            },
        );
    }

    fn batch(
        &mut self,
        part: u32,
        slot: u32,
        header: &BatchHeader,
        bytes: &Bytes,
        place: Place,
        direct: bool,
    ) {
        let head = header.encode();
        let (kind, payload) = match (direct, place.roll) {
            (false, false) => (Kind::Batch, bytes.len()),
            (false, true) => (Kind::BatchRoll, bytes.len()),
            (true, false) => (Kind::Marker, HEADER_SIZE),
            (true, true) => (Kind::MarkerRoll, HEADER_SIZE),
        };
        let (chunk, start) = self.room(ENTRY_HEADER + payload);
        self.chunk.extend_from_slice(&encode_header(self.file, kind, slot, payload, &head));
        self.chunk.extend_from_slice(&head);
        if direct {
            let mut prefix = [0; 16];
            prefix.copy_from_slice(&head[..16]);
            let (segment, position) = (place.segment, place.position);
            self.group.directs.push(Direct { part, segment, position, prefix, body: bytes.clone() });
        } else {
            self.chunk.extend_from_slice(bytes.get(HEADER_SIZE..).unwrap_or_default());
        }
        self.link(
            part,
            Entry {
                chunk,
                start,
                length: (ENTRY_HEADER + payload) as u32,
                kind,
                next: NONE,
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                segment: place.segment,
                position: place.position,
                size: bytes.len() as u32,
                max_timestamp: header.max_timestamp,
            },
        );
    }
}
