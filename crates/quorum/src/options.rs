//! How a node takes part in the metadata.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chronik_base::{Clock, NodeId, Transport, Uuid};
use chronik_meta::{Endpoint, ImageChange};

use crate::join::Invitation;

/// Hears of each change of the image, in order, one at a time. `commands` is empty where the image jumped, because a snapshot was
/// taken in: what differs is told by [`Image::changed_partitions`](chronik_meta::Image::changed_partitions).
pub type OnChange = Box<dyn for<'a> FnMut(ImageChange<'a>) + Send>;

/// Hears that the node must start its metadata anew in another mode.
pub type OnRestart = Box<dyn Fn(Restart) + Send + Sync>;

/// What [`Quorum::start`](crate::Quorum::start) needs.
pub struct QuorumOptions {
    /// The node's data directory: `meta` in it is the store of a voter or an observer, `raft` that of a quorum's member, `quorum.toml` says
    /// who the voter is, where that is not the node itself.
    pub data_dir: PathBuf,
    /// How the node takes part.
    pub mode: Mode,
    /// How the node makes itself known as a broker.
    pub registration: Registration,
    /// The cluster that the data directory belongs to, if it is not new.
    pub cluster_id: Option<Uuid>,
    /// Random: the id of a cluster that this node is the first to lead.
    pub new_cluster_id: Uuid,
    /// Reaches the other nodes. Only a voter that nobody follows can be without.
    pub transport: Option<Arc<dyn Transport>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Flush each change to disk before it counts. Off only where nothing is to survive.
    pub durable: bool,
    /// Periods and time limits.
    pub timing: Timing,
    /// The periods and time limits of Raft.
    pub raft: chronik_raft::Timing,
    /// The broker can serve. Say false where it has logs to open first, and [`Quorum::set_ready`](crate::Quorum::set_ready) afterwards: until then it
    /// leads nothing, unless it is the only broker.
    pub ready: bool,
    /// Standalone with followers: as metadata leader, put every partition on every registered broker.
    pub replicate_everything: bool,
    /// `auto.leader.rebalance.enable`: give leaderships back to preferred replicas.
    pub rebalance_leaders: bool,
    /// Hears of changes.
    pub on_change: OnChange,
    /// Hears that the node is to change its mode.
    pub on_restart: OnRestart,
}

/// How a node takes part in the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The node decides alone.
    Single,
    /// The node is one of several voters, or is to become one.
    Raft {
        /// All voters with their addresses, this node among them.
        voters: Vec<(NodeId, String)>,
    },
    /// The node follows voters.
    Observer {
        /// Nodes to ask first; the cluster's voters are learnt from them.
        sources: Vec<NodeId>,
    },
}

/// How a node makes itself known as a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its id.
    pub node_id: NodeId,
    /// Its rack or zone.
    pub rack: Option<String>,
    /// Where clients and nodes reach it.
    pub endpoints: Vec<Endpoint>,
    /// Made new at each start of the process.
    pub incarnation: Uuid,
    /// The data directory's own id: another one under the same node id is a disk without the old one's data.
    pub directory: Uuid,
}

/// Periods and time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `broker.heartbeat.interval.ms`: 200 ms by default.
    pub heartbeat: Duration,
    /// `broker.session.timeout.ms`: a broker not heard of for so long is dead; 1500 ms by default.
    pub session: Duration,
    /// How long a change may take in all: 5 s by default.
    pub request: Duration,
    /// How long a quorum may be without a leader until changes are refused at once: 2 s by default.
    pub no_leader: Duration,
    /// How long after a broker came back its leaderships go back to it: 5 s by default.
    pub rebalance_delay: Duration,
    /// How long [`Quorum::begin_shutdown`](crate::Quorum::begin_shutdown) waits for leaderships to move: 5 s by default.
    pub shutdown: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            session: Duration::from_millis(1500),
            request: Duration::from_secs(5),
            no_leader: Duration::from_secs(2),
            rebalance_delay: Duration::from_secs(5),
            shutdown: Duration::from_secs(5),
        }
    }
}

/// What happened to the connection to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// It is up.
    Connected,
    /// It broke; why is not known yet.
    Disconnected,
    /// The node's host says that nobody listens there: the process is gone.
    Refused,
}

/// The node is to close its [`Quorum`](crate::Quorum) and start it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Follow the voter that sent the invitation, with the node id that it gives: it was accepted, and the node has no data that would be
    /// lost.
    Follow(Invitation),
    /// Take part in Raft with these voters: this node becomes one of them, or is one and must forget what it knows of the other's lost disk.
    Vote {
        /// The voters, this node among them.
        voters: Vec<(NodeId, String)>,
    },
    /// Follow the voters: this node is none of them any more.
    Observe {
        /// The voters.
        sources: Vec<NodeId>,
    },
}
