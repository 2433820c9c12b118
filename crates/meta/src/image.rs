//! The metadata image: everything the cluster agrees on, as one immutable value.
//!
//! Readers hold an `Arc<Image>`; the writer makes the next one, which shares what did not change. Access lists, credentials and quotas get maps of
//! their own here, and commands of their own in [`command`](crate::command), when their turn comes; both encodings have versions for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_base::{NodeId, Timestamp, TopicId, Uuid};

use crate::elections::min_in_sync;
use crate::ordered::OrderedMap;
use crate::partitions::Partitions;
use crate::placement::Candidate;

/// Settings by name, as text in Kafka's form.
pub type Configs = BTreeMap<String, String>;

/// The number of a command in the metadata log, from 1; 0 is "before the first".
pub type MetaOffset = u64;

/// The metadata of the cluster after the command with number [`Image::offset`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub(crate) offset: MetaOffset,
    pub(crate) cluster_id: Uuid,
    pub(crate) brokers: OrderedMap<NodeId, Arc<Broker>>,
    pub(crate) topics: OrderedMap<Arc<str>, Arc<Topic>>,
    pub(crate) topics_by_id: OrderedMap<TopicId, Arc<Topic>>,
    /// Names that have a `.` or `_`, with both as `_`: no two topics may have the same (Kafka's metrics cannot tell them apart).
    pub(crate) alike: OrderedMap<Arc<str>, Arc<str>>,
    pub(crate) broker_configs: OrderedMap<NodeId, Arc<Configs>>,
    pub(crate) default_broker_configs: Arc<Configs>,
    pub(crate) next_producer_id: i64,
    pub(crate) partition_count: usize,
    pub(crate) tally: Tally,
}

/// How often leaders were elected since the cluster exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Elections of a leader, the unclean ones counted.
    pub elections: u64,
    /// Elections of a replica that was neither in sync nor eligible: acknowledged records may have been lost.
    pub unclean: u64,
}

/// A broker that registered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its identifier.
    pub id: NodeId,
    /// Its rack or zone.
    pub rack: Option<String>,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
    /// Made new at each start of the process, so that two processes with one id are told apart.
    pub incarnation: Uuid,
    /// The number of the command that registered it, so never used twice; requests of an earlier one are stale.
    pub epoch: i64,
    /// Its data directory; [`Uuid::ZERO`] if it was registered by a version that did not say.
    pub directory: Uuid,
    /// True while it is not known to be alive: it leads nothing and joins no ISR.
    pub fenced: bool,
    /// True since it said that it is about to stop: it gets no new leadership.
    pub in_shutdown: bool,
}

impl Broker {
    /// Whether it may be made a leader, or a new member of an ISR.
    pub fn may_lead(&self) -> bool {
        !self.fenced && !self.in_shutdown
    }

    /// Where it listens under that name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// An address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// The host as clients are told it; empty means: the address by which a client reached the broker.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its identifier, never used again.
    pub id: TopicId,
    /// When it was made, by the wall clock of the node that was asked; milliseconds.
    pub created: Timestamp,
    /// Its partitions by index.
    pub partitions: Partitions,
    /// The settings it has of its own.
    pub configs: Arc<Configs>,
}

/// What the cluster agrees on about a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The broker that leads it; -1 while none does.
    pub leader: NodeId,
    /// Raised with each new leader.
    pub leader_epoch: i32,
    /// Raised with each change of anything here.
    pub partition_epoch: i32,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Box<[NodeId]>,
    /// The replicas that are in sync, in the order of `replicas`. While there is a leader, it is one of them and none is fenced. Empty if the
    /// disk of the last one was wiped.
    pub isr: Box<[NodeId]>,
    /// Replicas that left an ISR below `min.insync.replicas` and hold everything acknowledged all the same (KIP-966), because the high
    /// watermark stands still while the ISR is that small.
    pub eligible_leaders: Box<[NodeId]>,
    /// Replicas that are being added by a reassignment (KIP-455).
    pub adding: Box<[NodeId]>,
    /// Replicas that are being removed by a reassignment.
    pub removing: Box<[NodeId]>,
}

