//! Moving a partition to other brokers (KIP-455), and taking the move back.

use std::collections::BTreeSet;

use chronik_base::{NodeId, TopicId};

use crate::elections::{Rules, lead};
use crate::error::MetaError;
use crate::image::{Image, Partition, Tally};

impl Image {
    pub(crate) fn check_reassign(
        &self,
        topic: &TopicId,
        partition: i32,
        target: Option<&[NodeId]>,
    ) -> Result<(), MetaError> {
        let current = self.known_partition(topic, partition)?;
        match target {
            Some(target) => self.check_replicas(partition, target)?,
            None if !current.is_reassigned() => {
                return Err(MetaError::NoReassignment { topic: *topic, partition });
            }
            None => {}
        }
        let Some(known) = self.topic_by_id(topic) else { return Err(MetaError::UnknownTopic(*topic)) };
        let mut next = current.clone();
        begin(&self.rules(known), &mut next, target, &mut Tally::default());
        let leaderless = next.leader == -1 && current.leader != -1;
        if leaderless || next.isr.is_empty() && !current.isr.is_empty() {
            let replicas = next.replicas.to_vec();
            return Err(MetaError::NoneInSync { topic: *topic, partition, replicas });
        }
        Ok(())
    }

    pub(crate) fn check_replicas(&self, partition: i32, replicas: &[NodeId]) -> Result<(), MetaError> {
        let bad = |problem| MetaError::Assignment { partition, replicas: replicas.to_vec(), problem };
        if replicas.is_empty() {
            return Err(bad("there must be at least one"));
        }
        if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
            return Err(bad("a broker is named twice"));
        }
        match replicas.iter().find(|id| !self.brokers.contains_key(id)) {
            Some(id) => Err(MetaError::UnknownBroker(*id)),
            None => Ok(()),
        }
    }

    pub(crate) fn reassign(&mut self, topic: &TopicId, index: i32, target: Option<&[NodeId]>) {
        self.change_partition(topic, index, |rules, partition, tally| begin(rules, partition, target, tally));
    }
}

/// Begins a move to `target`, or takes back the one that is going on. A replica that an earlier move was adding, and that the new target has not, goes
/// at once.
fn begin(rules: &Rules<'_>, partition: &mut Partition, target: Option<&[NodeId]>, tally: &mut Tally) {
    let original: Vec<NodeId> =
        partition.replicas.iter().copied().filter(|id| !partition.adding.contains(id)).collect();
    let target = target.unwrap_or(&original);
    let missing = |from: &[NodeId], among: &[NodeId]| -> Vec<NodeId> {
        from.iter().copied().filter(|id| !among.contains(id)).collect()
    };
    let removing = missing(&original, target);
    partition.adding = missing(target, &original).into();
    partition.replicas = [target, &removing].concat().into();
    partition.removing = removing.into();
    let isr = partition.isr.clone();
    rules.set_isr(partition, |id| isr.contains(&id));
    if !partition.isr.contains(&partition.leader) && partition.leader != -1 {
        // Not `elect`: an eligible leader, or any other, is no reason to give up one that leads.
        let leader = partition.isr.iter().copied().find(|id| rules.may_lead(*id)).unwrap_or(-1);
        lead(partition, leader, tally);
    }
}
