//! The nodes together: how they are started, what they say of themselves, and the administration commands.

use super::network::Network;
use super::node::{self, Node};
use super::{Mode, TOPIC};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Room on a node's own file system; the run's data must fit beside the ballast that fills it.
const DISK_MEGABYTES: u64 = 8192;

/// All nodes of a run.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: Network,
    pub mode: Mode,
    binary: PathBuf,
}

impl Cluster {
    /// Nothing is started yet.
    pub fn new(binary: &Path, home: &Path, network: Network, mode: Mode, count: usize) -> Result<Self> {
        let addresses: Vec<String> = (1..=count).map(|number| network.address(number)).collect();
        let nodes = (1..=count)
            .map(|number| Node::new(number, network, binary, home, arguments(mode, number, &addresses)))
            .collect::<Result<_>>()?;
        Ok(Self { nodes, network, mode, binary: binary.to_owned() })
    }

    /// Gives each node a file system of its own; the reason if this machine doesn't allow that.
    pub fn mount_disks(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.mount_disk(DISK_MEGABYTES))
    }

    /// Starts all nodes and waits until they serve.
    pub fn start(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::spawn)?;
        self.nodes.iter_mut().try_for_each(Node::wait_ready)
    }

    /// Every node's address, for clients.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    pub fn node(&mut self, number: usize) -> Result<&mut Node> {
        let count = self.nodes.len();
        self.nodes.get_mut(number - 1).with_context(|| format!("node {number} of {count}"))
    }

    /// Waits until every node runs, knows every other as alive, and says that each partition is fully in sync. The
    /// error says what is missing.
    pub fn wait_in_sync(&mut self, within: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let missing = self.out_of_sync();
            if missing.is_empty() {
                return Ok(started.elapsed());
            }
            if started.elapsed() > within {
                bail!("not in sync within {} s: {}", within.as_secs(), missing.join("; "));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What each node misses to being in sync with all others.
    pub fn out_of_sync(&mut self) -> Vec<String> {
        let count = self.nodes.len();
        let mut missing = Vec::new();
        for node in &mut self.nodes {
            if let Some(status) = node.ended() {
                missing.push(format!(
                    "node {} ended by itself with {status}:\n{}",
                    node.number,
                    node.log_tail()
                ));
            } else if !node.is_running() {
                missing.push(format!("node {} does not run", node.number));
            } else if let Some(reason) = status(&node.address())
                .map_or_else(|| Some("does not answer".to_owned()), |status| not_in_sync(&status, count))
            {
                missing.push(format!("node {} says: {reason}", node.number));
            }
        }
        missing
    }

    /// Runs `chronik` with these arguments against the cluster.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--bootstrap-server", &self.bootstrap()]);
        output(command)
    }

    /// One digest for each partition of the topic on each node; the nodes must have ended.
    pub fn digests(&self, topic_id: &str) -> Result<Vec<Vec<Value>>> {
        let digest = |node: &Node| -> Result<Vec<Value>> {
            let mut command = Command::new(&self.binary);
            command.args(["log", "digest", "--json", "--topic", topic_id, "--data-dir"]).arg(node.data_dir());
            serde_json::from_str(&output(command)?).context("reading the digests")
        };
        self.nodes.iter().map(digest).collect()
    }

    /// The id of the run's topic.
    pub fn topic_id(&self) -> Result<String> {
        let described: Value = serde_json::from_str(&self.command(&["topic", "describe", TOPIC, "--json"])?)?;
        let topic = described.get(0).unwrap_or(&described);
        let id = topic.get("id").or_else(|| topic.get("topic_id")).and_then(Value::as_str);
        Ok(id.with_context(|| format!("no id in {described}"))?.to_owned())
    }
}

fn arguments(mode: Mode, number: usize, addresses: &[String]) -> Vec<String> {
    let words = match mode {
        Mode::Raft => {
            let peers = (1..).zip(addresses).map(|(id, address)| format!("{id}@{address}"));
            let peers = peers.collect::<Vec<_>>().join(",");
            vec![
                "raft-cluster".to_owned(),
                "--node-id".to_owned(),
                number.to_string(),
                "--peers".to_owned(),
                peers,
            ]
        }
        Mode::Followers if number == 1 => {
            let mut words = vec!["standalone".to_owned()];
            let followers = addresses.get(1..addresses.len() - 1).unwrap_or_default().join(",");
            if !followers.is_empty() {
                words.extend(["--replication-followers".to_owned(), followers]);
            }
            words
        }
        // It asks for its place itself: with an empty disk it is never taken for a cluster of its own.
        Mode::Followers if number == addresses.len() => {
            let leader = addresses.first().cloned().unwrap_or_default();
            vec!["standalone".to_owned(), "--join".to_owned(), leader]
        }
        Mode::Followers => vec!["standalone".to_owned()],
    };
    // Leaders go back on their own within a run, and files are left often.
    let settings = ["--leader-imbalance-check-interval-seconds", "10", "--checkpoint-interval-ms", "2000"];
    words.into_iter().chain(settings.map(str::to_owned)).collect()
}

/// What a node says of the cluster.
pub fn status(address: &str) -> Option<Value> {
    serde_json::from_str(&node::get(address, "/v1/cluster/status")?.1).ok()
}

/// A count from the status.
pub fn total(status: &Value, name: &str) -> Option<u64> {
    status.get("totals")?.get(name)?.as_u64()
}

fn not_in_sync(status: &Value, nodes: usize) -> Option<String> {
    if let Some(reason) = status.get("not_ready").and_then(Value::as_str) {
        return Some(format!("not ready: {reason}"));
    }
    let brokers = status.get("brokers").and_then(Value::as_array)?;
    let fenced: Vec<_> = brokers
        .iter()
        .filter(|broker| broker.get("fenced").and_then(Value::as_bool) != Some(false))
        .filter_map(|broker| broker.get("id"))
        .collect();
    if brokers.len() != nodes || !fenced.is_empty() {
        return Some(format!(
            "{} of {nodes} brokers are registered, of these fenced {fenced:?}",
            brokers.len()
        ));
    }
    for name in ["offline", "under_min_isr", "under_replicated", "reassigning"] {
        let count = total(status, name)?;
        if count > 0 {
            let partitions = status.get("partitions").map(Value::to_string).unwrap_or_default();
            return Some(format!("{count} partitions are {name}: {partitions:.600}"));
        }
    }
    None
}

fn output(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("starting chronik")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`chronik {}` ended with {}: {} {}", words.join(" "), output.status, error.trim(), said.trim());
    }
    Ok(said)
}
