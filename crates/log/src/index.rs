//! A segment's index: which batch begins where, by offset and by time, every `index.interval.bytes`.
//!
//! Each entry carries its own check, so that a damaged index is noticed where it is used, and then made again.

use std::io::{self, IoSlice};

use chronik_records::{BatchHeader, HEADER_SIZE};

use crate::disk::DiskFile;
use crate::segment::{ScanFault, Scanner};

/// Bytes of an entry.
pub(crate) const ENTRY_SIZE: u64 = 16;
/// Times have 48 bits here: they reach to the year 6429.
const TIME_MAX: i64 = (1 << 47) - 1;

/// One entry: the batch with offset `offset` (or, in a sealed segment's last entry, the segment's end) is at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: i64,
    pub(crate) position: u64,
    /// Largest timestamp of the segment's batches before `position`; -1 if there is none.
    pub(crate) max_timestamp_before: i64,
}

impl IndexEntry {
    pub(crate) fn encode(&self, base: i64) -> [u8; ENTRY_SIZE as usize] {
        let mut out = [0; ENTRY_SIZE as usize];
        let relative = u32::try_from(self.offset - base).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&relative.to_le_bytes());
        out[4..8].copy_from_slice(&u32::try_from(self.position).unwrap_or(u32::MAX).to_le_bytes());
        let time = self.max_timestamp_before.clamp(-1, TIME_MAX).to_le_bytes();
        out[8..14].copy_from_slice(&time[..6]);
        let check = check(base, &out[..14]);
        out[14..].copy_from_slice(&check.to_le_bytes());
        out
    }

    fn decode(base: i64, bytes: &[u8; ENTRY_SIZE as usize]) -> Option<Self> {
        let [o0, o1, o2, o3, p0, p1, p2, p3, t0, t1, t2, t3, t4, t5, c0, c1] = *bytes;
        if check(base, bytes.get(..14)?) != u16::from_le_bytes([c0, c1]) {
            return None;
        }
        // The sign of the 48 bits is carried on.
        let time = i64::from_le_bytes([0, 0, t0, t1, t2, t3, t4, t5]) >> 16;
        Some(Self {
            offset: base.checked_add(i64::from(u32::from_le_bytes([o0, o1, o2, o3])))?,
            position: u64::from(u32::from_le_bytes([p0, p1, p2, p3])),
            max_timestamp_before: time,
        })
    }
}

fn check(base: i64, bytes: &[u8]) -> u16 {
    crc32c::crc32c_append(crc32c::crc32c(&base.to_le_bytes()), bytes) as u16
}

/// Why an index doesn't answer.
#[derive(Debug)]
pub(crate) enum IndexFault {
    Io(io::Error),
    /// An entry is not what was written.
    Bad,
}

/// Entries of an index file.
pub(crate) struct Index<'a> {
    file: &'a dyn DiskFile,
    base: i64,
    count: u64,
}

impl<'a> Index<'a> {
    /// The first `count` entries of the index of segment `base`.
    pub(crate) fn new(file: &'a dyn DiskFile, base: i64, count: u64) -> Self {
        Self { file, base, count }
    }

    pub(crate) fn entry(&self, i: u64) -> Result<IndexEntry, IndexFault> {
        let mut bytes = [0; ENTRY_SIZE as usize];
        let read = self.file.read_at(&mut bytes, i * ENTRY_SIZE).map_err(IndexFault::Io)?;
        if read < bytes.len() {
            return Err(IndexFault::Bad);
        }
        IndexEntry::decode(self.base, &bytes).ok_or(IndexFault::Bad)
    }

