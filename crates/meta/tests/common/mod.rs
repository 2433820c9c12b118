//! Random commands: mostly ones that fit, so that images grow, and some that do not.

#![allow(dead_code, reason = "each test uses a part of the helpers")]

pub mod cluster;
pub mod world;

use std::collections::BTreeMap;

use chronik_base::Uuid;
use chronik_meta::{Command, Configs, Endpoint, PartitionChange};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// One of twelve identifiers, so that commands meet.
fn id() -> impl Strategy<Value = Uuid> {
    (1u8..13).prop_map(|n| Uuid([n; 16]))
}

fn broker() -> impl Strategy<Value = i32> {
    1i32..4
}

fn nodes() -> impl Strategy<Value = Vec<i32>> {
    prop::sample::select(vec![vec![1], vec![1, 2], vec![2, 3, 1], vec![3], vec![1, 1], vec![9], vec![]])
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "retention.ms", "7d", "ä∂", "a.b", "a_b"]).prop_map(str::to_owned)
}

fn configs() -> impl Strategy<Value = Configs> {
    prop::collection::btree_map(text(), text(), 0..3).prop_map(|map: BTreeMap<_, _>| map)
}

fn changes() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    vec((text(), option::of(text())), 0..3)
}

fn partition_change() -> impl Strategy<Value = PartitionChange> {
    let lists = (option::of(nodes()), option::of(nodes()), option::of(nodes()), option::of(nodes()));
    ((id(), 0i32..4, 0i32..3), option::of(-1i32..4), option::of(nodes()), lists).prop_map(
        |(
            (topic, partition, partition_epoch),
            leader,
            isr,
            (replicas, eligible_leaders, adding, removing),
        )| {
            PartitionChange {
                topic,
                partition,
                partition_epoch,
                leader,
                isr,
                replicas,
                eligible_leaders,
                adding,
                removing,
            }
        },
    )
}

/// Any command.
pub fn command() -> impl Strategy<Value = Command> {
    let name = prop::sample::select(vec!["a", "b", "c.d", "c_d", "e-f", "..", "", "with space"]);
    let assignments = || vec(nodes(), 0..70).boxed();
    let small = || vec(Just(vec![1]), 1..40).boxed();
    prop_oneof![
        1 => id().prop_map(|id| Command::SetClusterId { id }),
        4 => (broker(), option::of(text()), id(), any::<u16>()).prop_map(|(id, rack, incarnation, port)| {
            let endpoints = vec![Endpoint { listener: "PLAINTEXT".to_owned(), host: "h".to_owned(), port }];
            Command::RegisterBroker { id, rack, endpoints, incarnation, directory: incarnation }
        }),
        1 => broker().prop_map(|id| Command::UnregisterBroker { id }),
        8 => (name, id(), any::<i64>(), prop_oneof![assignments(), small()], configs()).prop_map(
            |(name, id, created, assignments, configs)| {
                Command::CreateTopic { name: name.to_owned(), id, created, assignments, configs }
            }
        ),
        2 => id().prop_map(|id| Command::DeleteTopic { id }),
        3 => (id(), 0i32..40, prop_oneof![assignments(), small()]).prop_map(|(topic, first, assignments)| {
            Command::CreatePartitions { topic, first, assignments }
        }),
        3 => (id(), changes()).prop_map(|(topic, changes)| Command::AlterTopicConfigs { topic, changes }),
        2 => (option::of(broker()), changes()).prop_map(|(broker, changes)| {
            Command::AlterBrokerConfigs { broker, changes }
        }),
        2 => any::<u32>().prop_map(|count| Command::AllocateProducerIds { count }),
        6 => partition_change().prop_map(Command::ChangePartition),
    ]
}

/// Some commands, the first of which make the brokers known.
pub fn commands(count: usize) -> impl Strategy<Value = Vec<Command>> {
    vec(command(), 0..count).prop_map(|commands| {
        let brokers = (1..4).map(|id| Command::RegisterBroker {
            id,
            rack: None,
            endpoints: Vec::new(),
            incarnation: Uuid([id as u8; 16]),
            directory: Uuid::ZERO,
        });
        brokers.chain(commands).collect()
    })
}
