//! The checkpoint: how each partition stood, so that a start reads neither segments nor the journal before it.
//!
//! The file is a list of blocks, each with what changed since the one before; when it has grown to twice its size, it
//! is written anew and replaced at once. A block counts if it is whole.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_base::Uuid;

use crate::disk::{self, Disk, DiskFile, OpenMode};
use crate::index::IndexCursor;
use crate::journal::entry::JournalPosition;
use crate::manager::PartitionKey;
use crate::partition::producers::{BatchMark, Producer};

const MAGIC: [u8; 8] = *b"CHRCKPT1";
const BLOCK_MAGIC: u32 = 0x4b4c_4243;
/// Bytes before a block's payload: magic, length, CRC.
const BLOCK_HEADER: usize = 12;
/// A checkpoint larger than this is not read: 100,000 partitions with a thousand producers each stay below it.
const MAX_SIZE: u64 = 64 << 30;
/// The file is written anew when it has grown by its size and so much more.
const SLACK: u64 = 1 << 20;

/// How a partition stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) log_start: i64,
    pub(crate) end: i64,
    pub(crate) segment: i64,
    pub(crate) position: u64,
    pub(crate) created_ms: i64,
    pub(crate) index: IndexCursor,
    pub(crate) sealed_bytes: u64,
    pub(crate) applied: JournalPosition,
    pub(crate) cleaned_to: i64,
    pub(crate) cleaned_horizon_ms: i64,
    pub(crate) epochs: Vec<(i32, i64)>,
    pub(crate) producers: Vec<(i64, Producer)>,
    /// Why the partition is offline, if it is.
    pub(crate) offline: Option<String>,
}

/// One block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first journal file that a start has to read.
    pub(crate) replay_from: u64,
    /// The log was closed with it.
    pub(crate) clean: bool,
    /// How partitions stand; `None` for one that was deleted.
    pub(crate) records: Vec<(PartitionKey, Option<Record>)>,
}

fn put_record(out: &mut Vec<u8>, key: &PartitionKey, record: Option<&Record>) {
    out.push(u8::from(record.is_some()));
    out.extend_from_slice(&key.topic_id.0);
    out.extend_from_slice(&key.partition.to_le_bytes());
    let Some(r) = record else { return };
    for n in [
        r.log_start,
        r.end,
        r.segment,
        r.created_ms,
        r.index.max_timestamp,
        r.cleaned_to,
        r.cleaned_horizon_ms,
    ] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    let (index, at) = (r.index, r.applied);
    for n in [r.position, index.count, index.last_position, r.sealed_bytes, at.file, at.position] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    let offline = r.offline.as_deref().unwrap_or_default().as_bytes();
    out.extend_from_slice(&(offline.len() as u32).to_le_bytes());
    out.extend_from_slice(offline);
    out.extend_from_slice(&(r.epochs.len() as u32).to_le_bytes());
    for (epoch, start) in &r.epochs {
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&start.to_le_bytes());
    }
    out.extend_from_slice(&(r.producers.len() as u32).to_le_bytes());
    for (id, p) in &r.producers {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&p.epoch.to_le_bytes());
        out.extend_from_slice(&p.last_append_ms.to_le_bytes());
        out.push(p.batches.len().min(255) as u8);
        for b in p.batches.iter().take(255) {
            out.extend_from_slice(&b.first_sequence.to_le_bytes());
            out.extend_from_slice(&b.last_sequence.to_le_bytes());
            out.extend_from_slice(&b.base_offset.to_le_bytes());
            out.extend_from_slice(&b.last_offset.to_le_bytes());
        }
    }
}

