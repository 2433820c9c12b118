//! Three nodes of Chronik and three of Apache Kafka on loopback.

use super::servers::{Peers, Process, Server, Side, free_port, is_ready};
use crate::shell;
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NODES: u16 = 3;

/// What the fault measurements do with a cluster besides what they do with any server.
pub trait Cluster: Server {
    /// Ends one node (1 to 3) with `kill -9`.
    fn kill_node(&mut self, node: u16) -> Result<()>;
    /// Removes what a killed node kept.
    fn wipe_node(&mut self, node: u16) -> Result<()>;
    /// Starts a killed node again; does not wait until it serves.
    fn start_node(&mut self, node: u16) -> Result<()>;
    /// Where a node keeps its data.
    fn data_dir(&self, node: u16) -> PathBuf;
}

/// Three `chronik raft-cluster` on neighbouring ports.
pub struct ChronikCluster {
    binary: PathBuf,
    flush: &'static str,
    nodes: Vec<Process>,
}

impl ChronikCluster {
    /// `flush` is `disk`, the default, or `os`.
    pub fn new(binary: &Path, run: &Path, flush: &'static str) -> Result<Self> {
        Self::of(NODES, binary, run, flush)
    }

    /// So many nodes, all of them with a vote.
    pub fn of(count: u16, binary: &Path, run: &Path, flush: &'static str) -> Result<Self> {
        if !binary.is_file() {
            bail!("there is no broker binary {} (--broker)", binary.display());
        }
        let base = free_port()?;
        let home = |node| run.join(format!("chronik{count}-{flush}-{node}"));
        let nodes = (1..=count).map(|node| Process::at_port(home(node), base + node - 1)).collect();
        Ok(Self { binary: binary.to_owned(), flush, nodes })
    }

    fn node(&mut self, node: u16) -> Result<&mut Process> {
        let index = usize::from(node).checked_sub(1).context("nodes count from 1")?;
        self.nodes.get_mut(index).with_context(|| format!("there is no node {node}"))
    }

    fn spawn(&mut self, node: u16) -> Result<f64> {
        let peers: Vec<String> =
            self.nodes.iter().zip(1..).map(|(node, id)| format!("{id}@{}", node.address())).collect();
        let mut command = Command::new(&self.binary);
        command.args(["raft-cluster", "--node-id", &node.to_string(), "--peers", &peers.join(",")]);
        command.args(["--flush", self.flush]);
        // It ends with this process, however this process ends.
        command.arg("--until-stdin-closes").stdin(Stdio::piped());
        let process = self.node(node)?;
        command.args(["--listen", &process.address(), "--data-dir"]).arg(process.data_dir());
        process.spawn(&mut command)
    }
}

impl Server for ChronikCluster {
    fn name(&self) -> &'static str {
        if self.flush == "os" { "chronik-os" } else { "chronik" }
    }
    fn side(&self) -> Side {
        Side::Chronik
    }
    fn bootstrap(&self) -> String {
        self.nodes.iter().map(Process::address).collect::<Vec<_>>().join(",")
    }
    fn pid(&self) -> Option<u32> {
        self.pids().first().copied()
    }
    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Process::pid).collect()
    }
    fn replication_factor(&self) -> u32 {
        self.nodes.len() as u32
    }
    fn start_empty(&mut self) -> Result<f64> {
        for node in &self.nodes {
            node.wipe()?;
        }
        self.start_again()
    }
    fn start_again(&mut self) -> Result<f64> {
        let mut first = f64::INFINITY;
        for (node, _) in (1..).zip(0..self.nodes.len()) {
            first = first.min(self.spawn(node)?);
        }
        for node in &mut self.nodes {
            let address = node.address();
            node.wait_until(|| is_ready(&address))?;
        }
        Ok(first)
    }
    fn kill(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Process::kill)
    }
    fn stop(&mut self) -> Result<()> {
        self.kill()?;
        self.nodes.iter().try_for_each(Process::wipe)
    }
}

impl Cluster for ChronikCluster {
    fn kill_node(&mut self, node: u16) -> Result<()> {
        self.node(node)?.kill()
    }
    fn wipe_node(&mut self, node: u16) -> Result<()> {
        self.node(node)?.wipe()
    }
    fn start_node(&mut self, node: u16) -> Result<()> {
        self.spawn(node).map(drop)
    }
    fn data_dir(&self, node: u16) -> PathBuf {
        self.nodes.get(usize::from(node) - 1).map(Process::data_dir).unwrap_or_default()
    }
}

/// Three nodes of Apache Kafka with combined roles, started by kafka-up.sh.
pub struct KafkaCluster {
    peers: Peers,
    run: PathBuf,
    base: u16,
    pids: Vec<u32>,
    /// What started a node that was killed, program first.
    killed: Vec<String>,
    /// A node that was started again by itself.
    child: Option<Child>,
}

