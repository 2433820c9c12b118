//! How a node starts, why it doesn't, and how it ends.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{
    Node, api_versions_request, chronik, data_dir, receive_frame, run, send_frame, stderr, stdout,
};
use rustix::process::Signal;

fn fails(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for word in words {
        assert!(errors[0].contains(word), "{word} is not in {text}");
    }
}

#[test]
fn settings_that_do_not_fit_the_mode_are_refused() {
    let peers = "1@127.0.0.1:9092,2@127.0.0.1:9093,3@127.0.0.1:9094";
    fails(&["raft-cluster", "--node-id", "1"], 2, &["a raft cluster needs peers or join"]);
    fails(&["raft-cluster", "--peers", peers], 2, &["node.id is not set"]);
    fails(
        &["raft-cluster", "--node-id", "4", "--peers", peers],
        2,
        &["node.id = 4 is not among peers", "--join HOST:PORT"],
    );
    fails(
        &["raft-cluster", "--node-id", "1", "--peers", "1@a:1,1@b:1"],
        2,
        &["1@a:1 and 1@b:1 have the same id"],
    );
    fails(&["standalone", "--peers", peers], 2, &["peers (flag) is for `chronik raft-cluster`"]);
    fails(&["standalone", "--replication-followers", "localhost"], 2, &["the port is missing"]);
    fails(&["standalone", "--join", "localhost:9092"], 2, &["this node itself"]);
    let shown = stdout(&run(&["config", "--peers", peers, "--rack", "a", "--json"]));
    assert!(shown.contains(peers) && shown.contains("broker.rack"), "{shown}");
}

#[test]
fn signals_end_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::start(&["--data-dir", &data_dir(&dir)]);
        assert!(node.admin(&["topic", "create", "t"]).status.success());
        assert!(node.admin_with_input(&["produce", "t"], "one\ntwo\n").status.success());
        node.signal(signal);
        assert_eq!(node.wait(), Some(0));

        let mut node = Node::start(&["--data-dir", &data_dir(&dir)]);
        assert!(
            node.log_lines().iter().any(|line| line.contains("closed cleanly")),
            "{:?}",
            node.log_lines()
        );
        assert_eq!(stdout(&node.admin(&["consume", "t"])), "one\ntwo\n");
        assert!(node.log_lines().len() <= 12, "{:?}", node.log_lines());
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&["--data-dir", &data_dir(&dir)]);
    assert!(node.admin_with_input(&["produce", "t"], "one\ntwo\n").status.success());
    node.signal(Signal::KILL);
    node.wait();
    let node = Node::start(&["--data-dir", &data_dir(&dir)]);
    assert_eq!(stdout(&node.admin(&["consume", "t"])), "one\ntwo\n");
}

#[test]
fn what_is_in_flight_is_answered_before_it_ends() {
    let mut node = Node::start(&["--ephemeral"]);
    let mut stream = node.connect();
    send_frame(&mut stream, &api_versions_request());
    receive_frame(&mut stream);
    let started_at = Instant::now();
    node.signal(Signal::TERM);
    assert!(crate::common::is_closed(&mut stream));
    assert_eq!(node.wait(), Some(0));
    assert!(started_at.elapsed() < Duration::from_millis(4_500), "{:?}", started_at.elapsed());
}

#[test]
fn a_waiting_fetch_does_not_hold_up_the_end() {
    let mut node = Node::start(&["--ephemeral"]);
    assert!(node.admin_with_input(&["produce", "t"], "one\n").status.success());
    let mut consumer = chronik()
        .args(["consume", "t", "--follow", "--timeout", "1", "--bootstrap-server", &node.bootstrap])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(consumer.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "one\n");
    let started_at = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), Some(0));
    assert!(started_at.elapsed() < Duration::from_millis(4_500), "{:?}", started_at.elapsed());
    let _ = consumer.kill();
    let _ = consumer.wait();
}

