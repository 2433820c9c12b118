//! Checking a command against an image, and applying it. Both are functions of the two alone.

use std::sync::Arc;

use chronik_base::{NodeId, TopicId, Uuid};

use crate::brokers::Registration;
use crate::command::{Assignments, Command, ConfigChanges, PartitionChange, Reply};
use crate::elections::{MIN_IN_SYNC, UNCLEAN};
use crate::error::MetaError;
use crate::image::{Configs, Image, Partition, Topic};
use crate::names::topic_name_problem;
use crate::partitions::Partitions;

impl Image {
    /// Why `command` cannot be applied to this image, if it cannot.
    pub fn check(&self, command: &Command) -> Result<(), MetaError> {
        match command {
            Command::SetClusterId { .. } if !self.cluster_id.is_zero() => {
                Err(MetaError::ClusterIdSet(self.cluster_id))
            }
            Command::SetClusterId { .. } => Ok(()),
            Command::RegisterBroker { id, directory, .. } => self.check_registration(*id, *directory),
            Command::UnregisterBroker { id } => self.check_unregister(*id),
            Command::CreateTopic { name, id, assignments, .. } => {
                self.check_name(name)?;
                if id.is_zero() || *id == Uuid::METADATA_TOPIC || self.topics_by_id.contains_key(id) {
                    return Err(MetaError::TopicIdTaken(*id));
                }
                self.check_assignments(0, assignments)
            }
            Command::DeleteTopic { id } => self.known(id).map(|_| ()),
            Command::CreatePartitions { topic, first, assignments } => {
                let actual = self.known(topic)?.partitions.len();
                if usize::try_from(*first) != Ok(actual) {
                    return Err(MetaError::PartitionCountChanged { topic: *topic, expected: *first, actual });
                }
                self.check_assignments(*first, assignments)
            }
            Command::AlterTopicConfigs { topic, .. } => self.known(topic).map(|_| ()),
            Command::AlterBrokerConfigs { broker: Some(id), .. } if !self.brokers.contains_key(id) => {
                Err(MetaError::UnknownBroker(*id))
            }
            Command::AlterBrokerConfigs { .. } => Ok(()),
            Command::AllocateProducerIds { count } => {
                match (count, self.next_producer_id.checked_add(i64::from(*count))) {
                    (1.., Some(_)) => Ok(()),
                    _ => Err(MetaError::ProducerIds { count: *count, next: self.next_producer_id }),
                }
            }
            Command::UnfenceBroker { id, epoch }
            | Command::FenceBroker { id, epoch }
            | Command::BeginShutdown { id, epoch }
            | Command::YieldLeaderships { id, epoch } => self.check_broker_epoch(*id, *epoch),
            Command::AlterPartition(proposal) => self.check_alter(proposal),
            Command::ElectLeader { topic, partition, unclean } => {
                self.check_election(topic, *partition, *unclean)
            }
            Command::Reassign { topic, partition, target } => {
                self.check_reassign(topic, *partition, target.as_deref())
            }
            Command::ChangePartition(change) => self.check_change(change),
        }
    }

    /// Whether a topic of that name could be made.
    pub fn check_name(&self, name: &str) -> Result<(), MetaError> {
        if let Some(problem) = topic_name_problem(name) {
            return Err(MetaError::TopicName(problem));
        }
        if self.topics.contains_key(name) {
            return Err(MetaError::TopicExists(name.to_owned()));
        }
        match self.colliding_topic(name) {
            Some(other) => Err(MetaError::TopicCollides { name: name.to_owned(), other: other.to_string() }),
            None => Ok(()),
        }
    }

    fn known(&self, id: &TopicId) -> Result<&Arc<Topic>, MetaError> {
        self.topic_by_id(id).ok_or(MetaError::UnknownTopic(*id))
    }

    fn check_assignments(&self, first: i32, assignments: &[Vec<NodeId>]) -> Result<(), MetaError> {
        if assignments.is_empty() {
            return Err(MetaError::NoPartitions);
        }
        for (partition, replicas) in (first..).zip(assignments) {
            self.check_replicas(partition, replicas)?;
            let may_lead = |id| self.broker(id).is_some_and(|broker| broker.may_lead());
            if !replicas.iter().any(|id| may_lead(*id)) {
                return Err(MetaError::AssignedToFenced { partition, replicas: replicas.clone() });
            }
        }
        Ok(())
    }

    fn check_change(&self, change: &PartitionChange) -> Result<(), MetaError> {
        let topic = self.known(&change.topic)?;
        let partition = change.partition;
        let Some(current) = topic.partitions.get(partition) else {
            return Err(MetaError::UnknownPartition {
                topic: topic.id,
                partition,
                count: topic.partitions.len(),
            });
        };
        if current.partition_epoch != change.partition_epoch {
            return Err(MetaError::PartitionEpoch {
                topic: topic.id,
                partition,
                expected: change.partition_epoch,
                actual: current.partition_epoch,
            });
        }
        let mut next = current.clone();
        next.change(change);
        self.check_replicas(partition, &next.replicas)?;
        let bad =
            |list: &[NodeId], problem| MetaError::Assignment { partition, replicas: list.to_vec(), problem };
        let inside = |list: &[NodeId]| list.iter().all(|id| next.replicas.contains(id));
        if !inside(&next.isr)
            || !inside(&next.eligible_leaders)
            || !inside(&next.adding)
            || !inside(&next.removing)
        {
            return Err(bad(&next.isr, "in-sync, eligible, added and removed replicas must be replicas"));
        }
        if next.isr.is_empty() {
            return Err(bad(&next.isr, "the last in-sync replica stays in sync"));
        }
        if next.leader != -1 && !next.isr.contains(&next.leader) {
            return Err(bad(&next.isr, "the leader must be in sync"));
        }
        let fenced = |id: &NodeId| self.broker(*id).is_none_or(|broker| broker.fenced);
        if next.leader != -1 && next.isr.iter().any(fenced) {
            return Err(bad(&next.isr, "a fenced broker is not in sync"));
        }
        Ok(())
    }

