//! Groups: the shell around the pure coordinator of `chronik_coordinator`.
//!
//! Offsets and groups live in `__consumer_offsets`, an ordinary compacted topic that is created when somebody first asks
//! for a coordinator. Each of its partitions has a [`Shard`]: a coordinator behind a lock, which writes its records into
//! that partition with `acks=all` and goes on when they are acknowledged. A group belongs to the partition that Kafka
//! would choose, so its records can be read by Kafka's own tools. One task serves the timers of all shards.

mod ask;
mod codec;
mod lag;
mod load;
mod shard;
mod text;
mod timers;

pub(crate) use ask::{ask, ask_all};
pub(crate) use text::{arc, client_host, group_error_message, text};

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock, Weak};
use std::time::Duration;

use chronik_base::{ErrorCode, TopicId};
use chronik_config::NodeConfig;
use chronik_coordinator::CoordinatorConfig;
use chronik_meta::Command;

use crate::assignment::automatic;
use crate::sync::Share;
use crate::topics::OFFSETS_TOPIC;
use crate::{Broker, random};
use shard::Shard;
use timers::Timers;

/// How long a request waits for its coordinator to be loaded. After that it is answered `COORDINATOR_LOAD_IN_PROGRESS`,
/// and the client asks again.
const LOAD_WAIT: Duration = Duration::from_secs(3);

/// All coordinators of this node.
pub(crate) struct Groups {
    /// Completions come from threads of the log and of the metadata as well: tasks are started through this.
    runtime: tokio::runtime::Handle,
    settings: CoordinatorConfig,
    shards: RwLock<Shards>,
    /// One request at a time creates the topic.
    creating: tokio::sync::Mutex<()>,
    timers: Timers,
    broker: OnceLock<Weak<Broker>>,
}

/// The shards of the offsets topic, by partition; `None` where another node leads it.
#[derive(Clone, Default)]
struct Shards {
    topic: TopicId,
    by_partition: Arc<[Option<Arc<Shard>>]>,
}

