//! Who leads: one at a time, soon again when it dies, and the same one where only others have trouble.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::time::{Duration, Instant};

use chronik_raft::WriteError;
use common::{Cluster, eventually, ids};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_and_five_voters_elect_one() {
    for voters in [vec![1, 2, 3], vec![10, 20, 30, 40, 50]] {
        let cluster = Cluster::of(voters.clone()).await;
        let leader = cluster.leader().await;
        for node in cluster.nodes.values() {
            eventually("all know the leader", || node.leader() == Some(leader)).await;
            assert_eq!(node.is_leader(), node.status().node == leader);
            assert_eq!(node.status().voters.keys().copied().collect::<Vec<_>>(), voters);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_is_killed() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    let mut gaps = Vec::new();
    for round in 1..=3u64 {
        cluster.write(vec![ids(1)]).await;
        let leader = cluster.leader().await;
        let term = cluster.nodes[&leader].status().term;
        cluster.kill(leader);
        let killed = Instant::now();
        let next = cluster.leader().await;
        gaps.push(killed.elapsed().as_millis());
        assert_ne!(next, leader);
        assert!(cluster.nodes[&next].status().term > term);
        cluster.start(leader).await;
        cluster.agree(round).await;
    }
    println!("another led after {gaps:?} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_to_the_leader_is_no_election_while_it_lives() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.nodes[&leader].status().term;
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    for _ in 0..20 {
        cluster.nodes[&follower].on_lost(leader);
        cluster.write(vec![ids(1)]).await;
    }
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.nodes[&leader].status().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_deposes_nobody_when_it_comes_back() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.nodes[&leader].status().term;
    let away = (1..=3).find(|id| *id != leader).expect("a follower");
    cluster.network.isolate(away, [1, 2, 3]);
    eventually("it misses its leader", || cluster.nodes[&away].leader().is_none()).await;
    cluster.write(vec![ids(1)]).await;
    // Long enough for it to have asked for votes, several times.
    let asked = Instant::now();
    eventually("time passes", || asked.elapsed() > Duration::from_secs(2)).await;
    assert_eq!(cluster.nodes[&away].status().term, term, "it stands for no election that it can't win");
    cluster.network.heal();
    eventually("it is back", || cluster.nodes[&away].leader() == Some(leader)).await;
    cluster.write(vec![ids(1)]).await;
    cluster.agree(2).await;
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.nodes[&leader].status().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_but_is_heard_deposes_nobody() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.nodes[&leader].status().term;
    let deaf = (1..=3).find(|id| *id != leader).expect("a follower");
    cluster.network.cut(leader, deaf);
    eventually("it misses its leader", || cluster.nodes[&deaf].leader().is_none()).await;
    let missed = Instant::now();
    eventually("time passes", || missed.elapsed() > Duration::from_secs(2)).await;
    cluster.write(vec![ids(1)]).await;
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.nodes[&leader].status().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_ends_serving_before_another_begins() {
    let cluster = Cluster::of([1, 2, 3]).await;
    for round in 0..2 {
        let old = cluster.leader().await;
        cluster.network.isolate(old, [1, 2, 3]);
        let next = loop {
            // The new one is asked first: were it the other way round, the old one might end and the new one begin in between.
            let others = cluster.nodes.iter().filter(|(id, node)| **id != old && node.is_leader());
            let next = others.map(|(id, _)| *id).next();
            let old_serves = cluster.nodes[&old].is_leader();
            assert!(!(next.is_some() && old_serves), "two leaders serve at once");
            match next {
                Some(next) => break next,
                None => tokio::time::sleep(Duration::from_micros(200)).await,
            }
        };
        eventually("the old one knows that it has no majority", || cluster.nodes[&old].leader().is_none())
            .await;
        let refused = cluster.nodes[&old].write(vec![ids(1)]).await;
        assert!(
            matches!(refused, Err(WriteError::NoQuorum { answering: 1, voters: 3, needed: 2 })),
            "{refused:?}"
        );
        cluster.nodes[&next].write(vec![ids(1)]).await.expect("written").remove(0).expect("accepted");
        cluster.network.heal();
        eventually("the old one follows", || cluster.nodes[&old].leader() == Some(next)).await;
        cluster.agree(round + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_can_resign() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let old = cluster.leader().await;
    let begun = Instant::now();
    // On a busy machine nobody may take over in time, and the old leader leads again.
    while !cluster.nodes[&old].step_down().await {
        assert!(begun.elapsed() < common::PATIENCE, "nobody takes over");
    }
    assert!(!cluster.nodes[&old].is_leader());
    let next = cluster.leader().await;
    assert_ne!(next, old);
    cluster.write(vec![ids(1)]).await;
    cluster.agree(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_voter_leads_at_once() {
    let mut cluster = Cluster::empty(|_| {});
    cluster.start(7).await;
    let begun = Instant::now();
    cluster.nodes[&7].initialize(common::addresses([7])).await.expect("begins");
    cluster.leader().await;
    let first = begun.elapsed();
    cluster.write(vec![ids(1)]).await;
    cluster.stop(7).await;
    let begun = Instant::now();
    cluster.start(7).await;
    cluster.leader().await;
    println!("a single voter led after {first:?}, and after a restart after {:?}", begun.elapsed());
    cluster.agree(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leads_can_be_watched() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    let mut watch = cluster.nodes[&follower].watch();
    watch.wait_for(|known| known.leader == Some(leader)).await.expect("known");
    cluster.kill(leader);
    watch.wait_for(|known| known.leader.is_none()).await.expect("missed");
    watch.wait_for(|known| known.leader.is_some_and(|next| next != leader)).await.expect("elected");
}
