//! The data directory: its lock, the version of its format, and where everything is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Version of the format that this build writes. `docs/storage-format.md` describes it.
pub const DATA_FORMAT_VERSION: u32 = 1;

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Another process holds it.
    #[error(
        "data directory {path} is in use by process {pid}; stop it, or give this node another --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock, as it wrote into the lock file; "unknown" if it didn't.
        pid: String,
    },
    /// A newer version wrote it.
    #[error(
        "data directory {path} has storage format {found}; this version understands formats up to {DATA_FORMAT_VERSION}: use the version that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// The operating system said no.
    #[error(
        "can't {action} {path}: {source}; check that the directory exists, is writable by this user, and has space"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
}

/// A data directory that this process holds the lock of, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// `None` for a simulated disk, which needs no lock.
    _lock: Option<File>,
}

impl DataDir {
    /// Makes the directory if it is missing, takes its lock, and checks its format.
    ///
    /// # Errors
    /// Another process holds it, a newer version wrote it, or the operating system says no.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(io_error("make", &path))?;
        let lock = take_lock(&path)?;
        check_format(&path)?;
        Ok(Self { path, _lock: Some(lock) })
    }

    /// A directory of a simulated disk: nobody else can have it, so there is no lock.
    pub fn simulated(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), _lock: None }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::Io { action, path, source }
}

/// The lock is the operating system's, so that it goes with the process however that ends; the number in the file only
/// serves the error message.
fn take_lock(dir: &Path) -> Result<File, LayoutError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim();
            let pid = if pid.is_empty() { "unknown".to_owned() } else { pid.to_owned() };
            return Err(LayoutError::InUse { path: dir.to_owned(), pid });
        }
        Err(e) => return Err(io_error("lock", &path)(e.into())),
    }
    // A full disk must not keep the node from starting, so failing to note the number is not an error.
    let _ =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn check_format(dir: &Path) -> Result<(), LayoutError> {
    let path = dir.join("format");
    match fs::read_to_string(&path) {
        // An empty file is what a power loss leaves of a first start: nothing else can be there yet.
        Ok(text) if !text.trim().is_empty() => match text.trim().parse::<u32>() {
            Ok(version) if version <= DATA_FORMAT_VERSION => Ok(()),
            _ => Err(LayoutError::NewerFormat { path: dir.to_owned(), found: text.trim().to_owned() }),
        },
        Ok(_) => write_format(&path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => write_format(&path),
        Err(e) => Err(io_error("read", &path)(e)),
    }
}

fn write_format(path: &Path) -> Result<(), LayoutError> {
    fs::write(path, format!("{DATA_FORMAT_VERSION}\n")).map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/data");
        let held = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err();
        assert!(matches!(&refused, LayoutError::InUse { pid, .. } if *pid == std::process::id().to_string()));
        assert!(refused.to_string().contains("--data-dir"));
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        DataDir::open(temporary.path()).unwrap();
        let format = temporary.path().join("format");
        assert_eq!(fs::read_to_string(&format).unwrap().trim(), DATA_FORMAT_VERSION.to_string());
        for (text, fits) in [("0", true), ("", true), ("2", false), ("x", false)] {
            fs::write(&format, text).unwrap();
            let opened = DataDir::open(temporary.path());
            assert_eq!(opened.is_ok(), fits, "{text:?}");
            if let Err(e) = opened {
                assert!(matches!(e, LayoutError::NewerFormat { .. }));
            }
        }
    }
}