#[test]
fn an_ephemeral_node_says_where_it_is_and_goes_with_its_data() {
    let mut child = chronik()
        .args(["standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--until-stdin-closes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let serving: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(serving["pid"], child.id());
    let bootstrap = serving["bootstrap"].as_str().unwrap();
    assert!(run(&["topic", "create", "t", "--bootstrap-server", bootstrap]).status.success());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let dir = log.split("data directory ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(!std::path::Path::new(dir).exists(), "{dir} is still there");
}

#[test]
fn an_address_in_use_names_its_owner() {
    let node = Node::start(&["--ephemeral"]);
    let pid = node.pid().to_string();
    fails(
        &["standalone", "--ephemeral", "--listen", &node.bootstrap],
        10,
        &[&node.bootstrap, &format!("process {pid}"), "--listen"],
    );
    fails(&["standalone", "--ephemeral", "--listen", "192.0.2.1:0"], 11, &["192.0.2.1:0"]);
}

#[test]
fn a_directory_in_use_names_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(&dir);
    let node = Node::start(&["--data-dir", &data]);
    let pid = node.pid().to_string();
    fails(
        &["standalone", "--listen", "127.0.0.1:0", "--data-dir", &data],
        12,
        &[&data, &format!("process {pid}"), "--data-dir"],
    );
}

#[test]
fn a_newer_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(&dir);
    std::fs::create_dir(&data).unwrap();
    std::fs::write(format!("{data}/format"), "999\n").unwrap();
    fails(&["standalone", "--listen", "127.0.0.1:0", "--data-dir", &data], 13, &[&data, "999"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("data").to_str().unwrap().to_owned();
    fails(&["standalone", "--listen", "127.0.0.1:0", "--data-dir", &below], 14, &[&below, "--data-dir"]);
}

#[test]
fn too_few_descriptors_are_an_error() {
    let binary = env!("CARGO_BIN_EXE_chronik");
    let script = format!("ulimit -n 300 && exec {binary} standalone --ephemeral --listen 127.0.0.1:0");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(16), "{}", stderr(&output));
    assert!(stderr(&output).contains("`ulimit -n` is 300"), "{}", stderr(&output));

    // A soft limit is raised.
    let script = format!("ulimit -S -n 300 && exec {binary} standalone --listen 127.0.0.1:0 --ephemeral");
    let mut node = Node::start_command(std::process::Command::new("sh").args(["-c", &script]));
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn wrong_settings_are_errors() {
    fails(&["standalone", "--listen", "nonsense"], 2, &["listen", "HOST:PORT"]);
    fails(
        &["standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--advertise", "x"],
        2,
        &["advertise", "HOST:PORT"],
    );
    fails(&["standalone", "--num-partitions", "0"], 2, &["num.partitions"]);
    fails(
        &["standalone", "--ephemeral", "--data-dir", "/nowhere", "--listen", "127.0.0.1:0"],
        2,
        &["ephemeral", "data.dir", "/nowhere", "exclude each other"],
    );
    fails(&["standalone", "--config", "/nowhere.toml"], 2, &["/nowhere.toml"]);
    fails(
        &["standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--log-level", "a=b=c"],
        2,
        &["log.level"],
    );
}

#[test]
fn settings_are_shown_with_their_source() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chronik.toml");
    std::fs::write(&file, "num.partitions = 4\nflush = \"os\"\n").unwrap();
    let file = file.to_str().unwrap();
    let output = chronik()
        .args(["config", "--config", file, "--flush", "disk", "--json"])
        .env("CHRONIK_NODE_ID", "7")
        .output()
        .unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!(row("num.partitions")["value"], "4");
    assert_eq!(row("num.partitions")["source"], format!("{file}:1"));
    assert_eq!(row("flush")["value"], "disk");
    assert_eq!(row("flush")["source"], "flag");
    assert_eq!(row("node.id")["source"], "environment");
    assert_eq!(row("listen")["source"], "default");

    std::fs::write(file, "num.partitons = 4\n").unwrap();
    fails(&["config", "--config", file], 2, &["num.partitons", "num.partitions"]);
}

#[test]
fn completions_know_the_settings() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(&["completions", shell]));
        assert!(script.contains("message-max-bytes"), "{shell}");
    }
}