    /// Applies a command that [`Image::check`] lets pass; another one leaves the image as it is, save that the command is counted.
    pub fn apply(&mut self, command: &Command) -> Reply {
        self.offset += 1;
        match command {
            Command::SetClusterId { id } => self.cluster_id = *id,
            Command::RegisterBroker { id, rack, endpoints, incarnation, directory } => {
                return self.register(&Registration {
                    id: *id,
                    rack,
                    endpoints,
                    incarnation: *incarnation,
                    directory: *directory,
                });
            }
            Command::UnfenceBroker { id, .. } => self.unfence(*id),
            Command::FenceBroker { id, .. } => self.fence(*id),
            Command::BeginShutdown { id, .. } => self.begin_shutdown(*id),
            Command::YieldLeaderships { id, .. } => self.yield_leaderships(*id),
            Command::AlterPartition(proposal) => self.alter(proposal),
            Command::ElectLeader { topic, partition, unclean } => self.elect(topic, *partition, *unclean),
            Command::Reassign { topic, partition, target } => {
                self.reassign(topic, *partition, target.as_deref());
            }
            Command::UnregisterBroker { id } => self.unregister(*id),
            Command::CreateTopic { name, id, created, assignments, configs } => {
                let mut topic = Topic {
                    name: name.as_str().into(),
                    id: *id,
                    created: *created,
                    partitions: Partitions::default(),
                    configs: Arc::new(configs.clone()),
                };
                self.add_partitions(&mut topic, assignments);
                self.put_topic(Arc::new(topic));
            }
            Command::DeleteTopic { id } => self.remove_topic(id),
            Command::CreatePartitions { topic, assignments, .. } => {
                if let Some(mut topic) = self.topic_by_id(topic).map(|topic| (**topic).clone()) {
                    self.add_partitions(&mut topic, assignments);
                    self.put_topic(Arc::new(topic));
                }
            }
            Command::AlterTopicConfigs { topic, changes } => {
                self.change_topic(topic, |topic| change_configs(Arc::make_mut(&mut topic.configs), changes));
                self.reconsider(changes, |other| other.id == *topic);
            }
            Command::AlterBrokerConfigs { broker: None, changes } => {
                change_configs(Arc::make_mut(&mut self.default_broker_configs), changes);
                self.reconsider(changes, |_| true);
            }
            Command::AlterBrokerConfigs { broker: Some(id), changes } => {
                let mut configs =
                    self.broker_configs.get(id).map(|configs| (**configs).clone()).unwrap_or_default();
                change_configs(&mut configs, changes);
                if configs.is_empty() {
                    self.broker_configs.remove(id);
                } else {
                    self.broker_configs.insert(*id, Arc::new(configs));
                }
            }
            Command::AllocateProducerIds { count } => {
                let first = self.next_producer_id;
                self.next_producer_id = first.saturating_add(i64::from(*count));
                return Reply::ProducerIds { first, count: *count };
            }
            Command::ChangePartition(change) => self.change_topic(&change.topic, |topic| {
                if let Some(partition) = topic.partitions.get_mut(change.partition) {
                    partition.change(change);
                }
            }),
        }
        Reply::Done
    }

    fn add_partitions(&self, topic: &mut Topic, assignments: &Assignments) {
        let rules = self.rules(topic);
        let new = assignments
            .iter()
            .map(|replicas| rules.create(replicas).unwrap_or_else(|| Partition::new(replicas)));
        for partition in new {
            topic.partitions.push(partition);
        }
    }

    /// Brings partitions of the topics of which `concerned` is true in line with settings that decide about elections, if `changes` has such.
    fn reconsider(&mut self, changes: &ConfigChanges, concerned: impl Fn(&Topic) -> bool) {
        if changes.iter().any(|(name, _)| name == MIN_IN_SYNC || name == UNCLEAN) {
            self.change_partitions(
                concerned,
                |partition| partition.leader == -1 || !partition.eligible_leaders.is_empty(),
                |rules, partition, tally| rules.reconsider(partition, tally),
            );
        }
    }

    fn change_topic(&mut self, id: &TopicId, change: impl FnOnce(&mut Topic)) {
        let Some(topic) = self.topics_by_id.get(id) else { return };
        let mut topic = (**topic).clone();
        change(&mut topic);
        self.put_topic(Arc::new(topic));
    }
}

impl Partition {
    fn change(&mut self, change: &PartitionChange) {
        fn put(field: &mut Box<[NodeId]>, new: &Option<Vec<NodeId>>) {
            if let Some(new) = new {
                *field = new.as_slice().into();
            }
        }
        put(&mut self.replicas, &change.replicas);
        put(&mut self.isr, &change.isr);
        put(&mut self.eligible_leaders, &change.eligible_leaders);
        put(&mut self.adding, &change.adding);
        put(&mut self.removing, &change.removing);
        if let Some(leader) = change.leader {
            self.leader = leader;
            self.leader_epoch = self.leader_epoch.saturating_add(1);
        }
        self.partition_epoch = self.partition_epoch.saturating_add(1);
    }
}

fn change_configs(configs: &mut Configs, changes: &ConfigChanges) {
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}
