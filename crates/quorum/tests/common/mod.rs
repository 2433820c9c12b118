//! Nodes in one process, with a network in memory that can be cut, slowed to a stand and brought back.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, CallError, Clock, NodeId, Timestamp, TopicId, Transport, Uuid};
use chronik_meta::{Command, Endpoint, Image, MetaOffset};
use chronik_quorum::{Mode, PeerEvent, Quorum, QuorumOptions, Registration, Restart, Timing};
use tempfile::TempDir;

/// A limit that only a broken test reaches.
pub const LONG: Duration = Duration::from_secs(30);

struct RealClock(Instant);

impl Clock for RealClock {
    fn wall_ms(&self) -> Timestamp {
        1_700_000_000_000 + self.monotonic_ms() as i64
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, Quorum>,
    /// (from, to): calls get no answer.
    silent: BTreeSet<(NodeId, NodeId)>,
    /// (from, to, kind): the answers are lost, the calls are not.
    deaf: BTreeSet<(NodeId, NodeId, u8)>,
    calls: BTreeMap<u8, u64>,
}

/// The network and all nodes.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    dirs: Arc<Mutex<BTreeMap<NodeId, TempDir>>>,
    clock: Arc<RealClock>,
    restarts: Arc<Mutex<Vec<(NodeId, Restart)>>>,
    changes: Arc<Mutex<BTreeMap<NodeId, Vec<Change>>>>,
    starts: Arc<Mutex<u8>>,
}

/// What a node's owner heard.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub before: MetaOffset,
    pub after: MetaOffset,
    pub commands: usize,
}

struct Wire {
    net: Net,
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
        let (net, me) = (self.net.clone(), self.me);
        Box::pin(async move {
            let gone = || CallError::Disconnected { node: to, problem: "nobody listens there".to_owned() };
            let late = || CallError::TimedOut { node: to, waited_ms: timeout.as_millis() as u64 };
            let (quorum, silent, deaf) = {
                let mut state = net.state();
                *state.calls.entry(kind).or_default() += 1;
                let quorum = state.nodes.get(&to).cloned().ok_or_else(gone)?;
                (quorum, state.silent.contains(&(me, to)), state.deaf.contains(&(me, to, kind)))
            };
            if silent {
                tokio::time::sleep(timeout).await;
                return Err(late());
            }
            let answer = tokio::time::timeout(timeout, quorum.handle(me, kind, payload)).await;
            if deaf {
                return Err(gone());
            }
            if net.state().silent.contains(&(to, me)) {
                tokio::time::sleep(timeout).await;
                return Err(late());
            }
            match answer {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(problem)) => Err(CallError::Refused { node: to, problem }),
                Err(_) => Err(late()),
            }
        })
    }
}

pub fn uuid(seed: u8) -> Uuid {
    Uuid::from_random([seed; 16])
}

pub fn address(node: NodeId) -> String {
    format!("10.0.0.{node}:9092")
}

pub fn voters(nodes: &[NodeId]) -> Mode {
    Mode::Raft { voters: nodes.iter().map(|node| (*node, address(*node))).collect() }
}

pub fn observer(sources: &[NodeId]) -> Mode {
    Mode::Observer { sources: sources.to_vec() }
}

/// How a node starts, beside its mode.
#[derive(Clone, Copy)]
pub struct How {
    pub cluster_id: Option<Uuid>,
    pub replicate_everything: bool,
    pub directory: u8,
    pub timing: Timing,
    pub ready: bool,
}

impl How {
    pub fn new(node: NodeId) -> Self {
        Self {
            cluster_id: None,
            replicate_everything: false,
            directory: 100 + node as u8,
            timing: Timing {
                heartbeat: Duration::from_millis(100),
                session: Duration::from_millis(1500),
                rebalance_delay: Duration::from_millis(200),
                ..Timing::default()
            },
            ready: true,
        }
    }
}

impl Net {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            dirs: Arc::default(),
            clock: Arc::new(RealClock(Instant::now())),
            restarts: Arc::default(),
            changes: Arc::default(),
            starts: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn dir(&self, node: NodeId) -> std::path::PathBuf {
        let mut dirs = self.dirs.lock().unwrap();
        dirs.entry(node).or_insert_with(|| tempfile::tempdir().unwrap()).path().to_owned()
    }

    /// The node has an empty disk at its next start.
    pub fn wipe(&self, node: NodeId) {
        self.dirs.lock().unwrap().remove(&node);
    }

    pub async fn start(&self, node: NodeId, mode: Mode) -> Quorum {
        self.start_as(node, mode, How::new(node)).await
    }

    pub async fn start_as(&self, node: NodeId, mode: Mode, how: How) -> Quorum {
        self.try_start(node, mode, how).await.unwrap()
    }

    pub async fn try_start(
        &self,
        node: NodeId,
        mode: Mode,
        how: How,
    ) -> Result<Quorum, chronik_quorum::QuorumError> {
        let quorum = Quorum::start(self.options(node, mode, how, self)).await?;
        let others: Vec<_> = {
            let mut state = self.state();
            state.nodes.insert(node, quorum.clone());
            state.nodes.iter().map(|(id, quorum)| (*id, quorum.clone())).collect()
        };
        for (id, other) in others.iter().filter(|(id, _)| *id != node) {
            other.on_peer(node, PeerEvent::Connected);
            quorum.on_peer(*id, PeerEvent::Connected);
        }
        Ok(quorum)
    }

