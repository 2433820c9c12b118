//! Open segment and index files: opened when touched, bounded in number, the least recently used closed first.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::sync::Lock;

/// What a file is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    Log,
    Index,
}

/// Names a file: the partition's serial number in this process, the segment, and which of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    pub(crate) partition: u64,
    pub(crate) segment: i64,
    pub(crate) kind: FileKind,
}

struct Cached {
    file: Arc<dyn DiskFile>,
    used: u64,
}

#[derive(Default)]
struct Inner {
    files: HashMap<FileKey, Cached>,
    clock: u64,
    /// Rises when files are forgotten: what was opened meanwhile may be one that is gone from its folder.
    forgotten: u64,
}

/// The open files. A file that somebody still holds stays open until that is dropped, even if it left the cache.
pub(crate) struct FileCache {
    inner: Mutex<Inner>,
    limit: usize,
}

impl FileCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), limit: limit.max(8) }
    }

    /// The file, from the cache or opened at the path that `path` gives.
    pub(crate) fn get(
        &self,
        disk: &dyn Disk,
        key: FileKey,
        mode: OpenMode,
        path: impl FnOnce() -> io::Result<std::path::PathBuf>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let forgotten = {
            let mut inner = self.inner.hold();
            inner.clock += 1;
            let clock = inner.clock;
            if let Some(cached) = inner.files.get_mut(&key) {
                cached.used = clock;
                return Ok(cached.file.clone());
            }
            inner.forgotten
        };
        // A file found for reading may later be written: there is one handle for both. A folder or file system that
        // has become read-only still serves readers.
        let path = path()?;
        let file = match open(disk, &path, mode) {
            Err(e) if mode == OpenMode::Read && e.kind() != io::ErrorKind::NotFound => {
                disk.open(&path, OpenMode::Read)?
            }
            other => other?,
        };
        let mut inner = self.inner.hold();
        if inner.forgotten != forgotten {
            return Ok(file);
        }
        if inner.files.len() >= self.limit {
            inner.evict(self.limit);
        }
        let used = inner.clock;
        Ok(inner.files.entry(key).or_insert(Cached { file, used }).file.clone())
    }

    /// Forgets a file, before it is replaced or removed.
    pub(crate) fn forget(&self, key: FileKey) {
        let mut inner = self.inner.hold();
        inner.forgotten += 1;
        inner.files.remove(&key);
    }

    /// Forgets all files of a partition.
    pub(crate) fn forget_partition(&self, partition: u64) {
        let mut inner = self.inner.hold();
        inner.forgotten += 1;
        inner.files.retain(|key, _| key.partition != partition);
    }

    /// Files open through the cache.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.inner.hold().files.len()
    }
}

fn open(disk: &dyn Disk, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
    let mode = if mode == OpenMode::Create { OpenMode::Create } else { OpenMode::Write };
    disk.open(path, mode)
}

impl Inner {
    /// Closes the least recently used eighth.
    fn evict(&mut self, limit: usize) {
        let mut used: Vec<u64> = self.files.values().map(|c| c.used).collect();
        used.sort_unstable();
        let threshold = used.get((limit / 8).max(1)).copied().unwrap_or(u64::MAX);
        self.files.retain(|_, c| c.used >= threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedDisk;
    use std::path::PathBuf;

    #[test]
    fn the_least_recently_used_files_are_closed() {
        let disk = SimulatedDisk::new(0);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let cache = FileCache::new(16);
        let key = |segment| FileKey { partition: 1, segment, kind: FileKind::Log };
        let open = |segment: i64| {
            let path = || Ok(PathBuf::from(format!("/d/{segment}")));
            cache.get(&disk, key(segment), OpenMode::Create, path).unwrap()
        };
        let held = open(0);
        for segment in 1..100 {
            open(segment);
            open(7);
            assert!(cache.len() <= 16);
        }
        assert!(cache.inner.hold().files.contains_key(&key(7)));
        assert!(!cache.inner.hold().files.contains_key(&key(0)));
        assert_eq!(held.len().unwrap(), 0);
        cache.forget_partition(1);
        assert_eq!(cache.len(), 0);
        // A file that was forgotten while it was being opened is not kept.
        let path = || {
            cache.forget(key(3));
            Ok(PathBuf::from("/d/3"))
        };
        cache.get(&disk, key(3), OpenMode::Create, path).unwrap();
        assert_eq!(cache.len(), 0);
    }
}
