//! What is wrong gets the error that says so, and what comes after it goes on.

use crate::clients::*;
use rdkafka::Offset;
use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureRecord;
use tokio::time::timeout;

#[tokio::test]
async fn unknown_topics_and_partitions() {
    let unknown = unique("unknown");
    let reader = consumer(&unknown, &[("allow.auto.create.topics", "false")]);
    reader.subscribe(&[&unknown]).unwrap();
    let error = timeout(LONG, reader.recv()).await.unwrap().unwrap_err();
    assert_eq!(error, KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition));

    let code = RDKafkaErrorCode::UnknownTopicOrPartition;
    let admin = admin();
    let grown = admin.create_partitions(&[NewPartitions::new(&unknown, 3)], &options()).await.unwrap();
    assert_eq!(grown, [Err((unknown.clone(), code))]);
    let described = admin.describe_configs([&ResourceSpecifier::Topic(&unknown)], &options()).await.unwrap();
    // This crate keeps no error of a single resource; one that has none has entries.
    assert_eq!(described[0].as_ref().unwrap().entries, []);

    let topic = create("known", 1, &[]).await;
    let record = FutureRecord::<(), _>::to(&topic).payload("v").partition(77);
    let (error, _) = producer(&[]).send(record, LONG).await.unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownPartition));
}

#[tokio::test]
async fn too_large_a_record() {
    let topic = create("too-large", 1, &[("max.message.bytes", "10000")]).await;
    let producer = producer(&[]);
    produce(&producer, &topic, &[noise(9_000, 1)]).await.unwrap();
    let error = produce(&producer, &topic, &[noise(20_000, 2)]).await.unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    let delivered = produce(&producer, &topic, &numbered(0..1)).await.unwrap();
    assert_eq!(offsets(&delivered), [1]);
}

#[tokio::test]
async fn topics_that_cannot_be() {
    let topic = unique("refused");
    let refused = async |name: &str, partitions, replicas| {
        create_error(&NewTopic::new(name, partitions, TopicReplication::Fixed(replicas))).await
    };
    for name in ["a b", "..", "x".repeat(250).as_str()] {
        assert_eq!(refused(name, 1, 1).await, Some(RDKafkaErrorCode::InvalidTopic), "{name}");
    }
    assert_eq!(refused(&topic, 0, 1).await, Some(RDKafkaErrorCode::InvalidPartitions));
    assert_eq!(refused(&topic, 1, 99).await, Some(RDKafkaErrorCode::InvalidReplicationFactor));
    let there = create("there", 1, &[]).await;
    assert_eq!(refused(&there, 1, 1).await, Some(RDKafkaErrorCode::TopicAlreadyExists));
}

#[tokio::test]
async fn settings_that_cannot_be() {
    let refused = unique("refused");
    for (key, value) in [("no.such.setting", "1"), ("retention.ms", "soon"), ("max.message.bytes", "-5")] {
        let new = NewTopic::new(&refused, 1, TopicReplication::Fixed(1)).set(key, value);
        assert_eq!(create_error(&new).await, Some(RDKafkaErrorCode::InvalidConfig), "{key}={value}");
    }
    let topic = create("settings", 1, &[("retention.ms", "1000")]).await;
    let resource = ResourceSpecifier::Topic(&topic);
    let change = AlterConfig::new(resource).set("retention.ms", "soon");
    // This crate keeps no error of a single resource, so what counts is that nothing was changed.
    let _ = admin().alter_configs([&change], &options()).await.unwrap();
    let described = admin().describe_configs([&resource], &options()).await.unwrap().remove(0).unwrap();
    assert_eq!(described.get("retention.ms").unwrap().value.as_deref(), Some("1000"));
}

#[tokio::test]
async fn offsets_out_of_range() {
    let topic = create("range", 1, &[]).await;
    produce(&producer(&[]), &topic, &numbered(0..3)).await.unwrap();
    let far = [(0, Offset::Offset(1000))];
    let earliest = assigned(&topic, &far, &[("auto.offset.reset", "earliest")]);
    assert_eq!(payloads(&read(&earliest, 3).await), numbered(0..3));
    let strict = assigned(&topic, &far, &[("auto.offset.reset", "error")]);
    let error = timeout(LONG, strict.recv()).await.unwrap().unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset));
}
