//! How quorums begin, in any order and from any beginning.
#![allow(clippy::unwrap_used)]

mod common;

use chronik_meta::{Command, MetaError};
use chronik_quorum::{Mode, QuorumError, Role};
use common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_in_any_order() {
    for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        println!("order {order:?}");
        let net = Net::new();
        let first = net.start(order[0], voters(&[1, 2, 3])).await;
        until("the first one says what it waits for", || {
            first.not_ready().is_some_and(|problem| problem.contains("2 are needed"))
        })
        .await;
        let refused = first.commit(vec![Command::AllocateProducerIds { count: 1 }]).await;
        assert_eq!(refused, [Err(MetaError::NoQuorum)]);
        let second = net.start(order[1], voters(&[1, 2, 3])).await;
        all_ready(&[&first, &second]).await;
        done(&second, vec![topic("a", 1, &[&[order[0]]])]).await;
        let third = net.start(order[2], voters(&[1, 2, 3])).await;
        all_ready(&[&third]).await;
        done(&third, vec![topic("b", 2, &[&[order[0], order[1], order[2]]])]).await;
        all_alike(&[&first, &second, &third]).await;
        assert_eq!(third.status().voters.len(), 3);
        net.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once_make_one_cluster() {
    let net = Net::new();
    let begun = std::time::Instant::now();
    let starts: Vec<_> = (1..=5)
        .map(|node| {
            let net = net.clone();
            tokio::spawn(async move { net.start(node, voters(&[1, 2, 3, 4, 5])).await })
        })
        .collect();
    let mut nodes = Vec::new();
    for start in starts {
        nodes.push(start.await.unwrap());
    }
    let nodes: Vec<_> = nodes.iter().collect();
    all_ready(&nodes).await;
    println!("all five are in after {:?}", begun.elapsed());
    all_alike(&nodes).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_differ_are_named() {
    let net = Net::new();
    let one = net.start(1, voters(&[1, 2, 3])).await;
    let two = net.start(2, voters(&[1, 2])).await;
    until("both say so", || {
        [&one, &two]
            .iter()
            .all(|node| node.not_ready().is_some_and(|problem| problem.contains("same --peers")))
    })
    .await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_node_becomes_a_cluster_and_standalone_again() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    done(&one, vec![topic("kept", 1, &[&[1], &[1]])]).await;
    let cluster = one.image().cluster_id();
    net.kill(1, false).await;

    let how = How { cluster_id: Some(cluster), ..How::new(1) };
    let one = net.start_as(1, voters(&[1, 2, 3]), how).await;
    assert!(one.image().topic("kept").is_some(), "its topics are there from the first moment");
    all_ready(&[&one]).await;
    let two = net.start(2, voters(&[1, 2, 3])).await;
    let three = net.start(3, voters(&[1, 2, 3])).await;
    all_ready(&[&two, &three]).await;
    all_alike(&[&one, &two, &three]).await;
    assert_eq!(two.image().cluster_id(), cluster);
    assert_eq!(leader_of(&two.image(), "kept", 1), 1);
    until("all three vote", || one.status().voters.len() == 3).await;
    done(&three, vec![topic("in-cluster", 2, &[&[1, 2, 3]])]).await;

    // Back: not while others vote.
    all_alike(&[&one, &two, &three]).await;
    for node in [3, 2] {
        until("it is removed", || {
            let one = one.clone();
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current()
                    .block_on(async move { one.remove_voter(node).await.is_ok() })
            })
        })
        .await;
        net.kill(node, true).await;
    }
    until("it is the only voter", || one.status().voters.len() == 1 && one.is_leader()).await;
    let offset = one.image().offset();
    net.kill(1, false).await;
    drop((one, two, three));
    let one = net.start_as(1, Mode::Single, how).await;
    assert_eq!(one.status().role, Role::Voter);
    assert!(one.image().offset() > offset);
    assert!(one.image().topic("in-cluster").is_some());
    assert_eq!(one.image().cluster_id(), cluster);
    assert_eq!(one.not_ready(), None);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_of_three_does_not_go_its_own_way() {
    let net = Net::new();
    let one = net.start(1, voters(&[1, 2])).await;
    let two = net.start(2, voters(&[1, 2])).await;
    all_ready(&[&one, &two]).await;
    let cluster = one.image().cluster_id();
    net.kill(1, true).await;
    drop(one);
    let how = How { cluster_id: Some(cluster), ..How::new(1) };
    let refused = net.try_start(1, Mode::Single, how).await;
    assert!(matches!(refused, Err(QuorumError::InQuorum { ref voters }) if voters == &[1, 2]), "{refused:?}");
    let one = net.start_as(1, voters(&[1, 2]), how).await;
    all_ready(&[&one]).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_standalone_nodes_with_data_stay_apart_and_say_so() {
    let net = Net::new();
    let mut ids = Vec::new();
    for node in [1, 2] {
        let quorum = net.start(node, Mode::Single).await;
        done(&quorum, vec![topic("mine", 1, &[&[node]])]).await;
        ids.push(quorum.image().cluster_id());
        net.kill(node, false).await;
    }
    assert_ne!(ids[0], ids[1]);
    let one = net.start_as(1, voters(&[1, 2]), How { cluster_id: Some(ids[0]), ..How::new(1) }).await;
    let two = net.start_as(2, voters(&[1, 2]), How { cluster_id: Some(ids[1]), ..How::new(2) }).await;
    all_ready(&[&one, &two]).await;
    until("each says what is wrong with the other", || {
        [&one, &two]
            .iter()
            .all(|node| node.status().problems.iter().any(|problem| problem.contains("cluster")))
    })
    .await;
    assert_eq!(one.image().cluster_id(), ids[0]);
    assert_eq!(two.image().cluster_id(), ids[1]);
    net.close().await;
}
