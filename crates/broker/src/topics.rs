//! The topics of the cluster, by name and by id, with the partitions that this node has replicas of.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use chronik_base::{ErrorCode, TopicId};
use chronik_protocol::Str;

use crate::partition::Partition;
use crate::sync::Share;
use crate::topic_settings::TopicSettings;

/// Where committed offsets live: an ordinary compacted topic, written by the group coordinator only.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// True for topics that clients read but don't write.
pub(crate) fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC
}

/// One topic of the cluster. Replaced as a whole when partitions come to this node or leave it; the partitions themselves stay.
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: TopicId,
    /// By index; `None` where this node has no replica.
    partitions: Vec<Option<Arc<Partition>>>,
}

impl Topic {
    pub(crate) fn new(name: Str, id: TopicId, partitions: Vec<Option<Arc<Partition>>>) -> Self {
        Self { name, id, partitions }
    }

    /// True if the topic has a partition with this index, here or elsewhere.
    pub(crate) fn has_partition(&self, index: i32) -> bool {
        usize::try_from(index).is_ok_and(|index| index < self.partitions.len())
    }

    /// The partition with this index, if this node has a replica of it.
    pub(crate) fn hosted(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// The partition with this index, of which this node must have a replica.
    ///
    /// # Errors
    /// There is no such partition, or it is elsewhere.
    pub(crate) fn replica(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        if !self.has_partition(index) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        self.hosted(index).ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// The partition with this index, which this node must lead.
    ///
    /// # Errors
    /// There is no such partition, or another node leads it.
    pub(crate) fn led(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        self.replica(index).and_then(|partition| {
            if partition.is_leader() { Ok(partition) } else { Err(ErrorCode::NotLeaderOrFollower) }
        })
    }

    /// The partitions that this node has replicas of, by index.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().flatten()
    }

    /// How many partitions the topic has in the cluster.
    pub(crate) fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// See [`is_internal`].
    pub(crate) fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

/// All topics of the node. Reading costs one shared lock for a moment.
#[derive(Default)]
pub(crate) struct Topics {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    by_name: HashMap<Str, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl Topics {
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.inner.shared().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.inner.shared().by_id.get(&id).cloned()
    }

    /// The partition of a topic by name, if this node has a replica of it.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.by_name(topic)?.hosted(index).cloned()
    }

    /// Every topic, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.inner.shared().by_id.values().cloned().collect()
    }

    /// Adds a topic, or replaces it by one with more partitions.
    pub(crate) fn put(&self, topic: Topic) {
        let topic = Arc::new(topic);
        let mut inner = self.inner.exclusive();
        inner.by_name.insert(topic.name.clone(), topic.clone());
        inner.by_id.insert(topic.id, topic);
    }

    /// Takes a topic out.
    pub(crate) fn remove(&self, id: TopicId) -> Option<Arc<Topic>> {
        let mut inner = self.inner.exclusive();
        let topic = inner.by_id.remove(&id)?;
        if inner.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
            inner.by_name.remove(&topic.name);
        }
        Some(topic)
    }

    /// New settings for every partition of a topic.
    pub(crate) fn set_settings(&self, name: &str, settings: &Arc<TopicSettings>) {
        if let Some(topic) = self.by_name(name) {
            topic.partitions().for_each(|partition| partition.set_settings(settings.clone()));
        }
    }
}
