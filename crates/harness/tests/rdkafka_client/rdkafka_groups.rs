//! Consumer groups: members come and go, and nothing is lost or read twice.

use crate::clients::*;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Consumers of one group, polled in turn, and all that they have read.
struct Group {
    topic: String,
    settings: Vec<(&'static str, &'static str)>,
    members: Vec<StreamConsumer>,
    values: Vec<String>,
}

impl Group {
    /// The group is called as its topic is.
    fn new(topic: &str, settings: &[(&'static str, &'static str)]) -> Self {
        Self { topic: topic.to_owned(), settings: settings.to_vec(), members: Vec::new(), values: Vec::new() }
    }

    fn join(&mut self, settings: &[(&'static str, &'static str)]) {
        let member = consumer(&self.topic, &[&self.settings, settings].concat());
        member.subscribe(&[&self.topic]).unwrap();
        self.members.push(member);
    }

    async fn poll(&mut self) {
        for member in &self.members {
            if let Ok(message) = timeout(Duration::from_millis(10), member.recv()).await {
                self.values.push(String::from_utf8(message.unwrap().payload().unwrap().to_vec()).unwrap());
            }
        }
    }

    /// Polls until every member has that many partitions.
    async fn wait_for_shares(&mut self, share: usize) {
        let started = Instant::now();
        let shares = |group: &Self| -> Vec<usize> {
            group.members.iter().map(|member| member.assignment().unwrap().count()).collect()
        };
        while shares(self).iter().any(|found| *found != share) {
            assert!(
                started.elapsed() < LONG,
                "{share} partitions each are due, they have {:?}",
                shares(self)
            );
            self.poll().await;
        }
    }

    /// Polls until that many messages were read in all.
    async fn read(&mut self, total: usize) {
        let started = Instant::now();
        while self.values.len() < total {
            assert!(started.elapsed() < LONG, "{} of {total} messages came", self.values.len());
            self.poll().await;
        }
    }

    /// Commits how far each member has read.
    fn commit(&self) {
        for member in &self.members {
            let mut read = TopicPartitionList::new();
            for place in member.position().unwrap().elements() {
                if let Offset::Offset(_) = place.offset() {
                    read.add_partition_offset(place.topic(), place.partition(), place.offset()).unwrap();
                }
            }
            member.commit(&read, CommitMode::Sync).unwrap();
        }
    }
}

/// One number for each partition in turn.
async fn produce_to_six(producer: &FutureProducer, topic: &str, range: Range<u32>) {
    for (partition, value) in (0..6).cycle().zip(numbered(range)) {
        let record = FutureRecord::<(), _>::to(topic).payload(&value).partition(partition);
        producer.send(record, LONG).await.unwrap();
    }
}

async fn three_members(strategy: &'static str) {
    let topic = create("group", 6, &[]).await;
    let producer = producer(&[]);
    let mut group = Group::new(&topic, &[("partition.assignment.strategy", strategy)]);
    group.join(&[]);
    group.join(&[]);
    group.wait_for_shares(3).await;
    produce_to_six(&producer, &topic, 0..60).await;
    group.read(60).await;
    group.commit();
    group.join(&[]);
    group.wait_for_shares(2).await;
    produce_to_six(&producer, &topic, 60..120).await;
    group.read(120).await;
    group.commit();
    drop(group.members.pop());
    group.wait_for_shares(3).await;
    produce_to_six(&producer, &topic, 120..180).await;
    group.read(180).await;
    group.commit();
    let mut numbers: Vec<u32> = group.values.iter().map(|value| value.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..180).collect::<Vec<_>>());
    let partitions: Vec<_> = (0..6).map(|partition| (partition, Offset::Invalid)).collect();
    let committed = group.members[0].committed_offsets(list(&topic, &partitions), LONG).unwrap();
    assert!(committed.elements().iter().all(|place| place.offset() == Offset::Offset(30)), "{committed:?}");
}

#[tokio::test]
async fn a_group_of_three_with_the_range_assignor() {
    three_members("range").await;
}

#[tokio::test]
async fn a_group_of_three_with_the_cooperative_assignor() {
    three_members("cooperative-sticky").await;
}

#[tokio::test]
async fn a_new_member_goes_on_where_the_group_committed() {
    let topic = create("resume", 1, &[]).await;
    produce(&producer(&[]), &topic, &numbered(0..10)).await.unwrap();
    let first = consumer(&topic, &[]);
    first.subscribe(&[&topic]).unwrap();
    assert_eq!(payloads(&read(&first, 10).await), numbered(0..10));
    let half_way = list(&topic, &[(0, Offset::Offset(4))]);
    half_way.find_partition(&topic, 0).unwrap().set_metadata("half-way");
    first.commit(&half_way, CommitMode::Sync).unwrap();
    drop(first);
    let second = consumer(&topic, &[]);
    second.subscribe(&[&topic]).unwrap();
    assert_eq!(payloads(&read(&second, 6).await), numbered(4..10));
    let committed = second.committed_offsets(list(&topic, &[(0, Offset::Invalid)]), LONG).unwrap();
    let committed = &committed.elements()[0];
    assert_eq!((committed.offset(), committed.metadata()), (Offset::Offset(4), "half-way"));
}

#[tokio::test]
async fn a_static_member_gets_its_partition_back() {
    let topic = create("static", 2, &[]).await;
    let mut group = Group::new(&topic, &[]);
    group.join(&[("group.instance.id", "one")]);
    group.join(&[("group.instance.id", "two")]);
    group.wait_for_shares(1).await;
    let partitions = |member: &StreamConsumer| -> BTreeSet<i32> {
        member.assignment().unwrap().elements().iter().map(|place| place.partition()).collect()
    };
    let before = partitions(&group.members[1]);
    drop(group.members.pop());
    // It is still a member of the group while it is away.
    let listed = group.members[0].fetch_group_list(Some(&topic), LONG).unwrap();
    assert_eq!(listed.groups()[0].members().len(), 2);
    assert_eq!(listed.groups()[0].state(), "Stable");
    group.join(&[("group.instance.id", "two")]);
    group.wait_for_shares(1).await;
    assert_eq!(partitions(&group.members[1]), before);
}
