//! The bytes on disk, kept as fixtures: every later version must read them, and this one must write them so.
//!
//! A new version of a command or of the image gets fixtures of its own beside these, which stay:
//! `cargo test -p chronik-meta --test format -- --ignored` writes those of today.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_base::Uuid;
use chronik_meta::{AlterPartition, Command, Endpoint, Image, MetaStore, PartitionChange, StoreOptions};

fn fixtures(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

/// Every command with every field, so that each of them can be applied.
fn commands() -> Vec<Command> {
    let broker = |id: i32, rack: Option<&str>| Command::RegisterBroker {
        id,
        rack: rack.map(str::to_owned),
        endpoints: vec![Endpoint { listener: "kafka".to_owned(), host: "node".to_owned(), port: 9092 }],
        incarnation: Uuid([id as u8; 16]),
        directory: Uuid([0x40 + id as u8; 16]),
    };
    let unfence = |id: i32| Command::UnfenceBroker { id, epoch: i64::from(id) + 1 };
    let (first, second) = (Uuid([0x11; 16]), Uuid([0x22; 16]));
    let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let create = |name: &str, id, assignments| Command::CreateTopic {
        name: name.to_owned(),
        id,
        created: 1_700_000_000_000,
        assignments,
        configs: configs.clone(),
    };
    let changes = |name: &str| vec![(name.to_owned(), Some("2".to_owned())), ("gone".to_owned(), None)];
    vec![
        Command::SetClusterId { id: Uuid([0x77; 16]) },
        broker(1, Some("west")),
        broker(2, None),
        broker(3, None),
        broker(4, None),
        unfence(1),
        unfence(2),
        unfence(4),
        Command::UnregisterBroker { id: 3 },
        create("first", first, vec![vec![1, 2], vec![2, 1]]),
        create("second_one", second, vec![vec![1]]),
        Command::DeleteTopic { id: second },
        Command::CreatePartitions {
            topic: first,
            first: 2,
            assignments: vec![vec![2], vec![2, 1], vec![1, 2, 4]],
        },
        Command::AlterTopicConfigs { topic: first, changes: changes("min.insync.replicas") },
        Command::AlterBrokerConfigs { broker: None, changes: changes("num.partitions") },
        Command::AlterBrokerConfigs { broker: Some(2), changes: changes("log.retention.ms") },
        Command::AllocateProducerIds { count: 1000 },
        Command::BeginShutdown { id: 4, epoch: 5 },
        Command::AlterPartition(AlterPartition {
            topic: first,
            partition: 0,
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            isr: vec![(1, 2)],
        }),
        Command::Reassign { topic: first, partition: 2, target: Some(vec![1, 4]) },
        Command::Reassign { topic: first, partition: 1, target: Some(vec![2, 4]) },
        Command::Reassign { topic: first, partition: 1, target: None },
        Command::FenceBroker { id: 1, epoch: 2 },
        unfence(1),
        Command::AlterPartition(AlterPartition {
            topic: first,
            partition: 4,
            leader: 2,
            leader_epoch: 1,
            partition_epoch: 2,
            isr: vec![(1, 2), (2, 3)],
        }),
        Command::ElectLeader { topic: first, partition: 4, unclean: false },
        Command::ChangePartition(PartitionChange {
            topic: first,
            partition: 3,
            partition_epoch: 1,
            leader: Some(-1),
            isr: Some(vec![2]),
            replicas: Some(vec![2, 1]),
            eligible_leaders: Some(vec![1]),
            adding: Some(vec![1]),
            removing: Some(vec![2]),
        }),
    ]
}

/// A directory with the commands in its log, and one with the same in its snapshot.
fn write(directory: &Path) {
    let commit = |directory: &Path| {
        let (mut store, _) = MetaStore::open(directory, StoreOptions::default()).unwrap();
        for result in store.commit(&commands()) {
            result.unwrap();
        }
        store
    };
    commit(&directory.join("log"));
    commit(&directory.join("snapshot")).snapshot().unwrap();
}

const FILES: [&str; 3] = ["log/metadata.log", "snapshot/metadata.log", "snapshot/metadata.snapshot"];

#[test]
fn todays_bytes_are_the_fixtures() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    for file in FILES {
        let (now, kept) =
            (fs::read(directory.path().join(file)).unwrap(), fs::read(fixtures("v2").join(file)).unwrap());
        assert_eq!(now, kept, "{file} is written with other bytes than before: is that a new version?");
    }
}

/// The image of the fixtures of `version`, which is the same in their log, of `count` commands, and in their snapshot.
fn read(version: &str, count: usize) -> Arc<Image> {
    let directory = tempfile::tempdir().unwrap();
    let open = |form: &str| {
        let copy = directory.path().join(form);
        fs::create_dir_all(&copy).unwrap();
        for file in FILES.iter().filter_map(|file| file.strip_prefix(&format!("{form}/"))) {
            fs::copy(fixtures(version).join(form).join(file), copy.join(file)).unwrap();
        }
        MetaStore::open(&copy, StoreOptions::default()).unwrap()
    };
    let ((log, replayed), (snapshot, loaded)) = (open("log"), open("snapshot"));
    assert_eq!(log.image(), snapshot.image());
    assert_eq!((replayed.replayed, loaded.snapshot_offset), (count, count as u64));
    log.image().clone()
}

#[test]
fn the_fixtures_of_version_1_are_read() {
    let image = read("v1", 14);
    assert_eq!(image.cluster_id(), Uuid([0x77; 16]));
    assert_eq!(image.brokers().map(|broker| broker.id).collect::<Vec<_>>(), [1, 2]);
    // Before brokers were fenced, a registered one was taken to be alive.
    assert!(image.brokers().all(|broker| broker.may_lead() && broker.directory.is_zero()));
    let topic = image.topic("first").unwrap();
    assert_eq!((topic.partitions.len(), topic.configs.len()), (3, 2));
    let partition = topic.partitions.get(1).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch, &*partition.eligible_leaders), (-1, 1, &[1][..]));
    assert_eq!(image.next_producer_id(), 1000);
}

#[test]
fn the_fixtures_of_version_2_are_read() {
    let image = read("v2", commands().len());
    let brokers = image.brokers().map(|broker| (broker.id, broker.epoch, broker.fenced, broker.in_shutdown));
    assert_eq!(
        brokers.collect::<Vec<_>>(),
        [(1, 2, false, false), (2, 3, false, false), (4, 5, false, true)]
    );
    assert_eq!(image.broker(4).unwrap().directory, Uuid([0x44; 16]));
    let partitions = image.topic("first").unwrap().partitions.iter();
    let state =
        partitions.map(|(_, p)| (p.leader, p.leader_epoch, p.isr.to_vec(), p.eligible_leaders.to_vec()));
    assert_eq!(
        state.collect::<Vec<_>>(),
        [
            (2, 1, vec![2], vec![1]),
            (2, 0, vec![2], vec![1]),
            (2, 0, vec![2], vec![]),
            (-1, 1, vec![2], vec![1]),
            (1, 2, vec![1, 2], vec![]),
        ]
    );
    let moving = image.partition("first", 2).unwrap();
    assert_eq!(
        (&*moving.replicas, &*moving.adding, &*moving.removing),
        (&[1, 4, 2][..], &[1, 4][..], &[2][..])
    );
    assert_eq!((image.tally().elections, image.tally().unclean), (3, 0));
}

#[test]
#[ignore = "writes the fixtures"]
fn write_the_fixtures() {
    write(&fixtures("v2"));
}
