//! Why a command is refused, and what that is on the wire.

use chronik_base::{ErrorCode, NodeId, TopicId, Uuid};

use crate::image::MetaOffset;

/// Why a command is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// The topic's name is not allowed; Kafka's words.
    #[error("{0}")]
    TopicName(String),
    /// There is a topic of that name.
    #[error("Topic '{0}' already exists.")]
    TopicExists(String),
    /// There is a topic whose name differs in `.` and `_` only.
    #[error("Topic '{name}' collides with existing topic: {other}")]
    TopicCollides {
        /// The name asked for.
        name: String,
        /// The one that exists.
        other: String,
    },
    /// The topic identifier is taken or reserved.
    #[error("the topic id {0} is taken or reserved: use a new random one")]
    TopicIdTaken(TopicId),
    /// There is no topic with that identifier.
    #[error("This server does not host this topic ID: {0}")]
    UnknownTopic(TopicId),
    /// There is no such partition.
    #[error("topic {topic} has no partition {partition}: it has {count}")]
    UnknownPartition {
        /// The topic.
        topic: TopicId,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// A topic or an addition without partitions.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    NoPartitions,
    /// The topic has another number of partitions than the command was made for.
    #[error("topic {topic} has {actual} partitions, not {expected}: somebody else changed it, look again")]
    PartitionCountChanged {
        /// The topic.
        topic: TopicId,
        /// How many the command expects.
        expected: i32,
        /// How many there are.
        actual: usize,
    },
    /// A list of replicas is empty, names a broker twice, or is at odds with another list.
    #[error("invalid replicas {replicas:?} of partition {partition}: {problem}")]
    Assignment {
        /// The partition.
        partition: i32,
        /// The list.
        replicas: Vec<NodeId>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A broker that is not registered.
    #[error("broker {0} is not registered: the registered ones are listed by DescribeCluster")]
    UnknownBroker(NodeId),
    /// A broker that holds partitions cannot be forgotten.
    #[error("broker {broker} still holds partitions, one of them of topic {topic}: move them first")]
    BrokerInUse {
        /// The broker.
        broker: NodeId,
        /// A topic it holds a partition of.
        topic: String,
    },
    /// The change was thought out on an older state of the partition.
    #[error(
        "partition {partition} of topic {topic} is at partition epoch {actual}, the change is made for {expected}"
    )]
    PartitionEpoch {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// What the change expects.
        expected: i32,
        /// What it is.
        actual: i32,
    },
    /// The leader epoch is not the partition's.
    #[error(
        "partition {partition} of topic {topic} is at leader epoch {actual}, not {expected}: there was another election since"
    )]
    LeaderEpoch {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// What the proposal says.
        expected: i32,
        /// What it is.
        actual: i32,
    },
    /// A broker proposes an ISR for a partition that it does not lead.
    #[error("partition {partition} of topic {topic} is led by {leader}, not by {proposer}")]
    NotPartitionLeader {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// Who proposes.
        proposer: NodeId,
        /// Who leads; -1 for nobody.
        leader: NodeId,
    },
    /// A broker that may not be in sync is proposed for an ISR.
    #[error("broker {broker} cannot join the ISR of partition {partition} of topic {topic}: {problem}")]
    IneligibleReplica {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// The broker.
        broker: NodeId,
        /// What keeps it out.
        problem: &'static str,
    },
    /// A broker of that id has registered again, or none is registered.
    #[error("{}", stale(*broker, *epoch, *current))]
    StaleBrokerEpoch {
        /// The broker.
        broker: NodeId,
        /// The epoch that the command says.
        epoch: i64,
        /// The one that is registered, if there is one.
        current: Option<i64>,
    },
    /// A broker whose directory is known does not say which one it has now.
    #[error(
        "broker {0} does not say which data directory it has: run the version of Chronik that it registered with before, or a newer one"
    )]
    NoDirectory(NodeId),
    /// There is no reassignment to take back.
    #[error("partition {partition} of topic {topic} is not being reassigned")]
    NoReassignment {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
    },
    /// The change would leave the partition without an in-sync replica, or without a leader that it has now.
    #[error(
        "partition {partition} of topic {topic} cannot be moved to {replicas:?}: none of these is in sync and able to lead; wait for one, or choose others"
    )]
    NoneInSync {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// The replicas that would stay.
        replicas: Vec<NodeId>,
    },
    /// The partition has the leader that an election is to give it.
    #[error("partition {partition} of topic {topic} is led by {leader}: no election is needed")]
    ElectionNotNeeded {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// Who leads it.
        leader: NodeId,
    },
    /// The preferred leader cannot lead.
    #[error(
        "broker {preferred}, the preferred leader of partition {partition} of topic {topic}, is not in sync, or fenced, or about to stop"
    )]
    PreferredNotAvailable {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// The preferred leader.
        preferred: NodeId,
    },
    /// No replica of the partition can lead.
    #[error("no replica of partition {partition} of topic {topic} is alive: start one of {replicas:?}")]
    NoneEligible {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// Its replicas.
        replicas: Vec<NodeId>,
    },
    /// All brokers that a new partition is assigned to are fenced or about to stop.
    #[error(
        "All brokers specified in the replica assignment for partition {partition} are fenced or in controlled shutdown: {replicas:?}"
    )]
    AssignedToFenced {
        /// The partition.
        partition: i32,
        /// The brokers.
        replicas: Vec<NodeId>,
    },
    /// The cluster has an identifier.
    #[error("the cluster has the id {0} for good")]
    ClusterIdSet(Uuid),
    /// Producer ids are used up, or none was asked for.
    #[error("cannot set {count} producer ids aside from {next} on")]
    ProducerIds {
        /// How many were asked for.
        count: u32,
        /// The first free one.
        next: i64,
    },
    /// The command could not be made durable; nothing of it is applied.
    #[error("metadata cannot be written: {0}")]
    Storage(String),
    /// This node does not lead the metadata.
    #[error("{}", not_leader(*leader))]
    NotLeader {
        /// Who does, if it is known.
        leader: Option<NodeId>,
    },
    /// No majority of the voters answers, so nothing can be decided.
    #[error("no majority of the metadata voters can be reached: metadata cannot be changed until it is back")]
    NoQuorum,
    /// The command was not answered in time. It may still be carried out.
    #[error("the metadata quorum did not answer within {waited_ms} ms; the change may still be carried out")]
    TimedOut {
        /// The time that was given, in milliseconds.
        waited_ms: u64,
    },
    /// Commands that were decided elsewhere do not follow on what is here.
    #[error("commands from {first} on do not follow on {have}, the last one here")]
    Gap {
        /// The number of the last command here.
        have: MetaOffset,
        /// The number of the first one given.
        first: MetaOffset,
    },
    /// Another node refused; what it said.
    #[error("{message}")]
    Remote {
        /// Its error code.
        code: ErrorCode,
        /// Its words.
        message: String,
    },
    /// The writer has stopped.
    #[error("the metadata writer has stopped: the node is shutting down")]
    Closed,
}

