//! A quorum of three, with brokers that observe it.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use chronik_meta::MetaError;
use chronik_quorum::Quorum;
use common::*;

async fn three(net: &Net) -> Vec<Quorum> {
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(net.start(node, voters(&[1, 2, 3])).await);
    }
    all_ready(&nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

fn leader(nodes: &[Quorum]) -> Option<usize> {
    nodes.iter().position(Quorum::is_leader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_takes_changes() {
    let net = Net::new();
    let nodes = three(&net).await;
    let cluster = nodes[0].image().cluster_id();
    assert!(!cluster.is_zero());
    for (index, node) in nodes.iter().enumerate() {
        let name = format!("from-{index}");
        done(node, vec![topic(&name, index as u8 + 1, &[&[1, 2, 3]])]).await;
        assert!(node.image().topic(&name).is_some());
        assert_eq!(node.image().cluster_id(), cluster);
    }
    let four = net.start(4, observer(&[2, 3])).await;
    all_ready(&[&four]).await;
    done(&four, vec![topic("from-four", 9, &[&[4, 1]])]).await;
    let all: Vec<_> = nodes.iter().chain([&four]).collect();
    all_alike(&all).await;
    assert_eq!(four.leader(), leader(&nodes).map(|index| index as i32 + 1));
    assert_eq!(four.status().voters.len(), 3);
    let status = nodes[leader(&nodes).unwrap()].status();
    assert_eq!(status.sessions.len(), 4, "{status:?}");
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_fenced_and_its_partitions_go_to_others_soon() {
    let net = Net::new();
    let nodes = three(&net).await;
    let four = net.start(4, observer(&[1, 2, 3])).await;
    all_ready(&[&four]).await;
    let first = leader(&nodes).unwrap() as i32 + 1;
    let others: Vec<i32> = (1..=3).filter(|id| *id != first).collect();
    done(&four, vec![topic("a", 1, &[&[first, others[0], others[1]]])]).await;
    let begun = Instant::now();
    net.kill(first, true).await;
    let left: Vec<Quorum> = others.iter().map(|id| net.quorum(*id)).collect();
    until("another node leads the partition, and the observer knows", || {
        let image = four.image();
        let leads = leader_of(&image, "a", 0);
        leads != first && leads != -1 && image.broker(first).unwrap().fenced
    })
    .await;
    println!("failover took {:?}", begun.elapsed());
    assert!(!four.image().partition("a", 0).unwrap().isr.contains(&first));
    done(&four, vec![topic("b", 2, &[&[4]])]).await;
    all_alike(&[&left[0], &left[1], &four]).await;

    // It comes back, with what it had, and catches up.
    let how = How { cluster_id: Some(four.image().cluster_id()), ..How::new(first) };
    let back = net.start_as(first, voters(&[1, 2, 3]), how).await;
    all_ready(&[&back]).await;
    all_alike(&[&left[0], &left[1], &four, &back]).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_leader_is_replaced_and_learns_of_it() {
    let net = Net::new();
    let nodes = three(&net).await;
    let first = leader(&nodes).unwrap();
    let first_id = first as i32 + 1;
    let second = (first + 1) % 3;
    done(&nodes[second], vec![topic("a", 1, &[&[first_id, second as i32 + 1]])]).await;
    net.isolate(first_id);
    // A change that is asked for meanwhile is carried out by the next leader.
    let results = nodes[second].commit(vec![topic("b", 2, &[&[second as i32 + 1]])]).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert!(!nodes[first].is_leader());
    until("its partition has another leader", || {
        leader_of(&nodes[second].image(), "a", 0) == second as i32 + 1
    })
    .await;
    let refused = nodes[first].commit(vec![topic("c", 3, &[&[first_id]])]).await;
    assert!(matches!(refused[..], [Err(MetaError::NoQuorum | MetaError::TimedOut { .. })]), "{refused:?}");
    net.heal();
    until("it is let in again", || nodes[first].not_ready().is_none()).await;
    all_alike(&nodes.iter().collect::<Vec<_>>()).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_changes_are_refused_soon_and_reads_go_on() {
    let net = Net::new();
    let nodes = three(&net).await;
    let four = net.start(4, observer(&[1, 2, 3])).await;
    all_ready(&[&four]).await;
    done(&four, vec![topic("a", 1, &[&[1, 2, 3]])]).await;
    all_alike(&[&nodes[0], &four]).await;
    net.kill(2, true).await;
    net.kill(3, true).await;
    for node in [&nodes[0], &four] {
        let begun = Instant::now();
        let refused = node.commit(vec![topic("b", 2, &[&[1]])]).await;
        assert!(
            matches!(refused[..], [Err(MetaError::NoQuorum | MetaError::TimedOut { .. })]),
            "{refused:?}"
        );
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        assert!(node.image().topic("a").is_some());
    }
    until("nobody is known to lead", || nodes[0].leader().is_none() && four.leader().is_none()).await;
    until("it is known for long enough", || nodes[0].status().leaderless_ms.is_some_and(|ms| ms > 2000))
        .await;
    until("the observer knows, too", || four.status().leaderless_ms.is_some_and(|ms| ms > 2000)).await;
    for node in [&nodes[0], &four] {
        let begun = Instant::now();
        let refused = node.commit(vec![topic("c", 3, &[&[1]])]).await;
        assert_eq!(refused, [Err(MetaError::NoQuorum)]);
        assert!(begun.elapsed().as_millis() < 500, "{:?}", begun.elapsed());
    }

    // With a second voter it goes on.
    let how = How { cluster_id: Some(four.image().cluster_id()), ..How::new(2) };
    let two = net.start_as(2, voters(&[1, 2, 3]), how).await;
    all_ready(&[&two, &four]).await;
    done(&four, vec![topic("d", 4, &[&[1]])]).await;
    all_alike(&[&nodes[0], &two, &four]).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_may_vote_and_a_voter_may_observe() {
    let net = Net::new();
    let nodes = three(&net).await;
    let cluster = nodes[0].image().cluster_id();
    let four = net.start(4, observer(&[1])).await;
    all_ready(&[&four]).await;
    let adding = {
        let any = nodes[0].clone();
        tokio::spawn(async move { any.add_voter(4, address(4)).await })
    };
    until("node 4 is told to start anew", || {
        net.restarts()
            .iter()
            .any(|(node, restart)| *node == 4 && matches!(restart, chronik_quorum::Restart::Vote { .. }))
    })
    .await;
    net.kill(4, false).await;
    let how = How { cluster_id: Some(cluster), ..How::new(4) };
    let four = net.start_as(4, voters(&[1, 2, 3, 4]), how).await;
    adding.await.unwrap().unwrap();
    all_ready(&[&four]).await;
    assert_eq!(four.status().voters.len(), 4);

    let removed = leader(&nodes).map_or(1, |index| (index as i32 + 1) % 3 + 1);
    four.remove_voter(removed).await.unwrap();
    until("it is told to observe", || {
        net.restarts().iter().any(|(node, restart)| {
            *node == removed && matches!(restart, chronik_quorum::Restart::Observe { .. })
        })
    })
    .await;
    net.kill(removed, false).await;
    let how = How { cluster_id: Some(cluster), ..How::new(removed) };
    let observing = net.start_as(removed, observer(&[4]), how).await;
    all_ready(&[&observing]).await;
    done(&observing, vec![topic("a", 1, &[&[4]])]).await;
    all_alike(&[&four, &observing]).await;
    assert_eq!(four.status().voters.len(), 3);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_with_a_new_disk_gets_everything_again() {
    let net = Net::new();
    let nodes = three(&net).await;
    let any = &nodes[leader(&nodes).unwrap()];
    let wiped = (leader(&nodes).unwrap() as i32 + 1) % 3 + 1;
    done(any, vec![topic("a", 1, &[&[1, 2, 3]])]).await;
    all_alike(&nodes.iter().collect::<Vec<_>>()).await;
    net.kill(wiped, true).await;
    net.wipe(wiped);
    let back = net.start_as(wiped, voters(&[1, 2, 3]), How { directory: 77, ..How::new(wiped) }).await;
    all_ready(&[&back]).await;
    all_alike(&[any, &back]).await;
    let image = any.image();
    let partition = image.partition("a", 0).unwrap();
    until("it votes again", || any.status().voters.len() == 3).await;
    assert!(!partition.isr.contains(&wiped), "what its old disk held counts for nothing: {partition:?}");
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_voters_gets_everything_again() {
    let net = Net::new();
    let one = net.start(1, voters(&[1, 2])).await;
    let two = net.start(2, voters(&[1, 2])).await;
    all_ready(&[&one, &two]).await;
    done(&one, vec![topic("a", 1, &[&[1, 2]])]).await;
    all_alike(&[&one, &two]).await;
    // Whoever leads loses the other one: it can decide nothing until that is back.
    let (stays, wiped) = if one.is_leader() { (one, 2) } else { (two, 1) };
    net.kill(wiped, true).await;
    net.wipe(wiped);
    let back = net.start_as(wiped, voters(&[1, 2]), How { directory: 77, ..How::new(wiped) }).await;
    let id = 3 - wiped;
    until("the other one is to start anew", || net.restarts().iter().any(|(node, _)| *node == id)).await;
    let cluster = stays.image().cluster_id();
    net.kill(id, false).await;
    drop(stays);
    let how = How { cluster_id: Some(cluster), ..How::new(id) };
    let stays = net.start_as(id, voters(&[1, 2]), how).await;
    all_ready(&[&stays, &back]).await;
    assert!(back.image().topic("a").is_some());
    done(&back, vec![topic("b", 2, &[&[1, 2]])]).await;
    all_alike(&[&stays, &back]).await;
    net.close().await;
}
