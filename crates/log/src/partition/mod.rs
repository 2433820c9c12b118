//! One partition's log.

mod append;
mod compact;
pub(crate) mod epochs;
pub(crate) mod producers;
mod read;
mod rebuild;
mod replay;
mod reset;
mod retention;
mod segments;
mod state;
mod tail;
mod times;
mod truncate;
mod verify;

use std::any::Any;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use crate::core::Core;
use crate::manager::PartitionKey;
use crate::options::PartitionOptions;
use crate::sync::Lock;
use producers::ProducerInfo;

pub use append::Appended;
pub use read::ReadPlan;
pub(crate) use segments::StoredSegment;
pub(crate) use state::{State, Stored};
pub use times::TimestampAndOffset;

/// One partition's log. Cheap calls, safe from any thread; only [`PartitionLog::read`] and the look-ups by time may read
/// the disk.
pub struct PartitionLog {
    key: PartitionKey,
    /// Unlike the key, never used again in this process: a deleted partition's open files are not another's.
    serial: u64,
    core: Arc<Core>,
    owner: OnceLock<Weak<dyn Any + Send + Sync>>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    written: AtomicI64,
    flushed: AtomicI64,
    size: AtomicU64,
    /// Offset below which retention and compaction may work; see [`PartitionLog::set_high_watermark`].
    high_watermark: AtomicI64,
    /// The partition's place in the list of what is to be flushed; under that list's lock.
    flush_mark: AtomicU64,
    /// Held while the log's end is cut back, or the log is thrown away. Taken before `io`.
    cuts: Mutex<()>,
    /// Held while the partition's files are written to or exchanged. Taken before `state`.
    io: Mutex<()>,
    state: Mutex<State>,
}

impl PartitionLog {
    pub(crate) fn new(core: Arc<Core>, key: PartitionKey, log_start: i64, state: State) -> Self {
        let end = state.end;
        let size = state.stored.sealed_bytes + state.stored.position;
        Self {
            key,
            serial: core.serial(),
            core,
            owner: OnceLock::new(),
            log_start: AtomicI64::new(log_start),
            log_end: AtomicI64::new(end),
            written: AtomicI64::new(end),
            flushed: AtomicI64::new(end),
            size: AtomicU64::new(size),
            high_watermark: AtomicI64::new(i64::MAX),
            flush_mark: AtomicU64::new(0),
            cuts: Mutex::new(()),
            io: Mutex::new(()),
            state: Mutex::new(state),
        }
    }

    /// Which partition this is.
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// Notes whose partition this is, once; later calls change nothing.
    pub fn set_owner(&self, owner: Weak<dyn Any + Send + Sync>) {
        let _ = self.owner.set(owner);
    }

    /// What [`PartitionLog::set_owner`] noted, if it is still there.
    pub fn owner(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.owner.get().and_then(Weak::upgrade)
    }

