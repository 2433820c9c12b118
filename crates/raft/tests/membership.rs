//! Voters come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::time::Duration;

use chronik_raft::{ChangeError, Role, WriteError};
use common::{Cluster, addresses, eventually, ids};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_are_added_and_the_first_ones_may_go() {
    let mut cluster = Cluster::of([1]).await;
    for _ in 0..5 {
        cluster.write(vec![ids(1)]).await;
    }
    for node in [2, 3] {
        cluster.start(node).await;
        assert!(!cluster.nodes[&node].is_initialized());
        cluster.nodes[&1].add_voter(node, format!("host-{node}:9092")).await.expect("added");
    }
    cluster.agree(5).await;
    assert_eq!(cluster.nodes[&1].status().voters, addresses([1, 2, 3]));
    eventually("all know", || cluster.nodes[&3].status().voters == addresses([1, 2, 3])).await;
    // A leader may remove itself; the others elect one of them.
    let leader = cluster.leader().await;
    cluster.nodes[&leader].remove_voter(leader).await.expect("removed");
    let next = cluster.leader_but(leader).await;
    assert_eq!(cluster.nodes[&next].status().voters.len(), 2);
    assert!(!cluster.nodes[&next].status().voters.contains_key(&leader));
    cluster.kill(leader);
    cluster.write(vec![ids(1)]).await;
    cluster.agree(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_disturbs_nobody_and_can_be_added_again() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.nodes[&leader].status().term;
    let gone = (1..=3).find(|id| *id != leader).expect("a follower");
    cluster.nodes[&leader].remove_voter(gone).await.expect("removed");
    eventually("it misses its leader", || cluster.nodes[&gone].leader().is_none()).await;
    for _ in 0..20 {
        cluster.write(vec![ids(1)]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.nodes[&leader].status().term, term);
    assert!(cluster.nodes[&leader].is_leader());
    cluster.nodes[&leader].add_voter(gone, "host-again:9092".to_owned()).await.expect("added");
    cluster.agree(20).await;
    assert_eq!(cluster.nodes[&leader].status().voters[&gone], "host-again:9092");
    // A voter's address can change.
    cluster.nodes[&leader].add_voter(gone, "elsewhere:9092".to_owned()).await.expect("changed");
    assert_eq!(cluster.nodes[&leader].status().voters[&gone], "elsewhere:9092");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_a_reason() {
    let mut cluster = Cluster::adjusted([1], |options| {
        options.timing.change_timeout = Duration::from_millis(500);
    })
    .await;
    let node = cluster.nodes[&1].clone();
    assert_eq!(node.remove_voter(1).await, Err(ChangeError::LastVoter(1)));
    assert_eq!(node.remove_voter(5).await, Err(ChangeError::NotAVoter { node: 5, voters: vec![1] }));
    let absent = node.add_voter(4, "nowhere:1".to_owned()).await.expect_err("nobody is there");
    let text = absent.to_string();
    assert!(matches!(absent, ChangeError::NotCaughtUp { node: 4, waited_ms: 500, .. }), "{text}");
    assert!(text.contains("connection refused"), "{text}");
    assert_eq!(node.status().learners, [(4, "nowhere:1".to_owned())].into());
    cluster.write(vec![ids(1)]).await;
    node.remove_voter(4).await.expect("a learner can be forgotten");
    assert!(node.status().learners.is_empty());
    cluster.start(2).await;
    assert_eq!(
        cluster.nodes[&2].add_voter(3, String::new()).await,
        Err(ChangeError::Write(WriteError::NotLeader { leader: None }))
    );
    assert_eq!(
        cluster.nodes[&2].initialize(addresses([1, 3])).await,
        Err(ChangeError::Voters { node: 2, voters: vec![1, 3] })
    );
    assert_eq!(cluster.nodes[&2].status().role, Role::Learner);
    node.initialize(addresses([1, 2])).await.expect("does nothing on a node that has begun");
    assert_eq!(node.status().voters, addresses([1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_follows_without_a_vote_stays_a_learner() {
    let mut cluster = Cluster::adjusted([1, 2, 3], |options| {
        options.timing.change_timeout = Duration::from_millis(300);
    })
    .await;
    let leader = cluster.leader().await;
    // Added while it is away: it stays a learner, and learns when it comes.
    cluster.nodes[&leader].add_voter(4, "host-4:9092".to_owned()).await.expect_err("it is away");
    cluster.write(vec![ids(1)]).await;
    cluster.start(4).await;
    cluster.agree(1).await;
    let status = cluster.nodes[&4].status();
    assert_eq!(status.role, Role::Learner);
    assert_eq!(status.leader, Some(leader));
    cluster.nodes[&leader].add_voter(4, "host-4:9092".to_owned()).await.expect("now it is there");
    assert_eq!(cluster.nodes[&leader].status().voters.len(), 4);
}
