//! The follower's side: subscribing at leaders, taking what they send, and acknowledging what is flushed.
//!
//! Partitions that need a subscription wait in one list; one task asks their leaders, all partitions of a leader in one message.
//! What arrives is appended at once, on the task that reads the connection; acknowledgements go out when the log's flush has
//! covered it, all partitions of a leader in one frame.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use chronik_base::{Chunk, NodeId};
use chronik_log::{AppendError, PartitionKey};
use chronik_replica::{Answer, Append, FollowerAction, FollowerError, FollowerState, StreamId, Subscription};
use tokio::sync::Notify;

use super::role::{Epochs, Role};
use super::wire::{self, BadFrame, PartitionAck};
use crate::Broker;
use crate::partition::Partition;
use crate::produce_wait::Wakers;
use crate::rate_limit::RateLimit;
use crate::sync::Hold;

/// What this node follows elsewhere.
#[derive(Default)]
pub(crate) struct Following {
    /// Partitions that need a subscription.
    wanted: Mutex<HashSet<PartitionKey>>,
    added: Notify,
    /// Numbers the streams of this process.
    streams: AtomicU64,
    /// Acknowledgements that wait for the end of the burst that they come from, by leader.
    acks: Mutex<HashMap<NodeId, Vec<PartitionAck>>>,
    /// When leaders were told last that nothing can be written here.
    unable_told_ms: AtomicU64,
    log_line: RateLimit,
}

/// How often that is told, in milliseconds.
const UNABLE_INTERVAL_MS: u64 = 1_000;

impl Following {
    /// This partition needs a subscription at its leader.
    pub(crate) fn want(&self, key: PartitionKey) {
        if self.wanted.hold().insert(key) {
            self.added.notify_one();
        }
    }

    /// A partition is flushed further; [`Following::send_acks`] must follow.
    pub(crate) fn acknowledge(&self, leader: NodeId, ack: PartitionAck) {
        self.acks.hold().entry(leader).or_default().push(ack);
    }

    /// Sends the acknowledgements of a burst.
    pub(crate) fn send_acks(&self, broker: &Broker) {
        let all = {
            let mut acks = self.acks.hold();
            if acks.is_empty() {
                return;
            }
            std::mem::take(&mut *acks)
        };
        for (leader, acks) in all {
            if let Err(error) =
                broker.peers.send(leader, wire::ACK, vec![Chunk::Bytes(wire::encode_acks(&acks))])
            {
                // With the connection the subscription ends; the next one tells how far the log is flushed.
                tracing::debug!(leader, "not acknowledged: {error}");
            }
        }
    }

    /// Asks leaders for subscriptions; runs for as long as the broker does.
    pub(crate) async fn run(broker: Weak<Broker>) {
        loop {
            let Some(strong) = broker.upgrade() else { return };
            let wanted: Vec<PartitionKey> = strong.replication.following.wanted.hold().drain().collect();
            if wanted.is_empty() {
                let added = strong.replication.following.added.notified();
                tokio::select! {
                    () = added => {}
                    () = strong.closing() => return,
                }
                continue;
            }
            let later = strong.replication.following.subscribe(&strong, wanted);
            strong.replication.want_later(&broker, later);
        }
    }

    /// Asks for subscriptions to `wanted`; gives what has to be asked for again.
    fn subscribe(&self, broker: &Broker, wanted: Vec<PartitionKey>) -> Vec<PartitionKey> {
        let Some(broker_epoch) = broker.metadata.broker_epoch() else {
            return wanted;
        };
        // A leader that has this replica in sync again would wait for it.
        if !broker.takes_writes() {
            self.refuse_to_follow(broker, broker_epoch, &wanted);
            return wanted;
        }
        let mut by_leader: HashMap<NodeId, Vec<(PartitionKey, Subscription)>> = HashMap::new();
        for key in wanted {
            let number = self.streams.fetch_add(1, Ordering::Relaxed);
            if let Some(partition) = broker.hosted(key)
                && let Some((leader, subscription)) = partition.subscribe(StreamId { broker_epoch, number })
            {
                by_leader.entry(leader).or_default().push((key, subscription));
            }
        }
        let mut later = Vec::new();
        for (leader, subscriptions) in by_leader {
            for some in subscriptions.chunks(wire::SUBSCRIPTIONS_MAX) {
                let payload = vec![Chunk::Bytes(wire::encode_subscribe(some))];
                if broker.peers.send(leader, wire::SUBSCRIBE, payload).is_err() {
                    // Its connection is being made again; that asks for everything it leads.
                    for (key, _) in some {
                        if let Some(partition) = broker.hosted(*key) {
                            partition.unsubscribe(leader);
                        }
                        later.push(*key);
                    }
                }
            }
        }
        later
    }

