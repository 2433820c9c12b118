//! The scenarios of the benchmark report that this project began with, each by its name: what did not work there has to work
//! here, with librdkafka as the client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

mod clients;
mod nodes;

use std::time::{Duration, Instant};

use clients::*;
use nodes::*;
use rdkafka::error::RDKafkaErrorCode;

fn all_acknowledged(outcomes: &Outcomes, count: usize) {
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    assert_eq!(outcomes.acknowledged.len(), count);
}

fn produce_and_read(bootstrap: &str, replicas: i32, acks: &str) {
    create_topic(bootstrap, "t", 3, replicas, &[]);
    let outcomes = produce(bootstrap, "t", 2_000, &[("acks", acks)]);
    all_acknowledged(&outcomes, 2_000);
    let read = read_all(bootstrap, "t", 3);
    assert_eq!(read.len(), 2_000);
    assert_kept(&outcomes, &read);
}

#[test]
fn standalone_acks_1() {
    let nodes = Nodes::with_followers(0, &[]).start();
    produce_and_read(&nodes.bootstrap(), 1, "1");
}

#[test]
fn standalone_acks_all() {
    let nodes = Nodes::with_followers(0, &[]).start();
    produce_and_read(&nodes.bootstrap(), 1, "-1");
}

#[test]
fn two_nodes_acks_1() {
    let nodes = Nodes::raft(2, &[]).start();
    produce_and_read(&nodes.bootstrap(), 2, "1");
}

#[test]
fn two_nodes_acks_all() {
    let nodes = Nodes::raft(2, &[]).start();
    produce_and_read(&nodes.bootstrap(), 2, "-1");
}

#[test]
fn three_nodes_acks_all() {
    let nodes = Nodes::raft(3, &[]).start();
    produce_and_read(&nodes.bootstrap(), 3, "-1");
}

#[test]
fn standalone_with_followers_acks_all() {
    let nodes = Nodes::with_followers(2, &[]).start();
    let bootstrap = nodes.bootstrap();
    eventually("the followers are there", || {
        http(nodes.first_port, "/v1/cluster/status").contains("\"id\":3")
    });
    produce_and_read(&bootstrap, 3, "-1");
}

#[test]
fn followers_named_at_ports_where_nobody_listens() {
    let mut nodes = Nodes::with_followers(2, &[]);
    nodes.nodes[0].start();
    let bootstrap = nodes.nodes[0].bootstrap();
    // The in-sync replicas are the leader alone: acks=all goes on.
    create_topic(&bootstrap, "alone", 1, 1, &[]);
    let started = Instant::now();
    let outcomes = produce(&bootstrap, "alone", 500, &[("acks", "all")]);
    all_acknowledged(&outcomes, 500);
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    // Where min.insync.replicas asks for more, it fails at once, not by a timeout.
    create_topic(&bootstrap, "needs-two", 1, 1, &[("min.insync.replicas", "2")]);
    let started = Instant::now();
    let outcomes = produce(&bootstrap, "needs-two", 1, &[("acks", "all"), ("retries", "0")]);
    assert_eq!(outcomes.failed.get(&0), Some(&RDKafkaErrorCode::NotEnoughReplicas), "{outcomes:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    // And it is said which follower is missing, and why.
    let line = nodes.nodes[0].expect_log(&format!("no follower at 127.0.0.1:{}", nodes.first_port + 1));
    assert!(line.contains("connection refused"), "{line}");
    let status = http(nodes.first_port, "/v1/cluster/status");
    assert!(status.contains(&format!("127.0.0.1:{}", nodes.first_port + 1)), "{status}");
    assert!(status.contains("refused"), "{status}");
}

#[test]
fn a_follower_stops_and_recovers() {
    let mut nodes = Nodes::raft(3, &[]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 3, 3, &[("min.insync.replicas", "2")]);
    let mut load = Load::new(&bootstrap, "t", &[("acks", "all"), ("enable.idempotence", "true")]);
    load.send_for(Duration::from_secs(1), 1_000);
    nodes.nodes[2].kill();
    load.send_for(Duration::from_secs(2), 1_000);
    wait_in_sync(&nodes.nodes[0].bootstrap(), "t", 2);
    nodes.nodes[2].start();
    load.send_for(Duration::from_secs(1), 1_000);
    let outcomes = load.finish();
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    wait_in_sync(&bootstrap, "t", 3);
    let read = read_all(&bootstrap, "t", 3);
    assert_kept(&outcomes, &read);
    assert_no_duplicates(&read);
}

#[test]
fn mixed_acks_1_and_acks_all() {
    let nodes = Nodes::raft(3, &[]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 3, 3, &[]);
    let mut one = Load::new(&bootstrap, "t", &[("acks", "1")]);
    let mut all = Load::new(&bootstrap, "t", &[("acks", "all")]);
    for _ in 0..20 {
        one.send(50);
        all.send(50);
        std::thread::sleep(Duration::from_millis(10));
    }
    let (one, all) = (one.finish(), all.finish());
    all_acknowledged(&one, 1_000);
    all_acknowledged(&all, 1_000);
    let read = read_all(&bootstrap, "t", 3);
    assert_eq!(read.len(), 2_000);
    assert_kept(&one, &read);
    assert_kept(&all, &read);
}

#[test]
fn consumers_read_on_while_a_leader_dies() {
    let mut nodes = Nodes::raft(3, &[]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 3, 3, &[]);
    let mut load = Load::new(&bootstrap, "t", &[("acks", "all"), ("enable.idempotence", "true")]);
    let reader = {
        use rdkafka::Message;
        use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
        let consumer: BaseConsumer = config(&bootstrap)
            .set("group.id", "readers")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        consumer.subscribe(&["t"]).unwrap();
        std::thread::spawn(move || {
            let mut seen = std::collections::BTreeMap::new();
            let mut last = Instant::now();
            // It ends when nothing has come for a while.
            while last.elapsed() < Duration::from_secs(8) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    let text = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                    let place = (message.partition(), message.offset());
                    // A second reading, after a rebalance, must be the same.
                    let before = seen.insert(place, text.clone());
                    assert!(before.is_none_or(|before| before == text), "offset {place:?} changed");
                    last = Instant::now();
                    // A commit may fail while its coordinator moves; the next one carries on.
                    let _ = consumer.commit_message(&message, CommitMode::Async);
                }
            }
            seen
        })
    };
    load.send_for(Duration::from_secs(3), 500);
    let leader = partitions(&bootstrap, "t")[0].0;
    nodes.nodes[usize::try_from(leader - 1).unwrap()].kill();
    load.send_for(Duration::from_secs(3), 500);
    let outcomes = load.finish();
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    let seen = reader.join().unwrap();
    assert_kept(&outcomes, &seen);
    assert_no_duplicates(&seen);
}

