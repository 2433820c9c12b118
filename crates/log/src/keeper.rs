//! The thread that keeps house: moves batches from memory to their segments, makes checkpoints, watches the space,
//! and applies retention.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::checkpoint::{Block, Record};
use crate::core::{Core, count, parse_journal_name};
use crate::disk::is_full;
use crate::error::LogError;
use crate::manager::PartitionKey;
use crate::partition::PartitionLog;
use crate::shares::in_shares;
use crate::sync::Lock;

/// What the folder of a partition that was deleted ends with.
pub(crate) const DELETED: &str = ".deleted";

/// Threads that flush segments for a checkpoint.
const FLUSHERS: usize = 4;

/// How a partition stood.
type Stood = (PartitionKey, Option<Record>);

/// How often the keeper looks around without being asked.
const TICK: Duration = Duration::from_millis(200);

impl Core {
    /// Keeps house until stopped.
    pub(crate) fn run_keeper(self: &Arc<Self>) {
        self.remove_deleted();
        let mut last_checkpoint = self.clock.monotonic_ms();
        let mut last_retention = last_checkpoint;
        loop {
            let asked = self.keeper_wait(TICK);
            if asked.stop {
                return;
            }
            if asked.spill || self.unspilled.load(Ordering::Relaxed) > self.memory_limit() / 2 {
                self.spill_all();
            }
            let now = self.clock.monotonic_ms();
            let due = now.saturating_sub(last_checkpoint) >= self.options.checkpoint_interval_ms;
            if asked.checkpoint || (due && self.has_news()) {
                last_checkpoint = now;
                if let Err(e) = self.checkpoint(false) {
                    tracing::warn!("no checkpoint could be made, the journal grows on: {e}");
                }
            }
            if self.is_full() && self.space.look(&*self.disk, &self.root).is_ok() {
                self.space_is_back();
            }
            if now.saturating_sub(last_retention) >= self.options.retention_check_ms {
                last_retention = now;
                self.retain(self.clock.wall_ms());
            }
            self.check_relief();
        }
    }

    /// Removes what was deleted and still had its files when the last run ended.
    fn remove_deleted(&self) {
        let names = self.disk.list(&self.root.join("partitions")).unwrap_or_default();
        for name in names.iter().filter(|n| n.ends_with(DELETED)) {
            self.remove_folder(name);
        }
    }

    fn remove_folder(&self, name: &str) {
        let dir = crate::segment::partition_dir(&self.root, name);
        if let Err(e) = self.disk.remove_dir_all(&dir) {
            tracing::warn!("can't remove {}: {e}; it is tried again at the next start", dir.display());
        }
    }

    fn has_news(&self) -> bool {
        !self.dirty.hold().is_empty() || !self.deleted.hold().is_empty()
    }

    /// Moves everything to the segments, and shrinks the tails in memory to what the cache may have.
    pub(crate) fn spill_all(&self) {
        // Groups up to here are in their segments afterwards.
        let groups = self.tails.hold().len();
        let dirty: Vec<Arc<PartitionLog>> = self.dirty.hold().clone();
        for partition in dirty {
            if !self.spill_one(&partition) {
                return;
            }
        }
        let cache = self.memory_limit() / 4;
        for _ in 0..groups {
            if self.tail_bytes.load(Ordering::Relaxed) <= cache {
                break;
            }
            let Some(group) = self.tails.hold().pop_front() else { break };
            for (partition, end) in group.progress {
                partition.evict(end);
            }
        }
        self.check_relief();
    }

    /// False if the disk does not take it.
    fn spill_one(&self, partition: &Arc<PartitionLog>) -> bool {
        match partition.spill() {
            Ok(()) => true,
            Err(e) if is_full(&e) => {
                // Nothing is lost: the journal has it, and it stays in memory.
                self.refuse_for_space(0);
                false
            }
            Err(e) => {
                self.poison(&format!("writing segments of partition {} failed: {e}", partition.key()));
                false
            }
        }
    }

    /// Moves everything written so far to its segments, flushes them, notes how each changed partition stands, and
    /// lets the journal before go.
    pub(crate) fn checkpoint(&self, clean: bool) -> Result<(), LogError> {
        let mut file = self.checkpoint.hold();
        if self.is_poisoned() {
            return Err(LogError::Refused("an earlier write or flush failed".to_owned()));
        }
        let replay_from = self.queue.leave_file();
        self.replay_since_checkpoint.store(0, Ordering::Relaxed);
        if !self.write_and_wait() {
            return Err(LogError::Refused("what was appended can't be written".to_owned()));
        }
        let all = file.wants_all();
        // They stay on the list until their folders are gone: one that comes back has to wait for that.
        let deleted = self.deleted.hold().clone();
        let dirty = std::mem::take(&mut *self.dirty.hold());
        // Put back if it fails, so that the next attempt takes them up.
        let changed = dirty.clone();
        let partitions = if all { self.all_partitions() } else { dirty };
        let written = self.write_checkpoint(&mut file, replay_from, clean, all, &deleted, partitions);
        if let Err(e) = written {
            for partition in &changed {
                let mut state = partition.lock();
                // Also of those that it did not come to, which are no longer on the list.
                state.dirty = false;
                partition.mark_dirty(&mut state);
            }
            if e.is_full() {
                self.refuse_for_space(0);
            }
            return Err(e);
        }
        count(&self.counters.checkpoints, 1);
        self.torn_behind.store(false, Ordering::Relaxed);
        self.remove_journals(replay_from);
        for key in &deleted {
            // Under its own name it is there only if the last run ended before it was renamed.
            for name in [key.to_string(), format!("{key}{DELETED}")] {
                self.remove_folder(&name);
            }
        }
        self.deleted.hold().retain(|key| !deleted.contains(key));
        Ok(())
    }

