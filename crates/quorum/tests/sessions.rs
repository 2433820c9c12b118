//! Brokers that die, come back, and stop in order.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use chronik_meta::{AlterPartition, Command};
use chronik_quorum::{Mode, Quorum};
use common::*;

/// One voter and two followers, with a partition on all of them that node 2 leads.
async fn standalone_with_followers(net: &Net) -> [Quorum; 3] {
    let one = net.start(1, Mode::Single).await;
    let two = net.start(2, observer(&[1])).await;
    let three = net.start(3, observer(&[1])).await;
    all_ready(&[&two, &three]).await;
    done(&one, vec![topic("a", 1, &[&[2, 1, 3]])]).await;
    all_alike(&[&one, &two, &three]).await;
    [one, two, three]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_process_is_gone_is_fenced_at_once() {
    let net = Net::new();
    let [one, _, three] = standalone_with_followers(&net).await;
    let begun = Instant::now();
    net.kill(2, true).await;
    until("node 1 leads", || leader_of(&three.image(), "a", 0) == 1).await;
    let took = begun.elapsed();
    // Well before the session of 1500 ms ends.
    assert!(took < Duration::from_millis(1000), "{took:?}");
    assert_eq!(&*one.image().partition("a", 0).unwrap().isr, [1, 3]);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_fenced_when_its_session_is_over_and_let_in_again() {
    let net = Net::new();
    let [one, two, three] = standalone_with_followers(&net).await;
    let epoch = two.broker_epoch();
    net.isolate(2);
    until("node 1 leads", || leader_of(&three.image(), "a", 0) == 1).await;
    assert!(one.image().broker(2).unwrap().fenced);
    assert_eq!(one.counters().fenced, 1);
    net.heal();
    until("node 2 is let in again", || two.not_ready().is_none() && !one.image().broker(2).unwrap().fenced)
        .await;
    assert_eq!(two.broker_epoch(), epoch, "it did not register again: it is the same process");
    assert_eq!(leader_of(&one.image(), "a", 0), 1);

    // It is in sync again: the leadership goes back to it.
    let image = one.image();
    let partition = image.partition("a", 0).unwrap();
    let members = [1, 2, 3].map(|id| (id, image.broker(id).unwrap().epoch));
    let alter = AlterPartition {
        topic: topic_id(1),
        partition: 0,
        leader: 1,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: members.to_vec(),
    };
    done(&one, vec![Command::AlterPartition(alter)]).await;
    until("the preferred replica leads", || leader_of(&two.image(), "a", 0) == 2).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_starts_again_gets_a_new_epoch() {
    let net = Net::new();
    let [one, two, _] = standalone_with_followers(&net).await;
    let epoch = two.broker_epoch().unwrap();
    // Nobody heard that it went.
    net.kill(2, false).await;
    let how = How { cluster_id: Some(one.image().cluster_id()), ..How::new(2) };
    let two = net.start_as(2, observer(&[1]), how).await;
    until("it is registered anew", || two.broker_epoch().is_some_and(|new| new > epoch)).await;
    all_ready(&[&two]).await;
    assert_ne!(leader_of(&one.image(), "a", 0), 2, "what it led went to others when it registered");
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_ready_is_not_let_in() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let two = net.start_as(2, observer(&[1]), How { ready: false, ..How::new(2) }).await;
    until("it is registered", || two.broker_epoch().is_some()).await;
    let offset = one.image().offset();
    done(&one, vec![topic("a", 1, &[&[1, 2]])]).await;
    until("it has heard of a change", || two.image().offset() > offset).await;
    assert!(one.image().broker(2).unwrap().fenced);
    two.set_ready(true);
    all_ready(&[&two]).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_move_before_a_broker_stops() {
    let net = Net::new();
    let [one, two, three] = standalone_with_followers(&net).await;
    let begun = Instant::now();
    two.begin_shutdown().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // Everybody knows, the moment it may stop.
    for node in [&one, &two, &three] {
        assert_ne!(leader_of(&node.image(), "a", 0), 2);
    }
    assert!(one.image().broker(2).unwrap().in_shutdown);
    net.kill(2, true).await;
    until("it is fenced", || one.image().broker(2).unwrap().fenced).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_does_not_wait_for_voters_that_are_gone_before_it_stops() {
    let net = Net::new();
    let [_, two, _] = standalone_with_followers(&net).await;
    net.kill(1, true).await;
    let begun = Instant::now();
    two.begin_shutdown().await;
    let took = begun.elapsed();
    // With somebody left to decide it would wait for 5 s.
    assert!(took < Duration::from_secs(4), "{took:?}");
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_put_on_every_broker_where_that_is_asked_for() {
    let net = Net::new();
    let how = How { replicate_everything: true, ..How::new(1) };
    let one = net.start_as(1, Mode::Single, how).await;
    done(&one, vec![topic("before", 1, &[&[1], &[1]])]).await;
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    let on_both = |name: &str, partition: i32| {
        let image = one.image();
        let replicas = image.partition(name, partition).unwrap().replicas.to_vec();
        replicas.contains(&1) && replicas.contains(&2)
    };
    until("what was there is on both", || on_both("before", 0) && on_both("before", 1)).await;
    done(&two, vec![topic("after", 2, &[&[1]])]).await;
    until("what comes is on both", || on_both("after", 0)).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_with_a_taken_id_is_told() {
    let net = Net::new();
    let [one, two, _] = standalone_with_followers(&net).await;
    let epoch = two.broker_epoch();
    // Another directory, under the id of a node that lives.
    let elsewhere = Net::new();
    let stranger = elsewhere.start_beside(&net, 2, observer(&[1]), How { directory: 9, ..How::new(2) }).await;
    until("it says so", || stranger.not_ready().is_some_and(|problem| problem.contains("another --node-id")))
        .await;
    assert_eq!(two.not_ready(), None);
    assert_eq!(two.broker_epoch(), epoch);
    // The other one goes: then it is a disk that was replaced.
    net.kill(2, true).await;
    until("it is let in", || stranger.not_ready().is_none()).await;
    assert_eq!(one.image().broker(2).unwrap().directory, uuid(9));
    stranger.close().await;
    net.close().await;
}
