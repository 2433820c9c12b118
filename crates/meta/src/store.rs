//! The metadata on disk: a log of commands and a snapshot of the image, in one directory. The only module here that touches files.
//!
//! A commit is one frame appended to `metadata.log` and flushed; only then it is applied and answered. When the log has grown, the image is written to
//! `metadata.snapshot` (written beside, flushed, renamed, directory flushed) and the log begins anew in the same way. A crash between the
//! two leaves commands in the log that the snapshot has: they are told by their number and skipped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::CodecError;
use crate::command::{Command, Reply};
use crate::error::MetaError;
use crate::frame::{self, Found, Frame};
use crate::image::{Image, MetaOffset};
use crate::snapshot;

const LOG: &str = "metadata.log";
const SNAPSHOT: &str = "metadata.snapshot";
/// A snapshot from elsewhere that is to take the place of snapshot and log.
const INSTALL: &str = "metadata.install";

/// What the log begins with: a name and the version of its frames.
const LOG_HEAD: [u8; 12] = *b"CHRONMET\x01\0\0\0";

/// How the store works.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Flush each commit to disk. Off only where nothing is to survive (`ephemeral`).
    pub flush: bool,
    /// The directory is known to have been used (it has an identity): a log that is missing is then an error, not a beginning.
    pub existing: bool,
    /// The log is folded into a snapshot when it is larger than this, in bytes, and larger than twice the last snapshot.
    pub snapshot_after_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { flush: true, existing: false, snapshot_after_bytes: 4 << 20 }
    }
}

/// Why the metadata cannot be opened or snapshotted.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what it should be, at its beginning.
    #[error("{} does not begin as a file of Chronik's metadata does: it is damaged, or belongs to another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a newer version.
    #[error("{} has format version {version}, this version of Chronik knows {known}: run the newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Bytes before the end are damaged.
    #[error("{} is damaged at byte {position}: {problem}; restore it from a copy of another node or a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        problem: String,
    },
    /// A whole record cannot be read.
    #[error("{} at byte {position}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// Why.
        source: CodecError,
    },
    /// The log is gone, though something was in it.
    #[error("{} is missing or empty, and this is not a new data directory: topics would be lost with it, restore it", path.display())]
    LogMissing {
        /// The file.
        path: PathBuf,
    },
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of the last command in the snapshot; 0 without one.
    pub snapshot_offset: MetaOffset,
    /// Commands of the log that were applied.
    pub replayed: usize,
    /// The end of the log that was cut off, if there was a torn one.
    pub cut: Option<Cut>,
}

/// The end of a log that was cut off, because its write had not been finished (so it was never acknowledged).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where the cut is.
    pub position: u64,
    /// Bytes cut off.
    pub bytes: u64,
    /// What was there instead of a frame.
    pub reason: &'static str,
}

/// The metadata on disk with its image in memory. One thread owns it: see [`MetaHandle`](crate::MetaHandle).
#[derive(Debug)]
pub struct MetaStore {
    directory: PathBuf,
    log: File,
    log_bytes: u64,
    snapshot_bytes: u64,
    image: Arc<Image>,
    options: StoreOptions,
    /// False until this run flushed the directories: the last one may have ended before it did.
    names_flushed: bool,
    /// Set when a flush failed: what is on disk is not known, so nothing is promised any more.
    poisoned: Option<String>,
}

