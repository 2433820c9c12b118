//! One coordinator and what it needs of the world: its partition to write to, and those who wait for its answers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chronik_base::ErrorCode;
use chronik_coordinator::{
    Action, CoordinatorConfig, Event, GroupCoordinator, Now, Record, Request, RequestId, Response, WriteToken,
};
use chronik_records::{BatchBuilder, BatchOptions, BuildError};
use tokio::sync::{Notify, oneshot};

use crate::Broker;
use crate::groups::codec;
use crate::partition::{Acks, Partition};
use crate::produce_wait::{ProduceWait, Settled};
use crate::rate_limit::RateLimit;
use crate::sync::Hold;

/// A write is given up after so long, as `offsets.commit.timeout.ms` has it in Kafka.
const WRITE_TIMEOUT_MS: i32 = 5_000;
/// Records of one write are divided into batches of about this size.
const BATCH_BYTES: usize = 512 << 10;
/// What a record takes in its batch beside key and value, at most.
const RECORD_OVERHEAD: usize = 64;
/// There is no deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// The coordinator of one partition of the offsets topic.
pub(crate) struct Shard {
    pub(super) partition: Arc<Partition>,
    /// The epoch in which this node leads the partition. In any other the coordinator must not write.
    pub(super) epoch: i32,
    state: Mutex<State>,
    /// When the next tick is due, on the monotonic clock.
    deadline: AtomicU64,
    loaded: AtomicBool,
    on_loaded: Notify,
    log_line: RateLimit,
}

struct State {
    coordinator: GroupCoordinator,
    waiting: HashMap<RequestId, oneshot::Sender<Response>>,
    next_request: u64,
    /// The coordinator is to resign as soon as no write is under way.
    closing: bool,
}

/// How a write begins.
enum Begun {
    /// It has ended already.
    Ended(Result<(), ErrorCode>),
    /// It ends later, and is reported then.
    UnderWay,
}

impl Shard {
    pub(super) fn new(partition: Arc<Partition>, epoch: i32, settings: CoordinatorConfig) -> Arc<Self> {
        Arc::new(Self {
            partition,
            epoch,
            state: Mutex::new(State {
                coordinator: GroupCoordinator::new(settings),
                waiting: HashMap::new(),
                next_request: 0,
                closing: false,
            }),
            deadline: AtomicU64::new(NEVER),
            loaded: AtomicBool::new(false),
            on_loaded: Notify::new(),
            log_line: RateLimit::default(),
        })
    }

