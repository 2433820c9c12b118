//! What differs between two images, found by leaving out what they share: the cost is that of the changes, not of the cluster.

use std::sync::Arc;

use chronik_base::TopicId;

use crate::image::{Image, Topic};
use crate::partitions::Partitions;

/// A topic that differs between two images.
#[derive(Clone, Debug)]
pub struct TopicChange {
    /// Its identifier.
    pub id: TopicId,
    /// As it was; `None` if it is new.
    pub before: Option<Arc<Topic>>,
    /// As it is; `None` if it was deleted.
    pub after: Option<Arc<Topic>>,
    /// The partitions of `after` that are new or differ, in order.
    pub partitions: Vec<i32>,
}

impl TopicChange {
    /// Whether the topic's own settings changed.
    pub fn configs_changed(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                !Arc::ptr_eq(&before.configs, &after.configs) && before.configs != after.configs
            }
            _ => false,
        }
    }
}

impl Image {
    /// The topics that differ, by identifier, each with the partitions that do.
    pub fn changed_partitions(before: &Image, after: &Image) -> Vec<TopicChange> {
        let mut changes = Vec::new();
        before.topics_by_id.difference(&after.topics_by_id, Arc::ptr_eq, |id, old, new| {
            let nothing = Partitions::default();
            let partitions = new.map_or_else(Vec::new, |new: &Arc<Topic>| {
                Partitions::changed(old.map_or(&nothing, |old| &old.partitions), &new.partitions)
            });
            let change = TopicChange { id: *id, before: old.cloned(), after: new.cloned(), partitions };
            let same = old.zip(new).is_some_and(|(old, new)| old.name == new.name);
            if !change.partitions.is_empty() || change.configs_changed() || !same {
                changes.push(change);
            }
        });
        changes
    }
}
