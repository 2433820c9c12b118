//! Replication between nodes: leaders send what is written to their followers, followers acknowledge what they have flushed.
//!
//! The decisions are `chronik_replica`'s, the connections `chronik_peer`'s; this is what lies between them and the log.

pub(crate) mod feed;
mod follow;
mod isr;
mod lead;
pub(crate) mod role;
mod tail;
mod throttle;
pub(crate) mod wire;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId};
use chronik_log::PartitionKey;
use chronik_meta::Command;
use chronik_peer::{Handler, InboundLink, PeerEvent, PeerInfo};

use crate::Broker;
use crate::api::p55_describe_quorum;
use crate::partition::Partition;
use crate::sync::{Hold, Share};
use feed::Feed;
use follow::Following;
use isr::IsrChanges;
use throttle::Throttle;

/// Followers hear so much later of a high watermark that moved while no records were sent.
const MARKS_INTERVAL: Duration = Duration::from_millis(50);
/// A subscription that came to nothing is made again after this long.
const SUBSCRIBE_AGAIN: Duration = Duration::from_millis(100);

/// A disk that is full for so long has others lead.
const YIELD_AFTER: Duration = Duration::from_millis(500);
/// How often a node with a full disk looks whether it leads again.
const YIELD_AGAIN: Duration = Duration::from_secs(5);

/// What the broker keeps of its exchange with other nodes.
pub(crate) struct Replication {
    pub(crate) following: Following,
    pub(crate) isr: IsrChanges,
    pub(crate) throttle: Throttle,
    /// Connections of followers, by number.
    feeds: RwLock<HashMap<u64, Arc<Feed>>>,
    /// Partitions whose followers have marks to hear of.
    marks: Mutex<Vec<Weak<Partition>>>,
    marks_added: tokio::sync::Notify,
    /// Events come from threads of the log and of the metadata as well: tasks are started through this.
    runtime: tokio::runtime::Handle,
}

impl Replication {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(throttle_bytes_per_second: u64) -> Self {
        Self {
            following: Following::default(),
            isr: IsrChanges::default(),
            throttle: Throttle::new(throttle_bytes_per_second),
            feeds: RwLock::default(),
            marks: Mutex::default(),
            marks_added: tokio::sync::Notify::new(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Starts the tasks that run as long as the broker does.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        self.runtime.spawn(Following::run(Arc::downgrade(broker)));
        self.runtime.spawn(IsrChanges::run(Arc::downgrade(broker)));
        self.runtime.spawn(tell_marks(Arc::downgrade(broker)));
    }

    /// Has other nodes lead what this one leads: it can't write any more.
    pub(crate) fn hand_over(&self, broker: &Arc<Broker>) {
        let broker = broker.clone();
        self.runtime.spawn(async move {
            if broker.metadata.image().brokers().any(|other| other.id != broker.node_id && !other.fenced) {
                tracing::error!(
                    "its storage failed: its leaderships go to other nodes; restart it once the disk is well"
                );
                // Also where `controlled.shutdown.enable` is off: this is no shutdown.
                broker.metadata.quorum().begin_shutdown().await;
            }
        });
    }

    /// Has others lead what this one leads for as long as its disk is full; it takes its part again by itself once there is space.
    pub(crate) fn yield_while_full(&self, broker: &Arc<Broker>) {
        let weak = Arc::downgrade(broker);
        self.runtime.spawn(async move {
            tokio::time::sleep(YIELD_AFTER).await;
            while let Some(broker) = weak.upgrade().filter(|broker| !broker.takes_writes()) {
                if broker.leads_with_others() {
                    broker.yield_leaderships().await;
                }
                drop(broker);
                tokio::time::sleep(YIELD_AGAIN).await;
            }
        });
    }

    /// Does something after a while.
    pub(crate) fn later(&self, wait: Duration, what: impl FnOnce() + Send + 'static) {
        self.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            what();
        });
    }

    /// These partitions need subscriptions, but not at once.
    pub(crate) fn want_later(&self, broker: &Weak<Broker>, keys: Vec<PartitionKey>) {
        if keys.is_empty() {
            return;
        }
        let broker = broker.clone();
        self.later(SUBSCRIBE_AGAIN, move || {
            if let Some(broker) = broker.upgrade() {
                keys.into_iter().for_each(|key| broker.replication.following.want(key));
            }
        });
    }

