//! The producers of a load.
//!
//! - Closed loop: each answer's callback notes the latency and sends the next message, so a fixed number of messages
//!   wait at any time and no task switch of ours stands between an answer and the next message.
//! - At a rate: a thread for each handle sends what is due; latency counts from when a message was due. If the queue is
//!   full, the message stays due, and so do all after it.
//! - Queue: a thread for each handle sends as fast as the queue takes.
//! - Transactions: a thread for each handle begins, sends and commits; a message is acknowledged by the commit.
//!
//! When a message was due travels with it as librdkafka's opaque value: nanoseconds since the run began.

use crate::interrupt;
use crate::ledger::Lane;
use crate::maker::{Content, Maker};
use crate::message::Stamp;
use crate::tally::{Answer, Board};
use crate::transactions;
use crate::window::{Window, nanos};
use anyhow::{Context, Result, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);
/// Sleep of a sender that finds the queue full.
const FULL: Duration = Duration::from_micros(500);
/// Longest sleep of a sender that is ahead of its rate.
const NAP: Duration = Duration::from_millis(5);
/// What was sent in time is waited for this long after the end; after Ctrl-C, shorter.
pub const DRAIN: Duration = Duration::from_secs(30);
const DRAIN_INTERRUPTED: Duration = Duration::from_secs(3);
/// A sender that is behind its schedule by more, although the queue took everything, has itself to blame.
const CAUGHT_UP_NS: u64 = 1_000_000;

/// How messages are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// So many wait for their answer at any time, over all handles.
    Closed(usize),
    /// So many a second over all handles.
    Rate(f64),
    /// As fast as the queue takes them.
    Queue,
    /// So many in each transaction.
    Transactions(usize),
}

/// A load.
pub struct Load {
    /// How messages are sent.
    pub pace: Pace,
    /// Independent producers, each with connections of its own.
    pub handles: usize,
    /// Number of the first producer in the run's stamps.
    pub first_producer: u32,
    /// librdkafka's settings.
    pub config: ClientConfig,
    /// The messages.
    pub content: Content,
    /// True if it is to be known which messages were acknowledged.
    pub keeps_books: bool,
}

/// A message of a transaction that is not yet committed.
pub struct Delivered {
    /// When it began, on the run's clock.
    pub begun_ns: u64,
    /// Bytes of key and value.
    pub bytes: usize,
    /// Which message it is, where books are kept.
    pub booked: Option<(Lane, u64)>,
}

/// The callback side of one handle.
pub struct Handle {
    index: usize,
    pace: Pace,
    stamped: bool,
    pub(crate) window: Arc<Window>,
    board: Arc<Board>,
    maker: Mutex<Maker>,
    itself: OnceLock<Weak<BaseProducer<Handle>>>,
    /// Closed loop: messages that wait to be sent, at the start and after the queue refused one.
    missing: AtomicI64,
    /// True while a thread of its own sends.
    sending: AtomicBool,
    /// How late the sender was although the queue took messages.
    lag: Mutex<crate::histogram::Latencies>,
    /// Transactions: what was delivered and waits for the commit.
    pub(crate) uncommitted: Mutex<Vec<Delivered>>,
}

impl Handle {
    /// Queues one message that was due at `due` nanoseconds.
    pub(crate) fn send(&self, producer: &BaseProducer<Handle>, due: u64) -> Result<(), KafkaError> {
        let mut maker = self.maker.lock().unwrap_or_else(PoisonError::into_inner);
        maker.send(producer, &self.window, due)
    }

