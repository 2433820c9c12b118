//! A disk that is only read: what is written stays in memory. With it, the offline commands recover a data directory
//! without changing it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, NoFile, OpenMode, OsDisk};
use crate::sync::Lock;

const PAGE: u64 = 4096;

/// See the module's description.
#[derive(Default)]
pub(crate) struct OverlayDisk {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: HashMap<PathBuf, Arc<OverlayFile>>,
    folders: BTreeSet<PathBuf>,
    removed: BTreeSet<PathBuf>,
}

struct OverlayFile {
    below: Arc<dyn DiskFile>,
    changes: Mutex<Changes>,
}

#[derive(Default)]
struct Changes {
    pages: HashMap<u64, Vec<u8>>,
    length: Option<u64>,
    /// How much of the file below still shows, if it was cut; what lies behind reads as zeros.
    shown: Option<u64>,
}

impl Inner {
    fn is_removed(&self, path: &Path) -> bool {
        path.ancestors().any(|p| self.removed.contains(p))
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner.hold();
        if let Some(file) = inner.files.get(path) {
            return Ok(file.clone());
        }
        let below: io::Result<Arc<dyn DiskFile>> = if inner.is_removed(path) {
            Err(io::ErrorKind::NotFound.into())
        } else {
            OsDisk.open(path, OpenMode::Read)
        };
        let below = match below {
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == OpenMode::Create => Arc::new(NoFile),
            other => other?,
        };
        let file = Arc::new(OverlayFile { below, changes: Mutex::default() });
        inner.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.open(from, OpenMode::Read);
        let mut inner = self.inner.hold();
        if file.is_ok()
            && let Some(file) = inner.files.remove(from)
        {
            inner.files.insert(to.to_owned(), file);
        }
        inner.removed.insert(from.to_owned());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        inner.files.remove(path);
        inner.removed.insert(path.to_owned());
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        inner.files.retain(|p, _| !p.starts_with(path));
        inner.removed.insert(path.to_owned());
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.hold().folders.insert(path.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let below = OsDisk.list(path)?;
        let inner = self.inner.hold();
        let mut names: BTreeSet<String> =
            below.into_iter().filter(|name| !inner.is_removed(&path.join(name))).collect();
        let ours = inner.files.keys().filter(|p| p.parent() == Some(path));
        names.extend(ours.filter_map(|p| Some(p.file_name()?.to_str()?.to_owned())));
        Ok(names.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let inner = self.inner.hold();
        inner.files.contains_key(path)
            || inner.folders.contains(path)
            || (!inner.is_removed(path) && path.exists())
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.open(path, OpenMode::Read)?.len()
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for OverlayFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let length = self.len()?;
        let count = usize::try_from(length.saturating_sub(position)).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..count) else { return Ok(0) };
        let changes = self.changes.hold();
        let shown = changes.shown.map_or(u64::MAX, |shown| shown.saturating_sub(position));
        let shown = usize::try_from(shown).unwrap_or(usize::MAX).min(count);
        let read = match buf.get_mut(..shown) {
            Some(buf) => self.below.read_at(buf, position)?,
            None => 0,
        };
        if let Some(rest) = buf.get_mut(read..) {
            rest.fill(0);
        }
        for page in position / PAGE..=(position + count as u64) / PAGE {
            let Some(bytes) = changes.pages.get(&page) else { continue };
            let start = page * PAGE;
            for (i, byte) in bytes.iter().enumerate() {
                let at = start + i as u64;
                if let Some(place) = at.checked_sub(position).and_then(|at| buf.get_mut(at as usize)) {
                    *place = *byte;
                }
            }
        }
        Ok(count)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let end = position + bytes.len() as u64;
        let length = self.len()?;
        for page in position / PAGE..end.div_ceil(PAGE) {
            let known = self.changes.hold().pages.contains_key(&page);
            if !known {
                let mut whole = vec![0; PAGE as usize];
                self.read_at(&mut whole, page * PAGE)?;
                self.changes.hold().pages.insert(page, whole);
            }
            let mut changes = self.changes.hold();
            let Some(whole) = changes.pages.get_mut(&page) else { continue };
            for (i, place) in whole.iter_mut().enumerate() {
                let at = page * PAGE + i as u64;
                if let Some(byte) = at.checked_sub(position).and_then(|at| bytes.get(at as usize)) {
                    *place = *byte;
                }
            }
        }
        self.changes.hold().length = Some(length.max(end));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        match self.changes.hold().length {
            Some(length) => Ok(length),
            None => self.below.len(),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changes = self.changes.hold();
        // What lies behind the new end reads as zeros if the file grows again.
        changes.shown = Some(changes.shown.map_or(length, |shown| shown.min(length)));
        changes.pages.retain(|page, _| page * PAGE < length);
        if let Some(last) = changes.pages.get_mut(&(length / PAGE)) {
            last.iter_mut().skip((length % PAGE) as usize).for_each(|b| *b = 0);
        }
        changes.length = Some(length);
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
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
    fn what_is_written_stays_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![1; 10_000]).unwrap();
        let disk = OverlayDisk::default();
        let file = disk.open(&path, OpenMode::Write).unwrap();
        file.write_at(&mut [IoSlice::new(&[2; 100])], 4_050).unwrap();
        file.write_at(&mut [IoSlice::new(&[3; 10])], 9_995).unwrap();
        let mut bytes = vec![9; 20_000];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 10_005);
        let expected = |i: usize| match i {
            4_050..4_150 => 2,
            9_995..10_005 => 3,
            _ => 1,
        };
        assert!(bytes[..10_005].iter().enumerate().all(|(i, b)| *b == expected(i)));
        file.set_len(4_100).unwrap();
        assert_eq!(file.len().unwrap(), 4_100);
        file.set_len(6_000).unwrap();
        file.write_at(&mut [IoSlice::new(&[4])], 9_000).unwrap();
        assert_eq!(file.read_at(&mut bytes, 4_099).unwrap(), 9_001 - 4_099);
        let cut = bytes[1..9_000 - 4_099].iter().all(|b| *b == 0);
        assert!(cut && bytes[0] == 2 && bytes[9_000 - 4_099] == 4, "what was cut off shows again");
        let other = dir.path().join("g");
        disk.rename(&path, &other).unwrap();
        assert_eq!(disk.list(dir.path()).unwrap(), ["g"]);
        assert!(!disk.exists(&path) && disk.exists(&other));
        assert_eq!(std::fs::read(&path).unwrap(), vec![1; 10_000]);
    }
}
