//! The consume load: N messages from the start of every partition, through one librdkafka consumer.

use crate::args::ConsumeArgs;
use crate::fill;
use crate::procfs::Watch;
use crate::report::{self, ConsumeReport};
use crate::{progress, topic};
use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
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
        fill::produce(&args.target, args.messages - present, args.message_size)?;
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
    if args.target.delete_topic {
        topic::delete(&args.target)?;
    }
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

fn drop_page_cache() -> Result<()> {
    const CONTROL: &str = "/proc/sys/vm/drop_caches";
    // Only clean pages are dropped; writing the dirty ones out first makes the whole log cold.
    let synced = std::process::Command::new("sync").status().context("running sync for --cold")?;
    if !synced.success() {
        bail!("sync ended with {synced}");
    }
    std::fs::write(CONTROL, "1").with_context(|| format!("writing {CONTROL} for --cold (needs root)"))
}
