//! The records of `__consumer_offsets`, as values. Their bytes are the broker's business.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{Timestamp, TopicId};

/// One record of `__consumer_offsets`: a key and, unless it is a tombstone, a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An offset committed by a group (key version 1 in Kafka's schema), or its removal.
    OffsetCommit {
        /// The group's id.
        group: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition's index.
        partition: i32,
        /// What was committed; `None` is a tombstone.
        value: Option<OffsetCommitRecord>,
    },
    /// A group's generation and members (key version 2 in Kafka's schema), or the group's removal.
    GroupMetadata {
        /// The group's id.
        group: Arc<str>,
        /// The group; `None` is a tombstone.
        value: Option<GroupMetadataRecord>,
    },
}

/// A committed offset (`OffsetCommitValue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitRecord {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The topic's id, zero if it was not known. An offset says nothing about a topic of another id (KIP-848).
    pub topic_id: TopicId,
    /// The client's own text, empty if it gave none.
    pub metadata: Arc<str>,
    /// When it was committed, by the coordinator's wall clock.
    pub commit_timestamp_ms: Timestamp,
    /// When it expires, where the client asked for a retention time (OffsetCommit versions 2 to 4).
    pub expire_timestamp_ms: Option<Timestamp>,
}

/// A group (`GroupMetadataValue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataRecord {
    /// The members' protocol type, `consumer` for consumers; empty if the group has none.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The protocol (assignor) that the members agreed on; `None` in a group without members.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id; `None` in a group without members.
    pub leader: Option<Arc<str>>,
    /// When the group entered its present state; `None` in records of an old version.
    pub state_timestamp_ms: Option<Timestamp>,
    /// The members with their assignments.
    pub members: Vec<MemberRecord>,
}

/// A member of a group (`MemberMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// The client id of the member's join.
    pub client_id: Arc<str>,
    /// The address that the member joined from.
    pub client_host: Arc<str>,
    /// How long the member may take to rejoin, in milliseconds; -1 in records of an old version.
    pub rebalance_timeout_ms: i32,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The metadata that the member sent for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}
