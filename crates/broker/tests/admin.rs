//! The administration of a lone node, as admin clients do it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

mod common;

use chronik_base::ErrorCode;
use chronik_protocol::Str;
use chronik_protocol::messages::alter_configs::AlterConfigsRequest;
use chronik_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use chronik_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use chronik_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use chronik_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use chronik_protocol::messages::describe_cluster::DescribeClusterRequest;
use chronik_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResult,
};
use chronik_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use chronik_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use chronik_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_protocol::messages::init_producer_id::InitProducerIdRequest;
use chronik_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use chronik_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use common::TestBroker;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic {
        name: Str::from(name),
        num_partitions: partitions,
        replication_factor: -1,
        ..Default::default()
    }
}

fn with_config(name: &str, config: &str, value: &str) -> CreatableTopic {
    let configs = vec![CreatableTopicConfig { name: Str::from(config), value: Some(Str::from(value)) }];
    CreatableTopic { configs, ..topic(name, 1) }
}

async fn create(
    broker: &TestBroker,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest { topics, validate_only, ..Default::default() };
    broker.ask(7, &request).await.topics
}

async fn describe(broker: &TestBroker, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: Str::from(name),
        configuration_keys: None,
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    broker.ask(4, &request).await.results.remove(0)
}

fn value(result: &DescribeConfigsResult, name: &str) -> (String, i8) {
    let config = result.configs.iter().find(|config| *config.name == *name).unwrap();
    (config.value.clone().unwrap_or_default().to_string(), config.config_source)
}

async fn alter(
    broker: &TestBroker,
    kind: i8,
    name: &str,
    config: &str,
    op: i8,
    value: Option<&str>,
) -> (i16, String) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: Str::from(name),
            configs: vec![AlterableConfig {
                name: Str::from(config),
                config_operation: op,
                value: value.map(Str::from),
            }],
        }],
        validate_only: false,
    };
    let response = broker.ask(1, &request).await.responses.remove(0);
    (response.error_code, response.error_message.unwrap_or_default().to_string())
}

