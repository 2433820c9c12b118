//! Recovery of the log: a data directory whose files were changed in any way is opened, read, written and opened again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chronik_base::{Chunk, ManualClock, Uuid};
use chronik_log::disk::{Disk, OpenMode};
use chronik_log::simulated::SimulatedDisk;
use chronik_log::{
    DataDir, LogListener, LogManager, LogOptions, PartitionKey, PartitionLog, PartitionOptions, Progress,
};
use chronik_records::{Batch, BatchBuilder, BatchOptions, CRC_COVERS_FROM};

use crate::input::Input;

const ROOT: &str = "/data";
const PARTITIONS: i32 = 2;
const EDITS_MAX: usize = 12;
/// Records of each batch.
const RECORDS: i64 = 2;

/// Reads `data` as changes to the files of a data directory (after a kill, or after a clean end). The start must succeed;
/// what a partition that is online holds afterwards was once appended to it, whole and in order; it takes appends; and the
/// start after that finds the same again.
pub fn recovery(data: &[u8]) {
    let mut input = Input::new(data);
    let template = template(input.flag());
    let disk = SimulatedDisk::new(1);
    for (path, contents) in &template.files {
        write(&disk, path, contents);
    }
    let mut intact = true;
    let mut done = Edits::default();
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            break;
        }
        edit(&disk, &template.files, &mut input, &mut done);
        intact = false;
    }

    let manager = open(&disk);
    let mut found = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let Some(log) = manager.partition(&key(partition)) else {
            assert!(!intact, "partition {partition} is gone");
            continue;
        };
        let sent = &template.sent[partition as usize];
        let Some(mut batches) = read(&log) else {
            assert!(!intact, "partition {partition} is offline: {:?}", log.offline());
            continue;
        };
        check(partition, sent, &batches, &done);
        assert!(!intact || batches.len() == sent.len(), "partition {partition} lost batches");
        let more = batch(1_000 + partition as u64, 40);
        if let Ok(appended) = log.append_leader(more.clone(), 9, 5) {
            batches.push((appended.base_offset, more));
            found.insert(partition, batches);
        }
    }
    let closed = manager.close().is_ok();
    drop(manager);
    if closed {
        let manager = open(&disk);
        for (partition, expected) in found {
            let log = manager.partition(&key(partition)).expect("a partition that was closed is there");
            let batches = read(&log).expect("a partition that was closed is online");
            assert_eq!(offsets(&batches), offsets(&expected), "partition {partition}");
        }
    }
}

type Batches = Vec<(i64, Bytes)>;

fn offsets(batches: &Batches) -> Vec<i64> {
    batches.iter().map(|(offset, _)| *offset).collect()
}

/// What was done to the files that a reader can't tell.
#[derive(Default)]
struct Edits {
    /// The records of one batch, which have a CRC of their own, may be in the place of another one's.
    copied: bool,
    /// Segments may be gone, or end with an earlier batch; a gap is what compaction leaves.
    shortened: bool,
}

/// Offsets rise, and what is found was sent, at that offset.
fn check(partition: i32, sent: &[Bytes], found: &Batches, done: &Edits) {
    let content = |bytes: &Bytes| bytes.get(CRC_COVERS_FROM..).map(<[u8]>::to_vec);
    let mut next = 0;
    for (offset, bytes) in found {
        assert!(*offset >= next, "partition {partition} has a batch at {offset} where {next} comes next");
        let batch = Batch::parse(bytes).expect("a whole batch, as it was read");
        next = batch.header().next_offset();
        // What a checkpoint covers is not read again at a start: damage in there is for the reader's CRC to find.
        if batch.verify_crc().is_err() {
            continue;
        }
        let place = sent.iter().position(|sent| content(sent) == content(bytes));
        let Some(place) = place else {
            panic!("partition {partition} has a batch at {offset} that was not sent");
        };
        // Leader epoch and base offset are the broker's and outside the batch's CRC.
        assert!(
            done.copied || done.shortened || *offset == RECORDS * place as i64,
            "partition {partition} has batch {place} at offset {offset}"
        );
    }
}

struct Template {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Batches of each partition, in order.
    sent: Vec<Vec<Bytes>>,
}

/// The data directory before it is changed; made once.
fn template(closed: bool) -> &'static Template {
    static KILLED: OnceLock<Template> = OnceLock::new();
    static CLOSED: OnceLock<Template> = OnceLock::new();
    if closed { CLOSED.get_or_init(|| make(true)) } else { KILLED.get_or_init(|| make(false)) }
}

fn make(close: bool) -> Template {
    let disk = SimulatedDisk::new(1);
    let manager = open(&disk);
    let options = PartitionOptions { segment_bytes: 6_000, index_interval_bytes: 500, ..Default::default() };
    let options = Arc::new(options);
    let logs: Vec<_> = (0..PARTITIONS)
        .map(|partition| manager.create_partition(key(partition), options.clone()).expect("a new partition"))
        .collect();
    let mut sent = vec![Vec::new(); logs.len()];
    let mut tag = 0;
    for round in 0..3 {
        for (log, sent) in logs.iter().zip(&mut sent) {
            // Small ones go through the journal, the last of each round straight to the segment.
            for size in [10, 300, 700, 3_000] {
                tag += 1;
                let bytes = batch(tag, size);
                log.append_leader(bytes.clone(), round, 5).expect("an append to a new log");
                sent.push(bytes);
            }
        }
        if round == 1 {
            manager.checkpoint().expect("a checkpoint on a disk that works");
        }
    }
    for (log, sent) in logs.iter().zip(&mut sent) {
        tag += 1;
        let bytes = batch(tag, 20);
        log.append_leader(bytes.clone(), 3, 5).expect("an append to a new log");
        sent.push(bytes);
    }
    if close {
        manager.close().expect("a clean end on a disk that works");
    }
    drop(manager);
    let mut files = disk.files();
    files.sort();
    let files = files
        .into_iter()
        .map(|(path, length)| {
            let mut contents = vec![0; length];
            let file = disk.open(&path, OpenMode::Read).expect("a file that is listed");
            file.read_at(&mut contents, 0).expect("a disk that works");
            (path, contents)
        })
        .collect();
    Template { files, sent }
}