    /// Tells leaders that this node can't write what it would follow, now and then: each time it is asked, which is often.
    fn refuse_to_follow(&self, broker: &Broker, broker_epoch: i64, wanted: &[PartitionKey]) {
        let now_ms = broker.clock.monotonic_ms();
        if now_ms.saturating_sub(self.unable_told_ms.load(Ordering::Relaxed)) < UNABLE_INTERVAL_MS {
            return;
        }
        self.unable_told_ms.store(now_ms, Ordering::Relaxed);
        let mut by_leader: HashMap<NodeId, Vec<(PartitionKey, StreamId)>> = HashMap::new();
        for key in wanted {
            if let Some(leader) = broker.hosted(*key).and_then(|partition| partition.would_follow()) {
                let number = self.streams.fetch_add(1, Ordering::Relaxed);
                by_leader.entry(leader).or_default().push((*key, StreamId { broker_epoch, number }));
            }
        }
        by_leader.iter().for_each(|(leader, streams)| self.unable(broker, *leader, streams));
    }

    /// Tells a leader that its streams can't be written here, so that nobody waits for these replicas.
    pub(crate) fn unable(&self, broker: &Broker, leader: NodeId, streams: &[(PartitionKey, StreamId)]) {
        for some in streams.chunks(wire::SUBSCRIPTIONS_MAX) {
            let places = vec![Chunk::Bytes(wire::encode_places(some))];
            if let Err(error) = broker.peers.send(leader, wire::UNABLE, places) {
                tracing::debug!(leader, "not told that its streams can't be written: {error}");
            }
        }
    }

    fn tell(
        &self,
        broker: &Broker,
        partition: &Partition,
        from: NodeId,
        what: &str,
        error: &dyn std::fmt::Display,
    ) {
        if let Some(suppressed) = self.log_line.allow(broker.clock.monotonic_ms()) {
            tracing::warn!(suppressed, topic = %partition.topic, partition = partition.index, from, "{what}: {error}");
        }
    }
}

/// Answers of a leader to subscriptions.
pub(super) fn on_subscribed(broker: &Arc<Broker>, from: NodeId, payload: Bytes) -> Result<(), BadFrame> {
    let mut later = Vec::new();
    for (key, stream, answer) in wire::decode_subscribed(payload)? {
        let Some(partition) = broker.hosted(key) else { continue };
        let answer = match answer {
            Answer::Stream { log_start, .. } if broker.is_to_be_restored(&partition) => {
                Answer::Reset { log_start }
            }
            other => other,
        };
        match partition.on_answer(stream, answer) {
            Ok(FollowerAction::Stream) => {
                if partition.log.flushed_offset() < partition.log.log_end_offset() {
                    broker.log.request_flush();
                    broker.log.kick();
                }
                partition.acknowledge_flushed(broker);
            }
            Ok(FollowerAction::Refused(refusal)) => {
                tracing::debug!(topic = %partition.topic, partition = partition.index, from, "not followed yet: {refusal}");
                later.push(key);
            }
            Ok(cut @ (FollowerAction::TruncateTo(_) | FollowerAction::ResetTo(_))) => {
                cut_log(broker, &partition, from, cut);
            }
            // It answers an earlier question.
            Err(_) => {}
        }
    }
    broker.replication.following.send_acks(broker);
    broker.replication.want_later(&Arc::downgrade(broker), later);
    Ok(())
}

