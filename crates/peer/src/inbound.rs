//! What the owner holds of a link that another node dialled.

use std::fmt;
use std::sync::Arc;

use chronik_base::Chunk;

use crate::error::{LinkEnd, SendError};
use crate::handler::{PeerInfo, Source};
use crate::link_shared::LinkShared;
use crate::out_frame::OutFrame;

/// A link that another node dialled. Copies are handles of the same link; they don't keep it open.
#[derive(Clone)]
pub struct InboundLink {
    shared: Arc<LinkShared>,
    is_lasting: bool,
}

impl InboundLink {
    pub(crate) fn new(shared: Arc<LinkShared>, is_lasting: bool) -> Self {
        Self { shared, is_lasting }
    }

    pub(crate) fn shared(&self) -> &Arc<LinkShared> {
        &self.shared
    }

    /// Tells links of this process apart; a later link has a larger number.
    pub fn id(&self) -> u64 {
        self.shared.peer.link
    }

    /// The node that dialled.
    pub fn peer(&self) -> &PeerInfo {
        &self.shared.peer
    }

    /// True for the one link that a node keeps to this node; false for one of a node that knows only this node's address
    /// ([`Peers::call_address`](crate::Peers::call_address)), which comes and goes.
    pub fn is_lasting(&self) -> bool {
        self.is_lasting
    }

    /// Queues a small message to the node that dialled. Such messages go out in their order, and before what the source gives.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, kind: u8, chunks: Vec<Chunk>) -> Result<(), SendError> {
        self.shared.send(OutFrame::new(kind, chunks).into_outgoing())
    }

    /// Sets who is asked for bulk whenever the socket can take more, in place of an earlier one, and asks it. The link lets go of
    /// it when it ends.
    pub fn set_source(&self, source: Arc<dyn Source>) {
        self.shared.set_source(source);
    }

    /// Makes the link ask its source again. Costs little, from any thread; many at once count as one.
    pub fn wake(&self) {
        self.shared.wake_source();
    }

    /// Ends the link. The other node will dial again.
    pub fn close(&self, reason: &'static str) {
        self.shared.close(LinkEnd::Ours(reason));
    }

    /// Whether messages are still taken.
    pub fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    /// Bytes of small messages that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes()
    }

    /// Bytes received and sent since the link began.
    pub fn counted_bytes(&self) -> (u64, u64) {
        self.shared.counted()
    }
}

impl fmt::Debug for InboundLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboundLink({} from node {})", self.id(), self.peer().node())
    }
}
