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
    /// Makes a broker known, or known anew after a restart; answered with [`Reply::Registered`]. It begins fenced, with an epoch that was never
    /// used. With another incarnation than the registered one, whatever [`Command::FenceBroker`] does comes first; with another directory (its
    /// disk was wiped) it also leaves every ISR and loses its place among the eligible leaders, even as the last one. Said again by the same
    /// incarnation it renews rack and endpoints only.
    RegisterBroker {
        /// Its identifier.
        id: NodeId,
        /// Its rack or zone.
        rack: Option<String>,
        /// Where it can be reached.
        endpoints: Vec<Endpoint>,
        /// Made new at each start of the process.
        incarnation: Uuid,
        /// The identifier of its data directory: see [`Identity`](crate::Identity). [`Uuid::ZERO`] is how registrations read that were
        /// written before brokers were fenced: such a broker is unfenced at once.
        directory: Uuid,
    },
    /// Lets a broker hold leaderships and join in-sync sets. Partitions without a leader that it can lead get it as their leader.
    UnfenceBroker {
        /// Its identifier.
        id: NodeId,
        /// Its epoch: refused if it has registered again since.
        epoch: i64,
    },
    /// Takes a broker for dead: it leaves every ISR in which another one can lead, and its leaderships go to others, first to in-sync replicas, then to
    /// eligible leaders, then, where `unclean.leader.election.enable` is on, to any replica that is not fenced. Where nobody can
    /// lead, the partition has no leader and its ISR stays: nothing can be acknowledged before one of its members leads again.
    FenceBroker {
        /// Its identifier.
        id: NodeId,
        /// Its epoch: refused if it has registered again since.
        epoch: i64,
    },
    /// A broker is about to stop: its leaderships move to in-sync replicas where there are others, it leaves in-sync sets that keep
    /// `min.insync.replicas` without it, and it gets no new leadership before it registers again.
    BeginShutdown {
        /// Its identifier.
        id: NodeId,
        /// Its epoch: refused if it has registered again since.
        epoch: i64,
    },
    /// A broker can't write for now (its disk is full): its leaderships move to in-sync replicas where there are others, and it leaves in-sync
    /// sets of these that keep `min.insync.replicas` without it. It stays what it is otherwise, and comes back as any follower does.
    YieldLeaderships {
        /// Its identifier.
        id: NodeId,
        /// Its epoch: refused if it has registered again since.
        epoch: i64,
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
    /// What a partition's leader proposes as the ISR (KIP-497, KIP-841, KIP-903).
    AlterPartition(AlterPartition),
    /// Elects a partition's leader (KIP-460).
    ElectLeader {
        /// The topic.
        topic: TopicId,
        /// The partition's index.
        partition: i32,
        /// False: the first replica is to lead; it must be in sync. True: the partition has no leader, and any replica that is not fenced
        /// will do, the in-sync and the eligible ones first. Acknowledged records may be lost.
        unclean: bool,
    },
    /// Moves a partition to other brokers (KIP-455). It is done once all of them are in sync.
    Reassign {
        /// The topic.
        topic: TopicId,
        /// The partition's index.
        partition: i32,
        /// The brokers that are to hold it, the preferred leader first; `None` takes a move back that is going on.
        target: Option<Vec<NodeId>>,
    },
    /// Changes who leads a partition, who is in sync, or who holds it, as it says. Nothing proposes this any more; logs may have it.
    ChangePartition(PartitionChange),
}

/// A leader's proposal of an ISR. Refused unless the partition is as the leader thinks it is, and each member may be in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: i32,
    /// The broker that leads the partition and proposes this.
    pub leader: NodeId,
    /// The leader epoch that it leads in.
    pub leader_epoch: i32,
    /// The partition epoch that the proposal was thought out on.
    pub partition_epoch: i32,
    /// The proposed members, each with its broker epoch: one that has restarted since it was seen in sync is refused (KIP-903).
    pub isr: Vec<(NodeId, i64)>,
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
    /// The broker is registered.
    Registered {
        /// Its epoch, which it shows from now on.
        epoch: i64,
    },
    /// These producer ids belong to who asked.
    ProducerIds {
        /// The first one.
        first: i64,
        /// How many.
        count: u32,
    },
}
