//! The faults of a history, thought out before it begins, so that a failing one can be run again with fewer.

use chronik_base::NodeId;

use crate::event::Tp;
use crate::rng::Rng;

/// What goes wrong, or is changed, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9: what was written stays, the process is gone for `down_ms`.
    Kill {
        /// The node.
        node: NodeId,
        /// Until it starts again, in milliseconds.
        down_ms: u64,
    },
    /// Machines lose their power together: what was not flushed may be gone or torn.
    PowerLoss {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Until they start again, in milliseconds.
        down_ms: u64,
    },
    /// A machine's disk is lost with it.
    Wipe {
        /// The node.
        node: NodeId,
        /// Until it starts again, in milliseconds.
        down_ms: u64,
    },
    /// SIGSTOP.
    Pause {
        /// The node.
        node: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// SIGTERM: the broker says so first, and stops when its leaderships are gone.
    Shutdown {
        /// The node.
        node: NodeId,
        /// Until it starts again, in milliseconds.
        down_ms: u64,
    },
    /// Nothing passes from one node to another.
    Cut {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Nothing passes between one node and all others, the quorum among them.
    Isolate {
        /// The node.
        node: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// A node does not hear the quorum, or (`mute`) is not heard by it.
    CutQuorum {
        /// The node.
        node: NodeId,
        /// Which way.
        mute: bool,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Connections between two nodes break.
    Reset {
        /// One.
        from: NodeId,
        /// The other.
        to: NodeId,
    },
    /// Messages from one node to another take long.
    SlowLink {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// A node hears of metadata late.
    SlowMetadata {
        /// The node.
        node: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// The quorum has no majority.
    QuorumOutage {
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Another node leads the quorum.
    QuorumFailover,
    /// Flushes take long.
    SlowDisk {
        /// The node.
        node: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// The disk takes no more.
    FullDisk {
        /// The node.
        node: NodeId,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// The wall clock jumps.
    ClockJump {
        /// The node.
        node: NodeId,
        /// By how much, in milliseconds.
        by_ms: i64,
    },
    /// A partition moves.
    Reassign {
        /// The partition.
        tp: Tp,
        /// Where to; `None` takes it back.
        target: Option<Vec<NodeId>>,
    },
    /// The first replica is to lead.
    ElectPreferred {
        /// The partition.
        tp: Tp,
    },
    /// Replicas in another order, the first of which is to lead.
    Lead {
        /// The partition.
        tp: Tp,
        /// The order.
        order: Vec<NodeId>,
    },
    /// The leader is cut off from the quorum and goes on leading, while the one that is elected in its place loses its power.
    Coup {
        /// The partition.
        tp: Tp,
    },
    /// Leadership goes to another replica and back before what a third one says on a bad link arrives, then the leader loses its power.
    Relay {
        /// The partition.
        tp: Tp,
    },
    /// A follower hears of two elections one after the other and late, the second of which the first's leader does not hear of.
    Straggler {
        /// The partition.
        tp: Tp,
    },
    /// A node hears of metadata in order, but late.
    LateMetadata {
        /// The node.
        node: NodeId,
        /// How late, in milliseconds.
        by_ms: u64,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// `min.insync.replicas` of a topic changes.
    MinInsync {
        /// The topic.
        topic: u8,
        /// To what.
        to: usize,
    },
    /// Old records of a partition are deleted.
    Retention {
        /// The partition.
        tp: Tp,
    },
}

/// The shape of a history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Brokers, numbered from 1.
    pub nodes: NodeId,
    /// When each broker starts for the first time, in microseconds.
    pub starts_us: Vec<u64>,
    /// Partitions of each topic with their replicas.
    pub topics: Vec<Vec<Vec<NodeId>>>,
    /// `min.insync.replicas` of each topic.
    pub min_insync: Vec<usize>,
    /// Whether `unclean.leader.election.enable` is on, with the loss that it allows.
    pub unclean: bool,
    /// The faults with the time of each, in microseconds.
    pub faults: Vec<(u64, Fault)>,
    /// When all faults end, in microseconds.
    pub heal_us: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        // Almost half of the histories is about who leads, with time for the ISR to be whole in between.
        let coups = rng.chance(450);
        let nodes = if coups || rng.chance(600) { 3 } else { rng.between(2, 5) as NodeId };
        let all: Vec<NodeId> = (1..=nodes).collect();
        // With more than three, the last one joins late, and gets partitions by reassignment only.
        let first = if nodes > 3 { nodes - 1 } else { nodes };
        let mut topics = Vec::new();
        let mut min_insync = Vec::new();
        for topic in 0..3 {
            let factor =
                (if coups || rng.chance(750) { 3 } else { rng.between(1, 3) }).min(first as u64) as usize;
            let partitions = if topic == 2 { 1 } else { rng.between(1, 2) };
            let mut placed = Vec::new();
            for _ in 0..partitions {
                let mut replicas: Vec<NodeId> = (1..=first).collect();
                rng.shuffle(&mut replicas);
                replicas.truncate(factor);
                placed.push(replicas);
            }
            topics.push(placed);
            min_insync.push(if factor > 1 && rng.chance(450) { 2 } else { 1 });
        }
        let mut starts_us: Vec<u64> = all.iter().map(|_| rng.between(0, 300_000)).collect();
        if nodes > 3
            && let Some(last) = starts_us.last_mut()
        {
            *last = rng.between(3_000_000, 8_000_000);
        }
        let heal_us = rng.between(8, 20) * 1_000_000;
        let unclean = rng.chance(100);
        let mut plan = Self { nodes, starts_us, topics, min_insync, unclean, faults: Vec::new(), heal_us };
        let mut at = 1_500_000;
        // Some histories are calm, some are not.
        let pace = if coups { 2_000_000 } else { rng.between(100, 900) * 1000 };
        while at < heal_us {
            if coups && rng.chance(850) {
                plan.coup(&mut rng, at);
            } else {
                plan.burst(&mut rng, at);
            }
            at += rng.about(pace);
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    fn partition(&self, rng: &mut Rng) -> Tp {
        let topic = rng.below(3) as u8;
        let count = self.topics.get(usize::from(topic)).map_or(1, Vec::len);
        Tp { topic, index: rng.below(count as u64) as i32 }
    }

    fn coup(&mut self, rng: &mut Rng, at: u64) {
        let tp = self.partition(rng);
        let fault = match rng.below(5) {
            0 => Fault::Coup { tp },
            1..4 => Fault::Relay { tp },
            _ => Fault::Straggler { tp },
        };
        self.faults.push((at, fault));
    }

    /// One fault, or a few that together are worse.
    fn burst(&mut self, rng: &mut Rng, at: u64) {
        let node = rng.between(1, self.nodes as u64) as NodeId;
        let other = 1 + (node - 1 + rng.between(1, self.nodes as u64 - 1) as NodeId) % self.nodes;
        let tp = self.partition(rng);
        let mut add = |after: u64, fault| self.faults.push((at + after, fault));
        match rng.below(100) {
            0..10 => add(0, Fault::Kill { node, down_ms: rng.about(400) }),
            10..16 => {
                let nodes = if rng.chance(500) { vec![node] } else { vec![node, other] };
                add(0, Fault::PowerLoss { nodes, down_ms: rng.about(600) });
            }
            16..18 => add(0, Fault::Wipe { node, down_ms: rng.about(800) }),
            18..27 => add(0, Fault::Pause { node, ms: rng.about(900) }),
            27..32 => add(0, Fault::Shutdown { node, down_ms: rng.about(300) }),
            32..38 => add(0, Fault::Cut { from: node, to: other, ms: rng.about(800) }),
            38..41 => add(0, Fault::Isolate { node, ms: rng.about(1_200) }),
            41..45 => add(0, Fault::CutQuorum { node, mute: rng.chance(500), ms: rng.about(1_200) }),
            45..50 => add(0, Fault::Reset { from: node, to: other }),
            50..55 => add(0, Fault::SlowLink { from: node, to: other, ms: rng.about(1_000) }),
            55..62 => add(0, Fault::SlowMetadata { node, ms: rng.about(1_500) }),
            62..64 => add(0, Fault::QuorumOutage { ms: rng.about(700) }),
            64..67 => add(0, Fault::QuorumFailover),
            67..71 => add(0, Fault::SlowDisk { node, ms: rng.about(900) }),
            71..73 => add(0, Fault::FullDisk { node, ms: rng.about(500) }),
            73..75 => add(0, Fault::ClockJump { node, by_ms: rng.between(0, 20_000) as i64 - 10_000 }),
            75..80 => {
                let replicas = self.topics.get(usize::from(tp.topic)).and_then(|topic| topic.first());
                let mut target: Vec<NodeId> = (1..=self.nodes).collect();
                rng.shuffle(&mut target);
                target.truncate(replicas.map_or(1, Vec::len));
                add(0, Fault::Reassign { tp, target: Some(target) });
                if rng.chance(300) {
                    add(rng.about(300_000), Fault::Reassign { tp, target: None });
                }
            }
            80..86 => add(0, Fault::ElectPreferred { tp }),
            86..88 => add(0, Fault::MinInsync { topic: tp.topic, to: rng.between(1, 2) as usize }),
            88..90 => add(0, Fault::Retention { tp }),
            90..92 => self.coup(rng, at),
            92..96 => {
                // Leadership goes to and fro while one node hears of it late.
                add(0, Fault::SlowMetadata { node, ms: 2_500 });
                add(20_000, Fault::Pause { node: other, ms: rng.between(1_600, 2_400) });
                add(rng.between(1_800_000, 2_600_000), Fault::ElectPreferred { tp });
            }
            _ => {
                // The leader's links are bad, then it dies.
                add(0, Fault::SlowLink { from: node, to: other, ms: 600 });
                add(rng.between(0, 600_000), Fault::SlowMetadata { node, ms: 800 });
                add(
                    rng.between(100_000, 900_000),
                    Fault::PowerLoss { nodes: vec![node], down_ms: rng.about(1_500) },
                );
            }
        }
    }
}
