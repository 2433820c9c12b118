//! The node's storage as a whole.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use chronik_base::{Clock, TopicId};

use crate::cleaner::CleanerOptions;
use crate::core::Core;
use crate::disk::Disk;
use crate::error::{LogError, StorageState};
use crate::journal::queue::Item;
use crate::layout::DataDir;
use crate::listener::LogListener;
use crate::options::{LogOptions, PartitionOptions};
use crate::partition::{PartitionLog, State};
use crate::recovery;
use crate::sync::Lock;

/// One partition of one topic, by id: names can be used again, ids never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id.to_hex(), self.partition)
    }
}

/// What the start found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoverySummary {
    /// True if the last run ended by closing the log, so that nothing had to be checked.
    pub clean: bool,
    /// Partitions on disk.
    pub partitions: usize,
    /// Bytes of journal that were read again.
    pub journal_bytes: u64,
    /// Record batches that were in the journal and not yet known to be in a segment.
    pub batches: u64,
    /// Partitions whose segments had to be read from the start because the checkpoint did not know them.
    pub rebuilt: usize,
    /// What was cut off, one sentence for each place.
    pub cut: Vec<String>,
    /// Partitions that are offline, and why.
    pub offline: Vec<(PartitionKey, String)>,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

/// Figures since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of record batches appended.
    pub appended_bytes: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Bytes written to segments and indexes.
    pub segment_bytes: u64,
    /// Bytes written to checkpoints.
    pub checkpoint_bytes: u64,
    /// Groups written to the journal.
    pub groups: u64,
    /// Flushes of the journal.
    pub flushes: u64,
    /// Microseconds spent in them, in all.
    pub flush_us: u64,
    /// The longest flush, in microseconds.
    pub flush_us_max: u64,
    /// Bytes in memory that are appended but not yet written to the journal.
    pub queued_bytes: u64,
    /// Bytes in memory that are not yet in their segment, and the cache of each log's tail.
    pub memory_bytes: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Partitions.
    pub partitions: u64,
}

/// The logs of a node, and the journal that they share.
pub struct LogManager {
    core: Arc<Core>,
    threads: Mutex<Threads>,
    /// Holds the lock of the data directory.
    _dir: DataDir,
}

/// Appends of so many bytes are written even if nobody waits for the write.
const GATHER_BYTES: u64 = 1 << 20;

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    flusher: Option<JoinHandle<()>>,
    /// The keeper and the cleaner.
    keepers: Vec<JoinHandle<()>>,
}

