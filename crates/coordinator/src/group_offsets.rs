//! The offsets of one group: what is safely committed, and what is on its way to the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::WriteToken;
use crate::records::OffsetCommitRecord;

/// The committed offset of one partition, and the writes that will change it.
#[derive(Debug, Default)]
pub(crate) struct OffsetEntry {
    /// What the log holds for certain; only this is shown to anybody.
    committed: Option<OffsetCommitRecord>,
    /// Commits (`Some`) and removals (`None`) that are being written, in the order of the log.
    pending: Vec<(WriteToken, Option<OffsetCommitRecord>)>,
}

impl OffsetEntry {
    /// True if the log holds an offset, or may come to hold one: any write under way may yet fail, a removal too.
    fn may_exist(&self) -> bool {
        self.committed.is_some() || self.pending.iter().any(|(_, value)| value.is_some())
    }

    /// The committed offset, if no write is about to change it.
    pub(crate) fn settled(&self) -> Option<&OffsetCommitRecord> {
        if self.pending.is_empty() { self.committed.as_ref() } else { None }
    }
}

/// The offsets of one group.
#[derive(Debug, Default)]
pub(crate) struct GroupOffsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, OffsetEntry>>,
}

impl GroupOffsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// What is committed for a partition.
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetCommitRecord> {
        self.topics.get(topic)?.get(&partition)?.committed.as_ref()
    }

    /// All entries, by topic.
    pub(crate) fn topics(&self) -> &BTreeMap<Arc<str>, BTreeMap<i32, OffsetEntry>> {
        &self.topics
    }

    /// All that is committed, by topic and partition.
    pub(crate) fn committed(&self) -> impl Iterator<Item = (&Arc<str>, i32, &OffsetCommitRecord)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .filter_map(move |(partition, entry)| Some((topic, *partition, entry.committed.as_ref()?)))
        })
    }

    /// What a removal must cover: partitions that have an offset or may come to have one.
    pub(crate) fn to_remove(&self, topic: &str) -> Vec<i32> {
        self.topics
            .get(topic)
            .into_iter()
            .flatten()
            .filter(|(_, entry)| entry.may_exist())
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// True if the partition has an offset or may come to have one.
    pub(crate) fn may_have(&self, topic: &str, partition: i32) -> bool {
        self.topics
            .get(topic)
            .and_then(|partitions| partitions.get(&partition))
            .is_some_and(|entry| entry.may_exist())
    }

    /// Notes that a write is under way. True if this is the group's first entry for the topic.
    pub(crate) fn begin(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        token: WriteToken,
        value: Option<OffsetCommitRecord>,
    ) -> bool {
        let new_topic = !self.topics.contains_key(topic);
        let entry = self.topics.entry(topic.clone()).or_default().entry(partition).or_default();
        match entry.pending.last_mut() {
            // One commit may name a partition twice: its last word counts, in the log as well.
            Some((last, pending)) if *last == token => *pending = value,
            _ => entry.pending.push((token, value)),
        }
        new_topic
    }

    /// Notes how a write ended. True if the group has no entry for the topic any more.
    pub(crate) fn end(&mut self, topic: &str, partition: i32, token: WriteToken, written: bool) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let Some(entry) = partitions.get_mut(&partition) else { return false };
        let Some(at) = entry.pending.iter().position(|(pending, _)| *pending == token) else { return false };
        let (_, value) = entry.pending.remove(at);
        if written {
            entry.committed = value;
        }
        self.forget_if_empty(topic, partition)
    }

    /// Notes that one write will remove every offset; gives back what it must remove.
    pub(crate) fn begin_removal(&mut self, token: WriteToken) -> Vec<(Arc<str>, i32)> {
        let mut removed = Vec::new();
        for (topic, partitions) in &mut self.topics {
            for (&partition, entry) in partitions.iter_mut().filter(|(_, entry)| entry.may_exist()) {
                entry.pending.push((token, None));
                removed.push((topic.clone(), partition));
            }
        }
        removed
    }

    /// Notes that this write failed. Gives back the topics of which no entry is left.
    pub(crate) fn abort_removal(&mut self, token: WriteToken) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        self.topics.retain(|topic, partitions| {
            partitions.retain(|_, entry| {
                entry.pending.retain(|(pending, _)| *pending != token);
                entry.committed.is_some() || !entry.pending.is_empty()
            });
            if partitions.is_empty() {
                gone.push(topic.clone());
            }
            !partitions.is_empty()
        });
        gone
    }

    /// Takes an offset over from the log. True if the topic came (with a value) or went (without one).
    pub(crate) fn load(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        value: Option<OffsetCommitRecord>,
    ) -> bool {
        match value {
            Some(value) => {
                let new_topic = !self.topics.contains_key(topic);
                let entry = self.topics.entry(topic.clone()).or_default().entry(partition).or_default();
                entry.committed = Some(value);
                new_topic
            }
            None => {
                if let Some(entry) = self.topics.get_mut(topic).and_then(|topic| topic.get_mut(&partition)) {
                    entry.committed = None;
                }
                self.forget_if_empty(topic, partition)
            }
        }
    }

    fn forget_if_empty(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        if partitions.get(&partition).is_some_and(|e| e.committed.is_none() && e.pending.is_empty()) {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.topics.remove(topic);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_base::TopicId;

    fn value(offset: i64) -> OffsetCommitRecord {
        OffsetCommitRecord {
            offset,
            leader_epoch: -1,
            topic_id: TopicId::ZERO,
            metadata: "".into(),
            commit_timestamp_ms: 0,
            expire_timestamp_ms: None,
        }
    }

    fn committed(offsets: &GroupOffsets) -> Option<i64> {
        offsets.get("t", 0).map(|value| value.offset)
    }

    #[test]
    fn only_what_is_written_is_seen() {
        let mut offsets = GroupOffsets::default();
        let topic: Arc<str> = "t".into();
        assert!(offsets.begin(&topic, 0, WriteToken(1), Some(value(5))));
        assert!(!offsets.begin(&topic, 0, WriteToken(2), Some(value(6))));
        assert_eq!(committed(&offsets), None);
        assert!(offsets.may_have("t", 0));
        assert!(!offsets.end("t", 0, WriteToken(1), true));
        assert_eq!(committed(&offsets), Some(5));
        assert!(!offsets.end("t", 0, WriteToken(2), false));
        assert_eq!(committed(&offsets), Some(5));
    }

    #[test]
    fn a_removal_covers_commits_on_their_way() {
        let mut offsets = GroupOffsets::default();
        let topic: Arc<str> = "t".into();
        offsets.begin(&topic, 0, WriteToken(1), Some(value(5)));
        assert_eq!(offsets.to_remove("t"), [0]);
        offsets.begin(&topic, 0, WriteToken(2), None);
        assert_eq!(offsets.to_remove("t"), [0], "the removal may fail");
        assert!(!offsets.end("t", 0, WriteToken(1), true));
        assert!(offsets.end("t", 0, WriteToken(2), true), "the topic's last entry is gone");
        assert!(offsets.is_empty());
    }

    #[test]
    fn a_failed_first_commit_leaves_nothing() {
        let mut offsets = GroupOffsets::default();
        offsets.begin(&"t".into(), 0, WriteToken(1), Some(value(5)));
        assert!(offsets.end("t", 0, WriteToken(1), false));
        assert!(offsets.is_empty());
    }
}
