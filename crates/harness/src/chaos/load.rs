//! The producers: they send to every partition all the time, so that a time without acknowledgements shows.

use super::gaps::Acknowledgements;
use super::{PARTITIONS, TOPIC};
use crate::admin;
use crate::crash::ledger::{Fate, Ledger};
use crate::crash::record::{self, Identity};
use anyhow::{Context, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bits of the delivery opaque that hold the sequence number; the partition is above them.
const SEQUENCE_BITS: u32 = 48;
const TICK: Duration = Duration::from_millis(10);
/// How many different reasons of failure are kept in words.
const REASONS: usize = 12;

struct Kind {
    idempotent: bool,
    linger_ms: &'static str,
    compression: &'static str,
}

/// All with acks=all. The client repeats some requests whatever its settings are, so the one that isn't idempotent may
/// leave copies; what it gave up on counts for nothing.
const KINDS: [Kind; 4] = [
    Kind { idempotent: true, linger_ms: "0", compression: "none" },
    Kind { idempotent: true, linger_ms: "2", compression: "lz4" },
    Kind { idempotent: true, linger_ms: "5", compression: "none" },
    Kind { idempotent: false, linger_ms: "1", compression: "none" },
];

/// The producers of which records may be there more than once.
pub fn repeating() -> Vec<u16> {
    (0..).zip(&KINDS).filter(|(_, kind)| !kind.idempotent).map(|(at, _)| at).collect()
}

/// How many producers there are.
pub const PRODUCERS: u16 = KINDS.len() as u16;

/// The running producers.
pub struct Load {
    producers: Vec<Arc<BaseProducer<Delivery>>>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    paused: AtomicBool,
    stop: AtomicBool,
}

/// Notes what became of each record.
struct Delivery {
    ledger: Mutex<Ledger>,
    acknowledgements: Arc<Acknowledgements>,
    idempotent: bool,
    /// Why records of an idempotent producer failed: none should.
    reasons: Mutex<Vec<String>>,
}

impl Delivery {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Delivery {
    // Nodes that go away are what this test is about.
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let partition = opaque >> SEQUENCE_BITS;
        let sequence = opaque as u64 & ((1 << SEQUENCE_BITS) - 1);
        let fate = match result {
            Ok(message) => {
                self.acknowledgements.acknowledged(partition);
                Fate::Acknowledged(Some(message.offset()).filter(|offset| *offset >= 0))
            }
            Err((error, _)) => {
                self.acknowledgements.failed();
                let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
                if self.idempotent && reasons.len() < REASONS {
                    reasons.push(format!("{TOPIC}-{partition} record {sequence}: {error}"));
                }
                Fate::Failed
            }
        };
        self.ledger().settled(partition, sequence, fate);
    }
}

impl Load {
    /// Starts the producers; each sends `rate` records a second.
    pub fn start(
        bootstrap: &str,
        rate: f64,
        seed: u64,
        acknowledgements: &Arc<Acknowledgements>,
    ) -> Result<Self> {
        let state = Arc::<State>::default();
        let (mut producers, mut threads) = (Vec::new(), Vec::new());
        for (index, kind) in (0u16..).zip(&KINDS) {
            let delivery = Delivery {
                ledger: Mutex::new(Ledger::new(PARTITIONS)),
                acknowledgements: acknowledgements.clone(),
                idempotent: kind.idempotent,
                reasons: Mutex::default(),
            };
            let producer: Arc<BaseProducer<Delivery>> =
                Arc::new(config(bootstrap, kind).create_with_context(delivery).context("making a producer")?);
            producers.push(producer.clone());
            let state = state.clone();
            threads.push(std::thread::spawn(move || send(&producer, index, rate, seed, &state)));
        }
        Ok(Self { producers, state, threads })
    }

    /// Stops sending and waits until every record has its answer; says who still waits when the time is over.
    pub fn finish(&self, within: Duration) -> Vec<String> {
        self.state.paused.store(true, Ordering::SeqCst);
        let started = Instant::now();
        let waits = |producer: &Arc<BaseProducer<Delivery>>| {
            producer.in_flight_count() > 0 || producer.context().ledger().unsettled() > 0
        };
        while started.elapsed() < within && self.producers.iter().any(waits) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let waiting = self.producers.iter().enumerate().filter(|(_, producer)| waits(producer));
        let words = waiting.map(|(index, producer)| {
            let unsettled = producer.context().ledger().unsettled();
            format!("producer {index} has {unsettled} records without an answer after {} s", within.as_secs())
        });
        words.collect()
    }

    /// What idempotent producers met that they never should: failed records and fatal errors.
    pub fn failures(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (index, producer) in self.producers.iter().enumerate() {
            let reasons = producer.context().reasons.lock().unwrap_or_else(PoisonError::into_inner);
            found
                .extend(reasons.iter().map(|reason| format!("idempotent producer {index} failed: {reason}")));
            if let Some((error, reason)) = producer.client().fatal_error() {
                found.push(format!("producer {index} failed for good: {error}: {reason}"));
            }
        }
        found
    }

    /// What each producer sent; meaningful once it has finished.
    pub fn ledgers(&self) -> Vec<MutexGuard<'_, Ledger>> {
        self.producers.iter().map(|producer| producer.context().ledger()).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for producer in &self.producers {
            // Otherwise it waits for records that a cluster in trouble never answers.
            producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        }
    }
}