    /// The high watermark or the log start offset of a partition moved: its followers hear of it, with records or soon.
    pub(crate) fn marks_moved(&self, partition: &Arc<Partition>) {
        let listed = &partition.on_marks_list;
        if partition.feeds().is_empty()
            || listed.load(Ordering::Relaxed)
            || listed.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let mut marks = self.marks.hold();
        marks.push(Arc::downgrade(partition));
        if marks.len() == 1 {
            self.marks_added.notify_one();
        }
    }
}

/// Tells followers of marks that moved without records; runs for as long as the broker does.
async fn tell_marks(broker: Weak<Broker>) {
    loop {
        let Some(strong) = broker.upgrade() else { return };
        if strong.replication.marks.hold().is_empty() {
            let added = strong.replication.marks_added.notified();
            tokio::select! {
                () = added => {}
                () = strong.closing() => return,
            }
        }
        drop(strong);
        tokio::time::sleep(MARKS_INTERVAL).await;
        let Some(strong) = broker.upgrade() else { return };
        let moved = std::mem::take(&mut *strong.replication.marks.hold());
        for partition in moved.iter().filter_map(Weak::upgrade) {
            partition.on_marks_list.store(false, Ordering::Release);
            let key = partition.key();
            for of in partition.feeds().iter().filter(|of| of.feed.owes_marks(key)) {
                of.feed.poke(key, of.in_sync);
            }
        }
    }
}

/// The kind of calls between nodes that are for what a node has beside its broker: search.
pub const BESIDE_BROKER: u8 = 64;

/// The broker's ear at the connections to other nodes. It is made before the broker, which is set once there is one.
#[derive(Default)]
pub struct PeerEar {
    broker: std::sync::OnceLock<Weak<Broker>>,
    beside: std::sync::OnceLock<PeerAnswers>,
}

/// Answers calls of other nodes that are not for the broker. It is called on the connection's task, and must not block.
pub type PeerAnswers = Box<dyn Fn(Bytes) -> BoxFuture<Result<Bytes, String>> + Send + Sync>;

impl PeerEar {
    /// Calls and messages go to `broker` from now on.
    pub(crate) fn set(&self, broker: &Arc<Broker>) {
        let _ = self.broker.set(Arc::downgrade(broker));
    }

    /// Calls of [`BESIDE_BROKER`] go to `answers` from now on.
    pub fn set_beside(&self, answers: PeerAnswers) {
        let _ = self.beside.set(answers);
    }

    fn broker(&self) -> Option<Arc<Broker>> {
        self.broker.get()?.upgrade()
    }
}

impl Handler for PeerEar {
    fn call(&self, from: &PeerInfo, kind: u8, payload: Bytes) -> BoxFuture<Result<Bytes, String>> {
        match self.broker() {
            Some(broker) if kind < wire::SUBSCRIBE => broker.metadata.handle(from.node(), kind, payload),
            Some(broker) if kind == p55_describe_quorum::ASK_LEADER => {
                Box::pin(std::future::ready(p55_describe_quorum::answer_node(&broker, payload)))
            }
            Some(_) if kind == BESIDE_BROKER => match self.beside.get() {
                Some(answers) => answers(payload),
                None => Box::pin(std::future::ready(Err("the node is starting".to_owned()))),
            },
            Some(_) => Box::pin(std::future::ready(Err(format!("calls of kind {kind} are not known here")))),
            None => Box::pin(std::future::ready(Err("the node is starting".to_owned()))),
        }
    }

