//! The vote, the snapshot, and how far was committed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use chronik_meta::Image;

use super::{
    FULL_DISK_PAUSE, HEAD, check_crc, check_head, damaged, head, io_error, put_crc, read_file, replace,
    unreadable,
};
use crate::codec::{Reader, put_log_id, put_snapshot_meta, put_vote};
use crate::error::StartError;
use crate::types::{LogId, SnapshotMeta, Vote};

const VOTE: &str = "vote";
const VOTE_NAME: &[u8; 8] = b"CHRONVOT";
const COMMITTED: &str = "committed";
const COMMITTED_NAME: &[u8; 8] = b"CHRONCMT";
const SNAPSHOT: &str = "snapshot";
const SNAPSHOT_NAME: &[u8; 8] = b"CHRONQSN";

/// The vote's file is made of slots of this size, so that none lies across two sectors of a disk. The first one is the file's head.
const SLOT: usize = 64;
const SLOTS: usize = 64;

/// The votes that were given, one slot for each; the last one counts. A vote is written in place and costs one flush that changes neither the
/// file's size nor its blocks; a full file is replaced.
#[derive(Default)]
pub(super) struct VoteFile {
    file: Option<File>,
    used: usize,
}

impl VoteFile {
    /// Reads the vote. Damage is an error: a voter that forgot its vote might give it twice.
    pub(super) fn open(directory: &Path) -> Result<(Self, Option<Vote>), StartError> {
        let path = directory.join(VOTE);
        let Some(bytes) = read_file(&path)? else { return Ok((Self::default(), None)) };
        let rest = check_head(&path, &bytes, VOTE_NAME)?;
        if bytes.len() != SLOT * SLOTS {
            let problem = format!("it has {} bytes, and should have {}", bytes.len(), SLOT * SLOTS);
            return Err(damaged(&path, HEAD, problem));
        }
        if rest.iter().take(SLOT - HEAD).any(|byte| *byte != 0) {
            return Err(damaged(&path, HEAD, "there is something behind its head"));
        }
        let slots = bytes.chunks_exact(SLOT).enumerate().skip(1);
        let is_blank = |slot: &[u8]| slot.iter().all(|byte| *byte == 0);
        let (mut used, mut vote) = (1, None);
        for (number, slot) in slots {
            if is_blank(slot) {
                continue;
            }
            if number != used {
                return Err(damaged(&path, used * SLOT, "a vote is missing in front of another one"));
            }
            vote = Some(read_slot(slot).map_err(|problem| damaged(&path, number * SLOT, problem))?);
            used += 1;
        }
        if vote.is_none() {
            return Err(damaged(&path, SLOT, "no vote is in it"));
        }
        let file = File::options().write(true).open(&path).map_err(io_error("open", &path))?;
        Ok((Self { file: Some(file), used }, vote))
    }

    /// Writes the vote, flushed.
    pub(super) fn write(&mut self, directory: &Path, vote: &Vote, durable: bool) -> io::Result<()> {
        let mut slot = Vec::with_capacity(SLOT);
        put_vote(&mut slot, vote);
        slot.resize(SLOT - 4, 0);
        put_crc(&mut slot, 0);
        if let Some(file) = self.file.as_ref().filter(|_| self.used < SLOTS) {
            file.write_all_at(&slot, (self.used * SLOT) as u64)?;
            if durable {
                file.sync_data().map_err(|error| io::Error::other(format!("flush failed: {error}")))?;
            }
            self.used += 1;
            return Ok(());
        }
        let mut bytes = head(VOTE_NAME);
        bytes.resize(SLOT, 0);
        bytes.extend_from_slice(&slot);
        bytes.resize(SLOT * SLOTS, 0);
        replace(directory, VOTE, &bytes, durable)?;
        self.file = Some(File::options().write(true).open(directory.join(VOTE))?);
        self.used = 2;
        Ok(())
    }
}

fn read_slot(slot: &[u8]) -> Result<Vote, String> {
    let body = check_crc(slot).ok_or("a vote's CRC is wrong")?;
    let mut input = Reader::new(Bytes::copy_from_slice(body));
    let vote = input.vote().map_err(|error| error.to_string())?;
    if input.rest().iter().any(|byte| *byte != 0) {
        return Err("there is something behind a vote".to_owned());
    }
    Ok(vote)
}

/// The file that says how far was committed. It is written in place and never flushed for its own sake: it lets a node that was
/// restarted apply its log before it reaches the others, and shows when the log has lost its end.
pub(super) struct CommittedFile(File);

impl CommittedFile {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(COMMITTED);
        Ok(Self(File::options().create(true).truncate(false).write(true).open(path)?))
    }

    pub(super) fn write(&self, committed: &LogId) -> io::Result<()> {
        let mut bytes = head(COMMITTED_NAME);
        put_log_id(&mut bytes, committed);
        put_crc(&mut bytes, HEAD);
        self.0.write_all_at(&bytes, 0)
    }
}

