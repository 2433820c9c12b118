//! What the tests of this suite share: clients with short timeouts, and loops that end.

use crate::chronik::bootstrap;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// Longest wait for anything, on a machine that has much else to do.
pub const LONG: Duration = Duration::from_secs(60);

/// A configuration with the broker's address and these settings.
pub fn config(settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

/// A name for a test's topics and groups that no other run has used.
pub fn unique(test: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or_default();
    format!("{test}-{now:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn admin() -> AdminClient<DefaultClientContext> {
    config(&[]).create().unwrap()
}

pub fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LONG)).operation_timeout(Some(LONG))
}

/// Creates a topic of that many partitions and returns its name, which begins with the test's.
pub async fn create(test: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let topic = unique(test);
    let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    assert_eq!(create_error(&new).await, None);
    topic
}

/// Asks for a topic; `None` when it was created.
pub async fn create_error(new: &NewTopic<'_>) -> Option<RDKafkaErrorCode> {
    let results = admin().create_topics([new], &options()).await.unwrap();
    assert_eq!(results.len(), 1);
    results.into_iter().find_map(Result::err).map(|(_, code)| code)
}

pub fn producer(settings: &[(&str, &str)]) -> FutureProducer {
    let mut all = vec![("linger.ms", "0"), ("message.timeout.ms", "60000")];
    all.extend(settings);
    config(&all).create().unwrap()
}

/// Sends all values at once and returns where they went, or the first error.
pub async fn produce(
    producer: &FutureProducer,
    topic: &str,
    values: &[Vec<u8>],
) -> Result<Vec<Delivery>, KafkaError> {
    let mut sent = Vec::new();
    for value in values {
        let record = FutureRecord::<(), _>::to(topic).payload(value);
        sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    let mut delivered = Vec::new();
    for delivery in sent {
        delivered.push(delivery.await.unwrap().map_err(|(error, _)| error)?);
    }
    Ok(delivered)
}

/// A member of the group that commits when it is told to.
pub fn consumer(group: &str, settings: &[(&str, &str)]) -> StreamConsumer {
    let mut all = vec![
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "200"),
    ];
    all.extend(settings);
    config(&all).create().unwrap()
}

/// A consumer of these partitions, from their offsets on.
pub fn assigned(topic: &str, partitions: &[(i32, Offset)], settings: &[(&str, &str)]) -> StreamConsumer {
    let consumer = consumer("unused", settings);
    consumer.assign(&list(topic, partitions)).unwrap();
    consumer
}

/// What is in partition 0, which holds that many records.
pub async fn read_from_start(topic: &str, count: usize) -> Vec<OwnedMessage> {
    read(&assigned(topic, &[(0, Offset::Beginning)], &[]), count).await
}

/// The next messages of a consumer that has an assignment or a subscription.
pub async fn read(consumer: &StreamConsumer, count: usize) -> Vec<OwnedMessage> {
    let mut found = Vec::new();
    while found.len() < count {
        let message = timeout(LONG, consumer.recv()).await;
        let message = message.unwrap_or_else(|_| panic!("{} of {count} messages came", found.len()));
        found.push(message.unwrap().detach());
    }
    found
}

pub fn list(topic: &str, partitions: &[(i32, Offset)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(topic, *partition, *offset).unwrap();
    }
    list
}

pub fn payloads(messages: &[OwnedMessage]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.payload().unwrap().to_vec()).collect()
}

pub fn offsets(delivered: &[Delivery]) -> Vec<i64> {
    delivered.iter().map(|delivery| delivery.offset).collect()
}

/// The numbers as text.
pub fn numbered(range: Range<u32>) -> Vec<Vec<u8>> {
    range.map(|number| number.to_string().into_bytes()).collect()
}

/// Bytes that no codec makes smaller, the same in every run.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}
