//! The librdkafka consumer group: two members that read and commit all the time, and note what they were given.

use super::TOPIC;
use super::seen::{self, Positions, Seen, Shared};
use crate::admin;
use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const GROUP: &str = "chaos-readers";
const MEMBERS: usize = 2;
const COMMIT_EVERY: Duration = Duration::from_millis(250);

/// The running group.
pub struct Readers {
    seen: Shared,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Member(Mutex<Positions>);

impl ClientContext for Member {
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, _rebalance: &Rebalance<'_>) {
        // Whatever comes now begins at a committed offset.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Readers {
    pub fn start(bootstrap: &str) -> Result<Self> {
        let seen = Seen::new(GROUP);
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
            let consumer: BaseConsumer<Member> =
                config.create_with_context(Member::default()).context("making a member of the group")?;
            consumer.subscribe(&[TOPIC]).context("subscribing")?;
            let (seen, stop) = (seen.clone(), stop.clone());
            threads.push(std::thread::spawn(move || read(&consumer, &seen, &stop)));
        }
        Ok(Self { seen, stop, threads })
    }

    /// What the group was given so far.
    pub fn seen(&self) -> &Shared {
        &self.seen
    }

    /// Lets the members commit once more and leave.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn read(consumer: &BaseConsumer<Member>, seen: &Shared, stop: &AtomicBool) {
    let mut last_commit = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            let checksum = crc32c::crc32c(message.payload().unwrap_or_default());
            let mut positions = consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
            seen::lock(seen).given(&mut positions, message.partition(), message.offset(), checksum);
        }
        if last_commit.elapsed() >= COMMIT_EVERY {
            last_commit = Instant::now();
            commit(consumer, seen);
        }
    }
    commit(consumer, seen);
}

fn commit(consumer: &BaseConsumer<Member>, seen: &Shared) {
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
    let offsets = list.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    seen::lock(seen).committed(offsets);
}
