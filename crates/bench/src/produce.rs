//! The produce load.
//!
//! Closed loop: each answer's callback records the latency and sends the next message, so a fixed number of
//! messages wait at any time and no task switch of ours stands between an answer and the next message.
//! Open loop: a thread for each handle sends as fast as the queue takes, or at a rate; another one polls.
//! When a message was sent travels with it as librdkafka's opaque value: nanoseconds since the run began.

use crate::args::ProduceArgs;
use crate::histogram::Latencies;
use crate::payload::Payloads;
use crate::procfs::Watch;
use crate::report::{self, ProduceReport};
use crate::{progress, topic};
use anyhow::{Context, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);
/// Sleep of a sender that is ahead of its rate or finds the queue full.
const PAUSE: Duration = Duration::from_micros(500);
const DRAIN: Duration = Duration::from_secs(10);

/// What all handles share during a run.
struct Run {
    topic: String,
    partitions: i32,
    payloads: Payloads,
    closed_loop: bool,
    epoch: Instant,
    /// Nanoseconds since `epoch` between which answers count.
    window_start: AtomicU64,
    window_end: AtomicU64,
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Run {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The callback side of one handle.
struct Handle {
    run: Arc<Run>,
    producer: OnceLock<Weak<BaseProducer<Handle>>>,
    sent: AtomicU64,
    /// Closed loop: messages that could not be queued and wait to be sent again.
    missing: AtomicI64,
    tally: Mutex<Tally>,
}

struct Tally {
    messages: u64,
    latencies: Latencies,
    errors: BTreeMap<String, u64>,
}

impl Handle {
    fn new(run: Arc<Run>, first_partition: u64) -> Result<Self> {
        let tally = Tally { messages: 0, latencies: Latencies::new()?, errors: BTreeMap::new() };
        Ok(Self {
            run,
            producer: OnceLock::new(),
            sent: AtomicU64::new(first_partition),
            missing: AtomicI64::new(0),
            tally: Mutex::new(tally),
        })
    }

    /// Queues one message that was due at `due` nanoseconds.
    fn send(&self, producer: &BaseProducer<Handle>, due: u64) -> Result<(), KafkaError> {
        let n = self.sent.load(Ordering::Relaxed);
        let partition = (n % self.run.partitions as u64) as i32;
        let record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.run.topic, due as usize)
                .partition(partition)
                .payload(self.run.payloads.nth(n));
        producer.send(record).map_err(|(error, _)| error)?;
        self.sent.store(n + 1, Ordering::Relaxed);
        Ok(())
    }

    fn send_next(&self) {
        let Some(producer) = self.producer.get().and_then(Weak::upgrade) else { return };
        if let Err(error) = self.send(&producer, self.run.now()) {
            self.count_error(&error);
            self.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count_error(&self, error: &KafkaError) {
        let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally.errors.entry(reason).or_default() += 1;
    }
}

impl ClientContext for Handle {
    // Lost connections show as failed or late messages; a line for each would tear the progress bar.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Handle {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_at: usize) {
        let run = &self.run;
        let now = run.now();
        match result {
            Ok(_) => {
                run.answered.fetch_add(1, Ordering::Relaxed);
                if now >= run.window_start.load(Ordering::Relaxed)
                    && now < run.window_end.load(Ordering::Relaxed)
                {
                    let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.messages += 1;
                    tally.latencies.record(Duration::from_nanos(now.saturating_sub(sent_at as u64)));
                }
            }
            // Dropping the producer purges what is still queued; that is the end of the run, not a failure.
            Err((error, _)) if run.stopped() && is_purge(error) => {}
            Err((error, _)) => self.count_error(error),
        }
        if run.closed_loop && !run.stopped() {
            self.send_next();
        }
    }
}

fn is_purge(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}

/// Runs the load; false when messages failed.
pub fn run(args: &ProduceArgs) -> Result<bool> {
    topic::ensure(&args.target)?;
    let closed_loop = !args.open_loop && args.rate.is_none();
    let handles_wanted = match args.acks {
        crate::args::Acks::Mixed => args.handles.max(2) as usize,
        _ => args.handles as usize,
    };
    let run = Arc::new(Run {
        topic: args.target.topic.clone(),
        partitions: args.target.partitions,
        payloads: Payloads::new(args.message_size),
        closed_loop,
        epoch: Instant::now(),
        window_start: AtomicU64::new(u64::MAX),
        window_end: AtomicU64::new(u64::MAX),
        stop: AtomicBool::new(false),
        answered: AtomicU64::new(0),
    });
    let mut producers = Vec::with_capacity(handles_wanted);
    for index in 0..handles_wanted {
        // Handles start at different partitions, so that many of them spread from the first message on.
        let first = (index as u64).wrapping_mul(7919);
        let producer: Arc<BaseProducer<Handle>> = Arc::new(
            config(args, index)
                .create_with_context(Handle::new(run.clone(), first)?)
                .with_context(|| format!("making producer {index}"))?,
        );
        let _ = producer.context().producer.set(Arc::downgrade(&producer));
        producers.push(producer);
    }

    let concurrency = args.concurrency.max(handles_wanted);
    let mut threads = Vec::new();
    for (index, producer) in producers.iter().enumerate() {
        if closed_loop {
            // Handle i takes every handles_wanted-th slot.
            let slots = (concurrency - index).div_ceil(handles_wanted);
            producer.context().missing.fetch_add(slots as i64, Ordering::Relaxed);
        }
        let poller = producer.clone();
        threads.push(std::thread::spawn(move || poll_until_stopped(&poller)));
        if !closed_loop {
            let sender = producer.clone();
            let rate = args.rate.map(|rate| rate as f64 / handles_wanted as f64);
            threads.push(std::thread::spawn(move || send_until_stopped(&sender, rate)));
        }
    }

    let measured = measure(args, &run);
    run.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            anyhow::bail!("a load thread panicked; its message is above");
        }
    }
    let (seconds, client_cpu_seconds, servers) = measured?;