impl MetaStore {
    /// Opens the metadata in `directory`, or begins it there. A torn end is cut off and reported; damage is an error.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<(Self, Recovery), StoreError> {
        fs::create_dir_all(directory).map_err(io("make", directory))?;
        let log_path = directory.join(LOG);
        let snapshot_path = directory.join(SNAPSHOT);
        let install_path = directory.join(INSTALL);
        if let Some(bytes) = read_file(&install_path)? {
            snapshot::decode(&install_path, &bytes)?;
            exchange(directory, options.flush)?;
        }
        let (mut image, snapshot_bytes) = match read_file(&snapshot_path)? {
            Some(bytes) => (snapshot::decode(&snapshot_path, &bytes)?, Some(bytes.len() as u64)),
            None => (Image::default(), None),
        };
        let mut recovery = Recovery { snapshot_offset: image.offset, ..Recovery::default() };
        let log_bytes = match read_file(&log_path)? {
            Some(bytes) if !is_blank(&bytes) => {
                check_head(&log_path, &bytes, LOG_HEAD)?;
                replay(&log_path, &bytes, &mut image, &mut recovery)?
            }
            _ if snapshot_bytes.is_some() || options.existing => {
                return Err(StoreError::LogMissing { path: log_path });
            }
            Some(bytes) if !bytes.is_empty() => {
                let reason = "the first write was cut short";
                recovery.cut =
                    Some(Cut { path: log_path.clone(), position: 0, bytes: bytes.len() as u64, reason });
                0
            }
            _ => 0,
        };
        let log = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&log_path)
            .map_err(io("open", &log_path))?;
        if recovery.cut.is_some() {
            log.set_len(log_bytes).map_err(io("cut", &log_path))?;
            log.sync_all().map_err(io("flush", &log_path))?;
        }
        let store = Self {
            directory: directory.to_owned(),
            log,
            log_bytes,
            snapshot_bytes: snapshot_bytes.unwrap_or(0),
            image: Arc::new(image),
            options,
            names_flushed: false,
            poisoned: None,
        };
        Ok((store, recovery))
    }

    /// The image as of the last commit.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Checks each command against the image that those before it make, writes the ones that pass with one flush, and applies
    /// them. If the write fails none is applied, and each of them says so.
    pub fn commit(&mut self, commands: &[Command]) -> Vec<Result<Reply, MetaError>> {
        let mut next = (*self.image).clone();
        let first = next.offset + 1;
        let mut encoded = Vec::new();
        let mut results: Vec<_> = commands
            .iter()
            .map(|command| {
                next.check(command)?;
                encoded.push(command.encode());
                Ok(next.apply(command))
            })
            .collect();
        if encoded.is_empty() {
            return results;
        }
        match self.append(&frame::encode(first, &encoded)) {
            Ok(()) => self.image = Arc::new(next),
            Err(problem) => {
                for result in results.iter_mut().filter(|result| result.is_ok()) {
                    *result = Err(MetaError::Storage(problem.clone()));
                }
            }
        }
        results
    }

    /// Takes commands that were decided elsewhere and have their numbers, the first of them `first`; writes them with one flush and applies
    /// them. Those that are here already are passed over.
    ///
    /// # Errors
    /// [`MetaError::Gap`] if some are missing in between; any other if one of them cannot be applied or written. None of them is applied then.
    pub fn follow(&mut self, first: MetaOffset, commands: &[Command]) -> Result<(), MetaError> {
        let have = self.image.offset;
        if first > have + 1 {
            return Err(MetaError::Gap { have, first });
        }
        let known = usize::try_from(have + 1 - first).unwrap_or(usize::MAX);
        let new = commands.get(known..).unwrap_or(&[]);
        if new.is_empty() {
            return Ok(());
        }
        let mut next = (*self.image).clone();
        let mut encoded = Vec::with_capacity(new.len());
        for command in new {
            next.check(command)?;
            next.apply(command);
            encoded.push(command.encode());
        }
        self.append(&frame::encode(have + 1, &encoded)).map_err(MetaError::Storage)?;
        self.image = Arc::new(next);
        Ok(())
    }

    fn append(&mut self, frame: &[u8]) -> Result<(), String> {
        if let Some(problem) = &self.poisoned {
            return Err(format!(
                "an earlier flush failed ({problem}); restart the node when the disk is well"
            ));
        }
        let path = self.directory.join(LOG);
        if frame.len() > frame::MAX_PAYLOAD {
            return Err(format!(
                "{} bytes of commands at once are over {}: send fewer",
                frame.len(),
                frame::MAX_PAYLOAD
            ));
        }
        let head: &[u8] = if self.log_bytes == 0 { &LOG_HEAD } else { &[] };
        let bytes = [head, frame].concat();
        if let Err(error) = self.log.write_all_at(&bytes, self.log_bytes) {
            // Nothing was promised yet: with the half-written frame taken back (a full disk lets that happen), the next commit may
            // be tried. Where even that fails, the file is as unknown as after a failed flush.
            if let Err(error) = self.log.set_len(self.log_bytes) {
                self.poison(&error);
            }
            return Err(format!("cannot write {}: {error}", path.display()));
        }
        if self.options.flush
            && let Err(error) = self.flush()
        {
            self.poison(&error);
            return Err(error.to_string());
        }
        self.log_bytes += bytes.len() as u64;
        Ok(())
    }

    fn poison(&mut self, error: &dyn std::fmt::Display) {
        tracing::error!("metadata takes no changes until the node is started again: {error}");
        self.poisoned = Some(error.to_string());
    }

    /// Flushes the log; with the first commit also the names that lead to it, so that starting empty costs no flush of its own.
    fn flush(&mut self) -> Result<(), StoreError> {
        let path = self.directory.join(LOG);
        self.log.sync_data().map_err(io("flush", &path))?;
        if !self.names_flushed {
            flush_directory(&self.directory)?;
            match self.directory.parent() {
                Some(above) if !above.as_os_str().is_empty() => flush_directory(above)?,
                _ => {}
            }
            self.names_flushed = true;
        }
        Ok(())
    }

    /// True if the log has grown so that a snapshot is worth its cost.
    pub fn wants_snapshot(&self) -> bool {
        self.poisoned.is_none()
            && self.log_bytes > self.options.snapshot_after_bytes.max(2 * self.snapshot_bytes)
    }

    /// Writes a snapshot of the image and begins the log anew.
    pub fn snapshot(&mut self) -> Result<(), StoreError> {
        let bytes = snapshot::encode(&self.image);
        replace(&self.directory, SNAPSHOT, &bytes, self.options.flush)?;
        self.snapshot_bytes = bytes.len() as u64;
        let begun = replace(&self.directory, LOG, &LOG_HEAD, self.options.flush);
        self.reopen()?;
        begun
    }

    /// Puts `image`, which came from elsewhere, in the place of everything that is here. After a crash there is what was, or `image`, whole:
    /// it is written beside first, and from the moment it is there an [`open`](Self::open) carries the exchange through.
    ///
    /// # Errors
    /// If the image could not be written, what was here goes on. If the exchange could not be carried through, no further change is taken until the
    /// store is opened again.
    pub fn install(&mut self, image: Arc<Image>) -> Result<(), StoreError> {
        let bytes = snapshot::encode(&image);
        replace(&self.directory, INSTALL, &bytes, self.options.flush)?;
        let exchanged = exchange(&self.directory, self.options.flush);
        self.image = image;
        self.snapshot_bytes = bytes.len() as u64;
        if let Err(error) = &exchanged {
            self.poison(error);
        }
        self.reopen()?;
        exchanged
    }

    /// Opens what is the log now. Also after a failure, which may have come before or after the old log was replaced: a commit into a file
    /// that is no longer the log would be lost.
    fn reopen(&mut self) -> Result<(), StoreError> {
        let path = self.directory.join(LOG);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        match opened.and_then(|log| Ok((log.metadata()?.len(), log))) {
            Ok((length, log)) => {
                self.log = log;
                self.log_bytes = length;
                Ok(())
            }
            Err(error) => {
                self.poison(&error);
                Err(io("open", &path)(error))
            }
        }
    }
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