impl Groups {
    /// No coordinator yet. Must be called within a tokio runtime.
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
            settings: coordinator_config(config),
            shards: RwLock::default(),
            creating: tokio::sync::Mutex::default(),
            timers: Timers::default(),
            broker: OnceLock::new(),
        }
    }

    /// Loads what the last run left, in the background, and serves timers from now on.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        let _ = self.broker.set(Arc::downgrade(broker));
        self.refresh(broker);
        self.runtime.spawn(timers::run(Arc::downgrade(broker)));
    }

    /// Answers whoever waits for others, so that connections can be closed. Commits that are being written are answered
    /// when they are.
    pub(crate) fn close(&self) {
        self.shards.shared().by_partition.iter().flatten().for_each(|shard| shard.close());
        self.timers.wake();
    }

    /// A topic is gone: so are its offsets.
    pub(crate) fn topic_deleted(&self, broker: &Broker, topic: &str) {
        let shards = self.shards.shared().by_partition.clone();
        shards.iter().flatten().for_each(|shard| shard.topic_deleted(broker, topic));
    }

    /// The partition of the offsets topic that a group belongs to, as Kafka chooses it; `None` while there is no such topic.
    pub(crate) fn partition_of(&self, broker: &Broker, group: &str) -> Option<i32> {
        let count = broker.topics.by_name(OFFSETS_TOPIC)?.partition_count();
        i32::try_from(partition_for(group, count)?).ok()
    }

    /// Creates the offsets topic if there is none.
    pub(crate) async fn create_topic(&self, broker: &Broker) -> Result<(), ErrorCode> {
        let _one_at_a_time = self.creating.lock().await;
        if broker.topics.by_name(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let config = &broker.config;
        let count = usize::try_from(config.offsets_topic_num_partitions).unwrap_or(1);
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
        ];
        let image = broker.metadata.image();
        let replicas = broker.dynamic().settings.offsets_replication_factor(image.brokers().count());
        // With fewer nodes in the cluster it has fewer replicas, and groups work.
        let replicas = replicas.min(image.brokers().count()).max(1);
        let assignments = automatic(&image, 0, count, replicas).map_err(|refusal| {
            tracing::error!("{OFFSETS_TOPIC} can't be created: {}", refusal.message);
            ErrorCode::CoordinatorNotAvailable
        })?;
        let command = Command::CreateTopic {
            name: OFFSETS_TOPIC.to_owned(),
            id: random::uuid(),
            created: broker.clock.wall_ms(),
            assignments,
            configs: configs
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        };
        for result in broker.metadata.commit(vec![command]).await {
            if let Err(error) = result {
                tracing::error!(
                    "{OFFSETS_TOPIC} can't be created, so there is no group coordinator: {error}"
                );
            }
        }
        match broker.topics.by_name(OFFSETS_TOPIC) {
            Some(_) => Ok(()),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Follows the leadership of the offsets topic's partitions: a coordinator begins where this node leads, and ends where it
    /// leads no more, or leads anew in a later epoch (what it had in memory may have been cut off the log since).
    pub(crate) fn refresh(&self, broker: &Broker) {
        if self.broker.get().is_none() {
            return;
        }
        let topic = broker.topics.by_name(OFFSETS_TOPIC);
        let mut begun = Vec::new();
        let mut ended = Vec::new();
        {
            let mut known = self.shards.exclusive();
            let old = std::mem::take(&mut *known);
            let same_topic = topic.as_ref().is_some_and(|topic| topic.id == old.topic);
            let count = topic.as_ref().map_or(0, |topic| topic.partition_count());
            let mut shards: Vec<Option<Arc<Shard>>> = vec![None; count];
            for partition in topic.iter().flat_map(|topic| topic.partitions()) {
                let Some(slot) =
                    usize::try_from(partition.index).ok().and_then(|index| shards.get_mut(index))
                else {
                    continue;
                };
                let Some(epoch) = partition.led_epoch() else { continue };
                let before = usize::try_from(partition.index)
                    .ok()
                    .and_then(|index| old.by_partition.get(index)?.clone())
                    .filter(|shard| same_topic && shard.epoch == epoch);
                *slot = Some(before.unwrap_or_else(|| {
                    let shard = Shard::new(partition.clone(), epoch, self.settings.clone());
                    begun.push(shard.clone());
                    shard
                }));
            }
            for shard in old.by_partition.iter().flatten() {
                if !shards.iter().flatten().any(|kept| Arc::ptr_eq(kept, shard)) {
                    ended.push(shard.clone());
                }
            }
            *known =
                Shards { topic: topic.map_or(TopicId::ZERO, |topic| topic.id), by_partition: shards.into() };
        }
        ended.iter().for_each(|shard| shard.close());
        begun.iter().for_each(|shard| load::start(shard, broker));
        self.timers.wake();
    }

    /// The coordinators of this node.
    fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.shared().by_partition.iter().flatten().cloned().collect()
    }

    /// The shard of a group, if this node coordinates it.
    fn shard_of(&self, group: &str) -> Result<Arc<Shard>, ErrorCode> {
        let known = self.shards.shared();
        let index =
            partition_for(group, known.by_partition.len()).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        known.by_partition.get(index).and_then(Clone::clone).ok_or(ErrorCode::NotCoordinator)
    }

    /// The shard of a group if it can be asked without waiting.
    fn loaded_shard(&self, group: &str) -> Option<Arc<Shard>> {
        self.shard_of(group).ok().filter(|shard| shard.is_loaded())
    }

    /// The shard of a group; creates the topic and waits until the shard is loaded, if need be.
    async fn shard(&self, broker: &Broker, group: &str) -> Result<Arc<Shard>, ErrorCode> {
        self.create_topic(broker).await?;
        let shard = self.shard_of(group)?;
        // Loading for too long is what the shard then answers itself.
        let _ = tokio::time::timeout(LOAD_WAIT, shard.wait_until_loaded()).await;
        Ok(shard)
    }
}

fn coordinator_config(config: &NodeConfig) -> CoordinatorConfig {
    CoordinatorConfig {
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        max_group_size: usize::try_from(config.group_max_size).unwrap_or(1),
        initial_rebalance_delay_ms: u64::try_from(config.group_initial_rebalance_delay_ms).unwrap_or(0),
        offset_metadata_max: config.offset_metadata_max_bytes,
        offsets_retention_ms: i64::from(config.offsets_retention_minutes).saturating_mul(60_000),
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        ..CoordinatorConfig::default()
    }
}

/// Kafka's choice: the absolute value of Java's hash code of the group id, modulo the number of partitions.
fn partition_for(group: &str, partitions: usize) -> Option<usize> {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Java has no absolute value of the smallest number; Kafka takes 0 for it.
    let absolute = hash.checked_abs().unwrap_or(0);
    usize::try_from(absolute).ok()?.checked_rem(partitions)
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn groups_lie_where_kafka_looks_for_them() {
        // "console-consumer-1".hashCode() and the like, as Java computes them.
        assert_eq!(partition_for("", 50), Some(0));
        assert_eq!(partition_for("a", 50), Some(97 % 50));
        assert_eq!(partition_for("hello", 50), Some(99_162_322 % 50));
        // "polygenelubricants".hashCode() is the smallest number.
        assert_eq!(partition_for("polygenelubricants", 50), Some(0));
        // A character outside of the basic plane counts as two: "😀".hashCode() is 1772899.
        assert_eq!(partition_for("😀", 50), Some(1_772_899 % 50));
        assert_eq!(partition_for("a", 0), None);
    }
}
