//! A node in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId, TopicId};
use chronik_records::{BatchBuilder, BatchOptions};

use crate::{Batches, Bounds, Host, HostError, Search, TopicInfo};

#[derive(Default)]
struct Log {
    start: i64,
    end: i64,
    cleaned: (i64, i64),
    /// Each a batch of one record, by offset.
    batches: Vec<(i64, Bytes)>,
}

pub(crate) struct Fake {
    node: NodeId,
    /// Nodes that can be reached.
    others: Mutex<BTreeMap<NodeId, Weak<Search>>>,
    topic: Mutex<TopicInfo>,
    logs: Mutex<Vec<Log>>,
    version: AtomicU64,
}

impl Fake {
    pub(crate) fn new(partitions: usize, schema: &str) -> Arc<Self> {
        Self::of_node(1, vec![vec![1]; partitions], schema)
    }

    pub(crate) fn of_node(node: NodeId, replicas: Vec<Vec<NodeId>>, schema: &str) -> Arc<Self> {
        let partitions = replicas.len();
        let topic = TopicInfo {
            id: TopicId::from_random([7; 16]),
            name: "logs".to_owned(),
            enabled: true,
            schema: schema.to_owned(),
            replicas,
        };
        let logs = (0..partitions).map(|_| Log::default()).collect();
        Arc::new(Self {
            node,
            others: Mutex::default(),
            topic: Mutex::new(topic),
            logs: Mutex::new(logs),
            version: AtomicU64::new(1),
        })
    }

    /// Lets this node ask another one, or no longer.
    pub(crate) fn connect(&self, node: NodeId, other: Option<&Arc<Search>>) {
        let mut others = self.others.lock().unwrap();
        match other {
            Some(other) => others.insert(node, Arc::downgrade(other)),
            None => others.remove(&node),
        };
    }

    fn has(&self, partition: i32) -> bool {
        self.topic
            .lock()
            .unwrap()
            .replicas
            .get(partition as usize)
            .is_some_and(|all| all.contains(&self.node))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut TopicInfo)) {
        change(&mut self.topic.lock().unwrap());
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn id(&self) -> TopicId {
        self.topic.lock().unwrap().id
    }

    pub(crate) fn add(&self, partition: i32, key: Option<&str>, value: Option<&str>, timestamp: i64) -> i64 {
        self.add_with(partition, key, value, timestamp, &[])
    }

    pub(crate) fn add_with(
        &self,
        partition: i32,
        key: Option<&str>,
        value: Option<&str>,
        timestamp: i64,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> i64 {
        let mut logs = self.logs.lock().unwrap();
        let log = &mut logs[partition as usize];
        let offset = log.end;
        let options =
            BatchOptions { base_offset: offset, partition_leader_epoch: 1, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        builder.append(timestamp, key.map(str::as_bytes), value.map(str::as_bytes), headers).unwrap();
        log.batches.push((offset, builder.finish().unwrap()));
        log.end += 1;
        offset
    }

    /// As DeleteRecords does.
    pub(crate) fn delete_before(&self, partition: i32, start: i64) {
        let mut logs = self.logs.lock().unwrap();
        let log = &mut logs[partition as usize];
        log.start = start;
        log.batches.retain(|(offset, _)| *offset >= start);
    }

    /// As compaction does: these offsets go.
    pub(crate) fn compact(&self, partition: i32, gone: &[i64]) {
        let mut logs = self.logs.lock().unwrap();
        let log = &mut logs[partition as usize];
        log.batches.retain(|(offset, _)| !gone.contains(offset));
        log.cleaned = (log.end, 1);
    }

    /// As a follower does whose leader has another log.
    pub(crate) fn truncate(&self, partition: i32, end: i64) {
        let mut logs = self.logs.lock().unwrap();
        let log = &mut logs[partition as usize];
        log.batches.retain(|(offset, _)| *offset < end);
        log.end = end;
    }
}

impl Host for Fake {
    fn node_id(&self) -> NodeId {
        self.node
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn version(&self) -> (u64, bool) {
        (self.version.load(Ordering::SeqCst), true)
    }

    fn topics(&self) -> Vec<TopicInfo> {
        let topic = self.topic.lock().unwrap().clone();
        if topic.enabled { vec![topic] } else { Vec::new() }
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        Some(self.topic.lock().unwrap().clone()).filter(|topic| topic.name == name)
    }

    fn bounds(&self, _: &TopicId, partition: i32) -> Option<Bounds> {
        if !self.has(partition) {
            return None;
        }
        let logs = self.logs.lock().unwrap();
        let log = logs.get(partition as usize)?;
        Some(Bounds { log_start: log.start, high_watermark: log.end, cleaned: log.cleaned })
    }

    fn read(&self, _: &TopicId, partition: i32, offset: i64, max_bytes: usize) -> Result<Batches, HostError> {
        let logs = self.logs.lock().unwrap();
        let log = logs.get(partition as usize).ok_or(HostError::NotHosted(partition))?;
        if offset < log.start || offset > log.end {
            return Err(HostError::OutOfRange { offset, start: log.start, end: log.end });
        }
        let mut read = Batches { bytes: Vec::new(), next_offset: log.end };
        for (at, batch) in log.batches.iter().filter(|(at, _)| *at >= offset) {
            if !read.bytes.is_empty() && read.bytes.len() + batch.len() > max_bytes {
                read.next_offset = *at;
                break;
            }
            read.bytes.extend_from_slice(batch);
        }
        Ok(read)
    }

    fn end_of_epoch(&self, _: &TopicId, partition: i32, _: i32) -> Option<i64> {
        Some(self.logs.lock().unwrap()[partition as usize].end)
    }

    fn offset_for_time(&self, _: &TopicId, _: i32, _: i64) -> Result<Option<i64>, HostError> {
        Ok(None)
    }

    fn call(&self, node: NodeId, payload: Bytes, _: Duration) -> BoxFuture<Result<Bytes, String>> {
        match self.others.lock().unwrap().get(&node).and_then(Weak::upgrade) {
            Some(other) => other.answer(&payload),
            None => Box::pin(std::future::ready(Err(format!("node {node} can't be reached")))),
        }
    }
}