    /// Asks the coordinator. The order of calls is the order in which it acts; the answer comes when it has one.
    pub(super) fn submit(self: &Arc<Self>, broker: &Broker, request: Request) -> oneshot::Receiver<Response> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state.hold();
        let id = RequestId(state.next_request);
        state.next_request += 1;
        state.waiting.insert(id, answer);
        self.event(broker, &mut state, Event::Request { id, request });
        answered
    }

    pub(super) fn topic_deleted(self: &Arc<Self>, broker: &Broker, topic: &str) {
        self.event(broker, &mut self.state.hold(), Event::TopicDeleted { topic: topic.into() });
    }

    /// Does what is due at `now_ms`, if anything is.
    pub(super) fn tick(self: &Arc<Self>, broker: &Broker, now_ms: u64) {
        if self.deadline() <= now_ms {
            self.event(broker, &mut self.state.hold(), Event::Tick);
        }
    }

    /// When the next tick is due, on the monotonic clock; [`NEVER`] if nothing is to come.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::SeqCst)
    }

    /// Answers whoever waits, and serves no more; commits that are being written are answered when they are.
    pub(super) fn close(&self) {
        let mut state = self.state.hold();
        state.closing = true;
        self.resign_if_idle(&mut state);
    }

    /// Looks at the coordinator; nothing else happens meanwhile.
    pub(super) fn inspect<T>(&self, look: impl FnOnce(&GroupCoordinator) -> T) -> T {
        look(&self.state.hold().coordinator)
    }

    // Loading.

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    pub(super) async fn wait_until_loaded(&self) {
        let loaded = self.on_loaded.notified();
        if !self.is_loaded() {
            loaded.await;
        }
    }

    pub(super) fn load_records(&self, records: impl IntoIterator<Item = Record>) {
        let mut state = self.state.hold();
        records.into_iter().for_each(|record| state.coordinator.load_record(record));
    }

    /// Forgets what was loaded, to begin anew.
    pub(super) fn restart_loading(&self) {
        let mut state = self.state.hold();
        let answers = state.coordinator.resign();
        deliver(&mut state, answers);
        if !state.closing {
            state.coordinator.start_loading();
        }
    }

    /// Everything is loaded: the groups are served from now on. Offsets of topics that are gone are removed.
    pub(super) fn finish_loading(self: &Arc<Self>, broker: &Broker) {
        let mut state = self.state.hold();
        let actions = state.coordinator.loaded(now(broker));
        self.carry_out(broker, &mut state, actions);
        let topics: Vec<Arc<str>> = state.coordinator.topics().cloned().collect();
        for topic in topics.into_iter().filter(|topic| broker.topics.by_name(topic).is_none()) {
            self.event(broker, &mut state, Event::TopicDeleted { topic });
        }
        drop(state);
        self.loaded.store(true, Ordering::Release);
        self.on_loaded.notify_waiters();
    }

    // Acting.

    fn event(self: &Arc<Self>, broker: &Broker, state: &mut State, event: Event) {
        let actions = state.coordinator.handle(now(broker), event);
        self.carry_out(broker, state, actions);
    }

    fn carry_out(self: &Arc<Self>, broker: &Broker, state: &mut State, actions: Vec<Action>) {
        let mut todo = VecDeque::from(actions);
        let mut wrote = false;
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Reply { request, response } => answer(state, request, response),
                Action::Persist { token, records } => {
                    wrote = true;
                    if let Begun::Ended(result) = self.write(broker, token, &records) {
                        todo.extend(
                            state.coordinator.handle(now(broker), Event::Persisted { token, result }),
                        );
                    }
                }
            }
        }
        if wrote {
            broker.log.request_flush();
            broker.log.kick();
        }
        self.resign_if_idle(state);
        let deadline = state.coordinator.next_deadline().unwrap_or(NEVER);
        self.deadline.store(deadline, Ordering::SeqCst);
        broker.groups.timers.wake_before(deadline);
    }

    fn resign_if_idle(&self, state: &mut State) {
        if state.closing && !state.coordinator.has_writes() {
            let answers = state.coordinator.resign();
            deliver(state, answers);
            self.deadline.store(NEVER, Ordering::SeqCst);
        }
    }

    // Writing.

    /// Appends records. Called with the state locked, so that the log has the writes in the order of their tokens.
    fn write(self: &Arc<Self>, broker: &Broker, token: WriteToken, records: &[Record]) -> Begun {
        let time = broker.append_time(WRITE_TIMEOUT_MS);
        let batches = match batches(records, time.wall_ms) {
            Ok(batches) => batches,
            Err(error) => {
                self.tell(broker, &error);
                return Begun::Ended(Err(ErrorCode::RecordListTooLarge));
            }
        };
        let count = batches.len();
        let wait = ProduceWait::new(count);
        for (slot, (records, batch)) in batches.into_iter().enumerate() {
            let size = batch.len();
            match self.partition.append(batch, Acks::All, Some(self.epoch), wait.share(slot), time) {
                Ok(_) => broker.on_appended(&self.partition, Acks::All, size, records),
                Err(error) => self.tell(broker, &error),
            }
        }
        if wait.opened() {
            return Begun::Ended(outcome(&wait, count));
        }
        let (shard, weak) = (self.clone(), broker.groups.broker.get().cloned().unwrap_or_default());
        broker.groups.runtime.spawn(async move {
            Settled(wait.clone()).await;
            let result = outcome(&wait, count);
            if let Some(broker) = weak.upgrade() {
                shard.event(&broker, &mut shard.state.hold(), Event::Persisted { token, result });
            }
        });
        Begun::UnderWay
    }

    fn tell(&self, broker: &Broker, error: &dyn std::error::Error) {
        if let Some(suppressed) = self.log_line.allow(broker.clock.monotonic_ms()) {
            tracing::warn!(
                suppressed,
                partition = self.partition.index,
                "offsets or groups were not written to {}: {error}",
                self.partition.topic
            );
        }
    }
}

fn now(broker: &Broker) -> Now {
    Now { monotonic_ms: broker.clock.monotonic_ms(), wall_ms: broker.clock.wall_ms() }
}

fn answer(state: &mut State, request: RequestId, response: Response) {
    if let Some(waiting) = state.waiting.remove(&request) {
        // Who asked may be gone.
        let _ = waiting.send(response);
    }
}

/// Gives the answers of a coordinator that does nothing but answer any more.
fn deliver(state: &mut State, actions: Vec<Action>) {
    for action in actions {
        if let Action::Reply { request, response } = action {
            answer(state, request, response);
        }
    }
}

/// How the appends of one write ended, all in all.
fn outcome(wait: &ProduceWait, count: usize) -> Result<(), ErrorCode> {
    match (0..count).map(|slot| wait.error(slot)).find(|error| !error.is_ok()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The records as batches, each with the number of its records.
fn batches(records: &[Record], wall_ms: i64) -> Result<Vec<(usize, bytes::Bytes)>, BuildError> {
    let mut batches = Vec::with_capacity(1);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in records {
        let (key, value) = codec::encode(record);
        let size = key.len() + value.as_ref().map_or(0, |value| value.len()) + RECORD_OVERHEAD;
        if !builder.is_empty() && builder.size() + size > BATCH_BYTES {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(BatchOptions::default()));
            batches.push((full.count(), full.finish()?));
        }
        builder.append(wall_ms, Some(&key), value.as_deref(), &[])?;
    }
    if !builder.is_empty() {
        batches.push((builder.count(), builder.finish()?));
    }
    Ok(batches)
}
