//! Looking at a data directory while no node runs on it. Nothing in it is changed: what a start would recover is
//! recovered in memory.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{Chunk, Clock, ManualClock};
use chronik_records::{Batch, BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, RecordsError};

use crate::core::Core;
use crate::error::{LogError, ReadError, StorageState};
use crate::layout::{DataDir, LayoutError};
use crate::listener::{LogListener, Progress};
use crate::manager::{PartitionKey, RecoverySummary};
use crate::options::LogOptions;
use crate::overlay::OverlayDisk;
use crate::partition::PartitionLog;
use crate::recovery;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The logs of a data directory.
pub struct OfflineLogs {
    core: Arc<Core>,
    /// Holds the directory's lock, so that no node starts meanwhile.
    _dir: DataDir,
}

/// Why a data directory can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// No node ever used it, so that it is another directory than was meant.
    #[error("{0} is no data directory of a node: its file `format` is missing or empty")]
    NoDataDir(PathBuf),
    /// There is no such directory, a node holds it, or a newer version wrote it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A partition can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no such partition.
    #[error("there is no log of partition {0} in the data directory")]
    NoPartition(PartitionKey),
}

/// What [`OfflineLogs::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Offset of the first record.
    pub log_start_offset: i64,
    /// Offset after the last record.
    pub log_end_offset: i64,
    /// Whole batches whose CRC is right and whose records can be decoded.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What is wrong, if something is. Reading ends there.
    pub fault: Option<String>,
}

/// What [`OfflineLogs::digest`] computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Base offset of the first batch that it covers; the log's end if there is none.
    pub from: i64,
    /// Offset after the last batch that it covers.
    pub to: i64,
    /// Batches that it covers.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// 24 hexadecimal digits: CRC-32C and FNV-1a (64 bits) over the batches' bytes in the order of their offsets. The
    /// same for the same batches, however segments and journal hold them.
    pub digest: String,
}

struct Deaf;

impl LogListener for Deaf {
    fn on_written(&self, _: &[Progress]) {}
    fn on_flushed(&self, _: &[Progress]) {}
    fn on_failed(&self, _: &[Progress], _: &str) {}
    fn on_state(&self, _: &StorageState) {}
}

impl OfflineLogs {
    /// Opens a data directory. The summary says what a start would recover.
    ///
    /// # Errors
    /// It is missing, a node runs on it, a newer version wrote it, or it can't be read.
    pub fn open(path: &Path) -> Result<(Self, RecoverySummary), OfflineError> {
        if let Err(source) = std::fs::metadata(path) {
            return Err(LayoutError::Io { action: "open", path: path.to_owned(), source }.into());
        }
        // Taking it for one would write the format into it.
        if !std::fs::metadata(path.join("format")).is_ok_and(|format| format.len() > 0) {
            return Err(OfflineError::NoDataDir(path.to_owned()));
        }
        let dir = DataDir::open(path)?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
        let disk = Arc::new(OverlayDisk::default());
        let (core, summary) = recovery::open(&dir, disk, clock, LogOptions::default(), Arc::new(Deaf))?;
        Ok((Self { core, _dir: dir }, summary))
    }

    /// The partitions that have a log, in order.
    pub fn partitions(&self) -> Vec<PartitionKey> {
        self.core.all_partitions().iter().map(|p| p.key()).collect()
    }

    /// The log of a partition, for reading.
    ///
    /// # Errors
    /// There is none.
    pub fn log(&self, key: &PartitionKey) -> Result<Arc<PartitionLog>, OfflineError> {
        let partitions = self.core.partitions.read().unwrap_or_else(|p| p.into_inner());
        partitions.get(key).cloned().ok_or(OfflineError::NoPartition(*key))
    }