impl LogManager {
    /// Opens what is in a data directory, and recovers it where the last run did not end by [`LogManager::close`].
    ///
    /// # Errors
    /// The operating system says no. Torn ends are no error, and damage takes partitions offline, not the node.
    pub fn open(
        dir: DataDir,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        listener: Arc<dyn LogListener>,
    ) -> Result<(Arc<Self>, RecoverySummary), LogError> {
        let (core, summary) = recovery::open(&dir, disk, clock, options, listener)?;
        let start = |name: &str, run: fn(&Arc<Core>)| {
            let core = core.clone();
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&core))
                .map_err(LogError::io("start a thread for", core_root(&dir)))
        };
        let threads = Threads {
            writer: Some(start("log-writer", Core::run_writer)?),
            flusher: Some(start("log-flusher", Core::run_flusher)?),
            keepers: vec![start("log-keeper", Core::run_keeper)?, start("log-cleaner", Core::run_cleaner)?],
        };
        Ok((Arc::new(Self { core, threads: Mutex::new(threads), _dir: dir }), summary))
    }

    /// The log of a partition, made if it is not there yet. Options given for one that is there replace its own. Where the
    /// same partition was deleted just before, this waits for a checkpoint, and for its files to be gone.
    ///
    /// # Errors
    /// It is not there, and the storage takes no writes.
    pub fn create_partition(
        &self,
        key: PartitionKey,
        options: Arc<PartitionOptions>,
    ) -> Result<Arc<PartitionLog>, LogError> {
        // A replica that was moved away and comes back must not meet what is left of its former life.
        if self.core.deleted.hold().contains(&key) {
            self.core.checkpoint(false)?;
        }
        let mut partitions = self.core.partitions.write().unwrap_or_else(|p| p.into_inner());
        if let Some(partition) = partitions.get(&key) {
            partition.set_options(options);
            return Ok(partition.clone());
        }
        let state = State::empty(options, 0);
        let partition = Arc::new(PartitionLog::new(self.core.clone(), key, 0, state));
        partition
            .queue(&mut partition.lock(), &Item::Create)
            .map_err(|e| LogError::Refused(e.to_string()))?;
        partitions.insert(key, partition.clone());
        drop(partitions);
        self.core.queue.kick();
        Ok(partition)
    }

    /// The log of a partition.
    pub fn partition(&self, key: &PartitionKey) -> Option<Arc<PartitionLog>> {
        self.core.partitions.read().unwrap_or_else(|p| p.into_inner()).get(key).cloned()
    }

    /// All partitions, by key.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        self.core.all_partitions()
    }

    /// Deletes a partition and gives its space back. False if it is not there.
    ///
    /// # Errors
    /// The operating system says no.
    pub fn delete_partition(&self, key: &PartitionKey) -> Result<bool, LogError> {
        let Some(partition) = self.partition(key) else { return Ok(false) };
        partition.delete();
        {
            let mut partitions = self.core.partitions.write().unwrap_or_else(|p| p.into_inner());
            if partitions.remove(key).is_none() {
                return Ok(false);
            }
            // Whoever makes the partition again sees either the log or this.
            self.core.deleted.hold().push(*key);
        }
        let dir = partition.dir();
        let mut to = dir.clone().into_os_string();
        to.push(crate::keeper::DELETED);
        match self.core.disk.rename(&dir, to.as_ref()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(LogError::io("rename", dir)(e)),
            _ => {}
        }
        self.core.queue.kick();
        self.core.ask_keeper(|k| k.checkpoint = true);
        Ok(true)
    }

    /// Starts writing what was appended. Cheap; called once after a burst of appends.
    pub fn kick(&self) {
        self.core.kick();
    }

    /// The same, for a caller after whose appends nobody waits for the write alone, only for the flush that it asked for:
    /// while another flush is under way, what it appended is left to gather, and is written when that is over.
    pub fn kick_for_flush(&self) {
        if !self.core.flush.is_flushing() || self.core.queue.bytes() > GATHER_BYTES {
            self.core.kick();
        }
    }

    /// Asks that everything appended so far is flushed soon. [`LogManager::kick`] must follow (it may serve several).
    pub fn request_flush(&self) {
        self.core.flush.request(self.core.queue.appended());
    }

    /// True while so much memory waits for the disk that connections should read no further;
    /// [`LogListener::on_pressure_relieved`] tells the end of it.
    pub fn pressure(&self) -> bool {
        self.core.pressure()
    }

    /// Whether writes are taken.
    pub fn state(&self) -> StorageState {
        self.core.state()
    }

    /// Figures since the start.
    pub fn stats(&self) -> LogStats {
        let c = &self.core.counters;
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        LogStats {
            appended_bytes: get(&c.appended_bytes),
            journal_bytes: get(&c.journal_bytes),
            segment_bytes: get(&c.segment_bytes),
            checkpoint_bytes: get(&c.checkpoint_bytes),
            groups: get(&c.groups),
            flushes: get(&c.flushes),
            flush_us: get(&c.flush_us),
            flush_us_max: get(&c.flush_us_max),
            queued_bytes: self.core.queue.bytes(),
            memory_bytes: get(&self.core.tail_bytes),
            checkpoints: get(&c.checkpoints),
            partitions: self.core.partitions.read().unwrap_or_else(|p| p.into_inner()).len() as u64,
        }
    }

    /// Applies retention as of wall clock time `now_ms`. The log's own thread calls it at intervals.
    pub fn maintain(&self, now_ms: i64) {
        self.core.retain(now_ms);
    }

    /// Sets the cleaner's options, in force from its next pass on.
    pub fn set_cleaner(&self, options: CleanerOptions) {
        self.core.cleaner.hold().options = options;
        self.core.cleaner_wake.notify_all();
    }

    /// Compacts the log that needs it most, as of wall clock time `now_ms`. False if none does. The cleaner's own thread
    /// does it at intervals.
    pub fn clean(&self, now_ms: i64) -> bool {
        self.core.clean_dirtiest(now_ms)
    }

    /// Makes a checkpoint now.
    ///
    /// # Errors
    /// The disk can't take it.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.core.checkpoint(false)
    }

    /// Flushes everything, makes a checkpoint, and ends the threads. The next start then reads no log. Writes are refused
    /// from now on.
    ///
    /// # Errors
    /// The disk can't take it; the next start recovers.
    pub fn close(&self) -> Result<(), LogError> {
        self.core.queue.refuse_new("the log is closed".into());
        let flushed = self.core.flush_and_wait();
        // Nothing may follow the checkpoint that says that the log was closed: neither another one nor cleaned segments.
        self.end_keepers();
        let result = if flushed {
            self.core.checkpoint(true)
        } else {
            Err(LogError::Refused("what was appended can't be flushed".to_owned()))
        };
        self.end();
        result
    }

    fn end_keepers(&self) {
        self.core.ask_keeper(|k| k.stop = true);
        self.core.cleaner.hold().stop = true;
        self.core.cleaner_wake.notify_all();
        let keepers = std::mem::take(&mut self.threads.hold().keepers);
        for thread in keepers {
            let _ = thread.join();
        }
    }

    /// Ends the threads without a checkpoint; the next start recovers, as after a kill of the process.
    fn end(&self) {
        let (writer, flusher) = {
            let mut threads = self.threads.hold();
            (threads.writer.take(), threads.flusher.take())
        };
        self.core.queue.stop();
        // The writer first: what it still writes, the others may have to flush.
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        // Who waits for a flush, waits no longer.
        self.core.flush.stop();
        if let Some(flusher) = flusher {
            let _ = flusher.join();
        }
        self.end_keepers();
        self.core.partitions.write().unwrap_or_else(|p| p.into_inner()).clear();
        self.core.dirty.hold().clear();
        // What was not written or flushed holds partitions, and these what they share.
        drop(self.core.queue.refuse("the log is closed".into()));
        self.core.flush.clear();
        *self.core.journal.hold() = Default::default();
        self.core.tails.hold().clear();
    }
}

impl Drop for LogManager {
    fn drop(&mut self) {
        self.end();
    }
}

fn core_root(dir: &DataDir) -> std::path::PathBuf {
    dir.path().to_owned()
}