impl KafkaCluster {
    pub fn new(peers: Peers, run: &Path) -> Result<Self> {
        let run = run.join("kafka3");
        Ok(Self { peers, run, base: free_port()?, pids: Vec::new(), killed: Vec::new(), child: None })
    }

    fn home(&self, node: u16) -> PathBuf {
        self.run.join(format!("node{node}"))
    }

    fn start(&mut self, keep: bool) -> Result<f64> {
        if let Some(parent) = self.run.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        let mut command = self.peers.script("kafka-up.sh");
        command.arg(self.peers.place()).args([&NODES.to_string(), &self.base.to_string()]);
        // Deleted topics give their space back before the next measurement fills the disk.
        command.arg("log.segment.delete.delay.ms=1000").env("KAFKA_RUN", &self.run);
        if keep {
            command.env("KAFKA_KEEP", "1");
        }
        let printed = shell::output(&mut command)?;
        let field = |name: &str| {
            printed
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .ok_or_else(|| anyhow!("kafka-up.sh printed no {name}"))
        };
        let pids: Result<Vec<u32>, _> = field("pids=")?.split(',').map(str::parse).collect();
        self.pids = pids.context("reading the pids that kafka-up.sh printed")?;
        field("start_epoch_ms=")?.parse().context("reading the time that kafka-up.sh printed")
    }

    fn down(&mut self, options: &[&str]) -> Result<()> {
        self.pids.clear();
        if self.run.exists() {
            shell::output(self.peers.script("kafka-down.sh").arg(&self.run).args(options))?;
        }
        if let Some(mut child) = self.child.take() {
            child.wait().context("waiting for a killed node")?;
        }
        Ok(())
    }
}

impl Server for KafkaCluster {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn side(&self) -> Side {
        Side::Kafka
    }
    fn bootstrap(&self) -> String {
        let nodes: Vec<String> = (1..=NODES).map(|node| format!("127.0.0.1:{}", self.base + node)).collect();
        nodes.join(",")
    }
    fn pid(&self) -> Option<u32> {
        self.pids.first().copied()
    }
    fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }
    fn replication_factor(&self) -> u32 {
        NODES.into()
    }
    fn start_empty(&mut self) -> Result<f64> {
        self.start(false)
    }
    fn start_again(&mut self) -> Result<f64> {
        self.start(true)
    }
    fn kill(&mut self) -> Result<()> {
        self.down(&["--kill"])
    }
    fn stop(&mut self) -> Result<()> {
        self.down(&["--kill", "--wipe"])
    }
    fn discard_data(&self) -> Result<()> {
        // The topic's files go a second after its deletion; what they hold up should not fall into the next run.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        Ok(())
    }
}

impl Cluster for KafkaCluster {
    fn kill_node(&mut self, node: u16) -> Result<()> {
        let pid_file = self.home(node).join("pid");
        let pid = fs::read_to_string(&pid_file).with_context(|| format!("reading {}", pid_file.display()))?;
        let pid = pid.trim();
        let path = format!("/proc/{pid}/cmdline");
        let line = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        self.killed = line.split_terminator('\0').map(str::to_owned).collect();
        shell::run(Command::new("kill").args(["-KILL", pid]))?;
        self.pids.retain(|known| known.to_string() != pid);
        if let Some(mut child) = self.child.take() {
            child.wait().context("waiting for a killed node")?;
        }
        Ok(())
    }

    fn wipe_node(&mut self, node: u16) -> Result<()> {
        let data = self.data_dir(node);
        fs::remove_dir_all(&data).with_context(|| format!("emptying {}", data.display()))?;
        // An empty directory needs the cluster's identifier before a node starts on it.
        let cluster = self.run.join("cluster");
        let id = fs::read_to_string(&cluster).with_context(|| format!("reading {}", cluster.display()))?;
        let (program, _) = self.killed.split_first().context("no node was killed")?;
        let mut command = Command::new(program);
        command.arg("-cp").arg(self.peers.place().join("libs/*")).arg("kafka.tools.StorageTool");
        command.args(["format", "-t", id.trim(), "-c"]).arg(self.home(node).join("server.properties"));
        shell::output(&mut command).map(drop)
    }

    fn start_node(&mut self, node: u16) -> Result<()> {
        let (program, arguments) = self.killed.split_first().context("no node was killed")?;
        let path = self.home(node).join("server.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        let pid_file = self.home(node).join("pid");
        fs::write(&pid_file, child.id().to_string())
            .with_context(|| format!("writing {}", pid_file.display()))?;
        self.pids.push(child.id());
        self.child = Some(child);
        Ok(())
    }

    fn data_dir(&self, node: u16) -> PathBuf {
        self.home(node).join("data")
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        // An error here is printed by the script; there is nobody to hand it to.
        let _ = self.down(&["--kill"]);
    }
}
