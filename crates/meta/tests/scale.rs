//! What an image of a million partitions costs. A measurement, not a check: run it with
//! `cargo test -p chronik-meta --release --test scale -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::time::{Duration, Instant};

use chronik_base::Uuid;
use chronik_meta::{AlterPartition, Command, Image, MetaStore, StoreOptions};

const TOPICS: u64 = 100_000;
const PARTITIONS: usize = 10;

fn id(number: u64) -> Uuid {
    let mut bytes = [0x40; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    Uuid(bytes)
}

/// Time that passed, and of that what this thread ran: on a busy machine only the second says anything.
struct Stopwatch(Instant, Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now(), ran())
    }

    fn read(&self) -> String {
        format!("{:.1?} ({:.1?} of CPU)", self.0.elapsed(), ran() - self.1)
    }
}

/// What this thread ran so far.
fn ran() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0))
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
    let begun = Stopwatch::start();
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
    println!("created {TOPICS} topics of {PARTITIONS} partitions in {}", begun.read());
    println!("resident: {} MiB more", megabytes_resident() - before);

    let begun = Stopwatch::start();
    for number in 0..1000 {
        let held = store.image().clone();
        let proposal = AlterPartition {
            topic: id(number * 97),
            partition: 0,
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            isr: vec![(1, 0), (2, 0)],
        };
        store.commit(&[Command::AlterPartition(proposal)])[0].clone().unwrap();
        assert_ne!(held.offset(), store.image().offset());
    }
    println!("1000 changes, one commit each with a reader that holds the image before: {}", begun.read());

    let begun = Stopwatch::start();
    let image = store.image().clone();
    drop(MetaStore::open(directory.path(), StoreOptions::default()).unwrap());
    println!("loaded from the log in {}", begun.read());
    let begun = Stopwatch::start();
    store.snapshot().unwrap();
    println!("snapshot written in {}", begun.read());
    let begun = Stopwatch::start();
    let (loaded, _) = MetaStore::open(directory.path(), StoreOptions::default()).unwrap();
    println!("loaded from the snapshot in {}", begun.read());
    assert_eq!(**loaded.image(), *image);
}

/// An image of `topics` topics of `partitions` partitions on three of five brokers each.
fn five_brokers(topics: u64, partitions: usize) -> Image {
    let mut image = Image::default();
    for broker in 1..6 {
        let (incarnation, directory) = (Uuid([broker as u8; 16]), Uuid::ZERO);
        image.apply(&Command::RegisterBroker {
            id: broker,
            rack: None,
            endpoints: Vec::new(),
            incarnation,
            directory,
        });
    }
    for number in 0..topics {
        let replicas = |at: u64| (0..3).map(|step| 1 + ((number + at + step) % 5) as i32).collect();
        image.apply(&Command::CreateTopic {
            name: format!("topic-{number}"),
            id: id(number),
            created: 0,
            assignments: (0..partitions as u64).map(replicas).collect(),
            configs: Default::default(),
        });
    }
    image
}

#[test]
#[ignore = "a measurement"]
fn a_broker_dies_and_comes_back() {
    for (topics, partitions) in [(100, 1000), (10_000, 10), (100_000, 1), (1_000_000, 1)] {
        let mut image = five_brokers(topics, partitions);
        println!("{topics} topics of {partitions} partitions, three replicas on five brokers:");
        let epoch = 0;
        for step in 0..5 {
            let command = match step {
                0 => Command::FenceBroker { id: 2, epoch },
                1 => Command::UnfenceBroker { id: 2, epoch },
                2 => Command::BeginShutdown { id: 3, epoch },
                3 => Command::FenceBroker { id: 3, epoch },
                _ => Command::RegisterBroker {
                    id: 4,
                    rack: None,
                    endpoints: Vec::new(),
                    incarnation: Uuid([9; 16]),
                    directory: Uuid([9; 16]),
                },
            };
            // A reader holds the image before, as it does while a node follows.
            let before = image.clone();
            image.check(&command).unwrap();
            let begun = Stopwatch::start();
            image.apply(&command);
            let applied = begun.read();
            let begun = Stopwatch::start();
            let changes = Image::changed_partitions(&before, &image);
            let changed: usize = changes.iter().map(|change| change.partitions.len()).sum();
            let name = format!("{command:?}").split(' ').next().unwrap_or_default().to_owned();
            println!("  {name}: {applied}, {changed} partitions changed, found in {}", begun.read());
        }
    }
}