impl Broker {
    /// Whether a partition's log is damaged and has to be got from its leader anew. Not while it counts as in sync: it is elected on
    /// the strength of what it held.
    fn is_to_be_restored(&self, partition: &Partition) -> bool {
        let key = partition.key();
        partition.log.offline().is_some()
            && self
                .metadata
                .image()
                .topic_by_id(&key.topic_id)
                .and_then(|topic| topic.partitions.get(key.partition))
                .is_some_and(|state| !state.isr.contains(&self.node_id))
    }
}

/// Cuts a log to where it agrees with its leader's. That waits for the disk, so it is done apart; until it is over, the role stays.
fn cut_log(broker: &Arc<Broker>, partition: &Arc<Partition>, leader: NodeId, cut: FollowerAction) {
    let (broker, partition) = (broker.clone(), partition.clone());
    tokio::task::spawn_blocking(move || {
        let end = partition.log.log_end_offset();
        let done = match cut {
            FollowerAction::ResetTo(offset) => {
                tracing::info!(topic = %partition.topic, partition = partition.index, "its log (to {end}) begins anew at {offset}, to follow node {leader}");
                partition.log.reset_to(offset)
            }
            FollowerAction::TruncateTo(offset) => {
                if offset < end {
                    tracing::info!(topic = %partition.topic, partition = partition.index, "its log is cut from {end} to {offset}, where it agrees with that of node {leader}");
                }
                partition.log.truncate_to(offset)
            }
            FollowerAction::Stream | FollowerAction::Refused(_) => Ok(()),
        };
        let key = partition.key();
        match done {
            Ok(()) => broker.end_cut(&partition),
            Err(error) => {
                tracing::error!(topic = %partition.topic, partition = partition.index, "can't be cut to follow node {leader}: {error}");
                broker.end_cut(&partition);
                broker.replication.want_later(&Arc::downgrade(&broker), vec![key]);
                return;
            }
        }
        broker.replication.following.want(key);
    });
}

/// Batches from a leader. The kick of the log comes at the end of the read.
pub(super) fn on_append(broker: &Arc<Broker>, from: NodeId, payload: Bytes) -> Result<(), BadFrame> {
    let (head, batches) = wire::decode_append(payload)?;
    let Some(partition) = broker.hosted(head.key) else { return Ok(()) };
    let append = Append {
        epoch: head.leader_epoch,
        stream: head.stream,
        base_offset: head.from,
        end_offset: head.to,
        high_watermark: head.high_watermark,
        log_start: head.log_start,
    };
    let mut wakers = Wakers::default();
    match partition.append_from_leader(&append, batches, &mut wakers) {
        Ok(()) if head.flush => broker.log.request_flush(),
        Ok(()) if !partition.watchers.is_empty() && partition.has_unflushed() => {
            partition.ask_leader_to_flush(broker);
        }
        Ok(())
        | Err(FollowError::Follower(FollowerError::StaleStream { .. } | FollowerError::Fenced { .. })) => {}
        Err(error) => {
            let following = &broker.replication.following;
            following.tell(broker, &partition, from, "records are not taken", &error);
            if matches!(error, FollowError::Log(_)) {
                following.unable(broker, from, &[(head.key, head.stream)]);
            }
            broker.replication.want_later(&Arc::downgrade(broker), vec![head.key]);
        }
    }
    wakers.wake_all();
    Ok(())
}

/// Marks that moved without records.
pub(super) fn on_progress(broker: &Arc<Broker>, payload: Bytes) -> Result<(), BadFrame> {
    let mut wakers = Wakers::default();
    for marks in wire::decode_marks(payload)? {
        let Some(partition) = broker.hosted(marks.key) else { continue };
        let end = partition.log.log_end_offset();
        let append = Append {
            epoch: marks.leader_epoch,
            stream: marks.stream,
            base_offset: end,
            end_offset: end,
            high_watermark: marks.high_watermark,
            log_start: marks.log_start,
        };
        // Marks of a stream that is over say nothing.
        let _ = partition.append_from_leader(&append, Bytes::new(), &mut wakers);
    }
    wakers.wake_all();
    Ok(())
}

/// Somebody waits at the leader for what was sent.
pub(super) fn on_flush(broker: &Arc<Broker>, payload: Bytes) -> Result<(), BadFrame> {
    wire::decode_places(wire::FLUSH, payload)?;
    broker.log.request_flush();
    Ok(())
}

