//! Producing a known number of messages in bulk.

use crate::args::{FillArgs, Target};
use crate::payload::Payloads;
use crate::{progress, report, topic};
use anyhow::{Context, Result, bail};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FLUSH_WITHIN: Duration = Duration::from_secs(120);

#[derive(Serialize)]
struct FillReport {
    kind: &'static str,
    topic: String,
    messages: u64,
    seconds: f64,
}

/// Creates the topic and fills it.
pub fn run(args: &FillArgs) -> Result<bool> {
    topic::ensure(&args.target)?;
    let started = Instant::now();
    produce(&args.target, args.messages, args.message_size)?;
    let seconds = started.elapsed().as_secs_f64();
    if args.target.json {
        let topic = args.target.topic.clone();
        report::print_json(&FillReport { kind: "fill", topic, messages: args.messages, seconds })?;
    } else {
        println!("{} messages of {} B in {seconds:.1} s", args.messages, args.message_size);
    }
    Ok(true)
}

/// Counts what could not be delivered.
#[derive(Default)]
struct Failures(AtomicU64);

impl ClientContext for Failures {
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

/// Produces messages round robin over the topic's partitions and waits until all are acknowledged.
pub fn produce(target: &Target, messages: u64, message_size: usize) -> Result<()> {
    let mut config = topic::client_config(target);
    config.set("acks", "all").set("linger.ms", "20");
    config.set("message.max.bytes", (message_size + 1_000_000).to_string());
    topic::apply_settings(&mut config, target);
    let producer: BaseProducer<Failures> =
        config.create_with_context(Failures::default()).context("making the producer")?;
    let payloads = Payloads::new(message_size);
    let bar = progress::bar(messages, "    fill {wide_bar} {human_pos}/{human_len} {per_sec}");
    let mut sent = 0u64;
    while sent < messages {
        let partition = (sent % target.partitions as u64) as i32;
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&target.topic).partition(partition).payload(payloads.nth(sent));
        match producer.send(record) {
            Ok(()) => sent += 1,
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error).context("filling the topic"),
        }
        if sent.is_multiple_of(4096) {
            producer.poll(Duration::ZERO);
            bar.set_position(sent);
        }
    }
    producer.flush(FLUSH_WITHIN).context("filling the topic")?;
    bar.finish_and_clear();
    match producer.context().0.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => {
            bail!("{failed} of {messages} messages could not be delivered while filling {}", target.topic)
        }
    }
}
