//! Who is in sync and who leads: the rules by which a partition goes from one state to the next. Functions of the partition, of its topic's
//! settings and of the brokers alone, so that every node comes to the same.
//!
//! What makes them safe: an acknowledgement needs every in-sync replica, so each of them holds all that was acknowledged. One that leaves an ISR
//! that is below `min.insync.replicas` from then on goes on holding it, because a leader does not move the high watermark while the
//! ISR is that small; it stays an eligible leader (KIP-966) until the ISR is large enough again. A partition without a leader acknowledges
//! nothing, so its ISR stays as it is.

use std::sync::Arc;

use chronik_base::NodeId;

use crate::image::{Broker, Configs, Image, Partition, Tally, Topic};
use crate::ordered::OrderedMap;

pub(crate) const MIN_IN_SYNC: &str = "min.insync.replicas";
pub(crate) const UNCLEAN: &str = "unclean.leader.election.enable";

/// A setting of the topic, else of all brokers as set over the protocol.
fn setting<'a>(topic: &'a Topic, defaults: &'a Configs, name: &str) -> Option<&'a str> {
    topic.configs.get(name).or_else(|| defaults.get(name)).map(String::as_str)
}

pub(crate) fn min_in_sync(topic: &Topic, defaults: &Configs) -> usize {
    setting(topic, defaults, MIN_IN_SYNC).and_then(|text| text.trim().parse().ok()).unwrap_or(1).max(1)
}

/// What decides about the partitions of one topic.
pub(crate) struct Rules<'a> {
    brokers: &'a OrderedMap<NodeId, Arc<Broker>>,
    min_in_sync: usize,
    unclean: bool,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(
        brokers: &'a OrderedMap<NodeId, Arc<Broker>>,
        defaults: &Configs,
        topic: &Topic,
    ) -> Self {
        let unclean = setting(topic, defaults, UNCLEAN).is_some_and(|text| text.trim() == "true");
        Self { brokers, min_in_sync: min_in_sync(topic, defaults), unclean }
    }

    pub(crate) fn may_lead(&self, id: NodeId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| broker.may_lead())
    }

    fn is_unfenced(&self, id: NodeId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.fenced)
    }

    /// The first replica among `members` that may lead.
    fn first_of(&self, partition: &Partition, members: &[NodeId]) -> Option<NodeId> {
        partition.replicas.iter().copied().find(|id| members.contains(id) && self.may_lead(*id))
    }

    /// A new partition: in sync are the replicas that are alive now, the first of them leads. `None` if there is none.
    pub(crate) fn create(&self, replicas: &[NodeId]) -> Option<Partition> {
        let isr: Box<[NodeId]> = replicas.iter().copied().filter(|id| self.may_lead(*id)).collect();
        let leader = *isr.first()?;
        Some(Partition { leader, isr, ..Partition::new(replicas) })
    }

    /// Makes the replicas of which `keep` is true the ISR. Who leaves it is eligible to lead where too few stay.
    pub(crate) fn set_isr(&self, partition: &mut Partition, keep: impl Fn(NodeId) -> bool) {
        let isr: Box<[NodeId]> = partition.replicas.iter().copied().filter(|id| keep(*id)).collect();
        let eligible: Box<[NodeId]> = if isr.len() >= partition.needed_in_sync(self.min_in_sync) {
            Box::default()
        } else {
            let was = |id| partition.isr.contains(&id) || partition.eligible_leaders.contains(&id);
            partition.replicas.iter().copied().filter(|id| was(*id) && !isr.contains(id)).collect()
        };
        partition.isr = isr;
        partition.eligible_leaders = eligible;
    }

    /// Elects a leader: an in-sync replica, else an eligible one, else (where that is allowed) any that lives. Where nobody can lead, the partition
    /// has no leader and the ISR stays.
    pub(crate) fn elect(&self, partition: &mut Partition, tally: &mut Tally) {
        self.elect_from(partition, self.unclean, tally);
    }

    /// The same, with `unclean` in the place of the setting.
    pub(crate) fn elect_from(&self, partition: &mut Partition, unclean: bool, tally: &mut Tally) {
        if let Some(leader) = self.first_of(partition, &partition.isr) {
            let isr = partition.isr.clone();
            self.set_isr(partition, |id| isr.contains(&id) && self.is_unfenced(id));
            lead(partition, leader, tally);
        } else if let Some(leader) = self.first_of(partition, &partition.eligible_leaders) {
            self.set_isr(partition, |id| id == leader);
            lead(partition, leader, tally);
        } else if unclean && let Some(leader) = self.first_of(partition, &partition.replicas) {
            tally.unclean += 1;
            partition.isr = Box::new([leader]);
            partition.eligible_leaders = Box::default();
            lead(partition, leader, tally);
        } else {
            lead(partition, -1, tally);
        }
    }

    /// `broker` is fenced now; with `wiped` its copy is gone, too, and it is not among those that hold everything.
    pub(crate) fn fence(&self, partition: &mut Partition, broker: NodeId, wiped: bool, tally: &mut Tally) {
        if wiped {
            let without = |list: &[NodeId]| list.iter().copied().filter(|id| *id != broker).collect();
            partition.isr = without(&partition.isr);
            partition.eligible_leaders = without(&partition.eligible_leaders);
        }
        if partition.leader == broker {
            self.elect(partition, tally);
        } else if partition.leader == -1 {
            // Nobody could lead, and one more that cannot changes nothing.
        } else if partition.isr.contains(&broker) {
            let isr = partition.isr.clone();
            self.set_isr(partition, |id| isr.contains(&id) && id != broker);
        }
    }

    /// `broker` is unfenced now.
    pub(crate) fn unfence(&self, partition: &mut Partition, broker: NodeId, tally: &mut Tally) {
        if partition.leader == -1 && partition.replicas.contains(&broker) {
            self.elect(partition, tally);
        }
    }

    /// `broker` may not lead any more, but is alive: whatever can do without it does.
    pub(crate) fn begin_shutdown(&self, partition: &mut Partition, broker: NodeId, tally: &mut Tally) {
        if !partition.isr.contains(&broker) || partition.leader == -1 {
            return;
        }
        if partition.leader == broker {
            match self.first_of(partition, &partition.isr) {
                Some(leader) => lead(partition, leader, tally),
                None => return,
            }
        }
        if partition.isr.len() > partition.needed_in_sync(self.min_in_sync) {
            let isr = partition.isr.clone();
            self.set_isr(partition, |id| isr.contains(&id) && id != broker);
        }
    }

    /// `broker` leads and can't write: another in-sync replica takes over, if there is one.
    pub(crate) fn yield_leadership(&self, partition: &mut Partition, broker: NodeId, tally: &mut Tally) {
        let others: Vec<NodeId> = partition.isr.iter().copied().filter(|id| *id != broker).collect();
        let Some(leader) = self.first_of(partition, &others) else { return };
        if partition.isr.len() > partition.needed_in_sync(self.min_in_sync) {
            self.set_isr(partition, |id| others.contains(&id));
        }
        lead(partition, leader, tally);
    }

    /// The topic's settings changed: eligible leaders go where fewer replicas suffice now, and a leader may come where one may be chosen
    /// that is not in sync.
    pub(crate) fn reconsider(&self, partition: &mut Partition, tally: &mut Tally) {
        let isr = partition.isr.clone();
        self.set_isr(partition, |id| isr.contains(&id));
        if partition.leader == -1 {
            self.elect(partition, tally);
        }
    }

    /// Ends a reassignment whose target is in sync and has somebody to lead. To be called at the end of each change.
    fn finish_reassignment(&self, partition: &mut Partition, tally: &mut Tally) {
        if !partition.is_reassigned() || partition.leader == -1 {
            return;
        }
        let target: Vec<NodeId> = partition.target().collect();
        if target.is_empty() || target.iter().any(|id| !partition.isr.contains(id)) {
            return;
        }
        let leader = if target.contains(&partition.leader) {
            Some(partition.leader)
        } else {
            self.first_of(partition, &target)
        };
        let Some(leader) = leader else { return };
        partition.replicas = target.into();
        partition.adding = Box::default();
        partition.removing = Box::default();
        self.set_isr(partition, |_| true);
        lead(partition, leader, tally);
    }

    /// What `partition` becomes by `change` and by what follows from it. The same if nothing changes; else its partition epoch is raised, if `change`
    /// did not do that itself.
    pub(crate) fn changed(
        &self,
        partition: &Partition,
        tally: &mut Tally,
        change: impl FnOnce(&mut Partition, &mut Tally),
    ) -> Partition {
        let mut next = partition.clone();
        change(&mut next, tally);
        self.finish_reassignment(&mut next, tally);
        if next != *partition && next.partition_epoch == partition.partition_epoch {
            next.partition_epoch = next.partition_epoch.saturating_add(1);
        }
        next
    }
}

