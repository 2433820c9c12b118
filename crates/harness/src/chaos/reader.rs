//! The consumer group: two members that read and commit all the time, and note what they were given.

use super::{PARTITIONS, TOPIC};
use crate::admin;
use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Message};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const GROUP: &str = "chaos-readers";
const MEMBERS: usize = 2;
const COMMIT_EVERY: Duration = Duration::from_millis(250);
const DETAILS: usize = 10;

/// What the group was given, and what it committed.
#[derive(Default)]
pub struct Seen {
    /// By partition and offset, the CRC-32C of the record; `None` where nothing was read yet.
    records: Vec<Vec<Option<u32>>>,
    /// By partition, the highest offset whose commit was acknowledged.
    committed: Vec<i64>,
    pub commits: u64,
    pub read: u64,
    pub wrong: u64,
    pub details: Vec<String>,
}

impl Seen {
    fn wrong(&mut self, detail: String) {
        self.wrong += 1;
        if self.details.len() < DETAILS {
            self.details.push(detail);
        }
    }

    /// Notes a record; a second reading must give the same.
    fn note(&mut self, partition: usize, offset: i64, checksum: u32) {
        let Some(records) = self.records.get_mut(partition) else { return };
        let at = offset as usize;
        if records.len() <= at {
            records.resize(at + 1, None);
        }
        let Some(slot) = records.get_mut(at) else { return };
        let before = slot.replace(checksum);
        self.read += u64::from(before.is_none());
        if before.is_some_and(|before| before != checksum) {
            self.wrong(format!("{TOPIC}-{partition} offset {offset} was read twice, with different bytes"));
        }
    }

    /// Offsets below `end` that the group was never given.
    fn skipped(&self, partition: usize, end: i64) -> usize {
        let records = self.records.get(partition).map_or(&[][..], Vec::as_slice);
        (0..end as usize).filter(|at| records.get(*at).copied().flatten().is_none()).count()
    }
}

/// The running group.
pub struct Readers {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    bootstrap: String,
}

/// Where a member is in the partitions it has.
#[derive(Default)]
struct Positions(Mutex<BTreeMap<i32, i64>>);

impl ClientContext for Positions {
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ConsumerContext for Positions {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, _rebalance: &Rebalance<'_>) {
        // Whatever comes now begins at a committed offset.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Readers {
    pub fn start(bootstrap: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen {
            records: vec![Vec::new(); PARTITIONS],
            committed: vec![0; PARTITIONS],
            ..Seen::default()
        }));
        let stop = Arc::<AtomicBool>::default();
        let mut threads = Vec::new();
        for _ in 0..MEMBERS {
            let mut config = admin::client_config(bootstrap);
            config
                .set("group.id", GROUP)
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "earliest")
                .set("session.timeout.ms", "6000")
                .set("heartbeat.interval.ms", "500")
                .set("socket.timeout.ms", "2000")
                .set("socket.connection.setup.timeout.ms", "1500")
                .set("topic.metadata.refresh.interval.ms", "1000")
                .set("fetch.wait.max.ms", "200")
                .set("check.crcs", "true");
            let consumer: BaseConsumer<Positions> =
                config.create_with_context(Positions::default()).context("making a member of the group")?;
            consumer.subscribe(&[TOPIC]).context("subscribing")?;
            let (seen, stop) = (seen.clone(), stop.clone());
            threads.push(std::thread::spawn(move || read(&consumer, &seen, &stop)));
        }
        Ok(Self { seen, stop, threads, bootstrap: bootstrap.to_owned() })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the group was given everything, stops it, and compares with the log as it is and with the offsets
    /// that the group's coordinator has now.
    pub fn finish(mut self, within: Duration) -> Result<Seen> {
        let consumer: BaseConsumer = admin::client_config(&self.bootstrap)
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("check.crcs", "true")
            .create()
            .context("making the last consumer")?;
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            let ends_at = consumer.fetch_watermarks(TOPIC, partition as i32, Duration::from_secs(30));
            ends.push(ends_at.with_context(|| format!("asking for the end of {TOPIC}-{partition}"))?.1);
        }
        let left = |seen: &Seen| -> usize {
            ends.iter().enumerate().map(|(partition, end)| seen.skipped(partition, *end)).sum()
        };
        let started = Instant::now();
        while started.elapsed() < within && left(&self.seen()) > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let mut seen = std::mem::take(&mut *self.seen());
        let left = left(&seen);
        if left > 0 {
            seen.wrong(format!("the group was not given {left} records within {} s", within.as_secs()));
        }
        compare_offsets(&consumer, &mut seen)?;
        read_again(&consumer, &ends, &mut seen)?;
        Ok(seen)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn read(consumer: &BaseConsumer<Positions>, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut last_commit = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            take(consumer, &message, &mut seen.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if last_commit.elapsed() >= COMMIT_EVERY {
            last_commit = Instant::now();
            commit(consumer, seen);
        }
    }
    commit(consumer, seen);
}

