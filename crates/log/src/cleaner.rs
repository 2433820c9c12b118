//! Compaction: the last record of each key stays, older ones go (`cleanup.policy=compact`).
//!
//! A pass reads what is new since the last one into a table of keys, of bounded size, and then writes the log's sealed
//! segments anew without what is superseded. Readers go on with the old files until the new ones take their place.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_records::{
    Batch, BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, FilterOptions, Filtered, Record, filter_batch,
};

use crate::core::{Core, count};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::index::IndexCursor;
use crate::partition::{PartitionLog, StoredSegment};
use crate::segment::{Scanner, log_name, parse_log_name};
use crate::sync::{Lock, wait_for};

/// Options of the cleaner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerOptions {
    /// Setting `log.cleaner.enable`.
    pub enabled: bool,
    /// Setting `log.cleaner.backoff.ms`: how long it waits when there was nothing to clean.
    pub backoff_ms: u64,
    /// Setting `log.cleaner.dedupe.buffer.size`: memory for the table of keys, in bytes.
    pub dedupe_buffer_bytes: usize,
    /// Setting `log.cleaner.io.max.bytes.per.second`: what it reads and writes at most.
    pub io_bytes_per_second: f64,
}

impl Default for CleanerOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            backoff_ms: 15_000,
            dedupe_buffer_bytes: 32 << 20,
            io_bytes_per_second: 67_108_864.0,
        }
    }
}

/// Bytes that a key takes in the table: 16 of hash, 8 of offset, and what a hash table leaves empty.
const BYTES_PER_KEY: usize = 56;
/// Bytes collected before they are written.
const BUFFER: usize = 1 << 20;

/// How far a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Below this offset, each key is there once.
    pub(crate) to: i64,
    /// When the first of its tombstones may go, in milliseconds since the Unix epoch.
    pub(crate) horizon_ms: i64,
}

impl Default for Cleaned {
    fn default() -> Self {
        Self { to: 0, horizon_ms: i64::MAX }
    }
}

/// What tells the cleaner's thread what to do.
#[derive(Default)]
pub(crate) struct CleanerSignals {
    pub(crate) options: CleanerOptions,
    pub(crate) stop: bool,
}

/// What there is to clean in a log.
pub(crate) struct Dirt {
    /// The segments that may be cleaned, the oldest first.
    pub(crate) segments: Vec<StoredSegment>,
    /// The files were so when that was looked up.
    pub(crate) version: u64,
    /// Dirty bytes by all bytes.
    pub(crate) ratio: f64,
    /// It is to be cleaned whatever the ratio.
    pub(crate) due: bool,
}

/// Keeps the cleaner's I/O below its limit.
struct Throttle<'a> {
    core: &'a Core,
    began: Instant,
    bytes: f64,
}

impl Throttle<'_> {
    /// Takes note of bytes read or written; waits if they were too many. False if the log is being closed.
    fn spend(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as f64;
        let mut signals = self.core.cleaner.hold();
        loop {
            if signals.stop {
                return false;
            }
            let due = Duration::from_secs_f64(self.bytes / signals.options.io_bytes_per_second.max(1024.0));
            let ahead = due.saturating_sub(self.began.elapsed());
            // Short waits are saved up: a sleep costs more than it brings.
            if ahead < Duration::from_millis(20) {
                return true;
            }
            signals = wait_for(&self.core.cleaner_wake, signals, ahead);
        }
    }
}

impl Core {
    /// Cleans until stopped.
    pub(crate) fn run_cleaner(self: &Arc<Self>) {
        loop {
            {
                let signals = self.cleaner.hold();
                if signals.stop {
                    return;
                }
                let backoff = Duration::from_millis(signals.options.backoff_ms.max(10));
                let signals = wait_for(&self.cleaner_wake, signals, backoff);
                if signals.stop {
                    return;
                }
                if !signals.options.enabled {
                    continue;
                }
            }
            while self.clean_dirtiest(self.clock.wall_ms()) {}
        }
    }

