//! The answers of a group coordinator.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;

use crate::group::GroupState;
use crate::records::OffsetCommitRecord;
use crate::request::{OffsetCommitRequest, Request};

/// Any answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is documented by its type")]
pub enum Response {
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponse),
    OffsetDelete(OffsetDeleteResponse),
    DescribeGroups(DescribeGroupsResponse),
    ListGroups(ListGroupsResponse),
    DeleteGroups(DeleteGroupsResponse),
}

/// Answers a join: the new generation, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupResponse {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation, or -1.
    pub generation: i32,
    /// The members' protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// The leader's member id, or empty.
    pub leader: Arc<str>,
    /// The leader need not compute an assignment (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Arc<str>,
    /// For the leader: all members.
    pub members: Vec<JoinGroupMember>,
}

/// A member, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupMember {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static.
    pub group_instance_id: Option<Arc<str>>,
    /// What it sent for the chosen protocol.
    pub metadata: Bytes,
}

/// Answers a sync with the member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// What went wrong.
    pub error: ErrorCode,
    /// The members' protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// What the leader assigned.
    pub assignment: Bytes,
}

/// Answers a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// What went wrong.
    pub error: ErrorCode,
}

/// Answers a leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupResponse {
    /// What went wrong with the request as a whole. Below version 3 the answer's only error is this one or, if
    /// it is none, that of the one member.
    pub error: ErrorCode,
    /// What became of each member.
    pub members: Vec<LeaveGroupMember>,
}

/// What became of one member that was to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupMember {
    /// The member's id, as the request gave it.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, as the request gave it.
    pub group_instance_id: Option<Arc<str>>,
    /// What went wrong.
    pub error: ErrorCode,
}

/// Answers a commit, partition by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// The request's topics.
    pub topics: Vec<TopicErrors>,
}

/// An error for each partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicErrors {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Partition and what went wrong.
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// Answers with committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// What went wrong with the group as a whole.
    pub error: ErrorCode,
    /// The topics asked for, or all.
    pub topics: Vec<OffsetFetchTopic>,
}

/// Committed offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchTopic {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Partition and what was committed for it; `None` goes on the wire as offset -1, epoch -1, empty metadata.
    pub partitions: Vec<(i32, Option<OffsetCommitRecord>)>,
}

/// Answers a removal of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDeleteResponse {
    /// What went wrong with the request as a whole.
    pub error: ErrorCode,
    /// The request's topics; empty if the whole request failed.
    pub topics: Vec<TopicErrors>,
}

/// Answers with what groups are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroupsResponse {
    /// The groups, in the order of the request.
    pub groups: Vec<GroupDescription>,
}

/// What a group is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// What went wrong.
    pub error: ErrorCode,
    /// The group's id.
    pub group_id: Arc<str>,
    /// Its state; `None` goes on the wire as an empty text.
    pub state: Option<GroupState>,
    /// The members' protocol type, or empty.
    pub protocol_type: Arc<str>,
    /// The chosen protocol, if the group is stable, or empty.
    pub protocol: Arc<str>,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// What a member is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is static.
    pub group_instance_id: Option<Arc<str>>,
    /// The client id of the member's join.
    pub client_id: Arc<str>,
    /// The address that the member joined from.
    pub client_host: Arc<str>,
    /// What it sent for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What the leader assigned.
    pub assignment: Bytes,
}

/// Answers with the groups there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListGroupsResponse {
    /// What went wrong.
    pub error: ErrorCode,
    /// The groups, by id.
    pub groups: Vec<GroupListing>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// The group's id.
    pub group_id: Arc<str>,
    /// The members' protocol type, or empty.
    pub protocol_type: Arc<str>,
    /// The group's state.
    pub state: GroupState,
}

/// Answers a removal of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroupsResponse {
    /// Group and what went wrong, in the order of the request.
    pub groups: Vec<(Arc<str>, ErrorCode)>,
}