/// The leader ended streams.
pub(super) fn on_ended(broker: &Arc<Broker>, payload: Bytes) -> Result<(), BadFrame> {
    let ended = wire::decode_places(wire::ENDED, payload)?;
    let mut later = Vec::with_capacity(ended.len());
    for (key, stream) in ended {
        if broker.hosted(key).is_some_and(|partition| partition.stream_ended(stream)) {
            later.push(key);
        }
    }
    broker.replication.want_later(&Arc::downgrade(broker), later);
    Ok(())
}

/// Why a follower did not append.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Follower(#[from] FollowerError),
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl Partition {
    /// The subscription to ask the leader for, under the name `stream`; `None` where there is nothing to ask for.
    fn subscribe(&self, stream: StreamId) -> Option<(NodeId, Subscription)> {
        let mut state = self.state.hold();
        if state.is_cutting {
            return None;
        }
        let Role::Follower(follower) = &mut state.role else { return None };
        if follower.leader() < 0 || follower.state() != FollowerState::Idle {
            return None;
        }
        let subscription = follower.subscribe(stream, &Epochs(&self.log), self.log.flushed_offset());
        Some((follower.leader(), subscription))
    }

    /// The leader that this replica would ask for a subscription.
    fn would_follow(&self) -> Option<NodeId> {
        match &self.state.hold().role {
            Role::Follower(follower) if follower.leader() >= 0 && follower.state() == FollowerState::Idle => {
                Some(follower.leader())
            }
            _ => None,
        }
    }

    /// What was asked of `leader`, or comes from it, is void.
    pub(super) fn unsubscribe(&self, leader: NodeId) -> bool {
        match &mut self.state.hold().role {
            Role::Follower(follower) if follower.leader() == leader => {
                follower.on_disconnected();
                true
            }
            _ => false,
        }
    }

    fn stream_ended(&self, stream: StreamId) -> bool {
        match &mut self.state.hold().role {
            Role::Follower(follower) if follower.stream() == Some(stream) => {
                follower.on_disconnected();
                true
            }
            _ => false,
        }
    }

    fn on_answer(&self, stream: StreamId, answer: Answer) -> Result<FollowerAction, FollowerError> {
        let mut state = self.state.hold();
        let Role::Follower(follower) = &mut state.role else {
            return Err(FollowerError::StaleStream { found: stream });
        };
        let action = follower.on_answer(stream, answer, &Epochs(&self.log))?;
        if matches!(action, FollowerAction::TruncateTo(_) | FollowerAction::ResetTo(_)) {
            state.is_cutting = true;
        }
        Ok(action)
    }

    /// Tells the leader what is flushed since the subscription.
    fn acknowledge_flushed(&self, broker: &Broker) {
        let mut state = self.state.hold();
        if let Role::Follower(follower) = &mut state.role
            && let Some(ack) = follower.on_flushed(self.log.flushed_offset())
        {
            let (leader, ack) = (follower.leader(), PartitionAck { key: self.key(), ack });
            drop(state);
            broker.replication.following.acknowledge(leader, ack);
        }
    }

    /// Takes batches, or marks alone, from the leader.
    fn append_from_leader(
        &self,
        append: &Append,
        batches: Bytes,
        wakers: &mut Wakers,
    ) -> Result<(), FollowError> {
        let mut state = self.state.hold();
        let Role::Follower(follower) = &mut state.role else { return Ok(()) };
        follower.on_append(append)?;
        if !batches.is_empty() {
            let appended = self.log.append_follower(batches);
            let taken = appended.map(|appended| appended.last_offset + 1);
            if !matches!(taken, Ok(end) if end == append.end_offset) {
                follower.on_disconnected();
            }
            taken?;
        }
        let high_watermark = follower.high_watermark();
        let log_start = follower.leader_log_start().min(high_watermark);
        let advanced = high_watermark > self.high_watermark();
        self.high_watermark.store(high_watermark, Ordering::Release);
        self.log.set_high_watermark(high_watermark);
        drop(state);
        if log_start > self.log.log_start_offset() {
            self.log.delete_records(log_start)?;
        }
        if advanced {
            self.watchers.fire(wakers);
        }
        Ok(())
    }
}
