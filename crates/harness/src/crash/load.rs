//! The load: producers of every kind that live through all the crashes.

use super::Target;
use super::ledger::{Fate, Ledger};
use super::record::{self, Identity};
use crate::admin;
use anyhow::{Context, Result, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for the answers to what is in flight, once the broker serves again.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// Bits of the delivery opaque that hold the sequence number; the target's index is above them.
const SEQUENCE_BITS: u32 = 48;

/// One kind of producer.
struct Kind {
    acks: &'static str,
    idempotent: bool,
    linger_ms: &'static str,
    compression: &'static str,
}

/// Without idempotence nothing is sent twice, so order and uniqueness hold for all of them.
const KINDS: [Kind; 4] = [
    Kind { acks: "1", idempotent: false, linger_ms: "0", compression: "none" },
    Kind { acks: "all", idempotent: false, linger_ms: "1", compression: "lz4" },
    Kind { acks: "all", idempotent: true, linger_ms: "0", compression: "none" },
    Kind { acks: "all", idempotent: true, linger_ms: "2", compression: "snappy" },
];

/// The running producers.
pub struct Load {
    producers: Vec<Arc<BaseProducer<Delivery>>>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

struct State {
    paused: AtomicBool,
    stop: AtomicBool,
}

/// Notes what became of each record.
struct Delivery {
    ledger: Mutex<Ledger>,
}

impl Delivery {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Delivery {
    // A broker that goes away is what this test is about.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let target = opaque >> SEQUENCE_BITS;
        let sequence = opaque as u64 & ((1 << SEQUENCE_BITS) - 1);
        let fate = match result {
            Ok(message) => Fate::Acknowledged(Some(message.offset()).filter(|offset| *offset >= 0)),
            Err(_) => Fate::Failed,
        };
        self.ledger().settled(target, sequence, fate);
    }
}

impl Load {
    /// Starts the producers, paused.
    pub fn start(bootstrap: &str, targets: &[Target<'static>], seed: u64) -> Result<Self> {
        let state = Arc::new(State { paused: AtomicBool::new(true), stop: AtomicBool::new(false) });
        let mut producers = Vec::new();
        let mut threads = Vec::new();
        for (index, kind) in KINDS.iter().enumerate() {
            let delivery = Delivery { ledger: Mutex::new(Ledger::new(targets.len())) };
            let producer: Arc<BaseProducer<Delivery>> =
                Arc::new(config(bootstrap, kind).create_with_context(delivery).context("making a producer")?);
            producers.push(producer.clone());
            let (state, targets) = (state.clone(), targets.to_vec());
            threads.push(std::thread::spawn(move || send(&producer, index as u16, &targets, seed, &state)));
        }
        Ok(Self { producers, state, threads })
    }

    pub fn resume(&self) {
        self.state.paused.store(false, Ordering::SeqCst);
    }

    /// Stops sending and waits until every record has its answer.
    pub fn pause(&self) -> Result<()> {
        self.state.paused.store(true, Ordering::SeqCst);
        let started = Instant::now();
        for (index, producer) in self.producers.iter().enumerate() {
            while producer.in_flight_count() > 0 || producer.context().ledger().unsettled() > 0 {
                if let Some((error, reason)) = producer.client().fatal_error() {
                    bail!("producer {index} failed for good: {error}: {reason}");
                }
                if started.elapsed() > SETTLE_WITHIN {
                    bail!(
                        "producer {index} has {} records without an answer after {} s",
                        producer.context().ledger().unsettled(),
                        SETTLE_WITHIN.as_secs()
                    );
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// What each producer sent so far; meaningful while paused.
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
    }
}

fn config(bootstrap: &str, kind: &Kind) -> ClientConfig {
    let mut config = admin::client_config(bootstrap);
    config
        .set("acks", kind.acks)
        .set("linger.ms", kind.linger_ms)
        .set("compression.type", kind.compression)
        .set("queue.buffering.max.messages", "20000")
        .set("message.timeout.ms", "45000");
    if kind.idempotent {
        config.set("enable.idempotence", "true");
    } else {
        config.set("message.send.max.retries", "0");
    }
    config
}

/// Sends bursts of random length with random pauses, until stopped.
fn send(
    producer: &BaseProducer<Delivery>,
    index: u16,
    targets: &[Target<'static>],
    seed: u64,
    state: &State,
) {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(u64::from(index) + 1));
    while !state.stop.load(Ordering::SeqCst) {
        if state.paused.load(Ordering::SeqCst) {
            producer.poll(Duration::from_millis(1));
            continue;
        }
        for _ in 0..random.u8(1..40) {
            let target = random.usize(..targets.len());
            if !send_one(producer, index, targets, target, seed) {
                break;
            }
        }
        producer.poll(Duration::from_micros(random.u64(..4000)));
    }
}

/// False when the client's queue is full, as it is while the broker is away.
fn send_one(
    producer: &BaseProducer<Delivery>,
    index: u16,
    targets: &[Target<'static>],
    target: usize,
    seed: u64,
) -> bool {
    let Some(Target { topic, partition }) = targets.get(target).copied() else { return false };
    let delivery = producer.context();
    // Entered before it is sent: the answer may come before this thread runs on.
    let mut ledger = delivery.ledger();
    let sequence = ledger.next(target);
    ledger.sent(target);
    drop(ledger);
    let bytes = record::encode(seed, Identity { producer: index, target: target as u16, sequence });
    let key = index.to_be_bytes();
    let record: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(topic, target << SEQUENCE_BITS | sequence as usize)
            .partition(partition)
            .key(&key[..])
            .payload(&bytes[..]);
    match producer.send(record) {
        Ok(()) => true,
        Err((error, _)) => {
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if full {
                delivery.ledger().not_sent(target);
            } else {
                delivery.ledger().settled(target, sequence, Fate::Failed);
            }
            false
        }
    }
}