    let mut total = Tally { messages: 0, latencies: Latencies::new()?, errors: BTreeMap::new() };
    for producer in &producers {
        let tally = producer.context().tally.lock().unwrap_or_else(PoisonError::into_inner);
        total.messages += tally.messages;
        total.latencies.merge(&tally.latencies);
        for (reason, count) in &tally.errors {
            *total.errors.entry(reason.clone()).or_default() += count;
        }
    }
    let per_second = total.messages as f64 / seconds;
    let report = ProduceReport {
        kind: "produce",
        topic: args.target.topic.clone(),
        partitions: args.target.partitions,
        message_size: args.message_size,
        concurrency,
        handles: handles_wanted,
        acks: args.acks.name(),
        linger_ms: args.linger_ms.clone(),
        mode: if closed_loop {
            "closed loop"
        } else if args.rate.is_some() {
            "fixed rate"
        } else {
            "open loop"
        },
        messages: total.messages,
        seconds,
        messages_per_second: per_second,
        megabytes_per_second: per_second * args.message_size as f64 / 1e6,
        latency: total.latencies.quantiles(),
        errors: total.errors,
        client_cpu_seconds,
        servers,
    };
    if args.target.delete_topic {
        topic::delete(&args.target)?;
    }
    if args.target.json {
        report::print_json(&report)?;
    } else {
        report::print_produce(&report);
    }
    Ok(report.errors.is_empty() && report.messages > 0)
}

fn config(args: &ProduceArgs, handle: usize) -> ClientConfig {
    let mut config = topic::client_config(&args.target);
    config.set("acks", args.acks.of_handle(handle));
    config.set("linger.ms", &args.linger_ms);
    config.set("compression.type", &args.compression);
    config.set("message.max.bytes", (args.message_size + 1_000_000).to_string());
    config.set("socket.nagle.disable", "true");
    if args.idempotent {
        config.set("enable.idempotence", "true");
    }
    if let Some(limit) = args.max_in_flight {
        config.set("max.in.flight.requests.per.connection", limit.to_string());
    }
    topic::apply_settings(&mut config, &args.target);
    config
}

/// Lets the load warm up, then measures: seconds measured, own CPU seconds, what the servers used.
fn measure(args: &ProduceArgs, run: &Run) -> Result<(f64, f64, Vec<crate::procfs::ProcessUse>)> {
    let total = args.warmup + args.duration;
    let bar = progress::bar(total.as_millis() as u64, "{prefix:>8} {wide_bar} {msg}");
    bar.set_prefix("warm-up");
    wait(&bar, run, args.warmup);
    let servers = Watch::start(&args.target.pids)?;
    let own = Watch::start(&[std::process::id()])?;
    bar.set_prefix("measure");
    let start = run.now();
    let end = start + args.duration.as_nanos() as u64;
    run.window_end.store(end, Ordering::Relaxed);
    run.window_start.store(start, Ordering::Relaxed);
    wait(&bar, run, args.duration);
    let servers = servers.finish()?;
    let own_cpu_seconds = own.finish()?.iter().map(|used| used.cpu_seconds).sum();
    bar.finish_and_clear();
    Ok((args.duration.as_secs_f64(), own_cpu_seconds, servers))
}

fn wait(bar: &indicatif::ProgressBar, run: &Run, duration: Duration) {
    let started = Instant::now();
    let mut last = (started, run.answered.load(Ordering::Relaxed));
    while let Some(left) = duration.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        let step = left.min(POLL);
        std::thread::sleep(step);
        bar.inc(step.as_millis() as u64);
        let answered = run.answered.load(Ordering::Relaxed);
        if last.0.elapsed() >= Duration::from_millis(500) {
            let rate = (answered - last.1) as f64 / last.0.elapsed().as_secs_f64();
            bar.set_message(format!("{rate:.0} msg/s"));
            last = (Instant::now(), answered);
        }
    }
}

fn poll_until_stopped(producer: &BaseProducer<Handle>) {
    let handle = producer.context();
    let run = &handle.run;
    while !run.stopped() {
        for _ in 0..handle.missing.swap(0, Ordering::Relaxed) {
            handle.send_next();
        }
        producer.poll(POLL);
    }
    // Answers on the way are waited for, so that a slow broker shows as late and not as failed.
    let _ = producer.flush(DRAIN);
}

fn send_until_stopped(producer: &BaseProducer<Handle>, rate_per_second: Option<f64>) {
    let handle = producer.context();
    let run = &handle.run;
    let start = run.now();
    let mut sent = 0u64;
    while !run.stopped() {
        let now = run.now();
        let due = match rate_per_second {
            None => now,
            Some(rate) => start + (sent as f64 / rate * 1e9) as u64,
        };
        if due > now {
            std::thread::sleep(PAUSE.min(Duration::from_nanos(due - now)));
            continue;
        }
        match handle.send(producer, due) {
            Ok(()) => sent += 1,
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                handle.count_error(&error);
                std::thread::sleep(POLL);
            }
        }
    }
}
