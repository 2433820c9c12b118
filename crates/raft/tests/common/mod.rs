//! Nodes of a quorum in one process, with a network whose links can be cut.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, CallError, NodeId, Transport};
use chronik_meta::{Command, Image, Reply};
use chronik_raft::{RaftNode, RaftOptions, StartError, WriteError};
use tempfile::TempDir;

/// How long a test waits for what must come about. Far more than it takes, as the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The network: which nodes run, and which links are cut, by direction.
#[derive(Default)]
pub struct Network {
    nodes: Mutex<BTreeMap<NodeId, RaftNode>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

impl Network {
    /// Cuts all links of a node, in both directions; what is sent gets lost, and nobody is told.
    pub fn isolate(&self, node: NodeId, others: impl IntoIterator<Item = NodeId>) {
        for other in others {
            self.cut.lock().unwrap().extend([(node, other), (other, node)]);
        }
    }

    /// Cuts one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.cut.lock().unwrap().insert((from, to));
    }

    /// Mends all links.
    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().unwrap().contains(&(from, to))
    }
}

struct Wire {
    network: Arc<Network>,
    me: NodeId,
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let (network, me) = (Arc::clone(&self.network), self.me);
        Box::pin(async move {
            let lost = async || {
                tokio::time::sleep(timeout).await;
                CallError::TimedOut { node: to, waited_ms: timeout.as_millis() as u64 }
            };
            if network.is_cut(me, to) {
                return Err(lost().await);
            }
            let Some(node) = network.nodes.lock().unwrap().get(&to).cloned() else {
                return Err(CallError::Disconnected { node: to, problem: "connection refused".to_owned() });
            };
            // The request is carried out also when nobody waits for the answer any more.
            let handled = node.handle(me, kind, payload);
            drop(node);
            let answer = match tokio::time::timeout(timeout, tokio::spawn(handled)).await {
                Ok(Ok(answer)) => answer,
                _ => return Err(lost().await),
            };
            if network.is_cut(to, me) {
                return Err(lost().await);
            }
            answer.map_err(|problem| CallError::Refused { node: to, problem })
        })
    }
}

/// A change of the image, as `on_change` told it.
#[derive(Clone, Debug)]
pub struct Change {
    pub before: u64,
    pub after: u64,
    pub commands: Vec<Command>,
}

pub type Changes = Arc<Mutex<Vec<Change>>>;

/// The nodes, and where they keep what they have.
pub struct Cluster {
    pub network: Arc<Network>,
    pub directory: TempDir,
    pub nodes: BTreeMap<NodeId, RaftNode>,
    pub changes: BTreeMap<NodeId, Changes>,
    /// Changes the options of each node that starts.
    pub adjust: fn(&mut RaftOptions),
}

