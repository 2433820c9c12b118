//! The quorum's files: a log, the vote, a snapshot, and a hint of what was committed. Everything that blocks runs on a thread of its own
//! (the log, the vote) or on the runtime's threads for blocking work (snapshots).

mod frame;
mod log_file;
mod log_store;
#[cfg(test)]
mod log_test;
mod small_files;
#[cfg(test)]
mod suite_test;
mod thread;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chronik_meta::CodecError;

use crate::error::StartError;
pub(crate) use log_store::{LogShared, LogStore};
pub(crate) use small_files::SnapshotFile;

/// The end of a log that was cut off, because its write had not been finished: so it was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where the cut is.
    pub position: u64,
    /// Bytes cut off.
    pub bytes: u64,
    /// What was there instead of a frame.
    pub reason: String,
}

/// What the files are opened with.
#[derive(Clone, Debug)]
pub(crate) struct StorageOptions {
    pub(crate) directory: PathBuf,
    pub(crate) durable: bool,
    /// A segment of the log that is larger than this gets a successor; bytes.
    pub(crate) segment_bytes: u64,
}

/// The files, read.
pub(crate) struct Opened {
    pub(crate) log: LogStore,
    pub(crate) snapshot_file: SnapshotFile,
    pub(crate) cut: Option<Cut>,
}

/// Opens what is in the directory, or begins it. Blocks.
pub(crate) fn open(options: &StorageOptions) -> Result<Opened, StartError> {
    let directory = &options.directory;
    fs::create_dir_all(directory).map_err(io_error("make", directory))?;
    let lock = Arc::new(lock(directory)?);
    let vote = small_files::VoteFile::open(directory)?;
    let snapshot_file = SnapshotFile::open(directory, options.durable, &lock)?;
    let snapshot_end = snapshot_file.last_log_id();
    let (mut file, replayed) = log_file::LogFile::open(options, snapshot_end)?;
    let committed = small_files::read_committed(directory, replayed.last, snapshot_end)?;
    file.settle(&replayed)?;
    let cut = replayed.cut.clone();
    let log = LogStore::start(lock, file, replayed, vote, committed, options)?;
    log.covered(snapshot_end);
    Ok(Opened { log, snapshot_file, cut })
}

/// Takes the directory for this process. It is given back when the file is closed.
fn lock(directory: &Path) -> Result<File, StartError> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse { path }),
        Err(fs::TryLockError::Error(source)) => Err(StartError::Io { action: "lock", path, source }),
    }
}

pub(crate) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StartError + 'a {
    move |source| StartError::Io { action, path: path.to_owned(), source }
}

fn damaged(path: &Path, position: usize, problem: impl Into<String>) -> StartError {
    StartError::Damaged { path: path.to_owned(), position: position as u64, problem: problem.into() }
}

/// Bytes that are whole, but not to be read here: a newer version wrote them, or they are damaged in a way that no CRC shows.
fn unreadable(path: &Path, position: usize, error: &CodecError) -> StartError {
    damaged(path, position, error.to_string())
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, StartError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Puts a file with `bytes` in the place of `name`: after a crash there is the old one or the new one, whole.
fn replace(directory: &Path, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&beside, directory.join(name))?;
    if durable { flush_directory(directory) } else { Ok(()) }
}

/// How long a write to a full disk waits before it is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

/// The head of each file: a name of 8 bytes and a version.
const HEAD: usize = 12;
const VERSION: u32 = 1;

fn head(name: &[u8; 8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Checks a file's head; gives back what follows.
fn check_head<'a>(path: &Path, bytes: &'a [u8], name: &[u8; 8]) -> Result<&'a [u8], StartError> {
    let foreign = || StartError::Foreign { path: path.to_owned() };
    let rest = bytes.strip_prefix(name).ok_or_else(foreign)?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(foreign)?;
    match u32::from_le_bytes(*version) {
        VERSION => Ok(rest),
        version => Err(StartError::Newer { path: path.to_owned(), version, known: VERSION }),
    }
}

/// Splits the CRC-32C off the end of `bytes` and checks it.
fn check_crc(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}

/// Appends the CRC-32C of what `bytes` hold from `from` on.
fn put_crc(bytes: &mut Vec<u8>, from: usize) {
    let crc = crc32c::crc32c(bytes.get(from..).unwrap_or(&[]));
    bytes.extend_from_slice(&crc.to_le_bytes());
}
