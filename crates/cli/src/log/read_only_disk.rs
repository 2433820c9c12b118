//! A disk over the machine's own that keeps every change to itself: a log can be opened, and recovered, without a byte
//! of it being written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chronik_log::disk::{Disk, DiskFile, OpenMode, OsDisk};

/// What is kept of a change: whole pages.
const PAGE: u64 = 4096;

/// The disk.
#[derive(Default)]
pub struct ReadOnlyDisk {
    changes: Mutex<Changes>,
}

#[derive(Default)]
struct Changes {
    /// Files that were opened, under the name they have now.
    files: HashMap<PathBuf, Arc<KeptFile>>,
    /// Names that are gone, though the machine's disk has them.
    removed: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
}

/// A file with what was written to it since it was opened.
struct KeptFile {
    below: Option<Arc<dyn DiskFile>>,
    kept: Mutex<Kept>,
}

struct Kept {
    length: u64,
    /// How much of the file below still shows; what lies beyond was cut off at some time.
    below_length: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Changes {
    fn is_removed(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.removed.contains(above))
    }

    /// The file of that name, if there is one.
    fn file(&mut self, path: &Path) -> io::Result<Arc<KeptFile>> {
        if let Some(file) = self.files.get(path) {
            return Ok(file.clone());
        }
        if self.is_removed(path) {
            return Err(missing());
        }
        let file = Arc::new(KeptFile::over(OsDisk.open(path, OpenMode::Read)?)?);
        self.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut changes = lock(&self.changes);
        match changes.file(path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == OpenMode::Create => {
                let file = Arc::new(KeptFile::empty());
                changes.files.insert(path.to_owned(), file.clone());
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        // Folders are renamed only to be removed.
        let file = changes.file(from)?;
        changes.files.remove(from);
        changes.removed.insert(from.to_owned());
        changes.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        changes.files.remove(path);
        changes.removed.insert(path.to_owned());
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        changes.files.retain(|file, _| !file.starts_with(path));
        changes.folders.retain(|folder| !folder.starts_with(path));
        changes.removed.insert(path.to_owned());
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.changes).folders.insert(path.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let changes = lock(&self.changes);
        let mut names = BTreeSet::new();
        if !changes.is_removed(path) {
            names.extend(
                OsDisk.list(path)?.into_iter().filter(|name| !changes.removed.contains(&path.join(name))),
            );
        }
        let kept =
            changes.files.keys().chain(&changes.folders).filter_map(|kept| kept.strip_prefix(path).ok());
        let first_parts = kept.filter_map(|kept| kept.components().next());
        names.extend(first_parts.filter_map(|part| part.as_os_str().to_str().map(str::to_owned)));
        Ok(names.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let changes = lock(&self.changes);
        changes.files.contains_key(path)
            || changes.folders.contains(path)
            || !changes.is_removed(path) && path.exists()
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        lock(&self.changes).file(path)?.len()
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl KeptFile {
    fn empty() -> Self {
        let kept = Kept { length: 0, below_length: 0, pages: BTreeMap::new() };
        Self { below: None, kept: Mutex::new(kept) }
    }

    fn over(below: Arc<dyn DiskFile>) -> io::Result<Self> {
        let length = below.len()?;
        let kept = Kept { length, below_length: length, pages: BTreeMap::new() };
        Ok(Self { below: Some(below), kept: Mutex::new(kept) })
    }

    /// Reads what the file below shows at `position`; beyond that there are zeros.
    fn read_below(&self, kept: &Kept, buffer: &mut [u8], position: u64) -> io::Result<()> {
        buffer.fill(0);
        let shown = usize::try_from(kept.below_length.saturating_sub(position)).unwrap_or(usize::MAX);
        let shown = shown.min(buffer.len());
        if let (Some(below), Some(buffer)) = (&self.below, buffer.get_mut(..shown)) {
            below.read_at(buffer, position)?;
        }
        Ok(())
    }
}

/// The page of a position, and the place in it.
fn place(position: u64) -> (u64, usize) {
    (position / PAGE, usize::try_from(position % PAGE).unwrap_or_default())
}

impl DiskFile for KeptFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let kept = lock(&self.kept);
        let count =
            usize::try_from(kept.length.saturating_sub(position)).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..count) else { return Ok(0) };
        self.read_below(&kept, buffer, position)?;
        let pages = kept.pages.range(position / PAGE..=(position + count as u64) / PAGE);
        for (page, bytes) in pages {
            let start = page * PAGE;
            let from = position.max(start);
            let to = (position + count as u64).min(start + PAGE);
            if from < to {
                let target = (from - position) as usize..(to - position) as usize;
                let source = (from - start) as usize..(to - start) as usize;
                if let (Some(target), Some(source)) = (buffer.get_mut(target), bytes.get(source)) {
                    target.copy_from_slice(source);
                }
            }
        }
        Ok(count)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        let mut kept = lock(&self.kept);
        for slice in slices.iter() {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                let (page, start) = place(position);
                if !kept.pages.contains_key(&page) {
                    let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                    self.read_below(&kept, &mut bytes, page * PAGE)?;
                    kept.pages.insert(page, bytes);
                }
                let count = rest.len().min(PAGE as usize - start);
                let (now, later) = rest.split_at(count);
                if let Some(target) =
                    kept.pages.get_mut(&page).and_then(|bytes| bytes.get_mut(start..start + count))
                {
                    target.copy_from_slice(now);
                }
                position += count as u64;
                rest = later;
            }
        }
        kept.length = kept.length.max(position);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.kept).length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut kept = lock(&self.kept);
        kept.length = length;
        kept.below_length = kept.below_length.min(length);
        let (last, start) = place(length);
        kept.pages.retain(|page, _| *page <= last);
        if let Some(rest) = kept.pages.get_mut(&last).and_then(|bytes| bytes.get_mut(start..)) {
            rest.fill(0);
        }
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_and_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let original: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &original).unwrap();
        let disk = ReadOnlyDisk::default();
        let file = disk.open(&path, OpenMode::Write).unwrap();
        let mut expected = original.clone();

