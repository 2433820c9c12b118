//! What the partitions and the threads of a node's log share.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

use chronik_base::Clock;

use crate::disk::Disk;
use crate::error::StorageState;
use crate::files::FileCache;
use crate::journal::flusher::Flush;
use crate::journal::queue::{Group, Queue};
use crate::journal::writer::Journal;
use crate::listener::{LogListener, Progress};
use crate::manager::PartitionKey;
use crate::options::{FlushMode, LogOptions};
use crate::partition::PartitionLog;
use crate::space::Space;
use crate::sync::{Lock, wait_for};

/// Figures, counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) segment_bytes: AtomicU64,
    pub(crate) checkpoint_bytes: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_us: AtomicU64,
    pub(crate) flush_us_max: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
}

/// Adds to a figure.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Takes from a figure, not below zero.
pub(crate) fn uncount(counter: &AtomicU64, by: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(by)));
}

/// A group whose batches are in memory, for the readers of tails and until they are in their segments.
pub(crate) struct TailGroup {
    pub(crate) progress: Vec<Progress>,
}

/// What asks the keeper thread for work.
#[derive(Default)]
pub(crate) struct KeeperSignals {
    pub(crate) spill: bool,
    pub(crate) checkpoint: bool,
    pub(crate) stop: bool,
}

/// See the module's description.
pub(crate) struct Core {
    pub(crate) root: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: LogOptions,
    pub(crate) listener: Arc<dyn LogListener>,
    pub(crate) queue: Queue,
    pub(crate) journal: Mutex<Journal>,
    pub(crate) flush: Flush,
    pub(crate) files: FileCache,
    pub(crate) counters: Counters,
    pub(crate) space: Space,
    state: Mutex<StorageState>,
    /// 0 writable, 1 full, 2 poisoned, 3 closed: the same, to be read without a lock.
    state_code: AtomicU8,
    pub(crate) partitions: RwLock<HashMap<PartitionKey, Arc<PartitionLog>>>,
    /// Partitions that changed since their last checkpoint.
    pub(crate) dirty: Mutex<Vec<Arc<PartitionLog>>>,
    /// Partitions deleted since the last checkpoint.
    pub(crate) deleted: Mutex<Vec<PartitionKey>>,
    /// The oldest first.
    pub(crate) tails: Mutex<VecDeque<TailGroup>>,
    /// Bytes in memory that are not in their segment yet.
    pub(crate) unspilled: AtomicU64,
    /// Bytes in the logs' tails in memory, in their segment or not.
    pub(crate) tail_bytes: AtomicU64,
    /// What a start after a kill would read again: the journal, and the batches that went straight to their segments,
    /// which count less (see the writer) because they are only checked.
    pub(crate) replay_since_checkpoint: AtomicU64,
    /// The journal that was found at the start is torn, and no checkpoint covers it yet: what is said of how far the
    /// journal is flushed would turn the torn place into damage for the next start.
    pub(crate) torn_behind: AtomicBool,
    /// Somebody was told that there is pressure.
    pub(crate) pressed: AtomicBool,
    pub(crate) keeper: Mutex<KeeperSignals>,
    pub(crate) keeper_wake: Condvar,
    pub(crate) cleaner: Mutex<crate::cleaner::CleanerSignals>,
    pub(crate) cleaner_wake: Condvar,
    /// Held while a log is cleaned: two at once would write the same file.
    pub(crate) cleaning: Mutex<()>,
    /// Held while a checkpoint is made or a partition's files are exchanged under it.
    pub(crate) checkpoint: Mutex<crate::checkpoint::CheckpointFile>,
    next_serial: AtomicU64,
}

