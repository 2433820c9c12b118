//! The state of the cluster as one node knows it.

use chronik_base::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lag::FollowerTotal;
use crate::problem::Problem;

/// The most partitions that [`ClusterStatus::partitions`] lists.
pub const PARTITIONS_MAX: usize = 1_000;

/// What one node knows of its cluster: the answer to `GET /v1/cluster/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterStatus {
    /// The node that answers.
    pub node_id: NodeId,
    /// Its software's version.
    pub version: String,
    /// How it was started.
    pub mode: Mode,
    /// The cluster's id; `None` before the node has one.
    pub cluster_id: Option<String>,
    /// How long the node has been running.
    pub uptime_ms: u64,
    /// Why the node doesn't serve everything; `None` when it does.
    pub not_ready: Option<String>,
    /// The metadata's quorum.
    pub metadata: MetadataStatus,
    /// Every registered broker, by id.
    pub brokers: Vec<BrokerStatus>,
    /// The other nodes as the answering node reaches them, by id and address.
    pub peers: Vec<PeerStatus>,
    /// Counts over all topics.
    pub totals: Totals,
    /// Partitions that are not as they should be, the worst first ([`PartitionStatus::is_offline`], then
    /// [`PartitionStatus::is_under_min_isr`], then [`PartitionStatus::is_under_replicated`], then those being reassigned); at most
    /// [`PARTITIONS_MAX`].
    pub partitions: Vec<PartitionStatus>,
    /// How many more such partitions there are.
    pub partitions_left_out: u64,
    /// For each follower of the partitions that the answering node leads: how far it is behind.
    pub followers: Vec<FollowerTotal>,
    /// What is wrong, and what to do about it: see [`ClusterStatus::find_problems`].
    pub problems: Vec<Problem>,
}

/// How a node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `chronik standalone`: one voter; with or without followers.
    #[default]
    Standalone,
    /// `chronik raft-cluster`.
    RaftCluster,
}

/// The quorum that keeps the metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetadataStatus {
    /// The metadata leader; `None` while there is none, or none is known.
    pub leader: Option<NodeId>,
    /// The term (the leader's epoch).
    pub term: u64,
    /// What the answering node is in it.
    pub role: MetadataRole,
    /// Why the metadata can't be changed now, in words; `None` if it can, as far as the node knows.
    pub problem: Option<String>,
    /// The entry after the last one committed, as the answering node knows.
    pub commit_offset: u64,
    /// The entry after the last one that the answering node has applied.
    pub applied_offset: u64,
    /// The voters, by id.
    pub voters: Vec<VoterStatus>,
    /// Nodes that learn the metadata without a vote, by id. Only the metadata leader knows them.
    pub observers: Vec<ObserverStatus>,
}

/// A node's part in the metadata's quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataRole {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It learns, without a vote.
    #[default]
    Observer,
}

/// A voter of the metadata's quorum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VoterStatus {
    /// The node's id.
    pub id: NodeId,
    /// Where it listens, as HOST:PORT.
    pub address: String,
    /// The id of its data directory; `None` if unknown.
    pub directory: Option<String>,
    /// The entry after the last one it has; known to the metadata leader only.
    pub end_offset: Option<u64>,
    /// Entries it is behind the metadata leader; known to the metadata leader only.
    pub lag: Option<u64>,
    /// How long ago it was last heard of by the metadata leader; `None` if never, or if the answering node doesn't lead.
    pub last_contact_ms: Option<u64>,
}

/// A node that learns the metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ObserverStatus {
    /// The node's id.
    pub id: NodeId,
    /// The id of its data directory; `None` if unknown.
    pub directory: Option<String>,
    /// The entry after the last one it has.
    pub end_offset: u64,
    /// Entries it is behind the metadata leader.
    pub lag: u64,
    /// How long ago it was last heard of; `None` if never.
    pub last_contact_ms: Option<u64>,
}

/// A registered broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BrokerStatus {
    /// Its id.
    pub id: NodeId,
    /// What clients are told to connect to, as HOST:PORT.
    pub address: String,
    /// Where other nodes connect to, as HOST:PORT.
    pub internal_address: String,
    /// Its rack.
    pub rack: Option<String>,
    /// Its registration's epoch.
    pub epoch: i64,
    /// True if it is taken for dead, or isn't up to date yet: it leads nothing and is in no ISR that can do without it.
    pub fenced: bool,
    /// True while it hands its leaderships over before it ends.
    pub shutting_down: bool,
    /// How long ago its last heartbeat came; known to the metadata leader only.
    pub last_heartbeat_ms: Option<u64>,
    /// Partitions that it leads.
    pub leaders: u64,
    /// Partitions of which it has a replica.
    pub replicas: u64,
}

/// Another node as one node reaches it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PeerStatus {
    /// Who says so.
    pub from: NodeId,
    /// The peer's id; `None` for a follower that is known by its address only.
    pub id: Option<NodeId>,
    /// Where it is looked for, as HOST:PORT.
    pub address: String,
    /// Whether it is reached.
    pub state: PeerState,
    /// Why it isn't, in one line: `connection refused`, `answers as node 3`, `belongs to another cluster`, …
    pub problem: Option<String>,
    /// How long it has been in this state.
    pub since_ms: u64,
}

/// Whether a peer is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// A connection is up and both sides have greeted.
    Connected,
    /// Not yet tried, or being tried for the first time.
    #[default]
    Connecting,
    /// It can't be reached, or must not be talked to: [`PeerStatus::problem`] says why.
    Failed,
}

/// Counts over all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Totals {
    /// Topics.
    pub topics: u64,
    /// Partitions.
    pub partitions: u64,
    /// Partitions without a leader.
    pub offline: u64,
    /// Partitions with fewer replicas in sync than `min.insync.replicas`.
    pub under_min_isr: u64,
    /// Partitions with fewer replicas in sync than they have.
    pub under_replicated: u64,
    /// Partitions that are moving to other replicas.
    pub reassigning: u64,
    /// Partitions led by another replica than their first.
    pub not_led_by_preferred: u64,
}

/// A partition as the metadata has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its index.
    pub partition: i32,
    /// Its leader.
    pub leader: Option<NodeId>,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Its in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Replicas that left the ISR and still hold every committed record (KIP-966).
    pub eligible_leaders: Vec<NodeId>,
    /// Replicas that a reassignment adds.
    pub adding: Vec<NodeId>,
    /// Replicas that a reassignment removes.
    pub removing: Vec<NodeId>,
    /// `min.insync.replicas`, at most the number of replicas.
    pub min_isr: u32,
}

impl PartitionStatus {
    /// True if it has no leader: it can't be read or written.
    pub fn is_offline(&self) -> bool {
        self.leader.is_none()
    }

    /// True if `acks=all` is refused.
    pub fn is_under_min_isr(&self) -> bool {
        (self.isr.len() as u64) < u64::from(self.min_isr)
    }

    /// True if a replica that isn't just being added is not in sync.
    pub fn is_under_replicated(&self) -> bool {
        self.replicas.iter().any(|id| !self.isr.contains(id) && !self.adding.contains(id))
    }

    /// True while it moves to other replicas.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// `orders-3`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }
}

impl ClusterStatus {
    /// The same with [`ClusterStatus::problems`] filled in: what a node calls before it answers.
    #[must_use]
    pub fn with_problems(mut self) -> Self {
        self.problems = self.find_problems();
        self
    }

    /// The registered broker of this id.
    pub fn broker(&self, id: NodeId) -> Option<&BrokerStatus> {
        self.brokers.iter().find(|broker| broker.id == id)
    }
}