        file.write_at(&mut [IoSlice::new(&[1; 5000]), IoSlice::new(&[2; 10])], 4000).unwrap();
        expected[4000..9000].fill(1);
        expected[9000..9010].fill(2);
        file.set_len(9005).unwrap();
        file.set_len(9100).unwrap();
        expected.truncate(9005);
        expected.resize(9100, 0);
        file.write_at(&mut [IoSlice::new(b"end")], 20_000).unwrap();
        expected.resize(20_000, 0);
        expected.extend_from_slice(b"end");

        let mut read = vec![9; 30_000];
        let count = disk.open(&path, OpenMode::Read).unwrap().read_at(&mut read, 0).unwrap();
        assert!(read[..count] == expected);
        for position in [0u64, 1, 4095, 4096, 8999, 12_000, 20_002] {
            let mut read = [9; 5000];
            let count = file.read_at(&mut read, position).unwrap();
            let rest = &expected[position as usize..];
            assert!(read[..count] == rest[..rest.len().min(5000)], "{position}");
        }
        assert!(std::fs::read(&path).unwrap() == original);
    }

    #[test]
    fn names_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "a").unwrap();
        std::fs::create_dir(path("below")).unwrap();
        std::fs::write(path("below/b"), "b").unwrap();
        let disk = ReadOnlyDisk::default();
        assert_eq!(disk.list(folder.path()).unwrap(), ["a", "below"]);
        disk.rename(&path("a"), &path("c")).unwrap();
        disk.open(&path("new/d"), OpenMode::Create).unwrap();
        assert_eq!(disk.list(folder.path()).unwrap(), ["below", "c", "new"]);
        assert!(disk.open(&path("a"), OpenMode::Read).is_err());
        assert_eq!(disk.file_len(&path("c")).unwrap(), 1);
        disk.remove_dir_all(&path("below")).unwrap();
        assert!(!disk.exists(&path("below/b")) && disk.open(&path("below/b"), OpenMode::Read).is_err());
        assert!(path("below/b").exists() && path("a").exists());
    }
}
