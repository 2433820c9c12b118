//! Why a command is refused, and what that is on the wire.

use chronik_base::{ErrorCode, NodeId, TopicId, Uuid};

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
            MetaError::ClusterIdSet(_) => ErrorCode::InconsistentClusterId,
            MetaError::ProducerIds { .. } => ErrorCode::UnknownServerError,
            MetaError::Storage(_) => ErrorCode::KafkaStorageError,
            MetaError::Closed => ErrorCode::BrokerNotAvailable,
        }
    }
}