impl Partition {
    /// A new partition on `replicas`: the first one leads, all are in sync.
    pub fn new(replicas: &[NodeId]) -> Self {
        Self {
            leader: replicas.first().copied().unwrap_or(-1),
            leader_epoch: 0,
            partition_epoch: 0,
            replicas: replicas.into(),
            isr: replicas.into(),
            eligible_leaders: Box::default(),
            adding: Box::default(),
            removing: Box::default(),
        }
    }

    /// The replicas that a reassignment is to end with; without one, all.
    pub fn target(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().copied().filter(|id| !self.removing.contains(id))
    }

    /// Whether a reassignment is going on.
    pub fn is_reassigned(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// How many replicas must be in sync for the high watermark to move, where `min.insync.replicas` is `min`: at least 1, and no more
    /// than there are replicas, before or after a reassignment that is going on.
    pub fn needed_in_sync(&self, min: usize) -> usize {
        let after = self.replicas.len().saturating_sub(self.removing.len());
        let before = self.replicas.len().saturating_sub(self.adding.len());
        min.min(before).min(after).max(1)
    }
}

impl Image {
    /// The number of the last command that is in this image.
    pub fn offset(&self) -> MetaOffset {
        self.offset
    }

    /// The cluster's identifier; [`Uuid::ZERO`] before it has one.
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// The registered brokers by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.iter().map(|(_, broker)| broker)
    }

    /// The broker with that id.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with that identifier.
    pub fn topic_by_id(&self, id: &TopicId) -> Option<&Arc<Topic>> {
        self.topics_by_id.get(id)
    }

    /// Every topic, ordered by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// The topics whose name is not below `name`, ordered by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter_from(name).map(|(_, topic)| topic)
    }

    /// Topics in all.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Partition `index` of the topic of that name.
    pub fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        self.topic(topic)?.partitions.get(index)
    }

    /// The brokers that new partitions may be placed on: those that are neither fenced nor about to stop.
    pub fn candidates(&self) -> Vec<Candidate> {
        let usable = self.brokers().filter(|broker| broker.may_lead());
        usable.map(|broker| Candidate { id: broker.id, rack: broker.rack.clone() }).collect()
    }

    /// `min.insync.replicas` as the cluster agrees on it: the topic's, else what was set for all brokers over the protocol, else 1. A leader must
    /// go by this, and not by its own file, in what it lets the high watermark do: see [`Partition::needed_in_sync`].
    pub fn min_in_sync(&self, topic: &Topic) -> usize {
        min_in_sync(topic, &self.default_broker_configs)
    }

    /// How often leaders were elected.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Settings that were altered for one broker over the protocol.
    pub fn broker_configs(&self, id: NodeId) -> Option<&Arc<Configs>> {
        self.broker_configs.get(&id)
    }

    /// Settings that were altered for all brokers over the protocol.
    pub fn default_broker_configs(&self) -> &Arc<Configs> {
        &self.default_broker_configs
    }

    /// The first producer id that was not given out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// A topic that exists and that `name` must not stand beside, as only `.` and `_` differ.
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        self.alike.get(&*crate::names::collision_key(name)?).filter(|other| &***other != name)
    }

    pub(crate) fn put_topic(&mut self, topic: Arc<Topic>) {
        self.partition_count += topic.partitions.len();
        if let Some(key) = crate::names::collision_key(&topic.name) {
            self.alike.insert(key.into(), Arc::clone(&topic.name));
        }
        self.topics_by_id.insert(topic.id, Arc::clone(&topic));
        if let Some(old) = self.topics.insert(Arc::clone(&topic.name), topic) {
            self.partition_count -= old.partitions.len();
        }
    }

    /// Puts a topic in the place of the one with its name and identifier; there is no collision to look for.
    pub(crate) fn replace_topic(&mut self, topic: Arc<Topic>) {
        self.topics_by_id.insert(topic.id, Arc::clone(&topic));
        self.topics.insert(Arc::clone(&topic.name), topic);
    }

    pub(crate) fn remove_topic(&mut self, id: &TopicId) {
        let Some(topic) = self.topics_by_id.remove(id) else { return };
        self.topics.remove(&*topic.name);
        self.partition_count -= topic.partitions.len();
        if let Some(key) = crate::names::collision_key(&topic.name) {
            self.alike.remove(&*key);
        }
    }
}
