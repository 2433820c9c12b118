//! Random histories: of logs that diverge and are joined, and of a leader with everything that happens to it.

use std::collections::{BTreeMap, BTreeSet};

use chronik_base::NodeId;
use chronik_replica::{
    EpochLog, Leader, LeaderStart, PartitionUpdate, ProposalFailure, StreamId, StreamStart,
};
use proptest::prelude::*;

use crate::divergence::join;
use crate::world::{Log, start};

/// A leader is made of one of three logs, some of the others join it and take a part of what it has, it appends.
#[derive(Clone, Debug)]
struct Reign {
    leader: usize,
    joins: [Option<usize>; 3],
    appends: usize,
}

fn reign() -> impl Strategy<Value = Reign> {
    (0usize..3, prop::array::uniform3(prop::option::of(0usize..6)), 0usize..5)
        .prop_map(|(leader, joins, appends)| Reign { leader, joins, appends })
}

/// An event at a leader. Numbers are taken modulo what is there.
#[derive(Clone, Debug)]
enum Event {
    Append(i64),
    Flush(i64),
    Subscribe(i32, i64),
    Ack(i32, i64, bool),
    Disconnect(i32),
    Refuse(i32),
    Unable(i32),
    Wait(i64),
    Pass(u64),
    Propose,
    Decide,
    Fail(bool),
    Fence(i32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1i64..5).prop_map(Event::Append),
        (0i64..6).prop_map(Event::Flush),
        (2i32..5, 0i64..12).prop_map(|(node, end)| Event::Subscribe(node, end)),
        (2i32..5, 0i64..12, any::<bool>()).prop_map(|(node, end, stale)| Event::Ack(node, end, stale)),
        (2i32..5).prop_map(Event::Disconnect),
        (2i32..5).prop_map(Event::Refuse),
        (2i32..5).prop_map(Event::Unable),
        (0i64..4).prop_map(Event::Wait),
        (1u64..9_000).prop_map(Event::Pass),
        Just(Event::Propose),
        Just(Event::Decide),
        any::<bool>().prop_map(Event::Fail),
        (2i32..5).prop_map(Event::Fence),
    ]
}

/// What is true, told to the leader only by events.
struct Truth {
    leader: Leader<u32>,
    now: u64,
    written: i64,
    flushed: i64,
    /// What each follower has on its disk.
    held: BTreeMap<NodeId, i64>,
    streams: BTreeMap<NodeId, StreamId>,
    isr: BTreeSet<NodeId>,
    partition_epoch: i32,
    /// Proposals that may yet come into force.
    open: Vec<chronik_replica::IsrProposal>,
    waiting: BTreeMap<u32, i64>,
    next_waiter: u32,
    next_stream: u64,
}

const REPLICAS: [NodeId; 4] = [1, 2, 3, 4];

impl Truth {
    fn new(min: usize) -> Self {
        let isr = [1, 2, 3];
        let leader = Leader::new(LeaderStart { min_insync_replicas: min, ..start(&REPLICAS, &isr, 0) });
        Self {
            leader,
            now: 0,
            written: 0,
            flushed: 0,
            held: BTreeMap::new(),
            streams: BTreeMap::new(),
            isr: isr.into(),
            partition_epoch: 7,
            open: Vec::new(),
            waiting: BTreeMap::new(),
            next_waiter: 0,
            next_stream: 0,
        }
    }

    fn answered(&mut self, who: Vec<u32>) {
        for who in who {
            let end = self.waiting.remove(&who).unwrap();
            assert!(end <= self.leader.high_watermark(), "answered before it was committed");
        }
    }

    fn decide(&mut self, isr: BTreeSet<NodeId>) {
        self.partition_epoch += 1;
        self.isr = isr;
        let isr: Vec<_> = self.isr.iter().copied().collect();
        let mut out = Vec::new();
        let update = PartitionUpdate {
            leader_epoch: 3,
            partition_epoch: self.partition_epoch,
            replicas: &REPLICAS,
            isr: &isr,
        };
        self.leader.on_partition(update, self.now, |who, how| out.push((who, how))).unwrap();
        for (who, how) in out {
            let end = self.waiting.remove(&who).unwrap();
            if how == chronik_replica::Settled::Acknowledged {
                assert!(end <= self.leader.high_watermark());
            }
        }
    }

