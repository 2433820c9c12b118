//! The requests that a group coordinator serves, free of wire versions where Kafka's behaviour is.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::TopicId;

/// Any request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is documented by its type")]
pub enum Request {
    JoinGroup(JoinGroupRequest),
    SyncGroup(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    LeaveGroup(LeaveGroupRequest),
    OffsetCommit(OffsetCommitRequest),
    OffsetFetch(OffsetFetchRequest),
    OffsetDelete(OffsetDeleteRequest),
    DescribeGroups(DescribeGroupsRequest),
    ListGroups(ListGroupsRequest),
    DeleteGroups(DeleteGroupsRequest),
}

/// Asks to be a member of the next generation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JoinGroupRequest {
    /// The request's version. From 4 on a new dynamic member is first told its id (KIP-394); from 9 on a static
    /// leader that comes back is told to skip the assignment (KIP-814).
    pub api_version: i16,
    /// The group's id.
    pub group_id: Arc<str>,
    /// The member's id, empty if it has none yet.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// The client id of the request's header.
    pub client_id: Arc<str>,
    /// The client's address, as Kafka writes it (`/10.0.0.1`).
    pub client_host: Arc<str>,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long the member may take to rejoin, in milliseconds; negative (version 0): the session timeout.
    pub rebalance_timeout_ms: i32,
    /// The members' protocol type, `consumer` for consumers.
    pub protocol_type: Arc<str>,
    /// The protocols (assignors) that the member supports, the preferred first, each with its metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// 16 random bytes; the id of a new member is made of them.
    pub random: [u8; 16],
}

/// Asks for the member's assignment; the leader brings everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SyncGroupRequest {
    /// The request's version. From 5 on protocol type and name are mandatory (KIP-559).
    pub api_version: i16,
    /// The group's id.
    pub group_id: Arc<str>,
    /// The generation that the member was told.
    pub generation: i32,
    /// The member's id.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static.
    pub group_instance_id: Option<Arc<str>>,
    /// The protocol type that the member was told.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that the member was told.
    pub protocol_name: Option<Arc<str>>,
    /// From the leader: each member's assignment.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Says that the member is alive.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HeartbeatRequest {
    /// The group's id.
    pub group_id: Arc<str>,
    /// The member's generation.
    pub generation: i32,
    /// The member's id.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static.
    pub group_instance_id: Option<Arc<str>>,
}

/// Says that members leave.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeaveGroupRequest {
    /// The group's id.
    pub group_id: Arc<str>,
    /// Who leaves; one member below version 3.
    pub members: Vec<MemberIdentity>,
}

/// A member by its id, or a static one by its instance id alone.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MemberIdentity {
    /// The member's id; empty to remove a static member whatever its id (KIP-345).
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static.
    pub group_instance_id: Option<Arc<str>>,
}

/// Commits offsets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommitRequest {
    /// The request's version. From 9 on a member of an unknown group is told `GROUP_ID_NOT_FOUND` (KIP-848).
    pub api_version: i16,
    /// The group's id; may be empty.
    pub group_id: Arc<str>,
    /// The member's generation; negative if the client is no member of a group.
    pub generation: i32,
    /// The member's id, empty if the client is no member of a group.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static.
    pub group_instance_id: Option<Arc<str>>,
    /// How long to keep the offsets, in milliseconds (versions 2 to 4); negative: as the broker is set.
    pub retention_time_ms: i64,
    /// The topics.
    pub topics: Vec<OffsetCommitTopic>,
}

/// Offsets of one topic to commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommitTopic {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id, zero if it is not known.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<OffsetCommitPartition>,
}

/// An offset of one partition to commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommitPartition {
    /// The partition's index.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Option<Arc<str>>,
}

/// Asks for a group's committed offsets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetFetchRequest {
    /// The group's id; may be empty.
    pub group_id: Arc<str>,
    /// Topics with their partitions; `None` asks for all that the group committed.
    pub topics: Option<Vec<TopicPartitions>>,
    /// Do not answer with offsets that an open transaction may yet change (KIP-447). There are no transactions
    /// here, so every committed offset is stable.
    pub require_stable: bool,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicPartitions {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id, zero if it does not matter. OffsetFetch shows no offset of a topic of another id.
    pub topic_id: TopicId,
    /// Indexes of its partitions.
    pub partitions: Vec<i32>,
}

/// Removes committed offsets of a group that does not consume the topic (KIP-496).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetDeleteRequest {
    /// The group's id.
    pub group_id: Arc<str>,
    /// The offsets to remove.
    pub topics: Vec<TopicPartitions>,
}

/// Asks what groups are like.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DescribeGroupsRequest {
    /// The request's version. From 6 on an unknown group is an error, before it is a dead one (KIP-1043).
    pub api_version: i16,
    /// Ids of the groups.
    pub groups: Vec<Arc<str>>,
}

/// Asks which groups there are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListGroupsRequest {
    /// Only groups in one of these states, in any case; all if empty (KIP-518).
    pub states_filter: Vec<Arc<str>>,
    /// Only groups of one of these types, in any case; all if empty (KIP-848). All groups here are `classic`.
    pub types_filter: Vec<Arc<str>>,
}

/// Removes groups with their offsets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeleteGroupsRequest {
    /// Ids of the groups.
    pub groups: Vec<Arc<str>>,
}