/// Takes fixed-size numbers off the front of bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[b]: [u8; 1]| b)
    }

    fn record(&mut self) -> Option<(PartitionKey, Option<Record>)> {
        let present = self.u8()? != 0;
        let key = PartitionKey { topic_id: Uuid(self.take()?), partition: self.i32()? };
        if !present {
            return Some((key, None));
        }
        let (log_start, end, segment, created_ms) = (self.i64()?, self.i64()?, self.i64()?, self.i64()?);
        let (max_timestamp, cleaned_to, cleaned_horizon_ms) = (self.i64()?, self.i64()?, self.i64()?);
        let (position, count, last_position) = (self.u64()?, self.u64()?, self.u64()?);
        let sealed_bytes = self.u64()?;
        let applied = JournalPosition { file: self.u64()?, position: self.u64()? };
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let offline = (length > 0).then(|| String::from_utf8_lossy(text).into_owned());
        // The counts are not trusted with memory: what they promise has to be there.
        let mut epochs = Vec::new();
        for _ in 0..self.u32()? {
            epochs.push((self.i32()?, self.i64()?));
        }
        let mut producers = Vec::new();
        for _ in 0..self.u32()? {
            let id = self.i64()?;
            let (epoch, last_append_ms) = (self.take().map(i16::from_le_bytes)?, self.i64()?);
            let mut batches = Vec::new();
            for _ in 0..self.u8()? {
                batches.push(BatchMark {
                    first_sequence: self.i32()?,
                    last_sequence: self.i32()?,
                    base_offset: self.i64()?,
                    last_offset: self.i64()?,
                });
            }
            producers.push((id, Producer::new(epoch, last_append_ms, batches)));
        }
        let index = IndexCursor { count, last_position, max_timestamp };
        let record = Record {
            log_start,
            end,
            segment,
            position,
            created_ms,
            index,
            sealed_bytes,
            applied,
            cleaned_to,
            cleaned_horizon_ms,
            epochs,
            producers,
            offline,
        };
        Some((key, Some(record)))
    }

    fn block(&mut self) -> Option<Block> {
        let replay_from = self.u64()?;
        let clean = self.u8()? != 0;
        let mut records = Vec::new();
        for _ in 0..self.u32()? {
            records.push(self.record()?);
        }
        self.0.is_empty().then_some(Block { replay_from, clean, records })
    }
}

impl Block {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; BLOCK_HEADER];
        out.extend_from_slice(&self.replay_from.to_le_bytes());
        out.push(u8::from(self.clean));
        out.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        for (key, record) in &self.records {
            put_record(&mut out, key, record.as_ref());
        }
        let length = (out.len() - BLOCK_HEADER) as u32;
        let crc = crc32c::crc32c_append(
            crc32c::crc32c(&length.to_le_bytes()),
            out.get(BLOCK_HEADER..).unwrap_or_default(),
        );
        if let Some(header) = out.first_chunk_mut::<BLOCK_HEADER>() {
            header[..4].copy_from_slice(&BLOCK_MAGIC.to_le_bytes());
            header[4..8].copy_from_slice(&length.to_le_bytes());
            header[8..].copy_from_slice(&crc.to_le_bytes());
        }
        out
    }

    /// The block at the front of `bytes`, and the bytes that it takes.
    fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut fields = Fields(bytes);
        if fields.u32()? != BLOCK_MAGIC {
            return None;
        }
        let (length, crc) = (fields.u32()?, fields.u32()?);
        let payload = fields.0.get(..length as usize)?;
        if crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), payload) != crc {
            return None;
        }
        Some((Fields(payload).block()?, BLOCK_HEADER + payload.len()))
    }
}

/// What a checkpoint file says.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) records: HashMap<PartitionKey, Record>,
    pub(crate) replay_from: u64,
    pub(crate) clean: bool,
    /// There is something behind the last whole block.
    pub(crate) broken: bool,
    /// There is at least one whole block.
    pub(crate) found: bool,
}

/// The file that blocks are added to.
pub(crate) struct CheckpointFile {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    length: u64,
    /// Its length when it was written anew.
    first_length: u64,
    /// What its last block says of the journal.
    replay_from: u64,
}

