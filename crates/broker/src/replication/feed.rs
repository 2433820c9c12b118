//! The leader's side of a connection to one follower: which partitions it follows, and what of them it has not been sent.
//!
//! Nothing is queued but the names of partitions that have news. Frames are made when the connection can take them, from the
//! log, one partition after the other, so that memory is bounded by what is being written, and no partition waits for
//! another's history. A frame carries only what is written in the leader's log: what a failed write takes back was never sent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use chronik_base::{Chunk, NodeId};
use chronik_log::{PartitionKey, ReadError};
use chronik_peer::{InboundLink, OutFrame, Source};
use chronik_replica::StreamId;

use super::throttle::Throttle;
use super::wire::{self, AppendHead, Marks};
use crate::Broker;
use crate::partition::Partition;
use crate::sync::Hold;

/// Bytes of record batches in one frame; a larger batch goes alone.
const FRAME_BYTES: usize = 256 << 10;

/// What one follower is sent over one connection.
pub(crate) struct Feed {
    pub(crate) follower: NodeId,
    link: InboundLink,
    broker: Weak<Broker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    followed: HashMap<PartitionKey, Followed>,
    /// Partitions with news, each once.
    live: VecDeque<PartitionKey>,
    /// The same, of those that are not in sync yet: they wait for the others, and for the throttle.
    catching_up: VecDeque<PartitionKey>,
}

/// One partition that the follower follows.
struct Followed {
    partition: Arc<Partition>,
    epoch: i32,
    stream: StreamId,
    next: i64,
    is_queued: bool,
    /// What the follower was told last.
    high_watermark: i64,
    log_start: i64,
}

/// What becomes of a partition after its turn.
enum Turn {
    Frame { frame: OutFrame, more: bool },
    Nothing,
    Ended,
}

impl Feed {
    pub(crate) fn new(broker: Weak<Broker>, link: InboundLink) -> Arc<Self> {
        Arc::new(Self { follower: link.peer().node(), link, broker, state: Mutex::default() })
    }

    /// Sends `partition` from `next` on, as its leader in `epoch`, in place of any earlier stream.
    pub(crate) fn follow(&self, partition: &Arc<Partition>, epoch: i32, stream: StreamId, next: i64) {
        let key = partition.key();
        {
            let mut state = self.state.hold();
            let queued = state.followed.get(&key).is_some_and(|old| old.is_queued);
            let followed = Followed {
                partition: partition.clone(),
                epoch,
                stream,
                next,
                is_queued: queued,
                high_watermark: -1,
                log_start: -1,
            };
            state.followed.insert(key, followed);
        }
        self.poke(key, false);
    }

    /// The partition has news. `in_sync` says in which queue it waits.
    pub(crate) fn poke(&self, key: PartitionKey, in_sync: bool) {
        let wake = {
            let mut state = self.state.hold();
            let State { followed, live, catching_up } = &mut *state;
            let Some(one) = followed.get_mut(&key) else { return };
            if one.is_queued {
                return;
            }
            one.is_queued = true;
            let queue = if in_sync { live } else { catching_up };
            queue.push_back(key);
            queue.len() == 1
        };
        if wake {
            self.link.wake();
        }
    }

    /// The follower has no use for this stream any more.
    pub(crate) fn leave(&self, key: PartitionKey, stream: StreamId) {
        let mut state = self.state.hold();
        if state.followed.get(&key).is_some_and(|one| one.stream == stream) {
            state.followed.remove(&key);
        }
    }

    /// Somebody waits for the flush of what was sent.
    pub(crate) fn ask_for_flush(&self, key: PartitionKey) {
        let stream = self.state.hold().followed.get(&key).map(|one| one.stream);
        if let Some(stream) = stream {
            self.tell(wire::FLUSH, wire::encode_place(key, stream));
        }
    }

    /// Sends a small message ahead of the batches. Where the connection takes none it is about to end, and the follower subscribes
    /// again on the next.
    pub(crate) fn tell(&self, kind: u8, payload: Bytes) {
        if let Err(error) = self.link.send(kind, vec![Chunk::Bytes(payload)]) {
            tracing::debug!(follower = self.follower, "not told: {error}");
        }
    }

