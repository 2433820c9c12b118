//! The administration commands, against a node of our own.

use serde_json::Value;

use crate::common::{Node, run, stderr, stdout};

fn json(node: &Node, args: &[&str]) -> Value {
    let output = node.admin(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn topics_are_created_altered_and_deleted() {
    let node = Node::start(&["--ephemeral"]);
    let create = ["topic", "create", "orders", "--partitions", "2", "--config", "retention.ms=1000"];
    assert_eq!(stdout(&node.admin(&create)), "created orders\n");
    let again = node.admin(&create);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("TOPIC_ALREADY_EXISTS"), "{}", stderr(&again));
    assert!(node.admin(&[&create[..], &["--if-not-exists"]].concat()).status.success());

    let described = json(&node, &["topic", "describe", "orders"]);
    assert_eq!(described[0]["configs"][0]["name"], "retention.ms");
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 2);

    let altered =
        ["topic", "alter", "orders", "-p", "3", "--set", "cleanup.policy=compact", "--unset", "retention.ms"];
    let altered = node.admin(&altered);
    assert!(altered.status.success(), "{}", stderr(&altered));
    let described = json(&node, &["topic", "describe", "orders"]);
    assert_eq!(described[0]["configs"][0]["name"], "cleanup.policy");
    assert_eq!(described[0]["configs"].as_array().unwrap().len(), 1);
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 3);

    assert_eq!(json(&node, &["topic", "list"])[0]["partitions"], 3);
    assert_eq!(stdout(&node.admin(&["topic", "delete", "orders"])), "deleted orders\n");
    assert_eq!(json(&node, &["topic", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(node.admin(&["topic", "delete", "orders"]).status.code(), Some(1));
    assert!(node.admin(&["topic", "delete", "orders", "--if-exists"]).status.success());
}

#[test]
fn records_come_back_as_they_were_sent() {
    let node = Node::start(&["--ephemeral"]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let sent = node.admin_with_input(
            &["produce", codec, "--compression", codec, "--key-separator", ":", "-H", "a=b"],
            "k1:v1\nno key\nk2:\n",
        );
        assert!(sent.status.success(), "{}", stderr(&sent));
        assert_eq!(stdout(&node.admin(&["consume", codec, "--keys"])), "k1\tv1\n\tno key\nk2\t\n", "{codec}");
        let one = node.admin(&["consume", codec, "--from", "1", "--max", "1", "--json"]);
        let record: Value = serde_json::from_slice(&one.stdout).unwrap();
        assert_eq!(record["offset"], 1);
        assert_eq!(record["key"], Value::Null);
        assert_eq!(record["value"], "no key");
        assert_eq!(record["headers"][0]["value"], "b");
    }
}

#[test]
fn offsets_of_groups_are_reset() {
    let node = Node::start(&["--ephemeral"]);
    assert!(node.admin_with_input(&["produce", "orders"], "1\n2\n3\n").status.success());
    let reset = ["group", "reset-offsets", "billing", "--topic", "orders"];
    let shown = node.admin(&[&reset[..], &["--to-latest"]].concat());
    assert!(stdout(&shown).contains("--execute"), "{}{}", stdout(&shown), stderr(&shown));
    let done = node.admin(&[&reset[..], &["--to-latest", "--execute"]].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let described = json(&node, &["group", "describe", "billing"]);
    assert_eq!(described[0]["offsets"][0]["committed"], 3);
    assert_eq!(described[0]["offsets"][0]["lag"], 0);
    let back = node.admin(&[&reset[..], &["--shift-by", "-2", "--execute"]].concat());
    assert!(back.status.success(), "{}", stderr(&back));
    let described = json(&node, &["group", "describe", "billing"]);
    assert_eq!(described[0]["offsets"][0]["lag"], 2);
    assert_eq!(described[0]["state"], "Empty");
    assert_eq!(json(&node, &["group", "list"])[0]["group"], "billing");
    assert_eq!(stdout(&node.admin(&["group", "delete", "billing"])), "deleted billing\n");
    assert_eq!(json(&node, &["group", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn an_unreachable_cluster_is_named() {
    let output = run(&["topic", "list", "--bootstrap-server", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("127.0.0.1:1"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1);
}
