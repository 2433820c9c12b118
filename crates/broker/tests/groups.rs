//! Groups over a real log: what members see, and what is left after a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{ErrorCode, Uuid};
use chronik_protocol::Str;
use chronik_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use chronik_protocol::messages::delete_groups::DeleteGroupsRequest;
use chronik_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use chronik_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use chronik_protocol::messages::find_coordinator::FindCoordinatorRequest;
use chronik_protocol::messages::heartbeat::HeartbeatRequest;
use chronik_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use chronik_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use chronik_protocol::messages::list_groups::ListGroupsRequest;
use chronik_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use chronik_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use chronik_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use chronik_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use chronik_protocol::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use common::TestBroker;

/// What a consumer of topic `t` sends as its metadata.
const SUBSCRIBED_TO_T: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";

fn s(text: &str) -> Str {
    Str::from(text)
}

/// A broker with a topic `t` of two partitions.
async fn start(directory: &std::path::Path) -> TestBroker {
    let broker = TestBroker::start(directory, &[("offsets.topic.num.partitions", "4")]).await;
    create_topic(&broker, "t").await;
    broker
}

async fn create_topic(broker: &TestBroker, name: &str) {
    let topic = CreatableTopic {
        name: s(name),
        num_partitions: 2,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1_000, ..CreateTopicsRequest::default() };
    broker.ask(7, &request).await;
}

fn join_request(group: &str, member: &Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: s(group),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member.clone(),
        protocol_type: s("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: s("range"),
            metadata: Bytes::from_static(SUBSCRIBED_TO_T),
        }],
        ..JoinGroupRequest::default()
    }
}

/// Joins by KIP-394, as the only member.
async fn join(broker: &TestBroker, group: &str) -> JoinGroupResponse {
    let told = broker.ask(9, &join_request(group, &Str::default())).await;
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
    let joined = broker.ask(9, &join_request(group, &told.member_id)).await;
    assert_eq!(joined.error_code, 0);
    assert_eq!(joined.leader, told.member_id);
    joined
}

async fn sync(broker: &TestBroker, group: &str, joined: &JoinGroupResponse) -> SyncGroupResponse {
    let request = SyncGroupRequest {
        group_id: s(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some(s("consumer")),
        protocol_name: Some(s("range")),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"everything"),
        }],
        ..SyncGroupRequest::default()
    };
    broker.ask(5, &request).await
}