    /// Cleans the log that needs it most. False if none does.
    pub(crate) fn clean_dirtiest(self: &Arc<Self>, now_ms: i64) -> bool {
        if self.is_poisoned() || self.is_full() {
            return false;
        }
        let _one_at_a_time = self.cleaning.hold();
        let mut best: Option<(Arc<PartitionLog>, Dirt)> = None;
        for partition in self.all_partitions() {
            match partition.dirt(now_ms) {
                Ok(Some(dirt)) => {
                    let rank = |d: &Dirt| (d.due, d.ratio);
                    if best.as_ref().is_none_or(|(_, b)| rank(&dirt) > rank(b)) {
                        best = Some((partition, dirt));
                    }
                }
                Ok(None) => {}
                Err(e) => tracing::warn!("cleaner: partition {}: {e}", partition.key()),
            }
        }
        let Some((partition, dirt)) = best else { return false };
        match self.clean(&partition, &dirt, now_ms) {
            Ok(going_on) => going_on,
            Err(e) => {
                tracing::warn!("cleaner: partition {}: {e}", partition.key());
                false
            }
        }
    }

    /// One pass over a log. False if the log is being closed or has changed meanwhile.
    fn clean(
        self: &Arc<Self>,
        partition: &Arc<PartitionLog>,
        dirt: &Dirt,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let segments = &dirt.segments;
        let mut throttle = Throttle { core: self, began: Instant::now(), bytes: 0.0 };
        let cleaned_to = partition.lock().cleaned.to;
        let Some(keys) = Keys::read(partition, dirt, cleaned_to, &mut throttle)? else {
            return Ok(false);
        };
        let options = partition.options();
        let filter = FilterOptions {
            delete_horizon: Some(now_ms.saturating_add(options.delete_retention_ms)),
            retain_empty: false,
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
        };
        let log_start = partition.log_start_offset();
        let mut cleaned = Cleaned { to: keys.end, horizon_ms: i64::MAX };
        let before: u64 = segments.iter().map(|s| s.size).sum();
        let mut after = 0;
        let wanted: Vec<StoredSegment> = segments.iter().filter(|s| s.base < keys.end).copied().collect();
        for group in groups(&wanted, options.segment_bytes) {
            let mut output = Output::new(partition, group, options.index_interval_bytes)?;
            for segment in group {
                let path = partition.segment_path(segment.base);
                let file = partition
                    .segment_file(segment.base, OpenMode::Read)
                    .map_err(LogError::io("open", &path))?;
                let mut scanner = Scanner::new(&*file, 0, segment.size);
                while let Some((_, batch)) = scanner
                    .next_batch_from(log_start)
                    .map_err(|f| partition.damage_since(dirt.version, f.into_error(&path)))?
                {
                    let header = *batch.header();
                    if !throttle.spend(header.total_size()) {
                        output.abandon();
                        return Ok(false);
                    }
                    let horizon = header.delete_horizon();
                    let keep = |r: &Record<'_>| {
                        r.offset >= log_start
                            && keys.is_latest(r)
                            && (r.value.is_some() || horizon.is_none_or(|h| h > now_ms))
                    };
                    let kept = if header.attributes.is_control() {
                        Filtered::Unchanged
                    } else {
                        filter_batch(&batch, &filter, keep).map_err(|e| LogError::Undecodable {
                            partition: partition.key(),
                            what: e.to_string(),
                        })?
                    };
                    let bytes = match &kept {
                        Filtered::Unchanged => batch.bytes(),
                        Filtered::Rewritten(bytes) => &bytes[..],
                        Filtered::Removed => continue,
                    };
                    output.batch(bytes, &mut cleaned)?;
                    if !throttle.spend(bytes.len()) {
                        output.abandon();
                        return Ok(false);
                    }
                }
            }
            after += output.position();
            if !output.take_place(partition, group)? {
                return Ok(false);
            }
        }
        {
            let mut state = partition.lock();
            state.cleaned = cleaned;
            partition.mark_dirty(&mut state);
        }
        tracing::info!(
            "cleaner: partition {}: {before} bytes became {after}, up to offset {}",
            partition.key(),
            cleaned.to
        );
        Ok(true)
    }
}

