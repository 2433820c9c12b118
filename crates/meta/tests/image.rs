//! The image is a function of its commands, and its bytes are read back as it was.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use chronik_base::Uuid;
use chronik_meta::{Command, Image, MetaError, PartitionChange, Reply};
use common::{command, commands};
use proptest::prelude::*;

fn image_of(commands: &[Command]) -> Image {
    let mut image = Image::default();
    for command in commands {
        if image.check(command).is_ok() {
            image.apply(command);
        }
    }
    image
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_commands_bytes_are_read_back(command in command()) {
        prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..12) {
        let _ = Command::decode(&bytes);
        let _ = Image::decode(&bytes);
        let mut command = vec![kind, 0];
        command.extend_from_slice(&bytes);
        let _ = Command::decode(&command);
    }

    #[test]
    fn an_image_is_read_back_from_its_bytes(commands in commands(60)) {
        let image = image_of(&commands);
        let bytes = image.encode();
        prop_assert_eq!(&Image::decode(&bytes).unwrap(), &image);
        for end in 0..bytes.len().min(200) {
            prop_assert!(Image::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn what_an_image_says_agrees(commands in commands(80)) {
        let image = image_of(&commands);
        let mut partitions = 0;
        for topic in image.topics() {
            prop_assert_eq!(image.topic_by_id(&topic.id), Some(topic));
            prop_assert_eq!(image.topic(&topic.name), Some(topic));
            prop_assert_eq!(topic.partitions.iter().count(), topic.partitions.len());
            prop_assert_eq!(image.colliding_topic(&topic.name), None);
            for (index, partition) in topic.partitions.iter() {
                prop_assert_eq!(image.partition(&topic.name, index), Some(partition));
                prop_assert!(partition.leader == -1 || partition.isr.contains(&partition.leader));
                prop_assert!(partition.replicas.iter().all(|id| image.broker(*id).is_some()));
            }
            partitions += topic.partitions.len();
        }
        prop_assert_eq!(image.partition_count(), partitions);
        prop_assert!(image.topics().map(|topic| topic.name.clone()).is_sorted());
    }

    #[test]
    fn an_old_image_does_not_change(commands in commands(60)) {
        let mut image = Image::default();
        let mut snapshots = Vec::new();
        for command in &commands {
            if image.check(command).is_ok() {
                image.apply(command);
            }
            snapshots.push((image.clone(), image.encode()));
        }
        for (snapshot, bytes) in snapshots {
            prop_assert_eq!(snapshot.encode(), bytes);
        }
    }
}

fn topic(name: &str, id: u8) -> Command {
    Command::CreateTopic {
        name: name.to_owned(),
        id: Uuid([id; 16]),
        created: 0,
        assignments: vec![vec![1], vec![1]],
        configs: Default::default(),
    }
}

fn one_broker() -> Image {
    let mut image = Image::default();
    image.apply(&Command::RegisterBroker {
        id: 1,
        rack: None,
        endpoints: Vec::new(),
        incarnation: Uuid([1; 16]),
        directory: Uuid::ZERO,
    });
    image
}

#[test]
fn refusals() {
    let mut image = one_broker();
    image.apply(&topic("a.b", 7));
    assert_eq!(image.check(&topic("a.b", 8)), Err(MetaError::TopicExists("a.b".to_owned())));
    assert!(matches!(image.check(&topic("a_b", 8)), Err(MetaError::TopicCollides { .. })));
    assert!(matches!(image.check(&topic("ok", 7)), Err(MetaError::TopicIdTaken(_))));
    assert!(matches!(image.check(&topic("not ok", 8)), Err(MetaError::TopicName(_))));
    assert_eq!(image.check(&topic("ab", 8)), Ok(()));
    let id = Uuid([7; 16]);
    let more = |first| Command::CreatePartitions { topic: id, first, assignments: vec![vec![1]] };
    assert!(matches!(image.check(&more(1)), Err(MetaError::PartitionCountChanged { actual: 2, .. })));
    assert_eq!(image.check(&more(2)), Ok(()));
    assert!(matches!(image.check(&Command::UnregisterBroker { id: 1 }), Err(MetaError::BrokerInUse { .. })));
    image.apply(&Command::DeleteTopic { id });
    assert_eq!(image.check(&topic("a_b", 8)), Ok(()));
    assert_eq!(image.check(&Command::DeleteTopic { id }), Err(MetaError::UnknownTopic(id)));
    assert_eq!(image.partition_count(), 0);
}

#[test]
fn a_new_leader_raises_its_epoch_and_old_thoughts_are_refused() {
    let mut image = one_broker();
    image.apply(&topic("t", 7));
    let change =
        PartitionChange { topic: Uuid([7; 16]), partition: 1, leader: Some(1), ..Default::default() };
    let command = Command::ChangePartition(change.clone());
    assert_eq!(image.check(&command), Ok(()));
    image.apply(&command);
    let partition = image.partition("t", 1).unwrap();
    assert_eq!((partition.leader_epoch, partition.partition_epoch), (1, 1));
    assert_eq!(image.partition("t", 0).unwrap().partition_epoch, 0);
    assert!(matches!(image.check(&command), Err(MetaError::PartitionEpoch { actual: 1, .. })));
    let empty = PartitionChange { partition_epoch: 1, leader: None, isr: Some(Vec::new()), ..change };
    assert!(matches!(image.check(&Command::ChangePartition(empty)), Err(MetaError::Assignment { .. })));
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut image = Image::default();
    let ask = Command::AllocateProducerIds { count: 1000 };
    assert_eq!(image.apply(&ask), Reply::ProducerIds { first: 0, count: 1000 });
    assert_eq!(image.apply(&ask), Reply::ProducerIds { first: 1000, count: 1000 });
    assert!(image.check(&Command::AllocateProducerIds { count: 0 }).is_err());
}