#[test]
fn nodes_on_neighbouring_ports() {
    let nodes = Nodes::raft(5, &[]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 5, 3, &[]);
    let outcomes = produce(&bootstrap, "t", 1_000, &[("acks", "all")]);
    all_acknowledged(&outcomes, 1_000);
    // Every node answers every client.
    for node in &nodes.nodes {
        assert_eq!(read_all(&node.bootstrap(), "t", 5).len(), 1_000);
    }
}

#[test]
fn the_timeout_message() {
    // A follower that is paused stays connected, and in sync until its session ends; a long session keeps it there.
    let nodes = Nodes::raft(3, &["--broker-session-timeout-ms", "60000"]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 1, 3, &[]);
    let (leader, isr) = partitions(&bootstrap, "t").remove(0);
    let paused = isr.into_iter().find(|node| *node != leader).unwrap();
    let at = usize::try_from(paused - 1).unwrap();
    nodes.nodes[at].signal("-STOP");
    let others: Vec<String> = nodes
        .nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != at)
        .map(|(_, node)| node.bootstrap())
        .collect();
    let outcomes = produce(
        &others.join(","),
        "t",
        1,
        &[("acks", "all"), ("request.timeout.ms", "1000"), ("retries", "0"), ("message.timeout.ms", "30000")],
    );
    nodes.nodes[at].signal("-CONT");
    assert!(outcomes.acknowledged.is_empty(), "{outcomes:?}");
    let leader = &nodes.nodes[usize::try_from(leader - 1).unwrap()];
    let line = leader.expect_log("ISR quorum timeout for t-0 offset 0 after ");
    let waits_on = format!("waiting on broker {paused} at 127.0.0.1:{} (last ack 0, ", nodes.nodes[at].port);
    assert!(line.contains(&waits_on), "{line}");
}

#[test]
fn a_leader_that_stops_in_order_hands_over_first() {
    let mut nodes = Nodes::raft(3, &[]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 6, 3, &[("min.insync.replicas", "2")]);
    let mut load = Load::new(&bootstrap, "t", &[("acks", "all"), ("enable.idempotence", "true")]);
    for at in 0..3 {
        load.send_for(Duration::from_millis(500), 500);
        nodes.nodes[at].stop();
        load.send_for(Duration::from_millis(500), 500);
        nodes.nodes[at].start();
        wait_in_sync(&bootstrap, "t", 3);
    }
    let outcomes = load.finish();
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    let read = read_all(&bootstrap, "t", 6);
    assert_kept(&outcomes, &read);
    assert_no_duplicates(&read);
}

#[test]
fn without_a_majority_producers_are_told_at_once() {
    let mut nodes = Nodes::raft(3, &[]).start();
    let bootstrap = nodes.bootstrap();
    create_topic(&bootstrap, "t", 3, 3, &[("min.insync.replicas", "2")]);
    nodes.nodes[1].kill();
    nodes.nodes[2].kill();
    let led =
        partitions(&nodes.nodes[0].bootstrap(), "t").iter().position(|(leader, _)| *leader == 1).unwrap();
    // The quorum that would take the dead out of the in-sync replicas is down as well.
    std::thread::sleep(Duration::from_secs(1));
    let bootstrap = nodes.nodes[0].bootstrap();
    let started = Instant::now();
    let outcomes = {
        let mut load =
            Load::new(&bootstrap, "t", &[("acks", "all"), ("retries", "0"), ("message.timeout.ms", "20000")]);
        load.send_to(i32::try_from(led).unwrap());
        load.finish()
    };
    assert_eq!(outcomes.failed.get(&0), Some(&RDKafkaErrorCode::NotEnoughReplicas), "{outcomes:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
}