fn commit_request(group: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: s(group),
        topics: vec![OffsetCommitRequestTopic {
            name: s("t"),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_metadata: Some(s("note")),
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

fn commit_error(response: &OffsetCommitResponse) -> i16 {
    response.topics[0].partitions[0].error_code
}

/// What the group has committed for `t-0`, or -1.
async fn fetch(broker: &TestBroker, group: &str) -> i64 {
    let topics = vec![OffsetFetchRequestTopic { name: s("t"), partition_indexes: vec![0] }];
    let request =
        OffsetFetchRequest { group_id: s(group), topics: Some(topics), ..OffsetFetchRequest::default() };
    let response = broker.ask(7, &request).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    response.topics[0].partitions[0].committed_offset
}

async fn describe(broker: &TestBroker, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest { groups: vec![s(group)], ..DescribeGroupsRequest::default() };
    broker.ask(6, &request).await.groups.remove(0)
}

async fn topic_id(broker: &TestBroker, name: &str) -> Uuid {
    let topic = MetadataRequestTopic { name: Some(s(name)), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    broker.ask(12, &request).await.topics[0].topic_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_s_life() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    let begun = Instant::now();

    let request = FindCoordinatorRequest { key: s("g"), ..FindCoordinatorRequest::default() };
    let found = broker.ask(3, &request).await;
    assert_eq!((found.error_code, found.node_id, found.port), (0, 1, 9092));
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![s("g"), s("h")],
        ..FindCoordinatorRequest::default()
    };
    let found = broker.ask(4, &request).await;
    assert_eq!(found.coordinators.iter().map(|c| (c.error_code, c.node_id)).collect::<Vec<_>>(), [(0, 1); 2]);

    let joined = join(&broker, "g").await;
    assert_eq!((joined.generation_id, joined.members.len()), (1, 1));
    let synced = sync(&broker, "g", &joined).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"everything"[..]));
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(1_000), "a new member was ready after {took:?}");

    let heartbeat = HeartbeatRequest {
        group_id: s("g"),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    assert_eq!(broker.ask(4, &heartbeat).await.error_code, 0);
    let commit = OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: joined.member_id.clone(),
        ..commit_request("g", 0, 5)
    };
    assert_eq!(commit_error(&broker.ask(8, &commit).await), 0);
    assert_eq!(fetch(&broker, "g").await, 5);
    let stale = OffsetCommitRequest { generation_id_or_member_epoch: 0, ..commit };
    assert_eq!(commit_error(&broker.ask(8, &stale).await), ErrorCode::IllegalGeneration.code());

    let described = describe(&broker, "g").await;
    assert_eq!(
        (described.error_code, &*described.group_state, &*described.protocol_data),
        (0, "Stable", "range")
    );
    assert_eq!(described.members.len(), 1);
    assert_eq!(&*described.members[0].client_host, "/127.0.0.1");
    let listed = broker.ask(5, &ListGroupsRequest::default()).await;
    assert_eq!((listed.error_code, listed.groups.len()), (0, 1));
    assert_eq!((&*listed.groups[0].group_state, &*listed.groups[0].group_type), ("Stable", "classic"));

    let delete = DeleteGroupsRequest { groups_names: vec![s("g"), s("no")] };
    let errors = |response: chronik_protocol::messages::delete_groups::DeleteGroupsResponse| {
        response.results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    let expected = [ErrorCode::NonEmptyGroup.code(), ErrorCode::GroupIdNotFound.code()];
    assert_eq!(errors(broker.ask(2, &delete).await), expected);
    let leave = LeaveGroupRequest {
        group_id: s("g"),
        members: vec![MemberIdentity { member_id: joined.member_id.clone(), ..MemberIdentity::default() }],
        ..LeaveGroupRequest::default()
    };
    let left = broker.ask(5, &leave).await;
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(&*describe(&broker, "g").await.group_state, "Empty");
    assert_eq!(errors(broker.ask(2, &delete).await), [0, ErrorCode::GroupIdNotFound.code()]);
    assert_eq!(describe(&broker, "g").await.error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(fetch(&broker, "g").await, -1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    let id = async || {
        let told = broker.ask(9, &join_request("g", &Str::default())).await;
        assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
        join_request("g", &told.member_id)
    };
    let (a, b, c) = (id().await, id().await, id().await);
    let (one, two, three) = tokio::join!(broker.ask(9, &a), broker.ask(9, &b), broker.ask(9, &c));
    let first = [one, two, three];
    assert!(first.iter().all(|joined| (joined.error_code, joined.generation_id) == (0, 1)));
    let mut seen: Vec<_> = first.iter().map(|joined| joined.members.len()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 3], "the leader sees all");
    let (one, two, three) = tokio::join!(
        sync(&broker, "g", &first[0]),
        sync(&broker, "g", &first[1]),
        sync(&broker, "g", &first[2]),
    );
    assert_eq!([one.error_code, two.error_code, three.error_code], [0; 3]);

    let member_id = first[2].member_id.clone();
    let members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
    let leave = LeaveGroupRequest { group_id: s("g"), members, ..LeaveGroupRequest::default() };
    assert_eq!(broker.ask(5, &leave).await.members[0].error_code, 0);
    let heartbeat = HeartbeatRequest {
        group_id: s("g"),
        generation_id: 1,
        member_id: first[0].member_id.clone(),
        ..HeartbeatRequest::default()
    };
    assert_eq!(broker.ask(4, &heartbeat).await.error_code, ErrorCode::RebalanceInProgress.code());
    let (one, two) = tokio::join!(broker.ask(9, &a), broker.ask(9, &b));
    assert_eq!([one.generation_id, two.generation_id], [2; 2]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_finds_the_commit_that_was_sent_just_before() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    broker.ask(3, &FindCoordinatorRequest { key: s("g"), ..FindCoordinatorRequest::default() }).await;
    for offset in 0..50 {
        let commit = commit_request("g", 0, offset);
        let (committed, fetched) = tokio::join!(biased; broker.ask(8, &commit), fetch(&broker, "g"));
        assert_eq!((commit_error(&committed), fetched), (0, offset));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_offsets_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    let joined = join(&broker, "g").await;
    assert_eq!(sync(&broker, "g", &joined).await.error_code, 0);
    for offset in 0..200 {
        assert_eq!(commit_error(&broker.ask(8, &commit_request("simple", 0, offset)).await), 0);
    }
    broker.stop().await;

    let broker = TestBroker::start(directory.path(), &[]).await;
    assert_eq!(fetch(&broker, "simple").await, 199);
    let heartbeat = HeartbeatRequest {
        group_id: s("g"),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    assert_eq!(broker.ask(4, &heartbeat).await.error_code, 0);
    let synced = sync(&broker, "g", &joined).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"everything"[..]));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_name_partitions_that_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    assert_eq!(
        commit_error(&broker.ask(8, &commit_request("g", 2, 5)).await),
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let mut by_id = commit_request("g", 0, 5);
    by_id.topics[0].topic_id = Uuid::from_random([9; 16]);
    assert_eq!(commit_error(&broker.ask(10, &by_id).await), ErrorCode::UnknownTopicId.code());
    let id = topic_id(&broker, "t").await;
    by_id.topics[0].topic_id = id;
    assert_eq!(commit_error(&broker.ask(10, &by_id).await), 0);

    let named = |topic_id| OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![0, 1],
        ..OffsetFetchRequestTopics::default()
    };
    let group = |group: &str, topics| OffsetFetchRequestGroup {
        group_id: s(group),
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let unknown = Uuid::from_random([8; 16]);
    let request = OffsetFetchRequest {
        groups: vec![
            group("g", Some(vec![named(unknown), named(id)])),
            group("g", None),
            group("other", None),
        ],
        ..OffsetFetchRequest::default()
    };
    let response = broker.ask(10, &request).await;
    let offsets = |group: usize| {
        let topics = response.groups[group].topics.iter();
        let partitions = topics.flat_map(|topic| topic.partitions.iter().map(move |p| (topic.topic_id, p)));
        partitions
            .map(|(id, p)| (id, p.partition_index, p.committed_offset, p.error_code))
            .collect::<Vec<_>>()
    };
    let missing = ErrorCode::UnknownTopicId.code();
    assert_eq!(
        offsets(0),
        [(unknown, 0, -1, missing), (unknown, 1, -1, missing), (id, 0, 5, 0), (id, 1, -1, 0)]
    );
    assert_eq!(offsets(1), [(id, 0, 5, 0)]);
    assert_eq!(offsets(2), []);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_go_with_their_topic_and_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    broker.ask(8, &commit_request("g", 0, 5)).await;
    broker.ask(8, &commit_request("g", 1, 6)).await;
    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let request = OffsetDeleteRequest {
        group_id: s("g"),
        topics: vec![OffsetDeleteRequestTopic { name: s("t"), partitions: vec![partition(7), partition(0)] }],
    };
    let response = broker.ask(0, &request).await;
    let errors: Vec<_> =
        response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
    assert_eq!(errors, [(7, ErrorCode::UnknownTopicOrPartition.code()), (0, 0)]);
    assert_eq!(fetch(&broker, "g").await, -1);

    broker.ask(8, &commit_request("g", 0, 7)).await;
    let topic = DeleteTopicState { name: Some(s("t")), ..DeleteTopicState::default() };
    let request =
        DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1_000, ..DeleteTopicsRequest::default() };
    assert_eq!(broker.ask(6, &request).await.responses[0].error_code, 0);
    assert_eq!(fetch(&broker, "g").await, -1);
    create_topic(&broker, "t").await;
    assert_eq!(fetch(&broker, "g").await, -1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_a_metric() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    broker.ask(8, &commit_request("g\"1", 0, 0)).await;
    let mut page = chronik_metrics::Page::new();
    broker.broker.write_metrics(&mut page);
    let page = page.finish();
    assert!(
        page.contains("chronik_consumer_lag{group=\"g\\\"1\",topic=\"t\",partition=\"0\"} 0\n"),
        "{page}"
    );
    assert!(page.contains("chronik_groups{state=\"Empty\"} 1\n"), "{page}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_waits_is_answered_when_the_node_ends() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[("group.initial.rebalance.delay.ms", "60000")]).await;
    let told = broker.ask(9, &join_request("g", &Str::default())).await;
    let ending = broker.broker.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ending.begin_shutdown();
    });
    let answer = broker.ask(9, &join_request("g", &told.member_id)).await;
    assert_eq!(answer.error_code, ErrorCode::NotCoordinator.code());
    broker.stop().await;
}
