//! A disk in memory that behaves as badly as a real one may: it forgets what was never flushed, tears writes, fills up,
//! fails flushes, flips bits. For the tests of the log and of those who build on it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::sync::Lock;

/// How a run of the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what it wrote is there.
    Kill,
    /// The machine loses its power: what was not flushed is there, is not there, or is torn, by chance.
    PowerLoss,
}

#[derive(Clone, Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    flushed: Vec<u8>,
    since_flush: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(u64),
}

#[derive(Default)]
struct Inner {
    inodes: HashMap<u64, Inode>,
    names: BTreeMap<PathBuf, Entry>,
    flushed_names: BTreeMap<PathBuf, Entry>,
    next_inode: u64,
    random: u64,
    /// Operations that change something, so far.
    operations: u64,
    /// At this operation the run ends: it is done in part, and all later ones fail.
    stop_at: Option<u64>,
    stopped: bool,
    capacity: Option<usize>,
    fail_flushes: bool,
    fail_writes: bool,
}

/// See the module's description. Clones share the disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
}

struct SimulatedFile {
    inner: Arc<Mutex<Inner>>,
    inode: u64,
}

/// What survives a torn write is a multiple of this.
const SECTOR: usize = 512;

fn stopped() -> io::Error {
    io::Error::other("the simulated node has stopped")
}

impl Inner {
    fn random(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    /// Counts an operation. `Ok(true)` if it is to be done in part, as the last one.
    fn operation(&mut self) -> io::Result<bool> {
        if self.stopped {
            return Err(stopped());
        }
        self.operations += 1;
        if self.stop_at.is_some_and(|at| self.operations >= at) {
            self.stopped = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn used(&self) -> usize {
        let files = self.names.values().filter_map(|e| match e {
            Entry::File(inode) => self.inodes.get(inode),
            Entry::Folder => None,
        });
        files.map(|i| i.now.len()).sum()
    }

    fn children(names: &BTreeMap<PathBuf, Entry>, folder: &Path) -> Vec<(PathBuf, Entry)> {
        names.iter().filter(|(path, _)| path.parent() == Some(folder)).map(|(p, e)| (p.clone(), *e)).collect()
    }

    fn inode_of(&self, path: &Path) -> Option<u64> {
        match self.names.get(path) {
            Some(Entry::File(inode)) => Some(*inode),
            _ => None,
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write { position, bytes: new } => {
            let end = position + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(place) = bytes.get_mut(*position..end) {
                place.copy_from_slice(new);
            }
        }
    }
}

impl SimulatedDisk {
    /// An empty disk. `seed` decides what a power loss takes.
    pub fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.inner.hold().random = seed;
        disk
    }

    /// Ends the run at the operation that comes after `operations` more: it is done in part, and all later ones fail.
    pub fn stop_after(&self, operations: u64) {
        let mut inner = self.inner.hold();
        inner.stop_at = Some(inner.operations + operations);
    }

    /// Operations so far that change something.
    pub fn operations(&self) -> u64 {
        self.inner.hold().operations
    }

    /// True once the run has ended.
    pub fn is_stopped(&self) -> bool {
        self.inner.hold().stopped
    }

    /// The disk as the next start finds it. This one answers nothing any more.
    pub fn crash(&self, how: Crash) -> Self {
        let mut inner = self.inner.hold();
        inner.stopped = true;
        let mut next =
            Inner { random: inner.random(u64::MAX), next_inode: inner.next_inode, ..Inner::default() };
        next.capacity = inner.capacity;
        match how {
            Crash::Kill => next.names = inner.names.clone(),
            Crash::PowerLoss => {
                next.names = inner.flushed_names.clone();
                // Changes of names that were not flushed may have come through; each by itself.
                let all: Vec<PathBuf> =
                    inner.names.keys().chain(inner.flushed_names.keys()).cloned().collect();
                for path in all {
                    if inner.random(2) == 0 {
                        match inner.names.get(&path) {
                            Some(entry) => next.names.insert(path, *entry),
                            None => next.names.remove(&path),
                        };
                    }
                }
                let orphans: Vec<PathBuf> = next
                    .names
                    .keys()
                    .filter(|p| {
                        p.ancestors()
                            .skip(1)
                            .any(|a| inner.names.contains_key(a) && !next.names.contains_key(a))
                    })
                    .cloned()
                    .collect();
                for path in orphans {
                    next.names.remove(&path);
                }
            }
        }
        next.flushed_names = next.names.clone();
        let inodes: Vec<(u64, Inode)> = inner.inodes.iter().map(|(id, inode)| (*id, inode.clone())).collect();
        for (id, inode) in inodes {
            let bytes = match how {
                Crash::Kill => inode.now,
                Crash::PowerLoss => survivors(&mut inner, inode),
            };
            next.inodes.insert(id, Inode { now: bytes.clone(), flushed: bytes, since_flush: Vec::new() });
        }
        Self { inner: Arc::new(Mutex::new(next)) }
    }

    /// Limits the bytes that all files together may have; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.inner.hold().capacity = bytes;
    }

    /// Lets every flush fail, or work again.
    pub fn fail_flushes(&self, fail: bool) {
        self.inner.hold().fail_flushes = fail;
    }

    /// Lets every write fail, or work again.
    pub fn fail_writes(&self, fail: bool) {
        self.inner.hold().fail_writes = fail;
    }

    /// Changes one bit of a file, for good. False if the file does not reach there.
    pub fn flip(&self, path: &Path, position: usize, bit: u8) -> bool {
        let mut inner = self.inner.hold();
        let Some(inode) = inner.inode_of(path).and_then(|id| inner.inodes.get_mut(&id)) else { return false };
        let mut done = false;
        for bytes in [&mut inode.now, &mut inode.flushed] {
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= 1 << (bit % 8);
                done = true;
            }
        }
        done
    }

    /// All files, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let inner = self.inner.hold();
        let files = inner.names.iter().filter_map(|(path, entry)| match entry {
            Entry::File(id) => Some((path.clone(), inner.inodes.get(id)?.now.len())),
            Entry::Folder => None,
        });
        files.collect()
    }
}

