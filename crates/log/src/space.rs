//! Space on the disk: looked at now and then, so that writes are refused before the disk is full to the last byte.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::Disk;
use crate::options::LogOptions;

/// Kept free at least, on the smallest disks: what a checkpoint and the end of a group need.
const RESERVE_MIN: u64 = 1 << 20;
/// Kept free on large disks: what waits in memory for its segment can still be written.
const RESERVE_MAX: u64 = 64 << 20;
/// The free space is looked at after so many bytes at most.
const CHECK_BYTES: u64 = 8 << 20;

/// What is known of the space.
#[derive(Debug)]
pub(crate) struct Space {
    /// The most that was ever seen free: the reserve is a part of it.
    most_free: AtomicU64,
    written_since: AtomicU64,
    /// Look again after so many bytes.
    check_after: AtomicU64,
}

impl Space {
    pub(crate) fn new(disk: &dyn Disk, root: &Path) -> Self {
        let free = disk.free_bytes(root).unwrap_or(u64::MAX);
        let space = Self {
            most_free: AtomicU64::new(0),
            written_since: AtomicU64::new(0),
            check_after: AtomicU64::new(0),
        };
        space.note(free);
        space
    }

    /// Bytes that are kept free.
    pub(crate) fn reserve(&self) -> u64 {
        (self.most_free.load(Ordering::Relaxed) / 8).clamp(RESERVE_MIN, RESERVE_MAX)
    }

    /// The size at which a journal file is left: on a small disk the journal must not eat what the segments need.
    pub(crate) fn journal_file_bytes(&self, options: &LogOptions) -> u64 {
        options.journal_segment_bytes.min(self.most_free.load(Ordering::Relaxed) / 16).max(256 << 10)
    }

    fn note(&self, free: u64) {
        self.most_free.fetch_max(free, Ordering::Relaxed);
        self.written_since.store(0, Ordering::Relaxed);
        let over = free.saturating_sub(self.reserve());
        self.check_after.store((over / 4).clamp(64 << 10, CHECK_BYTES), Ordering::Relaxed);
    }

    /// Takes note of bytes written; looks at the disk if it is time. `Some(free)` if there is less than the reserve.
    pub(crate) fn wrote(&self, disk: &dyn Disk, root: &Path, bytes: u64) -> Option<u64> {
        let since = self.written_since.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if since < self.check_after.load(Ordering::Relaxed) {
            return None;
        }
        self.look(disk, root).err()
    }

    /// Looks at the disk. `Err(free)` if there is less than the reserve.
    pub(crate) fn look(&self, disk: &dyn Disk, root: &Path) -> Result<u64, u64> {
        // A file system that doesn't tell shows in the write itself when it is full.
        let free = disk.free_bytes(root).unwrap_or(u64::MAX);
        self.note(free);
        if free < self.reserve() { Err(free) } else { Ok(free) }
    }
}