    /// Offset of the first record that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end.load(Ordering::Acquire)
    }

    /// Offset after the last record that is written (survives a kill of the process).
    pub fn written_offset(&self) -> i64 {
        self.written.load(Ordering::Acquire)
    }

    /// Offset after the last record that is flushed (survives a power loss).
    pub fn flushed_offset(&self) -> i64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// Bytes in the log.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Notes up to which offset all replicas in sync have the log: what is above may be taken back by a new leader, so
    /// retention removes nothing there and compaction takes nothing there for newer. Cheap; to be called whenever it moves,
    /// and once when the node starts, before which there is no such limit (as for a log that has no other replica).
    pub fn set_high_watermark(&self, offset: i64) {
        self.high_watermark.store(offset, Ordering::Release);
    }

    /// Offset below which retention and compaction may work.
    pub(crate) fn settled_offset(&self) -> i64 {
        self.flushed_offset().min(self.high_watermark.load(Ordering::Acquire))
    }

    /// Notes that this node leads the partition from now on, in `epoch`: the epoch begins at the log's end, though no record
    /// is of it yet (KIP-101). Does nothing if the log has this epoch or a later one. It is kept in memory until the first
    /// batch of the epoch is appended; a leader that starts again notes it again.
    pub fn begin_epoch(&self, epoch: i32) {
        let mut state = self.lock();
        let end = state.end;
        state.epochs.note(epoch, end);
        // In the first epoch of all there was nobody else whom clients could have sent anything.
        state.led_since_ms = (epoch > 0).then(|| self.core.clock.wall_ms());
    }

    /// The end of leader epoch `epoch` in this log, as OffsetForLeaderEpoch tells it (KIP-101, KIP-279): the largest epoch
    /// known that is not above `epoch`, and where the next one begins (the log end offset for the last). For an epoch below
    /// all known ones, whose records are gone, that epoch and where the first known one begins. `None` if no epoch is
    /// known, or for a negative one. An epoch above all known ones gets the last one's end: whether a leader may have
    /// such an epoch is for the caller to say.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let state = self.lock();
        state.epochs.end_offset(epoch, state.end)
    }

    /// The last leader epoch known: that of the leader that appended the last record, or of
    /// [`PartitionLog::begin_epoch`] since. A follower names it when it fetches (KIP-595's last fetched epoch).
    pub fn latest_epoch(&self) -> Option<i32> {
        self.lock().epochs.latest()
    }

    /// The idempotent producers that the log remembers.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        self.lock().producers.infos()
    }

    /// How far the log is compacted: the offset below which each key is there once, and when the first of the tombstones there may go, in
    /// milliseconds since the Unix epoch. Either changes whenever cleaning has taken something away.
    pub fn cleaned(&self) -> (i64, i64) {
        let cleaned = self.lock().cleaned;
        (cleaned.to, cleaned.horizon_ms)
    }

    /// The options in force.
    pub fn options(&self) -> Arc<PartitionOptions> {
        self.lock().options.clone()
    }

    /// Sets new options, in force from the next append on.
    pub fn set_options(&self, options: Arc<PartitionOptions>) {
        self.lock().options = options;
    }

    /// Why the partition is offline, if it is.
    pub fn offline(&self) -> Option<String> {
        self.lock().offline.as_deref().map(str::to_owned)
    }

    /// Takes the partition offline: what is there stays, and nothing is read or appended.
    pub(crate) fn take_offline(&self, why: &str) {
        let mut state = self.lock();
        if state.offline.is_none() && !state.deleted {
            tracing::error!("partition {} is offline: {why}", self.key);
            state.offline = Some(why.into());
        }
    }

    /// Lets go of everything; what is queued is written and then forgotten.
    pub(crate) fn delete(self: &Arc<Self>) {
        let _io = self.lock_io();
        let mut state = self.lock();
        // Where the storage takes no writes the next checkpoint says it.
        let _ = self.queue(&mut state, &crate::journal::queue::Item::Delete);
        state.deleted = true;
        let memory: u64 = state.tail.iter().map(|b| b.memory()).sum();
        let unspilled: u64 = state.tail.iter().skip(state.spilled).map(|b| b.memory()).sum();
        state.tail = Default::default();
        state.spilled = 0;
        drop(state);
        crate::core::uncount(&self.core.tail_bytes, memory);
        crate::core::uncount(&self.core.unspilled, unspilled);
        self.core.files.forget_partition(self.serial);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.hold()
    }

    pub(crate) fn lock_io(&self) -> MutexGuard<'_, ()> {
        self.io.hold()
    }

    /// Everything below `end` is flushed.
    pub(crate) fn note_flushed(&self, end: i64) {
        self.flushed.fetch_max(end, Ordering::AcqRel);
    }

    /// The partition's place in the list number `generation`; `next` if it is not in it yet.
    pub(crate) fn flush_place(&self, generation: u64, next: usize) -> usize {
        let tag = (generation + 1) << 32;
        let mark = self.flush_mark.load(Ordering::Relaxed);
        if mark & !u64::from(u32::MAX) == tag {
            return (mark & u64::from(u32::MAX)) as usize;
        }
        self.flush_mark.store(tag | next as u64, Ordering::Relaxed);
        next
    }
}

impl std::fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        write!(f, "PartitionLog({} {start}..{end})", self.key)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_idle_partition_takes_little_memory() {
        // With its place in the map of all partitions, and two pointers to what it shares.
        assert!(std::mem::size_of::<super::PartitionLog>() < 1_200);
    }
}