    fn message(&self, link: &InboundLink, kind: u8, payload: Bytes) {
        let Some(broker) = self.broker() else { return };
        let done = match kind {
            wire::SUBSCRIBE => lead::on_subscribe(&broker, link, payload),
            wire::ACK => lead::on_acks(&broker, link.peer().node(), payload),
            wire::FLUSH => tail::on_flush_wanted(&broker, payload),
            wire::UNABLE => lead::on_unable(&broker, link.peer().node(), payload),
            _ => {
                tracing::warn!(from = link.peer().node(), "a message of the unknown kind {kind} was dropped");
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(from = link.peer().node(), "{error}");
        }
    }

    fn reply_message(&self, from: &PeerInfo, kind: u8, payload: Bytes) {
        let Some(broker) = self.broker() else { return };
        let done = match kind {
            wire::APPEND => follow::on_append(&broker, from.node(), payload),
            wire::PROGRESS => follow::on_progress(&broker, payload),
            wire::FLUSH => follow::on_flush(&broker, payload),
            wire::ENDED => follow::on_ended(&broker, payload),
            wire::SUBSCRIBED => follow::on_subscribed(&broker, from.node(), payload),
            _ => {
                tracing::warn!(from = from.node(), "a message of the unknown kind {kind} was dropped");
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(from = from.node(), "{error}");
        }
    }

    fn poll_ready(&self, _from: &PeerInfo, kind: u8, cx: &mut Context<'_>) -> Poll<()> {
        match self.broker() {
            Some(broker) if kind == wire::APPEND => broker.poll_unpressured(cx),
            _ => Poll::Ready(()),
        }
    }

    fn end_of_read(&self, _from: &PeerInfo) {
        if let Some(broker) = self.broker() {
            broker.end_of_read();
        }
    }

    fn closed(&self, link: &InboundLink) {
        if let Some(broker) = self.broker() {
            lead::on_closed(&broker, link);
        }
    }

    fn event(&self, node: NodeId, event: PeerEvent) {
        let Some(broker) = self.broker() else { return };
        broker.metadata.on_peer(node, event);
        match event {
            PeerEvent::Connected => {
                broker.gone.forget(node);
                broker.follow_again(node);
            }
            PeerEvent::Disconnected => {
                broker.unfollow(node);
            }
            PeerEvent::Refused => {
                broker.gone.note(node, &broker.metadata.image(), broker.clock.monotonic_ms());
                lead::on_refused(&broker, node);
            }
        }
    }
}

impl Broker {
    /// Whether this node leads anything that another one could.
    fn leads_with_others(&self) -> bool {
        self.metadata.image().topics().any(|topic| {
            let mut partitions = topic.partitions.iter();
            partitions.any(|(_, partition)| partition.leader == self.node_id && partition.isr.len() > 1)
        })
    }

    async fn yield_leaderships(&self) {
        let Some(epoch) = self.metadata.broker_epoch() else { return };
        let command = Command::YieldLeaderships { id: self.node_id, epoch };
        match self.metadata.commit(vec![command]).await.into_iter().next() {
            Some(Err(error)) => tracing::debug!("leaderships are not given up: {error}"),
            _ => tracing::warn!("the disk is full: other nodes lead what they are in sync with"),
        }
    }

    /// The replica that this node has of a partition.
    pub(crate) fn hosted(&self, key: PartitionKey) -> Option<Arc<Partition>> {
        self.topics.by_id(key.topic_id)?.hosted(key.partition).cloned()
    }

    /// There is a new connection to `leader`: whatever is followed there needs a subscription.
    fn follow_again(&self, leader: NodeId) {
        for key in self.unfollow(leader) {
            self.replication.following.want(key);
        }
    }

    /// The connection to `leader` is gone, and with it every stream; gives the partitions.
    fn unfollow(&self, leader: NodeId) -> Vec<PartitionKey> {
        let topics = self.topics.all();
        let all = topics.iter().flat_map(|topic| topic.partitions());
        all.filter(|partition| partition.unsubscribe(leader)).map(|partition| partition.key()).collect()
    }

    pub(crate) fn feed_of(self: &Arc<Self>, link: &InboundLink) -> Arc<Feed> {
        let number = link.peer().link;
        if let Some(feed) = self.replication.feeds.shared().get(&number) {
            return feed.clone();
        }
        let mut feeds = self.replication.feeds.exclusive();
        let feed = feeds.entry(number).or_insert_with(|| {
            let feed = Feed::new(Arc::downgrade(self), link.clone());
            link.set_source(feed.clone());
            feed
        });
        feed.clone()
    }
}
