//! The one thread that keeps indexes up to date. It reads the log like a consumer, at low priority: where it cannot keep up, indexes
//! fall behind, and producers don't notice.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chronik_base::{NodeId, TopicId};
use chronik_records::Batches as BatchIter;

use crate::document::Documents;
use crate::fields::Fields;
use crate::host::{Bounds, Host, HostError, TopicInfo};
use crate::prune::{Offsets, Which};
use crate::shared::Shared;
use crate::state::PartitionState;
use crate::topic_index::{IndexError, TopicIndex, remove};

/// How often it is looked for new records, where any topic is searched.
const TICK: Duration = Duration::from_millis(100);
/// How often it is looked for topics, where none is.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Commits of a topic lie at least so far apart.
const COMMIT_EVERY: Duration = Duration::from_millis(300);
/// As long as this while so many records are to be caught up with: fewer and larger segments make that faster.
const COMMIT_EVERY_FAR_BEHIND: Duration = Duration::from_secs(5);
const FAR_BEHIND: i64 = 200_000;
/// A topic's turn while others wait.
const TURN: Duration = Duration::from_millis(250);
/// Bytes of log read at a time.
const READ_BYTES: usize = 1 << 20;
/// A writer that nothing was written to for so long is closed.
const WRITER_IDLE: Duration = Duration::from_secs(30);
/// After a failure it is tried again after this long.
const RETRY: Duration = Duration::from_secs(2);
/// Memory of one writer, where `search.memory` allows several.
const WRITER_BYTES: usize = 32 << 20;
/// The least that a writer works with.
const WRITER_BYTES_MIN: usize = 15_000_000;
/// While the disk has less room than this, nothing is written: the log needs it.
const ROOM_BYTES_MIN: u64 = 256 << 20;
/// What the log no longer has is taken out of an index at most so often.
const PRUNE_EVERY: Duration = Duration::from_secs(5);
/// Offsets that are compared with the log at once, after compaction: 1 MiB of memory.
const WINDOW: i64 = 8 << 20;
/// How much lower than the broker's the thread's priority is.
const NICENESS: i32 = 10;

/// What the thread works with.
pub(crate) struct Indexer {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: PathBuf,
    pub(crate) fields: Fields,
    /// Bytes for all writers, and bytes of records as they are decompressed.
    pub(crate) memory: usize,
    pub(crate) max_decompressed: usize,
    pub(crate) open: HashMap<TopicId, Open>,
}

/// A topic whose index is open.
pub(crate) struct Open {
    info: TopicInfo,
    index: TopicIndex,
    committed_at: Instant,
    written_at: Instant,
    pruned_at: Instant,
    /// Not before, after a failure.
    retry_at: Option<Instant>,
}

/// What one turn of a topic came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There is more to do.
    More,
    /// All that is committed is given to the writer.
    UpToDate,
}

impl Indexer {
    /// Runs until the node stops.
    pub(crate) fn run(mut self) {
        // Where that is not allowed, it goes on with what it has.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
        let mut version = None;
        while !self.shared.is_stopping() {
            let now = self.host.version();
            if version != Some(now) {
                version = Some(now);
                self.follow_topics();
            }
            let more = self.round();
            if !more {
                self.close_idle();
                self.shared.wait(if self.open.is_empty() { IDLE_TICK } else { TICK });
            }
        }
        for (_, mut topic) in self.open.drain() {
            // What can't be written now is read from the log again. Merges that run are given up.
            if topic.index.uncommitted > 0 {
                let _ = topic.index.commit();
            }
        }
    }

    /// Opens and closes indexes as the topics say, and removes those of topics that are gone or no longer searched.
    fn follow_topics(&mut self) {
        let me = self.host.node_id();
        let topics = self.host.topics();
        let wanted = |topic: &&TopicInfo| topic.enabled && hosts(topic, me);
        let wanted: HashMap<TopicId, &TopicInfo> =
            topics.iter().filter(wanted).map(|topic| (topic.id, topic)).collect();
        self.open.retain(|id, open| {
            let stays = wanted.get(id).is_some_and(|topic| topic.schema == open.info.schema);
            if !stays {
                self.shared.forget(id);
            }
            stays
        });
        if self.host.is_ready() {
            self.remove_others(&wanted);
        }
        for (id, info) in wanted {
            if let Some(open) = self.open.get_mut(&id) {
                open.info = info.clone();
                continue;
            }
            self.shared.set_building(info);
            match self.open_topic(info) {
                Ok(open) => {
                    self.open.insert(id, open);
                }
                Err(error) => {
                    tracing::error!(topic = %info.name, "its search index can't be opened: {error}");
                    self.shared.set_problem(&id, error.to_string());
                }
            }
        }
    }

