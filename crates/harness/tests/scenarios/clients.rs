//! librdkafka, as the scenarios use it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::nodes::{PATIENCE, eventually};

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "10")
        .set("topic.metadata.refresh.interval.ms", "1000");
    config
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap).create().unwrap()
}

/// Creates a topic with so many replicas of each partition, and waits until all of them are in sync.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, replicas: i32, settings: &[(&str, &str)]) {
    let admin = admin(bootstrap);
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for result in runtime.block_on(admin.create_topics(&[new], &options)).unwrap() {
        result.unwrap();
    }
    wait_in_sync(bootstrap, name, usize::try_from(replicas).unwrap());
}

/// Leader and in-sync replicas of each partition, as the cluster says now; empty if it says nothing.
pub fn partitions(bootstrap: &str, topic: &str) -> Vec<(i32, Vec<i32>)> {
    let admin = admin(bootstrap);
    let Ok(metadata) = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(5)) else {
        return Vec::new();
    };
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found.map_or_else(Vec::new, |found| {
        found.partitions().iter().map(|p| (p.leader(), p.isr().to_vec())).collect()
    })
}

/// Waits until every partition has a leader and exactly so many in-sync replicas.
pub fn wait_in_sync(bootstrap: &str, topic: &str, replicas: usize) {
    eventually(&format!("{topic} has {replicas} replicas in sync"), || {
        let all = partitions(bootstrap, topic);
        !all.is_empty() && all.iter().all(|(leader, isr)| *leader >= 0 && isr.len() == replicas)
    });
}

/// What became of each message that was sent.
#[derive(Default, Debug)]
pub struct Outcomes {
    /// Partition and offset of what was acknowledged, by the message's number.
    pub acknowledged: BTreeMap<usize, (i32, i64)>,
    pub failed: BTreeMap<usize, RDKafkaErrorCode>,
}

#[derive(Clone, Default)]
struct Context(Arc<Mutex<Outcomes>>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let mut outcomes = self.0.lock().unwrap();
        match result {
            Ok(message) => {
                outcomes.acknowledged.insert(*number, (message.partition(), message.offset()));
            }
            Err((error, _)) => {
                outcomes.failed.insert(*number, error.rdkafka_error_code().unwrap());
            }
        }
    }
}

/// A producer whose deliveries are counted.
pub struct Load {
    producer: BaseProducer<Context>,
    context: Context,
    topic: String,
    sent: usize,
}

impl Load {
    pub fn new(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) -> Self {
        let context = Context::default();
        let mut config = config(bootstrap);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer = config.create_with_context(context.clone()).unwrap();
        Self { producer, context, topic: topic.to_owned(), sent: 0 }
    }

    /// Sends messages without waiting for their deliveries. Message `n` is `n` as text, keyed by itself.
    pub fn send(&mut self, count: usize) {
        for _ in 0..count {
            let text = self.sent.to_string();
            let mut record =
                BaseRecord::with_opaque_to(&self.topic, Box::new(self.sent)).key(&text).payload(&text);
            while let Err((error, back)) = self.producer.send(record) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                record = back;
                self.producer.poll(Duration::from_millis(10));
            }
            self.sent += 1;
        }
        self.producer.poll(Duration::ZERO);
    }

    /// Sends one message to this partition.
    pub fn send_to(&mut self, partition: i32) {
        let text = self.sent.to_string();
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(self.sent))
            .partition(partition)
            .key(&text)
            .payload(&text);
        assert!(self.producer.send(record).is_ok());
        self.sent += 1;
    }

    /// Sends messages, so many a second, for a while.
    pub fn send_for(&mut self, time: Duration, per_second: u32) {
        let started = Instant::now();
        let mut due = 0;
        while started.elapsed() < time {
            let now = (started.elapsed().as_secs_f64() * f64::from(per_second)) as usize;
            self.send(now.saturating_sub(due));
            due = due.max(now);
            self.producer.poll(Duration::from_millis(2));
        }
    }

    /// Waits for the deliveries of everything that was sent.
    pub fn finish(self) -> Outcomes {
        self.producer.flush(PATIENCE).unwrap();
        std::mem::take(&mut *self.context.0.lock().unwrap())
    }
}

/// Sends so many messages and waits for their deliveries.
pub fn produce(bootstrap: &str, topic: &str, count: usize, settings: &[(&str, &str)]) -> Outcomes {
    let mut load = Load::new(bootstrap, topic, settings);
    load.send(count);
    load.finish()
}

/// Everything that consumers can read of a topic up to its ends: by partition and offset.
pub fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> BTreeMap<(i32, i64), String> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "scenarios-read-all")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..partitions {
        let mut ends = None;
        eventually("the ends of the log are known", || {
            ends = consumer.fetch_watermarks(topic, partition, Duration::from_secs(5)).ok();
            ends.is_some()
        });
        let (start, end) = ends.unwrap();
        left += usize::try_from(end - start).unwrap();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut found = BTreeMap::new();
    let started = Instant::now();
    while found.len() < left {
        assert!(started.elapsed() < PATIENCE, "{} of {left} messages were read", found.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let text = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
            let before = found.insert((message.partition(), message.offset()), text);
            assert_eq!(before, None, "an offset was read twice");
        }
    }
    found
}

/// Everything that was acknowledged is there, at the offset that was acknowledged.
pub fn assert_kept(outcomes: &Outcomes, read: &BTreeMap<(i32, i64), String>) {
    for (number, place) in &outcomes.acknowledged {
        assert_eq!(
            read.get(place).map(String::as_str),
            Some(number.to_string().as_str()),
            "message {number} was acknowledged at {place:?}"
        );
    }
}

/// No message is there twice.
pub fn assert_no_duplicates(read: &BTreeMap<(i32, i64), String>) {
    let mut texts: Vec<&String> = read.values().collect();
    texts.sort();
    let before = texts.len();
    texts.dedup();
    assert_eq!(texts.len(), before, "messages are there more than once");
}
