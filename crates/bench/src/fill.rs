//! Producing a known number of messages in bulk.

use crate::args::{Acks, FillArgs, Output, Sending};
use crate::maker::Maker;
use crate::producers::{Load, Pace};
use crate::session::{self, Session};
use crate::topic;
use crate::units::Span;
use crate::window::Window;
use crate::{interrupt, print, progress};
use anyhow::{Context, Result, bail};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is to be read back is acknowledged by all.
pub const ACKS: Acks = Acks::All;
const FLUSH_WITHIN: Duration = Duration::from_secs(120);

#[derive(Serialize)]
struct FillReport {
    kind: &'static str,
    topic: String,
    messages: u64,
    seconds: f64,
}

/// Large batches from one producer.
pub fn sending() -> Sending {
    Sending {
        concurrency: 1,
        clients: 1,
        linger: Span(Duration::from_millis(20)),
        batch_size: None,
        max_in_flight: None,
        idempotent: false,
    }
}

/// Creates the topic, fills it, and leaves it there.
pub fn run(args: &FillArgs) -> Result<bool> {
    session::check(&args.content, &sending(), &[ACKS], None, false)?;
    let target = topic::to_keep(&args.target);
    let output = Output {
        server_pids: Vec::new(),
        server_metrics: Vec::new(),
        json: args.json,
        output: None,
        hlog: None,
        label: None,
        generator_ceiling: None,
        disk_probe: PathBuf::from("."),
        no_disk_probe: true,
    };
    let session = Session::begin("fill", &target, &target, &output, Duration::ZERO)?;
    session.require(false, false, &args.content)?;
    let load = session.load(&args.content, &sending(), ACKS, Pace::Queue, 0, false)?;
    let started = Instant::now();
    produce(&load, args.messages)?;
    let seconds = started.elapsed().as_secs_f64();
    if args.json || !std::io::stdout().is_terminal() {
        let topic = args.target.topic.clone();
        print::json(&FillReport { kind: "fill", topic, messages: args.messages, seconds })?;
    } else {
        println!("{} messages of {} B in {seconds:.1} s", args.messages, args.content.message_size);
    }
    Ok(true)
}

/// Counts what could not be delivered.
#[derive(Default)]
struct Failures(AtomicU64);

impl ClientContext for Failures {
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ProducerContext for Failures {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _due: usize) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

/// Produces so many messages and waits until all are acknowledged.
pub fn produce(load: &Load, messages: u64) -> Result<()> {
    let producer: BaseProducer<Failures> =
        load.config.create_with_context(Failures::default()).context("making the producer")?;
    let window = Window::new();
    let mut maker = Maker::new(load.content.clone(), load.first_producer);
    let bar = progress::bar(messages, "    fill {wide_bar} {human_pos}/{human_len} {per_sec}");
    let mut sent = 0u64;
    while sent < messages {
        if interrupt::requested() {
            bail!("stopped while filling {}: {sent} of {messages} messages were sent", load.content.topic);
        }
        match maker.send(&producer, &window, window.now()) {
            Ok(()) => sent += 1,
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("filling the topic"),
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
        failed => bail!(
            "{failed} of {messages} messages could not be delivered while filling {}",
            load.content.topic
        ),
    }
}
