//! The thread that owns the files of log and vote. It does one thing after the other, in the order in which it was asked.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use openraft::storage::LogFlushed;
use tokio::sync::oneshot;

use super::FULL_DISK_PAUSE;
use super::log_file::LogFile;
use super::small_files::{CommittedFile, VoteFile};
use crate::types::{LogId, TypeConfig, Vote};

/// Something to do.
pub(super) enum Job {
    /// Append a frame of entries. `first` and `last` are the ends of what is in it.
    Append { frame: Vec<u8>, first: u64, last: LogId, done: Done },
    /// Remove the entries from `since` on.
    Truncate { since: u64, last: Option<LogId>, done: oneshot::Sender<io::Result<()>> },
    /// Remove the entries up to this one, as soon as a snapshot has them.
    Purge(LogId),
    /// The snapshot has everything up to this entry.
    Covered(LogId),
    /// Keep a vote.
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    /// Note how far was committed.
    Committed(LogId),
    /// End.
    Stop,
}

/// Who is told that entries are flushed.
pub(super) type Done = LogFlushed<TypeConfig>;

/// The thread's state.
pub(super) struct LogThread {
    pub(super) directory: PathBuf,
    pub(super) durable: bool,
    pub(super) log: LogFile,
    pub(super) vote: VoteFile,
    pub(super) committed: CommittedFile,
    pub(super) bytes: Arc<AtomicU64>,
    pub(super) closing: Arc<AtomicBool>,
    /// The lock of the directory: it goes with the thread, or with the snapshot that is being written.
    pub(super) _lock: Arc<File>,
    /// The last entry that is in the snapshot on the disk.
    pub(super) covered: Option<LogId>,
    /// The purge that waits for a snapshot.
    pub(super) purge: Option<LogId>,
    /// What waits for the purge, since it appends behind a gap that only the purge explains.
    pub(super) held: VecDeque<Job>,
    /// The last index in the files.
    pub(super) last: Option<u64>,
    /// Why nothing can be written any more.
    pub(super) broken: Option<String>,
}

impl LogThread {
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(Duration::from_secs(3600)) {
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.bytes.store(self.log.bytes(), Ordering::Relaxed);
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            // What the purge waits for, and what is not of the log, passes by.
            Job::Covered(id) => {
                self.covered = self.covered.max(Some(id));
                self.try_purge();
                while self.purge.is_none()
                    && let Some(job) = self.held.pop_front()
                {
                    self.write(job);
                }
            }
            Job::Vote(..) | Job::Committed(_) => self.write(job),
            job if !self.held.is_empty() => self.held.push_back(job),
            Job::Append { first, .. } if self.purge.is_some() && self.leaves_gap(first) => {
                self.held.push_back(job);
            }
            job => self.write(job),
        }
    }

    fn leaves_gap(&self, first: u64) -> bool {
        self.last.map_or(0, |last| last + 1) < first
    }

    fn write(&mut self, job: Job) {
        match job {
            Job::Append { frame, first: _, last, done } => {
                let result = self.attempt(|this| this.log.append(&frame, last));
                if result.is_ok() {
                    self.last = Some(last.index);
                }
                done.log_io_completed(result);
            }
            Job::Truncate { since, last, done } => {
                let result = self.attempt(|this| this.log.truncate(since, last));
                if result.is_ok() {
                    self.last = last.map(|id| id.index);
                }
                answer(done, result);
            }
            Job::Purge(upto) => {
                self.purge = self.purge.max(Some(upto));
                self.try_purge();
            }
            Job::Vote(vote, done) => {
                let result = self.attempt(|this| this.vote.write(&this.directory, &vote, this.durable));
                answer(done, result);
            }
            Job::Committed(id) => {
                if let Err(error) = self.committed.write(&id) {
                    tracing::debug!("how far was committed is not noted: {error}");
                }
            }
            Job::Covered(_) | Job::Stop => {}
        }
    }

    fn try_purge(&mut self) {
        let Some(upto) = self.purge.filter(|upto| self.covered.map(|id| id.index) >= Some(upto.index)) else {
            return;
        };
        self.purge = None;
        match self.attempt(|this| this.log.purge(upto)) {
            Ok(()) => self.last = self.last.max(Some(upto.index)),
            Err(error) => tracing::error!("the quorum's log keeps entries that it could do without: {error}"),
        }
    }

    /// Writes. On a full disk it waits until there is room; after any other error nothing is written any more: what the disk holds is not known.
    fn attempt(&mut self, mut write: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if let Some(problem) = &self.broken {
            return Err(io::Error::other(format!(
                "an earlier write failed ({problem}): start the node again when the disk is well"
            )));
        }
        let mut told = false;
        loop {
            let error = match write(self) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if !full || self.closing.load(Ordering::Relaxed) {
                let problem = format!("{}: {error}", self.directory.display());
                tracing::error!("this node leaves the metadata quorum until it is started again: {problem}");
                self.broken = Some(problem.clone());
                return Err(io::Error::new(error.kind(), problem));
            }
            if !told {
                tracing::error!(
                    "no room on the disk for the quorum's log in {}: it takes part again when there is",
                    self.directory.display()
                );
                told = true;
            }
            std::thread::sleep(FULL_DISK_PAUSE);
        }
    }
}

fn answer(done: oneshot::Sender<io::Result<()>>, result: io::Result<()>) {
    // Nobody waits when the library stopped in between.
    let _ = done.send(result);
}
