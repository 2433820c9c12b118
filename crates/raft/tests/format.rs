//! Directories that earlier versions wrote. Every later version must start on them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Cluster, addresses, files, ids, large};

fn fixture(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

/// What the fixture's node had done: a snapshot after three commands and two more in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_version_1_opens() {
    let mut cluster = Cluster::empty(|_| {});
    let directory = cluster.path(1);
    fs::create_dir_all(&directory).expect("made");
    for file in files(&fixture("v1"), "") {
        fs::copy(&file, directory.join(file.file_name().expect("a name"))).expect("copied");
    }
    cluster.start(1).await;
    let status = cluster.nodes[&1].status();
    assert_eq!(status.term, 1);
    assert!(status.snapshot > 0 && status.snapshot < status.last_log, "{status:?}");
    assert_eq!(status.voters, addresses([1]));
    assert_eq!(cluster.nodes[&1].image().offset(), 5);
    assert_eq!(cluster.nodes[&1].image().next_producer_id(), 42);
    assert_eq!(cluster.nodes[&1].image().default_broker_configs().len(), 3);
    cluster.write(vec![ids(1)]).await;
    assert_eq!(cluster.nodes[&1].image().offset(), 6);
}

/// How the fixture was made; it is run once for each version of the format.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes the fixture"]
async fn write_the_fixture() {
    let mut cluster = Cluster::of([1]).await;
    for nth in 0..3 {
        cluster.write(vec![large(10, nth)]).await;
    }
    cluster.nodes[&1].snapshot().await;
    common::eventually("a snapshot is there", || cluster.nodes[&1].status().snapshot > 0).await;
    cluster.write(vec![ids(40)]).await;
    cluster.write(vec![ids(2)]).await;
    cluster.stop(1).await;
    let target = fixture("v1");
    fs::create_dir_all(&target).expect("made");
    for file in files(&cluster.path(1), "").into_iter().filter(|file| !file.ends_with("lock")) {
        let mut bytes = fs::read(&file).expect("read");
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
            // The room for what comes next is not worth keeping.
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        fs::write(target.join(file.file_name().expect("a name")), bytes).expect("written");
    }
}
