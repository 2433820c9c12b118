//! A full disk: a voter waits for room, and loses nothing. It needs a small file system:
//! `mount -t tmpfs -o size=3m tmpfs DIR`, then `CHRONIK_SMALL_DISK=DIR cargo test -p chronik-raft --test full_disk -- --ignored`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chronik_raft::WriteError;
use common::{Cluster, ids, large};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a small file system"]
async fn a_voter_waits_for_room_and_loses_nothing() {
    let disk = PathBuf::from(std::env::var_os("CHRONIK_SMALL_DISK").expect("CHRONIK_SMALL_DISK is set"));
    let filler = disk.join("filler");
    fs::write(&filler, vec![1; 1_500_000]).expect("it fits");
    let mut cluster = Cluster::empty(|options| options.timing.write_timeout = Duration::from_secs(2));
    cluster.directory = tempfile::tempdir_in(&disk).expect("a directory");
    cluster.start(1).await;
    cluster.nodes[&1].initialize(common::addresses([1])).await.expect("begins");
    cluster.leader().await;
    let mut written = 0;
    let refused = loop {
        match cluster.nodes[&1].write(vec![large(100_000, written as usize)]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk is not small");
    };
    assert!(matches!(refused, WriteError::TimedOut { .. }), "{refused:?}");
    assert_eq!(cluster.nodes[&1].status().problem, None, "it waits, and has not stopped");
    fs::remove_file(&filler).expect("removed");
    cluster.write(vec![ids(1)]).await;
    // The one of unknown outcome came in once there was room.
    let expected = written + 2;
    assert_eq!(cluster.nodes[&1].image().offset(), expected);
    cluster.kill(1);
    cluster.start(1).await;
    cluster.leader().await;
    assert_eq!(cluster.nodes[&1].image().offset(), expected);
}
