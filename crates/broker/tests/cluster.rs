//! What one node answers in a cluster of two. The other node exists in the metadata only: it is registered, it leads, and nobody hears of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

mod common;

use chronik_base::{ErrorCode, Uuid};
use chronik_meta::{Command, Endpoint, Image};
use chronik_protocol::Str;
use chronik_protocol::messages::add_raft_voter::{AddRaftVoterRequest, Listener};
use chronik_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest,
};
use chronik_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use chronik_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use chronik_protocol::messages::describe_cluster::DescribeClusterRequest;
use chronik_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use chronik_protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use chronik_protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData};
use chronik_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use chronik_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use chronik_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest};
use chronik_protocol::messages::heartbeat::HeartbeatRequest;
use chronik_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_protocol::messages::list_groups::ListGroupsRequest;
use chronik_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use chronik_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use chronik_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use chronik_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use chronik_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use chronik_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use chronik_records::{BatchBuilder, BatchOptions};
use chronik_status::{MetadataRole, PromoteRequest};
use common::TestBroker;

/// The other node.
const OTHER: i32 = 2;

/// A broker that the quorum has let another one join which is never heard of; nobody takes it for dead in the time of a test.
async fn start(directory: &std::path::Path) -> TestBroker {
    let settings = [
        ("broker.session.timeout.ms", "600000"),
        ("offsets.topic.num.partitions", "1"),
        ("broker.rack", "west"),
    ];
    let broker = TestBroker::start(directory, &settings).await;
    let endpoint = Endpoint { listener: "kafka".to_owned(), host: "two.example".to_owned(), port: 9092 };
    decide(
        &broker,
        Command::RegisterBroker {
            id: OTHER,
            rack: Some("east".to_owned()),
            endpoints: vec![endpoint],
            incarnation: Uuid([2; 16]),
            directory: Uuid([22; 16]),
        },
    )
    .await;
    let epoch = epoch(&broker);
    decide(&broker, Command::UnfenceBroker { id: OTHER, epoch }).await;
    broker
}

async fn decide(broker: &TestBroker, command: Command) {
    broker.broker.quorum().commit(vec![command]).await.remove(0).unwrap();
}

fn image(broker: &TestBroker) -> std::sync::Arc<Image> {
    broker.broker.quorum().image()
}

fn epoch(broker: &TestBroker) -> i64 {
    image(broker).broker(OTHER).unwrap().epoch
}

async fn fence(broker: &TestBroker) {
    let epoch = epoch(broker);
    decide(broker, Command::FenceBroker { id: OTHER, epoch }).await;
}

async fn create(broker: &TestBroker, name: &str, replicas: &[i32]) -> i16 {
    let topic = CreatableTopic {
        name: Str::from(name),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.to_vec() }],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    broker.ask(7, &request).await.topics[0].error_code
}

async fn metadata(broker: &TestBroker, version: i16) -> MetadataResponse {
    // All topics: in version 0 an empty list says so.
    let topics = if version > 0 { None } else { Some(Vec::new()) };
    broker.ask(version, &MetadataRequest { topics, ..MetadataRequest::default() }).await
}

async fn produce(broker: &TestBroker, version: i16, topic: &str, acks: i16) -> ProduceResponse {
    produce_as(broker, version, topic, acks, BatchOptions::default()).await
}

async fn produce_as(
    broker: &TestBroker,
    version: i16,
    topic: &str,
    acks: i16,
    options: BatchOptions,
) -> ProduceResponse {
    let mut batch = BatchBuilder::new(options);
    for value in 0..3u8 {
        batch.append(1, None, Some(&[value]), &[]).unwrap();
    }
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(batch.finish().unwrap()) }];
    let known = image(broker).topic(topic).unwrap().id;
    let topic_data = TopicProduceData { name: Str::from(topic), topic_id: known, partition_data };
    let request =
        ProduceRequest { acks, timeout_ms: 500, topic_data: vec![topic_data], ..ProduceRequest::default() };
    broker.ask(version, &request).await
}

