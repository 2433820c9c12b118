//! What an image of a million partitions costs. A measurement, not a check: run it with
//! `cargo test -p chronik-meta --release --test scale -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::time::Instant;

use chronik_base::Uuid;
use chronik_meta::{Command, MetaStore, PartitionChange, StoreOptions};

const TOPICS: u64 = 100_000;
const PARTITIONS: usize = 10;

fn id(number: u64) -> Uuid {
    let mut bytes = [0x40; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    Uuid(bytes)
}

fn megabytes_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0) / 1024
}

#[test]
#[ignore = "a measurement"]
fn a_million_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = MetaStore::open(directory.path(), StoreOptions::default()).unwrap();
    for broker in 1..4 {
        let incarnation = Uuid([broker as u8; 16]);
        let (endpoints, directory) = (Vec::new(), Uuid::ZERO);
        let command = Command::RegisterBroker { id: broker, rack: None, endpoints, incarnation, directory };
        store.commit(&[command])[0].clone().unwrap();
    }
    let before = megabytes_resident();
    let begun = Instant::now();
    for chunk in 0..TOPICS / 1000 {
        let commands: Vec<Command> = (chunk * 1000..(chunk + 1) * 1000)
            .map(|number| Command::CreateTopic {
                name: format!("topic-{number}"),
                id: id(number),
                created: 0,
                assignments: vec![vec![1, 2, 3]; PARTITIONS],
                configs: Default::default(),
            })
            .collect();
        assert!(store.commit(&commands).iter().all(Result::is_ok));
    }
    println!("created {TOPICS} topics of {PARTITIONS} partitions in {:?}", begun.elapsed());
    println!("resident: {} MiB more", megabytes_resident() - before);

    let begun = Instant::now();
    for number in 0..1000 {
        let held = store.image().clone();
        let change = PartitionChange { topic: id(number * 97), isr: Some(vec![1, 2]), ..Default::default() };
        store.commit(&[Command::ChangePartition(change)])[0].clone().unwrap();
        assert_ne!(held.offset(), store.image().offset());
    }
    println!(
        "1000 changes, one commit each with a reader that holds the image before: {:?}",
        begun.elapsed()
    );

    let begun = Instant::now();
    let image = store.image().clone();
    drop(MetaStore::open(directory.path(), StoreOptions::default()).unwrap());
    println!("loaded from the log in {:?}", begun.elapsed());
    let begun = Instant::now();
    store.snapshot().unwrap();
    println!("snapshot written in {:?}", begun.elapsed());
    let begun = Instant::now();
    let (loaded, _) = MetaStore::open(directory.path(), StoreOptions::default()).unwrap();
    println!("loaded from the snapshot in {:?}", begun.elapsed());
    assert_eq!(**loaded.image(), *image);
}