    fn step(&mut self, event: &Event) {
        let mut out = Vec::new();
        match *event {
            Event::Append(count) => {
                self.written += count;
                self.leader.on_written(self.written, |who| out.push(who));
            }
            Event::Flush(count) => {
                self.flushed = (self.flushed + count).min(self.written);
                self.leader.on_flushed(self.flushed, |who| out.push(who));
            }
            Event::Subscribe(node, end) => {
                self.next_stream += 1;
                let stream = StreamId { broker_epoch: 1, number: self.next_stream };
                let flushed_end = end.min(self.written);
                self.held.insert(node, flushed_end);
                self.streams.insert(node, stream);
                let start = StreamStart { node, epoch: 3, stream, flushed_end };
                self.leader.on_follower_subscribed(start, self.now, |who| out.push(who)).unwrap();
            }
            Event::Ack(node, end, stale) => {
                if stale {
                    let old = StreamId { broker_epoch: 0, number: 1 };
                    let refused = self.leader.on_follower_flushed(node, 3, old, 1_000, self.now, |_| {});
                    assert!(refused.is_err());
                } else if let Some(stream) = self.streams.get(&node) {
                    let held = self.held.get_mut(&node).unwrap();
                    *held = (*held).max(end.min(self.written));
                    let held = *held;
                    self.leader
                        .on_follower_flushed(node, 3, *stream, held, self.now, |who| out.push(who))
                        .unwrap();
                }
            }
            Event::Disconnect(node) => {
                if let Some(stream) = self.streams.get(&node) {
                    self.leader.on_follower_disconnected(node, *stream, self.now);
                }
            }
            Event::Refuse(node) => self.leader.on_follower_refused(node, self.now),
            Event::Unable(node) => {
                if let Some(stream) = self.streams.get(&node) {
                    self.leader.on_follower_unable(node, *stream, self.now);
                }
            }
            Event::Wait(beyond) => {
                let end = (self.written + beyond - 2).min(self.written);
                if self.leader.wait_for_commit(end, self.now, u64::MAX, self.next_waiter).is_none() {
                    self.waiting.insert(self.next_waiter, end);
                }
                self.next_waiter += 1;
            }
            Event::Pass(ms) => {
                self.now += ms;
                let mut failed = Vec::new();
                self.leader.tick(self.now, |who, _| failed.push(who));
                failed.iter().for_each(|who| assert!(self.waiting.remove(who).is_some()));
            }
            Event::Propose => {
                if let Some(proposal) = self.leader.propose(self.now, |_, _| true) {
                    assert_eq!(proposal.partition_epoch, self.partition_epoch);
                    for (node, _) in proposal.isr.iter().filter(|(node, _)| !self.isr.contains(node)) {
                        assert!(self.held[node] >= self.leader.high_watermark());
                    }
                    self.open.push(proposal);
                }
            }
            Event::Decide => {
                // Any copy that is under way may be the one that comes into force, an early one too.
                self.open.retain(|open| open.partition_epoch == self.partition_epoch);
                if !self.open.is_empty() {
                    let isr = self.open.remove(0).isr.iter().map(|(node, _)| *node).collect();
                    self.decide(isr);
                }
            }
            Event::Fail(refused) => {
                if self.leader.is_proposing() {
                    // A refusal ends this copy; one that was lost stays under way.
                    if refused {
                        self.open.pop();
                    }
                    let how = if refused { ProposalFailure::Refused } else { ProposalFailure::Unknown };
                    self.leader.on_proposal_failed(self.partition_epoch, how, self.now);
                }
            }
            Event::Fence(node) => {
                let isr = self.isr.iter().copied().filter(|id| *id != node).collect();
                self.decide(isr);
            }
        }
        self.answered(out);
    }

    /// What must hold whatever came before.
    fn check(&self, before: i64) {
        let committed = self.leader.high_watermark();
        assert!(committed >= before, "the high watermark went back");
        assert!(committed <= self.flushed);
        if committed > before {
            let mut may_be_in: BTreeSet<NodeId> = self.isr.clone();
            for open in self.open.iter().filter(|open| open.partition_epoch == self.partition_epoch) {
                may_be_in.extend(open.isr.iter().map(|(node, _)| *node));
            }
            for node in may_be_in.iter().filter(|node| **node != 1) {
                let held = self.held.get(node).copied().unwrap_or(0);
                assert!(held >= committed, "node {node} holds {held}, committed is {committed}");
            }
        }
    }
}

proptest! {
    #[test]
    fn joined_logs_share_all_they_can(reigns in prop::collection::vec(reign(), 1..20)) {
        let mut logs = [Log::default(), Log::default(), Log::default()];
        for (epoch, reign) in (0i32..).zip(&reigns) {
            let mut leader = logs[reign.leader].clone();
            leader.epochs.extend(vec![epoch; reign.appends]);
            for (at, take) in reign.joins.iter().enumerate().filter(|(at, _)| *at != reign.leader) {
                let Some(take) = take else { continue };
                let follower = &mut logs[at];
                let common = follower.epochs.iter().zip(&leader.epochs).take_while(|(a, b)| a == b).count();
                join(follower, &leader);
                // No more is cut than what differs, and nothing that differs is left.
                prop_assert_eq!(&follower.epochs, &leader.epochs[..common]);
                let new: Vec<_> = leader.from(follower.log_end()).iter().copied().take(*take).collect();
                follower.epochs.extend(new);
            }
            logs[reign.leader] = leader;
        }
    }

    #[test]
    fn the_leader_commits_what_its_isr_holds(
        min in 1usize..3,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut truth = Truth::new(min);
        for event in &events {
            let before = truth.leader.high_watermark();
            truth.step(event);
            truth.check(before);
        }
    }
}