    fn write_checkpoint(
        &self,
        file: &mut crate::checkpoint::CheckpointFile,
        replay_from: u64,
        clean: bool,
        all: bool,
        deleted: &[PartitionKey],
        partitions: Vec<Arc<PartitionLog>>,
    ) -> Result<(), LogError> {
        let mut records = Vec::with_capacity(partitions.len() + deleted.len());
        records.extend(deleted.iter().map(|key| (*key, None)));
        match in_shares(&partitions, FLUSHERS, |some| self.store_all(some)) {
            Ok(stored) => records.extend(stored.into_iter().flatten()),
            Err(e @ LogError::Io { .. }) if !e.is_full() => {
                self.poison(&e.to_string());
                return Err(e);
            }
            Err(e) => return Err(e),
        }
        let block = Block { replay_from, clean, records };
        let path = self.root.join("checkpoint");
        let bytes = file.write(&*self.disk, &block, all).map_err(LogError::io("write", path))?;
        count(&self.counters.checkpoint_bytes, bytes);
        for partition in &partitions {
            let mut state = partition.lock();
            state.settled_segment = state.storing_segment;
        }
        Ok(())
    }

    /// The checkpoint that follows a recovery that had to cut something. Damaged journal files are kept under another
    /// name, for whoever wants to look.
    pub(crate) fn checkpoint_after_faults(&self, damaged: &[u64]) -> Result<(), LogError> {
        for number in damaged {
            // A copy, because until the checkpoint is made the file itself is needed.
            let path = self.journal_path(*number);
            let copy = path.with_extension("damaged");
            let copied = crate::disk::read_file(&*self.disk, &path, 1 << 30)
                .and_then(|bytes| crate::disk::replace_file(&*self.disk, &copy, &bytes, false));
            match copied {
                Ok(()) => tracing::warn!("the damaged journal file is kept as {}", copy.display()),
                Err(e) => tracing::warn!("the damaged {} can't be kept: {e}", path.display()),
            }
        }
        self.checkpoint(false)
    }

    /// Notes how one partition stands, so that no start replays what was before.
    pub(crate) fn checkpoint_one(&self, partition: &Arc<PartitionLog>) -> Result<(), LogError> {
        {
            let mut file = self.checkpoint.hold();
            if !file.wants_all() {
                let replay_from = file.replay_from();
                return self.write_checkpoint(
                    &mut file,
                    replay_from,
                    false,
                    false,
                    &[],
                    vec![partition.clone()],
                );
            }
        }
        self.checkpoint(false)
    }

    fn store_all(&self, partitions: &[Arc<PartitionLog>]) -> Result<Vec<Stood>, LogError> {
        let mut records = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(record) = partition.store()? {
                records.push((partition.key(), Some(record)));
            }
        }
        Ok(records)
    }

    /// Removes journal files that no start needs any more.
    fn remove_journals(&self, before: u64) {
        let dir = self.journal_dir();
        let names = self.disk.list(&dir).unwrap_or_default();
        for number in names.iter().filter_map(|n| parse_journal_name(n)).filter(|n| *n < before) {
            let path = self.journal_path(number);
            if let Err(e) = self.disk.remove(&path) {
                tracing::warn!(
                    "can't remove {}: {e}; it is tried again at the next checkpoint",
                    path.display()
                );
            }
        }
    }

    /// All partitions, by key.
    pub(crate) fn all_partitions(&self) -> Vec<Arc<PartitionLog>> {
        let partitions = self.partitions.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut all: Vec<_> = partitions.values().cloned().collect();
        all.sort_by_key(|p| p.key());
        all
    }

    /// Moves the starts of logs up as retention demands, and removes segments that lie below them.
    pub(crate) fn retain(&self, now_ms: i64) {
        let mut waiting = Vec::new();
        for partition in self.all_partitions() {
            match partition.expire(now_ms) {
                Ok(true) => waiting.push(partition),
                Ok(false) => {}
                Err(e) => tracing::warn!("retention of partition {}: {e}", partition.key()),
            }
        }
        // Files go only once the journal says for good that the logs begin behind them.
        if waiting.is_empty() || !self.flush_and_wait() {
            return;
        }
        for partition in waiting {
            if let Err(e) = partition.remove_old_segments() {
                tracing::warn!("retention of partition {}: {e}", partition.key());
            }
        }
    }
}
