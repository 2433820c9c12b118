//! `chronik log`, on what a node left behind.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Node, data_dir, run, stderr, stdout};

fn log(action: &[&str], data: &str) -> std::process::Output {
    run(&[&["log"], action, &["--data-dir", data]].concat())
}

fn digest(data: &str) -> Value {
    let output = log(&["digest", "--topic", "orders", "--json"], data);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn files(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.file_name().unwrap() != "lock" {
            found.insert(path.to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
        }
    }
}

fn snapshot(data: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    files(Path::new(data), &mut found);
    found
}

#[test]
fn what_a_killed_node_left_is_seen_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(&dir);
    let mut node = Node::start(&["--data-dir", &data]);
    assert!(node.admin(&["topic", "create", "orders", "-p", "1"]).status.success());
    for codec in ["none", "zstd"] {
        let lines: String = (0..500).map(|i| format!("key{i}:{codec} value {i}\n")).collect();
        let sent = node
            .admin_with_input(&["produce", "orders", "--key-separator", ":", "--compression", codec], &lines);
        assert!(sent.status.success(), "{}", stderr(&sent));
    }
    let in_use = log(&["verify"], &data);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(stderr(&in_use).contains(&node.pid().to_string()), "{}", stderr(&in_use));
    node.signal(Signal::KILL);
    node.wait();

    let before = snapshot(&data);
    let verified = log(&["verify", "--json"], &data);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let orders = verified["partitions"].as_array().unwrap().iter().find(|p| p["topic"] == "orders").unwrap();
    assert_eq!(orders["records"], 1000);
    let after_kill = digest(&data);
    assert_eq!(after_kill[0]["records"], 1000);
    let dumped = log(&["dump", "--topic", "orders", "--records", "--from", "999", "--json"], &data);
    let record: Value = serde_json::from_slice(&dumped.stdout).unwrap();
    assert_eq!((record["key"].as_str(), record["value"].as_str()), (Some("key499"), Some("zstd value 499")));
    assert!(snapshot(&data) == before, "looking at the log changed it");

    let mut node = Node::start(&["--data-dir", &data]);
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), Some(0));
    assert_eq!(digest(&data), after_kill);
}

#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(&dir);
    let mut node = Node::start(&["--data-dir", &data]);
    let lines: String = (0..2000).map(|i| format!("a value that is long enough to be found {i}\n")).collect();
    assert!(node.admin_with_input(&["produce", "orders"], &lines).status.success());
    node.signal(Signal::TERM);
    node.wait();
    let all = snapshot(&data);
    let (path, bytes) =
        all.iter().find(|(path, bytes)| path.ends_with(".log") && bytes.len() > 10_000).unwrap();
    let mut bytes = bytes.clone();
    bytes[5_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let verified = log(&["verify"], &data);
    assert_eq!(verified.status.code(), Some(1), "{}", stdout(&verified));
    assert!(stdout(&verified).to_lowercase().contains("crc"), "{}", stdout(&verified));
}

#[test]
fn a_folder_that_is_no_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = log(&["verify"], dir.path().to_str().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no data directory"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
