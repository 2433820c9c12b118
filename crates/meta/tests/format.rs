//! The bytes on disk, kept as fixtures: every later version must read them, and this one must write them so.
//!
//! A new version of a command or of the image gets fixtures of its own beside these, which stay:
//! `cargo test -p chronik-meta --test format -- --ignored` writes those of today.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chronik_base::Uuid;
use chronik_meta::{Command, Endpoint, MetaStore, PartitionChange, StoreOptions};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Every command with every field.
fn commands() -> Vec<Command> {
    let broker = |id: i32, rack: Option<&str>| Command::RegisterBroker {
        id,
        rack: rack.map(str::to_owned),
        endpoints: vec![Endpoint { listener: "PLAINTEXT".to_owned(), host: "node".to_owned(), port: 9092 }],
        incarnation: Uuid([id as u8; 16]),
    };
    let (first, second) = (Uuid([0x11; 16]), Uuid([0x22; 16]));
    let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let create = |name: &str, id| Command::CreateTopic {
        name: name.to_owned(),
        id,
        created: 1_700_000_000_000,
        assignments: vec![vec![1, 2], vec![2, 1]],
        configs: configs.clone(),
    };
    let changes = |name: &str| vec![(name.to_owned(), Some("5".to_owned())), ("gone".to_owned(), None)];
    vec![
        Command::SetClusterId { id: Uuid([0x77; 16]) },
        broker(1, Some("west")),
        broker(2, None),
        broker(3, None),
        Command::UnregisterBroker { id: 3 },
        create("first", first),
        create("second_one", second),
        Command::DeleteTopic { id: second },
        Command::CreatePartitions { topic: first, first: 2, assignments: vec![vec![2]] },
        Command::AlterTopicConfigs { topic: first, changes: changes("retention.ms") },
        Command::AlterBrokerConfigs { broker: None, changes: changes("num.partitions") },
        Command::AlterBrokerConfigs { broker: Some(2), changes: changes("log.retention.ms") },
        Command::AllocateProducerIds { count: 1000 },
        Command::ChangePartition(PartitionChange {
            topic: first,
            partition: 1,
            partition_epoch: 0,
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
            (fs::read(directory.path().join(file)).unwrap(), fs::read(fixtures().join(file)).unwrap());
        assert_eq!(now, kept, "{file} is written with other bytes than before: is that a new version?");
    }
}

#[test]
fn the_fixtures_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let open = |form: &str| {
        let copy = directory.path().join(form);
        fs::create_dir_all(&copy).unwrap();
        for file in FILES.iter().filter_map(|file| file.strip_prefix(&format!("{form}/"))) {
            fs::copy(fixtures().join(form).join(file), copy.join(file)).unwrap();
        }
        MetaStore::open(&copy, StoreOptions::default()).unwrap()
    };
    let ((log, replayed), (snapshot, loaded)) = (open("log"), open("snapshot"));
    assert_eq!(log.image(), snapshot.image());
    assert_eq!((replayed.replayed, loaded.snapshot_offset), (14, 14));
    let image = log.image();
    assert_eq!(image.cluster_id(), Uuid([0x77; 16]));
    assert_eq!(image.brokers().map(|broker| broker.id).collect::<Vec<_>>(), [1, 2]);
    let topic = image.topic("first").unwrap();
    assert_eq!((topic.partitions.len(), topic.configs.len()), (3, 2));
    let partition = topic.partitions.get(1).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch, &*partition.eligible_leaders), (-1, 1, &[1][..]));
    assert_eq!(image.next_producer_id(), 1000);
}

#[test]
#[ignore = "writes the fixtures"]
fn write_the_fixtures() {
    write(&fixtures());
}
