//! A segment's file: record batches, one after the other, and how to walk through them.

use std::io;
use std::path::{Path, PathBuf};

use chronik_records::{Batch, BatchHeader, HEADER_SIZE};

use crate::disk::DiskFile;
use crate::error::LogError;

/// Name of the segment that begins at offset `base`.
pub(crate) fn log_name(base: i64) -> String {
    format!("{base:020}.log")
}

/// Name of its index.
pub(crate) fn index_name(base: i64) -> String {
    format!("{base:020}.index")
}

/// The base offset in a segment's name.
pub(crate) fn parse_log_name(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Bytes read at a time when headers are walked through.
const WINDOW: usize = 64 << 10;

/// Why a walk stopped before its end.
#[derive(Debug)]
pub(crate) enum ScanFault {
    /// The operating system said no.
    Io(io::Error),
    /// There is something else than a batch.
    Bad { position: u64, what: String },
}

impl ScanFault {
    /// The error for a file that ought to be whole.
    pub(crate) fn into_error(self, path: &Path) -> LogError {
        match self {
            ScanFault::Io(source) => LogError::Io { action: "read", path: path.to_owned(), source },
            ScanFault::Bad { position, what } => LogError::Damaged { path: path.to_owned(), position, what },
        }
    }
}

/// Walks through the batches between two positions of a file.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Scanner<'a> {
    /// From `position` (where a batch begins) to `end`.
    pub(crate) fn new(file: &'a dyn DiskFile, position: u64, end: u64) -> Self {
        Self { file, position, end, window: Vec::new(), window_start: 0 }
    }

    /// The next header and where it is; `None` at the end. The batch itself is not read.
    pub(crate) fn next_header(&mut self) -> Result<Option<(u64, BatchHeader)>, ScanFault> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let header = BatchHeader::parse(self.bytes(HEADER_SIZE)?)
            .map_err(|e| ScanFault::Bad { position, what: e.to_string() })?;
        let size = header.total_size() as u64;
        if position + size > self.end {
            let what = format!("a batch of {size} bytes where {} are left", self.end - position);
            return Err(ScanFault::Bad { position, what });
        }
        if header.base_offset < 0 || header.last_offset_delta < 0 {
            let what = format!("offsets {} + {}", header.base_offset, header.last_offset_delta);
            return Err(ScanFault::Bad { position, what });
        }
        self.position += size;
        Ok(Some((position, header)))
    }

    /// The next batch, its CRC checked, and where it is; `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<(u64, Batch<'_>)>, ScanFault> {
        let Some((position, header)) = self.next_header()? else { return Ok(None) };
        self.position = position;
        let size = header.total_size();
        let bytes = self.bytes(size)?;
        let bad = |what: String| ScanFault::Bad { position, what };
        if bytes.len() < size {
            return Err(bad(format!("a batch of {size} bytes where {} are left", bytes.len())));
        }
        // A second look-up of what is in the window now, for the borrow checker's sake.
        self.position = position + size as u64;
        let from = (position - self.window_start) as usize;
        let bytes = self.window.get(from..from + size).unwrap_or_default();
        let batch = Batch::parse(bytes).map_err(|e| bad(e.to_string()))?;
        batch.verify_crc().map_err(|e| bad(e.to_string()))?;
        Ok(Some((position, batch)))
    }

    /// The next batch that ends at `offset` or above. Those before it are passed over unread: below a log's start there may
    /// be what a power loss left of them.
    pub(crate) fn next_batch_from(&mut self, offset: i64) -> Result<Option<(u64, Batch<'_>)>, ScanFault> {
        loop {
            let Some((position, header)) = self.next_header()? else { return Ok(None) };
            if header.last_offset() >= offset {
                self.position = position;
                return self.next_batch();
            }
        }
    }

    /// Up to `count` bytes at the current position; fewer only at the file's end.
    fn bytes(&mut self, count: usize) -> Result<&[u8], ScanFault> {
        let in_window = |start: u64, len: usize, position: u64| {
            position >= start && position + count as u64 <= start + len as u64
        };
        if !in_window(self.window_start, self.window.len(), self.position) {
            let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            let want = count.max(WINDOW).min(left.max(count));
            self.window.resize(want, 0);
            let read = self.file.read_at(&mut self.window, self.position).map_err(ScanFault::Io)?;
            self.window.truncate(read);
            self.window_start = self.position;
        }
        let from = (self.position - self.window_start) as usize;
        let to = (from + count).min(self.window.len());
        Ok(self.window.get(from..to).unwrap_or_default())
    }
}

/// A segment that takes no more batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Offset that the file's name gives.
    pub(crate) base: i64,
    /// Bytes in it.
    pub(crate) size: u64,
    /// Largest timestamp in it; not known before somebody asked.
    pub(crate) max_timestamp: Option<i64>,
}

/// The folder of a partition's files.
pub(crate) fn partition_dir(root: &Path, name: &str) -> PathBuf {
    root.join("partitions").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_offsets_do() {
        assert_eq!(log_name(42), "00000000000000000042.log");
        assert_eq!(parse_log_name(&log_name(i64::MAX)), Some(i64::MAX));
        assert_eq!(parse_log_name("00000000000000000042.index"), None);
        assert_eq!(parse_log_name("-0000000000000000042.log"), None);
        assert!(log_name(99) < log_name(100));
    }
}
