//! What a partition's lock protects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::epochs::Epochs;
use super::producers::Producers;
use super::verify::CheckedPart;
use crate::error::LogError;
use crate::index::IndexCursor;
use crate::journal::entry::{Definition, JournalPosition};
use crate::journal::queue::QueueMark;
use crate::manager::PartitionKey;
use crate::options::PartitionOptions;
use crate::segment::Sealed;

/// Memory that a batch of the tail takes beside its bytes.
pub(crate) const TAIL_OVERHEAD: u64 = 96;

/// The segment that the next batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) segment: i64,
    /// Where the next batch begins.
    pub(crate) position: u64,
    /// Wall clock time of the segment's first append.
    pub(crate) created_ms: i64,
}

/// How far the log is in its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    /// Offset after the last batch that is in its segment.
    pub(crate) end: i64,
    /// That batch's segment, and the bytes in it.
    pub(crate) segment: i64,
    pub(crate) position: u64,
    pub(crate) index: IndexCursor,
    /// Bytes in the segments before it.
    pub(crate) sealed_bytes: u64,
    /// The journal up to here is in the segments.
    pub(crate) applied: JournalPosition,
    /// The index lacks what the segment held before; it is to be made again.
    pub(crate) reindex: bool,
}

/// A batch in memory, or one after such a batch that is in its segment already.
#[derive(Clone, Debug)]
pub(crate) struct TailBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) segment: i64,
    pub(crate) position: u64,
    pub(crate) max_timestamp: i64,
    pub(crate) size: u32,
    /// Empty if it went straight to its segment.
    pub(crate) bytes: Bytes,
}

impl TailBatch {
    pub(crate) fn memory(&self) -> u64 {
        self.bytes.len() as u64 + TAIL_OVERHEAD
    }

    pub(crate) fn end_position(&self) -> u64 {
        self.position + u64::from(self.size)
    }
}

/// Where a sequential reader comes back to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadHint {
    pub(crate) offset: i64,
    pub(crate) segment: i64,
    pub(crate) position: u64,
}

/// See the module's description.
pub(crate) struct State {
    pub(crate) options: Arc<PartitionOptions>,
    pub(crate) offline: Option<Arc<str>>,
    pub(crate) deleted: bool,
    /// The log is being cut: appends have to wait for the end of it.
    pub(crate) cutting: bool,
    /// The log's files were cut since the node started, in a replay or later: what a checkpoint said of their lengths
    /// before no longer holds.
    pub(crate) files_cut: bool,
    /// The log was thrown away and began anew at this offset, and its folder still holds what was before.
    pub(crate) began_anew: Option<i64>,
    /// Offset that the next record gets.
    pub(crate) end: i64,
    pub(crate) active: Active,
    pub(crate) producers: Producers,
    /// Since when this node leads the partition, if another one may have done so before; in milliseconds of the wall clock.
    pub(crate) led_since_ms: Option<i64>,
    pub(crate) epochs: Epochs,
    pub(crate) mark: QueueMark,
    pub(crate) stored: Stored,
    /// Batches from `stored.end` on, and before them a cache of the last ones that are stored.
    pub(crate) tail: VecDeque<TailBatch>,
    /// So many batches of the tail are stored.
    pub(crate) spilled: usize,
    /// The journal up to here is in this state.
    pub(crate) applied: JournalPosition,
    /// Segments before `stored.segment`, the oldest first; only the newest until `listed`.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) listed: bool,
    /// It is on the list of what the next checkpoint takes up.
    pub(crate) dirty: bool,
    /// Segments written to since the last checkpoint.
    pub(crate) dirty_segments: Vec<i64>,
    /// Segments with something that no journal holds and that may not be on the disk yet: a start flushes them.
    pub(crate) unsettled: Vec<i64>,
    /// Segments whose file is new, so that its name is to be flushed, too.
    pub(crate) new_segments: Vec<i64>,
    /// The segments before this one are whole by the last checkpoint: no start writes to them any more.
    pub(crate) settled_segment: i64,
    /// The same by the checkpoint that is being made.
    pub(crate) storing_segment: i64,
    /// Rises when the segments' files are exchanged or cut.
    pub(crate) version: u64,
    /// What readers checked of segments, by base offset.
    pub(crate) checked: BTreeMap<i64, Vec<CheckedPart>>,
    pub(crate) hints: [ReadHint; 4],
    pub(crate) next_hint: u8,
    /// When the cleaner was last through, and up to which offset.
    pub(crate) cleaned: crate::cleaner::Cleaned,
}

impl State {
    /// An empty log that begins at offset `start`.
    pub(crate) fn empty(options: Arc<PartitionOptions>, start: i64) -> Self {
        Self {
            options,
            offline: None,
            deleted: false,
            cutting: false,
            files_cut: false,
            began_anew: None,
            end: start,
            active: Active { segment: start, position: 0, created_ms: 0 },
            producers: Producers::default(),
            led_since_ms: None,
            epochs: Epochs::default(),
            mark: QueueMark::default(),
            stored: Stored { end: start, segment: start, ..Stored::default() },
            tail: VecDeque::new(),
            spilled: 0,
            applied: JournalPosition::default(),
            sealed: Vec::new(),
            listed: true,
            dirty: false,
            dirty_segments: Vec::new(),
            unsettled: Vec::new(),
            new_segments: Vec::new(),
            settled_segment: i64::MIN,
            storing_segment: i64::MIN,
            version: 0,
            checked: BTreeMap::new(),
            hints: [ReadHint::default(); 4],
            next_hint: 0,
            cleaned: crate::cleaner::Cleaned::default(),
        }
    }

    /// Fails if the log can't be used.
    pub(crate) fn usable(&self) -> Result<(), LogError> {
        if self.deleted {
            return Err(LogError::Deleted);
        }
        match &self.offline {
            Some(why) => Err(LogError::Offline(why.to_string())),
            None => Ok(()),
        }
    }

    /// How the log stands, for the journal.
    pub(crate) fn definition(&self, key: PartitionKey, log_start: i64) -> Definition {
        Definition {
            key,
            log_start,
            end_offset: self.end,
            active_base: self.active.segment,
            active_position: self.active.position,
            active_created_ms: self.active.created_ms,
            sealed_bytes: self.stored.sealed_bytes,
        }
    }

    /// Offset after the last batch that is written, and where the next one would go.
    pub(crate) fn written(&self) -> (i64, i64, u64) {
        match self.tail.back() {
            Some(last) => (last.last_offset + 1, last.segment, last.end_position()),
            None => (self.stored.end, self.stored.segment, self.stored.position),
        }
    }

    /// Notes that a segment's file was written to.
    pub(crate) fn note_dirty_segment(&mut self, segment: i64) {
        if !self.dirty_segments.contains(&segment) {
            self.dirty_segments.push(segment);
        }
    }

    /// Notes that a segment's file was written to, and that nothing but the file has what was written.
    pub(crate) fn note_unsettled(&mut self, segment: i64) {
        self.note_dirty_segment(segment);
        if !self.unsettled.contains(&segment) {
            self.unsettled.push(segment);
        }
    }
}