/// Where each key was last.
struct Keys {
    latest: HashMap<[u64; 2], i64>,
    hashers: [RandomState; 2],
    /// The table knows the log up to here.
    end: i64,
}

impl Keys {
    /// Reads the keys from offset `from` on, until the table is full. `None` if the log is being closed.
    fn read(
        partition: &Arc<PartitionLog>,
        dirt: &Dirt,
        from: i64,
        throttle: &mut Throttle<'_>,
    ) -> Result<Option<Self>, LogError> {
        let limit = (throttle.core.cleaner.hold().options.dedupe_buffer_bytes / BYTES_PER_KEY).max(1024);
        let hashers = [RandomState::new(), RandomState::new()];
        let mut keys = Self { latest: HashMap::new(), hashers, end: from };
        for segment in dirt.segments.iter().filter(|s| s.end > from) {
            let path = partition.segment_path(segment.base);
            let file =
                partition.segment_file(segment.base, OpenMode::Read).map_err(LogError::io("open", &path))?;
            let mut scanner = Scanner::new(&*file, 0, segment.size);
            let log_start = partition.log_start_offset();
            while let Some((_, batch)) = scanner
                .next_batch_from(log_start)
                .map_err(|f| partition.damage_since(dirt.version, f.into_error(&path)))?
            {
                let header = *batch.header();
                if !throttle.spend(header.total_size()) {
                    return Ok(None);
                }
                if header.last_offset() < from || header.attributes.is_control() {
                    continue;
                }
                let room = limit.saturating_sub(keys.latest.len());
                // One batch is always taken, or a log of large ones would never be cleaned.
                if usize::try_from(header.record_count).unwrap_or(0) > room && !keys.latest.is_empty() {
                    return Ok(Some(keys));
                }
                keys.note(partition, &batch)?;
            }
            keys.end = segment.end;
        }
        Ok(Some(keys))
    }

    fn note(&mut self, partition: &PartitionLog, batch: &Batch<'_>) -> Result<(), LogError> {
        let undecodable = |what: String| LogError::Undecodable { partition: partition.key(), what };
        let records =
            batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES).map_err(|e| undecodable(e.to_string()))?;
        for record in records.iter() {
            let record = record.map_err(|e| undecodable(e.to_string()))?;
            if let Some(key) = record.key {
                self.latest.insert(self.hash(key), record.offset);
            }
        }
        self.end = batch.header().next_offset();
        Ok(())
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| hasher.hash_one(key))
    }

    /// True if nothing is known that supersedes a record. Records without a key have no place in a compacted log.
    fn is_latest(&self, record: &Record<'_>) -> bool {
        let Some(key) = record.key else { return false };
        self.latest.get(&self.hash(key)).is_none_or(|latest| record.offset >= *latest)
    }
}

/// Neighbouring segments that may become one.
fn groups(segments: &[StoredSegment], limit: u64) -> Vec<&[StoredSegment]> {
    let mut groups = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (i, segment) in segments.iter().enumerate() {
        let base = segments.get(from).map_or(segment.base, |first| first.base);
        let far = segment.end - base >= i64::from(i32::MAX);
        if i > from && (size + segment.size > limit || far) {
            groups.extend(segments.get(from..i));
            (from, size) = (i, 0);
        }
        size += segment.size;
    }
    groups.extend(segments.get(from..).filter(|rest| !rest.is_empty()));
    groups
}

/// The segment that is being written.
struct Output {
    disk: Arc<dyn Disk>,
    path: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    base: i64,
    interval: u64,
    buffer: Vec<u8>,
    written: u64,
    index: IndexCursor,
    entries: Vec<u8>,
    next_offset: i64,
}

