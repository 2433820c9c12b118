//! One voter: it needs nobody; others may follow it.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use chronik_base::ErrorCode;
use chronik_meta::{Command, MetaError};
use chronik_quorum::{Mode, Role, kind};
use common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_decides_at_once_and_keeps_it() {
    let net = Net::new();
    let begun = Instant::now();
    let one = net.start(1, Mode::Single).await;
    let took = begun.elapsed();
    assert!(took.as_millis() < 2000, "{took:?}");
    assert_eq!(one.not_ready(), None);
    assert_eq!((one.leader(), one.is_leader()), (Some(1), true));
    let cluster = one.image().cluster_id();
    assert!(!cluster.is_zero());
    done(&one, vec![topic("a", 1, &[&[1]])]).await;
    assert!(matches!(one.commit(vec![topic("a", 2, &[&[1]])]).await[..], [Err(MetaError::TopicExists(_))]));
    let image = one.image();
    net.kill(1, false).await;
    assert!(matches!(one.commit(vec![topic("b", 3, &[&[1]])]).await[..], [Err(MetaError::Closed)]));

    let one = net.start_as(1, Mode::Single, How { cluster_id: Some(cluster), ..How::new(1) }).await;
    assert_eq!(one.not_ready(), None);
    assert_eq!(one.image().cluster_id(), cluster);
    assert!(one.image().broker(1).unwrap().epoch > image.broker(1).unwrap().epoch);
    assert_eq!(leader_of(&one.image(), "a", 0), 1);
    let status = one.status();
    assert_eq!((status.role, status.problems.len()), (Role::Voter, 0));
    one.begin_shutdown().await;
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_learn_by_commands_and_by_snapshot() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    done(&one, (0..20).map(|index| topic(&format!("t{index}"), index + 1, &[&[1]])).collect()).await;
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    all_alike(&[&one, &two]).await;
    assert!(two.counters().snapshots_taken >= 1, "it began with a snapshot: {:?}", two.counters());
    assert_eq!(two.leader(), Some(1));
    assert!(!two.is_leader());

    // One change, one answer; and the owner hears of each command.
    let taken = two.counters().snapshots_taken;
    let before = net.changes(2).len();
    done(&one, vec![topic("later", 50, &[&[1, 2]])]).await;
    all_alike(&[&one, &two]).await;
    until("the owner of node 2 has heard", || net.changes(2).len() > before).await;
    assert_eq!(two.counters().snapshots_taken, taken);
    let changes = net.changes(2);
    for pair in changes.windows(2) {
        assert_eq!(pair[0].after, pair[1].before, "{changes:?}");
    }
    assert!(changes[before..].iter().all(|change| change.after - change.before == change.commands as u64));

    // Idle, nobody asks without end.
    let asked = net.calls(kind::FETCH_METADATA);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(net.calls(kind::FETCH_METADATA) - asked <= 2);

    // A copy that was away for a while goes on from where it was.
    net.kill(2, true).await;
    done(&one, vec![topic("while-away", 51, &[&[1]])]).await;
    let two = net
        .start_as(2, observer(&[1]), How { cluster_id: Some(one.image().cluster_id()), ..How::new(2) })
        .await;
    assert!(two.image().offset() > 0, "the copy is on disk");
    all_ready(&[&two]).await;
    all_alike(&[&one, &two]).await;
    assert_eq!(two.counters().snapshots_taken, 0);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_has_changes_made_by_the_voter() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    done(&two, vec![topic("from-two", 1, &[&[2, 1]])]).await;
    assert!(two.image().topic("from-two").is_some(), "done comes after this node's image has it");
    assert!(one.image().topic("from-two").is_some());
    let refused = two.commit(vec![topic("from-two", 2, &[&[1]]), topic("other", 3, &[&[1]])]).await;
    let codes: Vec<_> = refused.iter().map(|result| result.as_ref().err().map(MetaError::code)).collect();
    assert_eq!(codes, [Some(ErrorCode::TopicAlreadyExists), None]);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_does_not_do_it_twice() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    let first = one.image().next_producer_id();
    net.lose_answers(2, 1, kind::SUBMIT);
    let asking = {
        let two = two.clone();
        tokio::spawn(async move { two.commit(vec![Command::AllocateProducerIds { count: 7 }]).await })
    };
    until("the voter has carried it out", || one.image().next_producer_id() == first + 7).await;
    let sent = net.calls(kind::SUBMIT);
    until("it is asked again", || net.calls(kind::SUBMIT) > sent + 1).await;
    net.heal();
    let results = asking.await.unwrap();
    assert!(
        matches!(results[..], [Ok(chronik_meta::Reply::ProducerIds { first: given, count: 7 })] if given == first),
        "{results:?}"
    );
    assert_eq!(one.image().next_producer_id(), first + 7);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_stays_out() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    done(&one, vec![topic("mine", 1, &[&[1]])]).await;
    let how = How { cluster_id: Some(uuid(77)), ..How::new(2) };
    let two = net.start_as(2, observer(&[1]), how).await;
    until("node 2 says what is wrong", || {
        two.not_ready().is_some_and(|problem| problem.contains("this node stays out"))
    })
    .await;
    assert!(one.image().broker(2).is_none());
    assert_eq!(two.image().offset(), 0);
    net.close().await;
}
