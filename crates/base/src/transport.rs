//! The seam between what nodes say to each other and how it gets there.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::NodeId;

/// A future that can be kept and sent to another thread.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Asks other nodes of the cluster. The caller says how long it waits; an answer that comes later is dropped.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request of kind `kind` to node `to` and gives its answer.
    ///
    /// # Errors
    /// See [`CallError`]. After [`CallError::TimedOut`] and [`CallError::Disconnected`] the request may have been carried out.
    fn call(
        &self,
        to: NodeId,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> BoxFuture<Result<Bytes, CallError>>;
}

/// Why a node gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing is known of a node with this id.
    #[error("node {0} is not known here: no address was given for it")]
    UnknownNode(NodeId),
    /// There is no connection, or it broke before the answer came. The text says why.
    #[error("node {node} can't be reached: {problem}")]
    Disconnected {
        /// The node that was asked.
        node: NodeId,
        /// What is wrong with the connection.
        problem: String,
    },
    /// No answer in time.
    #[error("node {node} did not answer within {waited_ms} ms")]
    TimedOut {
        /// The node that was asked.
        node: NodeId,
        /// The time that was given, in milliseconds.
        waited_ms: u64,
    },
    /// The node answered that it won't or can't.
    #[error("node {node} refused: {problem}")]
    Refused {
        /// The node that was asked.
        node: NodeId,
        /// Its words.
        problem: String,
    },
}
