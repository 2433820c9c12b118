//! The disk as a seam: everything the log asks of a file system goes through these two traits, so that tests can
//! put a disk under it that forgets what was never flushed, fills up, or fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How [`Disk::open`] treats a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; opened for reading only.
    Read,
    /// Must exist; opened for reading and writing.
    Write,
    /// Made if missing, kept if not; opened for reading and writing.
    Create,
}

/// An open file. Positions are given with each call: nothing here has a cursor, so handles are shared freely.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all the slices, one after the other, starting at `position`.
    fn write_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Returns once what was written is on the disk and would survive a power loss (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros, to `length` bytes.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Reserves space, so that the file has `length` bytes, new ones zero: a flush of what is then written there is cheaper
    /// than one of a file that grows.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// The operating system's file, where there is one, for sending it to a socket without copying.
    fn os_file(&self) -> Option<&Arc<File>>;
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Moves a file or folder, replacing a file that is in the way.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is not an error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all below it; one that is not there is not an error.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed or removed in a folder survive a power loss.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted; none where the folder is missing.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// True if there is such a file or folder.
    fn exists(&self, path: &Path) -> bool;
    /// A file's length in bytes.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// Bytes that can still be written, as far as the file system tells.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// The machine's own file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsDisk;

struct OsFile {
    file: Arc<File>,
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
        }
        Ok(Arc::new(OsFile { file: Arc::new(options.open(path)?) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        ignore_missing(fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        ignore_missing(fs::remove_dir_all(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file that holds nothing: the index of a segment too short to have one.
pub(crate) struct NoFile;

impl DiskFile for NoFile {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &mut [IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

/// `writev` takes at most this many slices on Linux.
const MAX_SLICES: usize = 1024;

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, position + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, mut slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let take = slices.len().min(MAX_SLICES);
            let written = match slices.get(..take) {
                Some([only]) => self.file.write_at(only, position),
                Some(some) => rustix::io::pwritev(&*self.file, some, position).map_err(io::Error::from),
                None => break,
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    position += n as u64;
                    IoSlice::advance_slices(&mut slices, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let have = self.len()?;
        if have < length {
            rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::empty(), have, length - have)?;
        }
        Ok(())
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

/// Replaces `path` by a file that holds `contents`, so that after a crash either the old or the new one is there, whole.
pub fn replace_file(disk: &dyn Disk, path: &Path, contents: &[u8], flush: bool) -> io::Result<()> {
    let temporary = temporary_name(path);
    disk.remove(&temporary)?;
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.write_at(&mut [IoSlice::new(contents)], 0)?;
    if flush {
        file.sync_data()?;
    }
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(parent) if flush => disk.sync_dir(parent),
        _ => Ok(()),
    }
}

/// Reads a whole file, refusing one larger than `limit` bytes.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} has {length} bytes; at most {limit} make sense", path.display()),
        ));
    }
    let mut contents = vec![0; length as usize];
    let read = file.read_at(&mut contents, 0)?;
    contents.truncate(read);
    Ok(contents)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// True for errors that pass: no space is left, or no file can be opened because too many are. What was refused then can
/// succeed later, and nothing that was written before is in doubt.
pub fn is_full(error: &io::Error) -> bool {
    let too_many_files = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || too_many_files.iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}
