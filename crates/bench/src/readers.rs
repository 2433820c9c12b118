//! Groups of consumers: they read, check what they read, and measure how old it is.

use crate::ledger::{Acknowledged, Seen};
use crate::tally::{Answer, Board};
use crate::topic::{Topic, patiently};
use crate::window::Window;
use anyhow::{Context, Result, anyhow, bail};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// Longest wait until all members have their partitions.
const JOIN: Duration = Duration::from_secs(60);

/// Who reads what.
#[derive(Clone)]
pub struct ReadSpec {
    /// Members of the group.
    pub members: usize,
    /// False when each member is given its partitions without a group.
    pub group: bool,
    /// True when reading begins at the end.
    pub tail: bool,
    /// librdkafka's settings.
    pub config: ClientConfig,
    /// The run whose messages are expected; its messages count by when they were due, others by when they came.
    pub run: u64,
    /// True when what is read was written before: there is no latency then, and everything counts.
    pub old: bool,
}

/// What the members share.
struct Shared {
    window: Arc<Window>,
    board: Arc<Board>,
    run: u64,
    old: bool,
    stop: AtomicBool,
    /// Messages of this run (of any, when old ones are read).
    received: AtomicU64,
    /// When something was received last, on the run's clock.
    last_ns: AtomicU64,
    errors: Mutex<Vec<String>>,
    topic: String,
}

/// A group that reads.
pub struct Group {
    /// Its name, if the broker knows it.
    name: Option<String>,
    shared: Arc<Shared>,
    members: Vec<JoinHandle<Member>>,
    assigned: Vec<Arc<AtomicUsize>>,
    partitions: usize,
    /// True if reading began at offset 0 everywhere.
    from_zero: bool,
    /// When the members asked for messages.
    asked_ns: u64,
}

struct Member {
    seen: Seen,
    first_ns: Option<u64>,
}

/// What a group saw.
pub struct GroupSeen {
    /// All its members' books.
    pub seen: Seen,
    /// From asking to the first message, in milliseconds: of the member that waited longest.
    pub first_message_ms: Option<f64>,
    /// True if reading began at offset 0 everywhere.
    pub from_zero: bool,
    /// What librdkafka reported besides messages, once each.
    pub errors: Vec<String>,
}

/// Follows the partitions that a group gives to one member.
struct Follow {
    assigned: Arc<AtomicUsize>,
}

impl ClientContext for Follow {
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ConsumerContext for Follow {
    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.assigned.store(list.count(), Ordering::Release),
            Rebalance::Revoke(_) => self.assigned.store(0, Ordering::Release),
            Rebalance::Error(_) => {}
        }
    }
}