/// Kinds of changes.
const SHORTEN: u8 = 1;
const REMOVE: u8 = 3;
const COPY: u8 = 5;

/// Changes a file, and notes of what kind the change was.
fn edit(disk: &SimulatedDisk, files: &[(PathBuf, Vec<u8>)], input: &mut Input<'_>, done: &mut Edits) {
    let file = |input: &mut Input<'_>| &files[usize::from(input.byte()) % files.len()];
    let (path, contents) = file(input);
    let at = usize::from(input.u16()) % (contents.len() + 1);
    let put = |bytes: &[u8], at: usize| {
        // Files that an earlier change removed stay away.
        if let Ok(file) = disk.open(path, OpenMode::Write) {
            file.write_at(&mut [IoSlice::new(bytes)], at as u64).expect("a disk that works");
        }
    };
    let kind = input.below(7);
    match kind {
        0 => put(input.bytes(32), at),
        SHORTEN => {
            if let Ok(file) = disk.open(path, OpenMode::Write) {
                file.set_len(at as u64).expect("a disk that works");
            }
        }
        2 => put(&vec![0; usize::from(input.byte()) * 8], at),
        REMOVE => disk.remove(path).expect("a disk that works"),
        4 => put(input.bytes(64), contents.len()),
        COPY => {
            // A write that went to the wrong place.
            let (_, other) = file(input);
            let from = usize::from(input.u16()) % (other.len() + 1);
            let end = other.len().min(from + usize::from(input.byte()) * 16);
            put(&other[from..end], at);
        }
        _ => {
            // One more bit, the smallest change that there is.
            let bit = contents.get(at).copied().unwrap_or(0) ^ (1 << input.below(8));
            put(&[bit], at);
        }
    }
    done.copied |= kind == COPY;
    done.shortened |= kind == SHORTEN || kind == REMOVE;
}

fn write(disk: &SimulatedDisk, path: &Path, contents: &[u8]) {
    let parent = path.parent().expect("files lie in folders");
    disk.create_dir_all(parent).expect("a disk that works");
    let file = disk.open(path, OpenMode::Create).expect("a disk that works");
    file.write_at(&mut [IoSlice::new(contents)], 0).expect("a disk that works");
}

fn open(disk: &SimulatedDisk) -> Arc<LogManager> {
    let options = LogOptions {
        direct_bytes: 2_000,
        journal_segment_bytes: 256 << 10,
        flush_ms: 60_000,
        checkpoint_interval_ms: 60_000,
        ..LogOptions::default()
    };
    let clock = Arc::new(ManualClock::new(1_000));
    let opened =
        LogManager::open(DataDir::simulated(ROOT), Arc::new(disk.clone()), clock, options, Arc::new(Deaf));
    opened.expect("damage takes a partition offline, not the node").0
}

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic_id: Uuid([7; 16]), partition }
}

fn batch(tag: u64, size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value = vec![tag as u8; size];
    builder.append(1_000 + tag as i64, Some(&tag.to_be_bytes()), Some(&value), &[]).expect("a small record");
    builder.append(1_000, None, None, &[]).expect("a small record");
    builder.finish().expect("a small batch")
}

/// All batches with their base offsets; `None` if the partition cannot be read, which it then says itself.
fn read(log: &PartitionLog) -> Option<Batches> {
    let mut batches = Vec::new();
    let mut offset = log.log_start_offset();
    let end = log.log_end_offset();
    while offset < end {
        let start = offset;
        let Ok(plan) = log.read(start, 3_000, end, true) else {
            return None;
        };
        if plan.chunks.is_empty() {
            // Where segments are missing the log may end in a gap. What is appended behind it has to be found over it.
            break;
        }
        let mut rest: Bytes = plan.chunks.iter().flat_map(bytes_of).collect::<Vec<u8>>().into();
        while !rest.is_empty() {
            let batch = Batch::parse(&rest).unwrap_or_else(|e| panic!("a part of a batch at {offset}: {e}"));
            let header = *batch.header();
            offset = header.next_offset();
            batches.push((header.base_offset, rest.split_to(header.total_size())));
        }
        // The read says where the next one begins, maybe over a gap such as compaction leaves.
        assert!(plan.next_offset > start, "a read at {start} of {end} leads to {}", plan.next_offset);
        offset = plan.next_offset;
    }
    Some(batches)
}

fn bytes_of(chunk: &Chunk) -> Vec<u8> {
    match chunk {
        Chunk::Bytes(bytes) => bytes.to_vec(),
        Chunk::File(range) => {
            let file = File::from(range.file.as_fd().try_clone_to_owned().expect("one more descriptor"));
            let mut bytes = vec![0; range.length as usize];
            file.read_exact_at(&mut bytes, range.position).expect("a range that is there");
            bytes
        }
    }
}

/// Nobody waits for news.
struct Deaf;

impl LogListener for Deaf {
    fn on_written(&self, _: &[Progress]) {}
    fn on_flushed(&self, _: &[Progress]) {}
    fn on_failed(&self, _: &[Progress], _: &str) {}
}