impl JoinGroupResponse {
    /// A join that failed.
    pub(crate) fn refusal(error: ErrorCode, member_id: Arc<str>) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: Arc::default(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

impl SyncGroupResponse {
    /// A sync that failed.
    pub(crate) fn refusal(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

impl LeaveGroupResponse {
    /// A leave that failed as a whole.
    pub(crate) fn refusal(error: ErrorCode) -> Self {
        Self { error, members: Vec::new() }
    }
}

impl OffsetCommitResponse {
    /// A commit that failed for every partition.
    pub(crate) fn refusal(error: ErrorCode, request: &OffsetCommitRequest) -> Self {
        let topics = request.topics.iter().map(|topic| TopicErrors {
            topic: topic.topic.clone(),
            partitions: topic.partitions.iter().map(|partition| (partition.partition, error)).collect(),
        });
        Self { topics: topics.collect() }
    }
}

impl OffsetDeleteResponse {
    /// A removal that failed as a whole.
    pub(crate) fn refusal(error: ErrorCode) -> Self {
        Self { error, topics: Vec::new() }
    }
}

impl GroupDescription {
    /// A group that cannot be described, or a dead one (`error` none).
    pub(crate) fn without_members(error: ErrorCode, group_id: Arc<str>, state: Option<GroupState>) -> Self {
        Self {
            error,
            group_id,
            state,
            protocol_type: Arc::default(),
            protocol: Arc::default(),
            members: Vec::new(),
        }
    }
}

impl Response {
    /// The answer to a request that fails as a whole.
    pub fn refusal(error: ErrorCode, request: &Request) -> Self {
        match request {
            Request::JoinGroup(request) => {
                Response::JoinGroup(JoinGroupResponse::refusal(error, request.member_id.clone()))
            }
            Request::SyncGroup(_) => Response::SyncGroup(SyncGroupResponse::refusal(error)),
            Request::Heartbeat(_) => Response::Heartbeat(HeartbeatResponse { error }),
            Request::LeaveGroup(_) => Response::LeaveGroup(LeaveGroupResponse::refusal(error)),
            Request::OffsetCommit(request) => {
                Response::OffsetCommit(OffsetCommitResponse::refusal(error, request))
            }
            Request::OffsetFetch(_) => {
                Response::OffsetFetch(OffsetFetchResponse { error, topics: Vec::new() })
            }
            Request::OffsetDelete(_) => Response::OffsetDelete(OffsetDeleteResponse::refusal(error)),
            Request::DescribeGroups(request) => {
                let groups = request.groups.iter();
                let groups = groups.map(|id| GroupDescription::without_members(error, id.clone(), None));
                Response::DescribeGroups(DescribeGroupsResponse { groups: groups.collect() })
            }
            Request::ListGroups(_) => Response::ListGroups(ListGroupsResponse { error, groups: Vec::new() }),
            Request::DeleteGroups(request) => Response::DeleteGroups(DeleteGroupsResponse {
                groups: request.groups.iter().map(|id| (id.clone(), error)).collect(),
            }),
        }
    }

    /// Turns an answer that was to report a write's success into one that reports its failure.
    pub(crate) fn fail(&mut self, error: ErrorCode) {
        fn fail_topics(topics: &mut [TopicErrors], error: ErrorCode) {
            for (_, result) in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if result.is_ok() {
                    *result = error;
                }
            }
        }
        match self {
            Response::JoinGroup(response) => {
                *response = JoinGroupResponse::refusal(error, Arc::default());
            }
            Response::SyncGroup(response) => *response = SyncGroupResponse::refusal(error),
            Response::Heartbeat(response) => response.error = error,
            Response::LeaveGroup(response) => *response = LeaveGroupResponse::refusal(error),
            Response::OffsetCommit(response) => fail_topics(&mut response.topics, error),
            Response::OffsetFetch(response) => response.error = error,
            Response::OffsetDelete(response) => fail_topics(&mut response.topics, error),
            Response::DescribeGroups(response) => {
                response.groups.iter_mut().for_each(|group| group.error = error);
            }
            Response::ListGroups(response) => response.error = error,
            Response::DeleteGroups(response) => {
                for (_, result) in &mut response.groups {
                    if result.is_ok() {
                        *result = error;
                    }
                }
            }
        }
    }
}