fn take(consumer: &BaseConsumer<Positions>, message: &impl Message, seen: &mut Seen) {
    let (partition, offset) = (message.partition(), message.offset());
    let mut positions = consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
    match positions.insert(partition, offset + 1) {
        None => {
            let committed = seen.committed.get(partition as usize).copied().unwrap_or_default();
            if offset < committed {
                seen.wrong(format!(
                    "a commit was lost: {TOPIC}-{partition} was given from {offset} on, after {committed} was committed"
                ));
            }
        }
        Some(expected) if expected != offset => {
            seen.wrong(format!("{TOPIC}-{partition}: offset {offset} came where {expected} was next"));
        }
        Some(_) => {}
    }
    seen.note(partition as usize, offset, crc32c::crc32c(message.payload().unwrap_or_default()));
}

fn commit(consumer: &BaseConsumer<Positions>, seen: &Mutex<Seen>) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in &*consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner) {
        if list.add_partition_offset(TOPIC, *partition, Offset::Offset(*offset)).is_err() {
            return;
        }
    }
    // One that fails during a fault or a rebalance promises nothing; the next one carries on.
    if list.count() == 0 || consumer.commit(&list, CommitMode::Sync).is_err() {
        return;
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.commits += 1;
    for element in list.elements() {
        if let (Some(committed), Offset::Offset(offset)) =
            (seen.committed.get_mut(element.partition() as usize), element.offset())
        {
            *committed = (*committed).max(offset);
        }
    }
}

fn compare_offsets(consumer: &BaseConsumer, seen: &mut Seen) -> Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(TOPIC, 0, PARTITIONS as i32 - 1);
    let now =
        consumer.committed_offsets(list, Duration::from_secs(30)).context("asking for committed offsets")?;
    for element in now.elements() {
        let committed = seen.committed.get(element.partition() as usize).copied().unwrap_or_default();
        let kept = if let Offset::Offset(offset) = element.offset() { offset } else { 0 };
        if kept < committed {
            seen.wrong(format!(
                "a commit was lost: {TOPIC}-{} has {kept}, after {committed} was committed",
                element.partition()
            ));
        }
    }
    Ok(())
}

/// Reads everything once more: what was read before must be there, unchanged.
fn read_again(consumer: &BaseConsumer, ends: &[i64], seen: &mut Seen) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(TOPIC, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&list).context("assigning the partitions")?;
    let mut next = vec![0; ends.len()];
    let mut last_arrival = Instant::now();
    while next.iter().zip(ends).any(|(next, end)| next < end) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            last_arrival = Instant::now();
            let partition = message.partition() as usize;
            if let Some(next) = next.get_mut(partition) {
                *next = message.offset() + 1;
            }
            seen.note(partition, message.offset(), crc32c::crc32c(message.payload().unwrap_or_default()));
        } else if last_arrival.elapsed() > Duration::from_secs(60) {
            bail!("nothing came for 60 s when everything was read again; offsets {next:?} of {ends:?}");
        }
    }
    for (partition, end) in ends.iter().enumerate() {
        let read = seen.records.get(partition).map_or(0, Vec::len);
        if read as i64 > *end {
            seen.wrong(format!("{TOPIC}-{partition} ends at {end}, but was read up to {read} before"));
        }
    }
    Ok(())
}