fn flush_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(io("flush", directory))
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

/// Puts a file with `bytes` in the place of `name`: after a crash there is the old one or the new one, whole.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8], flush: bool) -> Result<(), StoreError> {
    let path = directory.join(name);
    let beside = directory.join(format!("{name}.new"));
    let mut file = File::create(&beside).map_err(io("make", &beside))?;
    file.write_all(bytes).map_err(io("write", &beside))?;
    if flush {
        file.sync_all().map_err(io("flush", &beside))?;
    }
    fs::rename(&beside, &path).map_err(io("rename to", &path))?;
    if flush { flush_directory(directory) } else { Ok(()) }
}

/// Carries an installation through: an empty log, then the snapshot. Done again after a crash, it comes to the same.
fn exchange(directory: &Path, flush: bool) -> Result<(), StoreError> {
    replace(directory, LOG, &LOG_HEAD, flush)?;
    let (from, to) = (directory.join(INSTALL), directory.join(SNAPSHOT));
    fs::rename(&from, &to).map_err(io("rename to", &to))?;
    if flush { flush_directory(directory) } else { Ok(()) }
}

/// True for what a file may hold whose first write was never flushed: it held nothing that was acknowledged.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.len() < LOG_HEAD.len() || bytes.iter().all(|byte| *byte == 0)
}

/// Checks the head of a file: a name of 8 bytes and a version of 4.
pub(crate) fn check_head(path: &Path, bytes: &[u8], head: [u8; 12]) -> Result<(), StoreError> {
    let (name, known) = head.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or(0);
    let Some(version) = bytes.strip_prefix(name).and_then(|rest| rest.get(..4)) else {
        return Err(StoreError::Foreign { path: path.to_owned() });
    };
    let (version, known) = (number(version), number(known));
    if version == 0 || version > known {
        return Err(StoreError::Newer { path: path.to_owned(), version, known });
    }
    Ok(())
}

/// Applies the log's commands to `image`; gives back the length of the good part.
fn replay(path: &Path, bytes: &[u8], image: &mut Image, recovery: &mut Recovery) -> Result<u64, StoreError> {
    let mut position = LOG_HEAD.len();
    let damaged = |position: usize, problem: String| StoreError::Damaged {
        path: path.to_owned(),
        position: position as u64,
        problem,
    };
    loop {
        match frame::read(bytes, position) {
            Found::End => return Ok(position as u64),
            Found::Frame(Frame { first, commands }, end) => {
                if first > image.offset + 1 {
                    let problem = format!("commands {} to {} are missing", image.offset + 1, first - 1);
                    return Err(damaged(position, problem));
                }
                for (offset, command) in (first..).zip(&commands) {
                    if offset <= image.offset {
                        continue;
                    }
                    image.check(command).map_err(|error| {
                        damaged(position, format!("command {offset} does not fit: {error}"))
                    })?;
                    image.apply(command);
                    recovery.replayed += 1;
                }
                position = end;
            }
            Found::Unreadable(source) => {
                return Err(StoreError::Unreadable {
                    path: path.to_owned(),
                    position: position as u64,
                    source,
                });
            }
            Found::Nothing(reason) => {
                if let Some(next) = frame::next_whole(bytes, position) {
                    return Err(damaged(
                        position,
                        format!("{reason}, and there is a whole frame behind it at byte {next}"),
                    ));
                }
                let cut = (bytes.len() - position) as u64;
                recovery.cut =
                    Some(Cut { path: path.to_owned(), position: position as u64, bytes: cut, reason });
                return Ok(position as u64);
            }
        }
    }
}
