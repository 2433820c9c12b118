//! What a node becomes to its partitions as metadata arrives, and the end of what it was.

use chronik_base::{ErrorCode, NodeId};
use chronik_coordinator::GroupCoordinator;
use chronik_meta::Partition;
use chronik_replica::{EpochLog, Follower, Leader, LeaderStart, PartitionUpdate, Settled};

use crate::event::Tp;
use crate::mutant::Mutant;
use crate::node::{Following, Groups, Leading, Role, Waiter};
use crate::world::{LAG_MS, OFFSETS, World, topic_id};

impl World {
    /// Brings a node's role in a partition up to its metadata.
    pub(crate) fn follow_metadata(&mut self, id: NodeId, tp: Tp) {
        let node = self.node(id);
        // Metadata of before the registration may name this node the leader of an epoch that an earlier process led.
        let registered = node.image.broker(id).is_some_and(|broker| Some(broker.epoch) == node.broker_epoch);
        let Some(partition) = node.partition(tp).filter(|_| registered).cloned() else { return };
        if !partition.replicas.contains(&id) {
            self.give_up(id, tp);
            let node = self.node_mut(id);
            node.logs.remove(&tp);
            node.checkpoints.remove(&tp);
            return;
        }
        let epoch = partition.leader_epoch;
        match self.node(id).roles.get(&tp) {
            Some(Role::Leader(leading)) if partition.leader == id && leading.epoch == epoch => {
                self.take_decision(id, tp, &partition);
            }
            Some(Role::Follower(following))
                if following.machine.leader() == partition.leader && following.epoch == epoch => {}
            _ => {
                self.give_up(id, tp);
                if partition.leader == id {
                    self.become_leader(id, tp, &partition);
                } else if partition.leader != -1 {
                    self.become_follower(id, tp, &partition);
                }
            }
        }
    }

    /// The members of the ISR as the leader counts them.
    fn counted(&self, id: NodeId, isr: &[NodeId]) -> Vec<NodeId> {
        if self.mutant == Some(Mutant::LeaderAlone) { vec![id] } else { isr.to_vec() }
    }

    fn min_insync(&self, id: NodeId, tp: Tp) -> usize {
        let image = &self.node(id).image;
        image.topic_by_id(&topic_id(tp.topic)).map_or(1, |topic| image.min_in_sync(topic))
    }

    fn become_leader(&mut self, id: NodeId, tp: Tp, partition: &Partition) {
        let high_watermark = self.node(id).high_watermark(tp);
        let min_insync_replicas = self.min_insync(id, tp);
        let isr = self.counted(id, &partition.isr);
        let epoch = self.seen_epoch(partition.leader_epoch);
        let now_ms = self.now / 1000;
        let loses_producers = self.mutant == Some(Mutant::LoseProducerState);
        let log = self.node_mut(id).logs.entry(tp).or_default();
        if loses_producers {
            log.forget_producers();
        }
        let log = log.clone();
        let machine = Leader::new(LeaderStart {
            node: id,
            epoch,
            partition_epoch: partition.partition_epoch,
            replicas: &partition.replicas,
            isr: &isr,
            log_end: log.log_end(),
            flushed_end: log.flushed(),
            high_watermark,
            min_insync_replicas,
            lag_time_max_ms: LAG_MS,
            now_ms,
        });
        self.trace.line(self.now, || {
            format!(
                "n{id} leads {tp} in epoch {epoch}, log end {}, high watermark {high_watermark}",
                log.log_end()
            )
        });
        self.checker.on_leader(tp, id, epoch, &log);
        let leading = Leading { machine, epoch: partition.leader_epoch, streams: Default::default() };
        let node = self.node_mut(id);
        node.roles.insert(tp, Role::Leader(leading));
        node.wants_flush = true;
        if tp.topic == OFFSETS {
            node.groups = Some(Groups {
                machine: GroupCoordinator::new(Default::default()),
                epoch: partition.leader_epoch,
                loaded: false,
                askers: Default::default(),
                requests: 0,
            });
        }
        self.after_progress(id, tp, 0);
        self.begin_flush(id);
    }

    fn become_follower(&mut self, id: NodeId, tp: Tp, partition: &Partition) {
        let high_watermark = self.node(id).high_watermark(tp);
        let epoch = self.seen_epoch(partition.leader_epoch);
        let truncates = self.mutant == Some(Mutant::TruncateToHighWatermark);
        let log = self.node_mut(id).logs.entry(tp).or_default();
        if truncates {
            log.truncate(high_watermark);
        }
        let machine = Follower::new(partition.leader, epoch, high_watermark, log.log_end());
        let following = Following { machine, epoch: partition.leader_epoch, retry_us: 0 };
        self.node_mut(id).roles.insert(tp, Role::Follower(following));
        self.subscribe(id, tp);
    }

    fn take_decision(&mut self, id: NodeId, tp: Tp, partition: &Partition) {
        let isr = self.counted(id, &partition.isr);
        let min = self.min_insync(id, tp);
        let now_ms = self.now / 1000;
        let Some(Role::Leader(leading)) = self.node_mut(id).roles.get_mut(&tp) else { return };
        let before = leading.machine.high_watermark();
        leading.machine.set_min_insync_replicas(min);
        let update = PartitionUpdate {
            leader_epoch: leading.machine.epoch(),
            partition_epoch: partition.partition_epoch,
            replicas: &partition.replicas,
            isr: &isr,
        };
        let mut settled = Vec::new();
        let _ = leading.machine.on_partition(update, now_ms, |who, how| settled.push((who, how)));
        leading.streams.retain(|node, _| partition.replicas.contains(node));
        self.after_progress(id, tp, before);
        self.settle(id, tp, settled);
        self.propose(id, tp);
    }

    /// The node is nothing to the partition any more; what it knows to be committed stays known.
    pub(crate) fn give_up(&mut self, id: NodeId, tp: Tp) {
        let high_watermark = self.node(id).high_watermark(tp);
        let node = self.node_mut(id);
        node.checkpoints.insert(tp, high_watermark);
        let Some(Role::Leader(mut leading)) = node.roles.remove(&tp) else { return };
        let mut failed = Vec::new();
        leading.machine.fail_all(|who| failed.push(who));
        self.trace.line(self.now, || format!("n{id} leads {tp} no more"));
        for who in failed {
            self.answer_waiter(id, who, Err(ErrorCode::NotLeaderOrFollower));
        }
        if tp.topic == OFFSETS {
            self.resign_groups(id);
        }
    }

    /// Answers whoever waited at a leader.
    pub(crate) fn settle(&mut self, id: NodeId, tp: Tp, settled: Vec<(Waiter, Settled)>) {
        let epoch = match self.node(id).roles.get(&tp) {
            Some(Role::Leader(leading)) => leading.machine.epoch(),
            _ => return,
        };
        for (who, how) in settled {
            let result = match how {
                Settled::Acknowledged => Ok(()),
                Settled::NotEnoughReplicas => Err(ErrorCode::NotEnoughReplicasAfterAppend),
            };
            if result.is_ok() {
                let (Waiter::Produce { base, end, .. } | Waiter::Group(_, base, end)) = who;
                let all = !matches!(who, Waiter::Produce { all: false, .. });
                self.checker.on_ack(tp, epoch, id, all.then_some((base, end)));
            }
            self.answer_waiter(id, who, result);
        }
    }
}
