//! The leader's proposal of an ISR (KIP-497), and elections that are asked for (KIP-460).

use std::collections::BTreeSet;

use chronik_base::TopicId;

use crate::command::AlterPartition;
use crate::elections::lead;
use crate::error::MetaError;
use crate::image::{Image, Partition};

impl Image {
    pub(crate) fn known_partition(&self, topic: &TopicId, partition: i32) -> Result<&Partition, MetaError> {
        let known = self.topic_by_id(topic).ok_or(MetaError::UnknownTopic(*topic))?;
        let count = known.partitions.len();
        known.partitions.get(partition).ok_or(MetaError::UnknownPartition { topic: *topic, partition, count })
    }

    pub(crate) fn check_alter(&self, proposal: &AlterPartition) -> Result<(), MetaError> {
        let AlterPartition { topic, partition, .. } = *proposal;
        let current = self.known_partition(&topic, partition)?;
        if current.leader_epoch != proposal.leader_epoch {
            let (expected, actual) = (proposal.leader_epoch, current.leader_epoch);
            return Err(MetaError::LeaderEpoch { topic, partition, expected, actual });
        }
        if current.leader != proposal.leader {
            let (proposer, leader) = (proposal.leader, current.leader);
            return Err(MetaError::NotPartitionLeader { topic, partition, proposer, leader });
        }
        if current.partition_epoch != proposal.partition_epoch {
            let (expected, actual) = (proposal.partition_epoch, current.partition_epoch);
            return Err(MetaError::PartitionEpoch { topic, partition, expected, actual });
        }
        let members: BTreeSet<_> = proposal.isr.iter().map(|(id, _)| *id).collect();
        let bad = |problem| {
            let replicas = proposal.isr.iter().map(|(id, _)| *id).collect();
            Err(MetaError::Assignment { partition, replicas, problem })
        };
        if members.len() != proposal.isr.len() {
            return bad("a broker is named twice");
        }
        if !members.contains(&proposal.leader) {
            return bad("the leader must be in sync");
        }
        if members.iter().any(|id| !current.replicas.contains(id)) {
            return bad("in-sync replicas must be replicas");
        }
        for (broker, epoch) in &proposal.isr {
            if let Some(problem) = self.why_not_in_sync(current, *broker, *epoch) {
                return Err(MetaError::IneligibleReplica { topic, partition, broker: *broker, problem });
            }
        }
        Ok(())
    }

    fn why_not_in_sync(&self, partition: &Partition, id: i32, epoch: i64) -> Option<&'static str> {
        let Some(broker) = self.broker(id) else { return Some("it is not registered") };
        if broker.epoch != epoch {
            Some("it has registered again since it was seen in sync")
        } else if broker.fenced {
            Some("it is fenced")
        } else if broker.in_shutdown && !partition.isr.contains(&id) {
            Some("it is about to stop")
        } else {
            None
        }
    }

    pub(crate) fn alter(&mut self, proposal: &AlterPartition) {
        self.change_partition(&proposal.topic, proposal.partition, |rules, partition, _| {
            // Raised also if nothing else changes: the leader sees by it that its proposal is decided.
            partition.partition_epoch = partition.partition_epoch.saturating_add(1);
            rules.set_isr(partition, |id| proposal.isr.iter().any(|(member, _)| *member == id));
        });
    }

    pub(crate) fn check_election(
        &self,
        topic: &TopicId,
        partition: i32,
        unclean: bool,
    ) -> Result<(), MetaError> {
        let current = self.known_partition(topic, partition)?;
        let topic = *topic;
        let preferred = current.replicas.first().copied().unwrap_or(-1);
        let leader = current.leader;
        if unclean && leader != -1 || leader == preferred {
            return Err(MetaError::ElectionNotNeeded { topic, partition, leader });
        }
        let may_lead = |id: i32| self.broker(id).is_some_and(|broker| broker.may_lead());
        if unclean && !current.replicas.iter().any(|id| may_lead(*id)) {
            return Err(MetaError::NoneEligible { topic, partition, replicas: current.replicas.to_vec() });
        }
        if unclean || current.isr.contains(&preferred) && may_lead(preferred) {
            return Ok(());
        }
        Err(MetaError::PreferredNotAvailable { topic, partition, preferred })
    }

    pub(crate) fn elect(&mut self, topic: &TopicId, index: i32, unclean: bool) {
        self.change_partition(topic, index, |rules, partition, tally| {
            if unclean {
                rules.elect_from(partition, true, tally);
            } else if let Some(preferred) = partition.replicas.first().copied() {
                lead(partition, preferred, tally);
            }
        });
    }
}
