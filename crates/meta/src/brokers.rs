//! Brokers come, are fenced, stop, and are forgotten.

use std::sync::Arc;

use chronik_base::{NodeId, Uuid};

use crate::command::Reply;
use crate::error::MetaError;
use crate::image::{Broker, Endpoint, Image, Topic};

/// A registration as its command has it.
pub(crate) struct Registration<'a> {
    pub(crate) id: NodeId,
    pub(crate) rack: &'a Option<String>,
    pub(crate) endpoints: &'a [Endpoint],
    pub(crate) incarnation: Uuid,
    pub(crate) directory: Uuid,
}

impl Image {
    /// Whether a broker is registered with that epoch.
    pub(crate) fn check_broker_epoch(&self, broker: NodeId, epoch: i64) -> Result<(), MetaError> {
        let current = self.broker(broker).map(|broker| broker.epoch);
        if current == Some(epoch) {
            return Ok(());
        }
        Err(MetaError::StaleBrokerEpoch { broker, epoch, current })
    }

    pub(crate) fn check_registration(&self, id: NodeId, directory: Uuid) -> Result<(), MetaError> {
        if id < 0 {
            return Err(MetaError::UnknownBroker(id));
        }
        match self.broker(id) {
            Some(known) if directory.is_zero() && !known.directory.is_zero() => {
                Err(MetaError::NoDirectory(id))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_unregister(&self, broker: NodeId) -> Result<(), MetaError> {
        if !self.brokers.contains_key(&broker) {
            return Err(MetaError::UnknownBroker(broker));
        }
        let holds = |topic: &Topic| topic.partitions.iter().any(|(_, p)| p.replicas.contains(&broker));
        match self.topics().find(|topic| holds(topic)) {
            Some(topic) => Err(MetaError::BrokerInUse { broker, topic: topic.name.to_string() }),
            None => Ok(()),
        }
    }

    /// Registers a broker; the image's offset is that of the command already.
    pub(crate) fn register(&mut self, new: &Registration<'_>) -> Reply {
        let known = self.broker(new.id).cloned();
        // A registration of a version that knew no fencing: it counted its epochs, and a registered broker was taken to be alive.
        let legacy = new.directory.is_zero();
        let fresh = Broker {
            id: new.id,
            rack: new.rack.clone(),
            endpoints: new.endpoints.to_vec(),
            incarnation: new.incarnation,
            epoch: match &known {
                Some(known) if legacy => known.epoch + 1,
                None if legacy => 0,
                _ => i64::try_from(self.offset).unwrap_or(i64::MAX),
            },
            directory: new.directory,
            fenced: !legacy,
            in_shutdown: false,
        };
        let broker = match known {
            Some(known) if known.incarnation == new.incarnation && !legacy => Broker {
                epoch: known.epoch,
                fenced: known.fenced,
                in_shutdown: known.in_shutdown,
                directory: known.directory,
                ..fresh
            },
            Some(known) if !legacy => {
                let wiped = !known.directory.is_zero() && known.directory != new.directory;
                self.brokers.insert(new.id, Arc::new(fresh.clone()));
                self.fence_partitions(new.id, wiped);
                fresh
            }
            _ => fresh,
        };
        let epoch = broker.epoch;
        self.brokers.insert(new.id, Arc::new(broker));
        Reply::Registered { epoch }
    }

    fn change_broker(&mut self, id: NodeId, change: impl FnOnce(&mut Broker)) {
        let Some(broker) = self.brokers.get(&id) else { return };
        let mut broker = (**broker).clone();
        change(&mut broker);
        self.brokers.insert(id, Arc::new(broker));
    }

    pub(crate) fn fence(&mut self, id: NodeId) {
        self.change_broker(id, |broker| broker.fenced = true);
        self.fence_partitions(id, false);
    }

    fn fence_partitions(&mut self, id: NodeId, wiped: bool) {
        self.change_partitions(
            |_| true,
            |partition| {
                let eligible = partition.eligible_leaders.contains(&id);
                let in_sync = partition.isr.contains(&id);
                if wiped { in_sync || eligible } else { in_sync && partition.leader != -1 }
            },
            |rules, partition, tally| rules.fence(partition, id, wiped, tally),
        );
    }

    pub(crate) fn unfence(&mut self, id: NodeId) {
        self.change_broker(id, |broker| broker.fenced = false);
        self.change_partitions(
            |_| true,
            |partition| partition.leader == -1 && partition.replicas.contains(&id),
            |rules, partition, tally| rules.unfence(partition, id, tally),
        );
    }

    pub(crate) fn begin_shutdown(&mut self, id: NodeId) {
        self.change_broker(id, |broker| broker.in_shutdown = true);
        self.change_partitions(
            |_| true,
            |partition| partition.isr.contains(&id),
            |rules, partition, tally| rules.begin_shutdown(partition, id, tally),
        );
    }

    pub(crate) fn yield_leaderships(&mut self, id: NodeId) {
        self.change_partitions(
            |_| true,
            |partition| partition.leader == id,
            |rules, partition, tally| rules.yield_leadership(partition, id, tally),
        );
    }

    pub(crate) fn unregister(&mut self, id: NodeId) {
        self.brokers.remove(&id);
        self.broker_configs.remove(&id);
    }
}