    /// Shows `visit` every batch that has offsets in `range`, in order, with its CRC checked. Ends early, with what that
    /// breaks with.
    ///
    /// # Errors
    /// There is no such partition, it is offline, or it can't be read to the end.
    pub fn walk<B>(
        &self,
        key: &PartitionKey,
        range: Range<i64>,
        mut visit: impl FnMut(&Batch<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, OfflineError> {
        let log = self.log(key)?;
        if let Some(why) = log.offline() {
            return Err(ReadError::Log(LogError::Offline(why)).into());
        }
        let end = log.log_end_offset();
        let mut offset = log.log_start_offset().max(range.start);
        while offset < end.min(range.end) {
            let plan = log.read(offset, READ_BYTES, end, true)?;
            if plan.bytes == 0 {
                break;
            }
            for chunk in &plan.chunks {
                // The overlay has no files of the operating system, so there are bytes only.
                let Chunk::Bytes(bytes) = chunk else { continue };
                let mut rest: Bytes = bytes.clone();
                while !rest.is_empty() {
                    let damaged = |what: String| {
                        ReadError::Log(LogError::Damaged { path: log.dir(), position: 0, what })
                    };
                    let at = |e: String| damaged(format!("the batch at or after offset {offset}: {e}"));
                    let batch = Batch::parse(&rest).map_err(|e| at(e.to_string()))?;
                    batch.verify_crc().map_err(|e| at(e.to_string()))?;
                    let header: BatchHeader = *batch.header();
                    if header.base_offset >= range.end {
                        return Ok(None);
                    }
                    if let ControlFlow::Break(with) = visit(&batch) {
                        return Ok(Some(with));
                    }
                    offset = header.next_offset();
                    let _ = rest.split_to(header.total_size().min(rest.len()));
                }
            }
            offset = offset.max(plan.next_offset);
        }
        Ok(None)
    }

    /// Reads a partition's log, checks every CRC and decodes every record.
    ///
    /// # Errors
    /// There is no such partition. Damage is in the answer.
    pub fn verify(&self, key: &PartitionKey) -> Result<Verified, OfflineError> {
        let log = self.log(key)?;
        let mut verified = Verified {
            log_start_offset: log.log_start_offset(),
            log_end_offset: log.log_end_offset(),
            ..Verified::default()
        };
        let walked = self.walk(key, i64::MIN..i64::MAX, |batch| {
            match count_records(batch) {
                Ok(count) => verified.records += count,
                Err(e) => return ControlFlow::Break(e),
            }
            verified.batches += 1;
            verified.bytes += batch.bytes().len() as u64;
            ControlFlow::Continue(())
        });
        verified.fault = match walked {
            Ok(undecodable) => undecodable.map(|e| e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        Ok(verified)
    }

    /// A digest of the batches of a partition that lie within `from..to` (within the whole log if they are `None`).
    ///
    /// # Errors
    /// There is no such partition, or it can't be read.
    pub fn digest(
        &self,
        key: &PartitionKey,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<Digest, OfflineError> {
        let end = self.log(key)?.log_end_offset();
        let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
        let mut digest = Digest { from: end, to: end, batches: 0, records: 0, digest: String::new() };
        let (mut crc, mut fnv) = (0, 0xcbf2_9ce4_8422_2325_u64);
        self.walk(key, from..to, |batch| {
            let header = batch.header();
            if header.base_offset < from || header.next_offset() > to {
                return ControlFlow::<()>::Continue(());
            }
            if digest.batches == 0 {
                digest.from = header.base_offset;
            }
            digest.batches += 1;
            digest.records += u64::try_from(header.record_count).unwrap_or(0);
            digest.to = header.next_offset();
            crc = crc32c::crc32c_append(crc, batch.bytes());
            for byte in batch.bytes() {
                fnv = (fnv ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            ControlFlow::Continue(())
        })?;
        digest.digest = format!("{crc:08x}{fnv:016x}");
        Ok(digest)
    }
}

/// The records of a batch, each decoded.
fn count_records(batch: &Batch<'_>) -> Result<u64, RecordsError> {
    let mut count = 0;
    for record in &batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES)? {
        record?;
        count += 1;
    }
    Ok(count)
}

impl Drop for OfflineLogs {
    fn drop(&mut self) {
        // The logs and what they share hold each other.
        self.core.partitions.write().unwrap_or_else(|p| p.into_inner()).clear();
        self.core.dirty.lock().unwrap_or_else(|p| p.into_inner()).clear();
        self.core.tails.lock().unwrap_or_else(|p| p.into_inner()).clear();
    }
}