async fn fetch(
    broker: &TestBroker,
    version: i16,
    topic: &str,
    fetch_offset: i64,
    epoch: i32,
) -> FetchResponse {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset,
        current_leader_epoch: epoch,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic_id = image(broker).topic(topic).unwrap().id;
    let topic = FetchTopic { topic: Str::from(topic), topic_id, partitions: vec![partition] };
    let request =
        FetchRequest { min_bytes: 1, max_wait_ms: 0, topics: vec![topic], ..FetchRequest::default() };
    broker.ask(version, &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_replicas_are_shown_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    assert_eq!(create(&broker, "t", &[OTHER, 1]).await, 0);
    assert_eq!(create(&broker, "u", &[OTHER, 7]).await, ErrorCode::InvalidReplicaAssignment.code());
    let shown = metadata(&broker, 12).await;
    let brokers: Vec<_> =
        shown.brokers.iter().map(|other| (other.node_id, &*other.host, other.rack.as_deref())).collect();
    assert_eq!(brokers, [(1, "127.0.0.1", Some("west")), (2, "two.example", Some("east"))]);
    assert_eq!(shown.controller_id, 1);
    let partition = &shown.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.isr_nodes.as_slice()), (2, &[2, 1][..]));

    fence(&broker).await;
    let shown = metadata(&broker, 12).await;
    assert_eq!(
        shown.brokers.len(),
        2,
        "it was fenced a moment ago: clients still move their partitions away from it"
    );
    let partition = &shown.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch), (1, 1));
    assert_eq!((&*partition.replica_nodes, &*partition.offline_replicas), (&[2, 1][..], &[2][..]));
    let old = metadata(&broker, 0).await.topics.remove(0).partitions.remove(0);
    assert_eq!((old.error_code, &*old.replica_nodes), (ErrorCode::ReplicaNotAvailable.code(), &[1][..]));

    let cluster = broker.ask(2, &DescribeClusterRequest::default()).await;
    assert_eq!(cluster.brokers.len(), 1);
    let fenced = DescribeClusterRequest { include_fenced_brokers: true, ..Default::default() };
    let cluster = broker.ask(2, &fenced).await;
    let brokers: Vec<_> = cluster.brokers.iter().map(|other| (other.broker_id, other.is_fenced)).collect();
    assert_eq!(brokers, [(1, false), (2, true)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_to_the_leader() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    assert_eq!(create(&broker, "t", &[OTHER, 1]).await, 0);
    let not_leader = ErrorCode::NotLeaderOrFollower.code();

    for version in [9, 10, 13] {
        let mut answer = produce(&broker, version, "t", -1).await;
        let partition = answer.responses.remove(0).partition_responses.remove(0);
        assert_eq!(partition.error_code, not_leader);
        let named: Vec<_> =
            answer.node_endpoints.iter().map(|node| (node.node_id, &*node.host, node.port)).collect();
        if version == 9 {
            assert!(named.is_empty());
        } else {
            assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), (2, 0));
            assert_eq!(named, [(2, "two.example", 9092)]);
        }
    }

    // A follower may be read, but only by those who know that they may.
    let partition = |mut answer: FetchResponse| answer.responses.remove(0).partitions.remove(0);
    assert_eq!(partition(fetch(&broker, 10, "t", 0, -1).await).error_code, not_leader);
    let read = partition(fetch(&broker, 11, "t", 0, -1).await);
    assert_eq!((read.error_code, read.high_watermark, read.preferred_read_replica), (0, 0, -1));
    let beyond = partition(fetch(&broker, 16, "t", 5, 0).await);
    assert_eq!(beyond.error_code, ErrorCode::OffsetNotAvailable.code());

    let latest = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: Str::from("t"),
            partitions: vec![ListOffsetsPartition {
                partition_index: 0,
                timestamp: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    assert_eq!(broker.ask(7, &latest).await.topics[0].partitions[0].error_code, not_leader);
    let producers = DescribeProducersRequest {
        topics: vec![TopicRequest { name: Str::from("t"), partition_indexes: vec![0] }],
    };
    assert_eq!(broker.ask(0, &producers).await.topics[0].partitions[0].error_code, not_leader);
    let delete = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Str::from("t"),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }],
        }],
        timeout_ms: 1_000,
    };
    assert_eq!(broker.ask(2, &delete).await.topics[0].partitions[0].error_code, not_leader);

    // It leads from now on; who still believes otherwise is told.
    fence(&broker).await;
    let answer = fetch(&broker, 16, "t", 0, 0).await;
    assert_eq!((answer.node_endpoints[0].node_id, &*answer.node_endpoints[0].host), (1, "127.0.0.1"));
    let fenced = partition(answer);
    assert_eq!(fenced.error_code, ErrorCode::FencedLeaderEpoch.code());
    assert_eq!((fenced.current_leader.leader_id, fenced.current_leader.leader_epoch), (1, 1));
    let unknown = fetch(&broker, 16, "t", 0, 9).await;
    assert!(unknown.node_endpoints.is_empty());
    assert_eq!(partition(unknown).error_code, ErrorCode::UnknownLeaderEpoch.code());
    let beyond = partition(fetch(&broker, 16, "t", 5, 1).await);
    assert_eq!(beyond.error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(produce(&broker, 10, "t", -1).await.responses[0].partition_responses[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_hears_that_the_leader_is_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let broker = std::sync::Arc::new(start(directory.path()).await);
    assert_eq!(create(&broker, "t", &[1, OTHER]).await, 0);
    let waiting = {
        let broker = broker.clone();
        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        let topic =
            FetchTopic { topic: Str::from("t"), partitions: vec![partition], ..FetchTopic::default() };
        let request = FetchRequest {
            min_bytes: 1,
            max_wait_ms: 600_000,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        tokio::spawn(async move { broker.ask(10, &request).await })
    };
    // Whether it waits already or comes later, the answer is the same.
    let id = image(&broker).topic("t").unwrap().id;
    decide(&broker, Command::Reassign { topic: id, partition: 0, target: Some(vec![OTHER, 1]) }).await;
    decide(&broker, Command::ElectLeader { topic: id, partition: 0, unclean: false }).await;
    let partition = waiting.await.unwrap().responses.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower.code());
    std::sync::Arc::into_inner(broker).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_sent_to_their_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    assert_eq!(create(&broker, "__consumer_offsets", &[OTHER]).await, 0);
    let find = async || -> Coordinator {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![Str::from("g")],
            ..FindCoordinatorRequest::default()
        };
        broker.ask(4, &request).await.coordinators.remove(0)
    };
    let found = find().await;
    assert_eq!((found.error_code, found.node_id, &*found.host, found.port), (0, 2, "two.example", 9092));
    let heartbeat = HeartbeatRequest { group_id: Str::from("g"), ..HeartbeatRequest::default() };
    assert_eq!(broker.ask(4, &heartbeat).await.error_code, ErrorCode::NotCoordinator.code());
    let listed = broker.ask(4, &ListGroupsRequest::default()).await;
    assert_eq!((listed.error_code, listed.groups.len()), (0, 0));
    fence(&broker).await;
    let found = find().await;
    assert_eq!((found.error_code, found.node_id), (ErrorCode::CoordinatorNotAvailable.code(), -1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_and_leaders_are_elected() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    assert_eq!(create(&broker, "t", &[1]).await, 0);
    let reassign = async |replicas: Option<Vec<i32>>, may_resize| {
        let request = AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: may_resize,
            topics: vec![ReassignableTopic {
                name: Str::from("t"),
                partitions: vec![ReassignablePartition { partition_index: 0, replicas }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        broker.ask(1, &request).await.responses[0].partitions[0].error_code
    };
    let listed = async || {
        let all = ListPartitionReassignmentsRequest { topics: None, ..Default::default() };
        let mut topics = broker.ask(0, &all).await.topics;
        let topic = topics.pop()?;
        let partition = topic.partitions.into_iter().next()?;
        Some((partition.replicas, partition.adding_replicas, partition.removing_replicas))
    };
    assert_eq!(reassign(None, true).await, ErrorCode::NoReassignmentInProgress.code());
    assert_eq!(reassign(Some(vec![1, 2]), false).await, ErrorCode::InvalidReplicationFactor.code());
    assert_eq!(reassign(Some(vec![2]), false).await, 0);
    assert_eq!(listed().await, Some((vec![2, 1], vec![2], vec![1])));
    assert_eq!(reassign(None, true).await, 0);
    assert_eq!(listed().await, None);

    assert_eq!(create(&broker, "e", &[1, OTHER]).await, 0);
    let elect = async |election_type| {
        let topic_partitions = Some(vec![TopicPartitions { topic: Str::from("e"), partitions: vec![0] }]);
        let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 60_000 };
        let mut results = broker.ask(2, &request).await.replica_election_results;
        results.remove(0).partition_result.remove(0).error_code
    };
    assert_eq!(elect(0).await, ErrorCode::ElectionNotNeeded.code());
    let id = image(&broker).topic("e").unwrap().id;
    decide(&broker, Command::Reassign { topic: id, partition: 0, target: Some(vec![OTHER, 1]) }).await;
    assert_eq!(image(&broker).partition("e", 0).unwrap().leader, 1);
    assert_eq!(elect(0).await, 0);
    assert_eq!(image(&broker).partition("e", 0).unwrap().leader, OTHER);
    assert_eq!(elect(1).await, ErrorCode::ElectionNotNeeded.code());
    // Without a list: what needs no election is left out.
    let all = ElectLeadersRequest { election_type: 0, topic_partitions: None, timeout_ms: 60_000 };
    assert!(broker.ask(2, &all).await.replica_election_results.is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_is_forgotten_once_it_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    let unregister = async |broker_id| broker.ask(0, &UnregisterBrokerRequest { broker_id }).await.error_code;
    assert_eq!(unregister(9).await, ErrorCode::BrokerIdNotRegistered.code());
    assert_eq!(create(&broker, "t", &[OTHER]).await, 0);
    assert_eq!(unregister(OTHER).await, ErrorCode::InvalidRequest.code());
    let topics = vec![DeleteTopicState { name: Some(Str::from("t")), topic_id: Uuid::ZERO }];
    let delete = DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() };
    assert_eq!(broker.ask(6, &delete).await.responses[0].error_code, 0);
    assert_eq!(unregister(OTHER).await, 0);
    assert!(image(&broker).broker(OTHER).is_none());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_another_node_are_altered_here_and_told_there() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    let alter = async |name: &str| {
        let config = AlterableConfig {
            name: Str::from("log.retention.ms"),
            config_operation: 0,
            value: Some(Str::from("77")),
        };
        let resource =
            AlterConfigsResource { resource_type: 4, resource_name: Str::from(name), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        broker.ask(1, &request).await.responses[0].error_code
    };
    assert_eq!(alter("2").await, 0);
    assert_eq!(
        image(&broker).broker_configs(OTHER).unwrap().get("log.retention.ms").map(String::as_str),
        Some("77")
    );
    assert_eq!(alter("3").await, ErrorCode::InvalidRequest.code());
    let resource =
        DescribeConfigsResource { resource_type: 4, resource_name: Str::from("2"), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    assert_eq!(broker.ask(4, &request).await.results[0].error_code, ErrorCode::InvalidRequest.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_described_and_stays_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    let partition = |partition_index| PartitionData { partition_index };
    let topic = |name: &str, partitions| TopicData { topic_name: Str::from(name), partitions };
    let request = DescribeQuorumRequest {
        topics: vec![
            topic("__cluster_metadata", vec![partition(0), partition(1)]),
            topic("t", vec![partition(0)]),
        ],
    };
    let answer = broker.ask(2, &request).await;
    let quorum = &answer.topics[0].partitions[0];
    assert_eq!((answer.error_code, quorum.error_code, quorum.leader_id), (0, 0, 1));
    let voter = &quorum.current_voters[0];
    let offset = i64::try_from(image(&broker).offset()).unwrap();
    assert_eq!((voter.replica_id, voter.replica_directory_id), (1, Uuid([7; 16])));
    assert_eq!((voter.log_end_offset, quorum.high_watermark), (offset, offset));
    assert!(voter.last_caught_up_timestamp > 0);
    assert_eq!((quorum.current_voters.len(), quorum.observers.len()), (1, 0));
    assert_eq!((answer.nodes[0].node_id, &*answer.nodes[0].listeners[0].name), (1, "INTERNAL"));
    for unknown in [&answer.topics[0].partitions[1], &answer.topics[1].partitions[0]] {
        assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.code());
    }

    let add = async |voter_id, cluster: Option<&str>| {
        let listener = Listener { name: Str::from("INTERNAL"), host: Str::from("two.example"), port: 9092 };
        let request = AddRaftVoterRequest {
            cluster_id: cluster.map(Str::from),
            voter_id,
            listeners: vec![listener],
            timeout_ms: 1_000,
            ..AddRaftVoterRequest::default()
        };
        broker.ask(1, &request).await
    };
    assert_eq!(add(2, Some("another")).await.error_code, ErrorCode::InconsistentClusterId.code());
    assert_eq!(add(1, None).await.error_code, ErrorCode::DuplicateVoter.code());
    let refused = add(2, None).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    let message = refused.error_message.unwrap_or_default();
    assert!(message.contains("raft-cluster"), "{message}");
    let remove = async |voter_id, voter_directory_id| {
        let request = RemoveRaftVoterRequest { cluster_id: None, voter_id, voter_directory_id };
        broker.ask(0, &request).await.error_code
    };
    assert_eq!(remove(2, Uuid::ZERO).await, ErrorCode::VoterNotFound.code());
    assert_eq!(remove(1, Uuid([9; 16])).await, ErrorCode::VoterNotFound.code());
    assert_eq!(remove(1, Uuid([7; 16])).await, ErrorCode::InvalidRequest.code());
    broker.stop().await;
}

/// Sends the three records with these sequence numbers to the topic `a`, as an idempotent producer.
async fn send(broker: &TestBroker, base_sequence: i32) -> (ErrorCode, i64) {
    let options =
        BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence, ..BatchOptions::default() };
    let answer = produce_as(broker, 9, "a", -1, options).await;
    let partition = &answer.responses[0].partition_responses[0];
    (ErrorCode::from_code(partition.error_code).unwrap(), partition.base_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_idempotent_producer_sent_before_this_node_led_does_not_seem_out_of_order_after() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    create(&broker, "a", &[OTHER, 1]).await;
    // Three batches in flight; the leadership comes between the second and the third.
    assert_eq!(send(&broker, 0).await.0, ErrorCode::NotLeaderOrFollower);
    assert_eq!(send(&broker, 3).await.0, ErrorCode::NotLeaderOrFollower);
    fence(&broker).await;
    assert_eq!(send(&broker, 6).await.0, ErrorCode::NotLeaderOrFollower);
    for (sequence, offset) in [(0, 0), (3, 3), (6, 6)] {
        assert_eq!(send(&broker, sequence).await, (ErrorCode::None, offset));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_waits_for_what_a_producer_sent_to_the_leader_before() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    create(&broker, "a", &[OTHER, 1]).await;
    fence(&broker).await;
    // The first batch is under way to the other node still, when the second one finds the new leader.
    assert_eq!(send(&broker, 3).await.0, ErrorCode::NotLeaderOrFollower);
    for (sequence, offset) in [(0, 0), (3, 3)] {
        assert_eq!(send(&broker, sequence).await, (ErrorCode::None, offset));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_lag_and_metrics_tell_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path()).await;
    assert_eq!(create(&broker, "t", &[1, OTHER]).await, 0);
    assert_eq!(create(&broker, "gone", &[OTHER]).await, 0);
    assert_eq!(produce(&broker, 9, "t", 1).await.responses[0].partition_responses[0].error_code, 0);

    let lag = broker.broker.lag_report(Some("t"), false, 10);
    assert_eq!((lag.node_id, lag.leads, lag.partitions.len()), (1, 1, 1));
    let follower = &lag.partitions[0].followers[0];
    assert_eq!((follower.id, follower.in_sync, follower.lag_records), (2, true, 3));
    assert_eq!((follower.cause.as_deref(), follower.acked_offset), (Some("not subscribed"), None));
    assert!(follower.lag_bytes > 0);
    assert_eq!((lag.followers[0].id, lag.followers[0].lag_records), (2, 3));
    let cut = broker.broker.lag_report(None, true, 0);
    assert_eq!((cut.partitions.len(), cut.partitions_left_out), (0, 1));

    let status = broker.broker.cluster_status();
    assert_eq!((status.metadata.leader, status.metadata.role), (Some(1), MetadataRole::Leader));
    assert_eq!((status.totals.partitions, status.totals.offline, status.problems.len()), (2, 0, 0));
    let names: Vec<_> =
        status.brokers.iter().map(|other| (other.id, other.leaders, other.replicas)).collect();
    assert_eq!(names, [(1, 1, 1), (2, 1, 2)]);
    assert_eq!(status.brokers[1].address, "two.example:9092");

    fence(&broker).await;
    let status = broker.broker.cluster_status();
    assert_eq!((status.totals.offline, status.totals.under_replicated), (1, 1));
    assert_eq!(status.partitions[0].name(), "gone-0");
    assert!(status.problems[0].what.contains("gone-0"), "{:?}", status.problems);
    let refused = broker.broker.promote(PromoteRequest::default()).await.unwrap_err();
    assert_eq!(refused.error, "this node is the voter already");

    let mut page = chronik_metrics::Page::new();
    broker.broker.write_metrics(&mut page);
    let page = page.finish();
    for line in [
        "chronik_offline_partitions 1",
        "chronik_under_replicated_partitions 1",
        "chronik_follower_lag_records{topic=\"t\",partition=\"0\",follower=\"2\"} 3",
        "chronik_partition_in_sync_replicas{topic=\"t\",partition=\"0\"} 1",
        "chronik_brokers{state=\"fenced\"} 1",
        "chronik_metadata_leads 1",
        "chronik_isr_shrinks_total 1",
        "chronik_cluster_unclean_leader_elections_total 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1);
    broker.stop().await;
}
