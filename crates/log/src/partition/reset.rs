//! Throwing a log away: a follower that has nothing in common with its leader any more begins anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::epochs::Epochs;
use super::producers::Producers;
use super::state::Active;
use super::{PartitionLog, Stored};
use crate::core::uncount;
use crate::error::{AppendError, LogError, OffsetOutOfRange};
use crate::journal::queue::Item;
use crate::segment::parse_log_name;
use crate::sync::Lock;

impl PartitionLog {
    /// Throws the whole log away and begins anew, empty, at `offset`: for a follower whose leader's log starts behind the
    /// follower's end, or that has to get everything again. A log that is offline because of damage is usable afterwards.
    /// Waits for appends that are being written, and for the disk: when it returns, a power loss brings nothing back.
    ///
    /// # Errors
    /// `offset` is negative, the partition was deleted, or the storage takes no writes. In the last case appends are
    /// refused until a later call succeeds.
    pub fn reset_to(self: &Arc<Self>, offset: i64) -> Result<(), AppendError> {
        if offset < 0 {
            let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
            return Err(AppendError::OutOfRange(OffsetOutOfRange { offset, log_start, log_end }));
        }
        let _one_at_a_time = self.cuts.hold();
        {
            let mut state = self.lock();
            if state.deleted {
                return Err(LogError::Deleted.into());
            }
            state.cutting = true;
        }
        self.begin_anew(offset)?;
        self.lock().cutting = false;
        Ok(())
    }

    fn begin_anew(self: &Arc<Self>, offset: i64) -> Result<(), AppendError> {
        let failed = || AppendError::Storage("what was appended before can't be written".to_owned());
        if !self.core.write_and_wait() {
            return Err(failed());
        }
        let io = self.lock_io();
        self.queue(&mut self.lock(), &Item::Reset(offset))?;
        // Files go only once the journal says so for good: else a power loss could leave a log that misses them.
        if !self.core.flush_and_wait() {
            return Err(failed());
        }
        self.wipe(offset);
        self.mark_dirty(&mut self.lock());
        self.remove_everything().map_err(LogError::io("remove the files in", self.dir()))?;
        drop(io);
        // What is appended from here on may lie where other batches were: no start may write those there again.
        Ok(self.core.checkpoint_one(self)?)
    }

    /// Makes it the log of a partition that begins at `offset` and holds nothing. Its files stay.
    pub(crate) fn wipe(&self, offset: i64) {
        let mut state = self.lock();
        let memory: u64 = state.tail.iter().map(|b| b.memory()).sum();
        let unspilled: u64 = state.tail.iter().skip(state.spilled).map(|b| b.memory()).sum();
        state.tail = Default::default();
        state.spilled = 0;
        state.end = offset;
        state.active = Active { segment: offset, position: 0, created_ms: 0 };
        state.stored = Stored { end: offset, segment: offset, applied: state.applied, ..Stored::default() };
        state.sealed = Vec::new();
        state.listed = true;
        state.epochs = Epochs::default();
        state.producers = Producers::default();
        state.cleaned = Default::default();
        state.dirty_segments.clear();
        state.new_segments.clear();
        state.files_cut = true;
        state.settled_segment = i64::MIN;
        state.began_anew = Some(offset);
        state.offline = None;
        state.forget_hints();
        for place in [&self.log_start, &self.log_end, &self.written, &self.flushed] {
            place.store(offset, Ordering::Release);
        }
        self.recount(&state);
        drop(state);
        uncount(&self.core.tail_bytes, memory);
        uncount(&self.core.unspilled, unspilled);
    }

    /// Removes all files, for good. The caller holds the I/O lock, and nothing of the log is in them.
    fn remove_everything(&self) -> std::io::Result<()> {
        let (disk, dir) = (&*self.core.disk, self.dir());
        if disk.exists(&dir) {
            for name in disk.list(&dir)? {
                disk.remove(&dir.join(name))?;
            }
            self.core.files.forget_partition(self.serial);
            disk.sync_dir(&dir)?;
        }
        self.lock().began_anew = None;
        Ok(())
    }

    /// At a start: removes the segments that were thrown away before the last run ended, if it did not come to it.
    pub(crate) fn remove_thrown_away(&self) -> std::io::Result<()> {
        let Some(offset) = self.lock().began_anew else { return Ok(()) };
        let (disk, dir) = (&*self.core.disk, self.dir());
        if disk.exists(&dir) {
            crate::cleaner::finish_swaps(disk, &dir)?;
            for base in disk.list(&dir)?.iter().filter_map(|n| parse_log_name(n)) {
                if base < offset {
                    self.remove_segment(base)?;
                }
            }
            disk.sync_dir(&dir)?;
        }
        self.lock().began_anew = None;
        Ok(())
    }
}
