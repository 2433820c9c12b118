//! Short hands for the tests.

use chronik_base::NodeId;
use chronik_replica::{
    EpochLog, IsrProposal, Leader, LeaderStart, PartitionUpdate, Settled, StreamId, StreamStart,
};

pub const LAG_MS: u64 = 10_000;

pub fn start<'a>(replicas: &'a [NodeId], isr: &'a [NodeId], log_end: i64) -> LeaderStart<'a> {
    LeaderStart {
        node: 1,
        epoch: 3,
        partition_epoch: 7,
        replicas,
        isr,
        log_end,
        flushed_end: log_end,
        high_watermark: 0,
        min_insync_replicas: 1,
        lag_time_max_ms: LAG_MS,
        now_ms: 0,
    }
}

pub fn leader(replicas: &[NodeId], isr: &[NodeId], log_end: i64) -> Leader<u32> {
    Leader::new(start(replicas, isr, log_end))
}

pub fn stream(number: u64) -> StreamId {
    StreamId { broker_epoch: 50, number }
}

/// Node `node` subscribes with its first stream.
pub fn subscribe(leader: &mut Leader<u32>, node: NodeId, flushed_end: i64, now_ms: u64) {
    let start = StreamStart { node, epoch: 3, stream: stream(1), flushed_end };
    leader.on_follower_subscribed(start, now_ms, |_| {}).unwrap();
}

/// Acknowledges on the first stream; gives back whom that answers.
pub fn ack(leader: &mut Leader<u32>, node: NodeId, end: i64, now_ms: u64) -> Vec<u32> {
    let mut out = Vec::new();
    leader.on_follower_flushed(node, 3, stream(1), end, now_ms, |who| out.push(who)).unwrap();
    out
}

/// The quorum decides on `isr`.
pub fn decide(
    leader: &mut Leader<u32>,
    partition_epoch: i32,
    replicas: &[NodeId],
    isr: &[NodeId],
    now_ms: u64,
) -> Vec<(u32, Settled)> {
    let mut out = Vec::new();
    let update = PartitionUpdate { leader_epoch: 3, partition_epoch, replicas, isr };
    leader.on_partition(update, now_ms, |who, how| out.push((who, how))).unwrap();
    out
}

pub fn propose(leader: &mut Leader<u32>, now_ms: u64) -> Option<IsrProposal> {
    leader.propose(now_ms, |_, _| true)
}

pub fn nodes(proposal: &IsrProposal) -> Vec<NodeId> {
    proposal.isr.iter().map(|(node, _)| *node).collect()
}

/// A log as the epoch of each record, from `start` on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub start: i64,
    pub epochs: Vec<i32>,
}

impl Log {
    pub fn new(epochs: &[i32]) -> Self {
        Self { start: 0, epochs: epochs.to_vec() }
    }

    pub fn truncate(&mut self, end: i64) {
        self.epochs.truncate(usize::try_from(end - self.start).unwrap());
    }

    pub fn reset(&mut self, start: i64) {
        *self = Self { start, epochs: Vec::new() };
    }

    pub fn from(&self, offset: i64) -> &[i32] {
        &self.epochs[usize::try_from(offset - self.start).unwrap()..]
    }
}

impl EpochLog for Log {
    fn log_start(&self) -> i64 {
        self.start
    }

    fn log_end(&self) -> i64 {
        self.start + self.epochs.len() as i64
    }

    fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let below = self.epochs.iter().rposition(|&e| e <= epoch)?;
        Some((self.epochs[below], self.start + below as i64 + 1))
    }
}
