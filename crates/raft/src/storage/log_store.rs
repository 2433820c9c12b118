//! The log as the library sees it: entries in memory, a thread for the files.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use tokio::sync::oneshot;

use super::log_file::{LogFile, Replayed};
use super::small_files::{CommittedFile, VoteFile};
use super::thread::{Job, LogThread};
use super::{StorageOptions, frame, io_error};
use crate::codec::entry_size;
use crate::error::StartError;
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// A replication request carries about so many bytes of entries, and at least one entry.
const READ_BYTES: usize = 1 << 20;

/// What the log holds, for all who read it.
pub(crate) struct LogShared {
    state: Mutex<State>,
    /// Bytes of entries appended in this run.
    appended: AtomicU64,
    /// Bytes of the files.
    file_bytes: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl State {
    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }
}

impl LogShared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.lock().last()
    }

    /// The last committed entry that was heard of.
    pub(crate) fn committed(&self) -> Option<LogId> {
        self.lock().committed
    }

    /// True if the node has a vote or an entry: it belongs to a quorum.
    pub(crate) fn has_begun(&self) -> bool {
        let state = self.lock();
        state.vote.is_some() || state.last().is_some()
    }

    /// Bytes of entries that were appended in this run, those found at its start included.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Bytes of the files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    fn read(&self, range: impl RangeBounds<u64>, limit: usize) -> Vec<Entry> {
        let state = self.lock();
        let Some(first) = state.entries.front().map(|entry| entry.log_id.index) else { return Vec::new() };
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => first,
        };
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in state.entries.iter().skip(skip) {
            bytes += entry_size(entry);
            if !range.contains(&entry.log_id.index) || (bytes > limit && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }
}

/// The log with its thread.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<LogShared>,
    jobs: Sender<Job>,
    closing: Arc<AtomicBool>,
}

impl LogStore {
    pub(super) fn start(
        lock: Arc<File>,
        log: LogFile,
        replayed: Replayed,
        (vote_file, vote): (VoteFile, Option<Vote>),
        committed: Option<LogId>,
        options: &StorageOptions,
    ) -> Result<Self, StartError> {
        let directory = &options.directory;
        let file_bytes = Arc::new(AtomicU64::new(log.bytes()));
        let closing = Arc::new(AtomicBool::new(false));
        let (jobs, receiver) = mpsc::channel();
        let thread = LogThread {
            directory: directory.clone(),
            durable: options.durable,
            committed: CommittedFile::open(directory).map_err(io_error("open", directory))?,
            vote: vote_file,
            log,
            bytes: Arc::clone(&file_bytes),
            closing: Arc::clone(&closing),
            _lock: lock,
            covered: None,
            purge: None,
            held: VecDeque::new(),
            last: replayed.last.map(|id| id.index),
            broken: None,
        };
        let appended = replayed.entries.iter().map(|entry| entry_size(entry) as u64).sum();
        thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || thread.run(&receiver))
            .map_err(io_error("start a thread for", directory))?;
        let state = State { entries: replayed.entries, purged: replayed.purged, vote, committed };
        let shared = LogShared { state: Mutex::new(state), appended: AtomicU64::new(appended), file_bytes };
        Ok(Self { shared: Arc::new(shared), jobs, closing })
    }

    /// What the log holds.
    pub(crate) fn shared(&self) -> &Arc<LogShared> {
        &self.shared
    }

    /// True once the log is being closed: whoever waits for room on the disk gives up.
    pub(crate) fn closing(&self) -> &AtomicBool {
        &self.closing
    }

    /// Says that the snapshot on the disk ends with `last`: what was purged up to there may go.
    pub(crate) fn covered(&self, last: Option<LogId>) {
        if let Some(last) = last {
            self.send(Job::Covered(last));
        }
    }

    /// Ends the thread, after what it was asked for so far.
    pub(crate) fn stop(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.send(Job::Stop);
    }

    fn send(&self, job: Job) {
        // Without the thread whoever waits for an answer hears of it, as the job is dropped.
        let _ = self.jobs.send(job);
    }

    async fn ask(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.send(job(sender));
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the quorum's log is closed")))
    }
}

fn log_error(error: &io::Error) -> StorageError {
    StorageIOError::write_logs(AnyError::new(error)).into()
}

impl RaftLogReader<TypeConfig> for Arc<LogShared> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.read(range, usize::MAX))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        Ok(self.read(start..end, READ_BYTES))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.shared.read(range, usize::MAX))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Arc<LogShared>;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.shared.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        Arc::clone(&self.shared)
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.ask(|done| Job::Vote(*vote, done)).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        self.shared.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.shared.lock().committed = committed;
        if let Some(committed) = committed {
            self.send(Job::Committed(committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.shared.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        let (first, last) = (first.log_id.index, last.log_id);
        let frame = frame::entries(&entries);
        self.shared.appended.fetch_add(frame.len() as u64, Ordering::Relaxed);
        self.shared.lock().entries.extend(entries);
        self.send(Job::Append { frame, first, last, done: callback });
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let last = {
            let mut state = self.shared.lock();
            while state.entries.back().is_some_and(|entry| entry.log_id.index >= log_id.index) {
                state.entries.pop_back();
            }
            state.last()
        };
        let truncated = self.ask(|done| Job::Truncate { since: log_id.index, last, done }).await;
        truncated.map_err(|error| log_error(&error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        {
            let mut state = self.shared.lock();
            while state.entries.front().is_some_and(|entry| entry.log_id.index <= log_id.index) {
                state.entries.pop_front();
            }
            state.purged = state.purged.max(Some(log_id));
        }
        self.send(Job::Purge(log_id));
        Ok(())
    }
}