    /// The streams that end with the connection.
    pub(crate) fn end(&self) -> Vec<(Arc<Partition>, StreamId)> {
        let followed = std::mem::take(&mut self.state.hold().followed);
        followed.into_values().map(|one| (one.partition, one.stream)).collect()
    }

    /// True if the follower was not told the marks of the partition as they are.
    pub(crate) fn owes_marks(&self, key: PartitionKey) -> bool {
        self.state.hold().followed.get(&key).is_some_and(|one| {
            one.high_watermark < one.partition.high_watermark()
                || one.log_start < one.partition.log.log_start_offset()
        })
    }

    fn turn(&self, key: PartitionKey, one: &mut Followed, is_live: bool) -> Turn {
        let partition = &one.partition;
        if partition.led_epoch() != Some(one.epoch) {
            return Turn::Ended;
        }
        let high_watermark = partition.high_watermark();
        let log_start = partition.log.log_start_offset();
        let end = partition.log.written_offset();
        if one.next >= end {
            if one.high_watermark >= high_watermark && one.log_start >= log_start {
                return Turn::Nothing;
            }
            (one.high_watermark, one.log_start) = (high_watermark, log_start);
            let (stream, leader_epoch) = (one.stream, one.epoch);
            let marks = Marks { key, stream, leader_epoch, high_watermark, log_start };
            let frame = OutFrame::new(wire::PROGRESS, vec![Chunk::Bytes(wire::encode_marks(&marks))]);
            return Turn::Frame { frame, more: false };
        }
        match partition.log.read(one.next, FRAME_BYTES, end, true) {
            Ok(plan) if plan.next_offset > one.next => {
                let head = AppendHead {
                    key,
                    stream: one.stream,
                    leader_epoch: one.epoch,
                    from: one.next,
                    to: plan.next_offset,
                    high_watermark,
                    log_start,
                    // One that is to come into sync is waited for, too.
                    flush: partition.wants_flush() || !is_live,
                };
                let mut chunks = Vec::with_capacity(1 + plan.chunks.len());
                let head = wire::encode_append(&head);
                let checked_bytes = head.len();
                chunks.push(Chunk::Bytes(head));
                // Batches carry checksums of their own, which the follower looks at.
                chunks.extend(plan.chunks);
                (one.high_watermark, one.log_start) = (high_watermark, log_start);
                one.next = plan.next_offset;
                let frame = OutFrame::partly_checked(wire::APPEND, chunks, checked_bytes);
                Turn::Frame { frame, more: one.next < end }
            }
            // What was written a moment ago was taken back, or compaction is at work: the follower asks again.
            Ok(_) => Turn::Ended,
            Err(ReadError::OutOfRange(_)) => Turn::Ended,
            Err(error) => {
                tracing::warn!(topic = %partition.topic, partition = partition.index, "can't be read for its follower {}: {error}", self.follower);
                Turn::Ended
            }
        }
    }
}

impl Source for Feed {
    /// The next frame, or `None` while there is nothing to send (or the throttle holds back what there is).
    fn next(&self) -> Option<OutFrame> {
        let broker = self.broker.upgrade()?;
        let throttle: &Throttle = &broker.replication.throttle;
        let mut state = self.state.hold();
        loop {
            let State { followed, live, catching_up } = &mut *state;
            let (key, is_live) = match live.pop_front() {
                Some(key) => (key, true),
                None => {
                    let key = *catching_up.front()?;
                    if let Some(wait) = throttle.wait(broker.clock.monotonic_ms()) {
                        let link = self.link.clone();
                        broker.replication.later(wait, move || link.wake());
                        return None;
                    }
                    catching_up.pop_front();
                    (key, false)
                }
            };
            let Some(one) = followed.get_mut(&key) else { continue };
            match self.turn(key, one, is_live) {
                Turn::Frame { frame, more } => {
                    if more {
                        let queue = if is_live { live } else { catching_up };
                        queue.push_back(key);
                    } else {
                        one.is_queued = false;
                    }
                    if !is_live {
                        throttle.spend(frame.payload_bytes());
                    }
                    return Some(frame);
                }
                Turn::Nothing => one.is_queued = false,
                Turn::Ended => {
                    let place = wire::encode_place(key, one.stream);
                    followed.remove(&key);
                    return Some(OutFrame::new(wire::ENDED, vec![Chunk::Bytes(place)]));
                }
            }
        }
    }
}
