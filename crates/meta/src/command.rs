//! The commands that change the metadata image. Whoever applies the same ones in the same order has the same image.

use chronik_base::{NodeId, Timestamp, TopicId, Uuid};

use crate::image::{Configs, Endpoint};

/// A change of settings: `Some` sets a value, `None` removes it.
pub type ConfigChanges = Vec<(String, Option<String>)>;

/// The replicas of each new partition, the preferred leader first.
pub type Assignments = Vec<Vec<NodeId>>;

/// One change of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives a new cluster its identifier. Once.
    SetClusterId {
        /// The identifier.
        id: Uuid,
    },
    /// Makes a broker known, or known anew after a restart. It raises the broker's epoch.
    RegisterBroker {
        /// Its identifier.
        id: NodeId,
        /// Its rack or zone.
        rack: Option<String>,
        /// Where it can be reached.
        endpoints: Vec<Endpoint>,
        /// Made new at each start of the process.
        incarnation: Uuid,
    },
    /// Forgets a broker that holds no partition.
    UnregisterBroker {
        /// Its identifier.
        id: NodeId,
    },
    /// Makes a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its identifier: random, never used before.
        id: TopicId,
        /// When it is made, by the wall clock; milliseconds.
        created: Timestamp,
        /// The replicas of each of its partitions.
        assignments: Assignments,
        /// The settings it has of its own. They were checked by who proposes this.
        configs: Configs,
    },
    /// Removes a topic with its partitions and settings.
    DeleteTopic {
        /// Its identifier.
        id: TopicId,
    },
    /// Adds partitions to a topic.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// The index of the first new one: the number that there are. Refused if there are not so many.
        first: i32,
        /// The replicas of each new one.
        assignments: Assignments,
    },
    /// Changes a topic's settings.
    AlterTopicConfigs {
        /// The topic.
        topic: TopicId,
        /// What changes.
        changes: ConfigChanges,
    },
    /// Changes settings of one broker, or of all.
    AlterBrokerConfigs {
        /// The broker; `None` for all.
        broker: Option<NodeId>,
        /// What changes.
        changes: ConfigChanges,
    },
    /// Sets producer ids aside for whoever asks; answered with [`Reply::ProducerIds`].
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Changes who leads a partition, who is in sync, or who holds it.
    ChangePartition(PartitionChange),
}

/// What changes of a partition; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionChange {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: i32,
    /// The partition epoch that the change was thought out on; refused if it is another one by now.
    pub partition_epoch: i32,
    /// A new leader (-1: none). It raises the leader epoch, also if it is the old leader.
    pub leader: Option<NodeId>,
    /// The new in-sync replicas.
    pub isr: Option<Vec<NodeId>>,
    /// The new replicas.
    pub replicas: Option<Vec<NodeId>>,
    /// The new eligible leaders outside of the ISR.
    pub eligible_leaders: Option<Vec<NodeId>>,
    /// The replicas being added.
    pub adding: Option<Vec<NodeId>>,
    /// The replicas being removed.
    pub removing: Option<Vec<NodeId>>,
}

/// What a command is answered with once it is durable and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// These producer ids belong to who asked.
    ProducerIds {
        /// The first one.
        first: i64,
        /// How many.
        count: u32,
    },
}