impl MetaError {
    /// The error code that says it to a client.
    pub fn code(&self) -> ErrorCode {
        match self {
            MetaError::TopicName(_) | MetaError::TopicCollides { .. } => ErrorCode::InvalidTopicException,
            MetaError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            MetaError::TopicIdTaken(_) => ErrorCode::InvalidRequest,
            MetaError::UnknownTopic(_) => ErrorCode::UnknownTopicId,
            MetaError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            MetaError::NoPartitions | MetaError::PartitionCountChanged { .. } => ErrorCode::InvalidPartitions,
            MetaError::Assignment { .. } => ErrorCode::InvalidReplicaAssignment,
            MetaError::UnknownBroker(_) => ErrorCode::InvalidReplicaAssignment,
            MetaError::BrokerInUse { .. } => ErrorCode::InvalidRequest,
            MetaError::PartitionEpoch { .. } => ErrorCode::InvalidUpdateVersion,
            MetaError::LeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            MetaError::NotPartitionLeader { .. } => ErrorCode::NotLeaderOrFollower,
            MetaError::IneligibleReplica { .. } => ErrorCode::IneligibleReplica,
            MetaError::StaleBrokerEpoch { current: None, .. } => ErrorCode::BrokerIdNotRegistered,
            MetaError::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            MetaError::NoDirectory(_) => ErrorCode::InvalidRegistration,
            MetaError::NoReassignment { .. } => ErrorCode::NoReassignmentInProgress,
            MetaError::NoneInSync { .. } | MetaError::AssignedToFenced { .. } => {
                ErrorCode::InvalidReplicaAssignment
            }
            MetaError::ElectionNotNeeded { .. } => ErrorCode::ElectionNotNeeded,
            MetaError::PreferredNotAvailable { .. } => ErrorCode::PreferredLeaderNotAvailable,
            MetaError::NoneEligible { .. } => ErrorCode::EligibleLeadersNotAvailable,
            MetaError::NotLeader { .. } => ErrorCode::NotController,
            MetaError::NoQuorum | MetaError::TimedOut { .. } => ErrorCode::RequestTimedOut,
            MetaError::Gap { .. } => ErrorCode::UnknownServerError,
            MetaError::Remote { code, .. } => *code,
            MetaError::ClusterIdSet(_) => ErrorCode::InconsistentClusterId,
            MetaError::ProducerIds { .. } => ErrorCode::UnknownServerError,
            MetaError::Storage(_) => ErrorCode::KafkaStorageError,
            MetaError::Closed => ErrorCode::BrokerNotAvailable,
        }
    }
}

fn stale(broker: NodeId, epoch: i64, current: Option<i64>) -> String {
    match current {
        Some(current) => format!(
            "broker epoch {epoch} of broker {broker} is not the registered one, {current}: it has registered again since"
        ),
        None => format!("broker {broker} is not registered: it must register first"),
    }
}

fn not_leader(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("this node does not lead the metadata, node {leader} does"),
        None => "this node does not lead the metadata, and who does is not known yet".to_owned(),
    }
}
