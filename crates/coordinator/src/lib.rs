//! Group coordination as a state machine without I/O.
//!
//! A [`GroupCoordinator`] holds all groups of one partition of `__consumer_offsets`. It is given events (requests,
//! ends of writes, the passing of time) and gives back what is to be done: answers, by the id that the request came
//! with, and records to write. It has no clock, no channel and no thread, so the same code runs in the broker, in
//! tests and in a simulation.
//!
//! ```
//! use chronik_coordinator::*;
//!
//! let mut coordinator = GroupCoordinator::new(CoordinatorConfig::default());
//! let now = Now { monotonic_ms: 0, wall_ms: 1_700_000_000_000 };
//! coordinator.loaded(now); // a partition without records
//! let request = Request::OffsetFetch(OffsetFetchRequest { group_id: "g".into(), ..Default::default() });
//! let actions = coordinator.handle(now, Event::Request { id: RequestId(7), request });
//! assert!(matches!(actions[..], [Action::Reply { request: RequestId(7), .. }]));
//! ```
//!
//! What holds:
//! - Every request is answered exactly once, at the latest when the coordinator resigns.
//! - What a client is told of an assignment, a commit or a removal is in the log by then.
//! - Nothing but what is in the log is shown by OffsetFetch, and all that was written before it came is shown: it
//!   waits for the group's writes that are under way.
//! - No event costs work on all groups, but those that ask about all: ListGroups, and loading.
//!
//! Where it departs from Apache Kafka:
//! - `group.initial.rebalance.delay.ms` is 50 ms, and arrivals prolong it
//!   ([`CoordinatorConfig::initial_rebalance_delay_ms`]); Kafka's is 3 s.
//! - A second JoinGroup or SyncGroup of a member, while an earlier one waits, takes its place; the earlier one is
//!   answered `REBALANCE_IN_PROGRESS`, where Kafka never answers it.
//! - A group that has nothing in the log (a member id was handed out and never used) is forgotten at once.
//! - Of protocols with equally many votes the leader's favourite is chosen; Kafka's choice is arbitrary.

mod admin;
mod config;
mod context;
mod coordinator;
mod event;
mod expiry;
mod group;
mod group_offsets;
mod heartbeat;
mod join;
mod leave;
mod member;
mod offsets;
mod rebalance;
mod records;
mod request;
mod response;
mod subscription;
mod sync;
mod timers;
mod writes;

pub use config::{CoordinatorConfig, MAX_INITIAL_DELAYS};
pub use coordinator::GroupCoordinator;
pub use event::{Action, Event, Now, RequestId, WriteToken};
pub use group::GroupState;
pub use records::{GroupMetadataRecord, MemberRecord, OffsetCommitRecord, Record};
pub use request::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, MemberIdentity, OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic,
    OffsetDeleteRequest, OffsetFetchRequest, Request, SyncGroupRequest, TopicPartitions,
};
pub use response::{
    DeleteGroupsResponse, DescribeGroupsResponse, GroupDescription, GroupListing, HeartbeatResponse,
    JoinGroupMember, JoinGroupResponse, LeaveGroupMember, LeaveGroupResponse, ListGroupsResponse,
    MemberDescription, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, OffsetFetchTopic,
    Response, SyncGroupResponse, TopicErrors,
};