/// Gives the partition a leader, or none (-1). A leader that changes begins a new epoch.
pub(crate) fn lead(partition: &mut Partition, leader: NodeId, tally: &mut Tally) {
    if partition.leader == leader {
        return;
    }
    partition.leader = leader;
    partition.leader_epoch = partition.leader_epoch.saturating_add(1);
    tally.elections += u64::from(leader != -1);
}

impl Image {
    pub(crate) fn rules(&self, topic: &Topic) -> Rules<'_> {
        Rules::new(&self.brokers, &self.default_broker_configs, topic)
    }

    /// Changes each partition of the topics of which `concerned` is true and that itself is concerned.
    pub(crate) fn change_partitions(
        &mut self,
        topic_concerned: impl Fn(&Topic) -> bool,
        concerned: impl Fn(&Partition) -> bool,
        change: impl Fn(&Rules<'_>, &mut Partition, &mut Tally),
    ) {
        let mut tally = self.tally;
        let mut changed = Vec::new();
        for topic in self.topics().filter(|topic| topic_concerned(topic)) {
            let rules = self.rules(topic);
            let next = topic.partitions.map_some(|partition| {
                if !concerned(partition) {
                    return None;
                }
                let next =
                    rules.changed(partition, &mut tally, |partition, tally| change(&rules, partition, tally));
                (next != *partition).then_some(next)
            });
            if let Some(partitions) = next {
                changed.push(Arc::new(Topic { partitions, ..(**topic).clone() }));
            }
        }
        for topic in changed {
            self.replace_topic(topic);
        }
        self.tally = tally;
    }

    /// Changes one partition.
    pub(crate) fn change_partition(
        &mut self,
        id: &chronik_base::TopicId,
        index: i32,
        change: impl FnOnce(&Rules<'_>, &mut Partition, &mut Tally),
    ) {
        let mut tally = self.tally;
        let Some(topic) = self.topic_by_id(id) else { return };
        let Some(partition) = topic.partitions.get(index) else { return };
        let rules = self.rules(topic);
        let next = rules.changed(partition, &mut tally, |partition, tally| change(&rules, partition, tally));
        let mut topic = (**topic).clone();
        if let Some(partition) = topic.partitions.get_mut(index) {
            *partition = next;
        }
        self.replace_topic(Arc::new(topic));
        self.tally = tally;
    }
}