impl Cluster {
    /// No node yet.
    pub fn empty(adjust: fn(&mut RaftOptions)) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (nodes, changes) = (BTreeMap::new(), BTreeMap::new());
        Self { network: Arc::default(), directory, nodes, changes, adjust }
    }

    /// Voters with these ids, begun and with a leader.
    pub async fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self::adjusted(voters, |_| {}).await
    }

    /// Voters with these ids and other options.
    pub async fn adjusted(voters: impl IntoIterator<Item = NodeId>, adjust: fn(&mut RaftOptions)) -> Self {
        let mut cluster = Self::empty(adjust);
        let voters: Vec<NodeId> = voters.into_iter().collect();
        for node in &voters {
            cluster.start(*node).await;
        }
        cluster.nodes[&voters[0]].initialize(addresses(voters.clone())).await.expect("begins");
        cluster.leader().await;
        cluster
    }

    /// Where a node keeps what it has.
    pub fn path(&self, node: NodeId) -> PathBuf {
        self.directory.path().join(format!("{node}/raft"))
    }

    /// Starts a node on what its directory holds.
    pub async fn start(&mut self, node: NodeId) {
        self.start_with(node, None).await.expect("starts");
    }

    /// Starts a node whose note of what was committed is lost.
    pub async fn start_without_note(&mut self, node: NodeId) {
        let path = self.path(node);
        // Not before the one that was killed is gone: it might write the note again.
        eventually("it is gone", || fs::File::open(path.join("lock")).expect("a lock").try_lock().is_ok())
            .await;
        fs::remove_file(path.join("committed")).expect("a note");
        self.start(node).await;
    }

    /// Starts a node, with an image to begin with.
    pub async fn start_with(&mut self, node: NodeId, image: Option<Arc<Image>>) -> Result<(), StartError> {
        let begun = Instant::now();
        let changes = Changes::default();
        loop {
            let wire = Wire { network: Arc::clone(&self.network), me: node };
            let mut options = RaftOptions::new(node, self.path(node), Arc::new(wire));
            options.initial_image = image.clone();
            let told = Arc::clone(&changes);
            options.on_change = Box::new(move |change| {
                told.lock().unwrap().push(Change {
                    before: change.before.offset(),
                    after: change.after.offset(),
                    commands: change.commands.to_vec(),
                });
            });
            (self.adjust)(&mut options);
            match RaftNode::start(options).await {
                Ok(started) => {
                    self.network.nodes.lock().unwrap().insert(node, started.clone());
                    self.nodes.insert(node, started);
                    self.changes.insert(node, changes);
                    return Ok(());
                }
                // The one that was killed is not quite gone.
                Err(StartError::InUse { .. }) if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a node without a word to anybody.
    pub fn kill(&mut self, node: NodeId) {
        self.network.nodes.lock().unwrap().remove(&node);
        self.nodes.remove(&node);
    }

    /// Ends a node in order.
    pub async fn stop(&mut self, node: NodeId) {
        self.network.nodes.lock().unwrap().remove(&node);
        if let Some(node) = self.nodes.remove(&node) {
            node.shutdown().await;
        }
    }

    /// The node that serves as the leader, when there is one.
    pub async fn leader(&self) -> NodeId {
        self.leader_but(-1).await
    }

    /// The node that serves as the leader, when there is one other than `but`.
    pub async fn leader_but(&self, but: NodeId) -> NodeId {
        let serving =
            || self.nodes.iter().find(|(id, node)| **id != but && node.is_leader()).map(|(id, _)| *id);
        eventually("a leader serves", || serving().is_some()).await;
        match serving() {
            Some(leader) => leader,
            None => Box::pin(self.leader_but(but)).await,
        }
    }

    /// Writes on whichever node leads, until it is done.
    pub async fn write(&self, commands: Vec<Command>) -> Vec<Reply> {
        let begun = Instant::now();
        loop {
            let leader = self.leader().await;
            match self.nodes[&leader].write(commands.clone()).await {
                Ok(results) => return results.into_iter().map(|result| result.expect("accepted")).collect(),
                Err(WriteError::NotLeader { .. } | WriteError::NoQuorum { .. })
                    if begun.elapsed() < PATIENCE => {}
                Err(error) => panic!("not written: {error}"),
            }
        }
    }

    /// Waits until a node knows of so many voters, and of no change that is under way.
    pub async fn voters(&self, node: NodeId, count: usize) {
        let begun = Instant::now();
        loop {
            let status = self.nodes[&node].status();
            if status.voters.len() == count && !status.changing {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not {count} voters within {PATIENCE:?}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until all running nodes have the same image, which has this many commands.
    pub async fn agree(&self, offset: u64) {
        for (id, node) in &self.nodes {
            eventually(&format!("node {id} has {offset} commands"), || node.image().offset() == offset).await;
        }
        let mut images = self.nodes.values().map(|node| node.image().encode());
        let first = images.next().expect("a node");
        assert!(images.all(|image| image == first), "images differ");
    }
}

/// Each id with an address.
pub fn addresses(nodes: impl IntoIterator<Item = NodeId>) -> BTreeMap<NodeId, String> {
    nodes.into_iter().map(|node| (node, format!("host-{node}:9092"))).collect()
}

/// A command that is always accepted.
pub fn ids(count: u32) -> Command {
    Command::AllocateProducerIds { count }
}

/// A command that is always refused.
pub fn refused() -> Command {
    Command::AllocateProducerIds { count: 0 }
}

/// A command of about this many bytes.
pub fn large(bytes: usize, nth: usize) -> Command {
    let changes = vec![(format!("setting.{nth}"), Some("x".repeat(bytes)))];
    Command::AlterBrokerConfigs { broker: None, changes }
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The files of a directory whose names begin with `prefix`, in order.
pub fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    paths.sort();
    paths
}
