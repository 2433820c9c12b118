//! A raft cluster of real nodes, administered from the command line: what is said of a node that dies, and how it is taken out.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Node, chronik, stderr, stdout};

/// Three neighbouring ports that nobody uses, below those that outgoing connections take.
fn neighbouring_ports() -> u16 {
    let start = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let is_free =
        |first: &u16| (*first..first + 3).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    (start..32_000).step_by(10).find(is_free).unwrap()
}

/// Asks for the status until `is_as_wanted`.
fn wait_for_status(node: &Node, what: &str, is_as_wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let output = node.admin(&["cluster", "status", "--json"]);
        let text = format!("{}{}", stdout(&output), stderr(&output));
        if let Ok(status) = serde_json::from_slice::<Value>(&output.stdout)
            && is_as_wanted(&status)
        {
            return status;
        }
        assert!(Instant::now() < deadline, "never seen: {what}; last:\n{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ok(node: &Node, args: &[&str]) -> String {
    let output = node.admin(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn a_node_dies_and_is_taken_out() {
    let first = neighbouring_ports();
    let directory = TempDir::new().unwrap();
    let peers: Vec<String> = (0..3).map(|at| format!("{}@127.0.0.1:{}", at + 1, first + at)).collect();
    let mut nodes: Vec<Node> = (0..3)
        .map(|at| {
            let mut command = chronik();
            command
                .args(["raft-cluster", "--node-id", &(at + 1).to_string(), "--peers", &peers.join(",")])
                .args(["--listen", &format!("127.0.0.1:{}", first + at)])
                .arg("--data-dir")
                .arg(directory.path().join(format!("data-{at}")));
            Node::start_command(&mut command)
        })
        .collect();
    let is_well = |status: &Value| {
        let all_in = status["brokers"].as_array().is_some_and(|brokers| brokers.len() == 3);
        all_in && status["problems"].as_array().is_some_and(Vec::is_empty)
    };
    wait_for_status(&nodes[0], "three nodes and nothing wrong", is_well);
    ok(&nodes[0], &["topic", "create", "orders", "--partitions", "6", "--replication-factor", "2"]);
    wait_for_status(&nodes[0], "nothing wrong with a topic", is_well);

    drop(nodes.pop());
    let status = wait_for_status(&nodes[0], "node 3 is down", |status| {
        status["problems"][0]["kind"] == "fenced-broker"
    });
    let what = status["problems"][0]["what"].as_str().unwrap();
    assert!(what.starts_with("node 3 ") && what.contains(" is down"), "{what}");
    let screen = ok(&nodes[1], &["cluster", "status"]);
    assert!(screen.contains("AT RISK  node 3 "), "{screen}");

    assert_eq!(
        ok(&nodes[1], &["cluster", "remove-voter", "3"]).lines().next(),
        Some("node 3 votes no more; voters are 1,2")
    );
    let printed = ok(&nodes[1], &["cluster", "drain", "3", "--unregister"]);
    assert!(printed.ends_with("node 3 is forgotten\n"), "{printed}");
    let described: Value =
        serde_json::from_str(&ok(&nodes[0], &["topic", "describe", "orders", "--json"])).unwrap();
    for partition in described[0]["partitions"].as_array().unwrap() {
        let mut replicas: Vec<i64> =
            partition["replicas"].as_array().unwrap().iter().filter_map(Value::as_i64).collect();
        replicas.sort_unstable();
        assert_eq!(replicas, [1, 2], "{partition}");
    }
    wait_for_status(&nodes[0], "nothing is at risk any more", |status| {
        let problems = status["problems"].as_array().unwrap();
        status["brokers"].as_array().unwrap().len() == 2
            && problems.iter().all(|problem| problem["severity"] == "notice")
    });
    let lag: Value = serde_json::from_str(&ok(&nodes[0], &["cluster", "lag", "--json"])).unwrap();
    assert!(lag["followers"].as_array().unwrap().iter().all(|follower| follower["id"] != 3), "{lag}");
}
