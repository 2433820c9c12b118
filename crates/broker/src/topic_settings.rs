//! One topic's settings in the shapes that the broker's parts want them in.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_config::{CompressionType, NodeConfig, Settings, TimestampType, TopicConfig};
use chronik_log::{CleanupPolicy, PartitionOptions};
use chronik_records::{Compression, Encoding, ProduceRules};

use crate::random;

/// Settings of one topic, made once and shared by its partitions.
#[derive(Debug)]
pub(crate) struct TopicSettings {
    rules: ProduceRules,
    pub(crate) log_options: Arc<PartitionOptions>,
    pub(crate) min_insync_replicas: usize,
}

impl TopicSettings {
    /// The settings of a topic that sets `overrides`, on a node with `settings`, in a cluster that asks for at least `min_in_sync`
    /// in-sync replicas.
    pub(crate) fn new(
        overrides: &BTreeMap<String, String>,
        settings: &Settings,
        node: &NodeConfig,
        min_in_sync: usize,
    ) -> Arc<Self> {
        let topic = TopicConfig::resolve(overrides, settings);
        let segment_bytes = usize::try_from(topic.segment_bytes).unwrap_or(1 << 30);
        let log_append_time = topic.message_timestamp_type == TimestampType::LogAppendTime;
        let rules = ProduceRules {
            produce_version: i16::MAX,
            compacted: topic.cleanup_policy.compact,
            timestamp_type: if log_append_time {
                chronik_records::TimestampType::LogAppendTime
            } else {
                chronik_records::TimestampType::CreateTime
            },
            timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
            timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
            max_message_bytes: usize::try_from(topic.max_message_bytes).unwrap_or(0),
            segment_bytes,
            encoding: encoding(&topic),
            max_decompressed_bytes: node.max_decompressed_bytes,
        };
        let log_options = PartitionOptions {
            segment_bytes: segment_bytes as u64,
            segment_ms: topic.segment_ms - jitter(&topic, random::u64()),
            index_interval_bytes: u64::try_from(topic.index_interval_bytes).unwrap_or(0),
            retention_ms: topic.retention_ms,
            retention_bytes: topic.retention_bytes,
            cleanup: CleanupPolicy {
                delete: topic.cleanup_policy.delete,
                compact: topic.cleanup_policy.compact,
            },
            timestamp_type: if log_append_time {
                chronik_log::TimestampType::LogAppendTime
            } else {
                chronik_log::TimestampType::CreateTime
            },
            delete_retention_ms: topic.delete_retention_ms,
            min_compaction_lag_ms: topic.min_compaction_lag_ms,
            max_compaction_lag_ms: topic.max_compaction_lag_ms,
            min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        };
        Arc::new(Self {
            rules,
            log_options: Arc::new(log_options),
            min_insync_replicas: usize::try_from(topic.min_insync_replicas).unwrap_or(1).max(min_in_sync),
        })
    }

    /// What a batch of a Produce request of `version` is held to.
    pub(crate) fn produce_rules(&self, version: i16) -> ProduceRules {
        ProduceRules { produce_version: version, ..self.rules }
    }
}

/// What is taken from `segment.ms`, so that topics do not all roll at once: up to `segment.jitter.ms`, drawn for each topic.
fn jitter(topic: &TopicConfig, random: u64) -> i64 {
    let most = topic.segment_jitter_ms.min(topic.segment_ms - 1);
    if most <= 0 { 0 } else { i64::try_from(random >> 1).unwrap_or(0) % (most + 1) }
}

/// What `compression.type` asks for; `None` leaves records as the producer sent them.
fn encoding(topic: &TopicConfig) -> Option<Encoding> {
    let (compression, level) = match topic.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => (Compression::None, None),
        CompressionType::Gzip => {
            (Compression::Gzip, Some(topic.compression_gzip_level).filter(|&level| level >= 0))
        }
        CompressionType::Snappy => (Compression::Snappy, None),
        CompressionType::Lz4 => (Compression::Lz4, None),
        CompressionType::Zstd => (Compression::Zstd, Some(topic.compression_zstd_level)),
    };
    Some(Encoding { compression, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_below_the_whole() {
        let overrides = BTreeMap::from([
            ("segment.ms".to_owned(), "10".to_owned()),
            ("segment.jitter.ms".to_owned(), "100".to_owned()),
        ]);
        let topic = TopicConfig::resolve(&overrides, &Settings::defaults());
        for random in 0..100 {
            assert!((0..10).contains(&jitter(&topic, random)));
        }
        assert_eq!(jitter(&TopicConfig::resolve(&BTreeMap::new(), &Settings::defaults()), 77), 0);
    }
}