/// What a power loss leaves of a file.
fn survivors(inner: &mut Inner, inode: Inode) -> Vec<u8> {
    let mut bytes = inode.flushed;
    for change in &inode.since_flush {
        match change {
            Change::Length(_) if inner.random(2) == 0 => {}
            Change::Length(_) => apply(&mut bytes, change),
            Change::Write { position, bytes: new } => {
                // All of it, nothing, or some of its sectors.
                match inner.random(4) {
                    0 => {}
                    1 | 2 => apply(&mut bytes, change),
                    _ => {
                        for (i, sector) in new.chunks(SECTOR).enumerate() {
                            if inner.random(2) == 0 {
                                let position = position + i * SECTOR;
                                apply(&mut bytes, &Change::Write { position, bytes: sector.to_vec() });
                            }
                        }
                    }
                }
            }
        }
    }
    bytes
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner.hold();
        if inner.stopped {
            return Err(stopped());
        }
        let inode = match inner.names.get(path) {
            Some(Entry::File(inode)) => *inode,
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            None if mode == OpenMode::Create => {
                let parent = path.parent().unwrap_or(Path::new("")).to_owned();
                if !inner.names.contains_key(&parent) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                inner.operation()?;
                let inode = inner.next_inode;
                inner.next_inode += 1;
                inner.inodes.insert(inode, Inode::default());
                inner.names.insert(path.to_owned(), Entry::File(inode));
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimulatedFile { inner: self.inner.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.operation()? {
            return Err(stopped());
        }
        let entry = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), entry);
        let below: Vec<PathBuf> = inner.names.keys().filter(|p| p.starts_with(from)).cloned().collect();
        for path in below {
            if let (Ok(rest), Some(entry)) = (path.strip_prefix(from), inner.names.get(&path).copied()) {
                let moved = to.join(rest);
                inner.names.remove(&path);
                inner.names.insert(moved, entry);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.operation()? {
            return Err(stopped());
        }
        inner.names.remove(path);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.operation()? {
            return Err(stopped());
        }
        inner.names.retain(|p, _| !p.starts_with(path));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.stopped {
            return Err(stopped());
        }
        for folder in path.ancestors() {
            if !inner.names.contains_key(folder) {
                inner.operation()?;
                inner.names.insert(folder.to_owned(), Entry::Folder);
                // The root of the disk, and what holds the data directory, was there before.
                if folder.parent().is_none_or(|p| p.parent().is_none()) {
                    inner.flushed_names.insert(folder.to_owned(), Entry::Folder);
                }
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.operation()? {
            return Err(stopped());
        }
        if inner.fail_flushes {
            return Err(io::Error::other("simulated failure of a flush"));
        }
        if !inner.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (gone, _) in Inner::children(&inner.flushed_names, path) {
            inner.flushed_names.remove(&gone);
        }
        for (path, entry) in Inner::children(&inner.names, path) {
            inner.flushed_names.insert(path, entry);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner.hold();
        if inner.stopped {
            return Err(stopped());
        }
        let names = Inner::children(&inner.names, path);
        Ok(names.iter().filter_map(|(p, _)| Some(p.file_name()?.to_str()?.to_owned())).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.hold().names.contains_key(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let inner = self.inner.hold();
        let inode =
            inner.inode_of(path).and_then(|id| inner.inodes.get(&id)).ok_or(io::ErrorKind::NotFound)?;
        Ok(inode.now.len() as u64)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let inner = self.inner.hold();
        Ok(inner.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(inner.used()) as u64))
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let inner = self.inner.hold();
        if inner.stopped {
            return Err(stopped());
        }
        let Some(inode) = inner.inodes.get(&self.inode) else { return Ok(0) };
        let rest = inode.now.get(position as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut inner = self.inner.hold();
        let last = inner.operation()?;
        if inner.fail_writes {
            return Err(io::Error::other("simulated failure of a write"));
        }
        let mut bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let whole = bytes.len();
        let position = position as usize;
        if last {
            let keep = inner.random(bytes.len() as u64 + 1) as usize;
            bytes.truncate(keep);
        }
        let length = inner.inodes.get(&self.inode).map_or(0, |i| i.now.len());
        let grows = (position + bytes.len()).saturating_sub(length);
        let full = inner.capacity.is_some_and(|capacity| inner.used() + grows > capacity);
        if full {
            let room = inner.capacity.unwrap_or(0).saturating_sub(inner.used());
            bytes.truncate((length + room).saturating_sub(position));
        }
        let change = Change::Write { position, bytes };
        if let Some(inode) = inner.inodes.get_mut(&self.inode) {
            apply(&mut inode.now, &change);
            inode.since_flush.push(change);
        }
        match (last, full) {
            (true, _) => Err(stopped()),
            (_, true) if whole > 0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.operation()? {
            return Err(stopped());
        }
        if inner.fail_flushes {
            return Err(io::Error::other("simulated failure of a flush"));
        }
        if let Some(inode) = inner.inodes.get_mut(&self.inode) {
            let changes = std::mem::take(&mut inode.since_flush);
            changes.iter().for_each(|change| apply(&mut inode.flushed, change));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.hold().inodes.get(&self.inode).map_or(0, |i| i.now.len() as u64))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.inner.hold();
        if inner.operation()? {
            return Err(stopped());
        }
        if let Some(inode) = inner.inodes.get_mut(&self.inode) {
            let change = Change::Length(length as usize);
            apply(&mut inode.now, &change);
            inode.since_flush.push(change);
        }
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let free = {
            let inner = self.inner.hold();
            inner.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(inner.used()) as u64)
        };
        let have = self.len()?;
        if length.saturating_sub(have) > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if length > have { self.set_len(length) } else { Ok(()) }
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}
