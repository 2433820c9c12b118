//! A follower is made the voter, and the earlier voter comes back.
#![allow(clippy::unwrap_used)]

mod common;

use chronik_quorum::{Mode, Role};
use common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_takes_over_and_the_old_voter_steps_back() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let two = net.start(2, observer(&[1])).await;
    let three = net.start(3, observer(&[1])).await;
    all_ready(&[&two, &three]).await;
    done(&one, vec![topic("kept", 1, &[&[1, 2, 3]])]).await;
    all_alike(&[&one, &two, &three]).await;
    let cluster = one.image().cluster_id();

    // The voter goes on for a while with what nobody else hears of.
    net.isolate(1);
    done(&one, vec![topic("lost", 2, &[&[1]])]).await;
    net.kill(1, true).await;
    net.heal();
    assert!(three.promote().await.is_ok());
    assert_eq!(three.status().role, Role::Voter);
    assert!(three.promote().await.unwrap_err().contains("already"));
    until("node 2 follows node 3", || two.leader() == Some(3)).await;
    until("the dead voter is fenced", || two.image().broker(1).unwrap().fenced).await;
    all_ready(&[&two, &three]).await;
    done(&two, vec![topic("new", 3, &[&[2, 3]])]).await;
    all_alike(&[&two, &three]).await;
    assert_ne!(leader_of(&two.image(), "kept", 0), 1);

    // The old voter starts as it always did.
    let how = How { cluster_id: Some(cluster), ..How::new(1) };
    let one = net.start_as(1, Mode::Single, how).await;
    until("it steps back", || one.status().role == Role::Observer && one.leader() == Some(3)).await;
    all_ready(&[&one]).await;
    all_alike(&[&one, &two, &three]).await;
    assert!(one.image().topic("lost").is_none());
    assert!(one.image().topic("new").is_some());
    done(&one, vec![topic("by-the-old-one", 4, &[&[1]])]).await;

    // All remember over a restart, however they are started.
    for node in [1, 3] {
        net.kill(node, true).await;
    }
    let three = net.start_as(3, observer(&[1]), How { cluster_id: Some(cluster), ..How::new(3) }).await;
    assert_eq!(three.status().role, Role::Voter);
    let one = net.start_as(1, Mode::Single, how).await;
    assert_eq!(one.status().role, Role::Observer);
    all_ready(&[&one, &two, &three]).await;
    all_alike(&[&one, &two, &three]).await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_only_cut_off_steps_back_too() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    net.isolate(1);
    two.promote().await.unwrap();
    done(&two, vec![topic("new", 1, &[&[2]])]).await;
    assert!(one.is_leader(), "nobody could tell it yet");
    net.heal();
    until("it hears", || !one.is_leader() && one.leader() == Some(2)).await;
    all_ready(&[&one]).await;
    all_alike(&[&one, &two]).await;
    assert_eq!(one.status().generation, 1);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_of_a_quorum_are_not_promoted() {
    let net = Net::new();
    let one = net.start(1, voters(&[1, 2])).await;
    let two = net.start(2, voters(&[1, 2])).await;
    let three = net.start(3, observer(&[1, 2])).await;
    all_ready(&[&one, &two, &three]).await;
    assert!(three.promote().await.unwrap_err().contains("they elect a leader by themselves"));
    assert!(one.promote().await.unwrap_err().contains("Raft"));
    net.close().await;
}
