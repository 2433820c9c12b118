//! The consume load: N messages from the start of every partition, through one librdkafka consumer.

use crate::args::ConsumeArgs;
use crate::payload::Payloads;
use crate::procfs::Watch;
use crate::report::{self, ConsumeReport};
use crate::{progress, topic};
use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

const ADMIN_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the load; an error when the messages do not arrive.
pub fn run(args: &ConsumeArgs) -> Result<bool> {
    topic::ensure(&args.target)?;
    let mut config = topic::client_config(&args.target);
    // Nothing is committed; librdkafka asks for a group id all the same.
    config.set("group.id", "chronik-bench").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "false");
    topic::apply_settings(&mut config, &args.target);
    let consumer: BaseConsumer = config.create().context("making the consumer")?;

    let present = messages_present(&consumer, args)?;
    if present < args.messages {
        if !args.fill {
            bail!(
                "topic {} holds {present} messages, --messages {} wanted; --fill produces the rest",
                args.target.topic,
                args.messages
            );
        }
        fill(args, args.messages - present)?;
    }
    if args.cold {
        drop_page_cache()?;
    }

    let mut assignment = TopicPartitionList::new();
    for partition in 0..args.target.partitions {
        assignment.add_partition_offset(&args.target.topic, partition, Offset::Beginning)?;
    }
    let servers = Watch::start(&args.target.pids)?;
    let own = Watch::start(&[std::process::id()])?;
    let bar = progress::bar(args.messages, "{wide_bar} {human_pos}/{human_len} {per_sec}");
    let started = Instant::now();
    consumer.assign(&assignment).context("assigning the partitions")?;
    let mut first_message = None;
    let (mut messages, mut bytes) = (0u64, 0u64);
    let mut last_arrival = started;
    while messages < args.messages {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                messages += 1;
                bytes += message.payload_len() as u64;
                if messages == 1 {
                    first_message = Some(started.elapsed());
                }
                if messages.is_multiple_of(65_536) {
                    bar.set_position(messages);
                    last_arrival = Instant::now();
                }
            }
            Some(Err(error)) if is_transient(&error) => {}
            Some(Err(error)) => bail!("reading {}: {error}", args.target.topic),
            None if last_arrival.elapsed() > args.patience => bail!(
                "{messages} of {} messages arrived, then nothing for {} s (--patience)",
                args.messages,
                args.patience.as_secs()
            ),
            None => {}
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let servers = servers.finish()?;
    let client_cpu_seconds = own.finish()?.iter().map(|used| used.cpu_seconds).sum();
    bar.finish_and_clear();

    let report = ConsumeReport {
        kind: "consume",
        topic: args.target.topic.clone(),
        partitions: args.target.partitions,
        cold: args.cold,
        messages,
        bytes,
        seconds,
        messages_per_second: messages as f64 / seconds,
        megabytes_per_second: bytes as f64 / seconds / 1e6,
        first_message_ms: first_message.unwrap_or_default().as_secs_f64() * 1000.0,
        client_cpu_seconds,
        servers,
    };
    if args.target.json {
        report::print_json(&report)?;
    } else {
        report::print_consume(&report);
    }
    Ok(true)
}

fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown)
    )
}

fn messages_present(consumer: &BaseConsumer, args: &ConsumeArgs) -> Result<u64> {
    let mut present = 0;
    for partition in 0..args.target.partitions {
        let (low, high) = consumer
            .fetch_watermarks(&args.target.topic, partition, ADMIN_PATIENCE)
            .with_context(|| format!("asking for the offsets of {}-{partition}", args.target.topic))?;
        present += u64::try_from(high - low).unwrap_or(0);
    }
    Ok(present)
}

fn fill(args: &ConsumeArgs, wanted: u64) -> Result<()> {
    let mut config = topic::client_config(&args.target);
    config.set("acks", "all").set("linger.ms", "5");
    let producer: BaseProducer = config.create().context("making the producer for --fill")?;
    let payloads = Payloads::new(args.message_size);
    let bar = progress::bar(wanted, "    fill {wide_bar} {human_pos}/{human_len} {per_sec}");
    let mut sent = 0u64;
    while sent < wanted {
        let partition = (sent % args.target.partitions as u64) as i32;
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&args.target.topic).partition(partition).payload(payloads.nth(sent));
        match producer.send(record) {
            Ok(()) => sent += 1,
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error).context("producing for --fill"),
        }
        if sent.is_multiple_of(4096) {
            producer.poll(Duration::ZERO);
            bar.set_position(sent);
        }
    }
    producer.flush(Duration::from_secs(60)).context("producing for --fill")?;
    bar.finish_and_clear();
    Ok(())
}

fn drop_page_cache() -> Result<()> {
    const CONTROL: &str = "/proc/sys/vm/drop_caches";
    // Only clean pages are dropped; writing the dirty ones out first makes the whole log cold.
    let synced = std::process::Command::new("sync").status().context("running sync for --cold")?;
    if !synced.success() {
        bail!("sync ended with {synced}");
    }
    std::fs::write(CONTROL, "1").with_context(|| format!("writing {CONTROL} for --cold (needs root)"))
}
