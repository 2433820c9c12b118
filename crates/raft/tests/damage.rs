//! Files that are torn are cut, and files that are damaged are never started on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, CallError, NodeId, Transport};
use chronik_raft::{RaftNode, RaftOptions, StartError};
use common::{Cluster, files, ids, large};
use tempfile::TempDir;

/// Nobody else is there.
struct Nobody;

impl Transport for Nobody {
    fn call(&self, to: NodeId, _: u8, _: Bytes, _: Duration) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(async move { Err(CallError::UnknownNode(to)) })
    }
}

/// The directory of a single voter that wrote `commands` commands, and was stopped.
async fn written(commands: usize, snapshot: bool) -> (TempDir, PathBuf) {
    let mut cluster = Cluster::of([1]).await;
    for nth in 0..commands {
        cluster.write(vec![large(10, nth)]).await;
    }
    if snapshot {
        cluster.nodes[&1].snapshot().await;
        common::eventually("a snapshot is there", || cluster.nodes[&1].status().snapshot > 0).await;
        cluster.write(vec![ids(1)]).await;
    }
    cluster.stop(1).await;
    let path = cluster.path(1);
    (cluster.directory, path)
}

async fn start(path: &Path) -> Result<RaftNode, StartError> {
    RaftNode::start(RaftOptions::new(1, path, Arc::new(Nobody))).await
}

/// A copy of the directory, to be damaged.
fn copy(path: &Path) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    for file in files(path, "") {
        fs::copy(&file, directory.path().join(file.file_name().expect("a name"))).expect("copied");
    }
    directory
}

/// Bytes without the zeros at the end, which make room for what comes next.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[position] ^= 0x10;
    fs::write(path, bytes).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damaged_byte_of_vote_and_snapshot_is_found() {
    let (_directory, path) = written(2, true).await;
    for (name, every) in [("vote", 17), ("snapshot", 3)] {
        let length = fs::read(path.join(name)).expect("read").len();
        for position in (0..length.min(160)).chain((160..length).step_by(every)) {
            let copied = copy(&path);
            flip(&copied.path().join(name), position);
            let error = start(copied.path()).await.expect_err("it is damaged");
            let text = error.to_string();
            assert!(text.contains(&format!("/{name}")), "byte {position}: {text}");
            match error {
                StartError::Foreign { .. } => assert!(position < 8, "byte {position}: {text}"),
                StartError::Newer { known: 1, .. } => {
                    assert!((8..12).contains(&position), "{position}: {text}")
                }
                StartError::Damaged { .. } => assert!(position >= 12, "byte {position}: {text}"),
                other => panic!("byte {position}: {other}"),
            }
        }
        for length in (0..length).step_by(every) {
            let copied = copy(&path);
            fs::File::options()
                .write(true)
                .open(copied.path().join(name))
                .and_then(|file| file.set_len(length as u64))
                .expect("cut");
            start(copied.path()).await.expect_err("it is cut short");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damaged_byte_of_the_log_is_found() {
    let (_directory, path) = written(3, false).await;
    let log = files(&path, "log-").remove(0);
    let name = log.file_name().expect("a name").to_owned();
    let length = fs::read(&log).expect("read").len();
    for position in 0..used(&fs::read(&log).expect("read")) {
        let copied = copy(&path);
        flip(&copied.path().join(&name), position);
        // In the middle it is damage by itself; at the end it looks like a torn write, and the note of what was committed gives it away.
        let error = start(copied.path()).await.expect_err("it is damaged");
        assert!(error.to_string().contains("/log-"), "byte {position}: {error}");
        if let StartError::Damaged { problem, .. } = &error {
            assert!(!problem.is_empty());
            assert!(error.to_string().contains("remove-voter"), "it says what to do: {error}");
        }
    }
    // A refused start changes nothing.
    assert_eq!(fs::read(&log).expect("read").len(), length);
    start(&path).await.expect("the undamaged one starts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_is_cut_and_reported() {
    let (_directory, path) = written(3, false).await;
    let log = files(&path, "log-").remove(0);
    let name = log.file_name().expect("a name").to_owned();
    let mut whole = fs::read(&log).expect("read");
    whole.truncate(used(&whole));
    // What a write that was cut short leaves: the beginning of a frame, and zeros where its bytes had not arrived.
    let frame = whole[whole.windows(4).rposition(|w| w == b"crf\x01").expect("a frame")..].to_vec();
    let half = [&frame[..frame.len() / 2], &[0; 5000]].concat();
    let tails =
        [vec![1], b"crf".to_vec(), b"crf\x01\0\0\0".to_vec(), frame[..frame.len() - 1].to_vec(), half];
    for tail in tails {
        let copied = copy(&path);
        let torn = copied.path().join(&name);
        fs::write(&torn, [whole.clone(), tail.clone()].concat()).expect("written");
        let node = start(copied.path()).await.expect("it starts");
        let cut = node.cut().cloned().expect("it is reported");
        assert_eq!((cut.position, cut.bytes), (whole.len() as u64, used(&tail) as u64));
        assert_eq!(node.image().offset(), 3);
        node.shutdown().await;
        assert!(fs::read(&torn).expect("read").starts_with(&whole));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_or_its_beginning_is_found() {
    let (_directory, path) = written(3, false).await;
    let name = files(&path, "log-").remove(0).file_name().expect("a name").to_owned();
    let copied = copy(&path);
    fs::remove_file(copied.path().join(&name)).expect("removed");
    let error = start(copied.path()).await.expect_err("the log is gone").to_string();
    assert!(error.contains("lost its end"), "{error}");
    // A torn note says nothing, and does not keep a node from starting.
    let copied = copy(&path);
    fs::write(copied.path().join("committed"), b"CHRONCMTtorn").expect("written");
    start(copied.path()).await.expect("it starts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_serves_one_node() {
    let (_directory, path) = written(1, false).await;
    let node = start(&path).await.expect("it starts");
    let error = start(&path).await.expect_err("it is in use");
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    node.shutdown().await;
    start(&path).await.expect("it starts again");
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_with_a_reason() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut options = RaftOptions::new(-1, directory.path(), Arc::new(Nobody));
    let error = RaftNode::start(options).await.expect_err("a negative id").to_string();
    assert!(error.contains("node.id = -1"), "{error}");
    options = RaftOptions::new(1, directory.path(), Arc::new(Nobody));
    options.timing.election_max = options.timing.election_min;
    let error = RaftNode::start(options).await.expect_err("no spread").to_string();
    assert!(error.contains("quorum.election.timeout.ms = 400"), "{error}");
    options = RaftOptions::new(1, directory.path(), Arc::new(Nobody));
    options.timing.heartbeat = Duration::from_millis(300);
    let error = RaftNode::start(options).await.expect_err("too close").to_string();
    assert!(error.contains("quorum.election.timeout.ms = 400"), "{error}");
}