impl Core {
    #[allow(clippy::too_many_arguments, reason = "one caller; a struct would only repeat the names")]
    pub(crate) fn new(
        root: PathBuf,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        listener: Arc<dyn LogListener>,
        first_file: u64,
        space: Space,
        checkpoint: crate::checkpoint::CheckpointFile,
    ) -> Self {
        let file_limit = space.journal_file_bytes(&options);
        Self {
            queue: Queue::new(first_file, file_limit),
            journal: Mutex::default(),
            flush: Flush::default(),
            files: FileCache::new(options.max_open_files),
            counters: Counters::default(),
            space,
            state: Mutex::new(StorageState::Writable),
            state_code: AtomicU8::new(0),
            partitions: RwLock::default(),
            dirty: Mutex::default(),
            deleted: Mutex::default(),
            tails: Mutex::default(),
            unspilled: AtomicU64::new(0),
            tail_bytes: AtomicU64::new(0),
            replay_since_checkpoint: AtomicU64::new(0),
            torn_behind: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
            keeper: Mutex::default(),
            keeper_wake: Condvar::new(),
            cleaner: Mutex::default(),
            cleaner_wake: Condvar::new(),
            cleaning: Mutex::new(()),
            checkpoint: Mutex::new(checkpoint),
            next_serial: AtomicU64::new(1),
            root,
            disk,
            clock,
            options,
            listener,
        }
    }

    /// A number for a partition that no other has in this process.
    pub(crate) fn serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(crate) fn journal_path(&self, file: u64) -> PathBuf {
        journal_path(&self.root, file)
    }

