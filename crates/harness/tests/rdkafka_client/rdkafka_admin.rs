//! Admin calls.

use crate::chronik::bootstrap;
use crate::clients::*;
use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::FutureRecord;
use rdkafka::{Message, Offset};
use std::time::{Duration, Instant};

/// The value of one setting; `None` when it is not named or has no value.
async fn setting(resource: ResourceSpecifier<'_>, name: &str) -> Option<String> {
    let described = admin().describe_configs([&resource], &options()).await.unwrap();
    described[0].as_ref().unwrap().get(name).and_then(|entry| entry.value.clone())
}

fn partitions(topic: &str) -> usize {
    admin().inner().fetch_metadata(Some(topic), LONG).unwrap().topics()[0].partitions().len()
}

fn is_listed(topic: &str) -> bool {
    let metadata = admin().inner().fetch_metadata(None, LONG).unwrap();
    metadata.topics().iter().any(|found| found.name() == topic)
}

/// Waits until `holds`.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "not within {LONG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn create_topics() {
    let topic = create("created", 4, &[("retention.ms", "1000")]).await;
    let metadata = admin().inner().fetch_metadata(Some(&topic), LONG).unwrap();
    let found = metadata.topics()[0].partitions();
    assert_eq!(found.iter().map(|partition| partition.id()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(found.iter().all(|partition| partition.replicas() == [partition.leader()]));
    assert_eq!(setting(ResourceSpecifier::Topic(&topic), "retention.ms").await.as_deref(), Some("1000"));
}

#[tokio::test]
async fn create_topics_only_to_validate() {
    let topic = unique("validated");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let results = admin().create_topics([&new], &options().validate_only(true)).await.unwrap();
    assert_eq!(results, [Ok(topic.clone())]);
    assert!(!is_listed(&topic));
}

#[tokio::test]
async fn describe_and_alter_configs() {
    let topic = create("configured", 1, &[("segment.bytes", "2000000")]).await;
    let resource = ResourceSpecifier::Topic(&topic);
    assert_eq!(setting(resource, "cleanup.policy").await.as_deref(), Some("delete"));
    assert_eq!(setting(resource, "segment.bytes").await.as_deref(), Some("2000000"));
    let change = AlterConfig::new(resource).set("retention.ms", "5000");
    admin().alter_configs([&change], &options()).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(setting(resource, "retention.ms").await.as_deref(), Some("5000"));
    // AlterConfigs names all that is set; what it leaves out has its default again.
    assert_ne!(setting(resource, "segment.bytes").await.as_deref(), Some("2000000"));
}

#[tokio::test]
async fn describe_the_broker_and_its_configs() {
    let metadata = admin().inner().fetch_metadata(None, LONG).unwrap();
    let broker = &metadata.brokers()[0];
    assert_eq!(format!("{}:{}", broker.host(), broker.port()), bootstrap());
    for name in ["log.retention.ms", "min.insync.replicas"] {
        let described = admin().describe_configs([&ResourceSpecifier::Broker(broker.id())], &options()).await;
        assert!(described.unwrap()[0].as_ref().unwrap().get(name).is_some(), "{name} is named");
    }
    assert!(admin().inner().fetch_cluster_id(LONG).is_some_and(|id| !id.is_empty()));
}

#[tokio::test]
async fn create_partitions() {
    let topic = create("grown", 1, &[]).await;
    let grow = async |to| {
        admin().create_partitions(&[NewPartitions::new(&topic, to)], &options()).await.unwrap().remove(0)
    };
    assert_eq!(grow(3).await, Ok(topic.clone()));
    assert_eq!(partitions(&topic), 3);
    assert_eq!(grow(2).await, Err((topic.clone(), RDKafkaErrorCode::InvalidPartitions)));
    let record = FutureRecord::<(), _>::to(&topic).payload("v").partition(2);
    assert_eq!(producer(&[]).send(record, LONG).await.unwrap().offset, 0);
}

#[tokio::test]
async fn delete_records() {
    let topic = create("shortened", 1, &[]).await;
    produce(&producer(&[]), &topic, &numbered(0..10)).await.unwrap();
    let delete = async |offset| {
        let deleted = admin().delete_records(&list(&topic, &[(0, offset)]), &options()).await.unwrap();
        let place = &deleted.elements()[0];
        place.error().unwrap();
        place.offset()
    };
    assert_eq!(delete(Offset::Offset(4)).await, Offset::Offset(4));
    assert_eq!(consumer("unused", &[]).fetch_watermarks(&topic, 0, LONG).unwrap(), (4, 10));
    let found = read(&assigned(&topic, &[(0, Offset::Beginning)], &[]), 6).await;
    assert_eq!(payloads(&found), numbered(4..10));
    assert_eq!(found[0].offset(), 4);
    assert_eq!(delete(Offset::End).await, Offset::Offset(10));
    assert_eq!(consumer("unused", &[]).fetch_watermarks(&topic, 0, LONG).unwrap(), (10, 10));
}

#[tokio::test]
async fn list_describe_and_delete_groups() {
    let topic = create("grouped", 1, &[]).await;
    produce(&producer(&[]), &topic, &numbered(0..5)).await.unwrap();
    let member = consumer(&topic, &[("client.id", "the-member"), ("partition.assignment.strategy", "range")]);
    member.subscribe(&[&topic]).unwrap();
    read(&member, 5).await;
    member.commit_consumer_state(CommitMode::Sync).unwrap();

    let asker = consumer("unused", &[]);
    let state = || asker.fetch_group_list(Some(&topic), LONG).unwrap().groups()[0].state().to_owned();
    let described = asker.fetch_group_list(Some(&topic), LONG).unwrap();
    let group = &described.groups()[0];
    assert_eq!((group.state(), group.protocol_type(), group.protocol()), ("Stable", "consumer", "range"));
    assert_eq!(group.members().len(), 1);
    assert_eq!(group.members()[0].client_id(), "the-member");
    assert!(group.members()[0].assignment().is_some_and(|assigned| !assigned.is_empty()));

    let delete = async || admin().delete_groups(&[&topic], &options()).await.unwrap().remove(0);
    assert_eq!(delete().await, Err((topic.clone(), RDKafkaErrorCode::NonEmptyGroup)));
    drop(member);
    eventually("the group is empty", || state() == "Empty").await;
    let listed = asker.fetch_group_list(None, LONG).unwrap();
    assert!(listed.groups().iter().any(|group| group.name() == topic), "the empty group is listed");
    assert_eq!(delete().await, Ok(topic.clone()));
    assert_eq!(delete().await, Err((topic.clone(), RDKafkaErrorCode::GroupIdNotFound)));
    let listed = asker.fetch_group_list(None, LONG).unwrap();
    assert!(listed.groups().iter().all(|group| group.name() != topic), "the deleted group is still listed");
}

#[tokio::test]
async fn delete_topics() {
    let topic = create("deleted", 1, &[]).await;
    produce(&producer(&[]), &topic, &numbered(0..3)).await.unwrap();
    let delete = async || admin().delete_topics(&[&topic], &options()).await.unwrap().remove(0);
    assert_eq!(delete().await, Ok(topic.clone()));
    eventually("the topic is gone", || !is_listed(&topic)).await;
    assert_eq!(delete().await, Err((topic.clone(), RDKafkaErrorCode::UnknownTopicOrPartition)));
    // A topic of the same name begins anew.
    let again = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    assert_eq!(create_error(&again).await, None);
    let delivered = produce(&producer(&[]), &topic, &numbered(0..1)).await.unwrap();
    assert_eq!(offsets(&delivered), [0]);
}