    /// Starts a node with a disk of this network that calls the nodes of another one, and that nobody there can call.
    pub async fn start_beside(&self, net: &Net, node: NodeId, mode: Mode, how: How) -> Quorum {
        // Starts are numbered by network, and these have to differ.
        *self.starts.lock().unwrap() += 100;
        Quorum::start(self.options(node, mode, how, net)).await.unwrap()
    }

    fn options(&self, node: NodeId, mode: Mode, how: How, net: &Net) -> QuorumOptions {
        let start = {
            let mut starts = self.starts.lock().unwrap();
            *starts += 1;
            *starts
        };
        let (restarts, changes) = (Arc::clone(&self.restarts), Arc::clone(&self.changes));
        QuorumOptions {
            data_dir: self.dir(node),
            mode,
            registration: Registration {
                node_id: node,
                rack: None,
                endpoints: vec![Endpoint {
                    listener: "INTERNAL".to_owned(),
                    host: format!("10.0.0.{node}"),
                    port: 9092,
                }],
                incarnation: Uuid::from_random([start; 16]),
                directory: uuid(how.directory),
            },
            cluster_id: how.cluster_id,
            new_cluster_id: Uuid::from_random([200 + node as u8; 16]),
            transport: Some(Arc::new(Wire { net: net.clone(), me: node })),
            clock: self.clock.clone(),
            durable: false,
            timing: how.timing,
            raft: Default::default(),
            ready: how.ready,
            replicate_everything: how.replicate_everything,
            rebalance_leaders: true,
            on_change: Box::new(move |change| {
                changes.lock().unwrap().entry(node).or_default().push(Change {
                    before: change.before.offset(),
                    after: change.after.offset(),
                    commands: change.commands.len(),
                });
            }),
            on_restart: Box::new(move |restart| restarts.lock().unwrap().push((node, restart))),
        }
    }

    /// The node is no longer there; the others' connections to it break, and are refused if `refused`.
    pub async fn kill(&self, node: NodeId, refused: bool) {
        let (quorum, others) = {
            let mut state = self.state();
            let quorum = state.nodes.remove(&node);
            (quorum, state.nodes.values().cloned().collect::<Vec<_>>())
        };
        if let Some(quorum) = quorum {
            quorum.close().await;
        }
        for other in others {
            if refused {
                other.on_peer(node, PeerEvent::Disconnected);
                other.on_peer(node, PeerEvent::Refused);
            }
        }
    }

    /// Calls between the node and all others get no answer, in both directions.
    pub fn isolate(&self, node: NodeId) {
        let mut state = self.state();
        let others: Vec<_> = state.nodes.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            state.silent.insert((node, other));
            state.silent.insert((other, node));
        }
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.silent.clear();
        state.deaf.clear();
    }

    /// Calls of a kind from one node to another arrive, and their answers don't.
    pub fn lose_answers(&self, from: NodeId, to: NodeId, kind: u8) {
        self.state().deaf.insert((from, to, kind));
    }

    pub fn restarts(&self) -> Vec<(NodeId, Restart)> {
        self.restarts.lock().unwrap().clone()
    }

    pub fn changes(&self, node: NodeId) -> Vec<Change> {
        self.changes.lock().unwrap().get(&node).cloned().unwrap_or_default()
    }

    pub fn calls(&self, kind: u8) -> u64 {
        self.state().calls.get(&kind).copied().unwrap_or(0)
    }

    pub fn quorum(&self, node: NodeId) -> Quorum {
        self.state().nodes.get(&node).cloned().expect("the node runs")
    }

    /// Ends all nodes.
    pub async fn close(&self) {
        let nodes: Vec<_> = std::mem::take(&mut self.state().nodes).into_values().collect();
        for node in nodes {
            node.close().await;
        }
    }
}

/// Waits for something that must come true.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn all_ready(nodes: &[&Quorum]) {
    for node in nodes {
        if let Err(problem) = node.wait_ready(LONG).await {
            let all: Vec<_> =
                nodes.iter().map(|node| (node.status(), node.counters(), node.image())).collect();
            panic!("{node:?} is not ready: {problem}\n{all:#?}");
        }
    }
}

/// Waits until all nodes have the same image.
pub async fn all_alike(nodes: &[&Quorum]) {
    until("all nodes have the same image", || {
        let first = nodes[0].image();
        nodes.iter().all(|node| *node.image() == *first)
    })
    .await;
}

pub fn topic(name: &str, id: u8, assignments: &[&[NodeId]]) -> Command {
    Command::CreateTopic {
        name: name.to_owned(),
        id: topic_id(id),
        created: 1,
        assignments: assignments.iter().map(|replicas| replicas.to_vec()).collect(),
        configs: Default::default(),
    }
}

pub fn topic_id(id: u8) -> TopicId {
    Uuid::from_random([id; 16])
}

pub fn leader_of(image: &Image, name: &str, partition: i32) -> NodeId {
    image.partition(name, partition).unwrap().leader
}

/// All commands were carried out.
pub async fn done(node: &Quorum, commands: Vec<Command>) {
    for result in node.commit(commands).await {
        result.unwrap();
    }
}