    /// Closed loop: sends the next message unless the measurement is over.
    fn send_next(&self) {
        let now = self.window.now();
        if now >= self.window.end() {
            return;
        }
        let Some(producer) = self.itself.get().and_then(Weak::upgrade) else { return };
        if let Err(error) = self.send(&producer, now) {
            if !is_full(&error) {
                self.failed(&error, now);
            }
            self.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a message that failed.
    pub(crate) fn failed(&self, error: &KafkaError, begun_ns: u64) {
        let code = error.rdkafka_error_code();
        let reason = match code {
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
                format!("no answer within {} s of the end", DRAIN.as_secs())
            }
            Some(code) => code.to_string(),
            None => error.to_string(),
        };
        self.board.tally(self.index).failed(reason, self.window.counts(begun_ns));
    }

    /// Counts a message that was acknowledged at `now`.
    pub(crate) fn acknowledged(&self, begun_ns: u64, now_ns: u64, bytes: usize, booked: Option<(Lane, u64)>) {
        let measured = self.window.counts(begun_ns);
        let mut tally = self.board.tally(self.index);
        tally.answered(&Answer { begun_ns, now_ns, bytes, measured });
        if let Some((lane, sequence)) = booked {
            tally.book(lane, sequence);
        }
    }
}

impl ClientContext for Handle {
    // Lost connections show as failed or late messages; a line for each would tear the live display.
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ProducerContext for Handle {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        let now = self.window.now();
        let due = due as u64;
        match result {
            Ok(message) => {
                let value = message.payload().unwrap_or_default();
                let bytes = value.len() + message.key_len();
                let booked = if self.stamped { Stamp::fields(value) } else { None }
                    .map(|stamp| ((stamp.producer, message.partition()), stamp.sequence));
                if matches!(self.pace, Pace::Transactions(_)) {
                    let mut waiting = self.uncommitted.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.push(Delivered { begun_ns: due, bytes, booked });
                } else {
                    self.acknowledged(due, now, bytes, booked);
                }
            }
            Err((error, _)) => self.failed(error, due),
        }
        if matches!(self.pace, Pace::Closed(_)) {
            self.send_next();
        }
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// The producers of a load, connected and waiting for the window to open.
pub struct Producers {
    handles: Vec<Arc<BaseProducer<Handle>>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Producers {
    /// Makes the clients. Errors name the setting that librdkafka refused.
    pub fn new(load: &Load, window: &Arc<Window>, board: &Arc<Board>) -> Result<Self> {
        let mut handles = Vec::with_capacity(load.handles);
        for index in 0..load.handles {
            let concurrency = match load.pace {
                Pace::Closed(all) => all / load.handles + usize::from(index < all % load.handles),
                _ => 0,
            };
            let handle = Handle {
                index,
                pace: load.pace,
                stamped: load.content.stamped && load.keeps_books,
                window: window.clone(),
                board: board.clone(),
                maker: Mutex::new(Maker::new(load.content.clone(), load.first_producer + index as u32)),
                itself: OnceLock::new(),
                missing: AtomicI64::new(i64::try_from(concurrency).unwrap_or(i64::MAX)),
                sending: AtomicBool::new(!matches!(load.pace, Pace::Closed(_))),
                lag: Mutex::new(crate::histogram::Latencies::new()?),
                uncommitted: Mutex::new(Vec::new()),
            };
            let mut config = load.config.clone();
            if matches!(load.pace, Pace::Transactions(_)) {
                config.set("transactional.id", format!("chronik-bench-{:016x}-{index}", load.content.run));
            }
            let producer: BaseProducer<Handle> =
                config.create_with_context(handle).context("making a producer")?;
            let producer = Arc::new(producer);
            let _ = producer.context().itself.set(Arc::downgrade(&producer));
            if matches!(load.pace, Pace::Transactions(_)) {
                transactions::prepare(&producer)?;
            }
            handles.push(producer);
        }
        Ok(Self { handles, threads: Vec::new() })
    }

    /// Starts the load; the window must be open.
    pub fn start(&mut self, pace: Pace) {
        let count = self.handles.len();
        for (index, producer) in self.handles.iter().enumerate() {
            let polled = producer.clone();
            self.threads.push(std::thread::spawn(move || {
                poll_until_drained(&polled);
                Ok(())
            }));
            let sender = producer.clone();
            let send: Box<dyn FnOnce() -> Result<()> + Send> = match pace {
                Pace::Closed(_) => continue,
                Pace::Queue => Box::new(move || {
                    send_to_queue(&sender);
                    Ok(())
                }),
                Pace::Rate(all) => Box::new(move || {
                    // Handles take turns instead of all sending at the same moment.
                    send_at_rate(&sender, all / count as f64, index as f64 / all);
                    Ok(())
                }),
                Pace::Transactions(size) => Box::new(move || transactions::run(&sender, size)),
            };
            let done = producer.clone();
            self.threads.push(std::thread::spawn(move || {
                let sent = send();
                done.context().sending.store(false, Ordering::Release);
                sent
            }));
        }
    }

    /// True when everything that was sent is answered or given up.
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the threads; the first error of a transaction, if there was one.
    pub fn join(&mut self) -> Result<()> {
        let mut first = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(ended) => first = first.and(ended),
                Err(_) => bail!("a load thread panicked; its message is above"),
            }
        }
        first
    }

    /// How late the senders were although the queue took messages.
    pub fn lag(&self) -> Result<crate::histogram::Latencies> {
        let mut all = crate::histogram::Latencies::new()?;
        for producer in &self.handles {
            all.merge(&producer.context().lag.lock().unwrap_or_else(PoisonError::into_inner))?;
        }
        Ok(all)
    }
}

/// When waiting for answers ends, on the run's clock.
pub(crate) fn give_up_at(window: &Window) -> u64 {
    let drain = if interrupt::requested() { DRAIN_INTERRUPTED } else { DRAIN };
    window.end().saturating_add(nanos(drain))
}

fn poll_until_drained(producer: &BaseProducer<Handle>) {
    let handle = producer.context();
    loop {
        for _ in 0..handle.missing.swap(0, Ordering::Relaxed) {
            handle.send_next();
        }
        producer.poll(POLL);
        let now = handle.window.now();
        if now < handle.window.end() || handle.sending.load(Ordering::Acquire) {
            continue;
        }
        if producer.in_flight_count() == 0 {
            return;
        }
        if now >= give_up_at(&handle.window) {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    }
}

fn send_to_queue(producer: &BaseProducer<Handle>) {
    let handle = producer.context();
    loop {
        let now = handle.window.now();
        if now >= handle.window.end() {
            return;
        }
        match handle.send(producer, now) {
            Ok(()) => {}
            Err(error) if is_full(&error) => std::thread::sleep(FULL),
            Err(error) => {
                handle.failed(&error, now);
                std::thread::sleep(POLL);
            }
        }
    }
}

/// Sends at a rate; `offset` is when the first message is due, in seconds.
fn send_at_rate(producer: &BaseProducer<Handle>, per_second: f64, offset: f64) {
    let handle = producer.context();
    let window = &handle.window;
    // Not from when this thread came to run: what is due is due.
    let begin = window.opened();
    let due_at = |n: u64| begin + ((offset + n as f64 / per_second) * 1e9) as u64;
    // Late because the queue was full is the broker's doing; late otherwise is ours.
    let mut held_up = false;
    let mut n = 0u64;
    loop {
        let (now, due) = (window.now(), due_at(n));
        if due >= window.end() {
            return;
        }
        if due > now {
            std::thread::sleep(NAP.min(Duration::from_nanos(due - now)));
            continue;
        }
        let late = now - due;
        if late < CAUGHT_UP_NS {
            held_up = false;
        }
        match handle.send(producer, due) {
            Ok(()) => n += 1,
            Err(error) if is_full(&error) => {
                held_up = true;
                if now >= give_up_at(window) {
                    give_up(handle, n, &due_at);
                    return;
                }
                std::thread::sleep(FULL);
                continue;
            }
            Err(error) => {
                handle.failed(&error, due);
                n += 1;
            }
        }
        if !held_up && window.counts(due) {
            handle.lag.lock().unwrap_or_else(PoisonError::into_inner).record(late);
        }
    }
}

/// Counts what was due and never sent.
fn give_up(handle: &Handle, first: u64, due_at: &dyn Fn(u64) -> u64) {
    let window = &handle.window;
    let (mut all, mut measured) = (0, 0);
    let mut n = first;
    while due_at(n) < window.end() {
        all += 1;
        measured += u64::from(window.counts(due_at(n)));
        n += 1;
    }
    handle.board.tally(handle.index).unsent(all, measured);
}
