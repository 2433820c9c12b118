//! The leader's side: subscriptions, acknowledgements, and connections that end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chronik_base::{ErrorCode, NodeId};
use chronik_peer::InboundLink;
use chronik_replica::{
    Answer, LeaderError, LeaderLog, StreamStart, Subscription, SubscriptionRefusal, answer_subscription,
};

use super::feed::Feed;
use super::role::{Epochs, Role};
use super::wire::{self, BadFrame};
use crate::Broker;
use crate::partition::{FeedOf, Partition};
use crate::produce_wait::Wakers;
use crate::sync::{Hold, Share};

/// A follower wants to follow partitions over its connection.
pub(super) fn on_subscribe(broker: &Arc<Broker>, link: &InboundLink, payload: Bytes) -> Result<(), BadFrame> {
    let feed = broker.feed_of(link);
    let now_ms = broker.clock.monotonic_ms();
    let mut wakers = Wakers::default();
    let mut answers = Vec::new();
    let mut streaming = Vec::new();
    for (key, subscription) in wire::decode_subscribe(payload)? {
        let partition = broker.hosted(key);
        let answer = match &partition {
            Some(partition) => partition.answer(feed.follower, &subscription, now_ms, &mut wakers),
            None => Answer::Refused(SubscriptionRefusal::NotLeader),
        };
        answers.push((key, subscription.stream, answer));
        if let (Some(partition), Answer::Stream { .. }) = (partition, answer) {
            streaming.push((partition, subscription));
        }
    }
    // Answers go ahead of batches.
    feed.tell(wire::SUBSCRIBED, wire::encode_subscribed(&answers));
    for (partition, subscription) in streaming {
        feed.follow(&partition, subscription.epoch, subscription.stream, subscription.log_end);
        partition.start_feed(&feed);
        broker.replication.isr.consider(&partition);
        broker.waits.add(&partition);
    }
    wakers.wake_all();
    Ok(())
}

/// A follower has flushed further.
pub(super) fn on_acks(broker: &Arc<Broker>, follower: NodeId, payload: Bytes) -> Result<(), BadFrame> {
    let now_ms = broker.clock.monotonic_ms();
    let mut wakers = Wakers::default();
    for acked in wire::decode_acks(payload)? {
        let Some(partition) = broker.hosted(acked.key) else { continue };
        match partition.on_ack(follower, &acked.ack, now_ms, &mut wakers) {
            Ok(advanced) => {
                if advanced {
                    broker.replication.marks_moved(&partition);
                }
                if partition.may_propose() {
                    broker.replication.isr.consider(&partition);
                }
            }
            Err(error @ LeaderError::NotReplica(_)) => {
                tracing::debug!(topic = %partition.topic, partition = partition.index, "{error}")
            }
            // What is left of an earlier stream or epoch.
            Err(_) => {}
        }
    }
    wakers.wake_all();
    Ok(())
}

/// A follower's disk takes nothing.
pub(super) fn on_unable(broker: &Arc<Broker>, follower: NodeId, payload: Bytes) -> Result<(), BadFrame> {
    let now_ms = broker.clock.monotonic_ms();
    for (key, stream) in wire::decode_places(wire::UNABLE, payload)? {
        let Some(partition) = broker.hosted(key) else { continue };
        if let Role::Leader(leader) = &mut partition.state.hold().role {
            leader.on_follower_unable(follower, stream, now_ms);
        }
        if let Some(feed) = partition.feeds().iter().find(|of| of.feed.follower == follower) {
            feed.feed.leave(key, stream);
        }
        broker.replication.isr.consider(&partition);
        broker.waits.add(&partition);
    }
    Ok(())
}

/// The connection of a follower is gone, and its streams with it.
pub(super) fn on_closed(broker: &Arc<Broker>, link: &InboundLink) {
    let Some(feed) = broker.replication.feeds.exclusive().remove(&link.peer().link) else { return };
    let now_ms = broker.clock.monotonic_ms();
    for (partition, stream) in feed.end() {
        partition.remove_feed(&feed);
        if let Role::Leader(leader) = &mut partition.state.hold().role {
            leader.on_follower_disconnected(feed.follower, stream, now_ms);
        }
        broker.waits.add(&partition);
    }
}

/// Nobody listens at a node's address: its process is gone. Only partitions that it is in sync with care.
pub(super) fn on_refused(broker: &Arc<Broker>, node: NodeId) {
    let now_ms = broker.clock.monotonic_ms();
    for topic in broker.topics.all() {
        for partition in topic.partitions().filter(|partition| partition.is_leader()) {
            let concerned = match &mut partition.state.hold().role {
                Role::Leader(leader) if leader.isr().any(|other| other == node) => {
                    leader.on_follower_refused(node, now_ms);
                    true
                }
                _ => false,
            };
            if concerned {
                broker.replication.isr.consider(partition);
                broker.waits.add(partition);
            }
        }
    }
}

impl Partition {
    fn answer(
        &self,
        follower: NodeId,
        subscription: &Subscription,
        now_ms: u64,
        wakers: &mut Wakers,
    ) -> Answer {
        let mut state = self.state.hold();
        let Role::Leader(leader) = &mut state.role else {
            return Answer::Refused(SubscriptionRefusal::NotLeader);
        };
        let log = LeaderLog {
            epoch: leader.epoch(),
            high_watermark: leader.high_watermark(),
            log: &Epochs(&self.log),
        };
        let answer = answer_subscription(subscription, log);
        if !matches!(answer, Answer::Stream { .. }) {
            return answer;
        }
        let start = StreamStart {
            node: follower,
            epoch: subscription.epoch,
            stream: subscription.stream,
            flushed_end: subscription.flushed_end,
        };
        let told =
            leader.on_follower_subscribed(start, now_ms, |share| wakers.add(share.settle(ErrorCode::None)));
        match told {
            Ok(progress) => {
                self.note(leader, progress);
                drop(state);
                if progress.advanced {
                    self.watchers.fire(wakers);
                }
                answer
            }
            Err(LeaderError::NotReplica(node)) => Answer::Refused(SubscriptionRefusal::NotReplica(node)),
            Err(_) => Answer::Refused(SubscriptionRefusal::NotLeader),
        }
    }

    /// Sends what is written over `feed` from now on.
    fn start_feed(&self, feed: &Arc<Feed>) {
        let in_sync = match &self.state.hold().role {
            Role::Leader(leader) => leader.isr().any(|node| node == feed.follower),
            _ => return,
        };
        self.add_feed(FeedOf { feed: feed.clone(), in_sync });
        // What was written since the subscription was answered.
        feed.poke(self.key(), in_sync);
    }

    /// Whether a follower that is not in sync has come so far that it may join.
    fn may_propose(&self) -> bool {
        self.feeds.shared().iter().any(|of| !of.in_sync) && self.is_leader.load(Ordering::Acquire)
    }
}
