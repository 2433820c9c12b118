//! The metadata of a node that does not run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, CallError, NodeId, Transport};
use chronik_meta::Image;

use crate::error::StartError;
use crate::node::RaftNode;
use crate::options::RaftOptions;

/// Reaches nobody.
struct Nowhere;

impl Transport for Nowhere {
    fn call(&self, to: NodeId, _: u8, _: Bytes, _: Duration) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(std::future::ready(Err(CallError::UnknownNode(to))))
    }
}

/// The image as far as node `node` knew that it was agreed on, from its `raft` directory. Opening a log cuts off what is torn: give a copy.
///
/// # Errors
/// What is there can't be read.
pub async fn read_image(node: NodeId, directory: &Path) -> Result<Arc<Image>, StartError> {
    let options = RaftOptions { durable: false, ..RaftOptions::new(node, directory, Arc::new(Nowhere)) };
    let raft = RaftNode::start(options).await?;
    let image = raft.image();
    raft.shutdown().await;
    Ok(image)
}