    /// The last entry that satisfies `holds`, which must hold for none after the first for which it doesn't.
    fn last_that(&self, holds: impl Fn(&IndexEntry) -> bool) -> Result<Option<IndexEntry>, IndexFault> {
        let (mut low, mut high, mut found) = (0, self.count, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            if holds(&entry) {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// The last entry at or before `offset`.
    pub(crate) fn by_offset(&self, offset: i64) -> Result<Option<IndexEntry>, IndexFault> {
        self.last_that(|e| e.offset <= offset)
    }

    /// The last place at or before `position` where a batch begins or the segment ends.
    pub(crate) fn by_position(&self, position: u64) -> Result<Option<IndexEntry>, IndexFault> {
        self.last_that(|e| e.position <= position)
    }

    /// The entry from which a search for the first batch with a timestamp of at least `timestamp` may begin.
    pub(crate) fn by_timestamp(&self, timestamp: i64) -> Result<Option<IndexEntry>, IndexFault> {
        self.last_that(|e| e.max_timestamp_before < timestamp)
    }

    /// The entry that ends a sealed segment's index.
    pub(crate) fn last(&self) -> Result<Option<IndexEntry>, IndexFault> {
        match self.count {
            0 => Ok(None),
            n => self.entry(n - 1).map(Some),
        }
    }
}

/// Whether the batch that an entry names is in the segment, where it says. The index is not flushed, so a power loss may
/// bring entries back that an earlier run wrote.
pub(crate) fn confirm(log: &dyn DiskFile, entry: &IndexEntry) -> Result<(), IndexFault> {
    let mut header = [0; HEADER_SIZE];
    let read = log.read_at(&mut header, entry.position).map_err(IndexFault::Io)?;
    match BatchHeader::parse(header.get(..read).unwrap_or_default()) {
        Ok(header) if header.base_offset == entry.offset => Ok(()),
        _ => Err(IndexFault::Bad),
    }
}

/// Decides which batches get an entry, while a segment grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexCursor {
    /// Entries so far.
    pub(crate) count: u64,
    /// Position of the last one.
    pub(crate) last_position: u64,
    /// Largest timestamp so far; -1 at the start.
    pub(crate) max_timestamp: i64,
}

impl Default for IndexCursor {
    fn default() -> Self {
        Self { count: 0, last_position: 0, max_timestamp: -1 }
    }
}

impl IndexCursor {
    /// Takes note of a batch; adds its entry to `out` if it is due.
    pub(crate) fn batch(
        &mut self,
        base: i64,
        offset: i64,
        position: u64,
        max_timestamp: i64,
        interval: u64,
        out: &mut Vec<u8>,
    ) {
        if position >= self.last_position + interval.max(1) {
            self.put(base, offset, position, out);
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// Adds the entry that ends the index of a sealed segment.
    pub(crate) fn seal(&mut self, base: i64, next_offset: i64, size: u64, out: &mut Vec<u8>) {
        self.put(base, next_offset, size, out);
    }

    fn put(&mut self, base: i64, offset: i64, position: u64, out: &mut Vec<u8>) {
        let entry = IndexEntry { offset, position, max_timestamp_before: self.max_timestamp };
        out.extend_from_slice(&entry.encode(base));
        self.count += 1;
        self.last_position = position;
    }
}

/// Makes the index of the first `size` bytes of a segment again, whose batches lie below offset `end`. Gives its bytes and where it stands; `sealed` adds the
/// entry that ends it.
pub(crate) fn rebuild(
    log: &dyn DiskFile,
    base: i64,
    end: i64,
    size: u64,
    interval: u64,
    sealed: bool,
) -> Result<(Vec<u8>, IndexCursor), ScanFault> {
    let mut cursor = IndexCursor::default();
    let mut out = Vec::new();
    let mut next_offset = base;
    let mut scanner = Scanner::new(log, 0, size);
    while let Some((position, header)) = scanner.next_header()? {
        if header.base_offset < next_offset {
            let what = format!("offset {} after {}", header.base_offset, next_offset - 1);
            return Err(ScanFault::Bad { position, what });
        }
        if header.last_offset() >= end {
            let what = format!("a batch ends at offset {}, its segment before {end}", header.last_offset());
            return Err(ScanFault::Bad { position, what });
        }
        cursor.batch(base, header.base_offset, position, header.max_timestamp, interval, &mut out);
        next_offset = header.next_offset();
    }
    if sealed {
        cursor.seal(base, next_offset, size, &mut out);
    }
    Ok((out, cursor))
}

/// Writes a whole index.
pub(crate) fn write(file: &dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.write_at(&mut [IoSlice::new(bytes)], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_check_themselves() {
        for time in [-1, 0, 1_700_000_000_000, TIME_MAX] {
            let entry = IndexEntry { offset: 1_000_007, position: 4097, max_timestamp_before: time };
            let bytes = entry.encode(1_000_000);
            assert_eq!(IndexEntry::decode(1_000_000, &bytes), Some(entry));
            assert_eq!(IndexEntry::decode(1_000_001, &bytes), None);
            for i in 0..16 {
                let mut flipped = bytes;
                flipped[i] ^= 0x10;
                assert_eq!(IndexEntry::decode(1_000_000, &flipped), None, "byte {i}");
            }
        }
        assert_eq!(IndexEntry::decode(0, &[0; 16]), None);
    }
}
