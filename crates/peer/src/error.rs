//! What goes wrong between nodes, one clear line each.

use chronik_base::{CallError, NodeId, Uuid};

use crate::frame::{FrameError, PAYLOAD_BYTES_MAX, PROTOCOL_VERSION};

/// Why a node can't be reached at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address is not of the form `HOST:PORT`, or its host has no address.
    #[error("{address} can't be resolved ({problem}): correct the address, or the name service")]
    Unresolved {
        /// The address.
        address: String,
        /// What the resolver said.
        problem: String,
    },
    /// Nothing listens there.
    #[error("nobody listens at {address} (connection refused): start the node there, or correct the address")]
    Refused {
        /// The address.
        address: String,
    },
    /// No connection came about, for another reason.
    #[error("{address} can't be reached ({problem}): check the network, firewalls and the address")]
    Unreachable {
        /// The address.
        address: String,
        /// What the system said, or how long was waited.
        problem: String,
    },
    /// Whatever listens there does not speak this protocol.
    #[error("what listens at {address} is not a Chronik node: it {what}; correct the address")]
    NotChronik {
        /// The address.
        address: String,
        /// What it did instead of greeting.
        what: String,
    },
    /// The connection came about, but nothing was said.
    #[error(
        "{address} takes connections but says nothing for {waited_ms} ms: is the process there paused or overloaded?"
    )]
    Silent {
        /// The address.
        address: String,
        /// The time it was given, in milliseconds.
        waited_ms: u64,
    },
    /// Another node than the one that was meant.
    #[error("{address} is node {found}, not node {expected}: correct the address or the node's id")]
    WrongNode {
        /// The address.
        address: String,
        /// The node that was meant.
        expected: NodeId,
        /// The node that answered.
        found: NodeId,
    },
    /// A node of another cluster.
    #[error(
        "{address} belongs to cluster {theirs}, this node to {ours}: a node can't be in two clusters; correct the address, or give one of the two an empty data directory"
    )]
    OtherCluster {
        /// The address.
        address: String,
        /// The cluster of the node that answered.
        theirs: Uuid,
        /// The cluster of this node.
        ours: Uuid,
    },
    /// A node that speaks another version of the protocol.
    #[error(
        "{address} speaks version {theirs} of the peer protocol, this node version {PROTOCOL_VERSION}: upgrade the older of the two"
    )]
    Version {
        /// The address.
        address: String,
        /// The version that the other node speaks.
        theirs: u8,
    },
    /// This very node.
    #[error("{address} is this node itself: leave it out, or correct the address")]
    Myself {
        /// The address.
        address: String,
    },
    /// Another node that has this node's id.
    #[error("the node at {address} has the id {node} as this node has: give one of the two another id")]
    SameNodeId {
        /// The address.
        address: String,
        /// The id of both.
        node: NodeId,
    },
    /// The other node said that it does not want this connection.
    #[error("the node at {address} declined: {problem}")]
    Declined {
        /// The address.
        address: String,
        /// Its words.
        problem: String,
    },
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection to the node; the text says why.
    #[error("there is no connection to node {node}: {problem}")]
    Disconnected {
        /// The node.
        node: NodeId,
        /// What is wrong with the connection.
        problem: String,
    },
    /// Too much waits to be sent. The message was dropped; the connection stays.
    #[error("{queued_bytes} bytes wait to be sent to node {node}; the limit is {limit}")]
    QueueFull {
        /// The node.
        node: NodeId,
        /// Bytes that wait.
        queued_bytes: usize,
        /// The largest number that may wait ([`PeersOptions::queued_bytes_max`](crate::PeersOptions)).
        limit: usize,
    },
    /// The other side would not take it.
    #[error("a message of {bytes} bytes is over the limit of {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
    },
}

/// Why a connection between nodes ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The other node closed it, or its process ended.
    #[error("the other node closed the connection")]
    Closed,
    /// The other node said why it closes the connection.
    #[error("the other node ended the connection: {0}")]
    Ended(String),
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Socket(String),
    /// Not a sign of life for too long.
    #[error("nothing was heard for {silent_ms} ms: the network is cut, or the process there is paused")]
    Silent {
        /// How long nothing came, in milliseconds.
        silent_ms: u64,
    },
    /// The other side sent what is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side sent a frame that has no place there.
    #[error("the other side sent a frame out of place: {0}")]
    OutOfPlace(String),
    /// A later connection of the same node took its place.
    #[error("a later connection from the same node took its place")]
    Replaced,
    /// This node has no more use for it.
    #[error("this node closed the connection: {0}")]
    Ours(&'static str),
    /// The source gave a frame that the other side would not take.
    #[error("a frame of {bytes} bytes was to be sent; the limit is {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
    },
    /// The task that served it was stopped.
    #[error("the task that served the connection was stopped")]
    Stopped,
}

/// Why a call to an address gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressCallError {
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The node there gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The time was over before there was a connection.
    #[error("{address} was not reached within {waited_ms} ms")]
    TimedOut {
        /// The address.
        address: String,
        /// The time that was given, in milliseconds.
        waited_ms: u64,
    },
}
