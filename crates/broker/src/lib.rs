//! Runs the state machines: one file for each API key.

mod connection;
mod outcome;

use std::sync::Arc;

use bytes::Bytes;

pub use connection::{ClientSoftware, ConnectionContext};
pub use outcome::{CloseReason, Outcome, Response};

/// A node's broker, shared by all of its connections.
pub struct Broker {}

impl Broker {
    /// One frame, without its length prefix. What fixes the order of requests happens before this returns; what must
    /// wait is in the outcome.
    pub fn handle(self: &Arc<Self>, _connection: &Arc<ConnectionContext>, _frame: Bytes) -> Outcome {
        Outcome::NoAnswer
    }

    /// To be called when all frames of one read from a socket were handled: starts the write of what they appended.
    pub fn end_of_read(&self) {}

    /// True while storage is behind by as much as memory allows: connections then stop reading.
    pub fn pressured(&self) -> bool {
        false
    }

    /// Every metric, as Prometheus text.
    pub fn render_metrics(&self) -> String {
        String::new()
    }

    /// Why this node doesn't serve yet, or any more; `None` when it does.
    pub fn not_ready(&self) -> Option<String> {
        None
    }

    /// Flushes and checkpoints the log. No request may be handled any more.
    pub async fn shutdown(&self) {}
}