fn config(bootstrap: &str, kind: &Kind) -> ClientConfig {
    let mut config = admin::client_config(bootstrap);
    config
        .set("acks", "all")
        .set("linger.ms", kind.linger_ms)
        .set("compression.type", kind.compression)
        .set("queue.buffering.max.messages", "50000")
        // A paused node answers nothing: only the client's own patience ends the wait for it.
        .set("request.timeout.ms", "1500")
        .set("socket.timeout.ms", "1500")
        .set("socket.connection.setup.timeout.ms", "1500")
        .set("topic.metadata.refresh.interval.ms", "500")
        // Longer than any fault: an idempotent producer has no reason to give up.
        .set("message.timeout.ms", "600000");
    if kind.idempotent {
        config.set("enable.idempotence", "true");
    } else {
        config.set("message.send.max.retries", "0");
    }
    config
}

fn send(producer: &BaseProducer<Delivery>, index: u16, rate: f64, seed: u64, state: &State) {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(u64::from(index) + 1));
    let mut pace = Pace::new(rate);
    while !state.stop.load(Ordering::SeqCst) {
        let due = pace.due();
        if !state.paused.load(Ordering::SeqCst) {
            for _ in 0..due {
                send_one(producer, index, random.usize(..PARTITIONS), seed);
            }
        }
        producer.poll(pace.until_next());
        std::thread::sleep(pace.until_next());
    }
}

/// How many records are due at each tick; what a late tick misses is not made up for.
pub struct Pace {
    per_tick: f64,
    owed: f64,
    next: Instant,
}

impl Pace {
    /// So many records a second.
    pub fn new(rate: f64) -> Self {
        Self { per_tick: rate * TICK.as_secs_f64(), owed: 0.0, next: Instant::now() }
    }

    /// Records that are due at this tick.
    pub fn due(&mut self) -> usize {
        self.next = (self.next + TICK).max(Instant::now());
        self.owed += self.per_tick;
        let due = self.owed.floor();
        self.owed -= due;
        due as usize
    }

    /// Time until the next tick.
    pub fn until_next(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

/// Leaves the record out while the client's queue is full, as it is when the cluster is away for long.
fn send_one(producer: &BaseProducer<Delivery>, index: u16, partition: usize, seed: u64) {
    let delivery = producer.context();
    // Entered before it is sent: the answer may come before this thread runs on.
    let mut ledger = delivery.ledger();
    let sequence = ledger.next(partition);
    ledger.sent(partition);
    drop(ledger);
    let bytes = record::encode(seed, Identity { producer: index, target: partition as u16, sequence });
    let key = index.to_be_bytes();
    let record: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(TOPIC, partition << SEQUENCE_BITS | sequence as usize)
            .partition(partition as i32)
            .key(&key[..])
            .payload(&bytes[..]);
    if let Err((error, _)) = producer.send(record) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            delivery.ledger().not_sent(partition);
        } else {
            delivery.ledger().settled(partition, sequence, Fate::Failed);
        }
    }
}