    /// Removes directories of indexes that belong to no topic that is searched here.
    fn remove_others(&self, wanted: &HashMap<TopicId, &TopicInfo>) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let id = entry.file_name().to_str().and_then(TopicId::from_hex);
            if let Some(id) = id
                && !wanted.contains_key(&id)
                && let Err(error) = remove(&entry.path())
            {
                tracing::warn!("an index that is not needed any more can't be removed: {error}");
            }
        }
    }

    fn open_topic(&self, info: &TopicInfo) -> Result<Open, IndexError> {
        let dir = self.dir.join(info.id.to_hex());
        let (index, rebuilt) = TopicIndex::open(&dir, &info.schema, &self.fields)?;
        if let Some(why) = rebuilt {
            tracing::warn!(topic = %info.name, "its search index is built anew: {why}");
            self.shared.counters.rebuilt.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.publish(info, index.snapshot()?, index.bytes());
        let now = Instant::now();
        let pruned_at = now.checked_sub(PRUNE_EVERY).unwrap_or(now);
        Ok(Open { info: info.clone(), index, committed_at: now, written_at: now, pruned_at, retry_at: None })
    }

    /// Gives every topic a turn. True if there is more to do at once.
    fn round(&mut self) -> bool {
        let mut more = false;
        let ids: Vec<TopicId> = self.open.keys().copied().collect();
        for id in ids {
            if self.shared.is_stopping() {
                return false;
            }
            let Some(mut open) = self.open.remove(&id) else { continue };
            if open.retry_at.is_some_and(|at| Instant::now() < at) {
                self.open.insert(id, open);
                continue;
            }
            open.retry_at = None;
            match self.turn(&mut open) {
                Ok(turn) => {
                    more |= turn == Turn::More;
                    self.open.insert(id, open);
                }
                Err(error) => {
                    tracing::error!(topic = %open.info.name, "its search index can't be written, trying again: {error}");
                    self.shared.set_problem(&id, error.to_string());
                    if let Some(reopened) = self.reopen(open) {
                        self.open.insert(id, reopened);
                    }
                }
            }
        }
        more
    }

    /// Opens an index again after it could not be written; what was not committed is read from the log once more.
    fn reopen(&mut self, open: Open) -> Option<Open> {
        let info = open.info.clone();
        drop(open);
        match self.open_topic(&info) {
            Ok(mut open) => {
                open.retry_at = Some(Instant::now() + RETRY);
                Some(open)
            }
            Err(error) => {
                tracing::error!(topic = %info.name, "its search index can't be opened again: {error}");
                self.shared.set_problem(&info.id, error.to_string());
                None
            }
        }
    }

    fn turn(&mut self, open: &mut Open) -> Result<Turn, IndexError> {
        self.prune(open)?;
        let me = self.host.node_id();
        let ends = Instant::now() + TURN;
        let partitions: Vec<i32> = hosted(&open.info, me).collect();
        let mut lag = 0;
        for partition in partitions {
            let Some(bounds) = self.host.bounds(&open.info.id, partition) else { continue };
            let next = open.index.state.partitions.get(&partition).map_or(bounds.log_start, |p| p.next);
            lag += (bounds.high_watermark - next.max(bounds.log_start)).max(0);
            if next >= bounds.high_watermark {
                continue;
            }
            if !self.has_room(&open.info) {
                break;
            }
            self.make_room_for_writer(&open.info.id)?;
            while Instant::now() < ends && !self.shared.is_stopping() {
                match self.index_some(open, partition, bounds) {
                    Ok(0) => break,
                    Ok(records) => lag -= records,
                    Err(error) => return Err(error),
                }
            }
        }
        let far = lag > FAR_BEHIND;
        let every = if far { COMMIT_EVERY_FAR_BEHIND } else { COMMIT_EVERY };
        if open.index.uncommitted > 0 && open.committed_at.elapsed() >= every {
            let began = Instant::now();
            let snapshot = open.index.commit()?;
            open.committed_at = Instant::now();
            self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.shared
                .counters
                .commit_nanos
                .fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(0), Ordering::Relaxed);
            self.shared.publish(&open.info, snapshot, open.index.bytes());
        }
        Ok(if lag > 0 && open.retry_at.is_none() { Turn::More } else { Turn::UpToDate })
    }

    /// Gives some more of a partition to the writer; the offsets that it came further.
    fn index_some(&mut self, open: &mut Open, partition: i32, bounds: Bounds) -> Result<i64, IndexError> {
        let mut at = open.index.state.partitions.get(&partition).copied().unwrap_or(PartitionState {
            next: bounds.log_start,
            epoch: -1,
            start: bounds.log_start,
            cleaned: bounds.cleaned,
        });
        let from = at.next.max(bounds.log_start);
        if from >= bounds.high_watermark {
            return Ok(0);
        }
        let read = match self.host.read(&open.info.id, partition, from, READ_BYTES) {
            Ok(read) => read,
            // Retention was faster; what is left begins there.
            Err(HostError::OutOfRange { start, .. }) if start > from => {
                at.next = start;
                open.index.state.partitions.insert(partition, at);
                return Ok(start - from);
            }
            Err(error) => {
                self.shared.set_problem(&open.info.id, error.to_string());
                open.retry_at = Some(Instant::now() + RETRY);
                return Ok(0);
            }
        };
        let memory = self.writer_bytes();
        let mut next = read.next_offset.max(from);
        let mut documents = Vec::new();
        let mut paths = std::mem::take(&mut open.index.state.paths);
        let mut maker = Documents::new(&self.fields, &open.index.schema, &mut paths);
        for batch in BatchIter::new(&read.bytes) {
            let Ok(batch) = batch else { break };
            let header = batch.header();
            if header.last_offset() >= bounds.high_watermark {
                next = next.min(header.base_offset.max(from));
                break;
            }
            at.epoch = header.partition_leader_epoch;
            next = next.max(header.next_offset());
            if header.attributes.is_control() {
                continue;
            }
            let records = match batch.records(self.max_decompressed) {
                Ok(records) => records,
                Err(error) => {
                    self.shared.counters.skipped.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(topic = %open.info.name, partition, "a batch can't be indexed and is left out: {error}");
                    continue;
                }
            };
            for record in &records {
                let Ok(record) = record else { break };
                if record.offset >= from {
                    documents.push(maker.make(partition, &record));
                }
            }
        }
        drop(maker);
        open.index.state.paths = paths;
        let count = documents.len() as u64;
        let writer = open.index.writer(memory)?;
        for document in documents {
            writer.add_document(document)?;
        }
        let came = next - from;
        at.next = next;
        open.index.state.partitions.insert(partition, at);
        open.index.uncommitted += count.max(1);
        open.written_at = Instant::now();
        self.shared.counters.indexed.fetch_add(count, Ordering::Relaxed);
        self.shared.counters.read_bytes.fetch_add(read.bytes.len() as u64, Ordering::Relaxed);
        Ok(came)
    }

    /// Takes out what the log no longer has: by retention, deletion, compaction, truncation, or since the partition moved away.
    fn prune(&mut self, open: &mut Open) -> Result<(), IndexError> {
        if open.pruned_at.elapsed() < PRUNE_EVERY {
            return Ok(());
        }
        open.pruned_at = Instant::now();
        let partitions: Vec<(i32, PartitionState)> =
            open.index.state.partitions.iter().map(|(index, state)| (*index, *state)).collect();
        for (partition, mut state) in partitions {
            let Some(bounds) = self.host.bounds(&open.info.id, partition) else {
                self.delete(open, partition, Which::From(i64::MIN))?;
                open.index.state.partitions.remove(&partition);
                continue;
            };
            let mut cut = None;
            if state.epoch >= 0
                && let Some(end) = self.host.end_of_epoch(&open.info.id, partition, state.epoch)
                && end < state.next
            {
                cut = Some(end);
            }
            if let Some(end) = cut {
                tracing::warn!(topic = %open.info.name, partition, "its log was cut to {end}, and its search index is");
                self.delete(open, partition, Which::From(end))?;
                state.next = end;
            }
            if bounds.log_start > state.start {
                self.delete(open, partition, Which::Below(bounds.log_start))?;
                state.start = bounds.log_start;
                state.next = state.next.max(bounds.log_start);
            }
            if bounds.cleaned != state.cleaned {
                self.compare(open, partition, bounds.log_start, bounds.cleaned.0.min(state.next))?;
                state.cleaned = bounds.cleaned;
            }
            if open.index.state.partitions.get(&partition) != Some(&state) {
                open.index.state.partitions.insert(partition, state);
                open.index.uncommitted += 1;
            }
        }
        Ok(())
    }

    fn delete(&mut self, open: &mut Open, partition: i32, which: Which) -> Result<(), IndexError> {
        self.make_room_for_writer(&open.info.id)?;
        let memory = self.writer_bytes();
        open.index.writer(memory)?.delete_query(Box::new(Offsets { partition, which }))?;
        open.index.uncommitted += 1;
        open.written_at = Instant::now();
        Ok(())
    }

    /// Takes out what compaction removed between two offsets: reads the log once more, and deletes what is not there.
    fn compare(&mut self, open: &mut Open, partition: i32, start: i64, end: i64) -> Result<(), IndexError> {
        let mut window = start;
        while window < end && !self.shared.is_stopping() {
            let until = end.min(window + WINDOW);
            let words = usize::try_from((until - window + 63) / 64).unwrap_or(0);
            let mut bits = vec![0_u64; words];
            // Bits beyond the end are set: nothing there is missing.
            for offset in until..window + i64::try_from(words * 64).unwrap_or(0) {
                set(&mut bits, offset - window);
            }
            let mut at = window;
            while at < until {
                let read = match self.host.read(&open.info.id, partition, at, READ_BYTES) {
                    Ok(read) => read,
                    // It will be compared again: nothing was noted.
                    Err(_) => return Ok(()),
                };
                for batch in BatchIter::new(&read.bytes).flatten() {
                    if batch.header().attributes.is_control() {
                        continue;
                    }
                    let Ok(records) = batch.records(self.max_decompressed) else { continue };
                    for record in records.iter().flatten() {
                        if record.offset >= window && record.offset < until {
                            set(&mut bits, record.offset - window);
                        }
                    }
                }
                if read.next_offset <= at {
                    break;
                }
                at = read.next_offset;
            }
            self.delete(open, partition, Which::Missing(window, Arc::new(bits)))?;
            window = until;
        }
        Ok(())
    }

    /// Bytes that one writer may take, and with that how many may be open.
    fn writer_bytes(&self) -> usize {
        let writers = self.writers();
        (self.memory / 2 / writers).clamp(WRITER_BYTES_MIN, 1 << 30)
    }

    fn writers(&self) -> usize {
        (self.memory / 2 / WRITER_BYTES).max(1)
    }

    /// Closes the writer that was not used for longest, where as many are open as memory is for.
    fn make_room_for_writer(&mut self, id: &TopicId) -> Result<(), IndexError> {
        let writing = |open: &&mut Open| open.index.is_writing();
        // The topic itself was taken out of the map for its turn.
        let count = self.open.values_mut().filter(writing).count();
        if count < self.writers() {
            return Ok(());
        }
        let oldest = self
            .open
            .values_mut()
            .filter(|open| open.info.id != *id)
            .filter(writing)
            .min_by_key(|open| open.written_at);
        if let Some(open) = oldest {
            if open.index.uncommitted > 0 {
                let snapshot = open.index.commit()?;
                open.committed_at = Instant::now();
                self.shared.publish(&open.info, snapshot, open.index.bytes());
            }
            open.index.close_writer()?;
        }
        Ok(())
    }

    fn close_idle(&mut self) {
        for open in self.open.values_mut() {
            if open.index.is_writing()
                && open.index.uncommitted == 0
                && open.written_at.elapsed() >= WRITER_IDLE
            {
                let closed = open.index.close_writer().and_then(|()| open.index.snapshot());
                match closed {
                    // Merged segments take the place of those that they were made of.
                    Ok(snapshot) => self.shared.publish(&open.info, snapshot, open.index.bytes()),
                    Err(error) => {
                        tracing::warn!(topic = %open.info.name, "closing its search index: {error}")
                    }
                }
            }
        }
    }

    /// False while the disk is so full that the log may need what is left.
    fn has_room(&self, info: &TopicInfo) -> bool {
        let Ok(stat) = rustix::fs::statvfs(&self.dir) else { return true };
        let room = stat.f_bavail.saturating_mul(stat.f_frsize);
        let enough = room >= ROOM_BYTES_MIN;
        if !enough {
            let problem = format!("the disk has {room} bytes left, indexing goes on from {ROOM_BYTES_MIN}");
            self.shared.set_problem(&info.id, problem);
        }
        enough
    }
}

fn set(bits: &mut [u64], index: i64) {
    let Ok(index) = usize::try_from(index) else { return };
    if let Some(word) = bits.get_mut(index / 64) {
        *word |= 1 << (index % 64);
    }
}

fn hosts(topic: &TopicInfo, node: NodeId) -> bool {
    hosted(topic, node).next().is_some()
}

/// The partitions of a topic that a node has replicas of.
pub(crate) fn hosted(topic: &TopicInfo, node: NodeId) -> impl Iterator<Item = i32> {
    topic
        .replicas
        .iter()
        .enumerate()
        .filter(move |(_, replicas)| replicas.contains(&node))
        .filter_map(|(index, _)| i32::try_from(index).ok())
}

/// Numbers of the thread's work since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) indexed: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) commit_nanos: AtomicU64,
    pub(crate) rebuilt: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) cut_off: AtomicU64,
}