impl Group {
    /// Starts the members. With `tail`, nothing that is written after `wait_until_ready` has returned is missed.
    pub fn start(spec: &ReadSpec, topic: &Topic, name: &str, window: &Arc<Window>) -> Result<Self> {
        let mut starts = TopicPartitionList::new();
        let mut from_zero = true;
        for partition in 0..topic.partitions {
            let (low, high) = topic.watermarks(partition)?;
            from_zero &= low == 0 && !spec.tail;
            let offset = Offset::Offset(if spec.tail { high } else { low });
            starts.add_partition_offset(&topic.name, partition, offset)?;
        }
        let mut config = spec.config.clone();
        config.set("group.id", name).set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "false").set("auto.offset.reset", "earliest");
        let shared = Arc::new(Shared {
            window: window.clone(),
            board: Arc::new(Board::new(spec.members, false)?),
            run: spec.run,
            old: spec.old,
            stop: AtomicBool::new(false),
            received: AtomicU64::new(0),
            last_ns: AtomicU64::new(window.now()),
            errors: Mutex::new(Vec::new()),
            topic: topic.name.clone(),
        });
        let assigned: Vec<Arc<AtomicUsize>> = (0..spec.members).map(|_| Arc::default()).collect();
        let mut consumers = Vec::new();
        for assigned in &assigned {
            let context = Follow { assigned: assigned.clone() };
            let consumer: BaseConsumer<Follow> =
                config.create_with_context(context).context("making a consumer")?;
            consumers.push(consumer);
        }
        if spec.group {
            // A committed offset is where a group begins, without a race between joining and asking for the end.
            if let Some(consumer) = consumers.first() {
                patiently(|| consumer.commit(&starts, CommitMode::Sync))
                    .context("placing the group at its start")?;
            }
        }
        let asked_ns = window.now();
        let mut members = Vec::new();
        for (index, consumer) in consumers.into_iter().enumerate() {
            if spec.group {
                consumer.subscribe(&[&topic.name]).context("joining the group")?;
            } else {
                let mut own = TopicPartitionList::new();
                for element in starts.elements().iter().skip(index).step_by(spec.members) {
                    own.add_partition_offset(element.topic(), element.partition(), element.offset())?;
                }
                if let Some(assigned) = assigned.get(index) {
                    assigned.store(own.count(), Ordering::Release);
                }
                consumer.assign(&own).context("assigning partitions")?;
            }
            let shared = shared.clone();
            members.push(std::thread::spawn(move || shared.read(&consumer, index)));
        }
        let name = spec.group.then(|| name.to_owned());
        Ok(Self {
            name,
            shared,
            members,
            assigned,
            partitions: topic.partitions as usize,
            from_zero,
            asked_ns,
        })
    }

    /// Waits until every partition has a member.
    pub fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let assigned: usize = self.assigned.iter().map(|count| count.load(Ordering::Acquire)).sum();
            if assigned >= self.partitions {
                return Ok(());
            }
            if started.elapsed() > JOIN || crate::interrupt::requested() {
                let errors = self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
                bail!(
                    "{assigned} of {} partitions have a consumer after {} s {errors}",
                    self.partitions,
                    started.elapsed().as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it counts.
    pub fn board(&self) -> Arc<Board> {
        self.shared.board.clone()
    }

    /// Messages received that were expected.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// How long nothing has come.
    pub fn quiet_for(&self) -> Duration {
        let last = self.shared.last_ns.load(Ordering::Relaxed);
        Duration::from_nanos(self.shared.window.now().saturating_sub(last))
    }

    /// Ends reading, and takes the group off the broker: nothing more is counted when this returns.
    pub fn finish(&mut self, topic: &Topic) -> Result<GroupSeen> {
        self.shared.stop.store(true, Ordering::Release);
        let mut seen = Seen::default();
        let mut slowest = None;
        for member in self.members.drain(..) {
            let member =
                member.join().map_err(|_| anyhow!("a consumer thread panicked; its message is above"))?;
            seen.merge(member.seen);
            slowest = slowest.max(member.first_ns);
        }
        if let Some(name) = &self.name {
            topic.forget_group(name);
        }
        let errors = std::mem::take(&mut *self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(GroupSeen {
            seen,
            first_message_ms: slowest.map(|first| first.saturating_sub(self.asked_ns) as f64 / 1e6),
            from_zero: self.from_zero,
            errors,
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl GroupSeen {
    /// What its checks found; where it is known what was acknowledged, that says what is lost.
    pub fn integrity(&self, run: u64, acknowledged: Option<&Acknowledged>) -> crate::result::Integrity {
        let mut found = self.seen.integrity(self.from_zero);
        if let Some(acknowledged) = acknowledged {
            found.lost = self.seen.missing(run, acknowledged);
        }
        found
    }
}

impl Shared {
    fn read(&self, consumer: &BaseConsumer<Follow>, index: usize) -> Member {
        let mut member = Member { seen: Seen::default(), first_ns: None };
        while !self.stop.load(Ordering::Acquire) {
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let now_ns = self.window.now();
                    member.first_ns.get_or_insert(now_ns);
                    self.last_ns.store(now_ns, Ordering::Relaxed);
                    let value = message.payload().unwrap_or_default();
                    let checked = member.seen.check(value, message.partition(), message.offset());
                    let own = checked.is_some_and(|(stamp, _)| stamp.run == self.run);
                    // One that comes twice must not stand for another that is missing.
                    if self.old || own && checked.is_some_and(|(_, new)| new) {
                        self.received.fetch_add(1, Ordering::Relaxed);
                    }
                    let begun_ns = match checked {
                        Some((stamp, _)) if !self.old => self.window.in_run(stamp.due_ns),
                        _ => now_ns,
                    };
                    let counts = self.window.counts(if own { begun_ns } else { now_ns });
                    let bytes = value.len() + message.key_len();
                    let measured = self.old || counts;
                    self.board.tally(index).answered(&Answer { begun_ns, now_ns, bytes, measured });
                }
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => {
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) {
                        // librdkafka could not make sense of a batch, or its CRC is wrong (check.crcs).
                        member.seen.corrupt(-1, -1);
                    }
                    let reason = format!("reading {}: {error}", self.topic);
                    let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                    if !errors.contains(&reason) && errors.len() < 10 {
                        errors.push(reason);
                    }
                }
            }
        }
        member
    }
}

/// Connections come and go; what it means for the messages shows in their counts.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::Resolve
                | Code::NotLeaderForPartition
        )
    )
}