/// Reads how far was committed. A file that is torn or old is as good as none; one that knows of more than log and snapshot hold means that
/// acknowledged entries were lost.
pub(super) fn read_committed(
    directory: &Path,
    last: Option<LogId>,
    snapshot: Option<LogId>,
) -> Result<Option<LogId>, StartError> {
    let path = directory.join(COMMITTED);
    let Some(bytes) = read_file(&path)? else { return Ok(None) };
    let body = check_head(&path, &bytes, COMMITTED_NAME).ok().and_then(check_crc);
    let Some(Ok(committed)) = body.map(|body| Reader::new(Bytes::copy_from_slice(body)).log_id()) else {
        if !bytes.is_empty() {
            tracing::warn!("{} is torn: it is only a hint, and left aside", path.display());
        }
        return Ok(None);
    };
    let known = last.map(|id| id.index).max(snapshot.map(|id| id.index));
    if Some(committed.index) > known {
        let problem = format!(
            "entry {} is known to be committed ({}), and neither the log (it ends at {}) nor the snapshot has it: the log has lost its end",
            committed.index,
            path.display(),
            last.map_or("nothing".to_owned(), |last| last.index.to_string()),
        );
        return Err(damaged(&directory.join("log-*"), 0, problem));
    }
    Ok(Some(committed))
}

/// The snapshot's file, with what is in it: the image shares its pieces with the live one, so keeping it costs what changed since.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    directory: PathBuf,
    durable: bool,
    /// The directory's lock, which is held while a snapshot is written, also beyond the end of the log's thread: the next one to open the
    /// directory shall find no writer in it.
    lock: Weak<File>,
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Clone)]
struct Current {
    meta: SnapshotMeta,
    image: Arc<Image>,
    bytes: u64,
}

impl SnapshotFile {
    pub(super) fn open(directory: &Path, durable: bool, lock: &Arc<File>) -> Result<Self, StartError> {
        let path = directory.join(SNAPSHOT);
        let current = read_file(&path)?.map(|bytes| read_snapshot(&path, bytes)).transpose()?;
        let current = Arc::new(Mutex::new(current));
        Ok(Self { directory: directory.to_owned(), durable, lock: Arc::downgrade(lock), current })
    }

    /// The last entry that is in the snapshot.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.lock().as_ref().and_then(|current| current.meta.last_log_id)
    }

    /// True once nobody writes in the directory any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock.strong_count() == 0
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().as_ref().map_or(0, |current| current.bytes)
    }

    /// The snapshot.
    pub(crate) fn current(&self) -> Option<(SnapshotMeta, Arc<Image>)> {
        self.lock().as_ref().map(|current| (current.meta.clone(), Arc::clone(&current.image)))
    }

    /// Writes a snapshot, flushed, unless there is a later one. Blocks.
    fn write(&self, meta: &SnapshotMeta, image: &Arc<Image>) -> io::Result<()> {
        let Some(_lock) = self.lock.upgrade() else {
            return Err(io::Error::other("the quorum's files are closed"));
        };
        let encoded = image.encode();
        let mut bytes = head(SNAPSHOT_NAME);
        let mut body = Vec::with_capacity(256 + encoded.len());
        put_snapshot_meta(&mut body, meta);
        body.extend_from_slice(&encoded);
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        put_crc(&mut bytes, HEAD + 8);
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| current.meta.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        replace(&self.directory, SNAPSHOT, &bytes, self.durable)?;
        *current = Some(Current { meta: meta.clone(), image: Arc::clone(image), bytes: bytes.len() as u64 });
        Ok(())
    }

    /// Writes a snapshot like [`SnapshotFile::write`], and on a full disk waits until there is room, or until `closing`.
    pub(crate) fn write_patiently(
        &self,
        meta: &SnapshotMeta,
        image: &Arc<Image>,
        closing: &AtomicBool,
    ) -> io::Result<()> {
        let mut told = false;
        loop {
            let error = match self.write(meta, image) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if !full || closing.load(Ordering::Relaxed) {
                let path = self.directory.join(SNAPSHOT);
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
            if !told {
                tracing::error!(
                    "no room on the disk for a snapshot in {}: it waits",
                    self.directory.display()
                );
                told = true;
            }
            std::thread::sleep(FULL_DISK_PAUSE);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_snapshot(path: &Path, bytes: Vec<u8>) -> Result<Current, StartError> {
    let size = bytes.len() as u64;
    let rest = check_head(path, &bytes, SNAPSHOT_NAME)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| damaged(path, HEAD, "it is cut short"))?;
    if u64::from_le_bytes(*length).saturating_add(4) != rest.len() as u64 {
        return Err(damaged(path, HEAD, "its length is not the one it states"));
    }
    let body = check_crc(rest).ok_or_else(|| damaged(path, HEAD + 8, "its CRC is wrong"))?;
    let mut input = Reader::new(Bytes::copy_from_slice(body));
    let read = input.snapshot_meta().and_then(|meta| Ok((meta, Image::decode(&input.rest())?)));
    let (meta, image) = read.map_err(|error| unreadable(path, HEAD + 8, &error))?;
    Ok(Current { meta, image: Arc::new(image), bytes: size })
}
