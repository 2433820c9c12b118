//! Faults begin and end.

use chronik_base::NodeId;
use chronik_meta::Command;
use chronik_replica::EpochLog;

use crate::event::{Event, Origin, Process, Tp};
use crate::node::Asked;
use crate::plan::Fault;
use crate::world::{World, topic_id};

/// After SIGTERM a process waits at most so long for its leaderships to go, in microseconds.
const SHUTDOWN_US: u64 = 700_000;

impl World {
    pub(crate) fn begin_fault(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.trace.line(self.now, || format!("FAULT {fault:?}"));
        let ends = |world: &mut Self, ms: u64| {
            world.schedule.at(world.now + ms * 1000, Event::End(fault.clone()));
        };
        match &fault {
            Fault::Kill { node, down_ms } => self.stop(*node, true, false, *down_ms),
            Fault::PowerLoss { nodes, down_ms } => {
                nodes.iter().for_each(|node| self.stop(*node, false, true, *down_ms));
            }
            Fault::Wipe { node, down_ms } => {
                self.stop(*node, false, true, *down_ms);
                let node = self.node_mut(*node);
                node.disk += 1;
                node.logs.clear();
                node.checkpoints.clear();
                node.image = Default::default();
                node.term = 0;
            }
            Fault::Pause { node, ms } => {
                if self.is_on(*node) {
                    self.node_mut(*node).paused = true;
                    ends(self, *ms);
                }
            }
            Fault::Shutdown { node, .. } => self.begin_shutdown(*node),
            Fault::Cut { from, to, ms } => {
                self.cut(*from, *to);
                ends(self, *ms);
            }
            Fault::Isolate { node, ms } => {
                for other in self.others(*node) {
                    self.cut(*node, other);
                    self.cut(other, *node);
                }
                self.quorum.unheard.insert(*node);
                self.quorum.deaf.insert(*node);
                self.disturb(*node);
                ends(self, *ms);
            }
            Fault::CutQuorum { node, mute, ms } => {
                let cut = if *mute { &mut self.quorum.unheard } else { &mut self.quorum.deaf };
                cut.insert(*node);
                self.disturb(*node);
                ends(self, *ms);
            }
            Fault::Reset { from, to } => self.reset_links(*from, *to),
            Fault::SlowLink { from, to, ms } => {
                self.set_slow(*from, *to, true);
                ends(self, *ms);
            }
            Fault::SlowMetadata { node, ms } => {
                self.quorum.slow.insert(*node);
                self.disturb(*node);
                ends(self, *ms);
            }
            Fault::QuorumOutage { ms } => {
                self.quorum_up(false);
                ends(self, *ms);
            }
            Fault::QuorumFailover => self.quorum_failover(),
            Fault::SlowDisk { node, ms } => {
                self.node_mut(*node).disk_slow = true;
                self.disturb(*node);
                ends(self, *ms);
            }
            Fault::FullDisk { node, ms } => {
                self.node_mut(*node).disk_full = true;
                if let Some(epoch) = self.node(*node).broker_epoch.filter(|_| !self.node(*node).paused) {
                    self.ask(*node, Asked::Other, vec![Command::YieldLeaderships { id: *node, epoch }]);
                }
                ends(self, *ms);
            }
            Fault::ClockJump { node, by_ms } => self.node_mut(*node).clock_jump_ms += by_ms,
            Fault::Reassign { tp, target } => self.reassign(*tp, target.clone()),
            Fault::ElectPreferred { tp } => self.elect_preferred(*tp),
            Fault::Lead { tp, order } => self.lead(*tp, order.clone()),
            Fault::Coup { tp } => self.coup(*tp),
            Fault::Relay { tp } => self.relay(*tp),
            Fault::Straggler { tp } => self.straggler(*tp),
            Fault::LateMetadata { node, by_ms, ms } => {
                self.quorum.late.insert(*node, *by_ms * 1000);
                self.disturb(*node);
                ends(self, *ms);
            }
            Fault::MinInsync { topic, to } => {
                // More than there are replicas would refuse producers for good.
                let replicas = self.plan.topics.get(usize::from(*topic)).and_then(|of| of.first());
                let to = (*to).min(replicas.map_or(1, Vec::len));
                let changes = vec![("min.insync.replicas".to_owned(), Some(to.to_string()))];
                let command = Command::AlterTopicConfigs { topic: topic_id(*topic), changes };
                self.submit(Origin::Nobody, vec![command]);
            }
            Fault::Retention { tp } => self.delete_old(*tp),
        }
    }