impl Output {
    fn new(partition: &PartitionLog, group: &[StoredSegment], interval: u64) -> Result<Self, LogError> {
        let base = group.first().map_or(0, |s| s.base);
        let disk = partition.disk();
        let path = partition.dir().join(format!("{base:020}.cleaned"));
        let open = || {
            disk.remove(&path)?;
            disk.open(&path, OpenMode::Create)
        };
        let file = open().map_err(LogError::io("make", &path))?;
        Ok(Self {
            disk,
            path,
            file,
            base,
            interval,
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
            index: IndexCursor::default(),
            entries: Vec::new(),
            next_offset: base,
        })
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn batch(&mut self, bytes: &[u8], cleaned: &mut Cleaned) -> Result<(), LogError> {
        let Ok(header) = BatchHeader::parse(bytes) else { return Ok(()) };
        if let Some(horizon) = header.delete_horizon() {
            cleaned.horizon_ms = cleaned.horizon_ms.min(horizon);
        }
        let (offset, position, time) = (header.base_offset, self.position(), header.max_timestamp);
        self.index.batch(self.base, offset, position, time, self.interval, &mut self.entries);
        self.buffer.extend_from_slice(bytes);
        self.next_offset = header.next_offset();
        if self.buffer.len() >= BUFFER { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), LogError> {
        self.file
            .write_at(&mut [IoSlice::new(&self.buffer)], self.written)
            .map_err(LogError::io("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn abandon(self) {
        // Left behind, it goes at the next start or pass.
        let _ = self.disk.remove(&self.path);
    }

    /// Puts the new segment in the place of the old ones. False if they changed meanwhile.
    fn take_place(
        mut self,
        partition: &Arc<PartitionLog>,
        group: &[StoredSegment],
    ) -> Result<bool, LogError> {
        self.write()?;
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(true) };
        if self.written == group.iter().map(|s| s.size).sum::<u64>() && group.len() == 1 {
            // Nothing went.
            self.abandon();
            return Ok(true);
        }
        self.file.sync_data().map_err(LogError::io("flush", &self.path))?;
        count(partition.segment_bytes_counter(), self.written);
        let size = self.written;
        if size > 0 {
            self.index.seal(self.base, last.end.max(self.next_offset), size, &mut self.entries);
        }
        let swap = partition.dir().join(swap_name(first.base, last.base));
        let index = Bytes::from(std::mem::take(&mut self.entries));
        let replaced = partition.replace_segments(group, &self.path, &swap, size, self.index, &index)?;
        if !replaced {
            self.abandon();
        }
        Ok(replaced)
    }
}

fn swap_name(first: i64, last: i64) -> String {
    format!("{first:020}-{last:020}.swap")
}

fn parse_swap_name(name: &str) -> Option<(i64, i64)> {
    let (first, last) = name.strip_suffix(".swap")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Completes an exchange of segments that was under way: the new segment was flushed before it got its name.
pub(crate) fn finish_swaps(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let names = disk.list(dir)?;
    for name in &names {
        if name.ends_with(".cleaned") {
            disk.remove(&dir.join(name))?;
        }
        let Some((first, last)) = parse_swap_name(name) else { continue };
        for base in names.iter().filter_map(|n| parse_log_name(n)) {
            if base >= first && base <= last {
                disk.remove(&dir.join(crate::segment::index_name(base)))?;
                disk.remove(&dir.join(log_name(base)))?;
            }
        }
        let swap = dir.join(name);
        if disk.file_len(&swap)? > 0 {
            disk.rename(&swap, &dir.join(log_name(first)))?;
        } else {
            disk.remove(&swap)?;
        }
        disk.sync_dir(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base: i64, size: u64) -> StoredSegment {
        StoredSegment { base, size, end: base + 10, sealed: true }
    }

    #[test]
    fn small_neighbours_become_one() {
        let all = [segment(0, 40), segment(10, 40), segment(20, 40), segment(30, 500), segment(40, 1)];
        let sizes: Vec<usize> = groups(&all, 100).iter().map(|g| g.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
        assert!(groups(&[], 100).is_empty());
    }

    #[test]
    fn swap_names_say_what_they_replace() {
        assert_eq!(parse_swap_name(&swap_name(7, 900)), Some((7, 900)));
        assert_eq!(parse_swap_name(&log_name(7)), None);
    }
}