async fn names(broker: &TestBroker) -> Vec<String> {
    let request =
        chronik_protocol::messages::metadata::MetadataRequest { topics: None, ..Default::default() };
    let topics = broker.ask(12, &request).await.topics;
    topics.into_iter().map(|topic| topic.name.unwrap().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_described_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[("num-partitions", "3")]).await;
    let tried = create(&broker, vec![topic("only-tried", 2)], true).await;
    assert_eq!((tried[0].error_code, tried[0].num_partitions), (0, 2));
    assert!(names(&broker).await.is_empty());

    let made = create(
        &broker,
        vec![
            topic("one", -1),
            with_config("two", "cleanup.policy", "compact"),
            topic("bad name", 1),
            topic("none", 0),
            CreatableTopic { replication_factor: 3, ..topic("many-replicas", 1) },
            with_config("bad-config", "retention.ms", "soon"),
            topic("twice", 1),
            topic("twice", 1),
        ],
        false,
    )
    .await;
    let codes: Vec<_> = made.iter().map(|topic| (&*topic.name, topic.error_code)).collect();
    assert_eq!(
        codes,
        [
            ("one", 0),
            ("two", 0),
            ("bad name", ErrorCode::InvalidTopicException.code()),
            ("none", ErrorCode::InvalidPartitions.code()),
            ("many-replicas", ErrorCode::InvalidReplicationFactor.code()),
            ("bad-config", ErrorCode::InvalidConfig.code()),
            ("twice", ErrorCode::InvalidRequest.code()),
        ]
    );
    assert_eq!((made[0].num_partitions, made[0].replication_factor), (3, 1));
    assert_eq!(made[0].error_message, None);
    assert!(!made[0].topic_id.is_zero());
    let policy =
        made[1].configs.as_ref().unwrap().iter().find(|config| *config.name == *"cleanup.policy").unwrap();
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
    let again = create(&broker, vec![topic("one", 1)], false).await;
    assert_eq!(again[0].error_message.as_deref(), Some("Topic 'one' already exists."));

    let request = DeleteTopicsRequest {
        topics: vec![
            DeleteTopicState { name: Some(Str::from("one")), ..Default::default() },
            DeleteTopicState { name: None, topic_id: made[1].topic_id },
            DeleteTopicState { name: Some(Str::from("nowhere")), ..Default::default() },
        ],
        ..Default::default()
    };
    let deleted = broker.ask(6, &request).await.responses;
    assert_eq!(deleted.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [0, 0, 3]);
    assert_eq!(deleted[1].name.as_deref(), Some("two"));
    assert!(names(&broker).await.is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[]).await;
    let made =
        create(&broker, vec![with_config("kept", "retention.ms", "5000"), topic("gone", 2)], false).await;
    let request = DeleteTopicsRequest { topic_names: vec![Str::from("gone")], ..Default::default() };
    assert_eq!(broker.ask(5, &request).await.responses[0].error_code, 0);
    let (code, _) = alter(&broker, BROKER, "", "num.partitions", 0, Some("9")).await;
    assert_eq!(code, 0);
    let cluster = broker.ask(0, &DescribeClusterRequest::default()).await;
    broker.stop().await;

    let broker = TestBroker::start(directory.path(), &[]).await;
    assert_eq!(names(&broker).await, ["kept"]);
    assert_eq!(broker.ask(0, &DescribeClusterRequest::default()).await.cluster_id, cluster.cluster_id);
    assert_eq!(value(&describe(&broker, TOPIC, "kept").await, "retention.ms"), ("5000".to_owned(), 1));
    let more = create(&broker, vec![topic("later", -1)], false).await;
    assert_eq!(more[0].num_partitions, 9);
    assert_ne!(more[0].topic_id, made[0].topic_id);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[("max-partitions-per-node", "20")]).await;
    let assigned = |name: &str, assignments: &[(i32, &[i32])]| CreatableTopic {
        assignments: assignments
            .iter()
            .map(|(index, brokers)| CreatableReplicaAssignment {
                partition_index: *index,
                broker_ids: brokers.to_vec(),
            })
            .collect(),
        ..topic(name, -1)
    };
    let made = create(
        &broker,
        vec![
            assigned("ok", &[(1, &[1]), (0, &[1])]),
            assigned("gap", &[(0, &[1]), (2, &[1])]),
            assigned("unknown", &[(0, &[5])]),
            CreatableTopic { num_partitions: 1, ..assigned("both", &[(0, &[1])]) },
            topic("too-many", 19),
        ],
        false,
    )
    .await;
    let invalid = ErrorCode::InvalidReplicaAssignment.code();
    let codes: Vec<_> = made.iter().map(|topic| topic.error_code).collect();
    assert_eq!(
        codes,
        [0, invalid, invalid, ErrorCode::InvalidRequest.code(), ErrorCode::PolicyViolation.code()]
    );

    let grow = |count, assignments: Option<Vec<i32>>| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: Str::from("ok"),
            count,
            assignments: assignments.map(|lists| {
                lists.into_iter().map(|id| CreatePartitionsAssignment { broker_ids: vec![id] }).collect()
            }),
        }],
        ..Default::default()
    };
    for (request, code) in [
        (grow(2, None), ErrorCode::InvalidPartitions),
        (grow(1, None), ErrorCode::InvalidPartitions),
        (grow(4, Some(vec![1])), ErrorCode::InvalidReplicaAssignment),
        (grow(3, Some(vec![8])), ErrorCode::InvalidReplicaAssignment),
        (grow(3, Some(vec![1])), ErrorCode::None),
        (grow(5, None), ErrorCode::None),
        (grow(21, None), ErrorCode::PolicyViolation),
    ] {
        let result = broker.ask(3, &request).await.results.remove(0);
        assert_eq!(result.error_code, code.code(), "{request:?}: {:?}", result.error_message);
    }
    let logs = broker.ask(4, &DescribeLogDirsRequest { topics: None }).await.results.remove(0);
    assert_eq!(logs.topics[0].partitions.len(), 5);
    assert_eq!(&*logs.log_dir, directory.path().to_str().unwrap());
    assert!(logs.total_bytes > 0 && logs.usable_bytes > 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_altered() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[("log-retention-minutes", "5")]).await;
    create(&broker, vec![topic("t", 1)], false).await;
    let described = describe(&broker, TOPIC, "t").await;
    assert_eq!(value(&described, "retention.ms"), ("300000".to_owned(), 4));
    assert_eq!(value(&described, "segment.bytes"), ("1073741824".to_owned(), 5));

    assert_eq!(alter(&broker, TOPIC, "t", "retention.ms", 0, Some("7")).await.0, 0);
    assert_eq!(alter(&broker, TOPIC, "t", "cleanup.policy", 2, Some("compact")).await.0, 0);
    let described = describe(&broker, TOPIC, "t").await;
    assert_eq!(value(&described, "retention.ms"), ("7".to_owned(), 1));
    assert_eq!(value(&described, "cleanup.policy"), ("delete,compact".to_owned(), 1));
    assert_eq!(alter(&broker, TOPIC, "t", "retention.ms", 1, None).await.0, 0);
    assert_eq!(value(&describe(&broker, TOPIC, "t").await, "retention.ms"), ("300000".to_owned(), 4));

    let (code, message) = alter(&broker, TOPIC, "t", "retention.ms", 0, Some("-7")).await;
    assert_eq!(code, ErrorCode::InvalidConfig.code());
    assert_eq!(message, "Invalid value -7 for configuration retention.ms: Value must be at least -1");
    let (code, message) = alter(&broker, TOPIC, "t", "no.such", 0, Some("1")).await;
    assert_eq!((code, &*message), (ErrorCode::InvalidConfig.code(), "Unknown topic config name: no.such"));
    assert_eq!(alter(&broker, TOPIC, "nowhere", "retention.ms", 0, Some("1")).await.0, 3);
    assert_eq!(
        alter(&broker, TOPIC, "t", "retention.ms", 9, Some("1")).await.0,
        ErrorCode::InvalidRequest.code()
    );

    // The node's default, for all nodes and for this one, reaches the topic.
    assert_eq!(alter(&broker, BROKER, "", "log.retention.ms", 0, Some("11")).await.0, 0);
    assert_eq!(value(&describe(&broker, TOPIC, "t").await, "retention.ms"), ("11".to_owned(), 3));
    assert_eq!(alter(&broker, BROKER, "1", "log.retention.ms", 0, Some("12")).await.0, 0);
    assert_eq!(value(&describe(&broker, TOPIC, "t").await, "retention.ms"), ("12".to_owned(), 2));
    assert_eq!(describe(&broker, BROKER, "").await.configs.len(), 1);
    let node = describe(&broker, BROKER, "1").await;
    assert_eq!(value(&node, "log.retention.ms"), ("12".to_owned(), 2));
    assert!(node.configs.iter().find(|config| *config.name == *"listen").unwrap().read_only);
    let (code, message) = alter(&broker, BROKER, "1", "listen", 0, Some("x")).await;
    assert_eq!(code, ErrorCode::InvalidRequest.code());
    assert!(message.contains("Cannot update these configs dynamically"), "{message}");
    assert_eq!(describe(&broker, BROKER, "5").await.error_code, ErrorCode::InvalidRequest.code());

    // The old API sets all at once: what it leaves out goes back to the default.
    let request = AlterConfigsRequest {
        resources: vec![chronik_protocol::messages::alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::from("t"),
            configs: vec![chronik_protocol::messages::alter_configs::AlterableConfig {
                name: Str::from("segment.bytes"),
                value: Some(Str::from("1048576")),
            }],
        }],
        validate_only: false,
    };
    assert_eq!(broker.ask(2, &request).await.responses[0].error_code, 0);
    let described = describe(&broker, TOPIC, "t").await;
    assert_eq!(value(&described, "cleanup.policy"), ("delete".to_owned(), 5));
    assert_eq!(value(&described, "segment.bytes"), ("1048576".to_owned(), 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_get_ids_that_nobody_had() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let idempotent = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    for _ in 0..2 {
        let broker = TestBroker::start(directory.path(), &[]).await;
        for _ in 0..1100 {
            let response = broker.ask(4, &idempotent).await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(seen.insert(response.producer_id));
        }
        let transactional =
            InitProducerIdRequest { transactional_id: Some(Str::from("tx")), ..Default::default() };
        assert_ne!(broker.ask(4, &transactional).await.error_code, 0);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_an_empty_partition() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[]).await;
    create(&broker, vec![topic("t", 1), with_config("compacted", "cleanup.policy", "compact")], false).await;
    let delete = |name: &str, offset| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Str::from(name),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
        }],
        timeout_ms: 1000,
    };
    for (name, offset, code, low) in [
        ("t", -1, 0, 0),
        ("t", 0, 0, 0),
        ("t", 1, ErrorCode::OffsetOutOfRange.code(), -1),
        ("compacted", -1, ErrorCode::PolicyViolation.code(), -1),
        ("nowhere", -1, 3, -1),
    ] {
        let partition = broker.ask(2, &delete(name, offset)).await.topics.remove(0).partitions.remove(0);
        assert_eq!((partition.error_code, partition.low_watermark), (code, low), "{name} {offset}");
    }
    let epoch = |leader_epoch| OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: Str::from("t"),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: -1,
                leader_epoch,
            }],
        }],
        ..Default::default()
    };
    for (asked, answered) in [(0, (0, 0)), (1, (-1, -1)), (-1, (-1, -1))] {
        let partition = broker.ask(4, &epoch(asked)).await.topics.remove(0).partitions.remove(0);
        assert_eq!((partition.leader_epoch, partition.end_offset), answered, "{asked}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_describes_itself() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[("broker-rack", "west")]).await;
    let response = broker.ask(2, &DescribeClusterRequest::default()).await;
    assert_eq!((response.error_code, response.controller_id, response.cluster_id.len()), (0, 1, 22));
    assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("127.0.0.1", 9092));
    assert_eq!(response.brokers[0].rack.as_deref(), Some("west"));
    let controllers = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
    assert_eq!(broker.ask(2, &controllers).await.error_code, ErrorCode::MismatchedEndpointType.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_on_a_lone_node() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(directory.path(), &[]).await;
    create(&broker, vec![topic("t", 2)], false).await;
    let elect = |election_type, partitions: &[i32]| ElectLeadersRequest {
        election_type,
        topic_partitions: Some(vec![TopicPartitions {
            topic: Str::from("t"),
            partitions: partitions.to_vec(),
        }]),
        timeout_ms: 1000,
    };
    let codes = |response: chronik_protocol::messages::elect_leaders::ElectLeadersResponse| {
        let results = response.replica_election_results;
        let partitions = results.iter().flat_map(|result| &result.partition_result);
        partitions.map(|partition| partition.error_code).collect::<Vec<_>>()
    };
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    assert_eq!(codes(broker.ask(2, &elect(0, &[0, 1, 2])).await), [not_needed, not_needed, 3]);
    assert_eq!(codes(broker.ask(1, &elect(1, &[0])).await), [not_needed]);
    assert_eq!(broker.ask(2, &elect(7, &[0])).await.error_code, ErrorCode::InvalidRequest.code());

    let moved = |replicas: Option<Vec<i32>>| AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: Str::from("t"),
            partitions: vec![ReassignablePartition { partition_index: 0, replicas }],
        }],
        ..Default::default()
    };
    for (replicas, code) in [
        (Some(vec![1]), ErrorCode::None),
        (Some(vec![2]), ErrorCode::InvalidReplicaAssignment),
        (Some(vec![]), ErrorCode::InvalidReplicaAssignment),
        (None, ErrorCode::NoReassignmentInProgress),
    ] {
        let response = broker.ask(0, &moved(replicas)).await;
        assert_eq!(response.responses[0].partitions[0].error_code, code.code());
    }
    let all = ListPartitionReassignmentsRequest { topics: None, ..Default::default() };
    assert!(broker.ask(0, &all).await.topics.is_empty());
    broker.stop().await;
}
