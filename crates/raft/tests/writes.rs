//! What is written: in order, on every node alike, and not at all without a majority.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::time::{Duration, Instant};

use chronik_meta::{MetaError, Reply};
use chronik_raft::WriteError;
use common::{Cluster, PATIENCE, eventually, ids, large, refused};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_has_its_answer_and_a_refused_one_changes_nothing() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let results = cluster.nodes[&leader].write(vec![ids(5), refused(), ids(7)]).await.expect("written");
    assert_eq!(results[0], Ok(Reply::ProducerIds { first: 0, count: 5 }));
    assert_eq!(results[1], Err(MetaError::ProducerIds { count: 0, next: 5 }));
    assert_eq!(results[2], Ok(Reply::ProducerIds { first: 5, count: 7 }));
    cluster.agree(2).await;
    let results = cluster.nodes[&leader].write(vec![refused()]).await.expect("written");
    assert!(results[0].is_err());
    assert_eq!(cluster.nodes[&leader].write(Vec::new()).await, Ok(Vec::new()));
    cluster.agree(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_get_ranges_of_their_own_and_every_node_is_told_in_order() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..20u32 {
        let node = cluster.nodes[&leader].clone();
        writers.spawn(async move {
            let mut ranges = Vec::new();
            for _ in 0..25 {
                match node.write(vec![ids(writer + 1)]).await.expect("written")[0] {
                    Ok(Reply::ProducerIds { first, count }) => ranges.push((first, count)),
                    ref other => panic!("{other:?}"),
                }
            }
            ranges
        });
    }
    let mut ranges = writers.join_all().await.concat();
    println!("500 commands of 20 writers in {:?}", began.elapsed());
    ranges.sort_unstable();
    let mut next = 0;
    for (first, count) in ranges {
        assert_eq!(first, next);
        next += i64::from(count);
    }
    cluster.agree(500).await;
    for changes in cluster.changes.values() {
        let mut at = 0;
        for change in changes.lock().unwrap().iter() {
            assert_eq!(change.before, at);
            at += change.commands.len() as u64;
            assert_eq!(change.after, at);
        }
        assert_eq!(at, 500);
    }
    let entries = cluster.nodes[&leader].status().last_log;
    assert!(entries < 500, "writers at the same time share entries: {entries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    eventually("it knows the leader", || cluster.nodes[&follower].leader() == Some(leader)).await;
    let refused = cluster.nodes[&follower].write(vec![ids(1)]).await;
    assert_eq!(refused, Err(WriteError::NotLeader { leader: Some(leader) }));
    let refused = cluster.nodes[&follower].confirm_leader().await;
    assert_eq!(refused, Err(WriteError::NotLeader { leader: Some(leader) }));
    cluster.nodes[&leader].confirm_leader().await.expect("it leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_writes_are_refused_at_once_and_go_on_when_it_is_back() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    cluster.write(vec![ids(1)]).await;
    let leader = cluster.leader().await;
    let followers: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    for follower in &followers {
        cluster.kill(*follower);
    }
    eventually("it knows that it has no majority", || cluster.nodes[&leader].leader().is_none()).await;
    assert!(!cluster.nodes[&leader].is_leader());
    let began = Instant::now();
    let refused = cluster.nodes[&leader].write(vec![ids(1)]).await.expect_err("no majority");
    assert!(matches!(refused, WriteError::NoQuorum { answering: 1, voters: 3, needed: 2 }), "{refused:?}");
    assert!(refused.to_string().contains("1 of 3 voters answer, 2 are needed"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(2), "it is said at once");
    assert_eq!(cluster.nodes[&leader].image().offset(), 1, "what is known can be read");
    let status = cluster.nodes[&leader].status();
    assert!(status.followers.iter().all(|f| f.problem.is_some()), "{status:?}");
    cluster.start(followers[0]).await;
    cluster.write(vec![ids(1)]).await;
    cluster.agree(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_under_way_when_the_leader_is_cut_off_is_refused_or_of_unknown_outcome_and_never_lost_if_answered()
 {
    let cluster = Cluster::adjusted([1, 2, 3], |options| {
        options.timing.write_timeout = Duration::from_millis(1500);
    })
    .await;
    let old = cluster.leader().await;
    let node = cluster.nodes[&old].clone();
    let writer = tokio::spawn(async move {
        let mut written = 0;
        loop {
            match node.write(vec![ids(1)]).await {
                Ok(_) => written += 1,
                Err(error) => return (written, error),
            }
        }
    });
    eventually("some are written", || cluster.nodes[&old].image().offset() > 10).await;
    cluster.network.isolate(old, [1, 2, 3]);
    let (written, error) = tokio::time::timeout(PATIENCE, writer).await.expect("it ends").expect("no panic");
    assert!(
        matches!(error, WriteError::TimedOut { waited_ms: 1500 } | WriteError::NoQuorum { .. }),
        "{error:?}"
    );
    let next = cluster.leader_but(old).await;
    let found = cluster.nodes[&next].image().offset();
    assert!(found >= written, "{written} were answered, {found} are there");
    cluster.network.heal();
    eventually("the old one follows", || cluster.nodes[&old].leader().is_some_and(|leader| leader != old))
        .await;
    cluster.write(vec![ids(1)]).await;
    let offset = cluster.nodes[&cluster.leader().await].image().offset();
    assert_eq!(offset, found + 1, "nothing that was refused came in later");
    cluster.agree(offset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_commands_travel() {
    let cluster = Cluster::of([1, 2, 3]).await;
    for nth in 0..3 {
        cluster.write(vec![large(3 << 20, nth), ids(1)]).await;
    }
    cluster.agree(6).await;
    let leader = cluster.leader().await;
    let too_large = cluster.nodes[&leader].write(vec![large(65 << 20, 0)]).await;
    assert!(matches!(too_large, Err(WriteError::TooLarge { limit: 67_108_864, .. })), "{too_large:?}");
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_shows_what_is_going_on() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let away = (1..=3).find(|id| *id != leader).expect("a follower");
    cluster.kill(away);
    for _ in 0..5 {
        cluster.write(vec![ids(1)]).await;
    }
    let status = cluster.nodes[&leader].status();
    assert!(
        status.serving && status.leader == Some(leader) && status.vote == Some(leader) && status.vote_won
    );
    assert_eq!(status.applied, status.last_log);
    assert_eq!(status.committed, status.last_log);
    assert_eq!(status.problem, None);
    assert!(status.log_bytes > 0);
    let of = |id| status.followers.iter().find(|f| f.node == id).expect("a follower");
    assert!(of(away).lag >= 5, "{status:?}");
    assert!(of(away).problem.as_ref().is_some_and(|problem| problem.contains("connection refused")));
    assert!(status.majority_answered_ago.is_some_and(|ago| ago < Duration::from_secs(1)));
    cluster.start(away).await;
    eventually("it caught up", || {
        cluster.nodes[&leader].status().followers.iter().all(|f| f.lag == 0 && f.problem.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_end_a_node_says_so() {
    let cluster = Cluster::of([1]).await;
    cluster.nodes[&1].shutdown().await;
    assert_eq!(cluster.nodes[&1].write(vec![ids(1)]).await, Err(WriteError::Closed));
    assert!(!cluster.nodes[&1].is_leader());
    assert_eq!(cluster.nodes[&1].leader(), None);
}
