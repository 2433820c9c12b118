//! What survives: everything that was answered, through any order of ends and starts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik_meta::Image;
use common::{Cluster, addresses, files, ids, large};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_killed_and_start_again() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    for round in 1..=3u64 {
        for _ in 0..5 {
            cluster.write(vec![ids(1)]).await;
        }
        let term = cluster.nodes[&1].status().term;
        for node in 1..=3 {
            cluster.kill(node);
        }
        for node in 1..=3 {
            cluster.start(node).await;
        }
        cluster.leader().await;
        assert!(cluster.nodes[&1].status().term >= term, "a vote is not forgotten");
        cluster.agree(round * 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_killed_one_by_one_while_others_write() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    let mut written = 0;
    for round in 0..6 {
        let victim = 1 + round % 3;
        cluster.kill(victim);
        for _ in 0..3 {
            cluster.write(vec![ids(1)]).await;
            written += 1;
        }
        cluster.start(victim).await;
        cluster.agree(written).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_alone_knows_what_was_committed() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    for _ in 0..5 {
        cluster.write(vec![ids(1)]).await;
    }
    cluster.agree(5).await;
    for node in 1..=3 {
        // In order, so that the note of what was committed is written, too: it is a hint and has no flush of its own.
        cluster.stop(node).await;
    }
    cluster.start(2).await;
    assert_eq!(cluster.nodes[&2].image().offset(), 5);
    assert!(!cluster.nodes[&2].is_leader());
    assert_eq!(cluster.nodes[&2].leader(), None);
    let told: u64 =
        cluster.changes[&2].lock().unwrap().iter().map(|change| change.commands.len() as u64).sum();
    assert_eq!(told, 5, "what is applied at the start is told, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_restarts_as_leader_serves_only_when_it_knows_everything() {
    let mut cluster = Cluster::of([1]).await;
    for round in 1..=5 {
        cluster.write(vec![ids(1)]).await;
        cluster.kill(1);
        // Without the note it has to find out what is committed.
        cluster.start_without_note(1).await;
        cluster.leader().await;
        assert_eq!(cluster.nodes[&1].image().offset(), round);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_flushed_where_nothing_is_to_survive_and_it_works_all_the_same() {
    let mut cluster = Cluster::adjusted([1, 2, 3], |options| options.durable = false).await;
    cluster.write(vec![ids(1)]).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.write(vec![ids(1)]).await;
    cluster.start(leader).await;
    cluster.agree(2).await;
}

/// It gets all again. (Whether such a node may vote before that is not decided here, but by who knows that the disk is a new one.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lost_its_disk_is_sent_everything_again() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    for _ in 0..5 {
        cluster.write(vec![ids(1)]).await;
    }
    cluster.agree(5).await;
    let leader = cluster.leader().await;
    let wiped = (1..=3).find(|id| *id != leader).expect("a follower");
    cluster.stop(wiped).await;
    std::fs::remove_dir_all(cluster.path(wiped)).expect("removed");
    cluster.start(wiped).await;
    cluster.agree(5).await;
    cluster.write(vec![ids(1)]).await;
    cluster.agree(6).await;
    assert_eq!(cluster.leader().await, leader);
}

/// Without flushes, as it takes many entries until one is removed.
fn small_snapshots(options: &mut chronik_raft::RaftOptions) {
    options.durable = false;
    options.snapshot_after_bytes = 20_000;
}

/// Writes until the log was folded so often that entries were removed from its front on every running node.
async fn write_until_purged(cluster: &Cluster) -> u64 {
    let started = Instant::now();
    let mut written = cluster.nodes[&cluster.leader().await].image().offset();
    while !cluster.nodes.values().all(|node| node.status().purged > 0) {
        let commands = (0..10).map(|nth| large(20, nth)).collect();
        cluster.write(commands).await;
        written += 10;
        assert!(started.elapsed() < Duration::from_secs(90), "entries are never removed");
        // Snapshots are made beside the writes, and need their turn.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.agree(written).await;
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::adjusted([1, 2, 3], small_snapshots).await;
    cluster.write(vec![ids(1)]).await;
    cluster.agree(1).await;
    cluster.kill(3);
    let written = write_until_purged(&cluster).await;
    cluster.start(3).await;
    assert_eq!(cluster.nodes[&3].status().snapshot, 0);
    cluster.agree(written).await;
    let status = cluster.nodes[&3].status();
    assert!(status.snapshot > 0, "{status:?}");
    let jumps = cluster.changes[&3].lock().unwrap().clone();
    assert!(jumps.iter().any(|change| change.commands.is_empty() && change.after > change.before));
    // What it got so is what it starts on, and it goes on from there.
    cluster.write(vec![ids(1)]).await;
    cluster.agree(written + 1).await;
    cluster.kill(3);
    cluster.start(3).await;
    cluster.agree(written + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_keep_the_log_small_and_nodes_start_on_them() {
    let mut cluster = Cluster::adjusted([1, 2, 3], small_snapshots).await;
    let written = write_until_purged(&cluster).await;
    for node in 1..=3 {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.start(node).await;
        assert!(cluster.nodes[&node].image().offset() > 0, "the snapshot is there at once");
    }
    cluster.write(vec![ids(1)]).await;
    cluster.agree(written + 1).await;
    assert_eq!(files(&cluster.path(1), "snapshot.new").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_nodes_image_becomes_the_start_of_a_cluster() {
    let mut image = Image::default();
    for nth in 0..50 {
        image.apply(&large(40_000, nth));
    }
    let image = Arc::new(image);
    let mut cluster = Cluster::empty(|_| {});
    cluster.start_with(1, Some(Arc::clone(&image))).await.expect("starts");
    cluster.nodes[&1].initialize(addresses([1, 2, 3])).await.expect("begins");
    assert_eq!(cluster.nodes[&1].image().offset(), 50, "it is there when beginning is done");
    assert_eq!(cluster.nodes[&1].status().voters.len(), 1, "alone until others have it, too");
    cluster.write(vec![ids(1)]).await;
    // A crash before the others are there, and the same call again: as at every start.
    cluster.kill(1);
    cluster.start_with(1, Some(image)).await.expect("starts");
    cluster.nodes[&1].initialize(addresses([1, 2, 3])).await.expect("goes on");
    cluster.start(3).await;
    cluster.start(2).await;
    cluster.voters(1, 3).await;
    cluster.agree(51).await;
    // What 1 had to itself is now everybody's.
    cluster.kill(1);
    cluster.write(vec![ids(1)]).await;
    cluster.agree(52).await;
}