impl CheckpointFile {
    /// Reads what is there. The first block that is written replaces the file, so that nothing follows a broken one.
    pub(crate) fn load(disk: &dyn Disk, root: &Path) -> io::Result<(Self, Loaded)> {
        let path = root.join("checkpoint");
        let mut loaded = Loaded::default();
        match disk::read_file(disk, &path, MAX_SIZE) {
            Ok(bytes) => loaded.read(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let replay_from = loaded.replay_from;
        Ok((Self { path, file: None, length: 0, first_length: 0, replay_from }, loaded))
    }

    /// True if the next block has to name all partitions: it begins the file anew.
    pub(crate) fn wants_all(&self) -> bool {
        self.file.is_none() || self.length > 2 * self.first_length + SLACK
    }

    /// The first journal file that a start has to read, as the last block says.
    pub(crate) fn replay_from(&self) -> u64 {
        self.replay_from
    }

    /// Writes a block and flushes it; gives its bytes.
    pub(crate) fn write(&mut self, disk: &dyn Disk, block: &Block, all: bool) -> io::Result<u64> {
        let bytes = block.encode();
        if all {
            let mut whole = MAGIC.to_vec();
            whole.extend_from_slice(&bytes);
            self.file = None;
            disk::replace_file(disk, &self.path, &whole, true)?;
            self.file = Some(disk.open(&self.path, OpenMode::Write)?);
            self.length = whole.len() as u64;
            self.first_length = self.length;
            self.replay_from = block.replay_from;
            return Ok(self.length);
        }
        let Some(file) = &self.file else { return Ok(0) };
        // After an error the file is written anew: what of the block is in it then doesn't matter.
        let written = file.write_at(&mut [IoSlice::new(&bytes)], self.length).and_then(|()| file.sync_data());
        if let Err(e) = written {
            self.file = None;
            return Err(e);
        }
        self.length += bytes.len() as u64;
        self.replay_from = block.replay_from;
        Ok(bytes.len() as u64)
    }
}

impl Loaded {
    fn read(&mut self, bytes: &[u8]) {
        let Some(mut rest) = bytes.strip_prefix(&MAGIC) else {
            self.broken = true;
            return;
        };
        while !rest.is_empty() {
            let Some((block, length)) = Block::decode(rest) else {
                self.broken = true;
                return;
            };
            rest = rest.get(length..).unwrap_or_default();
            self.found = true;
            self.replay_from = block.replay_from;
            self.clean = block.clean;
            for (key, record) in block.records {
                match record {
                    Some(record) => self.records.insert(key, record),
                    None => self.records.remove(&key),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(end: i64) -> Record {
        Record {
            log_start: 1,
            end,
            segment: 3,
            position: 4,
            created_ms: 5,
            index: IndexCursor { count: 6, last_position: 7, max_timestamp: 8 },
            sealed_bytes: 9,
            applied: JournalPosition { file: 10, position: 11 },
            cleaned_to: 12,
            cleaned_horizon_ms: 13,
            epochs: vec![(1, 2), (3, 4)],
            producers: vec![(
                5,
                Producer::new(
                    6,
                    7,
                    vec![BatchMark { first_sequence: 1, last_sequence: 2, base_offset: 3, last_offset: 4 }],
                ),
            )],
            offline: Some("damaged".to_owned()),
        }
    }

    fn key(n: i32) -> PartitionKey {
        PartitionKey { topic_id: Uuid([9; 16]), partition: n }
    }

    #[test]
    fn later_blocks_count_and_broken_ones_do_not() {
        let first = Block {
            replay_from: 1,
            clean: false,
            records: vec![(key(0), Some(record(2))), (key(1), Some(record(3)))],
        };
        let second =
            Block { replay_from: 5, clean: true, records: vec![(key(0), None), (key(1), Some(record(9)))] };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(first.encode());
        let end_of_first = bytes.len();
        bytes.extend(second.encode());

        let mut loaded = Loaded::default();
        loaded.read(&bytes);
        assert!(loaded.clean && !loaded.broken && loaded.found);
        assert_eq!(loaded.replay_from, 5);
        assert_eq!(loaded.records.get(&key(1)), Some(&record(9)));
        assert_eq!(loaded.records.len(), 1);

        for cut in end_of_first + 1..bytes.len() {
            let mut loaded = Loaded::default();
            loaded.read(&bytes[..cut]);
            assert!(loaded.broken && !loaded.clean);
            assert_eq!(loaded.replay_from, 1);
            assert_eq!(loaded.records.len(), 2);
        }
        for flip in end_of_first..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[flip] ^= 1;
            let mut loaded = Loaded::default();
            loaded.read(&flipped);
            assert!(loaded.broken, "byte {flip}");
        }
    }
}
