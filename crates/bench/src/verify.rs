//! Reading back what was acknowledged, at the end of a run.

use crate::ledger::{Acknowledged, Seen};
use crate::result::Verification;
use crate::topic::{Silent, Topic};
use crate::{interrupt, progress};
use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);
/// After the last message, what is still missing is waited for this long: a high watermark may be behind.
const PATIENCE: Duration = Duration::from_secs(10);

impl ConsumerContext for Silent {}

/// Where each partition was before the run.
pub type Starts = Vec<i64>;

/// Notes where each partition ends.
pub fn starts(topic: &Topic) -> Result<Starts> {
    if topic.created {
        return Ok(vec![0; topic.partitions as usize]);
    }
    (0..topic.partitions).map(|partition| Ok(topic.watermarks(partition)?.1)).collect()
}

/// Reads the topic from where it was before the run to its end, and compares.
pub fn read_back(
    config: &ClientConfig,
    topic: &Topic,
    starts: &Starts,
    run: u64,
    acknowledged: &Acknowledged,
) -> Result<Verification> {
    let mut config = config.clone();
    config.set("group.id", "chronik-bench-verify").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest").set("check.crcs", "true");
    let consumer: BaseConsumer<Silent> =
        config.create_with_context(Silent).context("making the consumer that reads back")?;
    let mut assignment = TopicPartitionList::new();
    for (partition, start) in (0..).zip(starts) {
        assignment.add_partition_offset(&topic.name, partition, Offset::Offset(*start))?;
    }
    consumer.assign(&assignment).context("assigning partitions to read back")?;

    let expected = acknowledged.len();
    let bar = progress::bar(expected, "  verify {wide_bar} {human_pos}/{human_len} {per_sec}");
    let started = Instant::now();
    let mut last = started;
    let mut ended = BTreeSet::new();
    let mut seen = Seen::default();
    let mut errors = BTreeSet::new();
    let mut read = 0u64;
    while !interrupt::requested() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                seen.check(message.payload().unwrap_or_default(), message.partition(), message.offset());
                read += 1;
                if read.is_multiple_of(1024) {
                    bar.set_position(read);
                }
                // Once every end was reached, what others still write prolongs nothing.
                if ended.len() < starts.len() {
                    last = Instant::now();
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                last = if ended.insert(partition) { Instant::now() } else { last };
            }
            Some(Err(error)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) {
                    seen.corrupt(-1, -1);
                }
                errors.insert(error.to_string());
            }
            None => {}
        }
        let all_ended = ended.len() == starts.len();
        let complete = all_ended && seen.missing(run, acknowledged) == 0;
        if complete || last.elapsed() > PATIENCE {
            break;
        }
    }
    bar.finish_and_clear();
    let mut found = seen.verify(run, acknowledged, topic.created);
    found.seconds = started.elapsed().as_secs_f64();
    if !found.passed {
        found.examples.extend(errors.into_iter().take(3).map(|error| format!("while reading back: {error}")));
    }
    Ok(found)
}