    /// Bytes that may wait in memory for their segments.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.options.journal_memory_bytes.min(self.space.reserve()).max(64 << 10)
    }

    /// True while connections should read no further.
    pub(crate) fn pressure(&self) -> bool {
        let waiting = self.queue.bytes() + self.unspilled.load(Ordering::Relaxed);
        let pressed = waiting > self.memory_limit();
        if pressed {
            self.pressed.store(true, Ordering::SeqCst);
            self.ask_keeper(|k| k.spill = true);
        }
        pressed
    }

    /// Tells the listener if the pressure is over.
    pub(crate) fn check_relief(&self) {
        if self.pressed.load(Ordering::SeqCst) {
            let waiting = self.queue.bytes() + self.unspilled.load(Ordering::Relaxed);
            if waiting <= self.memory_limit() / 4 * 3 && self.pressed.swap(false, Ordering::SeqCst) {
                self.listener.on_pressure_relieved();
            }
        }
    }

    pub(crate) fn ask_keeper(&self, ask: impl FnOnce(&mut KeeperSignals)) {
        let mut keeper = self.keeper.hold();
        ask(&mut keeper);
        self.keeper_wake.notify_all();
    }

    pub(crate) fn state(&self) -> StorageState {
        self.state.hold().clone()
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.state_code.load(Ordering::Acquire) == 2
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state_code.load(Ordering::Acquire) == 1
    }

    /// Batches of at least so many bytes go straight to their segment: what the journal holds of them is a marker.
    pub(crate) fn direct_bytes(&self) -> usize {
        self.options.direct_bytes.clamp(256, crate::journal::entry::MAX_PAYLOAD / 2)
    }

    pub(crate) fn flush_mode(&self) -> FlushMode {
        self.options.flush
    }

    fn set_state(&self, new: StorageState) -> bool {
        let mut state = self.state.hold();
        if *state == new || matches!(*state, StorageState::Poisoned(_)) {
            return false;
        }
        let code = match new {
            StorageState::Writable => 0,
            StorageState::Full => 1,
            StorageState::Poisoned(_) => 2,
        };
        *state = new;
        self.state_code.store(code, Ordering::Release);
        true
    }

    /// A write or a flush failed in a way that nothing can be built on: no write is taken any more, and what is not
    /// flushed is failed.
    pub(crate) fn poison(&self, what: &str) {
        let reason = format!(
            "{what}; what was not flushed before may be lost, so this node acknowledges nothing more: check the disk, then start the node again"
        );
        if !self.set_state(StorageState::Poisoned(reason.clone())) {
            return;
        }
        tracing::error!("storage takes no more writes: {reason}");
        let waiting = self.queue.refuse(reason.as_str().into());
        let mut failed: Vec<Progress> = Vec::new();
        for progress in self.flush.fail() {
            let from = progress.0.flushed_offset();
            failed.push((progress.0, from));
        }
        for part in waiting.into_iter().flat_map(|g| g.parts) {
            if !failed.iter().any(|(p, _)| Arc::ptr_eq(p, &part.partition)) {
                let from = part.partition.flushed_offset();
                failed.push((part.partition, from));
            }
        }
        self.listener.on_failed(&failed, &reason);
        self.listener.on_state(&self.state());
    }

    /// The disk has no space for these groups (nor for what waits behind them): takes them back out of their logs.
    pub(crate) fn out_of_space(&self, groups: Vec<Group>, what: &str) {
        let changed = self.set_state(StorageState::Full);
        if self.is_poisoned() {
            return;
        }
        let reason = full_reason(what);
        let waiting = self.queue.refuse(reason.as_str().into());
        let mut failed: Vec<Progress> = Vec::new();
        let all = groups.into_iter().chain(waiting);
        let mut last_sequence = 0;
        for group in all {
            last_sequence = last_sequence.max(group.last_sequence);
            for part in group.parts {
                if !failed.iter().any(|(p, _)| Arc::ptr_eq(p, &part.partition)) {
                    let from = part.partition.roll_back();
                    failed.push((part.partition, from));
                }
            }
        }
        // Whoever waits for a flush of what is gone must not wait for ever.
        self.flush.skip_to(last_sequence);
        if changed {
            tracing::error!("{reason}");
        }
        self.listener.on_failed(&failed, &reason);
        if changed {
            self.listener.on_state(&StorageState::Full);
        }
        self.ask_keeper(|k| k.checkpoint = true);
    }

    /// Space gets short: takes nothing new while what is there can still be written.
    pub(crate) fn refuse_for_space(&self, free: u64) {
        if !self.set_state(StorageState::Full) {
            return;
        }
        let reason =
            full_reason(&format!("{free} bytes are free, {} are kept in reserve", self.space.reserve()));
        tracing::error!("{reason}");
        self.queue.refuse_new(reason.as_str().into());
        self.listener.on_state(&StorageState::Full);
        self.ask_keeper(|k| k.checkpoint = true);
    }

    /// There is space again.
    pub(crate) fn space_is_back(&self) {
        if !self.is_full() || !self.set_state(StorageState::Writable) {
            return;
        }
        self.queue.accept();
        tracing::info!("there is space on the disk again: writes are taken");
        self.listener.on_state(&StorageState::Writable);
    }

    /// Flushes everything appended so far, and waits for it. False if it failed.
    pub(crate) fn flush_and_wait(&self) -> bool {
        let target = self.queue.appended();
        self.flush.request(target);
        self.kick();
        self.flush.wait_for(target)
    }

    /// Waits until everything queued before is written. False if it failed.
    pub(crate) fn write_and_wait(&self) -> bool {
        let target = self.queue.appended();
        self.kick();
        self.flush.wait_written(target)
    }

    pub(crate) fn kick(&self) {
        self.queue.kick();
        self.flush.kick();
    }

    /// Waits for work for the keeper, at most so long.
    pub(crate) fn keeper_wait(&self, timeout: Duration) -> KeeperSignals {
        let mut keeper = self.keeper.hold();
        if !keeper.spill && !keeper.checkpoint && !keeper.stop {
            keeper = wait_for(&self.keeper_wake, keeper, timeout);
        }
        let stop = keeper.stop;
        let signals = std::mem::take(&mut *keeper);
        keeper.stop = stop;
        signals
    }

    /// Notes that a partition changed since its last checkpoint.
    pub(crate) fn note_dirty(&self, partition: &Arc<PartitionLog>) {
        self.dirty.hold().push(partition.clone());
    }
}

fn full_reason(what: &str) -> String {
    format!(
        "{what}: writes are refused and reads go on; free space on the disk of the data directory, or add some, and writes are taken again by themselves"
    )
}

/// Path of journal file `file`.
pub(crate) fn journal_path(root: &Path, file: u64) -> PathBuf {
    root.join("journal").join(format!("{file:016x}.journal"))
}

/// The number in a journal file's name.
pub(crate) fn parse_journal_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
