//! What the owner of the connections hears, and what it is asked.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId};

use crate::hello::Hello;
use crate::inbound::InboundLink;
use crate::out_frame::OutFrame;

/// The other end of a link.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// What it said of itself.
    pub hello: Hello,
    /// The address of its socket. For an accepted link that is not where it listens.
    pub address: SocketAddr,
    /// Tells links of this process apart; a later link has a larger number.
    pub link: u64,
}

impl PeerInfo {
    /// The other node's id.
    pub fn node(&self) -> NodeId {
        self.hello.node_id
    }
}

/// What happened to the link that this node dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// There is a connection, and both sides have greeted.
    Connected,
    /// The connection is gone.
    Disconnected,
    /// Nobody listens at the node's address: its process is not running. Told at each try.
    Refused,
}

/// The owner of the connections. All methods but [`Handler::call`]'s future run on a link's task and must be quick.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call of node `from`. Several run at once, and answers go out as they come. An error is told the caller as
    /// [`CallError::Refused`](chronik_base::CallError); so is a kind that is not known.
    fn call(&self, from: &PeerInfo, kind: u8, payload: Bytes) -> BoxFuture<Result<Bytes, String>>;

    /// A message that a node sent on the link it dialled.
    fn message(&self, link: &InboundLink, kind: u8, payload: Bytes) {
        tracing::warn!("dropped a message of the unknown kind {kind} from node {}", link.peer().node());
        drop(payload);
    }

    /// A message that came back on the link that this node dialled.
    fn reply_message(&self, from: &PeerInfo, kind: u8, payload: Bytes) {
        tracing::warn!("dropped a message of the unknown kind {kind} from node {}", from.node());
        drop(payload);
    }

    /// Whether a message of this kind can be taken now. If not, nothing more is read from that link until the waker of `cx`
    /// is called, so that TCP holds the other side back. Calls and answers behind the message wait too.
    fn poll_ready(&self, from: &PeerInfo, kind: u8, cx: &mut Context<'_>) -> Poll<()> {
        let _ = (from, kind, cx);
        Poll::Ready(())
    }

    /// All messages of one read have been handed over.
    fn end_of_read(&self, from: &PeerInfo) {
        let _ = from;
    }

    /// A node has connected and greeted. Nothing of it has been handed over yet.
    fn accepted(&self, link: &InboundLink) {
        let _ = link;
    }

    /// The link of a node that had connected is gone. Nothing of it will be handed over any more.
    fn closed(&self, link: &InboundLink) {
        let _ = link;
    }

    /// The state of the link that this node dials to `node` changed.
    fn event(&self, node: NodeId, event: PeerEvent) {
        let _ = (node, event);
    }
}

/// What an accepted link is asked for when its socket can take more and no small message waits.
pub trait Source: Send + Sync + 'static {
    /// The next message, or `None` if there is none now; then [`InboundLink::wake`] makes the link ask again. Runs on the link's
    /// task and must be quick: bytes on disk are given as a range of a file. A payload should not exceed
    /// [`BULK_FRAME_BYTES`](crate::BULK_FRAME_BYTES).
    fn next(&self) -> Option<OutFrame>;
}
