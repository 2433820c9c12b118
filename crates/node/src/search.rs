//! Search as a part of the node: what it reads of the broker, and how it asks other nodes.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId, TopicId, Transport};
use chronik_broker::{BESIDE_BROKER, Broker, CommittedError, PeerEar};
use chronik_config::NodeConfig;
use chronik_log::ReadError;
use chronik_meta::{Image, Topic};
use chronik_search::{Batches, Bounds, Host, HostError, Options, Search, TopicInfo};

/// Below the data directory.
const DIRECTORY: &str = "search";
/// Topic settings of search.
const ENABLED: &str = "search.enabled";
const SCHEMA: &str = "search.schema";

/// The broker, as search sees it.
struct BrokerHost(Arc<Broker>);

impl Host for BrokerHost {
    fn node_id(&self) -> NodeId {
        self.0.node_id()
    }

    fn is_ready(&self) -> bool {
        self.0.not_ready().is_none()
    }

    fn version(&self) -> (u64, bool) {
        (self.0.quorum().image().offset(), self.is_ready())
    }

    fn topics(&self) -> Vec<TopicInfo> {
        let image = self.0.quorum().image();
        image.topics().filter(|topic| is_enabled(topic)).map(|topic| self.info(&image, topic)).collect()
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let image = self.0.quorum().image();
        image.topic(name).map(|topic| self.info(&image, topic))
    }

    fn bounds(&self, topic: &TopicId, partition: i32) -> Option<Bounds> {
        let bounds = self.0.committed_bounds(topic, partition)?;
        Some(Bounds {
            log_start: bounds.log_start,
            high_watermark: bounds.high_watermark,
            cleaned: bounds.cleaned,
        })
    }

    fn read(
        &self,
        topic: &TopicId,
        partition: i32,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Batches, HostError> {
        let read = self.0.read_committed(topic, partition, offset, max_bytes);
        read.map(|(bytes, next_offset)| Batches { bytes, next_offset }).map_err(host_error)
    }

    fn end_of_epoch(&self, topic: &TopicId, partition: i32, epoch: i32) -> Option<i64> {
        self.0.end_of_epoch(topic, partition, epoch)
    }

    fn offset_for_time(
        &self,
        topic: &TopicId,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, HostError> {
        self.0.committed_offset_for_time(topic, partition, timestamp).map_err(host_error)
    }

    fn call(&self, node: NodeId, payload: Bytes, timeout: Duration) -> BoxFuture<Result<Bytes, String>> {
        let call = self.0.peers().call(node, BESIDE_BROKER, payload, timeout);
        Box::pin(async move { call.await.map_err(|error| error.to_string()) })
    }
}

impl BrokerHost {
    fn info(&self, image: &Image, topic: &Topic) -> TopicInfo {
        // What this node has is indexed whether or not the others take it for alive.
        let usable =
            |id: &NodeId| *id == self.0.node_id() || image.broker(*id).is_some_and(|broker| !broker.fenced);
        let replicas = topic.partitions.iter().map(|(_, partition)| {
            let mut nodes: Vec<NodeId> = partition.replicas.iter().copied().filter(usable).collect();
            nodes.sort_by_key(|node| (*node != partition.leader, !partition.isr.contains(node)));
            nodes
        });
        TopicInfo {
            id: topic.id,
            name: topic.name.to_string(),
            enabled: is_enabled(topic),
            schema: topic.configs.get(SCHEMA).cloned().unwrap_or_default(),
            replicas: replicas.collect(),
        }
    }
}

/// Starts search by the settings, and lets other nodes ask it.
pub(crate) fn start(
    broker: &Arc<Broker>,
    config: &NodeConfig,
    data_dir: &Path,
    ear: &PeerEar,
) -> std::io::Result<Arc<Search>> {
    let options = Options {
        dir: data_dir.join(DIRECTORY),
        memory: config.search_memory,
        timeout_ms: config.search_timeout_ms,
        max_decompressed: config.max_decompressed_bytes,
    };
    let search = Search::start(config.search_enabled, options, Arc::new(BrokerHost(broker.clone())))?;
    let asked: Weak<Search> = Arc::downgrade(&search);
    ear.set_beside(Box::new(move |payload| match asked.upgrade() {
        Some(search) => search.answer(&payload),
        None => Box::pin(std::future::ready(Err("the node is stopping".to_owned()))),
    }));
    Ok(search)
}

fn is_enabled(topic: &Topic) -> bool {
    topic.configs.get(ENABLED).is_some_and(|value| value == "true")
}

fn host_error(error: CommittedError) -> HostError {
    match error {
        CommittedError::NotHosted(partition) => HostError::NotHosted(partition),
        CommittedError::Log(ReadError::OutOfRange(range)) => {
            HostError::OutOfRange { offset: range.offset, start: range.log_start, end: range.log_end }
        }
        other => HostError::Log(other.to_string()),
    }
}
