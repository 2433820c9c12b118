//! The commands that administer a cluster, against a cluster of a few lines that does what it is told.

#![allow(clippy::unwrap_used, reason = "the helpers are tests too")]

mod fake;

use std::process::Command;

use chronik_status::{FollowerLag, FollowerTotal, LagReport, PartitionLag};
use fake::{Fake, Partition, State, directory};
use serde_json::Value;

/// Three nodes with all of four partitions' two replicas on the first two, and an empty fourth node.
fn cluster() -> Fake {
    let placed = [[1, 2], [2, 1], [1, 3], [3, 2]];
    let partitions = placed
        .iter()
        .enumerate()
        .map(|(at, replicas)| {
            (
                ("orders".to_owned(), at as i32),
                Partition { replicas: replicas.to_vec(), ..Partition::default() },
            )
        })
        .collect();
    Fake::start(State {
        brokers: vec![(1, None), (2, None), (3, None), (4, None)],
        voters: vec![1, 2, 3],
        observers: vec![4],
        partitions,
        ..State::default()
    })
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn a_drain_waits_and_forgets_the_node() {
    let fake = cluster();
    let printed = fake.ok(&["cluster", "drain", "1", "--unregister"]);
    let lines = lines(&printed);
    assert_eq!(lines[0], "3 partitions to change, 3 replicas to copy, onto node 4");
    assert_eq!(lines[1], "0 of 3 partitions moved");
    assert_eq!(lines[lines.len() - 2..], ["3 of 3 partitions moved", "node 1 is forgotten"]);
    let done = fake.done();
    assert_eq!(done.len(), 4, "{done:?}");
    assert_eq!(done[3], "unregister 1");
    for partition in 0..4 {
        let replicas = fake.replicas("orders", partition);
        assert!(replicas.len() == 2 && !replicas.contains(&1), "{replicas:?}");
    }
    assert_eq!(fake.ok(&["cluster", "drain", "1"]), "nothing to move\n");
    assert!(fake.fails(&["cluster", "drain", "9"]).contains("there is no node 9: the cluster has 1,2,3,4"));
}

#[test]
fn a_dry_run_changes_nothing() {
    let fake = cluster();
    let printed = fake.ok(&["cluster", "drain", "3", "--dry-run"]);
    assert_eq!(
        lines(&printed),
        [
            "2 partitions to change, 2 replicas to copy, onto node 4",
            "PARTITION  FROM  TO",
            "orders-2   1,3   1,4",
            "orders-3   3,2   2,4",
        ]
    );
    let printed: Value =
        serde_json::from_str(&fake.ok(&["cluster", "rebalance", "--dry-run", "--json"])).unwrap();
    assert_eq!(printed[0]["to"].as_array().unwrap().len(), 2);
    assert_eq!(fake.done(), Vec::<String>::new());
}

#[test]
fn a_drain_that_can_not_be_says_what_to_do() {
    let fake = cluster();
    fake.0.lock().unwrap().fenced = vec![2, 3, 4];
    let error = fake.fails(&["cluster", "drain", "1"]);
    assert!(error.contains("orders-0 is to have 2 replicas, and 1 node is there for them (2)"), "{error}");
}

#[test]
fn a_rebalance_fills_an_empty_node_and_elects() {
    let fake = cluster();
    let printed = fake.ok(&["cluster", "rebalance"]);
    assert!(printed.ends_with("1 partition has another leader\n"), "{printed}");
    let done = fake.done();
    assert_eq!(done.last().unwrap(), "elect 0 of all");
    let loads = |id| (0..4).filter(|partition| fake.replicas("orders", *partition).contains(&id)).count();
    assert_eq!([1, 2, 3, 4].map(loads), [2, 2, 2, 2]);
    fake.ok(&["cluster", "rebalance", "--leaders-only"]);
    assert_eq!(fake.done(), ["elect 0 of all"]);
}

#[test]
fn a_topic_moves_where_it_is_told_and_is_watched() {
    let fake = cluster();
    let printed = fake.ok(&["topic", "reassign", "orders", "--replicas", "0=4,1", "2=1,3"]);
    assert_eq!(
        lines(&printed),
        [
            "1 partition to change, 1 replica to copy, onto node 4",
            "under way; `chronik topic reassign --watch` shows how far"
        ]
    );
    // What moves is where it is going, not where it was.
    assert_eq!(fake.done(), ["move orders-0 to Some([4, 1])"]);
    fake.0.lock().unwrap().lag = LagReport {
        node_id: 1,
        partitions: vec![PartitionLag {
            topic: "orders".to_owned(),
            followers: vec![
                FollowerLag { id: 4, lag_bytes: 3 << 20, ..FollowerLag::default() },
                FollowerLag { id: 1, lag_bytes: 5, ..FollowerLag::default() },
            ],
            ..PartitionLag::default()
        }],
        ..LagReport::default()
    };
    let printed = fake.ok(&["topic", "reassign", "--watch"]);
    let lines = lines(&printed);
    assert_eq!(
        (lines[0], lines[lines.len() - 1]),
        ("0 of 1 partition moved, 3.0 MiB to copy", "1 of 1 partition moved")
    );
    assert_eq!(fake.replicas("orders", 0), [4, 1]);
    assert_eq!(fake.ok(&["topic", "reassign", "orders", "--watch"]), "nothing is moving\n");
}

#[test]
fn a_move_can_be_stopped() {
    let fake = cluster();
    fake.0.lock().unwrap().partitions.get_mut(&("orders".to_owned(), 1)).unwrap().looks = 1000;
    fake.ok(&["topic", "reassign", "orders", "--to-nodes", "3,4"]);
    assert_eq!(fake.done().len(), 4);
    assert_eq!(fake.ok(&["topic", "reassign", "orders", "--cancel"]), "4 moves stopped\n");
    assert_eq!(fake.done().iter().filter(|line| line.ends_with("to None")).count(), 4);
    assert_eq!(fake.replicas("orders", 1), [2, 1]);
    assert_eq!(fake.ok(&["topic", "reassign", "--cancel"]), "0 moves stopped\n");
}

#[test]
fn what_the_cluster_refuses_is_an_error() {
    let fake = cluster();
    let error =
        fake.fails(&["topic", "reassign", "orders", "--to-nodes", "1,2,3,4", "--replication-factor", "5"]);
    assert!(error.contains("orders-0 is to have 5 replicas, and 4 nodes are there"), "{error}");
    let error = fake.fails(&["topic", "reassign", "orders", "--replicas", "0=7"]);
    assert!(error.contains("there is no node 7"), "{error}");
}

#[test]
fn voters_come_and_go() {
    let fake = cluster();
    let printed = fake.ok(&["cluster", "add-voter", "4@10.0.0.4:9092"]);
    assert_eq!(
        lines(&printed),
        [
            "node 4 votes; voters are 1,2,3,4",
            "4 voters survive the loss of 1, no more than 3 would: an odd number is better"
        ]
    );
    assert_eq!(fake.done(), [format!("add voter 4 at 10.0.0.4:9092, directory {}", directory(4))]);
    assert!(fake.fails(&["cluster", "add-voter", "4@10.0.0.4:9092"]).contains("node 4 has a vote already"));
    let printed: Value = serde_json::from_str(&fake.ok(&["cluster", "remove-voter", "1", "--json"])).unwrap();
    assert_eq!(printed["voters"], serde_json::json!([2, 3, 4]));
    assert_eq!(fake.done(), [format!("remove voter 1, directory {}", directory(1))]);
    assert!(fake.fails(&["cluster", "remove-voter", "1"]).contains("node 1 has no vote; voters are 2,3,4"));
    assert_eq!(fake.run(&["cluster", "add-voter", "5"]).status.code(), Some(2));
}

#[test]
fn elections_by_hand() {
    let fake = cluster();
    assert_eq!(fake.ok(&["topic", "elect"]), "1 partition has another leader\n");
    assert_eq!(fake.ok(&["topic", "elect", "orders", "--unclean"]), "1 partition has another leader\n");
    assert_eq!(fake.done(), ["elect 0 of all", "elect 1 of orders[0, 1, 2, 3]"]);
    assert_eq!(fake.run(&["topic", "elect", "--unclean"]).status.code(), Some(2));
}

#[test]
fn status_and_lag_over_http() {
    let fake = cluster();
    fake.0.lock().unwrap().lag.followers =
        vec![FollowerTotal { leader: 1, id: 2, partitions: 4, in_sync: 4, ..Default::default() }];
    let printed = fake.ok(&["cluster", "status"]);
    assert!(printed.starts_with("cluster fake (standalone)\n"), "{printed}");
    let status: Value = serde_json::from_str(&fake.ok(&["cluster", "status", "--json"])).unwrap();
    assert_eq!(status["problems"][0]["kind"], "no-quorum");
    let lag: Value =
        serde_json::from_str(&fake.ok(&["cluster", "lag", "--topic", "orders", "--json"])).unwrap();
    assert_eq!(lag["followers"][0]["in_sync"], 4);
    assert!(fake.fails(&["cluster", "lag", "--topic", "a/b"]).contains("can't be a topic's name"));
    let would = fake.ok(&["cluster", "promote"]);
    assert!(would.contains("node 2 would go on") && would.contains("--voters-are-gone"), "{would}");
    assert!(fake.ok(&["cluster", "promote", "--voters-are-gone"]).contains("node 2 goes on"));
}

#[test]
fn nobody_there_is_said_plainly() {
    let output = Command::new(env!("CARGO_BIN_EXE_chronik"))
        .args(["cluster", "status", "--bootstrap-server", "127.0.0.1:1"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.starts_with("error: no node answers: 127.0.0.1:1: Connection refused"), "{error}");
}
