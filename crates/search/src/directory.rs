//! Where an index lies: files that are checked when they are read, and never flushed.
//!
//! An index is derived from the log, so a flush would only hold up those that the log waits for. What a power loss leaves of
//! its files is found by their checksums (tantivy's for those that are written once, one of our own for those that are replaced), and
//! then the index is built anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tantivy::directory::error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
};

/// Ends a file that is replaced as a whole: the CRC-32C of what is before.
const CHECKSUM_BYTES: usize = 4;

/// A directory of index files.
#[derive(Clone, Debug)]
pub(crate) struct IndexDirectory {
    path: PathBuf,
    mapped: MmapDirectory,
}

impl IndexDirectory {
    /// Opens the directory, which is made if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenDirectoryError> {
        fs::create_dir_all(path)
            .map_err(|error| OpenDirectoryError::wrap_io_error(error, path.to_owned()))?;
        Ok(Self { path: path.to_owned(), mapped: MmapDirectory::open(path)? })
    }
}

/// A file that is closed without a flush.
struct Unflushed(File);

impl Write for Unflushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TerminatingWrite for Unflushed {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.flush()
    }
}

impl Directory for IndexDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.mapped.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.mapped.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.mapped.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.path.join(path));
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_owned()),
            _ => OpenWriteError::wrap_io_error(error, path.to_owned()),
        })?;
        Ok(BufWriter::new(Box::new(Unflushed(file))))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let mut bytes = self.mapped.atomic_read(path)?;
        let damaged = || {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the checksum does not match");
            OpenReadError::wrap_io_error(error, path.to_owned())
        };
        let end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(damaged)?;
        let stated = bytes.get(end..).and_then(|tail| tail.try_into().ok()).map(u32::from_le_bytes);
        bytes.truncate(end);
        if stated == Some(crc32c::crc32c(&bytes)) { Ok(bytes) } else { Err(damaged()) }
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let target = self.path.join(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let written = self.path.join(format!("{name}.new"));
        let mut file = File::create(&written)?;
        file.write_all(data)?;
        file.write_all(&crc32c::crc32c(data).to_le_bytes())?;
        drop(file);
        fs::rename(written, target)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.mapped.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.mapped.watch(callback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let directory = IndexDirectory::open(dir.path()).unwrap();
        let name = Path::new("meta.json");
        directory.atomic_write(name, b"{\"a\":1}").unwrap();
        assert_eq!(directory.atomic_read(name).unwrap(), b"{\"a\":1}");
        let path = dir.path().join(name);
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(directory.atomic_read(name).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(directory.atomic_read(name).is_err(), "{length} bytes");
        }
    }
}
