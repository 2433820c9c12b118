//! What is shown of the connections.

use std::net::SocketAddr;
use std::time::Duration;

use chronik_base::NodeId;

use crate::error::DialError;
use crate::hello::Hello;

/// The state of the link that this node dials to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// A connection is being made.
    Dialling,
    /// There is a connection, and both sides have greeted.
    Connected,
    /// The last try failed or the connection broke; the next try follows soon.
    Waiting,
}

/// One node that this node dials.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The node.
    pub node: NodeId,
    /// Where it is dialled.
    pub address: String,
    /// The state of that link.
    pub state: PeerState,
    /// For how long it has been connected or not: tries that fail don't start this anew.
    pub state_for: Duration,
    /// Why the last try failed or the last connection broke, in one line; `None` while connected.
    pub problem: Option<String>,
    /// The same, if it was a try that failed.
    pub dial_error: Option<DialError>,
    /// Tries that failed since the last connection.
    pub failed_dials: u64,
    /// What the node last said of itself.
    pub hello: Option<Hello>,
    /// Bytes received and sent on this link, over all its connections.
    pub received_bytes: u64,
    /// See [`PeerStatus::received_bytes`].
    pub sent_bytes: u64,
    /// The link that the node dials to this node, if there is one.
    pub inbound: Option<InboundStatus>,
}

/// A link that another node dialled.
#[derive(Clone, Debug)]
pub struct InboundStatus {
    /// What the node said of itself.
    pub hello: Hello,
    /// The address of its socket.
    pub address: SocketAddr,
    /// How long the link has been open.
    pub open_for: Duration,
    /// Bytes received and sent on this link.
    pub received_bytes: u64,
    /// See [`InboundStatus::received_bytes`].
    pub sent_bytes: u64,
}

/// A connection from elsewhere that was turned away.
#[derive(Clone, Debug)]
pub struct TurnedAway {
    /// Where it came from.
    pub address: SocketAddr,
    /// Why, in one line.
    pub problem: String,
    /// How long ago.
    pub ago: Duration,
}
