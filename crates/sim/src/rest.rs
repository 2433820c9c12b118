//! The end of a history: with all faults gone, everything comes to rest, whole.

use chronik_replica::EpochLog;

use crate::checker::Violation;
use crate::event::Tp;
use crate::world::{World, topic_id};

impl World {
    /// Whether all has come to rest; else what has not.
    pub(crate) fn check_rest(&self) -> Result<(), Violation> {
        if self.quorum.image.topic_count() < self.plan.topics.len() {
            return Err(Violation::at(None, "the topics were never made".to_owned()));
        }
        for tp in self.partitions() {
            if self.is_dead(tp) {
                continue;
            }
            self.check_partition(tp).map_err(|text| Violation::at(Some(tp), text))?;
        }
        for client in &self.clients {
            if let Some(tp) = client.unfinished().filter(|tp| !self.is_dead(*tp)) {
                return Err(Violation::at(Some(tp), format!("a producer goes on waiting: {client:?}")));
            }
        }
        Ok(())
    }

    /// Every copy that may lead was lost with its disk.
    fn is_dead(&self, tp: Tp) -> bool {
        self.decided(tp).is_some_and(|partition| {
            partition.leader == -1 && partition.isr.is_empty() && partition.eligible_leaders.is_empty()
        })
    }

    fn check_partition(&self, tp: Tp) -> Result<(), String> {
        let partition = self.decided(tp).ok_or("it is not in the metadata")?;
        if partition.leader < 0 {
            return Err(format!("nobody leads: {partition:?}"));
        }
        if partition.is_reassigned() || partition.isr.len() < partition.replicas.len() {
            return Err(format!("not all replicas are in sync: {partition:?}"));
        }
        let leader = self.node(partition.leader).logs.get(&tp).ok_or("the leader has no log")?;
        for id in partition.replicas.iter() {
            let log = self.node(*id).logs.get(&tp).ok_or_else(|| format!("n{id} has no log"))?;
            let committed = self.node(*id).high_watermark(tp);
            if log.log_end() != leader.log_end() || committed != leader.log_end() {
                let (end, leaders) = (log.log_end(), leader.log_end());
                return Err(format!("n{id} ends at {end}, committed {committed}; the leader at {leaders}"));
            }
        }
        Ok(())
    }

    /// All that was committed is there, and the same everywhere (points 1 and 4).
    pub(crate) fn check_end(&mut self) -> Result<(), Violation> {
        for tp in self.partitions().into_iter().filter(|tp| !self.is_dead(*tp)) {
            let Some(partition) = self.decided(tp) else { continue };
            let Some(leader) = self.node(partition.leader).logs.get(&tp) else { continue };
            if let Some(text) = self.checker.missing_at_end(tp, leader) {
                return Err(Violation::at(Some(tp), format!("at the end, {text}")));
            }
            for id in partition.replicas.iter() {
                let log = self.node(*id).logs.get(&tp).cloned().unwrap_or_default();
                let start = log.log_start().max(leader.log_start());
                if log.from(start) != leader.from(start) {
                    let text = format!("n{id} and its leader n{} differ", partition.leader);
                    return Err(Violation::at(Some(tp), text));
                }
            }
        }
        match self.quorum.image.topic_by_id(&topic_id(0)) {
            Some(_) => Ok(()),
            None => Err(Violation::at(None, "the first topic is gone".to_owned())),
        }
    }
}
