//! What becomes of one request frame: the boundary between the broker and whoever owns the socket.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use chronik_base::Chunk;

/// What [`crate::Broker::handle`] made of a frame.
pub enum Outcome {
    /// The answer is there.
    Ready(Response),
    /// The answer will be there when the future ends. The connection polls only its oldest unanswered request, so the
    /// future merely waits: whatever it waits for goes on without being polled.
    Pending(Pin<Box<dyn Future<Output = Response> + Send>>),
    /// There is no answer to this request (`acks=0`).
    NoAnswer,
    /// The frame can't be understood, or its answer can't be given in any other way: close the connection once
    /// everything before it is answered.
    Close(CloseReason),
}

/// A whole answer frame: length, header and body.
#[derive(Debug, Default)]
pub struct Response {
    /// The frame's pieces, in order.
    pub chunks: Vec<Chunk>,
    /// Close the connection after this answer was sent.
    pub close: bool,
}

impl Response {
    /// Bytes of the frame, its length prefix included.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    /// True for an answer that is not to be sent.
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(Chunk::is_empty)
    }
}

/// Why a connection is closed: the words of its log line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseReason {
    /// A few fixed words to count and limit the log lines by.
    pub kind: &'static str,
    /// What was wrong, with the values seen.
    pub detail: String,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}