    pub(crate) fn end_fault(&mut self, fault: &Fault) {
        if self.healed {
            return;
        }
        self.trace.line(self.now, || format!("END {fault:?}"));
        match fault {
            Fault::Pause { node, .. } => self.resume(*node),
            Fault::Cut { from, to, .. } => self.mend(*from, *to),
            Fault::Isolate { node, .. } => {
                for other in self.others(*node) {
                    self.mend(*node, other);
                    self.mend(other, *node);
                }
                self.quorum.unheard.remove(node);
                self.quorum.deaf.remove(node);
                self.disturb(*node);
            }
            Fault::CutQuorum { node, mute, .. } => {
                let cut = if *mute { &mut self.quorum.unheard } else { &mut self.quorum.deaf };
                cut.remove(node);
                self.disturb(*node);
            }
            Fault::SlowLink { from, to, .. } => self.set_slow(*from, *to, false),
            Fault::SlowMetadata { node, .. } => {
                self.quorum.slow.remove(node);
                self.disturb(*node);
            }
            Fault::LateMetadata { node, .. } => {
                self.quorum.late.remove(node);
                self.disturb(*node);
            }
            Fault::QuorumOutage { .. } => self.quorum_up(true),
            Fault::SlowDisk { node, .. } => {
                self.node_mut(*node).disk_slow = false;
                self.disturb(*node);
            }
            Fault::FullDisk { node, .. } => self.node_mut(*node).disk_full = false,
            _ => {}
        }
    }

    /// Everything works from now on, and everybody is back.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.trace.line(self.now, || "all faults end".to_owned());
        self.mend_all();
        self.quorum.unheard.clear();
        self.quorum.deaf.clear();
        self.quorum.slow.clear();
        self.quorum.late.clear();
        self.quorum_up(true);
        for id in 1..=self.plan.nodes {
            let node = self.node_mut(id);
            node.disk_slow = false;
            node.disk_full = false;
            if node.paused {
                self.resume(id);
            }
            self.disturb(id);
            self.start(id);
        }
    }

    fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.plan.nodes).filter(move |other| *other != node)
    }

    fn disturb(&mut self, id: NodeId) {
        self.node_mut(id).disturbed_us = self.now;
    }

    fn resume(&mut self, id: NodeId) {
        self.disturb(id);
        let process = self.process(id);
        let node = self.node_mut(id);
        node.paused = false;
        for event in std::mem::take(&mut node.inbox) {
            if self.is_running(process) {
                self.handle(id, event);
            }
        }
    }

    /// A process is gone; its machine stays (`machine_on`) or loses its power with it.
    fn stop(&mut self, id: NodeId, machine_on: bool, power_lost: bool, down_ms: u64) {
        if !self.is_on(id) {
            return;
        }
        let known: Vec<_> =
            self.partitions().into_iter().map(|tp| (tp, self.node(id).high_watermark(tp))).collect();
        let node = self.node_mut(id);
        node.forget();
        node.machine_on = machine_on;
        if power_lost {
            let mut rng = node.rng.clone();
            node.logs.values_mut().for_each(|log| log.lose_power(&mut rng));
            node.rng = rng;
        } else {
            node.checkpoints.extend(known);
        }
        self.break_links_of(id, !machine_on);
        self.broker_gone(id, machine_on);
        self.schedule.at(self.now + down_ms * 1000, Event::Start(id));
    }

    fn begin_shutdown(&mut self, id: NodeId) {
        if let Some(epoch) = self.node(id).broker_epoch.filter(|_| !self.node(id).paused) {
            self.ask(id, Asked::Other, vec![Command::BeginShutdown { id, epoch }]);
            self.schedule.at(self.now + SHUTDOWN_US, Event::Stop(self.process(id)));
        }
    }

    pub(crate) fn stop_in_order(&mut self, process: Process) {
        if self.is_running(process) {
            let down_ms = self.rng.about(300);
            self.node_mut(process.node).logs.values_mut().for_each(|log| log.recover());
            self.stop(process.node, true, false, down_ms);
        }
    }

    fn reassign(&mut self, tp: Tp, target: Option<Vec<NodeId>>) {
        let command = Command::Reassign { topic: topic_id(tp.topic), partition: tp.index, target };
        self.submit(Origin::Nobody, vec![command]);
    }

    fn elect_preferred(&mut self, tp: Tp) {
        let command = Command::ElectLeader { topic: topic_id(tp.topic), partition: tp.index, unclean: false };
        self.submit(Origin::Nobody, vec![command]);
    }

    /// The leader deletes old records that are committed; its followers hear where its log starts.
    fn delete_old(&mut self, tp: Tp) {
        let Some(leader) = self.decided(tp).map(|partition| partition.leader).filter(|id| *id > 0) else {
            return;
        };
        let keep = 100;
        let committed = self.node(leader).high_watermark(tp);
        if self.is_on(leader)
            && self.leading(leader, tp).is_some()
            && let Some(log) = self.node_mut(leader).logs.get_mut(&tp)
        {
            let batches = log.batches().len().saturating_sub(keep);
            let start = log.batches().get(batches).map_or(log.log_start(), |batch| batch.base);
            log.delete_below(start.min(committed));
        }
    }
}
